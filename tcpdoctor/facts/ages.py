"""How long a socket has been in its state, as far as the kernel lets us know.

No interface tells it. What struct tcp_info has are times since other events, and each is a bound:

- CLOSE_WAIT began with the peer's FIN. A FIN carries an ACK, so the last ACK came then or later; no
  data comes after a FIN, so the last data came then or earlier.
- FIN_WAIT_2 began with the ACK of our FIN, so the last ACK came then or later. All our data was sent
  before the FIN, so the last data left then or earlier. (The last data received is no bound: a peer
  may go on sending to a socket that was only shut down.)
- TIME_WAIT lasts for a fixed time, of which its timer tells the rest.
- SYN_SENT began when the first SYN was sent. tcp_info's times mean nothing there (net/ipv4/tcp.c
  initialises them when the connection is established); the retransmission timer tells instead.

The first of two samples narrows all of them.
"""

import math
from typing import NamedTuple

from tcpdoctor.facts.earlier import Earlier
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Connection, TcpInfo
from tcpdoctor.kernel.states import TcpState, Timer

ONLY_BOUNDS = "the kernel tells only within bounds how long a socket has been in its state"

_TIMER_SLACK = 1.125
"""A timer of the kernel's wheel fires late by up to an eighth of its length (kernel/time/timer.c)."""

_EARLY, _LATE = 0.25, 1.0
"""Seconds. Time runs from counters to counters, and sockets are read some time after them: they were
looked at a little less than that apart where the first look was the slower one, or a little more."""

_TICK = 0.01
"""Times of tcp_info are in clock ticks of at most 10 ms (HZ=100)."""


class Age(NamedTuple):
    """Seconds since a socket entered its state lie in [low, high]."""

    low: float
    high: float
    """Infinite where nothing bounds it."""
    reason: str


def age_of(connection: Connection, earlier: Earlier) -> Age:
    """Bound the time since a socket entered CLOSE_WAIT, FIN_WAIT_2, TIME_WAIT or SYN_SENT.

    In other states only an earlier look bounds it.
    """
    age = age_in_one_look(connection)
    if isinstance(earlier.elapsed, Missing):
        return age
    before = earlier.find(connection)
    match before:
        case Missing():
            return age
        case None:
            high = min(age.high, earlier.elapsed + _LATE)
            return age._replace(low=min(age.low, high), high=high)
        case _:
            then = age_in_one_look(before)
            low = max(age.low, then.low + max(0.0, earlier.elapsed - _EARLY))
            return age._replace(low=low, high=max(low, min(age.high, then.high + earlier.elapsed + _LATE)))


def age_in_one_look(connection: Connection) -> Age:
    """Bound the time since a socket entered its state, from one sample alone."""
    info = connection.info
    if connection.state is TcpState.TIME_WAIT:
        from tcpdoctor.facts.deadlines import (
            TIME_WAIT_SECONDS,
        )  # no rule asks for it, and it is a large module

        age = max(0.0, TIME_WAIT_SECONDS - connection.expires)
        return Age(max(0.0, age - _TICK), age + _TICK, ONLY_BOUNDS)
    if isinstance(info, Missing):
        return Age(0.0, math.inf, info.reason)
    match connection.state:
        case TcpState.CLOSE_WAIT:
            return _between(info.last_ack_recv, info.last_data_recv)
        case TcpState.FIN_WAIT_2:
            return _between(info.last_ack_recv, info.last_data_sent)
        case TcpState.SYN_SENT:
            return _since_first_syn(connection, info)
        case _:
            return Age(0.0, math.inf, ONLY_BOUNDS)


def _between(low: float, high: float) -> Age:
    """Order the bounds: both come from clock ticks, and may cross by one."""
    return Age(min(low, high), max(low, high) + _TICK, ONLY_BOUNDS)


def _since_first_syn(connection: Connection, info: TcpInfo) -> Age:
    """Add up the timeouts that have passed.

    Of `retransmits` timeouts, the last `backoff` doubled the interval, those before them
    (net.ipv4.tcp_syn_linear_timeouts) did not (tcp_retransmit_timer() in net/ipv4/tcp_timer.c).
    Where tcp_rto_max_ms cut the doubling short the sum is too small, which a lower bound may be.
    """
    if connection.timer is not Timer.RETRANSMIT:
        return Age(0.0, math.inf, ONLY_BOUNDS)
    first = info.rto / 2**info.backoff
    passed = first * max(0, connection.retransmits - info.backoff) + first * (2**info.backoff - 1)
    current = max(0.0, info.rto - connection.expires)
    longest = passed if first >= _INITIAL_TIMEOUT else connection.retransmits * info.rto
    high = (longest + info.rto) * _TIMER_SLACK - connection.expires + 1
    return Age(passed + current, max(passed + current, high), ONLY_BOUNDS)


_INITIAL_TIMEOUT = 0.9
"""TCP_TIMEOUT_INIT is 1 s; a first timeout below that says that tcp_rto_max_ms cut the doubling short."""
