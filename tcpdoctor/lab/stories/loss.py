"""Packets that do not arrive, arrive damaged, or are refused."""

import socket
import time
from collections.abc import Iterator

from tcpdoctor.lab.closing import fin_wait_1_stuck
from tcpdoctor.lab.loss import (
    asymmetric_route,
    damaged_segments,
    filter_reverse_path,
    narrow_way_out,
    refused,
    unshape_loopback,
)
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.pairs import LOOPBACK, wait_until
from tcpdoctor.lab.repeat import again_and_again
from tcpdoctor.lab.scenario import Broken, Cured, Scenario, Scene, Step
from tcpdoctor.lab.traffic import steady_traffic


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


SCENARIOS = (
    Scenario("retransmissions-above-normal", "A path loses a tenth of the segments", _retransmissions),
    Scenario("checksum-errors", "Segments arrive damaged", _checksum_errors),
    Scenario("reset-burst", "Clients knock where nobody listens", _reset_burst),
    Scenario("packets-stuck-in-host-queues", "A shaper holds packets for seconds", _stuck_in_host_queues),
    Scenario(
        "reverse-path-filter-drops", "The way back leads through another interface", _reverse_path_filter
    ),
    Scenario("orphan-retries-low", "Closed connections are given up in seconds", _orphan_retries_low),
)
