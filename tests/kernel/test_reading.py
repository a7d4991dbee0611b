"""A value, or the reason why there is none."""

import copy
import fcntl
import os
import pickle
import resource

import pytest

from tcpdoctor.kernel.reading import Missing, Refused, is_ready


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


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2000,
    reason="needs 2,000 descriptors a process (ulimit -Hn)",
)
def test_a_descriptor_is_waited_for_whatever_its_number():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(2000, before[0]), before[1]))
    ends = os.pipe()
    reader, writer = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 1500) for end in ends)
    for end in ends:
        os.close(end)
    try:
        assert not is_ready(reader, 0)
        assert not is_ready(reader, 0.01)
        assert is_ready(writer, None, to_write=True)
        os.write(writer, b"x")
        assert is_ready(reader, None)
        os.read(reader, 1)
    finally:
        os.close(writer)
        assert is_ready(reader, 1)  # the other end is closed
        os.close(reader)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
