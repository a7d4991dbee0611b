"""Every socket one by one with its owner, as the kernel lists them, however many: none of them is kept.

They are listed twice: for the inodes, whose owners are searched for, and again to be told as they come. What
was opened in between comes last; what was closed in between is gone, and not told.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import compress
from typing import TypeAlias

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel import procnet
from tcpdoctor.kernel.listing import (
    WAYS,
    Listing,
    Way,
    bound_reading,
    first_answer,
    list_rows,
    why_bound_not_listed,
)
from tcpdoctor.kernel.owners import FoundOwners
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Listener, Owner
from tcpdoctor.kernel.sock_diag import Request, Rows
from tcpdoctor.kernel.sock_diag_rows import WITH_INFO, align, decode_row
from tcpdoctor.kernel.sockets import EVERY_SOCKET, SocketFilter, read_listeners, rows_wanted, states_mask
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.underway import INTERRUPTED, UNDERWAY

Row: TypeAlias = Listener | Connection

_UID, _INODE = 80, 84
"""Offsets in a row."""
_CHANGED = "the kernel's socket tables changed while they were read: some may be absent, or told twice"


class Wanted:
    """Which sockets are asked for."""

    def __init__(
        self,
        states: Iterable[TcpState],
        local_port: int | None = None,
        remote_port: int | None = None,
        only: SocketFilter = EVERY_SOCKET,
    ) -> None:
        self.states = frozenset(states)
        self.others = self.states - {TcpState.LISTEN}
        """Those that are no listeners."""
        self.listeners = TcpState.LISTEN in self.states and remote_port is None and only.remote is None
        self.local_port, self.remote_port, self.only = local_port, remote_port, only

    def request(self, extensions: int = 0) -> Request:
        """Ask for those that are no listeners."""
        return Request(states_mask(self.others), extensions, self.local_port or 0, self.remote_port or 0)

    def has(self, row: Row) -> bool:
        """Whether a socket of another listing is one of them."""
        return (
            isinstance(row, Connection)
            and row.state in self.others
            and self.local_port in (None, row.local.port)
            and self.remote_port in (None, row.remote.port)
            and self.only.accepts(row)
        )


class Roll:
    """The sockets that were asked for; iterating it lists them, once."""

    def __init__(
        self, wanted: Wanted, listeners: tuple[Listener, ...], way: Way, owners: "Owners", seconds: float
    ) -> None:
        self.total = 0
        """How many were told by now."""
        self.missing: dict[str, str] = {}
        """States that could not be listed, by key, with the reason; ``sockets`` where some may be absent."""
        self._wanted, self._listeners, self._way = wanted, listeners, way
        self._owners, self._seconds = owners, seconds

    def __iter__(self) -> Iterator[Row]:
        late: list[Row] = []
        bound = 0
        for row in self._each():
            bound += row.__class__ is Connection and row.state is TcpState.BOUND
            if row.inode:
                owner = self._owners.get(row.inode)
                if owner is None:
                    late.append(row)
                    continue
                row = row._replace(owner=owner)
            self.total += 1
            yield row
        if TcpState.BOUND in self._wanted.others and isinstance(bound_reading(self._way, bound), Missing):
            self.missing[TcpState.BOUND.key] = why_bound_not_listed().reason
        found = Owners({row.inode: row.uid for row in late}, self._seconds)
        for row in late:
            self.total += 1
            yield row._replace(owner=found.get(row.inode) or row.owner)

    def _each(self) -> Iterator[Row]:
        yield from self._listeners
        if not self._wanted.others:
            return
        if self._way is Way.PROC:
            yield from filter(self._wanted.has, procnet.read_rows())
            return
        request = self._wanted.request(WITH_INFO)
        listing = Listing(self._way, request)
        places = rows_wanted(request, self._wanted.only)
        try:
            for rows in listing:
                for at, end in places(rows):
                    yield decode_row(bytes(rows.data[at:end]))
        except KernelReadError as error:
            self.missing["sockets"] = str(error)
        if listing.interrupted:
            self.missing["sockets"] = _CHANGED
        if UNDERWAY.is_interrupted:
            self.missing["sockets"] = INTERRUPTED.reason


class Owners:
    """The owners of the sockets that were listed first, in 200 bytes for each."""

    def __init__(
        self, uids: Mapping[int, int], seconds: float, known: Mapping[int, Owner] | None = None
    ) -> None:
        self._known = known
        self._inodes = uids.keys()
        self._found = None if known is not None else FoundOwners(uids, frozenset(uids.values()), seconds)

    def get(self, inode: int) -> Owner | None:
        """Return the owner; None for a socket that was not listed then."""
        if self._known is not None:
            return self._known.get(inode)
        if self._found is None or inode not in self._inodes:
            return None
        return self._found.owner_of(inode)


def call_roll(
    wanted: Wanted, known: Mapping[int, Owner] | None = None, *, seconds: float = 5.0
) -> Reading[Roll]:
    """Search for the owners of the sockets that are wanted, and make ready to tell them one by one.

    Args:
        wanted: Which.
        known: The owners of all of them, where they are known; else they are searched for.
        seconds: Budget of CPU time of that search.

    Returns:
        Missing where the kernel lists none at all.
    """
    listeners = read_listeners(local_port=wanted.local_port, only=wanted.only) if wanted.listeners else ()
    if isinstance(listeners, Missing):
        return listeners
    uids = {row.inode: row.uid for row in listeners if row.inode}
    found = first_answer(WAYS, lambda way: _inodes(way, wanted, keep=known is None))
    if isinstance(found, Missing):
        return found
    (inodes, owners_uids), way, _ = found
    uids.update(zip(inodes, owners_uids, strict=True))
    return Roll(wanted, listeners, way, Owners(uids, seconds, known), seconds)


def _inodes(way: Way, wanted: Wanted, *, keep: bool) -> tuple[tuple["array[int]", "array[int]"], bool]:
    """List inodes and uids of the sockets that are no listeners; without `keep` try only whether one can."""
    inodes, uids = array("I"), array("I")
    if not wanted.others:
        return (inodes, uids), False
    if way is Way.PROC:
        for row in filter(wanted.has, procnet.read_rows()):
            if keep and row.inode:
                inodes.append(row.inode)
                uids.append(row.uid)
        return (inodes, uids), False
    request = wanted.request() if keep else wanted.request()._replace(states=1 << TcpState.CLOSING)
    every = wanted.only == EVERY_SOCKET and not (request.local_port or request.remote_port)
    places = rows_wanted(request, wanted.only)

    def take(rows: Rows) -> None:
        if every:
            data, end, stride, *_ = align(rows)
            words = memoryview(data).cast("I")  # rows and their lengths are multiples of four
            column = words[_INODE >> 2 : end >> 2 : stride >> 2]
            inodes.extend(filter(None, column))
            uids.extend(compress(words[_UID >> 2 : end >> 2 : stride >> 2], column))
            return
        words = memoryview(rows.data).cast("I")
        for at, _ in places(rows):
            inode = words[(at + _INODE) >> 2]
            if inode:
                inodes.append(inode)
                uids.append(words[(at + _UID) >> 2])

    return (inodes, uids), list_rows(way, request, take)
