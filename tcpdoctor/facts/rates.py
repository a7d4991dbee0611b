"""What counters did between two samples."""

from tcpdoctor.facts.value import Growth, Value
from tcpdoctor.kernel.counters import WRAP
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Samples, Snapshot

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
