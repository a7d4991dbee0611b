"""Find the few sockets in ESTABLISHED that are worth a second look, while all of them are counted.

Columns of a datagram in, marked rows out: counting by timer and looking for retries, closed windows,
full queues and sockets connected to themselves takes some 15 ns a socket in all, because each is an
operation on a whole column.

The sample of all is drawn from the whole census and not from its first rows: since Linux 6.15 the hash
of a connection is its local port plus a hash of the rest (commit 9544d60a2605, inet_ehashfn()), so that
a client's connections to one server lie side by side, and the beginning of a listing is no fair sample.
"""

import math
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress
from typing import Generic, TypeVar

from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.kernel.tally import Column, both
from tcpdoctor.named_tuples import NamedTuple

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


def _ones_at(number: int) -> bytes:
    return bytes(number) + b"\1" + bytes(255 - number)


def _ones_from(number: int) -> bytes:
    return bytes(number) + b"\1" * (256 - number)


_OTHER_STATE = b"\xff" * _ESTABLISHED + b"\0" + b"\xff" * (255 - _ESTABLISHED)
_IS_ESTABLISHED = _ones_at(_ESTABLISHED)
_IS_REPEATING = bytes(timer in (Timer.RETRANSMIT, Timer.PROBE) for timer in range(256))
_IS_PROBING = _ones_at(Timer.PROBE)
_IS_MANY = _ones_from(UNANSWERED_RETRIES)
_IS_ZERO = _ones_at(0)
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


class EstablishedTally(Generic[T]):
    """Counts by timer, and marked rows in bounded memory: `T` is a row as the listing gives it."""

    def __init__(self) -> None:
        self.no_timer = self.retransmitting = self.keepalive = self.probing = 0
        self.unanswered = Sample[T](MOST_MARKED)
        self.closed_window = Sample[T](MOST_MARKED)
        self.self_connected = Sample[T](MOST_MARKED)
        """Rows with one port at both ends; whether the addresses are alike as well shows when decoded."""
        self.large = Sample[T](MOST_MARKED)
        self.unread = Sample[T](MOST_UNREAD)
        """Rows with anything in the receive queue."""
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
        _mark(self.unread, _unread(columns.unread), here, row_at)
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


def _unread(parts: tuple[Column, ...]) -> bytes:
    """1 where anything is unread."""
    size = len(parts[0])
    filled = [part for part in parts if part.count(0) != size]
    if not filled:
        return b""
    whole = 0
    for part in filled:
        whole |= int.from_bytes(part, "big")
    return whole.to_bytes(size, "big").translate(_IS_ANY)


def _large(queues: tuple[Column, Column, Column, Column]) -> bytes:
    """1 where a queue holds LARGE_QUEUE or more."""
    high = queues[0].translate(_IS_LARGE), queues[2].translate(_IS_LARGE)
    higher = queues[1].translate(_IS_ANY), queues[3].translate(_IS_ANY)
    if not any(1 in column for column in (*high, *higher)):
        return b""
    numbers = [int.from_bytes(column, "big") for column in (*high, *higher)]
    whole = numbers[0] | numbers[1] | numbers[2] | numbers[3]
    return whole.to_bytes(len(queues[0]), "big")
