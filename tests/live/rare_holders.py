"""Holders of a port as few programs make them: with rare options, over MPTCP, with flags changed later."""

import contextlib
import ctypes
import os
import socket
import struct
import threading
from collections.abc import Callable

from tcpdoctor.lab.namespace import write_sysctl
from tests.live.port_holders import OTHERS, SO_BINDTODEVICE, Stage, acting_as, clog, loopback

MPTCP = 262
IP_FREEBIND, IP_TRANSPARENT, IP_BIND_ADDRESS_NO_PORT, IP_LOCAL_PORT_RANGE = 15, 19, 24, 51
IPV6_TRANSPARENT, IPV6_FREEBIND = 75, 78
FOREIGN = {socket.AF_INET: "10.98.0.7", socket.AF_INET6: "2001:db8::7"}
"""Addresses of no interface."""
MANY = {
    socket.AF_INET: ("224.0.0.1", "127.255.255.255", "255.255.255.255"),
    socket.AF_INET6: ("::ffff:224.0.0.1",),
}
"""Addresses of many hosts that a TCP socket may be bound to."""


class MptcpStage(Stage):
    """A stage whose sockets are MPTCP's."""

    def new(self) -> socket.socket:
        recipe = self.recipe
        with acting_as(recipe.uid):
            sock = socket.socket(recipe.family, socket.SOCK_STREAM, MPTCP)
        self.open.callback(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, recipe.reuseaddr)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, recipe.reuseport)
        if recipe.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, recipe.v6only)
        if recipe.device:
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, recipe.device.encode())
        return sock

    def client(self) -> socket.socket:
        sock = socket.socket(self.recipe.family, socket.SOCK_STREAM, MPTCP)
        self.open.callback(sock.close)
        target = {"0.0.0.0": "127.0.0.1", "::": "::1", "::ffff:0.0.0.0": "::ffff:127.0.0.1"}
        sock.connect((target.get(self.recipe.address, self.recipe.address), self.port))
        return sock


def _as_mptcp(stage: Stage) -> MptcpStage:
    other = MptcpStage(stage.recipe, stage.port)
    stage.open.callback(other.open.close)
    return other


def mptcp_bound(stage: Stage) -> None:
    _as_mptcp(stage).bound()


def mptcp_listening(stage: Stage) -> None:
    _as_mptcp(stage).listener()


def mptcp_accepted(stage: Stage) -> None:
    _as_mptcp(stage).accepted()


def mptcp_closed(stage: Stage) -> None:
    ours, _ = _as_mptcp(stage).accepted()
    ours.close()


def mptcp_outgoing(stage: Stage) -> None:
    """A client over MPTCP that named its port."""
    sock = _as_mptcp(stage).bound()
    _connect_somewhere(stage, sock)


def foreign(stage: Stage) -> None:
    """On an address that no interface has: IP_FREEBIND."""
    _on_a_foreign_address(stage, IP_FREEBIND, IPV6_FREEBIND)


def transparent(stage: Stage) -> None:
    """As a transparent proxy: IP_TRANSPARENT, and listening."""
    _on_a_foreign_address(stage, IP_TRANSPARENT, IPV6_TRANSPARENT).listen(8)


def _on_a_foreign_address(stage: Stage, ipv4: int, ipv6: int) -> socket.socket:
    sock, family = stage.new(), stage.recipe.family
    if family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, ipv4, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, ipv6, 1)
    sock.bind((FOREIGN[family], stage.port))
    return sock


def address_before_port(stage: Stage) -> None:
    """IP_BIND_ADDRESS_NO_PORT: its address is chosen by bind(), its port by connect()."""
    sock = stage.new()
    sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    sock.bind((loopback(stage.recipe), 0))
    with only_port(stage.port):
        _connect_somewhere(stage, sock)


def from_a_range_of_its_own(stage: Stage) -> None:
    """IP_LOCAL_PORT_RANGE: bind(0) chooses from a range of one port."""
    sock = stage.new()
    sock.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, struct.pack("I", stage.port << 16 | stage.port))
    with only_port(stage.port):
        sock.bind((stage.recipe.address, 0))
    if sock.getsockname()[1] != stage.port:
        raise OSError("another port")


def chosen_by_bind(stage: Stage) -> None:
    """bind(0) chose the port, and connect() left it."""
    sock = stage.new()
    with only_port(stage.port):
        sock.bind((loopback(stage.recipe), 0))
        _connect_somewhere(stage, sock)


def flags_set_later(stage: Stage) -> None:
    """SO_REUSEADDR and SO_REUSEPORT set after bind(), which is too late for who asks beside it by then."""
    recipe = stage.recipe
    stage.recipe = recipe._replace(reuseaddr=False, reuseport=False)
    sock = stage.bound()
    stage.recipe = recipe
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, recipe.reuseaddr)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, recipe.reuseport)


def flags_taken_back(stage: Stage) -> None:
    """SO_REUSEADDR and SO_REUSEPORT as bind() saw them, and not as getsockopt() tells them now."""
    _take_back(stage.bound())


def flags_taken_back_listening(stage: Stage) -> None:
    """The same after listen()."""
    _take_back(stage.listener())


def flags_taken_back_and_connected(stage: Stage) -> None:
    """The same of a client."""
    sock = stage.bound()
    _take_back(sock)
    _connect_somewhere(stage, sock)


def _take_back(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


def device_changed_later(stage: Stage) -> None:
    """SO_BINDTODEVICE after bind(): it goes by the interface of now."""
    recipe = stage.recipe
    stage.recipe = recipe._replace(device="" if recipe.device else "lo")
    sock = stage.bound()
    stage.recipe = recipe
    sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, recipe.device.encode())
    if recipe.reuseaddr:
        sock.listen(8)


def listens_again(stage: Stage) -> None:
    """listen(), shutdown() and listen() once more."""
    sock = stage.listener()
    sock.shutdown(socket.SHUT_RDWR)
    sock.listen(8)


def listened_once(stage: Stage) -> None:
    """listen(), then shutdown(): it listens no more, and keeps the port that it bound."""
    sock = stage.listener()
    sock.shutdown(socket.SHUT_RDWR)


def disconnected(stage: Stage) -> None:
    """Connected from its port and disconnected by connect(AF_UNSPEC): it keeps the port it bound."""
    sock = stage.bound()
    _connect_somewhere(stage, sock)
    disconnect(sock)


def disconnected_at_once(stage: Stage) -> None:
    """connect(AF_UNSPEC) of what is bound only: the port stays."""
    disconnect(stage.bound())


def chosen_and_disconnected(stage: Stage) -> None:
    """The same where bind(0) chose the port: it is given back."""
    sock = stage.new()
    with only_port(stage.port):
        sock.bind((loopback(stage.recipe), 0))
    disconnect(sock)


def disconnect(sock: socket.socket) -> None:
    """connect(2) to no family (AF_UNSPEC)."""
    ctypes.CDLL(None).connect(sock.fileno(), bytes(16), 16)


def listens_unbound(stage: Stage) -> None:
    """listen() without bind() chooses a port as bind(0) does."""
    sock = stage.new()
    with only_port(stage.port):
        sock.listen(8)
    if sock.getsockname()[1] != stage.port:
        raise OSError("another port")


def shares_what_bind_chose(stage: Stage) -> None:
    """net.ipv4.ip_autobind_reuse: bind(0) may choose a port that others have, where all have SO_REUSEADDR."""
    write_sysctl("net.ipv4.ip_autobind_reuse", 1)
    try:
        with only_port(stage.port):
            stage.new().bind((stage.recipe.address, 0))
    finally:
        write_sysctl("net.ipv4.ip_autobind_reuse", 0)


def _another(stage: Stage) -> int:
    return next(uid for uid in OTHERS if uid != stage.recipe.uid)


def given_away(stage: Stage) -> None:
    """fchown() after bind(): it is another user's now, and the port remembers who bound it."""
    os.fchown(stage.bound().fileno(), _another(stage), -1)


def given_away_listening(stage: Stage) -> None:
    """The same of a listener."""
    os.fchown(stage.listener().fileno(), _another(stage), -1)


def given_away_and_accepted(stage: Stage) -> None:
    """The same of a listener whose connection was accepted before."""
    listener = stage.listener()
    stage.client()
    stage.open.callback(listener.accept()[0].close)
    os.fchown(listener.fileno(), _another(stage), -1)


def flags_set_while_listening(stage: Stage) -> None:
    """SO_REUSEADDR and SO_REUSEPORT changed after listen()."""
    sock = stage.listener()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, not stage.recipe.reuseaddr)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, not stage.recipe.reuseport)


def listens_no_more(stage: Stage) -> None:
    """shutdown(SHUT_RD) ends a listener as SHUT_RDWR does; some then change their flags."""
    sock = stage.listener()
    sock.shutdown(socket.SHUT_RD)
    if stage.recipe.v6only:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, not stage.recipe.reuseaddr)


def reads_no_more(stage: Stage) -> None:
    """shutdown(SHUT_RD) of a connection changes nothing about its port."""
    ours, _ = stage.accepted()
    ours.shutdown(socket.SHUT_RD)


def reset_in_fin_wait_1(stage: Stage) -> None:
    """close() with a linger time of 0 where the FIN had not got out: the port is free."""
    ours, _ = stage.accepted()
    clog(ours)
    ours.shutdown(socket.SHUT_WR)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    ours.close()


def on_many_hosts(stage: Stage) -> None:
    """On a multicast or broadcast address."""
    sock, chosen = stage.new(), MANY[stage.recipe.family]
    sock.bind((chosen[stage.port // 7 % len(chosen)], stage.port))


def of_another_namespace(stage: Stage) -> None:
    """A socket of another network namespace that a process here holds: it is in nobody's way."""
    stage.recipe = stage.recipe._replace(device="")
    sock = made_elsewhere(stage.new)
    sock.bind(("::" if stage.recipe.family == socket.AF_INET6 else "0.0.0.0", stage.port))
    if stage.recipe.reuseaddr:
        sock.listen(8)


def made_elsewhere(make: Callable[[], socket.socket]) -> socket.socket:
    """Make a socket in a network namespace of its own, as who gets one by SCM_RIGHTS has it."""
    made: list[socket.socket] = []

    def go() -> None:
        if ctypes.CDLL(None).unshare(_CLONE_NEWNET) == 0:
            made.append(make())

    apart = threading.Thread(target=go)
    apart.start()
    apart.join()
    if not made:
        raise OSError("no other namespace")
    return made[0]


_CLONE_NEWNET = 0x40000000


def _connect_somewhere(stage: Stage, sock: socket.socket) -> None:
    server = socket.socket(stage.recipe.family, socket.SOCK_STREAM)
    stage.open.callback(server.close)
    server.bind((loopback(stage.recipe), 4))
    server.listen(8)
    sock.connect(server.getsockname()[:2])


@contextlib.contextmanager
def only_port(port: int):
    """The ephemeral range is this port alone for the moment."""
    write_sysctl("net.ipv4.ip_local_port_range", f"{port} {port}")
    try:
        yield
    finally:
        write_sysctl("net.ipv4.ip_local_port_range", "32768 60999")


RARE: tuple[Callable[[Stage], None], ...] = (
    mptcp_bound,
    mptcp_listening,
    mptcp_accepted,
    mptcp_closed,
    mptcp_outgoing,
    foreign,
    transparent,
    address_before_port,
    from_a_range_of_its_own,
    chosen_by_bind,
    flags_set_later,
    device_changed_later,
    listens_again,
    flags_taken_back,
    flags_taken_back_listening,
    flags_taken_back_and_connected,
    listened_once,
    disconnected,
    disconnected_at_once,
    chosen_and_disconnected,
    listens_unbound,
    shares_what_bind_chose,
    given_away,
    given_away_listening,
    given_away_and_accepted,
    flags_set_while_listening,
    listens_no_more,
    reads_no_more,
    reset_in_fin_wait_1,
    on_many_hosts,
    of_another_namespace,
)
