"""The facts that a rule's own test is given, written as TOML."""

import math
from collections.abc import Mapping
from itertools import chain

from tcpdoctor.diagnosis.expression import Context
from tcpdoctor.diagnosis.nearest import suggest
from tcpdoctor.diagnosis.table import Table
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.value import Ages, Growth, Range, Value
from tcpdoctor.facts.vocabulary import Fact
from tcpdoctor.kernel.reading import Missing

NOT_GIVEN = Missing("not given in this test")
_MISSING = "missing:"
_ONLY_BOUNDS = "the test gives bounds only"
_HIDDEN = "the owners of some sockets are hidden: run as root"
_MAX_SOCKETS = 1_000_000
_FORMS = {
    "gauge": "120, { at_least = 120 } or { at_least = 120, at_most = 300 }",
    "counter": "{ delta = 10, seconds = 1 } or { rate = 10 }",
    "ages": "{ count = 120, each = 600 }",
    "text": '"some text"',
}


def parse_given(test: Table, context: Context) -> Mapping[str, Value]:
    """Read ``given`` of one [[test]].

    Raises:
        RuleError: It names no fact of this scope, or a value does not fit the fact's kind.
    """
    given = test.open_table("given")
    return {name: _value(given, name, _fact(given, name, context)) for name in given.values}


def _fact(given: Table, name: str, context: Context) -> Fact:
    fact = context.vocabulary.find_fact(name)
    if fact is None or fact.scope not in (context.scope, Scope.HOST):
        hint = suggest(name, context.vocabulary.fact_names(context.scope))
        raise given.complaint(name, f"is no fact of the scope {context.scope.value}; {hint}")
    return fact


def _value(given: Table, name: str, fact: Fact) -> Value:
    value = given.values[name]
    if isinstance(value, str):
        if value.startswith(_MISSING):
            return Missing(value.removeprefix(_MISSING).strip() or "no reason given")
        if fact.kind == "text":
            return value
    elif fact.kind == "ages":
        return _ages(given, name)
    elif fact.kind == "counter" and isinstance(value, dict):
        return _growth(given.table(name, ("delta", "seconds", "rate")))
    elif fact.kind == "gauge":
        return _gauge(given, name)
    form = _FORMS[fact.kind]
    raise given.complaint(name, f'does not fit a fact of kind {fact.kind}; write {form} or "missing: why"')


def _gauge(given: Table, name: str) -> Value:
    if not isinstance(given.values[name], dict):
        return given.number(name)
    low, high = _bounds(given.table(name, ("at_least", "at_most")))
    return Range(low, high, _ONLY_BOUNDS)


def _bounds(table: Table) -> tuple[float, float]:
    low = table.number("at_least")
    high = table.number("at_most") if table.has("at_most") else math.inf
    if high < low:
        raise table.complaint("at_most", "is below at_least; exchange them")
    return low, high


def _growth(table: Table) -> Growth:
    if table.has("rate"):
        return Growth(_whole(table, "rate"), 1.0)
    seconds = table.number("seconds")
    if seconds == 0:
        raise table.complaint("seconds", "0 is no time between two samples; write 1")
    return Growth(_whole(table, "delta"), float(seconds))


def _ages(given: Table, name: str) -> Ages:
    known = ("count", "each", "hidden")
    is_list = isinstance(given.values[name], list)
    groups = given.tables(name, known) if is_list else [given.table(name, known)]
    lows: list[list[float]] = []
    highs: list[list[float]] = []
    hidden = 0
    for group in groups:
        number = _whole(group, "count", _MAX_SOCKETS)
        low, high = _each(group)
        lows.append([low] * number)
        highs.append([high] * number)
        hidden += _whole(group, "hidden", _MAX_SOCKETS) if group.has("hidden") else 0
    at_least = tuple(sorted(chain.from_iterable(lows)))
    at_most = tuple(sorted([*chain.from_iterable(highs), *[math.inf] * hidden]))
    reason = _HIDDEN if hidden else None if at_least == at_most else _ONLY_BOUNDS
    return Ages(at_least, at_most, reason)


def _each(group: Table) -> tuple[float, float]:
    if isinstance(group.values.get("each"), dict):
        return _bounds(group.table("each", ("at_least", "at_most")))
    age = group.number("each")
    return age, age


def _whole(table: Table, key: str, largest: float = math.inf) -> int:
    number = table.number(key)
    if number != int(number) or number > largest:
        raise table.complaint(
            key, f"write a whole number{'' if math.isinf(largest) else f' up to {largest}'}"
        )
    return int(number)
