"""How to make bind(), listen() and connect() fail, each for one reason; the OSError gets out."""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from pyroute2 import IPRoute

from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.packets import go_deaf

Provocation = Callable[[], object]

LO = "127.0.0.1"
_LIBC = ctypes.CDLL(None, use_errno=True)


def call_libc(name: str, *arguments: object) -> None:
    """Call the C library itself: Python would check addresses and repeat calls that a signal ended."""
    if getattr(_LIBC, name)(*arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def lose_capabilities() -> None:
    """Become as powerless as an ordinary user, also where only one user is mapped (capset(2), version 3)."""
    call_libc("capset", struct.pack("Ii", 0x20080522, 0), bytes(24))


def listener(backlog: int = 8, **options: int) -> socket.socket:
    sock = bound(**options)
    sock.listen(backlog)
    return sock


def bound(port: int = 0, address: str = LO, **options: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    for name, value in options.items():
        level = socket.IPPROTO_IPV6 if name.startswith("IPV6") else socket.SOL_SOCKET
        sock.setsockopt(level, getattr(socket, name), value)
    sock.bind((address, port))
    return sock


def pair() -> tuple[socket.socket, socket.socket]:
    """A client and what the server accepted; the listener is closed."""
    with listener() as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    return client, accepted


def few_ports() -> None:
    write_sysctl("net.ipv4.ip_local_port_range", "40000\t40004")


def silent_peer() -> tuple[str, int]:
    """The address of a listener that never answers a SYN."""
    server = listener()
    go_deaf(server)
    _KEPT.append(server)
    address: tuple[str, int] = server.getsockname()
    return address


_KEPT: list[socket.socket] = []


def interface_down() -> None:
    with IPRoute() as routes:
        (index,) = routes.link_lookup(ifname="lo")
        routes.link("set", index=index, state="down")


def refuse_route(kind: str) -> socket.socket:
    with IPRoute() as routes:
        routes.route("add", dst="192.0.2.0/24", type=kind)
    return socket.socket()


# bind() and listen()


def listening() -> object:
    server = listener(SO_REUSEADDR=1)
    return bound(server.getsockname()[1], SO_REUSEADDR=1)


def left_connection() -> object:
    client, accepted = pair()
    port = accepted.getsockname()[1]
    accepted.close()
    client.close()
    return bound(port, SO_REUSEADDR=1)


def outgoing_port() -> object:
    client, accepted = pair()
    return bound(client.getsockname()[1], SO_REUSEADDR=1), accepted


def never_listened() -> object:
    first = bound()
    return bound(first.getsockname()[1])


def no_port_left_to_bind() -> object:
    few_ports()
    return [bound() for _ in range(6)]


def dual_stack() -> object:
    first = bound(address="::", IPV6_V6ONLY=0)
    return bound(first.getsockname()[1], "0.0.0.0")


def sibling_listens() -> object:
    first = bound(SO_REUSEADDR=1)
    second = bound(first.getsockname()[1], SO_REUSEADDR=1)
    first.listen()
    second.listen()
    return second


def foreign_address() -> object:
    return bound(0, "192.0.2.1")


def foreign_address_ipv6() -> object:
    return bound(0, "2001:db8::1")


def privileged_port() -> object:
    lose_capabilities()
    return bound(80)


# connect()


def ports_used_up() -> object:
    few_ports()
    server = listener(64)
    return [socket.create_connection(server.getsockname()) for _ in range(6)]


def ports_held_by_bound_sockets() -> object:
    few_ports()
    held = [bound(port) for port in range(40000, 40005)]
    return held, socket.create_connection((LO, 7))


def same_connection_exists() -> object:
    server = listener()
    first = bound(SO_REUSEPORT=1)
    second = bound(first.getsockname()[1], SO_REUSEPORT=1)
    first.connect(server.getsockname())
    second.connect(server.getsockname())
    return second


def nobody_listens() -> object:
    with bound() as sock:
        port = sock.getsockname()[1]
    return socket.create_connection((LO, port))


def nobody_listens_later() -> object:
    with bound() as sock:
        address = sock.getsockname()
    client = socket.socket()
    client.setblocking(False)
    code = client.connect_ex(address)
    assert code == errno.EINPROGRESS
    code = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    raise OSError(code, os.strerror(code))


def silent_host() -> object:
    address = silent_peer()
    if os.path.exists("/proc/sys/net/ipv4/tcp_syn_linear_timeouts"):
        write_sysctl("net.ipv4.tcp_syn_linear_timeouts", 0)
    client = socket.socket()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
    return client.connect(address)


def begun() -> object:
    address = silent_peer()
    client = socket.socket()
    client.setblocking(False)
    return client.connect(address)


def begun_and_time_over() -> object:
    address = silent_peer()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 50_000))
    return client.connect(address)


def begun_twice() -> object:
    address = silent_peer()
    client = socket.socket()
    client.setblocking(False)
    with suppress(BlockingIOError):
        client.connect(address)
    return client.connect(address)


def connected_twice() -> object:
    server = listener()
    client = socket.create_connection(server.getsockname())
    return client.connect(server.getsockname())


def no_route() -> object:
    return socket.socket().connect(("192.0.2.1", 80))


def no_route_ipv6() -> object:
    return socket.socket(socket.AF_INET6).connect(("2001:db8::1", 80))


def prohibited() -> object:
    return refuse_route("prohibit").connect(("192.0.2.1", 80))


def unreachable() -> object:
    return refuse_route("unreachable").connect(("192.0.2.1", 80))


def blackhole() -> object:
    return refuse_route("blackhole").connect(("192.0.2.1", 80))
