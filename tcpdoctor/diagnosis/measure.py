"""How far a rule's worst subject is from the rule's limits, whether it fires or not.

A condition compares several things, one of which is what the rule is about. It is found by its form: the
calculation that most severities of the rule compare, then one that they compare with different limits, then
the one that is compared most often, then one that is compared with a limit of the rule, then one that is more
than a setting; of equals the last, because conditions begin with what has to be given first (enough traffic,
enough sockets). Everything else in the condition is left aside: the span of a severity is the set of values
for which it would fire if the rest held.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import NamedTuple, TypeAlias

from tcpdoctor.diagnosis.closure import Facts, Number, compile_condition, compile_number
from tcpdoctor.diagnosis.evaluate import SubjectsOf
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.judge import Judge, judge, make_judge
from tcpdoctor.diagnosis.rule import Rule, Trigger
from tcpdoctor.diagnosis.spans import ALL, Spans, complement, holds, intersect, nearness, spans_of, unite
from tcpdoctor.diagnosis.tree import (
    Arithmetic,
    Calculation,
    Comparison,
    Condition,
    Every,
    Extreme,
    Gauge,
    Grown,
    Limit,
    Negative,
    Not,
    Older,
    facts_of,
    walk,
)
from tcpdoctor.facts.dimension import COUNT, PER_SECOND, RATIO, Dimension
from tcpdoctor.facts.subject import Subject
from tcpdoctor.facts.value import Range
from tcpdoctor.kernel.reading import Missing

_MIRRORED = {">=": "<=", ">": "<", "<=": ">=", "<": ">", "==": "==", "!=": "!="}
_Fired: TypeAlias = Trigger | Missing | None


class Measure(NamedTuple):
    """What a rule is about, for its worst subject."""

    rule: str
    label: str | None
    """The subject; None where it cannot be told which is the worst."""
    value: float | Missing
    """In the base unit of `dimension`."""
    dimension: Dimension
    is_share: bool
    """A pure number that was computed, and is no setting or switch: it reads best in percent."""
    warning: Spans
    """The values that are a warning; none where none is, or where the rest of the condition does not hold
    although the value lies there: a value inside a span is always a finding."""
    critical: Spans


def measures(rules: Sequence[Rule], find_subjects: SubjectsOf) -> list[Measure]:
    """Measure the rules in their order; a rule that has no subject here has no measure."""
    found = (_measure(rule, find_subjects) for rule in rules)
    return [measure for measure in found if measure is not None]


def _measure(rule: Rule, find_subjects: SubjectsOf) -> Measure | None:
    tree = measured(rule)
    dimension = _dimension(tree, rule.context.limits)
    about = (dimension, dimension == RATIO and not isinstance(tree, Gauge))
    subjects = find_subjects(rule.scope)
    if isinstance(subjects, Missing):
        return Measure(rule.id, None, subjects, *about, (), ())
    if not subjects:
        return None
    by = make_judge(rule)
    looks = [_look(rule, by, tree, subject) for subject in subjects if not subject.hidden]
    unknown = [look.value for look in looks if isinstance(look.value, Missing)]
    if not looks:
        unseen = _look(rule, by, tree, subjects[0])
        hidden = Missing("who holds the sockets is hidden")
        return Measure(rule.id, None, hidden, *about, unseen.warning, unseen.critical)
    worst = max(looks, key=lambda look: look.rank)
    if unknown and not worst.rank[0]:
        # of those that are not known one may be worse
        return Measure(rule.id, None, unknown[0], *about, worst.warning, worst.critical)
    return Measure(rule.id, worst.label, worst.value, *about, worst.warning, worst.critical)


class _Look(NamedTuple):
    label: str
    value: float | Missing
    warning: Spans
    critical: Spans
    rank: tuple[int, float]
    """The severity that fired, 0 for none; and how near the value is to what fires."""


def _look(rule: Rule, by: Judge, tree: Calculation, subject: Subject) -> _Look:
    fired = judge(by, subject.facts)
    number = compile_number(tree, rule.limit_values)(subject.facts)
    value = _known(number, fires=isinstance(fired, Trigger))
    spans = {severity: _spans(rule, severity, tree, subject.facts) for severity in _SEVERITIES}
    shown = {
        severity: () if _contradicts(spans[severity], value, fired, rule, severity) else spans[severity]
        for severity in _SEVERITIES
    }
    near = -1.0 if isinstance(value, Missing) else max(nearness(part, value) for part in spans.values())
    rank = (int(_severity(rule, fired)) if isinstance(fired, Trigger) else 0, near)
    return _Look(subject.label, value, shown[Severity.WARNING], shown[Severity.CRITICAL], rank)


_SEVERITIES = (Severity.WARNING, Severity.CRITICAL)


def _known(number: Number, *, fires: bool) -> float | Missing:
    """One number; of a range the end that is certain, where that alone was enough to fire."""
    if not isinstance(number, Range):
        return number
    if fires and math.isfinite(number.low):
        return number.low
    return Missing(number.reason)


def _severity(rule: Rule, trigger: Trigger) -> Severity:
    return rule.severity or trigger.severity


def _contradicts(spans: Spans, value: float | Missing, fired: _Fired, rule: Rule, severity: Severity) -> bool:
    if isinstance(value, Missing) or not holds(spans, value):
        return False
    return not isinstance(fired, Trigger) or _severity(rule, fired) < severity


def _spans(rule: Rule, severity: Severity, tree: Calculation, facts: Facts) -> Spans:
    """The values of the measure for which the rule fires with this severity, as far as it is about them."""
    spans: Spans = ()
    for trigger in rule.fires:
        if _severity(rule, trigger) is severity:
            part = _fires_at(trigger.tree, tree, facts, rule.limit_values)
            spans = spans if part is None else unite(spans, part.spans)
    return () if spans == ALL else spans


class _Part(NamedTuple):
    spans: Spans
    alive: bool = True
    """Whether what else the condition asks for may hold."""


def _fires_at(
    condition: Condition, tree: Calculation, facts: Facts, limits: Mapping[str, float]
) -> _Part | None:
    """The same for one condition; None where it says nothing of the measure, or against what is not known."""
    match condition:
        case Comparison():
            pair = _against(condition, tree)
            limit = None if pair is None else compile_number(pair[1], limits)(facts)
            return _Part(spans_of(pair[0], limit)) if pair is not None and isinstance(limit, float) else None
        case Not():
            inner = _fires_at(condition.item, tree, facts, limits)
            return None if inner is None else _Part(complement(inner.spans), inner.alive)
    parts = [(item, _fires_at(item, tree, facts, limits)) for item in condition.items]
    known = [part for _, part in parts if part is not None]
    if not known:
        return None
    if isinstance(condition, Every):
        rest = (compile_condition(item, limits)(facts) for item, part in parts if part is None)
        alive = all(part.alive for part in known) and all(truth is not False for truth in rest)
        return _Part(reduce(intersect, (part.spans for part in known)), alive)
    chosen = [part for part in known if part.alive] or known
    return _Part(reduce(unite, (part.spans for part in chosen)), chosen[0].alive)


def _against(comparison: Comparison, tree: Calculation) -> tuple[str, Calculation] | None:
    """How and with what the measure is compared."""
    if _same(comparison.left, tree):
        return comparison.operator, comparison.right
    if _same(comparison.right, tree):
        return _MIRRORED[comparison.operator], comparison.left
    return None


def _same(one: Calculation, other: Calculation) -> bool:
    return repr(one) == repr(other)  # named tuples of different types may be equal


# what a rule is about


def measured(rule: Rule) -> Calculation:
    """The calculation that a rule is about."""
    triggers = [[_sides(comparison) for comparison in _comparisons(trigger.tree)] for trigger in rule.fires]
    pairs = [pair for pairs in triggers for pair in pairs]

    def weight(place: int) -> tuple[int, bool, int, bool, bool, int]:
        tree, _ = pairs[place]
        others = [other for one, other in pairs if _same(one, tree)]
        by_trigger = [{repr(other) for one, other in pairs if _same(one, tree)} for pairs in triggers]
        compared = [limits for limits in by_trigger if limits]
        return (
            len(compared),
            any(limits != compared[0] for limits in compared),
            len(others),
            any(isinstance(part, Limit) for other in others for part in walk(other)),
            any(not fact.name.startswith("sysctl.") for fact in facts_of(tree)),
            place,
        )

    return pairs[max(range(len(pairs)), key=weight)][0]


def _comparisons(condition: Condition) -> Iterator[Comparison]:
    return (node for node in walk(condition) if isinstance(node, Comparison))


def _sides(comparison: Comparison) -> tuple[Calculation, Calculation]:
    """The side that is measured, and what it is compared with."""
    if facts_of(comparison.left):
        return comparison.left, comparison.right
    return comparison.right, comparison.left


def _dimension(tree: Calculation, limits: Mapping[str, Dimension]) -> Dimension:
    match tree:
        case Gauge():
            return tree.fact.dimension or RATIO
        case Grown():
            counted = tree.fact.dimension or COUNT
            return _product(counted, PER_SECOND, COUNT) if tree.call == "rate" else counted
        case Older():
            return COUNT
        case Limit():
            return limits[tree.name]
        case Arithmetic():
            left, right = _dimension(tree.left, limits), _dimension(tree.right, limits)
            if tree.operator == "*":
                return _product(left, right)
            if tree.operator == "/":
                return _product(left, RATIO, right)
            return left if facts_of(tree.left) else right
        case Extreme():
            return _dimension(tree.items[0], limits)
        case Negative():
            return _dimension(tree.item, limits)
        case _:
            return RATIO


def _product(one: Dimension, other: Dimension, divisor: Dimension = RATIO) -> Dimension:
    return Dimension(*(a + b - c for a, b, c in zip(one, other, divisor, strict=True)))
