"""`check` as a monitoring plugin, read by the letter of the Monitoring Plugins Development Guidelines."""

import re

import pytest

from tcpdoctor.answers.check import with_measures
from tcpdoctor.answers.rules import shipped_texts
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.library import load_library
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.states import COUNTED_STATES
from tcpdoctor.report.check_nagios import check_nagios, unknown_nagios
from tests.report.examples import CRITICAL, FINDING, HIDDEN, INAPPLICABLE, INFO, SNAPSHOT, check
from tests.report.hostile import NASTY_FINDING

RULES = load_library(shipped_texts()).rules
NUMBER = r"-?\d+(?:\.\d+)?"
RANGE = rf"@?(?:(?:{NUMBER}|~)?:)?(?:{NUMBER})?"
DATUM = re.compile(rf"'((?:[^'=]|'')+)'=({NUMBER}|U)(us|ms|s|%|[KMGT]?B|c)?;({RANGE});({RANGE});({NUMBER})?")


def read(text):
    """Text and performance data as Nagios separates them; every datum must be one by the guidelines."""
    lines = text.rstrip("\n").split("\n")
    head, _, data = lines[0].partition("|")
    details, _, more = "\n".join(lines[1:]).partition("|")
    assert "|" not in data + more
    words = re.findall(r"'(?:[^']|'')+'=\S+", f"{data} {more}")
    assert " ".join(words).split() == f"{data} {more}".split()
    data = {}
    for word in words:
        match = DATUM.fullmatch(word)
        assert match, word
        assert match[1] not in data
        data[match[1]] = match.groups()[1:]
    return head.strip(), details.strip(), data


@pytest.mark.parametrize(
    ("answer", "begins"),
    [
        (check(), "TCPDOCTOR OK - no findings, 20 rules checked"),
        (check(unchecked=[HIDDEN]), "TCPDOCTOR OK - no findings, 19 rules checked; 1 rule not answered"),
        (check(unchecked=[INAPPLICABLE]), "TCPDOCTOR OK - no findings, 19 rules checked"),
        (check(FINDING), "TCPDOCTOR WARNING - 1 finding: nginx (811) 120 FIN_WAIT_2 held open, "),
        (
            check(CRITICAL, FINDING),
            (
                "TCPDOCTOR CRITICAL - 2 findings: 0.0.0.0:80 accept queue 6 of 5 on :80, clients wait, "
                "fin-wait-2-held-open"
            ),
        ),
        (check(INFO), "TCPDOCTOR OK - 1 finding: 0.0.0.0:40000 "),
        (check(FINDING, fail_on=Severity.CRITICAL), "TCPDOCTOR OK - 1 finding"),
        (check(unchecked=[HIDDEN], strict=True), "TCPDOCTOR UNKNOWN - no findings"),
    ],
)
def test_the_first_word_is_that_of_the_exit_code(answer, begins):
    head, _, _ = read(check_nagios(answer))
    assert head.startswith(begins)
    assert len(head) <= 120


def test_many_findings_do_not_make_the_first_line_long():
    many = [
        CRITICAL._replace(rule=f"rule-number-{number}", label=f"0.0.0.0:{number}") for number in range(50)
    ]
    head, details, _ = read(check_nagios(check(*many, rules=60)))
    assert len(head) <= 120
    assert re.search(r"accept queue 6 of 5.*, rule-number-1, \d+ more$|, 49 more$", head)
    assert details.count("CRITICAL") == 50


def test_what_the_first_line_names_and_what_it_counts_is_all_that_was_found():
    head, _, _ = read(check_nagios(check(CRITICAL, *[FINDING] * 3, INFO)))
    assert head.endswith("clients wait, 4 more"), head


def test_many_subjects_of_one_rule_are_told_once():
    many = [CRITICAL._replace(label=f"0.0.0.0:{number}") for number in range(50)]
    head, details, _ = read(check_nagios(check(*many)))
    assert head.endswith(
        "50 findings: 0.0.0.0:0 accept queue 6 of 5 on :80, clients wait, accept-queue-full (49)"
    )
    assert details.count("CRITICAL 0.0.0.0:") == 10
    assert "40 findings more of accept-queue-full" in details


def test_states_are_data_without_thresholds_and_what_is_unknown_is_u():
    text = check_nagios(check(FINDING))
    _, _, data = read(text)
    assert data["fin_wait_2"] == ("120", None, "", "", "0")
    assert data["bound"] == ("U", None, "", "", "0")
    assert list(data) == [state.key for state in COUNTED_STATES]
    assert set(read(text.splitlines()[0])[2]) == set(data)  # all of them on the first line


def test_rules_are_data_after_the_details_with_their_limits():
    snapshot = SNAPSHOT._replace(sysctls={"net.ipv4.tcp_fin_timeout": 7, "net.ipv4.tcp_syncookies": 1})
    answer = check(FINDING, rules=len(RULES), snapshot=snapshot)._replace(rules=RULES)
    text = check_nagios(with_measures(answer, "nagios"))
    _, _, data = read(text)
    assert data["fin-timeout-short"] == ("7", "s", "15:", "", "0")
    assert data["syncookies-off"] == ("1", None, "", "", "0")
    assert data["retransmissions-above-normal"][0] == "U"
    assert "fin-timeout-short" not in text.splitlines()[0]
    assert "close-wait-leak" not in data  # no process, so nothing to measure


def test_a_rule_about_the_whole_machine_has_no_datum_elsewhere():
    answer = check(rules=len(RULES), unchecked=[INAPPLICABLE])._replace(rules=RULES)
    assert INAPPLICABLE.rule not in read(check_nagios(with_measures(answer, "nagios")))[2]


def test_without_a_census_no_state_is_zero():
    _, _, data = read(check_nagios(check(snapshot=SNAPSHOT._replace(census=Missing("EPERM")))))
    assert {datum[0] for datum in data.values()} == {"U"}


def test_what_strangers_choose_is_neither_data_nor_a_line_nor_a_quote():
    text = check_nagios(check(NASTY_FINDING))
    _, details, data = read(text)
    assert set(data) == {state.key for state in COUNTED_STATES}
    assert len(details.split("\n")) == 2
    assert "a\\x7cb" in details
    assert set(details) & set("'\"\r\x00\x1b\x85") == set()


def test_what_could_not_look_is_one_line():
    assert unknown_nagios("a rule\nis 'wrong' | here") == (
        "TCPDOCTOR UNKNOWN - a rule is \u02bcwrong\u02bc \\x7c here\n"
    )
