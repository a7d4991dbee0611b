"""What passed between the two ends of each connection of a lesson, and in which states that left them.

Segments come from a ring of packet(7) that is mapped into memory, so that nobody has to wake up for them
while the story plays. States follow from the segments by RFC 9293; where a look at the kernel's own
sockets is at hand, what it says of a connection is its last word.
"""

import mmap
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tcpdoctor.kernel.addresses import LocalAddresses, read_local_addresses
from tcpdoctor.kernel.listing import read_proc_rows
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Connection, Endpoint, Listener
from tcpdoctor.kernel.states import TcpState

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

CLOSED, LISTEN = "CLOSED", "LISTEN"
ELSEWHERE = "elsewhere"
"""The state of an end that is in another network namespace: it is not looked for."""
_ESTABLISHED, _SYN_SENT, _SYN_RECV = "ESTABLISHED", "SYN_SENT", "SYN_RECV"
_FIN_WAIT_1, _FIN_WAIT_2, _CLOSING, _TIME_WAIT = "FIN_WAIT_1", "FIN_WAIT_2", "CLOSING", "TIME_WAIT"
_CLOSE_WAIT, _LAST_ACK = "CLOSE_WAIT", "LAST_ACK"


class Segment(NamedTuple):
    """One TCP segment on its way."""

    source: Endpoint
    destination: Endpoint
    flags: int
    sequence: int
    acknowledged: int
    window: int
    """As it stands in the header, not scaled."""
    data: int
    """Bytes."""


class Heard(NamedTuple):
    """The segments since the last time, in their order."""

    segments: tuple[Segment, ...]
    complete: bool
    """Whether the ring had room for all of them."""


class Passed(NamedTuple):
    """Segments of one kind in a row, and the state of each end behind them."""

    what: str
    """``SYN``, ``FIN``, ``data`` ...; empty: nothing passed, the kernel says the states."""
    by_client: bool
    number: int
    data: int
    """Bytes, in all."""
    client: str
    server: str


class Pair(NamedTuple):
    """Both ends of a connection, what passed between them since the last scene, and how many are like it."""

    client: Endpoint
    server: Endpoint
    before: tuple[str, str]
    """The client's state and the server's before the first of `passed`."""
    passed: tuple[Passed, ...]
    """Empty where so much passed that what was heard does not explain the states."""
    states: tuple[str, str]
    """As the kernel says at the scene; ``CLOSED`` where it has no such socket, or ``elsewhere``."""
    alike: int
    """Connections in these states, with this one."""
    others: tuple[tuple[str, str, int], ...]
    """The states of the client and the server of further connections, and how many there are."""


# The ring: struct tpacket_req, struct tpacket2_hdr and struct sockaddr_ll of linux/if_packet.h.


_SOL_PACKET, _PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION, _TPACKET_V2 = 263, 5, 6, 10, 1
_ETH_P_ALL = 3
_FRAME, _BLOCK, _FRAMES = 256, 1 << 16, 1 << 14
_STATUS_USER = 1
_HEADER = struct.Struct("=IIIHH")
_LINK = struct.Struct("=HHiHBB")
_LINK_AT = 32
_OUTGOING = 4
_SO_ATTACH_FILTER = 26
_TCP_ONLY = (
    (0x30, 0, 0, 0),  # ldb [0]
    (0x54, 0, 0, 0xF0),  # and #0xf0
    (0x15, 0, 2, 0x40),  # jeq #0x40: IPv4
    (0x30, 0, 0, 9),  # ldb [9]
    (0x15, 3, 4, 6),  # jeq #6: TCP
    (0x15, 0, 3, 0x60),  # jeq #0x60: IPv6
    (0x30, 0, 0, 6),  # ldb [6]
    (0x15, 0, 1, 6),  # jeq #6: TCP
    (0x06, 0, 0, 128),  # ret #128: bytes that are kept
    (0x06, 0, 0, 0),  # ret #0
)
"""Opcodes of linux/bpf_common.h; offsets are those of the network header."""


class Listening:
    """Every TCP segment of this network namespace from here on. Needs CAP_NET_RAW in it."""

    def __init__(self) -> None:
        """Begin.

        Raises:
            OSError: This kernel or this user may not.
        """
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
        try:
            program = b"".join(struct.pack("=HBBI", *step) for step in _TCP_ONLY)
            self._program = mmap.mmap(-1, len(program))
            self._program.write(program)
            address = _address_of(self._program)
            self._socket.setsockopt(
                socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_TCP_ONLY), address)
            )
            self._socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
            ring = struct.pack("=IIII", _BLOCK, _FRAMES * _FRAME // _BLOCK, _FRAME, _FRAMES)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, ring)
            self._ring = mmap.mmap(self._socket.fileno(), _FRAMES * _FRAME)
        except OSError:
            self._socket.close()
            raise
        self._loopback = _index_of_loopback()
        self._next = 0

    def close(self) -> None:
        """End it."""
        self._ring.close()
        self._socket.close()

    def take(self) -> Heard:
        """Return what passed since the last time, and make room for more."""
        segments = tuple(segment for frame in self._frames() if (segment := self._segment(frame)))
        statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        _, dropped = struct.unpack("=II", statistics)
        return Heard(segments, dropped == 0)

    def _frames(self) -> Iterator[bytes]:
        for _ in range(_FRAMES):
            at = self._next * _FRAME
            if not _HEADER.unpack_from(self._ring, at)[0] & _STATUS_USER:
                return
            yield self._ring[at : at + _FRAME]
            struct.pack_into("=I", self._ring, at, 0)
            self._next = (self._next + 1) % _FRAMES

    def _segment(self, frame: bytes) -> Segment | None:
        _, _, kept, _, network = _HEADER.unpack_from(frame)
        _, _, interface, _, kind, _ = _LINK.unpack_from(frame, _LINK_AT)
        if kind == _OUTGOING and interface == self._loopback:
            return None  # it comes in again
        return decode_segment(frame[network : network + kept])


def _address_of(memory: mmap.mmap) -> int:
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _index_of_loopback() -> int:
    return socket.if_nametoindex("lo")


def decode_segment(packet: bytes) -> Segment | None:
    """Decode an IPv4 or IPv6 packet; None where no whole TCP header follows at once."""
    if packet[:1] and packet[0] >> 4 == 4 and len(packet) >= 20:
        header, size = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
        family, source, destination = socket.AF_INET, packet[12:16], packet[16:20]
    elif packet[:1] and packet[0] >> 4 == 6 and len(packet) >= 40:
        header, size = 40, 40 + int.from_bytes(packet[4:6], "big")
        family, source, destination = socket.AF_INET6, packet[8:24], packet[24:40]
    else:
        return None
    if len(packet) < header + 20:
        return None
    ports = struct.unpack_from(">HHIIBBH", packet, header)
    return Segment(
        Endpoint(socket.inet_ntop(family, source), ports[0]),
        Endpoint(socket.inet_ntop(family, destination), ports[1]),
        ports[5],
        ports[2],
        ports[3],
        ports[6],
        max(0, size - header - (ports[4] >> 4) * 4),
    )


# One connection: which segments are told, and what they do to the states of its ends.


class _Line:
    """A connection that began while somebody listened."""

    def __init__(self, client: Endpoint, server: Endpoint) -> None:
        self.ends = (client, server)
        self.states = [CLOSED, LISTEN]
        self.before = (CLOSED, LISTEN)
        self.passed: list[Passed] = []
        self._fins: list[int | None] = [None, None]

    def hear(self, segment: Segment) -> None:
        side = 0 if segment.source == self.ends[0] else 1
        before = list(self.states)
        self._move(side, segment)
        what = _told(segment)
        last = self.passed[-1] if self.passed else None
        unmoved = before == self.states
        if unmoved and not what:
            return  # a pure acknowledgement
        number, data = 1, segment.data
        if unmoved and last is not None and (last.what, last.by_client) == (what, side == 0):
            self.passed.pop()
            number, data = last.number + 1, last.data + data
        self.passed.append(Passed(what or "ACK", side == 0, number, data, self.states[0], self.states[1]))

    def turn(self, states: tuple[str, str]) -> None:
        """Begin a scene with the states that the kernel gave."""
        self.states, self.before, self.passed = list(states), states, []

    def _move(self, side: int, segment: Segment) -> None:
        """What RFC 9293 makes of a segment, at its sender (`side`) and at the other end."""
        mine, other = side, 1 - side
        states = self.states
        if segment.flags & RST:
            states[:] = [CLOSED, CLOSED if states[1] != LISTEN else LISTEN]
            return
        if segment.flags & SYN:
            states[mine] = _SYN_RECV if segment.flags & ACK else _SYN_SENT
            return
        if segment.flags & ACK and states[mine] == _SYN_SENT and states[other] == _SYN_RECV:
            states[:] = [_ESTABLISHED, _ESTABLISHED]
        fin = self._fins[other]
        if segment.flags & ACK and fin is not None and (segment.acknowledged - fin) % 2**32 < 2**31:
            states[mine] = _GOT_FIN.get(states[mine], states[mine])
            states[other] = _FIN_DONE.get(states[other], states[other])
        if segment.flags & FIN:
            self._fins[mine] = (segment.sequence + segment.data + 1) % 2**32
            states[mine] = _SENT_FIN.get(states[mine], states[mine])


_SENT_FIN = {_ESTABLISHED: _FIN_WAIT_1, _CLOSE_WAIT: _LAST_ACK}
_GOT_FIN = {_ESTABLISHED: _CLOSE_WAIT, _FIN_WAIT_1: _CLOSING, _FIN_WAIT_2: _TIME_WAIT}
_FIN_DONE = {_FIN_WAIT_1: _FIN_WAIT_2, _CLOSING: _TIME_WAIT, _LAST_ACK: CLOSED}


def _told(segment: Segment) -> str:
    """What a segment is called; nothing where it acknowledges and no more."""
    if segment.flags & RST:
        return "RST"
    if segment.flags & SYN:
        return "SYN ACK" if segment.flags & ACK else "SYN"
    if segment.flags & FIN:
        return "data FIN" if segment.data else "FIN"
    if segment.data:
        return "data"
    return "window 0" if segment.window == 0 else ""


class Follower:
    """The connections of a story, from scene to scene."""

    def __init__(self) -> None:
        """Nothing was heard yet."""
        self._lines: dict[frozenset[Endpoint], _Line] = {}
        self._drawn: frozenset[Endpoint] | None = None
        self._complete = True

    def hear(self, heard: Heard) -> None:
        """Take what passed."""
        self._complete = self._complete and heard.complete
        for segment in heard.segments:
            ends = frozenset((segment.source, segment.destination))
            if len(ends) < 2:
                continue  # connected to itself: there are no two ends
            line = self._lines.get(ends)
            begins = segment.flags & (SYN | ACK) == SYN
            if begins and (line is None or line.states[0] in (CLOSED, _TIME_WAIT)):
                line = self._lines[ends] = _Line(segment.source, segment.destination)
            if line is not None:
                line.hear(segment)

    def scene(self, there: "There") -> Pair | None:
        """Choose the connection that stands for the most, and begin anew; None where there is none."""
        states = {ends: there.states_of(*line.ends, line.states) for ends, line in self._lines.items()}
        told = {
            ends: states[ends]
            for ends, line in self._lines.items()
            if line.passed or not _is_over(states[ends]) or states[ends] != line.before
        }
        pair = self._pair(told)
        self._complete = True
        for ends, line in list(self._lines.items()):
            line.turn(states[ends])
            if _is_over(states[ends]) and ends != self._drawn:
                del self._lines[ends]
        return pair

    def _pair(self, told: Mapping[frozenset[Endpoint], tuple[str, str]]) -> Pair | None:
        if not told:
            return None
        groups: dict[tuple[str, str], list[frozenset[Endpoint]]] = {}
        for ends, both in told.items():
            groups.setdefault(both, []).append(ends)
        if self._drawn is None or self._drawn not in told:
            self._drawn = max(groups.values(), key=len)[0]
        line, both = self._lines[self._drawn], told[self._drawn]
        others = sorted(
            ((*of, len(group)) for of, group in groups.items() if of != both), key=lambda it: -it[2]
        )
        explained = self._complete or tuple(line.states) == both
        passed = tuple(line.passed) if explained else ()
        return Pair(*line.ends, line.before, passed, both, len(groups[both]), tuple(others))


def _is_over(states: tuple[str, str]) -> bool:
    return states[0] == CLOSED and states[1] in (CLOSED, LISTEN, ELSEWHERE)


class There(NamedTuple):
    """The sockets of this network namespace at one moment."""

    states: Mapping[tuple[Endpoint, Endpoint], str]
    """Of every connection, by its local and its remote end."""
    listening: frozenset[int]
    """Local ports with a listener."""
    local: LocalAddresses

    def states_of(self, client: Endpoint, server: Endpoint, followed: list[str]) -> tuple[str, str]:
        """Return the kernel's states of both ends of a connection that was `followed` this far."""
        listens = server.port in self.listening and followed[1] == LISTEN
        return (
            self._state(client, server, CLOSED),
            self._state(server, client, LISTEN if listens else CLOSED),
        )

    def _state(self, local: Endpoint, remote: Endpoint, without: str) -> str:
        state = self.states.get((local, remote))
        if state is not None:
            return state
        return without if self._is_here(local.address) else ELSEWHERE

    def _is_here(self, address: str) -> bool:
        """Whether an address is one of this namespace, or may be, where the kernel does not tell."""
        if ":" not in address:
            return self.local.has_ipv4(address) is not False
        if isinstance(self.local.ipv6, Missing):
            return True
        return any(one.address == address for one in self.local.ipv6)


def read_there() -> There:
    """Read the sockets of this network namespace.

    Raises:
        OSError: /proc/net/tcp cannot be read.
    """
    states: dict[tuple[Endpoint, Endpoint], str] = {}
    listening = set()
    for row in read_proc_rows():
        if isinstance(row, Listener):
            listening.add(row.local.port)
        elif isinstance(row, Connection):
            name = "SYN_RECV" if row.state is TcpState.NEW_SYN_RECV else row.state.name
            states[row.local.plain(), row.remote.plain()] = name
    return There(states, frozenset(listening), read_local_addresses())
