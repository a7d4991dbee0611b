"""Connected pairs of sockets, their traffic, and waiting for what the kernel makes of them."""

import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.connection import Connection

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.lab.packets import hear_partly

LOOPBACK = "127.0.0.1"


class NeverCameError(AssertionError):
    """The kernel did not do within the deadline what the disease needs."""


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Poll until `holds` is true.

    Raises:
        NeverCameError: It was not true within `seconds`; the text says `what`.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise NeverCameError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


def state_of(sock: socket.socket) -> TcpState:
    """The socket's TCP state, as the kernel says."""
    return TcpState(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0])


def wait_for_state(sockets: list[socket.socket], state: TcpState) -> None:
    """Wait until every one of these sockets is in `state`."""
    wait_until(lambda: all(state_of(sock) is state for sock in sockets), f"{len(sockets)} x {state.name}")


def count_sockets(state: TcpState, local_port: int | None = None) -> int:
    """IPv4 sockets of this namespace in `state`, from /proc/net/tcp; at one local port where it is given."""
    port, number = "" if local_port is None else f":{local_port:04X}", f"{state:02X}"
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table][1:]
    return sum(row[1].endswith(port) and row[3] == number for row in rows)


def allow_descriptors(wanted: int) -> None:
    """Raise this process's soft limit of descriptors to at least `wanted`.

    Raises:
        NeverCameError: The hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in (resource.RLIM_INFINITY, max(hard, wanted)):
        raise NeverCameError(f"it needs {wanted} descriptors, and the hard limit is {hard} (ulimit -Hn)")
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listen(stack: ExitStack, backlog: int = 4096, port: int = 0, address: str = LOOPBACK) -> socket.socket:
    """A listening socket that the stack closes."""
    return stack.enter_context(socket.create_server((address, port), backlog=backlog))


def connect(stack: ExitStack, server: socket.socket, *, source: str = "") -> socket.socket:
    """A client that is connected to `server` and that the stack closes."""
    from_address = (source, 0) if source else None
    address = server.getsockname()[:2]
    return stack.enter_context(socket.create_connection(address, timeout=10, source_address=from_address))


def connect_pair(stack: ExitStack, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """A client and the accepted other end; the stack closes both."""
    client = connect(stack, server)
    accepted, _ = server.accept()
    stack.enter_context(accepted)
    return client, accepted


@contextmanager
def connected(count: int) -> Iterator[tuple[socket.socket, list[tuple[socket.socket, socket.socket]]]]:
    """A listener and `count` connections to it: the client and the accepted other end of each."""
    allow_descriptors(2 * count + 64)
    with ExitStack() as stack:
        server = listen(stack)
        yield server, [connect_pair(stack, server) for _ in range(count)]


def connect_and_close(server: socket.socket, count: int, *, at_server: bool = False) -> None:
    """Open and close `count` connections; who closes first, client or server, has a TIME_WAIT of each."""
    for _ in range(count):
        with ExitStack() as both:
            first, second = connect_pair(both, server)
            if at_server:
                first, second = second, first
            first.close()
            second.recv(1)


@contextmanager
def again_and_again(act: Callable[[], None], *, every: float) -> Iterator[None]:
    """Call `act` in a thread, `every` seconds after it ended, from now until the block is left.

    It has been called once when the block begins. What it raises ends the repetition, and is raised when
    the block is left.
    """
    over, problems = threading.Event(), list[BaseException]()

    def repeat() -> None:
        try:
            while not over.wait(every):
                act()
        except BaseException as problem:  # whatever it is: it is raised again in the caller's thread
            problems.append(problem)

    act()
    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if problems:
        raise problems[0]


# peers that are programs of their own: what they do with connections, and who connects to them


def keeping_open(number: int) -> Callable[[Connection], None]:
    """A server that takes `number` connections, keeps them open, and does what it is told."""

    def work(talk: Connection) -> None:
        server = socket.create_server((LOOPBACK, 0), backlog=4096)
        talk.send(server.getsockname()[1])
        held = [server.accept()[0] for _ in range(number)]
        talk.send("all there")
        while True:
            if talk.recv() == "close":
                for sock in held:
                    sock.close()
                talk.send("closed")
            else:
                talk.send(_attempts_to_send(held[0]))

    return work


def _attempts_to_send(sock: socket.socket) -> list[str]:
    """What the first and the second send() on a connection answer whose other end is gone."""
    answers = []
    for _ in range(2):
        try:
            sock.send(b"late")
            answers.append("ok")
        except OSError as error:
            answers.append(type(error).__name__)
        time.sleep(0.1)  # the reset needs a moment to come back
    return answers


def connect_all(stack: ExitStack, talk: Connection, number: int) -> list[socket.socket]:
    """Open `number` connections to the peer, which has accepted all of them on return."""
    address = (LOOPBACK, talk.recv())
    clients = [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(number)]
    talk.recv()
    return clients


def half_close(clients: list[socket.socket]) -> None:
    """Finish sending on each; on return the peer has acknowledged it."""
    for client in clients:
        client.shutdown(socket.SHUT_WR)
    wait_for_state(clients, TcpState.FIN_WAIT_2)


def let_pass(seconds: float) -> None:
    """What is shown is that this much time changes nothing."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(left)


def streaming(number: int, seconds: float = 60.0) -> Callable[[Connection], None]:
    """A server that sends to all its clients and closes then; it tells which errors it met."""

    def work(talk: Connection) -> None:
        server = socket.create_server((LOOPBACK, 0), backlog=4096)
        talk.send(server.getsockname()[1])
        held = [server.accept()[0] for _ in range(number)]
        talk.send("all there")
        failures: list[str] = []
        end = time.monotonic() + seconds
        while held and time.monotonic() < end:
            for sock in list(held):
                try:
                    sock.send(b"x" * 100)
                except OSError as error:
                    failures.append(type(error).__name__)
                    sock.close()
                    held.remove(sock)
            time.sleep(0.02)
        for sock in held:
            sock.close()
        talk.send(failures)
        talk.recv()

    return work


def answering(number: int) -> Callable[[Connection], None]:
    """A server that sends an answer on each connection and closes it."""

    def work(talk: Connection) -> None:
        server = socket.create_server((LOOPBACK, 0), backlog=4096)
        talk.send(server.getsockname()[1])
        held = [server.accept()[0] for _ in range(number)]
        for sock in held:
            sock.sendall(b"the answer")
            sock.close()
        talk.send("all there")
        talk.recv()

    return work


def read_for(clients: list[socket.socket], seconds: float) -> int:
    """Read what comes; the number of bytes."""
    received = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        received += sum(len(client.recv(1 << 16)) for client in clients)
    return received


@contextmanager
def at_work(*work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do each in a thread of its own until the block ends, which sets the event that each is given."""
    over = threading.Event()
    threads = [threading.Thread(target=one, args=(over,), daemon=True) for one in work]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


_SEGMENT = 1000
"""Bytes a segment, small enough that each write leaves as one."""


@contextmanager
def steady_traffic(count: int, *, lost_of_256: int) -> Iterator[None]:
    """`count` connections that never stop talking, of which the given part of the segments is lost."""
    with ExitStack() as stack:
        server = listen(stack)
        work: list[Callable[[threading.Event], None]] = []
        for _ in range(count):
            sender, receiver = connect_pair(stack, server)
            if lost_of_256:
                hear_partly(receiver, lost_of_256)
            work += [partial(_send, sender), partial(_receive, receiver)]
        with at_work(*work):
            yield


def _send(sender: socket.socket, over: threading.Event) -> None:
    sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while not over.wait(0.005):
        for _ in range(3):
            sender.sendall(b"x" * _SEGMENT)
    sender.shutdown(socket.SHUT_WR)


def _receive(receiver: socket.socket, over: threading.Event) -> None:
    del over  # the sender ends it
    while receiver.recv(1 << 16):
        pass


def fill(sender: socket.socket) -> int:
    """Write until nothing more fits; return the bytes."""
    sender.settimeout(0)
    sent = 0
    try:
        while True:
            sent += sender.send(b"x" * (1 << 16))
    except BlockingIOError:
        return sent


@contextmanager
def closed_before_sent(count: int, *, reading: bool) -> Iterator[list[socket.socket]]:
    """`count` connections were closed here with megabytes still unsent; yields the peers' sockets.

    The peers read what comes, slowly, or not at all: then their windows stay closed.
    """
    with connected(count) as (_, pairs):
        for sender, _ in pairs:
            fill(sender)
            sender.close()
        peers = [peer for _, peer in pairs]
        with at_work(*([partial(_read_slowly, peers)] if reading else [])):
            yield peers


def _read_slowly(peers: list[socket.socket], over: threading.Event) -> None:
    while not over.wait(0.05):
        for peer in peers:
            peer.recv(1 << 14)
