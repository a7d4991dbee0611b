"""The ways to list sockets, netlink and /proc/net, their order, and when one has failed.

/proc/net is for kernels that answer no netlink listing of TCP, and for UDP always. Of TCP it is two and a
half times as dear as netlink, and it cannot tell accept queue limits, drops, ages, cookies, cgroups, the
interface, nor sockets that are merely bound. Layout: get_tcp4_sock() and its neighbours in
net/ipv4/tcp_ipv4.c and net/ipv6/tcp_ipv6.c. Of UDP netlink would tell no more that matters here, and asking
it loads a module (udp_diag). Layout: udp4_format_sock() in net/ipv4/udp.c and ip6_dgram_sock_seq_show() in
net/ipv6/datagram.c.
"""

import _socket as socket  # what is around it takes 3 ms to import, and is not needed
import functools
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from itertools import compress, islice
from typing import TYPE_CHECKING, TypeVar

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.namespaces import replayed
from tcpdoctor.kernel.reading import INTERRUPTED, THREAD_NET, UNDERWAY, Missing, Reading, joined
from tcpdoctor.kernel.snapshot import Connection, Endpoint, Listener, NotHeld, UdpSocket
from tcpdoctor.kernel.sock_diag import Dump, DumpRefusedError, Request, Rows
from tcpdoctor.kernel.sock_diag_rows import NOT_LOOKED_UP, owner_of
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.kernel.tally import LISTED_STATES, Columns, EstablishedTally, GroupTally, Key, StateTally

if TYPE_CHECKING:
    from io import FileIO

PROC_SOURCE = "/proc/net/tcp"


_BATCH = 512
_TICKS = os.sysconf("SC_CLK_TCK")
_CLOSE = int(TcpState.CLOSE)
_LISTEN = b"%02X" % TcpState.LISTEN
_PROBES = (b"%02X" % Timer.KEEPALIVE, b"%02X" % Timer.PROBE)
_STATES = {b"%02X" % state: state for state in LISTED_STATES}

_NO_SENSE = (ValueError, IndexError, KeyError, OverflowError, struct.error, KernelReadError)
"""What reading a line that is none of this table's can raise."""

_NO_ANSWER = "netlink gave no answer (refused by a sandbox, or no tcp_diag)"
_NO_BOUND_IN_PROC = Missing(f"{_NO_ANSWER}, and {PROC_SOURCE} does not list bound sockets")
_NOT_THERE = Missing(f"{_NO_ANSWER}, and {PROC_SOURCE} does not tell it")


def add_proc_rows(
    states: StateTally,
    groups: GroupTally | None,
    root: str = THREAD_NET,
    *,
    established: EstablishedTally[bytes] | None = None,
) -> None:
    """Count every socket that /proc lists; of those in ESTABLISHED `established` keeps lines.

    Raises:
        OSError: /proc/net/tcp cannot be read.
        KernelReadError: A line is not as expected.
    """
    for name, line_batches in _tables(root):
        for number, lines in line_batches:
            try:
                _add_lines(states, groups, established, lines)
            except _NO_SENSE as error:
                raise KernelReadError(_not_understood(name, number, error)) from None


def read_proc_rows(root: str = THREAD_NET) -> Iterator[Connection | Listener]:
    """Yield every socket that /proc lists, one by one.

    Raises:
        OSError: /proc/net/tcp cannot be read.
        KernelReadError: A line is not as expected.
    """
    for name, line_batches in _tables(root):
        for number, lines in line_batches:
            try:
                rows = [decode_proc_line(line) for line in lines]
            except KernelReadError as error:
                raise KernelReadError(_not_understood(name, number, error)) from None
            yield from rows


def read_listening_ports(root: str = THREAD_NET) -> list[int]:
    """Return the ports that have a listener, sorted.

    The kernel prints listeners before all else (tcp_seq_start()), so that nothing behind them is read.

    Raises:
        OSError: /proc/net/tcp cannot be read.
    """
    ports: set[int] = set()
    for name in ("tcp", "tcp6"):
        if name == "tcp6" and not os.path.exists(f"{root}/{name}"):
            continue
        with open(f"{root}/{name}", "rb") as lines:
            next(lines, None)
            for line in lines:
                row = line.split(None, 4)
                if row[3] != _LISTEN:
                    break
                ports.add(int(row[1][-4:], 16))
    return sorted(ports)


def _tables(root: str) -> Iterator[tuple[str, Iterator[tuple[int, list[bytes]]]]]:
    with open(f"{root}/tcp", "rb") as file:
        yield "tcp", _batches(file)
    if os.path.exists(f"{root}/tcp6"):  # a kernel without IPv6 has no such file
        with open(f"{root}/tcp6", "rb") as file:
            yield "tcp6", _batches(file)


def _not_understood(name: str, number: int, error: Exception) -> str:
    return f"/proc/net/{name} near line {number} is not as Linux writes it ({_what(error)})"


def _what(error: Exception) -> str:
    """What is wrong, for a person; the texts of Python's own complaints tell nobody anything."""
    kinds = {IndexError: "a column is missing", KeyError: "an unknown state", struct.error: "an address"}
    own = (
        str(error) if isinstance(error, KernelReadError) else kinds.get(type(error), "a column is no number")
    )
    return own[:80]


def _batches(file: Iterator[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Lines after the heading, in batches, each with the number of its first line."""
    next(file, None)
    number = 2
    UNDERWAY.begin("sockets read", whole=True)
    while not UNDERWAY.is_interrupted and (lines := list(islice(file, _BATCH))):
        yield number, lines
        number += len(lines)
        UNDERWAY.done += len(lines)


def _add_lines(
    states: StateTally,
    groups: GroupTally | None,
    established: EstablishedTally[bytes] | None,
    lines: list[bytes],
) -> None:
    fields = [line.split(None, 4) for line in lines]
    column = bytes([int(row[3], 16) for row in fields])
    if _CLOSE in column:
        raise KernelReadError("a socket in state CLOSE")
    states.add(column)
    if groups is not None:
        ports = bytes.fromhex("".join([row[1][-4:].decode() for row in fields]))
        groups.add(
            column, ports[0::2], ports[1::2], lambda marked: [_key(row) for row in compress(fields, marked)]
        )
    if established is not None:
        columns = _columns(column, fields)
        if established.waiting:
            columns = columns._replace(inodes=_inodes(fields))
        established.add(columns, lines.__getitem__)


def _columns(states: bytes, fields: list[list[bytes]]) -> Columns:
    """What the fifth field begins with: ``tx_queue:rx_queue tr:tm->when retrnsmt uid timeout``."""
    local = bytes.fromhex("".join([row[1][-4:].decode() for row in fields]))
    remote = bytes.fromhex("".join([row[2][-4:].decode() for row in fields]))
    queues = bytes.fromhex("".join([row[4][:17].replace(b":", b"").decode() for row in fields]))
    timers = bytes.fromhex("".join([row[4][18:20].decode() for row in fields]))
    retries = bytes([min(255, _tries(row[4].split(None, 5))) for row in fields])
    send, receive = (queues[1::8], queues[0::8]), (queues[5::8], queues[4::8])
    ports = local[0::2], local[1::2], remote[0::2], remote[1::2]
    unread = tuple(queues[place::8] for place in range(4, 8))
    return Columns(states, timers, retries, ports, (*receive, *send), unread)


def _inodes(fields: list[list[bytes]]) -> tuple[bytes, ...]:
    every = b"".join([int(row[4].split(None, 6)[5]).to_bytes(8, "big") for row in fields])
    return tuple(every[place::8] for place in range(8))


def _tries(row: list[bytes]) -> int:
    """What netlink tells of a running timer: probes without answer where it probes, else retransmissions.

    The line tells them apart: the former in decimal figures, under the heading ``timeout``.
    """
    return int(row[4]) if row[1][:2] in _PROBES else int(row[2], 16)


def _key(row: list[bytes]) -> Key:
    local, remote = _packed(row[1][:-5]), _packed(row[2][:-5])
    return struct.pack(">H", int(row[2][-4:], 16)) + local.ljust(16, b"\0") + remote


def decode_proc_line(line: bytes) -> Connection | Listener:
    """Decode one line.

    Raises:
        KernelReadError: It is none.
    """
    try:
        return _decoded(line)
    except _NO_SENSE as error:
        raise KernelReadError(_what(error)) from None


def _decoded(line: bytes) -> Connection | Listener:
    row = line.split(None, 10)
    send, _, receive = row[4].partition(b":")
    timer, _, ticks = row[5].partition(b":")
    state, inode, uid = _STATES[row[3]], int(row[9]), int(row[7])
    local = endpoint_of(row[1])
    family = 4 if len(row[1]) == 13 else 6
    owner = NOT_LOOKED_UP if inode else NotHeld()
    if state is TcpState.LISTEN:
        return Listener(
            family, local, 0, 0, inode, uid, int(receive, 16), _NOT_THERE, _NOT_THERE, _NOT_THERE, None, owner
        )
    return Connection(
        state, family, local, endpoint_of(row[2]), 0, 0, inode, uid, Timer(int(timer, 16)),
        int(ticks, 16) / _TICKS, _tries(row[4:9]), int(receive, 16), int(send, 16),
        _NOT_THERE, None, _NOT_THERE, owner,
    )  # fmt: skip


def endpoint_of(text: bytes) -> Endpoint:
    """Decode an address and a port as these tables print them, all hexadecimal."""
    address = _packed(text[:-5])
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return Endpoint(socket.inet_ntop(family, address), int(text[-4:], 16))


def _packed(text: bytes) -> bytes:
    """The address behind its hexadecimal form: 32-bit words, each printed in the host's byte order."""
    if len(text) not in (8, 32):
        raise KernelReadError(f"an address of {len(text)} digits")
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    return struct.pack(f"={len(words)}I", *words)


@replayed
def read_udp_sockets(*, local_port: int = 0, root: str = THREAD_NET) -> Reading[tuple[UdpSocket, ...]]:
    """Read every UDP socket that has a local port, or those on one port.

    Owners are not looked up. Missing where the tables cannot be read; without IPv6 there is one table.
    """
    try:
        return tuple(
            row
            for name in ("udp", "udp6")
            if name == "udp" or os.path.exists(f"{root}/{name}")
            for row in _udp_table(f"{root}/{name}")
            if local_port in (0, row.local.port)
        )
    except OSError as error:
        return Missing(f"{error.filename}: {error.strerror}")


def _udp_table(path: str) -> Iterator[UdpSocket]:
    with open(path, "rb") as lines:
        next(lines, None)
        for number, line in enumerate(lines, 2):
            try:
                yield decode_udp_line(line)
            except (ValueError, IndexError) as error:
                raise KernelReadError(f"{path} line {number}: {error}") from None


def decode_udp_line(line: bytes) -> UdpSocket:
    """Decode one line. Raises ValueError or IndexError if it is none."""
    row = line.split()
    send, _, receive = row[4].partition(b":")
    inode = int(row[9])
    return UdpSocket(
        family=4 if len(row[1]) == 13 else 6,
        local=endpoint_of(row[1]),
        remote=endpoint_of(row[2]),
        inode=inode,
        uid=int(row[7]),
        receive_queue=int(receive, 16),
        send_queue=int(send, 16),
        drops=int(row[12]),
        owner=owner_of(inode),
    )


# Whether this kernel lists sockets that are bound and nothing else.
#
# It learnt to in Linux 6.8 (commit 91051f003948, "tcp: Dump bound-only sockets in inet_diag"). An older
# kernel ignores bit 13 of the state mask and sends no such row: net/ipv4/inet_diag.c compares the mask with
# the state of sockets in its listening and connection tables only, where nothing has that state. So rows
# prove that it knows, and no rows say nothing.
#
# No request tells the two apart without a bound socket, and we make none on somebody's host. The kernel's own
# type information does: it names TCP_BOUND_INACTIVE from that commit on, in whatever release it is. Where it
# is hidden, or the kernel was built without it, nothing tells.
_TYPES = "/sys/kernel/btf/vmlinux"
_NAME = b"\0TCP_BOUND_INACTIVE\0"
_HEADER = struct.Struct("=HxxI8xII")  # struct btf_header: magic, hdr_len, str_off, str_len
_MAGIC = 0xEB9F
_MOST_NAMES = 1 << 26  # bytes
_PIECE = 1 << 16  # bytes; the name is met in the first few


@functools.cache
def lists_bound_sockets() -> bool:
    """Whether no rows mean no bound sockets; False also where it cannot be known."""
    return names_the_state(_TYPES)


def names_the_state(types: str) -> bool:
    """Whether the type information in this file knows the state of bound sockets.

    The file is 5 MB, its names one of them at the end (Documentation/bpf/btf.rst): only they are
    read, and no further than to this one. False also for a kernel without such a file, or one that
    hides it: not known.
    """
    try:
        with open(types, "rb", buffering=0) as file:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return False
            magic, size, start, length = _HEADER.unpack(header)
            if magic != _MAGIC or length > _MOST_NAMES:
                return False
            file.seek(size + start)
            return _is_among(file, length)
    except OSError:
        return False


def _is_among(names: "FileIO", length: int) -> bool:
    """Whether the name is in the next `length` bytes; a piece begins with the end of the one before."""
    end = b""
    while length > 0:
        piece = names.read(min(_PIECE, length))
        if not piece:
            return False
        if _NAME in end + piece:
            return True
        end = piece[-len(_NAME) :]
        length -= len(piece)
    return False


T = TypeVar("T")

_CHANGED = Missing("the kernel's socket tables changed while they were read, again and again")
_NO_BOUND = Missing("this kernel does not list bound sockets")
_UNTOLD = Missing(f"without {_TYPES} nothing tells whether this kernel lists bound sockets")
_LENGTH = struct.Struct("=I")
_BOTH_BIG = 1 << TcpState.ESTABLISHED | 1 << TcpState.TIME_WAIT
"""A listing of these has nearly all sockets."""
_PORTS = slice(20, 22), slice(22, 24)  # of struct inet_diag_sockid in a row, local and remote


class Way(Enum):
    """One way to list sockets."""

    BOTH_FAMILIES = "both families"
    """Both families by one netlink request of the type of before Linux 3.3, TCPDIAG_GETSOCK."""
    BY_FAMILY = "by family"
    """One netlink request of type SOCK_DIAG_BY_FAMILY for IPv4 and one for IPv6."""
    PROC = "proc"
    """/proc/net/tcp and tcp6."""

    @property
    def source(self) -> str:
        """What a report names as the source: ``sock_diag`` or ``/proc/net/tcp``."""
        return PROC_SOURCE if self is Way.PROC else "sock_diag"


WAYS = tuple(Way)
"""In the order in which they are tried."""


def first_answer(
    ways: Sequence[Way], look: Callable[[Way], tuple[T, bool]]
) -> tuple[T, Way, Reading[bool]] | Missing:
    """The answer of the first way that has one, which way it was, and whether it is complete.

    `look` returns its answer and whether the listing was interrupted. A listing that breaks off, makes
    no sense or was interrupted is asked for once more from the beginning, and what it gave so
    far is thrown away. One that was interrupted again is the answer where no other way has a
    complete one. Missing, with the reason of each way, where none answers. Where somebody ends it, what was
    read by then is the answer (see `underway`).
    """
    reasons: dict[str, None] = {}
    interrupted: tuple[T, Way, Reading[bool]] | None = None
    for way in ways:
        for _ in range(2):
            if UNDERWAY.is_interrupted:
                return INTERRUPTED
            try:
                answer, changed = look(way)
            except DumpRefusedError as error:
                reasons[str(error)] = None
                break
            except KernelReadError as error:
                reasons[str(error)] = None
            except OSError as error:
                reasons[f"{error.filename}: {error.strerror}"] = None
                break
            else:
                if UNDERWAY.is_interrupted:
                    return answer, way, INTERRUPTED
                if not changed:
                    return answer, way, True
                interrupted = interrupted or (answer, way, _CHANGED)
    return interrupted or Missing(joined(reasons))


def list_rows(way: Way, request: Request, take: Callable[[Rows], None]) -> bool:
    """Give all rows to `take` through netlink; True if the listing was interrupted.

    Raises:
        DumpRefusedError: The kernel does not answer this way.
        KernelReadError: The listing broke off or makes no sense.
    """
    listing = Listing(way, request)
    for rows in listing:
        take(rows)
    return listing.interrupted


class Listing:
    """All rows through netlink, by one or two dumps; iterating it asks the kernel, once. As `list_rows`."""

    def __init__(self, way: Way, request: Request) -> None:
        self.interrupted = False
        """Whether the kernel's tables changed under it, as far as it got."""
        self._way, self._request = way, request

    def __iter__(self) -> Iterator[Rows]:
        if self._way is Way.BOTH_FAMILIES:
            yield from self._dump(self._request)
            return
        yield from self._dump(self._request._replace(family=socket.AF_INET))
        try:
            yield from self._dump(self._request._replace(family=socket.AF_INET6))
        except DumpRefusedError:
            if os.path.exists(f"{THREAD_NET}/tcp6"):
                raise  # else it is a kernel without IPv6

    def _dump(self, request: Request) -> Iterator[Rows]:
        """One request; where the kernel refuses the filter program, the same without it."""
        dump = Dump(request)
        ports = request.local_port or request.remote_port or request.local_ports
        UNDERWAY.begin("sockets read", whole=not ports and not _BOTH_BIG & ~request.states)
        try:
            for rows in dump:
                yield rows
                UNDERWAY.done += rows.number
                if UNDERWAY.is_interrupted:
                    break
        except DumpRefusedError:
            if not request.filtered or not ports or request.port_chosen:
                raise
            yield from self._dump(request._replace(filtered=False))
            return
        self.interrupted |= dump.interrupted


def each_row(rows: Rows, request: Request) -> Iterable[tuple[int, int]]:
    """Beginning and end of each row on the ports asked for: a kernel may have sent others too."""
    offsets, stride = offsets_on_ports(rows, request), rows.stride
    if stride:
        return [(at, at + stride) for at in offsets]
    return [(at, at + _LENGTH.unpack_from(rows.data, at)[0]) for at in offsets]


def offsets_on_ports(rows: Rows, request: Request) -> Sequence[int]:
    """Where the rows on the ports asked for begin."""
    data, offsets = rows.data, rows.offsets
    for place, port in zip(_PORTS, (request.local_port, request.remote_port), strict=True):
        if not port:
            continue
        name = port.to_bytes(2, "big")
        if rows.stride and all(
            data[at : rows.end : rows.stride].count(byte) == len(offsets)
            for at, byte in zip((place.start, place.start + 1), name, strict=True)
        ):
            continue  # the kernel filters, so nearly always
        offsets = [at for at in offsets if data[at + place.start : at + place.stop] == name]
    return offsets


def bound_reading(way: Way, found: int) -> Reading[int]:
    """How many bound sockets there are, given how many rows said so."""
    if way is Way.PROC:
        return _NO_BOUND_IN_PROC
    return found if found or lists_bound_sockets() else _why_none()


@replayed
def why_not_listed(state: TcpState) -> Missing:  # noqa: ARG001 - a recording may lack any
    """Say why a listing that was asked for a state has none, not even as a number of 0."""
    return why_bound_not_listed()


def why_bound_not_listed() -> Missing:
    """Say why a listing that was asked for bound sockets has none, not even as a number of 0."""
    return _NO_BOUND_IN_PROC if lists_bound_sockets() else _why_none()


def _why_none() -> Missing:
    return _NO_BOUND if os.access(_TYPES, os.R_OK) else _UNTOLD
