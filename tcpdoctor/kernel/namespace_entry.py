"""Which network namespaces this host has, and how to look from inside one (setns(2), network_namespaces(7)).

A namespace is found by a name that ``ip netns`` gave it, or by a process that is in it. One that only a
socket, a descriptor or a mount elsewhere keeps alive is not found.
"""

import ctypes
import errno
import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.text import clean

if TYPE_CHECKING:  # of one namespace nobody asks who is inside
    from tcpdoctor.kernel.cgroups import Container

NAMES = "/run/netns"
_OWN = "/proc/thread-self/ns/net"
_CLONE_NEWNET = 0x40000000
_OPENING = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


class NamespacePlace(NamedTuple):
    """One network namespace and a way into it."""

    inode: int
    """What ``lsns`` prints as NS."""
    path: str
    """Opens it: ``/run/netns/blue`` or ``/proc/811/ns/net``."""
    name: str | None
    """As ``ip netns`` knows it, cleaned."""
    pid: int | None
    """The lowest process inside; None where only a name leads to it."""
    pids: tuple[int, ...] = ()
    """The lowest processes inside, `_MOST_ASKED` at most."""
    inside: "tuple[Container, ...]" = ()
    """The containers that share it; looked up by `who_is_inside`."""
    unit: str | None = None
    """Where no container is inside, the systemd unit of its lowest process."""
    process: str | None = None
    """Where neither is known, the name of that process."""

    def called(self) -> str | None:
        """A name that stays from run to run: of ``ip netns``, else the pod, container or unit inside."""
        if self.is_named():
            return self.name
        pods = {container.pod for container in self.inside}
        if len(pods) == 1 and (pod := pods.pop()) is not None:
            return f"pod-{_short(pod)}"
        names = sorted(clean(container.short) for container in self.inside)
        return names[0] if names else self.unit

    def is_named(self) -> bool:
        """Whether somebody chose a name for it, and no engine that made it for a container."""
        return self.name is not None and not (self.inside and re.fullmatch(_MADE_UP, self.name))

    def words(self) -> str:
        """Who is inside, for people: ``docker 3f2a0c11d0aa, docker 91aa77e1f20b``; empty where not known."""
        told = [f"{container.runtime} {clean(container.short)}" for container in self.inside]
        told += [f"pod {_short(pod)}" for pod in sorted({one.pod for one in self.inside if one.pod})]
        return ", ".join(told) or (self.unit or "")


_MADE_UP = "(?:cni|netns)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
"""Names that CNI's engines and Podman give to what they make, anew each time."""


def _short(pod: str) -> str:
    """A pod's id as people type it: of Podman's 64 digits the first twelve."""
    return clean(pod[:12] if len(pod) == 64 and pod.isalnum() else pod)


_MOST_ASKED = 200
"""Processes of one namespace whose control group is read."""


def who_is_inside(place: NamespacePlace, proc: str = "/proc") -> NamespacePlace:
    """Look up the containers in a namespace that is not our own, or the unit of its lowest process."""
    from tcpdoctor.kernel.cgroups import read_place

    found: dict[str, Container] = {}
    unit = None
    for pid in place.pids:
        where = read_place(pid, proc)
        if isinstance(where, Missing):
            continue
        if where.container is not None:
            found.setdefault(where.container.id, where.container)
        unit = unit or where.unit
    containers = tuple(found[name] for name in sorted(found))
    if containers:
        return place._replace(inside=containers)
    if unit is not None:
        return place._replace(unit=clean(unit))
    return place._replace(process=_name_of_lowest(place, proc))


def _name_of_lowest(place: NamespacePlace, proc: str) -> str | None:
    try:
        with open(f"{proc}/{place.pids[0]}/comm", "rb") as file:
            return clean(file.read().rstrip(b"\n").decode("utf-8", "surrogateescape"))
    except (OSError, IndexError):
        return None  # it has ended, or nobody is inside


class NamespacesFound(NamedTuple):
    """The network namespaces of this host that we can see."""

    places: tuple[NamespacePlace, ...]
    """Our own first, then by inode."""
    hidden: int
    """Processes that do not let us see their namespace: there may be more."""


def find_namespaces(names: str = NAMES) -> NamespacesFound:
    """Look through the names of ``ip netns`` and all processes."""
    found: dict[tuple[int, int], NamespacePlace] = {}
    inside: dict[tuple[int, int], list[int]] = {}
    hidden = 0
    for pid in sorted(int(entry) for entry in os.listdir("/proc") if entry.isdecimal()):
        path = f"/proc/{pid}/ns/net"
        try:
            status = os.stat(path)
        except PermissionError:
            hidden += os.path.exists(f"/proc/{pid}")  # one that has just ended is refused as well
            continue
        except OSError:
            continue  # it has ended
        key = status.st_dev, status.st_ino
        found.setdefault(key, NamespacePlace(status.st_ino, path, None, pid))
        if len(pids := inside.setdefault(key, [])) < _MOST_ASKED:
            pids.append(pid)
    for name, status in _named(names):
        key = status.st_dev, status.st_ino
        place = found.get(key) or NamespacePlace(status.st_ino, "", None, None)
        if place.name is None:
            found[key] = place._replace(path=os.path.join(names, name), name=clean(name))
    own = os.stat("/proc/thread-self/ns/net").st_ino
    every = (place._replace(pids=tuple(inside.get(key, ()))) for key, place in found.items())
    places = sorted(every, key=lambda place: (place.inode != own, place.inode))
    return NamespacesFound(tuple(places), hidden)


def _named(folder: str) -> list[tuple[str, os.stat_result]]:
    """The names that lead to a namespace; one that was left behind by a reboot is a plain file."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    named = []
    for name in names:
        try:
            status = os.stat(os.path.join(folder, name))
        except OSError:
            continue
        if status.st_dev == _namespace_device():
            named.append((name, status))
    return named


def _namespace_device() -> int:
    """The device of nsfs, on which every namespace file is."""
    return os.stat(_OWN).st_dev


def path_of(wanted: str) -> str:
    """Return the file that leads into the namespace with this name, of this process, or at this path.

    A number is a process, unless only a name is spelt like it.

    Raises:
        QuestionError: There is none.
    """
    if "/" in wanted:
        return wanted
    named = os.path.join(NAMES, wanted)
    of_process = f"/proc/{wanted}/ns/net"
    if wanted.isdecimal() and (os.path.exists(f"/proc/{wanted}") or not os.path.exists(named)):
        if not os.path.exists(f"/proc/{wanted}"):
            raise QuestionError(f"--netns {wanted}: there is no process {wanted}")
        return of_process
    if wanted in ("", ".", "..") or not os.path.exists(named):
        known = ", ".join(clean(name) for name, _ in _named(NAMES)[:8])
        there_are = f"there are: {known}" if known else "none has a name"
        raise QuestionError(
            f"--netns {clean(wanted)}: `ip netns` knows no such name ({there_are}); "
            "give a name, a process id, or all"
        )
    return named


GONE = Missing("it is gone")
_MARGIN = 64
"""Descriptors that are kept for everything else."""


class HeldPlace(NamedTuple):
    """A network namespace that exists as long as we do."""

    place: NamespacePlace
    descriptor: int
    """Open."""


def hold(place: NamespacePlace) -> Reading[HeldPlace]:
    """Return a namespace that stays; `GONE`, or Missing with the reason why it cannot be opened.

    Where the process that led to it has ended, another one inside may still do so.
    """
    reason = GONE
    for path in _ways_to(place):
        try:
            descriptor = os.open(path, _OPENING)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESRCH):
                reason = Missing(_remedy(error, path))
            continue
        if os.fstat(descriptor).st_ino == place.inode:
            return HeldPlace(place, descriptor)
        os.close(descriptor)  # the process's number is another's by now
    return reason


def make_room_for(descriptors: int) -> None:
    """Raise our soft limit of descriptors, where so many more need it and the hard one allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = descriptors + _MARGIN
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with suppress(OSError, ValueError):  # then some cannot be opened, which is told of each
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, possible), hard))


def _ways_to(place: NamespacePlace) -> Iterator[str]:
    yield place.path
    yield from (f"/proc/{pid}/ns/net" for pid in place.pids)


@contextmanager
def coming_back() -> Iterator[None]:
    """Return to the calling thread's own network namespace at the end, whichever was entered meanwhile."""
    own = os.open(_OWN, _OPENING)
    try:
        yield
    finally:
        try:
            enter_held(own, "--netns")
        finally:
            os.close(own)


def enter_namespace(path: str) -> None:
    """Move the calling thread into the network namespace behind `path`.

    Raises:
        QuestionError: It is no network namespace, is gone, or we may not enter it.
    """
    shown = clean(path)
    try:
        descriptor = os.open(path, _OPENING)
    except OSError as error:
        raise QuestionError(f"--netns: {shown}: {_remedy(error, path)}") from error
    try:
        enter_held(descriptor, f"--netns: {shown}")
    finally:
        os.close(descriptor)


def enter_held(descriptor: int, shown: str) -> None:
    """Move the calling thread into the network namespace that a descriptor holds.

    To stay where one is takes no privilege, although setns(2) wants some for that too.

    Args:
        descriptor: Open.
        shown: What the error begins with.

    Raises:
        QuestionError: It is no network namespace, or we may not enter it.
    """
    if os.path.samestat(os.fstat(descriptor), os.stat(_OWN)):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        problem = OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        raise QuestionError(f"{shown}: {_remedy(problem)}")


def _remedy(error: OSError, path: str = "") -> str:
    if error.errno == errno.ENOENT and path.startswith("/proc/"):
        return "the process has ended"
    if error.errno == errno.EMFILE:
        return "too many descriptors are open; raise RLIMIT_NOFILE (ulimit -n)"
    if error.errno in (errno.EPERM, errno.EACCES):
        needs = "entering another network namespace needs CAP_SYS_ADMIN, and CAP_SYS_PTRACE for a process's"
        return needs if os.geteuid() == 0 else f"{needs}; run as root"
    if error.errno == errno.EINVAL:
        return "this is no network namespace"
    return (error.strerror or str(error)).lower()
