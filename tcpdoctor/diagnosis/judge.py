"""One rule's verdict for one subject: it fires, is clear, or cannot be told."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from tcpdoctor.diagnosis.closure import Decide, Facts, Observation, compile_condition, join_reasons
from tcpdoctor.diagnosis.rule import Rule, Trigger
from tcpdoctor.facts.subject import Scope, Subject
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.named_tuples import NamedTuple

SubjectsOf: TypeAlias = Callable[[Scope], Reading[Sequence[Subject]]]


class Judge(NamedTuple):
    """A rule's conditions, compiled, the worst first."""

    triggers: tuple[tuple[Trigger, Decide], ...]


def make_judge(rule: Rule) -> Judge:
    """Compile a rule's conditions with the limits in force."""
    limits = rule.limit_values
    return Judge(tuple((trigger, _compile(trigger, limits)) for trigger in rule.fires))


def _compile(trigger: Trigger, limits: Mapping[str, float]) -> Decide:
    return compile_condition(trigger.tree, limits, at_most=trigger.at_most)


def judge(by: Judge, facts: Facts) -> Trigger | Missing | None:
    """The worst trigger that holds; None where it is clear; `Missing` where nothing holds and something may.

    A lesser trigger that holds fires even where a worse one cannot be told.
    """
    unknown: list[Missing] = []
    for trigger, decide in by.triggers:
        truth = decide(facts)
        if truth is True:
            return trigger
        if isinstance(truth, Missing):
            unknown.append(truth)
    if len(unknown) > 1:
        return Missing(join_reasons(unknown))
    return unknown[0] if unknown else None


def observe(rule: Rule, trigger: Trigger, facts: Facts) -> list[Observation]:
    """What evaluating one condition reads, in order and without duplicates."""
    seen: list[Observation] = []
    compile_condition(trigger.tree, rule.limit_values, seen.append, at_most=trigger.at_most)(facts)
    return list(dict.fromkeys(seen))
