"""Which processes of this network namespace come near their limit of descriptors."""

import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping

from tcpdoctor.kernel.processes import (
    how_to_see,
    read_descriptor_limit,
    read_process,
    size_counts_descriptors,
    whether_all_are_seen,
)
from tcpdoctor.kernel.reading import INTERRUPTED, UNDERWAY, Missing, Reading, is_absent
from tcpdoctor.kernel.snapshot import Process
from tcpdoctor.named_tuples import NamedTuple

_FEWEST = 32
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

    def within(self, namespace: os.stat_result) -> DescriptorUse:
        """Return what concerns one network namespace, given by its file; the processes are read by now."""
        found: dict[int, Process] = {}
        complete, rest = self.complete, self.rest
        for pid, share in self.near.items():
            try:
                if is_elsewhere(pid, namespace):
                    rest = _larger(rest, share)
                    continue
            except OSError as error:
                if not is_absent(error):
                    complete = Missing(f"some processes hide how many descriptors they have; {how_to_see()}")
                continue  # it ended
            process = read_process(pid)
            if not isinstance(process, Missing):
                found[pid] = _with_sockets(process)
        return DescriptorUse(found, complete, complete if isinstance(complete, Missing) else rest)


def find_heavy_users(seconds: float) -> DescriptorUse:
    """Find the processes of the calling thread's network namespace that use half of their descriptors.

    Only of those that are found the descriptors are read, to know how many are sockets.

    Args:
        seconds: Budget of CPU time.

    Returns:
        The processes; of another user's one without privilege `sockets` is Missing. `complete` is Missing
        where time ran out, or where processes are hidden from us or outside our PID namespace.
        `passed_over` is Missing there too, and where the limits of small processes are not to be had for
        a microsecond each (prlimit(2) of another user's takes CAP_SYS_RESOURCE).

    Raises:
        KernelReadError: A file has another form than expected.
    """
    return survey_descriptors(seconds).within(os.stat("/proc/thread-self/ns/net"))


def survey_descriptors(seconds: float) -> DescriptorSurvey:
    """Look through all processes once for those that use half of their descriptors.

    Since Linux 6.2 the size of /proc/PID/fd tells the number, at a few microseconds a process and without
    privilege; before, they are listed.

    Args:
        seconds: Budget of CPU time.

    Raises:
        KernelReadError: A file has another form than expected.
    """
    soft_limit = _soft_limit_of()
    counted = size_counts_descriptors()
    deadline = time.thread_time() + seconds
    near: dict[int, float] = {}
    complete = whether_all_are_seen()
    most: Reading[float] = 0.0
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
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
            used = _count_used(pid, counted=counted)
            share = _share_of_limit(pid, used, soft_limit) if used else 0.0
        except OSError as error:
            if not is_absent(error):
                complete = Missing(f"some processes hide how many descriptors they have; {how_to_see()}")
            continue  # it ended
        if used < _FEWEST or isinstance(share, Missing) or share < _NEAR:
            most = _larger(most, share)
        else:
            near[pid] = share
    return DescriptorSurvey(near, most, complete)


def _count_used(pid: int, *, counted: bool) -> int:
    folder = f"/proc/{pid}/fd"
    return os.stat(folder).st_size if counted else len(os.listdir(folder))


def _share_of_limit(pid: int, used: int, soft_limit: Callable[[int], int | None]) -> Reading[float]:
    """How much of its soft limit a process uses; the file of limits is read of large ones only."""
    limit: Reading[int] | None = soft_limit(pid)
    if limit is None:
        if used < _FEWEST:
            return Missing(
                "the limits of processes with few descriptors were not read: that takes CAP_SYS_RESOURCE"
            )
        limit = read_descriptor_limit(pid, f"/proc/{pid}")
    if isinstance(limit, Missing):
        return limit
    return used / limit if limit else 1.0


def _larger(one: Reading[float], other: Reading[float]) -> Reading[float]:
    if isinstance(one, Missing) or isinstance(other, Missing):
        return one if isinstance(one, Missing) else other
    return max(one, other)


def _soft_limit_of() -> Callable[[int], int | None]:
    """A function that asks prlimit(2) for a process's soft RLIMIT_NOFILE; it answers None where it may not.

    It is never asked where /proc is of another PID namespace, whose numbers system calls do not take.
    """
    if os.readlink("/proc/self") != str(os.getpid()):
        return lambda pid: None  # noqa: ARG005 - the signature of the other

    def ask(pid: int) -> int | None:
        try:
            soft, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        except PermissionError:
            return None
        return sys.maxsize if soft == resource.RLIM_INFINITY else soft

    return ask


def is_elsewhere(pid: int, own: os.stat_result) -> bool:
    """Whether a process is known to be in another network namespace; a hidden one is taken to be here."""
    try:
        theirs = os.stat(f"/proc/{pid}/ns/net")
    except PermissionError:
        return False
    return (theirs.st_dev, theirs.st_ino) != (own.st_dev, own.st_ino)


def with_sockets_near_its_limit(process: Process) -> Process:
    """The same with its sockets counted where it uses half of its limit, however small that is."""
    used, limit = process.descriptors, process.descriptor_limit
    if not isinstance(process.sockets, Missing) or isinstance(used, Missing) or isinstance(limit, Missing):
        return process
    return _with_sockets(process) if used >= _NEAR * limit else process


def _with_sockets(process: Process) -> Process:
    """Count its sockets; of very many descriptors every so many-th is looked at, and the number is scaled.

    Descriptors are given out from the lowest free number, so near the limit there are few gaps, and sockets
    and files are mixed as they came: some hundreds spread evenly over all tell their shares.
    """
    total = process.descriptors
    if isinstance(total, Missing):
        return process._replace(sockets=total)
    every = total < 2 * _MOST_LINKS
    try:
        kinds = _kinds(f"/proc/{process.pid}/fd", None if every else range(0, total, total // _MOST_LINKS))
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
