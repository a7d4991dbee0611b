"""One or two looks at the network namespace of the calling thread, complete when they leave this floor.

Order of a look, and why:

1. who and where (host, kernel, namespace) and the sysctls, which do not change meanwhile;
2. clock, counters and sockstat at one moment, before our own netlink sockets and scans cost time;
3. listeners, then sockets of interest one by one: what matters most is looked at next to the counters;
4. the census, which takes longest where there are a million sockets, and after it the bound sockets, if any;
5. owners of the sockets that rules ask about, within a time budget; a socket that nobody holds is looked
   at once more, because it may simply have gone;
6. the processes that were found, and those that come near their limit of descriptors.

Nothing is bound, connected, written or sent to another host, and no process is touched.
"""

import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

from tcpdoctor.kernel.closer_look import fill_in_owners, postpone_owners, worth_an_owner
from tcpdoctor.kernel.counters import (
    OWN_RESETS,
    may_hold_dead_sockets,
    read_counters,
    read_sockstat,
    read_softnet,
)
from tcpdoctor.kernel.descriptor_use import DescriptorUse, find_heavy_users, with_sockets_near_its_limit
from tcpdoctor.kernel.kept_rows import KeptRows, KeptSocket, with_owners, without_file
from tcpdoctor.kernel.namespaces import read_identity, replayed
from tcpdoctor.kernel.processes import read_process
from tcpdoctor.kernel.reading import UNDERWAY, Missing, Reading, boottime
from tcpdoctor.kernel.snapshot import (
    ENDED,
    Census,
    Connection,
    DeadUse,
    Detail,
    Endpoint,
    Established,
    Held,
    Listener,
    NotHeld,
    Owned,
    Owner,
    Process,
    Samples,
    Snapshot,
    SysctlValue,
)
from tcpdoctor.kernel.sock_diag import DumpRefusedError
from tcpdoctor.kernel.sock_diag_rows import ask_again, decode_row, name_from, name_of
from tcpdoctor.kernel.sockets import read_connections, read_listeners, take_census
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.sysctl import read_sysctls

if TYPE_CHECKING:
    from typing import TypeGuard

    from tcpdoctor.kernel.descriptor_search import Still

Sought: TypeAlias = Listener | Connection | KeptSocket
"""A socket whose owner is searched for."""

PASSING_STATES = (
    TcpState.FIN_WAIT_1,
    TcpState.LAST_ACK,
    TcpState.CLOSING,
    TcpState.SYN_SENT,
    TcpState.SYN_RECV,
)
"""States that a healthy connection passes within one round trip: seen in both looks, it lasts."""
DETAILED_STATES = (*PASSING_STATES, TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_2, TcpState.BOUND)
"""States whose sockets are known one by one."""
EARLIER_STATES = (*PASSING_STATES, TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_2)
"""Of those, the states looked at in the first look too: it narrows the ages of the last two."""
_FEWER = 5_000
_BOUNDS = dict.fromkeys(PASSING_STATES, _FEWER) | {TcpState.BOUND: 32_768}
"""Of states that are told apart by nothing but their number and their peers a smaller sample will do. Bound
sockets are asked for their ports, of which the default range has 28,232."""
_EARLIER_BOUNDS = _BOUNDS | {TcpState.CLOSE_WAIT: 2_000, TcpState.FIN_WAIT_2: 2_000}
"""The first look need not hold every socket of the second: 2,000 take 60 ms, use of them included."""
_CLOSING = (TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_2)
"""States whose sockets are decoded when somebody looks at one: of most only the owner and the age matter."""
OWNED_STATES = {
    Owned.CLOSE_WAIT: TcpState.CLOSE_WAIT,
    Owned.FIN_WAIT_2: TcpState.FIN_WAIT_2,
    Owned.SYN_SENT: TcpState.SYN_SENT,
    Owned.BOUND: TcpState.BOUND,
}
"""Of those, the states whose owners are looked up."""

_MOST_ASKED_AGAIN = 300
"""Asking whether one socket is still there costs as much as reading four descriptors."""

_Listeners: TypeAlias = Reading[tuple[Listener, ...]]


@replayed
def take_samples(
    window: float,
    *,
    owners: bool | None = True,
    census: bool = True,
    every_listener: bool = False,
    owner_seconds: float = 1.0,
) -> Samples:
    """Look twice, `window` seconds apart; once where it is 0.

    The first look is light: counters, sockstat, listeners and the sockets of `EARLIER_STATES`. Time runs
    from counters to counters, on CLOCK_BOOTTIME; the wait can be cut short (see `underway`).

    Args:
        window: Seconds between the looks.
        owners: As `take_snapshot`, for the second look.
        census: As `take_snapshot`, for the second look.
        every_listener: As `take_snapshot`, for the second look.
        owner_seconds: As `take_snapshot`.
    """
    before = None
    if window > 0:
        before = look_lightly()
        UNDERWAY.wait(before.clock + window - boottime())
    after = take_snapshot(
        owners=owners,
        census=census,
        every_listener=every_listener,
        owner_seconds=owner_seconds,
        before=before,
    )
    return Samples(before, after)


def with_known_owners(look: Snapshot, known: Mapping[int, Owner], process: Process) -> Snapshot:
    """The same look with the sockets of one process owned by it where the search did not find their holder.

    Args:
        look: Taken with owners.
        known: By inode, every socket that the process holds.
        process: Known by then, even if the search ended before it came there.
    """

    def missed(rows: Sequence[Connection]) -> dict[int, Owner]:
        hidden = {inode for inode, owner in _owners_in(rows) if isinstance(owner, Missing)}
        return {inode: known[inode] for inode in hidden & known.keys()}

    detail = look.detail
    if not isinstance(detail, Missing):
        detail = {
            state: of_state._replace(connections=with_owners(of_state.connections, ours))
            if (ours := missed(of_state.connections))
            else of_state
            for state, of_state in detail.items()
        }
    census = look.census
    if not isinstance(census, Missing) and isinstance(census.established, Established):
        suspects = missed(worth_an_owner(census.established))
        census = census._replace(established=fill_in_owners(census.established, suspects))
    processes = {**look.processes, process.pid: look.processes.get(process.pid, process)}
    return look._replace(detail=detail, census=census, processes=processes)


@replayed
def take_snapshot(
    *,
    owners: bool | None = True,
    census: bool = True,
    every_listener: bool = False,
    owner_seconds: float = 1.0,
    before: Snapshot | None = None,
    heavy: bool = True,
) -> Snapshot:
    """Look once.

    Args:
        owners: Find the processes behind CLOSE_WAIT, FIN_WAIT_2, SYN_SENT and bound sockets, and behind
            listeners of interest (see `_is_of_interest`). Of ESTABLISHED sockets only suspects are looked up.
            None: leave them to `add_owners`; processes near their limit of descriptors are found.
        census: Count all sockets by state, port and destination; `Missing` otherwise.
        every_listener: Find the owners of all listeners, of interest or not.
        owner_seconds: Time budget of the search for owners.
        before: An earlier look, so that what only a change makes worth reading is read.
        heavy: Find the processes near their limit of descriptors; else they are left to `add_heavy_users`.

    Raises:
        KernelReadError: The kernel answered in a way we do not understand.
    """
    sysctls = read_sysctls()
    look = _begin(sysctls, EARLIER_STATES if census else DETAILED_STATES, _BOUNDS, _CLOSING)
    if _has_grown("nf_conntrack.insert_failed", before, look) or _resets_match(look):
        from tcpdoctor.kernel.conntrack_table import read_translations  # seldom wanted, and it has patterns

        look = look._replace(translations=read_translations(_TABLE_SECONDS))
    if census:
        look = _add_bound(look._replace(census=_count(sysctls, look.listeners)))
    if owners is False:
        return look
    if owners is None:
        look = _postpone(look)
    else:
        look = add_owners(look, Owned, every_listener=every_listener, seconds=owner_seconds)
    look = _add_dead(look, before)
    return add_heavy_users(look, find_heavy_users(owner_seconds)) if heavy else look


@replayed
def add_owners(
    look: Snapshot, which: Iterable[Owned], *, every_listener: bool = False, seconds: float = 1.0
) -> Snapshot:
    """Find the owners of some kinds of sockets, for a look that was taken without.

    Args:
        look: What was seen, a moment ago.
        which: The kinds.
        every_listener: As `take_snapshot`.
        seconds: Time budget of the search.
    """
    kinds = frozenset(which)
    wanted: dict[int, int] = {}
    groups: set[Reading[int]] = set()
    for rows in _owned_rows(look, kinds, every_listener=every_listener):
        if _is_undecoded(rows):
            wanted |= rows.uids()
            groups |= rows.groups()
        else:
            wanted |= {row.inode: row.uid for row in rows if row.inode}
            groups |= {row.cgroup for row in rows if row.inode}
    if not wanted:
        return with_holders(look)
    from tcpdoctor.kernel.owners import find_owners

    known = [group for group in groups if not isinstance(group, Missing)]
    still = still_among(owned_sockets(look, kinds, every_listener=every_listener))
    found = find_owners(wanted, seconds=seconds, groups=known, still=still)
    return with_holders(fill_in(look, kinds, found))


def _postpone(look: Snapshot) -> Snapshot:
    """Say of suspects in ESTABLISHED that their owners may be looked up yet."""
    census = look.census
    if isinstance(census, Missing) or isinstance(census.established, Missing):
        return look
    return look._replace(census=census._replace(established=postpone_owners(census.established)))


def _add_dead(look: Snapshot, before: Snapshot | None) -> Snapshot:
    """Add the processes that hold connections that are over."""
    dead = _find_dead(look, before)
    holders = _read_all(dead.by_pid)
    for pid, those in dead.by_pid.items():
        if pid in holders and _is_another(
            holders[pid], [(row.fd, row.inode) for row in those.found], look.clock
        ):
            del holders[pid]
    return look._replace(processes={**holders, **look.processes}, dead=dead)


def add_heavy_users(look: Snapshot, use: DescriptorUse) -> Snapshot:
    """Add the processes of this namespace that come near their limit of descriptors."""
    known = {pid: with_sockets_near_its_limit(one) for pid, one in look.processes.items()}
    return look._replace(
        processes={**known, **use.processes}, surveyed=use.complete, passed_over=use.passed_over
    )


_TABLE_SECONDS = 0.5
"""Of CPU time; enough for some hundred thousand tracked connections."""


def _has_grown(counter: str, before: Snapshot | None, after: Snapshot) -> bool:
    if before is None or isinstance(before.counters, Missing) or isinstance(after.counters, Missing):
        return False
    return after.counters.get(counter, 0) > before.counters.get(counter, 0)


def _resets_match(look: Snapshot) -> bool:
    """Whether about as many resets were sent unasked so far as packets were called invalid, and not few."""
    if isinstance(look.counters, Missing):
        return False
    counted = [look.counters.get(name) for name in ("Tcp.OutRsts", "nf_conntrack.invalid", *OWN_RESETS)]
    if None in counted:
        return False
    sent, invalid, *own = (number or 0 for number in counted)
    unasked = sent - sum(own)
    return min(unasked, invalid) >= _FEWEST_RESETS and 3 * min(unasked, invalid) >= max(unasked, invalid)


_FEWEST_RESETS = 10


def look_lightly() -> Snapshot:
    """Take the first of two looks: counters, sockstat, listeners and the sockets of `EARLIER_STATES`."""
    look = _begin({}, EARLIER_STATES, _EARLIER_BOUNDS, _CLOSING)
    return look._replace(dead=_find_dead(look, None))


_DEAD_SECONDS = 0.2
"""Of CPU time, in each look; enough for some twenty thousand descriptors."""
_SAME_RUN = 10.0
"""Seconds up to which the earlier look has seen all that can last since then."""


def _find_dead(look: Snapshot, before: Snapshot | None) -> DeadUse:
    """Find descriptors of connections that are over; nothing is touched where there cannot be many."""
    if not may_hold_dead_sockets(look.sockstat):
        return DeadUse({}, complete=True)
    from tcpdoctor.kernel.unlisted import find_dead_sockets

    earlier = None if before is None or look.clock - before.clock > _SAME_RUN else before.dead
    if isinstance(earlier, DeadUse):
        again = find_dead_sockets(_DEAD_SECONDS, earlier.by_pid)
        return again if isinstance(again.complete, Missing) else again._replace(complete=earlier.complete)
    return find_dead_sockets(_DEAD_SECONDS)


def _begin(
    sysctls: Mapping[str, Reading[SysctlValue]],
    states: Iterable[TcpState],
    bounds: Mapping[TcpState, int],
    undecoded: Collection[TcpState] = (),
) -> Snapshot:
    """Look at everything but the census, owners and processes."""
    identity = read_identity()
    taken_at, clock = time.time(), boottime()
    counted = read_counters()
    return Snapshot(
        taken_at=taken_at,
        clock=clock,
        host=identity.host,
        kernel=identity.kernel,
        namespace=identity.namespace,
        namespace_name=identity.namespace_name,
        initial_namespace=identity.initial_namespace,
        euid=identity.euid,
        sysctls=sysctls,
        counters=counted.counters,
        sockstat=read_sockstat(),
        census=Missing("sockets were not counted in this look"),
        listeners=read_listeners(),
        detail=read_connections(states, bound=bounds, undecoded=undecoded),
        processes={},
        page_size=os.sysconf("SC_PAGE_SIZE"),
        softnet=read_softnet(),
        memory=os.sysconf("SC_PHYS_PAGES"),
        unread=counted.unread,
    )


def _count(sysctls: Mapping[str, Reading[SysctlValue]], listeners: _Listeners) -> Reading[Census]:
    ephemeral, listening, reserved = ports_of(sysctls, listeners)
    known = () if isinstance(listeners, Missing) else listeners
    waiting = any(row.accept_queue > 0 for row in known)
    return take_census(ephemeral, listening, established=True, waiting=waiting, reserved=reserved)


def ports_of(
    sysctls: Mapping[str, Reading[SysctlValue]], listeners: _Listeners
) -> tuple[Reading[tuple[int, int]], frozenset[int], tuple[tuple[int, int], ...]]:
    """Return which ports connect() may choose, which have a listener, and which it leaves alone."""
    known = () if isinstance(listeners, Missing) else listeners
    return _ephemeral(sysctls), frozenset(row.local.port for row in known), _reserved(sysctls)


def _add_bound(look: Snapshot) -> Snapshot:
    """Add the detail of bound sockets, which costs a fifth of listing all: not where there are none.

    The kernel goes through all ports and all sockets on them to find those that are merely bound; the
    census has just done so.
    """
    if isinstance(look.detail, Missing):
        return look
    census = look.census
    if not isinstance(census, Missing) and census.bound == 0 and census.complete is True:
        return look._replace(detail={**look.detail, TcpState.BOUND: Detail((), 0)})
    bound = read_connections((TcpState.BOUND,), bound=_BOUNDS)
    return look._replace(detail=bound if isinstance(bound, Missing) else {**look.detail, **bound})


def _ephemeral(sysctls: Mapping[str, Reading[SysctlValue]]) -> Reading[tuple[int, int]]:
    value = sysctls["net.ipv4.ip_local_port_range"]
    if isinstance(value, Missing):
        return value
    match value:
        case (int(low), int(high)) if 0 <= low <= high <= 65_535:
            return low, high
    return Missing("net.ipv4.ip_local_port_range is no range of ports")


def _reserved(sysctls: Mapping[str, Reading[SysctlValue]]) -> tuple[tuple[int, int], ...]:
    """The ports that connect() leaves alone; none where that is hidden."""
    value = sysctls.get("net.ipv4.ip_local_reserved_ports", ())
    spans = value if isinstance(value, tuple) else ()
    return tuple((first, last) for first, last in (span for span in spans if isinstance(span, tuple)))


def owned_sockets(
    look: Snapshot, which: Collection[Owned], *, every_listener: bool = False
) -> Iterator[Sought]:
    """Give the sockets of some kinds whose owners are worth a search, those that have an inode."""
    for rows in _owned_rows(look, which, every_listener=every_listener):
        yield from rows.sought() if isinstance(rows, KeptRows) else (row for row in rows if row.inode)


def _owned_rows(
    look: Snapshot, which: Collection[Owned], *, every_listener: bool
) -> Iterator[Sequence[Listener] | Sequence[Connection]]:
    listeners = () if isinstance(look.listeners, Missing) else look.listeners
    detail = {} if isinstance(look.detail, Missing) else look.detail
    closed = detail.get(TcpState.CLOSE_WAIT)
    not_accepted = {row.local.port for row in without_file(closed.connections)} if closed else set()
    range_of_ports = _ephemeral(look.sysctls)
    ports = () if isinstance(range_of_ports, Missing) else range_of_ports
    asked = [
        row
        for row in listeners
        if Owned.LISTENER in which and (every_listener or _is_of_interest(row, not_accepted, ports))
    ]
    established = None if isinstance(look.census, Missing) else look.census.established
    suspects = (
        worth_an_owner(established) if Owned.SUSPECT in which and isinstance(established, Established) else []
    )
    yield asked
    yield suspects
    yield from (detail[state].connections for state in _owned_states(which) if state in detail)


def _owned_states(which: Collection[Owned]) -> list[TcpState]:
    return [state for owned, state in OWNED_STATES.items() if owned in which]


def groups_of(sockets: Iterable[Sought]) -> frozenset[int]:
    """Return the ids of the control groups that made these sockets, where they are known."""
    return frozenset(row.cgroup for row in sockets if not isinstance(row.cgroup, Missing))


def fill_in(look: Snapshot, which: Collection[Owned], found: Mapping[int, Owner]) -> Snapshot:
    """Return the look with the owners that were found; to be called from inside its network namespace.

    Those that nobody holds are asked about once more, because they may simply have gone.
    """
    listeners = () if isinstance(look.listeners, Missing) else look.listeners
    detail = {} if isinstance(look.detail, Missing) else look.detail
    states = _owned_states(which)
    others = [(inode, owner) for inode, owner in found.items() if not isinstance(owner, Held)]
    unheld = {inode for inode, owner in others if isinstance(owner, NotHeld) or owner == ENDED}
    if unheld:
        detail, listeners = _still_there(detail, unheld), _still_listening(listeners, unheld)
    detail = {
        state: rows._replace(connections=_with_owners(rows.connections, found)) if state in states else rows
        for state, rows in detail.items()
    }
    census = look.census
    if (
        Owned.SUSPECT in which
        and not isinstance(census, Missing)
        and isinstance(census.established, Established)
    ):
        look = look._replace(census=census._replace(established=fill_in_owners(census.established, found)))
    return look._replace(
        listeners=look.listeners if isinstance(look.listeners, Missing) else with_owners(listeners, found),
        detail=look.detail if isinstance(look.detail, Missing) else detail,
    )


def _with_owners(rows: Sequence[Connection], found: Mapping[int, Owner]) -> Sequence[Connection]:
    return rows.with_owners(found) if _is_undecoded(rows) else with_owners(rows, found)


def still_among(sockets: Iterable[Sought]) -> "Still":
    """Ask about connections one by one, where they are few; listeners are taken to be there.

    Nobody looks at the sockets before few are left, which mostly none are.
    """
    rows: dict[int, bytes | Connection] = {}
    unread = iter(sockets)

    def still(inodes: Collection[int]) -> Collection[int]:
        if len(inodes) > _MOST_ASKED_AGAIN:
            return inodes
        rows.update(
            (row.inode, row.row if isinstance(row, KeptSocket) else row)
            for row in unread
            if not isinstance(row, Listener) and row.cookie
        )
        asked = [rows[inode] for inode in inodes if inode in rows]
        try:
            names = (name_of(row) if isinstance(row, bytes) else name_from(row) for row in asked)
            present = {decode_row(raw).inode for raw in ask_again(names, 0)}
        except DumpRefusedError:
            return inodes
        return present.union(inode for inode in inodes if inode not in rows)

    return still


def _is_of_interest(listener: Listener, not_accepted: set[int], ports: tuple[int, ...]) -> bool:
    """Whether a rule may have something to say about a listener, so that its owner is worth a search."""
    return (
        listener.accept_queue > 0
        or (not isinstance(listener.drops, Missing) and listener.drops > 0)
        or listener.local.port in not_accepted
        or (bool(ports) and ports[0] <= listener.local.port <= ports[-1])
    )


def _still_there(detail: Mapping[TcpState, Detail], unheld: set[int]) -> Mapping[TcpState, Detail]:
    """Look once more at sockets that nobody holds, and give them as they are by then.

    One that was closed while its holder was searched for is left out, or has become an orphan: no process
    holds it, but that says nothing of who held it when it was counted.
    """
    states = [
        state
        for state in detail
        if any(inode in unheld for inode, _ in _owners_in(detail[state].connections))
    ]
    again = read_connections(states, bound=_BOUNDS) if states else {}
    if isinstance(again, Missing):
        return detail
    current = {_key(row): row for row in _rows(again, states)}
    return {
        state: _refresh(rows, current, unheld) if state in states else rows for state, rows in detail.items()
    }


def _is_undecoded(rows: Sequence[Connection] | Sequence[Listener]) -> "TypeGuard[KeptRows]":
    """Whether nobody has looked at any of these sockets."""
    return isinstance(rows, KeptRows) and not rows.decoded


def _owners_in(rows: Sequence[Connection]) -> Iterable[tuple[int, Owner]]:
    """Inode and owner of each, none of them decoded for it."""
    return rows.owners() if _is_undecoded(rows) else ((row.inode, row.owner) for row in rows)


def _refresh(
    rows: Detail, current: Mapping[tuple[int, Endpoint, Endpoint], Connection], unheld: set[int]
) -> Detail:
    if rows.total > len(rows.connections):
        return rows  # another sample need not hold the same sockets
    kept = [current.get(_key(row)) if row.inode in unheld else row for row in rows.connections]
    connections = tuple(row for row in kept if row is not None)
    return Detail(connections, len(connections))


def _still_listening(listeners: tuple[Listener, ...], unheld: set[int]) -> tuple[Listener, ...]:
    if not any(listener.inode in unheld for listener in listeners):
        return listeners
    again = read_listeners()
    if isinstance(again, Missing):
        return listeners
    current = {listener.inode for listener in again}
    return tuple(row for row in listeners if row.inode not in unheld or row.inode in current)


def _key(row: Connection) -> tuple[int, Endpoint, Endpoint]:
    return row.cookie, row.local, row.remote


def _rows(detail: Mapping[TcpState, Detail], states: Iterable[TcpState]) -> list[Connection]:
    return [row for state in states if state in detail for row in detail[state].connections]


def with_holders(look: Snapshot) -> Snapshot:
    """Add the processes that were found to hold sockets."""
    return look._replace(processes={**_read_holders(look), **look.processes})


def _read_holders(look: Snapshot) -> Mapping[int, Process]:
    """Read the processes that were found to hold sockets, without those that took over their numbers."""
    rows: list[Listener | Connection] = [*_unread(look.census)]
    rows += () if isinstance(look.listeners, Missing) else look.listeners
    details = () if isinstance(look.detail, Missing) else look.detail.values()

    def places() -> Iterator[tuple[int, int, int]]:
        others = ((row.inode, row.owner) for row in rows)
        for inode, owner in chain(others, *(_owners_in(detail.connections) for detail in details)):
            if isinstance(owner, Held):
                for holder in owner.holders:
                    yield holder.pid, holder.fd, inode

    read = _read_all({pid for pid, _, _ in places()})
    doubted: dict[int, list[tuple[int, int]]] = {
        pid: [] for pid, process in read.items() if _began_since(process, look.clock)
    }
    for pid, descriptor, inode in places() if doubted else ():
        if pid in doubted:
            doubted[pid].append((descriptor, inode))
    return {
        pid: process
        for pid, process in read.items()
        if pid not in doubted or not _is_another(process, doubted[pid], look.clock)
    }


def _read_all(pids: Iterable[int]) -> dict[int, Process]:
    read = {pid: read_process(pid) for pid in sorted(pids)}
    return {pid: process for pid, process in read.items() if not isinstance(process, Missing)}


def _is_another(process: Process, places: Iterable[tuple[int, int]], since: float) -> bool:
    """Whether a process only has the number of the one that was found, which ended since."""
    if not _began_since(process, since):
        return False
    from tcpdoctor.kernel.owners import holds_any

    return not holds_any(f"/proc/{process.pid}/fd", places)


def _began_since(process: Process, since: float) -> bool:
    return not isinstance(process.started, Missing) and process.started >= since


def _unread(census: Reading[Census]) -> Iterable[Connection]:
    """The established connections that hold data that has waited to be read."""
    established = census if isinstance(census, Missing) else census.established
    unread = established if isinstance(established, Missing) else established.unread
    return () if isinstance(unread, Missing) else unread.connections
