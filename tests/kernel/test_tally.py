"""Counting by state, port and destination, compared with the plainest loop that does the same."""

import socket
import struct
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel import tally
from tcpdoctor.kernel.snapshot import Destination, DestinationUse
from tcpdoctor.kernel.sock_diag import Rows
from tcpdoctor.kernel.sock_diag_rows import add_groups, add_states
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.tally import MOST_DESTINATIONS, MOST_PORTS, BoundedCounter, GroupTally, StateTally

EPHEMERAL = (32768, 60999)
V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)

states = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
ports = st.sampled_from([1, 80, 443, 32767, 32768, 40000, 60999, 61000, 65535])
addresses = st.sampled_from(["10.0.0.1", "10.0.0.2", "::1", "2001:db8::7", "::ffff:10.0.0.1"])
lengths = st.sampled_from([88, 96, 124])
sockets = st.tuples(states, ports, ports, addresses, addresses, lengths)


def packed_row(state: int, local: int, remote: int, source: str, target: str, length: int) -> bytes:
    # the kernel zeroes what an IPv4 address leaves of its 16 bytes
    family = V6 if ":" in source + target else V4
    raw = b""
    for address in (source, target):
        mapped = f"::ffff:{address}" if family == V6 and ":" not in address else address
        raw += socket.inet_pton(socket.AddressFamily(family), mapped).ljust(16, b"\0")
    body = struct.pack("=BBBB", family, state, 0, 0) + struct.pack(">HH", local, remote) + raw
    return (struct.pack("=IHHII", length, 18, 2, 1, 0) + body).ljust(length, b"\0")


def rows_of(packed: list[bytes]) -> Rows:
    data = bytearray(b"".join(packed))
    offsets = [sum(map(len, packed[:n])) for n in range(len(packed))]
    uniform = len({len(row) for row in packed}) == 1
    return Rows(data, len(data), len(packed[0]) if uniform else 0, () if uniform else offsets)


def plain_text(address: str) -> str:
    return address.removeprefix("::ffff:")


def count_plainly(found, listening):
    """The same counts, one socket at a time."""
    by_state, by_port, total, time_wait = Counter(), Counter(), Counter(), Counter()
    for state, local, remote, source, target, _ in found:
        name = TcpState.BOUND if state == 7 else TcpState(state)
        by_state[name] += 1
        ephemeral = EPHEMERAL[0] <= local <= EPHEMERAL[1] and local not in listening and state != 10
        by_port[name, 0 if ephemeral else local] += 1
        if ephemeral and state != 7:
            destination = Destination(plain_text(source), plain_text(target), remote)
            total[destination] += 1
            time_wait[destination] += state == 6
    return by_state, by_port, {d: DestinationUse(total[d], time_wait[d]) for d in total}


@given(st.lists(st.lists(sockets, min_size=1, max_size=12), max_size=4), st.frozensets(ports, max_size=3))
def test_columns_and_a_plain_loop_count_the_same(parts, listening):
    alone, by_state, groups = StateTally(), StateTally(), GroupTally(EPHEMERAL, listening)
    for part in parts:
        rows = rows_of([packed_row(*found) for found in part])
        add_states(alone, rows)
        add_groups(by_state, groups, rows)
    expected = count_plainly([found for part in parts for found in part], listening)
    for counted in (alone, by_state):
        assert +Counter(counted.by_state | {TcpState.BOUND: counted.bound}) == expected[0]
    assert groups.by_port(by_state) == expected[1]
    assert groups.by_destination() == expected[2]
    assert groups.unlisted == 0


def test_a_state_nobody_asked_for_is_an_error_and_not_left_out():
    with pytest.raises(KernelReadError, match="2 sockets in a state"):
        StateTally().add(bytes([1, 12, 7, 12]))


def test_a_family_that_is_neither_ipv4_nor_ipv6_is_an_error():
    row = bytearray(packed_row(1, 40000, 80, "10.0.0.1", "10.0.0.2", 88))
    row[16] = 99
    with pytest.raises(KernelReadError, match="neither IPv4 nor IPv6"):
        add_groups(StateTally(), GroupTally(EPHEMERAL, []), rows_of([bytes(row)]))


def test_without_an_ephemeral_range_no_destination_is_counted():
    by_state, groups = StateTally(), GroupTally(None, [])
    add_groups(by_state, groups, rows_of([packed_row(1, 40000, 80, "10.0.0.1", "10.0.0.2", 88)]))
    assert groups.by_destination() == {}
    assert groups.by_port(by_state) == {(TcpState.ESTABLISHED, 40000): 1}


def key(number: int) -> bytes:
    return struct.pack(">HI12xI", 443, 1, number)


@given(st.lists(st.integers(0, 30), max_size=300), st.integers(2, 20))
def test_a_pruned_count_is_a_lower_bound_with_a_known_gap(stream, limit):
    counter, truth = BoundedCounter(limit), Counter(map(key, stream))
    for number in stream:
        counter.update([key(number)])
        if counter.is_full():
            counter.prune()
    for name, count in truth.items():
        if name in counter.counts:
            assert counter.counts[name] <= count <= counter.counts[name] + counter.uncounted(name)
        else:
            assert count <= counter.lost
    assert len(counter.counts) <= limit
    assert counter.lost == 0 or len(truth) > limit


def test_memory_does_not_grow_with_destinations_and_the_big_one_is_found():
    by_state, groups = StateTally(), GroupTally(EPHEMERAL, [])
    for batch in range(100):
        packed = [
            packed_row(1, 40000, 80, "10.0.0.1", f"10.{batch}.{n // 256}.{n % 256}", 88) for n in range(300)
        ]
        packed += [packed_row(6, 40000, 5432, "10.0.0.1", "10.0.0.5", 88)] * 30
        add_groups(by_state, groups, rows_of(packed))
    uses = groups.by_destination()
    assert len(uses) <= MOST_DESTINATIONS
    first, use = next(iter(uses.items()))
    assert first == Destination("10.0.0.1", "10.0.0.5", 5432)
    assert use == DestinationUse(3000, 3000, 0)  # never pruned, so exact
    assert 0 < groups.unlisted < 30


def test_rare_ports_fold_into_port_0_and_none_is_lost(monkeypatch):
    monkeypatch.setattr(tally, "MOST_PORTS", 8)
    by_state, groups = StateTally(), GroupTally(EPHEMERAL, [443])
    packed = [packed_row(1, port, 80, "10.0.0.1", "10.0.0.2", 88) for port in range(1, 21)]
    packed += [packed_row(1, 7, 80, "10.0.0.1", "10.0.0.2", 88)] * 5
    packed += [packed_row(1, 443, 80, "10.0.0.1", "10.0.0.2", 88), packed_row(10, 9, 0, "::", "::", 96)]
    add_groups(by_state, groups, rows_of(packed))
    counts = groups.by_port(by_state)
    assert sum(counts.values()) == 27
    assert counts[TcpState.ESTABLISHED, 7] == 6
    assert counts[TcpState.ESTABLISHED, 443] == 1
    assert counts[TcpState.LISTEN, 9] == 1
    assert len(counts) <= 8
    assert MOST_PORTS > 8
