"""Which local ports of a range are in use, and how: what connect() and bind(0) find."""

import contextlib
import errno
import functools
import os
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.listing import (
    WAYS,
    Way,
    bound_reading,
    first_answer,
    list_rows,
    lists_bound_sockets,
    read_proc_rows,
)
from tcpdoctor.kernel.namespaces import replayed
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Listener
from tcpdoctor.kernel.sock_diag import ROW, DumpRefusedError, Request, Rows
from tcpdoctor.kernel.sock_diag_rows import align
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.tally import LISTED_STATES
from tcpdoctor.kernel.text import clean

_STATE, _FAMILY, _LOCAL_PORT, _LOCAL = 17, 16, 20, 24
"""Offsets in a row: struct inet_diag_msg after the 16 bytes of struct nlmsghdr."""
_DEVICE = 56
"""Where the interface is that the socket is bound to; it is in the machine's byte order."""
_PORT = struct.Struct(">H")
_ADDRESS_BYTES = {int(socket.AF_INET): 4, int(socket.AF_INET6): 16}
_HOLDS_NO_PORT = {int(TcpState.SYN_RECV), int(TcpState.NEW_SYN_RECV)}
_LONGEST_REQUEST = ROW + 8
"""Bytes of the row of a request socket, which has no attribute but the mark; a whole socket has more."""
_ROW_LENGTH = struct.Struct("=I")
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
    perhaps: bool = False
    """Its connection is over: it still holds the port if its process named that in bind(), else not."""


class PortUse(NamedTuple):
    """Who uses the ports of a range; memory grows with ports and local addresses, not with sockets."""

    users: Mapping[int, frozenset[PortUser]]
    """By port; a port that is absent is not in use. Request sockets hold no port."""
    complete: Reading[bool]
    """True, or Missing with the reason why users may be absent."""
    apart: frozenset[int] = frozenset()
    """Ports with sockets of another VRF, which are no users: they have buckets of their own, unless their
    interface came into the VRF when they were bound already."""


@replayed
def read_port_use(
    low: int,
    high: int,
    *,
    interface: int = 0,
    vrfs: Mapping[int, int] = MappingProxyType({}),
    ways: Sequence[Way] = WAYS,
    bound_seconds: float = 1.0,
) -> Reading[PortUse]:
    """Look at every socket whose local port is in [low, high], for a client that is tied to `interface`.

    `vrfs` has the VRF by interface: what is bound to one of another VRF than the client's is told apart.

    Missing, with the reason of each way to list sockets, where none answered. Where sockets that are merely
    bound are in no listing (before Linux 6.8, and through /proc/net/tcp) they are asked for in the processes
    that hold them, for `bound_seconds` of CPU time; what cannot be asked makes `complete` Missing.
    """

    def look(way: Way) -> tuple[_Users, bool]:
        users = _Users(low, high, interface, vrfs)
        if way is Way.PROC:
            for row in read_proc_rows():
                users.add_row(row)
            return users, False
        wanted = _request()._replace(local_ports=(low, high))
        interrupted = list_rows(way, wanted, users.add_rows)
        # Without filter programs it stays open who chose a connected socket's port.
        with contextlib.suppress(DumpRefusedError):
            list_rows(way, wanted._replace(port_chosen=True), users.add_chosen)
        if not users.bound and not lists_bound_sockets():  # one on another port would show that it does
            list_rows(way, Request(1 << TcpState.BOUND), users.add_rows)
        return users, interrupted

    found = first_answer(ways, look)
    if isinstance(found, Missing):
        return found
    users, way, complete = found
    if isinstance(bound_reading(way, users.bound), Missing):
        from tcpdoctor.kernel.unlisted import find_unlisted  # old kernels alone need it

        unlisted = find_unlisted(seconds=bound_seconds)
        for row in unlisted.bound:
            users.add_row(row)
        for row in unlisted.ended:
            users.add_row(row, perhaps=True)
        complete = unlisted.complete if complete is True else complete
    return PortUse(users.by_port(), complete, frozenset(users.apart))


def _request() -> Request:
    return Request(sum(1 << state for state in (*LISTED_STATES, TcpState.BOUND)))


_User: TypeAlias = tuple[int, bytes, bool, bool]
"""Family, address, explicit, perhaps: a `PortUser` as rows tell it."""
_NO_USERS: frozenset[_User] = frozenset()


@functools.cache
def _layout(stride: int) -> struct.Struct:
    """How to take family, state, local port and local address out of a row."""
    return struct.Struct(f">{_FAMILY}xBB2xH2x16s{stride - _LOCAL - 16}x")


class _Users:
    """Users by port. The same few stand behind many ports, so a port has one of few sets that are shared."""

    def __init__(self, low: int, high: int, interface: int, vrfs: Mapping[int, int]) -> None:
        self.bound = 0
        """How many of all sockets are merely bound, whatever their port."""
        self.apart: set[int] = set()
        self._vrfs, self._ours = vrfs, vrfs.get(interface, 0)
        self._low, self._high = low, high
        self._found: dict[int, frozenset[_User]] = {}
        self._larger: dict[tuple[frozenset[_User], _User], frozenset[_User]] = {}
        self._alone: dict[tuple[int, bytes, bool], tuple[_User, frozenset[_User]]] = {}

    def add_rows(self, rows: Rows) -> None:
        self._add(rows, _EXPLICIT)

    def add_chosen(self, rows: Rows) -> None:
        """Add sockets whose processes named their ports; minisockets keep no trace of that."""
        self._add(rows, _ANY_STATE)

    def _add(self, rows: Rows, explicit: frozenset[int]) -> None:
        alike = align(rows)
        column = alike.data[_STATE : alike.end : alike.stride]
        if not self._vrfs and not any(map(column.count, _HOLDS_NO_PORT)):
            self._add_alike(alike, column, explicit)
            return
        data = rows.data
        for at in rows.offsets:
            (port,) = _PORT.unpack_from(data, at + _LOCAL_PORT)
            state = data[at + _STATE]
            self.bound += state == TcpState.CLOSE
            if not self._low <= port <= self._high:
                continue
            if state in _HOLDS_NO_PORT and _ROW_LENGTH.unpack_from(data, at)[0] <= _LONGEST_REQUEST:
                continue
            if self._is_apart(port, int.from_bytes(data[at + _DEVICE : at + _DEVICE + 4], sys.byteorder)):
                continue
            family = data[at + _FAMILY]
            address = bytes(data[at + _LOCAL : at + _LOCAL + _ADDRESS_BYTES[family]])
            self._note_user(port, (family, address, state in explicit, False))

    def _add_alike(self, rows: Rows, column: bytes | bytearray, explicit: frozenset[int]) -> None:
        """Add rows none of which may be that of a request socket: in a fifth of the time."""
        self.bound += column.count(TcpState.CLOSE)
        low, high, found, users = self._low, self._high, self._found, self._alone
        for family, state, port, address in _layout(rows.stride).iter_unpack(
            memoryview(rows.data)[: rows.end]
        ):
            if not low <= port <= high:
                continue
            key = family, address, state in explicit
            if key not in users:
                user = family, address[: _ADDRESS_BYTES[family]], key[2], False
                users[key] = user, frozenset((user,))
            user, alone = users[key]
            if found.setdefault(port, alone) is not alone:
                self._note_user(port, user)

    def add_row(self, row: Connection | Listener, *, perhaps: bool = False) -> None:
        if not self._low <= row.local.port <= self._high or (isinstance(row, Connection) and row.request):
            return
        if self._is_apart(row.local.port, row.device):
            return
        family = socket.AF_INET if row.family == 4 else socket.AF_INET6
        packed = socket.inet_pton(family, row.local.address)
        self._note_user(row.local.port, (int(family), packed, row.state in _EXPLICIT, perhaps))

    def _is_apart(self, port: int, device: int) -> bool:
        """Note the port of a socket that is bound to a device of another VRF."""
        apart = self._vrfs.get(device, 0) != self._ours
        if apart:
            self.apart.add(port)
        return apart

    def _note_user(self, port: int, user: _User) -> None:
        step = self._found.get(port, _NO_USERS), user
        if step not in self._larger:
            self._larger[step] = step[0] | {user}
        self._found[port] = self._larger[step]

    def by_port(self) -> Mapping[int, frozenset[PortUser]]:
        told = {users: frozenset(map(_port_user, users)) for users in set(self._found.values())}
        return {port: told[users] for port, users in self._found.items()}


def _port_user(user: _User) -> PortUser:
    family, address, explicit, perhaps = user
    kind = 4 if family == socket.AF_INET else 6
    return PortUser(kind, socket.inet_ntop(family, address), explicit, perhaps)


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
_RTA_VIA, _RTA_UID, _RTA_IP_PROTO, _RTA_SPORT, _RTA_DPORT = 18, 25, 27, 28, 29
_RTA_TYPE = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_MESSAGE_HEADER = struct.Struct("=IHHII")
_ROUTE_HEADER = struct.Struct("=8BI")
"""struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags."""
_KIND_OF_ROUTE = 7
_RTM_F_FIB_MATCH = 0x2000
"""The entry itself is told, with its own interface, and not the route that is made of it."""
_ROUTE_ATTRIBUTE = struct.Struct("=HH")
_INDEX = struct.Struct("=I")
_ERROR_CODE = struct.Struct("=i")
_SILENCE_SECONDS = 10


class NextHop(NamedTuple):
    """Where packets to another host leave this one."""

    address: str
    """Of the gateway, or of the destination where no gateway is needed."""
    carrier: bool
    """False: the interface is connected to nothing (NO-CARRIER), and its packets are dropped."""
    asks: bool
    """Whether the kernel has to find out the hop's link address first (ARP, neighbour discovery)."""
    neighbour: str
    """What came of that: ``reachable``, ``stale``, ``incomplete``, ``failed``...; empty: not asked yet."""


class Route(NamedTuple):
    """The kernel's answer for one destination."""

    source: str | None
    """The address that connect() would take, or was given; None where the route names none."""
    interface: str | None
    gateway: str | None
    kind: str
    """``unicast``, ``local`` (an address of this host), ``broadcast``, ``multicast``."""
    next_hop: Reading[NextHop] | None = None
    """None: nothing leaves this host, or the interface is not told."""
    protected: bool = False
    """It goes through an association of IPsec, which may be there or not."""


class NoRoute(NamedTuple):
    """connect() would fail before it looks for a port."""

    errno: str
    """``ENETUNREACH``, ``EHOSTUNREACH``, ``EACCES``, ``EINVAL``..."""
    why: str | None = None
    """Why, where it is no route that refuses: bind() to the source address, a missing scope."""
    at_bind: bool = False
    """bind() to the source address answers it already."""


@replayed
def find_route(
    family: int,
    destination: str,
    port: int,
    source: str | None,
    interface: int = 0,
    *,
    source_port: int = 0,
    uid: int | None = None,
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
        source_port: The port that the client binds to first; 0 where the kernel chooses.
        uid: Whose connection it would be; None: the calling user's.

    Returns:
        The route, or the error that connect() answers instead. Missing where the kernel may not be asked.

    Raises:
        KernelReadError: The kernel's answer is no route.
    """
    question = RouteQuestion(
        family,
        destination,
        port,
        source,
        interface,
        source_port,
        os.geteuid() if uid is None else uid,
    )
    try:
        route = ask_route(question)
        if source is None and family == 4 and isinstance(route, Route) and route.source is not None:
            route = ask_route(question._replace(source=route.source))
    except OSError as error:
        return Missing(f"the routing tables may not be asked: {error.strerror or error}")
    if isinstance(route, Route) and route.kind == "unicast" and route.interface is not None:
        return route._replace(next_hop=_read_next_hop(route.interface, route.gateway or destination))
    return route


# The link, struct ifinfomsg, and the neighbour, struct ndmsg: each one message, and the hop is not asked.

_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWNEIGH, _RTM_GETNEIGH, _NDA_DST = 16, 18, 28, 30, 1
_LINK = struct.Struct("=BxHiII")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_IFF_LOOPBACK, _IFF_POINTOPOINT, _IFF_NOARP, _IFF_LOWER_UP = 0x8, 0x10, 0x80, 0x10000
_NEIGHBOUR_STATES = {
    0x01: "incomplete",
    0x02: "reachable",
    0x04: "stale",
    0x08: "delay",
    0x10: "probe",
    0x20: "failed",
    0x40: "noarp",
    0x80: "permanent",
}
"""NUD_* in include/uapi/linux/neighbour.h."""


def _read_next_hop(interface: str, address: str) -> Reading[NextHop]:
    try:
        index = socket.if_nametoindex(interface)
        link = _ask(_RTM_GETLINK, _LINK.pack(0, 0, index, 0, 0))
        flags = _LINK.unpack_from(link, _MESSAGE_HEADER.size)[3] if _is_a(_RTM_NEWLINK, link) else None
        family, packed = _packed(address)
        neighbour = _ask(
            _RTM_GETNEIGH, _NEIGHBOUR.pack(family, index, 0, 0, 0) + _attribute(_NDA_DST, packed)
        )
    except OSError as error:
        return Missing(f"the next hop could not be asked about: {error.strerror or error}")
    if flags is None:
        return Missing(f"the interface {interface} is not there any more")
    known = _is_a(_RTM_NEWNEIGH, neighbour)
    state = _NEIGHBOUR.unpack_from(neighbour, _MESSAGE_HEADER.size)[2] if known else 0
    return NextHop(
        address,
        carrier=bool(flags & _IFF_LOWER_UP),
        asks=not flags & (_IFF_LOOPBACK | _IFF_POINTOPOINT | _IFF_NOARP),
        neighbour=_NEIGHBOUR_STATES.get(state, ""),
    )


def _packed(address: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def _ask(kind: int, body: bytes) -> bytes:
    return _exchange(_MESSAGE_HEADER.pack(16 + len(body), kind, _NLM_F_REQUEST, 1, 0) + body)


def _is_a(kind: int, answer: bytes) -> bool:
    """Whether an answer is what was asked for, and no error: of what is not there ENOENT or ENODEV."""
    return len(answer) > _MESSAGE_HEADER.size and _MESSAGE_HEADER.unpack_from(answer)[1] == kind


@replayed
def interface_of(family: int, address: str) -> int | None:
    """Return the index of the interface that has an address of this host.

    A listener bound to an interface (SO_BINDTODEVICE) takes connections of this host itself only for
    addresses of that interface, although they pass lo (net/ipv4/route.c, ip_route_output_key_hash_rcu()).
    None where the kernel may not be asked, or the address is not this host's.
    """
    question = RouteQuestion(family, address, 0, None, 0, 0, os.geteuid())
    try:
        answer = _exchange(route_message(question, _RTM_F_FIB_MATCH))
    except OSError:
        return None
    _, kind, *_ = _MESSAGE_HEADER.unpack_from(answer)
    if kind != _RTM_NEWROUTE:
        return None
    found = _route_attributes(answer[_MESSAGE_HEADER.size + _ROUTE_HEADER.size :]).get(_RTA_OIF)
    return None if found is None else int(_INDEX.unpack(found)[0])


class RouteQuestion(NamedTuple):
    """The arguments of `find_route`."""

    family: int
    destination: str
    port: int
    source: str | None
    interface: int
    source_port: int
    uid: int


def ask_route(asked: RouteQuestion) -> Route | NoRoute:
    """Ask once, as it stands; errors as `find_route`, and OSError where the kernel may not be asked."""
    return _read_route(_exchange(route_message(asked)), asked.source)


def route_message(asked: RouteQuestion, flags: int = 0) -> bytes:
    """Return the message that asks; flags are those of struct rtmsg."""
    number = socket.AF_INET if asked.family == 4 else socket.AF_INET6
    to = socket.inet_pton(number, asked.destination)
    bits, mine = 8 * len(to), 0
    attributes = [(_RTA_DST, to)]
    if asked.source is not None:
        mine = bits
        attributes.append((_RTA_SRC, socket.inet_pton(number, asked.source)))
    if asked.interface:
        attributes.append((_RTA_OIF, _INDEX.pack(asked.interface)))
    attributes += [(_RTA_UID, _INDEX.pack(asked.uid)), (_RTA_IP_PROTO, bytes((socket.IPPROTO_TCP,)))]
    if asked.source_port:
        attributes.append((_RTA_SPORT, asked.source_port.to_bytes(2, "big")))
    attributes.append((_RTA_DPORT, asked.port.to_bytes(2, "big")))
    body = _ROUTE_HEADER.pack(number, bits, mine, 0, 0, 0, 0, 0, flags)
    body += b"".join(_attribute(kind, value) for kind, value in attributes)
    return _MESSAGE_HEADER.pack(16 + len(body), _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    attribute = _ROUTE_ATTRIBUTE.pack(_ROUTE_ATTRIBUTE.size + len(value), kind) + value
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
        return clean(socket.if_indextoname(index)) if index else None
    except OSError:
        return None  # it went away meanwhile
