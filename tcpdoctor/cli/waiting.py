"""While somebody waits for a look: how far it is, on a terminal's stderr; and Ctrl-C, which ends it early."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tcpdoctor.kernel.reading import UNDERWAY, Missing

if TYPE_CHECKING:
    from threading import Event

SHORTEST_SAID = 3.0
"""Seconds below which nobody wonders."""
_STEP = 1.0
_ERASE = "\r\x1b[K"
_SOONEST_GUESS = 0.05
"""Of a task so much is to be done before the rest is guessed from it."""


@contextmanager
def ends_with_what_is_known(*, wanted: bool, divisible: bool = True) -> Iterator[None]:
    """Let Ctrl-C end the waits, listings and searches of the body, and not the program.

    A second one ends that: `UNDERWAY` tells afterwards whether there was a first.

    Args:
        wanted: Whether an answer in part is wanted at all; else an interrupt is what it always is.
        divisible: Whether the body can be ended anywhere; else it tells `UNDERWAY` where it can.
    """
    UNDERWAY.is_interrupted = UNDERWAY.is_hurried = False
    UNDERWAY.is_divisible = divisible
    if not wanted:
        yield
        return
    from signal import SIGINT, default_int_handler, getsignal, signal  # only who may be interrupted needs it

    if getsignal(SIGINT) is not default_int_handler:  # ignored, as by what a shell has put in the background
        yield
        return
    UNDERWAY.is_wanted_in_part = True
    signal(SIGINT, lambda number, frame: UNDERWAY.interrupt())  # noqa: ARG005 - the signature of a handler
    try:
        yield
    finally:
        signal(SIGINT, default_int_handler)
        UNDERWAY.is_wanted_in_part = False
        UNDERWAY.is_divisible = True


def was_cut_short() -> bool:
    """Whether somebody has interrupted the look that ended last."""
    return UNDERWAY.is_interrupted or UNDERWAY.is_hurried


@contextmanager
def said_to_take(seconds: float) -> Iterator[None]:
    """Say on stderr how far it is while the body runs; nothing is left of it afterwards.

    Silent where stderr is no terminal, and as long as nobody wonders.

    Args:
        seconds: How long the body sleeps, which is counted down where they are many.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    from threading import Event, Thread  # only a terminal is told

    done = Event()
    teller = Thread(target=_tell, args=(seconds, done), daemon=True)
    UNDERWAY.task = ""
    try:
        teller.start()
    except RuntimeError:  # RLIMIT_NPROC, or a full pids cgroup: nothing is told
        yield
        return
    try:
        yield
    finally:
        done.set()
        teller.join()


def _tell(seconds: float, done: "Event") -> None:
    begun = time.monotonic()
    if seconds < SHORTEST_SAID and done.wait(seconds + SHORTEST_SAID):
        return
    while not done.is_set():
        left = seconds - (time.monotonic() - begun)
        waits = seconds >= SHORTEST_SAID and left > 0
        _show(f"watching for {seconds:g} s: {left:.0f} s left" if waits else progress_text())
        done.wait(_STEP)
    _show("")


def progress_text() -> str:
    """Say what is done at the moment, how far it is, and how long it may take yet."""
    task, done, of = UNDERWAY.task, UNDERWAY.done, UNDERWAY.of
    if not task:
        return "looking"
    if UNDERWAY.whole:
        of = _number_of_sockets()
    if not of:
        return f"{task}: {done:,}"
    text = f"{task}: {done:,} of {max(done, of):,}"
    if not _SOONEST_GUESS * of < done < of:
        return text
    return f"{text}, {(time.monotonic() - UNDERWAY.began) * (of / done - 1):.0f} s left"


def _number_of_sockets() -> int:
    """About as many as a listing of all has; 0 where that is not known."""
    from tcpdoctor.kernel.counters import read_sockstat  # only who waits needs it

    numbers = read_sockstat()
    if isinstance(numbers, Missing):
        return 0
    return sum(numbers.get(name, 0) for name in ("TCP.inuse", "TCP6.inuse", "TCP.tw"))


def _show(text: str) -> None:
    try:
        sys.stderr.write(_ERASE + text)
        sys.stderr.flush()
    except OSError:
        return  # the terminal is gone; the answer may still have somewhere to go
