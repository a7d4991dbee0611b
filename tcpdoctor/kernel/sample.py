"""A uniform sample of a stream whose length nobody knows beforehand."""

from typing import Generic, TypeVar

T = TypeVar("T")


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
        if len(self.kept) < self._bound:
            self.kept.append(item)
            return
        import random  # 5 ms that only a host with very many sockets pays

        self.kept[random.randrange(self._bound)] = item  # noqa: S311 - a sample is no secret
        self._skip()

    def _skip(self) -> None:
        import math
        import random

        # 1 - random() is never 0, so that its logarithm exists
        first, second = 1 - random.random(), 1 - random.random()  # noqa: S311 - a sample is no secret
        self._weight *= math.exp(math.log(first) / self._bound)
        gap = math.log(second) / math.log(1 - self._weight)
        self._next += math.floor(gap) + 1
