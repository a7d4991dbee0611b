"""Arithmetic and comparison of numbers that are exact, ranges, or missing."""

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpdoctor.diagnosis import closure as values
from tcpdoctor.facts.value import Range
from tcpdoctor.kernel.reading import Missing

HIDDEN = Range(3, 7, "owners are hidden")
OPEN = Range(3, math.inf, "owners are hidden")


def test_exact_numbers_stay_exact():
    assert values.add(2.0, 3.0) == 5.0
    assert values.subtract(2.0, 3.0) == -1.0
    assert values.multiply(2.0, 3.0) == 6.0
    assert values.divide(3.0, 2.0) == 1.5
    assert values.negate(2.0) == -2.0
    assert values.least([2.0, 3.0]) == 2.0
    assert values.greatest([2.0, 3.0]) == 3.0


def test_a_range_stays_a_range_and_keeps_its_reason():
    assert values.add(HIDDEN, 1.0) == Range(4, 8, "owners are hidden")
    assert values.subtract(1.0, HIDDEN) == Range(-6, -2, "owners are hidden")
    assert values.multiply(HIDDEN, -2.0) == Range(-14, -6, "owners are hidden")
    assert values.divide(21.0, HIDDEN) == Range(3, 7, "owners are hidden")
    assert values.least([HIDDEN, 5.0]) == Range(3, 5, "owners are hidden")
    assert values.greatest([HIDDEN, 5.0]) == Range(5, 7, "owners are hidden")


def test_what_no_longer_depends_on_the_unknown_part_is_exact():
    assert values.multiply(OPEN, 0.0) == 0.0
    assert values.least([OPEN, 2.0]) == 2.0


def test_two_reasons_are_both_told_and_one_is_told_once():
    other = Range(0, 1, "the table was pruned")
    assert values.add(HIDDEN, other) == Range(3, 8, "owners are hidden; the table was pruned")
    assert values.add(HIDDEN, HIDDEN) == Range(6, 14, "owners are hidden")


def test_a_reason_that_is_part_of_a_joined_one_is_told_once():
    hidden, two = Missing("owners are hidden; run as root"), Missing("needs two samples")
    both = Missing(values.join_reasons((two, hidden)))
    assert both.reason == "needs two samples; owners are hidden; run as root"
    assert (
        values.join_reasons((hidden, both, two, hidden))
        == "owners are hidden; run as root; needs two samples"
    )
    assert values.join_reasons((both, two, hidden)) == both.reason
    from_another_process = pickle.loads(pickle.dumps(both))  # noqa: S301 - our own
    assert values.join_reasons((from_another_process, two)) == both.reason
    assert values.join_reasons((Missing("hidden"), hidden)) == "hidden; owners are hidden; run as root"


@pytest.mark.parametrize("operation", [values.add, values.subtract, values.multiply, values.divide])
def test_missing_absorbs_every_calculation(operation):
    missing = Missing("needs two samples")
    assert operation(missing, 1.0) == missing
    assert operation(OPEN, missing) == missing
    assert operation(missing, Missing("run as root")) == Missing("needs two samples; run as root")


def test_missing_absorbs_min_max_and_comparison():
    missing = Missing("needs two samples")
    assert values.least([1.0, missing]) == missing
    assert values.greatest([missing, OPEN]) == missing
    assert values.compare(">=", missing, 1.0) == missing
    assert values.compare(">=", OPEN, missing) == missing


def test_division_by_zero_is_unknown_and_no_error():
    assert values.divide(1.0, 0.0) == Missing("a division by zero")
    assert values.divide(0.0, 0.0) == Missing("a division by zero")


def test_division_by_what_may_be_zero_is_unknown_with_the_reason():
    answer = values.divide(1.0, Range(0, 5, "owners are hidden"))
    assert answer == Missing("a division by what may be zero: owners are hidden")
    assert values.divide(Range(0, math.inf, "x"), OPEN) == Range(0, math.inf, "x; owners are hidden")


def test_an_overflow_is_unknown():
    assert values.multiply(1e200, 1e200) == values.TOO_LARGE
    assert values.multiply(-1e200, 1e200) == values.TOO_LARGE
    assert values.divide(1e300, 1e-300) == values.TOO_LARGE
    assert values.bounded(math.nan, math.nan, "") == values.TOO_LARGE


def test_a_lower_bound_proves_at_least_and_cannot_prove_the_opposite():
    assert values.compare(">=", OPEN, 3.0) is True
    assert values.compare(">=", OPEN, 4.0) == Missing("owners are hidden")
    assert values.compare("<", OPEN, 3.0) is False
    assert values.compare("<", OPEN, 4.0) == Missing("owners are hidden")


@pytest.mark.parametrize(
    ("operator", "left", "right", "answer"),
    [
        (">", HIDDEN, 2.9, True),
        (">", HIDDEN, 7.0, False),
        ("<=", HIDDEN, 7.0, True),
        ("<=", HIDDEN, 2.9, False),
        ("==", HIDDEN, 8.0, False),
        ("==", 8.0, HIDDEN, False),
        ("==", HIDDEN, 7.0, Missing("owners are hidden")),
        ("!=", HIDDEN, 8.0, True),
        ("!=", HIDDEN, 7.0, Missing("owners are hidden")),
        ("!=", 7.0, 7.0, False),
        ("==", 7.0, 7.0, True),
    ],
)
def test_comparisons_with_ranges(operator, left, right, answer):
    assert values.compare(operator, left, right) == answer


ENDS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda number: round(number, 3))
OPERATIONS = {
    values.add: lambda a, b: a + b,
    values.subtract: lambda a, b: a - b,
    values.multiply: lambda a, b: a * b,
    values.divide: lambda a, b: a / b,
    lambda a, b: values.least([a, b]): min,
    lambda a, b: values.greatest([a, b]): max,
}


@st.composite
def ranges_and_members(draw):
    """A range, maybe open, and a number in it."""
    low, member, high = sorted(draw(st.tuples(ENDS, ENDS, ENDS)))
    low = draw(st.sampled_from([low, low, -math.inf]))
    high = draw(st.sampled_from([high, high, math.inf]))
    return values.bounded(low, high, "why"), member


@given(st.sampled_from(list(OPERATIONS)), ranges_and_members(), ranges_and_members())
def test_every_true_result_lies_in_the_computed_range(operation, left, right):
    computed = operation(left[0], right[0])
    if isinstance(computed, Missing):
        return  # says nothing, which is always sound
    true_result = OPERATIONS[operation](left[1], right[1])
    low, high = (computed.low, computed.high) if isinstance(computed, Range) else (computed, computed)
    assert low <= true_result <= high


@given(st.sampled_from([">=", ">", "<=", "<", "==", "!="]), ranges_and_members(), ranges_and_members())
def test_a_comparison_that_answers_answers_for_every_member(operator, left, right):
    answer = values.compare(operator, left[0], right[0])
    if not isinstance(answer, Missing):
        assert answer is values.compare(operator, left[1], right[1])
