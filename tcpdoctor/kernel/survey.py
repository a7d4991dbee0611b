"""Sockets of every state one by one with their owners: a survey keeps them, and their options if wanted.

A roll keeps none, however many: they are listed twice, for the inodes, whose owners are searched for, and
again to be told as they come. What was opened in between comes last; what was closed in between is gone,
not told.
"""

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from itertools import compress
from typing import NamedTuple, TypeAlias

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.listing import (
    WAYS,
    Listing,
    Way,
    bound_reading,
    first_answer,
    list_rows,
    read_proc_rows,
    why_bound_not_listed,
    why_not_listed,
)
from tcpdoctor.kernel.namespaces import network_namespace, replayed
from tcpdoctor.kernel.owners import FoundOwners, find_owners
from tcpdoctor.kernel.processes import find_link, read_descriptors, read_name, read_status
from tcpdoctor.kernel.reading import INTERRUPTED, UNDERWAY, Missing, Reading, joined
from tcpdoctor.kernel.snapshot import Connection, Held, Holder, Listener, Owner
from tcpdoctor.kernel.sock_diag import Request, Rows
from tcpdoctor.kernel.sock_diag_rows import WITH_INFO, align, decode_row, inode_of
from tcpdoctor.kernel.sockets import (
    EVERY_SOCKET,
    SocketFilter,
    read_connections,
    read_listeners,
    rows_wanted,
    states_mask,
)
from tcpdoctor.kernel.sockopts import Descriptor, SocketOptions, read_options
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState

ROOM = 100_000
"""Of each state at most so many sockets are kept; beyond, a uniform sample."""
MOST_ASKED = 5_000
"""So many sockets are asked for their options, at 30 microseconds each."""

NOT_ASKED: Missing = Missing("socket options were not asked for")
_TOO_MANY: Missing = Missing(f"only {MOST_ASKED:,} sockets are asked for their options")


Row: TypeAlias = Listener | Connection


class Seen(NamedTuple):
    """One socket."""

    row: Listener | Connection
    options: Reading[SocketOptions]
    """Missing where it was not asked for, where no process holds it, or where we may not ask."""


class Survey(NamedTuple):
    """The sockets that were asked for."""

    sockets: tuple[Seen, ...]
    total: int
    """How many there are; above len(sockets) these are a sample."""
    missing: Mapping[str, str]
    """States that could not be listed, by key, with the reason; ``sockets`` where some may be elsewhere."""
    by_state: Mapping[TcpState, int]
    """How many there are in each state that could be listed: never a sample."""


def take_survey(
    states: Iterable[TcpState],
    *,
    local_port: int | None = None,
    remote_port: int | None = None,
    pid: int | None = None,
    held: Mapping[int, Owner] | None = None,
    peer: str | None = None,
    options: bool = False,
    owner_seconds: float = 5.0,
    room: int = ROOM,
    oldest: bool = False,
    choose: "Callable[[list[Row]], list[Row]] | None" = None,
) -> Reading[Survey]:
    """Look at the sockets in `states`.

    Args:
        states: Any of COUNTED_STATES.
        local_port: Only sockets with this local port.
        remote_port: Only sockets connected to this port; listeners have none.
        pid: Only sockets that this process holds. Other processes are then not searched.
        held: What `held_by` has just told of that process; else it is asked.
        peer: Only sockets connected to this address; an IPv4 address also stands for its mapped form.
        options: Ask each socket's process for its options (pidfd_getfd, getsockopt).
        owner_seconds: Time budget of the search for owners.
        room: Of each state at most so many sockets.
        oldest: Beyond that keep those that have been in their state longest, no uniform sample.
        choose: Which of these are wanted, in their order: owners and options of others are not looked up.

    Returns:
        The sockets, in the order of COUNTED_STATES. Missing where the kernel lists none at all, or
        where the process's descriptors cannot be read.
    """
    inodes = held if held is not None or pid is None else held_by(pid)
    if isinstance(inodes, Missing):
        return inodes
    only = SocketFilter(inodes=inodes, remote=peer)
    found = _list(frozenset(states), local_port, remote_port, only, room, oldest=oldest)
    if isinstance(found, Missing):
        return found
    rows, by_state, missing = found
    if choose is not None:
        rows = choose(rows)
    reason = None if pid is None else why_elsewhere(pid)
    if reason is not None:
        missing["sockets"] = reason
    seen = _ask(_own(rows, inodes, owner_seconds), options=options)
    return Survey(seen, sum(by_state.values()), missing, by_state)


def _list(
    wanted: frozenset[TcpState],
    local_port: int | None,
    remote_port: int | None,
    only: SocketFilter,
    room: int,
    *,
    oldest: bool,
) -> Reading[tuple[list[Row], dict[TcpState, int], dict[str, str]]]:
    """Return the sockets, how many there are of each state, and the states that could not be listed."""
    rows: list[Row] = []
    by_state: dict[TcpState, int] = {}
    if TcpState.LISTEN in wanted and remote_port is None and only.remote is None:
        listeners = read_listeners(local_port=local_port, only=only)
        if isinstance(listeners, Missing):
            return listeners
        rows += listeners
        by_state[TcpState.LISTEN] = len(listeners)
    others = wanted - {TcpState.LISTEN}
    detail = read_connections(
        others, local_port=local_port, remote_port=remote_port, only=only, bound=room, oldest=oldest
    )
    if isinstance(detail, Missing):
        return detail
    missing: dict[str, str] = {}
    for state in COUNTED_STATES:
        if state in detail:
            rows += detail[state].connections
            by_state[state] = detail[state].total
            if detail[state].reason:
                missing["sockets"] = joined([missing.get("sockets", ""), detail[state].reason])
        elif state in others:
            missing[state.key] = why_not_listed(state).reason
    return rows, by_state, missing


@replayed
def why_elsewhere(pid: int) -> str | None:
    """Say that a process's sockets are, or may be, in another network namespace; None where they are here."""
    try:
        theirs = os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError as error:
        return f"whether process {pid} is in this network namespace: {(error.strerror or str(error)).lower()}"
    if theirs == network_namespace():
        return None
    return (
        f"process {pid} is in another network namespace ({theirs}), whose sockets are not listed here; "
        f"look from there: tcpdoctor sockets --netns {pid}"
    )


@replayed
def held_by(pid: int) -> Reading[Mapping[int, Owner]]:
    """Return an owner for each socket inode that one process has open; its lowest descriptor is named.

    Missing where the process is gone or hides its descriptors from us.
    """
    descriptors = read_descriptors(pid)
    if isinstance(descriptors, Missing):
        return descriptors
    try:
        name, uid = read_name(pid), read_status(pid)["Uid"]
    except (FileNotFoundError, ProcessLookupError):
        return Missing(f"process {pid} is gone")
    owners: dict[int, Owner] = {}
    for fd, inode in sorted(descriptors.items()):
        owners.setdefault(inode, Held((Holder(pid, name, fd, uid),)))
    return owners


@replayed
def find_share(pid: int, inodes: Set[int]) -> Holder | None:
    """Return a process as the holder of one of some sockets; None where it has none, is gone or hides it.

    No more of its descriptors are read than that takes. The one that was found is read again once the process
    is named: a pid may be used anew meanwhile.
    """
    links = {f"socket:[{inode}]" for inode in inodes}
    try:
        descriptor = find_link(pid, links)
        if descriptor is None:
            return None
        found = Holder(pid, read_name(pid), descriptor, read_status(pid)["Uid"])
        return found if os.readlink(f"/proc/{pid}/fd/{descriptor}") in links else None
    except OSError:
        return None


def _own(
    rows: Iterable[Listener | Connection], known: Mapping[int, Owner] | None, seconds: float
) -> tuple[Listener | Connection, ...]:
    sockets = tuple(rows)
    if known is None:
        known = find_owners({row.inode: row.uid for row in sockets if row.inode}, seconds=seconds)
    return tuple(
        row._replace(owner=known[row.inode]) if row.inode and row.inode in known else row for row in sockets
    )


def _ask(rows: Iterable[Listener | Connection], *, options: bool) -> tuple[Seen, ...]:
    if not options:
        return tuple(Seen(row, NOT_ASKED) for row in rows)
    sockets = tuple(rows)
    places = [_place(row) for row in sockets[:MOST_ASKED]]
    answers = read_options(place for place in places if isinstance(place, Descriptor))
    places += [_TOO_MANY] * (len(sockets) - len(places))
    return tuple(
        Seen(row, place if isinstance(place, Missing) else answers[place])
        for row, place in zip(sockets, places, strict=True)
    )


def _place(row: Listener | Connection) -> Reading[Descriptor]:
    match row.owner:
        case Held(holders):
            return Descriptor(holders[0].pid, holders[0].fd, row.inode)
        case Missing() as hidden:
            return hidden
        case _:
            return Missing("no process holds it, so there is none to ask")


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
            if row.inode and not isinstance(row.owner, Held):
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
            owner = found.get(row.inode)
            yield row if owner is None else row._replace(owner=owner)

    def _each(self) -> Iterator[Row]:
        yield from self._listeners
        if not self._wanted.others:
            return
        if self._way is Way.PROC:
            yield from filter(self._wanted.has, read_proc_rows())
            return
        request = self._wanted.request(WITH_INFO)
        listing = Listing(self._way, request)
        places, owner_of = rows_wanted(request, self._wanted.only), self._owners.get
        try:
            for rows in listing:
                datagram = bytes(rows.data[: rows.end])
                for at, end in places(rows):
                    row = datagram[at:end]
                    yield decode_row(row, owner_of(inode_of(row)))
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
        for row in filter(wanted.has, read_proc_rows()):
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
