"""A proxy between a client that has ended its side and a server that does not end its own."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.namespace import another_program
from tcpdoctor.lab.pairs import allow_descriptors, count_sockets, listen, wait_for_state, wait_until
from tcpdoctor.lab.scenario import Broken, Cured, Scenario, Scene


class Proxied(NamedTuple):
    """The proxy's sockets, and the line to the program at both far ends."""

    fronts: list[socket.socket]
    """Towards the clients: CLOSE_WAIT."""
    backs: list[socket.socket]
    """Towards the server: FIN_WAIT_2."""
    peers: Connection


@contextmanager
def half_closed_pairs(count: int) -> Iterator[Proxied]:
    """This process passes the end of `count` clients' streams on to a server that keeps its side open."""
    allow_descriptors(2 * count + 64)
    with another_program(lambda line: _be_both_ends(line, count), "lab-ends") as peers, ExitStack() as stack:
        front = listen(stack)
        peers.send(front.getsockname()[1])
        back_address = ("127.0.0.1", peers.recv())
        fronts, backs = [], []
        for _ in range(count):
            accepted, _ = front.accept()
            fronts.append(stack.enter_context(accepted))
            back = stack.enter_context(socket.create_connection(back_address, timeout=10))
            backs.append(back)
        for accepted, back in zip(fronts, backs, strict=True):
            accepted.settimeout(10)
            accepted.recv(1)  # the end of what the client sends
            back.shutdown(socket.SHUT_WR)
        wait_for_state(fronts, TcpState.CLOSE_WAIT)
        wait_for_state(backs, TcpState.FIN_WAIT_2)
        yield Proxied(fronts, backs, peers)


def _be_both_ends(line: Connection, count: int) -> None:
    """The clients, which end their side at once, and the server, which does not until it is told to."""
    with ExitStack() as stack:
        front_port = line.recv()
        server = listen(stack)
        line.send(server.getsockname()[1])
        clients = []
        for _ in range(count):
            clients.append(
                stack.enter_context(socket.create_connection(("127.0.0.1", front_port), timeout=30))
            )
            stack.enter_context(server.accept()[0])
        for client in clients:
            client.shutdown(socket.SHUT_WR)
        line.recv()


# Between two connections: what a proxy without time limits collects.


def _proxy_waits_for_one_side() -> Iterator[Scene]:
    rule = "proxy-waits-for-one-side"
    with half_closed_pairs(29) as proxied:
        yield Broken(
            """
            This program is a proxy between 29 clients and a server. The clients have ended their side: the
            proxy's sockets towards them are in CLOSE_WAIT. It has passed the end on with shutdown(SHUT_WR),
            as it should: its sockets towards the server are in FIN_WAIT_2. The server does not end its side.
            Half-closed is allowed and the kernel sets no limit to it, so the pairs stay for as long as the
            proxy waits. It has no time limit.
            """,
            fires={rule: "warning"},
            show=("states", "sockets --state fin-wait-2"),
            limits={rule: {"min_age": 0.5}},
        )
        for back, front in zip(proxied.backs, proxied.fronts, strict=True):
            back.close()
            front.close()
        wait_until(lambda: count_sockets(TcpState.LAST_ACK) == 0, "the clients' ends to acknowledge")
        yield Cured(
            """
            The proxy has a time limit for half-closed connections now (haproxy: timeout client-fin and
            server-fin) and has closed both sides of each pair. Towards the server its sockets are orphans,
            which the kernel ends after tcp_fin_timeout.
            """,
        )


SCENARIOS = (
    Scenario(
        "proxy-waits-for-one-side",
        "Proxy keeps pairs of connections of which one side has ended",
        _proxy_waits_for_one_side,
    ),
)
