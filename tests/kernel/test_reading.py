"""A value, or the reason why there is none."""

import copy
import pickle

import pytest

from tcpdoctor.kernel.reading import Missing, Refused


def test_reasons_are_compared_and_hashed_by_what_they_say():
    assert Missing("hidden") == Missing("hidden") != Missing("gone")
    assert len({Missing("hidden"), Missing("hidden"), Refused("hidden")}) == 2
    assert Missing("hidden") != Refused("hidden")
    assert Missing("hidden") != "hidden"
    assert repr(Refused("hidden")) == "Refused(reason='hidden')"


@pytest.mark.parametrize("kind", [Missing, Refused])
def test_a_reason_does_not_change_and_travels(kind):
    found = kind("hidden")
    with pytest.raises(AttributeError):
        found.reason = "gone"
    with pytest.raises(AttributeError):
        del found.reason
    with pytest.raises(AttributeError):
        found.other = 1
    for again in (copy.copy(found), copy.deepcopy(found), pickle.loads(pickle.dumps(found))):  # noqa: S301
        assert again == found
        assert type(again) is kind


def test_a_reason_is_matched_by_its_text_and_is_nothing_to_iterate_over():
    match Refused("hidden"):
        case Missing(text):
            assert text == "hidden"
    with pytest.raises(TypeError):
        iter(Missing("hidden"))
