"""`check` as JUnit XML: one test case per rule, whatever strangers choose."""

import junitparser
import pytest

from tcpdoctor.answers.rules import shipped_texts
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.library import load_library
from tcpdoctor.report.check_junit import check_junit
from tests.report.examples import CRITICAL, FINDING, HIDDEN, INAPPLICABLE, INFO, check
from tests.report.hostile import NASTY_FINDING

RULES = load_library(shipped_texts()).rules


def read(answer):
    (suite,) = junitparser.JUnitXml.fromstring(check_junit(answer._replace(rules=RULES)).encode())
    return suite, {case.name: case for case in suite}


def test_there_is_one_case_per_rule():
    suite, cases = read(check(FINDING, CRITICAL, unchecked=[HIDDEN]))
    assert list(cases) == [rule.id for rule in RULES]
    assert cases["close-wait-leak"].classname == "tcpdoctor.close"
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (len(RULES), 2, 0, 1)
    assert suite.hostname == "web1"
    assert suite.timestamp == "2026-11-20T12:00:00"
    assert {p.name: p.value for p in suite.properties()}["kernel"] == "6.18.44"


def test_a_finding_is_a_failure_with_all_that_is_known():
    other = FINDING._replace(label="php (9)", summary="php (pid 9) holds 101 sockets")
    _, cases = read(check(FINDING, other))
    (failure,) = cases[FINDING.rule].result
    assert isinstance(failure, junitparser.Failure)
    assert failure.type == "warning"
    assert failure.message == f"nginx (811): {FINDING.summary}; php (9): {other.summary}"
    assert "What to do" in failure.text
    assert "php (pid 9) holds 101 sockets" in failure.text


@pytest.mark.parametrize(
    "answer", [check(INFO), check(INFO, fail_on=Severity.INFO), check(INFO._replace(), fail_on=None)]
)
def test_what_does_not_change_the_exit_code_does_not_fail(answer):
    suite, cases = read(answer)
    assert suite.failures == 0
    assert cases[INFO.rule].is_passed
    assert INFO.summary.split()[0] in cases[INFO.rule].system_out


def test_what_was_not_answered_is_skipped_with_the_reason():
    suite, cases = read(
        check(CRITICAL, unchecked=[HIDDEN, INAPPLICABLE, HIDDEN._replace(rule=CRITICAL.rule)])
    )
    assert [cases[rule].result[0].message for rule in (HIDDEN.rule, INAPPLICABLE.rule)] == [
        HIDDEN.reason,
        INAPPLICABLE.reason,
    ]
    assert suite.skipped == 2
    assert "not answered for all" in cases[CRITICAL.rule].system_err


def test_what_strangers_choose_breaks_nothing_and_hides_nothing():
    _, cases = read(check(NASTY_FINDING))
    (failure,) = cases[FINDING.rule].result
    assert "a|b'c\"d\\e\n</failure>]]>&amp;\\x00\\x1b[31m" in failure.message
    assert "<script>" in failure.message
    assert "\\ufffe\\ud800" in failure.message
