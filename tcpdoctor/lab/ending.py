"""Connections that were closed here and do not end: peers that are silent, or do not read."""

import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.closing import (
    close_wait,
    closed_at_a_full_queue,
    fin_wait_1_stuck,
    last_ack_stuck,
    time_wait,
)
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.packets import hear_again
from tcpdoctor.lab.pairs import closed_before_sent, count_sockets, let_pass, wait_until
from tcpdoctor.lab.scenario import Broken, Cured, Scenario, Scene

_FEW = 23
_BUCKETS = "net.ipv4.tcp_max_tw_buckets"


def _fin_wait_1_stuck() -> Iterator[Scene]:
    rule = "fin-wait-1-stuck"
    with fin_wait_1_stuck(_FEW, unsent=100) as peers:
        yield Broken(
            f"""
            lab-program sent a last message on {_FEW} connections and closed them. Their peers are
            gone: nothing answers, not even with a reset, as when a host loses power or a firewall
            drops what comes. FIN_WAIT_1 means that the FIN, or data before it, is not acknowledged.
            The kernel repeats it, and waits twice as long each time. No process holds the sockets
            any more, and for such orphans tcp_orphan_retries says how often it is repeated; its default,
            0, stands for 8.
            """,
            fires={rule: "warning"},
            show=("sockets --state fin-wait-1", "explain --state fin-wait-1"),
        )
        for peer in peers:
            hear_again(peer)
        wait_until(lambda: count_sockets(TcpState.FIN_WAIT_1) == 0, "the acknowledgements")
        yield Cured(
            """
            The path works again. The next repetition of each FIN was acknowledged, and FIN_WAIT_1
            was over. Here the path was the fault; what a program can do about it is to notice
            silent peers before it closes: SO_KEEPALIVE, TCP_USER_TIMEOUT.
            """,
            show=("states",),
        )


def _last_ack_stuck() -> Iterator[Scene]:
    rule = "last-ack-stuck"
    with last_ack_stuck(_FEW) as peers:
        yield Broken(
            f"""
            {_FEW} peers closed first, and then vanished. lab-program did what it should: it read
            the end-of-file and called close(), so its FINs are on their way: LAST_ACK. One
            acknowledgement is missing to end each connection, the last one, and it does not come.
            Until the kernel gives up it repeats the FIN, about 100 s with the default
            tcp_orphan_retries.
            """,
            fires={rule: "warning"},
            show=("sockets --state last-ack", "explain --state last-ack"),
        )
        for peer in peers:
            hear_again(peer)
        wait_until(lambda: count_sockets(TcpState.LAST_ACK) == 0, "the last acknowledgements")
        yield Cured(
            """
            The peers hear again, acknowledge the repeated FINs, and nothing is left here. TIME_WAIT
            is on their side: they closed first.
            """,
            show=("states",),
        )


def _zero_window_orphan() -> Iterator[Scene]:
    rule = "fin-wait-1-stuck"
    number = 13
    with closed_before_sent(number, reading=False) as peers:
        wait_until(lambda: _probing() == number, f"{number} closed windows")
        yield Broken(
            f"""
            lab-program wrote megabytes on {number} connections and closed them. The peers are alive
            and do not read: their receive buffers are full, so they announce a window of 0. The FIN
            stands behind the unsent data and cannot leave. lab-program is rid of the sockets; the
            kernel keeps the data in its memory and asks again and again whether there is room
            (timer: persist, zero-window probes). A peer that answers these can keep an orphan for
            minutes, and costs memory that no process is charged for.
            """,
            fires={rule: "warning"},
            show=("sockets --state fin-wait-1",),
            limits={rule: {"max_pause": 0.5}},
        )
        for peer in peers:
            peer.close()
        wait_until(lambda: count_sockets(TcpState.FIN_WAIT_1) == 0, "the resets")
        yield Cured(
            """
            The peers were ended. Closing with data unread sends a reset, and that ends the orphans
            here and frees what they held. A sender protects itself with a limit on how long a write
            may take, or with TCP_USER_TIMEOUT, before it closes.
            """,
            show=("states",),
        )


def _probing() -> int:
    """Sockets that wait 0.6 s or longer for their next zero-window probe; the first ones still moved bytes.

    /proc/net/tcp: timer 4 is the persist timer, and what follows it its hundredths of a second.
    """
    with open("/proc/net/tcp", encoding="ascii") as table:
        timers = [fields[5].split(":") for fields in (line.split() for line in table) if fields[3] == "04"]
    return sum(kind == "04" and int(left, 16) >= 60 for kind, left in timers)


def _time_wait_table_full() -> Iterator[Scene]:
    rule = "time-wait-table-nearly-full"
    write_sysctl(_BUCKETS, 100)
    with time_wait(113):
        yield Broken(
            """
            tcp_max_tw_buckets was lowered to 100, "to get rid of TIME_WAIT". 113 connections were closed here
            first: 100 are in TIME_WAIT, and the last 13 were not allowed to be; the kernel forgot them at
            once. A late segment of one of these meets no socket and is answered with a reset, or worse,
            meets a new connection with the same ports. The limit is there against attacks; it is no
            lever.
            """,
            fires={rule: "warning"},
            show=("states", "explain --sysctl tcp_max_tw_buckets"),
        )
        write_sysctl(_BUCKETS, 16384)
        yield Cured("The limit is 16384: there is room again. Each entry costs 256 bytes, for 60 s.")


def _near_descriptor_limit() -> Iterator[Scene]:
    rule = "close-wait-near-descriptor-limit"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with close_wait(113) as sockets:
        used = len(os.listdir("/proc/self/fd")) - 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 5, hard))
        yield Broken(
            f"""
            lab-program may have {used + 5} descriptors (RLIMIT_NOFILE) and uses {used}; 113 of
            these are sockets in CLOSE_WAIT that it does not close. Five more, and accept(),
            connect() and open() fail with EMFILE: the server is up, and takes nobody in. A higher
            limit moves the night on which it happens.
            """,
            fires={rule: "critical"},
            show=("sockets --state close-wait",),
        )
        for sock in sockets:
            sock.close()
        yield Cured("lab-program closes what its peers have ended long ago, and has its descriptors back.")


def _scenario(name: str, title: str, play: Callable[[], Iterator[Scene]], *rules: str) -> Scenario:
    return Scenario(name, title, play, rules or None)


def _closed_at_a_full_queue() -> Iterator[Scene]:
    stuck, full = "fin-wait-1-stuck", "accept-queue-full"
    with closed_at_a_full_queue(13) as server:
        let_pass(1.5)
        yield Broken(
            """
            A server that listens and does not accept: its queue of 13 has filled. For twelve more clients
            connect() had succeeded by then, because a client needs no more than the SYN-ACK. They sent their
            request, waited, and closed: FIN_WAIT_1. The server's kernel drops what they send for as long as
            the queue is full, and answers nothing. It looks like a path that loses packets, and is a program
            that does not accept.
            """,
            fires={stuck: "warning", full: "critical"},
            show=("sockets --state fin-wait-1,listen",),
        )
        server.settimeout(0)
        wait_until(lambda: _have_been_taken(server), "the clients' FINs to be answered", 60)
        yield Cured("The server accepts: what the clients repeat finds a place, and their FINs are answered.")


def _have_been_taken(server: socket.socket) -> bool:
    """Accept what waits; whether no client was left before that repeats its FIN, later each time."""
    answered = count_sockets(TcpState.FIN_WAIT_1) == 0
    with suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
    return answered


SCENARIOS = (
    _scenario(
        "fin-wait-1-at-a-full-queue",
        "A server that does not accept leaves its clients in FIN_WAIT_1",
        _closed_at_a_full_queue,
        "fin-wait-1-stuck",
        "accept-queue-full",
    ),
    _scenario(
        "fin-wait-1-stuck",
        "Peers are silent after our close: the FIN is never acknowledged",
        _fin_wait_1_stuck,
    ),
    _scenario(
        "last-ack-stuck", "Peers are silent after their close: the last ACK never comes", _last_ack_stuck
    ),
    _scenario(
        "zero-window-orphan",
        "Peers do not read, and closed connections cannot end",
        _zero_window_orphan,
        "fin-wait-1-stuck",
    ),
    _scenario("time-wait-table-nearly-full", "The table of TIME_WAIT is full", _time_wait_table_full),
    _scenario(
        "close-wait-near-descriptor-limit",
        "Sockets in CLOSE_WAIT have used the descriptors up",
        _near_descriptor_limit,
    ),
)
