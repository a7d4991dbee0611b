"""The rules of closing: each disease is made with real sockets and found; the healthy variant is not."""

import os
import resource
import subprocess

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.closing import (
    close_wait,
    close_wait_not_accepted,
    fin_wait_1_stuck,
    fin_wait_2_held,
    fin_wait_2_orphans,
    last_ack_stuck,
    time_wait,
)
from tcpdoctor.lab.listening import accept_all
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.pairs import count_sockets, wait_until
from tcpdoctor.lab.silence import hear_again
from tcpdoctor.lab.traffic import closed_before_sent

from .checks import check, evidence, findings, lines_of, only_finding, severities, the_finding

OLD_AFTER_A_SECOND = {"min_age": 0.5}


# --- close-wait-leak ---


def leak():
    with close_wait(113, read_end=37) as sockets:
        young = check()
        old = check(limits={"close-wait-leak": OLD_AFTER_A_SECOND})
        counted = lines_of(f"ss -Htnp state close-wait | grep 'pid={os.getpid()},'")
        for sock in sockets:
            sock.close()
        cured = check(limits={"close-wait-leak": OLD_AFTER_A_SECOND})
    return young, old, counted, cured, os.getpid()


def test_sockets_that_a_process_does_not_close_are_a_leak_once_they_are_old(in_namespace):
    young, old, counted, cured, pid = in_namespace(leak)
    finding = only_finding(old, "close-wait-leak")
    assert findings(young, "close-wait-leak") == []
    assert (finding["severity"], finding["scope"], finding["subject"]["pid"]) == ("warning", "process", pid)
    assert counted == 113
    assert "113 sockets" in finding["summary"]
    assert "37 read to the end-of-file" in finding["explanation"]
    assert findings(cured, "close-wait-leak") == []


# --- close-wait-not-accepted ---


def not_accepted():
    with close_wait_not_accepted(23) as server:
        young = check()
        old = check(limits={"close-wait-not-accepted": OLD_AFTER_A_SECOND})
        sick = the_finding(old, "close-wait-not-accepted")
        for connection in accept_all(server):
            connection.close()
        cured = check(limits={"close-wait-not-accepted": OLD_AFTER_A_SECOND})
    return young, old, sick, cured


def test_clients_that_gave_up_before_accept_show_a_server_that_does_not_accept(in_namespace):
    young, old, sick, cured = in_namespace(not_accepted)
    assert findings(young, "close-wait-not-accepted") == []
    assert (sick["severity"], sick["scope"]) == ("critical", "listener")
    assert "23 clients gave up" in sick["summary"]
    assert findings(old, "close-wait-leak") == []
    assert findings(cured, "close-wait-not-accepted") == []


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
    command = next(line for line in fix["do"].splitlines() if line.startswith("    prlimit"))
    limits = []
    for words in (command.split(), fix["undo"].split()):
        subprocess.run(words, check=True, capture_output=True)
        limits.append(resource.getrlimit(resource.RLIMIT_NOFILE))
    return limits


def test_a_leak_that_nears_the_descriptor_limit_becomes_urgent(in_namespace):
    seen, urgent = in_namespace(near_descriptor_limit)
    assert seen == [[], ["warning"], ["critical"], []]
    finding = only_finding(urgent, "close-wait-near-descriptor-limit")
    assert evidence(finding, "close_wait.owned") == 211


# --- fin-wait-2-held-open ---


def held_open():
    with fin_wait_2_held(113) as sockets:
        young = check()
        old = check(limits={"fin-wait-2-held-open": OLD_AFTER_A_SECOND})
        sick = the_finding(old, "fin-wait-2-held-open")
        for sock in sockets:
            sock.close()
        cured = check(limits={"fin-wait-2-held-open": OLD_AFTER_A_SECOND})
        orphans = lines_of("ss -Htn state fin-wait-2")
    return young, sick, cured, orphans


def test_half_closed_sockets_that_a_process_keeps_are_found_and_orphans_are_not(in_namespace):
    young, sick, cured, orphans = in_namespace(held_open)
    assert findings(young, "fin-wait-2-held-open") == []
    assert (sick["severity"], sick["scope"]) == ("warning", "process")
    assert "holds 113 sockets in FIN_WAIT_2" in sick["summary"]
    assert orphans == 113
    assert findings(cured, "fin-wait-2-held-open") == []


# --- fin-wait-2-orphans-pile-up ---


def orphans_pile_up():
    few = {"fin-wait-2-orphans-pile-up": {"min_sockets": 211}}
    with fin_wait_2_orphans(211) as peers:
        shipped = check()
        sick = the_finding(check(limits=few), "fin-wait-2-orphans-pile-up")
        counted = lines_of("ss -Htn state fin-wait-2")
        for peer in peers:
            peer.close()
        cured = check(limits=few)
    return shipped, sick, counted, cured


def test_orphans_whose_peers_do_not_close_are_found_with_their_peers(in_namespace):
    shipped, sick, counted, cured = in_namespace(orphans_pile_up)
    assert findings(shipped, "fin-wait-2-orphans-pile-up") == []
    assert (sick["severity"], counted, evidence(sick, "fin_wait_2.orphaned")) == ("warning", 211, 211)
    assert "127.0.0.1" in sick["summary"]
    assert findings(cured, "fin-wait-2-orphans-pile-up") == []


# --- fin-wait-1-stuck and last-ack-stuck ---


def silent_peers():
    with fin_wait_1_stuck(23, unsent=100) as one, last_ack_stuck(29) as other:
        report = check()
        sick = [the_finding(report, rule) for rule in ("fin-wait-1-stuck", "last-ack-stuck")]
        counted = [lines_of(f"ss -Htn state {state}") for state in ("fin-wait-1", "last-ack")]
        single = check("--window", "0")
        for peer in [*one, *other]:
            hear_again(peer)
        wait_until(lambda: lines_of("ss -Htn state fin-wait-1 state last-ack") == 0, "answers", 10)
        cured = check()
    return sick, counted, single, cured


def test_closing_connections_whose_peers_are_silent_are_found(in_namespace):
    (fin_wait_1, last_ack), counted, _, cured = in_namespace(silent_peers)
    assert counted == [23, 29]
    assert (fin_wait_1["severity"], evidence(fin_wait_1, "fin_wait_1.lasting")) == ("warning", 23)
    assert (last_ack["severity"], evidence(last_ack, "last_ack.lasting")) == ("warning", 29)
    assert findings(cured, "fin-wait-1-stuck") == findings(cured, "last-ack-stuck") == []


def closing_at_once():
    with fin_wait_1_stuck(23):
        return check("--window", "0")


def test_one_look_at_connections_that_close_now_is_no_finding(in_namespace):
    report = in_namespace(closing_at_once)
    assert findings(report, "fin-wait-1-stuck") == []


def closed_with_data_unsent(reading):
    with closed_before_sent(13, reading=reading) as peers:
        if not reading:
            probed = "ss -Htni state fin-wait-1 | grep 'backoff:[2-9]'"  # the first probe moves some bytes
            wait_until(lambda: lines_of(probed) == 13, "13 closed windows")
        report = check()
        left = lines_of("ss -Htn state fin-wait-1")
        for peer in peers:
            peer.close()
    return report, left


def test_peers_that_do_not_read_keep_closed_connections_from_ending(in_namespace):
    report, left = in_namespace(closed_with_data_unsent, reading=False)
    finding = only_finding(report, "fin-wait-1-stuck")
    assert (left, evidence(finding, "fin_wait_1.lasting")) == (13, 13)


def test_data_that_drains_slowly_after_close_is_no_finding(in_namespace):
    report, left = in_namespace(closed_with_data_unsent, reading=True)
    assert left == 13
    assert findings(report, "fin-wait-1-stuck") == []


# --- time-wait-table-nearly-full ---


def table_nearly_full():
    write_sysctl("net.ipv4.tcp_max_tw_buckets", 100)
    with time_wait(79) as server:
        before = check()
        port = server.getsockname()[1]
    with time_wait(4):
        sick = the_finding(check(), "time-wait-table-nearly-full")
        counted = lines_of("ss -Htn state time-wait")
        write_sysctl("net.ipv4.tcp_max_tw_buckets", 200)
        cured = check()
    return before, sick, counted, cured, count_sockets(TcpState.LISTEN, port)


def test_a_table_of_time_wait_that_is_nearly_full_is_found(in_namespace):
    before, sick, counted, cured, listening = in_namespace(table_nearly_full)
    assert (findings(before, "time-wait-table-nearly-full"), listening) == ([], 0)
    assert (sick["severity"], counted, evidence(sick, "sockstat.TCP.tw")) == ("warning", 83, 83)
    assert findings(cured, "time-wait-table-nearly-full") == []
