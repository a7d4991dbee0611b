"""Diseases of closing: each function makes one with `count` sockets and holds it until its block ends."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.pairs import (
    allow_descriptors,
    connect,
    connect_pair,
    count_sockets,
    listen,
    wait_for_state,
    wait_until,
)
from tcpdoctor.lab.silence import go_deaf


@contextmanager
def close_wait(count: int, *, read_end: int = 0) -> Iterator[list[socket.socket]]:
    """This process holds `count` sockets whose peers have closed; it read the end-of-file of `read_end`."""
    allow_descriptors(count + 64)
    with ExitStack() as stack:
        server = listen(stack)
        clients = []
        for _ in range(count):
            client, accepted = connect_pair(stack, server)
            accepted.close()
            clients.append(client)
        wait_for_state(clients, TcpState.CLOSE_WAIT)
        for client in clients[:read_end]:
            client.recv(1)
        yield clients


@contextmanager
def close_wait_not_accepted(count: int) -> Iterator[socket.socket]:
    """A server does not accept, and `count` clients connected and gave up; yields the listener."""
    allow_descriptors(count + 64)
    with ExitStack() as stack:
        server = listen(stack)
        for _ in range(count):
            connect(stack, server).close()
        port = server.getsockname()[1]
        wait_until(
            lambda: count_sockets(TcpState.CLOSE_WAIT, port) == count, f"{count} x CLOSE_WAIT, not accepted"
        )
        yield server


@contextmanager
def fin_wait_2_orphans(count: int) -> Iterator[list[socket.socket]]:
    """`count` connections are closed here and left open by their peers; yields the peers' sockets."""
    allow_descriptors(count + 64)
    with ExitStack() as stack:
        server = listen(stack)
        port = server.getsockname()[1]
        clients = []
        for _ in range(count):
            client, accepted = connect_pair(stack, server)
            accepted.close()
            clients.append(client)
        wait_until(
            lambda: count_sockets(TcpState.FIN_WAIT_2, port) == count, f"{count} x FIN_WAIT_2, orphaned"
        )
        yield clients


@contextmanager
def fin_wait_1_stuck(count: int, *, unsent: int = 0) -> Iterator[list[socket.socket]]:
    """`count` connections are closed here, and their peers vanished before; yields the peers' deaf sockets.

    Each sent `unsent` bytes just before, which are never acknowledged either.
    """
    allow_descriptors(count + 64)
    with ExitStack() as stack:
        server = listen(stack)
        peers = []
        for _ in range(count):
            client, peer = connect_pair(stack, server)
            go_deaf(peer)
            client.sendall(b"x" * unsent)
            client.close()
            peers.append(peer)
        yield peers


@contextmanager
def last_ack_stuck(count: int) -> Iterator[list[socket.socket]]:
    """`count` peers closed first and vanished before this side closed; yields the peers' deaf sockets."""
    allow_descriptors(2 * count + 64)
    with ExitStack() as stack:
        server = listen(stack)
        clients, peers = [], []
        for _ in range(count):
            client, peer = connect_pair(stack, server)
            peer.shutdown(socket.SHUT_WR)
            clients.append(client)
            peers.append(peer)
        wait_for_state(peers, TcpState.FIN_WAIT_2)  # before, the peer would repeat its own FIN as well
        for client, peer in zip(clients, peers, strict=True):
            go_deaf(peer)
            client.recv(1)
            client.close()
        yield peers


@contextmanager
def time_wait(count: int) -> Iterator[socket.socket]:
    """`count` connections to one server were closed by their clients first; yields the listener."""
    with ExitStack() as stack:
        server = listen(stack)
        for _ in range(count):
            with ExitStack() as both:
                client, accepted = connect_pair(both, server)
                client.close()
                accepted.recv(1)
        yield server
