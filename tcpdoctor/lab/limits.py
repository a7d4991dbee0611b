"""Diseases of limits: descriptors used up, and a table of tracked connections that fills and overflows."""

import errno
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tcpdoctor.lab.firewall import drop_untracked_packets, list_tracked
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.pairs import NeverCameError, allow_descriptors, connect_pair, listen


@contextmanager
def descriptors_used(count: int, *, limit: int) -> Iterator[list[socket.socket]]:
    """This process holds `count` idle connections, both ends, and may have `limit` descriptors."""
    allow_descriptors(2 * count + 64)
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        server = listen(stack)
        pairs = [connect_pair(stack, server) for _ in range(count)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, old[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, old)
        yield [sock for pair in pairs for sock in pair]


@contextmanager
def tracked(count: int) -> Iterator[socket.socket]:
    """A firewall tracks `count` connections; one that ends is forgotten a second later. Yields the server."""
    allow_descriptors(2 * count + 64)
    drop_untracked_packets()
    for state in ("time_wait", "close"):
        write_sysctl(f"net.netfilter.nf_conntrack_tcp_timeout_{state}", 1)
    with ExitStack() as stack:
        server = listen(stack)
        for _ in range(count):
            connect_pair(stack, server)
        yield server


@contextmanager
def table_overflowing() -> Iterator[int]:
    """The table is full of connections without answer, and a thousand a second more come; yields its size.

    They are datagrams to 127.0.0.0/8, which nobody reads.

    Raises:
        NeverCameError: The table is too large to be filled for a lesson.
    """
    with open("/proc/sys/net/netfilter/nf_conntrack_max", encoding="ascii") as file:
        room = int(file.read())
    if not 0 < room <= _LARGEST_TABLE:
        raise NeverCameError(f"nf_conntrack_max is {room:,}: too many to fill, each takes 320 bytes")
    drop_untracked_packets()
    stop = threading.Event()
    with ExitStack() as stack:
        receiver = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        receiver.bind(("0.0.0.0", 0))
        sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        port = receiver.getsockname()[1]
        for number in range(room):
            sender.sendto(b"x", (_loopback(number), port))
        flood = threading.Thread(target=_send_on, args=(sender, room, port, stop))
        flood.start()
        stack.callback(flood.join)
        stack.callback(stop.set)
        yield room


_LARGEST_TABLE = 1 << 20


def _loopback(number: int) -> str:
    return f"127.{1 + (number >> 16 & 127)}.{number >> 8 & 255}.{number & 255}"


def _send_on(sender: socket.socket, first: int, port: int, stop: threading.Event) -> None:
    while not stop.wait(0.001):
        sender.sendto(b"x", (_loopback(first), port))
        first += 1


def count_tracked() -> int:
    """Connections that this namespace tracks, without those whose time is over."""
    list_tracked()
    with open("/proc/sys/net/netfilter/nf_conntrack_count", encoding="ascii") as file:
        return int(file.read())


def track_for(seconds: int) -> None:
    """Let the firewall forget an idle connection after so long, and take up none in the middle."""
    write_sysctl("net.netfilter.nf_conntrack_tcp_timeout_established", seconds)
    write_sysctl("net.netfilter.nf_conntrack_tcp_loose", 0)


def use_up_descriptors() -> tuple[int, str]:
    """Open sockets until the kernel refuses; how many there were, and what it said."""
    opened: list[socket.socket] = []
    try:
        while True:
            opened.append(socket.socket())
    except OSError as error:
        return len(opened), errno.errorcode[error.errno or 0]
    finally:
        for sock in opened:
            sock.close()
