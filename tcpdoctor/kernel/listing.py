"""The ways to list sockets, the order in which they are tried, and when one has failed."""

import functools
import os
import struct
from _socket import AF_INET, AF_INET6  # not from what is around it, which takes 3 ms to import
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel import procnet
from tcpdoctor.kernel.namespaces import replayed
from tcpdoctor.kernel.reading import INTERRUPTED, UNDERWAY, Missing, Reading
from tcpdoctor.kernel.sock_diag import Dump, DumpRefusedError, Request, Rows
from tcpdoctor.kernel.states import TcpState

if TYPE_CHECKING:
    from io import FileIO

# Whether this kernel lists sockets that are bound and nothing else.
#
# It learnt to in Linux 6.8 (commit 91051f003948, "tcp: Dump bound-only sockets in inet_diag"). An older
# kernel ignores bit 13 of the state mask and sends no such row: net/ipv4/inet_diag.c compares the mask with
# the state of sockets in its listening and connection tables only, where nothing has that state. So rows
# prove that it knows, and no rows say nothing.
#
# No request tells the two apart without a bound socket, and we make none on somebody's host. The kernel's own
# type information does: it names TCP_BOUND_INACTIVE from that commit on, in whatever release it is. Where it
# is hidden, or the kernel was built without it, nothing tells.
_TYPES = "/sys/kernel/btf/vmlinux"
_NAME = b"\0TCP_BOUND_INACTIVE\0"
_HEADER = struct.Struct("=HxxI8xII")  # struct btf_header: magic, hdr_len, str_off, str_len
_MAGIC = 0xEB9F
_MOST_NAMES = 1 << 26  # bytes
_PIECE = 1 << 16  # bytes; the name is met in the first few


@functools.cache
def lists_bound_sockets() -> bool:
    """Whether no rows mean no bound sockets; False also where it cannot be known."""
    return names_the_state(_TYPES)


def names_the_state(types: str) -> bool:
    """Whether the type information in this file knows the state of bound sockets.

    The file is 5 MB, its names one of them at the end (Documentation/bpf/btf.rst): only they are
    read, and no further than to this one. False also for a kernel without such a file, or one that
    hides it: not known.
    """
    try:
        with open(types, "rb", buffering=0) as file:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return False
            magic, size, start, length = _HEADER.unpack(header)
            if magic != _MAGIC or length > _MOST_NAMES:
                return False
            file.seek(size + start)
            return _is_among(file, length)
    except OSError:
        return False


def _is_among(names: "FileIO", length: int) -> bool:
    """Whether the name is in the next `length` bytes; a piece begins with the end of the one before."""
    end = b""
    while length > 0:
        piece = names.read(min(_PIECE, length))
        if not piece:
            return False
        if _NAME in end + piece:
            return True
        end = piece[-len(_NAME) :]
        length -= len(piece)
    return False


T = TypeVar("T")

_CHANGED = Missing("the kernel's socket tables changed while they were read, again and again")
_NO_BOUND = Missing("this kernel does not list bound sockets")
_UNTOLD = Missing(f"without {_TYPES} nothing tells whether this kernel lists bound sockets")
_LENGTH = struct.Struct("=I")
_BOTH_BIG = 1 << TcpState.ESTABLISHED | 1 << TcpState.TIME_WAIT
"""A listing of these has nearly all sockets."""
_PORTS = slice(20, 22), slice(22, 24)  # of struct inet_diag_sockid in a row, local and remote


class Way(Enum):
    """One way to list sockets."""

    BOTH_FAMILIES = "both families"
    """Both families by one netlink request of the type of before Linux 3.3, TCPDIAG_GETSOCK."""
    BY_FAMILY = "by family"
    """One netlink request of type SOCK_DIAG_BY_FAMILY for IPv4 and one for IPv6."""
    PROC = "proc"
    """/proc/net/tcp and tcp6."""

    @property
    def source(self) -> str:
        """What a report names as the source: ``sock_diag`` or ``/proc/net/tcp``."""
        return procnet.SOURCE if self is Way.PROC else "sock_diag"


WAYS = tuple(Way)
"""In the order in which they are tried."""


def first_answer(
    ways: Sequence[Way], look: Callable[[Way], tuple[T, bool]]
) -> tuple[T, Way, Reading[bool]] | Missing:
    """The answer of the first way that has one, which way it was, and whether it is complete.

    `look` returns its answer and whether the listing was interrupted. A listing that breaks off, makes
    no sense or was interrupted is asked for once more from the beginning, and what it gave so
    far is thrown away. One that was interrupted again is the answer where no other way has a
    complete one. Missing, with the reason of each way, where none answers. Where somebody ends it, what was
    read by then is the answer (see `underway`).
    """
    reasons: dict[str, None] = {}
    interrupted: tuple[T, Way, Reading[bool]] | None = None
    for way in ways:
        for _ in range(2):
            if UNDERWAY.is_interrupted:
                return INTERRUPTED
            try:
                answer, changed = look(way)
            except DumpRefusedError as error:
                reasons[str(error)] = None
                break
            except KernelReadError as error:
                reasons[str(error)] = None
            except OSError as error:
                reasons[f"{error.filename}: {error.strerror}"] = None
                break
            else:
                if UNDERWAY.is_interrupted:
                    return answer, way, INTERRUPTED
                if not changed:
                    return answer, way, True
                interrupted = interrupted or (answer, way, _CHANGED)
    return interrupted or Missing("; ".join(reasons))


def list_rows(way: Way, request: Request, take: Callable[[Rows], None]) -> bool:
    """Give all rows to `take` through netlink; True if the listing was interrupted.

    Raises:
        DumpRefusedError: The kernel does not answer this way.
        KernelReadError: The listing broke off or makes no sense.
    """
    listing = Listing(way, request)
    for rows in listing:
        take(rows)
    return listing.interrupted


class Listing:
    """All rows through netlink, by one or two dumps; iterating it asks the kernel, once. As `list_rows`."""

    def __init__(self, way: Way, request: Request) -> None:
        self.interrupted = False
        """Whether the kernel's tables changed under it, as far as it got."""
        self._way, self._request = way, request

    def __iter__(self) -> Iterator[Rows]:
        if self._way is Way.BOTH_FAMILIES:
            yield from self._dump(self._request)
            return
        yield from self._dump(self._request._replace(family=AF_INET))
        try:
            yield from self._dump(self._request._replace(family=AF_INET6))
        except DumpRefusedError:
            if os.path.exists(f"{procnet.OWN_NAMESPACE}/tcp6"):
                raise  # else it is a kernel without IPv6

    def _dump(self, request: Request) -> Iterator[Rows]:
        """One request; where the kernel refuses the filter program, the same without it."""
        dump = Dump(request)
        ports = request.local_port or request.remote_port
        UNDERWAY.begin("sockets read", whole=not ports and not _BOTH_BIG & ~request.states)
        try:
            for rows in dump:
                yield rows
                UNDERWAY.done += rows.number
                if UNDERWAY.is_interrupted:
                    break
        except DumpRefusedError:
            if not request.filtered or not ports:
                raise
            yield from self._dump(request._replace(filtered=False))
            return
        self.interrupted |= dump.interrupted


def each_row(rows: Rows, request: Request) -> Iterator[tuple[int, int]]:
    """Beginning and end of each row on the ports asked for: a kernel may have sent others too."""
    data = rows.data
    wanted = [
        (place, port.to_bytes(2, "big"))
        for place, port in zip(_PORTS, (request.local_port, request.remote_port), strict=True)
        if port
    ]
    for offset in rows.offsets:
        if all(data[offset + place.start : offset + place.stop] == port for place, port in wanted):
            yield offset, offset + _LENGTH.unpack_from(data, offset)[0]


def bound_reading(way: Way, found: int) -> Reading[int]:
    """How many bound sockets there are, given how many rows said so."""
    if way is Way.PROC:
        return procnet.NO_BOUND
    return found if found or lists_bound_sockets() else _why_none()


@replayed
def why_not_listed(state: TcpState) -> Missing:  # noqa: ARG001 - a recording may lack any
    """Say why a listing that was asked for a state has none, not even as a number of 0."""
    return why_bound_not_listed()


def why_bound_not_listed() -> Missing:
    """Say why a listing that was asked for bound sockets has none, not even as a number of 0."""
    return procnet.NO_BOUND if lists_bound_sockets() else _why_none()


def _why_none() -> Missing:
    return _NO_BOUND if os.access(_TYPES, os.R_OK) else _UNTOLD
