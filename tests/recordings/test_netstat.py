"""Listings of netstat, in three languages, and what else counts or lists sockets."""

import collections
from pathlib import Path

import pytest

from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint, Held, Holder, NotHeld
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.recordings.forms import read_forms
from tcpdoctor.recordings.lsof import inodes_held, read_lsof
from tcpdoctor.recordings.netstat import STATE_WORDS, read_netstat
from tests.recordings.test_ss import STATES, sample

SAMPLES = Path(__file__).parent / "samples"
LISTINGS = ["netstat-anp", "netstat-tanpo", "netstat-W-neopa", "netstat-tanp-de", "netstat-tanp-fr"]


@pytest.mark.parametrize("name", LISTINGS)
def test_every_socket_of_a_sample_is_read(name):
    found = sample(name)
    assert collections.Counter(row.state for row in found.sockets) == STATES
    assert found.every_socket is True
    assert found.notes == ()


@pytest.mark.parametrize("name", LISTINGS)
def test_netstat_and_ss_say_the_same(name):
    def seen(form):
        return sorted((row.protocol, row.state, row.family, row.local, row.remote) for row in form.sockets)

    assert seen(sample(name)) == seen(sample("ss-tanoempi"))


def test_a_listeners_queue_has_no_limit():
    (row,) = [
        row
        for row in sample("netstat-anp").sockets
        if row.state is TcpState.LISTEN and row.local == Endpoint("0.0.0.0", 9443)
    ]
    assert row.receive_queue == 6
    assert "ss -tanoempi" in row.accept_limit.reason


def test_timers_tell_minisockets():
    for name in ("netstat-tanpo", "netstat-W-neopa"):
        halves = [row for row in sample(name).sockets if row.state is TcpState.FIN_WAIT_2]
        stubs = [row for row in halves if row.timer is Timer.TIME_WAIT]
        assert len(stubs) == 13
        assert all(56.8 < row.expires < 57 for row in stubs)
        assert {row.owner for row in stubs} == {NotHeld()}
    (sent, _) = [row for row in sample("netstat-tanpo").sockets if row.state is TcpState.SYN_SENT]
    assert (sent.timer, sent.expires, sent.retransmits) == (Timer.RETRANSMIT, 0.93, 3)


def test_what_netstat_leaves_out_is_missing():
    row = next(row for row in sample("netstat-anp").sockets if row.local.address == "fe80::1")
    for reading in (row.device, row.info, row.memory, row.timer, row.inode, row.uid, row.v6only):
        assert isinstance(reading, Missing)


def test_users_and_inodes():
    rows = sample("netstat-W-neopa").sockets
    assert {row.uid for row in rows} == {0}
    waiting = [row for row in rows if row.local.port == 9443 and row.state is TcpState.ESTABLISHED]
    assert {row.owner for row in waiting} == {NotHeld()}


def test_a_name_may_hold_blanks_and_slashes():
    found = read_netstat(
        [
            "tcp  0  0 10.0.0.1:80  10.0.0.2:999  ESTABLISHED 0  77  50/postgres: we (x  on (0.20/1/0)",
            "tcp  0  0 10.0.0.1:80  10.0.0.2:998  ESTABLISHED 50/a/b 9 c",
        ]
    )
    first, second = found.sockets
    assert first.owner == Held((Holder(50, "postgres: we (x", -1, -1),))
    assert (first.inode, first.timer, first.retransmits) == (77, Timer.RETRANSMIT, 1)
    assert second.owner == Held((Holder(50, "a/b 9 c", -1, -1),))


@pytest.mark.parametrize(
    ("state", "word"), [(state, word) for state, words in STATE_WORDS.items() for word in words.split()]
)
def test_words_of_other_languages(state, word):
    shown = word.replace("_", " ") if word == "POSLEDNÍ_ACK" else word
    (row,) = read_netstat([f"tcp 0 0 10.0.0.1:80 10.0.0.2:999 {shown}  49/nginx"]).sockets
    assert row.state is state
    assert row.owner == Held((Holder(49, "nginx", -1, -1),))


def test_a_word_that_nobody_knows_is_no_state():
    found = read_netstat(
        [
            "tcp 0 0 10.0.0.1:80 10.0.0.2:999 ERGLIMMT 49/nginx",
            "tcp 0 0 10.0.0.1:80 0.0.0.0:*    LAUSCHT  49/nginx",
        ]
    )
    assert [row.state for row in found.sockets] == [TcpState.LISTEN]
    assert "1 line not understood" in found.notes[0]


def test_decimals_with_a_comma():
    (row,) = read_netstat(["tcp 0 1 10.0.0.1:80 10.0.0.2:999 SYN_SENT 49/x  ein (0,93/3/0)"]).sockets
    assert (row.timer, row.expires) == (Timer.RETRANSMIT, 0.93)


def test_addresses_that_may_be_cut_are_said_to_be():
    found = read_netstat(["tcp6 0 0 2001:db8:85a3:8d3:1:443 2001:db8:85a3:8d3:51000 ESTABLISHED"])
    (row,) = found.sockets
    assert row.remote == Endpoint("2001:db8:85a3::", 51000)
    assert isinstance(found.whole_addresses, Missing)
    assert "-W" in found.notes[0]
    assert sample("netstat-W-neopa").whole_addresses is True


def test_names_instead_of_numbers():
    found = read_netstat(["tcp 0 0 localhost:postgresql localhost:43210 ESTABLISHED"])
    assert found.sockets == ()
    assert "netstat without -n" in found.notes[1]


def test_nobody_named_is_not_root():
    found = read_netstat(
        [
            "(Not all processes could be identified, non-owned process info",
            " will not be shown, you would have to be root to see it all.)",
            "tcp 0 0 10.0.0.1:80 10.0.0.2:999 CLOSE_WAIT -",
        ]
    )
    assert "not run as root" in found.sockets[0].owner.reason
    assert found.notes == ()


def test_counts_of_states():
    found = sample("pipeline-awk-uniq")
    assert found.counts == {
        **dict.fromkeys(found.counts, 0),
        **STATES,
    }
    assert TcpState.BOUND not in found.counts
    assert found.every_socket is True


def test_counts_of_a_part():
    (found,) = read_forms("TIME_WAIT 814\nESTABLISHED 1024\nFIN_WAIT1 4\n", "paste")
    assert found.counts == {TcpState.TIME_WAIT: 814, TcpState.ESTABLISHED: 1024, TcpState.FIN_WAIT_1: 4}
    assert isinstance(found.every_socket, Missing)


LSOF = """\
COMMAND   PID USER   FD   TYPE  DEVICE SIZE/OFF NODE NAME
orders-ap  49 root    3u  IPv4 18801330      0t0  TCP 127.0.0.1:8080 (LISTEN)
od"d\\x20(  51 root    3u  IPv6 18801334      0t0  TCP *:9090 (LISTEN)
od"d\\x20(  51 1000    4u  IPv6 18801335      0t0  TCP [::1]:9090->[::1]:52768 (CLOSE_WAIT)
helper     60 root    4u  IPv6 18801335      0t0  TCP [::1]:9090->[::1]:52768 (CLOSE_WAIT)
systemd     1 root   40u  IPv4    12345      0t0  UDP 127.0.0.53:53
bash       70 root  cwd    DIR      8,1     4096    2 /
"""


LSOF_FIELDS = """\
p49
corders-api
u0
f3
tIPv4
d18801330
PTCP
n127.0.0.1:8080
TST=LISTEN
TQR=0
TQS=0
p51
cgr\\xc3\\xbcn x
u1000
f4
tIPv6
d18801335
PTCP
n[::1]:9090->[::1]:52768
TST=CLOSE_WAIT
TQR=19
TQS=23
f5
tREG
n/var/log/messages
"""


def test_lsof_a_field_a_line():
    listener, waiting = read_lsof(LSOF_FIELDS.splitlines()).sockets
    assert listener.owner == Held((Holder(49, "orders-api", 3, 0),))
    assert waiting.owner == Held((Holder(51, "gr\u00fcn x", 4, 1000),))
    assert (waiting.state, waiting.receive_queue, waiting.send_queue) == (TcpState.CLOSE_WAIT, 19, 23)
    (form,) = read_forms(LSOF_FIELDS, "paste")
    assert (form.form, len(form.sockets), form.notes) == ("lsof", 2, ())


def test_lsof_with_queues_behind_the_state_and_warnings_above():
    text = LSOF.replace("(CLOSE_WAIT)", "(CLOSE_WAIT QR=19 QS=0)")
    warned = "lsof: WARNING: can't stat() fuse file system\n      Output information may be incomplete.\n"
    (form,) = read_forms(warned + text, "paste")
    assert [row.state for row in form.sockets] == [row.state for row in read_lsof(LSOF.splitlines()).sockets]
    assert form.sockets[2].receive_queue == 19
    assert form.notes == ()


@pytest.mark.parametrize("columns", ["51 1000", "51 99 other 1000"])
def test_lsof_tells_holders_by_inode_where_ports_are_names(columns):
    text = LSOF.replace("127.0.0.1:8080", "localhost:http-alt").replace("51 1000", columns)
    held = inodes_held(text)
    assert held[18801330] == (Holder(49, "orders-ap", 3, -1),)
    assert held[18801335] == (Holder(51, 'od"d (', 4, 1000), Holder(60, "helper", 4, -1))


def test_lsof_tells_who_holds_what():
    found = read_lsof(LSOF.splitlines())
    listener, dual, shared, datagrams = found.sockets
    assert listener.owner == Held((Holder(49, "orders-ap", 3, -1),))
    assert (dual.local, dual.owner.holders[0].name) == (Endpoint("::", 9090), 'od"d (')
    assert [holder.pid for holder in shared.owner.holders] == [51, 60]
    assert shared.owner.holders[0].uid == 1000
    assert (shared.state, shared.inode) == (TcpState.CLOSE_WAIT, 18801335)
    assert (datagrams.protocol, datagrams.state) == ("udp", TcpState.CLOSE)
    assert isinstance(found.every_socket, Missing)
    assert isinstance(listener.receive_queue, Missing)
    assert isinstance(listener.accept_limit, Missing)
    assert found.notes == ()
