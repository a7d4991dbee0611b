"""Decode one row of a netlink listing into a `Connection` or a `Listener`.

Layouts: struct inet_diag_msg and the INET_DIAG_* attributes, include/uapi/linux/inet_diag.h;
struct tcp_info, include/uapi/linux/tcp.h; SK_MEMINFO_*, include/uapi/linux/sock_diag.h.
"""

import _socket as socket  # what is around it takes 3 ms to import, and is not needed
import errno
import functools
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import chain, compress
from operator import itemgetter
from typing import Any, TypeAlias

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import (
    Connection,
    Endpoint,
    Listener,
    NotHeld,
    Owner,
    SocketMemory,
    TcpBytes,
    TcpInfo,
)
from tcpdoctor.kernel.sock_diag import HEAD, ROW, DumpRefusedError, Rows, answer_error, open_netlink, receive
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.kernel.tally import (
    Column,
    Columns,
    EstablishedTally,
    GroupTally,
    Key,
    KeysWhere,
    StateTally,
    both,
)
from tcpdoctor.named_tuples import NamedTuple

INFO, SKMEMINFO, SKV6ONLY, MD5SIG, ULP_INFO, CGROUP_ID = 2, 7, 11, 18, 19, 21
WITH_INFO = 1 << (INFO - 1)
"""Ask for struct tcp_info."""
WITH_MEMORY = 1 << (SKMEMINFO - 1)
"""Ask for the memory counters, among them the drops of a listener."""

_MESSAGE = struct.Struct("=BBBB2s2s16s16sIIIIIIII")  # from byte 16 of the row, 72 bytes
_ATTRIBUTE = struct.Struct("=HH")
_MD5_KEY = struct.Struct("=BBH16s80x")
"""struct tcp_diag_md5sig: family, length of the prefix, length of the key, address. The key is skipped."""
_WORD, _CGROUP = struct.Struct("=I"), struct.Struct("=Q")
_MPTCP = b"mptcp\0"  # INET_ULP_INFO_NAME inside INET_DIAG_ULP_INFO
_MESSAGE_LAYOUT, _MESSAGE_FIELDS = "=16xBBBB2s2s16s16sIIIIIIII", 16
"""The same with all that is before it."""
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_DROPS = 8 * 4  # SK_MEMINFO_DROPS
_MEMORY = struct.Struct("=II4xIII8xI")
"""SK_MEMINFO_RMEM_ALLOC, RCVBUF, (WMEM_ALLOC), SNDBUF, FWD_ALLOC, WMEM_QUEUED, (OPTMEM, BACKLOG), DROPS."""

_INFO = struct.Struct("=3xBB3xI4xI4xII12xI4xII8xI28xI40xI")
"""tcpi_probes, backoff, rto, unacked, last_data_sent, last_data_recv, last_ack_recv, rtt,
total_retrans and notsent_bytes, the youngest (Linux 4.6)."""
_BYTES = struct.Struct("=QQ64xQQ")
"""From byte 120 of tcp_info: tcpi_bytes_acked, bytes_received, bytes_sent and bytes_retrans (Linux 4.19)."""
_BYTES_AT = 120
_PLANNED = {
    INFO: ("3xBB3xI4xI4xII12xI4xII8xI28xI16xQQ8xI52xQQ", 16),  # `_BYTES` lies within and behind `_INFO`
    CGROUP_ID: ("Q", 1),
    SKV6ONLY: ("B", 1),
}
"""What is taken at once of an attribute, and how many numbers that is."""
_PER_MILLISECOND, _PER_MICROSECOND = 1e3, 1e6

NOT_LOOKED_UP = Missing("owner was not looked up")
_NOT_HELD = NotHeld()
_STATES = {int(state): state for state in TcpState} | {int(TcpState.CLOSE): TcpState.BOUND}
"""By the number in a row; CLOSE stands for a bound socket (see TcpState.BOUND)."""
_TIMERS = {int(timer): timer for timer in Timer}
_NO_CGROUP = Missing("this kernel does not tell the cgroup of a socket")
_NO_INFO = Missing("this kernel does not describe the connection (tcp_info)")
_NO_BYTES = Missing("this kernel does not count the bytes of a connection (Linux 4.19)")
_NO_DROPS = Missing("this kernel does not tell how many connections a listener dropped")
_NO_MEMORY = Missing("memory of the socket was not asked for, or this kernel does not tell it")
_STUB_INFO = Missing("sockets in TIME_WAIT, SYN_RECV and orphaned FIN_WAIT_2 keep no tcp_info")
_STUB_CGROUP = Missing("sockets in TIME_WAIT, SYN_RECV and orphaned FIN_WAIT_2 keep no cgroup")
BOUND_INFO = Missing("a socket that is merely bound has no tcp_info")


def decode_row(data: bytes, owner: Owner | None = None) -> Connection | Listener:
    """Decode one row, from its netlink header to its last attribute; with its owner where that is known.

    Raises:
        KernelReadError: The bytes are no such row.
    """
    plan = _PLANS.get(len(data))
    if plan is not None:
        at_once = _decode_by_plan(plan, data, owner)
        if at_once is not None:
            return at_once
    row = decode_step_by_step(data)
    if len(data) not in _PLANS and len(_PLANS) < _MOST_PLANS and isinstance(row, Connection):
        _PLANS[len(data)] = _plan_of(data)
    return row if owner is None else row._replace(owner=owner)


def inode_of(data: bytes | bytearray) -> int:
    """Return the inode of a row's socket; 0: no file refers to it."""
    return int.from_bytes(data[_INODE : _INODE + 4], "little")


def decode_step_by_step(data: bytes) -> Connection | Listener:
    """As `decode_row`, whatever other rows look like."""
    if len(data) < ROW:
        raise KernelReadError(f"sock_diag: a socket in {len(data)} bytes instead of {ROW}")
    fields = _MESSAGE.unpack_from(data, 16)
    family, number, timer, retransmits, local_port, remote_port, source, target = fields[:8]
    device, cookie_low, cookie_high, expires, receive, send, uid, inode = fields[8:]
    state = _state(number)
    attributes = _attributes(data)
    local = _endpoint(family, source, local_port)
    kind = 4 if family == socket.AF_INET else 6
    cookie = cookie_low | cookie_high << 32
    v6only = bool(attributes[SKV6ONLY][0]) if attributes.get(SKV6ONLY) else None
    if state is TcpState.LISTEN:
        return Listener(
            kind, local, device, cookie, inode, uid,
            accept_queue=receive, accept_limit=send, drops=_drops(attributes),
            cgroup=_cgroup(attributes), v6only=v6only, owner=owner_of(inode),
        )  # fmt: skip
    stub = timer == Timer.TIME_WAIT or (state is TcpState.SYN_RECV and CGROUP_ID not in attributes)
    return Connection(
        state, kind, local, _endpoint(family, target, remote_port), device, cookie, inode, uid,
        _timer(timer), expires / _PER_MILLISECOND, retransmits, receive, send,
        _STUB_CGROUP if stub else _cgroup(attributes), v6only,
        _STUB_INFO if stub else _info(state, attributes), owner_of(inode), _memory(attributes),
        _MPTCP in attributes.get(ULP_INFO, b""),
    )  # fmt: skip


# Nearly all rows have one of a few layouts. Of each length the first row is decoded step by step, and tells
# where all the others are taken apart at once, in half the time; one that has other attributes after all is
# decoded step by step as well.


class _Plan(NamedTuple):
    """Where everything lies in rows of one length, by its place among what is unpacked."""

    unpack: Callable[[bytes], tuple[Any, ...]]
    """The message, and of each attribute its header and what is wanted of it."""
    headers: Callable[[tuple[Any, ...]], tuple[int, ...]]
    expected: tuple[int, ...]
    info: int
    cgroup: int
    v6only: int
    """0: these rows do not tell it."""


_PLANS: dict[int, _Plan | None] = {}
"""By the length of a row; None where there is no plan."""
_MOST_PLANS = 64
_PLANNED_STATES = {number: state for number, state in _STATES.items() if state is not TcpState.LISTEN}
_PLANNED_TIMERS = {number: timer for number, timer in _TIMERS.items() if timer is not Timer.TIME_WAIT}


def _plan_of(data: bytes) -> _Plan | None:
    """Make a plan from a row; None where it lacks what nearly all connections have, or has what few have."""
    layout, count, at = _MESSAGE_LAYOUT, _MESSAGE_FIELDS, ROW
    headers, expected, places = [], [], dict.fromkeys(_PLANNED, 0)
    while at + _ATTRIBUTE.size <= len(data):
        (header,), (length, kind) = _WORD.unpack_from(data, at), _ATTRIBUTE.unpack_from(data, at)
        kind &= _TYPE_MASK
        inside, number = _PLANNED.get(kind, ("", 0))
        left = min(len(data) - at, (length + 3) & ~3) - _ATTRIBUTE.size - struct.calcsize("=" + inside)
        if left < 0 or kind in (SKMEMINFO, ULP_INFO) or places.get(kind):
            return None
        headers.append(count)
        expected.append(header)
        if number:
            places[kind] = count + 1
        layout += f"I{inside}{left}x"
        count += 1 + number
        at += (length + 3) & ~3
    if not (places[INFO] and places[CGROUP_ID]):
        return None
    unpack = struct.Struct(f"{layout}{max(0, len(data) - at)}x").unpack
    return _Plan(
        unpack, itemgetter(*headers), tuple(expected), places[INFO], places[CGROUP_ID], places[SKV6ONLY]
    )


_new = tuple.__new__  # takes a third of the time that the constructor of a record does


def _decode_by_plan(plan: _Plan, data: bytes, owner: Owner | None) -> Connection | None:
    """Decode a row at once; None where it is not one of those that the plan is for."""
    known = plan.unpack(data)
    if plan.headers(known) != plan.expected:
        return None
    family, number, timer, retransmits, local_port, remote_port, source, target = known[:8]
    device, cookie_low, cookie_high, expires, receive, send, uid, inode = known[8:_MESSAGE_FIELDS]
    state, running = _PLANNED_STATES.get(number), _PLANNED_TIMERS.get(timer)
    if state is None or running is None:
        return None
    if owner is None:
        owner = NOT_LOOKED_UP if inode else _NOT_HELD
    first = plan.info
    probes, backoff, rto, mss, unacked, sacked, sent, received, acked, rtt = known[first : first + 10]
    retrans, bytes_acked, bytes_received, notsent, bytes_sent, bytes_again = known[first + 10 : first + 16]
    info = _new(TcpInfo, (
        rto / _PER_MICROSECOND, rtt / _PER_MICROSECOND, backoff, probes, retrans, unacked, notsent,
        sent / _PER_MILLISECOND, received / _PER_MILLISECOND, acked / _PER_MILLISECOND,
        _new(TcpBytes, (bytes_acked, bytes_received, bytes_sent, bytes_again)), mss, sacked,
    ))  # fmt: skip
    return _new(Connection, (
        state, 4 if family == socket.AF_INET else 6,
        _endpoint(family, source, local_port), _endpoint(family, target, remote_port),
        device, cookie_low | cookie_high << 32, inode, uid,
        running, expires / _PER_MILLISECOND, retransmits, receive, send,
        known[plan.cgroup], bool(known[plan.v6only]) if plan.v6only else None,
        info, owner, _NO_MEMORY, False,
    ))  # fmt: skip


def find_attribute(data: bytes, wanted: int) -> int | None:
    """Where the content of an attribute begins in a row; None where the row has none of that kind."""
    at, end = ROW, len(data)
    while at + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if not _ATTRIBUTE.size <= length <= end - at:
            return None
        if kind & _TYPE_MASK == wanted:
            return at + _ATTRIBUTE.size
        at += (length + 3) & ~3
    return None


def signers_of(data: bytes) -> tuple[str, ...]:
    """The networks, as ``10.0.0.0/8``, whose segments a socket takes with a TCP-MD5 signature only.

    The kernel tells them to CAP_NET_ADMIN alone, where tcp_info was asked for; else there are none.
    """
    keys = _attributes(data).get(MD5SIG, b"")
    whole = keys[: len(keys) - len(keys) % _MD5_KEY.size]
    return tuple(
        f"{socket.inet_ntop(family, address[: 4 if family == socket.AF_INET else 16])}/{prefix}"
        for family, prefix, _, address in _MD5_KEY.iter_unpack(whole)
    )


def cgroup_of(data: bytes) -> Reading[int]:
    """The control group that made the socket that a row is about."""
    place = find_attribute(data, CGROUP_ID)
    if place is None or len(data) < place + _CGROUP.size:
        return _NO_CGROUP
    return int.from_bytes(data[place : place + _CGROUP.size], "little")


def owner_of(inode: int) -> Owner:
    """What the row alone says about the owner: without an inode nobody can hold it."""
    return NOT_LOOKED_UP if inode else _NOT_HELD


def _state(number: int) -> TcpState:
    state = _STATES.get(number)
    if state is None:
        raise KernelReadError(f"sock_diag: unknown TCP state {number}")
    return state


def _timer(number: int) -> Timer:
    timer = _TIMERS.get(number)
    if timer is None:
        raise KernelReadError(f"sock_diag: unknown timer {number}")
    return timer


@functools.lru_cache(4096)  # one side of most connections is one of few, and then takes no memory
def _endpoint(family: int, address: bytes, port: bytes) -> Endpoint:
    return Endpoint(address_of(family, address), int.from_bytes(port, "big"))


@functools.lru_cache(4096)
def address_of(family: int, address: bytes) -> str:
    """Return the address in a row as text.

    Raises:
        KernelReadError: It is neither IPv4 nor IPv6.
    """
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, address[:4])
    if family == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, address)
    raise KernelReadError(f"sock_diag: unknown address family {family}")


def _attributes(data: bytes) -> dict[int, bytes]:
    attributes: dict[int, bytes] = {}
    at, end = ROW, len(data)
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if not 4 <= length <= end - at:
            raise KernelReadError(f"sock_diag: attribute of {length} bytes, {end - at} are left")
        attributes[kind & _TYPE_MASK] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return attributes


def _cgroup(attributes: Mapping[int, bytes]) -> Reading[int]:
    raw = attributes.get(CGROUP_ID, b"")
    if len(raw) < _CGROUP.size:
        return _NO_CGROUP
    (number,) = _CGROUP.unpack_from(raw)
    return int(number)


def _drops(attributes: Mapping[int, bytes]) -> Reading[int]:
    raw = attributes.get(SKMEMINFO, b"")
    if len(raw) < _DROPS + _WORD.size:
        return _NO_DROPS
    (number,) = _WORD.unpack_from(raw, _DROPS)
    return int(number)


def _memory(attributes: Mapping[int, bytes]) -> Reading[SocketMemory]:
    raw = attributes.get(SKMEMINFO, b"")
    if len(raw) < _MEMORY.size:
        return _NO_MEMORY
    received, receive_limit, send_limit, reserved, sent, drops = _MEMORY.unpack_from(raw)
    return SocketMemory(received, receive_limit, sent, send_limit, reserved, drops)


def _info(state: TcpState, attributes: Mapping[int, bytes]) -> Reading[TcpInfo]:
    raw = attributes.get(INFO, b"")
    if len(raw) < _INFO.size:
        return BOUND_INFO if state is TcpState.BOUND else _NO_INFO

    probes, backoff, rto, mss, unacked, sacked, *times, rtt, retrans, notsent = _INFO.unpack_from(raw)
    sent, received, acked = times
    return TcpInfo(
        rto=rto / _PER_MICROSECOND,
        rtt=rtt / _PER_MICROSECOND,
        backoff=backoff,
        probes=probes,
        total_retrans=retrans,
        unacked=unacked,
        notsent=notsent,
        last_data_sent=sent / _PER_MILLISECOND,
        last_data_recv=received / _PER_MILLISECOND,
        last_ack_recv=acked / _PER_MILLISECOND,
        bytes=_bytes(raw),
        mss=mss,
        sacked=sacked,
    )


def _bytes(info: bytes) -> Reading[TcpBytes]:
    if len(info) < _BYTES_AT + _BYTES.size:
        return _NO_BYTES
    return TcpBytes._make(_BYTES.unpack_from(info, _BYTES_AT))


# Take whole columns out of a netlink datagram: little is done once per socket.
#
# A datagram's rows mostly have one length, so that the n-th byte of every row is one strided slice, and
# counting is `bytes.count`. Where lengths mix (TIME_WAIT has no attributes, an IPv6 listener one more)
# their beginnings have been found one by one, and what is needed of each row is copied into rows of one
# length, at 0.15 us a socket in all; that is less than a second listing costs, which besides would miss or
# count twice what moves in between.


_FAMILY, _STATE, _TIMER, _RETRIES, _LOCAL_PORT, _REMOTE_PORT = 16, 17, 18, 19, 20, 22
_RECEIVE_QUEUE, _SEND_QUEUE, _INODE = 72, 76, 84
"""Offsets in a row: struct inet_diag_msg after the 16 bytes of struct nlmsghdr."""
_BYTE_2, _BYTE_3 = (2, 3) if sys.byteorder == "little" else (1, 0)
"""Where the bytes worth 65,536 and 16,777,216 lie in a word."""
_AT_ONCE = 32
_KEY_BYTES = {int(socket.AF_INET): 22, int(socket.AF_INET6): 34}
_IS_OF = {family: bytes(number == family for number in range(256)) for family in _KEY_BYTES}


def add_states(tally: StateTally, rows: Rows) -> None:
    """Count the rows by state.

    Raises:
        KernelReadError: A state that was not asked for.
    """
    rows = align(rows)
    tally.add(rows.data[_STATE : rows.end : rows.stride])


def add_groups(states: StateTally, groups: GroupTally, rows: Rows) -> None:
    """Count the rows by state, by local port and by destination.

    Raises:
        KernelReadError: A state that was not asked for, or neither IPv4 nor IPv6.
    """
    data, end, stride, *_ = rows = align(rows)
    families, column = data[_FAMILY:end:stride], data[_STATE:end:stride]
    if sum(map(families.count, _KEY_BYTES)) != len(families):
        raise KernelReadError("sock_diag: a socket that is neither IPv4 nor IPv6")
    states.add(column)
    high, low = data[_LOCAL_PORT:end:stride], data[_LOCAL_PORT + 1 : end : stride]
    groups.add(column, high, low, _keys(rows, families))


def add_established(tally: EstablishedTally[bytes], rows: Rows) -> None:
    """Count the rows in ESTABLISHED by timer, and keep those worth a second look."""
    aligned = align(rows)
    data, end, stride, *_ = aligned

    def column(place: int) -> Column:
        return data[place:end:stride]

    def row_at(place: int) -> bytes:
        at = place * stride
        return bytes(data[at : at + HEAD])

    tally.add(
        Columns(
            column(_STATE),
            column(_TIMER),
            column(_RETRIES),
            (column(_LOCAL_PORT), column(_LOCAL_PORT + 1), column(_REMOTE_PORT), column(_REMOTE_PORT + 1)),
            (
                column(_RECEIVE_QUEUE + _BYTE_2),
                column(_RECEIVE_QUEUE + _BYTE_3),
                column(_SEND_QUEUE + _BYTE_2),
                column(_SEND_QUEUE + _BYTE_3),
            ),
            tuple(column(_RECEIVE_QUEUE + place) for place in range(4)),
            tuple(column(_INODE + place) for place in range(4)) if tally.waiting else (),
        ),
        row_at,
    )


def align(rows: Rows) -> Rows:
    """The same rows with one length, if need be cut to their heads; done twice it costs nothing more."""
    if rows.stride:
        return rows
    heads = rows.heads or b"".join([rows.data[at : at + HEAD] for at in rows.offsets])
    return Rows(heads, len(heads), HEAD)


def _keys(rows: Rows, families: Column) -> KeysWhere:
    unpacked: dict[int, tuple[Key, ...]] = {}

    def keys_where(marked: bytes) -> Iterable[Key]:
        parts = []
        for family, size in _KEY_BYTES.items():
            count = families.count(family)
            if count:
                alike = count == len(families)
                mine = marked if alike else both(marked, families.translate(_IS_OF[family]))
                if size not in unpacked:
                    unpacked[size] = tuple(_unpack(rows, size))
                parts.append(compress(unpacked[size], mine))
        return parts[0] if len(parts) == 1 else chain.from_iterable(parts)

    return keys_where


def _unpack(rows: Rows, size: int) -> Iterable[Key]:
    """The key of every row, as if all were of the family whose keys have this size."""
    one, many = _key_layouts(rows.stride, size)
    data, end = memoryview(rows.data), rows.end
    tail = end - end % many.size
    return chain.from_iterable(chain(many.iter_unpack(data[:tail]), one.iter_unpack(data[tail:end])))


@functools.cache
def _key_layouts(stride: int, size: int) -> tuple[struct.Struct, struct.Struct]:
    """How to take the key out of one row, and out of many rows: that takes a fifth of the time for each."""
    layout = f"{_REMOTE_PORT}x{size}s{stride - _REMOTE_PORT - size}x"
    return struct.Struct(layout), struct.Struct(layout * _AT_ONCE)


# Ask the kernel about single sockets, each by its ends and its cookie, without listing any other.
#
# A request without NLM_F_DUMP makes inet_diag look the connection up in its hash table (tcp_diag_dump_one()
# in net/ipv4/tcp_diag.c): some microseconds, however many sockets there are. The cookie proves that the
# answer is about the very socket that was listed, and not about a later one between the same ends.


_SOCK_DIAG_BY_FAMILY, _NLMSG_ERROR = 20, 2
_NLM_F_REQUEST = 0x1
_ID = slice(20, 68)  # struct inet_diag_sockid in a row
_FAMILY_BYTE = 16
_REQUEST = struct.Struct("=IHHIIBBBxI48s")
_LENGTH, _KIND = struct.Struct("=I"), struct.Struct("=H")
_UID_AND_INODE, _UID_AT = struct.Struct("=II"), 80
_EVERY_STATE = 0xFFFFFFFF
_GONE = (errno.ENOENT, errno.ESTALE)
"""No such connection; or another one between the same ends."""


SocketName: TypeAlias = tuple[int, bytes]
"""Address family, and struct inet_diag_sockid: both ends, interface and cookie of one socket."""


def name_of(row: bytes) -> SocketName:
    """The name of the socket that a row is about; it does not change while the socket lives."""
    return row[_FAMILY_BYTE], row[_ID]


def inode_and_uid(row: bytes) -> tuple[int, int]:
    """The inode (0: no file refers to it) and the user of the socket that a row is about."""
    uid, inode = _UID_AND_INODE.unpack_from(row, _UID_AT)
    return inode, uid


def name_from(connection: Connection) -> SocketName:
    """The same from a row that was decoded."""
    family = socket.AF_INET if connection.family == 4 else socket.AF_INET6
    local, remote = (
        socket.inet_pton(family, end.address).ljust(16, b"\0")
        for end in (connection.local, connection.remote)
    )
    ports = struct.pack(">HH", connection.local.port, connection.remote.port)
    rest = struct.pack("=IQ", connection.device, connection.cookie)
    return int(family), ports + local + remote + rest


def ask_again(names: Iterable[SocketName], extensions: int) -> Iterator[bytes]:
    """Yield the rows of these sockets as they are at this moment, with `extensions`.

    Sockets that are gone are left out. A socket in another state by now is not: the caller looks.

    Raises:
        DumpRefusedError: The kernel, or a sandbox, does not answer such requests.
        KernelReadError: An answer makes no sense.
    """
    buffer = bytearray(1 << 16)
    with closing(open_netlink()) as sock:
        for family, name in names:
            sock.send(
                _REQUEST.pack(
                    _REQUEST.size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0,
                    family, socket.IPPROTO_TCP, extensions, _EVERY_STATE, name,
                )
            )  # fmt: skip
            end = receive(sock, buffer)
            answer = _answer(buffer, end)
            if answer is not None:
                yield answer


def _answer(buffer: bytearray, end: int) -> bytes | None:
    if end < 20:
        raise KernelReadError(f"sock_diag: an answer of {end} bytes about a single socket")
    (length,), (kind,) = _LENGTH.unpack_from(buffer), _KIND.unpack_from(buffer, 4)
    if kind == _NLMSG_ERROR:
        error = answer_error(buffer)
        if error in _GONE:
            return None
        raise DumpRefusedError(f"sock_diag: a single socket: {errno.errorcode.get(error, error)}")
    if kind != _SOCK_DIAG_BY_FAMILY or not ROW <= length <= end:
        raise KernelReadError(f"sock_diag: a message of type {kind} and {length} bytes about a single socket")
    return bytes(buffer[:length])
