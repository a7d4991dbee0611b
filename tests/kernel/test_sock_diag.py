"""The netlink transport: requests, how an answer is cut into rows, and what ends a listing."""

import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.sock_diag import HEAD, ROW, Cutter, DumpRefusedError, Request, Rows, encode, receive
from tcpdoctor.kernel.sock_diag_rows import add_groups, add_states, decode_row
from tcpdoctor.kernel.tally import GroupTally, StateTally
from tests.kernel.recordings import (
    NAMES,
    ONE_PASS_TYPE,
    ROW_TYPES,
    cut_all,
    datagrams,
    needs_little_endian,
    raw_rows,
)

MULTI, INTERRUPTED = 0x2, 0x10
ERROR, DONE = 2, 3


def message(length: int = ROW, kind: int = ONE_PASS_TYPE, flags: int = MULTI, body: bytes = b"") -> bytes:
    return struct.pack("=IHHII", length, kind, flags, 1, 0) + body.ljust(length - 16, b"\0")


def done(code: int = 0) -> bytes:
    return message(20, DONE, body=struct.pack("=i", code))


def cut(data: bytes) -> tuple[Rows, bool]:
    cutter = Cutter(ONE_PASS_TYPE)
    cutter.buffer[: len(data)] = data
    return cutter.cut(len(data))


def test_one_request_lists_both_families():
    data = encode(Request(0x3F7E))
    assert struct.unpack_from("=IHH", data) == (76, 18, 0x301)
    assert struct.unpack_from("=I", data, 16 + 52) == (0x3F7E,)


def test_a_request_for_one_family_names_protocol_and_ports():
    data = encode(Request(1 << 10, 2, local_port=443, remote_port=5432, family=10, filtered=False))
    assert len(data) == 16 + 56
    assert data[16:19] == bytes([10, 6, 2])
    assert struct.unpack_from(">HH", data, 24) == (443, 5432)


@pytest.mark.parametrize(("local", "remote", "operations"), [(0, 0, 0), (443, 0, 1), (0, 443, 1), (1, 2, 2)])
def test_a_filter_program_is_sent_where_a_port_is_asked_for(local, remote, operations):
    plain = len(encode(Request(2, local_port=local, remote_port=remote, filtered=False)))
    filtered = len(encode(Request(2, local_port=local, remote_port=remote)))
    assert filtered - plain == (4 + 8 * operations if operations else 0)


def test_a_range_of_ports_is_two_comparisons_that_jump_beyond_the_end_where_they_fail():
    data = encode(Request(2, local_ports=(32768, 60999)))
    assert data[76:] == struct.pack("=HH", 20, 1) + b"".join(
        struct.pack("=BBHBBH", code, 8, miss, 0, 0, port)
        for code, miss, port in ((2, 20, 32768), (3, 12, 60999))
    )


def test_rows_of_one_length_are_cut_by_their_stride():
    rows, finished = cut(message(124) * 7)
    assert (rows.stride, rows.end, finished) == (124, 7 * 124, False)


def test_rows_of_two_lengths_are_cut_one_by_one():
    rows, finished = cut(message(124) + message(96) + message(124))
    assert (rows.stride, list(rows.offsets), finished) == (0, [0, 124, 220], False)


def test_a_length_that_only_divides_the_datagram_is_no_stride():
    rows, _ = cut(message(96) + message(96 + 4) + message(96 - 4))
    assert rows.stride == 0
    assert list(rows.offsets) == [0, 96, 196]


def test_the_end_may_follow_rows_in_the_same_datagram():
    rows, finished = cut(message(124) * 2 + done())
    assert (list(rows.offsets), rows.end, finished) == ([0, 124], 248, True)


def warm_cutter(*lengths: int) -> Cutter:
    """A cutter that has met rows of these lengths so often that it looks for them with a pattern."""
    cutter = Cutter(ONE_PASS_TYPE)
    for _ in range(20):
        assert cut_with(cutter, b"".join(map(message, lengths)) + message(lengths[0] + 4))[0].offsets
    return cutter


def cut_with(cutter: Cutter, data: bytes) -> tuple[Rows, bool]:
    cutter.buffer[: len(data)] = data
    return cutter.cut(len(data))


def row(length: int, state: int, port: int) -> bytes:
    body = struct.pack("=BBBB", 2, state, 0, 0) + struct.pack(">HH", port, 443) + bytes([10, 0, 0, 1])
    return message(length, body=body)


rows_of_some_lengths = st.lists(
    st.builds(row, st.sampled_from([96, 124, 90]), st.sampled_from([1, 6, 8]), st.integers(1, 65535)),
    min_size=1,
)


@given(rows_of_some_lengths)
def test_a_pattern_and_a_walk_cut_alike(messages):
    data = b"".join(part + bytes(-len(part) % 4) for part in messages)
    (walked, _), (found, finished) = cut(data), cut_with(warm_cutter(96, 124, 90 + 2), data)
    assert list(found.offsets) == list(walked.offsets)
    assert not finished
    counts = []
    for rows in (walked, found):
        states, groups = StateTally(), GroupTally((32768, 60999), [40000])
        add_groups(states, groups, rows)
        counts.append((states.by_state, groups.by_port(states), groups.by_destination()))
    assert counts[0] == counts[1]


def test_a_pattern_gives_the_heads_of_rows_of_mixed_lengths():
    rows, _ = cut_with(warm_cutter(96, 124), message(124) + message(96) + message(124))
    assert rows.heads == b"".join(message(length)[:HEAD] for length in (124, 96, 124))
    assert list(rows.offsets) == [0, 124, 220]


def test_a_row_inside_a_row_is_none():
    data = message(124) + message(96, body=message(ROW)[:80]) + message(124)
    rows, _ = cut_with(warm_cutter(ROW, 96, 124), data)
    assert list(rows.offsets) == [0, 124, 220]


def test_a_row_inside_one_of_a_new_length_is_none():
    data = message(124) + message(212, body=message(96)) + message(96)
    rows, _ = cut_with(warm_cutter(96, 124), data)
    assert list(rows.offsets) == [0, 124, 336]


def test_the_end_is_noticed_where_a_pattern_is_used():
    rows, finished = cut_with(warm_cutter(96, 124), message(96) + message(124) + done())
    assert (list(rows.offsets), finished) == ([0, 96], True)


def test_the_end_alone_has_no_rows():
    rows, finished = cut(done())
    assert not rows.stride
    assert not rows.offsets
    assert finished


def test_a_listing_that_ended_early_is_no_listing():
    with pytest.raises(KernelReadError, match="ended early: ENOMEM") as caught:
        cut(done(-errno.ENOMEM))
    assert not isinstance(caught.value, DumpRefusedError)


def test_an_error_message_means_that_the_kernel_refuses():
    with pytest.raises(DumpRefusedError, match="ENOENT"):
        cut(message(36, ERROR, 0, struct.pack("=i", -errno.ENOENT)))


def test_an_acknowledgement_is_no_list_of_sockets():
    with pytest.raises(KernelReadError, match="acknowledgement"):
        cut(message(36, ERROR, 0, struct.pack("=i", 0)))


def test_an_interrupted_listing_is_noticed_wherever_the_flag_is():
    cutter = Cutter(ONE_PASS_TYPE)
    data = message() + message(flags=MULTI | INTERRUPTED) + message()
    cutter.buffer[: len(data)] = data
    rows, _ = cutter.cut(len(data))
    assert list(rows.offsets) == [0, ROW, 2 * ROW]
    assert cutter.interrupted


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 16,
        message()[:-4],
        message() + b"\0\0\0\0",
        message(ROW - 4),
        message(kind=20),
        message(0x7FFFFFFF & 0xFFFC, body=b"")[:200],
        message() + message(36, ERROR, 0)[:20],
    ],
    ids=["empty", "zeros", "short", "left over", "small", "other type", "beyond the end", "cut error"],
)
def test_what_is_no_row_is_refused(data):
    with pytest.raises(KernelReadError):
        cut(data)


@pytest.fixture
def ends():
    """Two connected datagram sockets: what one sends, the other receives as if the kernel had."""
    ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, kernels:
        yield ours, kernels


def test_a_datagram_is_received_into_the_buffer(ends):
    ours, kernels = ends
    kernels.send(message(124) * 3)
    cutter = Cutter(ONE_PASS_TYPE)
    assert receive(ours, cutter.buffer) == 3 * 124
    assert cutter.cut(3 * 124)[0].stride == 124


def test_a_datagram_that_did_not_fit_is_no_answer(ends):
    ours, kernels = ends
    kernels.send(message(100) * 700)
    with pytest.raises(KernelReadError, match="70000 bytes did not fit"):
        receive(ours, Cutter(ONE_PASS_TYPE).buffer)


def test_a_kernel_that_stays_silent_is_not_waited_for_without_end(ends):
    ours, _ = ends
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, 1000))
    with pytest.raises(KernelReadError, match="no answer for 10 s"):
        receive(ours, Cutter(ONE_PASS_TYPE).buffer)


def test_an_error_while_receiving_breaks_the_listing_off():
    buffer = Cutter(ONE_PASS_TYPE).buffer
    with socket.socket() as unconnected, pytest.raises(KernelReadError, match="broke off: ENOTCONN"):
        receive(unconnected, buffer)


@needs_little_endian
@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_answer_is_cut_without_a_byte_left(name):
    parts = datagrams(name)
    cut_rows = [raw_rows(rows) for rows in cut_all(parts, ROW_TYPES[name])]
    assert [b"".join(rows) for rows in cut_rows] == parts[:-1]


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """A recorded answer with bytes changed, words replaced, and cut short somewhere."""
    name = draw(st.sampled_from(NAMES))
    parts = [bytearray(part) for part in datagrams(name)]
    for _ in range(draw(st.integers(0, 4))):
        part = draw(st.sampled_from(parts))
        if len(part) < 8:
            continue
        at = draw(st.integers(0, len(part) - 4))
        word = draw(st.binary(min_size=1, max_size=4) | st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff"]))
        part[at : at + len(word)] = word
    if draw(st.booleans()):
        part = draw(st.sampled_from(parts))
        del part[draw(st.integers(0, len(part))) :]
    return name, [bytes(part) for part in parts]


def consume(parts: list[bytes], row_type: int) -> None:
    states, more, groups = StateTally(), StateTally(), GroupTally((1024, 65535), [80])
    for rows in cut_all(parts, row_type):
        add_states(states, rows)
        add_groups(more, groups, rows)
        for raw in raw_rows(rows):
            decode_row(raw)
    assert states.by_state == more.by_state
    groups.by_port(states)
    groups.by_destination()


def complaint(parts: list[bytes], row_type: int) -> str:
    """What a read error says of these datagrams; nothing where they make sense."""
    try:
        consume(parts, row_type)
    except KernelReadError as error:
        return str(error)
    return ""


@needs_little_endian
@given(mutated())
def test_garbled_answers_raise_nothing_but_a_read_error(case):
    name, parts = case
    assert "\n" not in complaint(parts, ROW_TYPES[name])  # it is printed as one line


@given(st.lists(st.binary(max_size=400), max_size=3))
def test_arbitrary_bytes_raise_nothing_but_a_read_error(parts):
    assert "\n" not in complaint(parts, ONE_PASS_TYPE)  # it is printed as one line


@given(st.binary(max_size=500))
def test_an_arbitrary_row_raises_nothing_but_a_read_error(data):
    try:
        row = decode_row(data)
    except KernelReadError:
        return
    assert len(data) >= ROW
    assert row.family in (4, 6)
