"""Of a crowd of sockets those of one process, or towards one peer, are counted whole, whatever the room."""

import os
import socket
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from resource import RLIMIT_NOFILE, getrlimit

import pytest

from tcpdoctor.answers.process import look_at_processes
from tcpdoctor.kernel.listing import lists_bound_sockets
from tcpdoctor.kernel.live import take_snapshot, with_known_owners
from tcpdoctor.kernel.processes import read_process
from tcpdoctor.kernel.sockets import SocketFilter, Way, read_connections
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState
from tcpdoctor.kernel.survey import held_by, take_survey
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.pairs import connect_pair, listen

CROWD = """
import resource, socket, sys
number, place = map(int, sys.argv[1:])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
server = socket.create_server((f"127.0.0.{2 + place}", 0), backlog=64)
held = []
for _ in range(number):
    held.append(socket.create_connection(server.getsockname()))
    held.append(server.accept()[0])
print("ready", flush=True)
sys.stdin.read()
"""


def crowd(stack, number, place=0):
    """Another process with so many connections, both ends of each, to an address by its place."""
    done = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-c", CROWD, str(number), str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )
    stack.callback(done.kill)
    assert done.stdout.readline() == "ready\n"
    return done.pid


def beside_a_crowd(number, room):
    with ExitStack() as stack:
        other = crowd(stack, number)
        server = listen(stack)
        for _ in range(7):
            connect_pair(stack, server)
        mine = take_survey(COUNTED_STATES, pid=os.getpid(), room=room)
        theirs = take_survey(COUNTED_STATES, pid=other, room=room)
        towards = take_survey(COUNTED_STATES, peer="127.0.0.2", room=room)
    return mine, theirs, towards


def test_a_process_is_counted_whole_among_more_sockets_than_there_is_room_for(in_namespace):
    mine, theirs, towards = in_namespace(beside_a_crowd, 211, 23)
    hidden = set() if lists_bound_sockets() else {TcpState.BOUND}
    none = dict.fromkeys(state for state in COUNTED_STATES if state not in hidden)
    assert mine.by_state == dict.fromkeys(none, 0) | {TcpState.ESTABLISHED: 14, TcpState.LISTEN: 1}
    assert (mine.total, len(mine.sockets), set(mine.missing)) == (15, 15, {state.key for state in hidden})
    assert theirs.by_state[TcpState.ESTABLISHED] == 422
    assert (theirs.total, len(theirs.sockets)) == (423, 24)
    assert (towards.total, len(towards.sockets)) == (211, 23), "of each connection one end goes there"


def by_every_way():
    with ExitStack() as stack:
        server = listen(stack)
        inodes = {os.fstat(connect_pair(stack, server)[0].fileno()).st_ino for _ in range(5)}
        wide = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        stack.enter_context(wide)
        mapped = stack.enter_context(socket.create_connection(("127.0.0.1", wide.getsockname()[1])))
        found = {
            way: (
                read_connections([TcpState.ESTABLISHED], only=SocketFilter(inodes=inodes), ways=(way,)),
                read_connections([TcpState.ESTABLISHED], only=SocketFilter(remote="127.0.0.1"), ways=(way,)),
            )
            for way in Way
        }
        assert mapped.fileno() >= 0
    return inodes, found


def test_every_way_to_list_sockets_filters_alike(in_namespace):
    inodes, found = in_namespace(by_every_way)
    for way, (held, towards) in found.items():
        rows = held[TcpState.ESTABLISHED].connections
        assert ({row.inode for row in rows}, len(rows)) == (inodes, 5), way
        ends = towards[TcpState.ESTABLISHED]
        assert (ends.total, {row.family for row in ends.connections}) == (12, {4, 6}), way


def among_150_thousand():
    write_sysctl("net.ipv4.ip_local_port_range", "2000 65000")
    with ExitStack() as stack:
        pids = [crowd(stack, 9_473, place) for place in range(8)]
        server = listen(stack)
        for _ in range(11):
            connect_pair(stack, server)
        return look_at_processes((*pids[::3], os.getpid())).processes


@pytest.mark.slow
@pytest.mark.skipif(
    getrlimit(RLIMIT_NOFILE)[1] < 19_500, reason="needs 19,500 descriptors a process (ulimit -Hn)"
)
def test_of_150_thousand_sockets_every_one_is_counted(in_namespace):
    *large, small = in_namespace(among_150_thousand)
    for answer in large:
        assert numbers_of(answer) == {"established": 18_946, "listen": 1}
        assert answer.other_sockets == 0
    assert numbers_of(small) == {"established": 22, "listen": 1}


def numbers_of(answer):
    return {state: group.sockets for state, group in answer.states.items()}


def leaking_beside_a_crowd():
    with ExitStack() as stack:
        clients = [pair[0] for pair in (connect_pair(stack, listen(stack)) for _ in range(13))]
        for client in clients:
            client.shutdown(socket.SHUT_WR)
        hurried = take_snapshot(owner_seconds=0.0)
        process = read_process(os.getpid())
        known = with_known_owners(hurried, held_by(os.getpid()), process)
        return [
            Counter(type(row.owner).__name__ for row in each.detail[TcpState.CLOSE_WAIT].connections)
            for each in (hurried, known)
        ]


def test_a_process_owns_its_sockets_even_where_the_search_for_owners_ends_early(in_namespace):
    hurried, known = in_namespace(leaking_beside_a_crowd)
    assert hurried == {"Missing": 13}
    assert known == {"Held": 13}
