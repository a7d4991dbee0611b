"""Diseases of closing: each function makes one with `count` sockets and holds it until its block ends."""

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.namespace import another_program, write_sysctl
from tcpdoctor.lab.packets import go_deaf
from tcpdoctor.lab.pairs import (
    allow_descriptors,
    connect,
    connect_all,
    connect_and_close,
    connected,
    count_sockets,
    half_close,
    keeping_open,
    let_pass,
    listen,
    read_for,
    streaming,
    wait_for_state,
    wait_until,
)
from tcpdoctor.lab.scenario import Asked, Between, Broken, Cured, Scenario, Scene, Step


@contextmanager
def close_wait(count: int, *, read_end: int = 0, keepalive: int = 0) -> Iterator[list[socket.socket]]:
    """This process holds `count` sockets whose peers have ended; it read the end-of-file of `read_end`.

    With `keepalive` every socket has a probe each so many seconds, and the peers hold their ends, so that
    they answer; without, they close them.
    """
    with connected(count) as (_, pairs):
        for client, accepted in pairs:
            if keepalive:
                probe_every(client, keepalive)
                accepted.shutdown(socket.SHUT_WR)
            else:
                accepted.close()
        clients = [client for client, _ in pairs]
        wait_for_state(clients, TcpState.CLOSE_WAIT)
        for client in clients[:read_end]:
            client.recv(1)
        yield clients


def probe_every(sock: socket.socket, seconds: int) -> None:
    """Set keepalive with a first probe and further ones after so many seconds."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds)


@contextmanager
def close_wait_not_accepted(count: int, *, backlog: int = 4096) -> Iterator[socket.socket]:
    """A server does not accept, and `count` clients connected and gave up; yields the listener."""
    allow_descriptors(count + 64)
    with ExitStack() as stack:
        server = listen(stack, backlog)
        for _ in range(count):
            connect(stack, server).close()
        port = server.getsockname()[1]
        wait_until(
            lambda: count_sockets(TcpState.CLOSE_WAIT, port) == count, f"{count} x CLOSE_WAIT, not accepted"
        )
        yield server


@contextmanager
def ended_and_not_closed(count: int) -> Iterator[list[socket.socket]]:
    """This process holds `count` sockets whose connections their peers have reset, after some data."""
    with connected(count) as (_, pairs):
        for client, accepted in pairs:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(b"x")
            accepted.recv(1)
            client.close()
        sockets = [accepted for _, accepted in pairs]
        wait_for_state(sockets, TcpState.CLOSE)
        yield sockets


@contextmanager
def fin_wait_2_orphans(count: int) -> Iterator[list[socket.socket]]:
    """`count` connections are closed here and left open by their peers; yields the peers' sockets."""
    with connected(count) as (server, pairs):
        port = server.getsockname()[1]
        for _, accepted in pairs:
            accepted.close()
        wait_until(
            lambda: count_sockets(TcpState.FIN_WAIT_2, port) == count, f"{count} x FIN_WAIT_2, orphaned"
        )
        yield [client for client, _ in pairs]


@contextmanager
def fin_wait_1_stuck(count: int, *, unsent: int = 0) -> Iterator[list[socket.socket]]:
    """`count` connections are closed here, and their peers vanished before; yields the peers' deaf sockets.

    Each sent `unsent` bytes just before, which are never acknowledged either.
    """
    with connected(count) as (_, pairs):
        for client, peer in pairs:
            go_deaf(peer)
            client.sendall(b"x" * unsent)
            client.close()
        yield [peer for _, peer in pairs]


@contextmanager
def closed_at_a_full_queue(count: int) -> Iterator[socket.socket]:
    """`count` clients connected, sent, and closed, and a server's accept queue was full meanwhile.

    The kernel of the server waits for their data before it takes them (TCP_DEFER_ACCEPT); by the time it
    comes the queue is full. Yields the listener.
    """
    allow_descriptors(4 * count + 64)
    with ExitStack() as stack:
        server = listen(stack, count)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 60)
        for _ in range(count):
            connect(stack, server).sendall(b"x")
        late = [connect(stack, server) for _ in range(count)]
        for client in late:  # the first still finds a place
            client.sendall(b"request")
        for client in late:
            client.close()
        yield server


@contextmanager
def last_ack_stuck(count: int) -> Iterator[list[socket.socket]]:
    """`count` peers closed first and vanished before this side closed; yields the peers' deaf sockets."""
    with connected(count) as (_, pairs):
        peers = [peer for _, peer in pairs]
        for peer in peers:
            peer.shutdown(socket.SHUT_WR)
        wait_for_state(peers, TcpState.FIN_WAIT_2)  # before, the peer would repeat its own FIN as well
        for client, peer in pairs:
            go_deaf(peer)
            client.recv(1)
            client.close()
        yield peers


@contextmanager
def time_wait(count: int, *, at_server: bool = False) -> Iterator[socket.socket]:
    """`count` connections were closed by their clients first, or by their server; yields the listener."""
    with ExitStack() as stack:
        server = listen(stack)
        connect_and_close(server, count, at_server=at_server)
        yield server


# How connections end that were closed at one end first: FIN_WAIT_2.


_MANY = 113
_FEW = 23
_OLD_AT_ONCE = {"min_age": 0.5}
_FIN_TIMEOUT = "net.ipv4.tcp_fin_timeout"


_TWO_DIRECTIONS = f"""
    Two programs: lab-program, a client, has opened {_MANY} connections to lab-peer, a
    server.

    The two directions of a TCP connection are closed one by one. Whoever has nothing more
    to send says so with a FIN, and the other end acknowledges it; the other direction stays
    open until that end sends a FIN of its own. So it takes two FINs to end a connection,
    and on the way there its two ends are in different states.
    """
_FINISHED_HERE = """
    lab-program has sent its requests and calls shutdown(SHUT_WR): "no more from me". For
    each connection the kernel sends a FIN: FIN_WAIT_1. The kernel at the other end
    acknowledges it at once, without asking its program, and the sockets here move on to
    FIN_WAIT_2: "I have finished, you know it, now I wait for you to finish".

    At the other end the same moment is called CLOSE_WAIT: the FIN has come, and lab-peer
    has to close. FIN_WAIT_2 here and CLOSE_WAIT there are one thing, seen from its two
    ends. What would end it is lab-peer's close(), and lab-peer does not call it.
    """
_HELD_FOR_DAYS = f"""
    It is widely believed that net.ipv4.tcp_fin_timeout ends this. Here it is 1 s (the
    default is 60 s), and more than that has passed: all {_MANY} are still there, and none
    has a timer.

    The kernel is right. lab-program holds these sockets, so it may still be reading from
    them: "here is my question, take your time for the answer" is a proper use of
    shutdown(). The kernel cannot know that no answer will come. As long as a process holds
    the socket it waits, for days if need be. Each one costs a descriptor and kernel memory,
    at both ends.
    """
_CLOSED_HERE = """
    The fix is in the program: bound the wait for the peer, then call close(). After close()
    nobody here can read any more, so waiting makes little sense. The sockets are orphans
    now: no process holds them, they cost no descriptor, and to orphans tcp_fin_timeout does
    apply.
    """


def _no_time_wait(first: str, second: str) -> str:
    return f"""
        After tcp_fin_timeout they are gone, and not by way of TIME_WAIT: that comes only where
        both ends have sent their FIN.

        What is left are lab-peer's ends in CLOSE_WAIT, until lab-peer closes them or exits. It
        has just tried to send on one of them. The first send() answered "{first}", because it
        only hands the data to the kernel; a reset came back, since the other end is gone, and
        the second send() failed ({second}). That one socket has left CLOSE_WAIT, the other
        {_MANY - 1} have not.

        The fault was lab-peer's all along: whoever is in CLOSE_WAIT owes a close().
        lab-program, in FIN_WAIT_2, was only too patient.
        """


def _fin_wait_2_held_open() -> Iterator[Scene]:
    rule = "fin-wait-2-held-open"
    with another_program(keeping_open(_MANY)) as peer, ExitStack() as stack:
        clients = connect_all(stack, peer, _MANY)
        yield Step(
            _TWO_DIRECTIONS,
            show=("states",),
        )
        half_close(clients)
        yield Step(
            _FINISHED_HERE,
            show=("sockets --state fin-wait-2", "sockets --state close-wait"),
        )
        write_sysctl(_FIN_TIMEOUT, 1)
        let_pass(1.5)
        yield Broken(
            _HELD_FOR_DAYS,
            fires={rule: "warning"},
            show=("explain --state fin-wait-2",),
            limits={rule: _OLD_AT_ONCE},
        )
        for client in clients:
            client.close()
        yield Step(
            _CLOSED_HERE,
            show=("sockets --state fin-wait-2",),
        )
        wait_until(lambda: count_sockets(TcpState.FIN_WAIT_2) == 0, "the end of the orphans")
        peer.send("send")
        first, second = peer.recv()
        yield Cured(
            _no_time_wait(first, second),
            show=("states",),
        )


def _against_close_wait() -> Iterator[Scene]:
    here, there = "fin-wait-2-held-open", "close-wait-leak"
    with another_program(keeping_open(_MANY)) as peer, ExitStack() as stack:
        clients = connect_all(stack, peer, _MANY)
        half_close(clients)
        let_pass(0.6)
        yield Broken(
            f"""
            {_MANY} connections from lab-program to lab-peer. lab-program finished sending first:
            its ends are in FIN_WAIT_2. lab-peer has got the FINs and does nothing: its ends are in
            CLOSE_WAIT. On two hosts each administrator sees one half and blames the other; here
            both are in one picture.

            Read it like this: the end in CLOSE_WAIT owes a close(). The end in FIN_WAIT_2 waits for
            it.
            """,
            fires={here: "warning", there: "warning"},
            show=(
                "sockets --state fin-wait-2",
                "sockets --state close-wait",
                "explain --state close-wait",
            ),
            limits={here: _OLD_AT_ONCE, there: _OLD_AT_ONCE},
        )
        peer.send("close")
        peer.recv()
        wait_until(lambda: count_sockets(TcpState.TIME_WAIT) == _MANY, "TIME_WAIT of all")
        yield Cured(
            f"""
            lab-peer closed, and both ends were released at once: its FIN went from CLOSE_WAIT to
            LAST_ACK, and with the acknowledgement that end was gone. The end that closed first
            keeps TIME_WAIT for 60 s, so that late segments cannot hit a new connection with the
            same ports: {_MANY} of them, 256 bytes each, without a descriptor. That is how it should
            look.
            """,
            show=("states",),
        )


_BOUNDED = """
    The stream is over. lab-peer closed, its FINs came, lab-program read the end-of-file and called
    close(): every connection ends in TIME_WAIT, at the end that finished first, with nothing
    lost. shutdown() says "I am done sending", close() says "I am gone".
    """


def _closed_in_the_middle(errors: str) -> str:
    return f"""
        lab-program sent a question on each of {_FEW} connections, and lab-peer answers with a stream that
        takes its time. lab-program has no more to ask, and calls close() in the middle of the answer.

        From then on nobody here can read, and the kernel says so: the next segment is answered with a
        reset. All {_FEW} connections of lab-peer end with an error ({errors}), and what was under way
        is lost. Not even a TIME_WAIT remains.
        """


def _one_direction_goes_on(received: int) -> str:
    return f"""
        The same with shutdown(SHUT_WR) instead of close(): "I have no more to say, go on". The FIN goes
        out, and lab-program is in FIN_WAIT_2, lab-peer in CLOSE_WAIT. After 1.5 s, longer than
        tcp_fin_timeout (1 s here), {received} bytes have come in and the stream goes on: FIN_WAIT_2 is a
        state to receive in, and as long as a process holds the socket it has no limit.

        So check is silent: these two states are a disease only where many sockets stay in them for
        long.
        """


def _streaming_peer() -> Iterator[Scene]:
    write_sysctl(_FIN_TIMEOUT, 1)
    with another_program(streaming(_FEW)) as peer, ExitStack() as stack:
        clients = connect_all(stack, peer, _FEW)
        read_for(clients, 0.2)
        for client in clients:
            client.close()
        errors = ", ".join(sorted(set(peer.recv())))
    yield Asked(
        _closed_in_the_middle(errors),
        question="states",
        answer=dict.fromkeys(("states.fin_wait_2", "states.close_wait", "states.time_wait"), 0),
    )
    with another_program(streaming(_FEW, seconds=2.5)) as peer, ExitStack() as stack:
        clients = connect_all(stack, peer, _FEW)
        half_close(clients)
        received = read_for(clients, 1.5)
        yield Asked(
            _one_direction_goes_on(received),
            question="check --only fin-wait-2-held-open,close-wait-leak --window 0",
            answer={"summary.warning": 0, "summary.critical": 0, "summary.unchecked": 0},
            cured=True,
            show=("sockets --state fin-wait-2",),
        )
        for client in clients:
            while client.recv(1 << 16):
                pass
            client.close()
        yield Asked(
            _BOUNDED,
            question="states",
            answer={
                # under load one of them has been seen to be gone already; what ends it early is not known
                "states.time_wait": Between(_FEW - 1, _FEW),
                "states.fin_wait_2": 0,
                "states.close_wait": 0,
            },
            cured=True,
        )


def _orphans_pile_up() -> Iterator[Scene]:
    rule = "fin-wait-2-orphans-pile-up"
    number = 211
    with fin_wait_2_orphans(number) as peers:
        yield Broken(
            f"""
            A server has closed {number} connections, properly and first. Their clients do not close: so
            the server's ends stay in FIN_WAIT_2. No process holds them any more, and such an
            orphan ends after tcp_fin_timeout (60 s). A few are everyday life; many mean clients
            that come faster than 60 s lets the old ones go.
            """,
            fires={rule: "warning"},
            show=("sockets --state fin-wait-2",),
            limits={rule: {"min_sockets": number}},
        )
        for peer in peers:
            peer.close()
        wait_until(lambda: count_sockets(TcpState.FIN_WAIT_2) == 0, "the FINs of the clients")
        yield Cured(
            """
            The clients closed: their FINs came, and every FIN_WAIT_2 became a TIME_WAIT, which is how a
            connection ends that was closed here first.
            """,
            show=("states",),
        )


SCENARIOS = (
    Scenario("fin-wait-2-held-open", "Process keeps half-closed sockets open", _fin_wait_2_held_open),
    Scenario(
        "fin-wait-2-against-close-wait",
        "FIN_WAIT_2 at one end is CLOSE_WAIT at the other",
        _against_close_wait,
        ("fin-wait-2-held-open", "close-wait-leak"),
    ),
    Scenario(
        "half-close-streaming",
        "Closing too early, and half-closing while the peer streams",
        _streaming_peer,
        (),
    ),
    Scenario("fin-wait-2-orphans-pile-up", "Peers do not close what was closed here", _orphans_pile_up),
)
