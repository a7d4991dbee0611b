"""Diseases of packets: damaged, refused, dropped by routing, stuck on their way out, or without room here."""

import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from tcpdoctor.lab.closing import fin_wait_1_stuck
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.packets import (
    Endpoints,
    add_address_to_loopback,
    hear_again,
    hear_small,
    send_damaged_segments,
    send_from_the_wrong_side,
)
from tcpdoctor.lab.pairs import (
    LOOPBACK,
    again_and_again,
    allow_descriptors,
    connect_pair,
    connected,
    let_pass,
    listen,
    steady_traffic,
    wait_until,
)
from tcpdoctor.lab.scenario import Broken, Cured, Scenario, Scene, Step

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


# Packets that do not arrive, arrive damaged, or are refused.


def _retransmissions() -> Iterator[Scene]:
    with steady_traffic(7, lost_of_256=26):
        yield Broken(
            """
            Seven connections talk without a pause over a path that loses a tenth of the segments. The
            receivers ask for what is missing (SACK), and the senders send it again. What counts is the share
            of the segments that were sent in the same second, not how many there were since boot.
            """,
            fires={"retransmissions-above-normal": "warning"},
            show=("states",),
            window=2.0,
        )
    with steady_traffic(7, lost_of_256=0):
        yield Cured("The same traffic over a path that loses nothing.", window=2.0)


def _checksum_errors() -> Iterator[Scene]:
    with damaged_segments(7):
        yield Broken(
            """
            Segments arrive whose TCP checksum does not fit their content, as from a router with bad memory.
            The kernel drops each before any socket sees it; to the sender it is simply lost.
            """,
            fires={"checksum-errors": "warning"},
            show=("explain --rule checksum-errors",),
        )
    yield Cured("The device in between has been replaced.")


def _reset_burst() -> Iterator[Scene]:
    with refused(7) as port:
        yield Broken(
            f"""
            Clients connect to port {port} of this host, where the server should be, and nobody listens: a
            socket is bound there, but listen() was not called. The kernel answers each SYN with a reset,
            which the clients see as ECONNREFUSED, and soon they try again.
            """,
            fires={"reset-burst": "info"},
            show=("states",),
        )
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((LOOPBACK, port))
            server.listen(4096)
            server.settimeout(0)
            with again_and_again(lambda: _accept_some(server), every=0.01):
                yield Cured("The server has been started: the same clients connect, and close in order.")


def _accept_some(server: socket.socket) -> None:
    try:
        while True:
            accepted, _ = server.accept()
            with accepted:
                accepted.settimeout(1)
                accepted.recv(1)
    except BlockingIOError:
        return


def _stuck_in_host_queues() -> Iterator[Scene]:
    with narrow_way_out(211):
        yield Broken(
            """
            A shaper (tc tbf, 1 Mbit/s) stands in the way out of this host, and its queue holds megabytes:
            packets wait for seconds. After 200 ms without an acknowledgement TCP wants to send again, finds
            the first copy still here, and counts it. Nothing is lost; everything is late. (Where the shaper,
            sch_tbf, is a kernel module it has been loaded for this, and stays loaded.)
            """,
            fires={"packets-stuck-in-host-queues": "info"},
            show=("states",),
        )
        unshape_loopback()
        yield Cured("The shaper is gone: packets leave when they are sent.")


def _reverse_path_filter() -> Iterator[Scene]:
    with asymmetric_route(7):
        yield Step(
            """
            Packets from 198.51.100.7 come in on one interface, while the route to 198.51.100.0/24 leads out
            of another. With the kernel's default (rp_filter 0) they are received. (The other
            interface is a veth; where that is a kernel module it has been loaded for this, and stays loaded.)
            """
        )
        filter_reverse_path(1)
        yield Broken(
            """
            rp_filter is 1, strict: each packet is dropped before TCP sees it, because an answer would leave
            through the other interface. tcpdump still shows them coming in.
            """,
            fires={"reverse-path-filter-drops": "warning"},
            show=("facts TcpExt.IPReversePathFilter",),
        )
        filter_reverse_path(2)
        yield Cured("rp_filter is 2, loose: any route to the sender will do.")


def _orphan_retries_low() -> Iterator[Scene]:
    write_sysctl("net.ipv4.tcp_orphan_retries", 1)
    begun = time.monotonic()
    with fin_wait_1_stuck(23):
        wait_until(lambda: _orphans() == 0, "the kernel gives the orphans up")
        took = time.monotonic() - begun
        yield Broken(
            f"""
            23 connections were closed while their peers were silent. net.ipv4.tcp_orphan_retries is 1, so
            after {took:.1f} s the kernel had given all of them up, and what they still had to
            deliver is lost. With the default, 0, which stands for 8, they would have tried for some hundred
            seconds.
            """,
            fires={"orphan-retries-low": "info"},
            show=("states", "explain --sysctl tcp_orphan_retries"),
        )
    write_sysctl("net.ipv4.tcp_orphan_retries", 0)
    yield Cured("The default again; it holds for orphans that are there already, too.")


def _orphans() -> int:
    """Sockets in FIN_WAIT_1 of this namespace."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        return sum(line.split()[3] == "04" for line in table)


@contextmanager
def black_hole(
    count: int, *, segments: int = 8, tail: bytes = b"the end"
) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """`count` connections over a path that passes small segments only; yields sender and receiver of each.

    A request of a few bytes got through; the answer is `segments` full ones with a short one behind them.
    """
    allow_descriptors(2 * count + 64)
    set_mtu("lo", 1500)
    with ExitStack() as stack:
        server = listen(stack)
        pairs = [connect_pair(stack, server) for _ in range(count)]
        for sender, receiver in pairs:
            sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            hear_small(receiver, 1000)
            sender.sendall(b"request")
            receiver.recv(16)
            sender.sendall(b"x" * segments * 1448)
            sender.sendall(tail)
        yield pairs


def set_mtu(interface: str, mtu: int) -> None:
    """Set the largest packet of an interface of this namespace."""
    from pyroute2 import IPRoute

    with IPRoute() as routes:
        (index,) = routes.link_lookup(ifname=interface)
        routes.link("set", index=index, mtu=mtu)


def _large_packets_lost() -> Iterator[Scene]:
    rule = "large-packets-lost"
    with black_hole(5) as pairs:
        let_pass(2.2)
        yield Broken(
            """
            Five connections over a path whose narrowest link takes packets of 1000 bytes. A firewall drops
            the ICMP messages that would say so. The requests were short and came through; the answers are
            eight full segments, and a short one at their end. The short one arrives, and the receiver says so
            (SACK). The first full one is sent again and again: small segments pass, large ones never do.
            """,
            fires={rule: "warning"},
            show=("sockets --state established",),
            limits={rule: {"min_age": 1}},
        )
        for _, receiver in pairs:
            hear_again(receiver)
        received = [_receive_all(receiver, 8 * 1448 + 7) for _, receiver in pairs]
        yield Cured(
            f"""
            The ICMP messages get through, or the MTU of the tunnel was set right: full segments pass, and all
            {len(received)} answers have arrived with their {received[0]:,} bytes.
            """
        )


def _receive_all(sock: socket.socket, size: int) -> int:
    received = 0
    sock.settimeout(30)
    while received < size:
        received += len(sock.recv(1 << 16))
    return received


_SMALLEST = 2304
"""What SO_RCVBUF gives at least: SOCK_MIN_RCVBUF on 64 bits."""


@contextmanager
def shrunk_buffers(count: int) -> Iterator[None]:
    """Five times a second `count` connections shrink their receive buffer below the window they announced.

    The sender may still send what the window allowed, and it does; nobody reads.
    """
    with ExitStack() as stack:
        server = listen(stack)
        stack.enter_context(again_and_again(lambda: _overfill(server, count), every=0.2))
        yield


def _overfill(server: socket.socket, count: int) -> None:
    with ExitStack() as stack:
        for _ in range(count):
            sender, receiver = connect_pair(stack, server)
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALLEST)
            sender.settimeout(0)
            sender.send(b"x" * 60_000)


@contextmanager
def left_unread(count: int, *, size: int) -> Iterator[list[socket.socket]]:
    """This process has accepted `count` connections, `size` bytes came in on each, and it does not read."""
    with connected(count) as (_, pairs):
        for client, _ in pairs:
            client.sendall(b"x" * size)
        yield [accepted for _, accepted in pairs]


# Buffers that are too small for what arrives.


def _received_data_dropped() -> Iterator[Scene]:
    with shrunk_buffers(7):
        yield Broken(
            """
            Receivers had announced a window of 64 KiB; then their program made the receive buffer as small as
            SO_RCVBUF allows, and does not read. The senders send what they were promised room for. The kernel
            compacts the queue (PruneCalled), finds no room all the same, and drops data that had already
            arrived.
            """,
            fires={"received-data-dropped": "warning"},
            show=("explain --rule received-data-dropped",),
        )
    yield Cured("The program leaves the buffer to the kernel, and reads.")


def _process_does_not_read() -> Iterator[Scene]:
    rule = "process-does-not-read"
    with left_unread(13, size=10_007) as readers:
        let_pass(0.7)
        yield Broken(
            """
            Thirteen clients have sent a request of 10,007 bytes each. The kernel has taken the data in and
            acknowledged it, so the clients believe that it arrived, as it did. lab-program has accepted the
            connections and does not read: it waits for something else. Nothing is wrong with TCP. ss shows
            the bytes under Recv-Q, and lastrcv says for how long nothing new has come.
            """,
            fires={rule: "warning"},
            show=("sockets --state established",),
            limits={rule: {"min_age": 0.5}},
        )
        for reader in readers:
            reader.recv(1 << 16)
        yield Cured("lab-program reads what is there. The connections were well all the time.")


SCENARIOS = (
    Scenario("retransmissions-above-normal", "A path loses a tenth of the segments", _retransmissions),
    Scenario("checksum-errors", "Segments arrive damaged", _checksum_errors),
    Scenario("reset-burst", "Clients knock where nobody listens", _reset_burst),
    Scenario("packets-stuck-in-host-queues", "A shaper holds packets for seconds", _stuck_in_host_queues),
    Scenario(
        "reverse-path-filter-drops", "The way back leads through another interface", _reverse_path_filter
    ),
    Scenario("large-packets-lost", "Small segments pass, full ones do not", _large_packets_lost),
    Scenario("orphan-retries-low", "Closed connections are given up in seconds", _orphan_retries_low),
    Scenario(
        "received-data-dropped", "Receive buffers have no room for what arrives", _received_data_dropped
    ),
    Scenario(
        "process-does-not-read",
        "Process does not read what has come in on its connections",
        _process_does_not_read,
    ),
)
