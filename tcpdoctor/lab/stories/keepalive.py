"""Connections that stay open: dead peers, peers that do not read, and a path that forgets."""

from collections.abc import Iterator

from tcpdoctor.lab.keepalive import (
    Middlebox,
    closed_windows,
    dead_clients,
    dead_server,
    idle_connections,
    read_what_is_there,
    requests_that_never_left,
    wait_for_retries,
)
from tcpdoctor.lab.pairs import wait_until
from tcpdoctor.lab.scenario import Broken, Cured, Scenario, Scene, Step
from tcpdoctor.lab.silence import hear_again

_SERVER, _CLIENTS = "destination-stopped-answering", "clients-stopped-answering"
_READERS, _IDLE = "peers-do-not-read", "idle-connections-without-keepalive"
_A_SECOND = {"min_age": 1.0}
_A_SECOND_IN_HOURS = {"min_age": 1 / 3600}
_MEMORY = 2.0


def _connections(**ports: int) -> str:
    """The command that shows one end of the connections: the one with this `port`, or `peer_port`."""
    ((name, number),) = ports.items()
    return f"sockets --state established --{name.replace('_', '-')} {number}"


def _server_is_gone() -> Iterator[Scene]:
    with dead_server(13) as peers:
        yield Broken(
            """
            A pool of 13 connections has sent a request on each, and the server has vanished, as a host does
            that lost its power or its address. No reset comes, and no acknowledgement. The kernel sends the
            same segment again, after 0.2 s, 0.4 s, 0.8 s and so on, for more than 15 minutes
            (net.ipv4.tcp_retries2). To the program each connection looks established: write() succeeds,
            read() waits. SO_KEEPALIVE would not help: its probes are for idle connections, and here data
            is outstanding. TCP_USER_TIMEOUT bounds just this wait.
            """,
            fires={_SERVER: "warning"},
            show=(_connections(peer_port=peers[0].getsockname()[1]),),
            limits={_SERVER: _A_SECOND},
            window=0.0,
        )
        for peer in peers:
            hear_again(peer)
        wait_until(lambda: all(peer.recv(64) for peer in peers), "the requests arrive")
        yield Cured(
            """
            The server is reachable again. The next retransmission of each request arrives and is
            acknowledged: nothing was lost, it only took as long as the longest pause between two tries.
            """,
            show=(_connections(peer_port=peers[0].getsockname()[1]),),
            window=0.0,
        )


def _own_firewall() -> Iterator[Scene]:
    with requests_that_never_left(13) as (firewall, peers):
        yield Broken(
            """
            13 clients write a request each, and the firewall of their own host drops it on output. TCP learns
            at once that the segment did not leave, so it counts as not sent at all: no retransmission timer
            runs, but the one that is meant for closed windows (timer:(persist,...) in ss), although the
            peers' windows are wide open. That looks like peers who do not read. The last number, tries
            without an answer, tells the two apart: it grows here, while a closed window answers each probe.
            """,
            fires={_SERVER: "warning"},
            show=(_connections(peer_port=peers[0].getsockname()[1]),),
            limits={_SERVER: {"min_age": 0.5}},
            window=0.0,
        )
        firewall.close()
        wait_until(lambda: all(peer.recv(64) for peer in peers), "the requests arrive")
        yield Cured(
            "The rule is gone: the next try leaves, is acknowledged, and all is well.",
            show=(_connections(peer_port=peers[0].getsockname()[1]),),
            window=0.0,
        )


def _clients_are_gone() -> Iterator[Scene]:
    with dead_clients(23) as clients:
        yield Broken(
            """
            A server has sent its answer to 23 clients, and something between them drops all packets.
            The answers wait in the send queues, in memory that cannot be swapped, and are sent again and
            again. One vanished client is everyday life; many at once have something on the way in common.
            """,
            fires={_CLIENTS: "warning"},
            show=(_connections(port=clients[0].getpeername()[1]),),
            limits={_CLIENTS: _A_SECOND},
            window=0.0,
        )
        for client in clients:
            hear_again(client)
        wait_until(lambda: all(client.recv(64) for client in clients), "the answers arrive")
        yield Cured("The path works again: the answers arrive with the next retransmission.", window=0.0)


def _nobody_reads() -> Iterator[Scene]:
    with closed_windows(11) as readers:
        yield Broken(
            """
            11 clients asked for something large, and their programs have stopped reading. Their hosts'
            receive buffers filled up, and each said in its last acknowledgement: window 0. The sender may
            send nothing now but probes, with growing pauses (timer:(persist,...) in ss). The peers' hosts
            answer every probe, so no retry limit applies: this can last for ever. Only a timeout of the
            program, or TCP_USER_TIMEOUT, ends it.
            """,
            fires={_READERS: "warning"},
            show=(_connections(peer_port=readers[0].getsockname()[1]),),
            limits={_READERS: {"min_age": 0.5}},
            window=0.0,
        )
        read_what_is_there(readers)
        yield Cured(
            """
            The clients read again. The first window update lets the sender go on where it stopped;
            it does not wait for its next probe.
            """,
            show=(_connections(peer_port=readers[0].getsockname()[1]),),
            window=0.0,
        )


def _path_that_forgets() -> Iterator[Scene]:
    with idle_connections(13, keepalive=False) as pairs, Middlebox(pairs, _MEMORY) as path:
        yield Step(
            f"""
            13 connections of a pool lead to a server through something that keeps a table of connections: a
            NAT gateway, a firewall, a load balancer. It forgets those over which nothing has passed for a
            while: 240 to 350 s in the large clouds, {_MEMORY:g} s here. The pool is idle, keepalive is off.
            """,
            show=(_connections(peer_port=pairs[0][1].getsockname()[1]),),
        )
        wait_until(lambda: path.forgotten == len(pairs), "the path has forgotten the connections")
        yield Broken(
            """
            The path has forgotten them. On neither side is there any sign of it: both ends are ESTABLISHED,
            no timer runs, nothing is outstanding. They would stay so for months.
            """,
            fires={_IDLE: "info"},
            show=(_connections(peer_port=pairs[0][1].getsockname()[1]),),
            limits={_IDLE: _A_SECOND_IN_HOURS},
            window=0.0,
        )
        for client, _ in pairs:
            client.sendall(b"request")
        wait_for_retries([client for client, _ in pairs], 3)
        yield Broken(
            """
            The program uses its pool. What it sends is dropped on the way, and it finds out by waiting:
            more than 15 minutes with the kernel's defaults. This is the typical story behind "the first
            request after lunch hangs".
            """,
            fires={_SERVER: "warning"},
            show=(_connections(peer_port=pairs[0][1].getsockname()[1]),),
            limits={_SERVER: _A_SECOND},
            window=0.0,
        )
    with idle_connections(13, keepalive=True) as pairs, Middlebox(pairs, _MEMORY) as path:
        wait_until(lambda: path.watched_for > _MEMORY + 1, "longer than the path remembers")
        for client, accepted in pairs:
            client.sendall(b"request")
            accepted.recv(64)
        yield Cured(
            f"""
            The pool was opened anew with SO_KEEPALIVE and TCP_KEEPIDLE of 1 s, which is less than the
            {_MEMORY:g} s that the path remembers. The probes passed while the pool was idle, so nothing was
            forgotten ({path.forgotten} of {len(pairs)}), and every request arrived at once. Lowering
            net.ipv4.tcp_keepalive_time alone would have changed nothing: it is the default of sockets that
            have SO_KEEPALIVE set.
            """,
            show=(_connections(peer_port=pairs[0][1].getsockname()[1]),),
            window=0.0,
        )


SCENARIOS = (
    Scenario(_SERVER, "Dead peer: a server vanishes while data is unacknowledged", _server_is_gone),
    Scenario(
        "own-firewall-drops-output",
        "A firewall of this host drops what established connections send",
        _own_firewall,
        proves=(_SERVER,),
    ),
    Scenario(_CLIENTS, "Clients vanish in the middle of an answer, all at once", _clients_are_gone),
    Scenario(_READERS, "Peers do not read: their windows stay closed", _nobody_reads),
    Scenario(
        "forgetting-middlebox",
        "Keepalive is off behind a middlebox that forgets idle connections",
        _path_that_forgets,
        proves=(_IDLE, _SERVER),
    ),
)
