"""Which line stays, from literals; tests/peers/test_sysctl_readers.py asks the readers themselves."""

import pytest

from tcpdoctor.diagnosis.sysctl_look import Placed, winners, writes
from tcpdoctor.facts.sysctl_value import is_same, port_ranges, printed_numbers, written_numbers
from tcpdoctor.kernel.sysctl_files import Reader, read_lines

MATCHES = {"a/*": ("a/x", "a/y"), "a/[xy]": ("a/x", "a/y")}


def ends(text: str, reader: Reader) -> dict[str, str]:
    lines = [Placed("f", line) for line in read_lines(text.encode(), reader).lines]
    kept = winners(writes(lines, reader, MATCHES), lambda _, value: value != "refused")
    return {path: write.value for path, write in kept.items()}


@pytest.mark.parametrize("reader", Reader)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.x = 1\na.x = 2", {"a/x": "2"}),
        ("a.* = 1\na.x = 2", {"a/x": "2", "a/y": "1"}),
        ("a.x = 2\na.* = 1", {"a/x": "2", "a/y": "1"}),
        ("a.* = 1\n-a.x", {"a/y": "1"}),
        ("a.* = 1\na.[xy] = 2", {"a/x": "2", "a/y": "2"}),
        ("a.* = 1\na.x = refused", {"a/y": "1"}),
        ("-a.*\na.* = 1", {"a/x": "1", "a/y": "1"}),
    ],
)
def test_what_both_readers_leave(reader, text, expected):
    assert ends(text, reader) == expected


@pytest.mark.parametrize(
    ("text", "systemd", "procps"),
    [
        ("a.x = 1\na.x = refused", {}, {"a/x": "1"}),
        ("a.x = 1\n-a.x", {}, {"a/x": "1"}),
        ("-a.x\na.x = 1", {"a/x": "1"}, {"a/x": "1"}),
        ("a.* = 1\na.[xy] = 2\na.* = 1", {"a/x": "2", "a/y": "2"}, {"a/x": "1", "a/y": "1"}),
        ("a.* = 1\n-a.*", {}, {"a/x": "1", "a/y": "1"}),
    ],
)
def test_what_they_leave_differently(text, systemd, procps):
    assert (ends(text, Reader.SYSTEMD), ends(text, Reader.PROCPS)) == (systemd, procps)


@pytest.mark.parametrize(
    ("text", "most", "numbers"),
    [
        ("7", 1, (7,)),
        ("0x1F -010 8", 3, (31, -8, 8)),
        ("7 # c", 1, (7,)),
        ("7# c", 1, None),
        ("08", 1, None),
        ("+7", 1, None),
        ("", 1, None),
        ("1\r2", 2, None),
        ("1 2", 3, (1, 2)),
    ],
)
def test_numbers_as_the_kernel_takes_them(text, most, numbers):
    assert written_numbers(text, most) == numbers


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("", ()),
        ("8080", ((8080, 8080),)),
        ("9000-9010,8080,8081,9005", ((8080, 8081), (9000, 9010))),
        ("8080, 9000", None),
        ("9-8", None),
        ("65536", None),
        ("0x50-0x51", ((80, 81),)),
        ("08", None),
    ],
)
def test_lists_of_ports_as_the_kernel_takes_them(text, ranges):
    assert port_ranges(text) == ranges


@pytest.mark.parametrize(
    ("written", "running", "same"),
    [
        ("1", "1", True),
        ("0x10", "16", True),
        ("4096  1\t2", "4096 1 2", True),
        ("4096", "4096 1 2", True),
        ("4097", "4096 1 2", False),
        ("8081,8080", "8080-8081", True),
        ("8080", "8080-8081", False),
        ("", "", True),
        ("", "5", False),
        ("bbr", "bbr", True),
        ("bbr # c", "bbr", False),
        ("9 # c", "9", True),
    ],
)
def test_a_value_is_compared_as_the_kernel_means_it(written, running, same):
    assert is_same(written, running) is same


def test_text_holds_no_numbers():
    assert printed_numbers("1 2 -3") == (1, 2, -3)
    assert printed_numbers("1 b") is None
    assert printed_numbers("") is None
