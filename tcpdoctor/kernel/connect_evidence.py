"""Which local ports of a range are in use, and how: what connect() and bind(0) find."""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

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
_NEWER_ATTRIBUTES = (
    ("RTA_PAD", "none"),
    ("RTA_UID", "uint32"),
    ("RTA_TTL_PROPAGATE", "uint8"),
    ("RTA_IP_PROTO", "uint8"),
    ("RTA_SPORT", "be16"),
    ("RTA_DPORT", "be16"),
)
"""Of the same header, behind those that pyroute2 has."""
_NLMSG_ERROR, _RTM_NEWROUTE, _RTM_GETROUTE, _NLM_F_REQUEST = 2, 24, 26, 1
_KIND, _FAILURE = struct.Struct("=4xH"), struct.Struct("=16xi")
_SILENCE_SECONDS = 10
_BITS = {4: 32, 6: 128}


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
    message = _message(None)
    message["family"] = socket.AF_INET if family == 4 else socket.AF_INET6
    message["dst_len"] = _BITS[family]
    message["src_len"] = _BITS[family] if source is not None else 0
    attributes = {
        "RTA_DST": destination,
        "RTA_SRC": source,
        "RTA_OIF": interface or None,
        "RTA_UID": os.geteuid(),
        "RTA_IP_PROTO": int(socket.IPPROTO_TCP),
        "RTA_DPORT": port,
    }
    message["attrs"] = [(name, value) for name, value in attributes.items() if value is not None]
    message["header"].update(type=_RTM_GETROUTE, flags=_NLM_F_REQUEST, sequence_number=1)
    message.encode()
    return _read(_exchange(bytes(message.data)), source)


def _message(data: bytes | None) -> Any:
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    class RouteMessage(rtmsg):  # type: ignore[misc]  # pyroute2 ships no types
        nla_map = (*rtmsg.nla_map, *_NEWER_ATTRIBUTES)

    return RouteMessage() if data is None else RouteMessage(data)


def _exchange(question: bytes) -> bytes:
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    ) as sock:
        sock.settimeout(_SILENCE_SECONDS)
        sock.connect((0, 0))
        sock.send(question)
        return sock.recv(1 << 16)


def _read(answer: bytes, source: str | None) -> Route | NoRoute:
    if len(answer) < _FAILURE.size:
        raise KernelReadError(f"rtnetlink: an answer of {len(answer)} bytes")
    (kind,) = _KIND.unpack_from(answer)
    if kind == _NLMSG_ERROR:
        (code,) = _FAILURE.unpack_from(answer)
        return NoRoute(errno.errorcode.get(-code, str(-code)))
    if kind != _RTM_NEWROUTE:
        raise KernelReadError(f"rtnetlink: an answer of unknown type {kind}")
    route = _message(answer)
    route.decode()
    via = route.get_attr("RTA_VIA")  # an IPv4 route by way of an IPv6 neighbour
    return Route(
        source=source or route.get_attr("RTA_PREFSRC"),
        interface=_name(route.get_attr("RTA_OIF")),
        gateway=via["addr"] if via else route.get_attr("RTA_GATEWAY"),
        kind=_KINDS.get(route["type"], str(route["type"])),
    )


def _name(index: int | None) -> str | None:
    try:
        return socket.if_indextoname(index) if index else None
    except OSError:
        return None  # it went away meanwhile
