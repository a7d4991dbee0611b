"""Diseases of connections that stay open: dead peers, closed windows, a path that forgets."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.packets import add_address_to_loopback, go_deaf, hear_again, nothing_leaves
from tcpdoctor.lab.pairs import (
    LOOPBACK,
    NeverCameError,
    allow_descriptors,
    connect,
    connected,
    count_sockets,
    fill,
    listen,
    wait_until,
)
from tcpdoctor.lab.scenario import Broken, Cured, Scenario, Scene, Step

HERE, THERE = "10.77.0.1", "10.77.0.2"
"""Two addresses of one namespace that stand for two hosts: not loopback, and not the same."""

_RETRANSMITS, _PROBES, _BACKOFF = 2, 3, 4
_SEGMENTS = struct.Struct("=II")
_SEGMENTS_AT = 136  # tcpi_segs_out, tcpi_segs_in
_ANSWER = b"answer"


@contextmanager
def dead_server(count: int) -> Iterator[list[socket.socket]]:
    """`count` clients have sent a request to a server that vanished; yields the server's deaf sockets.

    Each has sent it three times in vain when the block begins.
    """
    with connected(count) as (_, pairs):
        for client, peer in pairs:
            go_deaf(peer)
            client.sendall(b"request")
        wait_for_retries([client for client, _ in pairs], 3)
        yield [peer for _, peer in pairs]


@contextmanager
def requests_that_never_left(count: int) -> Iterator[tuple[ExitStack, list[socket.socket]]]:
    """`count` clients write a request, and their own host's firewall drops it on output.

    Each has been tried three times more when the block begins. Yields what ends the firewall when closed,
    and the server's sockets.
    """
    with connected(count) as (_, pairs), ExitStack() as firewall:
        firewall.enter_context(nothing_leaves())
        for client, _ in pairs:
            client.sendall(b"request")
        wait_until(
            lambda: all(_info(client)[_PROBES] >= 3 for client, _ in pairs),
            "three tries to send",
            20,
        )
        yield firewall, [peer for _, peer in pairs]


@contextmanager
def dead_clients(count: int) -> Iterator[list[socket.socket]]:
    """A server has sent an answer to `count` clients that vanished; yields the clients' deaf sockets."""
    with connected(count) as (_, pairs):
        for client, ours in pairs:
            go_deaf(client)
            ours.sendall(_ANSWER)
        wait_for_retries([ours for _, ours in pairs], 3)
        yield [client for client, _ in pairs]


@contextmanager
def closed_windows(count: int) -> Iterator[list[socket.socket]]:
    """`count` connections are full, as nobody reads; yields the readers' sockets."""
    with connected(count) as (_, pairs):
        for sender, reader in pairs:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            fill(sender)
        wait_until(
            lambda: all(_info(sender)[_BACKOFF] >= 2 for sender, _ in pairs), f"{count} closed windows"
        )
        yield [reader for _, reader in pairs]


def read_what_is_there(sockets: list[socket.socket]) -> None:
    """The cure: read until nothing has come for 0.3 seconds."""
    quiet_since = time.monotonic()
    for sock in sockets:
        sock.settimeout(0)
    while time.monotonic() < quiet_since + 0.3:
        for sock in sockets:
            try:
                if sock.recv(1 << 20):
                    quiet_since = time.monotonic()
            except BlockingIOError:
                continue
        time.sleep(0.005)


@contextmanager
def idle_connections(
    count: int, *, keepalive: bool, first_probe: int = 1
) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """`count` connections between two hosts over which nothing is sent; yields client and server of each.

    With `keepalive` both ends have SO_KEEPALIVE with TCP_KEEPIDLE of `first_probe` seconds.
    """
    allow_descriptors(2 * count + 64)
    for number, address in enumerate((HERE, THERE), start=1):
        add_address_to_loopback(address, f"lo:{number}")
    with ExitStack() as stack:
        server = listen(stack, address=THERE)
        pairs = []
        for _ in range(count):
            client = connect(stack, server, source=HERE)
            accepted = stack.enter_context(server.accept()[0])
            for end in (client, accepted) if keepalive else ():
                end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, first_probe)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
            pairs.append((client, accepted))
        yield pairs


class Middlebox:
    """What lies between the ends of connections, and forgets those over which nothing passed for a while.

    From then on it drops their packets and tells nobody, as NAT gateways, firewalls and load balancers
    do. It looks at the kernel's count of segments of each connection, keepalive's probes included.
    """

    def __init__(self, pairs: list[tuple[socket.socket, socket.socket]], memory: float) -> None:
        """It forgets after `memory` seconds."""
        self.forgotten = 0
        """How many connections it has forgotten."""
        self._memory = memory
        self._seen = {pair: (_segments(pair[0]), time.monotonic()) for pair in pairs}
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def watched_for(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def __enter__(self) -> "Middlebox":
        """Begin to watch."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching; what was forgotten stays forgotten."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            for pair, (segments, since) in list(self._seen.items()):
                passed, moment = _segments(pair[0]), time.monotonic()
                if passed != segments:
                    self._seen[pair] = passed, moment
                elif moment - since > self._memory:
                    for end in pair:
                        go_deaf(end)
                    del self._seen[pair]
                    self.forgotten += 1


@contextmanager
def connected_to_itself(port: int, *, tries: int = 10_000) -> Iterator[socket.socket]:
    """A client kept trying to reach the server on `port` of its own host, which is down, and reached itself.

    The port has to be in net.ipv4.ip_local_port_range; the smaller the range, the sooner.
    """
    with ExitStack() as stack:
        for _ in range(tries):
            client = stack.enter_context(socket.socket())
            if client.connect_ex((LOOPBACK, port)) == 0:
                break
            client.close()
        else:
            raise NeverCameError(f"no connection of a socket to itself in {tries} tries")
        yield client


@contextmanager
def half_open(count: int, *, backlog: int) -> Iterator[tuple[socket.socket, list[socket.socket]]]:
    """`count` clients sent a SYN and never see the answer; yields the listener and their deaf sockets.

    The server's SYN+ACKs are not acknowledged, so its connections stay half open.
    """
    allow_descriptors(count + 64)
    with ExitStack() as stack:
        server = listen(stack, backlog)
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            go_deaf(client)
            client.settimeout(0)
            client.connect_ex(server.getsockname())
            clients.append(client)
        port = server.getsockname()[1]
        wait_until(lambda: count_sockets(TcpState.SYN_RECV, port) >= count, f"{count} x SYN_RECV")
        yield server, clients


@contextmanager
def forgotten_connections(count: int) -> Iterator[tuple[socket.socket, list[socket.socket], list[int]]]:
    """A server holds `count` connections whose clients have lost theirs without a word.

    Yields the listener, the server's sockets, and the ports that the clients had.
    """
    with connected(count) as (server, pairs):
        ports = [client.getsockname()[1] for client, _ in pairs]
        for client, accepted in pairs:
            go_deaf(accepted)  # so that the reset does not arrive
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            hear_again(accepted)
        yield server, [accepted for _, accepted in pairs], ports


def wait_for_retries(sockets: list[socket.socket], retries: int) -> None:
    """Wait until every one of these sockets has sent the same segment `retries` times more."""
    wait_until(
        lambda: all(_info(sock)[_RETRANSMITS] >= retries for sock in sockets),
        f"{retries} retransmissions",
        20,
    )


def _info(sock: socket.socket) -> bytes:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)


def _segments(sock: socket.socket) -> tuple[int, int]:
    out, came = _SEGMENTS.unpack_from(_info(sock), _SEGMENTS_AT)
    return out, came


# Connections that stay open: dead peers, peers that do not read, and a path that forgets.


_SERVER, _CLIENTS = "destination-stopped-answering", "clients-stopped-answering"
_READERS, _IDLE = "peers-do-not-read", "idle-connections-without-keepalive"
_A_SECOND = {"min_age": 1.0}
_A_SECOND_IN_HOURS = {"min_age": 1 / 3600}
_MEMORY = 2.0


def _connections(**ports: int) -> str:
    """The command that shows one end of the connections: the one with this `port`, or `peer_port`."""
    ((name, number),) = ports.items()
    return f"sockets --state established --{name.replace('_', '-')} {number}"


def _server_is_gone() -> Iterator[Scene]:
    with dead_server(13) as peers:
        yield Broken(
            """
            A pool of 13 connections has sent a request on each, and the server has vanished, as a host does
            that lost its power or its address. No reset comes, and no acknowledgement. The kernel sends the
            same segment again, after 0.2 s, 0.4 s, 0.8 s and so on, for more than 15 minutes
            (net.ipv4.tcp_retries2). To the program each connection looks established: write() succeeds,
            read() waits. SO_KEEPALIVE would not help: its probes are for idle connections, and here data
            is outstanding. TCP_USER_TIMEOUT bounds just this wait.
            """,
            fires={_SERVER: "warning"},
            show=(_connections(peer_port=peers[0].getsockname()[1]),),
            limits={_SERVER: _A_SECOND},
            window=0.0,
        )
        for peer in peers:
            hear_again(peer)
        wait_until(lambda: all(peer.recv(64) for peer in peers), "the requests arrive")
        yield Cured(
            """
            The server is reachable again. The next retransmission of each request arrives and is
            acknowledged: nothing was lost, it only took as long as the longest pause between two tries.
            """,
            show=(_connections(peer_port=peers[0].getsockname()[1]),),
            window=0.0,
        )


def _own_firewall() -> Iterator[Scene]:
    with requests_that_never_left(13) as (firewall, peers):
        yield Broken(
            """
            13 clients write a request each, and the firewall of their own host drops it on output. TCP learns
            at once that the segment did not leave, so it counts as not sent at all: no retransmission timer
            runs, but the one that is meant for closed windows (timer:(persist,...) in ss), although the
            peers' windows are wide open. That looks like peers who do not read. The last number, tries
            without an answer, tells the two apart: it grows here, while a closed window answers each probe.
            """,
            fires={_SERVER: "warning"},
            show=(_connections(peer_port=peers[0].getsockname()[1]),),
            limits={_SERVER: {"min_age": 0.5}},
            window=0.0,
        )
        firewall.close()
        wait_until(lambda: all(peer.recv(64) for peer in peers), "the requests arrive")
        yield Cured(
            "The rule is gone: the next try leaves, is acknowledged, and all is well.",
            show=(_connections(peer_port=peers[0].getsockname()[1]),),
            window=0.0,
        )


def _clients_are_gone() -> Iterator[Scene]:
    with dead_clients(23) as clients:
        yield Broken(
            """
            A server has sent its answer to 23 clients, and something between them drops all packets.
            The answers wait in the send queues, in memory that cannot be swapped, and are sent again and
            again. One vanished client is everyday life; many at once have something on the way in common.
            """,
            fires={_CLIENTS: "warning"},
            show=(_connections(port=clients[0].getpeername()[1]),),
            limits={_CLIENTS: _A_SECOND},
            window=0.0,
        )
        for client in clients:
            hear_again(client)
        wait_until(lambda: all(client.recv(64) for client in clients), "the answers arrive")
        yield Cured("The path works again: the answers arrive with the next retransmission.", window=0.0)


def _nobody_reads() -> Iterator[Scene]:
    with closed_windows(11) as readers:
        yield Broken(
            """
            11 clients asked for something large, and their programs have stopped reading. Their hosts'
            receive buffers filled up, and each said in its last acknowledgement: window 0. The sender may
            send nothing now but probes, with growing pauses (timer:(persist,...) in ss). The peers' hosts
            answer every probe, so no retry limit applies: this can last for ever. Only a timeout of the
            program, or TCP_USER_TIMEOUT, ends it.
            """,
            fires={_READERS: "warning"},
            show=(_connections(peer_port=readers[0].getsockname()[1]),),
            limits={_READERS: {"min_age": 0.5}},
            window=0.0,
        )
        read_what_is_there(readers)
        yield Cured(
            """
            The clients read again. The first window update lets the sender go on where it stopped;
            it does not wait for its next probe.
            """,
            show=(_connections(peer_port=readers[0].getsockname()[1]),),
            window=0.0,
        )


_POOL_THROUGH_A_TABLE = f"""
    13 connections of a pool lead to a server through something that keeps a table of connections: a
    NAT gateway, a firewall, a load balancer. It forgets those over which nothing has passed for a
    while: 240 to 350 s in the large clouds, {_MEMORY:g} s here. The pool is idle, keepalive is off.
    """
_AFTER_LUNCH = """
    The program uses its pool. What it sends is dropped on the way, and it finds out by waiting:
    more than 15 minutes with the kernel's defaults. This is the typical story behind "the first
    request after lunch hangs".
    """


def _opened_anew(pairs: list[tuple[socket.socket, socket.socket]], path: Middlebox) -> str:
    return f"""
        The pool was opened anew with SO_KEEPALIVE and TCP_KEEPIDLE of 1 s, which is less than the
        {_MEMORY:g} s that the path remembers. The probes passed while the pool was idle, so nothing was
        forgotten ({path.forgotten} of {len(pairs)}), and every request arrived at once. Lowering
        net.ipv4.tcp_keepalive_time alone would have changed nothing: it is the default of sockets that
        have SO_KEEPALIVE set.
        """


def _path_that_forgets() -> Iterator[Scene]:
    with idle_connections(13, keepalive=False) as pairs, Middlebox(pairs, _MEMORY) as path:
        yield Step(
            _POOL_THROUGH_A_TABLE,
            show=(_connections(peer_port=pairs[0][1].getsockname()[1]),),
        )
        wait_until(lambda: path.forgotten == len(pairs), "the path has forgotten the connections")
        yield Broken(
            """
            The path has forgotten them. On neither side is there any sign of it: both ends are ESTABLISHED,
            no timer runs, nothing is outstanding. They would stay so for months.
            """,
            fires={_IDLE: "info"},
            show=(_connections(peer_port=pairs[0][1].getsockname()[1]),),
            limits={_IDLE: _A_SECOND_IN_HOURS},
            window=0.0,
        )
        for client, _ in pairs:
            client.sendall(b"request")
        wait_for_retries([client for client, _ in pairs], 3)
        yield Broken(
            _AFTER_LUNCH,
            fires={_SERVER: "warning"},
            show=(_connections(peer_port=pairs[0][1].getsockname()[1]),),
            limits={_SERVER: _A_SECOND},
            window=0.0,
        )
    with idle_connections(13, keepalive=True) as pairs, Middlebox(pairs, _MEMORY) as path:
        wait_until(lambda: path.watched_for > _MEMORY + 1, "longer than the path remembers")
        for client, accepted in pairs:
            client.sendall(b"request")
            accepted.recv(64)
        yield Cured(
            _opened_anew(pairs, path),
            show=(_connections(peer_port=pairs[0][1].getsockname()[1]),),
            window=0.0,
        )


def _probes_come_late() -> Iterator[Scene]:
    rule = "keepalive-probes-come-late"
    with idle_connections(13, keepalive=True, first_probe=60) as pairs, Middlebox(pairs, _MEMORY) as path:
        wait_until(lambda: path.forgotten == len(pairs), "the path has forgotten the connections")
        yield Broken(
            f"""
            13 connections of a pool with SO_KEEPALIVE and TCP_KEEPIDLE of 60 s. The path forgets connections
            over which nothing has passed for {_MEMORY:g} s, and it has forgotten all of these: keepalive is
            on, and comes too late. In real life it is two hours against 350 s.
            """,
            fires={rule: "info"},
            show=(_connections(peer_port=pairs[0][1].getsockname()[1]),),
            limits={rule: {"min_silence": 1.5}},
            window=0.0,
        )
    with idle_connections(13, keepalive=True) as pairs, Middlebox(pairs, _MEMORY) as path:
        wait_until(lambda: path.watched_for > _MEMORY + 1, "longer than the path remembers")
        yield Cured(
            f"""
            With TCP_KEEPIDLE of 1 s each probe, and its answer, renews what the path remembers: it has
            forgotten {path.forgotten}.
            """,
            window=0.0,
        )


SCENARIOS = (
    Scenario(_SERVER, "Dead peer: a server vanishes while data is unacknowledged", _server_is_gone),
    Scenario(
        "own-firewall-drops-output",
        "A firewall of this host drops what established connections send",
        _own_firewall,
        proves=(_SERVER,),
    ),
    Scenario(_CLIENTS, "Clients vanish in the middle of an answer, all at once", _clients_are_gone),
    Scenario(
        "keepalive-probes-come-late",
        "Keepalive is on, and its probes come later than the path forgets",
        _probes_come_late,
    ),
    Scenario(_READERS, "Peers do not read: their windows stay closed", _nobody_reads),
    Scenario(
        "forgetting-middlebox",
        "Keepalive is off behind a middlebox that forgets idle connections",
        _path_that_forgets,
        proves=(_IDLE, _SERVER),
    ),
)
