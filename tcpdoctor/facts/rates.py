"""What counters did between two samples."""

from itertools import pairwise

from tcpdoctor.facts.value import Growth, Value
from tcpdoctor.kernel.counters import WRAP
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Samples, Snapshot
from tcpdoctor.named_tuples import NamedTuple

NEEDS_TWO_SAMPLES = "needs two samples"


def elapsed(samples: Samples) -> Reading[float]:
    """Seconds between the two samples, above 0.

    Missing without a first sample, and where the two are no earlier and later look at one namespace.
    """
    if samples.before is None:
        return Missing(NEEDS_TWO_SAMPLES)
    if samples.before.namespace != samples.after.namespace:
        return Missing("the two samples are of different network namespaces")
    seconds = samples.after.clock - samples.before.clock
    if seconds <= 0:
        return Missing("needs two samples taken at different times")
    return seconds


def growth(name: str, samples: Samples) -> Reading[Growth]:
    """How much one of the kernel's counters grew, and in what time.

    A counter that shrank was reset, not wrapped: these are 64 bits wide on a 64-bit kernel, and a
    namespace that was replaced starts again at zero. We say so instead of reporting a huge number.
    """
    seconds = elapsed(samples)
    if isinstance(seconds, Missing):
        return seconds
    before = counter(name, samples.before or samples.after)
    after = counter(name, samples.after)
    return grown(name, before, after, seconds)


def grown(name: str, before: Reading[int], after: Reading[int], seconds: float) -> Reading[Growth]:
    """The growth from one reading to a later one; Missing if either is, or if it went backwards."""
    if isinstance(after, Missing):
        return after
    if isinstance(before, Missing):
        return before
    if after < before:
        return Missing(f"{name} went backwards between the samples, so it was reset")
    return Growth(after - before, seconds)


def counter(name: str, snapshot: Snapshot) -> Reading[int]:
    """One counter's value in one sample, since boot."""
    if isinstance(snapshot.counters, Missing):
        return snapshot.counters
    if name not in snapshot.counters:
        return Missing(_why_absent(name, snapshot))
    return snapshot.counters[name]


def _why_absent(name: str, snapshot: Snapshot) -> str:
    unread = snapshot.unread.get(name.partition(".")[0])
    if unread is not None:
        return unread
    if not name.startswith("nf_conntrack."):
        return f"this kernel does not count {name}"
    table = snapshot.sysctls.get("net.netfilter.nf_conntrack_count")
    if isinstance(table, Missing):
        return table.reason
    return (
        f"{name} is neither in /proc/net/stat/nf_conntrack nor told by netlink: that takes root, and the "
        "module nf_conntrack_netlink, which is not loaded just to look; `conntrack -S` does both"
    )


# Growth of the packet counters of all CPUs together, which wrap around at 32 bits.


def packets(samples: Samples, column: str) -> Value:
    """What one column of /proc/net/softnet_stat did between the samples, over all CPUs.

    A counter that shrank has wrapped: 4 billion packets are an hour of one busy CPU. Where a CPU came or
    went between the samples the answer is Missing, because its counters begin elsewhere. More than
    4 billion packets of one CPU between the samples look like fewer.
    """
    seconds = elapsed(samples)
    if isinstance(seconds, Missing):
        return seconds
    before, after = (samples.before or samples.after).softnet, samples.after.softnet
    if isinstance(before, Missing):
        return before
    if isinstance(after, Missing):
        return after
    if [row.cpu for row in before] != [row.cpu for row in after]:
        return Missing("a CPU came or went between the samples")
    pairs = zip(before, after, strict=True)
    return Growth(sum((getattr(new, column) - getattr(old, column)) % WRAP for old, new in pairs), seconds)


# how a number goes: what it was at each look, how fast it grows, and when it will have reached a limit

RECENT = 300.0
"""Seconds of which every look is kept; the last three are whenever they were."""
_MOST_RECENT = 600
_MOST_IN_ALL = 240
_GROWTH = 60.0
"""Seconds over which growth is measured, where there were `_FEWEST` looks in them."""
_FEWEST = 3


class TooFew(Missing):
    """Growth that is not told yet: one look says nothing of it, and two a moment apart say little."""

    __slots__ = ()


_TOO_FEW = TooFew("needs three looks")


class Point(NamedTuple):
    """A number at one look."""

    clock: float
    """Seconds of CLOCK_BOOTTIME."""
    value: float | None
    """None where it was not known."""


class Series(NamedTuple):
    """What a number was: the last five minutes, and all of the time in at most 240 points.

    Where the latter are full every second one goes, and from then on only every second look is kept: hours
    and minutes take the same memory.
    """

    recent: tuple[Point, ...] = ()
    whole: tuple[Point, ...] = ()
    stride: int = 1
    """Of so many looks one is in `whole`."""
    looks: int = 0

    def add(self, clock: float, value: float | None) -> "Series":
        """Return the series with one look more."""
        point = Point(clock, value)
        recent = (*self.recent, point)
        first = next(place for place, one in enumerate(recent) if one.clock >= clock - RECENT)
        recent = recent[min(max(first, len(recent) - _MOST_RECENT), max(0, len(recent) - _FEWEST)) :]
        whole, stride = self.whole, self.stride
        if self.looks % stride == 0:
            whole = (*whole, point)
            if len(whole) > _MOST_IN_ALL:
                whole, stride = whole[::2], stride * 2
        return Series(recent, whole, stride, self.looks + 1)

    def per_minute(self) -> Reading[float]:
        """Growth per minute over the last minute, or over the last three looks where those took longer."""
        known = [point for point in self.recent if point.value is not None]
        if not self.recent or self.recent[-1].value is None:
            return Missing("it is not known at this look")
        if len(known) < _FEWEST:
            return _TOO_FEW
        last = known[-1]
        since = [point for point in known if point.clock >= last.clock - _GROWTH]
        first = since[0] if len(since) >= _FEWEST else known[-_FEWEST]
        if last.clock <= first.clock:
            return Missing("needs looks taken at different times")
        return ((last.value or 0.0) - (first.value or 0.0)) / (last.clock - first.clock) * 60

    def seconds_until(self, limit: float) -> float | None:
        """In how many seconds it reaches a limit above it if it goes on like this; None: it does not."""
        growth = self.per_minute()
        value = self.recent[-1].value if self.recent else None
        if value is None or isinstance(growth, Missing) or growth <= 0:
            return None
        return max(0.0, limit - value) / growth * 60

    def steps(self, number: int, until: float, since: float | None = None) -> list[float | None]:
        """Return `number` values for equal parts of a time, the latest last.

        A part has the last value known in it; one without any look has that of the part before it, as long as
        no look said that it is not known; None before the first look.

        Args:
            number: Of parts.
            until: End of the time, in seconds of CLOCK_BOOTTIME.
            since: Its beginning; None: five minutes before.
        """
        points = self.recent if since is None else self.whole
        width = (RECENT if since is None else max(1.0, until - since)) / number
        parts: list[float | None] = [None] * number
        met = [False] * number
        for point in points:
            place = number - 1 - int((until - point.clock) / width)
            if 0 <= place < number:
                parts[place], met[place] = point.value, True
        for before, place in pairwise(range(number)):
            if not met[place]:
                parts[place] = parts[before]
        return parts
