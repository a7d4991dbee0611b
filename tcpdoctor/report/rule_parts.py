"""What the text page and the JSON of a rule have in common."""

from typing import NamedTuple

from tcpdoctor.diagnosis.rule import Rule
from tcpdoctor.diagnosis.tree import facts_of
from tcpdoctor.facts.vocabulary import Fact


class ListEntry(NamedTuple):
    """What the list says of a rule besides its name and title."""

    severities: tuple[str, ...]
    """The severities that its findings can have, the worst first."""
    state: str
    """``on`` or ``off``."""


def list_entry(rule: Rule, off: str | None) -> ListEntry:
    """Sum up a rule."""
    levels = tuple(trigger.severity.key for trigger in rule.fires)
    return ListEntry(
        severities=levels if rule.severity is None else (rule.severity.key,),
        state="on" if off is None else "off",
    )


def switched(rule: Rule, off: str | None) -> str:
    """``on``, ``off by --skip``, ``on, severity set to info``."""
    if off is not None:
        return f"off by {off}"
    return "on" if rule.severity is None else f"on, severity set to {rule.severity.key}"


def facts_read(rule: Rule) -> list[Fact]:
    """The facts that its conditions read, without duplicates."""
    return list(dict.fromkeys(fact for trigger in rule.fires for fact in facts_of(trigger.tree)))
