"""docs/recordings.md says what the readers read."""

import pytest

from tests.recordings.page import OTHERS, PAGE, WHOLE, WHOLE_FILES, answered, library, page


def test_the_page_is_what_the_readers_say():
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.recordings.page writes it"


@pytest.mark.parametrize("looks", [1, 2])
def test_more_outputs_never_answer_fewer_rules(looks):
    whole = answered((*WHOLE, *WHOLE_FILES), looks)
    for part in (("ss -tanoempi",), OTHERS, ("netstat -W -neopa",)):
        assert answered(part, looks) <= whole
    assert len(whole) > len(library().rules) * 0.6
