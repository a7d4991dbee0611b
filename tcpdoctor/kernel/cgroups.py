"""Where a process stands in the control groups: its systemd unit, and the container around it."""

import functools
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from tcpdoctor.kernel.namespaces import replayed
from tcpdoctor.kernel.reading import Missing, Reading, read_kernel_file, why_unreadable
from tcpdoctor.kernel.text import clean, decode
from tcpdoctor.named_tuples import NamedTuple

_FIRST_CGROUP_NAMESPACE = 0xEFFFFFFB
"""PROC_CGROUP_INIT_INO of include/linux/proc_ns.h: the cgroup namespace that the kernel booted with."""

_MOST_GROUPS = 20_000

_HEX = "[0-9a-f]{64}"
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

# Texts and not compiled patterns: re compiles each when a path first looks like it, 0.3 ms apiece.
_UNIT = r"[^/]+\.(?:service|scope|socket|mount|swap)"
_IN_NAME = rf"(?:(?P<maker>[^/]*)[-:_])?(?P<id>{_HEX})(?:\.scope)?"
"""Docker ``docker-ID.scope``, containerd ``cri-containerd-ID.scope`` and ``SLICE:cri-containerd:ID``,
nerdctl ``nerdctl-ID.scope``, CRI-O ``crio-ID(.scope)``, Podman ``libpod-ID.scope`` and
``libpod-payload-ID``, and the plain ``ID`` of the cgroupfs driver."""
_POD = r"(?:.*-)?pod(?P<uid>[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?"
"""``pod2f4a3b1c-...`` (cgroupfs) and ``kubepods-burstable-pod2f4a3b1c_....slice`` (systemd); 32 digits
without dashes are a pod from a file of the kubelet's."""
_PODMAN_POD = rf"(?:machine-|user-)?libpod_pod_(?P<uid>{_HEX})(?:\.slice)?"
_ECS_TASK = rf"ecstasks-(?P<task>[0-9a-f]{{32}}|{_UUID})\.slice"
_ECS = r"[0-9a-f]{32}-[0-9]+"
_NOMAD = rf"(?P<id>{_UUID})(?:[.-](?P<task>.+?))?(?:\.scope)?"
_MANAGED = r"(?P<kind>qemu|lxc|ch|xen)-(?:\d+-)?(?P<id>.+)"
"""What libvirt registers with systemd-machined, unescaped: ``qemu-1-web``."""
_HANDLE = rf"{_UUID}|[0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{4}}"
"""What Garden and Mesos call a container: Garden's four groups after the first are short ones."""
_YARN = r"container_(?:e\d+_)?\d+_\d+_\d+_\d+"
_SLURM_STEP = r"step_(?P<step>\w+)"
_USER_SLICE = r"user-(\d{1,10})\.slice"
_USER_MANAGER = r"user@(\d{1,10})\.service"

_MAKERS = {
    "docker": "docker",
    "moby": "docker",
    "cri-containerd": "containerd",
    "containerd": "containerd",
    "k8s.io": "containerd",
    "nerdctl": "containerd",
    "default": "containerd",
    "actions_job": "docker",
    "crio": "cri-o",
    "libpod": "podman",
    "libpod-payload": "podman",
    "libpod_parent": "podman",
    "azpl_job": "docker",
    "kata": "kata",
    "kata_overhead": "kata",
}
"""Who makes a container, by what stands before its id; or by the folder that it lies in."""


class Container(NamedTuple):
    """A container or virtual machine, as the control group of a process in it names it."""

    runtime: str
    """``docker``, ``containerd``, ``cri-o``, ``podman``, ``lxc``, ``nspawn``, ``libvirt``,
    ``libvirt-lxc``, ``libvirt-ch``, ``libvirt-xen``, ``proxmox``, ``firecracker``, ``kata``, ``nomad``,
    ``ecs``, ``garden``, ``mesos``, ``yarn``, ``slurm`` (a job), ``buildkit`` (a step of a build),
    ``kubernetes`` (which runtime is not told), or ``unknown``."""
    id: str
    """Its full id; with LXC, nspawn and libvirt its name, with Proxmox and Slurm its number, with Nomad the
    allocation."""
    pod: str | None = None
    """Uid of its Kubernetes pod, with dashes, or id of its Podman pod."""
    task: str | None = None
    """Task of Amazon ECS (its id), or of Nomad (its name), or step of Slurm's job."""
    user: int | None = None
    """The user whose service manager or session made it; None: the system's."""

    @property
    def short(self) -> str:
        """The id as people type it: its first twelve digits, or the whole name."""
        return self.id[:12] if len(self.id) == 64 and re.fullmatch(_HEX, self.id) else self.id


class Place(NamedTuple):
    """Where a process stands in a tree of control groups."""

    path: str
    unit: str | None = None
    r"""The innermost unit, as systemctl knows it, with its ``\x2d`` escapes."""
    unit_path: str | None = None
    """The control group of that unit."""
    unit_in_container: bool = False
    """The unit is one of a systemd inside the innermost container."""
    slice: str | None = None
    """The innermost slice."""
    user: int | None = None
    """The user whose slice it is in, inside the innermost container if there is one; None: no user's."""
    of_user_manager: bool = False
    """The unit is one of that user's ``systemd --user``."""
    containers: tuple[Container, ...] = ()
    """The outermost first: a container may run containers."""
    watches: Container | None = None
    """It is no part of this container, but stands beside it and looks after it."""

    @property
    def container(self) -> Container | None:
        """The innermost container; None outside of any."""
        return self.containers[-1] if self.containers else None


def read_membership(pid: int, root: str = "/proc") -> tuple[Reading[str | None], Reading[str | None]]:
    """Return (unit, container) of a process, as `parse_cgroup` does.

    Each is None where the process is in none, and `Missing` where its control groups cannot be read
    or lie outside our cgroup namespace, whose paths say nothing.
    """
    place = read_place(pid, root)
    if isinstance(place, Missing):
        return place, place
    return place.unit, place.container.id if place.container else None


@replayed
def read_place(pid: int, root: str = "/proc") -> Reading[Place]:
    """Return where a process stands; `Missing` as in `read_membership`."""
    try:
        place = parse_place(decode(read_kernel_file(f"{root}/{pid}/cgroup")))
    except OSError as error:
        return Missing(why_unreadable(error))
    if place.unit is None and not place.containers and not _is_whole_tree_visible():
        return Missing("the control groups of the host are not visible from inside this cgroup namespace")
    return place


def parse_cgroup(text: str) -> tuple[str | None, str | None]:
    r"""Return (unit, container) named by /proc/PID/cgroup.

    The unit is the innermost service or scope, named as systemctl knows it, with its ``\x2d`` escapes; of
    a user's service that is the user's unit. The container is its full id, or its name with LXC and
    systemd-nspawn. The unified hierarchy speaks first, then systemd's own of version 1, then any other.
    """
    place = parse_place(text)
    return place.unit, place.container.id if place.container else None


def parse_place(text: str) -> Place:
    """Return what /proc/PID/cgroup says; unit and container may stand in different hierarchies."""
    places = [place_of(path) for path in _paths(text)] or [Place("/")]
    named = next((place for place in places if place.unit), places[0])
    boxed = next((place for place in places if place.containers), named)
    beside = next((place.watches for place in places if place.watches), None)
    if not named.containers and named.unit is None:
        boxed = boxed if boxed.containers else next((one for one in places if one.path != "/"), boxed)
        return boxed._replace(watches=beside)
    return named._replace(containers=named.containers or boxed.containers, watches=beside)


@functools.lru_cache(256)  # workers of one service stand in one place
def place_of(path: str) -> Place:
    """Return what the path of one control group says."""
    # systemd puts "_" before names that the kernel would take for its own (cg_unescape)
    parts = [part.removeprefix("_") for part in path.split("/")]
    found = [(number, box) for number in range(len(parts)) if (box := _container_at(parts, number))]
    inside = [(number, box) for number, box in found if not _is_beside(parts, number)]
    start = inside[-1][0] + 1 if inside else 0
    last = _unit_below(parts, start) if inside else None
    in_container = last is not None
    for number in (*(number + 1 for number, _ in inside[-2:-1]), 0):
        last = _unit_below(parts, number) if last is None else last
    begin = start if in_container else 0
    slices = [part for part in parts[begin:last] if part.endswith(".slice")]
    user, managed = _user_of(parts[begin : len(parts) if last is None else last])
    return Place(
        path=clean(path, 4096),
        unit=None if last is None else clean(parts[last]),
        unit_path=None if last is None else "/".join(path.split("/")[: last + 1]),
        unit_in_container=in_container,
        slice=clean(slices[-1]) if slices else None,
        user=user,
        of_user_manager=managed,
        containers=tuple(
            box._replace(user=_user_of(parts[outer:number])[0])
            for outer, (number, box) in zip((0, *(number for number, _ in inside)), inside, strict=False)
        ),
        watches=next((box for number, box in found if _is_beside(parts, number)), None),
    )


def _unit_below(parts: Sequence[str], start: int) -> int | None:
    """Return the place of the unit that the service manager at `start` has there.

    Managers put no unit below another; what lies so is of a manager that a unit runs (nspawn within a
    service), and its names are not those of ours. Only a user's own manager is a unit with units below.
    """
    last = None
    for number in range(start, len(parts)):
        part = parts[number]
        if "." in part and re.fullmatch(_UNIT, part):
            last = number
            if not re.fullmatch(_USER_MANAGER, part):
                break
    return last


def _user_of(parts: Sequence[str]) -> tuple[int | None, bool]:
    """Return the user of what stands below these parts, and whether that user's service manager keeps it."""
    for part in reversed(parts):
        if part.startswith("user@") and (found := re.fullmatch(_USER_MANAGER, part)):
            return int(found[1]), True
        if part.startswith("user-") and (found := re.fullmatch(_USER_SLICE, part)):
            return int(found[1]), False
    return None, False


def _container_at(parts: Sequence[str], number: int) -> Container | None:
    """Return the container that this part of a path begins, or that is watched by what stands there."""
    part, above = parts[number], parts[:number]
    if _is_podman_pod(parts, number):
        return None
    if len(part) >= 64 and (found := re.fullmatch(_IN_NAME, part)):
        maker = (found["maker"] or "").rpartition(":")[2].removesuffix("-conmon")
        pod, task = _group_of(parts[: number + 1])
        return Container(_runtime(maker, above, pod), found["id"], pod, task or _ecs_task(above))
    if ".libvirt-" in part:
        name, _, kind = part.rpartition(".libvirt-")
        return _machine(clean(name if re.fullmatch(_MANAGED, name) else f"{kind}-{name}"))
    if part.startswith("machine-") and part.endswith(".scope"):
        return _machine(_unescape(part[len("machine-") : -len(".scope")]))
    if part.startswith("systemd-nspawn@") and part.endswith(".service"):
        return Container("nspawn", _unescape(part[len("systemd-nspawn@") : -len(".service")]))
    return _lxc(part, above) or _scheduled(parts, number) or _by_folder(part, above)


def _lxc(part: str, above: Sequence[str]) -> Container | None:
    for prefix in ("lxc.payload.", "lxc.monitor."):
        if part.startswith(prefix) and part != prefix:
            return Container("lxc", clean(part.removeprefix(prefix)))
    if part and above and above[-1] in ("lxc", "lxc.payload", "lxc.monitor"):
        return Container("lxc", clean(part))
    return None


def _by_folder(part: str, above: Sequence[str]) -> Container | None:
    """Return what the folder alone tells: virtual machines without a name, and a step of a build."""
    folder = above[-1] if above else ""
    if folder == "qemu.slice" and re.fullmatch(r"\d+\.scope", part):
        return Container("proxmox", part.removesuffix(".scope"))
    if folder == "buildkit" and re.fullmatch(r"[0-9a-z]{25}", part):
        return Container("buildkit", part)
    if folder == "firecracker" and re.fullmatch(r"[0-9A-Za-z-]{1,64}", part):
        return Container("firecracker", part)
    return None


def _scheduled(parts: Sequence[str], number: int) -> Container | None:
    """Return what schedulers made without Docker: Amazon's, HashiCorp's, Cloud Foundry's and of clusters."""
    part, above = parts[number], parts[:number]
    if "ecs" in above[-3:] and re.fullmatch(_ECS, part):
        return Container("ecs", part, None, _ecs_task(above) or part.partition("-")[0])
    if ("nomad" in above or "nomad.slice" in above) and (found := re.fullmatch(_NOMAD, part)):
        return Container("nomad", found["id"], None, clean(found["task"]) if found["task"] else None)
    for runtime in ("garden", "mesos"):
        if runtime in above[-3:] and re.fullmatch(_HANDLE, part):
            return Container(runtime, part)
    if part.startswith("container_") and re.fullmatch(_YARN, part):
        return Container("yarn", part)
    if part.startswith("job_") and part[4:].isdigit() and any("slurm" in name for name in above[-2:]):
        found = re.fullmatch(_SLURM_STEP, parts[number + 1]) if number + 1 < len(parts) else None
        return Container("slurm", part[4:], None, found["step"] if found else None)
    return None


def _is_beside(parts: Sequence[str], number: int) -> bool:
    """Whether what stands there only looks after the container: conmon, LXC's monitor, nspawn itself."""
    part, above, below = parts[number], parts[:number], parts[number + 1 :]
    return (
        "conmon-" in part
        or part.startswith("lxc.monitor.")
        or above[-1:] == ["lxc.monitor"]
        or (below[:1] == ["supervisor"] and part.startswith(("machine-", "systemd-nspawn@")))
    )


def _group_of(parts: Sequence[str]) -> tuple[str | None, str | None]:
    """Return the pod and the task that a path goes through, the innermost ones."""
    pod = task = None
    for number, part in enumerate(parts):
        if _is_podman_pod(parts, number):
            pod = part
        if "pod" in part:
            found = re.fullmatch(_POD, part.partition(":")[0]) or re.fullmatch(_PODMAN_POD, part)
            pod = found["uid"].replace("_", "-") if found else pod
        if part.startswith("ecstasks-") and (found := re.fullmatch(_ECS_TASK, part)):
            task = found["task"]
    return pod, task


def _is_podman_pod(parts: Sequence[str], number: int) -> bool:
    """Whether it is a pod of Podman's cgroupfs driver: ``libpod_parent/POD/libpod-ID``, ``POD/conmon``."""
    below = parts[number + 1 : number + 2]
    return (
        parts[number - 1 : number] == ["libpod_parent"]
        and bool(below and (below[0] == "conmon" or below[0].startswith("libpod-")))
        and re.fullmatch(_HEX, parts[number]) is not None
    )


def _ecs_task(above: Sequence[str]) -> str | None:
    """Return TASK of ``/ecs/TASK/CONTAINER`` and ``/ecs/CLUSTER/TASK/CONTAINER``."""
    return clean(above[-1]) if "ecs" in above[-3:-1] else None


def _runtime(maker: str, above: Sequence[str], pod: str | None) -> str:
    """Name what made a container by what stands before its id, else by the folder that it lies in."""
    if maker:
        return _MAKERS.get(maker, "unknown")
    if pod is not None:
        return "kubernetes"
    if "ecs" in above[-3:]:
        return "ecs"
    return _MAKERS.get(above[-1], "unknown") if above else "unknown"


def _machine(name: str) -> Container:
    """Name what is registered with systemd-machined; without libvirt's prefix it is systemd-nspawn's."""
    found = re.fullmatch(_MANAGED, name)
    if found is None:
        return Container("nspawn", name)
    return Container("libvirt" if found["kind"] == "qemu" else f"libvirt-{found['kind']}", found["id"])


def _unescape(name: str) -> str:
    r"""Undo systemd's escapes: ``my\x2dweb`` is ``my-web``."""
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), os.fsencode(name))
    return clean(decode(raw))


@replayed
def find_cgroup_paths(ids: Collection[int], mount: str | None = None) -> Mapping[int, str]:
    """Return the paths of control groups by the ids that INET_DIAG_CGROUP_ID gives.

    The id of a version 2 group is its directory's inode number. Ids of groups that are gone or not
    visible are absent, all of them where cgroup2 is not mounted.

    Args:
        ids: The ids wanted; nothing is read without any.
        mount: Where cgroup2 is mounted; found in /proc/self/mountinfo if not given.
    """
    wanted = set(ids)
    mount = mount or (find_cgroup2() if wanted else None)
    found: dict[int, str] = {}
    if not wanted or mount is None:
        return found
    for inode, path in walk_cgroups(mount):
        if inode in wanted:
            found[inode] = path
            if len(found) == len(wanted):
                break
    return found


_LONGEST_PATH = 4096
"""Characters: the kernel tells no longer one (PATH_MAX)."""


def _paths(text: str) -> Iterator[str]:
    lines = [line.split(":", 2) for line in text.splitlines()]
    order = {"": 0, "name=systemd": 1}
    for line in sorted((line for line in lines if len(line) == 3), key=lambda line: order.get(line[1], 2)):
        path = line[2].removesuffix(" (deleted)")[:_LONGEST_PATH]
        yield f"/openrc.{path[1:]}" if line[1] == "name=openrc" and path != "/" else path


def _is_whole_tree_visible() -> bool:
    try:
        return os.stat("/proc/thread-self/ns/cgroup").st_ino == _FIRST_CGROUP_NAMESPACE
    except FileNotFoundError:
        return True  # no cgroup namespaces before Linux 4.6


def find_cgroup2() -> str | None:
    """Return where the unified hierarchy is mounted; None where it is not, or where we may not know."""
    try:
        mounts = decode(read_kernel_file("/proc/thread-self/mountinfo"))
    except OSError:
        return None  # a process that gave up root's uid may not read its own
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup2 "):
            return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left.split(" ")[4])
    return None


def walk_cgroups(mount: str) -> Iterator[tuple[int, str]]:
    """Yield (inode, path below the mount) of directories, nearest first, at most `_MOST_GROUPS`."""
    try:
        yield os.stat(mount).st_ino, "/"
    except OSError:
        return  # something is mounted over it, or it is closed to us
    waiting = [""]
    for seen, path in enumerate(waiting):
        if seen >= _MOST_GROUPS:
            return
        try:
            with os.scandir(mount + path) as entries:
                folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue  # removed since it was listed, or closed to us
        for folder in folders:
            waiting.append(f"{path}/{folder.name}")
            yield folder.inode(), f"{path}/{folder.name}"


_PODS = "/var/lib/kubelet/pods"


def runs_pods() -> bool:
    """Whether this host is a node of Kubernetes: kubelet keeps a folder of the pods that it runs."""
    return os.path.isdir(_PODS)
