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

import _socket as socket  # what is around it takes 3 ms to import, and is not needed
import contextlib
import errno
import os
import re
import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain

from tcpdoctor.errors import KernelReadError
from tcpdoctor.named_tuples import NamedTuple

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
HEAD = ROW
"""Bytes of a row up to its attributes."""
_MOST_LENGTHS = 8
_WALKS = 8
"""Datagrams of some 300 rows to walk through before a pattern pays: it takes 0.2 ms to compile."""
_SILENCE_SECONDS = 10

_BYTECODE_ATTRIBUTE = 1
_LOCAL_PORT_IS, _REMOTE_PORT_IS = 11, 12  # INET_DIAG_BC_S_EQ, INET_DIAG_BC_D_EQ
_LOCAL_PORT_FROM, _LOCAL_PORT_TO = 2, 3  # INET_DIAG_BC_S_GE, INET_DIAG_BC_S_LE
_JUMP, _PORT_IS_AUTOMATIC = 1, 6  # INET_DIAG_BC_JMP, INET_DIAG_BC_AUTO


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
    port_chosen: bool = False
    """Only sockets whose process named their port in bind(). Rows do not tell it; only the filter sees it."""
    local_ports: tuple[int, int] | None = None
    """Only sockets with a local port from the first to the second; the kernel may send others too."""


class Rows(NamedTuple):
    """The rows of one datagram, valid until the next one is asked for."""

    data: bytearray | bytes
    end: int
    """Where the rows end in `data`."""
    stride: int
    """Length of every row, proved; 0 where lengths differ."""
    starts: Sequence[int] = ()
    """Where the rows begin, if lengths differ and there are no `heads`."""
    heads: bytes = b""
    """The first `HEAD` bytes of every row, one behind the other, if lengths differ and are below 256."""

    @property
    def number(self) -> int:
        """How many there are."""
        if self.stride:
            return self.end // self.stride
        return len(self.heads) // HEAD or len(self.starts)

    @property
    def offsets(self) -> Sequence[int]:
        """Where the rows begin in `data`."""
        if self.stride:
            return range(0, self.end, self.stride)
        if not self.heads:
            return self.starts
        lengths = accumulate(map(_aligned, self.heads[::HEAD]))
        return list(chain((0,), lengths))[:-1]


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
        with contextlib.closing(_open(self._request)) as sock:
            cutter = Cutter(_answer_type(self._request))
            finished = False
            while not finished:
                rows, finished = cutter.cut(receive(sock, cutter.buffer))
                self.interrupted |= cutter.interrupted
                if rows.stride or rows.heads or rows.starts:
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
        self._pattern: re.Pattern[bytes] | None = None
        self._known = 0  # how many lengths there were when the pattern was made
        self._walks = 0

    def cut(self, end: int) -> tuple[Rows, bool]:
        """Cut the datagram in the first `end` bytes of the buffer; the bool is "that was the last".

        Raises:
            DumpRefusedError: The kernel answered with an error.
            KernelReadError: The listing ended early, or the bytes are no netlink messages.
        """
        stride = self._uniform_stride(end)
        if stride:
            return Rows(self.buffer, end, stride), False
        heads = self._match(end)
        if heads:
            return Rows(self.buffer, end, 0, heads=heads), False
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

    def _match(self, end: int) -> bytes:
        """The heads of rows of mixed lengths if there is nothing but rows, else nothing.

        A regular expression finds them in less time than a walk, which gives no heads yet. It skips what is
        no row, and no row is found inside another: so if the lengths add up to the end, each begins
        where the one before ends.
        """
        if len(self._steps) != self._known and self._walks >= _WALKS:
            self._known = len(self._steps)
            self._pattern = self._compile()
        if self._pattern is None:
            return b""
        heads = b"".join(self._pattern.findall(self.buffer, 0, end))
        lengths = heads[::HEAD]
        covered = sum(lengths.count(length) * _aligned(length) for length in self._steps)
        return heads if covered == end else b""

    def _compile(self) -> re.Pattern[bytes] | None:
        """A pattern for a row of any length seen so far, its head in a group."""
        lengths = sorted(self._steps)
        if len(lengths) > _MOST_LENGTHS or lengths[-1] > 255:
            return None
        kind = _TYPE_AND_FLAGS.pack(self._row_type, _NLM_F_MULTI)
        rows = [
            re.escape(_WORD.pack(length) + kind) + b".{%d}" % (_aligned(length) - 8) for length in lengths
        ]
        return re.compile(b"(?s)(?=(.{%d}))(?:%s)" % (HEAD, b"|".join(rows)))

    def _walk(self, end: int) -> tuple[Rows, bool]:
        self._walks += 1
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
        return self._steps.setdefault(length, _aligned(length) >> 2)

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


def _aligned(length: int) -> int:
    """From the beginning of a message of this length to the next."""
    return (length + 3) & ~3


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
    """What is asked for as a program for inet_diag_bc_run(), or nothing.

    The ports in the request proper already filter, in every kernel, all but the bound sockets;
    this filters those as well. Each port operation is followed by its operand; a match goes on 8 bytes
    further, a miss jumps beyond the end, which means no. A port that nobody named (AUTO: the socket
    lacks SOCK_BINDPORT_LOCK) leads to a jump beyond the end, any other passes over that.
    """
    low, high = request.local_ports or (0, 0)
    wanted = [(_LOCAL_PORT_IS, request.local_port), (_REMOTE_PORT_IS, request.remote_port)]
    wanted += [(_LOCAL_PORT_FROM, low), (_LOCAL_PORT_TO, high)]
    wanted = [(code, port) for code, port in wanted if port]
    if request.port_chosen:
        wanted.append((_PORT_IS_AUTOMATIC, 0))
    program = b""
    for place, (code, port) in enumerate(wanted):
        end = 8 * (len(wanted) - place)
        if code == _PORT_IS_AUTOMATIC:
            program += struct.pack("=BBHBBH", code, 4, 8, _JUMP, 4, end)
        else:
            program += struct.pack("=BBHBBH", code, 8, end + 4, 0, 0, port)
    return struct.pack("=HH", 4 + len(program), _BYTECODE_ATTRIBUTE) + program if program else b""


def _answer_type(request: Request) -> int:
    return _SOCK_DIAG_BY_FAMILY if request.family else _TCPDIAG_GETSOCK


def _open(request: Request) -> socket.socket:
    """A netlink socket with the request under way."""
    sock = open_netlink()
    try:
        sock.send(encode(request))
    except OSError as error:
        sock.close()
        raise DumpRefusedError(f"sock_diag: {_describe(error.errno)}") from error
    return sock


def open_netlink() -> socket.socket:
    """A netlink socket to ask on, connected to port 0.

    So nobody but the kernel can answer (netlink_getsockbyportid()).

    Raises:
        DumpRefusedError: The kernel, or a sandbox, gives none.
    """
    sock = None
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
        with contextlib.suppress(OSError):  # where struct timeval is another one it waits without limit
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _SILENCE_SECONDS, 0))
        sock.connect((0, 0))
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


def answer_error(buffer: bytearray) -> int:
    """The errno of a message of type NLMSG_ERROR at the beginning of `buffer`."""
    return -int(_ERRNO.unpack_from(buffer, _HEADER.size)[0])


def _describe(number: int | None) -> str:
    if not number:
        return "unknown error"
    return f"{errno.errorcode.get(number, number)} ({os.strerror(number)})"
