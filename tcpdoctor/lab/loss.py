"""Diseases of packets: damaged, refused, dropped by routing, or stuck on their way out of the host."""

import socket
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.packets import (
    Endpoints,
    add_address_to_loopback,
    send_damaged_segments,
    send_from_the_wrong_side,
)
from tcpdoctor.lab.pairs import LOOPBACK, allow_descriptors, connect_pair, listen
from tcpdoctor.lab.repeat import again_and_again

HERE, ELSEWHERE = "192.0.2.1", "198.51.100.7"
"""Addresses for documentation (RFC 5737): ours, and that of a client on another side."""
_ROOT, _FIRST = 0xFFFFFFFF, 0x10000
"""The place of a device's own queueing discipline, and the handle 1:."""


@contextmanager
def damaged_segments(count: int) -> Iterator[None]:
    """About every tenth of a second `count` segments of an open connection arrive damaged."""
    with ExitStack() as stack:
        server = listen(stack)
        client, _ = connect_pair(stack, server)
        ends = Endpoints(LOOPBACK, client.getsockname()[1], LOOPBACK, server.getsockname()[1])
        stack.enter_context(again_and_again(lambda: send_damaged_segments(count, ends), every=0.1))
        yield


@contextmanager
def refused(count: int) -> Iterator[int]:
    """About every tenth of a second `count` clients come to a port; yields it. Nobody listens there.

    Once somebody does, they connect, and close in order.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((LOOPBACK, 0))
        port = int(holder.getsockname()[1])
        with again_and_again(lambda: _knock(port, count), every=0.1):
            yield port


def _knock(port: int, count: int) -> None:
    for _ in range(count):
        with socket.socket() as client:
            client.connect_ex((LOOPBACK, port))


@contextmanager
def asymmetric_route(count: int) -> Iterator[None]:
    """About every tenth of a second `count` SYNs come in on lo; the route to their sender leads elsewhere."""
    from pyroute2 import IPRoute

    add_address_to_loopback(HERE)
    with IPRoute() as routes:
        routes.link("add", ifname="away", kind="veth", peer="away-peer")
        (index,) = routes.link_lookup(ifname="away")
        routes.link("set", index=index, state="up")
        routes.route("add", dst="198.51.100.0/24", oif=index)
    ends = Endpoints(ELSEWHERE, 40_000, HERE, 80)
    with again_and_again(lambda: send_from_the_wrong_side(count, ends), every=0.1):
        yield


def filter_reverse_path(value: int) -> None:
    """Set rp_filter of lo: 0 none, 1 strict, 2 loose."""
    write_sysctl("net.ipv4.conf.lo.rp_filter", value)


@contextmanager
def narrow_way_out(count: int) -> Iterator[None]:
    """`count` connections begin to send one after the other, through a shaper that holds packets for seconds.

    Thirty begin each second: one whose packets are stuck tries again ever more rarely. The namespace has to
    be one of its own: the shaper stays until `unshape_loopback`.
    """
    allow_descriptors(2 * count + 64)
    with ExitStack() as stack:
        server = listen(stack)
        senders = deque(connect_pair(stack, server)[0] for _ in range(count))
        for sender in senders:
            sender.settimeout(0)
        shape_loopback("1mbit")
        stack.enter_context(again_and_again(lambda: _send_from_some(senders), every=0.1))
        yield


def _send_from_some(senders: deque[socket.socket]) -> None:
    for _ in range(3):
        with suppress(BlockingIOError):  # its buffer is full: it waits already
            senders[0].send(b"x" * 20_000)
        senders.rotate(-1)


def shape_loopback(rate: str) -> None:
    """Let no more than `rate` through lo, and queue the rest: tc-tbf(8)."""
    from pyroute2 import IPRoute

    with IPRoute() as routes:
        (index,) = routes.link_lookup(ifname="lo")
        routes.tc("add", "tbf", index, parent=_ROOT, handle=_FIRST, rate=rate, burst=70_000, latency="60s")


def unshape_loopback() -> None:
    """Undo `shape_loopback`, and drop what waits there."""
    from pyroute2 import IPRoute

    with IPRoute() as routes:
        (index,) = routes.link_lookup(ifname="lo")
        routes.tc("del", index=index, parent=_ROOT)
