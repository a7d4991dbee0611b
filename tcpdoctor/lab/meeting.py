"""How connections begin and whom they meet: themselves, nobody, or a forgotten one."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.connecting import attempts
from tcpdoctor.lab.keepalive import connected_to_itself, forgotten_connections, half_open
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.packets import hear_again
from tcpdoctor.lab.pairs import (
    LOOPBACK,
    again_and_again,
    allow_descriptors,
    count_sockets,
    listen,
    wait_until,
)
from tcpdoctor.lab.scenario import Broken, Cured, Scenario, Scene, Step

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
    Scenario(_ITSELF, "A client is connected to itself instead of its server", _itself),
    Scenario(_OLD, "Clients come back to connections that the server still holds", _old_ones),
    Scenario(_PILE, "Half-open connections fill a listener's queue", _pile),
    Scenario(_AGAIN, "Connection attempts need more than one SYN", _again),
)
