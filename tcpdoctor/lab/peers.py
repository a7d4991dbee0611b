"""Peers that are programs of their own: what they do with connections, and who connects to them."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.pairs import LOOPBACK, wait_for_state


def keeping_open(number: int) -> Callable[[Connection], None]:
    """A server that takes `number` connections, keeps them open, and does what it is told."""

    def work(talk: Connection) -> None:
        server = socket.create_server((LOOPBACK, 0), backlog=4096)
        talk.send(server.getsockname()[1])
        held = [server.accept()[0] for _ in range(number)]
        talk.send("all there")
        while True:
            if talk.recv() == "close":
                for sock in held:
                    sock.close()
                talk.send("closed")
            else:
                talk.send(_attempts_to_send(held[0]))

    return work


def _attempts_to_send(sock: socket.socket) -> list[str]:
    """What the first and the second send() on a connection answer whose other end is gone."""
    answers = []
    for _ in range(2):
        try:
            sock.send(b"late")
            answers.append("ok")
        except OSError as error:
            answers.append(type(error).__name__)
        time.sleep(0.1)  # the reset needs a moment to come back
    return answers


def connect_all(stack: ExitStack, talk: Connection, number: int) -> list[socket.socket]:
    """Open `number` connections to the peer, which has accepted all of them on return."""
    address = (LOOPBACK, talk.recv())
    clients = [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(number)]
    talk.recv()
    return clients


def half_close(clients: list[socket.socket]) -> None:
    """Finish sending on each; on return the peer has acknowledged it."""
    for client in clients:
        client.shutdown(socket.SHUT_WR)
    wait_for_state(clients, TcpState.FIN_WAIT_2)


def let_pass(seconds: float) -> None:
    """What is shown is that this much time changes nothing."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(left)


def streaming(number: int, seconds: float = 60.0) -> Callable[[Connection], None]:
    """A server that sends to all its clients and closes then; it tells which errors it met."""

    def work(talk: Connection) -> None:
        server = socket.create_server((LOOPBACK, 0), backlog=4096)
        talk.send(server.getsockname()[1])
        held = [server.accept()[0] for _ in range(number)]
        talk.send("all there")
        failures: list[str] = []
        end = time.monotonic() + seconds
        while held and time.monotonic() < end:
            for sock in list(held):
                try:
                    sock.send(b"x" * 100)
                except OSError as error:
                    failures.append(type(error).__name__)
                    sock.close()
                    held.remove(sock)
            time.sleep(0.02)
        for sock in held:
            sock.close()
        talk.send(failures)
        talk.recv()

    return work


def answering(number: int) -> Callable[[Connection], None]:
    """A server that sends an answer on each connection and closes it."""

    def work(talk: Connection) -> None:
        server = socket.create_server((LOOPBACK, 0), backlog=4096)
        talk.send(server.getsockname()[1])
        held = [server.accept()[0] for _ in range(number)]
        for sock in held:
            sock.sendall(b"the answer")
            sock.close()
        talk.send("all there")
        talk.recv()

    return work


def read_for(clients: list[socket.socket], seconds: float) -> int:
    """Read what comes; the number of bytes."""
    received = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        received += sum(len(client.recv(1 << 16)) for client in clients)
    return received
