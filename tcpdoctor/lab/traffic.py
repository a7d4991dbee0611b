"""Traffic: with loss, and with programs that do not read."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tcpdoctor.lab.packets import hear_partly
from tcpdoctor.lab.pairs import connect_pair, listen

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


def fill(sender: socket.socket) -> int:
    """Write until nothing more fits; return the bytes."""
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
            fill(sender)
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
