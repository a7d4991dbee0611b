"""Which way of listing sockets answers, and when one has failed."""

import struct

import pytest

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel import listing
from tcpdoctor.kernel import listing as bound_support
from tcpdoctor.kernel.listing import (
    WAYS,
    Way,
    bound_reading,
    each_row,
    first_answer,
    lists_bound_sockets,
    offsets_on_ports,
)
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sock_diag import DumpRefusedError, Request, Rows


class Kernel:
    """Answers each way from a script: a value, "interrupted", or an error to raise."""

    def __init__(self, **script: list[object]) -> None:
        self.script = script
        self.asked: list[str] = []

    def look(self, way: Way) -> tuple[object, bool]:
        self.asked.append(way.name)
        answer = self.script[way.name].pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer, answer == "interrupted"


REFUSED = DumpRefusedError("sock_diag: ENOENT")
BROKEN = KernelReadError("sock_diag: the listing broke off: ENOBUFS")


def test_the_first_way_that_answers_is_taken():
    kernel = Kernel(BOTH_FAMILIES=["sockets"])
    assert first_answer(WAYS, kernel.look) == ("sockets", Way.BOTH_FAMILIES, True)
    assert kernel.asked == ["BOTH_FAMILIES"]


def test_a_refusal_is_not_asked_again():
    kernel = Kernel(BOTH_FAMILIES=[REFUSED], BY_FAMILY=["sockets"])
    assert first_answer(WAYS, kernel.look) == ("sockets", Way.BY_FAMILY, True)
    assert kernel.asked == ["BOTH_FAMILIES", "BY_FAMILY"]


def test_a_listing_that_breaks_off_is_asked_for_once_more():
    kernel = Kernel(BOTH_FAMILIES=[BROKEN, "sockets"])
    assert first_answer(WAYS, kernel.look) == ("sockets", Way.BOTH_FAMILIES, True)


def test_a_listing_that_breaks_off_twice_gives_way_to_the_next():
    kernel = Kernel(BOTH_FAMILIES=[BROKEN, BROKEN], BY_FAMILY=[REFUSED], PROC=["sockets"])
    assert first_answer(WAYS, kernel.look) == ("sockets", Way.PROC, True)


def test_an_interrupted_listing_is_repeated():
    kernel = Kernel(BOTH_FAMILIES=["interrupted", "sockets"])
    assert first_answer(WAYS, kernel.look) == ("sockets", Way.BOTH_FAMILIES, True)


def test_a_listing_interrupted_twice_gives_way_to_a_complete_one():
    kernel = Kernel(BOTH_FAMILIES=["interrupted", "interrupted"], BY_FAMILY=["sockets"])
    assert first_answer(WAYS, kernel.look) == ("sockets", Way.BY_FAMILY, True)


def test_where_every_listing_is_interrupted_it_is_taken_and_says_so():
    kernel = Kernel(BOTH_FAMILIES=["interrupted", "interrupted"], BY_FAMILY=[REFUSED], PROC=[BROKEN, BROKEN])
    answer, way, complete = first_answer(WAYS, kernel.look)
    assert (answer, way) == ("interrupted", Way.BOTH_FAMILIES)
    assert isinstance(complete, Missing)
    assert "changed" in complete.reason


def test_where_nothing_answers_every_reason_is_given_once():
    hidden = PermissionError(13, "Permission denied", "/proc/thread-self/net/tcp")
    kernel = Kernel(BOTH_FAMILIES=[REFUSED], BY_FAMILY=[REFUSED], PROC=[hidden])
    assert first_answer(WAYS, kernel.look) == Missing(
        "sock_diag: ENOENT; /proc/thread-self/net/tcp: Permission denied"
    )


def test_rows_prove_that_the_kernel_lists_bound_sockets(monkeypatch):
    monkeypatch.setattr(listing, "lists_bound_sockets", lambda: False)
    assert bound_reading(Way.BOTH_FAMILIES, 3) == 3


@pytest.fixture
def types(monkeypatch, tmp_path):
    """The file of the kernel's type information, which is not there yet."""
    monkeypatch.setattr(listing, "_TYPES", str(tmp_path / "vmlinux"))
    lists_bound_sockets.cache_clear()
    yield tmp_path / "vmlinux"
    lists_bound_sockets.cache_clear()


def test_no_bound_sockets_on_a_kernel_that_lists_none_is_not_zero(types):
    types.write_bytes(btf(b"\0TCP_NEW_SYN_RECV\0"))
    assert bound_reading(Way.BOTH_FAMILIES, 0) == Missing("this kernel does not list bound sockets")
    assert bound_reading(Way.BOTH_FAMILIES, 3) == 3


def test_no_bound_sockets_on_a_kernel_that_lists_them_is_zero(types):
    types.write_bytes(btf(b"\0TCP_BOUND_INACTIVE\0"))
    assert bound_reading(Way.BOTH_FAMILIES, 0) == 0


@pytest.mark.usefixtures("types")
def test_no_bound_sockets_where_nothing_tells_is_said_to_be_so():
    assert bound_reading(Way.BOTH_FAMILIES, 3) == 3
    assert bound_reading(Way.BOTH_FAMILIES, 0) == Missing(
        "without /sys/kernel/btf/vmlinux nothing tells whether this kernel lists bound sockets"
    )


def test_proc_never_lists_bound_sockets():
    assert isinstance(bound_reading(Way.PROC, 0), Missing)


def btf(names: bytes, types: bytes = b"", magic: int = 0xEB9F) -> bytes:
    return struct.pack("=HBBIIIII", magic, 1, 0, 24, 0, len(types), len(types), len(names)) + types + names


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (btf(b"\0int\0TCP_BOUND_INACTIVE\0", bytes(999)), True),
        (btf(b"\0TCP_NEW_SYN_RECV\0"), False),
        (btf(b"\0int\0", b"\0TCP_BOUND_INACTIVE\0"), False),
        (btf(b"\0TCP_BOUND_INACTIVE\0", magic=0x9FEB), False),
        (btf(b"\0TCP_BOUND_INACTIVE\0")[:-3], False),
        (btf(b"\0" + b"name\0" * 39_999 + b"TCP_BOUND_INACTIVE\0last\0"), True),
        (btf(bytes((1 << 16) - 7) + b"\0TCP_BOUND_INACTIVE\0"), True),
        (b"", False),
    ],
    ids=["known", "unknown", "not a name", "other byte order", "cut", "far", "in two pieces", "empty"],
)
def test_the_kernels_own_types_decide(tmp_path, content, names):
    (tmp_path / "vmlinux").write_bytes(content)
    assert bound_support.names_the_state(str(tmp_path / "vmlinux")) is names


def test_a_kernel_without_types_is_not_known_to_list_them(tmp_path):
    assert not bound_support.names_the_state(str(tmp_path / "absent"))


def rows_with(*ports: tuple[int, int], lengths: tuple[int, ...]) -> Rows:
    """A datagram of rows with these local and remote ports."""
    parts = [
        struct.pack("=I16x", length) + struct.pack(">HH", *each) + bytes(length - 24)
        for each, length in zip(ports, lengths, strict=True)
    ]
    starts = [sum(lengths[:place]) for place in range(len(lengths))]
    alike = len(set(lengths)) == 1
    return Rows(b"".join(parts), sum(lengths), lengths[0] if alike else 0, () if alike else starts)


@pytest.mark.parametrize("lengths", [(112, 112, 112, 112), (112, 88, 88, 112)])
def test_rows_on_other_ports_than_those_asked_for_are_left_out(lengths):
    starts = [sum(lengths[:place]) for place in range(4)]
    mixed = rows_with((80, 40_001), (80, 443), (8080, 443), (0x5000, 443), lengths=lengths)
    assert list(offsets_on_ports(mixed, Request(0xFFF))) == starts
    assert list(offsets_on_ports(mixed, Request(0xFFF, 0, 80))) == starts[:2]
    assert list(offsets_on_ports(mixed, Request(0xFFF, 0, 0, 443))) == starts[1:]
    assert list(offsets_on_ports(mixed, Request(0xFFF, 0, 80, 443))) == [starts[1]]
    assert list(each_row(mixed, Request(0xFFF, 0, 80, 443))) == [(starts[1], starts[1] + lengths[1])]
    same = rows_with(*[(80, 443)] * 4, lengths=lengths)
    assert list(offsets_on_ports(same, Request(0xFFF, 0, 80, 443))) == starts
