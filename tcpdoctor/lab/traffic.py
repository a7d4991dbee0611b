"""Traffic: with loss, with programs that do not read, and the healthy kind."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.pairs import allow_descriptors, connect, connect_pair, listen, wait_for_state
from tcpdoctor.lab.silence import hear_partly

_SEGMENT = 1000
"""Bytes a segment, small enough that each write leaves as one."""


@contextmanager
def steady_traffic(count: int, *, lost_of_256: int) -> Iterator[None]:
    """`count` connections that never stop talking, of which the given part of the segments is lost."""
    over = threading.Event()
    with ExitStack() as stack:
        server = listen(stack)
        threads: list[threading.Thread] = []
        for _ in range(count):
            sender, receiver = connect_pair(stack, server)
            if lost_of_256:
                hear_partly(receiver, lost_of_256)
            threads += [
                threading.Thread(target=role, args=(sender, receiver, over), daemon=True)
                for role in (_send, _receive)
            ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()


def _send(sender: socket.socket, receiver: socket.socket, over: threading.Event) -> None:
    del receiver
    sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while not over.wait(0.005):
        for _ in range(3):
            sender.sendall(b"x" * _SEGMENT)
    sender.shutdown(socket.SHUT_WR)


def _receive(sender: socket.socket, receiver: socket.socket, over: threading.Event) -> None:
    del sender, over
    while receiver.recv(1 << 16):
        pass


@contextmanager
def unread_data(count: int) -> Iterator[int]:
    """`count` connections whose readers do not read, filled until nothing more fits; yields the bytes."""
    allow_descriptors(2 * count + 64)
    with ExitStack() as stack:
        server = listen(stack)
        total = 0
        for _ in range(count):
            sender, _ = connect_pair(stack, server)
            total += _fill(sender)
        yield total


def _fill(sender: socket.socket) -> int:
    sender.settimeout(0)
    sent = 0
    try:
        while True:
            sent += sender.send(b"x" * (1 << 16))
    except BlockingIOError:
        return sent


@contextmanager
def closed_before_sent(count: int, *, reading: bool) -> Iterator[list[socket.socket]]:
    """`count` connections were closed here with megabytes still unsent; yields the peers' sockets.

    The peers read what comes, slowly, or not at all: then their windows stay closed.
    """
    over = threading.Event()
    with ExitStack() as stack:
        server = listen(stack)
        peers = []
        for _ in range(count):
            sender, peer = connect_pair(stack, server)
            _fill(sender)
            sender.close()
            peers.append(peer)
        reader = threading.Thread(target=_read_slowly, args=(peers, over), daemon=True)
        if reading:
            reader.start()
        try:
            yield peers
        finally:
            over.set()
            if reading:
                reader.join()


def _read_slowly(peers: list[socket.socket], over: threading.Event) -> None:
    while not over.wait(0.05):
        for peer in peers:
            peer.recv(1 << 14)


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
    over = threading.Event()
    with ExitStack() as stack:
        server = listen(stack)
        server.settimeout(0.1)
        threads = [threading.Thread(target=_serve, args=(server, over), daemon=True)]
        threads += [
            threading.Thread(target=_come_and_go, args=(server, number, over), daemon=True)
            for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()


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
