"""One row of a listing, decoded."""

import random
import socket
import struct

import pytest

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel import connect_evidence
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Connection, Endpoint, Listener, NotHeld, TcpBytes
from tcpdoctor.kernel.sock_diag import Rows
from tcpdoctor.kernel.sock_diag_rows import (
    CGROUP_ID,
    INFO,
    SKMEMINFO,
    SKV6ONLY,
    decode_row,
    decode_step_by_step,
)
from tcpdoctor.kernel.sockets import EVERY_SOCKET, SocketFilter
from tcpdoctor.kernel.states import TcpState, Timer
from tests.kernel.recordings import cut_all, datagrams, needs_little_endian, raw_rows

V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)


def row(
    state: int, *, family: int = V4, timer: int = 0, inode: int = 7, attributes: bytes = b"", expires: int = 0
) -> bytes:
    local = socket.inet_pton(socket.AddressFamily(family), "10.0.0.1" if family == V4 else "::ffff:10.0.0.1")
    remote = socket.inet_pton(socket.AddressFamily(family), "10.0.0.2" if family == V4 else "::ffff:10.0.0.2")
    body = struct.pack("=BBBB", family, state, timer, 3) + struct.pack(">HH", 443, 50000)
    body += local.ljust(16, b"\0") + remote.ljust(16, b"\0") + struct.pack("=III", 4, 0x11, 0x22)
    body += struct.pack("=IIIII", expires, 5, 6, 1000, inode) + attributes
    return struct.pack("=IHHII", 16 + len(body), 18, 2, 1, 0) + body


def attribute(kind: int, payload: bytes) -> bytes:
    data = struct.pack("=HH", 4 + len(payload), kind) + payload
    return data.ljust((len(data) + 3) & ~3, b"\0")


def tcp_info(length: int) -> bytes:
    info = bytearray(280)
    info[3], info[4] = 2, 5
    for at, value in (
        (8, 204_000), (24, 9), (44, 1500), (52, 2500), (56, 3500), (68, 250), (100, 11), (144, 77),
    ):  # fmt: skip
        struct.pack_into("=I", info, at, value)
    for at, value in ((120, 1 << 33), (128, 311), (200, 1 << 34), (208, 13)):
        struct.pack_into("=Q", info, at, value)
    return bytes(info[:length])


def test_a_connection_says_where_it_is_and_how_it_stands():
    found = decode_row(row(8, timer=1, expires=1500, attributes=attribute(CGROUP_ID, struct.pack("=Q", 99))))
    assert isinstance(found, Connection)
    assert found[:8] == (
        TcpState.CLOSE_WAIT, 4, Endpoint("10.0.0.1", 443), Endpoint("10.0.0.2", 50000),
        4, 0x22_0000_0011, 7, 1000,
    )  # fmt: skip
    assert (found.timer, found.expires, found.retransmits) == (Timer.RETRANSMIT, 1.5, 3)
    assert (found.receive_queue, found.send_queue, found.cgroup) == (5, 6, 99)
    assert found.owner == Missing("owner was not looked up")


def test_an_address_mapped_into_ipv6_stays_as_the_socket_has_it():
    found = decode_row(row(1, family=V6))
    assert (found.family, found.local.address) == (6, "::ffff:10.0.0.1")


def test_a_socket_without_inode_is_held_by_nobody():
    assert decode_row(row(4, inode=0)).owner == NotHeld()


def test_times_of_tcp_info_are_seconds():
    found = decode_row(row(1, attributes=attribute(INFO, tcp_info(280))))
    assert isinstance(found, Connection)
    assert found.info[:10] == (0.204, 0.00025, 5, 2, 11, 9, 77, 1.5, 2.5, 3.5)
    assert found.info.bytes == TcpBytes(acked=1 << 33, received=311, sent=1 << 34, retransmitted=13)


def test_a_kernel_that_does_not_count_bytes_describes_the_rest():
    found = decode_row(row(1, attributes=attribute(INFO, tcp_info(192))))
    assert isinstance(found, Connection)
    assert found.info[:10] == (0.204, 0.00025, 5, 2, 11, 9, 77, 1.5, 2.5, 3.5)
    assert isinstance(found.info.bytes, Missing)


@pytest.mark.parametrize("length", [0, 104, 147])
def test_a_tcp_info_too_short_to_hold_all_is_missing(length):
    found = decode_row(row(1, attributes=attribute(INFO, tcp_info(length))))
    assert isinstance(found, Connection)
    assert isinstance(found.info, Missing)


def test_a_minisocket_has_neither_info_nor_cgroup_and_says_why():
    found = decode_row(row(5, timer=3, inode=0, expires=60000))
    assert isinstance(found, Connection)
    assert found.minisocket
    assert isinstance(found.info, Missing)
    assert "orphaned FIN_WAIT_2" in found.info.reason
    assert isinstance(found.cgroup, Missing)


def test_a_listener_counts_connections_and_not_bytes():
    memory = struct.pack("=9I", *range(9))
    attributes = attribute(SKMEMINFO, memory) + attribute(SKV6ONLY, b"\1")
    found = decode_row(row(10, family=V6, attributes=attributes))
    assert isinstance(found, Listener)
    assert (found.accept_queue, found.accept_limit, found.drops, found.v6only) == (5, 6, 8, True)


def test_a_listener_of_a_kernel_without_drops_has_none_and_not_zero():
    found = decode_row(row(10, attributes=attribute(SKMEMINFO, bytes(32))))
    assert isinstance(found, Listener)
    assert isinstance(found.drops, Missing)
    assert found.v6only is None


def test_a_row_that_says_close_is_a_bound_socket():
    found = decode_row(row(7))
    assert isinstance(found, Connection)
    assert found.state is TcpState.BOUND
    assert found.info == Missing("a socket that is merely bound has no tcp_info")


@pytest.mark.parametrize(
    "data",
    [
        row(1)[:87],
        row(0),
        row(99),
        row(1, timer=9),
        row(1)[:16] + b"\x01" + row(1)[17:],
        row(1, attributes=struct.pack("=HH", 3, 2)),
        row(1, attributes=struct.pack("=HH", 400, 2)),
    ],
    ids=["short", "state 0", "state 99", "timer", "family", "attribute short", "attribute long"],
)
def test_what_the_kernel_never_says_is_refused(data):
    with pytest.raises(KernelReadError, match=r"^sock_diag: "):
        decode_row(data)


@needs_little_endian
def test_a_recorded_listing_in_detail():
    rows = [decode_row(raw) for part in cut_all(datagrams("one_pass_in_detail")) for raw in raw_rows(part)]
    listeners = [found for found in rows if isinstance(found, Listener)]
    assert {(found.family, found.v6only, found.local.address) for found in listeners} == {
        (4, None, "127.0.0.1"), (6, True, "::1"), (6, False, "::"),
    }  # fmt: skip
    assert [found.accept_limit for found in listeners] == [128] * 4
    connections = [found for found in rows if isinstance(found, Connection)]
    described = [found for found in connections if not isinstance(found.info, Missing)]
    full = [found for found in connections if found.inode and found.state is not TcpState.BOUND]
    assert described == full
    waiting = [found for found in connections if found.state is TcpState.TIME_WAIT]
    assert [found.expires for found in waiting] == pytest.approx([60, 60, 60], abs=0.1)


@pytest.mark.parametrize("family", [V4, V6])
@pytest.mark.parametrize(
    ("only", "wanted"),
    [
        (EVERY_SOCKET, True),
        (SocketFilter(inodes={7}), True),
        (SocketFilter(inodes={8, 9}), False),
        (SocketFilter(inodes=()), False),
        (SocketFilter(local="10.0.0.1"), True),
        (SocketFilter(remote="10.0.0.1"), False),
        (SocketFilter(local="10.0.0.1", remote="10.0.0.2"), True),
        (SocketFilter(inodes={7}, remote="10.0.0.3"), False),
        (SocketFilter(remote="::1"), False),
    ],
)
def test_a_raw_row_and_its_decoded_form_are_wanted_alike(family, only, wanted):
    before = b"\0" * 24
    assert only.on_raw_rows()(before + row(1, family=family), len(before)) is wanted
    assert only.accepts(decode_row(row(1, family=family))) is wanted


def test_a_request_in_syn_recv_holds_no_port_and_a_whole_socket_does():
    def users_of(data: bytes) -> list[int]:
        users = connect_evidence._Users(1, 65535, 0, {})
        users.add_rows(Rows(data, len(data), len(data)))
        return list(users.by_port())

    mark, shutdown = attribute(15, struct.pack("=I", 0)), attribute(8, b"\0")
    assert users_of(row(3)) == []
    assert users_of(row(3, attributes=mark)) == [], "root is told the mark of a request"
    assert users_of(row(3, attributes=mark + shutdown)) == [443]
    assert users_of(row(1)) == [443]


_CGROUP = attribute(CGROUP_ID, struct.pack("=Q", 99))
_WHOLE = attribute(INFO, tcp_info(280))
LAYOUTS = {
    "as Linux 6.18 has it": b"".join(
        (attribute(8, b"\0"), attribute(15, bytes(4)), _CGROUP, attribute(22, b"ab"), _WHOLE)
    ),
    "IPv6": attribute(8, b"\0") + attribute(SKV6ONLY, b"\1") + _CGROUP + _WHOLE,
    "with the cgroup last": _WHOLE + _CGROUP,
    "with memory": _WHOLE + _CGROUP + attribute(SKMEMINFO, bytes(36)),
    "MPTCP": _WHOLE + _CGROUP + attribute(19, attribute(1, b"mptcp\0")),
    "without counts of bytes": _CGROUP + attribute(INFO, tcp_info(192)),
    "without a cgroup": attribute(8, b"\0") + _WHOLE,
    "bare": b"",
}  # fmt: skip


def outcome(decode, data: bytes) -> object:
    try:
        return decode(data)
    except KernelReadError as error:
        return str(error)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_of_one_length_are_decoded_as_each_by_itself(layout):
    chance = random.Random(layout)
    first = row(1, family=V6 if layout == "IPv6" else V4, attributes=LAYOUTS[layout])
    assert decode_row(first) == decode_row(first) == decode_step_by_step(first)
    for _ in range(1009):
        changed = bytearray(first)
        for _ in range(chance.randint(1, 3)):
            # addresses and numbers, headers and contents of attributes, and what says how it stands
            at = chance.choice(
                [17, 18, 19, chance.randrange(16, len(first)), chance.randrange(16, len(first))]
            )
            changed[at] = chance.choice([changed[at] ^ 1 << chance.randrange(8), chance.randrange(13)])
        assert outcome(decode_row, bytes(changed)) == outcome(decode_step_by_step, bytes(changed))


def test_a_row_of_a_known_length_with_other_attributes_is_decoded_step_by_step():
    usual = row(8, attributes=LAYOUTS["as Linux 6.18 has it"])
    assert decode_row(usual) == decode_row(usual)
    moved = row(
        8, attributes=_WHOLE + _CGROUP + attribute(15, bytes(4)) + attribute(22, b"ab") + attribute(8, b"\0")
    )
    assert len(moved) == len(usual)
    assert decode_row(moved) == decode_row(usual)
    listening = row(10, attributes=LAYOUTS["as Linux 6.18 has it"])
    assert isinstance(decode_row(listening), Listener)
