"""Diseases of bind(): ports that are bound and not used, and a server's port in a client's hands."""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.pairs import LOOPBACK, allow_descriptors, connect, listen, wait_until
from tcpdoctor.lab.scenario import Asked, Broken, Cured, Scenario, Scene, Step


@contextmanager
def bound_to_any(count: int) -> Iterator[list[socket.socket]]:
    """`count` sockets are bound to port 0 of every address, and nothing is done with them."""
    allow_descriptors(count + 64)
    with ExitStack() as stack:
        sockets = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.bind(("0.0.0.0", 0))
            sockets.append(sock)
        yield sockets


def try_bind(port: int, address: str = "0.0.0.0") -> str:
    """What bind() and listen() say to a server that sets SO_REUSEADDR: ``ok`` or the name of an errno."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((address, port))
            sock.listen()
        except OSError as error:
            return errno.errorcode[error.errno or 0]
    return "ok"


def try_connect(port: int, address: str = LOOPBACK) -> str:
    """What connect() says: ``ok`` or the name of an errno."""
    with socket.socket() as sock:
        sock.settimeout(10)
        return errno.errorcode.get(sock.connect_ex((address, port)), "ok")


# Who has the port: servers, clients, and sockets that were bound and forgotten.


_RANGE = "net.ipv4.ip_local_port_range"
_RESERVED = "net.ipv4.ip_local_reserved_ports"


def _listener_port_in_ephemeral_range() -> Iterator[Scene]:
    rule = "listener-port-in-ephemeral-range"
    write_sysctl(_RANGE, "40000 40103")
    with ExitStack() as stack:
        listen(stack, port=40001)
        yield Broken(
            """
            A server listens on port 40001, and outgoing connections are given ports from 40000 to 40103.
            While the server runs its port is safe: connect() skips ports that are bound. While it is
            stopped, the kernel may give 40001 to any client, and nobody will know why the server does not
            start again.
            """,
            fires={rule: "info"},
            show=("explain --port 40001",),
            window=0,
        )
        write_sysctl(_RESERVED, "40001")
        yield Cured(
            """
            Port 40001 is reserved now (net.ipv4.ip_local_reserved_ports). The server may still bind it,
            because it names it; clients, who leave the choice to the kernel, never get it.
            """,
            window=0,
        )


def _listener_port_taken() -> Iterator[Scene]:
    write_sysctl(_RANGE, "40000 40001")
    with ExitStack() as stack:
        peer = listen(stack, port=7000)
        server = socket.create_server(("0.0.0.0", 40001))
        yield Step(
            """
            A server listens on port 40001. The range of ephemeral ports is 40000 to 40001, so that it does
            not take years until a client is given just this port. It is restarted now: first it stops.
            """,
            show=("explain --port 40001",),
        )
        server.close()
        clients = [connect(stack, peer), connect(stack, peer)]
        yield Asked(
            f"""
            While it was down, two clients connected to another server, and the kernel gave one of them port
            40001. The server starts again, with SO_REUSEADDR as every server, and bind() says
            {try_bind(40001)}. Nothing listens on the port. SO_REUSEADDR does not help, because both sockets
            would need it, and clients do not set it.
            """,
            "explain --port 40001",
            {
                "bind.cause": "outgoing-connection",
                "bind.attempts.1.bind": "EADDRINUSE",
                "bind.free_in_s": None,
            },
        )
        for _ in clients:
            peer.accept()[0].close()
        for client in clients:
            client.recv(1)
            client.close()
        wait_until(lambda: try_bind(40001) == "ok", "port 40001 to be free")
        write_sysctl(_RESERVED, "40001")
        write_sysctl(_RANGE, "40000 40007")
        ports = sorted(connect(stack, peer).getsockname()[1] for _ in range(5))
        stack.enter_context(socket.create_server(("0.0.0.0", 40001)))
        yield Asked(
            f"""
            The client's connection is over. Port 40001 is reserved now, and five more clients have been given
            {", ".join(map(str, ports))}. Then the server started. What explain says is as it should be: the
            port is taken, by a listener.
            """,
            "explain --port 40001",
            {"bind.cause": "listener"},
            cured=True,
        )


def _ephemeral_ports_bound() -> Iterator[Scene]:
    rule = "ephemeral-ports-bound"
    write_sysctl(_RANGE, "40000 40103")
    with ExitStack() as stack:
        peer = listen(stack, port=7000)
        with bound_to_any(104):
            yield Broken(
                f"""
                The range has 104 ports, and a program has called bind() to port 0 for 104 sockets, without
                using them. Each has its port for itself, towards every destination. The next bind() to port
                0 says {try_bind(0)}, although it names no port; and connect(), which skips ports that are
                bound, says {try_connect(peer.getsockname()[1])}. `ss -tan` shows none of these sockets,
                `ss -B` does.
                """,
                fires={rule: "critical"},
                show=("states", "sockets --state bound"),
                window=0,
            )
            yield Asked(
                "explain foresees it, and that no timer gives any of these ports back.",
                "explain --connect 127.0.0.1:7000",
                {
                    "connect.verdict": "EADDRNOTAVAIL",
                    "connect.lost_to_bound_sockets": 104,
                    "connect.next_free_in_s": None,
                },
            )
        yield Cured(
            f"""
            The program closed its sockets, and the ports came back at once: there is no TIME_WAIT after a
            socket that was never connected. bind() to port 0 says {try_bind(0)}.
            """,
            window=0,
        )


SCENARIOS = (
    Scenario(
        "listener-port-in-ephemeral-range",
        "Server's port may be given to a client while it restarts",
        _listener_port_in_ephemeral_range,
    ),
    Scenario(
        "listener-port-taken-by-client",
        "Server does not start: an outgoing connection has its port",
        _listener_port_taken,
        proves=(),
    ),
    Scenario("ephemeral-ports-bound", "bind() to port 0 finds no port any more", _ephemeral_ports_bound),
)
