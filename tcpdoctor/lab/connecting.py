"""Diseases of connecting: ports used up, no answer, and whom a connection meets instead of a server."""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.binding import try_connect
from tcpdoctor.lab.closing import time_wait
from tcpdoctor.lab.keepalive import connected_to_itself, forgotten_connections, half_open
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.packets import go_deaf, hear_again
from tcpdoctor.lab.pairs import (
    LOOPBACK,
    again_and_again,
    allow_descriptors,
    connect_and_close,
    connect_pair,
    connected,
    count_sockets,
    listen,
    wait_until,
)
from tcpdoctor.lab.scenario import Asked, Broken, Cured, Scenario, Scene, Step


@contextmanager
def connections(count: int) -> Iterator[socket.socket]:
    """`count` established connections towards one destination; yields its listener."""
    with connected(count) as (server, _):
        yield server


@contextmanager
def unanswered(count: int) -> Iterator[socket.socket]:
    """`count` attempts to connect to a destination that is silent; yields its deaf listener."""
    allow_descriptors(count + 64)
    with ExitStack() as stack:
        server = listen(stack)
        go_deaf(server)
        attempts(stack, server, count)
        yield server


def attempts(stack: ExitStack, server: socket.socket, count: int) -> list[socket.socket]:
    """Begin `count` connections to `server` without waiting for them."""
    clients = []
    for _ in range(count):
        client = stack.enter_context(socket.socket())
        client.settimeout(0)
        problem = client.connect_ex((LOOPBACK, server.getsockname()[1]))
        if problem not in (0, errno.EINPROGRESS):
            raise OSError(problem, "connect()")
        clients.append(client)
    return clients


# Ports for outgoing connections: used up by what lives, by TIME_WAIT, and by what was reserved.


_RANGE = "net.ipv4.ip_local_port_range"
_RESERVED = "net.ipv4.ip_local_reserved_ports"
_EXHAUSTED = "ephemeral-ports-nearly-exhausted"


def _used_up_by_established() -> Iterator[Scene]:
    with ExitStack() as stack:
        busy, other = listen(stack, port=7001), listen(stack, port=7002)
        write_sysctl(_RANGE, "40000 40103")
        with ExitStack() as clients:
            for _ in range(104):
                connect_pair(clients, busy)
            yield Broken(
                f"""
                The range of ephemeral ports has 104 ports, and 104 connections to 127.0.0.1:7001 are open.
                A connection is told apart by both addresses and both ports; three of these four are the same
                for all of them, so each needs a local port of its own. The next connect() there says
                {try_connect(7001)}. To 127.0.0.1:7002 it says {try_connect(7002)}: towards another
                destination the same ports can be used again.
                """,
                fires={_EXHAUSTED: "critical"},
                show=("explain --connect 127.0.0.1:7001", "explain --connect 127.0.0.1:7002"),
                window=0,
            )
            yield Asked(
                "explain foresees what connect() will say, and that no waiting helps: these connections are "
                "alive, and no timer ends them.",
                "explain --connect 127.0.0.1:7001",
                {"connect.verdict": "EADDRNOTAVAIL", "connect.free": 0, "connect.next_free_in_s": None},
            )
        del other
        write_sysctl(_RANGE, "40000 41102")
        yield Cured(
            f"""
            The client closed its connections, and the range is wider. connect() says {try_connect(7001)}.
            What the client closed first is in TIME_WAIT for 60 s now and still counts, which is why a pool
            of open connections is the better cure.
            """,
            window=0,
        )


def _used_up_by_time_wait() -> Iterator[Scene]:
    write_sysctl("net.ipv4.tcp_tw_reuse", 0)
    with ExitStack() as stack:
        server = listen(stack, port=7001)
        write_sysctl(_RANGE, "40000 40103")
        connect_and_close(server, 104)
        yield Broken(
            f"""
            A client has opened and closed 104 connections to one server within a moment. It closed first, so
            its end is in TIME_WAIT for 60 s, and its port is in use for that long: of 104 ports none is left,
            and connect() says {try_connect(7001)}. Not one connection is open. tcp_tw_reuse is 0 here; its
            default, 2, makes an exception for loopback.
            """,
            fires={_EXHAUSTED: "critical"},
            show=("explain --connect 127.0.0.1:7001",),
            window=0,
        )
        yield Asked(
            "Nothing has to be done but to wait: explain says for how long, at the earliest.",
            "explain --connect 127.0.0.1:7001",
            {"connect.verdict": "EADDRNOTAVAIL", "connect.used_by_state.time_wait": 104},
        )
        write_sysctl(_RANGE, "40000 41102")
        yield Cured(
            f"""
            A wider range brings free ports at once: connect() says {try_connect(7001)}. tcp_fin_timeout would
            have done nothing, TIME_WAIT is 60 s whatever it says. What cures the cause is to keep
            connections open and use them again.
            """,
            window=0,
        )


def _range_narrow() -> Iterator[Scene]:
    rule = "ephemeral-range-narrow"
    write_sysctl(_RANGE, "40000 40103")
    yield Broken(
        """
        net.ipv4.ip_local_port_range is 40000 to 40103. That is enough for 104 connections to one destination,
        and, as each port stays in TIME_WAIT for 60 s, for fewer than two new ones a second. Nothing is wrong
        yet; under load it will be.
        """,
        fires={rule: "warning"},
        show=("explain --sysctl net.ipv4.ip_local_port_range",),
        window=0,
    )
    write_sysctl(_RANGE, "32768 60999")
    yield Cured("The range is the kernel's default again: 28,232 ports for each destination.", window=0)


def _range_mostly_reserved() -> Iterator[Scene]:
    rule = "ephemeral-range-mostly-reserved"
    write_sysctl(_RANGE, "40000 40103")
    write_sysctl(_RESERVED, "40000-40095")
    with ExitStack() as stack:
        server = listen(stack, port=7001)
        with ExitStack() as clients:
            for _ in range(8):
                connect_pair(clients, server)
            yield Broken(
                f"""
                The range looks as if it had 104 ports, but 96 of them are reserved for servers: eight are
                left. Eight connections are open, and the ninth connect() says {try_connect(7001)}.
                """,
                fires={rule: "warning"},
                show=("explain --connect 127.0.0.1:7001",),
                window=0,
            )
            write_sysctl(_RESERVED, "40000-40006")
            yield Cured(
                f"""
                Only the seven ports that servers here need are reserved. connect() says {try_connect(7001)}.
                """,
                window=0,
            )


def _tw_reuse_for_a_server() -> Iterator[Scene]:
    rule = "tw-reuse-for-a-server"
    write_sysctl("net.ipv4.tcp_tw_reuse", 1)
    with time_wait(151, at_server=True):
        yield Broken(
            """
            A server has closed 151 connections before its clients did, so the 151 TIME_WAIT are its own. They
            are all on the server's port: no port is used up, no descriptor, and clients that come back are
            let in. Somebody has set tcp_tw_reuse = 1 to get rid of them. It does nothing here: it is for
            connect(), and these connections were accepted.
            """,
            fires={rule: "info"},
            show=("states --by port",),
            limits={rule: {"min_sockets": 100}},
            window=0,
        )
        write_sysctl("net.ipv4.tcp_tw_reuse", 2)
        yield Cured(
            """
            tcp_tw_reuse is 2, the default. There are as many TIME_WAIT as before, and there is nothing wrong
            with that.
            """,
            window=0,
        )


def _syn_sent_unanswered() -> Iterator[Scene]:
    rule = "syn-sent-unanswered"
    with unanswered(23) as server:
        yield Broken(
            """
            lab-program has begun 23 connections to a destination that is silent: no SYN-ACK comes, and
            no reset either, as behind a firewall that drops, or where the host is down. SYN_SENT means
            that the kernel has sent the SYN and repeats it, each second at first and then ever more
            slowly. After about two minutes it gives up with ETIMEDOUT. A refusal would have come at
            once, as ECONNREFUSED; it is silence that costs time.
            """,
            fires={rule: "warning"},
            show=("sockets --state syn-sent", "explain --state syn-sent"),
        )
        hear_again(server)
        wait_until(lambda: count_sockets(TcpState.SYN_SENT) == 0, "SYN-ACKs")
        yield Cured(
            """
            The destination answers again: the next SYN of each was a success. Nothing on this host was
            at fault; a program protects itself with a limit on how long it waits for connect().
            """,
            show=("states",),
        )


_ITSELF, _OLD = "connected-to-itself", "new-connections-meet-old-ones"
_PILE, _AGAIN = "half-open-connections-pile-up", "connection-attempts-repeated"
_PORT = 40000


def _itself() -> Iterator[Scene]:
    write_sysctl("net.ipv4.ip_local_port_range", f"{_PORT} {_PORT + 15}")
    yield Step(
        f"""
        A client wants to talk to a service on port {_PORT} of its own host. The port lies in the range that
        connect() chooses local ports from ({_PORT} to {_PORT + 15} here), and the service is down.
        """
    )
    with connected_to_itself(_PORT):
        yield Broken(
            """
            connect() succeeded although nobody listens. The kernel chose the very port of the service as the
            client's own; its SYN came back to the socket that had sent it, which TCP takes for a
            simultaneous open. What the client writes it reads back as the answer, and the service cannot
            start: bind() answers EADDRINUSE.
            """,
            fires={_ITSELF: "critical"},
            show=("sockets --state established", f"explain --port {_PORT}"),
        )
    write_sysctl("net.ipv4.ip_local_reserved_ports", _PORT)
    with socket.socket() as client:
        refused = client.connect_ex((LOOPBACK, _PORT))
        yield Cured(
            f"""
            The socket was closed, and the port reserved (net.ipv4.ip_local_reserved_ports = {_PORT}).
            connect() does not choose it any more, so that a client of a service that is down is refused
            (errno {refused}), as it should be.
            """
        )


def _old_ones() -> Iterator[Scene]:
    with forgotten_connections(97) as (server, held, ports), ExitStack() as stack:
        yield Step(
            """
            A server holds 97 connections whose clients have lost them: power, a restart of the gateway in
            front. No FIN and no reset has come, keepalive is off, so they are ESTABLISHED for ever.
            """,
            show=("sockets --state established",),
        )
        left = list(ports)

        def reconnect() -> None:
            if left:
                client = stack.enter_context(socket.socket())
                client.bind((LOOPBACK, left.pop()))
                client.settimeout(0)
                client.connect_ex(server.getsockname())

        with again_and_again(reconnect, every=0.03):
            yield Broken(
                """
                The clients come back and happen to use the same source ports. Each SYN meets the server's old
                connection. The server cannot tell it from a forged one and sends a challenge ACK; the
                client, who knows nothing of that connection, answers with a reset, and only its next SYN
                begins a new one. It sends that at once; before Linux 5.6 it waited for a second. A
                firewall that drops the reset or the challenge keeps the client out altogether.
                """,
                fires={_OLD: "warning"},
                show=("states",),
            )
        for sock in held:
            sock.close()
        wait_until(lambda: count_sockets(TcpState.FIN_WAIT_1, server.getsockname()[1]) == 0, "ends", 20)
        yield Cured("The server has closed what its clients forgot; SYNs meet nothing old any more.")


def _pile() -> Iterator[Scene]:
    with half_open(59, backlog=64) as (server, clients):
        yield Broken(
            """
            59 clients have sent a SYN, and nothing of what the server answers reaches them: a SYN flood
            with forged addresses looks alike, and so does a firewall that drops the way back. Each
            half-open connection waits for an ACK and has its SYN+ACK sent again after 1, 2, 4 s and so on.
            The queue holds 65; beyond, the kernel answers with SYN cookies (tcp_syncookies = 1) and keeps
            nothing of those clients.
            """,
            fires={_PILE: "warning"},
            show=("sockets --state syn-recv",),
        )
        for client in clients:
            hear_again(client)
        port = server.getsockname()[1]
        wait_until(lambda: count_sockets(TcpState.SYN_RECV, port) == 0, "handshakes")
        yield Cured(
            "The clients hear the server again: each next SYN+ACK is answered, and the queue is empty."
        )


def _again() -> Iterator[Scene]:
    allow_descriptors(4096)
    with ExitStack() as stack:
        server = listen(stack, 1)
        attempts(stack, server, 2)
        with again_and_again(lambda: _attempt(stack, server), every=0.01):
            yield Broken(
                """
                Clients connect, a hundred a second, to a server whose accept queue is full. Linux drops a SYN
                then without a word, so each client sends it again after a second, and again: whoever gets
                through has waited for 1, 2 or 3 s. Loss on the way looks just the same from here.
                """,
                fires={_AGAIN: "warning"},
                show=("sockets --state syn-sent",),
                window=2.0,
            )
        server.close()
        yield Cured(
            """
            The clients were told that the service is down: its port answers with a reset, and connect()
            fails at once instead of waiting. With a server that accepts in time it would succeed as fast.
            """
        )


def _attempt(stack: ExitStack, server: socket.socket) -> None:
    attempts(stack, server, 1)


SCENARIOS = (
    Scenario(
        _EXHAUSTED, "Every port towards one destination has an open connection", _used_up_by_established
    ),
    Scenario(
        "ephemeral-ports-in-time-wait",
        "Every port towards one destination is in TIME_WAIT",
        _used_up_by_time_wait,
        proves=(_EXHAUSTED,),
    ),
    Scenario(
        "tw-reuse-for-a-server",
        "tcp_tw_reuse is on for connections that were accepted",
        _tw_reuse_for_a_server,
    ),
    Scenario("ephemeral-range-narrow", "The range of ephemeral ports is narrow", _range_narrow),
    Scenario(
        "ephemeral-range-mostly-reserved",
        "Reserved ports take most of the ephemeral range",
        _range_mostly_reserved,
    ),
    Scenario(
        "syn-sent-unanswered", "A destination does not answer when clients connect", _syn_sent_unanswered
    ),
    Scenario(_ITSELF, "A client is connected to itself instead of its server", _itself),
    Scenario(_OLD, "Clients come back to connections that the server still holds", _old_ones),
    Scenario(_PILE, "Half-open connections fill a listener's queue", _pile),
    Scenario(_AGAIN, "Connection attempts need more than one SYN", _again),
)
