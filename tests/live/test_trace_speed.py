"""Twenty thousand connections at full speed: none is lost with the buffers as shipped."""

import os
import socket
from contextlib import suppress

import pytest

from tcpdoctor.answers.trace import TraceQuestion
from tests.live.traced import endings_of, needs_events

pytestmark = [needs_events, pytest.mark.slow]
WORKERS, EACH, AT_ONCE = 4, 5_003, 61


def opens_and_closes(number: int) -> None:
    """Many connections over loopback, each closed first by its server."""
    with socket.create_server(("127.0.0.1", 7_100 + number), backlog=512) as listener:
        left = EACH
        while left:
            batch = min(AT_ONCE, left)
            left -= batch
            clients = []
            for _ in range(batch):
                client = socket.socket()
                client.connect(listener.getsockname())
                clients.append(client)
            for _ in clients:
                listener.accept()[0].close()
            for client in clients:
                client.recv(1)
                client.close()


def begin_at_full_speed() -> None:
    """Processes that go on while they are looked at."""
    for number in range(WORKERS):
        pid = os.fork()
        if pid == 0:
            code = 1
            with suppress(Exception):
                opens_and_closes(number)
                code = 0
            os._exit(code)


def test_nothing_is_lost(in_namespace):
    def trace():
        _, summary = endings_of(begin_at_full_speed, 2 * WORKERS * EACH, TraceQuestion())
        return summary, [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(WORKERS)]

    summary, codes = in_namespace(trace)
    assert codes == [0] * WORKERS
    assert summary.connections == 2 * WORKERS * EACH
    assert summary.events_lost == 0
    assert summary.closed_first_here == summary.closed_first_by_peer == WORKERS * EACH
