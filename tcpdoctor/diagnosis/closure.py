"""Checked trees become functions of a subject's facts.

Thousands of subjects (destinations) are judged per run, so a tree is walked once and each subject
costs a few calls. The same code runs for evidence: built with `note`, every fact that evaluation
reads is reported, in order; what ``and`` and ``or`` leave out is not read and is no evidence.
"""

import operator
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from tcpdoctor.diagnosis import values
from tcpdoctor.diagnosis.tree import (
    Arithmetic,
    Calculation,
    Comparison,
    Condition,
    Constant,
    Every,
    Extreme,
    Gauge,
    Grown,
    Limit,
    Not,
    Older,
)
from tcpdoctor.diagnosis.values import Number, Truth
from tcpdoctor.facts.value import Ages, Growth, Range, Value
from tcpdoctor.facts.vocabulary import Fact
from tcpdoctor.kernel.reading import Missing

Facts: TypeAlias = Mapping[str, Value]
Compute: TypeAlias = Callable[[Facts], Number]
Decide: TypeAlias = Callable[[Facts], Truth]


class Observation(NamedTuple):
    """One fact that evaluation read."""

    fact: Fact
    call: str | None
    """``rate``, ``delta`` or ``older``; None for the fact itself."""
    value: Number
    seconds: Number | None = None
    """The age that ``older`` asked for."""


Note: TypeAlias = Callable[[Observation], None]
_FAST = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}
_ARITHMETIC: Mapping[str, Callable[[Number, Number], Number]] = {
    "+": values.add,
    "-": values.subtract,
    "*": values.multiply,
    "/": values.divide,
}
NOT_READ = Missing("it was not read on this host")
"""A fact that the vocabulary knows and the subject lacks."""


def compile_condition(tree: Condition, limits: Mapping[str, float], note: Note | None = None) -> Decide:
    """Make a function that answers True, False or `Missing` for a subject's facts.

    Args:
        tree: A condition that `expression` has checked.
        limits: Every limit's value in its base unit.
        note: Called with every fact that an evaluation reads.
    """
    match tree:
        case Comparison():
            return _comparison(tree, limits, note)
        case Not():
            return _negation(compile_condition(tree.item, limits, note))
        case Every():
            return _until(tuple(compile_condition(item, limits, note) for item in tree.items), ends=False)
        case _:
            return _until(tuple(compile_condition(item, limits, note) for item in tree.items), ends=True)


def _comparison(tree: Comparison, limits: Mapping[str, float], note: Note | None) -> Decide:
    left, right = compile_number(tree.left, limits, note), compile_number(tree.right, limits, note)
    sign, fast = tree.operator, _FAST[tree.operator]

    def decide(facts: Facts) -> Truth:
        a, b = left(facts), right(facts)
        if type(a) is float and type(b) is float:
            return bool(fast(a, b))
        return values.compare(sign, a, b)

    return decide


def _negation(item: Decide) -> Decide:
    def decide(facts: Facts) -> Truth:
        truth = item(facts)
        return truth if isinstance(truth, Missing) else not truth

    return decide


def _until(items: tuple[Decide, ...], *, ends: bool) -> Decide:
    """Kleene's ``and`` (ends at False) and ``or`` (ends at True): one such item settles it."""

    def decide(facts: Facts) -> Truth:
        unknown: list[Missing] = []
        for item in items:
            truth = item(facts)
            if truth is ends:
                return ends
            if isinstance(truth, Missing):
                unknown.append(truth)
        return Missing(values.join_reasons(unknown)) if unknown else not ends

    return decide


def compile_number(tree: Calculation, limits: Mapping[str, float], note: Note | None = None) -> Compute:
    """Make a function that answers a number for a subject's facts. See `compile_condition`."""
    match tree:
        case Constant():
            return _always(tree.value)
        case Limit():
            return _always(limits[tree.name])
        case Gauge():
            return _gauge(tree.fact, note)
        case Grown():
            return _grown(tree, note)
        case Older():
            return _older(tree, compile_number(tree.seconds, limits, note), note)
        case Arithmetic():
            left, right = compile_number(tree.left, limits, note), compile_number(tree.right, limits, note)
            combine = _ARITHMETIC[tree.operator]
            return lambda facts: combine(left(facts), right(facts))
        case Extreme():
            items = tuple(compile_number(item, limits, note) for item in tree.items)
            pick = values.least if tree.call == "min" else values.greatest
            return lambda facts: pick([item(facts) for item in items])
        case _:
            inner = compile_number(tree.item, limits, note)
            return lambda facts: values.negate(inner(facts))


def _always(value: float) -> Compute:
    return lambda facts: value  # noqa: ARG005 - the signature of every other number


def _gauge(fact: Fact, note: Note | None) -> Compute:
    name = fact.name

    def read(facts: Facts) -> Number:
        value = facts.get(name, NOT_READ)
        if isinstance(value, int | float):
            return values.bounded(float(value), float(value), "")
        if isinstance(value, Range):
            return values.bounded(float(value.low), float(value.high), value.reason)
        if isinstance(value, Missing):
            return value
        raise TypeError(f"fact {name} is {value!r}, which is no number")

    return _noted(read, fact, None, note)


def _grown(tree: Grown, note: Note | None) -> Compute:
    name, per_second = tree.fact.name, tree.call == "rate"

    def read(facts: Facts) -> Number:
        value = facts.get(name, NOT_READ)
        if isinstance(value, Growth):
            return value.delta / value.seconds if per_second else float(value.delta)
        if isinstance(value, Missing):
            return value
        raise TypeError(f"fact {name} is {value!r}, which is no growth of a counter")

    return _noted(read, tree.fact, tree.call, note)


def _noted(read: Compute, fact: Fact, call: str | None, note: Note | None) -> Compute:
    if note is None:
        return read

    def read_and_tell(facts: Facts) -> Number:
        value = read(facts)
        note(Observation(fact, call, value))
        return value

    return read_and_tell


def _older(tree: Older, seconds: Compute, note: Note | None) -> Compute:
    name = tree.fact.name

    def read(facts: Facts) -> Number:
        limit = seconds(facts)
        value = facts.get(name, NOT_READ)
        counted = count_older(value, limit, name)
        if note is not None:
            note(Observation(tree.fact, "older", counted, limit))
        return counted

    return read


def count_older(ages: Value, seconds: Number, name: str) -> Number:
    """How many of the sockets are at least that old: exact, a range, or `Missing`.

    Raises:
        TypeError: The value is no set of ages; the facts broke their promise.
    """
    if isinstance(ages, Missing):
        return ages
    if isinstance(seconds, Missing):
        return seconds
    if not isinstance(ages, Ages):
        raise TypeError(f"fact {name} is {ages!r}, which is no set of ages")
    low, high = (seconds.low, seconds.high) if isinstance(seconds, Range) else (seconds, seconds)
    surely = len(ages.at_least) - bisect_left(ages.at_least, high)
    perhaps = len(ages.at_most) - bisect_left(ages.at_most, low)
    reasons = [reason for reason in (ages.reason, values.join_reasons([seconds])) if reason]
    return values.bounded(float(surely), float(perhaps), "; ".join(reasons))
