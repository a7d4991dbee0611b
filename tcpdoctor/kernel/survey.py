"""Sockets of every state one by one, with their owners and, if wanted, the options that were set on them."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeAlias

from tcpdoctor.kernel.entered import replayed
from tcpdoctor.kernel.listing import why_not_listed
from tcpdoctor.kernel.namespaces import network_namespace
from tcpdoctor.kernel.owners import find_owners
from tcpdoctor.kernel.processes import read_descriptors, read_name, read_status
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Held, Holder, Listener, Owner
from tcpdoctor.kernel.sockets import SocketFilter, read_connections, read_listeners
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
                missing["sockets"] = "; ".join(filter(None, (missing.get("sockets"), detail[state].reason)))
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
