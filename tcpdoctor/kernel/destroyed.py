"""The last that the kernel tells of each TCP socket of this network namespace, as it is freed.

It sends one message for each to who has joined the groups SKNLGRP_INET_TCP_DESTROY and
SKNLGRP_INET6_TCP_DESTROY of sock_diag (include/uapi/linux/sock_diag.h), with tcp_info as it was in the end.
That takes no privilege. Minisockets (TIME_WAIT) are no sockets and have no message; sockets that were never
connected have one as well.
"""

import _socket as socket  # what is around it takes 3 ms to import, and is not needed
import contextlib
import errno
import os
import struct
from collections.abc import Iterator

from tcpdoctor.kernel.addresses import MAPPED
from tcpdoctor.kernel.reading import Reading, Refused
from tcpdoctor.named_tuples import NamedTuple

_NETLINK_SOCK_DIAG = 4
_GROUPS = 1 << 0 | 1 << 2
"""SKNLGRP_INET_TCP_DESTROY is group 1, SKNLGRP_INET6_TCP_DESTROY group 3."""
_SO_RCVBUFFORCE = 33
_ROOM = 8 << 20
"""Bytes that are asked for; the kernel gives twice as many."""
_BUFFER = 1 << 16
_SOCK_DIAG_BY_FAMILY, _TCPDIAG_GETSOCK = 20, 18

_MESSAGE = struct.Struct("=IHH8xB3x2s2s16s16s4xQ4xI4xI4x")
"""Length and type; family, ports, addresses, cookie, receive queue, uid: to the end of inet_diag_msg."""
_ATTRIBUTE = struct.Struct("=HH")
_INFO = 2
_TIMES = struct.Struct("=I4xI12xI28xI")
"""From byte 44 of tcp_info: last_data_sent, last_data_recv (ms), rtt (us), total_retrans."""
_TIMES_AT = 44
_BYTES = struct.Struct("=Q64x2Q")
"""From byte 128: bytes_received, bytes_sent, bytes_retrans (Linux 4.19)."""
_BYTES_AT = 128
_FAMILY_4 = 2


class LastNumbers(NamedTuple):
    """What a socket's numbers were in the end."""

    cookie: int
    local: bytes
    """Sixteen bytes; IPv4 as ::ffff:a.b.c.d."""
    local_port: int
    remote: bytes
    remote_port: int
    """0 where it had no peer any more, or never one: tcp_disconnect() clears that, and all numbers."""
    uid: int
    unread: int
    """Bytes that nobody read, and one for a FIN that nobody read."""
    received: int
    """Bytes, and one for a FIN."""
    sent: int
    """Bytes, each counted once."""
    rtt: float
    """Seconds."""
    retransmissions: int
    sent_before: float
    """Seconds since data was sent last, when the message was made."""
    received_before: float


class DestroyedSockets:
    """A place where the messages arrive."""

    def __init__(self, sock: socket.socket) -> None:
        self.overruns = 0
        """How often messages found no room: of some sockets nothing was told."""
        self._sock = sock
        self._buffer = bytearray(_BUFFER)
        self.room = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    def read(self) -> Iterator[LastNumbers]:
        """Give what has arrived; it waits for nothing."""
        buffer, sock = self._buffer, self._sock
        while True:
            try:
                length, sender = sock.recvfrom_into(buffer)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
                continue
            if sender[0] == 0:  # the kernel
                yield from decode_messages(buffer, length)

    def close(self) -> None:
        """Leave the groups."""
        self._sock.close()


def open_destroyed() -> Reading[DestroyedSockets]:
    """Join the groups in the calling thread's network namespace; Missing where the kernel does not let us."""
    sock = None
    try:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        sock = socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG)
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
        except OSError:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM)  # rmem_max bounds it
        sock.bind((0, _GROUPS))
    except OSError as error:
        if sock is not None:
            sock.close()
        why = (error.strerror or os.strerror(error.errno or 0)).lower()
        return Refused(f"the kernel does not tell of sockets that end (sock_diag): {why}")
    return DestroyedSockets(sock)


def decode_messages(buffer: bytes | bytearray, length: int) -> Iterator[LastNumbers]:
    """Give the sockets of one datagram; what is no whole message of a socket ends it."""
    at = 0
    while at + _MESSAGE.size <= length:
        size, kind, _, family, sport, dport, local, remote, cookie, unread, uid = _MESSAGE.unpack_from(
            buffer, at
        )
        if not _MESSAGE.size <= size <= length - at:
            return
        if kind in (_SOCK_DIAG_BY_FAMILY, _TCPDIAG_GETSOCK):
            place = _find_info(buffer, at + _MESSAGE.size, at + size)
            if place:
                sent_before, received_before, rtt, again = _TIMES.unpack_from(buffer, place + _TIMES_AT)
                received, sent, twice = _BYTES.unpack_from(buffer, place + _BYTES_AT)
                if family == _FAMILY_4:
                    local, remote = MAPPED + local[:4], MAPPED + remote[:4]
                yield LastNumbers(
                    *(cookie, local, int.from_bytes(sport, "big"), remote, int.from_bytes(dport, "big")),
                    *(uid, unread, received, max(0, sent - twice), rtt / 1e6, again),
                    *(sent_before / 1e3, received_before / 1e3),
                )
        at += (size + 3) & ~3


def _find_info(buffer: bytes | bytearray, at: int, end: int) -> int:
    """The place of tcp_info; 0 where there is none, or an old one without the bytes sent."""
    while at + _ATTRIBUTE.size <= end:
        size, kind = _ATTRIBUTE.unpack_from(buffer, at)
        if not _ATTRIBUTE.size <= size <= end - at:
            return 0
        if kind == _INFO:
            whole = size - _ATTRIBUTE.size >= _BYTES_AT + _BYTES.size
            return at + _ATTRIBUTE.size if whole else 0
        at += (size + 3) & ~3
    return 0
