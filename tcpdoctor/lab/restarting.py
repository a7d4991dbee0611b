"""A server is restarted while connections that it closed first are in TIME_WAIT: the four cases."""

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.namespace import another_program
from tcpdoctor.lab.pairs import LOOPBACK, NeverCameError, count_sockets, wait_until
from tcpdoctor.lab.scenario import Asked, Between, Scenario, Scene, Step

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


def _story(*, old: bool, new: bool) -> Callable[[], Iterator[Scene]]:
    place = int(new)  # in the list of attempts: 0 is without options, 1 with SO_REUSEADDR

    def play() -> Iterator[Scene]:
        _leave_time_wait(_PORT, reuse=old)
        yield Step(
            f"""
            lab-server, {_with(old)}, has listened on port {_PORT}. It closed its one connection
            first, as servers do that are stopped, and exited. The end that closes first keeps the
            connection in TIME_WAIT for 60 s, so that late segments of the old connection cannot end
            up in a new one. That is here the server's end, and its local port is {_PORT}. No
            process holds it.
            """,
            show=(f"sockets --port {_PORT}",),
        )
        yield Asked(
            f"""
            Can a new server bind port {_PORT}? Without SO_REUSEADDR certainly not: bind() sees a
            socket at this port and answers EADDRINUSE. With it the answer depends on the old
            server, because bind() wants the option on both sockets: on the new one, and on the one
            that is in the way, which got it from the listener that accepted it. In TIME_WAIT the
            kernel remembers the option, but shows it to nobody: so the answer is "not certain".
            """,
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


SCENARIOS = tuple(_scenario(old=old, new=new) for old in (False, True) for new in (False, True))
