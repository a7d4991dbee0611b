"""Make very many real TCP sockets in the network namespace of the caller.

Pure Python: worker processes, each with its own listener and at most 20,000 descriptors, connect
to themselves over loopback. A million sockets take some 6 GiB of kernel memory and two minutes.
"""

import contextlib
import ctypes
import os
import resource
import signal
import socket
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tcpdoctor.lab.namespace import write_sysctl

DESCRIPTORS = 20_000
"""RLIMIT_NOFILE of each worker."""

KINDS = ("established", "time_wait", "close_wait")
_CONNECTIONS = 4_500  # per worker, two descriptors each: less than half, as in a server with room to grow
_BATCH = 500
FIRST_PORT = (
    10_000  # of the first worker's listener; below the ports of outgoing connections, as a server's are
)
_PR_SET_PDEATHSIG = 1
_TIME_WAIT_LIMIT = "net.ipv4.tcp_max_tw_buckets"
_PLENTY = 1 << 18  # no less than the kernel's own, or `check` has something to say


class Work(NamedTuple):
    """Connections that one worker makes, of one kind."""

    kind: str
    connections: int


def plan(total: int, mix: Mapping[str, float], processes: int = 1) -> list[Work]:
    """Split `total` sockets by the shares in `mix` into the work of single processes.

    A connection in TIME_WAIT leaves one socket, any other kind two (close_wait: one in
    CLOSE_WAIT and its peer in FIN_WAIT_2). Those in CLOSE_WAIT are spread over `processes` at least.
    """
    works = []
    whole = sum(mix.values())
    for kind, share in mix.items():
        sockets = round(total * share / whole)
        left = sockets if kind == "time_wait" else sockets // 2
        most = min(_CONNECTIONS, -(-left // processes)) if kind == "close_wait" else _CONNECTIONS
        while left > 0:
            works.append(Work(kind, min(left, most)))
            left -= works[-1].connections
    return works


@contextlib.contextmanager
def crowd(total: int, mix: Mapping[str, float], processes: int = 1) -> Iterator[list[int]]:
    """Hold about `total` sockets (and one listener per worker) while the body runs, given their pids.

    Raises:
        RuntimeError: A worker could not make its sockets.
    """
    with contextlib.suppress(OSError):  # this sysctl belongs to the namespace since Linux 4.15 only
        write_sysctl(_TIME_WAIT_LIMIT, max(2 * total, _PLENTY))
    workers: list[int] = []
    try:
        for number, work in enumerate(plan(total, mix, processes)):
            pid, ready = _start(work, FIRST_PORT + number)
            workers.append(pid)
            with ready:  # one after the other: in parallel they only take each other's CPU
                if ready.read() != b"ready":
                    raise RuntimeError(f"a worker could not make {work.connections} x {work.kind}")
        yield workers
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        for pid in workers:
            os.waitpid(pid, 0)


def _start(work: Work, port: int) -> tuple[int, contextlib.AbstractContextManager]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, os.fdopen(reader, "rb")
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.close(reader)
        held = _make(work, port)
        os.write(writer, b"ready")
        os.close(writer)
        while held:
            signal.pause()
    finally:
        os._exit(1)


def _make(work: Work, port: int) -> list[socket.socket]:
    """Make the connections; the sockets that must stay open come back, the listener first."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    listener = socket.create_server(("127.0.0.1", port), backlog=_BATCH)
    held = [listener]
    address = listener.getsockname()
    for first in range(0, work.connections, _BATCH):
        for _ in range(min(_BATCH, work.connections - first)):
            client = socket.socket()
            client.connect(address)
            held.append(client)
        clients = held[-min(_BATCH, work.connections - first) :]
        servers = [listener.accept()[0] for _ in clients]
        if work.kind == "time_wait":
            for end in (*clients, *servers):
                end.close()
            del held[1:]
        else:
            if work.kind == "close_wait":
                for client in clients:
                    client.shutdown(socket.SHUT_WR)
            held += servers
    return held
