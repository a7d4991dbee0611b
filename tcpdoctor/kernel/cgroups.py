"""The systemd unit and the container that a process belongs to, from its control groups."""

import os
import re
from collections.abc import Collection, Iterator, Mapping

from tcpdoctor.kernel.procfile import read_kernel_file, why_unreadable
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.text import clean, decode

_FIRST_CGROUP_NAMESPACE = 0xEFFFFFFB
"""PROC_CGROUP_INIT_INO of include/linux/proc_ns.h: the cgroup namespace that the kernel booted with."""

_UNIT = re.compile(r"[^/]+\.(?:service|scope|socket|mount|swap)")
_CONTAINER = re.compile(r"(?:[^/]*[-:_])?([0-9a-f]{64})(?:\.scope)?")
"""Docker ``/docker/ID`` and ``docker-ID.scope``, containerd ``cri-containerd-ID.scope`` and
``...:cri-containerd:ID``, CRI-O ``crio-ID.scope``, Podman ``libpod-ID.scope``, Kubernetes
``.../podUID/ID``."""
_NAMED_CONTAINERS = (
    re.compile(r"lxc\.payload\.([^/]+)"),
    re.compile(r"(?:.*/)?lxc(?:\.payload)?/([^/]+)(?:/.*)?"),
    re.compile(r"systemd-nspawn@([^/]+)\.service"),
)
_MOST_GROUPS = 20_000


def read_membership(pid: int, root: str = "/proc") -> tuple[Reading[str | None], Reading[str | None]]:
    """Return (unit, container) of a process.

    Each is None where the process is in none, and `Missing` where its control groups cannot be read
    or lie outside our cgroup namespace, whose paths say nothing.
    """
    path = f"{root}/{pid}/cgroup"
    try:
        unit, container = parse_cgroup(decode(read_kernel_file(path)))
    except OSError as error:
        why = Missing(why_unreadable(error))
        return why, why
    if unit is None and container is None and not _is_whole_tree_visible():
        why = Missing("the control groups of the host are not visible from inside this cgroup namespace")
        return why, why
    return unit, container


def parse_cgroup(text: str) -> tuple[str | None, str | None]:
    r"""Return (unit, container) named by /proc/PID/cgroup.

    The unit is the innermost service or scope, named as systemctl knows it, with its ``\x2d`` escapes; of
    a user's service that is the user's unit. The container is its full id, or its name with LXC and
    systemd-nspawn. The unified hierarchy speaks first, then systemd's own of version 1, then any other.
    """
    unit = container = None
    for path in _paths(text):
        unit = unit or unit_of(path)
        container = container or container_of(path)
    return unit, container


def unit_of(path: str) -> str | None:
    """Return the innermost service or scope in a control group's path; None if there is none."""
    for part in reversed(path.split("/")):
        # systemd puts "_" before names that the kernel would take for its own (cg_unescape)
        name = part.removeprefix("_")
        if _UNIT.fullmatch(name):
            return clean(name)
    return None


def container_of(path: str) -> str | None:
    """Return the innermost container in a control group's path; None if there is none."""
    parts = path.split("/")
    for part in reversed(parts):
        found = _CONTAINER.fullmatch(part)
        if found and "conmon" not in part:  # conmon watches a container from outside
            return found[1]
    for pattern in _NAMED_CONTAINERS:
        for part in (path, *reversed(parts)):
            if found := pattern.fullmatch(part):
                return clean(found[1])
    return None


def find_cgroup_paths(ids: Collection[int], mount: str | None = None) -> Mapping[int, str]:
    """Return the paths of control groups by the ids that INET_DIAG_CGROUP_ID gives.

    The id of a version 2 group is its directory's inode number. Ids of groups that are gone or not
    visible are absent, all of them where cgroup2 is not mounted.

    Args:
        ids: The ids wanted; nothing is read without any.
        mount: Where cgroup2 is mounted; found in /proc/self/mountinfo if not given.
    """
    wanted = set(ids)
    mount = mount or (_find_cgroup2() if wanted else None)
    found: dict[int, str] = {}
    if not wanted or mount is None:
        return found
    for inode, path in _walk(mount):
        if inode in wanted:
            found[inode] = path
            if len(found) == len(wanted):
                break
    return found


def _paths(text: str) -> Iterator[str]:
    lines = [line.split(":", 2) for line in text.splitlines()]
    order = {"": 0, "name=systemd": 1}
    for line in sorted((line for line in lines if len(line) == 3), key=lambda line: order.get(line[1], 2)):
        yield line[2].removesuffix(" (deleted)")


def _is_whole_tree_visible() -> bool:
    try:
        return os.stat("/proc/thread-self/ns/cgroup").st_ino == _FIRST_CGROUP_NAMESPACE
    except FileNotFoundError:
        return True  # no cgroup namespaces before Linux 4.6


def _find_cgroup2() -> str | None:
    for line in decode(read_kernel_file("/proc/thread-self/mountinfo")).splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup2 "):
            return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left.split(" ")[4])
    return None


def _walk(mount: str) -> Iterator[tuple[int, str]]:
    """Yield (inode, path below the mount) of directories, nearest first, at most `_MOST_GROUPS`."""
    yield os.stat(mount).st_ino, "/"
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
