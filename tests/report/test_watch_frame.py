"""The screen of watch, drawn into lines: it fits, it says what it must, and nothing depends on colour."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.cells import columns_of, count_cell, growth_cell, rate_cell, sparkline, until_cell
from tcpdoctor.report.style import PLAIN
from tcpdoctor.report.watch_frame import (
    View,
    frame,
    moved_cursor,
    pane_width,
    rows_in_order,
    selected_row,
    with_changes,
)
from tcpdoctor.report.watch_page import command_for, row_page
from tests.report.watch_records import BUSY, FOUND, UNKNOWN, destination, owner, series, views, watches

LIST = View()


def text_of(lines):
    return ["".join(text for text, _ in line) for line in lines]


def drawn(watch=BUSY, view=LIST, width=80, height=24):
    return text_of(frame(watch, view, width, height))


def line_with(word, lines):
    return next(line for line in lines if word in line)


def assert_fits(watch, view, width, height):
    lines = text_of(frame(watch, view, width, height))
    assert len(lines) == height
    for line in lines:
        assert columns_of(line) <= width
        assert line.isprintable() or not line
        assert view.is_unicode or line.isascii()


@settings(max_examples=150)
@given(watches, views, st.integers(40, 250), st.integers(10, 80))
def test_any_record_fits_any_terminal(watch, view, width, height):
    assert_fits(watch, view, width, height)


@cache
def opened_page(width, is_unicode):
    return tuple(row_page(BUSY, FOUND, width, is_unicode=is_unicode))


@pytest.mark.parametrize("height", [10, 11, 13, 24, 50, 80])
@pytest.mark.parametrize("is_unicode", [True, False])
def test_a_busy_host_fits_every_width(height, is_unicode):
    for width in range(40, 251):
        opened = opened_page(max(40, pane_width(width)), is_unicode)
        assert_fits(BUSY, LIST._replace(is_unicode=is_unicode, opened=opened), width, height)


@given(st.integers(1, 39), st.integers(1, 9))
def test_smaller_terminals_are_no_crash(width, height):
    assert_fits(BUSY, LIST, width, height)


def test_the_first_line_says_where_how_often_and_what_it_costs():
    assert drawn()[0] == ("tcpdoctor watch  web1  6.18.44  host netns   12:02:10Z  every 2 s  own CPU 0.9 %")


def test_the_second_line_is_checks_answer():
    assert drawn()[1].startswith("WARNING 1 >fin-wait-2-held-open: nginx (811)")


def test_a_healthy_host_is_said_to_be():
    well = BUSY._replace(findings=(), verdict=BUSY.verdict._replace(status="ok", counts=(0, 0, 0)))
    assert drawn(well)[1].rstrip() == "OK  nothing wrong"


def test_what_could_not_be_checked_is_not_called_well():
    blind = BUSY.verdict._replace(status="unknown", counts=(0, 0, 0), answered=3, why_not="no netlink")
    line = drawn(BUSY._replace(findings=(), verdict=blind))[1]
    assert line.startswith("UNKNOWN  too little could be checked")
    assert "3 of 100 rules answered" in line


def test_rules_that_were_asked_a_while_ago_say_so():
    late = BUSY._replace(verdict=BUSY.verdict._replace(taken_at=BUSY.taken_at - 23))
    assert drawn(late)[1].endswith("checked 23 s ago")


def test_a_new_finding_is_bold_and_one_that_ended_says_so():
    new, ended = FOUND._replace(new=True), FOUND._replace(ended=4000.0)
    assert any(role == "bold" and "fin-wait-2" in text for text, role in frame(_with(new), LIST, 80, 24)[1])
    assert "(ended)" in drawn(_with(ended))[1]


def _with(*findings):
    return BUSY._replace(findings=findings)


def test_the_numbers_of_each_part_are_on_80_by_24():
    lines = drawn()
    assert line_with("TIME_WAIT ", lines).split()[:3] == ["TIME_WAIT", "18,120", "+912"]
    assert "at servers 17,800" in line_with("TIME_WAIT ", lines)
    assert line_with("orders-api", lines).split() == [
        "orders-api", "(811)", "web1", "408", "+37", "18", "431", "of", "1,024", "16", "min",
    ]  # fmt: skip
    assert "1,911 !" in line_with("10.0.0.5:5432", lines)
    assert "3 min" in line_with("10.0.0.5:5432", lines)
    assert line_with("127.0.0.1:9443", lines).split() == ["127.0.0.1:9443", "6", "!", "5", "12", "12/s", "!"]
    assert "opened in 812/s  out 640/s  retrans 0.4 %  resets out 3.0/s" in line_with(" rates", lines)
    keys = "select enter explain s sort / filter p pause n netns t trace ? help q"
    assert lines[-1].split() == ["\u2191\u2193", *keys.split()]


def test_what_cannot_be_known_is_a_question_mark_and_its_row_says_why():
    hidden = BUSY.states[0]._replace(now=UNKNOWN, per_minute=UNKNOWN)
    watch = BUSY._replace(states=(hidden, *BUSY.states[1:]))
    assert line_with("ESTABLISHED", drawn(watch)).split()[:3] == ["ESTABLISHED", "?", "?"]
    assert "not known: now, per minute: only root may know" in "\n".join(
        row_page(watch, hidden, 80, is_unicode=True)
    )


def test_a_part_that_is_not_known_is_not_called_empty():
    watch = BUSY._replace(listeners=(), unknown={"listeners": "netlink is refused"})
    assert line_with("listeners", drawn(watch)).startswith(" listeners: ? (netlink is refused)")
    assert "no socket listens" in line_with("listeners", drawn(BUSY._replace(listeners=())))


def test_a_row_that_ended_says_so():
    watch = BUSY._replace(owners=(owner("nginx (700)", 700, 4, 0.0, ended=4000.0),))
    assert "(ended)" in line_with("nginx (700)", drawn(watch))


def test_without_unicode_everything_is_ascii():
    lines = drawn(view=LIST._replace(is_unicode=False))
    assert all(line.isascii() for line in lines)
    assert "^v" in lines[-1]
    assert any(set("=+*#") & set(line[30:50]) for line in lines[4:6])


def test_the_wide_screen_has_the_row_under_the_cursor_open_and_what_happened():
    view = LIST._replace(opened=tuple(row_page(BUSY, FOUND, pane_width(160), is_unicode=True)))
    lines = drawn(view=view, width=160, height=50)
    text = "\n".join(lines)
    assert "fin_wait_2.owned" in text
    assert "What to do" in text
    assert any("close-wait-leak began (orders-api 300)" in line for line in lines)


def test_owners_are_sorted_by_growth_then_by_size_then_by_name():
    watch = BUSY._replace(
        owners=(owner("b (1)", 1, 900, 0.0), owner("c (2)", 2, 3, 37.0), owner("a (3)", 3, 1, UNKNOWN))
    )

    def order(sort):
        return [row.pid for row in rows_in_order(watch, LIST._replace(sort=sort))["owners"]]

    assert order("growth") == [2, 1, 3]
    assert order("size") == [1, 2, 3]
    assert order("name") == [3, 1, 2]


def test_destinations_that_will_be_exhausted_come_first():
    watch = BUSY._replace(
        destinations=(
            destination("a:1", 9, 100),
            destination("b:1", 900, 7, 60.0, 900.0),
            BUSY.destinations[0],
        )
    )
    rows = rows_in_order(watch, LIST)["destinations"]
    assert [row.peer for row in rows] == ["10.0.0.5:5432", "b:1", "a:1"]


def test_a_filter_keeps_what_matches_and_says_so():
    view = LIST._replace(filter="ORDERS")
    lines = drawn(view=view)
    assert line_with("orders-api", lines)
    assert not any("nginx (700)" in line for line in lines)
    assert "filtered: ORDERS" in lines[-1]


def test_the_cursor_goes_through_all_parts_and_stops_at_both_ends():
    view, met = LIST, []
    for _ in range(30):
        row = selected_row(BUSY, view)
        if met and met[-1] == row.key:
            break
        met.append(row.key)
        view = view._replace(cursor=moved_cursor(BUSY, view, 1))
    every = (*BUSY.findings, *BUSY.states, *BUSY.owners, *BUSY.destinations, *BUSY.listeners)
    assert sorted(met) == sorted(row.key for row in every)
    assert moved_cursor(BUSY, view, 1) == view.cursor
    assert moved_cursor(BUSY, LIST, -1) == met[0]


def test_the_row_under_the_cursor_is_always_in_view():
    many = tuple(owner(f"worker ({pid})", pid, pid, 0.0) for pid in range(1, 100))
    watch = BUSY._replace(owners=many)
    for pid in (1, 50, 99):
        lines = drawn(watch, LIST._replace(cursor=f"owner {pid}"))
        assert any(line.startswith(f">worker ({pid})") for line in lines)


def test_digits_that_changed_are_marked_where_the_row_stayed():
    row = BUSY.states[0]
    before, after = (BUSY._replace(states=(row._replace(now=now), *BUSY.states[1:])) for now in (9214, 9273))
    drawn_before, drawn_after = (frame(watch, LIST, 80, 24) for watch in (before, after))
    marked = with_changes(drawn_before, drawn_after)
    assert text_of(marked) == text_of(drawn_after)
    changed = [text for line in marked for text, role in line if role == "changed"]
    assert changed == ["73"]
    assert with_changes(drawn_after, drawn_after) == drawn_after


def test_a_page_scrolls_and_says_how_far():
    page = tuple(f"line {number}" for number in range(1, 101))
    lines = drawn(view=LIST._replace(page=page, title="keys", scroll=10))
    assert lines[0].startswith("keys")
    assert lines[0].endswith("11-32 of 100")
    assert lines[1].rstrip() == "line 11"
    assert drawn(view=LIST._replace(page=page, scroll=9999))[-2].rstrip() == "line 100"


def test_every_row_names_the_command_that_says_more():
    assert command_for(BUSY.states[2]) == "tcpdoctor explain --state CLOSE_WAIT"
    assert command_for(BUSY.owners[0]) == "tcpdoctor explain --pid 811"
    assert command_for(BUSY.destinations[0]) == "tcpdoctor explain --connect 10.0.0.5:5432 --source 10.0.0.9"
    assert command_for(BUSY.listeners[1]) == "tcpdoctor explain --port 443"


def test_the_page_of_a_process_has_the_findings_about_it():
    about = FOUND._replace(finding=FOUND.finding._replace(pids=frozenset({811})))
    text = "\n".join(row_page(_with(about), BUSY.owners[0], 80, is_unicode=True))
    assert "Process keeps half-closed sockets open" in text
    assert "descriptors        431" in text
    typed = [command for fix in about.finding.fixes for command in fix.commands]
    assert any(f"  {command}" in text for command in typed)
    there = PLAIN._replace(way="nsenter -t 7 -n", is_host=False)
    inside = "\n".join(row_page(_with(about), BUSY.owners[0], 80, is_unicode=True, there=there))
    assert "nsenter -t 7 -n ss " in inside
    assert "nsenter" not in text
    other = "\n".join(row_page(_with(about), BUSY.owners[1], 80, is_unicode=True))
    assert "Process keeps half-closed sockets open" not in other


@given(watches, st.integers(40, 120), st.booleans())
def test_the_page_of_any_row_can_be_drawn(watch, width, is_unicode):
    for row in (*watch.findings, *watch.states, *watch.owners, *watch.destinations, *watch.listeners):
        lines = row_page(watch, row, width, is_unicode=is_unicode)
        assert lines
        assert_fits(watch, LIST._replace(page=tuple(lines), is_unicode=is_unicode), width, 24)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (18_120, "18,120"), (999_999_999, "1.0G"), (10**12, "1.0T"), (Missing("x"), "?")],
)
def test_counts(value, shown):
    assert count_cell(value) == shown


def test_growth_has_a_sign_and_is_a_dash_before_three_looks():
    assert growth_cell(37.2) == "+37"
    assert growth_cell(-2.0) == "-2"
    assert growth_cell(0.3) == "0"
    assert growth_cell(series(1, 2).per_minute()) == "-"
    assert growth_cell(UNKNOWN) == "?"


def test_times_and_rates():
    assert [until_cell(value) for value in (None, 42.0, 960.0, 90_000.0, 1e9)] == [
        "-",
        "42 s",
        "16 min",
        "25 h",
        "-",
    ]
    assert [rate_cell(value) for value in (0.0, 0.5, 12.0, UNKNOWN)] == ["0/s", "0.5/s", "12/s", "?"]


def test_a_sparkline_rises_with_the_number_and_is_blank_where_nobody_looked():
    rising = sparkline(series(*range(0, 90, 10)), 4017.0, 9, is_unicode=False, since=3999.0)
    assert (rising[0], rising[-1]) == (".", "#")
    assert sparkline(series(5), 4000.0, 20, is_unicode=True).strip() == "\u2585"
