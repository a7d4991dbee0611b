"""Names are found as people type them, and a mistake gets the nearest."""

import pytest

from tcpdoctor.errors import QuestionError
from tcpdoctor.knowledge.resource import bare, find_name

NAMES = {bare(name): name for name in ("FIN_WAIT_1", "FIN_WAIT_2", "TIME_WAIT")}


@pytest.mark.parametrize("asked", ["FIN_WAIT_2", "fin-wait-2", "FINWAIT2", " Fin Wait 2 ", "fin.wait.2"])
def test_separators_and_case_do_not_matter(asked):
    assert find_name(asked, NAMES, "state") == "FIN_WAIT_2"


def test_a_mistake_gets_the_nearest_name():
    with pytest.raises(QuestionError, match="no state is called 'TIMEWAITS'; did you mean TIME_WAIT"):
        find_name("TIMEWAITS", NAMES, "state")


def test_what_is_near_nothing_gets_the_list_where_it_is_short():
    with pytest.raises(QuestionError, match="there are FIN_WAIT_1, FIN_WAIT_2, TIME_WAIT"):
        find_name("xyz", NAMES, "state")


@pytest.mark.parametrize("asked", ["", "   ", "\x1b[31m", "\u202e", "x" * 10_000, "é"])
def test_nonsense_is_a_complaint_of_one_line_and_no_crash(asked):
    with pytest.raises(QuestionError) as complaint:
        find_name(asked, NAMES, "state")
    assert "\n" not in str(complaint.value)
    assert len(str(complaint.value)) < 300
