"""Diseases of listening: servers that do not accept."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tcpdoctor.lab.connecting import attempts
from tcpdoctor.lab.pairs import allow_descriptors, connect, listen


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
