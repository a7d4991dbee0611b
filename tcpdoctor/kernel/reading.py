"""What one reading of the kernel is, a value or the reason there is none; how procfs is read; and how far."""

import errno
import os
import time
from collections.abc import Iterable
from typing import NoReturn, TypeAlias, TypeVar

T = TypeVar("T")

JsonValue: TypeAlias = int | float | str | bool | list["JsonValue"] | dict[str, "JsonValue"] | None


class Missing:
    """A fact that could not be read.

    Never zero and never healthy: a rule that needs it answers "unknown", and the
    report repeats `reason` so that the user can lift it (sudo, another kernel).
    It is no tuple, so that nothing can iterate over a reason by mistake; and no
    dataclass, because importing those takes longer than `tcpdoctor states` counts.
    """

    __slots__ = ("reason",)
    __match_args__ = ("reason",)

    reason: str
    """Completes the sentence "could not check ...: {reason}"."""

    def __init__(self, reason: str) -> None:
        object.__setattr__(self, "reason", reason)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"cannot assign to {name!r}: a reading does not change")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"cannot delete {name!r}: a reading does not change")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Missing):
            return NotImplemented
        return type(other) is type(self) and other.reason == self.reason

    def __hash__(self) -> int:
        return hash((type(self), self.reason))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(reason={self.reason!r})"

    def __reduce__(self) -> tuple[type["Missing"], tuple[str]]:
        return type(self), (self.reason,)


class Refused(Missing):
    """A fact that is there and that is kept from this process: by permission, or by what covers it."""

    __slots__ = ()


Reading: TypeAlias = T | Missing


class Reasons(str):
    """Several reasons as one text, which knows them one by one: joined again, none is told twice."""

    parts: tuple[str, ...] = ()


def joined(reasons: Iterable[str]) -> str:
    """Join distinct reasons, in the order in which they came; empty ones are none."""
    parts = tuple(
        dict.fromkeys(
            part
            for reason in reasons
            for part in (reason.parts if isinstance(reason, Reasons) else (reason,))
            if part
        )
    )
    if len(parts) < 2:
        return parts[0] if parts else ""
    text = Reasons("; ".join(parts))
    text.parts = parts
    return text


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


# The kernel's own clocks.


_CLOCK_MONOTONIC_COARSE = 6


def read_tick() -> float:
    """Return the length of a jiffy in seconds: 0.004 where the kernel was built with HZ=250.

    The coarse clocks advance once per jiffy, and clock_getres(2) says so (include/linux/jiffies.h,
    KTIME_LOW_RES).
    """
    return time.clock_getres(_CLOCK_MONOTONIC_COARSE)


def is_ready(descriptor: int, seconds: float | None, *, to_write: bool = False) -> bool:
    """Whether a descriptor can be read or written, or has ended, within so many seconds; None: however long.

    It asks poll(): select() takes no descriptor above 1,023, and whoever starts us may have left more open.
    """
    import select  # most looks wait for nothing but time

    poll = select.poll()
    poll.register(descriptor, select.POLLOUT if to_write else select.POLLIN)
    return bool(poll.poll(None if seconds is None else max(0.0, seconds) * 1000))


def boottime() -> float:
    """Return the time since boot in seconds, suspension included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


# How far the look under way is, for whoever waits for it, and whether they want it to end. Listings, searches
# and waits of this floor note here what they are about; what runs beside them may read it. Somebody who has
# waited long enough says so here too: what is under way then ends with what it has by then, and whatever is
# incomplete for it is `Missing`, or says so.


THREAD_NET = "/proc/thread-self/net"
"""/proc/net is that of the process's first thread, which need not be in the namespace that the calling
thread entered with setns(2); this is the calling thread's own (proc(5))."""
NOT_RECORDED = Missing("the recording does not tell it")
INTERRUPTED = Missing("interrupted before all was read")


class Underway:
    """One look as it goes on; there is one at a time."""

    def __init__(self) -> None:
        self.task = ""
        """What is done at the moment, as in ``sockets read``; empty before anything is."""
        self.done = self.of = 0
        """How much of it is done, and of how much; 0 where that is not known."""
        self.whole = False
        """Whether every socket is listed, so that /proc/net/sockstat tells of how many."""
        self.began = 0.0
        """When that began, on time.monotonic()."""
        self.is_wanted_in_part = False
        """Whether somebody takes what is known when they interrupt; else an interrupt ends everything."""
        self.is_interrupted = False
        """Listings and searches end with what they have."""
        self.is_hurried = False
        """A wait was cut short."""
        self.is_asleep = False
        self.is_divisible = True
        """Whether what is done at the moment can end with what it has; else an interrupt ends everything."""

    def begin(self, task: str, of: int = 0, *, whole: bool = False) -> None:
        """Note what is done from here on."""
        self.done = 0
        self.task, self.of, self.whole, self.began = task, of, whole, time.monotonic()

    def interrupt(self) -> None:
        """End what goes on: a wait, or listings and searches. Called where a signal is handled.

        Raises:
            KeyboardInterrupt: In a wait, which alone can be left so; where nothing is known before all is;
                and for who does not wait for the end.
        """
        if self.is_asleep or self.is_interrupted or not self.is_divisible:
            raise KeyboardInterrupt
        self.is_interrupted = True

    def wait(self, seconds: float) -> None:
        """Sleep; an interrupt ends that early where an answer in part is wanted.

        Raises:
            KeyboardInterrupt: Where it is not.
        """
        self.is_asleep = True
        try:
            time.sleep(max(0.0, seconds))
        except KeyboardInterrupt:
            if not self.is_wanted_in_part:
                raise
            self.is_hurried = True
        finally:
            self.is_asleep = False


UNDERWAY = Underway()
