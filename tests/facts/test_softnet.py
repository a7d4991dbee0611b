"""Packets of all CPUs together, and counters of 32 bits that wrap."""

from tcpdoctor.facts.value import Growth
from tcpdoctor.kernel.counters import CpuPackets
from tcpdoctor.kernel.reading import Missing

from .samples import facts, once, snapshot, twice

FACTS = ("softnet.processed", "softnet.dropped", "softnet.squeezed")


def seen(*rows, **changes):
    return snapshot(softnet=tuple(CpuPackets(*row) for row in rows), **changes)


def test_the_growth_of_all_cpus_is_added_up():
    known = facts(twice(seen((0, 10, 1, 0), (1, 20, 2, 0)), seen((0, 110, 1, 3), (1, 25, 9, 4)), 2.0))
    assert [known[name] for name in FACTS] == [Growth(105, 2.0), Growth(7, 2.0), Growth(7, 2.0)]


def test_a_counter_that_wrapped_at_32_bits_has_grown():
    known = facts(twice(seen((0, 0xFFFFFFF0, 0, 0)), seen((0, 0x10, 0, 0))))
    assert known["softnet.processed"] == Growth(32, 1.0)


def test_a_cpu_that_came_makes_it_missing():
    known = facts(twice(seen((0, 10, 1, 0)), seen((0, 110, 1, 3), (1, 25, 9, 4))))
    assert known["softnet.dropped"] == Missing("a CPU came or went between the samples")


def test_one_sample_is_not_enough():
    assert facts(once(seen((0, 10, 1, 0))))["softnet.dropped"] == Missing("needs two samples")


def test_a_look_that_could_not_read_it_says_why():
    gone = Missing("/proc/net/softnet_stat does not exist here")
    assert facts(twice(seen((0, 1, 1, 1)), snapshot(softnet=gone)))["softnet.dropped"] == gone
    assert facts(twice(snapshot(softnet=gone), seen((0, 1, 1, 1))))["softnet.dropped"] == gone
