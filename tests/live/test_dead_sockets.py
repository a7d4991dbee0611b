"""Connections that are over while their descriptor is held: the sockets are asked, and stay as they are."""

import fcntl
import os
import socket
import struct
import subprocess
import sys
from contextlib import ExitStack

import pytest

from tcpdoctor.kernel.counters import FEWEST_UNLISTED, may_hold_dead_sockets, read_sockstat
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.unlisted import (
    ask_process,
    find_dead_sockets,
)
from tcpdoctor.lab.catalogue import LAB
from tcpdoctor.lab.closing import ended_and_not_closed
from tcpdoctor.lab.pairs import allow_descriptors, connect_pair, listen, wait_until

from .checks import check, evidence, findings, lines_of
from .scenes import disease_of

NOBODY = 65534
HELD, NEAR = "ended-connections-not-closed", "ended-connections-near-limit"


def asked():
    with ended_and_not_closed(67) as sockets:
        flags = [fcntl.fcntl(sock, fcntl.F_GETFL) for sock in sockets]
        found = ask_process(os.getpid())
        same = [fcntl.fcntl(sock, fcntl.F_GETFL) for sock in sockets] == flags
        own = sorted((sock.fileno(), os.fstat(sock.fileno()).st_ino) for sock in sockets)
        listed = lines_of("ss -Htan | grep -v LISTEN | grep -v TIME-WAIT")
        held = len(os.listdir("/proc/self/fd"))
    return found, own, listed, same, held, len(os.listdir("/proc/self/fd"))


def test_sockets_that_no_list_shows_are_found_by_their_descriptors(in_namespace):
    found, own, listed, same, held, after = in_namespace(asked)
    assert sorted((row.fd, row.inode) for row in found.found) == own
    assert all(0 <= row.silent < 30 for row in found.found)
    assert (listed, same, found.every) == (0, True, 1)
    assert held - after == 68  # nothing of ours stays open


def reset_by_their_peers(family, host):
    allow_descriptors(512)
    linger = struct.pack("ii", 1, 0)
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server((host, 0), family=family))
        clients = [stack.enter_context(socket.create_connection(server.getsockname()[:2])) for _ in range(67)]
        held = [stack.enter_context(server.accept()[0]) for _ in clients]
        ends = {sock.fileno(): sock.getpeername()[:2] for sock in held}
        for client in clients:
            client.sendall(b"x")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            client.close()
        wait_until(lambda: len(ask_process(os.getpid()).found) == 67, "the resets")
        return ends, ask_process(os.getpid())


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_peers_of_connections_that_are_over_are_known(in_namespace, family, host):
    ends, found = in_namespace(reset_by_their_peers, family, host)
    assert {row.fd: row.peer and tuple(row.peer) for row in found.found} == ends


def alive_or_never_connected():
    allow_descriptors(512)
    with ExitStack() as stack:
        server = listen(stack)
        for _ in range(71):
            connect_pair(stack, server)
            fresh = stack.enter_context(socket.socket())
            fresh.connect_ex(("127.0.0.1", 1))
            stack.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 6))  # as TCP has: 6
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        return ask_process(os.getpid()), find_dead_sockets(1.0, [os.getpid()])


def test_sockets_in_use_refused_or_of_other_kinds_are_not_over(in_namespace):
    found, use = in_namespace(alive_or_never_connected)
    assert (found.found, use.by_pid, use.complete) == ((), {}, True)
    assert found.looked_at >= 71 * 5


def many():
    with ended_and_not_closed(1531) as sockets:
        return ask_process(os.getpid()), sum(sock.fileno() % 2 for sock in sockets)


def test_of_very_many_one_in_so_many_is_asked_also_where_those_of_one_side_alternate(in_namespace):
    found, odd = in_namespace(many)
    assert not 300 < odd < 1231
    assert found.every == 2
    assert abs(len(found.found) * 2 - 1531) <= 4


def whether_worth_a_look():
    before = may_hold_dead_sockets(read_sockstat())
    with ended_and_not_closed(FEWEST_UNLISTED + 3):
        during = may_hold_dead_sockets(read_sockstat())
    return before, during


def test_the_kernels_counts_say_where_there_is_nothing_to_look_for(in_namespace):
    assert in_namespace(whether_worth_a_look) == (False, True)
    assert may_hold_dead_sockets(Missing("no /proc"))


def inherited():
    with ended_and_not_closed(67):
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, close_fds=False
        )
        try:
            heirs = find_dead_sockets(1.0, sorted([os.getpid(), child.pid]))
        finally:
            child.kill()
            child.wait()
    return heirs, os.getpid()


def test_a_socket_that_was_inherited_counts_once(in_namespace):
    heirs, pid = in_namespace(inherited)
    assert {holder: len(dead.found) for holder, dead in heirs.by_pid.items()} == {pid: 67}


def test_a_process_that_keeps_ended_connections_is_found(in_namespace):
    sick, shipped, counted = in_namespace(disease_of, LAB[HELD], HELD, "ss -Htan state established")
    assert (sick["severity"], sick["scope"], counted) == ("warning", "process", 0)
    assert evidence(sick, "descriptors.dead_sockets") == 113
    assert len(findings(shipped, HELD)) == 1


def test_near_the_limit_there_is_one_finding_and_it_is_critical(in_namespace):
    sick, shipped, _ = in_namespace(disease_of, LAB[NEAR], NEAR)
    assert sick["severity"] == "critical"
    rules = {finding["rule"] for finding in shipped["findings"]}
    assert rules & {NEAR, HELD, "descriptors-nearly-used-up"} == {NEAR}


def one_look():
    with ended_and_not_closed(113):
        return check("--window", "0", "--only", HELD)


def test_one_look_does_not_take_sockets_for_leaked_that_ended_just_now(in_namespace):
    report = in_namespace(one_look)
    assert report["findings"] == []
    (unchecked,) = report["unchecked"]
    assert "needs two samples" in unchecked["reason"]


def without_time_or_privilege():
    with ended_and_not_closed(67):
        pid = os.getpid()
        hurried = find_dead_sockets(0.0)
        child = os.fork()
        if child == 0:
            os.setresuid(NOBODY, NOBODY, NOBODY)
            stranger = find_dead_sockets(1.0, [pid])
            os._exit(0 if isinstance(stranger.complete, Missing) and not stranger.by_pid else 1)
        _, status = os.waitpid(child, 0)
    return hurried, os.waitstatus_to_exitcode(status)


def test_what_could_not_be_asked_is_said(in_namespace):
    hurried, stranger = in_namespace(without_time_or_privilege)
    assert hurried.by_pid == {}
    assert "the time budget of 0 s ran out after 0 of" in hurried.complete.reason
    assert stranger == 0
