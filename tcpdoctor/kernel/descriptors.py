"""Tables of descriptors: what their size tells, and which threads have one of their own."""

import functools
import os
from collections.abc import Callable

_KCMP_FILES = 2
_KCMP = {"x86_64": 312, "aarch64": 272, "riscv64": 272, "ppc64le": 354, "s390x": 343}
"""The number of kcmp(2) by machine, for 64-bit programs."""


def size_counts_descriptors() -> bool:
    """Whether the size of /proc/PID/fd is the number of descriptors, to be had without privilege.

    It is since Linux 6.2 (commit f1f1f2569901); before, it is 0 for every process, ours included,
    and we hold one at least: the one we ask with.
    """
    descriptor = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return os.fstat(descriptor).st_size > 0
    finally:
        os.close(descriptor)


def tables_of_threads(pid: int) -> list[str]:
    """Return the descriptor folders of a process's threads that do not share its first thread's table.

    A thread gets its own table with unshare(CLONE_FILES), and outlives in the process the first thread,
    whose table is then gone. Nearly all threads share one, which kcmp(2) tells in a microsecond; where
    the kernel lacks it, or does not let us ask, every thread's folder is returned.

    Raises:
        OSError: The process is gone, or hides its threads.
    """
    folder = f"/proc/{pid}/task"
    if os.stat(folder).st_nlink == 3:  # itself, its parent folder and one thread
        return []
    threads = [int(thread) for thread in os.listdir(folder) if thread != str(pid)]
    return [f"{folder}/{thread}/fd" for thread in threads if not _shares_table(pid, thread)]


def _shares_table(pid: int, thread: int) -> bool:
    kcmp = _load_kcmp()
    return kcmp is not None and kcmp(pid, thread) == 0


@functools.cache
def _load_kcmp() -> Callable[[int, int], int] | None:
    """Return a function that is 0 where two tasks share their table; None where we cannot ask."""
    number = _KCMP.get(os.uname().machine)
    if number is None or os.readlink("/proc/self") != str(os.getpid()):
        return None  # or /proc is of another PID namespace, whose numbers system calls do not take
    import ctypes  # 6 ms, and needed only where a socket was not found

    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    syscall = ctypes.CDLL(None).syscall
    syscall.restype = ctypes.c_long
    syscall.argtypes = [ctypes.c_long] * 6
    return lambda one, other: int(syscall(number, one, other, _KCMP_FILES, 0, 0))
