"""Diseases of receiving: data that arrives and finds no room."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tcpdoctor.lab.pairs import again_and_again, connect_pair, connected, let_pass, listen
from tcpdoctor.lab.scenario import Broken, Cured, Scenario, Scene

_SMALLEST = 2304
"""What SO_RCVBUF gives at least: SOCK_MIN_RCVBUF on 64 bits."""


@contextmanager
def shrunk_buffers(count: int) -> Iterator[None]:
    """Five times a second `count` connections shrink their receive buffer below the window they announced.

    The sender may still send what the window allowed, and it does; nobody reads.
    """
    with ExitStack() as stack:
        server = listen(stack)
        stack.enter_context(again_and_again(lambda: _overfill(server, count), every=0.2))
        yield


def _overfill(server: socket.socket, count: int) -> None:
    with ExitStack() as stack:
        for _ in range(count):
            sender, receiver = connect_pair(stack, server)
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALLEST)
            sender.settimeout(0)
            sender.send(b"x" * 60_000)


@contextmanager
def left_unread(count: int, *, size: int) -> Iterator[list[socket.socket]]:
    """This process has accepted `count` connections, `size` bytes came in on each, and it does not read."""
    with connected(count) as (_, pairs):
        for client, _ in pairs:
            client.sendall(b"x" * size)
        yield [accepted for _, accepted in pairs]


# Buffers that are too small for what arrives.


def _received_data_dropped() -> Iterator[Scene]:
    with shrunk_buffers(7):
        yield Broken(
            """
            Receivers had announced a window of 64 KiB; then their program made the receive buffer as small as
            SO_RCVBUF allows, and does not read. The senders send what they were promised room for. The kernel
            compacts the queue (PruneCalled), finds no room all the same, and drops data that had already
            arrived.
            """,
            fires={"received-data-dropped": "warning"},
            show=("explain --rule received-data-dropped",),
        )
    yield Cured("The program leaves the buffer to the kernel, and reads.")


def _process_does_not_read() -> Iterator[Scene]:
    rule = "process-does-not-read"
    with left_unread(13, size=10_007) as readers:
        let_pass(0.7)
        yield Broken(
            """
            Thirteen clients have sent a request of 10,007 bytes each. The kernel has taken the data in and
            acknowledged it, so the clients believe that it arrived, as it did. lab-program has accepted the
            connections and does not read: it waits for something else. Nothing is wrong with TCP. ss shows
            the bytes under Recv-Q, and lastrcv says for how long nothing new has come.
            """,
            fires={rule: "warning"},
            show=("sockets --state established",),
            limits={rule: {"min_age": 0.5}},
        )
        for reader in readers:
            reader.recv(1 << 16)
        yield Cured("lab-program reads what is there. The connections were well all the time.")


SCENARIOS = (
    Scenario(
        "received-data-dropped", "Receive buffers have no room for what arrives", _received_data_dropped
    ),
    Scenario(
        "process-does-not-read",
        "Process does not read what has come in on its connections",
        _process_does_not_read,
    ),
)
