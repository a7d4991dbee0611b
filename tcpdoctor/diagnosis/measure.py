"""One rule's verdict for one subject, and how far the worst one is from its limits, fired or not.

A rule says itself what it is about (`measure`) and with which of its limits that is compared
(`measure_limit`, or `measure_below` where less is worse); `rules lint` proves that it fires only there.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from tcpdoctor.diagnosis import closure as values
from tcpdoctor.diagnosis.closure import (
    Compute,
    Decide,
    Facts,
    Number,
    Observation,
    Truth,
    compile_condition,
    compile_number,
    join_reasons,
)
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.rule import Measured, Rule, Trigger, measured
from tcpdoctor.facts.subject import Scope, Subject
from tcpdoctor.facts.value import Dimension, Range
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


class Measure(NamedTuple):
    """What a rule is about, for its worst subject."""

    rule: str
    label: str | None
    """The subject; None where it cannot be told which is the worst."""
    value: float | Missing
    """In the base unit of `dimension`."""
    dimension: Dimension
    is_share: bool
    limit: float | None
    """What begins at the lowest severity; None where it is a switch, or is reached although what else the
    rule asks for does not hold: a value beyond a limit is always a finding."""
    warning: float | None
    """The same for this severity."""
    critical: float | None
    falls: bool
    """Below the limit is worse."""


def measures(rules: Sequence[Rule], find_subjects: SubjectsOf) -> list[Measure]:
    """Measure the rules in their order; a rule that has no subject here, or says nothing, has no measure."""
    found = (_measure(rule, find_subjects) for rule in rules if rule.measure is not None)
    return [measure for measure in found if measure is not None]


def value_of(rule: Rule, facts: Facts, *, at_most: bool = False) -> Number:
    """The measure of one subject; `Missing` where the rule does not say what it is about.

    With `at_most` ``older()`` counts as it does in `warning_upper`.
    """
    if rule.measure is None:
        return Missing("the rule does not say what it measures")
    return compile_number(measured(rule).tree, rule.limit_values, at_most=at_most)(facts)


def certain(number: Number) -> float | None:
    """The number, or that end of a range which is known; None where neither is."""
    if isinstance(number, Missing):
        return None
    if not isinstance(number, Range):
        return number
    return next((end for end in (number.low, number.high) if math.isfinite(end)), None)


def first_limit(rule: Rule) -> float | None:
    """What the measure is compared with at the lowest severity; None for a switch."""
    if not rule.measure_limits:
        return None
    return rule.limit_values.get(rule.measure_limits[min(rule.measure_limits)])


def reaches(rule: Rule, value: Number, limit: float) -> Truth:
    """Whether the value is where the rule may fire, at a limit."""
    return values.compare("<=" if rule.measure_falls else ">=", value, limit)


def _measure(rule: Rule, find_subjects: SubjectsOf) -> Measure | None:
    about = measured(rule)
    subjects = find_subjects(rule.scope)
    if isinstance(subjects, Missing):
        return _told(rule, about, None, subjects, {})
    if not subjects:
        return None
    by = make_judge(rule)
    computes = {
        at_most: compile_number(about.tree, rule.limit_values, at_most=at_most)
        for at_most in {trigger.at_most for trigger in rule.fires} | {False}
    }
    looks = [_look(rule, by, computes, subject) for subject in subjects if not subject.hidden]
    if not looks:
        return _told(rule, about, None, Missing("who holds the sockets is hidden"), _limits(rule))
    unknown = [look.value for look in looks if isinstance(look.value, Missing)]
    worst = max(looks, key=lambda look: look.rank)
    if unknown and not worst.rank[0]:
        # of those that are not known one may be worse
        return _told(rule, about, None, unknown[0], worst.limits)
    return _told(rule, about, worst.label, worst.value, worst.limits)


def _told(
    rule: Rule,
    about: Measured,
    label: str | None,
    value: float | Missing,
    limits: Mapping[Severity, float],
) -> Measure:
    return Measure(
        rule=rule.id,
        label=label,
        value=value,
        dimension=about.dimension,
        is_share=about.is_share,
        limit=limits.get(min(_limits(rule), default=Severity.INFO)),
        warning=limits.get(Severity.WARNING),
        critical=limits.get(Severity.CRITICAL),
        falls=rule.measure_falls,
    )


class _Look(NamedTuple):
    label: str
    value: float | Missing
    limits: Mapping[Severity, float]
    rank: tuple[int, float]
    """The severity that fired, 0 for none; and how near the value is to the first limit."""


def _look(rule: Rule, by: Judge, computes: Mapping[bool, Compute], subject: Subject) -> _Look:
    fired = judge(by, subject.facts)
    severity = (rule.severity or fired.severity) if isinstance(fired, Trigger) else 0
    compute = computes[isinstance(fired, Trigger) and fired.at_most]
    value = _known(compute(subject.facts), fires=bool(severity))
    limits = _limits(rule)
    shown = {
        level: limit
        for level, limit in limits.items()
        if level <= severity or isinstance(value, Missing) or reaches(rule, value, limit) is not True
    }
    near = -1.0 if isinstance(value, Missing) else _nearness(rule, value, min(limits.values(), default=None))
    return _Look(subject.label, value, shown, (int(severity), near))


def _known(number: Number, *, fires: bool) -> float | Missing:
    """One number; of a range the end that is certain, where that alone was enough to fire."""
    if not isinstance(number, Range):
        return number
    if fires and math.isfinite(number.low):
        return number.low
    return Missing(number.reason)


def _limits(rule: Rule) -> Mapping[Severity, float]:
    """By severity; where the configuration sets the severity it is that of the first limit."""
    found = {severity: rule.limit_values[name] for severity, name in rule.measure_limits.items()}
    if rule.severity is not None and found:
        return {rule.severity: found[min(found)]}
    return found


def _nearness(rule: Rule, value: float, limit: float | None) -> float:
    """How near a value is to its limit: 1 there, more beyond; the value itself where there is none."""
    if not limit:
        return value
    if rule.measure_falls:
        return limit / value if value > 0 else math.inf
    return value / limit
