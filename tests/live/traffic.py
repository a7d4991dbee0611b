"""Traffic of hosts that are well, and of programs that do not read."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.pairs import (
    allow_descriptors,
    at_work,
    connect,
    connect_pair,
    fill,
    listen,
    wait_for_state,
)


@contextmanager
def unread_data(count: int) -> Iterator[int]:
    """`count` connections whose readers do not read, filled until nothing more fits; yields the bytes."""
    allow_descriptors(2 * count + 64)
    with ExitStack() as stack:
        server = listen(stack)
        total = 0
        for _ in range(count):
            sender, _ = connect_pair(stack, server)
            total += fill(sender)
        yield total


@contextmanager
def healthy_traffic(short: int, *, kept: int, pooled: int) -> Iterator[None]:
    """What a host that is well looks like when it is busy.

    `short` connections are over, half of them closed by the client first, half by the server; `kept`
    connections with SO_KEEPALIVE are in use; and a client's pool has `pooled` connections that the
    server has closed because they were idle.
    """
    allow_descriptors(2 * (kept + pooled) + 64)
    with ExitStack() as stack:
        server = listen(stack)
        for number in range(short):
            _talk_and_close(server, client_first=number % 2 == 0)
        for _ in range(kept):
            for end in connect_pair(stack, server):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        pool = []
        for _ in range(pooled):
            client, accepted = connect_pair(stack, server)
            accepted.close()
            pool.append(client)
        wait_for_state(pool, TcpState.CLOSE_WAIT)
        yield


def _talk_and_close(server: socket.socket, *, client_first: bool) -> None:
    with ExitStack() as stack:
        client, accepted = connect_pair(stack, server)
        client.sendall(b"request")
        accepted.recv(64)
        accepted.sendall(b"answer")
        client.recv(64)
        first, second = (client, accepted) if client_first else (accepted, client)
        first.close()
        second.recv(1)


@contextmanager
def coming_and_going(clients: int) -> Iterator[None]:
    """`clients` threads open short connections one after the other, as fast as they can."""
    with ExitStack() as stack:
        server = listen(stack)
        server.settimeout(0.1)
        with at_work(
            partial(_serve, server), *(partial(_come_and_go, server, number) for number in range(clients))
        ):
            yield


_CLIENT_FIRST, _SERVER_FIRST = b"c", b"s"


def _serve(server: socket.socket, over: threading.Event) -> None:
    while not over.is_set():
        try:
            accepted, _ = server.accept()
        except TimeoutError:
            continue
        with accepted:
            wish = accepted.recv(1)
            accepted.sendall(b"answer")
            if wish == _CLIENT_FIRST:
                accepted.recv(1)


def _come_and_go(server: socket.socket, number: int, over: threading.Event) -> None:
    while not over.is_set():
        with ExitStack() as stack:
            client = connect(stack, server)
            client.sendall(_CLIENT_FIRST if number % 2 else _SERVER_FIRST)
            client.recv(64)
            if number % 2 == 0:
                client.recv(1)
        over.wait(0.002)  # five hundred a second for each client: busy, and other programs still run
