"""Rules about connections that stay open: each disease is found and its cure seen, health is not."""

import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.evaluate import diagnose
from tcpdoctor.kernel.closer_look import look_closer
from tcpdoctor.kernel.live import take_samples
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sock_diag import ROW, Dump, Request
from tcpdoctor.kernel.sock_diag_rows import (
    WITH_INFO,
    add_established,
    ask_again,
    decode_row,
    name_from,
    name_of,
)
from tcpdoctor.kernel.sockets import take_census
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.tally import EstablishedTally
from tcpdoctor.lab.catalogue import LAB
from tcpdoctor.lab.connecting import connections
from tcpdoctor.lab.keepalive import (
    THERE,
    closed_windows,
    connected_to_itself,
    dead_clients,
    dead_server,
    half_open,
    idle_connections,
    read_what_is_there,
    requests_that_never_left,
)
from tcpdoctor.lab.loss import left_unread
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.packets import go_deaf, hear_again
from tcpdoctor.lab.pairs import (
    allow_descriptors,
    connect,
    connect_pair,
    count_sockets,
    let_pass,
    listen,
    steady_traffic,
    wait_until,
)

from .checks import check, evidence, findings, lines_of, only_finding, the_finding
from .refusal import needs_known_machine, refuse_netlink
from .scenes import disease_of

SERVER, CLIENTS = "destination-stopped-answering", "clients-stopped-answering"
READERS, IDLE, ITSELF = "peers-do-not-read", "idle-connections-without-keepalive", "connected-to-itself"
PILE = "half-open-connections-pile-up"
SOON = {rule: {"min_age": 1.0} for rule in (SERVER, CLIENTS)} | {READERS: {"min_age": 0.5}}
IDLE_SOON = {IDLE: {"min_age": 1 / 3600}}
NOBODY = 65534
EPHEMERAL = (32768, 60999)


def look(limits=None):
    """One look: these rules need no second sample."""
    return check("--window", "0", limits=limits)


# --- destination-stopped-answering and clients-stopped-answering ---


def a_server_that_vanished():
    with dead_server(13) as peers:
        shipped = look()
        sick = the_finding(look(SOON), SERVER)
        report = look(SOON)
        retransmitting = lines_of(r"ss -Htno state established | grep -E 'timer:\(on,[^)]*,[3-9]\)'")
        for peer in peers:
            hear_again(peer)
        wait_until(lambda: lines_of("ss -Htno state established | grep 'timer:(on'") == 0, "answers", 20)
        cured = look(SOON)
    return shipped, sick, report, retransmitting, cured, os.getpid()


def test_a_pool_whose_server_vanished_is_found_with_who_waits(in_namespace):
    shipped, sick, report, retransmitting, cured, pid = in_namespace(a_server_that_vanished)
    assert findings(shipped, SERVER) == []  # an outage of seconds is none
    assert (sick["severity"], sick["scope"], retransmitting) == ("warning", "destination", 13)
    assert evidence(sick, "ports.used") == 13
    assert f"({pid}): 13" in sick["summary"]
    assert findings(report, CLIENTS) == []
    assert findings(cured, SERVER) == []


def clients_that_vanished():
    with dead_clients(23) as clients:
        sick = the_finding(look(SOON), CLIENTS)
        report = look(SOON)
        for client in clients:
            hear_again(client)
        wait_until(lambda: lines_of("ss -Htno state established | grep 'timer:(on'") == 0, "answers", 20)
        return sick, report, look(SOON)


def test_many_clients_that_vanish_at_once_are_found(in_namespace):
    sick, report, cured = in_namespace(clients_that_vanished)
    assert (sick["severity"], sick["scope"]) == ("warning", "host")
    assert "23 connections that were accepted here" in sick["summary"]
    assert "127.0.0.1 (23)" in sick["summary"]
    assert findings(report, SERVER) == []
    assert findings(cured, CLIENTS) == []


def a_large_outage():
    with dead_server(1201):
        finding = the_finding(look(SOON), SERVER)
        return finding, evidence(finding, "ports.used")


def test_an_outage_of_more_connections_than_are_looked_at_is_found_all_the_same(in_namespace):
    finding, used = in_namespace(a_large_outage)
    assert (finding["severity"], used) == ("warning", 1201)
    assert re.match(r"between 11\d\d and 1201 established connections", finding["summary"])


def lossy_traffic():
    with steady_traffic(17, lost_of_256=25):
        return check(limits=SOON)


def test_a_path_that_loses_a_tenth_is_no_dead_peer(in_namespace):
    report = in_namespace(lossy_traffic)
    assert findings(report, SERVER) == findings(report, CLIENTS) == []


# --- peers-do-not-read ---


def readers_that_stopped():
    with closed_windows(11) as readers:
        shipped = look()
        sick = the_finding(look(SOON), READERS)
        counted = lines_of("ss -Htno state established | grep 'timer:(persist'")
        read_what_is_there(readers)
        return shipped, sick, counted, look(SOON)


def test_peers_that_do_not_read_are_found_once_it_has_lasted(in_namespace):
    shipped, sick, counted, cured = in_namespace(readers_that_stopped)
    assert findings(shipped, READERS) == []
    assert (sick["severity"], counted) == ("warning", 11)
    assert "11 established connections" in sick["summary"]
    assert findings(cured, READERS) == []


def probes_in_vain():
    with closed_windows(11) as readers:
        for reader in readers:
            go_deaf(reader)
        tries = "ss -Htno state established | grep -E 'timer:.persist,[^)]*,[3-9]'"
        wait_until(lambda: lines_of(tries) == 11, "probes without answer", 20)
        return look(SOON), os.getpid()


def test_a_peer_that_fell_silent_with_its_window_closed_is_no_peer_that_does_not_read(in_namespace):
    report, pid = in_namespace(probes_in_vain)
    assert findings(report, READERS) == []
    assert f"({pid}): 11" in the_finding(report, SERVER)["summary"]


def own_firewall():
    with requests_that_never_left(13) as (firewall, peers):
        sick = the_finding(look(SOON), SERVER)
        report = look(SOON)
        listed = subprocess.run(
            [sys.executable, "-m", "tcpdoctor", "sockets", "--state", "established"],
            capture_output=True, text=True, check=True, timeout=120,
        ).stdout  # fmt: skip
        firewall.close()
        wait_until(lambda: all(peer.recv(64) for peer in peers), "the requests arrive", 20)
        return sick, report, " ".join(listed.split()), look(SOON)


def test_what_the_own_firewall_drops_is_not_blamed_on_readers(in_namespace):
    sick, report, listed, cured = in_namespace(own_firewall)
    assert (sick["severity"], evidence(sick, "ports.used")) == ("warning", 13)
    assert findings(report, READERS) == []
    assert findings(cured, SERVER) == findings(cured, READERS) == []
    assert re.search(r"[3-9] probes without answer, window probe in", listed)
    assert "retransmission" not in listed


# --- idle-connections-without-keepalive ---


def idle_for_a_second(keepalive: bool):
    with idle_connections(13, keepalive=keepalive) as pairs:
        began = time.monotonic()
        wait_until(lambda: time.monotonic() > began + 1.2, "a second has passed")
        report = look(IDLE_SOON)
        shipped = look()
        timers = lines_of("ss -Htno state established | grep -c timer: | grep -x 26")
        return report, shipped, timers, len(pairs)


def test_idle_connections_without_keepalive_are_told_of(in_namespace):
    report, shipped, with_timer, _ = in_namespace(idle_for_a_second, keepalive=False)
    finding = only_finding(report, IDLE)
    assert (finding["severity"], with_timer) == ("info", 0)
    assert "26 of 26 established connections" in finding["summary"]
    assert f"{THERE}" in finding["summary"]
    assert report["exit_code"] == 0
    assert findings(shipped, IDLE) == []


def test_idle_connections_with_keepalive_are_well(in_namespace):
    report, _, with_timer, pairs = in_namespace(idle_for_a_second, keepalive=True)
    assert (with_timer, pairs) == (1, 13)
    assert findings(report, IDLE) == []


def idle_on_loopback():
    with connections(13):
        began = time.monotonic()
        wait_until(lambda: time.monotonic() > began + 1.2, "a second has passed")
        return look(IDLE_SOON)


def test_connections_within_the_host_need_no_keepalive(in_namespace):
    assert findings(in_namespace(idle_on_loopback), IDLE) == []


# --- connected-to-itself ---


def itself():
    write_sysctl("net.ipv4.ip_local_port_range", "40000 40015")
    with connected_to_itself(40000):
        report = look()
        alike = lines_of("ss -Htn state established | awk '$3 == $4'")
        sick = the_finding(report, ITSELF)
        taken = socket.socket()
        with taken:
            refused = ""
            try:
                taken.bind(("127.0.0.1", 40000))
            except OSError as error:
                refused = error.strerror or ""
    return sick, alike, refused, look()


def test_a_client_that_is_connected_to_itself_is_found_while_its_server_cannot_start(in_namespace):
    sick, alike, refused, cured = in_namespace(itself)
    assert (sick["severity"], alike, refused) == ("critical", 1, "Address already in use")
    assert "127.0.0.1:40000" in sick["summary"]
    assert findings(cured, ITSELF) == []


# --- half-open-connections-pile-up ---


def half_open_connections():
    with half_open(59, backlog=64) as (server, clients):
        port = server.getsockname()[1]
        repeated = "ss -Htno state syn-recv | grep -E 'timer:.on,[^)]*,[1-9]'"
        wait_until(lambda: lines_of(repeated) == 59, "SYN+ACKs sent again")
        sick = the_finding(look(), PILE)
        counted = lines_of("ss -Htn state syn-recv")
        for client in clients:
            hear_again(client)
        wait_until(lambda: count_sockets(TcpState.SYN_RECV, port) == 0, "handshakes", 20)
        return sick, counted, look()


def test_a_queue_of_half_open_connections_that_is_nearly_full_is_found(in_namespace):
    sick, counted, cured = in_namespace(half_open_connections)
    assert (sick["severity"], sick["scope"], counted) == ("warning", "listener", 59)
    assert evidence(sick, "syn_queue.length") == 59
    assert evidence(sick, "syn_queue.limit") == 64
    assert findings(cured, PILE) == []


# --- what the facts stand on ---


def begins_of_a_listing():
    """Of the first quarter of a listing, how many of 4 clients' connections of 500 are in it."""
    allow_descriptors(5000)
    with ExitStack() as stack:
        servers = [listen(stack) for _ in range(4)]
        for server in servers:
            for _ in range(500):
                connect_pair(stack, server)
        ports = [server.getsockname()[1] for server in servers]
        first: list[int] = []
        tally = EstablishedTally[bytes]()
        for rows in Dump(Request(1 << TcpState.ESTABLISHED)):
            first += [int.from_bytes(rows.data[at + 22 : at + 24], "big") for at in rows.offsets]
            add_established(tally, rows)
        quarter = first[: len(first) // 4]
        sampled = [row.remote.port for row in look_closer(tally).sample.connections]
        return [quarter.count(port) for port in ports], [sampled.count(port) for port in ports], len(first)


def test_the_sample_is_fair_to_a_client_whose_connections_lie_side_by_side(in_namespace):
    begin, sampled, total = in_namespace(begins_of_a_listing)
    # 256 of 4,000: 32 to each server, with a standard deviation of 5.3; the beginning of the listing
    # may hold all or none of a client's connections to a server (inet_ehashfn(), Linux 6.15)
    assert total == 4000
    assert all(8 <= number <= 60 for number in sampled), (begin, sampled)


def a_closer_look():
    with dead_server(7) as _, closed_windows(5):
        found = take_census(EPHEMERAL, (), established=True).established
        return (
            [
                (row.retransmits >= 3, row.info.unacked, row.send_queue)
                for row in found.unanswered.connections
            ],
            [row.memory for row in found.closed_window.connections],
            [row.send_queue for row in found.closed_window.connections],
        )


def test_suspects_are_known_with_tcp_info_and_memory(in_namespace):
    unanswered, memory, queues = in_namespace(a_closer_look)
    assert unanswered == [(True, 1, len(b"request"))] * 7
    assert len(memory) == 5
    for found, queued in zip(memory, queues, strict=True):
        assert found.send >= queued > 100_000  # headers and pages are counted as well
        assert found.receive == 0


def asked_about_one_by_one():
    with ExitStack() as stack:
        server = listen(stack)
        kept, closed = connect_pair(stack, server), connect_pair(stack, server)
        rows: dict[int, bytes] = {}
        for found in Dump(Request(1 << TcpState.ESTABLISHED)):
            for at in found.offsets:
                row = bytes(found.data[at : at + ROW])
                rows[int.from_bytes(row[20:22], "big")] = row
        here, gone = (name_of(rows[pair[0].getsockname()[1]]) for pair in (kept, closed))
        for end in closed:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()
        another = here[0], here[1][:-8] + bytes(8)  # the same ends, and the cookie of another socket
        answers = [decode_row(row) for row in ask_again([here, gone, another], WITH_INFO)]
        return [row.local.port for row in answers], kept[0].getsockname()[1], name_from(answers[0]) == here


def test_single_sockets_are_asked_about_by_their_cookie_and_those_that_are_gone_are_left_out(in_namespace):
    ports, port, same_name = in_namespace(asked_about_one_by_one)
    assert (ports, same_name) == ([port], True)


def without_netlink():
    with dead_server(7), closed_windows(5):
        refuse_netlink()
        return take_census(EPHEMERAL, (), established=True)


@needs_known_machine
def test_where_netlink_is_refused_proc_still_shows_suspects_and_says_what_it_cannot_tell(in_namespace):
    census = in_namespace(without_netlink)
    found = census.established
    assert census.source == "/proc/net/tcp"
    assert (found.retransmitting, found.probing, found.no_timer) == (7, 5, 12)
    assert len(found.unanswered.connections) == 7
    assert {row.info for row in found.closed_window.connections} == {
        Missing(
            "netlink gave no answer (refused by a sandbox, or no tcp_diag), "
            "and /proc/net/tcp does not tell it"
        )
    }


def seen_by_nobody(folder):
    config = folder / "config.toml"
    config.write_text(
        "".join(f"[rules.{rule}.limits]\nmin_age = 1\n" for rule in (SERVER, CLIENTS)), encoding="ascii"
    )
    rules = load_rules(config=config).rules
    with dead_server(5), dead_clients(11):
        by_root = diagnose(rules, take_samples(0.0))  # imports what lies where only root may read
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(writer, 3)
            os.closerange(4, 1024)  # what was inherited would be its own
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(3, json.dumps(summaries(diagnose(rules, take_samples(0.0)))).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            by_nobody = json.loads(stream.read())
        os.waitpid(child, 0)
    return summaries(by_root), by_nobody


def summaries(diagnosis) -> dict[str, str]:
    return {finding.rule: finding.summary for finding in diagnosis.findings}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up being root")
def test_without_root_the_same_is_found_and_owners_are_said_to_be_hidden(in_namespace, tmp_path):
    by_root, by_nobody = in_namespace(seen_by_nobody, tmp_path)
    for rule in (SERVER, CLIENTS):
        assert "unknown: " not in by_root[rule]
        assert "run as root" in by_nobody[rule]


def lowered_while_armed():
    with ExitStack() as stack:
        client, _ = connect_pair(stack, listen(stack))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        write_sysctl("net.ipv4.tcp_keepalive_time", 60)
        later, _ = connect_pair(stack, listen(stack))
        later.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sample = take_census(EPHEMERAL, (), established=True).established.sample
        expires = {row.local.port: row.expires for row in sample.connections if row.expires}
        return expires[client.getsockname()[1]], expires[later.getsockname()[1]]


def test_a_keepalive_timer_that_runs_keeps_its_time_when_the_sysctl_is_lowered(in_namespace):
    armed, fresh = in_namespace(lowered_while_armed)
    assert armed > 7000
    assert fresh <= 60


# --- process-does-not-read ---

UNREAD = "process-does-not-read"
UNREAD_SOON = {UNREAD: {"min_age": 0.5}}


def test_a_process_that_does_not_read_is_found_with_what_waits(in_namespace):
    sick, shipped, counted = in_namespace(
        disease_of, LAB[UNREAD], UNREAD, "ss -Htn state established | awk '$1 == 10007'"
    )
    assert (sick["severity"], sick["scope"], counted) == ("warning", "process", 13)
    assert evidence(sick, "older(unread.owned_ages, 500 ms)") == 13
    assert "(127 KiB in all" in sick["summary"]
    assert findings(shipped, UNREAD) == []


def both_ends_of_closed_windows():
    with closed_windows(11):
        let_pass(0.7)
        return check(limits=SOON | UNREAD_SOON), os.getpid()


def test_where_both_ends_are_here_the_one_that_does_not_read_is_named(in_namespace):
    report, pid = in_namespace(both_ends_of_closed_windows)
    finding = only_finding(report, UNREAD)
    assert finding["subject"]["pid"] == pid
    assert evidence(finding, "older(unread.owned_ages, 500 ms)") == 11


def unread_and_well():
    """Session tickets in a client's pool, a connection nobody has accepted, and data that keeps coming."""
    allow_descriptors(256)
    with ExitStack() as stack:
        server = listen(stack)
        for _ in range(17):
            _, accepted = connect_pair(stack, server)
            accepted.sendall(b"t" * 512)
        for _ in range(17):
            connect(stack, server).sendall(b"request")
        let_pass(0.7)
        return check(limits=UNREAD_SOON)


def test_what_a_pool_leaves_unread_and_what_is_not_accepted_is_no_process_that_does_not_read(in_namespace):
    assert findings(in_namespace(unread_and_well), UNREAD) == []


def unread_as_seen_by_nobody(folder):
    config = folder / "config.toml"
    config.write_text(f"[rules.{UNREAD}.limits]\nmin_age = 0.5\n", encoding="ascii")
    rules = [rule for rule in load_rules(config=config).rules if rule.id == UNREAD]
    with left_unread(13, size=100):
        let_pass(0.7)
        by_root = diagnose(rules, take_samples(0.0))  # imports what lies where only root may read
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(writer, 3)
            os.closerange(4, 1024)  # what was inherited would be its own
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            seen = diagnose(rules, take_samples(0.0))
            os.write(3, json.dumps([len(seen.findings), [each.reason for each in seen.unchecked]]).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            by_nobody = json.loads(stream.read())
        os.waitpid(child, 0)
    return len(by_root.findings), by_nobody


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up being root")
def test_without_root_it_is_an_open_question_who_does_not_read(in_namespace, tmp_path):
    by_root, (found, reasons) = in_namespace(unread_as_seen_by_nobody, tmp_path)
    assert (by_root, found) == (1, 0)
    (reason,) = reasons
    assert "run as root" in reason
