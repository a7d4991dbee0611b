"""Counters mean something only between two samples."""

import pytest

from tcpdoctor.facts.value import Growth
from tcpdoctor.kernel.reading import Missing
from tests.facts.samples import facts, once, snapshot, twice

OVERFLOWS = "TcpExt.ListenOverflows"


def counting(number):
    return snapshot(counters={OVERFLOWS: number})


def test_a_counter_is_its_growth_and_the_time_it_took():
    assert facts(twice(counting(40), counting(63), 2.5))[OVERFLOWS] == Growth(23, 2.5)


def test_a_counter_that_stood_still_grew_by_nothing():
    assert facts(twice(counting(40), counting(40)))[OVERFLOWS] == Growth(0, 1.0)


def test_one_sample_says_nothing_about_a_counter():
    assert facts(once(counting(40)))[OVERFLOWS] == Missing("needs two samples")


def test_a_counter_that_went_backwards_was_reset_and_is_no_huge_number():
    value = facts(twice(counting(40), counting(3)))[OVERFLOWS]
    assert isinstance(value, Missing)
    assert "went backwards" in value.reason


@pytest.mark.parametrize(("before", "after"), [({}, {OVERFLOWS: 1}), ({OVERFLOWS: 1}, {}), ({}, {})])
def test_a_counter_that_the_kernel_lacks_is_missing_and_not_zero(before, after):
    samples = twice(snapshot(counters=before), snapshot(counters=after))
    assert facts(samples)[OVERFLOWS] == Missing(f"this kernel does not count {OVERFLOWS}")


def test_counters_that_could_not_be_read_keep_the_kernels_reason():
    reason = Missing("/proc/net/snmp: permission denied")
    assert facts(twice(counting(1), snapshot(counters=reason)))[OVERFLOWS] is reason
    assert facts(twice(snapshot(counters=reason), counting(1)))[OVERFLOWS] is reason


def test_no_rate_without_time():
    value = facts(twice(counting(1), counting(2), 0))[OVERFLOWS]
    assert value == Missing("needs two samples taken at different times")


def test_samples_of_two_namespaces_cannot_be_compared():
    value = facts(twice(counting(1), counting(2)._replace(namespace=1)))[OVERFLOWS]
    assert value == Missing("the two samples are of different network namespaces")


def test_a_gauge_among_the_counters_needs_one_sample_only():
    assert facts(once(snapshot(counters={"Tcp.CurrEstab": 17})))["Tcp.CurrEstab"] == 17


def test_a_counter_of_milliseconds_grows_in_seconds():
    name = "TcpExt.TCPMemoryPressuresChrono"
    samples = twice(snapshot(counters={name: 1000}), snapshot(counters={name: 1250}))
    assert facts(samples)[name] == Growth(0.25, 1.0)


def test_counters_that_the_vocabulary_does_not_know_are_named():
    from tcpdoctor.facts.host import HostFacts

    counters = {
        "TcpExt.Novelty": 1,
        "TcpExt.TW": 1,
        "Tcp.RtoMin": 200,
        "Icmp6.OutType143": 1,
        "Udp.InErrors": 0,
    }
    sysctls = {"net.ipv4.tcp_novelty": 1, "net.ipv4.tcp_sack": 1, "net.ipv4.tcp_fastopen_key": Missing("x")}
    host = HostFacts(once(snapshot(counters=counters, sysctls=sysctls)))
    assert host.unknown_names() == ["TcpExt.Novelty", "sysctl.net.ipv4.tcp_novelty"]
