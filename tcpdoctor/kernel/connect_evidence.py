"""Which local ports of a range are in use, and how: what connect() and bind(0) find."""

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Mapping
from typing import NamedTuple

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel import procnet
from tcpdoctor.kernel.listing import WAYS, Way, first_answer, list_rows
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Listener
from tcpdoctor.kernel.sock_diag import DumpRefusedError, Request, Rows
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.tally import LISTED_STATES

_STATE, _FAMILY, _LOCAL_PORT, _LOCAL = 17, 16, 20, 24
"""Offsets in a row: struct inet_diag_msg after the 16 bytes of struct nlmsghdr."""
_PORT = struct.Struct(">H")
_ADDRESS_BYTES = {int(socket.AF_INET): 4, int(socket.AF_INET6): 16}
_HOLDS_NO_PORT = {int(TcpState.SYN_RECV), int(TcpState.NEW_SYN_RECV)}
_EXPLICIT = frozenset({int(TcpState.LISTEN), int(TcpState.CLOSE), int(TcpState.BOUND)})
_ANY_STATE = frozenset(map(int, TcpState))


class PortUser(NamedTuple):
    """Sockets on one port that are alike."""

    family: int
    """4 or 6."""
    address: str
    """Local address, numeric."""
    explicit: bool
    """Its process named the port in bind() (listeners and bound sockets always did): never shared."""


class PortUse(NamedTuple):
    """Who uses the ports of a range; memory grows with ports and local addresses, not with sockets."""

    users: Mapping[int, frozenset[PortUser]]
    """By port; a port that is absent is not in use. Request sockets hold no port."""
    complete: Reading[bool]
    """True, or Missing with the reason why users may be absent."""


def read_port_use(low: int, high: int) -> Reading[PortUse]:
    """Look at every socket whose local port is in [low, high].

    Missing, with the reason of each way to list sockets, where none answered. Through /proc/net/tcp, and
    before Linux 6.8, sockets that are merely bound cannot be seen: `complete` says so.
    """

    def look(way: Way) -> tuple[_Users, bool]:
        users = _Users(low, high)
        if way is Way.PROC:
            for row in procnet.read_rows():
                users.add_row(row)
            return users, False
        interrupted = list_rows(way, _request(), users.add_rows)
        # Without filter programs it stays open who chose a connected socket's port.
        with contextlib.suppress(DumpRefusedError):
            list_rows(way, _request()._replace(port_chosen=True), users.add_chosen)
        return users, interrupted

    found = first_answer(WAYS, look)
    if isinstance(found, Missing):
        return found
    users, way, complete = found
    if complete is True and way is Way.PROC:
        complete = procnet.NO_BOUND
    return PortUse({port: frozenset(on_port) for port, on_port in users.by_port().items()}, complete)


def _request() -> Request:
    return Request(sum(1 << state for state in (*LISTED_STATES, TcpState.BOUND)))


class _Users:
    """Users by port, kept as bytes until the end: the same few stand behind many sockets."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high
        self._found: dict[int, set[tuple[int, bytes, bool]]] = {}

    def add_rows(self, rows: Rows) -> None:
        self._add(rows, _EXPLICIT)

    def add_chosen(self, rows: Rows) -> None:
        """Add sockets whose processes named their ports; minisockets keep no trace of that."""
        self._add(rows, _ANY_STATE)

    def _add(self, rows: Rows, explicit: frozenset[int]) -> None:
        data, found = rows.data, self._found
        for at in rows.offsets:
            (port,) = _PORT.unpack_from(data, at + _LOCAL_PORT)
            state = data[at + _STATE]
            if not self._low <= port <= self._high or state in _HOLDS_NO_PORT:
                continue
            family = data[at + _FAMILY]
            address = bytes(data[at + _LOCAL : at + _LOCAL + _ADDRESS_BYTES[family]])
            found.setdefault(port, set()).add((family, address, state in explicit))

    def add_row(self, row: Connection | Listener) -> None:
        state = TcpState.LISTEN if isinstance(row, Listener) else row.state
        if not self._low <= row.local.port <= self._high or state in _HOLDS_NO_PORT:
            return
        family = socket.AF_INET if row.family == 4 else socket.AF_INET6
        packed = socket.inet_pton(family, row.local.address)
        self._found.setdefault(row.local.port, set()).add((family, packed, state in _EXPLICIT))

    def by_port(self) -> Mapping[int, set[PortUser]]:
        return {
            port: {
                PortUser(4 if family == socket.AF_INET else 6, socket.inet_ntop(family, address), explicit)
                for family, address, explicit in users
            }
            for port, users in self._found.items()
        }


# Which way the kernel would send packets to an address, and from which source address.
#
# The question is one message of rtnetlink, some sixty bytes: struct nlmsghdr, struct rtmsg and attributes
# (include/uapi/linux/rtnetlink.h, man 7 rtnetlink).


_KINDS = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
}
"""RTN_* in include/uapi/linux/rtnetlink.h."""
_NLMSG_ERROR, _RTM_NEWROUTE, _RTM_GETROUTE, _NLM_F_REQUEST = 2, 24, 26, 1
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC = 1, 2, 4, 5, 7
_RTA_VIA, _RTA_UID, _RTA_IP_PROTO, _RTA_DPORT = 18, 25, 27, 29
_RTA_TYPE = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_MESSAGE_HEADER = struct.Struct("=IHHII")
_ROUTE_HEADER = struct.Struct("=8BI")
"""struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags."""
_KIND_OF_ROUTE = 7
_ROUTE_ATTRIBUTE = struct.Struct("=HH")
_INDEX = struct.Struct("=I")
_ERROR_CODE = struct.Struct("=i")
_SILENCE_SECONDS = 10


class Route(NamedTuple):
    """The kernel's answer for one destination."""

    source: str | None
    """The address that connect() would take, or was given; None where the route names none."""
    interface: str | None
    gateway: str | None
    kind: str
    """``unicast``, ``local`` (an address of this host), ``broadcast``, ``multicast``."""


class NoRoute(NamedTuple):
    """connect() would fail before it looks for a port."""

    errno: str
    """``ENETUNREACH``, ``EHOSTUNREACH``, ``EACCES``, ``EINVAL``..."""
    why: str | None = None
    """Why, where it is no route that refuses: bind() to the source address, a missing scope."""
    at_bind: bool = False
    """bind() to the source address answers it already."""


def find_route(
    family: int, destination: str, port: int, source: str | None, interface: int = 0
) -> Reading[Route | NoRoute]:
    """Ask the kernel's routing tables, as ``ip route get`` does; no packet is sent.

    The question is that of a TCP connection of the calling user, so that rules of policy routing about
    ports, protocols and users count. An IPv4 connect() that chooses its source address asks a second time
    with that address (ip_route_connect() in include/net/route.h), and rules about sources may then refuse.

    Args:
        family: 4 or 6.
        destination: Numeric address, without a scope.
        port: The destination's.
        source: Local address that the client binds to first; None where the kernel chooses.
        interface: Index of the interface that the socket is tied to, as the scope of a link-local
            address does; 0 for none.

    Returns:
        The route, or the error that connect() answers instead. Missing where the kernel may not be asked.

    Raises:
        KernelReadError: The kernel's answer is no route.
    """
    try:
        route = _ask(family, destination, port, source, interface)
        if source is None and family == 4 and isinstance(route, Route) and route.source is not None:
            route = _ask(family, destination, port, route.source, interface)
    except OSError as error:
        return Missing(f"the routing tables may not be asked: {error.strerror or error}")
    return route


def _ask(family: int, destination: str, port: int, source: str | None, interface: int) -> Route | NoRoute:
    return _read_route(_exchange(route_question(family, destination, port, source, interface)), source)


def route_question(family: int, destination: str, port: int, source: str | None, interface: int) -> bytes:
    """Return the message that asks; arguments as `find_route`."""
    number = socket.AF_INET if family == 4 else socket.AF_INET6
    to = socket.inet_pton(number, destination)
    bits, mine = 8 * len(to), 0
    attributes = [(_RTA_DST, to)]
    if source is not None:
        mine = bits
        attributes.append((_RTA_SRC, socket.inet_pton(number, source)))
    if interface:
        attributes.append((_RTA_OIF, _INDEX.pack(interface)))
    attributes += [
        (_RTA_UID, _INDEX.pack(os.geteuid())),
        (_RTA_IP_PROTO, bytes((socket.IPPROTO_TCP,))),
        (_RTA_DPORT, port.to_bytes(2, "big")),
    ]
    body = _ROUTE_HEADER.pack(number, bits, mine, 0, 0, 0, 0, 0, 0) + b"".join(
        _padded(_ROUTE_ATTRIBUTE.pack(_ROUTE_ATTRIBUTE.size + len(value), kind) + value)
        for kind, value in attributes
    )
    return _MESSAGE_HEADER.pack(16 + len(body), _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0) + body


def _padded(attribute: bytes) -> bytes:
    return attribute.ljust((len(attribute) + 3) & ~3, b"\0")


def _exchange(question: bytes) -> bytes:
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    ) as sock:
        sock.settimeout(_SILENCE_SECONDS)
        sock.connect((0, 0))
        sock.send(question)
        return sock.recv(1 << 16)


def _read_route(answer: bytes, source: str | None) -> Route | NoRoute:
    if len(answer) < _MESSAGE_HEADER.size + _ERROR_CODE.size:
        raise KernelReadError(f"rtnetlink: an answer of {len(answer)} bytes")
    length, kind, *_ = _MESSAGE_HEADER.unpack_from(answer)
    if kind == _NLMSG_ERROR:
        (code,) = _ERROR_CODE.unpack_from(answer, _MESSAGE_HEADER.size)
        return NoRoute(errno.errorcode.get(-code, str(-code)))
    first = _MESSAGE_HEADER.size + _ROUTE_HEADER.size
    if kind != _RTM_NEWROUTE or not first <= length <= len(answer):
        raise KernelReadError(f"rtnetlink: an answer of type {kind} and {length} bytes")
    family, *_ = header = _ROUTE_HEADER.unpack_from(answer, _MESSAGE_HEADER.size)
    attributes = _route_attributes(answer[first:length])
    index = attributes.get(_RTA_OIF)
    return Route(
        source=source or _address_in(family, attributes.get(_RTA_PREFSRC)),
        interface=None if index is None else _name(_INDEX.unpack(index)[0]),
        gateway=_gateway(family, attributes),
        kind=_KINDS.get(header[_KIND_OF_ROUTE], str(header[_KIND_OF_ROUTE])),
    )


def _route_attributes(data: bytes) -> Mapping[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + _ROUTE_ATTRIBUTE.size <= len(data):
        length, kind = _ROUTE_ATTRIBUTE.unpack_from(data, at)
        if not _ROUTE_ATTRIBUTE.size <= length <= len(data) - at:
            raise KernelReadError(f"rtnetlink: attribute of {length} bytes, {len(data) - at} are left")
        found[kind & _RTA_TYPE] = data[at + _ROUTE_ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def _gateway(family: int, attributes: Mapping[int, bytes]) -> str | None:
    """The next hop; an IPv4 route may go by way of an IPv6 neighbour (struct rtvia: family, address)."""
    via = attributes.get(_RTA_VIA)
    if via is not None:
        return _address_in(int.from_bytes(via[:2], sys.byteorder), via[2:])
    return _address_in(family, attributes.get(_RTA_GATEWAY))


def _address_in(family: int, packed: bytes | None) -> str | None:
    return None if packed is None else socket.inet_ntop(family, packed)


def _name(index: int) -> str | None:
    try:
        return socket.if_indextoname(index) if index else None
    except OSError:
        return None  # it went away meanwhile
