"""The reservoir behind bounded detail."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpdoctor.kernel.tally import Sample


def take(count: int, bound: int) -> Sample[int]:
    sample: Sample[int] = Sample(bound)
    for item in range(count):
        if sample.wants():
            sample.keep(item)
    return sample


@given(st.integers(0, 200), st.integers(1, 40))
def test_it_keeps_everything_or_exactly_its_bound(count, bound):
    sample = take(count, bound)
    assert sample.total == count
    assert len(sample.kept) == len(set(sample.kept)) == min(count, bound)
    if count <= bound:
        assert sample.kept == list(range(count))


def test_every_item_is_as_likely_as_any_other():
    rounds, count, bound = 3000, 40, 7
    seen = [0] * count
    for _ in range(rounds):
        for item in take(count, bound).kept:
            seen[item] += 1
    expected = rounds * bound / count
    chi_square = sum((times - expected) ** 2 / expected for times in seen)
    assert chi_square < 98  # 39 degrees of freedom, less than one in a million


def test_a_sample_of_nothing_is_refused():
    with pytest.raises(ValueError, match="a sample of 0"):
        Sample(0)
