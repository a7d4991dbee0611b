"""What a fact can be, besides a number or a text: uncertain, a set of ages, growth, a text that names."""

import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias, overload

from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint
from tcpdoctor.named_tuples import NamedTuple


class Range(NamedTuple):
    """A number that is only known to lie in [low, high], both included.

    A count of which some sockets' owners are hidden is ``Range(visible, visible + hidden, why)``.
    It can prove a comparison that holds for all of it; any other is unknown, with `reason`.
    """

    low: float
    high: float
    """May be infinite."""
    reason: str


class Merged(Sequence[float]):
    """Two ascending sequences, and after them infinity so many times, as one ascending sequence.

    Nothing is copied: sockets whose owner is hidden may belong to each of thousands of processes, and
    all of those share what is known of them.
    """

    __slots__ = ("_infinite", "_one", "_other")

    def __init__(self, one: Sequence[float], other: Sequence[float], infinite: int = 0) -> None:
        self._one, self._other, self._infinite = one, other, infinite

    def __len__(self) -> int:
        return len(self._one) + len(self._other) + self._infinite

    @overload
    def __getitem__(self, place: int) -> float: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[float, ...]: ...
    def __getitem__(self, place: int | slice) -> float | tuple[float, ...]:
        if isinstance(place, slice):
            return tuple(self[each] for each in range(*place.indices(len(self))))
        at = place if place >= 0 else place + len(self)
        if not 0 <= at < len(self):
            raise IndexError(place)
        return self._at(at)

    def _at(self, place: int) -> float:
        """Search for how many of the first sequence come before `place`; the rest come from the other."""
        one, other = self._one, self._other
        if place >= len(one) + len(other):
            return math.inf
        low, high = max(0, place - len(other)), min(place, len(one))
        while low < high:
            middle = (low + high) // 2
            if one[middle] < other[place - middle - 1]:
                low = middle + 1
            else:
                high = middle
        rest = place - low
        if low == len(one) or (rest < len(other) and other[rest] < one[low]):
            return other[rest]
        return one[low]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))


class Ages(NamedTuple):
    """How long each of a set of sockets has been in its state, in seconds.

    An age may itself be known only as a range, and a socket may only perhaps belong to the set (its
    owner is hidden). ``older(ages, s)`` is at least the number of `at_least` >= s, and at most the
    number of `at_most` >= s.
    """

    at_least: tuple[float, ...]
    """Lower ends of the ages of the sockets that belong for sure, ascending."""
    at_most: Sequence[float]
    """Upper ends (infinite where unknown) of all that may belong, ascending; never fewer than `at_least`."""
    reason: str | None
    """Why the two differ; None where they can never disagree."""
    quiet: tuple[float, ...] = ()
    """Of the sockets that belong for sure and may be older than their lower ends: how long no data has
    gone either way, ascending; their lower ends where that is not known or proves less. Empty: nothing
    but the lower ends is known."""
    hidden: tuple[float, ...] = ()
    """The same with those whose end may have come a moment ago, which keepalive probes a few seconds apart
    hide. Empty: there is none."""


class Growth(NamedTuple):
    """What a counter did between two samples."""

    delta: float
    """Whole for events; seconds for a counter of time."""
    seconds: float
    """Time between the samples, above 0."""


class NamedText(str):
    """A text about processes or peers, and which they are: those as well that it counts without a name."""

    pids: frozenset[int]
    peers: frozenset[Endpoint]
    """Ends that we connected to; a client of ours is not among them."""
    ports: frozenset[int]
    """Local ports of the sockets that it tells of."""

    def __new__(
        cls,
        text: str,
        *,
        pids: Iterable[int] = (),
        peers: Iterable[Endpoint] = (),
        ports: Iterable[int] = (),
    ) -> "NamedText":
        """Make one of a text and of whom it is about."""
        made = super().__new__(cls, text)
        made.pids, made.peers, made.ports = frozenset(pids), frozenset(peers), frozenset(ports)
        return made


Value: TypeAlias = int | float | str | Range | Ages | Growth | Missing
