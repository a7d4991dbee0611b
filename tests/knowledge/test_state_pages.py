"""Every state has a page that is complete, and a place in the picture."""

import pytest

from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.states import COUNTED_STATES
from tcpdoctor.knowledge.state_pages import draw_states, find_state, state_keys

RFC_9293 = (
    "LISTEN",
    "SYN-SENT",
    "SYN-RECEIVED",
    "ESTABLISHED",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "CLOSE-WAIT",
    "CLOSING",
    "LAST-ACK",
    "TIME-WAIT",
    "CLOSED",
)
PAGES = [find_state(key) for key in state_keys()]


def test_there_is_a_page_for_every_state_of_the_rfc_and_for_every_one_that_is_counted():
    assert {page.rfc for page in PAGES if page.key != "bound"} == set(RFC_9293)
    assert {state.key for state in COUNTED_STATES} < set(state_keys())
    assert set(state_keys()) - {state.key for state in COUNTED_STATES} == {"closed"}


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        ("FIN_WAIT_2", "fin_wait_2"),
        ("fin-wait-2", "fin_wait_2"),
        ("FINWAIT2", "fin_wait_2"),
        ("FIN_WAIT2", "fin_wait_2"),
        ("TCP_FIN_WAIT2", "fin_wait_2"),
        ("TIME-WAIT", "time_wait"),
        ("timewait", "time_wait"),
        ("SYN_RCVD", "syn_recv"),
        ("SYN-RECEIVED", "syn_recv"),
        ("SYN-RECV", "syn_recv"),
        ("ESTAB", "established"),
        ("CLOSED", "closed"),
        ("CLOSE", "closed"),
        ("UNCONN", "closed"),
        ("LISTENING", "listen"),
        ("bound", "bound"),
        ("0A", "listen"),
        ("06", "time_wait"),
    ],
)
def test_every_usual_spelling_is_understood(asked, key):
    assert find_state(asked).key == key


@pytest.mark.parametrize(
    ("asked", "nearest"), [("TIMEWEIT", "TIME_WAIT"), ("CLOSE_WAITT", "CLOSE_WAIT"), ("SYNSEND", "SYN_SENT")]
)
def test_an_unknown_state_gets_the_nearest(asked, nearest):
    with pytest.raises(QuestionError, match=f"did you mean {nearest}\\?"):
        find_state(asked)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.key)
def test_a_page_is_complete_and_in_sentences(page):
    for sentence in (page.means, page.owned, page.orphan, page.costs):
        assert sentence.endswith(".")
        assert "\n" not in sentence
    assert page.enter
    assert page.leave
    assert page.mistaken
    assert page.look
    for wrong in page.mistaken:
        assert not wrong.claim.endswith(".")
        assert not wrong.truth.endswith(".")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.key)
def test_the_picture_marks_exactly_the_state_and_fits_80_columns(page):
    picture = draw_states(page.key)
    marked = picture.count("[[")
    assert marked == picture.count(f"[[{page.name}]]") == picture.count("]]")
    assert marked == (2 if page.key == "closed" else 1)
    assert max(len(line) for line in picture.splitlines()) <= 80
    assert picture.isascii()
    assert "<<" not in picture


def test_the_picture_has_every_state_and_moves_nothing_when_another_is_marked():
    pictures = [draw_states(page.key) for page in PAGES]
    assert all(page.name in pictures[0] for page in PAGES)
    plain = {picture.replace("[[", "  ").replace("]]", "  ").replace(" ", "") for picture in pictures}
    assert len(plain) == 1
