"""Diseases that only their ends show: requests that meet a reset, and answers that are lost with one."""

import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

from tcpdoctor.kernel.perf_ring import open_rings
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.tracepoints import read_tracepoints
from tcpdoctor.lab.namespace import another_program
from tcpdoctor.lab.pairs import LOOPBACK, NeverCameError
from tcpdoctor.lab.scenario import Asked, Between, Scenario, Scene

_PORT = 7301
_KEPT_BY_SERVER, _KEPT_BY_PROXY = 1.0, 0.5
"""Seconds: the server's keep-alive timeout, and what cures the proxy."""
_LOOKS = 4
"""Seconds of each look."""
_PARALLEL = 7
_MANY = Between(5, 100_000)
_RING = 1 << 16


def _see_whether_it_can_be_traced() -> None:
    """A trace takes privilege; without it these stories cannot be shown.

    Raises:
        NeverCameError: The kernel does not let us.
    """
    points = read_tracepoints()
    rings = points if isinstance(points, Missing) else open_rings(points.found, _RING)
    if isinstance(rings, Missing):
        raise NeverCameError(f"this lesson is told by a trace: {rings.reason}")
    rings.close()


# A server that ends idle connections, and a proxy that uses them again.


def _keep_alive_server(line: Connection) -> None:
    """Answer each request, and end connections that were idle for a while, as web servers do."""
    listener = socket.create_server((LOOPBACK, _PORT), backlog=128)
    line.send("listening")
    used: dict[socket.socket, float] = {}
    with selectors.DefaultSelector() as waiting:
        waiting.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select(0.01):
                if key.fileobj is listener:
                    sock, _ = listener.accept()
                    waiting.register(sock, selectors.EVENT_READ)
                else:
                    sock = key.fileobj  # type: ignore[assignment]
                    if not _answered(sock):
                        _forget(sock, used, waiting)
                        continue
                used[sock] = time.monotonic()
            for sock in [sock for sock, last in used.items() if time.monotonic() - last > _KEPT_BY_SERVER]:
                _forget(sock, used, waiting)


def _answered(sock: socket.socket) -> bool:
    with suppress(OSError):
        if sock.recv(4096):
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return True
    return False


def _forget(sock: socket.socket, used: dict[socket.socket, float], waiting: selectors.BaseSelector) -> None:
    waiting.unregister(sock)
    used.pop(sock, None)
    sock.close()


def _proxy(gives_up_after: float) -> Callable[[Connection], None]:
    """A proxy with a pool of connections to that server, which uses an idle one again or gives it up."""

    def work(line: Connection) -> None:
        pool: dict[socket.socket, float] = {}
        rounds = 0
        while True:
            while len(pool) < _PARALLEL:
                pool[_connected()] = time.monotonic()
                time.sleep(0.02)
            for sock, last in list(pool.items()):
                if time.monotonic() - last > gives_up_after:
                    sock.close()
                elif _has_ended(sock):
                    rounds += 1
                    if rounds % 3 == 0:
                        _ask(sock)  # it left before the server's end of the connection was noticed
                    sock.close()
                if sock.fileno() < 0:
                    del pool[sock]
            if line.poll(0.01):
                return

    return work


def _connected() -> socket.socket:
    """A connection that has had its first request and answer."""
    sock = socket.create_connection((LOOPBACK, _PORT), timeout=30)
    _ask(sock)
    return sock


def _ask(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.sendall(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
        sock.recv(4096)
        if _has_ended(sock):
            sock.recv(1)  # waits for nothing: it says what the kernel knows


def _has_ended(sock: socket.socket) -> bool:
    sock.settimeout(0)
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        sock.settimeout(30)


def _keep_alive_mismatch() -> Iterator[Scene]:
    _see_whether_it_can_be_traced()
    question = f"trace --peer {LOOPBACK}:{_PORT} --for {_LOOKS}s"
    with another_program(_keep_alive_server, "app") as app:
        app.recv()
        with another_program(_proxy(60.0), "proxy"):
            yield Asked(
                """
                proxy keeps connections to app open and uses them again, for a minute if nobody ends them. app
                ends a connection that was idle for a second; its answer to the proxy was complete, and no log
                has an error. Now and then the proxy sends a request at the very moment at which app ends the
                connection: the request finds no one, the kernel answers it with a reset, and the user gets a
                502. It comes and goes with the load, and each side's log blames the other. What gives it
                away is the idle time at the close: all at the same second, by the side that should not be
                first.
                """,
                question,
                {
                    "by_peer.0.name": "proxy",
                    "by_peer.0.idle.0.by": "peer",
                    "by_peer.0.idle.0.idle_s": Between(0.8 * _KEPT_BY_SERVER, 5 * _KEPT_BY_SERVER),
                    "by_peer.0.idle.0.requests_reset": Between(1, 100_000),
                },
            )
        with another_program(_proxy(_KEPT_BY_PROXY), "proxy"):
            yield Asked(
                """
                The client's side has to give up first. proxy ends what was idle for half a second (nginx:
                keepalive_timeout in its upstream block; Go: IdleConnTimeout; Java: the pool's time to live),
                well below app's second. It could be the other way round as well: app keeps its connections
                longer than any client does (Node: server.keepAliveTimeout). No request meets a reset.
                """,
                question,
                {
                    "by_peer.0.idle.0.by": "here",
                    "by_peer.0.idle.0.requests_reset": 0,
                    "by_peer.0.reset_by_peer": 0,
                },
                cured=True,
            )


# A server that answers before it has read, and closes.

_UPLOAD = b"x" * 60_000


def _upload_server(*, reads_all: bool) -> Callable[[Connection], None]:
    """Refuse each upload as too large: at once, or after what was sent has been read."""

    def work(line: Connection) -> None:
        listener = socket.create_server((LOOPBACK, _PORT), backlog=128)
        line.send("listening")
        while True:
            sock, _ = listener.accept()
            with sock, suppress(OSError):
                sock.recv(1_000)
                sock.sendall(b"HTTP/1.1 413 Content Too Large\r\n\r\n")
                if reads_all:
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(65_536):
                        pass
                else:
                    sock.recv(1, socket.MSG_PEEK)  # the rest is there by now, and nobody reads it

    return work


def _uploads(line: Connection) -> None:
    while not line.poll(0.02):
        with suppress(OSError), socket.create_connection((LOOPBACK, _PORT), timeout=30) as sock:
            sock.sendall(_UPLOAD)
            while sock.recv(4096):
                pass


@contextmanager
def _uploading(*, reads_all: bool) -> Iterator[None]:
    """Such a server, and a client that goes on uploading to it."""
    with another_program(_upload_server(reads_all=reads_all), "uploads") as server:
        server.recv()
        with another_program(_uploads, "client"):
            yield


def _who_reset_me() -> Iterator[Scene]:
    _see_whether_it_can_be_traced()
    question = "trace --pid uploads --for 2s"
    with _uploading(reads_all=False):
        yield Asked(
            """
            client sends an upload, and gets "Connection reset by peer" instead of an answer. uploads did
            answer: 413, too large. But it did so after the first kilobyte, and closed. close() with data that
            nobody has read is no FIN but a reset, and a reset takes away from the client what was sent before
            and not read yet: the answer. Both programs look innocent. Who sent the reset, and why, the kernel
            knows.
            """,
            question,
            {
                "by_process.0.name": "uploads",
                "by_process.0.closed_first_here": 0,
                "by_process.0.reset_here": _MANY,
                "by_process.0.resets.0.by": "here",
                "by_process.0.resets.0.reason": "closed with unread data",
            },
        )
    with _uploading(reads_all=True):
        yield Asked(
            """
            uploads ends its own side after the answer with shutdown(SHUT_WR), reads and drops what still
            comes, and closes at the client's end (nginx: lingering_close). Its answer arrives, and the
            connection ends with two FINs.
            """,
            question,
            {
                "by_process.0.closed_first_here": _MANY,
                "by_process.0.reset_here": 0,
                "by_process.0.resets": [],
            },
            cured=True,
        )


SCENARIOS = (
    Scenario(
        "keep-alive-mismatch",
        "Server ends idle connections that its client still uses: sporadic 502",
        _keep_alive_mismatch,
        (),
    ),
    Scenario(
        "who-reset-me",
        "Answers are lost: the server closes before it has read the request",
        _who_reset_me,
        (),
    ),
)
