"""What a rule is about, and where its worst subject stands."""

import pytest

from tcpdoctor.answers.rules import shipped_texts
from tcpdoctor.diagnosis.closure import facts_of
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.library import load_library
from tcpdoctor.diagnosis.measure import measures
from tcpdoctor.diagnosis.rule import measured
from tcpdoctor.facts.subject import Scope, Subject
from tcpdoctor.facts.value import Ages, Growth, Range
from tcpdoctor.kernel.reading import Missing

RULES = {rule.id: rule for rule in load_library(shipped_texts()).rules}


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
        ("close-wait-near-descriptor-limit", ["process.descriptors.used", "process.descriptors.limit"]),
        ("ephemeral-ports-nearly-exhausted", ["ports.used", "ports.connectable"]),
        ("accept-queue-full", ["accept_queue.least", "accept_queue.limit"]),
        ("fin-wait-1-stuck", ["fin_wait_1.lasting", "fin_wait_1.closed_window_ages"]),
        ("fin-timeout-short", ["sysctl.net.ipv4.tcp_fin_timeout"]),
    ],
)
def test_what_a_rule_is_about(rule, facts):
    assert [fact.name for fact in facts_of(measured(RULES[rule]).tree)] == facts


def test_every_shipped_rule_is_about_something_that_was_read():
    for rule in RULES.values():
        assert facts_of(measured(rule).tree), rule.id


def test_the_worst_subject_stands_for_the_rule():
    found = measure("close-wait-leak", leak("a (1)", 7), leak("b (2)", 137), leak("c (3)", 101))
    assert (found.label, found.value) == ("b (2)", 137)
    assert (found.limit, found.warning, found.critical) == (100, 100, None)


def test_a_value_below_the_limit_is_told_with_the_limit():
    found = measure("close-wait-leak", leak("a (1)", 7))
    assert (found.value, found.warning) == (7, 100)


def test_of_small_values_the_smallest_is_the_worst_where_the_rule_asks_for_less():
    slow, fast = ({"sysctl.net.ipv4.tcp_fin_timeout": seconds} for seconds in (60, 5))
    found = measure("fin-timeout-short", subject("slow", slow), subject("fast", fast))
    assert (found.label, found.value, found.warning, found.falls) == ("fast", 5, 15, True)


def descriptors(label, used, owned):
    known = {"process.descriptors.used": used, "process.descriptors.limit": 1000, "close_wait.owned": owned}
    return subject(label, known | {"process.descriptors.share": used / 1000})


def test_each_severity_has_its_limit():
    found = measure("close-wait-near-descriptor-limit", descriptors("a (1)", 970, 800))
    assert (found.value, found.warning, found.critical) == (0.97, 0.8, 0.95)


def test_a_value_beyond_a_limit_is_a_finding_or_has_no_limit():
    """Descriptors are nearly used up, but by something else: the rule is clear, and so is its measure."""
    found = measure("close-wait-near-descriptor-limit", descriptors("a (1)", 970, 3))
    assert (found.value, found.limit, found.warning, found.critical) == (0.97, None, None, None)


def test_a_severity_of_the_configuration_moves_the_limit():
    found = measure("close-wait-leak", leak("a", 7), severity=Severity.CRITICAL)
    assert (found.warning, found.critical) == (None, 100)
    found = measure("close-wait-leak", leak("a", 700), severity=Severity.INFO)
    assert (found.value, found.warning, found.critical) == (700, None, None)


class TestWhatIsNotKnown:
    def test_a_rule_that_does_not_say_what_it_is_about_has_no_measure(self):
        rule = RULES["close-wait-leak"]._replace(measure=None, measure_limits={})
        assert measures([rule], lambda _: [leak("a (1)", 7)]) == []

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
        assert found.warning == 100

    def test_a_count_known_in_part_is_a_number_only_where_that_part_is_enough(self):
        fires = Ages((600.0,) * 120, (600.0,) * 130, "hidden")
        clear = Ages((600.0,) * 20, (600.0,) * 30, "hidden")
        values = [
            measure("close-wait-leak", subject("a", {"close_wait.owned_ages": known})).value
            for known in (fires, clear)
        ]
        assert values == [120, Missing("hidden")]

    def test_a_share_of_what_is_not_known_is_not_known(self):
        known = {
            "process.descriptors.used": 9,
            "process.descriptors.limit": Missing("gone"),
            "close_wait.owned": 3,
        }
        found = measure("close-wait-near-descriptor-limit", subject("a", known))
        assert (found.value, found.warning, found.critical) == (Missing("gone"), 0.8, 0.95)


def test_shares_are_told_apart_from_switches():
    shares = (
        ("Tcp.OutSegs", 970),
        ("Tcp.RetransSegs", 30),
        ("TcpExt.TCPDSACKRecv", 0),
        ("TcpExt.TCPSynRetrans", 0),
    )
    rates = {counter: Growth(delta, 1.0) for counter, delta in shares}
    share = measure("retransmissions-above-normal", subject("host", rates, scope=Scope.HOST))
    assert (share.value, share.is_share, share.warning) == (0.03, True, 0.01)
    switch = measure("syncookies-off", subject("host", {"sysctl.net.ipv4.tcp_syncookies": 1}))
    assert (switch.value, switch.is_share, switch.limit) == (1, False, None)


def test_a_range_is_no_number():
    facts = {"accept_queue.least": Range(0, 9, "hidden"), "accept_queue.limit": 4}
    assert measure("accept-queue-full", subject("l", facts)).value == Missing("hidden")
