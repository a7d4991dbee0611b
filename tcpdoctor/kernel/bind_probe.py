"""Ask the kernel itself: a real bind(), and listen() if wanted, released at once.

The only module that ever takes a port. It binds as the user who runs the program, in the calling thread's
network namespace. While it holds the port (some 20 microseconds) a server's own bind() can fail, and a
listening probe can take a connection, which is then reset: hence only on request.
"""

import errno
import socket
from collections.abc import Iterable

from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.named_tuples import NamedTuple

_SO_BINDTODEVICE = 25


class Probe(NamedTuple):
    """What the kernel answered to one attempt."""

    bind: str
    """``ok`` or the name of the errno."""
    listen: str | None
    """The same for listen(); None where it was not tried."""


_SWITCHES = {"SO_REUSEADDR": socket.SO_REUSEADDR, "SO_REUSEPORT": socket.SO_REUSEPORT}


def probe_bind(
    family: int,
    address: tuple[str, int] | tuple[str, int, int, int],
    options: Iterable[str],
    *,
    listen: bool,
    datagram: bool = False,
    device: str | None = None,
) -> Reading[Probe]:
    """Bind a socket to `address` with some switches, and close it.

    Args:
        family: 4 or 6.
        address: As socket.bind() takes it.
        options: What to switch on before bind(), of SO_REUSEADDR and SO_REUSEPORT.
        listen: Whether to call listen() as well.
        datagram: A UDP socket instead of one of TCP.
        device: The interface to bind it to before (SO_BINDTODEVICE).

    Returns:
        The kernel's answers; Missing where no socket of this family can be made at all.
    """
    kind = socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM
    try:
        of = socket.AF_INET if family == 4 else socket.AF_INET6
        sock = socket.socket(of, kind | socket.SOCK_CLOEXEC)
    except OSError as error:
        return Missing(f"socket(): {error.strerror}")
    with sock:
        try:
            for option in options:
                sock.setsockopt(socket.SOL_SOCKET, _SWITCHES[option], 1)
            if device is not None:
                sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, device.encode())
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
