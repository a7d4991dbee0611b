"""Ask the kernel about single sockets, each by its ends and its cookie, without listing any other.

A request without NLM_F_DUMP makes inet_diag look the connection up in its hash table
(tcp_diag_dump_one() in net/ipv4/tcp_diag.c): some microseconds, however many sockets there are. The
cookie proves that the answer is about the very socket that was listed, and not about a later one between
the same ends.
"""

import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.snapshot import Connection
from tcpdoctor.kernel.sock_diag import ROW, DumpRefusedError, answer_error, open_netlink, receive

_SOCK_DIAG_BY_FAMILY, _NLMSG_ERROR = 20, 2
_NLM_F_REQUEST = 0x1
_ID = slice(20, 68)  # struct inet_diag_sockid in a row
_FAMILY = 16
_REQUEST = struct.Struct("=IHHIIBBBxI48s")
_LENGTH, _KIND = struct.Struct("=I"), struct.Struct("=H")
_EVERY_STATE = 0xFFFFFFFF
_GONE = (errno.ENOENT, errno.ESTALE)
"""No such connection; or another one between the same ends."""


SocketName: TypeAlias = tuple[int, bytes]
"""Address family, and struct inet_diag_sockid: both ends, interface and cookie of one socket."""


def name_of(row: bytes) -> SocketName:
    """The name of the socket that a row is about; it does not change while the socket lives."""
    return row[_FAMILY], row[_ID]


def name_from(connection: Connection) -> SocketName:
    """The same from a row that was decoded."""
    family = socket.AF_INET if connection.family == 4 else socket.AF_INET6
    local, remote = (
        socket.inet_pton(family, end.address).ljust(16, b"\0")
        for end in (connection.local, connection.remote)
    )
    ports = struct.pack(">HH", connection.local.port, connection.remote.port)
    rest = struct.pack("=IQ", connection.device, connection.cookie)
    return int(family), ports + local + remote + rest


def ask_again(names: Iterable[SocketName], extensions: int) -> Iterator[bytes]:
    """Yield the rows of these sockets as they are at this moment, with `extensions`.

    Sockets that are gone are left out. A socket in another state by now is not: the caller looks.

    Raises:
        DumpRefusedError: The kernel, or a sandbox, does not answer such requests.
        KernelReadError: An answer makes no sense.
    """
    buffer = bytearray(1 << 16)
    with open_netlink() as sock:
        for family, name in names:
            sock.send(
                _REQUEST.pack(
                    _REQUEST.size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0,
                    family, socket.IPPROTO_TCP, extensions, _EVERY_STATE, name,
                )
            )  # fmt: skip
            end = receive(sock, buffer)
            answer = _answer(buffer, end)
            if answer is not None:
                yield answer


def _answer(buffer: bytearray, end: int) -> bytes | None:
    if end < 20:
        raise KernelReadError(f"sock_diag: an answer of {end} bytes about a single socket")
    (length,), (kind,) = _LENGTH.unpack_from(buffer), _KIND.unpack_from(buffer, 4)
    if kind == _NLMSG_ERROR:
        error = answer_error(buffer)
        if error in _GONE:
            return None
        raise DumpRefusedError(f"sock_diag: a single socket: {errno.errorcode.get(error, error)}")
    if kind != _SOCK_DIAG_BY_FAMILY or not ROW <= length <= end:
        raise KernelReadError(f"sock_diag: a message of type {kind} and {length} bytes about a single socket")
    return bytes(buffer[:length])
