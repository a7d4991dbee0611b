"""Search the descriptors of all processes for some sockets, and read as few links as possible.

A link costs some microseconds wherever it is read, and a host may have millions. So the order is
everything:

1. Processes in the control groups that made the sockets come before all others.
2. The lowest descriptors of each process, and on while they hit: listeners are opened first, and a leak
   that fills a process fills it from there.
3. Every 61st descriptor of the large ones. What it holds tells how old the sockets of that stretch are,
   for inodes are given out in order: then the stretches beside a find, and those as old as what is wanted.
4. The rest, first of the processes that held most, then small tables before large ones.

Before tables are read whole, the kernel is asked again for what is left: a socket that has gone is not
looked for in a million descriptors.

Where every holder is wanted every link is read, and the order matters where the time ends before: something
of each large table, so that what it holds of it shows, then all small tables, then the large ones that showed
something. A descriptor may be handed on meanwhile to a process that was read already, so once each socket has
a holder the tables whose number of descriptors has changed are listed again, and what was not there before is
read. (A process that closes as many as it is given within that half second is overlooked.) That nobody holds
a socket is said only after everything was read twice.
"""

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, count, islice, pairwise

from tcpdoctor.kernel.processes import size_counts_descriptors, tables_of_threads
from tcpdoctor.kernel.reading import UNDERWAY, is_absent, read_kernel_file

Still = Callable[[Collection[int]], Collection[int]]
"""Asks the kernel which of these sockets, given by inode, are there still."""

_LOWEST = 32
"""How many descriptors of each process are read at a time, before all of any, on while they hit."""
_GOES_ON = 4
"""Hits among so many that make a leak of it; a listener is one."""
_MANY = 256
"""Descriptors from which on the lowest are asked for by number: to list the first, the kernel makes ready
a thousand."""
_STRIDE = 61
"""Of a large table every so many-th descriptor is probed; odd, because a program opens sockets in pairs."""
_NEAR_IN_TIME = 64
"""So many inodes for each descriptor between two probes are given out at most in a stretch of one age."""
_LINKS_BETWEEN_CLOCKS = 512
"""Links read, about a millisecond, before the time budget is looked at."""
_SECONDS_BETWEEN_LOOKS = 0.02
_PATIENCE = 5
"""How many times its budget of CPU time a search may take by the clock."""
_MOST_ROUNDS = 10
"""How often processes that appeared during a search are read after it, each round a few milliseconds."""


_DESCRIPTOR_BITS = 32
_DESCRIPTOR_MASK = (1 << _DESCRIPTOR_BITS) - 1


class _OutOfTimeError(Exception):
    """The time budget of a search ran out, or somebody's patience."""


class DescriptorSearch:
    """One search through /proc, and what it has seen so far."""

    def __init__(
        self, inodes: Iterable[int], seconds: float, *, every_holder: bool = False, still: Still | None = None
    ) -> None:
        self.links = {f"socket:[{inode}]": inode for inode in inodes}
        """Link text of what is still looked for."""
        self.gone: set[int] = set()
        """What was wanted and is no longer there."""
        self._first: dict[int, int] = {}  # by inode one holder, packed: a dictionary for each would be large
        self._latest: dict[int, int] = {}  # by pid what was found there last
        self._all: dict[int, dict[int, int]] = {}  # by inode all holders, where they are wanted
        self.threads: dict[int, list[str]] = {}
        """By pid the tables of single threads where something was found."""
        self.hidden: set[int] = set()
        """Pids whose descriptors we may not read."""
        self.seconds = seconds
        self._numbers: dict[str, bytearray] = {}  # by table which descriptors were read, where all are
        self._only_new = False
        self._counted = size_counts_descriptors()
        self.done = self.total = 0
        """Processes read, and to be read."""
        self.out_of_time = self.outrun = self.is_interrupted = False
        self._every_holder = every_holder
        self._still = still
        self._next_look = 0.0
        self._cpu_deadline = time.thread_time() + seconds
        self._deadline = time.monotonic() + seconds * _PATIENCE

    def run(self, uids: frozenset[int], likely: Collection[int] = ()) -> None:
        """Search until all are found, everything was read twice, or the time is over.

        Args:
            uids: Those of the sockets: processes of these come first.
            likely: Pids that come before all others.
        """
        UNDERWAY.begin("owners found", len(self.links))
        try:
            known = set(pids := _pids())
            ordered = _ordered(pids, uids, skip_empty=True)
            self.total = len(ordered)
            first = frozenset(likely)
            self._search([pid for pid in ordered if pid in first])
            self._search([pid for pid in ordered if pid not in first])
            # A process that had nothing when it was read may have been given a descriptor since by one
            # that was read after it, so one pass proves nothing about what it did not find.
            self._forget_gone()
            self._only_new = self._every_holder and not self._without_holder()
            fresh = _pids() if self.unfinished() else []
            for _ in range(_MOST_ROUNDS + 1):
                if not fresh:
                    return
                known.update(fresh)
                ordered = _ordered(fresh, uids, skip_empty=False)
                self.done, self.total = 0, len(ordered)
                self._scan_processes(ordered, threads=True)
                fresh = [pid for pid in _pids() if pid not in known] if self.unfinished() else []
            self.outrun = True
        except _OutOfTimeError:
            self.out_of_time = True

    def found(self) -> Iterable[int]:
        """Give the inodes that have a holder."""
        return self._all or self._first

    def only_holder_of(self, inode: int) -> tuple[int, int]:
        """Give pid and descriptor of the one holder that was found; pid 0 without one or with all of them."""
        packed = self._first.get(inode, 0)
        return packed >> _DESCRIPTOR_BITS, packed & _DESCRIPTOR_MASK

    def holders(self) -> Collection[int]:
        """Give the processes that were found to hold something."""
        return self._latest.keys()

    def places_of(self, pid: int) -> Iterator[tuple[int, int]]:
        """Give (descriptor, inode) of what a process was found to hold, the last first."""
        latest = self._latest[pid]
        yield self.holders_of(latest)[pid], latest
        for inode in self.found():
            descriptor = self.holders_of(inode).get(pid)
            if descriptor is not None:
                yield descriptor, inode

    def holders_of(self, inode: int) -> Mapping[int, int]:
        """Give the lowest descriptor by pid of those that hold it; one of them, unless all are wanted."""
        packed = self._first.get(inode)
        if packed is None:
            return self._all.get(inode, {})
        return {packed >> _DESCRIPTOR_BITS: packed & _DESCRIPTOR_MASK}

    def unfinished(self) -> bool:
        """Whether there is something left to look for."""
        return self._every_holder or bool(self.links)

    def _without_holder(self) -> Collection[int]:
        """What nobody was seen to hold, and is still there."""
        left = [inode for inode in self.links.values() if inode not in self._all]
        return left if self._still is None or not left else self._still(left)

    def _search(self, pids: list[int]) -> None:
        if self._every_holder:
            self._scan_processes(self._sample(pids))
        else:
            self._scan_processes(self._probe(self._scan_lowest(pids)))

    def _sample(self, pids: list[int]) -> list[int]:
        """Read something of each large table; return all in the order in which to read them whole."""
        hits: dict[int, int] = {}
        for pid in pids:
            self._check_time()
            with self._table(pid) as folder:
                size = 0 if folder is None else os.fstat(folder).st_size
                if folder is not None and size > _MANY:
                    some = chain(range(_LOWEST), range(_LOWEST, size, _STRIDE))
                    hits[pid] = self._read_names(pid, folder, map(str, some))
        smallest_first = pids[::-1]  # a time that is over in the largest has seen all others
        return sorted(smallest_first, key=lambda pid: (pid in hits, not hits.get(pid)))

    def _scan_lowest(self, pids: Iterable[int]) -> list[int]:
        """Read the lowest descriptors of each process, on while they hit; return those that have more."""
        larger = []
        for pid in pids:
            if not self.unfinished():
                break
            self._check_time()
            with self._table(pid) as folder:
                if folder is not None and not self._read_lowest(pid, folder):
                    larger.append(pid)
                    continue
            self.done += 1
        return larger

    def _read_lowest(self, pid: int, folder: int) -> bool:
        """False if there are more."""
        if os.fstat(folder).st_size > _MANY:
            for start in count(0, _LOWEST):
                numbers = range(start, start + _LOWEST)
                if not self.links or self._read_names(pid, folder, map(str, numbers)) < _GOES_ON:
                    return not self.links
        names = os.listdir(folder)
        for start in range(0, len(names), _LOWEST):
            if self._read_names(pid, folder, names[start : start + _LOWEST]) < _GOES_ON or not self.links:
                return not self.links or start + _LOWEST >= len(names)
        return True

    def _probe(self, pids: list[int]) -> list[int]:
        """Probe the large tables, read the stretches that look right; return whom to read whole, in order."""
        if not pids:
            return []
        self._forget_gone()
        hits: dict[int, int] = {}
        small: set[int] = set()
        stretches: list[tuple[int, range]] = []
        for pid in pids:
            if not self.unfinished():
                return []
            self._check_time()
            hits[pid] = 0
            seen: list[tuple[int, int]] = []
            with self._table(pid) as folder:
                size = 0 if folder is None else os.fstat(folder).st_size
                if size <= _MANY:
                    small.add(pid)
                elif folder is not None:
                    hits[pid] = self._read_names(pid, folder, map(str, range(_LOWEST, size, _STRIDE)), seen)
            stretches += ((pid, stretch) for stretch in self._promising(seen))
        for pid, stretch in sorted(stretches, key=lambda each: -hits[each[0]]):
            if not self.unfinished():
                return []
            self._check_time()
            with self._table(pid) as folder:
                if folder is not None:
                    self._read_names(pid, folder, map(str, stretch))
        self._forget_gone()
        # Two hundred small tables take less than one large one that showed nothing of what is wanted.
        return sorted(pids, key=lambda pid: (not hits[pid], pid not in small, -hits[pid]))

    def _promising(self, seen: list[tuple[int, int]]) -> Iterator[range]:
        """The stretches between probes, which saw these (descriptor, inode), that may hold what is wanted."""
        wanted = sorted(self.links.values())
        begins: set[int] = set()
        for descriptor, inode in seen:
            if inode in self._first:
                begins |= {descriptor - _STRIDE, descriptor}
        for (low, first), (high, last) in pairwise(seen):
            oldest, youngest = min(first, last), max(first, last)
            of_that_age = bisect_left(wanted, oldest) < bisect_left(wanted, youngest)
            if of_that_age and youngest - oldest < _NEAR_IN_TIME * (high - low):
                begins.update(range(low, high, _STRIDE))
        if seen and wanted and wanted[-1] > seen[-1][1]:
            begins |= {seen[-1][0], seen[-1][0] + _STRIDE}
        return (range(max(0, begin + 1), begin + _STRIDE) for begin in sorted(begins))

    def _forget_gone(self) -> None:
        """Look no longer for sockets that have gone meanwhile."""
        if self._still is None or self._every_holder or not self.links:
            return
        self._next_look = time.thread_time() + _SECONDS_BETWEEN_LOOKS
        present = frozenset(self._still(tuple(self.links.values())))
        self.gone.update(inode for inode in self.links.values() if inode not in present)
        self.links = {link: inode for link, inode in self.links.items() if inode in present}

    def _scan_processes(self, pids: Iterable[int], *, threads: bool = False) -> None:
        for pid in pids:
            if time.thread_time() > self._next_look:
                self._forget_gone()
            if not self.unfinished():
                return
            self._check_time()
            self._scan_table(pid)
            if threads:
                self._scan_threads(pid)
            self.done += 1

    def _scan_threads(self, pid: int) -> None:
        try:
            tables = tables_of_threads(pid)
        except OSError as error:
            self._note(pid, error)
            return
        for table in tables:
            before = len(self.links)
            self._scan_table(pid, table)
            if self._every_holder or len(self.links) < before:
                self.threads.setdefault(pid, []).append(table)

    def _scan_table(self, pid: int, path: str | None = None) -> None:
        with self._table(pid, path) as folder:
            if folder is None:
                return
            if self._every_holder:
                table = path or str(pid)
                if not self._only_new or self._has_changed(table, folder):
                    self._read_names(pid, folder, self._unread(table, os.listdir(folder)))
                return
            with os.scandir(folder) as entries:  # one at a time: a process may have a million
                self._read_names(pid, folder, (entry.name for entry in entries))

    def _has_changed(self, table: str, folder: int) -> bool:
        """Whether a table has another number of descriptors than when it was read, or that is not told."""
        return os.fstat(folder).st_size != self._numbers.get(table, b"").count(1) or not self._counted

    def _unread(self, table: str, names: list[str]) -> Iterable[str]:
        """Those descriptors of a table that are to be read, which is noted."""
        numbers = list(map(int, names))
        known = self._numbers.get(table, b"")
        read = self._numbers[table] = bytearray(max(numbers, default=-1) + 1)
        for number in numbers:
            read[number] = 1
        if not self._only_new or not known:
            return names
        end = len(known)
        return [
            name for name, number in zip(names, numbers, strict=True) if number >= end or not known[number]
        ]

    @contextmanager
    def _table(self, pid: int, path: str | None = None) -> Iterator[int | None]:
        """Open a table of descriptors; None where it hides or is gone, which is noted."""
        try:
            folder = os.open(path or f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            self._note(pid, error)
            yield None
            return
        try:
            yield folder
        except OSError as error:
            self._note(pid, error)
        finally:
            os.close(folder)

    def _note(self, pid: int, error: OSError) -> None:
        """Remember a process that hides something; one that ended holds nothing."""
        if not is_absent(error):
            self.hidden.add(pid)

    def _read_names(
        self, pid: int, folder: int, names: Iterable[str], seen: list[tuple[int, int]] | None = None
    ) -> int:
        """Read these links, return how many were wanted; `seen` gets each socket as (descriptor, inode)."""
        links, readlink, rest, hits = self.links, os.readlink, iter(names), 0
        packed, first, latest = pid << _DESCRIPTOR_BITS, self._first, self._latest
        while some := list(islice(rest, _LINKS_BETWEEN_CLOCKS)):
            before = len(links)
            for name in some:
                try:
                    link = readlink(name, dir_fd=folder)
                except FileNotFoundError:
                    continue  # closed since it was listed, or a gap
                if seen is not None and link.startswith("socket:["):
                    seen.append((int(name), int(link[8:-1])))
                if link in links:
                    latest[pid] = inode = links[link]
                    hits += 1
                    if self._every_holder:
                        holders = self._all.setdefault(inode, {})
                        UNDERWAY.done += not holders
                        holders[pid] = min(int(name), holders.get(pid, int(name)))
                        continue
                    del links[link]
                    first[inode] = packed | int(name)
                    if not links:
                        break
            UNDERWAY.done += before - len(links)
            if not links:
                break
            if len(some) == _LINKS_BETWEEN_CLOCKS:
                self._check_time()
        return hits

    def _check_time(self) -> None:
        if UNDERWAY.is_interrupted:
            self.is_interrupted = True
            raise _OutOfTimeError
        if time.thread_time() >= self._cpu_deadline or time.monotonic() >= self._deadline:
            raise _OutOfTimeError


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _ordered(pids: Iterable[int], uids: frozenset[int], *, skip_empty: bool) -> list[int]:
    """Return pids in the order in which to read them; those known to hold nothing may be left out.

    The largest come first: a leak is what makes a process large.
    """
    counted = size_counts_descriptors()
    keys = []
    for pid in pids:
        try:
            uid = os.stat(f"/proc/{pid}").st_uid
            size = os.stat(f"/proc/{pid}/fd").st_size
        except OSError:
            continue  # it ended; what it held is with somebody else, or gone
        if size or not (counted and skip_empty):
            keys.append((uid not in uids, -size, pid))
    return [pid for _, _, pid in sorted(keys)]


def pids_of_groups(paths: Iterable[str], mount: str) -> frozenset[int]:
    """Return the processes of these control groups, by their paths below `mount`."""
    found: set[int] = set()
    for path in paths:
        try:
            found.update(map(int, read_kernel_file(f"{mount}{path}/cgroup.procs").split()))
        except (OSError, ValueError):
            continue  # it is gone, or threaded: its processes come with all the others
    return frozenset(found)
