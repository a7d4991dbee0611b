"""Whose owners a diagnosis that was made without them still wants.

A rule that is clear while nobody knows who holds what is clear whoever does: its facts were ranges that held
the truth. So owners matter for rules that could not be answered, and for the text of those that fired.
"""

from collections.abc import Sequence

from tcpdoctor.diagnosis.finding import Diagnosis
from tcpdoctor.diagnosis.rule import Rule
from tcpdoctor.diagnosis.tree import facts_of
from tcpdoctor.facts.owned import OWNED_FACTS
from tcpdoctor.facts.subject import Scope
from tcpdoctor.kernel.snapshot import Owned


def owners_wanted(rules: Sequence[Rule], diagnosis: Diagnosis) -> frozenset[Owned]:
    """The kinds of sockets whose owners could change the diagnosis, or that its findings name."""
    unknown = {each.rule for each in diagnosis.unchecked}
    fired = {each.rule for each in diagnosis.findings}
    wanted: set[Owned] = set()
    for rule in rules:
        if rule.id in fired:
            wanted |= _told_by(rule)
        elif rule.id in unknown:
            wanted |= _decided_by(rule)
    return frozenset(wanted)


def _decided_by(rule: Rule) -> set[Owned]:
    return {
        owned
        for trigger in rule.fires
        for fact in facts_of(trigger.tree)
        for owned in OWNED_FACTS.get(fact.name, ())
    }


def _told_by(rule: Rule) -> set[Owned]:
    """What any part of the rule names; listeners on one address are told apart by their owners besides."""
    named = {owned for name, each in OWNED_FACTS.items() if name in rule.text for owned in each}
    return named | {Owned.LISTENER} if rule.scope is Scope.LISTENER else named
