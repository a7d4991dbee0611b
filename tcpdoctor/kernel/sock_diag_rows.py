"""Decode one row of a netlink listing into a `Connection` or a `Listener`.

Layouts: struct inet_diag_msg and the INET_DIAG_* attributes, include/uapi/linux/inet_diag.h;
struct tcp_info, include/uapi/linux/tcp.h; SK_MEMINFO_*, include/uapi/linux/sock_diag.h.
"""

import functools
import socket
import struct
from collections.abc import Mapping

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Endpoint, Listener, NotHeld, Owner, SocketMemory, TcpInfo
from tcpdoctor.kernel.sock_diag import ROW
from tcpdoctor.kernel.states import TcpState, Timer

INFO, SKMEMINFO, SKV6ONLY, CGROUP_ID = 2, 7, 11, 21
WITH_INFO = 1 << (INFO - 1)
"""Ask for struct tcp_info."""
WITH_MEMORY = 1 << (SKMEMINFO - 1)
"""Ask for the memory counters, among them the drops of a listener."""

_MESSAGE = struct.Struct("=BBBB2s2s16s16sIIIIIIII")  # from byte 16 of the row, 72 bytes
_ATTRIBUTE = struct.Struct("=HH")
_WORD, _CGROUP = struct.Struct("=I"), struct.Struct("=Q")
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_DROPS = 8 * 4  # SK_MEMINFO_DROPS
_MEMORY = struct.Struct("=II4xIII8xI")
"""SK_MEMINFO_RMEM_ALLOC, RCVBUF, (WMEM_ALLOC), SNDBUF, FWD_ALLOC, WMEM_QUEUED, (OPTMEM, BACKLOG), DROPS."""

_INFO = struct.Struct("=3xBB3xI12xI16xI4xII8xI28xI40xI")
"""tcpi_probes, backoff, rto, unacked, last_data_sent, last_data_recv, last_ack_recv, rtt,
total_retrans and notsent_bytes, the youngest (Linux 4.6)."""
_PER_MILLISECOND, _PER_MICROSECOND = 1e3, 1e6

NOT_LOOKED_UP = Missing("owner was not looked up")
_NOT_HELD = NotHeld()
_STATES = {int(state): state for state in TcpState} | {int(TcpState.CLOSE): TcpState.BOUND}
"""By the number in a row; CLOSE stands for a bound socket (see TcpState.BOUND)."""
_TIMERS = {int(timer): timer for timer in Timer}
_NO_CGROUP = Missing("this kernel does not tell the cgroup of a socket")
_NO_INFO = Missing("this kernel does not describe the connection (tcp_info)")
_NO_DROPS = Missing("this kernel does not tell how many connections a listener dropped")
_NO_MEMORY = Missing("memory of the socket was not asked for, or this kernel does not tell it")
_STUB_INFO = Missing("sockets in TIME_WAIT, SYN_RECV and orphaned FIN_WAIT_2 keep no tcp_info")
_STUB_CGROUP = Missing("sockets in TIME_WAIT, SYN_RECV and orphaned FIN_WAIT_2 keep no cgroup")
_BOUND_INFO = Missing("a socket that is merely bound has no tcp_info")


def decode_row(data: bytes) -> Connection | Listener:
    """Decode one row, from its netlink header to its last attribute.

    Raises:
        KernelReadError: The bytes are no such row.
    """
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
    )  # fmt: skip


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
    if family == socket.AF_INET:
        text = socket.inet_ntop(socket.AF_INET, address[:4])
    elif family == socket.AF_INET6:
        text = socket.inet_ntop(socket.AF_INET6, address)
    else:
        raise KernelReadError(f"sock_diag: unknown address family {family}")
    return Endpoint(text, int.from_bytes(port, "big"))


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
        return _BOUND_INFO if state is TcpState.BOUND else _NO_INFO

    probes, backoff, rto, unacked, sent, received, acked, rtt, retrans, notsent = _INFO.unpack_from(raw)
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
    )
