"""Processes that do not outlive the one that started them: prctl(2), PR_SET_PDEATHSIG and subreapers."""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LONGEST_END = 5.0
"""Seconds after which a process that got SIGKILL must have ended: only a fault of the kernel delays it."""


def die_with(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Let the kernel send us a signal when the thread of `parent` that forked us ends, however it ends.

    Call it again after entering a user namespace: a change of credentials cancels it.
    """
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it has ended already, and nobody will tell
        os.kill(os.getpid(), number)


def adopt_orphans() -> None:
    """Become the parent of every process below us whose own parent ends, instead of process 1."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def forks_die_with_us() -> None:
    """Let every process that is forked from here on, at any depth, end when its parent does."""
    parents: list[int] = []
    os.register_at_fork(
        before=lambda: parents.append(os.getpid()),
        after_in_parent=lambda: parents.clear(),
        after_in_child=lambda: die_with(parents.pop()),
    )


def kill_descendants() -> None:
    """Kill all processes below us, and wait until they are gone; needs `adopt_orphans`.

    What a killed process leaves behind becomes our child, so the second look finds it.
    """
    deadline = time.monotonic() + _LONGEST_END
    while (children := _children(os.getpid())) and time.monotonic() < deadline:
        for pid in children:
            os.kill(pid, signal.SIGKILL)  # it is our child and not waited for, so the number is still its own
        for pid in children:
            os.waitpid(pid, 0)


def _children(parent: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[1]) == parent:
            found.append(int(name))
    return found


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        problem = ctypes.get_errno()
        raise OSError(problem, os.strerror(problem))


@contextmanager
def another_program(work: Callable[[Connection], object], name: str = "lab-peer") -> Iterator[Connection]:
    """A forked process that does `work`; yields the line to talk to it. It is killed when the block ends.

    Fork it before you open sockets: it inherits what is open. `name` is what findings and `ss -p` call it.
    """
    ours, theirs = Pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            die_with(parent)
            ours.close()
            with open("/proc/self/comm", "w", encoding="ascii") as comm:
                comm.write(name)
            work(theirs)
        finally:
            os._exit(0)
    theirs.close()
    try:
        yield ours
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        ours.close()
