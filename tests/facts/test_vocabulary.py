"""Every fact has a name, a dimension, a scope, a sentence and a source; and every one is computed."""

import pytest

from tcpdoctor.facts.counter_facts import COUNTER_FACTS, GAUGES, NOT_FACTS, UNITS
from tcpdoctor.facts.subject import AGES, COUNTER, GAUGE, TEXT, Fact, Scope
from tcpdoctor.facts.sysctl_facts import NOT_READ, PARTS, SYSCTL_FACTS
from tcpdoctor.facts.value import BYTE, COUNT, PAGE, PER_SECOND, RATIO, SECOND
from tcpdoctor.facts.vocabulary import fact_names, find_fact, own_facts
from tcpdoctor.kernel.snapshot import Destination, DestinationUse
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState
from tcpdoctor.kernel.sysctl import WANTED
from tests.facts.samples import CONNECTION, LISTENER, census, held_by, once, snapshot, subjects

EVERY_FACT = [fact for scope in Scope for fact in own_facts(scope)]


@pytest.mark.parametrize("scope", list(Scope))
def test_every_name_is_found_and_unique(scope):
    names = fact_names(scope)
    assert len(set(names)) == len(names)
    assert [name for name in names if find_fact(name) is None] == []


def test_every_fact_is_described_in_one_sentence_with_its_source():
    for fact in EVERY_FACT:
        check_words(fact)


def check_words(fact: Fact) -> None:
    assert fact.meaning[0].isupper() or fact.meaning[0].isdigit() or fact.meaning.startswith("systemd")
    assert fact.meaning.endswith(".")
    assert len(fact.meaning) < 240
    assert "\n" not in fact.meaning
    assert fact.source
    assert fact.kind in (GAUGE, COUNTER, AGES, TEXT)
    assert (fact.kind == TEXT) == (fact.dimension is None)


def test_other_scopes_see_the_facts_of_the_host():
    for scope in Scope:
        assert set(fact_names(Scope.HOST)) <= set(fact_names(scope))


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "tcpext.listenoverflows",
        "TcpExt.listenOverflows",
        "TcpExt.",
        "Tcp.RtoMin",
        "sysctl.net.ipv4.tcp_mem",
        "sysctl.net.ipv4.tcp_mem.default",
        "sysctl.net.ipv4.tcp_fin_timeout.min",
        "sysctl.net.ipv4.ip_local_port_range",
        "sysctl.",
        "net.ipv4.tcp_fin_timeout",
        "sockets.close",
        "sockets.CLOSE_WAIT",
        "port.close",
        "sockstat.UDP.inuse",
        "close_wait",
        "close_wait.owned ",
    ],
)
def test_a_name_that_is_not_exact_is_no_fact(name):
    assert find_fact(name) is None


@pytest.mark.parametrize(
    ("name", "dimension", "kind", "scope"),
    [
        ("sysctl.net.ipv4.tcp_fin_timeout", SECOND, GAUGE, Scope.HOST),
        ("sysctl.net.ipv4.tcp_tw_reuse_delay", SECOND, GAUGE, Scope.HOST),
        ("sysctl.net.ipv4.tcp_mem.max", PAGE, GAUGE, Scope.HOST),
        ("sysctl.net.ipv4.tcp_rmem.default", BYTE, GAUGE, Scope.HOST),
        ("sysctl.net.ipv4.tcp_max_orphans", COUNT, GAUGE, Scope.HOST),
        ("sysctl.net.ipv4.tcp_syncookies", RATIO, GAUGE, Scope.HOST),
        ("sysctl.net.ipv4.tcp_challenge_ack_limit", PER_SECOND, GAUGE, Scope.HOST),
        ("sysctl.net.ipv4.tcp_congestion_control", None, TEXT, Scope.HOST),
        ("sysctl.net.ipv4.ip_local_reserved_ports", None, TEXT, Scope.HOST),
        ("TcpExt.ListenOverflows", COUNT, COUNTER, Scope.HOST),
        ("TcpExt.TCPMemoryPressuresChrono", SECOND, COUNTER, Scope.HOST),
        ("IpExt.InOctets", BYTE, COUNTER, Scope.HOST),
        ("Tcp.CurrEstab", COUNT, GAUGE, Scope.HOST),
        ("sockstat.TCP.mem", PAGE, GAUGE, Scope.HOST),
        ("sockets.close_wait", COUNT, GAUGE, Scope.HOST),
        ("port.time_wait", COUNT, GAUGE, Scope.PORT),
        ("close_wait.owned_ages", SECOND, AGES, Scope.PROCESS),
        ("accept_queue.drops", COUNT, COUNTER, Scope.LISTENER),
        ("ports.used", COUNT, GAUGE, Scope.DESTINATION),
    ],
)
def test_dimension_kind_and_scope(name, dimension, kind, scope):
    fact = find_fact(name)
    assert fact is not None
    assert (fact.dimension, fact.kind, fact.scope) == (dimension, kind, scope)


def test_every_setting_with_a_fact_is_read_in_every_look():
    assert [n for n in SYSCTL_FACTS if n not in WANTED and not n.startswith("net.ipv4.tcp_")] == []


def test_every_setting_that_is_read_has_a_fact():
    assert [name for name in WANTED if name not in SYSCTL_FACTS and name not in NOT_READ] == []


def test_the_tables_agree_with_each_other():
    assert set(PARTS) <= set(SYSCTL_FACTS)
    assert set(UNITS) <= set(COUNTER_FACTS)
    assert set(GAUGES) <= set(COUNTER_FACTS)
    assert not NOT_FACTS & set(COUNTER_FACTS)


ONE_OF_EACH = once(
    snapshot(
        [CONNECTION._replace(owner=held_by(811, 7))],
        listeners=(LISTENER,),
        census=census(
            by_port={(TcpState.LISTEN, 8080): 1},
            by_destination={Destination("10.0.0.1", "10.0.0.9", 443): DestinationUse(3, 1)},
        ),
    )
)


@pytest.mark.parametrize("scope", list(Scope))
def test_every_fact_of_the_vocabulary_is_computed_and_no_other(scope):
    (subject,) = subjects(ONE_OF_EACH, scope)
    assert set(subject.facts) == set(fact_names(scope))
    assert len(subject.facts) == len(fact_names(scope))
    for name in fact_names(scope):
        assert subject.facts[name] is not None
        assert name in subject.facts


@pytest.mark.parametrize("scope", list(Scope))
def test_a_name_without_a_fact_raises(scope):
    (subject,) = subjects(ONE_OF_EACH, scope)
    assert "close_wait.nonsense" not in subject.facts
    with pytest.raises(KeyError):
        subject.facts["close_wait.nonsense"]


def test_each_counted_state_has_a_fact_of_host_and_port():
    for state in COUNTED_STATES:
        assert find_fact(f"sockets.{state.key}") is not None
        assert find_fact(f"port.{state.key}") is not None
