"""Count sockets by state, port and destination, in memory that does not grow with them.

Columns of a datagram in, tables and marked rows out: neither knows whether netlink or /proc/net/tcp was read.

While all sockets are counted, the few in ESTABLISHED are marked that are worth a second look: counting by
timer and looking for retries, closed windows, full queues and sockets connected to themselves takes some
15 ns a socket in all, because each is an operation on a whole column.

The sample of all is drawn from the whole census and not from its first rows: since Linux 6.15 the hash
of a connection is its local port plus a hash of the rest (commit 9544d60a2605, inet_ehashfn()), so that
a client's connections to one server lie side by side, and the beginning of a listing is no fair sample.
"""

import _socket as socket  # what is around it takes 3 ms to import, and is not needed
import math
import os
import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import compress
from operator import itemgetter
from typing import Generic, TypeAlias, TypeVar

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.snapshot import MAPPED, Destination, DestinationUse
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState, Timer
from tcpdoctor.named_tuples import NamedTuple

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
    if len(address) == 16 and address.startswith(MAPPED):
        address = address[12:]
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address)


# A uniform sample of a stream whose length nobody knows beforehand.


T = TypeVar("T")

_AT_ONCE = struct.Struct("=256Q")


def _fractions() -> Iterator[float]:
    """Random numbers between 0 and 1, both excluded: the module random takes 5 ms to import."""
    while True:
        for number in _AT_ONCE.unpack(os.urandom(_AT_ONCE.size)):
            yield ((number >> 12) + 0.5) * 2**-52


class Sample(Generic[T]):
    """Keeps everything up to `bound` items, beyond that a uniform sample of that size.

    Li's algorithm L ("Reservoir-Sampling Algorithms of Time Complexity O(n(1+log(N/n)))", ACM
    TOMS 1994): it draws how many items to skip, so that an item that is not kept costs a comparison.
    """

    def __init__(self, bound: int) -> None:
        if bound < 1:
            raise ValueError(f"a sample of {bound}")
        self.kept: list[T] = []
        self.total = 0
        """How many items there were."""
        self._bound = bound
        self._next = 0  # the place in the stream of the item to keep next, once the sample is full
        self._weight = 1.0
        self._dice = _fractions()

    def wants(self) -> bool:
        """Count one more item; True if it is to be given to `keep`."""
        place = self.total
        self.total += 1
        if place < self._bound:
            return True
        if place == self._bound:
            self._next = place - 1
            self._skip()
        return place == self._next

    def keep(self, item: T) -> None:
        """Keep the item that `wants` just said yes to."""
        full = len(self.kept) == self._bound
        self.put(item)
        if full:
            self._skip()

    def choose(self, number: int) -> list[int]:
        """Count `number` more items; return the places of those among them that are to be given to `put`.

        For a stream that comes in batches: an item that is not kept costs nothing. The places ascend,
        from 0. A sample is filled either by this way or by `wants` and `keep`.
        """
        first, last = self.total, self.total + number
        self.total = last
        places = list(range(first, min(last, self._bound)))
        if last > self._bound:
            if self._next == 0:  # the first item beyond the bound
                self._next = self._bound - 1
                self._skip()
            while self._next < last:
                places.append(self._next)
                self._skip()
        return [place - first for place in places]

    def has_room(self, number: int) -> bool:
        """Whether `number` more items can all be kept; they are then given to `extend`."""
        return self.total + number <= self._bound

    def extend(self, items: Sequence[T]) -> None:
        """Count and keep items that there is room for."""
        self.total += len(items)
        self.kept += items

    def put(self, item: T) -> None:
        """Keep an item that `choose` named; once the sample is full it takes the place of another."""
        if len(self.kept) < self._bound:
            self.kept.append(item)
            return
        self.kept[int(next(self._dice) * self._bound)] = item

    def _skip(self) -> None:
        self._weight *= next(self._dice) ** (1 / self._bound)
        gap = math.log(next(self._dice)) / math.log1p(-self._weight)
        self._next += math.floor(gap) + 1


UNANSWERED_RETRIES = 3
"""Takes 1.4 s at the least (retransmission timeouts begin at 200 ms): no lost packet, no tail loss probe."""
LARGE_QUEUE = 1 << 20
"""Bytes. Buffers begin at 16 and 128 KiB and grow where a program does not keep up."""
SAMPLE = 256
"""Enough to see what one socket in forty has, at 15 us each."""
MOST_UNREAD = 1000
"""Where there is traffic, some sockets hold what has just come in; which are old shows one by one."""
MOST_MARKED = 500
"""Of each kind of suspect so many are asked about, at 15 us each."""

_ESTABLISHED = int(TcpState.ESTABLISHED)


@cache
def ones_at(number: int) -> bytes:
    """A translation table: 1 for this number, 0 for all others."""
    return bytes(number) + b"\1" + bytes(255 - number)


def _ones_from(number: int) -> bytes:
    return bytes(number) + b"\1" * (256 - number)


_OTHER_STATE = b"\xff" * _ESTABLISHED + b"\0" + b"\xff" * (255 - _ESTABLISHED)
_IS_ESTABLISHED = ones_at(_ESTABLISHED)
_IS_REPEATING = bytes(timer in (Timer.RETRANSMIT, Timer.PROBE) for timer in range(256))
_IS_PROBING = ones_at(Timer.PROBE)
_IS_MANY = _ones_from(UNANSWERED_RETRIES)
_IS_ZERO = ones_at(0)
_IS_LARGE = _ones_from(LARGE_QUEUE >> 16)
_IS_ANY = _ones_from(1)
"""Translation tables: a column of numbers becomes one of 0 and 1."""


class Columns(NamedTuple):
    """Of every row of a datagram one byte each."""

    states: Column
    timers: Column
    retries: Column
    ports: tuple[Column, Column, Column, Column]
    """High and low byte of the local port, high and low byte of the remote port."""
    queues: tuple[Column, Column, Column, Column]
    """Of the receive queue its bytes worth 65,536 and 16,777,216, then the same of the send queue."""
    unread: tuple[Column, ...]
    """The receive queue's four bytes, in any order."""
    inodes: tuple[Column, ...] = ()
    """The inode's four bytes, in any order; empty where those that wait for accept() are not looked for."""


class EstablishedTally(Generic[T]):
    """Counts by timer, and marked rows in bounded memory: `T` is a row as the listing gives it.

    What has no inode waits for accept(). To look for it costs as much as all the rest, so that is done where
    a listener has anybody waiting only.
    """

    def __init__(self, *, waiting: bool = False) -> None:
        self.waiting = waiting
        """Whether those that wait for accept() are looked for."""
        self.no_timer = self.retransmitting = self.keepalive = self.probing = 0
        self.unanswered = Sample[T](MOST_MARKED)
        self.closed_window = Sample[T](MOST_MARKED)
        self.self_connected = Sample[T](MOST_MARKED)
        """Rows with one port at both ends; whether the addresses are alike as well shows when decoded."""
        self.large = Sample[T](MOST_MARKED)
        self.unread = Sample[T](MOST_UNREAD)
        """Rows with anything in the receive queue, or `waiting`."""
        self.sample = Sample[T](SAMPLE)

    def add(self, columns: Columns, row_at: Callable[[int], T]) -> None:
        """Count rows given as columns; `row_at` gives a row by its place, to keep."""
        states = columns.states
        found = states.count(_ESTABLISHED)
        if not found:
            return
        here = b"" if found == len(states) else states.translate(_IS_ESTABLISHED)
        timers = columns.timers if not here else _blot(columns.timers, states)
        self._count(timers, columns.retries, row_at)
        _mark(self.self_connected, _alike(columns.ports), here, row_at)
        _mark(self.large, _large(columns.queues), here, row_at)
        _mark(self.unread, _unread_or_waiting(columns), here, row_at)
        chosen = self.sample.choose(found)
        if chosen:
            places = list(compress(range(len(here)), here)) if here else range(found)
            for place in chosen:
                self.sample.put(row_at(places[place]))

    def _count(self, timers: Column, retries: Column, row_at: Callable[[int], T]) -> None:
        self.no_timer += timers.count(Timer.NONE)
        self.keepalive += timers.count(Timer.KEEPALIVE)
        retransmitting, probing = timers.count(Timer.RETRANSMIT), timers.count(Timer.PROBE)
        self.retransmitting += retransmitting
        self.probing += probing
        if retransmitting or probing:
            many = retries.translate(_IS_MANY)
            if 1 in many:
                _mark(self.unanswered, many, timers.translate(_IS_REPEATING), row_at)
        if probing:
            _mark(self.closed_window, timers.translate(_IS_PROBING), b"", row_at)


def _mark(sample: Sample[T], marked: Column, here: Column, row_at: Callable[[int], T]) -> None:
    """Put the rows that are marked with 1, and are so in `here` as well unless that is empty."""
    if 1 not in marked:
        return
    places = list(compress(range(len(marked)), both(marked, here) if here else marked))
    for place in sample.choose(len(places)):
        sample.put(row_at(places[place]))


def _blot(timers: Column, states: Column) -> bytes:
    """The timers, with 255 where the state is another."""
    others = int.from_bytes(states.translate(_OTHER_STATE), "big")
    return (int.from_bytes(timers, "big") | others).to_bytes(len(timers), "big")


def _alike(ports: Iterable[Column]) -> bytes:
    """1 where both ports are the same."""
    high, low, other_high, other_low = (int.from_bytes(column, "big") for column in ports)
    size = len(next(iter(ports)))
    return (high ^ other_high | low ^ other_low).to_bytes(size, "big").translate(_IS_ZERO)


def _unread_or_waiting(columns: Columns) -> bytes:
    """1 where anything is unread, and where there is no inode, if that was looked for."""
    unread = _any_of(columns.unread).translate(_IS_ANY)
    if not columns.inodes:
        return unread
    inodes = _any_of(columns.inodes)
    waiting = inodes.translate(_IS_ZERO) if inodes else bytes([1]) * len(columns.states)
    return _either(unread, waiting) if unread else waiting


def _any_of(parts: tuple[Column, ...]) -> bytes:
    """Not 0 where a column is not 0; empty where none is."""
    size = len(parts[0])
    filled = [part for part in parts if part.count(0) != size]
    if not filled:
        return b""
    whole = 0
    for part in filled:
        whole |= int.from_bytes(part, "big")
    return whole.to_bytes(size, "big")


def _either(left: Column, right: Column) -> bytes:
    return (int.from_bytes(left, "big") | int.from_bytes(right, "big")).to_bytes(len(left), "big")


def _large(queues: tuple[Column, Column, Column, Column]) -> bytes:
    """1 where a queue holds LARGE_QUEUE or more."""
    high = queues[0].translate(_IS_LARGE), queues[2].translate(_IS_LARGE)
    higher = queues[1].translate(_IS_ANY), queues[3].translate(_IS_ANY)
    if not any(1 in column for column in (*high, *higher)):
        return b""
    numbers = [int.from_bytes(column, "big") for column in (*high, *higher)]
    whole = numbers[0] | numbers[1] | numbers[2] | numbers[3]
    return whole.to_bytes(len(queues[0]), "big")
