"""A known workload in a private namespace: a prime number of sockets in each state.

The functions here run in the child that `in_namespace` starts; nobody closes what they make, the
end of the child does.
"""

import contextlib
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.pairs import wait_for_state

HELD: list[socket.socket] = []
_SS_NAMES = {
    "ESTAB": TcpState.ESTABLISHED,
    "SYN-SENT": TcpState.SYN_SENT,
    "SYN-RECV": TcpState.SYN_RECV,
    "FIN-WAIT-1": TcpState.FIN_WAIT_1,
    "FIN-WAIT-2": TcpState.FIN_WAIT_2,
    "TIME-WAIT": TcpState.TIME_WAIT,
    "CLOSE-WAIT": TcpState.CLOSE_WAIT,
    "LAST-ACK": TcpState.LAST_ACK,
    "LISTEN": TcpState.LISTEN,
    "CLOSING": TcpState.CLOSING,
}


class Server(NamedTuple):
    """A listener and how to reach it."""

    listener: socket.socket
    family: int
    address: str

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])


def serve(
    address: str = "127.0.0.1", *, backlog: int = 128, reach: str | None = None, port: int = 0
) -> Server:
    """Listen on `address`; `reach` is where clients connect to, with an address family of its own."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server(
        (address, 0), family=family, backlog=backlog, dualstack_ipv6=address == "::"
    )
    HELD.append(listener)
    reach = reach or address
    return Server(listener, socket.AF_INET6 if ":" in reach else socket.AF_INET, reach)


def connect(server: Server, count: int) -> list[tuple[socket.socket, socket.socket]]:
    """Make `count` established connections and return both ends of each."""
    pairs = []
    for _ in range(count):
        client = socket.socket(server.family)
        client.connect((server.address, server.port))
        accepted, _ = server.listener.accept()
        HELD.extend((client, accepted))
        pairs.append((client, accepted))
    return pairs


def half_close(server: Server, count: int) -> None:
    """`count` clients in FIN_WAIT_2, held, and their peers in CLOSE_WAIT."""
    clients = [client for client, _ in connect(server, count)]
    for client in clients:
        client.shutdown(socket.SHUT_WR)
    wait_for_state(clients, TcpState.FIN_WAIT_2)


def abandon(server: Server, count: int) -> None:
    """`count` orphans in FIN_WAIT_2, kept as minisockets, and their peers in CLOSE_WAIT."""
    for client, _ in connect(server, count):
        client.close()


def finish(server: Server, count: int) -> None:
    """`count` clients in TIME_WAIT."""
    for client, accepted in connect(server, count):
        client.shutdown(socket.SHUT_WR)
        accepted.recv(1)
        accepted.close()
        client.close()


def half_open(count: int) -> Server:
    """`count` request sockets in SYN_RECV: the listener waits for data before it believes."""
    server = serve()
    server.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 100)
    for _ in range(count):
        client = socket.create_connection((server.address, server.port))
        HELD.append(client)
    return server


def unanswered(count: int) -> Server:
    """`count` clients in SYN_SENT: the accept queue they knock at is full."""
    server = serve(backlog=0)
    HELD.append(socket.create_connection((server.address, server.port)))
    for _ in range(count):
        client = socket.socket()
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            client.connect((server.address, server.port))
        HELD.append(client)
    return server


def bind(count: int, address: str = "127.0.0.1") -> list[int]:
    """`count` sockets that are bound and nothing else; their ports."""
    ports = []
    for _ in range(count):
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        sock.bind((address, 0))
        HELD.append(sock)
        ports.append(int(sock.getsockname()[1]))
    return ports


def zoo() -> dict[TcpState, int]:
    """Sockets in every state that lasts, over IPv4, IPv6 and IPv4 mapped into IPv6; how many of each."""
    write_sysctl("net.ipv4.tcp_fin_timeout", 60)
    four, six, mapped = serve(), serve("::1"), serve("::", reach="127.0.0.1")
    for server in (four, six, mapped):
        connect(server, 5)
        half_close(server, 3)
        abandon(server, 7)
        finish(server, 11)
    half_open(13)
    unanswered(17)
    bind(19)
    bind(2, "::1")
    expected = {
        # both ends of 15 pairs, the clients of the half-open ones, and the pair that fills the queue
        TcpState.ESTABLISHED: 2 * 15 + 13 + 2,
        TcpState.CLOSE_WAIT: 3 * 3 + 3 * 7,
        TcpState.FIN_WAIT_2: 3 * 3 + 3 * 7,
        TcpState.TIME_WAIT: 3 * 11,
        TcpState.SYN_RECV: 13,
        TcpState.SYN_SENT: 17,
        TcpState.LISTEN: 5,
        TcpState.BOUND: 21,
    }
    wait_until(lambda: ss_counts() == {s: n for s, n in expected.items() if s is not TcpState.BOUND})
    return expected


def ss_counts() -> Counter[TcpState]:
    """What ss(8) counts in this namespace."""
    text = subprocess.run(["ss", "-Htan"], capture_output=True, text=True, check=True, timeout=120).stdout
    return Counter(_SS_NAMES[line.split()[0]] for line in text.splitlines())


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Return as soon as `condition` holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds} s: {ss_counts()}"
        time.sleep(0.02)
