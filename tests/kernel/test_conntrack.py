"""/proc/net/stat/nf_conntrack, verbatim from Linux 6.18 and from an older kernel with other columns."""

import pytest

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.counters import ask_conntrack, parse_conntrack_stat, read_counters
from tcpdoctor.kernel.reading import Missing

RECENT = """\
entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop \
icmp_error  expect_new expect_create expect_delete search_restart
0000000d  00000001 00000000 00000000 00000017 00000000 00000000 00000000 00000000 00000003 00000000 0000000a \
00000000  00000000 00000000 00000000 00000000
0000000d  00000002 00000000 00000000 00000001 00000000 00000000 00000000 00000000 00000004 000000ff 00000001 \
00000000  00000000 00000000 00000000 00000000
"""
OLDER = """\
entries  searched found new invalid ignore delete delete_list insert insert_failed drop early_drop \
icmp_error expect_new expect_create expect_delete search_restart
00000005  00000000 00000000 00000000 00000002 0000a000 00000000 00000000 00000000 00000007 00000000 00000000 \
00000000 00000000 00000000 00000000 00000001
"""


def test_the_lines_of_all_processors_are_added_up():
    assert parse_conntrack_stat(RECENT, "f") == {
        "nf_conntrack.drop": 255,
        "nf_conntrack.early_drop": 11,
        "nf_conntrack.insert_failed": 7,
        "nf_conntrack.invalid": 24,
        "nf_conntrack.clashres": 3,
    }


def test_a_column_that_a_kernel_lacks_is_absent_and_no_zero():
    counted = parse_conntrack_stat(OLDER, "f")
    assert counted["nf_conntrack.insert_failed"] == 7
    assert "nf_conntrack.clashres" not in counted


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (RECENT.replace("000000ff ", ""), "line 3: expected 17 columns, found 16"),
        (RECENT.replace("000000ff", "zz"), "line 3: expected only hexadecimal numbers"),
    ],
)
def test_what_makes_no_sense_is_named_with_file_and_line(text, what):
    with pytest.raises(KernelReadError, match=what):
        parse_conntrack_stat(text, "/proc/net/stat/nf_conntrack")


@pytest.fixture
def recorded(tmp_path):
    (tmp_path / "snmp").write_text("Tcp: InSegs\nTcp: 5\n")
    (tmp_path / "netstat").write_text("TcpExt: TW\nTcpExt: 3\n")
    (tmp_path / "stat").mkdir()
    return tmp_path


def test_they_are_read_with_the_other_counters(recorded):
    (recorded / "stat" / "nf_conntrack").write_text(RECENT)
    counted = read_counters(str(recorded)).counters
    assert not isinstance(counted, Missing)
    assert (counted["Tcp.InSegs"], counted["nf_conntrack.drop"]) == (5, 255)


def test_without_connection_tracking_none_of_them_is_there(recorded):
    counted = read_counters(str(recorded)).counters
    assert not isinstance(counted, Missing)
    assert [name for name in counted if name.startswith("nf_conntrack")] == []


def test_where_its_module_is_not_loaded_netlink_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.delattr("tcpdoctor.kernel.counters.socket.socket")  # to open one would be an error
    assert ask_conntrack(str(tmp_path)) == {}
