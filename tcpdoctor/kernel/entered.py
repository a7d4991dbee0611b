"""Which recording is looked at instead of this host, if any: it is entered as a network namespace is.

What reads the kernel is marked `replayed`: where a recording was entered it is asked instead, by a method of
the same name and arguments (tcpdoctor.kernel.replay). So every question is answered by the same code, and
what the recording does not hold is Missing: nothing of this host is mixed in.
"""

import functools
import os
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from tcpdoctor.kernel.reading import Reading, boottime

P = ParamSpec("P")
T = TypeVar("T")


class Entered:
    """The recording that this process is in."""

    __slots__ = ("recorded",)

    def __init__(self) -> None:
        self.recorded: Any = None
        """A `tcpdoctor.kernel.replay.Replay`, whose modules import this one; None: this host is looked at."""


ENTERED = Entered()


def replayed(function: Callable[P, T]) -> Callable[P, T]:
    """Mark what reads the kernel: a recording that was entered is asked instead."""
    name = function.__name__

    @functools.wraps(function)
    def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        if ENTERED.recorded is None:
            return function(*args, **kwargs)
        told: T = getattr(ENTERED.recorded, name)(*args, **kwargs)
        return told

    return asked


def is_recording() -> bool:
    """Whether a recording was entered."""
    return ENTERED.recorded is not None


@replayed
def moment() -> float:
    """Return when is looked, in seconds since 1970."""
    return time.time()


@replayed
def booted_at() -> float:
    """Return when CLOCK_BOOTTIME was 0, in seconds since 1970."""
    return time.time() - boottime()


@replayed
def asking_uid() -> int:
    """Return the uid of the user whose question it is: the calling one, or who recorded."""
    return os.geteuid()


@replayed
def bytes_of_page() -> int:
    """Return the bytes of a page of memory."""
    return os.sysconf("SC_PAGE_SIZE")


@replayed
def pages_of_memory() -> Reading[int]:
    """Return the pages of memory of the machine."""
    return os.sysconf("SC_PHYS_PAGES")
