"""What appeared and what went between two runs; what could not be asked is neither."""

from hypothesis import given
from hypothesis import strategies as st

from tcpdoctor.diagnosis.changes import Changes, compare, told_after
from tcpdoctor.diagnosis.finding import Diagnosis, Severity, Unchecked
from tests.report.examples import FINDING

RULES = ("rule-a", "rule-b", "rule-c")


def finding(rule="rule-a", label="one", severity=Severity.WARNING):
    return FINDING._replace(rule=rule, label=label, fingerprint=f"{rule}/{label}", severity=severity)


def diagnosis(*findings, unchecked=()):
    return Diagnosis(tuple(findings), tuple(Unchecked(rule, "no reason") for rule in unchecked), 3)


def run(told, found, now, in_force=RULES, after=1):
    changes = compare(told, 0.0, found, in_force, after)
    return changes, told_after(told, found, changes, now)


def test_a_finding_is_told_when_it_appears_and_when_it_goes_and_never_between():
    first, told = run((), diagnosis(finding()), 1.0)
    second, told = run(told, diagnosis(finding()), 2.0)
    third, told = run(told, diagnosis(), 3.0)
    fourth, told = run(told, diagnosis(), 4.0)
    assert [item.label for item in first.appeared] == ["one"]
    assert not second.any()
    assert [(item.label, item.since) for item in third.gone] == [("one", 1.0)]
    assert not fourth.any()
    assert told == ()


def test_another_severity_is_a_change():
    _, told = run((), diagnosis(finding()), 1.0)
    changes, told = run(told, diagnosis(finding(severity=Severity.CRITICAL)), 2.0)
    assert [(item.before, item.finding.severity) for item in changes.changed] == [
        ("warning", Severity.CRITICAL)
    ]
    assert (told[0].severity, told[0].since) == ("critical", 1.0)


def test_what_cannot_be_checked_is_told_once_and_is_still_known_when_it_can_be_again():
    _, told = run((), diagnosis(finding()), 1.0)
    blind, told = run(told, diagnosis(unchecked=["rule-a"]), 2.0)
    again, told = run(told, diagnosis(unchecked=["rule-a"]), 3.0)
    assert [item.reason for item in blind.unanswered] == ["no reason"]
    assert blind.gone == ()
    assert not again.any()
    back, _ = run(told, diagnosis(finding()), 4.0)
    gone, _ = run(told, diagnosis(), 4.0)
    assert not back.any()
    assert [item.since for item in gone.gone] == [1.0]


def test_a_rule_that_is_not_in_force_is_not_asked_and_its_findings_stay_known():
    _, told = run((), diagnosis(finding()), 1.0)
    skipped, told = run(told, diagnosis(), 2.0, in_force=("rule-b",))
    assert not skipped.any()
    gone, _ = run(told, diagnosis(), 3.0)
    assert [item.label for item in gone.gone] == ["one"]


def test_what_is_below_a_severity_can_be_left_out():
    info, loud = finding(label="low", severity=Severity.INFO), finding(label="loud")
    appeared, told = run((), diagnosis(loud, info), 1.0)
    gone, _ = run(told, diagnosis(), 2.0)
    assert [item.label for item in appeared.at_least(Severity.WARNING).appeared] == ["loud"]
    assert [item.label for item in gone.at_least(Severity.WARNING).gone] == ["loud"]
    assert not gone.at_least(None).any()
    better, _ = run(told, diagnosis(loud._replace(severity=Severity.INFO), info), 2.0)
    assert len(better.at_least(Severity.WARNING).changed) == 1


LOOKS = st.lists(
    st.tuples(
        st.sets(st.sampled_from(["rule-a", "rule-b", "rule-c"])),
        st.sets(st.sampled_from(["rule-a", "rule-b", "rule-c"])),
        st.sets(st.sampled_from(["rule-a", "rule-b", "rule-c"])),
    ),
    max_size=8,
)
"""Of each look: the rules that fire, those that could not be answered, and those in force."""


@given(LOOKS)
def test_whoever_reads_only_the_changes_knows_what_is_there(looks):
    told, believed = (), set()
    for firing, blind, in_force in looks:
        fires = firing & in_force
        found = diagnosis(*[finding(rule) for rule in sorted(fires)], unchecked=(blind & in_force) - fires)
        changes, told = run(told, found, 1.0, in_force)
        believed |= {item.fingerprint for item in changes.appeared}
        gone = {item.fingerprint for item in changes.gone}
        assert gone <= believed
        believed -= gone
        assert {item.fingerprint for item in found.findings} <= believed
        assert believed == {item.fingerprint for item in told}
        answered = in_force - blind
        assert {item.rule for item in told if item.rule in answered} == fires & answered


def test_nothing_is_no_change():
    assert not Changes(None).any()


def told_by(*looks, after, in_force=RULES):
    """What each of several looks behind each other tells, in a word each."""
    told, words = (), []
    for number, look in enumerate(looks, 1):
        changes, told = run(told, look, float(number), in_force, after)
        parts = [("new", changes.appeared), ("changed", changes.changed), ("gone", changes.gone)]
        parts += [("unanswered", changes.unanswered)]
        words.append(" ".join(name for name, items in parts if items))
    return words, told


THERE, NOT = diagnosis(finding()), diagnosis()


def test_what_flaps_is_held_back_and_what_stays_is_told_once():
    assert told_by(THERE, NOT, THERE, NOT, THERE, after=2)[0] == [""] * 5
    words, told = told_by(THERE, THERE, THERE, THERE, after=3)
    assert words == ["", "", "new", ""]
    assert (told[0].since, told[0].held) == (1.0, "")


def test_what_is_gone_for_one_run_is_not_told_as_gone():
    words, _ = told_by(THERE, THERE, NOT, THERE, NOT, NOT, NOT, after=2)
    assert words == ["", "new", "", "", "", "gone", ""]


def test_another_severity_is_told_once_it_stays():
    worse = diagnosis(finding(severity=Severity.CRITICAL))
    words, told = told_by(THERE, THERE, worse, THERE, worse, worse, worse, after=2)
    assert words == ["", "new", "", "", "", "changed", ""]
    assert told[0].severity == "critical"


def test_runs_that_say_different_things_are_not_added_up():
    worse = diagnosis(finding(severity=Severity.CRITICAL))
    words, _ = told_by(*[THERE] * 3, worse, NOT, worse, NOT, worse, NOT, after=3)
    assert words == ["", "", "new", *[""] * 6]


def test_a_rule_that_cannot_be_answered_leaves_the_count_of_what_is_not_told_yet():
    blind = diagnosis(unchecked=["rule-a"])
    assert told_by(THERE, blind, THERE, after=2)[0] == ["", "", "new"]
    assert told_by(THERE, THERE, blind, THERE, blind, blind, blind, after=2)[0] == [
        *("", "new", "", "", "", "unanswered", "")
    ]


def test_what_is_held_back_and_goes_leaves_nothing_behind():
    assert told_by(THERE, NOT, after=2)[1] == ()
