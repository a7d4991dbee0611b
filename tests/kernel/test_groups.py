"""Sockets by peer and by process, on real sockets whose number is known."""

import os
import socket
import subprocess
import time

import pytest

from tcpdoctor.answers.states import Most, look_plain
from tcpdoctor.kernel import groups
from tcpdoctor.kernel.groups import (
    NO_PEER,
    NO_PROCESS,
    OTHER_PEERS,
    count_by_peer,
    count_by_process,
    count_holders,
)
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sockets import count_states
from tcpdoctor.kernel.states import TcpState

STATES = [TcpState.ESTABLISHED, TcpState.LISTEN, TcpState.BOUND]


def connected(number, family=socket.AF_INET, address="127.0.0.1"):
    """A listener and `number` connections to it; all sockets, so that they stay open."""
    server = socket.socket(family)
    server.bind((address, 0))
    server.listen(number)
    kept = [server]
    for _ in range(number):
        client = socket.socket(family)
        client.connect(server.getsockname()[:2])
        kept += [client, server.accept()[0]]
    return kept


def counted(found):
    assert not isinstance(found, Missing)
    return {group.key: dict(group.states) for group in found.groups}, found


def by_peer():
    kept = connected(23) + connected(7, socket.AF_INET6, "::1")
    idle = socket.socket()
    idle.bind(("127.0.0.1", 0))
    return counted(count_by_peer()), len(kept)


def test_peers_are_counted_each_with_its_states(in_namespace):
    (keys, found), _ = in_namespace(by_peer)
    assert keys["127.0.0.1"] == {TcpState.ESTABLISHED: 46}
    assert keys["::1"] == {TcpState.ESTABLISHED: 14}
    assert keys[NO_PEER][TcpState.LISTEN] == 2
    assert found.counts.by_state[TcpState.ESTABLISHED] == 60
    assert found.counts.bound == 1
    assert found.groups[0].key == "127.0.0.1"


def mapped_peer():
    server = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    client = socket.create_connection(("127.0.0.1", server.getsockname()[1]))
    accepted = server.accept()[0]
    return counted(count_by_peer())[0], [client.fileno(), accepted.fileno()]


def test_an_address_and_its_mapped_form_are_one_peer(in_namespace):
    keys, _ = in_namespace(mapped_peer)
    assert keys["127.0.0.1"] == {TcpState.ESTABLISHED: 2}


def many_peers(limit):
    groups.MOST_PEERS = limit
    kept = connected(23)
    for last in range(2, 42):
        client = socket.socket()
        client.bind(("127.0.0.1", 0))
        client.connect((f"127.0.0.{last}", listener_everywhere(kept)))
        kept.append(client)
    return counted(count_by_peer())


def listener_everywhere(kept):
    if not isinstance(kept[-1], socket.socket) or kept[-1].getsockname()[0] != "0.0.0.0":
        for sock in kept:
            if sock.getsockname()[0] == "0.0.0.0":
                return sock.getsockname()[1]
    server = socket.create_server(("0.0.0.0", 0), backlog=100)
    kept.append(server)
    return server.getsockname()[1]


def test_too_many_peers_lose_their_names_but_not_their_number(in_namespace):
    keys, found = in_namespace(many_peers, 16)
    assert found.folded
    assert len(keys) <= 16 + 2
    assert OTHER_PEERS in keys
    assert keys["127.0.0.1"][TcpState.ESTABLISHED] >= 46
    assert sum(sum(states.values()) for states in keys.values()) == 47 + 81
    assert found.counts.by_state[TcpState.ESTABLISHED] == 46 + 80


def by_process():
    kept = connected(23)
    orphan = connected(1)
    orphan[1].close()
    wait_for(TcpState.FIN_WAIT_2)  # held by nobody
    child = subprocess.Popen(["sleep", "60"], pass_fds=[kept[0].fileno()])
    answer = counted(count_by_process())
    child.kill()
    child.wait()
    return answer, os.getpid()


def wait_for(state, number=1):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        counts = count_states()
        if not isinstance(counts, Missing) and counts.by_state[state] >= number:
            return
        time.sleep(0.01)
    raise AssertionError(f"no socket came into {state.name}")


@pytest.mark.skipif(os.geteuid() != 0, reason="owners of every process are visible to root only")
def test_processes_are_named_and_orphans_are_held_by_no_process(in_namespace):
    (keys, found), pid = in_namespace(by_process)
    (name,) = [key for key in keys if key.endswith(f"({pid})")]
    assert keys[name][TcpState.ESTABLISHED] == 46
    assert keys[name][TcpState.LISTEN] == 2
    unheld = [key for key in keys if key == NO_PROCESS or key.startswith("unknown: ")]
    assert [keys[key] for key in unheld] == [{TcpState.FIN_WAIT_2: 1}]
    assert found.counts.by_state[TcpState.FIN_WAIT_2] == 1


def half_closed():
    import tcpdoctor.kernel.listing as listing
    from tcpdoctor.answers import states

    states._SEARCH_SECONDS = 20.0  # a busy machine may take longer than a user waits
    kept = connected(23) + connected(11)
    for client in kept[1:47:2]:
        client.close()
    wait_for(TcpState.CLOSE_WAIT, 23)
    wait_for(TcpState.FIN_WAIT_2, 23)  # held by nobody
    sick = (TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_2)
    found, most = count_holders(sick, seconds=20), look_plain().most
    groups.WAYS = (listing.Way.PROC,)
    return found, count_holders(sick, seconds=20), most, f"({os.getpid()})", len(kept)


@pytest.mark.skipif(os.geteuid() != 0, reason="owners of every process are visible to root only")
def test_who_has_most_of_a_sick_state_is_told(in_namespace):
    found, by_proc, most, own, _ = in_namespace(half_closed)
    assert {
        group.key.partition(" ")[2] if own in group.key else group.key: group.states for group in found
    } == {
        own: {TcpState.CLOSE_WAIT: 23},
        NO_PROCESS: {TcpState.FIN_WAIT_2: 23},
    }
    assert sorted(by_proc) == sorted(found)
    name = next(group.key for group in found if own in group.key)
    assert most == (Most("close_wait", name, 23), Most("fin_wait_2", NO_PROCESS, 23))


def beyond(limit):
    groups.MOST_OWNED = limit
    kept = connected(23)
    return counted(count_by_process())[0], len(kept)


def test_beyond_the_limit_owners_are_not_looked_up_but_sockets_counted(in_namespace):
    keys, total = in_namespace(beyond, 11)
    assert sum(keys[groups.NOT_LOOKED_UP].values()) == total - 11


def through_proc():
    import tcpdoctor.kernel.listing as listing

    groups.WAYS = (listing.Way.PROC,)
    kept = connected(23)
    return counted(count_by_peer()), counted(count_by_process()), len(kept)


def test_without_netlink_proc_tells_the_same(in_namespace):
    (peers, found), (processes, _), _ = in_namespace(through_proc)
    assert peers["127.0.0.1"] == {TcpState.ESTABLISHED: 46}
    assert isinstance(found.counts.bound, Missing)
    assert found.counts.source == "/proc/net/tcp"
    assert sum(sum(states.values()) for states in processes.values()) == 47
