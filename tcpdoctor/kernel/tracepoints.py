"""What the kernel tells of TCP sockets as it happens: its tracepoints, and how an event of each is read.

Neither the numbers of tracepoints nor the places of their fields are fixed: both, and the names of the
reasons for a reset, are read from the files ``id`` and ``format`` of tracefs. Where tracefs is not mounted it
is mounted on a descriptor alone (fsmount(2)): no other process sees it, and it is gone with the descriptor.

The last numbers of a socket are no tracepoint's: one message for each, as it is freed, is sent to who has
joined the groups SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY of sock_diag
(include/uapi/linux/sock_diag.h), with tcp_info as it was in the end. That takes no privilege. Minisockets
(TIME_WAIT) are no sockets and have no message; sockets that were never connected have one as well.
"""

import _socket as socket  # what is around it takes 3 ms to import, and is not needed
import contextlib
import errno
import os
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias

from tcpdoctor.kernel.reading import Missing, Reading, Refused, read_kernel_file
from tcpdoctor.kernel.snapshot import MAPPED
from tcpdoctor.kernel.text import is_whole
from tcpdoctor.named_tuples import NamedTuple

if TYPE_CHECKING:
    import ctypes

STATE, DESTROYED = "sock/inet_sock_set_state", "tcp/tcp_destroy_sock"
RESET_SENT, RESET_RECEIVED = "tcp/tcp_send_reset", "tcp/tcp_receive_reset"
RETRANSMITTED, ERROR = "tcp/tcp_retransmit_skb", "sock/inet_sk_error_report"
NEEDED = (STATE, DESTROYED)
"""Without these nothing is told."""
OTHERS = (RESET_SENT, RESET_RECEIVED, RETRANSMITTED, ERROR)

MOUNTED = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # the same on every machine (Linux 5.2)
_CREATE, _CLOSE_ON_EXEC = 6, 1

_IN_INTERRUPT = 0x08 | 0x10
"""Of common_flags: a hard or soft interrupt, which runs on whatever task was there."""
_TCP = 6
_ADDRESS = 16
_SOCKADDR = 28
_FAMILY_4, _FAMILY_6 = 2, 10


class StateChange(NamedTuple):
    """A socket went from one state to another."""

    at: int
    """Nanoseconds of CLOCK_MONOTONIC, as in every event."""
    socket: int
    """The kernel's address of it, which another socket may have later."""
    old: int
    """Numbers of `tcpdoctor.kernel.states.TcpState`."""
    new: int
    local: bytes
    """Sixteen bytes; IPv4 as ::ffff:a.b.c.d."""
    local_port: int
    """0 in the event that leads to SYN_SENT: the port is chosen after it."""
    remote: bytes
    remote_port: int
    pid: int
    """The process that did it; 0 where it happened in an interrupt."""
    thread: int


class ResetSent(NamedTuple):
    """This host sent a reset."""

    at: int
    socket: int
    """0 where no socket did."""
    reason: str
    """As the kernel calls it: ``TCP_ABORT_ON_CLOSE``; empty where it does not say."""
    ends: tuple[bytes, int, bytes, int] | None
    """Local and remote address and port; None where the kernel does not say."""


class ResetReceived(NamedTuple):
    """A peer's reset ended a socket's connection."""

    at: int
    socket: int


class Retransmitted(NamedTuple):
    """A segment was sent once more."""

    at: int
    socket: int


class Destroyed(NamedTuple):
    """A socket is no longer one of TCP's; what is left of it goes soon."""

    at: int
    socket: int
    cookie: int
    pid: int
    """The process that closed it; 0 where it happened in an interrupt."""
    disconnected: bool
    """Whether tcp_disconnect() cleared its peer: SO_LINGER 0, or a connect() that failed."""


class ErrorReported(NamedTuple):
    """A socket's program gets an error."""

    at: int
    number: int
    """The errno."""
    ends: tuple[bytes, int, bytes, int]


SocketEvent: TypeAlias = StateChange | ResetSent | ResetReceived | Retransmitted | Destroyed | ErrorReported
Decoder: TypeAlias = Callable[[bytes, int, int, int, int], SocketEvent | None]
"""Makes an event of the bytes at a place, the time, the process and the thread; None: not of TCP."""


class Tracepoint(NamedTuple):
    """One tracepoint of the running kernel."""

    number: int
    decode: Decoder
    filter: str
    """What the kernel itself leaves out; empty: nothing."""


class Tracepoints(NamedTuple):
    """Those that the running kernel has."""

    found: Mapping[str, Tracepoint]
    absent: tuple[str, ...]
    """Of `OTHERS`, those that it has not."""
    tells_reasons: bool
    """Whether an event says why a reset was sent (Linux 6.10)."""


def read_tracepoints(port: int | None = None) -> Reading[Tracepoints]:
    """Read which tracepoints there are, and how each is read.

    Args:
        port: Only events of sockets with this port at either end, as far as the kernel can filter.

    Returns:
        Missing where tracefs is not to be had, or lacks one of `NEEDED`.
    """
    with _opened() as folder:
        if isinstance(folder, Missing):
            return folder
        found: dict[str, Tracepoint] = {}
        tells_reasons = False
        for name in (*NEEDED, *OTHERS):
            try:
                number = _read(folder, f"{name}/id").strip()
                text = _read(folder, f"{name}/format")
            except OSError as error:
                if error.errno == errno.ENOENT:
                    continue
                return Refused(f"tracepoints: {_remedy(error)}")
            fields = parse_format(text)
            decode = _decoder(name, fields, text)
            if decode is not None and is_whole(number):
                found[name] = Tracepoint(int(number), decode, _filter(name, fields, port))
                tells_reasons |= name == RESET_SENT and "reason" in fields
    lacking = [name for name in NEEDED if name not in found]
    if lacking:
        return Missing(f"this kernel has no tracepoint {', '.join(lacking).replace('/', ':')}")
    return Tracepoints(found, tuple(name for name in OTHERS if name not in found), tells_reasons)


@contextmanager
def _opened() -> Iterator[int | Missing]:
    """Yield the folder of all events, open: of a mounted tracefs, else of one that is mounted nowhere."""
    descriptor: int | Missing = Missing("tracefs is not mounted")
    for path in MOUNTED:
        with suppress(OSError):
            descriptor = os.open(f"{path}/events", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            break
    else:
        descriptor = _mount_nowhere()
    try:
        yield descriptor
    finally:
        if isinstance(descriptor, int):
            os.close(descriptor)


def _mount_nowhere() -> int | Missing:
    import ctypes  # only where tracefs is not mounted

    libc = ctypes.CDLL(None, use_errno=True)
    opened: list[int] = []
    try:
        opened.append(_call(libc, _FSOPEN, b"tracefs", _CLOSE_ON_EXEC))
        _call(libc, _FSCONFIG, opened[0], _CREATE, None, None, 0)
        opened.append(_call(libc, _FSMOUNT, opened[0], _CLOSE_ON_EXEC, 0))
        return os.open("events", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=opened[1])
    except OSError as error:
        return Refused(f"tracepoints: {_remedy(error)}")
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _call(libc: "ctypes.CDLL", number: int, *arguments: object) -> int:
    import ctypes

    answer = int(libc.syscall(number, *arguments))
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer


def _remedy(error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        who = "run as root" if os.geteuid() else "run as root of the host, not of a container"
        return f"reading tracefs is not allowed here; {who}, or with CAP_SYS_ADMIN"
    if error.errno == errno.ENODEV:
        return "this kernel is built without tracefs"
    return f"tracefs: {(error.strerror or str(error)).lower()}"


def _read(folder: int, name: str) -> str:
    return read_kernel_file(f"/proc/self/fd/{folder}/{name}").decode("ascii", "replace")


_FIELD = re.compile(r"^\s*field:[^;]*?(\w+)(?:\[\w*\])?;\s*offset:(\d+);\s*size:(\d+);", re.MULTILINE)
_REASON = re.compile(r'\{\s*(\d+),\s*"(\w+)"\s*\}')


def parse_format(text: str) -> Mapping[str, tuple[int, int]]:
    """Return place and size in bytes of each field of a file ``format``."""
    return {name: (int(at), int(size)) for name, at, size in _FIELD.findall(text)}


def parse_reasons(text: str) -> Mapping[int, str]:
    """Return the names of the reasons for a reset, as the last lines of a file ``format`` give them."""
    _, _, listed = text.partition("__print_symbolic(REC->reason,")
    return {int(number): name for number, name in _REASON.findall(listed)}


def _layout(fields: Mapping[str, tuple[int, int]], wanted: Mapping[str, str]) -> struct.Struct | None:
    """Return a struct of these fields, in the order in which they lie; None where one is not as expected."""
    code, at = "=", 0
    for name, kind in wanted.items():
        place, size = fields.get(name, (-1, 0))
        if place < at or size != struct.calcsize(f"={kind}"):
            return None
        code += f"{place - at}x{kind}"
        at = place + size
    return struct.Struct(code)


_PORTS = {"sport": "H", "dport": "H"}
_ENDS = {"saddr_v6": "16s", "daddr_v6": "16s"}


def _decoder(name: str, fields: Mapping[str, tuple[int, int]], text: str) -> Decoder | None:
    """Return what reads one tracepoint's events; None where its fields are not those that we know."""
    make = {
        STATE: _decode_state,
        DESTROYED: _decode_destroyed,
        RESET_SENT: _decode_reset_sent,
        ERROR: _decode_error,
    }.get(name)
    if make is not None:
        return make(fields, text)
    layout = _layout(fields, {"skaddr": "Q"})
    if layout is None:
        return None
    unpack, kind = layout.unpack_from, ResetReceived if name == RESET_RECEIVED else Retransmitted
    return lambda data, at, time, pid, thread: kind(time, unpack(data, at)[0])  # noqa: ARG005


def _decode_state(fields: Mapping[str, tuple[int, int]], _text: str) -> Decoder | None:
    wanted = {"common_flags": "B", "skaddr": "Q", "oldstate": "i", "newstate": "i"}
    layout = _layout(fields, {**wanted, **_PORTS, "protocol": "H", **_ENDS})
    if layout is None:
        return None
    unpack = layout.unpack_from

    def decode(data: bytes, at: int, time: int, pid: int, thread: int) -> StateChange | None:
        flags, socket, old, new, sport, dport, protocol, local, remote = unpack(data, at)
        if protocol != _TCP:
            return None
        if flags & _IN_INTERRUPT:
            pid = 0
        return StateChange(time, socket, old, new, local, sport, remote, dport, pid, thread)

    return decode


def _decode_destroyed(fields: Mapping[str, tuple[int, int]], _text: str) -> Decoder | None:
    layout = _layout(fields, {"common_flags": "B", "skaddr": "Q", "dport": "H", "sock_cookie": "Q"})
    if layout is None:
        return None
    unpack = layout.unpack_from

    def decode(data: bytes, at: int, time: int, pid: int, _thread: int) -> Destroyed:
        flags, socket, dport, cookie = unpack(data, at)
        return Destroyed(time, socket, cookie, 0 if flags & _IN_INTERRUPT else pid, not dport)

    return decode


def _decode_reset_sent(fields: Mapping[str, tuple[int, int]], text: str) -> Decoder | None:
    has_reason = fields.get("reason", (0, 0))[1] == 4
    whole = fields.get("saddr", (0, 0))[1] == fields.get("daddr", (0, 0))[1] == _SOCKADDR
    wanted = {"skaddr": "Q", **({"reason": "I"} if has_reason else {})}
    places = {"saddr": f"{_SOCKADDR}s", "daddr": f"{_SOCKADDR}s"} if whole else {**_PORTS, **_ENDS}
    layout = _layout(fields, {**wanted, **places}) or _layout(fields, wanted)
    if layout is None:
        return None
    unpack, reasons = layout.unpack_from, parse_reasons(text) if has_reason else {}
    first = len(wanted)

    def decode(data: bytes, at: int, time: int, _pid: int, _thread: int) -> ResetSent:
        values = unpack(data, at)
        told = values[first:]
        ends: tuple[bytes, int, bytes, int] | None = None
        if len(told) == 4:
            ends = told[2], told[0], told[3], told[1]
        elif told:
            ends = _both_ends(*told)
        reason = reasons.get(values[1], "") if has_reason else ""
        return ResetSent(time, values[0], reason, ends)

    return decode


def _both_ends(local: bytes, remote: bytes) -> tuple[bytes, int, bytes, int] | None:
    one, other = _end(local), _end(remote)
    return (*one, *other) if one and other else None


def _end(sockaddr: bytes) -> tuple[bytes, int] | None:
    """Address and port of a struct sockaddr_in or sockaddr_in6."""
    family = int.from_bytes(sockaddr[:2], "little")
    port = int.from_bytes(sockaddr[2:4], "big")
    if family == _FAMILY_4:
        return MAPPED + sockaddr[4:8], port
    return (sockaddr[8 : 8 + _ADDRESS], port) if family == _FAMILY_6 else None


def _decode_error(fields: Mapping[str, tuple[int, int]], _text: str) -> Decoder | None:
    layout = _layout(fields, {"error": "i", **_PORTS, "protocol": "H", **_ENDS})
    if layout is None:
        return None
    unpack = layout.unpack_from

    def decode(data: bytes, at: int, time: int, _pid: int, _thread: int) -> ErrorReported | None:
        number, sport, dport, protocol, local, remote = unpack(data, at)
        return ErrorReported(time, number, (local, sport, remote, dport)) if protocol == _TCP else None

    return decode


def _filter(name: str, fields: Mapping[str, tuple[int, int]], port: int | None) -> str:
    """What the kernel is asked for: TCP, and one port, which may be cleared in a socket that is destroyed."""
    parts = [f"protocol=={_TCP}"] if "protocol" in fields else []
    if port is not None and {"sport", "dport"} <= fields.keys() and name != RESET_SENT:
        gone = "||dport==0" if name == DESTROYED else ""
        parts.append(f"(sport=={port}||dport=={port}{gone})")
    return "&&".join(parts)


# The last that the kernel tells of each TCP socket of this network namespace.


_NETLINK_SOCK_DIAG = 4
_GROUPS = 1 << 0 | 1 << 2
"""SKNLGRP_INET_TCP_DESTROY is group 1, SKNLGRP_INET6_TCP_DESTROY group 3."""
_SO_RCVBUFFORCE = 33
_ROOM = 8 << 20
"""Bytes that are asked for; the kernel gives twice as many."""
_BUFFER = 1 << 16
_SOCK_DIAG_BY_FAMILY, _TCPDIAG_GETSOCK = 20, 18

_MESSAGE = struct.Struct("=IHH8xB3x2s2s16s16s4xQ4xI4xI4x")
"""Length and type; family, ports, addresses, cookie, receive queue, uid: to the end of inet_diag_msg."""
_ATTRIBUTE = struct.Struct("=HH")
_INFO = 2
_TIMES = struct.Struct("=I4xI12xI28xI")
"""From byte 44 of tcp_info: last_data_sent, last_data_recv (ms), rtt (us), total_retrans."""
_TIMES_AT = 44
_BYTES = struct.Struct("=Q64x2Q")
"""From byte 128: bytes_received, bytes_sent, bytes_retrans (Linux 4.19)."""
_BYTES_AT = 128


class LastNumbers(NamedTuple):
    """What a socket's numbers were in the end."""

    cookie: int
    local: bytes
    """Sixteen bytes; IPv4 as ::ffff:a.b.c.d."""
    local_port: int
    remote: bytes
    remote_port: int
    """0 where it had no peer any more, or never one: tcp_disconnect() clears that, and all numbers."""
    uid: int
    unread: int
    """Bytes that nobody read, and one for a FIN that nobody read."""
    received: int
    """Bytes, and one for a FIN."""
    sent: int
    """Bytes, each counted once."""
    rtt: float
    """Seconds."""
    retransmissions: int
    sent_before: float
    """Seconds since data was sent last, when the message was made."""
    received_before: float


class DestroyedSockets:
    """A place where the messages arrive."""

    def __init__(self, sock: socket.socket) -> None:
        self.overruns = 0
        """How often messages found no room: of some sockets nothing was told."""
        self._sock = sock
        self._buffer = bytearray(_BUFFER)
        self.room = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    def read(self) -> Iterator[LastNumbers]:
        """Give what has arrived; it waits for nothing."""
        buffer, sock = self._buffer, self._sock
        while True:
            try:
                length, sender = sock.recvfrom_into(buffer)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
                continue
            if sender[0] == 0:  # the kernel
                yield from decode_messages(buffer, length)

    def close(self) -> None:
        """Leave the groups."""
        self._sock.close()


def open_destroyed() -> Reading[DestroyedSockets]:
    """Join the groups in the calling thread's network namespace; Missing where the kernel does not let us."""
    sock = None
    try:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        sock = socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG)
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
        except OSError:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM)  # rmem_max bounds it
        sock.bind((0, _GROUPS))
    except OSError as error:
        if sock is not None:
            sock.close()
        why = (error.strerror or os.strerror(error.errno or 0)).lower()
        return Refused(f"the kernel does not tell of sockets that end (sock_diag): {why}")
    return DestroyedSockets(sock)


def decode_messages(buffer: bytes | bytearray, length: int) -> Iterator[LastNumbers]:
    """Give the sockets of one datagram; what is no whole message of a socket ends it."""
    at = 0
    while at + _MESSAGE.size <= length:
        size, kind, _, family, sport, dport, local, remote, cookie, unread, uid = _MESSAGE.unpack_from(
            buffer, at
        )
        if not _MESSAGE.size <= size <= length - at:
            return
        if kind in (_SOCK_DIAG_BY_FAMILY, _TCPDIAG_GETSOCK):
            place = _find_info(buffer, at + _MESSAGE.size, at + size)
            if place:
                sent_before, received_before, rtt, again = _TIMES.unpack_from(buffer, place + _TIMES_AT)
                received, sent, twice = _BYTES.unpack_from(buffer, place + _BYTES_AT)
                if family == _FAMILY_4:
                    local, remote = MAPPED + local[:4], MAPPED + remote[:4]
                yield LastNumbers(
                    *(cookie, local, int.from_bytes(sport, "big"), remote, int.from_bytes(dport, "big")),
                    *(uid, unread, received, max(0, sent - twice), rtt / 1e6, again),
                    *(sent_before / 1e3, received_before / 1e3),
                )
        at += (size + 3) & ~3


def _find_info(buffer: bytes | bytearray, at: int, end: int) -> int:
    """The place of tcp_info; 0 where there is none, or an old one without the bytes sent."""
    while at + _ATTRIBUTE.size <= end:
        size, kind = _ATTRIBUTE.unpack_from(buffer, at)
        if not _ATTRIBUTE.size <= size <= end - at:
            return 0
        if kind == _INFO:
            whole = size - _ATTRIBUTE.size >= _BYTES_AT + _BYTES.size
            return at + _ATTRIBUTE.size if whole else 0
        at += (size + 3) & ~3
    return 0
