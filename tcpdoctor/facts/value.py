"""What a fact can be, in which dimension, and how that prints: a number, uncertain, a set of ages, a text."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, overload

from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint
from tcpdoctor.named_tuples import NamedTuple


class Dimension(NamedTuple):
    """Exponents of the base units; two quantities compare only where all four agree."""

    number: int = 0
    """Of things counted: sockets, ports, events."""
    second: int = 0
    byte: int = 0
    page: int = 0


RATIO = Dimension()
"""A pure number: a share, or a switch such as tcp_syncookies."""
COUNT = Dimension(number=1)
SECOND = Dimension(second=1)
BYTE = Dimension(byte=1)
PAGE = Dimension(page=1)
PER_SECOND = Dimension(number=1, second=-1)

_UNIT_NAMES = {
    RATIO: "ratio",
    COUNT: "count",
    SECOND: "second",
    BYTE: "byte",
    PAGE: "page",
    PER_SECOND: "per_second",
}


def unit_name(dimension: Dimension | None) -> str:
    """The unit as JSON spells it: ``count``, ``second``, ``byte_per_second``; ``text`` for None."""
    if dimension is None:
        return "text"
    known = _UNIT_NAMES.get(dimension)
    if known is not None:
        return known
    words = zip(("count", "second", "byte", "page"), dimension, strict=True)
    powers = [(word, power) for word, power in words if power]
    above = "_".join(_power(word, power) for word, power in powers if power > 0)
    below = "".join(f"_per_{_power(word, -power)}" for word, power in powers if power < 0)
    return (above + below).removeprefix("_")


def show(value: "Value", dimension: Dimension | None) -> str:
    """A value for people: ``140``, ``12 min``, ``4.2 MiB``, ``83 %``, ``at least 120``, ``between 3 and 9``.

    What is known only as a range is rounded outward, so that it stays true. A whole pure number is a
    switch and prints as it is, any other is a share. What is `Missing` prints as ``unknown``; where its
    reason belongs is the caller's affair.
    """
    match value:
        case str():
            return value
        case Missing():
            return "unknown"
        case Range():
            return _show_range(value.low, value.high, dimension)
        case Growth():
            return f"{show_number(value.delta, dimension)} in {show_number(value.seconds, SECOND)}"
        case Ages():
            return _show_ages(value.at_least, value.at_most)
        case _:
            return show_number(value, dimension)


def show_number(value: float, dimension: Dimension | None, rounded: Callable[[float], int] = round) -> str:
    """One number with its unit; `rounded` is round, math.floor or math.ceil."""
    if math.isinf(value):
        return "infinite"
    if value < 0:
        mirrored = math.ceil if rounded is math.floor else math.floor if rounded is math.ceil else rounded
        return "-" + show_number(-value, dimension, mirrored)
    printer = _PRINTERS.get(dimension or COUNT)
    if printer is not None:
        return printer(value, rounded)
    return f"{_decimal(value, rounded)} {unit_name(dimension).replace('_', ' ')}"


def _power(word: str, power: int) -> str:
    return word if power == 1 else f"{word}_to_the_{power}"


def _show_range(low: float, high: float, dimension: Dimension | None) -> str:
    middle = show_number(low, dimension)
    if middle == show_number(high, dimension):
        return middle  # they differ by less than any number is shown with
    at_least = show_number(low, dimension, math.floor)
    at_most = show_number(high, dimension, math.ceil)
    if math.isinf(high):
        return "unknown" if low in (0, -math.inf) else f"at least {at_least}"
    if low in (0, -math.inf):
        return f"at most {at_most}"
    return f"between {at_least} and {at_most}"


def _show_ages(at_least: Sequence[float], at_most: Sequence[float]) -> str:
    number = _show_range(len(at_least), len(at_most), COUNT)
    if not at_least:
        return number
    oldest = _show_range(at_least[-1], at_most[-1], SECOND)
    return f"{number}, the oldest {'of unknown age' if oldest == 'unknown' else oldest}"


def _grouped(value: float, rounded: Callable[[float], int], least: int) -> str:
    """Whole numbers get separators from `least` on; others one decimal below 1,000."""
    if value == int(value) or value >= 1000:
        whole = rounded(value)
        return f"{whole:,}" if whole >= least else str(whole)
    return _decimal(value, rounded)


def _decimal(value: float, rounded: Callable[[float], int]) -> str:
    """Two significant digits at least, three digits at most before the point ends them: 0.042, 4.2, 142."""
    if value == 0:
        return "0"
    digits = max(0, 1 - math.floor(math.log10(value)))
    if digits > 12:
        return f"{value:.1e}"
    # the small term undoes binary noise: 0.7 s is 700 ms, although 0.7 * 1000 is 699.999...
    text = f"{rounded(round(value * 10**digits, 6)) / 10**digits:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _show_count(value: float, rounded: Callable[[float], int]) -> str:
    # ports are counts as well, and nobody writes 8,080 for a port
    return _grouped(value, rounded, 100_000)


def _show_share(value: float, rounded: Callable[[float], int]) -> str:
    if isinstance(value, int):
        return str(value)
    return f"{_decimal(value * 100, rounded)} %"


def _show_seconds(value: float, rounded: Callable[[float], int]) -> str:
    if value == 0:
        return "0 s"
    if value < 0.001:
        return f"{_decimal(value * 1e6, rounded)} us"
    if value < 1:
        return f"{_decimal(value * 1000, rounded)} ms"
    if value < 10:
        return f"{_decimal(value, rounded)} s"
    for unit, size, smaller, step in _TIMES:
        if value >= size * 2:
            whole = rounded(value / step) * step
            parts = f"{whole // size} {unit}"
            # below ten of the large unit the small one still matters: 2 min 5 s, but 12 min
            rest = (whole % size) // step if whole < size * 10 else 0
            if whole >= size * 10:
                parts = f"{rounded(value / size)} {unit}"
            return f"{parts} {rest} {smaller}" if rest else parts
    return f"{rounded(value)} s"


_TIMES = (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1))


def _show_bytes(value: float, rounded: Callable[[float], int]) -> str:
    for unit, size in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= size:
            return f"{_decimal(value / size, rounded)} {unit}"
    return f"{rounded(value)} B"


def _show_pages(value: float, rounded: Callable[[float], int]) -> str:
    text = _grouped(value, rounded, 1000)
    return f"{text} page" if text == "1" else f"{text} pages"


def _show_rate(value: float, rounded: Callable[[float], int]) -> str:
    return f"{_decimal(value, rounded)} /s"


def _show_byte_rate(value: float, rounded: Callable[[float], int]) -> str:
    return f"{_show_bytes(value, rounded)}/s"


_PRINTERS: dict[Dimension, Callable[[float, Callable[[float], int]], str]] = {
    RATIO: _show_share,
    COUNT: _show_count,
    SECOND: _show_seconds,
    BYTE: _show_bytes,
    PAGE: _show_pages,
    PER_SECOND: _show_rate,
    Dimension(byte=1, second=-1): _show_byte_rate,
}


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


def show_wait(seconds: float) -> str:
    """Print seconds until something: whole ones, rounded up, so that nobody comes too early."""
    if seconds >= 600:
        return f"{math.ceil(seconds / 60)} min"
    return f"{math.ceil(seconds)} s"
