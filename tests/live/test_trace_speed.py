"""Twenty thousand connections at full speed: none is lost with the buffers as shipped.

They are made by more processes than this machine may have processors, of which the one that reads gets its
share: so those that make them wait for it where most of a ring is unread. What they make is sooner in it.
"""

import mmap
import os
import socket
import time
from contextlib import suppress
from functools import partial

import pytest

from tcpdoctor.answers.trace import TraceQuestion
from tests.live.traced import LONGEST, endings_of, needs_events

pytestmark = [needs_events, pytest.mark.slow]
WORKERS, EACH, AT_ONCE = 4, 5_003, 61
UNREAD = 5_003
"""Connections whose events fill 12 of the 16 MiB of one processor's ring, were all of them in it."""


class Pace:
    """Counts that the processes share: connections that each has made, and how many have been told."""

    def __init__(self) -> None:
        self._counts = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")

    def told(self, connections: int) -> None:
        self._counts[WORKERS] = connections

    def made(self, number: int, connections: int) -> None:
        """Say so, and wait while too many are unread."""
        self._counts[number] = connections
        until = time.monotonic() + LONGEST
        while sum(self._counts[:WORKERS]) - self._counts[WORKERS] > UNREAD and time.monotonic() < until:
            time.sleep(0.001)


def opens_and_closes(number: int, pace: Pace) -> None:
    """Many connections over loopback, each closed first by its server."""
    with socket.create_server(("127.0.0.1", 7_100 + number), backlog=512) as listener:
        left = EACH
        while left:
            batch = min(AT_ONCE, left)
            left -= batch
            pace.made(number, EACH - left)
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


def begin_at_full_speed(pace: Pace) -> None:
    """Processes that go on while they are looked at."""
    for number in range(WORKERS):
        pid = os.fork()
        if pid == 0:
            code = 1
            with suppress(Exception):
                opens_and_closes(number, pace)
                code = 0
            os._exit(code)


def test_nothing_is_lost(in_namespace):
    def trace():
        pace = Pace()
        begin = partial(begin_at_full_speed, pace)
        each_end = 2 * WORKERS * EACH
        _, summary = endings_of(begin, each_end, TraceQuestion(), lambda ends: pace.told(ends // 2))
        return summary, [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(WORKERS)]

    summary, codes = in_namespace(trace)
    assert codes == [0] * WORKERS
    assert summary.connections == 2 * WORKERS * EACH
    assert summary.events_lost == 0
    assert summary.closed_first_here == summary.closed_first_by_peer == WORKERS * EACH
