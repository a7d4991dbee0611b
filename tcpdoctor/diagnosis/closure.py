"""A condition or a calculation of a rule, checked: a tree, and the function of a subject's facts it becomes.

Thousands of subjects (destinations) are judged per run, so a tree is walked once and each subject
costs a few calls. The same code runs for evidence: built with `note`, every fact that evaluation
reads is reported, in order; what ``and`` and ``or`` leave out is not read and is no evidence.
"""

import math
import operator
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

from tcpdoctor.facts.subject import Fact, Scope
from tcpdoctor.facts.value import (
    BYTE,
    COUNT,
    PAGE,
    PER_SECOND,
    RATIO,
    SECOND,
    Ages,
    Dimension,
    Growth,
    Range,
    Value,
)
from tcpdoctor.kernel.reading import Missing, joined
from tcpdoctor.named_tuples import NamedTuple


class Vocabulary(Protocol):
    """The facts that exist; the module `tcpdoctor.facts.vocabulary` is one."""

    def find_fact(self, name: str) -> Fact | None:
        """The fact of that name, None where there is none."""

    def fact_names(self, scope: Scope) -> Sequence[str]:
        """The facts that a rule of this scope may use."""


class Context(NamedTuple):
    """What an expression may refer to."""

    scope: Scope
    limits: Mapping[str, Dimension]
    vocabulary: Vocabulary


class Constant(NamedTuple):
    """A number or a unit."""

    value: float


class Limit(NamedTuple):
    """``limit.NAME``: its value comes from the rule or from the configuration."""

    name: str


class Gauge(NamedTuple):
    """A fact that is a number by itself."""

    fact: Fact


class Text(NamedTuple):
    """A fact that is a text; for prose only."""

    fact: Fact


class Grown(NamedTuple):
    """``rate(COUNTER)`` or ``delta(COUNTER)``."""

    call: str
    fact: Fact


class Older(NamedTuple):
    """``older(AGES, SECONDS)``."""

    fact: Fact
    seconds: "Calculation"


class Arithmetic(NamedTuple):
    """``left + - * / right``."""

    operator: str
    left: "Calculation"
    right: "Calculation"


class Extreme(NamedTuple):
    """``min(...)`` or ``max(...)``."""

    call: str
    items: tuple["Calculation", ...]


class Negative(NamedTuple):
    """``-item``."""

    item: "Calculation"


class Comparison(NamedTuple):
    """``left >= right``."""

    operator: str
    left: "Calculation"
    right: "Calculation"


class Every(NamedTuple):
    """``a and b and ...``."""

    items: tuple["Condition", ...]


class Some(NamedTuple):
    """``a or b or ...``."""

    items: tuple["Condition", ...]


class Not(NamedTuple):
    """``not item``."""

    item: "Condition"


Calculation: TypeAlias = Constant | Limit | Gauge | Grown | Older | Arithmetic | Extreme | Negative
Condition: TypeAlias = Comparison | Every | Some | Not
Node: TypeAlias = Calculation | Condition | Text


class Quantity(NamedTuple):
    """A calculation and what its result is counted in."""

    tree: Calculation | Text
    dimension: Dimension | None
    """None: a text, or a plain number that goes with counts and ratios."""


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it, in the order of the text."""
    yield node
    for child in children(node):
        yield from walk(child)


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below, in the order of the text."""
    match node:
        case Arithmetic() | Comparison():
            return (node.left, node.right)
        case Extreme() | Every() | Some():
            return node.items
        case Negative() | Not():
            return (node.item,)
        case Older():
            return (node.seconds,)
        case _:
            return ()


def facts_of(node: Node) -> list[Fact]:
    """The facts that a condition or calculation may read, without duplicates, in the order of the text."""
    found = [part.fact for part in walk(node) if isinstance(part, Gauge | Text | Grown | Older)]
    return list(dict.fromkeys(found))


def branches_of(tree: "Condition") -> tuple["Condition", ...]:
    """The parts of an ``or``, each of which is reason enough; of any other condition itself."""
    return (
        tuple(part for item in tree.items for part in branches_of(item))
        if isinstance(tree, Some)
        else (tree,)
    )


# The units of the rule language: how large they are, and what dimensions are called.


UNITS: Mapping[str, tuple[float, Dimension]] = {
    "second": (1.0, SECOND),
    "minute": (60.0, SECOND),
    "hour": (3600.0, SECOND),
    "day": (86400.0, SECOND),
    "KiB": (1024.0, BYTE),
    "MiB": (1024.0**2, BYTE),
    "GiB": (1024.0**3, BYTE),
    "percent": (0.01, RATIO),
    "per_second": (1.0, PER_SECOND),
}
"""What a name in an expression multiplies by: size in the base unit, dimension."""

LIMIT_UNITS: Mapping[str, tuple[float, Dimension]] = {
    "count": (1.0, COUNT),
    **UNITS,
    "byte": (1.0, BYTE),
    "page": (1.0, PAGE),
    "ratio": (1.0, RATIO),
}
"""What the ``unit`` of a limit may be."""

_BASES = (("number", "count"), ("byte", "bytes"), ("page", "pages"), ("second", "seconds"))
_NO_UNIT = "a pure number"


def in_base_unit(value: float, unit: str) -> float:
    """The value in seconds, bytes, pages, counts, or as a share: 80 percent is 0.8, 2 minutes are 120."""
    # a percentage is divided, because 57 * 0.01 is not 0.57
    return value / 100 if unit == "percent" else value * LIMIT_UNITS[unit][0]


def dimension_words(dimension: Dimension) -> str:
    """What a dimension is called in a complaint: ``seconds``, ``count per second``, ``a pure number``."""
    exponents = [(word, getattr(dimension, field)) for field, word in _BASES]
    above = [_power(word, exponent) for word, exponent in exponents if exponent > 0]
    below = [_power(word.removesuffix("s"), -exponent) for word, exponent in exponents if exponent < 0]
    if not above and not below:
        return _NO_UNIT
    words = " times ".join(above) or "1"
    return f"{words} per {' and '.join(below)}" if below else words


def _power(word: str, exponent: int) -> str:
    return word if exponent == 1 else f"{word} to the power of {exponent}"


# Arithmetic and logic on what is not always known.
#
# A number is exact (a float), a `Range` of which the true value is one, or `Missing`. A truth is True,
# False, or `Missing` with the reason why it cannot be told. Every operation is sound: whatever the true
# values are, the true result lies in the result, and a comparison says True or False only where it holds
# for all of them. No operation raises or yields NaN or an exact infinity: an overflow and a division by
# what may be zero are `Missing`.
#
# Floating point keeps this sound: rounding is monotone, so the rounded result of two values inside their
# ranges lies between the rounded results of the ends.


Number: TypeAlias = float | Range | Missing
Truth: TypeAlias = bool | Missing

TOO_LARGE = Missing("the calculation exceeds what a number can hold")


def join_reasons(values: Iterable[object]) -> str:
    """Join the distinct reasons of the ranges and missing values among `values`; empty without any."""
    return joined(value.reason for value in values if isinstance(value, Range | Missing))


def _ends(value: float | Range) -> tuple[float, float]:
    return (value.low, value.high) if isinstance(value, Range) else (value, value)


def bounded(low: float, high: float, reason: str) -> Number:
    """The number that lies in [low, high]: exact where both agree, `Missing` where neither end says anything.

    A low end of +inf or a high end of -inf comes from an overflow only: such a number is not known.
    """
    if math.isnan(low) or math.isnan(high) or low == math.inf or high == -math.inf:
        return TOO_LARGE
    if low == high:
        return low
    return Range(low, high, reason)


def _unknown(missing: Sequence[Missing]) -> Missing:
    """All of these as one; a single one is what it is, which is what most are."""
    return missing[0] if len(missing) == 1 else Missing(join_reasons(missing))


def _combine(
    left: Number,
    right: Number,
    ends: Callable[[tuple[float, float], tuple[float, float]], tuple[float, float]],
) -> Number:
    if isinstance(left, Missing) or isinstance(right, Missing):
        return _unknown([v for v in (left, right) if isinstance(v, Missing)])
    low, high = ends(_ends(left), _ends(right))
    exact = isinstance(left, float) and isinstance(right, float)
    return bounded(low, high, "" if exact else join_reasons((left, right)))


def add(left: Number, right: Number) -> Number:
    """The sum."""
    return _combine(left, right, lambda a, b: (a[0] + b[0], a[1] + b[1]))


def subtract(left: Number, right: Number) -> Number:
    """The difference. Of two ranges it assumes nothing in common: ``x - x`` is not 0 for a range x."""
    return _combine(left, right, lambda a, b: (a[0] - b[1], a[1] - b[0]))


def multiply(left: Number, right: Number) -> Number:
    """The product."""
    return _combine(left, right, _products)


def _products(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    # 0 * inf is 0 here: the infinite end stands for "no bound known", never for a value
    corners = [x * y if x and y else 0.0 for x in a for y in b]
    return min(corners), max(corners)


def divide(left: Number, right: Number) -> Number:
    """The quotient; `Missing` where the divisor is, or may be, zero."""
    if isinstance(right, Range) and right.low <= 0 <= right.high:
        return Missing(f"a division by what may be zero: {right.reason}")
    if isinstance(right, float) and right == 0:
        return Missing("a division by zero")
    return _combine(left, right, _quotients)


def _quotients(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    # inf / inf: one end of a divisor that excludes zero is finite, and its corners bound the result
    corners = [0.0 if math.isinf(x) and math.isinf(y) else x / y for x in a for y in b]
    return min(corners), max(corners)


def negate(value: Number) -> Number:
    """The number with the opposite sign."""
    return subtract(0.0, value)


def least(values: Iterable[Number]) -> Number:
    """The smallest of the values; `Missing` where any is."""
    return _extreme(tuple(values), min)


def greatest(values: Iterable[Number]) -> Number:
    """The largest of the values; `Missing` where any is."""
    return _extreme(tuple(values), max)


def _extreme(values: tuple[Number, ...], pick: Callable[[list[float]], float]) -> Number:
    missing = [value for value in values if isinstance(value, Missing)]
    if missing:
        return _unknown(missing)
    ends = [_ends(value) for value in values if not isinstance(value, Missing)]
    return bounded(pick([low for low, _ in ends]), pick([high for _, high in ends]), join_reasons(values))


def _at_least(a: tuple[float, float], b: tuple[float, float]) -> bool | None:
    return True if a[0] >= b[1] else False if a[1] < b[0] else None


def _above(a: tuple[float, float], b: tuple[float, float]) -> bool | None:
    return True if a[0] > b[1] else False if a[1] <= b[0] else None


def _equal(a: tuple[float, float], b: tuple[float, float]) -> bool | None:
    if a[1] < b[0] or b[1] < a[0]:
        return False
    return True if a[0] == a[1] == b[0] == b[1] else None


def _unequal(a: tuple[float, float], b: tuple[float, float]) -> bool | None:
    same = _equal(a, b)
    return None if same is None else not same


_COMPARISONS: Mapping[str, Callable[[tuple[float, float], tuple[float, float]], bool | None]] = {
    ">=": _at_least,
    ">": _above,
    "<=": lambda a, b: _at_least(b, a),
    "<": lambda a, b: _above(b, a),
    "==": _equal,
    "!=": _unequal,
}


def compare(operator: str, left: Number, right: Number) -> Truth:
    """Compare by ``== != < <= > >=``; `Missing` where the ranges leave both answers open."""
    if isinstance(left, Missing) or isinstance(right, Missing):
        return _unknown([v for v in (left, right) if isinstance(v, Missing)])
    answer = _COMPARISONS[operator](_ends(left), _ends(right))
    return Missing(join_reasons((left, right))) if answer is None else answer


Facts: TypeAlias = Mapping[str, Value]
Compute: TypeAlias = Callable[[Facts], Number]
Decide: TypeAlias = Callable[[Facts], Truth]


class Observation(NamedTuple):
    """One fact that evaluation read."""

    fact: Fact
    call: str | None
    """``rate``, ``delta``, ``older`` or ``perhaps_older``; None for the fact itself."""
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
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
}
NOT_READ = Missing("it was not read on this host")
"""A fact that the vocabulary knows and the subject lacks."""


def compile_condition(
    tree: Condition, limits: Mapping[str, float], note: Note | None = None, *, at_most: bool = False
) -> Decide:
    """Make a function that answers True, False or `Missing` for a subject's facts.

    Args:
        tree: A condition that `expression` has checked.
        limits: Every limit's value in its base unit.
        note: Called with every fact that an evaluation reads.
        at_most: Let ``older()`` count sockets that have been quiet for so long, and may be that old.
    """
    match tree:
        case Comparison():
            return _comparison(tree, limits, note, at_most=at_most)
        case Not():
            return _negation(compile_condition(tree.item, limits, note, at_most=at_most))
        case _:
            items = tuple(compile_condition(item, limits, note, at_most=at_most) for item in tree.items)
            return _until(items, ends=not isinstance(tree, Every))


def _comparison(tree: Comparison, limits: Mapping[str, float], note: Note | None, *, at_most: bool) -> Decide:
    left = compile_number(tree.left, limits, note, at_most=at_most)
    right = compile_number(tree.right, limits, note, at_most=at_most)
    sign, fast = tree.operator, _FAST[tree.operator]

    def decide(facts: Facts) -> Truth:
        a, b = left(facts), right(facts)
        if type(a) is float and type(b) is float:
            return bool(fast(a, b))
        return compare(sign, a, b)

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
        return _unknown(unknown) if unknown else not ends

    return decide


def compile_number(
    tree: Calculation, limits: Mapping[str, float], note: Note | None = None, *, at_most: bool = False
) -> Compute:
    """Make a function that answers a number for a subject's facts. See `compile_condition`."""

    def part(inner: Calculation) -> Compute:
        return compile_number(inner, limits, note, at_most=at_most)

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
            return _older(tree, part(tree.seconds), note, at_most=at_most)
        case Arithmetic():
            left, right = part(tree.left), part(tree.right)
            combine = _ARITHMETIC[tree.operator]
            return lambda facts: combine(left(facts), right(facts))
        case Extreme():
            items = tuple(map(part, tree.items))
            pick = least if tree.call == "min" else greatest
            return lambda facts: pick([item(facts) for item in items])
        case _:
            inner = part(tree.item)
            return lambda facts: negate(inner(facts))


def _always(value: float) -> Compute:
    return lambda facts: value  # noqa: ARG005 - the signature of every other number


def _gauge(fact: Fact, note: Note | None) -> Compute:
    name = fact.name

    def read(facts: Facts) -> Number:
        value = facts.get(name, NOT_READ)
        if type(value) is int:
            return float(value)
        if isinstance(value, int | float):
            return bounded(float(value), float(value), "")
        if isinstance(value, Range):
            return bounded(float(value.low), float(value.high), value.reason)
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


def _older(tree: Older, seconds: Compute, note: Note | None, *, at_most: bool) -> Compute:
    name, call = tree.fact.name, "perhaps_older" if at_most else "older"

    def read(facts: Facts) -> Number:
        limit = seconds(facts)
        value = facts.get(name, NOT_READ)
        counted = (count_quiet if at_most else count_older)(value, limit, name)
        if note is not None:
            note(Observation(tree.fact, call, counted, limit))
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
    return bounded(float(surely), float(perhaps), joined([ages.reason or "", join_reasons([seconds])]))


_PROBES_HIDE = (
    "keepalive probes a few seconds apart hide when the peers ended: look for longer (--window 5), or again "
    "(--since-last)"
)


def count_quiet(ages: Value, seconds: Number, name: str) -> Number:
    """How many of the sockets may be that old and have been quiet for as long: see `Ages.quiet`.

    Raises:
        TypeError: The value is no set of ages; the facts broke their promise.
    """
    if isinstance(ages, Ages):
        known = ages.quiet or ages.at_least
        ages = Ages(known, ages.hidden or known, _PROBES_HIDE if ages.hidden else None)
    return count_older(ages, seconds, name)
