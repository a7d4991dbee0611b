"""/proc/net/softnet_stat: hexadecimal, a line for each CPU."""

import pytest

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.counters import CpuPackets, parse_softnet, read_softnet
from tcpdoctor.kernel.reading import Missing

LINUX_6 = """\
00c76364 000002f6 0000000d 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 \
00000000 00000000 00000000
00c5bd30 00000000 00000009 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 \
00000002 00000000 00000000
"""
LINUX_4 = """\
0008e78a 00000000 00000001 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000
0001a2b3 00000011 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000
"""


def test_numbers_are_hexadecimal_and_cpus_have_their_own_number():
    assert parse_softnet(LINUX_6, "softnet_stat") == (
        CpuPackets(cpu=0, processed=13067108, dropped=758, squeezed=13),
        CpuPackets(cpu=2, processed=12959024, dropped=0, squeezed=9),
    )


def test_an_older_kernel_does_not_number_its_cpus():
    assert parse_softnet(LINUX_4, "softnet_stat") == (
        CpuPackets(cpu=0, processed=583562, dropped=0, squeezed=1),
        CpuPackets(cpu=1, processed=107187, dropped=17, squeezed=0),
    )


@pytest.mark.parametrize(
    ("text", "where"),
    [("", "softnet_stat"), ("00000001 00000002\n", "line 1"), (LINUX_6 + "00000001 zz 0\n", "line 3")],
)
def test_another_form_is_refused_with_its_place(text, where):
    with pytest.raises(KernelReadError, match=where):
        parse_softnet(text, "softnet_stat")


def test_a_file_that_is_not_there_is_missing_and_not_zero(tmp_path):
    answer = read_softnet(str(tmp_path))
    assert isinstance(answer, Missing)
    assert "softnet_stat does not exist here" in answer.reason


def test_this_machine_has_a_line_for_each_cpu_that_is_online():
    answer = read_softnet()
    assert not isinstance(answer, Missing)
    with open("/sys/devices/system/cpu/online", encoding="ascii") as file:
        ranges = [part.split("-") for part in file.read().strip().split(",")]
    online = [cpu for ends in ranges for cpu in range(int(ends[0]), int(ends[-1]) + 1)]
    assert [row.cpu for row in answer] == online


@pytest.mark.parametrize("text", ["", "00000001 zz 0\n"])
def test_an_odd_file_is_missing_and_does_not_end_the_look(tmp_path, text):
    (tmp_path / "softnet_stat").write_text(text)
    answer = read_softnet(str(tmp_path))
    assert isinstance(answer, Missing)
    assert "softnet_stat" in answer.reason
    assert "expected" in answer.reason
