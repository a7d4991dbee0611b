"""Sets of numbers: what a condition's comparisons leave of them."""

import math
import operator
import random

import pytest

from tcpdoctor.diagnosis.spans import ALL, complement, holds, intersect, nearness, spans_of, unite

COMPARE = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}
INF = math.inf


@pytest.mark.parametrize("seed", range(200))
def test_they_hold_the_numbers_for_which_a_condition_is_true(seed):
    """Ends of spans apart, which belong to no span for sure."""
    chance = random.Random(seed)
    limits = [chance.randint(0, 9) for _ in range(3)]
    signs = [chance.choice(sorted(COMPARE)) for _ in limits]
    spans, true = spans_of(signs[0], limits[0]), [COMPARE[signs[0]]]
    both = chance.random() < 0.5
    for sign, limit in zip(signs[1:], limits[1:], strict=True):
        spans = (intersect if both else unite)(spans, spans_of(sign, limit))
        true.append(COMPARE[sign])
    negated = chance.random() < 0.5
    spans = complement(spans) if negated else spans
    for value in (number + 0.5 for number in range(-1, 11)):
        answers = [test(value, limit) for test, limit in zip(true, limits, strict=True)]
        expected = (all(answers) if both else any(answers)) is not negated
        assert holds(spans, value) is expected, (signs, limits, both, negated, spans)


def test_what_says_nothing_is_everything_or_nothing():
    assert intersect(spans_of(">", 5), spans_of("<", 3)) == ()
    assert complement(()) == ALL
    assert complement(ALL) == ()


def test_a_single_number_is_held_although_it_has_no_width():
    assert spans_of("==", 0) == ((0, 0),)
    assert holds(spans_of("==", 0), 0)
    assert not holds(spans_of(">=", 5), 5)  # an end of a wide span is no proof


@pytest.mark.parametrize(
    ("spans", "value", "expected"),
    [
        (((100.0, INF),), 50.0, 0.5),
        (((100.0, INF),), 200.0, 2.0),
        (((-INF, 15.0),), 60.0, 0.25),
        (((0.0, 0.0),), 0.0, 1.0),
        (((60.0, 90.0),), 61.0, 1.0),
        ((), 7.0, -1.0),
    ],
)
def test_nearness_is_one_at_the_limit(spans, value, expected):
    assert nearness(spans, value) == expected
