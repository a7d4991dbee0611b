"""One socket in each way of holding a port, made on loopback: what bind() is tested against."""

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tcpdoctor.kernel.listing import lists_bound_sockets
from tcpdoctor.kernel.port_evidence import CONNECTION_STATES, connections
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sockets import read_connections, read_listeners
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.namespace import write_sysctl
from tests.live.lifetimes import go_deaf, syn_segment

IPV6_V6ONLY, SO_BINDTODEVICE = 26, 25
OTHERS = (1234, 4321)
"""Users beside root."""
SILENT = "127.0.0.9"
"""Where a listener is whose queue is full: it answers nothing, and no reset comes from there."""


class Recipe(NamedTuple):
    """The socket that holds the port."""

    way: "Callable[[Stage], None]"
    """One of `WAYS`."""
    family: int
    address: str
    uid: int
    reuseaddr: bool
    reuseport: bool
    v6only: bool
    device: str = ""
    """Interface of SO_BINDTODEVICE."""


class Stage:
    """Keeps what has to stay open, and closes it at the end."""

    def __init__(self, recipe: Recipe, port: int) -> None:
        self.recipe, self.port, self.open = recipe, port, contextlib.ExitStack()

    def new(self) -> socket.socket:
        with acting_as(self.recipe.uid):
            sock = socket.socket(self.recipe.family, socket.SOCK_STREAM)
        self.open.callback(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, self.recipe.reuseaddr)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, self.recipe.reuseport)
        if self.recipe.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_V6ONLY, self.recipe.v6only)
        if self.recipe.device:
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, self.recipe.device.encode())
        for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, buffer, 4608)
        return sock

    def bound(self) -> socket.socket:
        sock = self.new()
        sock.bind((self.recipe.address, self.port))
        return sock

    def listener(self) -> socket.socket:
        sock = self.bound()
        sock.listen(8)
        return sock

    def client(self) -> socket.socket:
        """A plain connection to the recipe's address and port."""
        sock = socket.socket(self.recipe.family, socket.SOCK_STREAM)
        self.open.callback(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4608)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)  # or a FIN waits 40 ms for its ACK
        target = {"0.0.0.0": "127.0.0.1", "::": "::1", "::ffff:0.0.0.0": "::ffff:127.0.0.1"}
        sock.connect((target.get(self.recipe.address, self.recipe.address), self.port))
        return sock

    def accepted(self, *, keep_listener: bool = False) -> tuple[socket.socket, socket.socket]:
        """The accepted socket, which holds the port, and its peer."""
        listener = self.listener()
        peer = self.client()
        with acting_as(self.recipe.uid):
            ours = listener.accept()[0]
        self.open.callback(ours.close)
        if not keep_listener:
            listener.close()
        return ours, peer


@contextlib.contextmanager
def acting_as(uid: int) -> Iterator[None]:
    own = os.geteuid()
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(own)


def clog(sender: socket.socket) -> None:
    """Send until the receiver's window and our own buffer are full, so that a FIN stays behind."""
    sender.setblocking(False)
    idle_until = time.monotonic() + 0.01
    while time.monotonic() < idle_until:
        try:
            sender.send(b"x" * 4096)
            idle_until = time.monotonic() + 0.01
        except BlockingIOError:
            select.select([], [sender], [], 0.002)


def bound(stage: Stage) -> None:
    stage.bound()


def listening(stage: Stage) -> None:
    stage.listener()


def not_accepted(stage: Stage) -> None:
    stage.listener()
    stage.client()


def accepted_beside_listener(stage: Stage) -> None:
    stage.accepted(keep_listener=True)


def established(stage: Stage) -> None:
    stage.accepted()


def close_wait(stage: Stage) -> None:
    _, peer = stage.accepted()
    peer.close()


def reset_by_peer(stage: Stage) -> None:
    ours, peer = stage.accepted()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    del ours


def fin_wait_1_owned(stage: Stage) -> None:
    ours, _ = stage.accepted()
    clog(ours)
    ours.shutdown(socket.SHUT_WR)


def fin_wait_1_orphan(stage: Stage) -> None:
    ours, _ = stage.accepted()
    clog(ours)
    ours.close()


def fin_wait_2_owned(stage: Stage) -> None:
    ours, _ = stage.accepted()
    ours.shutdown(socket.SHUT_WR)


def fin_wait_2_orphan_whole(stage: Stage) -> None:
    ours, _ = stage.accepted()
    ours.close()


def fin_wait_2_mini(stage: Stage) -> None:
    ours, _ = stage.accepted()
    ours.close()


def closing(stage: Stage) -> None:
    ours, peer = stage.accepted()
    clog(ours)
    ours.shutdown(socket.SHUT_WR)
    peer.shutdown(socket.SHUT_WR)


def closing_orphan(stage: Stage) -> None:
    ours, peer = stage.accepted()
    clog(ours)
    ours.close()
    peer.shutdown(socket.SHUT_WR)


def last_ack_orphan(stage: Stage) -> None:
    ours, peer = stage.accepted()
    peer.shutdown(socket.SHUT_WR)
    clog(ours)
    ours.close()


def last_ack_owned(stage: Stage) -> None:
    ours, peer = stage.accepted()
    peer.shutdown(socket.SHUT_WR)
    clog(ours)
    ours.shutdown(socket.SHUT_WR)


def time_wait(stage: Stage) -> None:
    ours, peer = stage.accepted()
    ours.close()
    peer.close()


def refused(stage: Stage) -> None:
    """Bound to the port, and its connect() was refused: it keeps the port."""
    sock = stage.bound()
    with contextlib.suppress(ConnectionRefusedError):
        sock.connect((loopback(stage.recipe), 9))


def syn_sent(stage: Stage) -> None:
    sock = stage.bound()
    with deaf_listener(stage) as port:
        sock.setblocking(False)
        assert sock.connect_ex((loopback(stage.recipe), port)) == errno.EINPROGRESS


def fast_open(stage: Stage) -> None:
    """Accepted by TCP Fast Open before the handshake is over, which never will be; the listener is gone."""
    write_sysctl("net.ipv4.tcp_fastopen", 0x207)
    listener = stage.bound()
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
    listener.listen(8)
    with silent_port(stage) as port:
        knock(port, reached(stage.recipe), stage.port, b"hello")
    listener.settimeout(5)
    with acting_as(stage.recipe.uid):
        ours = listener.accept()[0]
    stage.open.callback(ours.close)
    listener.close()


def simultaneous(stage: Stage) -> None:
    """Both ends called connect(): its SYN was answered by a SYN, and nothing more comes."""
    sock = stage.bound()
    with silent_port(stage) as port:
        sock.setblocking(False)
        target = f"::ffff:{SILENT}" if stage.recipe.family == socket.AF_INET6 else SILENT
        assert sock.connect_ex((target, port)) == errno.EINPROGRESS
        knock(port, sock.getsockname()[0].removeprefix("::ffff:"), stage.port, b"")


def knock(source_port: int, target: str, port: int, data: bytes) -> None:
    """Send one SYN as if it came from the silent address."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        raw.bind((SILENT, 0))
        raw.sendto(syn_segment(SILENT, source_port, target, port, data), (target, 0))


@contextlib.contextmanager
def silent_port(stage: Stage) -> Iterator[int]:
    server = socket.create_server((SILENT, 0))
    stage.open.callback(server.close)
    go_deaf(server)
    yield server.getsockname()[1]


def reached(recipe: Recipe) -> str:
    """An IPv4 address at which a listener on the recipe's address is reached."""
    address = recipe.address.removeprefix("::ffff:")
    return "127.0.0.1" if address in ("0.0.0.0", "::") else address


def outgoing(stage: Stage) -> None:
    _connect_out(stage)


def outgoing_time_wait(stage: Stage) -> None:
    ours, peer = _connect_out(stage)
    ours.close()
    peer.close()


def outgoing_fin_wait_2(stage: Stage) -> None:
    ours, _ = _connect_out(stage)
    ours.shutdown(socket.SHUT_WR)


def _connect_out(stage: Stage) -> tuple[socket.socket, socket.socket]:
    """A connection that got its port from the ephemeral range, which has no other for the moment."""
    server = socket.socket(stage.recipe.family, socket.SOCK_STREAM)
    stage.open.callback(server.close)
    server.bind((loopback(stage.recipe), 0))
    server.listen(8)
    sock = stage.new()
    write_sysctl("net.ipv4.ip_local_port_range", f"{stage.port} {stage.port}")
    sock.connect(server.getsockname()[:2])
    write_sysctl("net.ipv4.ip_local_port_range", "32768 60999")
    peer = server.accept()[0]
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    stage.open.callback(peer.close)
    server.close()
    return sock, peer


def loopback(recipe: Recipe) -> str:
    """An address that a socket bound to the recipe's can connect to."""
    mapped = recipe.address.startswith("::ffff:")
    if recipe.family == socket.AF_INET:
        return "127.0.0.1"
    return "::ffff:127.0.0.1" if mapped else "::1"


@contextlib.contextmanager
def deaf_listener(stage: Stage) -> Iterator[int]:
    """A port whose accept queue is full, so that a SYN gets no answer."""
    server = socket.socket(stage.recipe.family, socket.SOCK_STREAM)
    stage.open.callback(server.close)
    server.bind((loopback(stage.recipe), 0))
    server.listen(0)
    filler = socket.socket(stage.recipe.family, socket.SOCK_STREAM)
    stage.open.callback(filler.close)
    filler.connect(server.getsockname()[:2])
    yield server.getsockname()[1]


class Outcome(NamedTuple):
    """What the kernel lists for a way, so that a case tests what its name says."""

    state: TcpState | None
    """None: nothing."""
    held: bool = True
    minisocket: bool = False


_ORPHAN, _MINI = {"held": False}, {"held": False, "minisocket": True}

WAYS: dict[Callable[[Stage], None], Outcome] = {
    bound: Outcome(TcpState.BOUND),
    listening: Outcome(TcpState.LISTEN),
    not_accepted: Outcome(TcpState.ESTABLISHED, **_ORPHAN),
    accepted_beside_listener: Outcome(TcpState.ESTABLISHED),
    established: Outcome(TcpState.ESTABLISHED),
    close_wait: Outcome(TcpState.CLOSE_WAIT),
    reset_by_peer: Outcome(None),
    fin_wait_1_owned: Outcome(TcpState.FIN_WAIT_1),
    fin_wait_1_orphan: Outcome(TcpState.FIN_WAIT_1, **_ORPHAN),
    fin_wait_2_owned: Outcome(TcpState.FIN_WAIT_2),
    fin_wait_2_orphan_whole: Outcome(TcpState.FIN_WAIT_2, **_ORPHAN),
    fin_wait_2_mini: Outcome(TcpState.FIN_WAIT_2, **_MINI),
    closing: Outcome(TcpState.CLOSING),
    closing_orphan: Outcome(TcpState.CLOSING, **_ORPHAN),
    last_ack_orphan: Outcome(TcpState.LAST_ACK, **_ORPHAN),
    last_ack_owned: Outcome(TcpState.LAST_ACK),
    time_wait: Outcome(TcpState.TIME_WAIT, **_MINI),
    refused: Outcome(TcpState.BOUND),
    syn_sent: Outcome(TcpState.SYN_SENT),
    fast_open: Outcome(TcpState.SYN_RECV),
    simultaneous: Outcome(TcpState.SYN_RECV),
    outgoing: Outcome(TcpState.ESTABLISHED),
    outgoing_time_wait: Outcome(TcpState.TIME_WAIT, **_MINI),
    outgoing_fin_wait_2: Outcome(TcpState.FIN_WAIT_2),
}

BY_IPV4 = frozenset((fast_open, simultaneous))
"""Ways that need packets made by hand, which are of IPv4."""

ON_ANY_DEVICE = frozenset((bound, listening))
"""Ways without a connection, which need not be on lo."""

HIDE_THEIR_FLAGS = frozenset(way for way, outcome in WAYS.items() if not outcome.held)
"""Ways that leave no descriptor to ask."""


def hold_port(recipe: Recipe, port: int) -> Stage:
    """Hold a port in the recipe's way, and wait until the kernel lists it so."""
    stage = Stage(recipe, port)
    write_sysctl("net.ipv4.tcp_fin_timeout", 120 if recipe.way is fin_wait_2_orphan_whole else 60)
    recipe.way(stage)
    if WAYS[recipe.way].state is TcpState.BOUND and not lists_bound_sockets():
        return stage
    deadline = time.monotonic() + 5
    while (seen := outcomes(stage.port)) != [WAYS[recipe.way]] and WAYS[recipe.way].state:
        if WAYS[recipe.way].state is TcpState.BOUND and not lists_bound_sockets():
            break  # the kernel holds it all the same, and lists nothing to wait for
        if WAYS[recipe.way] in seen and recipe.way in (not_accepted, accepted_beside_listener):
            break  # the listener is there as well
        assert time.monotonic() < deadline, f"{recipe} became {seen}"
        time.sleep(0.001)
    return stage


def outcomes(port: int) -> list[Outcome]:
    """What the kernel lists for a local port."""
    listeners, rows = read_listeners(local_port=port), read_connections(CONNECTION_STATES, local_port=port)
    assert not isinstance(listeners, Missing)
    found = [Outcome(TcpState.LISTEN, bool(row.inode)) for row in listeners]
    return found + [Outcome(row.state, bool(row.inode), row.minisocket) for row in connections(rows)]
