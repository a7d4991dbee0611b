"""How a process may have come by a descriptor: made it, or inherited it from one that is gone.

The kernel keeps no record of who made a socket. What it shows are the traces that inheritance leaves.
"""

import os
from typing import NamedTuple

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.procfile import is_absent, read_kernel_file, why_unreadable
from tcpdoctor.kernel.reading import Missing, Reading

_THREADS = 64
"""Threads whose wait is looked at; a server waits in one of the first."""


class Lineage(NamedTuple):
    """Where a process stands among others, and what it holds a socket's descriptor for."""

    parent: int
    session: int
    """Session id: the pid of the process that began it."""
    group: int
    """Process group id."""
    parent_session: Reading[int]
    close_on_exec: bool
    """Whether the descriptor would be closed by exec: then no program before made it."""
    waits: Reading[tuple[str, ...]]
    """Kernel functions in which its threads sleep (/proc/PID/wchan), without duplicates."""


def read_lineage(pid: int, fd: int) -> Reading[Lineage]:
    """Read the traces; `Missing` where the process or descriptor is gone, or hidden from us.

    Raises:
        KernelReadError: A file has another form than expected.
        OSError: Reading failed in a way we do not know.
    """
    try:
        parent, group, session = _read_family(pid)
        flags = _descriptor_flags(pid, fd)
        return Lineage(
            parent=parent,
            session=session,
            group=group,
            parent_session=_session_of(parent),
            close_on_exec=bool(flags & os.O_CLOEXEC),
            waits=_read_waits(pid),
        )
    except (FileNotFoundError, ProcessLookupError, PermissionError) as error:
        return Missing(why_unreadable(error))


def _read_family(pid: int) -> tuple[int, int, int]:
    path = f"/proc/{pid}/stat"
    fields = read_kernel_file(path).rpartition(b")")[2].split()
    try:
        return int(fields[1]), int(fields[2]), int(fields[3])
    except (ValueError, IndexError):
        raise KernelReadError(f"{path}: expected whole numbers in fields 4 to 6") from None


def _session_of(pid: int) -> Reading[int]:
    if pid == 0:
        return Missing("it has no parent here")
    try:
        return _read_family(pid)[2]
    except OSError as error:
        return Missing(why_unreadable(error))


def _descriptor_flags(pid: int, fd: int) -> int:
    path = f"/proc/{pid}/fdinfo/{fd}"
    for line in read_kernel_file(path).splitlines():
        if line.startswith(b"flags:"):
            return int(line.split()[1], 8)
    raise KernelReadError(f"{path}: expected a line flags")


def _read_waits(pid: int) -> Reading[tuple[str, ...]]:
    """Names are "0" where a thread runs, or where the kernel hides them from us."""
    try:
        threads = sorted(os.listdir(f"/proc/{pid}/task"), key=int)[:_THREADS]
        names = []
        for thread in threads:
            try:
                names.append(read_kernel_file(f"/proc/{pid}/task/{thread}/wchan").decode("ascii", "replace"))
            except OSError as error:
                if not is_absent(error):
                    raise
        return tuple(dict.fromkeys(names))
    except OSError as error:
        return Missing(why_unreadable(error))
