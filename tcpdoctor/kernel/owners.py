"""Which processes hold a socket: from its inode to the descriptors that refer to it.

The kernel has no way back from a socket to its processes, so every process's descriptors are read until
the wanted ones are found. Three answers are possible: held by these, held by nobody (certain only after
a complete scan), or `Missing` with the reason why the scan could not be complete.
"""

import os
from collections.abc import Collection, Iterable, Mapping

from tcpdoctor.kernel.descriptor_search import DescriptorSearch, Still, pids_of_groups
from tcpdoctor.kernel.namespaces import (
    replayed,
    sees_all_processes_of_machine,
)
from tcpdoctor.kernel.processes import (
    OUTSIDE,
    hides_from_us,
    is_proc_hiding,
    read_name,
    read_status,
)
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import (
    ENDED,
    Held,
    Holder,
    NotHeld,
    Owner,
)
from tcpdoctor.named_tuples import NamedTuple

_MANY = 1024
"""Descriptors of a parent from which on each is asked for by itself: listing them would cost more."""
_GENERATIONS = 32
"""Ancestors of a process that are looked at."""
_MOST_GROUPS = 64
"""Control groups whose processes come first; with more, they are no hint."""


@replayed
def find_owners(
    wanted: Mapping[int, int],
    *,
    seconds: float = 1.0,
    groups: Collection[int] = (),
    still: Still | None = None,
    likely: Collection[int] = (),
) -> Mapping[int, Owner]:
    """Find the processes that hold sockets, one of each.

    Processes of the sockets' control groups come first, then those of their uids, and of those the ones
    with most descriptors (see `descriptor_search`). The search ends when every socket has a holder; of a
    socket that a process shares with its parent under the same number, the parent is named. A process is
    named only if its number did not pass to another meanwhile.

    Args:
        wanted: For each inode the uid of its socket, which is only a hint for the order.
        seconds: Budget of CPU time; what is not found by then is `Missing`. A busy host takes longer to
            give it, which is no reason to know less of it, but at most five times as long.
        groups: Ids of the control groups that made them, where they are known; a hint too.
        still: Asks the kernel which inodes are still those of sockets; what has gone is not looked for.
        likely: Processes that come before all others, with those of the control groups.

    Returns:
        An owner for every inode of `wanted`; `ENDED` for one that had gone. `NotHeld` only after every
        descriptor of every process of the machine, those included that appeared meanwhile, was read twice.
    """
    found = FoundOwners(
        wanted,
        frozenset(wanted.values()),
        seconds,
        groups=groups,
        still=still,
        likely=likely,
    )
    return {inode: found.owner_of(inode) for inode in wanted}


class EveryHolder(NamedTuple):
    """Who holds some sockets, as far as it could be read."""

    owners: Mapping[int, Owner]
    unread: str = ""
    """Why the search was cut short, so that there may be more holders; empty where it was not."""


@replayed
def find_every_holder(wanted: Mapping[int, int], *, seconds: float = 1.0) -> EveryHolder:
    """Read all processes and find every holder of some sockets, each with its lowest descriptor.

    Arguments and owners are those of `find_owners`.
    """
    found = FoundOwners(wanted, frozenset(wanted.values()), seconds, every_holder=True)
    return EveryHolder({inode: found.owner_of(inode) for inode in wanted}, found.cut_short)


_new = tuple.__new__  # takes a third of the time that the constructor of a record does


class FoundOwners:
    """What a search has found of some sockets, in 200 bytes for each; see `find_owners`."""

    def __init__(
        self,
        inodes: Iterable[int],
        uids: frozenset[int],
        seconds: float,
        *,
        every_holder: bool = False,
        groups: Collection[int] = (),
        still: Still | None = None,
        likely: Collection[int] = (),
    ) -> None:
        search = DescriptorSearch(
            (inode for inode in inodes if inode), seconds, every_holder=every_holder, still=still
        )
        if search.links:
            search.run(uids, _members(groups).union(likely) if groups else likely)
        self._search = search
        self._unfound = _why_incomplete(search) or NotHeld()
        cut = self._unfound if search.out_of_time else None
        self.cut_short = cut.reason if isinstance(cut, Missing) else ""
        """Why not everything was read, where time or patience ended; else empty."""
        self._complete = every_holder and self._unfound == NotHeld()
        self._naming = _Naming(search, climb=not every_holder)

    def owner_of(self, inode: int) -> Owner:
        """Return the owner of a socket that was looked for."""
        pid, descriptor = self._search.only_holder_of(inode)
        known = self._naming.beneath.get(pid)
        if known is not None and descriptor not in known[2]:
            return _new(Held, ((_new(Holder, (pid, known[0], descriptor, known[1])),), False))
        found = self._search.holders_of(inode)
        if found and (holders := self._naming.holders(inode, found)):
            return Held(holders, complete=self._complete)
        return ENDED if found or inode in self._search.gone else self._unfound


def _members(ids: Collection[int]) -> frozenset[int]:
    """The processes of these control groups; none where that is no hint."""
    from tcpdoctor.kernel.cgroups import find_cgroup2, find_cgroup_paths

    mount = find_cgroup2() if len(ids) <= _MOST_GROUPS else None
    if mount is None:
        return frozenset()
    return pids_of_groups(find_cgroup_paths(ids, mount).values(), mount)


def _why_incomplete(search: DescriptorSearch) -> Missing | None:
    """Say why a socket that was not found may have a holder all the same; None if it has none."""
    if not search.unfinished():
        return None
    if search.is_interrupted:
        return Missing(
            f"the search for owners was interrupted after {search.done} of {search.total} processes"
        )
    if search.out_of_time:
        return Missing(
            f"the time budget of {search.seconds:g} s for finding owners ran out after {search.done} "
            f"of {search.total} processes"
        )
    if search.outrun:
        return Missing("processes appear faster than their descriptors can be read; try once more")
    if search.hidden or is_proc_hiding():
        return Missing(hides_from_us(frozenset(search.hidden)))
    return None if sees_all_processes_of_machine() else Missing(OUTSIDE)


def holds_any(table: str, places: Iterable[tuple[int, int]]) -> bool:
    """Whether a process has one of these (descriptor, inode) still: then it is the one that had them before.

    Numbers of processes pass on; the chance that another one has the same socket under the same
    descriptor is that of a child of the first, which holds it as well.
    """
    for descriptor, inode in places:
        try:
            if os.readlink(f"{table}/{descriptor}") == f"socket:[{inode}]":
                return True
        except OSError:
            continue  # it was closed meanwhile
    return False


class _Naming:
    """Turns pids and descriptors into holders, each process looked at once."""

    def __init__(self, search: DescriptorSearch, *, climb: bool) -> None:
        self._climb = climb
        self._search = search
        self._seen: dict[int, tuple[str, int, int] | None] = {}
        self._open: dict[int, frozenset[int] | None] = {}
        self.beneath: dict[int, tuple[str, int, Collection[int]]] = {}
        """Of processes that can have inherited few descriptors only: name, effective uid, and those."""
        for pid in search.holders() if climb else ():
            seen = self._look(pid)
            inherited = None if seen is None else self._table_of(seen[2])
            if seen is not None and inherited is not None:
                self.beneath[pid] = seen[0], seen[1], inherited

    def holders(self, inode: int, descriptors: Mapping[int, int]) -> tuple[Holder, ...]:
        """Return the holders without processes that ended meanwhile, by pid, but the topmost first.

        That is the one that began the others: a pre-fork server's master, whose pid need not be lowest.
        """
        if len(descriptors) == 1 and not self._climb:  # nearly all, of thousands
            ((pid, descriptor),) = descriptors.items()
            seen = self._look(pid)
            return () if seen is None else (Holder(pid, seen[0], descriptor, seen[1]),)
        found = []
        for pid, descriptor in sorted(descriptors.items()):
            holder = self._topmost(pid, descriptor, inode) if self._climb else pid
            seen = self._look(holder)
            if seen is not None:
                found.append(Holder(holder, seen[0], descriptor, seen[1]))
        if len(found) > 1:
            pids = frozenset(holder.pid for holder in found)
            found.sort(key=lambda holder: self._descends_from(holder.pid, pids))
        return tuple(found)

    def _descends_from(self, pid: int, pids: frozenset[int]) -> bool:
        """Whether one of those processes is an ancestor of this one."""
        for _ in range(_GENERATIONS):
            seen = self._look(pid)
            if seen is None:
                return False
            pid = seen[2]
            if pid in pids:
                return True
        return False

    def _topmost(self, pid: int, descriptor: int, inode: int) -> int:
        """Return the ancestor that a socket was inherited from, so that every run names the same process."""
        while (seen := self._look(pid)) and self._may_have(parent := seen[2], descriptor):
            try:
                link = os.readlink(f"/proc/{parent}/fd/{descriptor}")
            except OSError:
                break  # closed since it was listed, or the parent does not let us look
            if link != f"socket:[{inode}]":
                break
            pid = parent
        return pid

    def _may_have(self, pid: int, descriptor: int) -> bool:
        known = self._table_of(pid)
        return known is None or descriptor in known

    def _table_of(self, pid: int) -> frozenset[int] | None:
        """The descriptors that a process has open; None for a large table, which is not listed to know it."""
        if pid not in self._open:
            folder = f"/proc/{pid}/fd"
            try:
                large = os.stat(folder).st_size > _MANY
                self._open[pid] = None if large else frozenset(map(int, os.listdir(folder)))
            except OSError:
                self._open[pid] = frozenset()  # it does not let us look
        return self._open[pid]

    def _look(self, pid: int) -> tuple[str, int, int] | None:
        """Return (name, effective uid, parent) of a process; None if it is gone."""
        if pid not in self._seen:
            try:
                status = read_status(pid)
                self._seen[pid] = read_name(pid), status["Uid"], status["PPid"]
            except OSError:
                self._seen[pid] = None
            else:
                # The number may belong to another process by the time its name is read.
                tables = (f"/proc/{pid}/fd", *self._search.threads.get(pid, ()))
                if pid in self._search.holders() and not any(
                    holds_any(table, self._search.places_of(pid)) for table in tables
                ):
                    self._seen[pid] = None
        return self._seen[pid]
