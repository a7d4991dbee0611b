"""Ask the kernel itself: a real bind(), and listen() if wanted, released at once.

The only module that ever takes a port. It binds as the user who runs the program, in the calling
thread's network namespace. While it holds the port (some 20 microseconds) a server's own bind() can
fail, and a listening probe can take a connection, which is then reset: hence only on request.
"""

import errno
import socket
from typing import NamedTuple

from tcpdoctor.kernel.reading import Missing, Reading


class Probe(NamedTuple):
    """What the kernel answered to one attempt."""

    bind: str
    """``ok`` or the name of the errno."""
    listen: str | None
    """The same for listen(); None where it was not tried."""


def probe_bind(
    family: int,
    address: tuple[str, int] | tuple[str, int, int, int],
    options: tuple[int, ...],
    *,
    listen: bool,
) -> Reading[Probe]:
    """Bind a TCP socket to `address` with SOL_SOCKET switches `options`, and close it.

    Args:
        family: AF_INET or AF_INET6.
        address: As socket.bind() takes it.
        options: Option numbers to switch on before bind(): SO_REUSEADDR, SO_REUSEPORT.
        listen: Whether to call listen() as well.

    Returns:
        The kernel's answers; Missing where no socket of this family can be made at all.
    """
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        return Missing(f"socket(): {error.strerror}")
    with sock:
        for option in options:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            sock.bind(address)
        except OSError as error:
            return Probe(_name(error), None)
        if not listen:
            return Probe("ok", None)
        try:
            sock.listen(0)
        except OSError as error:
            return Probe("ok", _name(error))
        return Probe("ok", "ok")


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error.errno))
