"""Which processes of this network namespace come near their limit of descriptors."""

import os
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tcpdoctor.kernel.capabilities import sees_all_processes_of_machine
from tcpdoctor.kernel.descriptors import size_counts_descriptors
from tcpdoctor.kernel.owners import OUTSIDE, is_proc_hiding
from tcpdoctor.kernel.processes import RUN_AS_ROOT, read_descriptor_limit, read_process
from tcpdoctor.kernel.procfile import is_absent
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Process

HIDING = f"some processes hide how many descriptors they have; {RUN_AS_ROOT}"
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


def find_heavy_users(seconds: float, root: str = "/proc") -> DescriptorUse:
    """Find the processes of the calling thread's network namespace that use half of their descriptors.

    Since Linux 6.2 the size of /proc/PID/fd tells the number, at a few microseconds a process and without
    privilege; before, they are listed. Only of those that are found the descriptors are read, to know how
    many are sockets.

    Args:
        seconds: Budget of CPU time.
        root: Where /proc is.

    Returns:
        The processes; of another user's one without privilege `sockets` is Missing. `complete` is Missing
        where time ran out, or where processes are hidden from us or outside our PID namespace.

    Raises:
        KernelReadError: A file has another form than expected.
    """
    counted = size_counts_descriptors()
    own = os.stat(f"{root}/thread-self/ns/net")
    deadline = time.thread_time() + seconds
    found: dict[int, Process] = {}
    complete = _whether_all_are_seen()
    pids = [int(entry) for entry in os.listdir(root) if entry.isdigit()]
    for number, pid in enumerate(pids):
        if number % _PROCESSES_BETWEEN_CLOCKS == 0 and time.thread_time() > deadline:
            complete = Missing(
                f"the time budget of {seconds:g} s ran out after {number} of {len(pids)} processes"
            )
            break
        try:
            if not _is_near(pid, root, counted=counted) or _is_elsewhere(pid, own, root):
                continue
        except OSError as error:
            if not is_absent(error):
                complete = Missing(HIDING)
            continue  # it ended
        process = read_process(pid, root)
        if not isinstance(process, Missing):
            found[pid] = _with_sockets(process, root)
    return DescriptorUse(found, complete)


def _whether_all_are_seen() -> Reading[bool]:
    """A process that /proc does not show may be in this network namespace all the same, as in a pod."""
    if not sees_all_processes_of_machine():
        return Missing(OUTSIDE)
    return Missing(HIDING) if is_proc_hiding() else True


def _is_near(pid: int, root: str, *, counted: bool) -> bool:
    folder = f"{root}/{pid}/fd"
    used = os.stat(folder).st_size if counted else len(os.listdir(folder))
    if used < _FEWEST:
        return False
    limit = read_descriptor_limit(pid, f"{root}/{pid}")
    return not isinstance(limit, Missing) and used >= _NEAR * limit


def _is_elsewhere(pid: int, own: os.stat_result, root: str) -> bool:
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
        why = f"process {process.pid} hides its descriptors; {RUN_AS_ROOT}"
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
