"""Programs that hold a port for somebody else.

To stop the unit around such a program ends much more than the one port: every container, the admin's own
access. Each is known by its name or its command line, which gives what it serves.
"""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from tcpdoctor.diagnosis.killing import restarter_of, tell_restarter
from tcpdoctor.diagnosis.stopping import (
    Case,
    Stop,
    arguments_of,
    client_of,
    is_main_program,
    name_container,
    program_of,
    put_inside,
    stop_container,
    stop_publishing,
    systemctl_of,
)
from tcpdoctor.kernel.carriers import option_value
from tcpdoctor.kernel.cgroups import Container

_NAME_LENGTH = 15
"""A comm is cut there: TASK_COMM_LEN less its end."""


_LOCKED_OUT = "it locks out whoever comes by ssh, you too"
_RUNTIME = "it takes the runtime from every container of this host"
_KUBELET = "the kubelet starts it again: scale down or delete what made its pod"


def stop_of_helper(case: Case) -> Stop | None:
    """Return how to stop what a helper serves; None where the holder is none that is known.

    Inside a container that is not ours a server is the container's, as any other program: there only those
    are looked for that serve another container.
    """
    inside = bool(case.place.containers) and not case.standing.same_container
    names = (program_of(case.kin), case.holder.name)
    for known, rule in (_SERVANTS if inside else _HELPERS).items():
        if any(name == known or (len(name) == _NAME_LENGTH and known.startswith(name)) for name in names):
            return rule(case)
    return None


def _docker_proxy(case: Case) -> Stop:
    """docker-proxy of Docker, rootlesskit-docker-proxy without root: one process for each published port."""
    arguments = case.kin.arguments
    address, port = (
        option_value(arguments, "container-ip"),
        _number(option_value(arguments, "container-port")),
    )
    published = _number(option_value(arguments, "host-port")) or case.asker.port
    led_to, led_port = _led_to(case)
    box = case.standing.serves if isinstance(case.standing.serves, Container) else led_to
    port = port or led_port
    stop = stop_publishing(box, case.asker.uid)[0] if box else ()
    return Stop(
        "published-port",
        case.holder,
        _inside_own(case, stop or ("docker stop CONTAINER",)),
        lookup=() if stop else _inside_own(case, (f"docker ps --filter publish={published or 'PORT'}",)),
        role=_publishes(port, name_container(box) if box else None, address),
        avoid=(*_whole_runtime(case), f"kill {case.holder.pid}: Docker still believes that it is published."),
        restart=None,
        container=box,
        container_port=port,
    )


def _led_to(case: Case) -> tuple[Container | None, int | None]:
    """Return the container, and its port, that the rules for a published port lead to."""
    rule = case.asker.leads_to
    return (None, None) if rule is None else (rule.container, rule.to.port)


def _publishes(port: int | None, whose: str | None, address: str | None) -> str:
    what = f"publishes port {port} of" if port else "publishes a port of"
    at = f" at {address}" if address else ""
    return f"{what} {whose + (f' ({address})' if address else '') if whose else 'the container' + at}"


def _whole_runtime(case: Case) -> tuple[str, ...]:
    """Warn of the unit that the helper happens to be in."""
    unit = case.unit
    if unit is None:
        return ()
    return (
        f"{systemctl_of(case)} stop {shlex.quote(unit)}: it ends all that {unit} keeps, not this port alone.",
    )


def _inside_own(case: Case, commands: Sequence[str]) -> tuple[str, ...]:
    """Run commands where the helper is: a Docker inside a container knows what the host's does not."""
    if case.standing.same_container:
        return tuple(commands)
    return tuple(put_inside(case.place.containers, command, case.asker.uid) for command in commands)


def _owner(case: Case) -> int | None:
    """Return the ordinary user whose container a helper serves; None: root's."""
    return case.kin.uid or case.place.user or None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch("[0-9]{1,5}", text) else None


def _conmon(case: Case) -> Stop:
    """Each conmon watches one container of Podman or CRI-O, and keeps its published ports."""
    arguments = case.kin.arguments
    name, number = option_value(arguments, "n", "name"), option_value(arguments, "c", "cid")
    watched = case.place.watches
    number = number or (watched.id if watched else None)
    crio = (watched is not None and watched.runtime == "cri-o") or any("crio" in a for a in arguments)
    crio = crio or bool(name and name.startswith("k8s_"))
    pod = re.fullmatch("([0-9a-f]{12})-infra", name or "")
    of_pod = None if crio else pod[1] if pod else watched.pod if watched else None
    box = Container("cri-o" if crio else "podman", number or name or "CONTAINER", of_pod, user=_owner(case))
    stop, restart = stop_publishing(box, case.asker.uid, called=None if crio else name)
    known = name or number
    role = f"keeps {name_container(box)}{f' ({name})' if name else ''}" if known else "keeps a container"
    unit = case.unit
    if unit and not crio and not re.match("podman|crio|ssh|cron|docker", unit) and is_main_program(case):
        command = f"{systemctl_of(case)} stop {shlex.quote(unit)}"
        return Stop(
            "user-service" if case.place.of_user_manager else "service",
            case.holder,
            (command,),
            role=f"{role}, which {unit} runs",
            container=box,
            restart=f"{systemctl_of(case)} restart {shlex.quote(unit)}",
        )
    return Stop(
        "published-port",
        case.holder,
        _inside_own(case, stop),
        role=role,
        restart=restart,
        lookup=() if known else _inside_own(case, ("crictl ps" if crio else "podman port --all",)),
        note=_KUBELET if crio else None,
        avoid=(*_whole_runtime(case), f"kill {case.holder.pid}: the container goes on without its watcher."),
        container=box if known else None,
        container_port=_led_to(case)[1],
    )


def _rootless(case: Case) -> Stop:
    """rootlessport, slirp4netns, pasta and rootlesskit carry ports into containers of an ordinary user."""
    docker = program_of(case.kin).startswith("rootlesskit") or any(
        "rootlesskit" in program_of(k) for k in case.standing.ancestors[:3]
    )
    served = case.standing.serves
    known = isinstance(served, Container)
    box = Container("docker" if docker else "podman", "CONTAINER", user=_owner(case))
    box = served if isinstance(served, Container) else box
    stop, _ = stop_publishing(box, case.asker.uid)
    client = client_of(box, case.asker.uid)
    look = f"{client} ps --filter publish={case.asker.port or 'PORT'}" if docker else f"{client} port --all"
    whose = f"of uid {_owner(case)}" if _owner(case) else "of root"
    container = f"{name_container(box)} {whose}" if known else f"a container {whose}"
    port = _carried(case.kin.arguments, case.asker.port)
    others = program_of(case.kin).startswith(("slirp4netns", "rootlesskit"))
    carries = "carries the network of" if others else "publishes a port of"
    asks_it = f"{client} port {shlex.quote(box.short)}"
    return Stop(
        "published-port",
        case.holder,
        _inside_own(case, stop),
        lookup=() if known else _inside_own(case, (look,)),
        role=f"publishes port {port} of {container}" if port else f"{carries} {container}",
        note=_own_port(case.standing.served_ports, asks_it) if known and not port else None,
        avoid=(*_whole_runtime(case), f"kill {case.holder.pid}: the container goes on without its network."),
        container=box if known else None,
        container_port=port,
    )


def _own_port(inside: Sequence[int], asks_it: str) -> str:
    """Say which of its ports it may be: what a container listens on is seen, what leads to it is not."""
    if not inside:
        return f"its own port is told by {asks_it}"
    if len(inside) == 1:
        return f"the container listens on port {inside[0]} only; {asks_it} tells whether this one leads there"
    named = ", ".join(map(str, inside[:_PORTS_NAMED])) + (" ..." if len(inside) > _PORTS_NAMED else "")
    return f"the container listens on ports {named}; {asks_it} tells which of them it is"


_PORTS_NAMED = 5


def _carried(arguments: Sequence[str], port: int | None) -> int | None:
    """Return the container's port of pasta's ``-t 8080-8080:80-80``; None where that is not told."""
    flags = ("-t", "--tcp-ports")
    specs = [after for before, after in pairwise(arguments) if before in flags]
    specs += [a.partition("=")[2] for a in arguments if a.startswith(("-t=", "--tcp-ports="))]
    for part in (part for spec in specs for part in spec.rpartition("/")[2].split(",")):
        if found := re.fullmatch(r"(\d+)(?:-(\d+))?(?::(\d+)(?:-\d+)?)?", part):
            low, high = int(found[1]), int(found[2] or found[1])
            if port is not None and low <= port <= high:
                return int(found[3] or low) + port - low
    return None


def _passt(case: Case) -> Stop:
    return Stop(
        "published-port",
        case.holder,
        (),
        role="carries ports into a virtual machine",
        lookup=("virsh list",),
        note="stop or reconfigure that machine",
    )


def _shim(case: Case) -> Stop:
    """Each shim of containerd stands between containerd and one container (Docker's too)."""
    number = option_value(case.kin.arguments, "id")
    space = option_value(case.kin.arguments, "namespace")
    runtime = {"moby": "docker", "k8s.io": "kubernetes"}.get(space or "moby", "containerd")
    box = Container(runtime, number or "CONTAINER")
    return Stop(
        "container",
        case.holder,
        _inside_own(case, stop_container(box, case.asker.uid)[0]),
        lookup=() if number else _inside_own(case, ("crictl ps" if space == "k8s.io" else "docker ps",)),
        role=f"keeps {name_container(box)}" if number else "keeps a container",
        note=_KUBELET if space == "k8s.io" else None,
        avoid=_whole_runtime(case),
        container=box if number else None,
    )


def _dockerd(case: Case) -> Stop:
    port = case.asker.port
    if port in (2375, 2376, 2377, 7946):
        return _keep(
            case, "serves Docker's own interface here", "take the port out of its hosts or swarm settings"
        )
    box, published = _led_to(case)
    stop = stop_container(box, case.asker.uid)[0] if box else ()
    if stop and box is not None:
        return Stop(
            "published-port",
            case.holder,
            _inside_own(case, stop),
            role=_publishes(published, name_container(box), None),
            avoid=(
                what_it_costs(case, "docker.service", "it takes Docker from every container of this host"),
            ),
            container=box,
            container_port=published,
        )
    return Stop(
        "published-port",
        case.holder,
        _inside_own(case, ("docker stop CONTAINER",)),
        lookup=_inside_own(case, (f"docker ps --filter publish={port or 'PORT'}", "docker service ls")),
        role="holds the published port of a container or of a service of the swarm",
        note="of a service: docker service update --publish-rm",
        avoid=(what_it_costs(case, "docker.service", "it takes Docker from every container of this host"),),
    )


def what_it_costs(case: Case, unit: str, what: str) -> str:
    """Warn of stopping the unit around the holder; `unit` is its usual name, where it is out of sight."""
    return f"{systemctl_of(case)} stop {shlex.quote(case.unit or unit)}: {what}."


def _keep(case: Case, role: str, instead: str) -> Stop:
    """Leave alone what others depend on."""
    unit = case.unit or case.holder.name
    return Stop(
        "not-to-be-stopped",
        case.holder,
        (),
        role=role,
        note=f"give the server another port, or {instead}",
        avoid=(f"{systemctl_of(case)} stop {shlex.quote(unit)}: all that depends on it suffers.",),
    )


def _kubelet(case: Case) -> Stop:
    stop = _keep(case, "is this node's kubelet", "change the port in the kubelet's configuration")
    return stop._replace(
        avoid=(what_it_costs(case, "kubelet.service", "it takes this node out of its cluster"),)
    )


def _containerd(case: Case) -> Stop:
    stop = _keep(case, "is the runtime of this host's containers", "change the port in its configuration")
    return stop._replace(avoid=(what_it_costs(case, f"{program_of(case.kin)}.service", _RUNTIME),))


def _kube_proxy(case: Case) -> Stop:
    return Stop(
        "published-port",
        case.holder,
        ("kubectl delete service NAME",),
        lookup=(f"kubectl get services -A | grep {case.asker.port or 'PORT'}",),
        role="holds a NodePort of a Kubernetes service",
        note="or give that service another nodePort",
        avoid=("stopping kube-proxy: it ends the routes of every service on this node.",),
    )


def _forward_proxy(case: Case) -> Stop | None:
    """``lxd forkproxy`` and ``incusd forkproxy`` are the proxy device of one instance."""
    if "forkproxy" not in " ".join(case.kin.arguments):
        return None
    client = "incus" if "incus" in program_of(case.kin) else "lxc"
    return Stop(
        "published-port",
        case.holder,
        (f"{client} config device remove INSTANCE DEVICE",),
        lookup=(f"{client} list -c ns,devices:eth0", f"{client} config device show INSTANCE"),
        role="is the proxy device of an instance",
        avoid=_whole_runtime(case),
    )


def _ssh_server(case: Case) -> Stop:
    """Tell the daemon from one session: only a session forwards (ssh -R), and to end it ends nobody else."""
    title = " ".join(case.kin.arguments)
    parents = [program_of(kin) for kin in case.standing.ancestors[:3]]
    session = ": " in title and "[listener]" not in title
    daemon = bool(re.match(r"(?:sshd: )?(?:\S*/)?(?:sshd|dropbear)(?: |$)", title)) and not session
    if daemon and not {"sshd", "dropbear"} & set(parents):
        stop = _keep(case, "is the ssh server itself", "change Port or ListenAddress in sshd_config")
        return stop._replace(avoid=(what_it_costs(case, "ssh.service", _LOCKED_OUT),))
    user = re.search(r"sshd(?:-session)?: ([^ @]+)", title)
    whose = f" of {user[1]}" if user else ""
    unit = case.unit
    return Stop(
        "forward",
        case.holder,
        (f"kill {case.holder.pid}",),
        role=f"is one ssh session{whose} that forwards this port (ssh -R)",
        note="that ends the session with all its forwards, and no other",
        avoid=(what_it_costs(case, unit, _LOCKED_OUT),) if unit else (),
    )


def _ssh_client(case: Case) -> Stop | None:
    options = [a for a in case.kin.arguments[1:] if re.match("-[a-zA-Z0-9]*[LDRW]", a)]
    shared = any(_SHARES_SSH.match(word) for word in case.kin.arguments)
    listens = case.asker.listens or bool(case.standing.listens_on)  # by its file: LocalForward
    forwards = bool(options) or shared or listens
    auto = next((kin for kin in case.standing.ancestors[:2] if program_of(kin) == "autossh"), None)
    if not forwards and auto is None:
        return None
    if auto is None and case.unit and is_main_program(case):
        return None  # a tunnel that is a service of its own
    again = restarter_of(case)
    pid = auto.pid if auto else case.holder.pid
    pids = f"{again.pid} {pid}" if again is not None and again.pid != 1 and auto is None else f"{pid}"
    note = "that ends the whole ssh connection with all its forwards" + (_SHARED_SSH if shared else "")
    return Stop(
        "forward",
        case.holder,
        (f"kill {pids}",),
        role=f"forwards this port through ssh{f', kept by autossh (pid {pid})' if auto else ''}",
        note=note if again is None or auto else f"{note}; {tell_restarter(case, again)}",
    )


_SHARES_SSH = re.compile(r"-[a-zA-Z0-9]*M|(?:-o)?ControlMaster[= ](?!no)|(?:ssh: )?\S+ \[mux\]|\[mux\]")
"""A word by which an ssh is known that others go through: an option, or the title of one that waits."""
_SHARED_SSH = (
    ", and all sessions that share it (ControlMaster), yours perhaps too: ssh -O cancel with its -L, -R or "
    "-D and the host ends the forward alone"
)


def _inetd(case: Case) -> Stop:
    program, given = program_of(case.kin), arguments_of(case.kin)
    where = "/etc/xinetd.d" if program == "xinetd" else "/etc/inetd.conf"
    own = option_value(case.kin.arguments, "f") if program == "xinetd" else next(iter(given[-1:]), None)
    where = own if own is not None and own.startswith("/") else where
    return Stop(
        "supervised",
        case.holder,
        (f"kill -HUP {case.holder.pid}",),
        role=f"holds it for one of the services of {where}",
        note=f"take that service out of {where} first",
        avoid=_whole_runtime(case),
    )


def _dnsmasq(case: Case) -> Stop | None:
    """Both libvirt and LXC start a dnsmasq for each of their networks."""
    text = " ".join(case.kin.arguments)
    if found := re.search(r"/libvirt/dnsmasq/([^/ ]+)\.conf", text):
        name = shlex.quote(found[1])
        return Stop(
            "supervised",
            case.holder,
            (f"virsh net-destroy {name}",),
            avoid=_whole_runtime(case),
            role=f"serves libvirt's network {found[1]}",
        )
    if "lxcbr0" in text or "/lxc/" in text:
        return Stop(
            "service",
            case.holder,
            ("systemctl stop lxc-net.service",),
            role="serves the network of LXC's containers",
        )
    return None


def _qemu(case: Case) -> Stop | None:
    guest = re.search(r"(?:^|,)guest=([^,]+)|^([^,]+)", option_value(case.kin.arguments, "name") or "")
    if case.place.containers or guest is None or "-libvirt" in " ".join(case.kin.arguments):
        return None
    return Stop(
        "process",
        case.holder,
        (f"kill {case.holder.pid}",),
        role=f"runs the virtual machine {guest[1] or guest[2]}",
        note="shut it down from inside first",
    )


def _virtualbox(case: Case) -> Stop:
    """A machine of VirtualBox; a port of its NAT is forwarded by the machine's own process."""
    name = option_value(case.kin.arguments, "comment")
    quoted = shlex.quote(name) if name else "NAME"
    return Stop(
        "published-port",
        case.holder,
        (f"VBoxManage controlvm {quoted} acpipowerbutton",),
        lookup=() if name else ("VBoxManage list runningvms",),
        role=f"runs the virtual machine {name}" if name else "runs a virtual machine",
        note="to end the forwarded port alone: VBoxManage controlvm NAME natpf1 delete RULE",
        avoid=(f"kill {case.holder.pid}: that is a power cut for the machine.",),
    )


def _epmd(case: Case) -> Stop:
    """Erlang's port mapper is started by the first node, in its unit, and serves every node of the host."""
    return Stop(
        "not-to-be-stopped",
        case.holder,
        (),
        role="names the Erlang nodes of this host (RabbitMQ, ejabberd, CouchDB ...) to each other",
        note="give the server another port, or move epmd by ERL_EPMD_PORT of all nodes",
        avoid=(
            f"kill {case.holder.pid}: the nodes that run cannot be found again until they are restarted.",
        ),
    )


def _supervisor(case: Case) -> Stop:
    stop = _keep(case, "is supervisord itself", "take [inet_http_server] out of supervisord.conf")
    return stop._replace(
        avoid=(what_it_costs(case, "supervisor.service", "it ends every program that it keeps"),)
    )


_SERVANTS: Mapping[str, Callable[[Case], Stop | None]] = {
    "docker-proxy": _docker_proxy,
    "rootlesskit-docker-proxy": _docker_proxy,
    "conmon": _conmon,
    "conmonrs": _conmon,
    "rootlessport": _rootless,
    "rootlessport-child": _rootless,
    "containers-rootlessport": _rootless,
    "containers-rootlessport-child": _rootless,
    "rootlesskit": _rootless,
    "slirp4netns": _rootless,
    "pasta": _rootless,
    "pasta.avx2": _rootless,
    "containerd-shim": _shim,
    "containerd-shim-runc-v1": _shim,
    "containerd-shim-runc-v2": _shim,
    "kube-proxy": _kube_proxy,
}
"""Those that hold a port for a container, by the name of the program."""

_HELPERS: Mapping[str, Callable[[Case], Stop | None]] = {
    **_SERVANTS,
    "passt": _passt,
    "passt.avx2": _passt,
    "dockerd": _dockerd,
    "containerd": _containerd,
    "crio": _containerd,
    "kubelet": _kubelet,
    "k3s-server": _kubelet,
    "k3s-agent": _kubelet,
    "lxd": _forward_proxy,
    "incusd": _forward_proxy,
    "sshd": _ssh_server,
    "sshd-session": _ssh_server,
    "dropbear": _ssh_server,
    "ssh": _ssh_client,
    "xinetd": _inetd,
    "inetd": _inetd,
    "inetutils-inetd": _inetd,
    "epmd": _epmd,
    "supervisord": _supervisor,
    "dnsmasq": _dnsmasq,
    "qemu-kvm": _qemu,
    **{
        f"qemu-system-{machine}": _qemu
        for machine in ("x86_64", "aarch64", "arm", "i386", "ppc64", "riscv64")
    },
    "VBoxHeadless": _virtualbox,
    "VirtualBoxVM": _virtualbox,
}
"""All that are known; a rule that answers None found out that this one serves itself."""
