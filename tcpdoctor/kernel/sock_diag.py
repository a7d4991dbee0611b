"""Ask the kernel for its TCP sockets over netlink, and cut the answer into rows.

One request makes the kernel send every socket that matches a mask of states, some 340 to a
datagram, each as a ``struct inet_diag_msg`` behind a netlink header, followed by attributes
(include/uapi/linux/inet_diag.h). Nothing is kept here: a datagram is handed on and its buffer
used again.

Asking loads the modules ``tcp_diag`` and ``inet_diag`` where the kernel has them as modules and
nobody asked before: the kernel itself requests them by the aliases ``net-pf-16-proto-4-type-2-6``
and ``net-pf-16-proto-4-type-2`` (net/core/sock_diag.c, net/ipv4/inet_diag.c). ``ss`` does the same.
We accept that: accept queue limits, drops, ages, cookies and bound sockets exist nowhere else,
and the modules only read. We ask for TCP alone, so that no module for another protocol is
loaded, and where module loading is off the kernel answers ENOENT and /proc/net/tcp is read.
"""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tcpdoctor.errors import KernelReadError

_NETLINK_SOCK_DIAG = 4
_TCPDIAG_GETSOCK = 18
_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_MULTI, _NLM_F_DUMP_INTR, _NLM_F_DUMP = 0x1, 0x2, 0x10, 0x300

_HEADER = struct.Struct("=IHHII")
_ERRNO = struct.Struct("=i")
_TYPE_AND_FLAGS = struct.Struct("=HH")
_WORD = struct.Struct("=I")

ROW = 88
"""Bytes that every row has at least: struct nlmsghdr (16) and struct inet_diag_msg (72)."""

_BUFFER_BYTES = 1 << 16  # netlink_dump() never makes a datagram above 32 KiB
_PADDING_BYTES = 16  # so that a message header can be read from any place in the buffer
_MOST_ROWS = _BUFFER_BYTES // ROW
_SILENCE_SECONDS = 10

_BYTECODE_ATTRIBUTE = 1
_LOCAL_PORT_IS, _REMOTE_PORT_IS = 11, 12  # INET_DIAG_BC_S_EQ, INET_DIAG_BC_D_EQ


class DumpRefusedError(KernelReadError):
    """The kernel does not answer this kind of request at all; asking again would not help."""


class Request(NamedTuple):
    """Which sockets to list, and what to say of each."""

    states: int
    """Bit n stands for state n of include/net/tcp_states.h."""
    extensions: int = 0
    """Bit n-1 asks for attribute n: INET_DIAG_INFO and so on."""
    local_port: int = 0
    """Only sockets with this local port; 0 for all. The kernel may send others too."""
    remote_port: int = 0
    family: int = 0
    """0: both families in one pass, by the request type of before Linux 3.3. Else AF_INET or AF_INET6."""
    filtered: bool = True
    """Whether to send the ports as a filter program too, which also covers bound sockets."""


class Rows(NamedTuple):
    """The rows of one datagram, valid until the next one is asked for."""

    data: bytearray
    end: int
    """Where the rows end in `data`."""
    stride: int
    """Length of every row, proved; 0 where lengths differ, and `offsets` has the beginnings."""
    offsets: Sequence[int]


class Dump:
    """One listing of sockets; iterating it asks the kernel, once."""

    def __init__(self, request: Request) -> None:
        self.interrupted = False
        """Whether the kernel said that its tables changed under the listing (NLM_F_DUMP_INTR)."""
        self._request = request

    def __iter__(self) -> Iterator[Rows]:
        """Yield the rows, datagram by datagram.

        Raises:
            DumpRefusedError: The kernel, or a sandbox, does not answer such requests.
            KernelReadError: The listing broke off, or its bytes make no sense.
        """
        with _open(self._request) as sock:
            cutter = Cutter(_answer_type(self._request))
            finished = False
            while not finished:
                rows, finished = cutter.cut(receive(sock, cutter.buffer))
                self.interrupted |= cutter.interrupted
                if rows.stride or rows.offsets:
                    yield rows


class Cutter:
    """Finds where the rows of a datagram begin, proving every length before it is used."""

    def __init__(self, row_type: int) -> None:
        self.buffer = bytearray(_BUFFER_BYTES + _PADDING_BYTES)
        """Where a datagram of at most 64 KiB is to be put."""
        self.interrupted = False
        """Whether a message so far carried NLM_F_DUMP_INTR."""
        self._row_type = row_type
        self._words = memoryview(self.buffer).cast("I")
        kind = _TYPE_AND_FLAGS.pack(row_type, _NLM_F_MULTI)
        (self._kind,) = _WORD.unpack(kind)
        self._kinds = memoryview(kind * _MOST_ROWS).cast("I")
        self._stride, self._lengths = 0, self._kinds
        self._steps: dict[int, int] = {}  # words from a row of this length in bytes to the next

    def cut(self, end: int) -> tuple[Rows, bool]:
        """Cut the datagram in the first `end` bytes of the buffer; the bool is "that was the last".

        Raises:
            DumpRefusedError: The kernel answered with an error.
            KernelReadError: The listing ended early, or the bytes are no netlink messages.
        """
        stride = self._uniform_stride(end)
        if stride:
            return Rows(self.buffer, end, stride, ()), False
        return self._walk(end)

    def _uniform_stride(self, end: int) -> int:
        """Length of every row if they are all alike, else 0.

        If the first row has length L and so has each one at a multiple of L, then each begins where
        the one before ends: comparing two strided columns proves it at 15 ns a row, where walking
        from row to row costs 100.
        """
        if end < ROW:
            return 0
        length = self._words[0]
        if length < ROW or length % 4 or end % length:
            return 0
        if length != self._stride:
            self._stride = length
            self._lengths = memoryview(_WORD.pack(length) * _MOST_ROWS).cast("I")
        count, step, last = end // length, length // 4, end // 4
        alike = (
            self._words[0:last:step] == self._lengths[:count]
            and self._words[1:last:step] == self._kinds[:count]
        )
        return length if alike else 0

    def _walk(self, end: int) -> tuple[Rows, bool]:
        offsets: list[int] = []
        words, steps, kind = self._words, self._steps, self._kind
        at, last = 0, (end + 3) >> 2
        while at < last:
            if words[at + 1] != kind and self._is_final(at << 2, end):
                return Rows(self.buffer, at << 2, 0, offsets), True
            offsets.append(at << 2)
            try:
                at += steps[words[at]]
            except KeyError:
                at += self._learn_step(words[at])
        if at != last or not offsets:
            raise KernelReadError(f"sock_diag: a datagram of {end} bytes does not end where a message does")
        return Rows(self.buffer, end, 0, offsets), False

    def _learn_step(self, length: int) -> int:
        if not ROW <= length <= _BUFFER_BYTES:
            raise KernelReadError(f"sock_diag: a socket in a message of {length} bytes")
        return self._steps.setdefault(length, (length + 3) >> 2)

    def _is_final(self, at: int, end: int) -> bool:
        """Whether the message here, which has not the header of a row, ends the listing in good order."""
        length, message, flags, _, _ = _HEADER.unpack_from(self.buffer, at)
        if not _HEADER.size <= length <= end - at:
            raise KernelReadError(f"sock_diag: a message of {length} bytes where {end - at} are left")
        self.interrupted |= bool(flags & _NLM_F_DUMP_INTR)
        if message in (_NLMSG_DONE, _NLMSG_ERROR):
            _raise_failure(self.buffer, at, length, message)
            return True
        if message != self._row_type:
            raise KernelReadError(f"sock_diag: a message of unknown type {message}")
        return False


def encode(request: Request) -> bytes:
    """Return the netlink message that asks for it."""
    ports = struct.pack(">HH44x", request.local_port, request.remote_port)
    if request.family:
        body = struct.pack(
            "=BBBxI48s", request.family, socket.IPPROTO_TCP, request.extensions, request.states, ports
        )
    else:
        body = struct.pack("=BBBB48sII", 0, 0, 0, request.extensions, ports, request.states, 0)
    if request.filtered:
        body += _filter_program(request)
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    return _HEADER.pack(16 + len(body), _answer_type(request), flags, 1, 0) + body


def _filter_program(request: Request) -> bytes:
    """The ports as a program for inet_diag_bc_run(), or nothing.

    The ports in the request proper already filter, in every kernel, all but the bound sockets;
    this filters those as well. Each operation is followed by its operand; a match goes on 8 bytes
    further, a miss jumps beyond the end, which means no.
    """
    wanted = [(_LOCAL_PORT_IS, request.local_port), (_REMOTE_PORT_IS, request.remote_port)]
    wanted = [(code, port) for code, port in wanted if port]
    program = b""
    for place, (code, port) in enumerate(wanted):
        beyond_the_end = 8 * (len(wanted) - place) + 4
        program += struct.pack("=BBHBBH", code, 8, beyond_the_end, 0, 0, port)
    return struct.pack("=HH", 4 + len(program), _BYTECODE_ATTRIBUTE) + program if program else b""


def _answer_type(request: Request) -> int:
    return _SOCK_DIAG_BY_FAMILY if request.family else _TCPDIAG_GETSOCK


def _open(request: Request) -> socket.socket:
    """A netlink socket with the request under way.

    Connected to port 0, so that nobody but the kernel can answer (netlink_getsockbyportid()).
    """
    sock = None
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
        with contextlib.suppress(OSError):  # where struct timeval is another one it waits without limit
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _SILENCE_SECONDS, 0))
        sock.connect((0, 0))
        sock.send(encode(request))
    except OSError as error:
        if sock is not None:
            sock.close()
        raise DumpRefusedError(f"sock_diag: {_describe(error.errno)}") from error
    return sock


def receive(sock: socket.socket, buffer: bytearray) -> int:
    """Length of the next datagram, which is whole in `buffer`."""
    try:
        length = sock.recv_into(buffer, _BUFFER_BYTES, socket.MSG_TRUNC)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            problem = f"no answer for {_SILENCE_SECONDS} s"
        else:
            problem = f"the listing broke off: {_describe(error.errno)}"
        raise KernelReadError(f"sock_diag: {problem}") from error
    if length > _BUFFER_BYTES:  # MSG_TRUNC: the true length, of which the rest is lost
        raise KernelReadError(f"sock_diag: a datagram of {length} bytes did not fit into {_BUFFER_BYTES}")
    return length


def _raise_failure(buffer: bytearray, at: int, length: int, message: int) -> None:
    """Raise what an error message, or a final message with an error in it, says.

    NLMSG_DONE carries the dump's last return value: below zero the listing ended early.
    """
    code = _ERRNO.unpack_from(buffer, at + 16)[0] if length >= 20 else 0
    if message == _NLMSG_ERROR:
        if code >= 0:
            raise KernelReadError("sock_diag: an acknowledgement where sockets were expected")
        raise DumpRefusedError(f"sock_diag: {_describe(-code)}")
    if code < 0:
        raise KernelReadError(f"sock_diag: the listing ended early: {_describe(-code)}")


def _describe(number: int | None) -> str:
    if not number:
        return "unknown error"
    return f"{errno.errorcode.get(number, number)} ({os.strerror(number)})"
