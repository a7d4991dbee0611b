"""Scenarios beside the rules that they prove."""

from collections.abc import Sequence

from tcpdoctor.cli.rule_files import shipped_texts
from tcpdoctor.diagnosis.library import load_library
from tcpdoctor.diagnosis.nearest import nearest
from tcpdoctor.diagnosis.rule import Rule
from tcpdoctor.errors import QuestionError
from tcpdoctor.lab.catalogue import LAB
from tcpdoctor.lab.scenario import Scenario
from tcpdoctor.report.lab_list import Listed
from tcpdoctor.report.proof import Unproven


def shipped_rules() -> tuple[Rule, ...]:
    """The rules of this program, whatever the administrator of this host has changed."""
    return load_library(shipped_texts()).rules


def list_entries() -> list[Listed]:
    """Every scenario, with the rules that it proves."""
    return [Listed(scenario.name, scenario.title, scenario.rules) for scenario in LAB.values()]


def rules_without(entries: Sequence[Listed]) -> tuple[Unproven, ...]:
    """The shipped rules that no scenario proves, with the reason that their file gives."""
    proven = {rule for entry in entries for rule in entry.rules}
    return tuple(
        Unproven(rule.id, rule.no_scenario or "its file does not say why")
        for rule in shipped_rules()
        if rule.id not in proven
    )


def find_scenario(name: str) -> Scenario:
    """The scenario of this name, or the first that proves the rule of this name.

    Raises:
        QuestionError: There is none; with the reason of the rule's file, or the nearest name.
    """
    wanted = name.rpartition("/")[2]
    if wanted in LAB:
        return LAB[wanted]
    for scenario in LAB.values():
        if wanted in scenario.rules:
            return scenario
    for rule in shipped_rules():
        if rule.id == wanted:
            raise QuestionError(f"rule {wanted} has no scenario: {rule.no_scenario or 'nobody made one yet'}")
    close = nearest(wanted, LAB)
    hint = f"did you mean {close}?" if close else "`tcpdoctor lab list` prints all of them"
    raise QuestionError(f"there is no scenario {name[:80]!r}; {hint}")
