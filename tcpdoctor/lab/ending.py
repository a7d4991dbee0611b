"""Connections that were closed here and do not end, and diseases that only their ends show: resets."""

import os
import resource
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

from tcpdoctor.kernel.perf_ring import open_rings
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.tracepoints import read_tracepoints
from tcpdoctor.lab.closing import (
    close_wait,
    closed_at_a_full_queue,
    fin_wait_1_stuck,
    last_ack_stuck,
    time_wait,
)
from tcpdoctor.lab.namespace import another_program, write_sysctl
from tcpdoctor.lab.packets import hear_again
from tcpdoctor.lab.pairs import (
    LOOPBACK,
    NeverCameError,
    closed_before_sent,
    count_sockets,
    let_pass,
    wait_until,
)
from tcpdoctor.lab.scenario import Asked, Between, Broken, Cured, Scenario, Scene

_FEW = 23
_BUCKETS = "net.ipv4.tcp_max_tw_buckets"


def _fin_wait_1_stuck() -> Iterator[Scene]:
    rule = "fin-wait-1-stuck"
    with fin_wait_1_stuck(_FEW, unsent=100) as peers:
        yield Broken(
            f"""
            lab-program sent a last message on {_FEW} connections and closed them. Their peers are
            gone: nothing answers, not even with a reset, as when a host loses power or a firewall
            drops what comes. FIN_WAIT_1 means that the FIN, or data before it, is not acknowledged.
            The kernel repeats it, and waits twice as long each time. No process holds the sockets
            any more, and for such orphans tcp_orphan_retries says how often it is repeated; its default,
            0, stands for 8.
            """,
            fires={rule: "warning"},
            show=("sockets --state fin-wait-1", "explain --state fin-wait-1"),
        )
        for peer in peers:
            hear_again(peer)
        wait_until(lambda: count_sockets(TcpState.FIN_WAIT_1) == 0, "the acknowledgements")
        yield Cured(
            """
            The path works again. The next repetition of each FIN was acknowledged, and FIN_WAIT_1
            was over. Here the path was the fault; what a program can do about it is to notice
            silent peers before it closes: SO_KEEPALIVE, TCP_USER_TIMEOUT.
            """,
            show=("states",),
        )


def _last_ack_stuck() -> Iterator[Scene]:
    rule = "last-ack-stuck"
    with last_ack_stuck(_FEW) as peers:
        yield Broken(
            f"""
            {_FEW} peers closed first, and then vanished. lab-program did what it should: it read
            the end-of-file and called close(), so its FINs are on their way: LAST_ACK. One
            acknowledgement is missing to end each connection, the last one, and it does not come.
            Until the kernel gives up it repeats the FIN, about 100 s with the default
            tcp_orphan_retries.
            """,
            fires={rule: "warning"},
            show=("sockets --state last-ack", "explain --state last-ack"),
        )
        for peer in peers:
            hear_again(peer)
        wait_until(lambda: count_sockets(TcpState.LAST_ACK) == 0, "the last acknowledgements")
        yield Cured(
            """
            The peers hear again, acknowledge the repeated FINs, and nothing is left here. TIME_WAIT
            is on their side: they closed first.
            """,
            show=("states",),
        )


def _zero_window_orphan() -> Iterator[Scene]:
    rule = "fin-wait-1-stuck"
    number = 13
    with closed_before_sent(number, reading=False) as peers:
        wait_until(lambda: _probing() == number, f"{number} closed windows")
        yield Broken(
            f"""
            lab-program wrote megabytes on {number} connections and closed them. The peers are alive
            and do not read: their receive buffers are full, so they announce a window of 0. The FIN
            stands behind the unsent data and cannot leave. lab-program is rid of the sockets; the
            kernel keeps the data in its memory and asks again and again whether there is room
            (timer: persist, zero-window probes). A peer that answers these can keep an orphan for
            minutes, and costs memory that no process is charged for.
            """,
            fires={rule: "warning"},
            show=("sockets --state fin-wait-1",),
            limits={rule: {"max_pause": 0.5}},
        )
        for peer in peers:
            peer.close()
        wait_until(lambda: count_sockets(TcpState.FIN_WAIT_1) == 0, "the resets")
        yield Cured(
            """
            The peers were ended. Closing with data unread sends a reset, and that ends the orphans
            here and frees what they held. A sender protects itself with a limit on how long a write
            may take, or with TCP_USER_TIMEOUT, before it closes.
            """,
            show=("states",),
        )


def _probing() -> int:
    """Sockets that wait 0.6 s or longer for their next zero-window probe; the first ones still moved bytes.

    /proc/net/tcp: timer 4 is the persist timer, and what follows it its hundredths of a second.
    """
    with open("/proc/net/tcp", encoding="ascii") as table:
        timers = [fields[5].split(":") for fields in (line.split() for line in table) if fields[3] == "04"]
    return sum(kind == "04" and int(left, 16) >= 60 for kind, left in timers)


def _time_wait_table_full() -> Iterator[Scene]:
    rule = "time-wait-table-nearly-full"
    write_sysctl(_BUCKETS, 100)
    with time_wait(113):
        yield Broken(
            """
            tcp_max_tw_buckets was lowered to 100, "to get rid of TIME_WAIT". 113 connections were closed here
            first: 100 are in TIME_WAIT, and the last 13 were not allowed to be; the kernel forgot them at
            once. A late segment of one of these meets no socket and is answered with a reset, or worse,
            meets a new connection with the same ports. The limit is there against attacks; it is no
            lever.
            """,
            fires={rule: "warning"},
            show=("states", "explain --sysctl tcp_max_tw_buckets"),
        )
        write_sysctl(_BUCKETS, 16384)
        yield Cured("The limit is 16384: there is room again. Each entry costs 256 bytes, for 60 s.")


def _near_descriptor_limit() -> Iterator[Scene]:
    rule = "close-wait-near-descriptor-limit"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with close_wait(113) as sockets:
        used = len(os.listdir("/proc/self/fd")) - 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 5, hard))
        yield Broken(
            f"""
            lab-program may have {used + 5} descriptors (RLIMIT_NOFILE) and uses {used}; 113 of
            these are sockets in CLOSE_WAIT that it does not close. Five more, and accept(),
            connect() and open() fail with EMFILE: the server is up, and takes nobody in. A higher
            limit moves the night on which it happens.
            """,
            fires={rule: "critical"},
            show=("sockets --state close-wait",),
        )
        for sock in sockets:
            sock.close()
        yield Cured("lab-program closes what its peers have ended long ago, and has its descriptors back.")


def _scenario(name: str, title: str, play: Callable[[], Iterator[Scene]], *rules: str) -> Scenario:
    return Scenario(name, title, play, rules or None)


def _closed_at_a_full_queue() -> Iterator[Scene]:
    stuck, full = "fin-wait-1-stuck", "accept-queue-full"
    with closed_at_a_full_queue(13) as server:
        let_pass(1.5)
        yield Broken(
            """
            A server that listens and does not accept: its queue of 13 has filled. For twelve more clients
            connect() had succeeded by then, because a client needs no more than the SYN-ACK. They sent their
            request, waited, and closed: FIN_WAIT_1. The server's kernel drops what they send for as long as
            the queue is full, and answers nothing. It looks like a path that loses packets, and is a program
            that does not accept.
            """,
            fires={stuck: "warning", full: "critical"},
            show=("sockets --state fin-wait-1,listen",),
        )
        server.settimeout(0)
        wait_until(lambda: _have_been_taken(server), "the clients' FINs to be answered", 60)
        yield Cured("The server accepts: what the clients repeat finds a place, and their FINs are answered.")


def _have_been_taken(server: socket.socket) -> bool:
    """Accept what waits; whether no client was left before that repeats its FIN, later each time."""
    answered = count_sockets(TcpState.FIN_WAIT_1) == 0
    with suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
    return answered


SCENARIOS = (
    _scenario(
        "fin-wait-1-at-a-full-queue",
        "A server that does not accept leaves its clients in FIN_WAIT_1",
        _closed_at_a_full_queue,
        "fin-wait-1-stuck",
        "accept-queue-full",
    ),
    _scenario(
        "fin-wait-1-stuck",
        "Peers are silent after our close: the FIN is never acknowledged",
        _fin_wait_1_stuck,
    ),
    _scenario(
        "last-ack-stuck", "Peers are silent after their close: the last ACK never comes", _last_ack_stuck
    ),
    _scenario(
        "zero-window-orphan",
        "Peers do not read, and closed connections cannot end",
        _zero_window_orphan,
        "fin-wait-1-stuck",
    ),
    _scenario("time-wait-table-nearly-full", "The table of TIME_WAIT is full", _time_wait_table_full),
    _scenario(
        "close-wait-near-descriptor-limit",
        "Sockets in CLOSE_WAIT have used the descriptors up",
        _near_descriptor_limit,
    ),
)


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


TRACED = (
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
