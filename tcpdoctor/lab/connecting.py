"""Diseases of connecting: ports used up, and destinations that do not answer."""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tcpdoctor.lab.pairs import LOOPBACK, allow_descriptors, connect_pair, listen
from tcpdoctor.lab.silence import go_deaf


@contextmanager
def connections(count: int) -> Iterator[socket.socket]:
    """`count` established connections towards one destination; yields its listener."""
    allow_descriptors(2 * count + 64)
    with ExitStack() as stack:
        server = listen(stack)
        for _ in range(count):
            connect_pair(stack, server)
        yield server


@contextmanager
def unanswered(count: int) -> Iterator[socket.socket]:
    """`count` attempts to connect to a destination that is silent; yields its deaf listener."""
    allow_descriptors(count + 64)
    with ExitStack() as stack:
        server = listen(stack)
        go_deaf(server)
        attempts(stack, server, count)
        yield server


def attempts(stack: ExitStack, server: socket.socket, count: int) -> list[socket.socket]:
    """Begin `count` connections to `server` without waiting for them."""
    clients = []
    for _ in range(count):
        client = stack.enter_context(socket.socket())
        client.settimeout(0)
        problem = client.connect_ex((LOOPBACK, server.getsockname()[1]))
        if problem not in (0, errno.EINPROGRESS):
            raise OSError(problem, "connect()")
        clients.append(client)
    return clients


@contextmanager
def server_time_wait(count: int) -> Iterator[socket.socket]:
    """A server closed `count` connections before its clients did: TIME_WAIT at its own port; yields it."""
    with ExitStack() as stack:
        server = listen(stack)
        for _ in range(count):
            with ExitStack() as both:
                client, accepted = connect_pair(both, server)
                accepted.close()
                client.recv(1)
        yield server


def connect_and_close(server: socket.socket, count: int) -> None:
    """Open and close `count` connections, the client first: each leaves a TIME_WAIT on a port of its own."""
    for _ in range(count):
        with ExitStack() as both:
            client, accepted = connect_pair(both, server)
            client.close()
            accepted.recv(1)
