"""Which local ports of a range are in use, and how: what connect() and bind(0) find."""

import contextlib
import socket
import struct
from collections.abc import Mapping
from typing import NamedTuple

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
