"""Which processes hold a socket: from its inode to the descriptors that refer to it.

The kernel has no way back from a socket to its processes, so every process's descriptors are read until
the wanted ones are found. Three answers are possible: held by these, held by nobody (certain only after
a complete scan), or `Missing` with the reason why the scan could not be complete.
"""

import os
import re
import resource
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TypeVar

from tcpdoctor.kernel.descriptor_search import DescriptorSearch, Still, pids_of_groups
from tcpdoctor.kernel.entered import replayed
from tcpdoctor.kernel.namespaces import (
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    CAP_SYS_PTRACE,
    effective_capabilities,
    in_first_user_namespace,
    sees_all_processes_of_machine,
)
from tcpdoctor.kernel.processes import (
    how_to_see,
    read_descriptor_limit,
    read_name,
    read_process,
    read_status,
    size_counts_descriptors,
)
from tcpdoctor.kernel.procfile import is_absent, read_kernel_file
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Held, Holder, Listener, NotHeld, Owner, Process, UdpSocket
from tcpdoctor.kernel.underway import INTERRUPTED, UNDERWAY
from tcpdoctor.named_tuples import NamedTuple

Row = TypeVar("Row", Connection, Listener, UdpSocket)

ENDED = Missing("the process that held it ended while it was looked up")
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
    every_holder: bool = False,
    groups: Collection[int] = (),
    still: Still | None = None,
    likely: Collection[int] = (),
) -> Mapping[int, Owner]:
    """Find the processes that hold sockets.

    Processes of the sockets' control groups come first, then those of their uids, and of those the ones
    with most descriptors (see `descriptor_search`). The search ends when every socket has a holder; of a
    socket that a process shares with its parent under the same number, the parent is named. A process is
    named only if its number did not pass to another meanwhile.

    Args:
        wanted: For each inode the uid of its socket, which is only a hint for the order.
        seconds: Budget of CPU time; what is not found by then is `Missing`. A busy host takes longer to
            give it, which is no reason to know less of it, but at most five times as long.
        every_holder: Read all processes and name every holder, each with its lowest descriptor.
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
        every_holder=every_holder,
        groups=groups,
        still=still,
        likely=likely,
    )
    return {inode: found.owner_of(inode) for inode in wanted}


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
        self._complete = every_holder and self._unfound == NotHeld()
        self._naming = _Naming(search, climb=not every_holder)

    def owner_of(self, inode: int) -> Owner:
        """Return the owner of a socket that was looked for."""
        place = self._search.only_holder_of(inode)
        if place is not None and (holder := self._naming.holder(*place)) is not None:
            return Held((holder,))
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


def with_owners(rows: Iterable[Row], owners: Mapping[int, Owner]) -> tuple[Row, ...]:
    """Return the sockets with their owners filled in; those whose inode is not in `owners` as they are."""
    return tuple(
        row._replace(owner=owners[row.inode]) if row.inode and row.inode in owners else row for row in rows
    )


def why_hidden() -> str | None:
    """Say why some processes' descriptors may be hidden from us; None where our privileges reach all.

    A security module may still hide one, which only a scan finds out.
    """
    if not sees_all_processes_of_machine():
        return OUTSIDE
    capabilities = effective_capabilities()
    reads_folders = capabilities & {CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE}
    if reads_folders and CAP_SYS_PTRACE in capabilities and in_first_user_namespace():
        return None
    return hides_from_us()


OUTSIDE = (
    "processes outside this PID namespace are not visible; run as root in the host's PID namespace, "
    "with CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE"
)


def hides_from_us(pids: frozenset[int] = frozenset()) -> str:
    """Say that these processes, or some, hide their descriptors, and what would lift that."""
    if is_proc_hiding():
        return _invisible()
    if os.geteuid() != 0:
        return f"other users' processes hide their descriptors from uid {os.geteuid()}; {how_to_see()}"
    whose = f"process {min(pids)} hides its" if len(pids) == 1 else "some processes hide their"
    return f"{whose} descriptors even from root here; {how_to_see()}"


def _invisible() -> str:
    return f"/proc is mounted with hidepid, so others' processes do not even appear; {how_to_see()}"


class _Naming:
    """Turns pids and descriptors into holders, each process looked at once."""

    def __init__(self, search: DescriptorSearch, *, climb: bool) -> None:
        self._climb = climb
        self._threads = search.threads
        self._holders_of = search.holders_of
        self._places: dict[int, list[int]] = {}  # by pid the inodes it was seen to hold
        for inode in search.found():
            for pid in search.holders_of(inode):
                self._places.setdefault(pid, []).append(inode)
        self._seen: dict[int, tuple[str, int, int] | None] = {}
        self._open: dict[int, frozenset[int] | None] = {}
        self._beneath: dict[int, tuple[str, int, frozenset[int]] | None] = {}

    def holder(self, pid: int, descriptor: int) -> Holder | None:
        """Return the holder where it cannot have inherited this descriptor; else `holders` tells."""
        if pid not in self._beneath:
            seen, table = self._look(pid), None
            if seen is not None:
                self._may_have(seen[2], descriptor)
                table = self._open[seen[2]]
            self._beneath[pid] = None if seen is None or table is None else (seen[0], seen[1], table)
        known = self._beneath[pid]
        if known is None or descriptor in known[2]:
            return None
        return Holder(pid, known[0], descriptor, known[1])

    def holders(self, inode: int, descriptors: Mapping[int, int]) -> tuple[Holder, ...]:
        """Return the holders without processes that ended meanwhile, by pid, but the topmost first.

        That is the one that began the others: a pre-fork server's master, whose pid need not be lowest.
        """
        found = []
        for pid, descriptor in sorted(descriptors.items()) if len(descriptors) > 1 else descriptors.items():
            holder = self._topmost(pid, descriptor, inode) if self._climb else pid
            seen = self._look(holder)
            if seen is not None:
                found.append(Holder(holder, seen[0], descriptor, seen[1]))
        if len(found) > 1:
            pids = frozenset(holder.pid for holder in found)
            found.sort(key=lambda holder: self._descends_from(holder.pid, pids))
        return tuple(found)

    def _places_of(self, pid: int, inodes: Iterable[int]) -> Iterator[tuple[int, int]]:
        return ((self._holders_of(inode)[pid], inode) for inode in inodes)

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
        """Whether a process may have this descriptor open; a large table is not listed to know it."""
        if pid not in self._open:
            folder = f"/proc/{pid}/fd"
            try:
                large = os.stat(folder).st_size > _MANY
                self._open[pid] = None if large else frozenset(map(int, os.listdir(folder)))
            except OSError:
                self._open[pid] = frozenset()  # it does not let us look
        known = self._open[pid]
        return known is None or descriptor in known

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
                inodes, tables = self._places.get(pid), (f"/proc/{pid}/fd", *self._threads.get(pid, ()))
                if inodes and not any(holds_any(table, self._places_of(pid, inodes)) for table in tables):
                    self._seen[pid] = None
        return self._seen[pid]


def is_proc_hiding() -> bool:
    """Whether /proc is mounted so that some processes do not even appear (hidepid=2 or 4, proc(5)).

    Under hidepid=1 they appear, and refuse what is asked of them.
    """
    if CAP_SYS_PTRACE in effective_capabilities() and in_first_user_namespace():
        return False
    mounts = read_kernel_file("/proc/thread-self/mountinfo").decode("utf-8", "replace")
    return any(
        line.split(" ")[4] == "/proc" and _HIDEPID.search(line.partition(" - ")[2])
        for line in mounts.splitlines()
    )


_HIDEPID = re.compile(r"\bhidepid=(?:2|4|invisible|ptraceable)\b")


# Which processes of this network namespace come near their limit of descriptors.


_FEWEST = 64
"""Descriptors below which a process is passed over: its limit is no matter of connections."""
_NEAR = 0.5
"""Share of its limit from which on a process is looked at; rules ask for more."""
_MOST_LINKS = 256
"""Descriptors of one process that are looked at, where it has at least twice as many."""
_MARGIN = 0.10
"""Three standard deviations of a share that is told from 256 (9.4 % for a half)."""
_PROCESSES_BETWEEN_CLOCKS = 256


class DescriptorUse(NamedTuple):
    """The processes that were found, by pid, and whether none was overlooked."""

    processes: Mapping[int, Process]
    complete: Reading[bool]
    passed_over: Reading[float]
    """The largest share of its limit that any other process uses."""


class DescriptorSurvey(NamedTuple):
    """How near all processes come to their limits of descriptors, whatever network namespace they are in."""

    near: Mapping[int, float]
    """By pid, the share of its limit that a process uses, of those that use half of it."""
    rest: Reading[float]
    """The largest share of any other process."""
    complete: Reading[bool]
    root: str

    def within(self, namespace: os.stat_result) -> DescriptorUse:
        """Return what concerns one network namespace, given by its file; the processes are read by now."""
        found: dict[int, Process] = {}
        complete, rest = self.complete, self.rest
        for pid, share in self.near.items():
            try:
                if is_elsewhere(pid, namespace, self.root):
                    rest = _larger(rest, share)
                    continue
            except OSError as error:
                if not is_absent(error):
                    complete = Missing(f"some processes hide how many descriptors they have; {how_to_see()}")
                continue  # it ended
            process = read_process(pid, self.root)
            if not isinstance(process, Missing):
                found[pid] = _with_sockets(process, self.root)
        return DescriptorUse(found, complete, complete if isinstance(complete, Missing) else rest)


def find_heavy_users(seconds: float, root: str = "/proc") -> DescriptorUse:
    """Find the processes of the calling thread's network namespace that use half of their descriptors.

    Only of those that are found the descriptors are read, to know how many are sockets.

    Args:
        seconds: Budget of CPU time.
        root: Where /proc is.

    Returns:
        The processes; of another user's one without privilege `sockets` is Missing. `complete` is Missing
        where time ran out, or where processes are hidden from us or outside our PID namespace.
        `passed_over` is Missing there too, and where the limits of small processes are not to be had for
        a microsecond each (prlimit(2) of another user's takes CAP_SYS_RESOURCE).

    Raises:
        KernelReadError: A file has another form than expected.
    """
    return survey_descriptors(seconds, root).within(os.stat(f"{root}/thread-self/ns/net"))


def survey_descriptors(seconds: float, root: str = "/proc") -> DescriptorSurvey:
    """Look through all processes once for those that use half of their descriptors.

    Since Linux 6.2 the size of /proc/PID/fd tells the number, at a few microseconds a process and without
    privilege; before, they are listed.

    Args:
        seconds: Budget of CPU time.
        root: Where /proc is.

    Raises:
        KernelReadError: A file has another form than expected.
    """
    soft_limit = _soft_limit_of(root)
    counted = size_counts_descriptors()
    deadline = time.thread_time() + seconds
    near: dict[int, float] = {}
    complete = whether_all_are_seen()
    most: Reading[float] = 0.0
    pids = [int(entry) for entry in os.listdir(root) if entry.isdigit()]
    for number, pid in enumerate(pids):
        if UNDERWAY.is_interrupted:
            complete = INTERRUPTED
            break
        if number % _PROCESSES_BETWEEN_CLOCKS == 0 and time.thread_time() > deadline:
            complete = Missing(
                f"the time budget of {seconds:g} s ran out after {number} of {len(pids)} processes"
            )
            break
        try:
            used = _count_used(pid, root, counted=counted)
            share = _share_of_limit(pid, used, root, soft_limit) if used else 0.0
        except OSError as error:
            if not is_absent(error):
                complete = Missing(f"some processes hide how many descriptors they have; {how_to_see()}")
            continue  # it ended
        if used < _FEWEST or isinstance(share, Missing) or share < _NEAR:
            most = _larger(most, share)
        else:
            near[pid] = share
    return DescriptorSurvey(near, most, complete, root)


def whether_all_are_seen() -> Reading[bool]:
    """A process that /proc does not show may be in this network namespace all the same, as in a pod."""
    if not sees_all_processes_of_machine():
        return Missing(OUTSIDE)
    return Missing(_invisible()) if is_proc_hiding() else True


def _count_used(pid: int, root: str, *, counted: bool) -> int:
    folder = f"{root}/{pid}/fd"
    return os.stat(folder).st_size if counted else len(os.listdir(folder))


def _share_of_limit(
    pid: int, used: int, root: str, soft_limit: Callable[[int], int | None]
) -> Reading[float]:
    """How much of its soft limit a process uses; the file of limits is read of large ones only."""
    limit: Reading[int] | None = soft_limit(pid)
    if limit is None:
        if used < _FEWEST:
            return Missing(
                "the limits of processes with few descriptors were not read: that takes CAP_SYS_RESOURCE"
            )
        limit = read_descriptor_limit(pid, f"{root}/{pid}")
    if isinstance(limit, Missing):
        return limit
    return used / limit if limit else 1.0


def _larger(one: Reading[float], other: Reading[float]) -> Reading[float]:
    if isinstance(one, Missing) or isinstance(other, Missing):
        return one if isinstance(one, Missing) else other
    return max(one, other)


def _soft_limit_of(root: str) -> Callable[[int], int | None]:
    """A function that asks prlimit(2) for a process's soft RLIMIT_NOFILE; it answers None where it may not.

    It is never asked where /proc is of another PID namespace, whose numbers system calls do not take.
    """
    if root != "/proc" or os.readlink("/proc/self") != str(os.getpid()):
        return lambda pid: None  # noqa: ARG005 - the signature of the other

    def ask(pid: int) -> int | None:
        try:
            soft, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        except PermissionError:
            return None
        return sys.maxsize if soft == resource.RLIM_INFINITY else soft

    return ask


def is_elsewhere(pid: int, own: os.stat_result, root: str) -> bool:
    """Whether a process is known to be in another network namespace; a hidden one is taken to be here."""
    try:
        theirs = os.stat(f"{root}/{pid}/ns/net")
    except PermissionError:
        return False
    return (theirs.st_dev, theirs.st_ino) != (own.st_dev, own.st_ino)


def _with_sockets(process: Process, root: str) -> Process:
    """Count its sockets; of very many descriptors every so many-th is looked at, and the number is scaled.

    Descriptors are given out from the lowest free number, so near the limit there are few gaps, and sockets
    and files are mixed as they came: some hundreds spread evenly over all tell their shares.
    """
    total = process.descriptors
    if isinstance(total, Missing):
        return process._replace(sockets=total)
    every = total < 2 * _MOST_LINKS
    try:
        kinds = _kinds(f"{root}/{process.pid}/fd", None if every else range(0, total, total // _MOST_LINKS))
    except OSError as error:
        why = f"process {process.pid} hides its descriptors; {how_to_see()}"
        return process._replace(sockets=Missing("the process ended") if is_absent(error) else Missing(why))
    sockets = kinds.count("socket")
    if not kinds:
        return process._replace(sockets=Missing("the process ended"))
    if every:
        return process._replace(sockets=sockets)
    return process._replace(
        sockets=round(sockets / len(kinds) * total), sockets_within=round(_MARGIN * total)
    )


def _kinds(path: str, numbers: Iterable[int] | None) -> list[str]:
    """Return what these descriptors refer to, or all: ``socket``, ``pipe``, a path; without gaps."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        names = os.listdir(folder) if numbers is None else map(str, numbers)
        return [kind for name in names if (kind := _kind(name, folder))]
    finally:
        os.close(folder)


def _kind(name: str, folder: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=folder).partition(":")[0]
    except FileNotFoundError:
        return None  # closed since it was listed, or a gap
