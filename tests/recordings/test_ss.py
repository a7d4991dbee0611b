"""Listings of ss: each sample is one moment of one network namespace, printed with other options."""

import collections
from pathlib import Path

import pytest

from tcpdoctor.kernel.reading import UNDERWAY, Missing
from tcpdoctor.kernel.snapshot import Endpoint, Held, Holder, NotHeld
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.recordings.forms import read_forms
from tcpdoctor.recordings.ss import read_ss

SAMPLES = Path(__file__).parent / "samples"
STATES = {
    TcpState.ESTABLISHED: 22,
    TcpState.CLOSE_WAIT: 17,
    TcpState.FIN_WAIT_2: 17,
    TcpState.TIME_WAIT: 7,
    TcpState.LISTEN: 5,
    TcpState.SYN_SENT: 2,
}


def sample(name):
    (found,) = read_forms((SAMPLES / f"{name}.txt").read_text(), name)
    return found


def of(*lines, command=None):
    return read_ss(lines, command)


def only(*lines):
    (row,) = of(*lines).sockets
    return row


@pytest.mark.parametrize("name", ["ss-tan", "ss-tanp", "ss-Htanp", "ss-tanoempi", "ss-peaonmi"])
def test_every_socket_of_a_sample_is_read(name):
    found = sample(name)
    assert collections.Counter(row.state for row in found.sockets) == STATES
    assert found.notes == ()
    assert {row.receive_queue for row in found.sockets if row.state is TcpState.CLOSE_WAIT} == {19}


def test_who_waits_for_a_long_listing_is_told_how_far_it_is():
    found = sample("ss-tanoempi")
    assert UNDERWAY.task == "sockets of the recording read"
    assert UNDERWAY.done == UNDERWAY.of - 1 >= len(found.sockets) - 1 > 0


@pytest.mark.parametrize("name", ["ss-tan", "ss-tanp", "ss-tanoempi", "ss-peaonmi"])
def test_headings_listeners_and_others_are_the_whole_list(name):
    assert sample(name).every_socket is True


def test_a_listing_without_headings_may_be_a_part():
    assert "no headings" in sample("ss-Htanp").every_socket.reason


def test_a_listener_has_a_queue_and_its_limit():
    (row,) = [row for row in sample("ss-tan").sockets if row.local.port == 9443 and row.accept_limit == 5]
    assert (row.receive_queue, row.send_queue) == (6, 0)


def test_listeners_whose_peer_was_cut_off_are_read():
    cut = ["State   Recv-Q  Send-Q  Local Address:Port", "LISTEN  4097    4096    0.0.0.0:50300"]
    (listener,) = read_ss(cut).sockets
    assert (listener.local, listener.remote.port) == (("0.0.0.0", 50300), 0)
    assert (listener.receive_queue, listener.accept_limit) == (4097, 4096)
    assert read_ss(["ESTAB  0  0  10.0.0.1:50300"]).sockets == (), "whose peer nobody knows"


def test_what_was_not_asked_for_is_missing():
    row = next(row for row in sample("ss-tan").sockets if row.state is TcpState.CLOSE_WAIT)
    for reading in (row.timer, row.expires, row.inode, row.uid, row.cookie, row.info, row.memory, row.owner):
        assert isinstance(reading, Missing)
        assert "ss -tanoempi" in reading.reason


def test_ages_come_with_tcp_info():
    waiting = [row for row in sample("ss-tanoempi").sockets if row.state is TcpState.CLOSE_WAIT]
    assert {row.info.last_data_recv for row in waiting} == {3.028, 3.032}
    assert {row.info.bytes.received for row in waiting} == {19}
    assert waiting[0].info.rto == 0.204
    assert waiting[0].memory.receive_limit == 131072


def test_minisockets_are_held_by_nobody_and_others_by_their_process():
    halves = [row for row in sample("ss-tanoempi").sockets if row.state is TcpState.FIN_WAIT_2]
    stubs = [row for row in halves if row.timer is Timer.TIME_WAIT]
    assert len(stubs) == 13
    assert {row.expires for row in stubs} == {57.0}
    assert {row.owner for row in stubs} == {NotHeld()}
    held = [row.owner.holders[0].name for row in halves if isinstance(row.owner, Held)]
    assert held == ["web client"] * 4


def test_without_timers_nobody_knows_whether_a_half_closed_socket_is_held():
    halves = [row for row in sample("ss-tanp").sockets if row.state is TcpState.FIN_WAIT_2]
    assert sum(isinstance(row.owner, Missing) for row in halves) == 13


def test_connections_that_wait_for_accept_have_no_inode():
    waiting = [
        row
        for row in sample("ss-tanoempi").sockets
        if row.local.port == 9443 and row.state is TcpState.ESTABLISHED
    ]
    assert [row.inode for row in waiting] == [0] * 6
    assert {row.owner for row in waiting} == {NotHeld()}


def test_addresses_scopes_and_families():
    rows = {row.local: row for row in sample("ss-tanoempi").sockets}
    dual = rows[Endpoint("::", 9090)]
    assert (dual.family, dual.v6only) == (6, False)
    scoped = rows[Endpoint("fe80::1", 7070)]
    assert scoped.device == "d0"
    mapped = rows[Endpoint("::ffff:127.0.0.1", 52972)]
    assert (mapped.family, mapped.remote) == (6, Endpoint("::ffff:127.0.0.1", 9090))


@pytest.mark.parametrize(
    "name",
    [
        "nginx",
        'od"d (n),a=me',
        'x",pid=1,fd=3)',
        '",pid=1,fd=2)) ',
        'a",pid=1,fd=2),',
        "users:((",
        "a ino:0 sk:1",
        "timer:(on,1,2)",
        "))",
        "",
    ],
)
def test_a_name_may_hold_whatever_it_likes(name):
    row = only(
        f'LISTEN 0 128 10.0.0.1:80 0.0.0.0:* users:(("{name}",pid=49,fd=3),("other",pid=50,fd=4))',
    )
    assert row.owner == Held((Holder(49, name, 3, -1), Holder(50, "other", 4, -1)))
    assert isinstance(row.inode, Missing)
    assert isinstance(row.timer, Missing)


@pytest.mark.parametrize("name", ["a\nb", "\nb", "a\n b", "a\n"])
def test_a_name_may_hold_the_end_of_a_line(name):
    heading = "State Recv-Q Send-Q Local Address:Port Peer Address:Port Process"
    line = f'LISTEN 0 128 10.0.0.1:80 0.0.0.0:* users:(("{name}",pid=49,fd=3)) ino:17 sk:1f <->'
    text = f"{heading}\n{line}\nLISTEN 0 128 10.0.0.1:81 0.0.0.0:*\n"
    (found,) = read_forms(text, "paste")
    first, second = found.sockets
    assert [holder.pid for holder in first.owner.holders] == [49]
    assert (first.inode, first.cookie, second.local.port) == (17, 31, 81)
    assert found.notes == ()


@pytest.mark.parametrize(
    ("printed", "seconds"),
    [
        ("57sec", 57.0),
        ("004ms", 0.004),
        ("4.290ms", 4.29),
        ("4.290sec", 4.29),
        ("1min54sec", 114.0),
        ("119min", 7140.0),
        ("2min", 120.0),
        ("9.001ms", 9.001),
        ("", 0.0),
    ],
)
def test_durations(printed, seconds):
    row = only(f"ESTAB 0 0 10.0.0.1:80 10.0.0.2:999 timer:(keepalive,{printed},3)")
    assert (row.timer, row.expires, row.retransmits) == (Timer.KEEPALIVE, seconds, 3)


def test_a_timer_that_is_not_known_is_missing():
    row = only("ESTAB 0 0 10.0.0.1:80 10.0.0.2:999 timer:(sundial,57sec,0)")
    assert "sundial" in row.timer.reason


def test_the_star_of_old_versions_is_ipv4():
    found = of(
        "State      Recv-Q Send-Q        Local Address:Port          Peer Address:Port",
        'LISTEN     0      128                       *:22                  *:*      users:(("sshd",912,3))',
        'LISTEN     0      128                      :::22                 :::*      users:(("sshd",912,4))',
        "ESTAB      0      0      ::ffff:10.0.0.1:22       ::ffff:10.0.0.2:51000",
    )
    four, six, mapped = found.sockets
    assert (four.family, four.local, four.remote) == (4, Endpoint("0.0.0.0", 22), Endpoint("0.0.0.0", 0))
    assert (six.family, six.local) == (6, Endpoint("::", 22))
    assert mapped.remote == Endpoint("::ffff:10.0.0.2", 51000)
    assert four.owner == Held((Holder(912, "sshd", 3, -1),))


def test_the_star_alone_is_said_to_be_uncertain():
    found = of("LISTEN 0 128 *:8080 *:*")
    assert isinstance(found.sockets[0].v6only, Missing)
    assert "not certain" in found.notes[0]


def test_details_on_the_same_line_and_on_the_next_are_the_same():
    (after,) = of(
        "ESTAB 0 0 10.0.0.1:80 10.0.0.2:999 ino:7 sk:a <->",
        "\t skmem:(r1,rb2,t3,tb4,f5,w6,o7,bl8,d9) cubic rto:204 rtt:0.5/1 cwnd:10 bytes_sent:7"
        " lastack:3 retrans:1/5",
    ).sockets
    (same,) = of(
        "ESTAB 0 0 10.0.0.1:80 10.0.0.2:999 ino:7 sk:a <-> skmem:(r1,rb2,t3,tb4,f5,w6,o7,bl8,d9)"
        " cubic rto:204 rtt:0.5/1 cwnd:10 bytes_sent:7 lastack:3 retrans:1/5"
    ).sockets
    assert after == same
    assert same.memory == (1, 2, 6, 4, 5, 9)
    assert same.info.total_retrans == 5


def test_lines_cut_by_a_terminal_are_put_together():
    whole = 'LISTEN 0   128  10.0.0.1:8080  0.0.0.0:* users:(("systemd-netw",pid=671,fd=13)) ino:5 sk:b <->'
    for width in range(64, 100):
        cut = [whole[place : place + width] for place in range(0, len(whole), width)]
        assert of(*map(str.rstrip, cut)) == of(whole), width


def test_prose_behind_a_listing_is_counted_and_no_part_of_it():
    found = of(
        "LISTEN 0 128 10.0.0.1:80 0.0.0.0:*",
        "What should I do? Thanks: Bob",
        "ESTAB 0 0 10.0.0.1:80 nonsense",
    )
    assert len(found.sockets) == 1
    assert found.notes == ("2 lines not understood, first: What should I do? Thanks: Bob",)


def test_other_kinds_of_sockets_are_passed_over():
    found = of(
        "Netid State  Recv-Q Send-Q Local Address:Port Peer Address:Port Process",
        "nl    UNCONN 0      0      rtnl:kernel          *",
        'u_str ESTAB  0      0      * 22 * 23 users:(("a",pid=1,fd=2))',
        "udp   UNCONN 0      0      127.0.0.53%lo:53 0.0.0.0:*",
        "tcp   LISTEN 0      128    0.0.0.0:22 0.0.0.0:*",
        "???   UNCONN 0      0      *:58 *:*",
    )
    assert found.notes == ()
    datagrams, listener = found.sockets
    assert (datagrams.protocol, datagrams.state, datagrams.device) == ("udp", TcpState.CLOSE, "lo")
    assert (listener.protocol, listener.state) == ("tcp", TcpState.LISTEN)


def test_bound_sockets_are_no_closed_ones():
    found = of(
        "State  Recv-Q Send-Q Local Address:Port Peer Address:Port",
        "UNCONN 0      0          127.0.0.1:6060      0.0.0.0:*",
        "LISTEN 0      128        127.0.0.1:6061      0.0.0.0:*",
    )
    assert [row.state for row in found.sockets] == [TcpState.BOUND, TcpState.LISTEN]
    datagrams = of("UNCONN 0 0 127.0.0.1:53 0.0.0.0:*").sockets[0]
    assert (datagrams.protocol, datagrams.state) == ("udp", TcpState.CLOSE)


def test_control_groups_may_hold_blanks():
    row = only("ESTAB 0 0 10.0.0.1:80 10.0.0.2:999 ino:7 sk:a cgroup:/a b/c.service ino:0 v6only:1 <->")
    assert row.cgroup == "/a b/c.service ino:0"
    assert row.inode == 7


def test_the_summary_counts_no_states():
    found = sample("ss-s")
    assert isinstance(found.counts, Missing)
    assert isinstance(found.sockets, Missing)
    assert found.sockstat["TCP.orphan"] == 0
    assert found.sockstat["TCP.tw"] == 20
    assert found.sockstat["TCP.alloc"] == 72713
    assert found.counters == {"Tcp.CurrEstab": 39}


def test_versions_of_2018_leave_no_blank_between_columns():
    found = of(
        "CLOSE-WAIT20     0     127.0.0.1:8080     127.0.0.1:40760",
        "FIN-WAIT-20      0     127.0.0.1:40760    127.0.0.1:8080",
        "udpUNCONN     0      0      127.0.0.1:5353     0.0.0.0:*",
        "tcpLISTEN     6      5      0.0.0.0:9443       0.0.0.0:*",
    )
    assert found.notes == ()
    assert [(row.protocol, row.state, row.receive_queue) for row in found.sockets] == [
        ("tcp", TcpState.CLOSE_WAIT, 20),
        ("tcp", TcpState.FIN_WAIT_2, 0),
        ("udp", TcpState.CLOSE, 0),
        ("tcp", TcpState.LISTEN, 6),
    ]


def test_versions_before_2015_print_the_timer_before_the_processes():
    row = only(
        'SYN-SENT 0 1 10.0.0.1:80 10.0.0.2:999 timer:(on,1min54sec,2) users:(("x timer:(on,1,",pid=4,fd=3))'
        " uid:33 ino:7 sk:a -->"
    )
    assert (row.timer, row.expires, row.retransmits) == (Timer.RETRANSMIT, 114.0, 2)
    assert row.owner == Held((Holder(4, "x timer:(on,1,", 3, -1),))
    assert (row.uid, row.inode) == (33, 7)


def test_versions_before_2015_print_no_times_and_these_are_not_0():
    row = only("ESTAB 0 0 10.0.0.1:80 10.0.0.2:999", "\t cubic rto:204 rtt:0.5/1 mss:1448 cwnd:10")
    assert "no times" in row.info.reason
