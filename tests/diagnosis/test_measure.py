"""What a rule is about, and where its worst subject stands: found by the form of its conditions."""

import math

import pytest

from tcpdoctor.answers.rules import shipped_texts
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.library import load_library
from tcpdoctor.diagnosis.measure import measured, measures
from tcpdoctor.diagnosis.rule import parse_rule
from tcpdoctor.diagnosis.tree import facts_of
from tcpdoctor.facts.subject import Scope, Subject
from tcpdoctor.facts.value import Ages, Growth, Range
from tcpdoctor.kernel.reading import Missing

RULES = {rule.id: rule for rule in load_library(shipped_texts()).rules}
INF = math.inf


def subject(label, facts, *, hidden=False, scope=Scope.PROCESS):
    return Subject(scope, label, {}, facts, hidden)


def ages(number, age):
    return Ages((age,) * number, (age,) * number, None)


def measure(rule, *subjects, **changes):
    (found,) = measures([RULES[rule]._replace(**changes)], lambda _: subjects)
    return found


def leak(label, number, **options):
    return subject(label, {"close_wait.owned_ages": ages(number, 600.0)}, **options)


@pytest.mark.parametrize(
    ("rule", "facts"),
    [
        ("close-wait-leak", ["close_wait.owned_ages"]),
        ("close-wait-near-descriptor-limit", ["process.descriptors.used"]),
        ("ephemeral-ports-nearly-exhausted", ["ports.blocked"]),
        ("accept-queue-full", ["accept_queue.least"]),
        ("time-wait-table-nearly-full", ["sockstat.TCP.tw"]),
        ("fin-wait-1-stuck", ["fin_wait_1.lasting", "fin_wait_1.closed_window_ages"]),
        ("tcp-memory-nearly-full", ["sockstat.TCP.mem"]),
        ("fin-timeout-short", ["sysctl.net.ipv4.tcp_fin_timeout"]),
    ],
)
def test_what_a_rule_is_about(rule, facts):
    assert [fact.name for fact in facts_of(measured(RULES[rule]))] == facts


def test_every_shipped_rule_is_about_something_that_was_read():
    for rule in RULES.values():
        assert facts_of(measured(rule)), rule.id


def test_the_worst_subject_stands_for_the_rule():
    found = measure("close-wait-leak", leak("a (1)", 7), leak("b (2)", 137), leak("c (3)", 101))
    assert (found.label, found.value) == ("b (2)", 137)
    assert (found.warning, found.critical) == (((100, INF),), ())


def test_a_value_below_the_limit_is_told_with_the_limit():
    found = measure("close-wait-leak", leak("a (1)", 7))
    assert (found.value, found.warning) == (7, ((100, INF),))


def test_of_small_values_the_smallest_is_the_worst_where_the_rule_asks_for_less():
    slow, fast = ({"sysctl.net.ipv4.tcp_fin_timeout": seconds} for seconds in (60, 5))
    found = measure("fin-timeout-short", subject("slow", slow), subject("fast", fast))
    assert (found.label, found.value, found.warning) == ("fast", 5, ((-INF, 15),))


def descriptors(label, used, owned):
    known = {"process.descriptors.used": used, "process.descriptors.limit": 1000, "close_wait.owned": owned}
    return subject(label, known)


def test_limits_are_those_of_the_subject():
    found = measure("close-wait-near-descriptor-limit", descriptors("a (1)", 900, 800))
    assert (found.value, found.warning, found.critical) == (900, ((800, INF),), ((950, INF),))


def test_a_value_beyond_a_limit_is_a_finding_or_has_no_limit():
    """Descriptors are nearly used up, but by something else: the rule is clear, and so is its measure."""
    found = measure("close-wait-near-descriptor-limit", descriptors("a (1)", 970, 3))
    assert (found.value, found.warning, found.critical) == (970, (), ())


def test_a_part_of_a_condition_that_cannot_hold_sets_no_limit():
    """A queue of two is too short for the share that warns: what counts is its limit."""
    queue = {
        "accept_queue.least": 1,
        "accept_queue.length": 1,
        "accept_queue.length_before": 1,
        "accept_queue.limit": 2,
    }
    found = measure("accept-queue-full", subject("0.0.0.0:80", queue))
    assert found.warning == ((2, INF),)


def test_a_severity_of_the_configuration_moves_the_limits():
    assert measure("close-wait-leak", leak("a", 7), severity=Severity.CRITICAL).critical == ((100, INF),)
    found = measure("close-wait-leak", leak("a", 700), severity=Severity.INFO)
    assert (found.value, found.warning, found.critical) == (700, (), ())


class TestWhatIsNotKnown:
    def test_without_a_subject_there_is_no_measure(self):
        assert measures([RULES["close-wait-leak"]], lambda _: ()) == []

    def test_subjects_that_could_not_be_read(self):
        (found,) = measures([RULES["close-wait-leak"]], lambda _: Missing("no netlink"))
        assert found.value == Missing("no netlink")

    def test_a_subject_of_which_nothing_is_known_may_be_the_worst(self):
        unknown = subject("b (2)", {"close_wait.owned_ages": Missing("hidden")})
        found = measure("close-wait-leak", leak("a (1)", 7), unknown)
        assert found.value == Missing("hidden")
        assert found.label is None

    def test_but_one_that_fires_is_bad_enough(self):
        unknown = subject("b (2)", {"close_wait.owned_ages": Missing("hidden")})
        assert measure("close-wait-leak", leak("a (1)", 107), unknown).value == 107

    def test_only_hidden_processes(self):
        found = measure("close-wait-leak", leak("hidden", 0, hidden=True))
        assert isinstance(found.value, Missing)
        assert found.warning == ((100, INF),)

    def test_a_count_known_in_part_is_a_number_only_where_that_part_is_enough(self):
        fires = Ages((600.0,) * 120, (600.0,) * 130, "hidden")
        clear = Ages((600.0,) * 20, (600.0,) * 30, "hidden")
        values = [
            measure("close-wait-leak", subject("a", {"close_wait.owned_ages": known})).value
            for known in (fires, clear)
        ]
        assert values == [120, Missing("hidden")]

    def test_a_limit_that_cannot_be_computed_is_left_out(self):
        known = {
            "process.descriptors.used": 9,
            "process.descriptors.limit": Missing("gone"),
            "close_wait.owned": 3,
        }
        found = measure("close-wait-near-descriptor-limit", subject("a", known))
        assert (found.value, found.warning, found.critical) == (9, (), ())


def test_shares_are_told_apart_from_switches():
    shares = (
        ("Tcp.OutSegs", 970),
        ("Tcp.RetransSegs", 30),
        ("TcpExt.TCPDSACKRecv", 0),
        ("TcpExt.TCPSynRetrans", 0),
    )
    rates = {counter: Growth(delta, 1.0) for counter, delta in shares}
    share = measure("retransmissions-above-normal", subject("host", rates, scope=Scope.HOST))
    assert (share.value, share.is_share, share.warning) == (0.03, True, ((0.01, INF),))
    switch = measure("syncookies-off", subject("host", {"sysctl.net.ipv4.tcp_syncookies": 1}))
    assert (switch.value, switch.is_share, switch.warning) == (1, False, ((0, 0),))


def test_not_turns_the_span_around():
    text = RULES["fin-timeout-short"].text.replace(
        '"sysctl.net.ipv4.tcp_fin_timeout < limit.min_timeout"',
        '"not sysctl.net.ipv4.tcp_fin_timeout >= limit.min_timeout"',
    )
    rule = parse_rule(text, "x.toml", "config")
    (found,) = measures([rule], lambda _: [subject("h", {"sysctl.net.ipv4.tcp_fin_timeout": 20})])
    assert found.warning == ((-INF, 15),)


def test_a_range_is_no_number():
    facts = {"accept_queue.least": Range(0, 9, "hidden"), "accept_queue.limit": 4}
    assert measure("accept-queue-full", subject("l", facts)).value == Missing("hidden")
