"""The rules of listening: a server that does not accept is found, one that does is not."""

import errno
import itertools
import re
import socket
from contextlib import ExitStack

import pytest
from pyroute2 import IPRoute

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.listening import accept_all, accept_queue, accept_queue_overflowing, bursts, half_open
from tcpdoctor.lab.loss import ELSEWHERE, HERE
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.packets import (
    Endpoints,
    add_address_to_loopback,
    go_deaf,
    hear_again,
    send_from_the_wrong_side,
)
from tcpdoctor.lab.pairs import again_and_again, connect, state_of, wait_until

from .checks import (
    check,
    evidence,
    findings,
    lines_of,
    only_finding,
    output_of,
    reason_unchecked,
    severities,
    the_finding,
)

FULL = "accept-queue-full"
OVERFLOWS = "accept-queue-overflows"
SHORT = "accept-queue-too-short"


def queue_of(length, backlog, options):
    with accept_queue(length, backlog=backlog) as server:
        sick = check(*options)
        accept_all(server, quiet=0.3)
        return sick, check(*options)


@pytest.mark.parametrize(
    ("length", "backlog", "options", "expected"),
    [
        (24, 23, (), ["critical"]),
        (24, 23, ("--window", "0"), ["warning"]),
        (23, 23, (), ["warning"]),
        (19, 23, (), ["warning"]),
        (18, 23, (), []),
        (6, 5, (), ["critical"]),
        (6, 5, ("--window", "0"), ["warning"]),
        (5, 5, (), []),
        (2, 1, (), ["critical"]),
        (1, 0, (), ["critical"]),
        (15, 15, (), []),
        (13, 16, (), ["warning"]),
        (12, 16, (), []),
    ],
)
def test_an_accept_queue_is_judged_by_its_own_limit(in_namespace, length, backlog, options, expected):
    sick, cured = in_namespace(queue_of, length, backlog, options)
    assert severities(sick, FULL) == expected
    assert severities(cured, FULL) == []
    for finding in findings(sick, FULL):
        assert finding["scope"] == "listener"
        assert f"The accept queue holds {length} and" in finding["summary"]


WAITS = "clients-wait-to-be-accepted"
OLD = {WAITS: {"min_age": 0.5}}


def clients_that_sent_and_wait(sent: int, silent: int, backlog: int) -> tuple[dict, dict, dict]:
    """Some sent a request, others wait for the server to speak; then all are accepted and nothing is read."""
    with accept_queue(silent, backlog=backlog) as server, ExitStack() as stack:
        for client in [connect(stack, server) for _ in range(sent)]:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        shipped = check()
        sick = check(limits=OLD)
        for connection in accept_all(server, quiet=0.3):
            stack.enter_context(connection)
        return shipped, sick, check(limits=OLD)


@pytest.mark.parametrize(
    ("sent", "silent", "backlog", "expected"),
    [
        (3, 7, 127, {WAITS: "warning"}),
        (2, 0, 127, {WAITS: "warning"}),
        (1, 7, 127, {WAITS: "warning"}),
        (0, 7, 127, {WAITS: "warning"}),
        (0, 2, 127, {WAITS: "warning"}),
        (1, 0, 127, {}),
        (0, 1, 127, {}),
        (3, 3, 5, {FULL: "critical"}),
    ],
)
def test_clients_that_lie_in_a_queue_with_room_show_a_server_that_hangs(
    in_namespace, sent, silent, backlog, expected
):
    shipped, sick, accepted = in_namespace(clients_that_sent_and_wait, sent, silent, backlog)
    of_queues = {one["rule"]: one["severity"] for one in sick["findings"] if one["rule"] in (WAITS, FULL)}
    assert of_queues == expected
    assert findings(shipped, WAITS) == findings(accepted, WAITS) == []
    for finding in findings(sick, WAITS):
        assert f"{sent + silent} clients connected or sent their request" in finding["summary"]
        assert f"holds {sent + silent} and is full above {backlog}" in finding["summary"]


def overflowing():
    with accept_queue_overflowing(23, backlog=31) as server:
        report = check("--window", "1.5")
        sick = [the_finding(report, rule) for rule in (FULL, OVERFLOWS)]
        cookies = lines_of("ss -Htn state syn-sent")
        accepted = len(accept_all(server, quiet=4.5))
        return sick, cookies, accepted, check()


def test_clients_that_are_dropped_at_a_full_queue_are_counted(in_namespace):
    (full, overflows), waiting, accepted, cured = in_namespace(overflowing)
    assert (full["severity"], overflows["severity"]) == ("critical", "critical")
    assert waiting == 23
    assert evidence(overflows, "rate(TcpExt.ListenOverflows)") >= 5
    assert accepted == 32 + 23
    assert findings(cured, OVERFLOWS) == findings(cured, FULL) == []


def cookies_off():
    write_sysctl("net.ipv4.tcp_syncookies", 0)
    sick = check("--window", "0")
    finding = the_finding(sick, "syncookies-off")
    setting = next(fix["sysctl"] for fix in finding["fixes"] if fix["sysctl"])
    write_sysctl(setting["name"], setting["value"])
    return finding, setting, check("--window", "0")


def test_syncookies_that_are_off_are_found_and_the_fix_cures_it(in_namespace):
    finding, setting, cured = in_namespace(cookies_off)
    assert (finding["severity"], setting["current"], setting["value"]) == ("warning", 0, 1)
    assert findings(cured, "syncookies-off") == []


def grown(name):
    """How much a counter has grown since the namespace was made, as nstat says."""
    return int(output_of(f"nstat -az TcpExt{name}").split()[-2])


def flooded(cookies, backlog):
    write_sysctl("net.ipv4.tcp_syncookies", cookies)
    with half_open(23, backlog=backlog) as server:
        remembered = lines_of("ss -Htn state syn-recv")
        report = check("--window", "1.5")
        answered = [answers(server) for _ in range(3)]
        assert_advice_runs(report)
        return report, remembered, answered, grown("TCPReqQFullDoCookies"), grown("TCPReqQFullDrop")


def assert_advice_runs(report):
    for finding in report["findings"]:
        if finding["rule"] != "listener-port-in-ephemeral-range":  # every listener here is
            the_finding(report, finding["rule"])


def answers(server):
    with socket.socket() as client:
        client.settimeout(0.3)
        return client.connect_ex(server.getsockname()) == 0


HALF_OPEN = (8, 9)
"""With a backlog of 8: Linux 5.10 takes the queue for full at the backlog, later ones above it."""


def test_a_full_queue_of_half_open_connections_with_cookies_still_serves_clients(in_namespace):
    report, remembered, answered, cookies, drops = in_namespace(flooded, 1, 8)
    finding = only_finding(report, "syn-queue-full")
    assert remembered in HALF_OPEN
    assert answered == [True] * 3
    assert drops == 0
    assert 5 <= evidence(finding, "rate(TcpExt.TCPReqQFullDoCookies)") * 1.5 <= cookies
    assert findings(report, "syn-queue-drops") == findings(report, OVERFLOWS) == []


def test_a_full_queue_of_half_open_connections_without_cookies_shuts_clients_out(in_namespace):
    report, remembered, answered, cookies, drops = in_namespace(flooded, 0, 8)
    finding = only_finding(report, "syn-queue-drops")
    assert (finding["severity"], remembered in HALF_OPEN, cookies) == ("critical", True, 0)
    assert answered == [False] * 3
    assert 5 <= evidence(finding, "rate(TcpExt.TCPReqQFullDrop)") * 1.5 <= drops
    assert findings(report, "syn-queue-full") == findings(report, "listener-drops-without-overflow") == []


@pytest.mark.parametrize("cookies", [0, 1])
def test_the_same_flood_with_room_for_it_is_no_finding_about_the_queue(in_namespace, cookies):
    report, remembered, answered, *counted = in_namespace(flooded, cookies, 4096)
    assert remembered >= 23
    assert (answered, counted) == ([True] * 3, [0, 0])
    for rule in ("syn-queue-full", "syn-queue-drops", "listener-drops-without-overflow"):
        assert findings(report, rule) == []
        assert reason_unchecked(report, rule) is None


def small_syn_backlog(cookies):
    write_sysctl("net.ipv4.tcp_max_syn_backlog", 8)
    return flooded(cookies, 4096)


def test_tcp_max_syn_backlog_acts_only_where_cookies_are_off(in_namespace):
    without, remembered, *_, drops = in_namespace(small_syn_backlog, 0)
    finding = only_finding(without, "listener-drops-without-overflow")
    assert (finding["severity"], remembered, drops) == ("warning", 7, 0)
    with_cookies, remembered, *_ = in_namespace(small_syn_backlog, 1)
    assert remembered >= 23
    assert findings(with_cookies, "listener-drops-without-overflow") == []


def bursting(backlog):
    with bursts(23, backlog=backlog) as server, accept_queue(3, backlog=5) as bystander:
        report = check()
        ports = [sock.getsockname()[1] for sock in (server, bystander)]
        limit = output_of(f"ss -Hltn sport = :{ports[0]}").split()[2]
        # the bursts go on: what the listener counted before and after brackets the host's counter
        counts = drops_of(ports[0]), grown("ListenOverflows"), drops_of(ports[0])
        assert_advice_runs(report)
        return report, ports, limit, *counts


def drops_of(port):
    return int(re.search(r",d(\d+)\)", output_of(f"ss -Hltnm sport = :{port}"))[1])


def test_bursts_at_a_short_queue_name_the_listener_though_it_is_never_seen_full(in_namespace):
    report, (port, _), limit, drops_before, overflows, drops = in_namespace(bursting, 5)
    finding = only_finding(report, SHORT)
    assert (finding["severity"], finding["subject"]["port"], limit) == ("warning", port, "5")
    assert 17 < drops_before <= overflows <= drops
    assert 17 <= evidence(finding, "rate(accept_queue.drops)") <= drops
    assert findings(report, FULL) == []


def test_the_same_bursts_at_a_long_queue_are_healthy(in_namespace):
    report, _, limit, _, overflows, drops = in_namespace(bursting, 4096)
    assert (limit, overflows, drops) == ("4096", 0, 0)
    assert findings(report, SHORT) == findings(report, OVERFLOWS) == []
    assert reason_unchecked(report, SHORT) is None


def with_setting(name, value, rule):
    write_sysctl(name, value)
    found = check("--window", "0")
    for finding in findings(found, rule):
        setting = next(fix["sysctl"] for fix in finding["fixes"] if fix["sysctl"])
        write_sysctl(setting["name"], setting["value"])
    return severities(found, rule), severities(check("--window", "0"), rule)


@pytest.mark.parametrize(
    ("name", "value", "rule", "expected"),
    [
        ("tcp_syncookies", 2, "syncookies-always", ["warning"]),
        ("tcp_syncookies", 1, "syncookies-always", []),
        ("tcp_syncookies", 0, "syncookies-always", []),
        ("tcp_abort_on_overflow", 1, "abort-on-overflow", ["warning"]),
        ("tcp_abort_on_overflow", 0, "abort-on-overflow", []),
        ("tcp_orphan_retries", 1, "orphan-retries-low", ["info"]),
        ("tcp_orphan_retries", 2, "orphan-retries-low", ["info"]),
        ("tcp_orphan_retries", 3, "orphan-retries-low", []),
        ("tcp_orphan_retries", 0, "orphan-retries-low", []),
    ],
)
def test_settings_that_harm_are_found_and_the_fix_ends_the_finding(in_namespace, name, value, rule, expected):
    assert in_namespace(with_setting, f"net.ipv4.{name}", value, rule) == (expected, [])


def late_acknowledgement(abort):
    """A client whose SYN was answered before the queue filled, and whose last packet comes after."""
    write_sysctl("net.ipv4.tcp_abort_on_overflow", abort)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, socket.socket() as late:
        go_deaf(late)
        late.settimeout(0)
        late.connect_ex(server.getsockname())
        with socket.create_connection(server.getsockname()):  # the queue holds one
            hear_again(late)
            wait_until(lambda: state_of(late) is not TcpState.SYN_SENT, "the SYN+ACK that is sent again")
            with socket.socket() as further:
                further.settimeout(0.3)
                refused = further.connect_ex(server.getsockname())
            return late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), state_of(late), refused


def test_abort_on_overflow_resets_at_the_last_packet_and_drops_syns_all_the_same(in_namespace):
    error, state, further = in_namespace(late_acknowledgement, 1)
    assert (error, state) == (errno.ECONNRESET, TcpState.CLOSE)
    assert further == errno.EAGAIN  # no answer at all
    error, state, further = in_namespace(late_acknowledgement, 0)
    assert (error, state) == (0, TcpState.ESTABLISHED)
    assert further == errno.EAGAIN


def test_a_kernel_that_always_sends_cookies_remembers_nobody_and_no_queue_is_full(in_namespace):
    report, remembered, answered, cookies, _ = in_namespace(flooded, 2, 4096)
    assert (remembered, answered) == (0, [True] * 3)
    assert cookies >= 23
    assert findings(report, "syn-queue-full") == []
    assert severities(report, "syncookies-always") == ["warning"]


def clients_without_a_route_back():
    add_address_to_loopback(HERE)
    with socket.create_server((HERE, 0)) as server:
        ends = Endpoints(ELSEWHERE, 40_000, HERE, server.getsockname()[1])
        with again_and_again(lambda: send_from_the_wrong_side(7, ends), every=0.1):
            report = check()
        assert_advice_runs(report)
        return report, grown("ListenDrops"), grown("ListenOverflows"), drops_of(server.getsockname()[1])


def test_clients_to_whom_no_route_leads_are_dropped_without_an_overflow(in_namespace):
    report, drops, overflows, of_listener = in_namespace(clients_without_a_route_back)
    finding = only_finding(report, "listener-drops-without-overflow")
    assert (finding["severity"], overflows) == ("warning", 0)
    assert 7 <= evidence(finding, "rate(TcpExt.ListenDrops)") <= drops == of_listener
    assert findings(report, SHORT) == findings(report, OVERFLOWS) == []


def neighbours_that_do_not_exist():
    """SYNs from addresses of our own network that nobody has: ARP fails, and ICMP tells TCP."""
    with IPRoute() as routes:
        routes.link("add", ifname="lan", kind="veth", peer="lan-peer")
        for name in ("lan", "lan-peer"):
            (index,) = routes.link_lookup(ifname=name)
            routes.link("set", index=index, state="up")
        (index,) = routes.link_lookup(ifname="lan")
        routes.addr("add", index=index, address="198.18.0.1", prefixlen=16)
    with socket.create_server(("198.18.0.1", 0), backlog=512) as server:
        port = server.getsockname()[1]
        strangers = (f"198.18.{third}.{fourth}" for third in range(1, 250) for fourth in range(1, 250))

        def knock():
            for source in itertools.islice(strangers, 13):
                send_from_the_wrong_side(1, Endpoints(source, 40_000, "198.18.0.1", port))

        with again_and_again(knock, every=0.1):
            wait_until(lambda: drops_of(port) > 23, "neighbours that are given up on")
            report = check()
        return (
            report,
            grown("ListenDrops"),
            drops_of(port),
            output_of("nstat -az IcmpInDestUnreachs").split()[-2],
        )


def test_forged_clients_that_an_icmp_error_ends_are_no_more_than_a_remark(in_namespace):
    report, drops, of_listener, errors = in_namespace(neighbours_that_do_not_exist)
    finding = only_finding(report, "listener-drops-without-overflow")
    assert (finding["severity"], report["exit_code"]) == ("info", 0)
    assert 13 <= evidence(finding, "rate(TcpExt.ListenDrops)") <= drops <= of_listener
    assert int(errors) >= drops
    assert findings(report, "retransmissions-above-normal") == []  # SYN+ACKs are sent again in vain
