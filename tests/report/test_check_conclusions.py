"""Status and exit code: the contract's sentences, one by one."""

import pytest

from tcpdoctor.answers.check import (
    CROWD,
    JUDGES,
    checked,
    exit_code,
    loud_findings,
    status,
    unchecked_rules,
    unjudged,
)
from tcpdoctor.answers.rules import shipped_texts
from tcpdoctor.diagnosis.finding import Severity, Unchecked
from tcpdoctor.diagnosis.library import Config, load_library
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.report.check_html import check_html
from tcpdoctor.report.check_markdown import check_markdown
from tcpdoctor.report.check_short import check_short
from tcpdoctor.report.check_text import check_text
from tcpdoctor.report.style import PLAIN
from tests.report.examples import CRITICAL, FINDING, HIDDEN, INAPPLICABLE, INFO, SNAPSHOT, check


@pytest.mark.parametrize(
    ("findings", "fail_on", "verdict", "code"),
    [
        ((), Severity.WARNING, "ok", 0),
        ((INFO,), Severity.WARNING, "ok", 0),
        ((INFO,), Severity.INFO, "ok", 0),
        ((FINDING, INFO), Severity.WARNING, "warning", 1),
        ((FINDING,), Severity.INFO, "warning", 1),
        ((FINDING,), Severity.CRITICAL, "warning", 0),
        ((FINDING,), None, "warning", 0),
        ((CRITICAL, FINDING), Severity.WARNING, "critical", 2),
        ((CRITICAL,), Severity.CRITICAL, "critical", 2),
        ((CRITICAL,), None, "critical", 0),
    ],
)
def test_the_worst_finding_at_or_above_fail_on_is_the_exit_code(findings, fail_on, verdict, code):
    run = check(*findings, fail_on=fail_on)
    assert (status(run), exit_code(run)) == (verdict, code)


@pytest.mark.parametrize("strict", [False, True])
def test_an_unanswered_rule_matters_only_under_strict(strict):
    run = check(unchecked=[HIDDEN], strict=strict)
    assert (status(run), exit_code(run)) == (("unknown", 3) if strict else ("ok", 0))


def test_strict_does_not_hide_what_was_found():
    run = check(FINDING, unchecked=[HIDDEN], strict=True)
    assert (status(run), exit_code(run)) == ("warning", 1)


def test_strict_says_3_where_the_finding_is_below_fail_on():
    run = check(FINDING, unchecked=[HIDDEN], strict=True, fail_on=Severity.CRITICAL)
    assert (status(run), exit_code(run)) == ("warning", 3)


def test_a_rule_that_does_not_apply_here_is_no_fault_under_strict():
    run = check(unchecked=[INAPPLICABLE], strict=True)
    assert (status(run), exit_code(run)) == ("ok", 0)


@pytest.mark.parametrize("rules", [0, 1])
def test_a_host_of_which_nothing_was_answered_is_unknown_and_not_well(rules):
    run = check(unchecked=[HIDDEN][:rules], rules=rules)
    assert (status(run), exit_code(run)) == ("unknown", 3)


def hidden(number):
    return [HIDDEN._replace(rule=f"rule-{place}") for place in range(number)]


@pytest.mark.parametrize(("unanswered", "verdict"), [(8, ("ok", 0)), (9, ("ok", 0)), (10, ("unknown", 3))])
def test_fewer_than_half_of_the_rules_that_apply_say_nothing_of_health(unanswered, verdict):
    elsewhere = [INAPPLICABLE, INAPPLICABLE._replace(rule="another")]
    run = check(unchecked=[*hidden(unanswered), *elsewhere], rules=20)
    assert (status(run), exit_code(run)) == verdict


def test_a_finding_is_told_however_little_could_be_answered():
    run = check(FINDING, unchecked=hidden(19), rules=20)
    assert (status(run), exit_code(run)) == ("warning", 1)


NO_SOCKETS = {
    name: Missing("netlink and /proc/net/tcp are refused") for name in ("census", "listeners", "detail")
}


def test_where_no_socket_could_be_listed_nothing_found_is_no_health():
    blind = SNAPSHOT._replace(**NO_SOCKETS)
    run = check(unchecked=[HIDDEN], snapshot=blind)
    assert (status(run), exit_code(run)) == ("unknown", 3)
    run = check(FINDING, unchecked=[HIDDEN], snapshot=blind)
    assert (status(run), exit_code(run)) == ("warning", 1)
    run = check(snapshot=blind)
    assert (status(run), exit_code(run)) == ("ok", 0), "all that was asked for was answered"


def test_a_rule_that_fired_for_one_subject_was_answered_though_others_are_hidden():
    run = check(INFO, unchecked=[HIDDEN._replace(rule=INFO.rule)], rules=1)
    assert (status(run), exit_code(run)) == ("ok", 0)


def test_a_rule_unanswered_for_two_reasons_is_one_unchecked_rule():
    diagnosis = check(unchecked=[HIDDEN, HIDDEN._replace(reason="needs two samples")]).diagnosis
    assert (checked(diagnosis), len(unchecked_rules(diagnosis))) == (19, 1)


@pytest.mark.parametrize(
    ("fail_on", "loud"),
    [
        (Severity.INFO, (CRITICAL, FINDING, INFO)),
        (Severity.WARNING, (CRITICAL, FINDING)),
        (Severity.CRITICAL, (CRITICAL,)),
        (None, ()),
    ],
)
def test_quiet_keeps_the_findings_at_or_above_fail_on(fail_on, loud):
    assert loud_findings(check(CRITICAL, FINDING, INFO, fail_on=fail_on)) == loud


AGELESS = Unchecked("close-wait-leak", "netstat does not print it; ask for: ss -tanoempi")


def waiting(number):
    counted = {**SNAPSHOT.census.by_state, TcpState.CLOSE_WAIT: number}
    return SNAPSHOT._replace(census=SNAPSHOT.census._replace(by_state=counted))


@pytest.mark.parametrize(("number", "verdict"), [(CROWD - 1, ("ok", 0)), (CROWD, ("unknown", 3))])
def test_a_crowd_that_no_rule_could_judge_is_not_called_well(number, verdict):
    run = check(unchecked=[AGELESS], snapshot=waiting(number))
    assert (status(run), exit_code(run)) == verdict


@pytest.mark.parametrize(
    "unchecked", [[], [AGELESS._replace(applies=False)], [AGELESS._replace(rule="last-ack-stuck")]]
)
def test_a_crowd_that_was_judged_or_is_of_another_state_changes_nothing(unchecked):
    assert status(check(unchecked=unchecked, snapshot=waiting(100 * CROWD))) == "ok"


def test_a_crowd_is_told_first_and_beside_findings_with_what_to_ask_for():
    look = waiting(100_003)
    for form in (check_short, check_text):
        alone = form(check(unchecked=[AGELESS], snapshot=look), PLAIN)
        assert "100,003 in CLOSE_WAIT, and it is not told" in " ".join(alone.split("\n\n")[0].split())
        for found in (alone, form(check(INFO, unchecked=[AGELESS], snapshot=look), PLAIN)):
            assert "100,003 in CLOSE_WAIT not judged by close-wait-leak: netstat" in " ".join(found.split())
            assert "ask for: ss -tanoempi" in " ".join(found.split())


def test_a_crowd_beside_findings_and_why_the_count_is_low_are_told_in_documents_too():
    look = waiting(100_003)
    look = look._replace(census=look.census._replace(complete=Missing("the listing was interrupted")))
    found = check(INFO, unchecked=[AGELESS], snapshot=look)
    for form in (check_markdown(found).replace("\\", ""), check_html(found)):
        said = " ".join(form.split())
        assert "100,003 in CLOSE_WAIT not judged by close-wait-leak: netstat" in said
        assert "the listing was interrupted" in said


def test_a_rule_that_found_some_has_judged_the_crowd():
    found = FINDING._replace(rule=AGELESS.rule)
    assert unjudged(check(found, unchecked=[AGELESS]).diagnosis, waiting(CROWD)) == []


def test_the_rules_that_judge_a_state_are_shipped():
    assert set(JUDGES) <= {rule.id for rule in load_library(shipped_texts(), Config("none", {})).rules}
