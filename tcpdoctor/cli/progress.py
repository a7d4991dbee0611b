"""Say on a terminal's stderr that something takes its time."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread  # typer has imported it anyway

SHORTEST_SAID = 3.0
"""Seconds below which nobody wonders."""

_ERASE = "\r\x1b[K"


@contextmanager
def said_to_take(seconds: float) -> Iterator[None]:
    """Count down on stderr while the body runs; nothing is left of it afterwards.

    Silent where stderr is no terminal, or `seconds` are few.
    """
    if seconds < SHORTEST_SAID or sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    done = Event()
    counter = Thread(target=_count_down, args=(seconds, done), daemon=True)
    counter.start()
    try:
        yield
    finally:
        done.set()
        counter.join()
        _show("")


def _count_down(seconds: float, done: Event) -> None:
    left = int(seconds)
    while not done.is_set():
        _show(f"watching for {seconds:g} s: {left} s left" if left > 0 else "looking")
        done.wait(1.0)
        left -= 1


def _show(text: str) -> None:
    try:
        sys.stderr.write(_ERASE + text)
        sys.stderr.flush()
    except OSError:
        return  # the terminal is gone; the answer may still have somewhere to go
