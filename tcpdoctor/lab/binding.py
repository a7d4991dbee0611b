"""Diseases of bind(): a restart beside its own TIME_WAIT, and ports that are bound and not used, or taken."""

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.namespace import another_program, write_sysctl
from tcpdoctor.lab.pairs import (
    LOOPBACK,
    NeverCameError,
    allow_descriptors,
    connect,
    count_sockets,
    listen,
    wait_until,
)
from tcpdoctor.lab.scenario import Asked, Between, Broken, Cured, Scenario, Scene, Step

_PORT, _NEXT_PORT = 7001, 7003
_ANSWERED = "ok"
_REFUSED = "EADDRINUSE"


def _server(port: int, *, reuse: bool) -> Callable[[Connection], None]:
    """A server that takes one connection, closes it first, and ends."""

    def work(talk: Connection) -> None:
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
            server.bind(("", port))
            server.listen()
            talk.send("listening")
            accepted, _ = server.accept()
            talk.send("accepted")
            talk.recv()
            accepted.close()
        talk.send("closed")

    return work


def _leave_time_wait(port: int, *, reuse: bool) -> None:
    """The life of the old server: one client, an active close, and the end of the process."""
    with another_program(_server(port, reuse=reuse), "lab-server") as server, ExitStack() as stack:
        server.recv()
        client = stack.enter_context(socket.create_connection((LOOPBACK, port), timeout=10))
        server.recv()
        server.send("close")
        server.recv()
        client.recv(1)
    wait_until(lambda: count_sockets(TcpState.TIME_WAIT, port) == 1, "TIME_WAIT at the server")


def _restart(port: int, *, reuse: bool) -> str:
    """What the kernel answers a new server that binds the port and listens."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
        try:
            server.bind(("", port))
            server.listen()
        except OSError as error:
            return errno.errorcode[error.errno or 0]
    return _ANSWERED


def _restarted(port: int, *, old: bool, new: bool) -> str:
    """Restart, and see that the kernel answers what this lesson says."""
    answer = _restart(port, reuse=new)
    wanted = _ANSWERED if old and new else _REFUSED
    if answer != wanted:
        raise NeverCameError(f"bind() of the new server should answer {wanted} and answered {answer}")
    return answer


def _with(reuse: bool) -> str:  # noqa: FBT001 - the adjective of a server
    return "with SO_REUSEADDR" if reuse else "without SO_REUSEADDR"


_NOT_CERTAIN = f"""
    Can a new server bind port {_PORT}? Without SO_REUSEADDR certainly not: bind() sees a
    socket at this port and answers EADDRINUSE. With it the answer depends on the old
    server, because bind() wants the option on both sockets: on the new one, and on the one
    that is in the way, which got it from the listener that accepted it. In TIME_WAIT the
    kernel remembers the option, but shows it to nobody: so the answer is "not certain".
    """


def _left_in_time_wait(*, old: bool) -> str:
    return f"""
        lab-server, {_with(old)}, has listened on port {_PORT}. It closed its one connection
        first, as servers do that are stopped, and exited. The end that closes first keeps the
        connection in TIME_WAIT for 60 s, so that late segments of the old connection cannot end
        up in a new one. That is here the server's end, and its local port is {_PORT}. No
        process holds it.
        """


def _story(*, old: bool, new: bool) -> Callable[[], Iterator[Scene]]:
    place = int(new)  # in the list of attempts: 0 is without options, 1 with SO_REUSEADDR

    def play() -> Iterator[Scene]:
        _leave_time_wait(_PORT, reuse=old)
        yield Step(
            _left_in_time_wait(old=old),
            show=(f"sockets --port {_PORT}",),
        )
        yield Asked(
            _NOT_CERTAIN,
            question=f"explain --port {_PORT}",
            answer={
                "bind.cause": "time-wait",
                "bind.free_in_s": Between(45, 60),
                "bind.attempts.0.bind": _REFUSED,
                "bind.attempts.0.certain": True,
                "bind.attempts.1.bind": _REFUSED,
                "bind.attempts.1.certain": False,
            },
        )
        answer = _restarted(_PORT, old=old, new=new)
        probed = f"explain --port {_PORT} --probe"
        asked = {"bind.probed": True, f"bind.attempts.{place}.bind": answer}
        if old and new:
            yield Asked(_both(), question=probed, answer=asked, cured=True)
            return
        yield Asked(_refused(old=old, new=new), question=probed, answer=asked)
        _leave_time_wait(_NEXT_PORT, reuse=True)
        answer = _restarted(_NEXT_PORT, old=True, new=True)
        yield Asked(
            f"""
            The same again at port {_NEXT_PORT}, and this time both servers set SO_REUSEADDR before
            bind(). There is a TIME_WAIT again, and the restart works at once.
            """,
            question=f"explain --port {_NEXT_PORT} --probe",
            answer={"bind.probed": True, "bind.attempts.1.bind": answer},
            cured=True,
        )

    return play


def _both() -> str:
    return """
        The new server sets SO_REUSEADDR, and so had the old one: bind() and listen() answer ok at
        once, TIME_WAIT or not. With --probe the kernel itself is asked, by a bind() that is
        released again. The TIME_WAIT is still there and does its work: a segment of the old
        connection that comes late is not taken for one of a new connection.
        """


def _refused(*, old: bool, new: bool) -> str:
    why = {
        (False, False): "Neither server set the option.",
        (True, False): "The old server had set the option, the new one has not: both have to.",
        (False, True): (
            "The new server sets the option, as every article says, and yet: the socket in the way was made "
            "by a server without it. So the first restart after the fix still has to wait; only the next "
            "one works at once."
        ),
    }[old, new]
    return f"""
        The new server {_with(new)} was started, and bind() answered EADDRINUSE. {why}

        With --probe the kernel itself is asked, by a bind() that is released again. No sysctl helps:
        tcp_fin_timeout is about FIN_WAIT_2, and tcp_tw_reuse about connect().
        """


def _scenario(*, old: bool, new: bool) -> Scenario:
    words = {True: "reuseaddr", False: "plain"}
    if old and new:
        title = "Restart after an active close: both servers with SO_REUSEADDR"
    elif not old and not new:
        title = "Restart after an active close: neither server with SO_REUSEADDR"
    else:
        title = f"Restart after an active close: only the {'old' if old else 'new'} server with SO_REUSEADDR"
    return Scenario(f"restart-{words[new]}-after-{words[old]}", title, _story(old=old, new=new), ())


_FOUR_CASES = tuple(_scenario(old=old, new=new) for old in (False, True) for new in (False, True))


@contextmanager
def bound_to_any(count: int) -> Iterator[list[socket.socket]]:
    """`count` sockets are bound to port 0 of every address, and nothing is done with them."""
    allow_descriptors(count + 64)
    with ExitStack() as stack:
        sockets = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.bind(("0.0.0.0", 0))
            sockets.append(sock)
        yield sockets


def try_bind(port: int) -> str:
    """What bind() and listen() say to a server that sets SO_REUSEADDR: ``ok`` or the name of an errno."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("", port))
            sock.listen()
        except OSError as error:
            return errno.errorcode[error.errno or 0]
    return "ok"


def try_connect(port: int) -> str:
    """What connect() says: ``ok`` or the name of an errno."""
    with socket.socket() as sock:
        sock.settimeout(10)
        return errno.errorcode.get(sock.connect_ex((LOOPBACK, port)), "ok")


# Who has the port: servers, clients, and sockets that were bound and forgotten.


_RANGE = "net.ipv4.ip_local_port_range"
_RESERVED = "net.ipv4.ip_local_reserved_ports"


def _listener_port_in_ephemeral_range() -> Iterator[Scene]:
    rule = "listener-port-in-ephemeral-range"
    write_sysctl(_RANGE, "40000 40103")
    with ExitStack() as stack:
        listen(stack, port=40001)
        yield Broken(
            """
            A server listens on port 40001, and outgoing connections are given ports from 40000 to 40103.
            While the server runs its port is safe: connect() skips ports that are bound. While it is
            stopped, the kernel may give 40001 to any client, and nobody will know why the server does not
            start again.
            """,
            fires={rule: "info"},
            show=("explain --port 40001",),
            window=0,
        )
        write_sysctl(_RESERVED, "40001")
        yield Cured(
            """
            Port 40001 is reserved now (net.ipv4.ip_local_reserved_ports). The server may still bind it,
            because it names it; clients, who leave the choice to the kernel, never get it.
            """,
            window=0,
        )


def _taken_meanwhile(answer: str) -> str:
    return f"""
        While it was down, two clients connected to another server, and the kernel gave one of them port
        40001. The server starts again, with SO_REUSEADDR as every server, and bind() says
        {answer}. Nothing listens on the port. SO_REUSEADDR does not help, because both sockets
        would need it, and clients do not set it.
        """


def _reserved_now(ports: list[int]) -> str:
    return f"""
        The client's connection is over. Port 40001 is reserved now, and five more clients have been given
        {", ".join(map(str, ports))}. Then the server started. What explain says is as it should be: the
        port is taken, by a listener.
        """


def _listener_port_taken() -> Iterator[Scene]:
    write_sysctl(_RANGE, "40000 40001")
    with ExitStack() as stack:
        peer = listen(stack, port=7000)
        server = socket.create_server(("0.0.0.0", 40001))
        yield Step(
            """
            A server listens on port 40001. The range of ephemeral ports is 40000 to 40001, so that it does
            not take years until a client is given just this port. It is restarted now: first it stops.
            """,
            show=("explain --port 40001",),
        )
        server.close()
        clients = [connect(stack, peer), connect(stack, peer)]
        yield Asked(
            _taken_meanwhile(try_bind(40001)),
            "explain --port 40001",
            {
                "bind.cause": "outgoing-connection",
                "bind.attempts.1.bind": "EADDRINUSE",
                "bind.free_in_s": None,
            },
        )
        for _ in clients:
            peer.accept()[0].close()
        for client in clients:
            client.recv(1)
            client.close()
        wait_until(lambda: try_bind(40001) == "ok", "port 40001 to be free")
        write_sysctl(_RESERVED, "40001")
        write_sysctl(_RANGE, "40000 40007")
        ports = sorted(connect(stack, peer).getsockname()[1] for _ in range(5))
        stack.enter_context(socket.create_server(("0.0.0.0", 40001)))
        yield Asked(
            _reserved_now(ports),
            "explain --port 40001",
            {"bind.cause": "listener"},
            cured=True,
        )


def _ephemeral_ports_bound() -> Iterator[Scene]:
    rule = "ephemeral-ports-bound"
    write_sysctl(_RANGE, "40000 40103")
    with ExitStack() as stack:
        peer = listen(stack, port=7000)
        with bound_to_any(104):
            yield Broken(
                f"""
                The range has 104 ports, and a program has called bind() to port 0 for 104 sockets, without
                using them. Each has its port for itself, towards every destination. The next bind() to port
                0 says {try_bind(0)}, although it names no port; and connect(), which skips ports that are
                bound, says {try_connect(peer.getsockname()[1])}. `ss -tan` shows none of these sockets,
                `ss -B` does.
                """,
                fires={rule: "critical"},
                show=("states", "sockets --state bound"),
                window=0,
            )
            yield Asked(
                "explain foresees it, and that no timer gives any of these ports back.",
                "explain --connect 127.0.0.1:7000",
                {
                    "connect.verdict": "EADDRNOTAVAIL",
                    "connect.lost_to_bound_sockets": 104,
                    "connect.next_free_in_s": None,
                },
            )
        yield Cured(
            f"""
            The program closed its sockets, and the ports came back at once: there is no TIME_WAIT after a
            socket that was never connected. bind() to port 0 says {try_bind(0)}.
            """,
            window=0,
        )


SCENARIOS = (
    *_FOUR_CASES,
    Scenario(
        "listener-port-in-ephemeral-range",
        "Server's port may be given to a client while it restarts",
        _listener_port_in_ephemeral_range,
    ),
    Scenario(
        "listener-port-taken-by-client",
        "Server does not start: an outgoing connection has its port",
        _listener_port_taken,
        proves=(),
    ),
    Scenario("ephemeral-ports-bound", "bind() to port 0 finds no port any more", _ephemeral_ports_bound),
)
