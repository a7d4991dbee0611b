"""Marking sockets in ESTABLISHED by columns, compared with the plainest loop that does the same."""

import struct
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tcpdoctor.kernel.closer_look import take_apart
from tcpdoctor.kernel.listing import add_proc_rows, decode_proc_line
from tcpdoctor.kernel.snapshot import Endpoint
from tcpdoctor.kernel.sock_diag import ROW, Rows
from tcpdoctor.kernel.sock_diag_rows import add_established, decode_row
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.kernel.tally import (
    LARGE_QUEUE,
    SAMPLE,
    UNANSWERED_RETRIES,
    EstablishedTally,
    Sample,
    StateTally,
)

queues = st.sampled_from([0, 1, 70_000, LARGE_QUEUE - 1, LARGE_QUEUE, 3 << 24])
sockets = st.tuples(
    st.sampled_from([1, 1, 1, 6, 8]),
    st.sampled_from([0, 1, 2, 3, 4]),
    st.integers(0, 5),
    st.sampled_from([443, 40000, 40001]),
    st.sampled_from([443, 40000]),
    queues,
    queues,
    st.sampled_from([ROW, 96, 124]),
)


def packed(state, timer, retries, local, remote, receive, send, length, *, cookie=0) -> bytes:
    body = struct.pack("=BBBB", 2, state, timer, retries) + struct.pack(">HH", local, remote)
    body += bytes([127, 0, 0, 1]).ljust(16, b"\0") * 2 + struct.pack("=IQI", 0, cookie, 100)
    body += struct.pack("=IIII", receive, send, 0, 7)
    return (struct.pack("=IHHII", length, 18, 2, 1, 0) + body).ljust(length, b"\0")


def as_rows(parts: list[bytes]) -> Rows:
    data = bytearray(b"".join(parts))
    starts = [sum(map(len, parts[:place])) for place in range(len(parts))]
    alike = len({len(part) for part in parts}) == 1
    return Rows(data, len(data), len(parts[0]) if alike else 0, () if alike else starts)


@given(st.lists(st.lists(sockets, min_size=1, max_size=9), min_size=1, max_size=4))
def test_columns_and_a_plain_loop_mark_the_same_sockets(batches):
    tally = EstablishedTally[bytes]()
    for batch in batches:
        add_established(tally, as_rows([packed(*found) for found in batch]))
    here = [found for batch in batches for found in batch if found[0] == 1]
    timers = Counter(timer for _, timer, *_ in here)
    assert (tally.no_timer, tally.retransmitting, tally.keepalive, tally.probing) == (
        timers[0], timers[1], timers[2], timers[4],
    )  # fmt: skip
    marked = take_apart(tally, decode_row)
    assert len(marked.unanswered.connections) == sum(
        timer in (Timer.RETRANSMIT, Timer.PROBE) and retries >= UNANSWERED_RETRIES
        for _, timer, retries, *_ in here
    )
    assert len(marked.closed_window.connections) == sum(
        timer == Timer.PROBE and retries < UNANSWERED_RETRIES for _, timer, retries, *_ in here
    )
    assert len(marked.self_connected.connections) == sum(
        local == remote for *_, local, remote, _, _, _ in here
    )
    large = Counter(max(receive, send) for *_, receive, send, _ in here if max(receive, send) >= LARGE_QUEUE)
    assert Counter(max(row.receive_queue, row.send_queue) for row in marked.large.connections) == large
    assert marked.sample.total == len(marked.sample.connections) == len(here)


def test_a_socket_with_one_port_at_both_ends_and_two_addresses_is_no_self_connection():
    tally = EstablishedTally[bytes]()
    row = bytearray(packed(1, 0, 0, 7, 7, 0, 0, ROW))
    row[40:44] = bytes([127, 0, 0, 2])
    add_established(tally, as_rows([bytes(row)]))
    assert tally.self_connected.total == 1
    assert take_apart(tally, decode_row).self_connected.total == 0


def test_a_socket_that_is_gone_by_the_second_look_is_counted_nowhere():
    tally = EstablishedTally[bytes]()
    add_established(tally, as_rows([packed(1, 1, 7, 1, 2, 0, 0, ROW), packed(1, 1, 7, 3, 4, 0, 0, ROW)]))
    marked = take_apart(tally, lambda row: decode_row(row) if decode_row(row).local.port == 1 else None)
    assert [row.local for row in marked.unanswered.connections] == [Endpoint("127.0.0.1", 1)]
    assert (marked.unanswered.total, marked.sample.total) == (1, 1)


def test_a_socket_that_has_moved_on_by_the_second_look_is_left_out():
    tally = EstablishedTally[bytes]()
    add_established(tally, as_rows([packed(1, 1, 7, 1, 2, 0, 0, ROW), packed(1, 4, 0, 3, 4, 0, 0, ROW)]))
    moved = packed(8, 0, 0, 1, 2, 0, 0, ROW)
    marked = take_apart(tally, lambda _: decode_row(moved))
    kinds = (marked.unanswered, marked.closed_window, marked.sample)
    assert [detail.total for detail in kinds] == [0, 0, 0]


def test_beyond_the_bound_the_sample_is_uniform_over_all_batches():
    counts = Counter()
    for _ in range(40):
        tally = EstablishedTally[bytes]()
        for batch in range(16):
            add_established(tally, as_rows([packed(1, 0, 0, batch + 1, 999, 0, 0, ROW)] * 64))
        assert (len(tally.sample.kept), tally.sample.total) == (SAMPLE, 1024)
        counts.update(decode_row(row).local.port for row in tally.sample.kept)
    # 40 x 256 over 16 batches: 640 each, with a standard deviation of 22
    assert all(500 < counts[batch + 1] < 780 for batch in range(16)), counts


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 20))
def test_choosing_by_batches_fills_a_sample_and_counts_everything(batches, bound):
    sample = Sample[int](bound)
    for size in batches:
        places = sample.choose(size)
        assert places == sorted(set(places))
        assert all(0 <= place < size for place in places)
        for place in places:
            sample.put(place)
    assert sample.total == sum(batches)
    assert len(sample.kept) == min(bound, sum(batches))


_LINE = b"%4d: 0100007F:%04X 0100007F:%04X %02X %08X:%08X %02X:%08X %08X  1000 %8d 77 1 0 20 4 30 10 -1\n"


def test_lines_of_proc_are_marked_as_rows_are(tmp_path):
    lines = [
        _LINE % (0, 443, 40000, 1, 0, 0, 0, 0, 0, 0),
        _LINE % (1, 443, 40001, 1, 9, 0, 1, 150, 6, 0),
        _LINE % (2, 443, 40002, 1, 5, 0, 4, 150, 0, 1),
        _LINE % (3, 40003, 40003, 1, 0, 0, 2, 700000, 0, 0),
        _LINE % (4, 443, 40004, 1, 0, LARGE_QUEUE, 0, 0, 0, 0),
        _LINE % (5, 443, 40005, 8, LARGE_QUEUE, 0, 1, 150, 9, 0),
        _LINE % (6, 443, 40006, 1, 5, 0, 4, 150, 0, 11),
    ]
    (tmp_path / "tcp").write_bytes(b"  sl  heading\n" + b"".join(lines))
    tally = EstablishedTally[bytes]()
    add_proc_rows(StateTally(), None, str(tmp_path), established=tally)
    marked = take_apart(tally, decode_proc_line)
    assert (marked.no_timer, marked.retransmitting, marked.keepalive, marked.probing) == (2, 1, 1, 2)
    assert [row.retransmits for row in marked.unanswered.connections] == [6, 11]
    assert [row.remote.port for row in marked.closed_window.connections] == [40002]
    assert [row.local.port for row in marked.self_connected.connections] == [40003]
    assert [row.receive_queue for row in marked.large.connections] == [LARGE_QUEUE]
    assert {row.state for row in marked.sample.connections} == {TcpState.ESTABLISHED}
    assert marked.sample.total == 6
