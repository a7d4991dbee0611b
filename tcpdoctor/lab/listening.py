"""Diseases of listening: servers that do not accept."""

import socket
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tcpdoctor.lab.connecting import attempts
from tcpdoctor.lab.pairs import LOOPBACK, allow_descriptors, connect, listen
from tcpdoctor.lab.repeat import again_and_again
from tcpdoctor.lab.silence import go_deaf


@contextmanager
def accept_queue(length: int, *, backlog: int) -> Iterator[socket.socket]:
    """A server with `backlog` does not accept, and `length` clients wait; at most backlog + 1 fit."""
    allow_descriptors(length + 64)
    with ExitStack() as stack:
        server = listen(stack, backlog)
        for _ in range(length):
            connect(stack, server)
        yield server


@contextmanager
def accept_queue_overflowing(count: int, *, backlog: int) -> Iterator[socket.socket]:
    """`count` more clients than fit into the queue keep sending their SYN."""
    with accept_queue(backlog + 1, backlog=backlog) as server, ExitStack() as stack:
        attempts(stack, server, count)
        yield server


def accept_all(server: socket.socket, *, quiet: float = 1.5) -> list[socket.socket]:
    """The cure: accept what waits and what comes, until nothing came for `quiet` seconds.

    A client whose SYN was dropped sends it again after a second at first, later after two and four.
    """
    accepted = []
    server.settimeout(quiet)
    try:
        while True:
            accepted.append(server.accept()[0])
    except TimeoutError:
        return accepted


@contextmanager
def bursts(count: int, *, backlog: int) -> Iterator[socket.socket]:
    """Five times a second `count` clients come at the same moment; the server accepts all that got in."""
    allow_descriptors(2 * count + 64)
    with ExitStack() as stack:
        server = listen(stack, backlog)
        server.settimeout(0)
        stack.enter_context(again_and_again(lambda: _burst(server, count), every=0.2))
        yield server


def _burst(server: socket.socket, count: int) -> None:
    with ExitStack() as stack:
        attempts(stack, server, count)  # on loopback a handshake is over when connect() returns
        try:
            while True:
                stack.enter_context(server.accept()[0])
        except BlockingIOError:
            return


@contextmanager
def half_open(count: int, *, backlog: int) -> Iterator[socket.socket]:
    """A server that `count` clients a second send a SYN to, and never end the handshake.

    They cannot hear the server, so that the listener remembers each as half-open. At least `count`
    have come when the block begins; the last 500 at most still send their SYN again.
    """
    room = 500
    allow_descriptors(room + 64)
    clients = deque[socket.socket](maxlen=room)
    with ExitStack() as stack:
        server = listen(stack, backlog)
        stack.callback(_close_all, clients)
        for _ in range(count):
            _begin_deaf(server, clients)
        stack.enter_context(again_and_again(lambda: _begin_deaf(server, clients), every=1 / count))
        yield server


def _begin_deaf(server: socket.socket, clients: deque[socket.socket]) -> None:
    client = socket.socket()
    client.settimeout(0)
    go_deaf(client)
    client.connect_ex((LOOPBACK, server.getsockname()[1]))
    if len(clients) == clients.maxlen:
        clients[0].close()
    clients.append(client)


def _close_all(sockets: deque[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
