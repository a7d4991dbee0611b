"""Which network namespaces this host has, and how to look from inside one (setns(2), network_namespaces(7)).

A namespace is found by a name that ``ip netns`` gave it, or by a process that is in it. One that only a
socket, a descriptor or a mount elsewhere keeps alive is not found.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.text import clean

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


class NamespacesFound(NamedTuple):
    """The network namespaces of this host that we can see."""

    places: tuple[NamespacePlace, ...]
    """Our own first, then by inode."""
    hidden: int
    """Processes that do not let us see their namespace: there may be more."""


def find_namespaces(names: str = NAMES, proc: str = "/proc") -> NamespacesFound:
    """Look through the names of ``ip netns`` and all processes."""
    found: dict[tuple[int, int], NamespacePlace] = {}
    hidden = 0
    for pid in sorted(int(entry) for entry in os.listdir(proc) if entry.isdecimal()):
        path = f"{proc}/{pid}/ns/net"
        try:
            status = os.stat(path)
        except PermissionError:
            hidden += os.path.exists(f"{proc}/{pid}")  # one that has just ended is refused as well
            continue
        except OSError:
            continue  # it has ended
        key = status.st_dev, status.st_ino
        found.setdefault(key, NamespacePlace(status.st_ino, path, None, pid))
    for name, status in _named(names):
        key = status.st_dev, status.st_ino
        place = found.get(key) or NamespacePlace(status.st_ino, "", None, None)
        if place.name is None:
            found[key] = place._replace(path=os.path.join(names, name), name=clean(name))
    own = os.stat(f"{proc}/thread-self/ns/net").st_ino
    places = sorted(found.values(), key=lambda place: (place.inode != own, place.inode))
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


def path_of(wanted: str, names: str = NAMES) -> str:
    """Return the file that leads into the namespace with this name, of this process, or at this path.

    A number is a process, unless only a name is spelt like it.

    Raises:
        QuestionError: There is none.
    """
    if "/" in wanted:
        return wanted
    named = os.path.join(names, wanted)
    of_process = f"/proc/{wanted}/ns/net"
    if wanted.isdecimal() and (os.path.exists(f"/proc/{wanted}") or not os.path.exists(named)):
        if not os.path.exists(f"/proc/{wanted}"):
            raise QuestionError(f"--netns {wanted}: there is no process {wanted}")
        return of_process
    if wanted in ("", ".", "..") or not os.path.exists(named):
        known = ", ".join(clean(name) for name, _ in _named(names)[:8])
        there_are = f"there are: {known}" if known else "none has a name"
        raise QuestionError(
            f"--netns {clean(wanted)}: `ip netns` knows no such name ({there_are}); "
            "give a name, a process id, or all"
        )
    return named


def hold(place: NamespacePlace) -> int | None:
    """Return a descriptor of a namespace, which exists as long as that is open; None: it is gone.

    Where the process that led to it has ended, another one inside may still do so.
    """
    for path in _ways_to(place):
        try:
            descriptor = os.open(path, _OPENING)
        except OSError:
            continue
        if os.fstat(descriptor).st_ino == place.inode:
            return descriptor
        os.close(descriptor)  # the process's number is another's by now
    return None


def _ways_to(place: NamespacePlace) -> Iterator[str]:
    yield place.path
    yield from (other.path for other in find_namespaces().places if other.inode == place.inode)


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
    if error.errno in (errno.EPERM, errno.EACCES):
        needs = "entering another network namespace needs CAP_SYS_ADMIN, and CAP_SYS_PTRACE for a process's"
        return needs if os.geteuid() == 0 else f"{needs}; run as root"
    if error.errno == errno.EINVAL:
        return "this is no network namespace"
    return (error.strerror or str(error)).lower()
