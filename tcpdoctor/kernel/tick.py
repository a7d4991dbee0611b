"""The kernel's own clock: how long a jiffy is."""

import time

_CLOCK_MONOTONIC_COARSE = 6


def read_tick() -> float:
    """Return the length of a jiffy in seconds: 0.004 where the kernel was built with HZ=250.

    The coarse clocks advance once per jiffy, and clock_getres(2) says so (include/linux/jiffies.h,
    KTIME_LOW_RES).
    """
    return time.clock_getres(_CLOCK_MONOTONIC_COARSE)
