"""How a number goes: growth, time until a limit, and memory that does not grow with hours."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpdoctor.facts.rates import RECENT, Point, Series, TooFew
from tcpdoctor.kernel.reading import Missing


def series(values, every=2.0):
    found = Series()
    for number, value in enumerate(values):
        found = found.add(number * every, value)
    return found


def test_growth_is_not_told_of_two_looks():
    assert isinstance(series([23]).per_minute(), TooFew)
    assert isinstance(series([23, 30]).per_minute(), TooFew)
    assert series([23, 30]).seconds_until(100) is None


def test_growth_of_seven_a_look_every_two_seconds_is_210_a_minute():
    assert series([23, 30, 37]).per_minute() == pytest.approx(210)


def test_growth_is_that_of_the_last_minute_and_not_of_all_time():
    rose_then_stood = series([*range(0, 3000, 100), *[2900] * 40])
    assert rose_then_stood.per_minute() == 0


def test_where_three_looks_took_longer_than_a_minute_they_are_what_counts():
    assert series([0, 10, 20, 30], every=300).per_minute() == pytest.approx(2)


def test_a_number_that_is_not_known_at_this_look_does_not_grow():
    unknown = series([23, 30, 37, None]).per_minute()
    assert isinstance(unknown, Missing)
    assert not isinstance(unknown, TooFew)


def test_looks_at_which_it_was_not_known_are_left_out_of_growth():
    assert series([0, None, None, 21, 28]).per_minute() == pytest.approx(210)


def test_what_shrinks_or_stands_reaches_no_limit():
    assert series([30, 20, 10]).seconds_until(100) is None
    assert series([30, 30, 30]).seconds_until(100) is None


def test_the_time_until_a_limit():
    assert series([0, 10, 20]).seconds_until(120) == pytest.approx(20)
    assert series([0, 10, 20]).seconds_until(15) == 0


@given(st.lists(st.floats(0.1, 500), min_size=1, max_size=1500))
def test_hours_take_bounded_memory_and_keep_the_order(gaps):
    found = Series()
    for clock in itertools.accumulate(gaps):
        found = found.add(clock, clock)
        assert len(found.whole) <= 240
    assert len(found.recent) <= 600
    assert len(found.recent) <= 3 or found.recent[-1].clock - found.recent[0].clock <= RECENT + 1e-6
    clocks = [point.clock for point in found.whole]
    assert clocks == sorted(clocks)


def test_a_day_of_looks_still_begins_where_watch_began():
    found = series(range(43_200))
    assert found.whole[0] == Point(0.0, 0)
    assert len(found.whole) <= 240
    assert found.recent[-1].value == 43_199


def test_steps_hold_the_last_value_of_each_part():
    assert series([1, 2, 5, 7], every=5).steps(4, 17.5, -2.5) == [1, 2, 5, 7]
    assert series([1, 2, 5, 7], every=1).steps(2, 3.5, -0.5) == [2, 7]


def test_steps_before_the_first_look_are_empty():
    assert Series().add(15, 3).steps(4, 20, 0) == [None, None, 3, 3]


def test_steps_are_of_the_last_five_minutes_where_nothing_else_is_asked():
    assert series([1, 2], every=200).steps(3, 299, None) == [1, 1, 2]


def test_a_look_that_knew_nothing_leaves_a_gap():
    assert Series().add(1, 2).add(9, None).steps(2, 10, 0) == [2, None]
