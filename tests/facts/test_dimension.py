"""How quantities print."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    show,
    show_number,
    unit_name,
)
from tcpdoctor.kernel.reading import Missing

PRINTED = [
    (140, COUNT, "140"),
    (8080, COUNT, "8080"),
    (60999, COUNT, "60999"),
    (131072, COUNT, "131,072"),
    (4.5, COUNT, "4.5"),
    (0, COUNT, "0"),
    (-3, COUNT, "-3"),
    (0, SECOND, "0 s"),
    (0.0002, SECOND, "200 us"),
    (0.04, SECOND, "40 ms"),
    (0.7, SECOND, "700 ms"),
    (4.2, SECOND, "4.2 s"),
    (41.3, SECOND, "41 s"),
    (60, SECOND, "60 s"),
    (125, SECOND, "2 min 5 s"),
    (720, SECOND, "12 min"),
    (7200, SECOND, "2 h"),
    (11520, SECOND, "3 h 12 min"),
    (266400, SECOND, "3 d 2 h"),
    (400 * 86400, SECOND, "400 d"),
    (312, BYTE, "312 B"),
    (65536, BYTE, "64 KiB"),
    (4.2 * 2**20, BYTE, "4.2 MiB"),
    (3 * 2**30, BYTE, "3 GiB"),
    (1, PAGE, "1 page"),
    (1204, PAGE, "1,204 pages"),
    (1, RATIO, "1"),
    (1.0, RATIO, "100 %"),
    (0.83, RATIO, "83 %"),
    (0.0123, RATIO, "1.2 %"),
    (3.2, PER_SECOND, "3.2 /s"),
    (0.05, PER_SECOND, "0.05 /s"),
    (10 * 2**20, Dimension(byte=1, second=-1), "10 MiB/s"),
    (3, Dimension(number=2), "3 count to the 2"),
]


@pytest.mark.parametrize(("value", "dimension", "text"), PRINTED)
def test_a_number_prints_with_its_unit(value, dimension, text):
    assert show(value, dimension) == text


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (Range(120, math.inf, "why"), COUNT, "at least 120"),
        (Range(3, 9, "why"), COUNT, "between 3 and 9"),
        (Range(0, 9, "why"), COUNT, "at most 9"),
        (Range(0, math.inf, "why"), COUNT, "unknown"),
        (Range(7, 7, "why"), COUNT, "7"),
        (Range(719, 721, "why"), SECOND, "12 min"),
        (Range(599.9, math.inf, "why"), SECOND, "at least 9 min 59 s"),
        (Range(-5, -2, "why"), COUNT, "between -5 and -2"),
        (Growth(12, 1.0), COUNT, "12 in 1 s"),
        (Ages((1.0, 2.0, 725.0), (1.0, 2.0, 725.0), None), SECOND, "3, the oldest 12 min"),
        (Ages((), (math.inf, math.inf), "why"), SECOND, "at most 2"),
        (Ages((0.0,), (math.inf,), "why"), SECOND, "1, the oldest of unknown age"),
        (Ages((), (), None), SECOND, "0"),
        ("nginx (811)", None, "nginx (811)"),
        (Missing("run as root"), COUNT, "unknown"),
    ],
)
def test_what_is_not_exact_says_so(value, dimension, text):
    assert show(value, dimension) == text


def test_the_ends_of_a_range_are_rounded_outward():
    assert show(Range(59.9, 130.2, "why"), SECOND) == "between 59 s and 2 min 11 s"
    assert show(Range(1.09 * 2**20, 2.91 * 2**20, "why"), BYTE) == "between 1 MiB and 3 MiB"


@pytest.mark.parametrize(
    ("dimension", "name"),
    [
        (COUNT, "count"),
        (SECOND, "second"),
        (BYTE, "byte"),
        (PAGE, "page"),
        (PER_SECOND, "per_second"),
        (RATIO, "ratio"),
        (None, "text"),
        (Dimension(byte=1, second=-1), "byte_per_second"),
        (Dimension(second=-1), "per_second"),
        (Dimension(number=2, second=-2), "count_to_the_2_per_second_to_the_2"),
    ],
)
def test_units_have_the_names_of_the_json_contract(dimension, name):
    assert unit_name(dimension) == name


@given(
    st.floats(min_value=-1e30, max_value=1e30),
    st.sampled_from([COUNT, SECOND, BYTE, PAGE, RATIO, PER_SECOND, Dimension(page=1, second=-1)]),
    st.sampled_from([round, math.floor, math.ceil]),
)
def test_every_number_prints_in_one_short_line(value, dimension, rounded):
    text = show_number(value, dimension, rounded)
    assert text == text.strip()
    assert 0 < len(text) < 60
    assert "\n" not in text
