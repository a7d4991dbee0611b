"""How long something lives: a range of seconds, because the kernel's timers fire late and never early."""

import math
from collections.abc import Callable
from typing import NamedTuple

TICK_SECONDS = 0.004
"""One jiffy at HZ=250; the resolution of CLOCK_MONOTONIC_COARSE tells that of a running kernel."""


class Life(NamedTuple):
    """When the kernel ends it, in seconds; infinite: never."""

    low: float
    high: float

    def __str__(self) -> str:
        return show_life(self)


NEVER = Life(math.inf, math.inf)
AT_ONCE = Life(0.0, 0.0)


def timer(seconds: float, tick: float) -> Life:
    """When a timer fires: not before its time, and at the end of its bucket of the timer wheel.

    Level n of the wheel has buckets of 8**n jiffies and holds delays from 63 * 8**(n-1) jiffies on.
    """
    jiffies = seconds / tick
    bucket = 1
    while jiffies >= 63 * bucket:
        bucket *= 8
    return Life(seconds, seconds + (bucket + 1) * tick)


def show_life(life: Life) -> str:
    """Print a range as people read it: ``100 to 110 s``, ``15 to 16 min``, ``never``.

    Both ends are rounded outwards, seconds to two digits or tenths, so that what is printed holds.
    """
    if math.isinf(life.low):
        return "never"
    if life.high <= 0:
        return "at once"
    if math.isinf(life.high):
        return f"{_two_digits(life.low, math.floor)} s or longer"
    if life.low >= 600:
        low, high, unit = f"{life.low // 60:.0f}", f"{math.ceil(life.high / 60)}", "min"
    else:
        low, high, unit = _two_digits(life.low, math.floor), _two_digits(life.high, math.ceil), "s"
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"


def _two_digits(number: float, rounding: Callable[[float], int]) -> str:
    """Round to two digits, but to tenths at the finest."""
    scale = 10.0 ** min(1, 1 - math.floor(math.log10(number))) if number > 0 else 10.0
    rounded = rounding(round(number * scale, 6)) / scale
    return f"{rounded:.0f}" if rounded == int(rounded) else f"{rounded:.1f}"
