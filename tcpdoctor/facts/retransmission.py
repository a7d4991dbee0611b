"""When the kernel gives up retransmitting: the arithmetic of net/ipv4/tcp_timer.c, Linux 6.18."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tcpdoctor.facts.life import AT_ONCE, NEVER, TICK_SECONDS, Life, timer

RTO_MIN_SECONDS = 0.2
"""TCP_RTO_MIN: what the limits are computed with, whatever RTO the connection has."""
RTO_MAX_SECONDS = 120.0
"""TCP_RTO_MAX; where it exists, the sysctl tcp_rto_max_ms says another one."""
DEFAULT_ORPHAN_RETRIES = 8
_LONGEST = 100_000
"""Firings of a timer after which a limit counts as never reached."""


def lan_rto(rto_min: float = RTO_MIN_SECONDS, tick: float = TICK_SECONDS) -> float:
    """Retransmission timeout, in seconds, of a connection whose round trip takes no time to speak of.

    The minimum plus the smoothed round trip, rounded up to a whole tick: 204 ms at HZ=250.
    """
    return (math.floor(rto_min / tick + 1e-9) + 1) * tick


def base_rto(rto: float, backoff: int, rto_max: float = RTO_MAX_SECONDS) -> float:
    """Take back the doublings: what TCP_INFO calls tcpi_rto has been doubled `backoff` times.

    A timeout that has reached the maximum no longer tells; the least that it can have been is returned.
    """
    base = rto / float(1 << backoff)
    return max(base, min(RTO_MIN_SECONDS, rto)) if rto >= rto_max else base


def effective_orphan_retries(retries: int) -> int:
    """What tcp_orphan_retries means: 0 is 8 (tcp_orphan_retries() in tcp_timer.c)."""
    return retries or DEFAULT_ORPHAN_RETRIES


def modelled_timeout(boundary: int, rto_base: float, rto_max: float) -> float:
    """The time that `boundary` doubling retransmissions would take: the kernel's tcp_model_timeout()."""
    doublings = int(math.log2(max(1, int(rto_max / rto_base + 1e-9))))
    if boundary <= doublings:
        return ((1 << boundary + 1) - 1) * rto_base
    return ((1 << doublings + 1) - 1) * rto_base + (boundary - doublings) * rto_max


def orphan_limit(retries: int, rto_max: float, user_timeout: float) -> Callable[[float], float]:
    """The limit that holds at a firing whose wait was given: 0 retries count as 8 below rto_max only."""

    def limit(wait: float) -> float:
        if user_timeout:
            return user_timeout
        boundary = retries if wait >= rto_max else effective_orphan_retries(retries)
        return modelled_timeout(boundary, RTO_MIN_SECONDS, rto_max)

    return limit


def after_first_loss(
    limit: Callable[[float], float], rto: float | None, rto_max: float, user_timeout: float, tick: float
) -> Life:
    """Add the wait for the first retransmission, from which the kernel counts.

    That is one RTO, or two where a tail loss probe goes out first and starts the timer again.
    """
    base = min(lan_rto(tick=tick) if rto is None else rto, rto_max)
    first = timer(base, tick)
    rest = until(limit, doubling(base, 1, rto_max), AT_ONCE, user_timeout, tick)
    return Life(base + rest.low, 2 * first.high + rest.high)


class Retrying(NamedTuple):
    """A socket in the middle of its retransmissions; times in seconds."""

    rto: float
    backoff: int
    expires: float
    user_timeout: float


def time_left(limit: Callable[[float], float], socket: Retrying, rto_max: float, tick: float) -> Life:
    """When the limit will be reached, in seconds from the moment the socket was read."""
    base = base_rto(socket.rto, socket.backoff, rto_max)
    if socket.backoff == 0:
        rest = until(limit, doubling(base, 1, rto_max), AT_ONCE, socket.user_timeout, tick)
        # The timer that runs may be that of a tail loss probe, with a whole RTO after it.
        return Life(socket.expires + rest.low, timer(socket.expires + base, tick).high + rest.high)
    waits = doubling(base, 1, rto_max)
    passed = [timer(next(waits), tick) for _ in range(socket.backoff - 1)]
    before = Life(sum(step.low for step in passed), sum(step.high for step in passed))
    whole = until(limit, waits, before, socket.user_timeout, tick)
    running = max(0.0, socket.rto - socket.expires)
    # It cannot end before the timer that runs now.
    low, high = whole.low - before.high - running, whole.high - before.low - running
    return Life(max(socket.expires, low), max(socket.expires, high))


def until(
    limit: Callable[[float], float], waits: Iterator[float], start: Life, user_timeout: float, tick: float
) -> Life:
    """Let a timer fire after each wait until the time since the first retransmission is past the limit.

    No wait runs past the user timeout where there is one (tcp_clamp_rto_to_user_timeout()).
    """
    low, high = start
    earliest: float | None = None
    for _, wait in zip(range(_LONGEST), waits, strict=False):
        step = timer(min(wait, max(user_timeout - low, tick)) if user_timeout else wait, tick)
        low, high = low + step.low, high + step.high
        bound = limit(wait)
        if earliest is None and high >= bound:
            earliest = max(low, bound)
        if low >= bound:
            return Life(low if earliest is None else earliest, high)
    return NEVER


def doubling(base: float, done: int, most: float) -> Iterator[float]:
    """Waits after `done` doublings of `base`, each twice the one before, none above `most`."""
    wait: float = min(base * 2**done, most)
    while True:
        yield wait
        wait = min(2 * wait, most)
