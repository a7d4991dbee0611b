"""sockstat and sockstat6, verbatim from Linux 6.18."""

import pytest

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.counters import parse_sockstat, read_sockstat
from tcpdoctor.kernel.reading import Missing

SOCKSTAT = """\
sockets: used 16
TCP: inuse 5 orphan 2 tw 3 alloc 7 mem 94
UDP: inuse 0 mem 0
UDPLITE: inuse 0
RAW: inuse 0
FRAG: inuse 0 memory 0
"""
SOCKSTAT6 = "TCP6: inuse 11\nUDP6: inuse 0\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0\n"


@pytest.fixture
def recorded(tmp_path):
    (tmp_path / "sockstat").write_text(SOCKSTAT)
    (tmp_path / "sockstat6").write_text(SOCKSTAT6)
    return tmp_path


def test_numbers_are_named_by_group(recorded):
    numbers = read_sockstat(str(recorded))
    assert [numbers[f"TCP.{name}"] for name in ("inuse", "orphan", "tw", "alloc", "mem")] == [5, 2, 3, 7, 94]
    assert numbers["TCP6.inuse"] == 11
    assert numbers["sockets.used"] == 16


def test_without_ipv6_its_numbers_are_absent(recorded):
    (recorded / "sockstat6").unlink()
    assert "TCP6.inuse" not in read_sockstat(str(recorded))


def test_without_the_file_it_is_missing(tmp_path):
    answer = read_sockstat(str(tmp_path))
    assert isinstance(answer, Missing)
    assert "sockstat" in answer.reason


@pytest.mark.parametrize(
    "line", ["TCP inuse 5", "TCP: inuse", "TCP: inuse x", "TCP:", "", "TCP: inuse 5 orphan"]
)
def test_a_malformed_line_is_refused_with_file_and_line(line):
    with pytest.raises(KernelReadError, match=r"^sockstat line 2: expected a group and pairs"):
        parse_sockstat(f"sockets: used 16\n{line}\n", "sockstat")


def test_an_odd_file_is_missing_with_the_place_and_does_not_end_the_look(tmp_path):
    (tmp_path / "sockstat").write_text("sockets: used 16\nTCP: inuse\n")
    answer = read_sockstat(str(tmp_path))
    assert isinstance(answer, Missing)
    assert "sockstat line 2: expected a group and pairs" in answer.reason
    (tmp_path / "sockstat").write_text("TCP: inuse 5\n")
    (tmp_path / "sockstat6").write_text("TCP6: inuse x\n")
    assert read_sockstat(str(tmp_path)) == {"TCP.inuse": 5}
