"""Growth of the packet counters of all CPUs together, which wrap around at 32 bits."""

from tcpdoctor.facts.rates import elapsed
from tcpdoctor.facts.value import Growth, Value
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Samples
from tcpdoctor.kernel.softnet import WRAP


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
