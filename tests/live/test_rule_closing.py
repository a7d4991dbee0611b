"""The rules of closing: each disease is made with real sockets and found; the healthy variant is not."""

import os
import re
import resource
import socket
import struct
import subprocess
from contextlib import ExitStack

import pytest

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.catalogue import LAB
from tcpdoctor.lab.close_wait import half_closed_pairs
from tcpdoctor.lab.closing import (
    close_wait,
    close_wait_not_accepted,
    fin_wait_1_stuck,
    fin_wait_2_orphans,
    probe_every,
    time_wait,
)
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.pairs import (
    allow_descriptors,
    closed_before_sent,
    connect_pair,
    let_pass,
    listen,
    wait_for_state,
    wait_until,
)

from .checks import check, evidence, findings, lines_of, only_finding, reason_unchecked, severities
from .scenes import disease_of

OLD_AFTER_A_SECOND = {"min_age": 0.5}


# --- close-wait-leak ---


def leak():
    with close_wait(113, read_end=37):
        young = check()
        old = check(limits={"close-wait-leak": OLD_AFTER_A_SECOND})
        counted = lines_of(f"ss -Htnp state close-wait | grep 'pid={os.getpid()},'")
    return young, old, counted, os.getpid()


def test_sockets_that_a_process_does_not_close_are_a_leak_once_they_are_old(in_namespace):
    young, old, counted, pid = in_namespace(leak)
    finding = only_finding(old, "close-wait-leak")
    assert findings(young, "close-wait-leak") == []
    assert (finding["severity"], finding["scope"], finding["subject"]["pid"]) == ("warning", "process", pid)
    assert counted == 113
    assert "113 sockets" in finding["summary"]
    assert "37 read to the end-of-file" in finding["explanation"]


def test_a_leak_that_nobody_reads_is_told_from_one_that_was_read(in_namespace):
    sick, *_ = in_namespace(disease_of, LAB["close-wait-unread"], "close-wait-leak")
    assert "113 with data unread before it" in sick["explanation"]


def test_a_leak_behind_keepalive_probes_is_told_with_both_bounds(in_namespace):
    name = "close-wait-leak"
    sick, shipped, _ = in_namespace(disease_of, LAB["close-wait-leak-kept-alive"], name)
    assert sick["severity"] == "warning"
    assert "113 of them have had no data for 14 s or more" in sick["summary"]
    bounds = re.search(r"\(between ([\d.]+) (?:m?s) and ([\d.]+) s ago for the oldest\)", sick["summary"])
    assert bounds is not None, sick["summary"]
    assert float(bounds[2]) >= 14, "no data for so long; a busy machine looks later"
    assert evidence(sick, "perhaps_older(close_wait.owned_ages, 14 s)") == 113
    assert findings(shipped, name) == []
    assert "only within bounds" not in str(reason_unchecked(shipped, name))


def just_probed(sockets, seconds):
    """Wait until the oldest data is so old, and a keepalive probe was answered a moment ago."""

    def is_so():
        infos = [sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 60) for sock in sockets]
        heard = [struct.unpack_from("=I", info, 56)[0] for info in infos]
        quiet = [struct.unpack_from("=I", info, 52)[0] for info in infos]
        return min(quiet) > seconds * 1000 and max(heard) < 500

    wait_until(is_so, "a probe was answered", 60)


def unread_and_just_probed():
    allow_descriptors(400)
    with close_wait(113, keepalive=6) as clients:
        just_probed(clients, 8)
        return check(limits={"close-wait-leak": {"min_age": 8}})


def half_closed_and_just_probed():
    allow_descriptors(400)
    with ExitStack() as stack:
        server = listen(stack)
        held = [connect_pair(stack, server)[1] for _ in range(113)]
        for sock in held:
            probe_every(sock, 6)
            sock.shutdown(socket.SHUT_WR)
        wait_for_state(held, TcpState.FIN_WAIT_2)
        just_probed(held, 8)
        return check(limits={"fin-wait-2-held-open": {"min_age": 8}})


@pytest.mark.parametrize(
    ("leak", "rule"),
    [(unread_and_just_probed, "close-wait-leak"), (half_closed_and_just_probed, "fin-wait-2-held-open")],
)
def test_a_leak_does_not_hide_for_the_seconds_after_a_probe(in_namespace, leak, rule):
    finding = only_finding(in_namespace(leak), rule)
    assert finding["severity"] == "warning"
    assert "113 of them have" in finding["summary"]


def peers_that_end_now():
    """Idle connections with keepalive whose peers have ended them a moment ago: nobody has had time."""
    allow_descriptors(400)
    with ExitStack() as stack:
        server = listen(stack)
        pairs = [connect_pair(stack, server) for _ in range(127)]
        for client, _ in pairs:
            probe_every(client, 1)
        let_pass(2.5)
        for _, accepted in pairs:
            accepted.shutdown(socket.SHUT_WR)
        wait_for_state([client for client, _ in pairs], TcpState.CLOSE_WAIT)
        return check(limits={"close-wait-leak": {"min_age": 2.4}})


def test_idle_connections_that_all_end_at_once_are_no_leak_yet(in_namespace):
    assert findings(in_namespace(peers_that_end_now), "close-wait-leak") == []


def a_proxy():
    rules = ("proxy-waits-for-one-side", "close-wait-leak", "fin-wait-2-held-open")
    with half_closed_pairs(109) as proxied:
        let_pass(0.6)
        report = check(limits=dict.fromkeys(rules, OLD_AFTER_A_SECOND))
        for back in proxied.backs[:60]:
            back.close()
        leaking = check(limits=dict.fromkeys(rules, OLD_AFTER_A_SECOND))
    return [
        {found["rule"] for found in seen["findings"] if found["subject"].get("pid") == os.getpid()} & {*rules}
        for seen in (report, leaking)
    ]


def test_of_a_proxys_pairs_there_is_one_finding_and_without_their_others_ends_it_is_a_leak(in_namespace):
    assert in_namespace(a_proxy) == [{"proxy-waits-for-one-side"}, {"close-wait-leak"}]


def a_proxy_near_its_limit():
    with half_closed_pairs(109):
        let_pass(0.6)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 10, hard))
        report = check(limits={"proxy-waits-for-one-side": OLD_AFTER_A_SECOND})
    return {
        found["rule"]: found["severity"]
        for found in report["findings"]
        if found["subject"].get("pid") == os.getpid()
    }


def test_a_proxy_near_its_limit_is_not_told_to_close_what_it_has_to_keep(in_namespace):
    assert in_namespace(a_proxy_near_its_limit) == {"proxy-waits-for-one-side": "critical"}


# --- close-wait-not-accepted ---


def test_clients_that_gave_up_before_accept_show_a_server_that_does_not_accept(in_namespace):
    name = "close-wait-not-accepted"
    sick, shipped, _ = in_namespace(disease_of, LAB[name], name)
    assert findings(shipped, name) == []
    assert (sick["severity"], sick["scope"]) == ("critical", "listener")
    assert "23 clients gave up" in sick["summary"]
    assert findings(shipped, "close-wait-leak") == []


def short_queue(clients):
    with close_wait_not_accepted(clients, backlog=5):
        let_pass(0.6)
        report = check(limits={"close-wait-not-accepted": OLD_AFTER_A_SECOND})
    return {finding["rule"] for finding in report["findings"]} & {
        "close-wait-not-accepted",
        "accept-queue-full",
    }


@pytest.mark.parametrize(
    ("clients", "rules"),
    [(3, set()), (5, {"close-wait-not-accepted"}), (6, {"close-wait-not-accepted"})],
)
def test_a_short_queue_of_dead_clients_is_one_finding_that_says_so(in_namespace, clients, rules):
    assert in_namespace(short_queue, clients) == rules


# --- close-wait-near-descriptor-limit ---


def near_descriptor_limit():
    with close_wait(211) as sockets:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = len(os.listdir("/proc/self/fd")) - 1
        reports = []
        for limit in (used * 4, used * 100 // 85, used + 9):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            reports.append(check())
        higher = limits_after_the_fix(only_finding(reports[2], "close-wait-near-descriptor-limit"))
        assert higher == [(2 * limit, hard), (limit, hard)]
        for sock in sockets:
            sock.close()
        reports.append(check())
        return [severities(report, "close-wait-near-descriptor-limit") for report in reports], reports[2]


def limits_after_the_fix(finding) -> list[tuple[int, int]]:
    """Our soft and hard limit after the command that raises it, and after the one that undoes it."""
    fix = next(fix for fix in finding["fixes"] if fix["undo"])
    limits = []
    for words in (fix["commands"][0].split(), fix["undo_commands"][0].split()):
        subprocess.run(words, check=True, capture_output=True, timeout=120)
        limits.append(resource.getrlimit(resource.RLIMIT_NOFILE))
    return limits


def test_a_leak_that_nears_the_descriptor_limit_becomes_urgent(in_namespace):
    seen, urgent = in_namespace(near_descriptor_limit)
    assert seen == [[], ["warning"], ["critical"], []]
    finding = only_finding(urgent, "close-wait-near-descriptor-limit")
    assert evidence(finding, "close_wait.owned") == 211


# --- FIN_WAIT_2 ---


def test_half_closed_sockets_that_a_process_keeps_are_found(in_namespace):
    name = "fin-wait-2-held-open"
    sick, shipped, counted = in_namespace(disease_of, LAB[name], name, "ss -Htn state fin-wait-2")
    assert findings(shipped, name) == []
    assert (sick["severity"], sick["scope"], counted) == ("warning", "process", 113)
    assert "holds 113 sockets in FIN_WAIT_2" in sick["summary"]


def orphans():
    with fin_wait_2_orphans(113):
        return check(limits={"fin-wait-2-held-open": {"min_age": 0}}), lines_of("ss -Htn state fin-wait-2")


def test_half_closed_sockets_that_no_process_holds_are_not_held_open(in_namespace):
    report, counted = in_namespace(orphans)
    assert counted == 113
    assert findings(report, "fin-wait-2-held-open") == []


def test_orphans_whose_peers_do_not_close_are_found_with_their_peers(in_namespace):
    name = "fin-wait-2-orphans-pile-up"
    sick, shipped, counted = in_namespace(disease_of, LAB[name], name, "ss -Htn state fin-wait-2")
    assert findings(shipped, name) == []
    assert (sick["severity"], counted, evidence(sick, "fin_wait_2.orphaned")) == ("warning", 211, 211)
    assert "127.0.0.1" in sick["summary"]


# --- fin-wait-1-stuck and last-ack-stuck ---


@pytest.mark.parametrize("state", ["fin-wait-1", "last-ack"])
def test_closing_connections_whose_peers_are_silent_are_found(in_namespace, state):
    name = f"{state}-stuck"
    sick, _, counted = in_namespace(disease_of, LAB[name], name, f"ss -Htn state {state}")
    lasting = f"{state.replace('-', '_')}.lasting"
    assert (sick["severity"], counted, evidence(sick, lasting)) == ("warning", 23, 23)


def closing_at_once():
    with fin_wait_1_stuck(23):
        return check("--window", "0")


def test_one_look_at_connections_that_close_now_is_no_finding(in_namespace):
    report = in_namespace(closing_at_once)
    assert findings(report, "fin-wait-1-stuck") == []


def draining():
    with closed_before_sent(13, reading=True) as peers:
        report = check()
        left = lines_of("ss -Htn state fin-wait-1")
        for peer in peers:
            peer.close()
    return report, left


def test_data_that_drains_slowly_after_close_is_no_finding(in_namespace):
    report, left = in_namespace(draining)
    assert left == 13
    assert findings(report, "fin-wait-1-stuck") == []


def test_peers_that_do_not_read_keep_closed_connections_from_ending(in_namespace):
    scenario = LAB["zero-window-orphan"]
    name = "fin-wait-1-stuck"
    sick, shipped, left = in_namespace(disease_of, scenario, name, "ss -Htn state fin-wait-1")
    assert (left, evidence(sick, "fin_wait_1.lasting")) == (13, 0)
    assert evidence(sick, "older(fin_wait_1.closed_window_ages, 500 ms)") == 13
    assert findings(shipped, name) == []  # a client that reads in gulps looks the same for seconds


# --- time-wait-table-nearly-full ---


def table_of_a_hundred():
    write_sysctl("net.ipv4.tcp_max_tw_buckets", 100)
    with time_wait(79):
        before = check()
    with time_wait(4):
        return before, check(), lines_of("ss -Htn state time-wait")


def test_a_table_of_time_wait_that_is_nearly_full_is_found(in_namespace):
    before, after, counted = in_namespace(table_of_a_hundred)
    sick = only_finding(after, "time-wait-table-nearly-full")
    assert findings(before, "time-wait-table-nearly-full") == []
    assert (sick["severity"], counted, evidence(sick, "sockstat.TCP.tw")) == ("warning", 83, 83)


def test_a_table_of_time_wait_that_is_full_takes_no_more(in_namespace):
    name = "time-wait-table-nearly-full"
    sick, _, counted = in_namespace(disease_of, LAB[name], name, "ss -Htn state time-wait")
    assert (counted, evidence(sick, "sockstat.TCP.tw")) == (100, 100)


def test_clients_stuck_at_a_server_of_this_host_that_does_not_accept_lead_to_it(in_namespace):
    sick, *_ = in_namespace(disease_of, LAB["fin-wait-1-at-a-full-queue"], "fin-wait-1-stuck")
    assert "12 of them at a full accept queue of this host" in sick["summary"]
    assert re.search(r"whose queue is full: 127\.0\.0\.1:\d+\.", sick["explanation"])
