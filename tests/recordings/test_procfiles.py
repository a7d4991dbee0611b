"""Files of /proc/net that somebody copied: samples of Linux 6.18, and what was cut, mixed or left out."""

import socket
from collections import Counter
from pathlib import Path

import pytest

from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint, NotHeld
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.recordings.procfiles import read_proc_text
from tests.pace import is_done_within
from tests.recordings.reports import forms_in

SAMPLES = Path(__file__).parent / "samples"
TCP = (SAMPLES / "proc-net-tcp.txt").read_text()
TCP6 = (SAMPLES / "proc-net-tcp6.txt").read_text()
_AFTER = "00:00000000 00000000"
UDP = f"""\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref \
pointer drops
  811: 0100007F:0035 00000000:0000 07 00000000:00000300 {_AFTER}   101        0 23 2 0000000000000000 7
 1040: 0100007F:D431 0100007F:0035 01 00000000:00000000 {_AFTER}  1000        0 29 2 0000000000000000 0
"""


def states_of(text):
    return Counter(found.state for found in read_proc_text(text).sockets)


def test_the_sample_gives_what_an_expert_counts():
    assert states_of(TCP + TCP6) == {
        TcpState.CLOSE_WAIT: 17,
        TcpState.ESTABLISHED: 22,
        TcpState.FIN_WAIT_2: 17,
        TcpState.TIME_WAIT: 7,
        TcpState.SYN_SENT: 2,
        TcpState.LISTEN: 5,
    }


def test_what_the_tables_tell_of_a_socket_is_told():
    found = read_proc_text(TCP + TCP6).sockets
    unread = {one.receive_queue for one in found if one.state is TcpState.CLOSE_WAIT}
    assert unread == {19}
    (full,) = [one for one in found if one.state is TcpState.LISTEN and one.local.port == 9443]
    assert (full.receive_queue, full.local, full.inode) == (6, Endpoint("0.0.0.0", 9443), 18801339)
    (stub, *_) = [one for one in found if one.state is TcpState.TIME_WAIT]
    assert (stub.timer, stub.owner, stub.inode) == (Timer.TIME_WAIT, NotHeld(), 0)
    assert 0 < stub.expires <= 60
    assert {one.family for one in found if one.local.address.startswith("::ffff:")} == {6}


def test_what_the_tables_do_not_tell_is_missing_with_what_to_ask_for():
    found = read_proc_text(TCP + TCP6).sockets
    held = [one for one in found if one.inode]
    for one in held:
        for part in (one.owner, one.device, one.accept_limit, one.info, one.memory, one.cookie, one.cgroup):
            assert isinstance(part, Missing)
        assert "ss -tanoempi" in one.owner.reason
    assert isinstance(next(one.uid for one in found if not one.inode), Missing)


def test_both_tables_whole_are_every_socket():
    assert read_proc_text(TCP + TCP6).every_socket is True
    assert read_proc_text(TCP6.rstrip("\n") + "\n" + TCP).every_socket is True


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TCP, id="without tcp6"),
        pytest.param(TCP6, id="without tcp"),
        pytest.param(TCP + TCP6.partition("\n")[2], id="without a heading"),
        pytest.param("\n".join(TCP.splitlines()[:3] + TCP.splitlines()[9:]) + "\n" + TCP6, id="a gap"),
        pytest.param("".join(line + "\n" for line in TCP.splitlines() if " 08 " in line), id="a search"),
    ],
)
def test_a_part_of_the_tables_is_not_every_socket(text):
    found = read_proc_text(text)
    assert found.sockets
    assert isinstance(found.every_socket, Missing)


@pytest.mark.parametrize("left", range(1, 75))
def test_a_row_that_is_cut_anywhere_is_left_out_and_counted(left):
    whole, _, last = TCP.rstrip("\n").rpartition("\n")
    rows = len(read_proc_text(whole).sockets)
    found = read_proc_text(f"{whole}\n{last[:left]}")
    assert len(found.sockets) == rows
    if last[:left].strip() and ":" in last[:left].strip():
        assert found.notes == ("1 line of /proc/net cut short or not as Linux writes them",)
        assert isinstance(found.every_socket, Missing)


def test_carriage_returns_and_prompts_between_are_no_matter():
    pasted = "$ cat /proc/net/tcp\r\n" + TCP.replace("\n", "\r\n") + "$ cat /proc/net/tcp6\r\n" + TCP6
    assert states_of(pasted) == states_of(TCP + TCP6)
    assert read_proc_text(pasted).every_socket is True


def test_udp_sockets_are_no_tcp_sockets():
    resolver, client = read_proc_text(UDP).sockets
    assert (resolver.protocol, resolver.state, resolver.local.port) == ("udp", TcpState.CLOSE, 53)
    assert (resolver.receive_queue, resolver.uid, resolver.inode) == (768, 101, 23)
    assert (client.state, client.remote.port) == (TcpState.ESTABLISHED, 53)
    bare = read_proc_text("".join(UDP.splitlines(keepends=True)[1:])).sockets
    assert [one.protocol for one in bare] == ["udp", "udp"]


def test_counters_are_read_whatever_their_columns():
    text = (
        "TcpExt: SyncookiesSent ListenOverflows FromTheFuture\nTcpExt: 3 17 29\n"
        "Tcp: RtoAlgorithm MaxConn ActiveOpens\nTcp: 1 -1 41\n"
        "Ip6InReceives                   \t43\n"
    )
    assert read_proc_text(text).counters == {
        "TcpExt.SyncookiesSent": 3,
        "TcpExt.ListenOverflows": 17,
        "TcpExt.FromTheFuture": 29,
        "Tcp.RtoAlgorithm": 1,
        "Tcp.MaxConn": -1,
        "Tcp.ActiveOpens": 41,
        "Ip6.InReceives": 43,
    }


def test_counters_whose_line_is_cut_are_absent_and_it_is_said():
    found = read_proc_text("Tcp: ActiveOpens\nTcp: 41\nTcpExt: SyncookiesSent ListenOverflows\nTcpExt: 3\n")
    assert found.counters == {"Tcp.ActiveOpens": 41}
    assert found.notes == ("1 line of /proc/net cut short or not as Linux writes them",)
    assert read_proc_text("Tcp: ActiveOpens\nTcp: 41\nTcpExt: SyncookiesSent\n").notes


def test_tracking_and_packets_of_cpus_are_told_apart():
    tracked = (
        "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop "
        "icmp_error  expect_new expect_create expect_delete search_restart\n"
        "00000017  00000000 00000000 00000000 0000000b 00000000 00000000 00000000 00000000 0000000d 00000011 "
        "00000000 00000000  00000000 00000000 00000000 00000000\n"
    )
    softnet = "0000001d 0000001f 00000025" + " 00000000" * 10 + "\n"
    found = read_proc_text(tracked + "\n" + softnet)
    assert found.counters["nf_conntrack.invalid"] == 11
    assert found.counters["nf_conntrack.drop"] == 17
    assert [(cpu.processed, cpu.dropped, cpu.squeezed) for cpu in found.softnet] == [(29, 31, 37)]


def test_sockstat_of_both_families():
    found = read_proc_text((SAMPLES / "proc-net-sockstat.txt").read_text() + "TCP6: inuse 11\n")
    assert (found.sockstat["TCP.inuse"], found.sockstat["TCP.tw"], found.sockstat["TCP6.inuse"]) == (
        38,
        20,
        11,
    )


@pytest.mark.parametrize("text", ["", "nothing of this", "State Recv-Q Send-Q Local", "12:", "tcp: why\n"])
def test_another_text_is_no_file_of_proc(text):
    assert "proc" not in forms_in(text)
    found = read_proc_text(text)
    for part in (found.sockets, found.every_socket, found.counters, found.sockstat, found.softnet):
        assert isinstance(part, Missing)
    assert found.notes == ()


def test_the_running_kernels_own_files_are_read(hosts_network):
    names = (
        "tcp",
        "tcp6",
        "udp",
        "udp6",
        "netstat",
        "snmp",
        "snmp6",
        "sockstat",
        "sockstat6",
        "softnet_stat",
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        texts = [Path(f"/proc/thread-self/net/{name}") for name in names]
        text = "".join(path.read_text() for path in texts if path.exists())
        port = server.getsockname()[1]
    found = read_proc_text(text)
    assert found.notes == ()
    assert [one for one in found.sockets if one.state is TcpState.LISTEN and one.local.port == port]
    assert found.counters["Tcp.InSegs"] > 0
    assert found.sockstat["TCP.inuse"] >= 1
    assert found.softnet


def test_a_hundred_thousand_rows_are_read_in_time():
    heading = TCP.partition("\n")[0]
    row = "{0:4d}: 0100007F:1F90 0100007F:{1:04X} 08 00000000:00000013 00:00000000 00000000     0        0 "
    tail = "{2} 1 000000008088dff8 20 4 28 10 -1 "
    rows = [(row + tail).format(number, number % 65536, 1000 + number) for number in range(100_000)]
    text, counted = "\n".join([heading, *rows]), set()
    assert is_done_within(3, lambda: counted.add(len(read_proc_text(text).sockets)))
    assert counted == {100_000}
