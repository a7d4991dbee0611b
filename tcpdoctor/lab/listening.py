"""Diseases of listening: servers that do not accept."""

import socket
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tcpdoctor.lab.connecting import attempts
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.packets import go_deaf
from tcpdoctor.lab.pairs import LOOPBACK, again_and_again, allow_descriptors, connect, let_pass, listen
from tcpdoctor.lab.scenario import Broken, Cured, Scenario, Scene, Step


@contextmanager
def accept_queue(length: int, *, backlog: int) -> Iterator[socket.socket]:
    """A server with `backlog` does not accept, and `length` clients wait; at most backlog + 1 fit."""
    allow_descriptors(length + 64)
    with ExitStack() as stack:
        server = listen(stack, backlog)
        for _ in range(length):
            connect(stack, server)
        yield server


@contextmanager
def accept_queue_overflowing(count: int, *, backlog: int) -> Iterator[socket.socket]:
    """`count` more clients than fit into the queue keep sending their SYN."""
    with accept_queue(backlog + 1, backlog=backlog) as server, ExitStack() as stack:
        attempts(stack, server, count)
        yield server


def accept_all(server: socket.socket, *, quiet: float = 1.5) -> list[socket.socket]:
    """The cure: accept what waits and what comes, until nothing came for `quiet` seconds.

    A client whose SYN was dropped sends it again after a second at first, later after two and four.
    """
    accepted = []
    server.settimeout(quiet)
    try:
        while True:
            accepted.append(server.accept()[0])
    except TimeoutError:
        return accepted


@contextmanager
def bursts(count: int, *, backlog: int) -> Iterator[socket.socket]:
    """Five times a second `count` clients come at the same moment; the server accepts all that got in."""
    allow_descriptors(2 * count + 64)
    with ExitStack() as stack:
        server = listen(stack, backlog)
        server.settimeout(0)
        stack.enter_context(again_and_again(lambda: _burst(server, count), every=0.2))
        yield server


def _burst(server: socket.socket, count: int) -> None:
    with ExitStack() as stack:
        attempts(stack, server, count)  # on loopback a handshake is over when connect() returns
        try:
            while True:
                stack.enter_context(server.accept()[0])
        except BlockingIOError:
            return


@contextmanager
def half_open(count: int, *, backlog: int) -> Iterator[socket.socket]:
    """A server that `count` clients a second send a SYN to, and never end the handshake.

    They cannot hear the server, so that the listener remembers each as half-open. At least `count`
    have come when the block begins; the last 500 at most still send their SYN again.
    """
    room = 500
    allow_descriptors(room + 64)
    clients = deque[socket.socket](maxlen=room)
    with ExitStack() as stack:
        server = listen(stack, backlog)
        stack.callback(_close_all, clients)
        for _ in range(count):
            _begin_deaf(server, clients)
        stack.enter_context(again_and_again(lambda: _begin_deaf(server, clients), every=1 / count))
        yield server


def _begin_deaf(server: socket.socket, clients: deque[socket.socket]) -> None:
    client = socket.socket()
    client.settimeout(0)
    go_deaf(client)
    client.connect_ex((LOOPBACK, server.getsockname()[1]))
    if len(clients) == clients.maxlen:
        clients[0].close()
    clients.append(client)


def _close_all(sockets: deque[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


# What goes wrong between a client's SYN and the server's accept().


_COOKIES = "net.ipv4.tcp_syncookies"
_SOMAXCONN = "net.core.somaxconn"


def _accept_queue_full() -> Iterator[Scene]:
    rule = "accept-queue-full"
    with accept_queue(24, backlog=23) as server:
        yield Broken(
            """
            A server called listen(fd, 23) and then never accept(). 24 clients have connected: their
            handshakes are complete, because the kernel does those by itself, and they wait in the accept
            queue. It holds backlog + 1, so it is full: Recv-Q 24 stands above Send-Q 23. The 25th client
            would get no answer at all, and send its SYN again after a second.
            """,
            fires={rule: "critical"},
            show=("sockets --state listen",),
        )
        accepted = len(accept_all(server, quiet=0.3))
        yield Cured(
            f"The server accepted all {accepted}. Nothing else empties this queue: no timer, and no sysctl.",
            show=("sockets --state listen",),
        )


def _clients_wait() -> Iterator[Scene]:
    rule = "clients-wait-to-be-accepted"
    with accept_queue(7, backlog=127) as server, ExitStack() as stack:
        for client in [connect(stack, server) for _ in range(3)]:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        let_pass(0.6)
        yield Broken(
            """
            A server that serves one client after the other hangs in one of them. Ten more have connected,
            for the kernel does that by itself, and three of these have sent a request: it is here, and
            acknowledged. The queue has room for 118 others, so nothing is dropped and every new client
            connects at once; none is ever answered.
            """,
            fires={rule: "warning"},
            show=("sockets --state listen,established",),
            limits={rule: {"min_age": 0.5}},
        )
        for connection in accept_all(server, quiet=0.3):
            connection.close()
        yield Cured("The server accepts again: the clients that wait are served.", show=("states",))


def _accept_queue_overflows() -> Iterator[Scene]:
    rules = {"accept-queue-overflows": "critical", "accept-queue-full": "critical"}
    with accept_queue_overflowing(23, backlog=31) as server:
        yield Broken(
            """
            32 clients fill the queue of a server that does not accept, and 23 more knock. The kernel drops
            their SYNs without a word and counts each in TcpExt.ListenOverflows; the clients are in SYN_SENT
            and try again each second at first. So the counter counts packets, not clients.
            """,
            fires=rules,
            show=("states", "sockets --state listen"),
            window=1.5,
        )
        accepted = len(accept_all(server))
        yield Cured(
            f"""
            The server accepts in a loop. {accepted} connections came through: those that had waited in the
            queue, and the others with the next SYN that they sent.
            """,
            show=("states",),
        )


def _accept_queue_too_short() -> Iterator[Scene]:
    fires = {"accept-queue-too-short": "warning", "accept-queue-overflows": "critical"}
    write_sysctl(_SOMAXCONN, 5)
    with bursts(23, backlog=4096) as server:
        yield Broken(
            """
            This server accepts at once. But 23 clients come at the same moment, five times a second, and the
            queue holds 6. The server asked for 4096: net.core.somaxconn of this namespace is 5, and listen()
            cut the backlog to it without saying so. Between the bursts the queue is empty, so nobody sees it
            full; what tells is the listener's own count of drops.
            """,
            fires=fires,
            show=("sockets --state listen",),
        )
        write_sysctl(_SOMAXCONN, 4096)
        yield Broken(
            """
            Now somaxconn is 4096, and nothing has changed: a listening socket keeps the limit that it was
            given by listen().
            """,
            fires=fires,
            show=("sockets --state listen",),
        )
        server.listen(4096)
        yield Cured(
            """
            The server called listen() once more, which a restart does as well. The limit is 4096 now, and the
            same bursts come through.
            """,
            show=("sockets --state listen",),
        )


def _syn_queue_full() -> Iterator[Scene]:
    rule = "syn-queue-full"
    with half_open(23, backlog=8) as server:
        yield Broken(
            """
            Clients send a SYN and never end the handshake: 23 new ones each second, and each sends its SYN
            again. The listener remembers 9 of them as half-open (SYN_RECV), one more than its backlog of 8.
            Everybody else gets a SYN cookie: the answer itself carries what the kernel would have to
            remember, so an honest client still gets in.
            """,
            fires={rule: "warning"},
            show=("states", "sockets --state syn-recv"),
            window=1.5,
        )
        server.listen(4096)
        yield Cured(
            """
            The server listens with a backlog of 4096. The flood goes on, and all of it is remembered: the
            queue of half-open connections has the accept queue's limit, while net.ipv4.tcp_max_syn_backlog
            plays no part as long as cookies are on.
            """,
            show=("states",),
            window=1.5,
        )


def _syn_queue_drops() -> Iterator[Scene]:
    write_sysctl(_COOKIES, 0)
    with half_open(23, backlog=8):
        yield Broken(
            """
            The same flood of SYNs, and somebody has turned SYN cookies off. Once 9 connections are half-open
            every further SYN is dropped, an honest client's as well: it waits a second, then two, then four.
            """,
            fires={"syn-queue-drops": "critical", "syncookies-off": "warning"},
            show=("states",),
            window=1.5,
        )
        write_sysctl(_COOKIES, 1)
        yield Cured(
            "net.ipv4.tcp_syncookies is 1 again. It acts at once, also for servers that listen already.",
            show=("states",),
            window=1.5,
        )


def _drops_without_overflow() -> Iterator[Scene]:
    write_sysctl(_COOKIES, 0)
    write_sysctl("net.ipv4.tcp_max_syn_backlog", 8)
    with half_open(23, backlog=4096):
        yield Broken(
            """
            The listener's own queues have room for 4096. But without SYN cookies one more limit holds: when
            less than a quarter of net.ipv4.tcp_max_syn_backlog (8 here) is left, SYNs of clients that the
            kernel does not know are dropped. Neither ListenOverflows nor TCPReqQFullDrop counts them, only
            ListenDrops.
            """,
            fires={"listener-drops-without-overflow": "warning"},
            show=("states",),
            window=1.5,
        )
        write_sysctl(_COOKIES, 1)
        yield Cured(
            "With cookies on the kernel does not look at tcp_max_syn_backlog any more: nothing is dropped.",
            show=("states",),
            window=1.5,
        )


def _syncookies_always() -> Iterator[Scene]:
    write_sysctl(_COOKIES, 2)
    with half_open(23, backlog=4096):
        yield Broken(
            """
            net.ipv4.tcp_syncookies is 2. A server with room for 4096 half-open connections remembers none:
            there is no socket in SYN_RECV. If the last packet of a handshake is lost, only the client thinks
            that it is connected: no SYN+ACK is sent again, and where the server has to speak first (SSH,
            SMTP) both wait.
            """,
            fires={"syncookies-always": "warning"},
            show=("states",),
        )
        write_sysctl(_COOKIES, 1)
        yield Cured(
            "With 1 they are remembered again, and cookies wait until the queue is full.", show=("states",)
        )


def _abort_on_overflow() -> Iterator[Scene]:
    setting = "net.ipv4.tcp_abort_on_overflow"
    yield Step("A namespace with the kernel's defaults: a client that comes too early may wait.")
    write_sysctl(setting, 1)
    yield Broken(
        """
        net.ipv4.tcp_abort_on_overflow is 1. A client whose handshake ends while the accept queue is full is
        reset; with 0 the kernel would have ignored that one packet, and taken the client in when its data
        came.
        """,
        fires={"abort-on-overflow": "warning"},
        show=("explain --sysctl tcp_abort_on_overflow",),
    )
    write_sysctl(setting, 0)
    yield Cured("The default again. It acts on the next handshake.")


SCENARIOS = (
    Scenario("accept-queue-full", "Server does not accept, and its queue is full", _accept_queue_full),
    Scenario(
        "clients-wait-to-be-accepted",
        "Server hangs while its accept queue has room",
        _clients_wait,
    ),
    Scenario("accept-queue-overflows", "Clients are dropped at a full accept queue", _accept_queue_overflows),
    Scenario(
        "accept-queue-too-short",
        "somaxconn cuts a server's queue, and bursts of clients are dropped",
        _accept_queue_too_short,
    ),
    Scenario("syn-queue-full", "Half-open connections fill the queue, cookies are sent", _syn_queue_full),
    Scenario(
        "syn-queue-drops",
        "Half-open connections fill the queue, and cookies are off",
        _syn_queue_drops,
        proves=("syn-queue-drops", "syncookies-off"),
    ),
    Scenario(
        "listener-drops-without-overflow",
        "SYNs are dropped though the queues have room",
        _drops_without_overflow,
    ),
    Scenario("syncookies-always", "SYN cookies are sent for every connection", _syncookies_always),
    Scenario("abort-on-overflow", "A full accept queue resets clients", _abort_on_overflow),
)
