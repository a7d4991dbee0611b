"""What can be done with a process that holds a socket: its unit, its container, and their commands."""

import re
import shlex
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, TypeAlias

from tcpdoctor.kernel.cgroups import Container, Place
from tcpdoctor.kernel.packet_rules import Redirect
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Holder
from tcpdoctor.kernel.standing import Halt, Kin, Standing
from tcpdoctor.named_tuples import NamedTuple

Way: TypeAlias = Literal[
    "service",
    "user-service",
    "socket-unit",
    "user-socket-unit",
    "container",
    "published-port",
    "forward",
    "supervised",
    "process",
    "first-process",
    "not-to-be-stopped",
]
"""How a holder is stopped: what kind of thing the commands of a `Stop` act on."""

PLAIN_SHELLS = frozenset(("sh", "bash", "dash", "zsh", "ksh", "fish", "ash"))
SHELLS = PLAIN_SHELLS | frozenset(
    (
        *("tini", "dumb-init", "catatonit"),
        *("docker-init", "doas", "pkexec", "strace", "ltrace", "script", "unbuffer", "xvfb-run"),
        *("su", "sudo", "runuser", "setpriv", "env", "nice", "taskset", "timeout", "flock", "time"),
        *("npm", "npx", "yarn", "pnpm", "uv", "poetry", "pipenv", "bundle", "make", "go", "cargo"),
        *("pdm", "hatch", "rye", "mvn", "sbt", "lein", "mix"),
    )
)
"""Programs that start one other and wait for it: what they are asked to run is the service."""
_INTERPRETERS = re.compile(r"(?:python|pypy|perl|ruby|node|nodejs|php|java|lua|sh|bash|dash)[0-9.]*")


class Stop(NamedTuple):
    """How the holder of a socket may be stopped, and what is to be known before."""

    way: Way
    holder: Holder
    """The topmost process that holds it: of a server with workers the one that began them."""
    commands: tuple[str, ...]
    """Whole commands, any of which does it, the best first; a word in capitals has to be filled in with
    what `lookup` shows. Empty where the holder is not to be stopped, or nobody knows how."""
    lookup: tuple[str, ...] = ()
    """Commands that name what is left open."""
    role: str | None = None
    """What the holder is there for, after its name: ``publishes port 80 of container 0123456789ab``."""
    note: str | None = None
    """What else to know or do, a sentence without its full stop."""
    avoid: tuple[str, ...] = ()
    """What must not be done for it, and why: ``systemctl stop docker.service: it ends ...``."""
    restart: str | None = None
    """The command that starts it anew; None where there is none."""
    processes: int = 1
    """Processes that hold the socket: all of them have to end before it is free."""
    other_ports: tuple[int, ...] = ()
    """Further ports that the holder listens on: they go with it."""
    others: int = 0
    """Processes without the socket that end with it, where that is known."""
    since: float | None = None
    """When the holder started, in seconds since 1970; None where that is hidden."""
    command_line: str | None = None
    with_children: bool = False
    """Whether the processes that the holder began end with it."""
    halted: Halt | None = None
    """Why the holder runs no instruction: it takes no signal but KILL before it goes on."""
    tracer: Kin | None = None
    """The debugger that is attached to it."""
    container: Container | None = None
    """The container that the holder runs in, or serves."""
    container_port: int | None = None
    """Which of that container's ports it is, where it is published."""
    sharing: tuple[int, ...] = ()
    """Pids of the other processes that hold the socket."""
    ended: tuple[int, ...] = ()
    """Pids that the first command names to be ended, where it ends processes by their pids."""
    workers: tuple[int, ...] = ()
    """Of those that share it the ones of its kind that the command does not name."""
    heirs: tuple[Holder, ...] = ()
    """Other programs that have it from the holder, which ends without a chance to end them."""
    begun: bool = False
    """All of those were begun by the holder, directly or not: a server ends its workers itself, as a rule."""
    warning: str | None = None
    """What is lost with it for whoever follows the advice: a sentence without its full stop."""


class Asker(NamedTuple):
    """Who asks, and about what."""

    uid: int = 0
    """Effective uid: another user's service manager is reached in another way than one's own."""
    port: int | None = None
    """The local port that the holders hold, where it is one."""
    socket_unit: str | None = None
    """The socket unit in whose control group the socket was made, where that is known."""
    leads_to: Redirect | None = None
    """The rule that leads the clients of this very port elsewhere: to the container it is published for."""
    listens: bool = False
    """Whether the holder listens, where its ports were not looked for."""
    kindred: tuple[int, ...] = ()
    """Processes with a socket of their own at the port (SO_REUSEPORT): who began the holder, and whom else it
    began."""


class Case(NamedTuple):
    """What there is to decide on: one socket's holders, and the standing of the topmost."""

    holder: Holder
    standing: Standing
    holders: tuple[Holder, ...]
    asker: Asker
    unseen: bool = False
    """What stands about the holder could not be read, and its `standing` says nothing."""
    beside: tuple[str, ...] = ()
    """Services that have the socket from a systemd that keeps it too."""
    parents: Mapping[int, int] = MappingProxyType({})
    """Of the holders the process that began each, where it is known."""

    @property
    def kin(self) -> Kin:
        """The holder itself."""
        return self.standing.kin

    @property
    def place(self) -> Place:
        """Where it stands, as nothing is known of it: in no unit and no container."""
        place = self.standing.place
        return Place("/") if isinstance(place, Missing) else place

    @property
    def unit(self) -> str | None:
        """The service around it that systemctl here knows: a container's own, or the host's, is not one."""
        place = self.place
        if place.unit is None or not place.unit.endswith(".service") or self.inner_manager is not None:
            return None
        if place.containers and not (place.unit_in_container and self.standing.same_container):
            return None
        return place.unit

    @property
    def inner_manager(self) -> Kin | None:
        """The systemd that the unit is of, in a container that no name tells (nspawn --keep-unit)."""
        if self.standing.own_pids or self.place.containers or self.place.of_user_manager:
            return None
        above = self.standing.ancestors
        return next((kin for kin in above if kin.name == "systemd" and kin.pid != 1), None)


def program_of(kin: Kin) -> str:
    """Return the name of a process's program by its command line, else its comm.

    Of a script it is the script, not its interpreter; of a title that a program wrote over its command
    line, what stands before the colon: ``nginx`` of ``nginx: worker process``.
    """
    if not kin.arguments:
        return kin.name
    first = _base(kin.arguments[0].partition(": ")[0].partition(" ")[0])
    if first == "busybox" and len(kin.arguments) > 1:
        return kin.arguments[1]
    if _INTERPRETERS.fullmatch(first):
        script = next((a for a in kin.arguments[1:] if not a.startswith("-")), None)
        return _base(script) if script and "/" in script else first
    return first or kin.name


def arguments_of(kin: Kin) -> tuple[str, ...]:
    """Return what a program was given, without its own name and, of a script, its interpreter's."""
    program = program_of(kin)
    at = next((n for n, argument in enumerate(kin.arguments) if _base(argument) == program), 0)
    return kin.arguments[at + 1 :]


def names_of(kin: Kin) -> set[str]:
    """Return the names that a process goes by: its own, its program's, and its interpreter's."""
    return {kin.name, program_of(kin), _base(kin.arguments[0]) if kin.arguments else ""}


def is_wrapper(kin: Kin) -> bool:
    """Whether a process only started one other and waits for it: a shell with its script, tini, npm."""
    return bool(names_of(kin) & SHELLS)


def _base(path: str) -> str:
    return path.rpartition("/")[2].removeprefix("-")


def user_systemctl(user: int, asker: int) -> str:
    """Return how to reach a user's service manager: one's own, or another's (systemd 248)."""
    return "systemctl --user" if user == asker else f"systemctl --user -M {user}@"


def tell_halt(halt: Halt, pid: int, tracer: Kin | None = None) -> str:
    """Say what keeps a process from running and what lets it go on, without a full stop."""
    if halt == "stopped":
        return (
            f"it is stopped (SIGSTOP, or Ctrl-Z in a shell) and serves nobody: `kill -CONT {pid}` lets it go "
            f"on, and before that `kill {pid}` has no effect"
        )
    if halt == "traced":
        debugger = f"a debugger (TracerPid in /proc/{pid}/status)"
        who = f"pid {tracer.pid} {tracer.name}" if tracer else debugger
        return (
            f"{who} has stopped it: it serves nobody, and `kill {pid}` has no effect before that lets "
            "it go on"
        )
    if halt == "waiting":
        return (
            f"it waits in the kernel (state D: a disk, NFS, a driver ...): no signal ends it, KILL neither, "
            f"before that is over; cat /proc/{pid}/stack says for what"
        )
    return (
        f"its control group is frozen: it serves nobody, and a program that handles TERM heeds `kill {pid}` "
        "only once that is thawed (docker unpause, systemctl thaw, or 0 into its cgroup.freeze)"
    )


_COMMANDS: Mapping[str, tuple[str, str | None]] = {
    "docker": ("{su}docker stop {name}", "{su}docker restart {name}"),
    "podman": ("{su}podman stop {name}", "{su}podman restart {name}"),
    "containerd": ("{su}nerdctl stop {name}", "{su}nerdctl restart {name}"),
    "cri-o": ("crictl stop {name}", None),
    "kubernetes": ("crictl stop {name}", None),
    "lxc": ("{su}lxc-stop -n {name}", "{su}lxc-stop -r -n {name}"),
    "lxd": ("lxc stop {name}", "lxc restart {name}"),
    "incus": ("incus stop {name}", "incus restart {name}"),
    "nspawn": ("machinectl poweroff {name}", "machinectl reboot {name}"),
    "libvirt": ("virsh shutdown {name}", "virsh reboot {name}"),
    "libvirt-lxc": ("virsh -c lxc:/// shutdown {name}", "virsh -c lxc:/// reboot {name}"),
    "proxmox": ("qm shutdown {name}", "qm reboot {name}"),
    "libvirt-ch": ("virsh -c ch:///system shutdown {name}", "virsh -c ch:///system reboot {name}"),
    "libvirt-xen": ("virsh -c xen:///system shutdown {name}", "virsh -c xen:///system reboot {name}"),
    "nomad": ("nomad alloc stop {name}", "nomad alloc restart {name}"),
    "kata": ("crictl stopp {name}", None),
    "slurm": ("scancel {name}", None),
    "yarn": ("yarn container -signal {name} GRACEFUL_SHUTDOWN", None),
}
"""What stops and restarts a container, by who runs it."""

_STARTED_AGAIN: Mapping[str, str] = {
    "yarn": "its application may start another: yarn application -kill {application} ends all of it",
    "garden": "Cloud Foundry, or Concourse, starts another: stop the app or the job that it belongs to",
    "mesos": "its framework (Marathon, Aurora ...) starts another: scale the task down there",
}
"""What a scheduler does when one of its containers ends, a sentence without its full stop."""

_LOOK_UPS: Mapping[str, tuple[str, ...]] = {
    "docker": ("{su}docker ps --filter id={name}",),
    "containerd": ("{su}nerdctl ps --filter id={name}",),
    "cri-o": ("crictl ps --id {name}",),
    "kubernetes": ("crictl ps --id {name}",),
    "slurm": ("scontrol show job {name}",),
    "garden": ("cfdot actual-lrps | grep {name}",),
    "unknown": ("docker ps --filter id={name}", "podman ps --filter id={name}", "crictl ps --id {name}"),
}
_ENTRIES: Mapping[str, str] = {
    "docker": "{su}docker exec {name} {command}",
    "podman": "{su}podman exec {name} {command}",
    "containerd": "{su}nerdctl exec {name} {command}",
    "cri-o": "crictl exec {name} {command}",
    "kubernetes": "crictl exec {name} {command}",
    "nspawn": "systemd-run -M {name} --wait -P {command}",
    "lxc": "{su}lxc-attach -n {name} -- {command}",
    "lxd": "lxc exec {name} -- {command}",
    "incus": "incus exec {name} -- {command}",
}


VIRTUAL_MACHINES = ("libvirt", "libvirt-ch", "libvirt-xen", "proxmox", "firecracker", "kata")
"""Who makes virtual machines: what holds a socket there runs one, and is not in it."""


def stop_container(
    box: Container, asker: int, ancestors: Sequence[Kin] = (), called: str | None = None
) -> tuple[tuple[str, ...], str | None]:
    """Return the commands that stop a container, and the one that restarts it.

    It is named as it is `called`, if that is known. None where the runtime is not known. What a scheduler
    made (ECS, Kubernetes) is not restarted by hand.
    """
    if box.task is not None and box.runtime in ("docker", "ecs"):
        return (f"aws ecs stop-task --cluster CLUSTER --task {shlex.quote(box.task)}",), None
    box = told_apart(box, ancestors)
    runtime = _client_name(box)
    stop, restart = _COMMANDS.get(runtime, (None, None))
    if stop is None:
        return (), None
    filled = {"su": _as_its_user(box, asker), "name": shlex.quote(called) if called else _typed_name(box)}
    restart = None if box.pod is not None and runtime != "podman" else restart
    return (stop.format(**filled),), restart.format(**filled) if restart else None


def stop_publishing(
    box: Container, asker: int, called: str | None = None
) -> tuple[tuple[str, ...], str | None]:
    """Return the commands that end what a container publishes, and the one that restarts it.

    The ports of a pod of Podman are of the pod: with one container of it they stay.
    """
    if box.runtime != "podman" or box.pod is None:
        return stop_container(box, asker, called=called)
    pod = f"{client_of(box, asker)} pod {{}} {shlex.quote(box.pod[:_SHORT])}"
    return (pod.format("stop"),), pod.format("restart")


_SHORT = 12


def _client_name(box: Container) -> str:
    """Return who is asked about a container: in a pod of containerd's that is crictl, not nerdctl."""
    return "kubernetes" if box.runtime == "containerd" and box.pod is not None else box.runtime


def _as_its_user(box: Container, asker: int) -> str:
    """Return what stands before a command so that it reaches the runtime of the container's user."""
    user = box.user
    if user is None or user == asker:
        return ""
    if box.runtime == "docker":
        return f"DOCKER_HOST=unix:///run/user/{user}/docker.sock "
    return f"sudo -u '#{user}' XDG_RUNTIME_DIR=/run/user/{user} "


def client_of(box: Container, asker: int) -> str:
    """Return what is typed before a word to the runtime: ``docker``, or ``sudo -u '#1000' ... podman``."""
    return f"{_as_its_user(box, asker)}{'nerdctl' if box.runtime == 'containerd' else box.runtime}"


def told_apart(box: Container, ancestors: Sequence[Kin]) -> Container:
    """Return a container of LXC with the runtime that its commands are for: ``lxc``, ``lxd`` or ``incus``.

    LXD and Incus run LXC; the title of its monitor has the folder of whoever does.
    """
    return box._replace(runtime=_lxc_flavour(ancestors)) if box.runtime == "lxc" else box


def _typed_name(box: Container) -> str:
    """Return a container's name as its commands take it.

    Of LXD's and Incus' projects the path has ``PROJECT_NAME``; of Slurm's steps the numbered ones may be
    cancelled alone.
    """
    if box.runtime == "slurm" and box.task is not None and box.task.isdigit():
        return f"{box.id}.{box.task}"
    project, _, instance = box.id.rpartition("_")
    if project and box.runtime in ("lxd", "incus"):
        return f"--project {shlex.quote(project)} {shlex.quote(instance)}"
    return shlex.quote(box.short)


def _lxc_flavour(ancestors: Sequence[Kin]) -> str:
    titles = [title for kin in ancestors if "[lxc monitor]" in (title := " ".join(kin.arguments))]
    if any("/incus" in title for title in titles):
        return "incus"
    return "lxd" if any("/lxd" in title for title in titles) else "lxc"


def look_up_container(box: Container, asker: int) -> tuple[str, ...]:
    """Return the commands that tell a container's name and image by its id."""
    filled = {"su": _as_its_user(box, asker), "name": shlex.quote(box.short)}
    return tuple(command.format(**filled) for command in _LOOK_UPS.get(_client_name(box), ()))


def tell_who_starts_again(box: Container) -> str | None:
    """Say who makes another container when this one ends, without a full stop; None where nobody is known."""
    if box.pod is not None and box.runtime != "podman":
        return f"the kubelet starts it again: scale down or delete what made pod {box.pod}"
    numbers = re.findall("[0-9]{4,}", box.id) if box.runtime == "yarn" else []
    application = f"application_{numbers[0]}_{numbers[1]}" if len(numbers) > 1 else ""
    text = _STARTED_AGAIN.get(box.runtime)
    return text.format(application=application) if text else None


def put_inside(boxes: Sequence[Container], command: str, asker: int) -> str:
    """Return a command as it is run inside of containers, the outermost first."""
    for box in reversed(boxes):
        entry = _ENTRIES.get(_client_name(box), _ENTRIES["docker"])
        command = entry.format(su=_as_its_user(box, asker), name=_typed_name(box), command=command)
    return command


def name_container(box: Container) -> str:
    """Name a container as people do: ``Docker container 0123456789ab``, with its pod or task."""
    names = {
        "docker": "Docker container", "podman": "Podman container", "nerdctl": "containerd container",
        "containerd": "containerd container", "cri-o": "CRI-O container", "kubernetes": "container",
        "lxc": "LXC container", "nspawn": "nspawn container", "libvirt": "virtual machine",
        "libvirt-lxc": "libvirt container", "proxmox": "virtual machine",
        "libvirt-ch": "virtual machine", "libvirt-xen": "virtual machine", "firecracker": "virtual machine",
        "buildkit": "BuildKit's build step", "nomad": "Nomad allocation", "ecs": "ECS container",
        "kata": "Kata sandbox", "garden": "Garden container", "mesos": "Mesos container", "yarn": "YARN's",
        "slurm": "Slurm job",
    }  # fmt: skip
    text = f"{names.get(box.runtime, 'container')} {box.short}"
    if box.pod is not None:
        text += f" of pod {box.pod[:12] if box.runtime == 'podman' else box.pod}"
    if box.task is not None:
        text += f" ({'step' if box.runtime == 'slurm' else 'task'} {box.task})"
    return text


def systemctl_of(case: Case) -> str:
    """Return the systemctl that knows the holder's unit."""
    if case.place.of_user_manager and case.place.user is not None:
        return user_systemctl(case.place.user, case.asker.uid)
    return "systemctl"


def is_main_program(case: Case) -> bool:
    """Whether stopping the unit stops this server and nothing else.

    The main process is the one whose parent is outside the unit's control group, and the first of those:
    what a daemon left behind in cron's or sshd's unit has such a parent too. Its own workers are it, and
    so is the only child of a shell that the unit runs.
    """
    top = _top_in_unit(case)
    members = case.standing.unit_members
    pids = set() if isinstance(members, Missing) else {kin.pid for kin in members}
    tops = [] if isinstance(members, Missing) else [kin for kin in members if kin.parent not in pids]
    if tops and tops[0].pid != top.pid:
        return False
    if top.pid == case.holder.pid or _is_same_program(top, case.kin):
        return True
    between = [kin for kin in case.standing.ancestors if kin.unit_path == case.place.unit_path]
    if isinstance(members, Missing) or not all(is_wrapper(kin) for kin in between):
        return False
    family = {kin.pid for kin in between}
    below = {case.holder.pid, *(holder.pid for holder in case.holders)}
    for kin in members:
        if kin.parent in below:
            below.add(kin.pid)
    return pids <= family | below


def _top_in_unit(case: Case) -> Kin:
    top = case.kin
    for kin in case.standing.ancestors:
        if kin.unit_path != case.place.unit_path:
            break
        top = kin
    return top


def _is_same_program(main: Kin, worker: Kin) -> bool:
    """Whether one forked the other and both still run the same; a supervisor runs others."""
    if main.arguments == worker.arguments and main.name == worker.name:
        return True
    if "--emperor" in main.arguments or any("Emperor" in word for word in main.arguments):
        return False  # of uWSGI: each of its vassals is a server of its own
    program = program_of(main)
    return program == program_of(worker) and not _INTERPRETERS.fullmatch(program)


def name_place(place: Place) -> str | None:
    """Name where a process runs: ``nginx.service``, ``app.service of user 1000``, ``Docker container 0123``.

    A unit inside a container is the container's, and the unit that is the container itself is not named.
    """
    if place.containers:
        boxes = " in ".join(name_container(box) for box in reversed(place.containers))
        return f"{place.unit} in {boxes}" if place.unit_in_container else boxes
    if place.watches:
        return f"beside {name_container(place.watches)}"
    if place.unit is None:
        return None
    return f"{place.unit} of user {place.user}" if place.of_user_manager else place.unit
