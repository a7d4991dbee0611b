"""Tables: what is too wide goes below, is cut, or is left out, in that order, and it is said."""

import pytest

from tcpdoctor.report.style import PLAIN, Style
from tcpdoctor.report.table import Column, cut, table, table_width

COLUMNS = (
    Column("NAME", least=8),
    Column("SOCKETS", right=True),
    Column("OLDEST", right=True, goes=1),
    Column("LIMIT", right=True, goes=2),
    Column("MEANING", below=True),
)
ROWS = (
    ("nginx (811)", "12", "17 min", "1024", "it serves, and it does not close what its clients have ended"),
    ("a-name-that-goes-on (27685)", "1,234", "2 s", "65536", ""),
)


def lines(columns: int, rows=ROWS) -> list[str]:
    return table(COLUMNS, rows, Style(color=False, width=min(columns, 100), columns=columns))


def test_a_wide_terminal_has_everything_in_one_row():
    head, first, second = lines(120)
    assert head.split() == [column.name for column in COLUMNS]
    assert first == "nginx (811)                       12  17 min   1024  " + ROWS[0][4]
    assert second == "a-name-that-goes-on (27685)    1,234     2 s  65536"


def test_prose_goes_below_its_row_before_anything_is_cut():
    assert lines(80) == [
        "NAME                         SOCKETS  OLDEST  LIMIT",
        "nginx (811)                       12  17 min   1024",
        "    it serves, and it does not close what its clients have ended",
        "a-name-that-goes-on (27685)    1,234     2 s  65536",
    ]


def test_what_is_cut_keeps_its_pid_and_stands_whole_below():
    assert lines(40)[-2:] == [
        "a-name-~ (27685)    1,234     2 s  65536",
        "    a-name-that-goes-on (27685)",
    ]


def test_columns_go_in_the_order_that_they_say_and_are_named():
    assert lines(26)[0].split() == ["NAME", "SOCKETS", "OLDEST"]
    assert lines(26)[-1] == "(no room for LIMIT)"
    assert lines(20)[0].split() == ["NAME", "SOCKETS"]
    assert lines(20)[-2:] == ["(no room for LIMIT,", "OLDEST)"]


def test_where_nothing_fits_each_row_is_a_few_lines():
    columns = (Column("SETTING"), Column("VALUE"), Column("MEANING", below=True))
    name = "net.netfilter.nf_conntrack_tcp_timeout_max_retrans"
    narrow = Style(color=False, width=40)
    assert table(columns, [(name, "300", "how long")], narrow) == [
        "net.netfilter.nf_conntrack_tcp_timeout_m",
        "  ax_retrans",
        "    VALUE 300",
        "    how long",
    ]


@pytest.mark.parametrize("columns", range(16, 130))
def test_no_line_is_wider_than_the_terminal(columns):
    assert max(map(len, lines(columns))) <= columns


def test_what_is_empty_in_every_row_has_no_column():
    assert lines(80, [("a", "1", "", "", "")]) == ["NAME  SOCKETS", "a           1"]
    assert lines(80, []) == []


def test_a_cell_may_have_a_bound_of_its_own():
    columns = (Column("VALUE", most=10), Column("UNIT"))
    assert table(columns, [("x" * 23, "byte")], PLAIN) == [
        "VALUE       UNIT",
        "xxxxxxxxx~  byte",
        "    " + "x" * 23,
    ]


def test_numbers_stay_as_they_are_written():
    columns = (Column("RULE"), Column("VALUE", right=True))
    assert table(columns, [("both", "1e5"), ("one", "007")], PLAIN) == [
        "RULE  VALUE",
        "both    1e5",
        "one     007",
    ]


def test_the_width_is_that_of_the_table_with_nothing_cut():
    assert table_width(COLUMNS, ROWS) == max(map(len, lines(200)))
    assert cut("short (1)", 20) == "short (1)"
    assert cut("0.0.0.0:65535-and-more", 12) == "0.0.0.0:655~"
