"""A light look: all sockets counted in one walk, and who is who of those that may leak.

`take_snapshot` asks the kernel for every socket once to count them and once to know those in closing states
one by one, and the kernel goes through its whole table each time. Here one listing gives both, with no more
of each socket than its identity, so that who looks on for hours costs a host little.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from tcpdoctor.kernel.counters import read_counters, read_sockstat
from tcpdoctor.kernel.kept_rows import Handle, KeptRows
from tcpdoctor.kernel.live import (
    fill_in,
    groups_of,
    owned_sockets,
    ports_of,
    still_among,
    with_holders,
)
from tcpdoctor.kernel.owners import find_owners
from tcpdoctor.kernel.processes import parse_start_time
from tcpdoctor.kernel.reading import Missing, Reading, boottime, read_kernel_file
from tcpdoctor.kernel.snapshot import Census, Held, Listener, NotHeld, Owned, Owner, Snapshot
from tcpdoctor.kernel.sockets import Handles, read_listeners, take_census
from tcpdoctor.kernel.states import HELD_STATES, TcpState
from tcpdoctor.kernel.text import decode
from tcpdoctor.named_tuples import NamedTuple

_NO_COOKIES: Missing = Missing("/proc/net/tcp does not tell which socket is which")


class Pulse(NamedTuple):
    """What a light look saw."""

    taken_at: float
    """Seconds since 1970, UTC."""
    clock: float
    """CLOCK_BOOTTIME in seconds when the counters were read."""
    counters: Reading[Mapping[str, int]]
    sockstat: Reading[Mapping[str, int]]
    listeners: Reading[tuple[Listener, ...]]
    census: Reading[Census]
    """Without what is told of established connections one by one."""
    held: Reading[Mapping[TcpState, Sequence[Handle]]]
    """The sockets of `HELD_STATES`; fewer than the census counts where they are very many."""


def take_pulse(known: Snapshot) -> Pulse:
    """Look once, at the network namespace and with the settings of an earlier look.

    Raises:
        KernelReadError: The kernel answered in a way we do not understand.
    """
    taken_at, clock = time.time(), boottime()
    counted, sockstat, listeners = read_counters().counters, read_sockstat(), read_listeners()
    ephemeral, listening, reserved = ports_of(known.sysctls, listeners)
    handles = Handles(HELD_STATES)
    census = take_census(ephemeral, listening, reserved=reserved, handles=handles)
    return Pulse(
        taken_at,
        clock,
        counted,
        sockstat,
        listeners,
        census,
        census if isinstance(census, Missing) else handles.found if handles.told else _NO_COOKIES,
    )


def pulse_of(look: Snapshot) -> Pulse:
    """Return what a whole look, or a recording of one, tells of the same."""
    return Pulse(
        look.taken_at,
        look.clock,
        look.counters,
        look.sockstat,
        look.listeners,
        look.census,
        _handles_of(look),
    )


def _handles_of(look: Snapshot) -> Reading[Mapping[TcpState, Sequence[Handle]]]:
    if isinstance(look.detail, Missing):
        return look.detail
    found: dict[TcpState, Sequence[Handle]] = {}
    for state in HELD_STATES:
        if state not in look.detail:
            return Missing("they were not read one by one")
        rows = look.detail[state].connections
        if isinstance(rows, KeptRows):
            found[state] = rows.handles()
        else:
            found[state] = [Handle(row.cookie, row.inode, row.uid) for row in rows]
    return found


# who holds which socket, remembered from look to look: a search for owners costs more than all else

SEARCH_AGAIN = 30.0
"""Seconds after which nothing that was found is believed any more."""
_SOONER, _SHARE = 5.0, 0.005
"""Where a search left something over: seconds until one for all, and what that may take of a core."""
_SECONDS = 1.0
"""Of CPU time, of a search for all."""
_SHORT = 0.02
"""Of CPU time, of a search for what appeared; what it does not find waits for the next one for all."""
NOT_YET: Missing = Missing("it appeared a moment ago; its owner is looked up with the next look")


class OwnerMemory:
    """Owners by cookie, as long as their sockets are there and their holders are the same processes."""

    def __init__(self) -> None:
        self._known: dict[int, Owner] = {}
        self._waiting: set[int] = set()
        self._started: dict[int, float | None] = {}
        self._searched: float | None = None
        self._cost = 0.0
        self._left_over = False

    def owner_of(self, handle: Handle) -> Owner:
        """Return who holds a socket; `NOT_YET` where it was not looked up."""
        return self._known.get(handle.cookie, NOT_YET) if handle.inode else NotHeld()

    def learn(self, sockets: Iterable[Handle], clock: float) -> None:
        """Look up the owners of sockets that were there in the look before as well, and forget those gone.

        Most connections pass CLOSE_WAIT within a millisecond: to search for the owner of one that is seen
        for the first time is to search, mostly, for what has gone.
        """
        present = {handle.cookie: handle for handle in sockets if handle.inode}
        again = self._searched is None or clock - self._searched >= self._patience()
        if again:
            self._known.clear()
            self._left_over = False
            self._searched = clock
        self._forget(present)
        wanted = {
            handle.inode: handle
            for cookie, handle in present.items()
            if cookie not in self._known and (again or cookie in self._waiting)
        }
        self._waiting = present.keys() - self._known.keys() - {one.cookie for one in wanted.values()}
        if not wanted:
            return
        began = time.thread_time()
        found = find_owners(
            {inode: handle.uid for inode, handle in wanted.items()},
            seconds=_SECONDS if again else _SHORT,
            likely=self._started.keys(),
        )
        if again:
            self._cost = time.thread_time() - began
        self._left_over = any(isinstance(owner, Missing) for owner in found.values())
        self._keep({wanted[inode].cookie: owner for inode, owner in found.items()})

    def _patience(self) -> float:
        """Seconds from one search for all to the next."""
        return min(SEARCH_AGAIN, max(_SOONER, self._cost / _SHARE)) if self._left_over else SEARCH_AGAIN

    def add_owners(self, look: Snapshot, which: Collection[Owned]) -> Snapshot:
        """Do as `tcpdoctor.kernel.live.add_owners`; what is known already is not searched for again."""
        sockets = [*owned_sockets(look, which)]
        known = {row.inode: self._known[row.cookie] for row in sockets if row.cookie in self._known}
        unknown = [row for row in sockets if row.inode not in known]
        found = find_owners(
            {row.inode: row.uid for row in unknown},
            seconds=_SECONDS,
            groups=groups_of(unknown),
            still=still_among(unknown),
        )
        self._keep({row.cookie: found[row.inode] for row in unknown if row.cookie})
        return with_holders(fill_in(look, which, {**known, **found}))

    def _keep(self, found: Mapping[int, Owner]) -> None:
        for cookie, owner in found.items():
            self._known[cookie] = owner
            if isinstance(owner, Held):
                for holder in owner.holders:
                    if holder.pid not in self._started:
                        self._started[holder.pid] = _start_of(holder.pid)

    def _forget(self, present: Mapping[int, Handle]) -> None:
        """Forget sockets that are gone, and what processes held that ended or whose numbers passed on."""
        same = {
            pid for pid, started in self._started.items() if started is not None and _start_of(pid) == started
        }
        self._started = {pid: started for pid, started in self._started.items() if pid in same}
        self._known = {
            cookie: owner
            for cookie, owner in self._known.items()
            if cookie in present
            and not (isinstance(owner, Held) and any(one.pid not in same for one in owner.holders))
        }


def _start_of(pid: int) -> float | None:
    path = f"/proc/{pid}/stat"
    try:
        return parse_start_time(decode(read_kernel_file(path)), path)
    except OSError:
        return None  # it has ended
