"""A uniform sample of a stream whose length nobody knows beforehand."""

import math
import os
import struct
from collections.abc import Iterator
from typing import Generic, TypeVar

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
