"""connect() is predicted, then asked: over a small port range, in every way that takes ports away."""

import errno
import json
import os
import select
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack

import pytest

from tcpdoctor.answers.connect import Client, look_at_connection, predict_from_here
from tcpdoctor.diagnosis.connect import ConnectPrediction, predict_connect
from tcpdoctor.kernel.connect_evidence import read_port_use
from tcpdoctor.kernel.ipsec import sign_of_ipsec
from tcpdoctor.kernel.listing import Way, lists_bound_sockets
from tcpdoctor.kernel.nft_rules import why_nft_absent
from tcpdoctor.kernel.redirects import sign_of_rules
from tcpdoctor.kernel.sockets import read_listeners
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.pairs import wait_until
from tests.live.provoke_opening import lose_capabilities

LOW, HIGH = 40000, 40013
"""Fourteen ports; an even number, so that every search of the kernel looks at all of them."""
ALL = HIGH - LOW + 1
HOME = "127.0.0.1"


class Stage:
    """A server, and clients that use up a small range of ports."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        write_sysctl("net.ipv4.ip_local_port_range", f"{LOW} {HIGH}")
        self.server = stack.enter_context(socket.create_server((HOME, 7001), backlog=64))
        self.other = stack.enter_context(socket.create_server((HOME, 7002), backlog=64))

    def client(self, port: int = 7001, *, bound: str | None = None, destination: str = HOME) -> socket.socket:
        client = self.stack.enter_context(socket.socket())
        if bound is not None:
            client.bind((bound, 0))
        client.connect((destination, port))
        return client

    def pair(self) -> tuple[socket.socket, socket.socket]:
        client = self.client()
        accepted, _ = self.server.accept()
        return client, self.stack.enter_context(accepted)

    def time_wait(self) -> None:
        """One client-side TIME_WAIT."""
        client, accepted = self.pair()
        client.close()
        accepted.close()

    def kernel_says(self) -> str:
        """What connect() really answers; the connection is left where it is."""
        try:
            self.client()
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "ok"

    def kernel_says_of_bind(self) -> str:
        with socket.socket() as client:
            try:
                client.bind(("0.0.0.0", 0))
            except OSError as error:
                return errno.errorcode[error.errno or 0]
        return "ok"


def predicted() -> ConnectPrediction:
    return predict_from_here(f"{HOME}:7001", Client())[2]


def compare(stage: Stage) -> ConnectPrediction:
    """Predict, ask the kernel, and say both in one line if they differ."""
    answer = predicted()
    assert (answer.bind_first.errno, "bind") == (stage.kernel_says_of_bind(), "bind"), answer
    assert answer.verdict == stage.kernel_says(), answer
    return answer


def exhausted_by_connections(stack):
    stage = Stage(stack)
    answers = [compare(stage) for _ in range(ALL + 1)]
    return answers[0], answers[ALL - 1], answers[ALL]


def test_every_connection_takes_one_port_until_none_is_left(in_namespace):
    first, last, none = in_namespace(run, exhausted_by_connections)
    assert (first.verdict, first.free, first.used, first.usable, first.certain) == ("ok", ALL, 0, ALL, True)
    assert (last.verdict, last.free, last.used, last.certain) == ("ok", 1, ALL - 1, True)
    assert (none.verdict, none.free, none.used, none.next_free) == ("EADDRNOTAVAIL", 0, ALL, None)
    assert none.certain
    assert none.used_by_state == {TcpState.ESTABLISHED: ALL}


def run(function, *args):
    with ExitStack() as stack:
        return function(stack, *args)


def another_destination(stack):
    stage = Stage(stack)
    for _ in range(ALL):
        stage.client(7002)
    return compare(stage)


def test_connections_to_another_destination_share_their_ports(in_namespace):
    answer = in_namespace(run, another_destination)
    assert (answer.verdict, answer.free, answer.doubtful, answer.used) == ("ok", ALL, ALL, 0)
    assert not answer.certain, "the kernel does not tell who chose those ports"
    assert answer.bind_first == ("EADDRINUSE", 0, True)


def through_a_device(stack):
    stage = Stage(stack)
    for _ in range(ALL):
        client = stack.enter_context(socket.socket())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        client.connect((HOME, 7001))
    return compare(stage)


def test_who_is_bound_to_a_device_leaves_his_ports_to_who_is_not(in_namespace):
    answer = in_namespace(run, through_a_device)
    assert (answer.verdict, answer.free, answer.used, answer.certain) == ("ok", ALL, 0, False)


def ports_bound_first(stack, number):
    stage = Stage(stack)
    for _ in range(number):
        stage.client(7002, bound="0.0.0.0")
    answer = predicted()
    return answer, stage.kernel_says()


def test_ports_taken_by_bind_are_lost_and_the_answer_is_not_certain(in_namespace):
    some, kernel = in_namespace(run, ports_bound_first, 7)
    assert (some.verdict, some.certain, kernel) == ("ok", True, "ok")
    assert some.bind_first.free == ALL - 7
    every, kernel = in_namespace(run, ports_bound_first, ALL)
    assert kernel == "EADDRNOTAVAIL"
    assert not every.certain
    assert every.bind_first == ("EADDRINUSE", 0, True)


def listening_bound_and_reserved(stack):
    stage = Stage(stack)
    write_sysctl("net.ipv4.ip_local_reserved_ports", f"{LOW},{LOW + 4}")
    stack.enter_context(socket.create_server((HOME, LOW + 1)))
    merely_bound = stack.enter_context(socket.socket())
    merely_bound.bind((HOME, LOW + 2))
    if not lists_bound_sockets():
        return None  # what bind() finds first is then not known, and the port is not counted as lost
    return [compare(stage) for _ in range(ALL - 3)]


def test_listening_bound_and_reserved_ports_are_lost(in_namespace):
    answers = in_namespace(run, listening_bound_and_reserved)
    if answers is None:
        pytest.skip("this kernel lacks the listing of bound sockets")
    assert [answer.free for answer in answers] == list(range(ALL - 4, -1, -1))
    assert (answers[0].usable, answers[0].lost) == (ALL - 2, 2)
    assert answers[-1].verdict == "EADDRNOTAVAIL"
    assert all(answer.certain for answer in answers)


DELAY = "/proc/sys/net/ipv4/tcp_tw_reuse_delay"


def write_delay(milliseconds):
    """Where the kernel lacks the setting it always waits a second."""
    if os.path.exists(DELAY):
        write_sysctl("net.ipv4.tcp_tw_reuse_delay", milliseconds)


def full_of_time_wait(stack, reuse, delay):
    stage = Stage(stack)
    write_sysctl("net.ipv4.tcp_tw_reuse", reuse)
    write_delay(delay)
    for _ in range(ALL):
        stage.time_wait()
    wait_until(lambda: predicted().used_by_state == {TcpState.TIME_WAIT: ALL}, "both FINs of each")
    young = predicted()
    if young.next_free is not None and young.next_free < 10:
        wait_until(lambda: predicted().verdict == "ok", "a TIME_WAIT that may be taken over")
        time.sleep(0.02)  # the kernel compares in milliseconds, and its own clock
    return compare(stage)


@pytest.mark.parametrize(
    ("reuse", "delay", "verdict"),
    [(0, 1000, "EADDRNOTAVAIL"), (1, 1000, "ok"), (2, 1000, "ok"), (1, 300, "ok")],
)
def test_time_wait_counts_unless_tcp_tw_reuse_lets_connect_take_it_over(in_namespace, reuse, delay, verdict):
    if delay != 1000 and not os.path.exists(DELAY):
        pytest.skip("this kernel lacks net.ipv4.tcp_tw_reuse_delay")
    old = in_namespace(run, full_of_time_wait, reuse, delay)
    assert old.verdict == verdict
    assert old.used_by_state == {TcpState.TIME_WAIT: ALL}
    if verdict == "ok":
        assert (old.used, old.reusable) == (ALL - old.reusable, old.reusable)
        assert old.reusable > 0
    else:
        assert (old.used, old.reusable) == (ALL, 0)
        assert 50 < old.next_free <= 60
        assert old.certain


def young_time_wait(stack, reuse, settle):
    """Ask of TIME_WAITs in their first second, each time of the answer what the kernel does at once."""
    stage = Stage(stack)
    write_sysctl("net.ipv4.tcp_tw_reuse", reuse)
    for _ in range(ALL):
        stage.time_wait()
    time.sleep(settle)
    before = time.monotonic()
    answer = predicted()
    return answer, stage.kernel_says(), time.monotonic() - before


@pytest.mark.parametrize("reuse", [0, 1])
@pytest.mark.parametrize("settle", [0.0, 0.3, 0.6])
def test_a_young_time_wait_is_never_foretold_with_certainty_where_seconds_are_compared(
    in_namespace, reuse, settle
):
    answer, kernel, taken = in_namespace(run, young_time_wait, reuse, settle)
    soon = answer.next_free is not None and answer.next_free <= taken + 0.05
    assert answer.verdict == kernel or soon or not answer.certain
    if reuse == 0:
        assert (answer.verdict, answer.certain, kernel) == ("EADDRNOTAVAIL", True, "EADDRNOTAVAIL")
    elif answer.verdict != "ok" and not os.path.exists(DELAY):
        assert (answer.certain, answer.next_free) == (False, 0)


def orphans_in_fin_wait_2(stack):
    stage = Stage(stack)
    write_sysctl("net.ipv4.tcp_tw_reuse", 1)
    write_delay(1)
    for _ in range(ALL):
        client, _ = stage.pair()
        client.close()
    states = {TcpState.FIN_WAIT_2: ALL}
    wait_until(lambda: predicted().used_by_state == states, "the peer's acknowledgements")
    answer = predicted()
    return answer, stage.kernel_says()


def test_orphans_in_fin_wait_2_are_never_taken_over(in_namespace):
    answer, kernel = in_namespace(run, orphans_in_fin_wait_2)
    assert kernel == answer.verdict or not answer.certain
    assert answer.certain is os.path.exists(DELAY), "kernels without the setting differ"
    assert answer.used_by_state == {TcpState.FIN_WAIT_2: ALL}
    assert (answer.verdict, answer.used) == ("EADDRNOTAVAIL", ALL)


def orphans_above_a_minute(stack):
    begun = time.monotonic()
    write_sysctl("net.ipv4.tcp_fin_timeout", 63)
    answer, _ = orphans_in_fin_wait_2(stack)
    return answer, time.monotonic() - begun


def test_a_whole_orphan_is_followed_by_a_minisocket_before_its_port_is_free(in_namespace):
    answer, taken = in_namespace(run, orphans_above_a_minute)
    assert answer.verdict == "EADDRNOTAVAIL"
    assert answer.next_free is not None
    assert 5.9 - taken < answer.next_free <= 6.1, "2 * (63 - 60) seconds"


def dials_nobody_answers(stack):
    stage = Stage(stack)
    subprocess.run(["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"], check=True, timeout=120)
    subprocess.run(["ip", "address", "add", "10.1.0.1/24", "dev", "v0"], check=True, timeout=120)
    subprocess.run(["ip", "link", "set", "v0", "up"], check=True, timeout=120)
    subprocess.run(["ip", "link", "set", "v1", "up"], check=True, timeout=120)
    # Without a neighbour they would give up after three seconds, which is short on a slow machine.
    silent = ["10.1.0.2", "lladdr", "02:00:00:00:00:01", "dev", "v0"]
    subprocess.run(["ip", "neighbour", "add", *silent], check=True, timeout=120)
    for _ in range(ALL):
        client = stack.enter_context(socket.socket())
        client.setblocking(False)
        client.connect_ex(("10.1.0.2", 7001))
    assert stage.server.fileno() >= 0
    return predict_from_here("10.1.0.2:7001", Client())[2], look_at_connection("10.1.0.2:7001", Client())


def test_dials_that_nobody_answers_hold_their_ports_until_they_give_up(in_namespace):
    answer, told = in_namespace(run, dials_nobody_answers)
    assert (answer.verdict, answer.used_by_state) == ("EADDRNOTAVAIL", {TcpState.SYN_SENT: ALL})
    (group,) = told.sockets
    assert (group.state, group.sockets, group.unacknowledged_bytes) == (TcpState.SYN_SENT, ALL, 0)
    assert told.summary.endswith(
        "None becomes free until a connection there is closed or one in SYN_SENT gives up."
    )


def without_timestamps(stack):
    stage = Stage(stack)
    write_sysctl("net.ipv4.tcp_timestamps", 0)
    write_sysctl("net.ipv4.tcp_tw_reuse", 1)
    write_delay(1)
    for _ in range(ALL):
        stage.time_wait()
    return compare(stage)


def test_without_timestamps_no_time_wait_is_taken_over(in_namespace):
    answer = in_namespace(run, without_timestamps)
    assert (answer.verdict, answer.reusable, answer.certain) == ("EADDRNOTAVAIL", 0, True)


LINKS = """
link set lo up
link add v0 type veth peer name v1
link set v0 addrgenmode none up
link set v1 addrgenmode none up
link add w0 type veth peer name w1
link set w0 addrgenmode none up
link add d0 type veth peer name d1
address add 10.1.0.1/24 dev v0
address add 10.2.0.1/24 dev w0
address add 10.4.0.1/24 dev d0
neigh add 10.1.0.5 lladdr 02:00:00:00:00:01 dev v0
neigh add 10.2.0.5 lladdr 02:00:00:00:00:01 dev w0
route add 198.51.100.0/24 via 10.1.0.254
route add 203.0.113.0/24 via 10.2.0.254
route add blackhole 10.5.0.0/24
route add unreachable 10.5.1.0/24
route add prohibit 10.5.2.0/24
route add throw 10.5.3.0/24
rule add to 198.51.100.0/24 dport 25 prohibit
rule add to 198.51.100.0/24 dport 26 unreachable
rule add to 198.51.100.0/24 dport 27 blackhole
"""
OF_IPV6 = """
address add 2001:db8:1::1/64 dev v0 nodad
route add blackhole 2001:db8:5::/64
route add unreachable 2001:db8:6::/64
route add prohibit 2001:db8:7::/64
rule add to 2001:db8:1::/64 dport 25 prohibit
"""
NOBODY_THERE = ("10.1.0.2", "198.51.100.7", "2001:db8:1::2")
SILENT = ("10.1.0.5", "10.2.0.5")
"""They cost no neighbour: nobody answers, and nothing says so."""
UNDERWAY_STOPPED = (
    *((where, 80) for where in (*NOBODY_THERE, *SILENT, "10.2.0.2", "203.0.113.7", "10.4.0.2")),
    *((f"10.5.{part}.1", 80) for part in range(4)),
    *((f"2001:db8:{part}::1", 80) for part in (5, 6, 7, 9)),
    *(("198.51.100.7", port) for port in (25, 26, 27)),
    ("2001:db8:1::2", 25),
)


def connect_all(places):
    """What the kernel answers to each, all at once; it gives up after one SYN where nothing says no."""
    waiting, found = {}, {}
    poll = select.poll()
    for where in places:
        client = socket.socket(socket.AF_INET6 if ":" in where[0] else socket.AF_INET)
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 2 if where[0] in SILENT else 6)
        code = client.connect_ex(where)
        if code == errno.EINPROGRESS:
            waiting[client.fileno()] = client, where
            poll.register(client, select.POLLOUT)
        else:
            found[where] = errno.errorcode[code]
            client.close()
    deadline = time.monotonic() + 60
    while waiting and time.monotonic() < deadline:
        for number, _ in poll.poll(1000):
            poll.unregister(number)
            client, where = waiting.pop(number)
            found[where] = errno.errorcode[client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)]
            client.close()
    return found


def stopped_before_the_wire(_stack):
    for family, batch in (("-4", LINKS), ("-6", OF_IPV6)):
        subprocess.run(["ip", family, "-batch", "-"], input=batch, text=True, check=True)
    for device in ("v0", "w0"):
        write_sysctl(f"net.ipv4.neigh.{device}.mcast_solicit", 1)
        write_sysctl(f"net.ipv6.neigh.{device}.mcast_solicit", 1)
        write_sysctl(f"net.ipv4.neigh.{device}.retrans_time_ms", 200)
        write_sysctl(f"net.ipv6.neigh.{device}.retrans_time_ms", 200)
    connect_all([(where, 80) for where in NOBODY_THERE])
    told = {}
    for where in UNDERWAY_STOPPED:
        host = f"[{where[0]}]:{where[1]}" if ":" in where[0] else f"{where[0]}:{where[1]}"
        answer = predict_from_here(host, Client())[2]
        told[where] = answer.verdict, answer.stage, answer.certain
    return told, connect_all(UNDERWAY_STOPPED)


def test_what_stops_a_connection_before_the_wire_is_foretold(in_namespace):
    told, kernel = in_namespace(run, stopped_before_the_wire)
    silence = {("10.1.0.5", 80): ("ok", "peer", True)}
    assert {where: found[0] for where, found in told.items() if where not in silence} == {
        where: code for where, code in kernel.items() if where not in silence
    }
    assert (silence.items() <= told.items(), kernel["10.1.0.5", 80]) == (True, "ETIMEDOUT")
    stages = {where: found[1:] for where, found in told.items()}
    assert {stages[where, 80] for where in NOBODY_THERE} == {("next-hop", False)}, "it may be back"
    for where in ("10.2.0.2", "203.0.113.7", *SILENT[1:]):
        assert stages[where, 80] == ("next-hop", True), "no carrier"
    assert {found[1] for where, found in told.items() if where[0].startswith("10.5")} == {"route"}
    assert {kernel[place, 25] for place, port in told if port == 25} == {"EACCES"}


POLICIES = """
link add v0 type veth peer name v1
link set v0 up
link set v1 up
address add 10.1.0.1/24 dev v0
neigh add 10.1.0.2 lladdr 02:00:00:00:00:01 dev v0
neigh add 10.1.0.3 lladdr 02:00:00:00:00:01 dev v0
neigh add 10.1.0.4 lladdr 02:00:00:00:00:01 dev v0
xfrm policy add dir out dst 10.1.0.2/32 action block
xfrm policy add dir out dst 10.1.0.0/24 proto tcp dport 25 action block priority 9
xfrm policy add dir out dst 10.1.0.3/32 tmpl src 10.1.0.1 dst 10.1.0.3 proto esp mode transport priority 5
xfrm policy add dir out dst 10.1.0.4/32 action block mark 7
xfrm policy add dir in dst 10.1.0.4/32 action block
"""


def behind_ipsec(_stack):
    made = subprocess.run(["ip", "-batch", "-"], input=POLICIES, text=True, capture_output=True)
    if made.returncode:
        pytest.skip(f"no policies of IPsec: {made.stderr.strip()}")
    found = {}
    for where in (("10.1.0.2", 80), ("10.1.0.3", 25), ("10.1.0.4", 80), ("10.1.0.4", 25)):
        told = look_at_connection(f"{where[0]}:{where[1]}", Client())
        with socket.socket() as client:
            client.setblocking(False)
            code = client.connect_ex(where)
        by_ipsec = any("ip xfrm policy" in text for text in (*told.advice, *told.doubts))
        found[where] = told.connect.verdict, told.connect.certain, errno.errorcode[code], by_ipsec
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="policies of IPsec are root's")
def test_a_policy_of_ipsec_blocks_a_connection_or_makes_it_uncertain(in_namespace):
    blocked = ("EPERM", True, "EPERM", True)
    assert in_namespace(run, behind_ipsec) == {
        ("10.1.0.2", 80): blocked,
        ("10.1.0.3", 25): ("ok", False, "EINPROGRESS", True),
        ("10.1.0.4", 80): ("ok", True, "EINPROGRESS", False),
        ("10.1.0.4", 25): blocked,
    }


def behind_ipsec_without_privilege(_stack):
    made = subprocess.run(["ip", "-batch", "-"], input=POLICIES, text=True, capture_output=True)
    if made.returncode:
        pytest.skip(f"no policies of IPsec: {made.stderr.strip()}")
    codes, before = [], sign_of_ipsec()
    for _ in range(2):
        with socket.socket() as client:
            client.setblocking(False)
            codes.append(errno.errorcode[client.connect_ex(("10.1.0.2", 80))])
    lose_capabilities()
    told = look_at_connection("10.1.0.2:80", Client())
    return codes, before, told.connect.verdict, told.connect.certain, told.doubts


@pytest.mark.skipif(os.geteuid() != 0, reason="policies of IPsec are root's")
def test_who_may_not_read_policies_is_told_that_some_stop_packets_here(in_namespace):
    codes, before, verdict, certain, doubts = in_namespace(run, behind_ipsec_without_privilege)
    assert (codes, before, verdict, certain) == (["EPERM"] * 2, "", "ok", False)
    (doubt,) = (doubt for doubt in doubts if "IPsec" in doubt)
    assert doubt == (
        "what decides over a connection was not all looked at: policies of IPsec have stopped packets here "
        "(XfrmOutPolBlock of /proc/net/xfrm_stat)"
    )


SIDECAR = {
    "nft": "ip daddr 127.0.0.0/8 return; ip daddr != 10.1.0.0/24 return; tcp dport 82 accept; "
    "meta l4proto tcp redirect to :15001",
    "iptables": "-d 127.0.0.0/8 -j RETURN; ! -d 10.1.0.0/24 -j RETURN; -p tcp --dport 82 -j ACCEPT; "
    "-p tcp -j REDIRECT --to-ports 15001",
}
TRACKED = """
table inet f { chain out { type filter hook output priority 0; ct state invalid drop; tcp dport 1 reject; }; }
"""


def without_privilege(stack, rules):
    """What is told of a server here and of a port without one, and what tells of rules."""
    if rules:
        subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    server = stack.enter_context(socket.create_server((HOME, 7001)))
    stack.enter_context(socket.create_connection(server.getsockname()))
    lose_capabilities()
    told = [predict_from_here(f"{HOME}:{port}", Client())[2] for port in (7001, 9)]
    return [(one.verdict, one.certain, one.doubts) for one in told], sign_of_rules()


def untold_of():
    """What keeps its rules from who lacks privilege on this kernel, and even whether it has some."""
    if not os.path.isdir("/sys/module/ip_tables") and os.path.exists("/proc/net/ip_tables_names"):
        return "ip_tables is built into this kernel, and who may not ask is not told of its rules"
    absent = why_nft_absent()
    if absent is None:
        how = "loaded" if os.path.isdir("/sys/module/nf_tables/holders") else "built into this kernel"
        return f"nf_tables is {how}, and who may not ask is not told of its rules"
    return absent and "whether nf_tables is built into this kernel is not known here"


@pytest.mark.parametrize("rules", ["", TRACKED])
def test_who_may_not_read_rules_is_certain_where_nothing_can_tell_of_any(in_namespace, rules):
    if rules and not shutil.which("nft"):
        pytest.skip("nft is not installed")
    (server, nobody), sign = in_namespace(run, without_privilege, rules)
    tracked = "connections are tracked here, which rules of nft or iptables begin"
    assert sign == (tracked if rules else untold_of() or "")
    doubts = [f"what decides over a connection was not all looked at: {sign}"] if sign else []
    for verdict, (told, certain, why) in (("ok", server), ("ECONNREFUSED", nobody)):
        assert told == verdict
        assert [doubt for doubt in why if "not all looked at" in doubt] == doubts
        # where bound sockets are not listed, others' processes hide theirs
        assert certain is (not sign and lists_bound_sockets())


REFUSED = """
table inet f { chain out { type filter hook output priority 0; tcp dport 7001 reject with tcp reset; }; }
"""


def refused_without_privilege(stack):
    subprocess.run(["nft", "-f", "-"], input=REFUSED, text=True, check=True)
    stack.enter_context(socket.create_server((HOME, 7001)))
    lose_capabilities()
    with socket.socket() as client:
        code = errno.errorcode[client.connect_ex((HOME, 7001))]
    return code, look_at_connection(f"{HOME}:7001", Client()).connect.certain


@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed")
def test_a_rule_that_begins_no_tracking_is_never_certainly_not_there_for_who_may_not_read_it(in_namespace):
    assert in_namespace(run, refused_without_privilege) == ("ECONNREFUSED", False)


WITHOUT_CARRIER = """
link add v0 type veth peer name v1
link set v0 up
address add 10.1.0.1/24 dev v0
address add 10.2.0.1/24 dev v0
"""


def beside_a_sidecar(stack, program):
    """All that is sent to one network is led to a proxy here, as those of service meshes do it."""
    subprocess.run(["ip", "-batch", "-"], input=WITHOUT_CARRIER, text=True, check=True)
    if program == "nft":
        table = f"table ip n {{ chain out {{ type nat hook output priority -100; {SIDECAR['nft']}; }}; }}"
        subprocess.run(["nft", "-f", "-"], input=table, text=True, check=True)
    for rule in () if program == "nft" else SIDECAR["iptables"].split(";"):
        subprocess.run([program, "-t", "nat", "-A", "OUTPUT", *rule.split()], check=True)
    stack.enter_context(socket.create_server((HOME, 15001)))
    found = {}
    for where in (("10.1.0.9", 80), ("10.1.0.1", 80), ("10.1.0.9", 82), ("10.2.0.1", 80), (HOME, 80)):
        told = look_at_connection(f"{where[0]}:{where[1]}", Client())
        with socket.socket() as client:
            client.settimeout(0.2)
            try:
                client.connect(where)
                kernel = "ok"
            except TimeoutError:
                kernel = "silence"
            except OSError as error:
                kernel = errno.errorcode[error.errno]
        led = [rule.to for rule in told.redirects]
        found[where] = told.connect.verdict, told.connect.certain, led, kernel
    return found


@pytest.mark.parametrize("program", ["nft", "iptables-nft", "iptables-legacy"])
@pytest.mark.skipif(os.geteuid() != 0, reason="rules of packets are root's")
def test_rules_that_name_no_port_lead_what_is_sent_elsewhere(in_namespace, program):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    led = ("ok", False, ["port 15001 of this host"], "ok")
    refused = ("ECONNREFUSED", True, [], "ECONNREFUSED")
    assert in_namespace(run, beside_a_sidecar, program) == {
        ("10.1.0.9", 80): led,
        ("10.1.0.1", 80): led,
        ("10.1.0.9", 82): ("EHOSTUNREACH", True, [], "silence"),
        ("10.2.0.1", 80): refused,
        (HOME, 80): refused,
    }


def no_route(stack):
    asked = [("192.0.2.1:80", None), ("[2001:db8::1]:80", None), (f"{HOME}:9", "192.0.2.77")]
    return [predict_from_here(where, Client(source))[2].verdict for where, source in asked]


def test_an_error_of_the_route_comes_before_any_port(in_namespace):
    assert in_namespace(run, no_route) == ["ENETUNREACH", "ENETUNREACH", "EADDRNOTAVAIL"]


def mapped_clients(stack):
    stage = Stage(stack)
    for _ in range(7):
        client = stack.enter_context(socket.socket(socket.AF_INET6))
        client.connect(("::ffff:127.0.0.1", 7001))
    return compare(stage)


def test_ipv6_sockets_towards_a_mapped_address_take_the_same_ports(in_namespace):
    answer = in_namespace(run, mapped_clients)
    assert (answer.used, answer.free) == (7, ALL - 7)


def owners(stack):
    stage = Stage(stack)
    for _ in range(5):
        stage.client()
    told = look_at_connection(f"{HOME}:7001", Client())
    return [(owner.pid, owner.sockets) for owner in told.owners], told.listens_here


def test_names_the_process_behind_the_ports_and_whether_anybody_listens(in_namespace):
    holders, listens = in_namespace(run, owners)
    assert [number for _, number in holders] == [5]
    assert listens is True


def odd_range(stack):
    stage = Stage(stack)
    write_sysctl("net.ipv4.ip_local_port_range", f"{LOW} {LOW + 6}")
    for _ in range(6):
        stage.client()
    return predicted()


def test_the_last_port_of_an_odd_range_is_not_certain(in_namespace):
    answer = in_namespace(run, odd_range)
    assert (answer.verdict, answer.free, answer.certain) == ("ok", 1, False)
    assert "odd number of ports" in answer.doubts[0]


def odd_range_beside_ports_that_may_be_shared(stack):
    stage = Stage(stack)
    write_sysctl("net.ipv4.ip_local_port_range", f"{LOW} {LOW + 2}")
    for _ in range(2):
        stage.client(7002)
    three = predicted()
    write_sysctl("net.ipv4.ip_local_port_range", f"{HIGH} {HIGH}")
    return three, predicted()


def test_ports_that_may_be_shared_do_not_make_an_odd_range_certain(in_namespace):
    three, only = in_namespace(run, odd_range_beside_ports_that_may_be_shared)
    assert (three.verdict, three.free, three.doubtful, three.certain) == ("ok", 3, 2, False)
    assert (only.verdict, only.free, only.certain) == ("ok", 1, True), "one port is not rounded down"


def ports_named_by_connected_clients(stack):
    stage = Stage(stack)
    for port in range(LOW, LOW + 5):
        client = stack.enter_context(socket.socket())
        client.bind((HOME, port))
        client.connect((HOME, 7002))
    for _ in range(3):
        stage.client(7002)
    return [compare(stage) for _ in range(ALL - 4)]


def test_a_port_that_a_connected_client_named_itself_is_lost(in_namespace):
    answers = in_namespace(run, ports_named_by_connected_clients)
    assert (answers[0].lost, answers[0].free, answers[0].doubtful) == (5, ALL - 5, 3)
    assert (answers[-1].verdict, answers[-1].free, answers[-1].certain) == ("EADDRNOTAVAIL", 0, True)


def bound_where_no_listing_has_them(stack):
    """Ports that are merely bound, found in the processes that hold them: no listing is asked for them."""
    for port in range(LOW, LOW + 5):
        stack.enter_context(socket.socket()).bind((HOME, port))
    over = stack.enter_context(socket.socket())
    over.bind((HOME, LOW + 7))
    over.connect_ex((HOME, 9))
    return read_port_use(LOW, HIGH, ways=(Way.PROC,), bound_seconds=20)


def test_bound_sockets_that_no_listing_has_are_found_in_their_processes(in_namespace):
    found = in_namespace(run, bound_where_no_listing_has_them)
    assert sorted(found.users) == [*range(LOW, LOW + 5), LOW + 7]
    assert {user.explicit for users in found.users.values() for user in users} == {True}
    assert [port for port, users in found.users.items() if any(user.perhaps for user in users)] == [LOW + 7]


def over_where_no_listing_has_them(stack, named):
    """On every port a connection that was refused, whose process named it in bind() or not."""
    there = f"{HOME}:7001"
    for port in range(LOW, HIGH + 1):
        over = stack.enter_context(socket.socket())
        if named:
            over.bind((HOME, port))
        else:
            write_sysctl("net.ipv4.ip_local_port_range", f"{port} {port}")
        assert over.connect_ex((HOME, 9)) == errno.ECONNREFUSED
    write_sysctl("net.ipv4.ip_local_port_range", f"{LOW} {HIGH}")
    with socket.create_server((HOME, 7001)), socket.socket() as client:
        journey, scene, _ = predict_from_here(there, Client())
        use = read_port_use(LOW, HIGH, ways=(Way.PROC,), bound_seconds=20)
        told = predict_connect(journey, scene._replace(use=use))
        kernel = errno.errorcode.get(client.connect_ex((HOME, 7001)), "ok")
    return told.verdict, told.certain, told.bind_first, kernel


@pytest.mark.parametrize(("named", "kernel"), [(True, "EADDRNOTAVAIL"), (False, "ok")])
def test_a_connection_that_is_over_has_its_port_or_not_where_no_listing_tells(in_namespace, named, kernel):
    found = in_namespace(run, over_where_no_listing_has_them, named)
    assert found == ("ok", False, ("EADDRINUSE", 0, False), kernel)


def before_a_listener_of_ipv6(stack, way):
    server = stack.enter_context(socket.socket(socket.AF_INET6))
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    server.bind(("::", 7001))
    server.listen()
    journey, scene, _ = predict_from_here(f"{HOME}:7001", Client())
    seen = read_listeners(local_port=7001, ways=(way,))
    told = predict_connect(journey, scene._replace(listeners=tuple(row for row in seen if not row.v6only)))
    with socket.socket() as client:
        return told.verdict, told.certain, errno.errorcode[client.connect_ex((HOME, 7001))]


@pytest.mark.parametrize(("way", "verdict"), [(Way.PROC, "ok"), (Way.BY_FAMILY, "ECONNREFUSED")])
def test_a_listener_of_which_no_listing_tells_whether_it_takes_ipv4_leaves_a_doubt(
    in_namespace, way, verdict
):
    refused = "ECONNREFUSED"
    found = in_namespace(run, before_a_listener_of_ipv6, way)
    assert found == (verdict, verdict == refused, refused)


def bound_and_hidden(stack):
    sock = stack.enter_context(socket.socket())
    sock.bind((HOME, LOW))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        sock.close()
        os.setresuid(65534, 65534, 65534)
        with os.fdopen(writer, "w") as stream:
            use = read_port_use(LOW, HIGH, ways=(Way.PROC,))
            stream.write(json.dumps([use.complete.reason, list(use.users)]))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        found = json.loads(stream.read())
    os.waitpid(child, 0)
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_where_processes_may_not_be_asked_the_answer_is_not_certain(in_namespace):
    reason, ports = in_namespace(run, bound_and_hidden)
    assert "run as root" in reason
    assert ports == []


def asked_as_nobody(stack, *ports):
    """Of each port, the doubts about signatures of somebody without privileges."""
    for port in ports:
        stack.enter_context(socket.create_server((HOME, port)))
    predict_from_here(f"{HOME}:9", Client())  # what is imported here another user may not read
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        asked = []
        for port in ports:
            used = somebody_uses_md5()
            doubts = predict_from_here(f"{HOME}:{port}", Client())[2].doubts
            asked.append([doubts, used or somebody_uses_md5()])
        os.write(writer, json.dumps(asked).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as stream:
        told = json.load(stream)
    return [([doubt for doubt in doubts if "signed segments" in doubt], used) for doubts, used in told]


def somebody_uses_md5():
    """Whether anybody on this machine has a key, another test perhaps: then each listener may want one."""
    with open("/proc/crypto", encoding="ascii") as ciphers:
        return any(
            "name         : md5\n" in one and "refcnt       : 1\n" not in one
            for one in ciphers.read().split("\n\n")
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_hidden_signatures_are_doubted_at_ports_of_routing_protocols_alone(in_namespace):
    (bgp, _), (other, used) = in_namespace(run, asked_as_nobody, 179, 7001)
    hidden = "keys of TCP-MD5 (TCP_MD5SIG) are told to CAP_NET_ADMIN alone"
    assert bgp == [f"whether a listener there takes signed segments only is not known: {hidden}"]
    assert other == (bgp if used else [])
