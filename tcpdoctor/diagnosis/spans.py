"""Sets of numbers: unions of spans from one number to another, either of which may be infinite.

Whether an end belongs to its span is not kept: who reads limits from a chart cannot tell either.
"""

import math
from typing import TypeAlias

Spans: TypeAlias = tuple[tuple[float, float], ...]
"""Ascending, without overlap."""

ALL: Spans = ((-math.inf, math.inf),)


def spans_of(operator: str, limit: float) -> Spans:
    """The numbers x for which ``x OPERATOR limit`` holds."""
    match operator:
        case ">=" | ">":
            return ((limit, math.inf),)
        case "<=" | "<":
            return ((-math.inf, limit),)
        case "==":
            return ((limit, limit),)
        case _:
            return ((-math.inf, limit), (limit, math.inf))


def intersect(one: Spans, other: Spans) -> Spans:
    """The numbers in both."""
    met = {
        (max(a, c), min(b, d))
        for a, b in one
        for c, d in other
        if max(a, c) < min(b, d) or (max(a, c) == min(b, d) and (a == b or c == d))
    }
    return tuple(sorted(met))


def unite(one: Spans, other: Spans) -> Spans:
    """The numbers in at least one."""
    united: list[tuple[float, float]] = []
    for low, high in sorted({*one, *other}):
        if united and (low < united[-1][1] or united[-1] == (low, low)):
            united[-1] = (united[-1][0], max(high, united[-1][1]))
        else:
            united.append((low, high))
    return tuple(united)


def complement(spans: Spans) -> Spans:
    """The numbers in none of the spans."""
    edges = [-math.inf, *(end for span in spans for end in span), math.inf]
    gaps = list(zip(edges[::2], edges[1::2], strict=True))
    return tuple((low, high) for low, high in gaps if low < high or math.isfinite(low))


def holds(spans: Spans, value: float) -> bool:
    """Whether the value lies inside a span, and not just at the end of a wide one."""
    return any(low < value < high or low == value == high for low, high in spans)


def nearness(spans: Spans, value: float) -> float:
    """How near a value is to the spans: 1 at their end, more inside, less before it; -1 without any."""
    return max((_nearness(low, high, value) for low, high in spans), default=-1.0)


def _nearness(low: float, high: float, value: float) -> float:
    if low == -math.inf and high == math.inf:
        return 1.0
    if high == math.inf:
        return value / low if low > 0 else value - low + 1
    if low == -math.inf:
        return high / value if value > 0 and high > 0 else high - value + 1
    if low <= value <= high:
        return 1.0
    distance = low - value if value < low else value - high
    return 1 / (1 + distance)
