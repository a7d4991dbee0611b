"""The table of states and its JSON: unknown is never 0."""

import json

import pytest

from tcpdoctor.answers.states import Most, StatesAnswer, states_answer
from tcpdoctor.kernel.namespaces import Identity
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sockets import StateCounts
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState
from tcpdoctor.report.document import as_json
from tcpdoctor.report.page import page_text
from tcpdoctor.report.states_text import MOST_ROWS, states_page
from tcpdoctor.report.style import PLAIN, Style
from tests.report.examples import CENSUS
from tests.schemas import described

WHO = Identity("web1", "6.18.44", 4026531840, None, initial_namespace=True, euid=0)
COUNTS = StateCounts(CENSUS.by_state, CENSUS.bound, CENSUS.source, CENSUS.complete)
ROWS = (
    ("443", {TcpState.LISTEN: 2, TcpState.ESTABLISHED: 1100, TcpState.TIME_WAIT: 3}),
    ("client ports 32768-60999", {TcpState.SYN_SENT: 7}),
)
UNKNOWN = Missing("sock_diag: EPERM (Operation not permitted)")


def answer(*grouped: object, counts: object = COUNTS) -> StatesAnswer:
    return states_answer(WHO, 1795176000.0, counts, *grouped)


PLAINLY = answer()
BY_PORT = answer("port", ROWS)
NOTHING = answer("peer", UNKNOWN, counts=UNKNOWN)


def test_text_has_a_line_for_every_state_that_has_sockets_and_names_the_others():
    assert page_text(states_page(PLAINLY, PLAIN), PLAIN).splitlines() == [
        "web1: 136 TCP sockets",
        "2026-11-20T12:00:00Z, Linux 6.18.44, network namespace 4026531840",
        "",
        "  established    12  ##",
        "  fin_wait_2    120  ######################  whose: tcpdoctor explain fin-wait-2",
        "  listen          4  #",
        "  none          syn_sent, syn_recv, fin_wait_1, time_wait, close_wait, last_ack,",
        "                closing",
        "  bound         unknown: this kernel does not list bound sockets",
    ]


def test_a_sick_state_is_marked_with_who_has_most_of_it_where_that_was_found():
    told = PLAINLY._replace(most=(Most("fin_wait_2", "crawler (801)", 101),))
    lines = page_text(states_page(told, PLAIN), PLAIN).splitlines()
    assert "  fin_wait_2    120  ##############################  crawler (801): 101" in lines


def test_by_process_a_sick_state_is_marked_with_who_has_most_of_it():
    rows = (("nginx (700)", {TcpState.FIN_WAIT_2: 19}), ("crawler (801)", {TcpState.FIN_WAIT_2: 101}))
    told = answer("process", rows)._replace(host=PLAINLY.host._replace(namespace_name="blue"))
    lines = page_text(states_page(told, PLAIN), PLAIN).splitlines()
    assert lines[1].endswith("network namespace 4026531840 (blue)")
    (line,) = [line for line in lines if line.startswith("  fin_wait_2 ")]
    assert line.endswith("  crawler (801): 101")


def test_rows_say_what_they_consist_of():
    lines = page_text(states_page(BY_PORT, PLAIN), PLAIN).splitlines()
    assert lines[lines.index("By local port") + 1 :] == [
        "  PORT                      SOCKETS  ESTABLISHED  SYN_SENT  TIME_WAIT  LISTEN",
        "  443                         1,105        1,100                    3       2",
        "  client ports 32768-60999        7                      7",
    ]


def test_an_owner_that_is_hidden_is_a_row_with_the_reason():
    rows = (
        *ROWS,
        (f"unknown: {'other users hide their descriptors; ' * 3}run as root", {TcpState.CLOSE_WAIT: 23}),
    )
    text = page_text(states_page(answer("process", rows), PLAIN), PLAIN)
    (row,) = [line.split() for line in text.splitlines() if line.startswith("  unknown: other users h~")]
    assert row[-2:] == ["23", "23"]
    assert " ".join(rows[-1][0].split()) in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


def test_nothing_known_is_unknown_everywhere():
    text = page_text(states_page(NOTHING, PLAIN), PLAIN)
    assert "web1: TCP sockets unknown" in text
    assert "By peer address: unknown: sock_diag: EPERM" in text
    states = ", ".join(state.key for state in COUNTED_STATES)
    assert f"unknown {states}: sock_diag: EPERM" in " ".join(text.split())
    document = as_json(NOTHING)
    assert set(document["states"].values()) == {None}
    assert document["by"] is None
    assert document["missing"]["by"] == UNKNOWN.reason


def test_an_interrupted_listing_says_that_there_may_be_more():
    cut = answer(counts=COUNTS._replace(complete=Missing("the tables changed")))
    assert "There may be more than counted: the tables changed." in page_text(states_page(cut, PLAIN), PLAIN)
    assert as_json(cut)["missing"]["states"] == "the tables changed"


def test_a_long_table_is_cut_for_people_and_whole_for_machines():
    long = answer("port", [(str(port), {TcpState.LISTEN: 1}) for port in range(1, 1000)])
    assert f"... and {999 - MOST_ROWS} more; --format json lists all" in page_text(
        states_page(long, PLAIN), PLAIN
    )
    assert len(as_json(long)["by"]) == 999


def test_no_rows_are_said_to_be_none():
    assert "By peer address\n  none" in page_text(states_page(answer("peer", ()), PLAIN), PLAIN)


@pytest.mark.parametrize("width", [40, 60, 100])
def test_no_line_is_wider_than_the_terminal(width):
    rows = (*ROWS, ("2001:db8:1234:5678:9abc:def0:1234:5678", dict.fromkeys(COUNTED_STATES, 123456)))
    remark = "Every number is a lower bound. " * 5
    text = page_text(
        states_page(answer("peer", rows, remark.strip()), PLAIN), Style(color=False, width=width)
    )
    assert max(map(len, text.splitlines())) <= width


def test_json_has_the_keys_of_the_contract_in_their_order():
    document = described(json.dumps(as_json(BY_PORT), allow_nan=False))
    assert list(document) == ["schema", "host", "taken_at", "states", "by", "missing", "grouped_by", "most"]
    assert document["schema"] == "tcpdoctor.states/1"
    assert list(document["states"]) == [state.key for state in COUNTED_STATES]
    assert [list(row) for row in document["by"]] == [["key", "states"]] * 2
    assert document["by"][0]["key"] == "443"
    assert document["by"][0]["states"]["established"] == 1100
    assert document["by"][0]["states"]["close_wait"] == 0


def test_a_state_that_is_unknown_in_all_is_unknown_in_every_row():
    document = as_json(BY_PORT)
    assert document["states"]["bound"] is None
    assert document["by"][0]["states"]["bound"] is None


def test_without_by_there_are_no_rows():
    assert as_json(PLAINLY)["by"] is None
