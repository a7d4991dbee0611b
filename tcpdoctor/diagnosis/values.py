"""Arithmetic and logic on what is not always known.

A number is exact (a float), a `Range` of which the true value is one, or `Missing`. A truth is
True, False, or `Missing` with the reason why it cannot be told. Every operation is sound: whatever
the true values are, the true result lies in the result, and a comparison says True or False only
where it holds for all of them. No operation raises or yields NaN or an exact infinity: an overflow
and a division by what may be zero are `Missing`.

Floating point keeps this sound: rounding is monotone, so the rounded result of two values inside
their ranges lies between the rounded results of the ends.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from tcpdoctor.facts.value import Range
from tcpdoctor.kernel.reading import Missing

Number: TypeAlias = float | Range | Missing
Truth: TypeAlias = bool | Missing

TOO_LARGE = Missing("the calculation exceeds what a number can hold")


def join_reasons(values: Iterable[object]) -> str:
    """Join the distinct reasons of the ranges and missing values among `values`; empty without any."""
    kept: list[str] = []
    for value in values:
        if not isinstance(value, Range | Missing) or not value.reason:
            continue
        if not any(_is_part(value.reason, reason) for reason in kept):
            kept = [reason for reason in kept if not _is_part(reason, value.reason)] + [value.reason]
    return "; ".join(kept)


def _is_part(reason: str, joined: str) -> bool:
    """Whether a reason, which may have been joined itself, is told in another."""
    return f"; {reason}; " in f"; {joined}; "


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


def _combine(
    left: Number,
    right: Number,
    ends: Callable[[tuple[float, float], tuple[float, float]], tuple[float, float]],
) -> Number:
    if isinstance(left, Missing) or isinstance(right, Missing):
        return Missing(join_reasons(v for v in (left, right) if isinstance(v, Missing)))
    low, high = ends(_ends(left), _ends(right))
    return bounded(low, high, join_reasons((left, right)))


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
        return Missing(join_reasons(missing))
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
        return Missing(join_reasons(v for v in (left, right) if isinstance(v, Missing)))
    answer = _COMPARISONS[operator](_ends(left), _ends(right))
    return Missing(join_reasons((left, right))) if answer is None else answer
