"""The proof with primes: every number of a trace is exact, beside another namespace's connections."""

import os
import socket
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager, suppress

from tcpdoctor.answers.ended import EndedConnection, TraceSummary
from tcpdoctor.answers.trace import TraceQuestion
from tcpdoctor.diagnosis.endings import Why
from tcpdoctor.lab.namespace import enter_private_namespace
from tests.live.traced import comm, endings_of, needs_events

pytestmark = needs_events
PORT, CLOSED_PORT = 7001, 7003
BY_SERVER, BY_CLIENT, LINGER, UNREAD, REFUSED, ELSEWHERE = 1_009, 503, 101, 37, 53, 307
AT_ONCE = 61
"""Connections that are opened before the first is waited for: fewer changes of task."""
ENDS = 2 * (BY_SERVER + BY_CLIENT + LINGER + UNREAD) + REFUSED


def serve(listener: socket.socket, number: int) -> None:
    """End each connection as its first byte says."""
    for _ in range(number):
        sock, _ = listener.accept()
        kind = sock.recv(1)
        if kind == b"C":
            assert sock.recv(1) == b""
        elif kind == b"U":
            sock.recv(1, socket.MSG_PEEK)
        elif kind == b"L":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


def ask(kind: bytes) -> socket.socket:
    """Open a connection that is to end so."""
    sock = socket.create_connection(("127.0.0.1", PORT), timeout=100)
    sock.sendall(kind + b"nobody reads this" if kind == b"U" else kind)
    if kind == b"C":
        sock.close()
    return sock


def wait_for_end(sock: socket.socket) -> None:
    with sock, suppress(ConnectionResetError):
        assert sock.fileno() < 0 or sock.recv(1) == b""


def kinds() -> list[bytes]:
    numbers = {b"S": BY_SERVER, b"C": BY_CLIENT, b"L": LINGER, b"U": UNREAD, b"R": REFUSED}
    mixed = [(place / number, kind) for kind, number in numbers.items() for place in range(number)]
    return [kind for _, kind in sorted(mixed)]


def ask_all() -> None:
    every = kinds()
    for begin in range(0, len(every), AT_ONCE):
        batch = every[begin : begin + AT_ONCE]
        for sock in [ask(kind) for kind in batch if kind != b"R"]:
            wait_for_end(sock)
        for _ in range(batch.count(b"R")):
            with suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", CLOSED_PORT))


@contextmanager
def beside(name: bytes, work: Callable[[], None]):
    """A process that does it; it has, when the block is over."""
    pid = os.fork()
    if pid == 0:
        code = 1
        with suppress(Exception), comm(name):
            work()
            code = 0
        os._exit(code)
    yield
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def elsewhere() -> None:
    """As many connections on the same port, all closed by their server, in a namespace of their own."""
    enter_private_namespace()
    with socket.create_server(("127.0.0.1", PORT), backlog=512) as listener:
        for _ in range(ELSEWHERE):
            with socket.create_connection(("127.0.0.1", PORT)) as client:
                listener.accept()[0].close()
                client.recv(1)


def workload() -> None:
    listener = socket.create_server(("127.0.0.1", PORT), backlog=512)
    number = BY_SERVER + BY_CLIENT + LINGER + UNREAD

    def server() -> None:
        serve(listener, number)

    with beside(b"elsewhere", elsewhere), beside(b"proof-server", server):
        listener.close()
        with beside(b"proof-client", ask_all):
            pass


def proof() -> tuple[Counter[tuple[str | None, str | None, str | None]], TraceSummary]:
    ended, summary = endings_of(workload, ENDS, TraceQuestion())
    return Counter(map(kind_of, ended)), summary


def kind_of(ended: EndedConnection) -> tuple[str | None, str | None, str | None]:
    return ended.name, ended.closed_first, ended.reason


def test_every_number_is_exact(in_namespace):
    counted, summary = in_namespace(proof)
    server, client = "proof-server", "proof-client"
    assert counted == {
        (server, "here", None): BY_SERVER,
        (server, "peer", None): BY_CLIENT,
        (server, "reset_here", Why.LINGER.value): LINGER,
        (server, "reset_here", Why.UNREAD.value): UNREAD,
        (client, "peer", None): BY_SERVER,
        (client, "here", None): BY_CLIENT,
        (client, "reset_by_peer", Why.PEER_RESET.value): LINGER + UNREAD,
        (client, "never_established", Why.REFUSED.value): REFUSED,
    }
    assert summary.events_lost == 0
    assert summary.connections == ENDS
    assert summary.closed_first_here == summary.closed_first_by_peer == BY_SERVER + BY_CLIENT
    assert summary.reset_here == summary.reset_by_peer == LINGER + UNREAD
    assert summary.never_established == REFUSED
    assert summary.still_open == 0
    rows = {(row.name, row.side, row.port): row for row in summary.by_process}
    assert set(rows) == {
        (server, "accepted", PORT),
        (client, "opened", PORT),
        (client, "opened", CLOSED_PORT),
    }
    resets = {each.reason: each.number for each in rows[server, "accepted", PORT].resets}
    assert resets == {Why.LINGER.value: LINGER, Why.UNREAD.value: UNREAD}
