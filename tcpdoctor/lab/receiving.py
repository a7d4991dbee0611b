"""Diseases of receiving: data that arrives and finds no room."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tcpdoctor.lab.pairs import connect_pair, listen
from tcpdoctor.lab.repeat import again_and_again
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


SCENARIOS = (
    Scenario(
        "received-data-dropped", "Receive buffers have no room for what arrives", _received_data_dropped
    ),
)
