"""Diseases of bind(): ports that are bound and not used, and a server's port in a client's hands."""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tcpdoctor.lab.pairs import LOOPBACK, allow_descriptors


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


def try_bind(port: int, address: str = "0.0.0.0") -> str:
    """What bind() and listen() say to a server that sets SO_REUSEADDR: ``ok`` or the name of an errno."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((address, port))
            sock.listen()
        except OSError as error:
            return errno.errorcode[error.errno or 0]
    return "ok"


def try_connect(port: int, address: str = LOOPBACK) -> str:
    """What connect() says: ``ok`` or the name of an errno."""
    with socket.socket() as sock:
        sock.settimeout(10)
        return errno.errorcode.get(sock.connect_ex((address, port)), "ok")
