"""Socket options of live sockets, also of other processes: pidfd_getfd(2), then getsockopt(2).

The duplicate refers to the same open file: whatever is set on it is set in its owner. So nothing is:
no timeout (it would switch the owner to O_NONBLOCK), no shutdown, only getsockopt. While it is open
the owner's close() does not close (no FIN, a listener goes on listening), so each is closed before
the next is opened; that takes about 10 microseconds.

Sockets that no process holds (TIME_WAIT, orphans, connections not accepted yet) cannot be asked.
"""

import _socket as socket  # what is around it takes 3 ms to import, and is not needed
import errno
import functools
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from typing import TypeAlias, TypeVar

from tcpdoctor.kernel.namespaces import replayed
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.text import clean, decode
from tcpdoctor.named_tuples import NamedTuple

T = TypeVar("T")

_PIDFD_GETFD = 438
"""Its number on every architecture (pidfd_getfd(2)); glibc has a wrapper since 2.36 only."""

_SOL_IPV6 = 41


class Linger(NamedTuple):
    """SO_LINGER."""

    on: bool
    seconds: int


class PortRange(NamedTuple):
    """IP_LOCAL_PORT_RANGE, inclusive; 0 stands for the end that the sysctl has."""

    low: int
    high: int


OptionValue: TypeAlias = bool | int | str | Linger | PortRange


class Option(NamedTuple):
    """One socket option, and how its value is read."""

    name: str
    level: int
    number: int
    kind: str
    """``switch``, ``number``, ``text``, ``linger``, ``range``, ``wide`` (64 bits) or ``time`` (a timeval)."""
    unit: str | None = None
    """Of a number: ``second``, ``millisecond``, ``microsecond``, ``byte`` or ``count``."""


_TCP = socket.IPPROTO_TCP

OPTIONS = (
    Option("SO_REUSEADDR", socket.SOL_SOCKET, socket.SO_REUSEADDR, "switch"),
    Option("SO_REUSEPORT", socket.SOL_SOCKET, socket.SO_REUSEPORT, "switch"),
    Option("SO_KEEPALIVE", socket.SOL_SOCKET, socket.SO_KEEPALIVE, "switch"),
    Option("TCP_KEEPIDLE", _TCP, 4, "number", "second"),
    Option("TCP_KEEPINTVL", _TCP, 5, "number", "second"),
    Option("TCP_KEEPCNT", _TCP, 6, "number", "count"),
    Option("TCP_USER_TIMEOUT", _TCP, 18, "number", "millisecond"),
    Option("SO_LINGER", socket.SOL_SOCKET, socket.SO_LINGER, "linger"),
    Option("TCP_LINGER2", _TCP, 8, "number", "second"),
    Option("TCP_DEFER_ACCEPT", _TCP, 9, "number", "second"),
    Option("TCP_SYNCNT", _TCP, 7, "number", "count"),
    Option("TCP_NODELAY", _TCP, 1, "switch"),
    Option("TCP_CORK", _TCP, 3, "switch"),
    Option("TCP_CONGESTION", _TCP, 13, "text"),
    Option("TCP_FASTOPEN", _TCP, 23, "number", "count"),
    Option("TCP_NOTSENT_LOWAT", _TCP, 25, "number", "byte"),
    Option("TCP_RTO_MAX_MS", _TCP, 44, "number", "millisecond"),
    Option("TCP_DELACK_MAX_US", _TCP, 46, "number", "microsecond"),
    Option("SO_RCVBUF", socket.SOL_SOCKET, socket.SO_RCVBUF, "number", "byte"),
    Option("SO_SNDBUF", socket.SOL_SOCKET, socket.SO_SNDBUF, "number", "byte"),
    Option("SO_BINDTODEVICE", socket.SOL_SOCKET, 25, "text"),
    Option("IPV6_V6ONLY", _SOL_IPV6, 26, "switch"),
    Option("IP_FREEBIND", socket.IPPROTO_IP, 15, "switch"),
    Option("IP_TRANSPARENT", socket.IPPROTO_IP, 19, "switch"),
    Option("IP_BIND_ADDRESS_NO_PORT", socket.IPPROTO_IP, 24, "switch"),
    Option("IP_LOCAL_PORT_RANGE", socket.IPPROTO_IP, 51, "range"),
    Option("SO_ACCEPTCONN", socket.SOL_SOCKET, socket.SO_ACCEPTCONN, "switch"),
    Option("SO_COOKIE", socket.SOL_SOCKET, 57, "wide"),
)
"""Every option that is read, in the order of reports; buffers are as the kernel keeps them (doubled)."""

BIND_OPTIONS = ("SO_REUSEADDR", "SO_REUSEPORT", "IPV6_V6ONLY")
"""Those that decide whether another socket can bind the same port."""

_BY_NAME = {option.name: option for option in OPTIONS}


class Descriptor(NamedTuple):
    """A process's descriptor, and the socket that it is thought to refer to."""

    pid: int
    fd: int
    inode: int
    """0: whatever is there."""


SocketOptions: TypeAlias = Mapping[str, Reading[OptionValue]]
"""By name. An option that this kind of socket lacks is Missing (IPV6_V6ONLY on an IPv4 socket)."""


class _Answers(SocketOptions):
    """The options of one socket in a quarter of the memory that a dictionary takes: the names are shared."""

    __slots__ = ("_places", "_values")

    def __init__(self, places: Mapping[str, int], values: tuple[Reading[OptionValue], ...]) -> None:
        self._places, self._values = places, values

    def __getitem__(self, name: str) -> Reading[OptionValue]:
        return self._values[self._places[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return repr(dict(self))


@replayed
def read_options(
    descriptors: Iterable[Descriptor], names: Iterable[str] | None = None
) -> dict[Descriptor, Reading[SocketOptions]]:
    """Read options of sockets that are open in processes, our own included.

    Args:
        descriptors: Where the sockets are.
        names: Options of `OPTIONS`; all of them where None.

    Returns:
        Per descriptor its options, or `Missing`: the process or the descriptor is gone, or refers to
        something else by now, or we lack the permission (that of ptrace; it needs root, or
        CAP_SYS_PTRACE, for another user's process), or the kernel is older than 5.6.

    Raises:
        OSError: The kernel refused in a way we do not know.
    """
    wanted = OPTIONS if names is None else tuple(_BY_NAME[name] for name in names)
    places = {option.name: place for place, option in enumerate(wanted)}
    by_pid: dict[int, list[Descriptor]] = {}
    for descriptor in descriptors:
        by_pid.setdefault(descriptor.pid, []).append(descriptor)
    found: dict[Descriptor, Reading[SocketOptions]] = {}
    for pid, theirs in by_pid.items():
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            found.update(dict.fromkeys(theirs, explain_refusal(error, pid)))
            continue
        try:
            for descriptor in theirs:
                values = _read_one(pidfd, descriptor, wanted)
                found[descriptor] = values if isinstance(values, Missing) else _Answers(places, values)
        finally:
            os.close(pidfd)
    return found


def duplicates(
    pid: int, inodes: Mapping[int, int], ask: Callable[[socket.socket], T]
) -> Iterator[tuple[int, T | Missing]]:
    """Ask sockets that are open in a process, one after the other, each by a duplicate of its descriptor.

    Args:
        pid: The process.
        inodes: The inode that each descriptor is thought to refer to; one that refers to something else by
            now, or was closed, is left out.
        ask: Only reads; the socket is closed when it returns.

    Yields:
        The descriptor and the answer; `Missing`, once, where the process does not let us look.

    Raises:
        OSError: The kernel refused in a way we do not know.
    """
    pidfd = None
    try:
        pidfd = os.pidfd_open(pid)
        for fd, inode in inodes.items():
            try:
                duplicate = duplicate_descriptor(pidfd, fd)
            except OSError as error:
                if error.errno == errno.EBADF:
                    continue
                raise
            try:
                if os.fstat(duplicate).st_ino != inode:
                    continue
                sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=duplicate)
                try:
                    answer = ask(sock)
                finally:
                    sock.detach()
            finally:
                os.close(duplicate)
            yield fd, answer
    except OSError as error:
        if error.errno == errno.ESRCH:
            return
        yield -1, explain_refusal(error, pid)
    finally:
        if pidfd is not None:
            os.close(pidfd)


def _read_one(
    pidfd: int, descriptor: Descriptor, wanted: tuple[Option, ...]
) -> Reading[tuple[Reading[OptionValue], ...]]:
    """Duplicate one descriptor, read, and close the duplicate before anything else happens."""
    try:
        duplicate = duplicate_descriptor(pidfd, descriptor.fd)
    except OSError as error:
        return explain_refusal(error, descriptor.pid)
    try:
        if descriptor.inode and os.fstat(duplicate).st_ino != descriptor.inode:
            return Missing(f"descriptor {descriptor.fd} of process {descriptor.pid} has changed meanwhile")
        # With family, type and protocol given, Python probes nothing and sets nothing.
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=duplicate)
        try:
            return tuple([read_option(sock, option) for option in wanted])
        finally:
            sock.detach()
    except OSError as error:
        return explain_refusal(error, descriptor.pid)
    finally:
        os.close(duplicate)


def read_option(sock: socket.socket, option: Option) -> Reading[OptionValue]:
    """Read one option of a socket that is open in this process; Missing where its kind lacks it."""
    kind = option.kind
    try:
        if kind == "switch":
            return bool(sock.getsockopt(option.level, option.number))
        if kind == "number":
            return sock.getsockopt(option.level, option.number)
        raw = sock.getsockopt(option.level, option.number, 64)
    except OSError as error:
        return _lacking(option.name, error.strerror)
    if option.kind == "text":
        return clean(decode(raw.split(b"\0")[0]))  # an interface's name may have any byte
    if option.kind == "linger":
        on, seconds = struct.unpack_from("=ii", raw)
        return Linger(bool(on), seconds)
    if option.kind == "time":
        whole, micro = struct.unpack_from("@ll", raw)
        return f"{whole + micro / 1e6:g} s" if whole or micro else "none"
    (number,) = struct.unpack_from("=Q", raw) if option.kind == "wide" else struct.unpack_from("=I", raw)
    return PortRange(number & 0xFFFF, number >> 16) if option.kind == "range" else int(number)


@functools.lru_cache(256)
def _lacking(name: str, why: str | None) -> Missing:
    return Missing(f"{name}: {why}")


@functools.cache
def _syscall() -> Callable[[int, int, int, int], int]:
    """Return syscall(2) of the C library; ctypes is loaded only where a socket is asked."""
    import ctypes

    function = ctypes.CDLL(None, use_errno=True).syscall
    function.restype = ctypes.c_long
    function.argtypes = (ctypes.c_long,) * 4

    def call(number: int, first: int, second: int, third: int) -> int:
        answer = function(number, first, second, third)
        if answer < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return int(answer)

    return call


def duplicate_descriptor(pidfd: int, fd: int) -> int:
    """Return a close-on-exec duplicate of another process's descriptor."""
    return _syscall()(_PIDFD_GETFD, pidfd, fd, 0)


def explain_refusal(error: OSError, pid: int) -> Missing:
    """Translate the refusals we know; any other is raised again."""
    reasons = {
        errno.ESRCH: f"process {pid} is gone",
        errno.EBADF: f"process {pid} has closed the descriptor",
        errno.ENOTSOCK: f"the descriptor of process {pid} is no socket",
        errno.EPERM: f"not permitted to look into process {pid}; run as root (or with CAP_SYS_PTRACE)",
        errno.EACCES: f"not permitted to look into process {pid}; run as root (or with CAP_SYS_PTRACE)",
        errno.ENOSYS: "this kernel has no pidfd_getfd() (Linux 5.6)",
        errno.EINVAL: f"{pid} is no process",
        errno.EMFILE: "our own descriptors are used up",
        errno.ENFILE: "the host's descriptors are used up",
    }
    if error.errno not in reasons:
        raise error
    return Missing(reasons[error.errno])


# What the options of a socket are before any program sets them: asked of a socket of our own.


@replayed
def read_fresh_option(option: Option, *, ipv6: bool = False) -> Reading[OptionValue]:
    """Return an option's value on a TCP socket that was just made; nothing is bound or sent.

    Missing where this kernel does not know the option, or makes no such socket.
    """
    try:
        sock = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        return Missing(f"no {'IPv6' if ipv6 else 'IPv4'} socket can be made here: {error.strerror}")
    with closing(sock):
        return read_option(sock, option)
