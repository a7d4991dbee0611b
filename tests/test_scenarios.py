"""The lab is whole: every shipped rule is proven by a scenario, or its file says why it cannot be."""

import pytest

from tcpdoctor.cli.lab import shipped_rules
from tcpdoctor.diagnosis.lint import LONGEST_TITLE
from tcpdoctor.diagnosis.rule import is_id
from tcpdoctor.lab import catalogue
from tcpdoctor.lab.catalogue import LAB

RULES = {rule.id: rule for rule in shipped_rules()}
PROVEN = {rule for scenario in LAB.values() for rule in scenario.rules}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_proven_by_a_scenario_or_says_why_not(rule):
    reason = RULES[rule].no_scenario
    if rule in PROVEN:
        assert reason is None, "its file says that there is no scenario, and there is one"
    else:
        assert reason, 'write a scenario (in tcpdoctor/lab), or no_scenario = "why not" into its file'


def test_scenarios_prove_rules_that_there_are():
    assert set(RULES) >= PROVEN


def test_no_name_is_taken_twice():
    told = sum(len(family) for family in catalogue._FAMILIES)
    assert len(LAB) == told


@pytest.mark.parametrize("name", LAB)
def test_names_and_titles_have_the_form_of_a_rules(name):
    title = LAB[name].title
    assert is_id(name)
    assert len(title) <= LONGEST_TITLE
    assert not title.endswith(".")
    assert name not in RULES or name in LAB[name].rules


CLOSING_DANCE = (
    "restart-plain-after-plain",
    "restart-reuseaddr-after-plain",
    "restart-plain-after-reuseaddr",
    "restart-reuseaddr-after-reuseaddr",
    "fin-wait-2-against-close-wait",
    "half-close-streaming",
    "close-wait-leak",
    "close-wait-unread",
    "close-wait-not-accepted",
    "last-ack-stuck",
    "fin-wait-1-stuck",
    "zero-window-orphan",
    "time-wait-table-nearly-full",
)


@pytest.mark.parametrize("name", CLOSING_DANCE)
def test_the_closing_dance_is_complete(name):
    assert name in LAB
