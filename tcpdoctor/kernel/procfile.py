"""Reading a file of procfs whole, and saying why it cannot be read."""

import errno
import os
import time

_ABSENT = frozenset({errno.ENOENT, errno.ESRCH, errno.ENOTDIR})
_REFUSED = frozenset({errno.EACCES, errno.EPERM})


def read_kernel_file(path: str, size: int = 65536) -> bytes:
    """Read a file that the kernel makes up, whole.

    Args:
        path: Absolute path.
        size: Bytes to ask for at once. Some files (sysctl bitmaps) give what fits into the first
            read and nothing after it, so ask for more than they can hold.

    Raises:
        OSError: As open(2) or read(2) answered.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(descriptor, size):
            parts.append(part)
    finally:
        os.close(descriptor)
    return b"".join(parts)


def is_absent(error: OSError) -> bool:
    """Whether the error says that the file, or its process, does not exist."""
    return error.errno in _ABSENT


def why_unreadable(error: OSError) -> str:
    """Complete "could not check ...:" for a file that could not be read, path included."""
    path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else "a file of /proc"
    if error.errno in _ABSENT:
        return f"{path} does not exist here"
    if error.errno in _REFUSED:
        who = "even root may not read it here" if os.geteuid() == 0 else "run as root to read it"
        return f"{path}: permission denied; {who}"
    return f"{path}: {error.strerror or error}"


# The kernel's own clock: how long a jiffy is.


_CLOCK_MONOTONIC_COARSE = 6


def read_tick() -> float:
    """Return the length of a jiffy in seconds: 0.004 where the kernel was built with HZ=250.

    The coarse clocks advance once per jiffy, and clock_getres(2) says so (include/linux/jiffies.h,
    KTIME_LOW_RES).
    """
    return time.clock_getres(_CLOCK_MONOTONIC_COARSE)
