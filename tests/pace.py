"""Bounds on work that do not hang on the machine: CPU time is counted in rounds of a loop beside it.

What takes the square of its input exceeds any such bound; how fast the program is, `bench` shows.
"""

import time
from collections.abc import Callable

_LINES = [f"{number:4d}: 0100007F:1F90 0A{number:06X}:01BB 08 00000000:{number:08X}" for number in range(997)]
_ROUNDS, _OF_A_SECOND = 31, 0.045
"""So much of a second that many rounds take on the machine whose seconds the bounds are."""
_TRIES = 3


def _yardstick() -> float:
    begun = time.thread_time()
    for _ in range(_ROUNDS):
        kept = [(line, {"columns": line.split(), "port": int(line[-8:], 16)}) for line in _LINES]
    assert len(kept) == len(_LINES)
    return time.thread_time() - begun


def seconds_of(work: Callable[[], object]) -> float:
    """CPU time of this thread for `work`, in seconds of that machine."""
    before = _yardstick()
    begun = time.thread_time()
    work()
    taken = time.thread_time() - begun
    return taken * _OF_A_SECOND / max(before, _yardstick())


def is_done_within(seconds: float, work: Callable[[], object]) -> bool:
    """Whether `work` takes less than so many seconds of that machine, once of a few times."""
    return any(seconds_of(work) < seconds for _ in range(_TRIES))
