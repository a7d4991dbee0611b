"""Count sockets by state, port and destination, in memory that does not grow with them.

Columns in, tables out: neither knows whether netlink or /proc/net/tcp was read.
"""

import _socket as socket  # what is around it takes 3 ms to import, and is not needed
import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import compress
from operator import itemgetter
from typing import TypeAlias

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.snapshot import Destination, DestinationUse
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState

LISTED_STATES: tuple[TcpState, ...] = tuple(state for state in COUNTED_STATES if state is not TcpState.BOUND)
"""The states that a row can say, besides CLOSE, which stands for a bound socket."""

MOST_DESTINATIONS = 4096
"""Exhaustion is thousands of ports towards one destination, so the small ones may go first."""
MOST_PORTS = 16384

Key: TypeAlias = bytes
"""Remote port (2 bytes), local and remote address as they lie in struct inet_diag_sockid:
22 bytes for IPv4 (with the 12 unused ones of the local address), 34 for IPv6."""

Column: TypeAlias = bytes | bytearray
"""One byte of every row."""
KeysWhere: TypeAlias = Callable[[bytes], Iterable[Key]]

_PORT_AND_IPV4, _PORT_AND_IPV6 = struct.Struct(">H4s12x4s"), struct.Struct(">H16s16s")
_MAPPED = bytes(10) + b"\xff\xff"
_CLOSE, _LISTEN, _TIME_WAIT = int(TcpState.CLOSE), int(TcpState.LISTEN), int(TcpState.TIME_WAIT)
_IS_TIME_WAIT = bytes(state == _TIME_WAIT for state in range(256))
_IS_NO_LISTENER = bytes(state != _LISTEN for state in range(256))
_IS_NOT_BOUND = bytes(state != _CLOSE for state in range(256))
_NOT = bytes([1]) + bytes(255)
"""Translation tables: a column of states becomes a column of 0 and 1."""


class StateTally:
    """Sockets by state."""

    def __init__(self) -> None:
        self.by_state = dict.fromkeys(LISTED_STATES, 0)
        self.bound = 0

    def add(self, states: Column) -> None:
        """Count a column of states.

        Raises:
            KernelReadError: A state that was not asked for.
        """
        left = len(states)
        for state in LISTED_STATES:
            found = states.count(state)
            if found:
                self.by_state[state] += found
                left -= found
                if not left:
                    return
        bound = states.count(_CLOSE)
        self.bound += bound
        if bound != left:
            raise KernelReadError(f"{left - bound} sockets in a state that was not asked for")


class GroupTally:
    """Sockets by state and local port, and those from ephemeral ports by destination."""

    def __init__(
        self,
        ephemeral: tuple[int, int] | None,
        listening: Collection[int],
        reserved: Iterable[tuple[int, int]] = (),
    ) -> None:
        self._listening = frozenset(listening)
        self._ephemeral = bytearray(65536)  # 1 for a port that connect() may have chosen
        if ephemeral is not None:
            low, high = ephemeral
            self._ephemeral[low : high + 1] = bytes([1]) * (high + 1 - low)
            for port in self._listening:
                self._ephemeral[port] = 0
            for first, last in reserved:  # what holds one takes none of those that are chosen from
                self._ephemeral[first : last + 1] = bytes(last + 1 - first)
        self._by_place: Counter[int] = Counter()  # by state << 16 | port
        self._destinations = BoundedCounter(MOST_DESTINATIONS)
        self._time_wait: Counter[Key] = Counter()
        self._waiting: Counter[Key] = Counter()  # in TIME_WAIT, and not yet among either of those

    def add(self, states: Column, high: Column, low: Column, keys_where: KeysWhere) -> None:
        """Count rows given as columns: states, the two bytes of the local port, and destinations.

        `keys_where` gives the destination keys of the rows that are marked with 1.
        """
        count = len(states)
        packed = bytearray(4 * count)
        packed[1::4], packed[2::4], packed[3::4] = states, high, low
        places = struct.unpack(f">{count}I", packed)
        packed = bytearray(2 * count)
        packed[0::2], packed[1::2] = high, low
        ports = struct.unpack(f">{count}H", packed)
        chosen = self._ephemeral_ones(states, ports)
        if 1 not in chosen:
            self._by_place.update(places)
        else:
            self._by_place.update(compress(places, chosen.translate(_NOT)))
            self._add_destinations(states, chosen, keys_where)
        if len(self._by_place) > MOST_PORTS:
            self._drop_idle_ports()

    def _ephemeral_ones(self, states: Column, ports: Sequence[int]) -> bytes:
        """1 for each row whose port a connect() may have chosen."""
        if len(ports) == 1:  # of a single item itemgetter() makes no tuple
            chosen = bytes([self._ephemeral[ports[0]]])
        else:
            chosen = bytes(itemgetter(*ports)(self._ephemeral))
        if _LISTEN in states:  # its port has a listener, whether or not the caller had seen it
            return both(chosen, states.translate(_IS_NO_LISTENER))
        return chosen

    def _add_destinations(self, states: Column, chosen: bytes, keys_where: KeysWhere) -> None:
        if _CLOSE in states:  # merely bound: towards no destination
            chosen = both(chosen, states.translate(_IS_NOT_BOUND))
        waiting = both(chosen, states.translate(_IS_TIME_WAIT))
        if 1 in waiting:
            self._waiting.update(keys_where(waiting))
            chosen = both(chosen, waiting.translate(_NOT))
        if 1 in chosen:
            self._destinations.update(keys_where(chosen))
        if len(self._waiting) > MOST_DESTINATIONS or self._destinations.is_full():
            self._settle()

    def _settle(self) -> None:
        """Add the sockets in TIME_WAIT to the others: once for many of them, not one by one."""
        self._destinations.counts.update(self._waiting)
        self._time_wait.update(self._waiting)
        self._waiting.clear()
        if self._destinations.is_full():
            self._destinations.prune()
            for key in self._time_wait.keys() - self._destinations.counts.keys():
                del self._time_wait[key]

    def _drop_idle_ports(self) -> None:
        """Drop the rarest ports that nobody listens on, until half of the table is free.

        Their sockets then count as port 0, which is what is left over of each state.
        """
        places = self._by_place
        idle = [place for place in places if place & 0xFFFF not in self._listening and place >> 16 != _LISTEN]
        idle.sort(key=places.__getitem__, reverse=True)
        for place in idle[MOST_PORTS // 2 :]:
            del places[place]

    def by_port(self, states: StateTally) -> Mapping[tuple[TcpState, int], int]:
        """As `Census.by_port`, given the tally by state of the same sockets."""
        left = states.by_state | {TcpState.BOUND: states.bound}
        names = {int(state): state for state in LISTED_STATES} | {_CLOSE: TcpState.BOUND}
        counts = {(names[place >> 16], place & 0xFFFF): found for place, found in self._by_place.items()}
        for (state, _), found in counts.items():
            left[state] -= found
        return counts | {(state, 0): found for state, found in left.items() if found}

    def by_destination(self) -> Mapping[Destination, DestinationUse]:
        """As `Census.by_destination`, the most used first; IPv4 and its mapped form are one."""
        self._settle()
        uses: dict[Destination, DestinationUse] = {}
        none = DestinationUse(0, 0)
        for key, total in self._destinations.counts.items():
            destination = _decode(key)
            before = uses.get(destination, none)
            uses[destination] = DestinationUse(
                before.total + total,
                before.time_wait + self._time_wait[key],
                before.uncounted + self._destinations.uncounted(key),
            )
        return dict(sorted(uses.items(), key=lambda item: item[1].total, reverse=True))

    @property
    def unlisted(self) -> int:
        """The most sockets that a destination absent from `by_destination` can have; 0: none is absent."""
        self._settle()
        return self._destinations.lost


class BoundedCounter:
    """Counts of keys in bounded memory: exact up to `limit` distinct keys, a lower bound beyond.

    When the table is full the small counts are dropped, and the largest count dropped is
    added to `lost`: a key that comes back later cannot have lost more than that in all. (Lossy
    counting: Manku and Motwani, "Approximate Frequency Counts over Data Streams", VLDB 2002.)
    """

    def __init__(self, limit: int) -> None:
        self.counts: Counter[Key] = Counter()
        self.lost = 0
        """The most that a key absent from `counts` may have had."""
        self._limit = limit
        self._lost_before: dict[Key, int] = {}

    def update(self, keys: Iterable[Key]) -> None:
        """Count each of `keys` once more."""
        self.counts.update(keys)

    def is_full(self) -> bool:
        """Whether to prune."""
        return len(self.counts) > self._limit

    def prune(self) -> None:
        """Keep the larger half of the table at most."""
        counts = self.counts
        threshold = sorted(counts.values(), reverse=True)[self._limit // 2]
        survivors = {key: count for key, count in counts.items() if count > threshold}
        known = self._lost_before
        self._lost_before = {key: known.get(key, self.lost) for key in survivors}
        self.counts = Counter(survivors)
        self.lost += threshold

    def uncounted(self, key: Key) -> int:
        """How many more of `key` there may have been at most."""
        return self._lost_before.get(key, self.lost)


def both(left: Column, right: Column) -> bytes:
    """1 where both columns of 0 and 1 have 1; as two long numbers, because a loop costs ten times that."""
    return (int.from_bytes(left, "big") & int.from_bytes(right, "big")).to_bytes(len(left), "big")


def _decode(key: Key) -> Destination:
    if len(key) == _PORT_AND_IPV4.size:
        port, source, address = _PORT_AND_IPV4.unpack(key)
    else:
        port, source, address = _PORT_AND_IPV6.unpack(key)
    return Destination(_text(source), _text(address), port)


def _text(address: bytes) -> str:
    if len(address) == 16 and address.startswith(_MAPPED):
        address = address[12:]
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address)
