"""Connected pairs of sockets, and waiting for what the kernel makes of them."""

import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from tcpdoctor.kernel.states import TcpState

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
