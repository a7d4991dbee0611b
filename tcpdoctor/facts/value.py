"""What a fact can be, besides a number or a text: uncertain, a set of ages, growth."""

from typing import NamedTuple, TypeAlias

from tcpdoctor.kernel.reading import Missing


class Range(NamedTuple):
    """A number that is only known to lie in [low, high], both included.

    A count of which some sockets' owners are hidden is ``Range(visible, visible + hidden, why)``.
    It can prove a comparison that holds for all of it; any other is unknown, with `reason`.
    """

    low: float
    high: float
    """May be infinite."""
    reason: str


class Ages(NamedTuple):
    """How long each of a set of sockets has been in its state, in seconds.

    An age may itself be known only as a range, and a socket may only perhaps belong to the set (its
    owner is hidden). ``older(ages, s)`` is at least the number of `at_least` >= s, and at most the
    number of `at_most` >= s.
    """

    at_least: tuple[float, ...]
    """Lower ends of the ages of the sockets that belong for sure, ascending."""
    at_most: tuple[float, ...]
    """Upper ends (infinite where unknown) of all that may belong, ascending; never fewer than `at_least`."""
    reason: str | None
    """Why the two differ; None where they can never disagree."""


class Growth(NamedTuple):
    """What a counter did between two samples."""

    delta: float
    """Whole for events; seconds for a counter of time."""
    seconds: float
    """Time between the samples, above 0."""


Value: TypeAlias = int | float | str | Range | Ages | Growth | Missing
