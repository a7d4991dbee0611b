"""Which network namespace the calling thread is in, or which recording: that is entered as a namespace is.

What reads the kernel is marked `replayed`: where a recording was entered it is asked instead, by a method of
the same name and arguments (tcpdoctor.kernel.replay). So every question is answered by the same code, and
what the recording does not hold is Missing: nothing of this host is mixed in.
"""

import functools
import os
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.reading import Missing, Reading, boottime
from tcpdoctor.kernel.text import clean
from tcpdoctor.named_tuples import NamedTuple

P = ParamSpec("P")
T = TypeVar("T")


class Entered:
    """The recording that this process is in."""

    __slots__ = ("recorded",)

    def __init__(self) -> None:
        self.recorded: Any = None
        """A `tcpdoctor.kernel.replay.Replay`, whose modules import this one; None: this host is looked at."""


ENTERED = Entered()


def replayed(function: Callable[P, T]) -> Callable[P, T]:
    """Mark what reads the kernel: a recording that was entered is asked instead."""
    name = function.__name__

    @functools.wraps(function)
    def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        if ENTERED.recorded is None:
            return function(*args, **kwargs)
        told: T = getattr(ENTERED.recorded, name)(*args, **kwargs)
        return told

    return asked


def is_recording() -> bool:
    """Whether a recording was entered."""
    return ENTERED.recorded is not None


@replayed
def moment() -> float:
    """Return when is looked, in seconds since 1970."""
    return time.time()


@replayed
def booted_at() -> float:
    """Return when CLOCK_BOOTTIME was 0, in seconds since 1970."""
    return time.time() - boottime()


@replayed
def asking_uid() -> int:
    """Return the uid of the user whose question it is: the calling one, or who recorded."""
    return os.geteuid()


@replayed
def bytes_of_page() -> int:
    """Return the bytes of a page of memory."""
    return os.sysconf("SC_PAGE_SIZE")


@replayed
def pages_of_memory() -> Reading[int]:
    """Return the pages of memory of the machine."""
    return os.sysconf("SC_PHYS_PAGES")


# What this thread may do beyond its uid (capabilities(7)).


CAP_NET_BIND_SERVICE = 10
CAP_NET_ADMIN = 12
CAP_SYS_PTRACE = 19

_FIRST_USER_NAMESPACE = 0xEFFFFFFD
_FIRST_PID_NAMESPACE = 0xEFFFFFFC
"""The inodes of the namespaces that the kernel booted with, PROC_USER_INIT_INO and PROC_PID_INIT_INO
of include/linux/proc_ns.h; fixed since Linux 3.8."""


def effective_capabilities() -> frozenset[int]:
    """Return the numbers of the calling thread's effective capabilities.

    They hold in its own user namespace; see `in_first_user_namespace`.

    Raises:
        KernelReadError: /proc is not mounted, or is of a PID namespace that we are not in.
    """
    path = "/proc/thread-self/status"
    try:
        with open(path, encoding="utf-8", errors="replace") as status:
            held = [line.split()[1] for line in status if line.startswith("CapEff:")]
    except FileNotFoundError as error:
        raise _without_proc(path, error) from error
    mask = int(held[0], 16) if held else 0
    return frozenset(bit for bit in range(64) if mask >> bit & 1)


def _without_proc(path: str, error: OSError) -> KernelReadError:
    return KernelReadError(f"{path}: {error.strerror}; mount /proc of this PID namespace")


def in_first_user_namespace() -> bool:
    """Whether capabilities hold for the whole machine and not only inside a user namespace."""
    return _is_namespace("/proc/thread-self/ns/user", _FIRST_USER_NAMESPACE)


def sees_all_processes_of_machine() -> bool:
    """Whether /proc shows every process of the machine, and not those of one PID namespace only.

    Asked of /proc itself first, because it may be mounted for another PID namespace than ours: its
    process 1 is in the namespace that it shows. Without leave to look there, our own namespace tells:
    where that is the first one, /proc can only be of the first one, or we would not be in it.
    """
    own = "/proc/thread-self/ns/pid"
    try:
        # Under hidepid=invisible process 1 is not even there for an ordinary user.
        return _is_namespace("/proc/1/ns/pid" if os.path.exists("/proc/1") else own, _FIRST_PID_NAMESPACE)
    except PermissionError:
        return _is_namespace(own, _FIRST_PID_NAMESPACE)


def _is_namespace(path: str, inode: int) -> bool:
    """Compare; a kernel built without namespaces of that kind has only the one."""
    try:
        return os.stat(path).st_ino == inode
    except FileNotFoundError:
        return not os.path.exists(f"/proc/thread-self/ns/{os.path.basename(path)}")


_NAMES = "/run/netns"
_OWN = "/proc/thread-self/ns/net"


def network_namespace() -> int:
    """Return the inode of the calling thread's network namespace, what ``lsns`` prints as NS.

    Raises:
        KernelReadError: /proc is not mounted, or is of a PID namespace that we are not in.
    """
    try:
        return os.stat(_OWN).st_ino
    except OSError as error:
        raise _without_proc(_OWN, error) from error


def shares_namespace(pid: int) -> bool | None:
    """Say whether a process is in the calling thread's network namespace; None where it is gone or hidden."""
    try:
        there, own = os.stat(f"/proc/{pid}/ns/net"), os.stat(_OWN)
    except OSError:
        return None
    return (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)


def name_of_namespace(folder: str = _NAMES) -> str | None:
    """Return the name that ``ip netns`` knows for the calling thread's namespace; None without one.

    Of several names the first in order of the alphabet.
    """
    own = os.stat(_OWN)
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return None  # nobody has named a namespace, or the folder is closed to us
    for name in names:
        try:
            entry = os.stat(os.path.join(folder, name))
        except OSError:
            continue  # a name whose namespace is gone, or is hidden
        if (entry.st_dev, entry.st_ino) == (own.st_dev, own.st_ino):
            return clean(name)
    return None


_called: str | None = None


def call_namespace(name: str | None) -> None:
    """Name the calling thread's namespace by what somebody knows who knows it better than ``ip netns``."""
    global _called
    _called = name


def is_initial_namespace(root: str = "/proc/sys/net") -> Reading[bool]:
    """Say whether the calling thread is in the network namespace that the kernel booted with.

    Two settings that only the initial namespace shows tell it to every user: tcp_mem and
    netdev_max_backlog. Where they contradict each other, process 1 of the machine is compared.
    """
    signs = {os.path.exists(f"{root}/ipv4/tcp_mem"), os.path.exists(f"{root}/core/netdev_max_backlog")}
    if len(signs) == 1 and os.path.exists(f"{root}/ipv4/tcp_fin_timeout"):
        return signs.pop()
    try:
        if sees_all_processes_of_machine():
            first = os.stat("/proc/1/ns/net")
            own = os.stat(_OWN)
            return (first.st_dev, first.st_ino) == (own.st_dev, own.st_ino)
    except PermissionError:
        return Missing("it is not visible whether this is the initial network namespace; run as root")
    return Missing("it is not visible from this container whether this is the initial network namespace")


# On which host, kernel and network namespace we are, and as whom.


class Identity(NamedTuple):
    """Who looks, and at what."""

    host: str
    kernel: str
    namespace: int
    """Inode of the network namespace."""
    namespace_name: str | None
    """As ``ip netns`` knows it, else after the container or unit in it where that was looked up; or None."""
    initial_namespace: Reading[bool]
    euid: int


@replayed
def read_identity() -> Identity:
    """Say on which host, kernel and network namespace we are, and as whom."""
    system = os.uname()
    return Identity(
        host=clean(system.nodename),
        kernel=clean(system.release),
        namespace=network_namespace(),
        namespace_name=_called or name_of_namespace(),
        initial_namespace=is_initial_namespace(),
        euid=os.geteuid(),
    )
