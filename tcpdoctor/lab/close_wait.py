"""Connections that the other end has closed, and this one has not: CLOSE_WAIT; also through a proxy."""

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.closing import close_wait, close_wait_not_accepted, ended_and_not_closed
from tcpdoctor.lab.listening import accept_all
from tcpdoctor.lab.namespace import another_program
from tcpdoctor.lab.pairs import (
    allow_descriptors,
    answering,
    connect_all,
    count_sockets,
    let_pass,
    listen,
    wait_for_state,
    wait_until,
)
from tcpdoctor.lab.scenario import Broken, Cured, Scenario, Scene

_MANY = 113
_FEW = 23
_MORE = 211
_OLD_AT_ONCE = {"min_age": 0.5}


def _close_wait_leak() -> Iterator[Scene]:
    rule = "close-wait-leak"
    with close_wait(_MANY, read_end=_MANY) as sockets:
        let_pass(0.6)
        yield Broken(
            f"""
            {_MANY} peers of lab-program have closed. Their FINs are here and acknowledged, and
            lab-program has even read the end-of-file: recv() returned 0 bytes. Then it forgot the
            sockets. That is CLOSE_WAIT: the kernel waits for this program's close(), and for
            nothing else. There is no timer, and no sysctl that would set one.
            """,
            fires={rule: "warning"},
            show=("sockets --state close-wait", "explain --state close-wait"),
            limits={rule: _OLD_AT_ONCE},
        )
        for sock in sockets:
            sock.close()
        yield Cured(
            "lab-program closes what it had forgotten. Each close() sends the FIN that was missing.",
            show=("states",),
        )


def _close_wait_unread() -> Iterator[Scene]:
    rule = "close-wait-leak"
    with another_program(answering(_MANY)) as peer, ExitStack() as stack:
        clients = connect_all(stack, peer, _MANY)
        wait_for_state(clients, TcpState.CLOSE_WAIT)
        let_pass(0.6)
        yield Broken(
            f"""
            The peers sent an answer and closed. lab-program holds {_MANY} sockets in CLOSE_WAIT,
            but unlike one that reads the end and forgets to close, it does not read at all: the
            answer is still in the receive queue (the bytes "unread" below), with the end-of-file
            behind it. Nobody looks at these connections any more. Look for a thread that is
            blocked, or a pool that does not check what lies in it, and not for a missing close().
            """,
            fires={rule: "warning"},
            show=("sockets --state close-wait",),
            limits={rule: _OLD_AT_ONCE},
        )
        for client in clients:
            client.recv(64)
            client.close()
        yield Cured("lab-program reads what was left and closes.", show=("states",))


def _close_wait_kept_alive() -> Iterator[Scene]:
    rule = "close-wait-leak"
    with close_wait(_MANY, read_end=_MANY, keepalive=12) as sockets:
        let_pass(16.5)  # a probe was answered, and some seconds ago; the next one is far off
        yield Broken(
            f"""
            The same leak, {_MANY} sockets, and each has a keepalive probe every 12 s. (Go sets 15 s for every
            connection, accepted and dialled.) The peers have ended their side, and their kernels still
            answer the probes. How long a socket has been in CLOSE_WAIT no interface tells; the last
            acknowledgement that came does as a rule, and each answered probe is one. So the ages seem to
            begin anew every 12 s. What cannot be hidden is that no data has come or gone for longer.
            """,
            fires={rule: "warning"},
            show=("sockets --state close-wait",),
            limits={rule: {"min_age": 14}},
        )
        for sock in sockets:
            sock.close()
        yield Cured("lab-program closes what it had forgotten; keepalive had nothing to do with it.")


def _ended_connections() -> Iterator[Scene]:
    rule = "ended-connections-not-closed"
    with ended_and_not_closed(_MANY) as sockets:
        yield Broken(
            f"""
            {_MANY} clients of lab-program have reset their connections (a crash, a phone that changed its
            network; or keepalive gave up). recv() said ECONNRESET, lab-program logged it and forgot the
            socket. For the kernel these connections are over: in no state, and in no list. But it cannot
            take back a descriptor. Look for them with ss, and there is nothing; count the descriptors, and
            there they are.
            """,
            fires={rule: "warning"},
            show=("states", "facts descriptors"),
        )
        for sock in sockets:
            sock.close()
        yield Cured("lab-program closes its sockets after an error as well.")


def _ended_near_limit() -> Iterator[Scene]:
    rule = "ended-connections-near-limit"
    with ended_and_not_closed(_MORE) as sockets:
        used = len(os.listdir("/proc/self/fd"))
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 10, hard))
        yield Broken(
            f"""
            lab-program may have {used + 10} descriptors and uses {used}; {_MORE} of these are connections
            that are over, and that it forgot to close after their errors. Hardly a connection is to be
            seen, and yet accept() will soon fail with EMFILE.
            """,
            fires={rule: "critical"},
            show=("states",),
        )
        for sock in sockets:
            sock.close()
        yield Cured("lab-program closes its sockets after an error as well: the descriptors are free again.")


def _not_accepted() -> Iterator[Scene]:
    rule = "close-wait-not-accepted"
    with close_wait_not_accepted(_FEW) as server:
        let_pass(0.6)
        yield Broken(
            f"""
            lab-program listens and does not accept: it is busy elsewhere. The kernel completes the
            handshake by itself, so {_FEW} clients were connected, sent nothing, waited, and gave
            up. Their connections are in CLOSE_WAIT and belong to no process: they lie in the
            listener's accept queue. Looking for a missing close() would lead nowhere; what is
            missing is accept().
            """,
            fires={rule: "critical"},
            show=("sockets --state close-wait,listen",),
            limits={rule: _OLD_AT_ONCE},
        )
        for connection in accept_all(server, quiet=0.3):
            connection.close()
        yield Cured(
            "lab-program accepts what was waiting, finds the end-of-file, and closes.", show=("states",)
        )


def _not_accepted_short_queue() -> Iterator[Scene]:
    rule = "close-wait-not-accepted"
    with close_wait_not_accepted(6, backlog=5) as server:
        let_pass(0.6)
        yield Broken(
            """
            The same with listen(5), which many libraries ask for: the queue holds six connections, and six
            clients that gave up fill it for good. No further client gets in. To call the queue full is right
            and tells only half: nobody in it is alive, so what is missing is accept(), and not room.
            """,
            fires={rule: "critical"},
            show=("sockets --state close-wait,listen",),
            limits={rule: _OLD_AT_ONCE},
        )
        for connection in accept_all(server, quiet=0.3):
            connection.close()
        yield Cured("lab-program accepts what was waiting, finds the end-of-file, and closes.")


SCENARIOS = (
    Scenario("close-wait-leak", "Process reads the end-of-file and does not close", _close_wait_leak),
    Scenario(
        "close-wait-unread",
        "Process leaves data and end-of-file unread",
        _close_wait_unread,
        ("close-wait-leak",),
    ),
    Scenario(
        "close-wait-leak-kept-alive",
        "Keepalive probes hide how long CLOSE_WAIT has lasted",
        _close_wait_kept_alive,
        ("close-wait-leak",),
    ),
    Scenario(
        "ended-connections-not-closed",
        "Process keeps descriptors of connections that are over",
        _ended_connections,
    ),
    Scenario(
        "ended-connections-near-limit",
        "Descriptors of connections that are over use up the limit",
        _ended_near_limit,
    ),
    Scenario("close-wait-not-accepted", "Clients hang up before the server accepts them", _not_accepted),
    Scenario(
        "close-wait-fills-a-short-queue",
        "A short accept queue is full of clients that gave up",
        _not_accepted_short_queue,
        ("close-wait-not-accepted",),
    ),
)


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


PROXIED = (
    Scenario(
        "proxy-waits-for-one-side",
        "Proxy keeps pairs of connections of which one side has ended",
        _proxy_waits_for_one_side,
    ),
)
