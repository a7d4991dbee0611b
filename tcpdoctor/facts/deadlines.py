"""How long the kernel keeps a socket by itself, computed as the kernel does it.

Every answer is a `Life`: the earliest and the latest moment, in seconds, because a timer of the
kernel never fires early and fires late by up to an eighth (the timer wheel of kernel/time/timer.c
rounds up to its bucket), and because most limits are compared only when a retransmission is due.

Source: net/ipv4/tcp_timer.c (tcp_model_timeout, retransmits_timed_out, tcp_write_timeout,
tcp_orphan_retries, tcp_probe_timer, tcp_keepalive_timer), tcp_fin_time() in include/net/tcp.h,
tcp_time_wait() in tcp_minisocks.c and reqsk_timer_handler() in inet_connection_sock.c, Linux 6.18.
Each function has its live test in tests/live/test_deadlines*.py.
"""

import math

from tcpdoctor.facts.life import AT_ONCE, NEVER, TICK_SECONDS, Life, show_life, timer
from tcpdoctor.facts.retransmission import (
    RTO_MAX_SECONDS,
    RTO_MIN_SECONDS,
    Retrying,
    after_first_loss,
    base_rto,
    effective_orphan_retries,
    lan_rto,
    modelled_timeout,
    orphan_limit,
    time_left,
)

__all__ = [
    "AT_ONCE",
    "NEVER",
    "RTO_MAX_SECONDS",
    "TICK_SECONDS",
    "TIME_WAIT_SECONDS",
    "Life",
    "base_rto",
    "effective_orphan_retries",
    "fin_wait_2_orphan_life",
    "keepalive_life",
    "lan_rto",
    "orphan_retry_life",
    "orphan_time_left",
    "owned_retry_life",
    "owned_time_left",
    "show_life",
    "syn_recv_life",
    "syn_sent_life",
    "time_wait_life",
    "zero_window_orphan_life",
]

TIME_WAIT_SECONDS = 60.0
"""TCP_TIMEWAIT_LEN of include/net/tcp.h: a constant, no sysctl changes it."""

_FIRST_SYN_TIMEOUT = 1.0
_LINGER2_MAX = 120
_LONGEST = 1_000
"""More SYNs than tcp_syn_retries (127) and tcp_syn_linear_timeouts (127) can ask for."""


def time_wait_life(tick: float = TICK_SECONDS) -> Life:
    """A TIME_WAIT socket, from the last FIN it saw."""
    return timer(TIME_WAIT_SECONDS, tick)


def fin_wait_2_orphan_life(
    fin_timeout: float, linger2: int = 0, rto: float | None = None, tick: float = TICK_SECONDS
) -> Life:
    """A FIN_WAIT_2 socket that no process holds, from close() or from the acknowledgement of its FIN.

    Up to 60 s it lasts what it is told, but never below 3.5 RTO. Above 60 s the kernel keeps the
    whole socket for t-60 s and then a minisocket for t-60 s again: 2*(t-60) in all, so that 61 to 89
    last shorter than 60.

    Args:
        fin_timeout: net.ipv4.tcp_fin_timeout; zero and negative values are accepted by the kernel.
        linger2: TCP_LINGER2 of the socket: 0 uses the sysctl, below 0 there is no FIN_WAIT_2 at all.
        rto: Its retransmission timeout; without it that of a LAN.
        tick: Length of a jiffy.
    """
    if linger2 < 0:
        return AT_ONCE
    least = 3.5 * (lan_rto(tick=tick) if rto is None else rto)
    asked = max(float(min(linger2, _LINGER2_MAX) or fin_timeout), least)
    if asked <= TIME_WAIT_SECONDS:
        return timer(asked, tick)
    whole = timer(asked - TIME_WAIT_SECONDS, tick)
    stub = timer(max(asked - TIME_WAIT_SECONDS, least), tick)
    return Life(whole.low + stub.low, whole.high + stub.high)


def orphan_retry_life(
    retries: int,
    rto: float | None = None,
    rto_max: float = RTO_MAX_SECONDS,
    *,
    user_timeout: float = 0.0,
    tick: float = TICK_SECONDS,
) -> Life:
    """An orphan (FIN_WAIT_1, CLOSING, LAST_ACK) whose peer is silent, from the sending of its FIN.

    Args:
        retries: net.ipv4.tcp_orphan_retries as it stands; 0 means 8.
        rto: Its retransmission timeout before any doubling; without it that of a LAN.
        rto_max: net.ipv4.tcp_rto_max_ms in seconds.
        user_timeout: TCP_USER_TIMEOUT in seconds; 0 for none.
        tick: Length of a jiffy.
    """
    limit = orphan_limit(retries, rto_max, user_timeout)
    return after_first_loss(limit, rto, rto_max, user_timeout, tick)


def owned_retry_life(
    retries2: int,
    rto: float | None = None,
    rto_max: float = RTO_MAX_SECONDS,
    *,
    user_timeout: float = 0.0,
    tick: float = TICK_SECONDS,
) -> Life:
    """A socket that a process holds and whose data or FIN nobody acknowledges, from the sending of it.

    Args:
        retries2: net.ipv4.tcp_retries2.
        rto: Its retransmission timeout before any doubling; without it that of a LAN.
        rto_max: net.ipv4.tcp_rto_max_ms in seconds.
        user_timeout: TCP_USER_TIMEOUT in seconds, which replaces tcp_retries2; 0 for none.
        tick: Length of a jiffy.
    """
    limit = user_timeout or modelled_timeout(retries2, RTO_MIN_SECONDS, rto_max)
    return after_first_loss(lambda _: limit, rto, rto_max, user_timeout, tick)


def orphan_time_left(
    retries: int,
    rto: float,
    backoff: int,
    expires: float,
    rto_max: float = RTO_MAX_SECONDS,
    *,
    user_timeout: float = 0.0,
    tick: float = TICK_SECONDS,
) -> Life:
    """What an orphan whose peer stays silent has left, in seconds from the moment it was read.

    Args:
        retries: net.ipv4.tcp_orphan_retries as it stands; 0 means 8.
        rto: tcpi_rto as read, doublings included.
        backoff: tcpi_backoff as read: retransmissions so far.
        expires: Seconds until the retransmission timer fires (idiag_expires).
        rto_max: net.ipv4.tcp_rto_max_ms in seconds.
        user_timeout: TCP_USER_TIMEOUT in seconds; 0 for none.
        tick: Length of a jiffy.
    """
    limit = orphan_limit(retries, rto_max, user_timeout)
    return time_left(limit, Retrying(rto, backoff, expires, user_timeout), rto_max, tick)


def owned_time_left(
    retries2: int,
    rto: float,
    backoff: int,
    expires: float,
    rto_max: float = RTO_MAX_SECONDS,
    *,
    user_timeout: float = 0.0,
    tick: float = TICK_SECONDS,
) -> Life:
    """As `orphan_time_left`, for a socket that a process holds: tcp_retries2 or TCP_USER_TIMEOUT."""
    limit = user_timeout or modelled_timeout(retries2, RTO_MIN_SECONDS, rto_max)
    return time_left(lambda _: limit, Retrying(rto, backoff, expires, user_timeout), rto_max, tick)


def syn_sent_life(
    syn_retries: int,
    linear_timeouts: int,
    rto_max: float = RTO_MAX_SECONDS,
    *,
    user_timeout: float = 0.0,
    tick: float = TICK_SECONDS,
) -> Life:
    """A connect() that nobody answers, from the first SYN.

    Args:
        syn_retries: net.ipv4.tcp_syn_retries, or TCP_SYNCNT of the socket.
        linear_timeouts: net.ipv4.tcp_syn_linear_timeouts: so many retries come a second apart before the
            waits double; 0 on kernels that lack it (before 6.5).
        rto_max: net.ipv4.tcp_rto_max_ms in seconds.
        user_timeout: TCP_USER_TIMEOUT in seconds; 0 for none.
        tick: Length of a jiffy.
    """
    limit = user_timeout or modelled_timeout(syn_retries, _FIRST_SYN_TIMEOUT, rto_max)
    most = syn_retries + linear_timeouts
    wait, low, high = _FIRST_SYN_TIMEOUT, 0.0, 0.0
    earliest: float | None = None
    for sent in range(_LONGEST):
        # The user timeout shortens the waits only once there was a retransmission.
        step = timer(min(wait, max(user_timeout - low, tick)) if user_timeout and sent else wait, tick)
        low, high = low + step.low, high + step.high
        if earliest is None and sent and high >= limit:
            earliest = max(low, limit)
        if sent >= most or (sent and low >= limit):
            return Life(low if earliest is None else earliest, high)
        if sent >= linear_timeouts:
            wait = min(2 * wait, rto_max)
    return NEVER


def syn_recv_life(synack_retries: int, tick: float = TICK_SECONDS) -> Life:
    """A half-open connection whose SYN-ACK nobody answers, from the SYN that was the last.

    Each further SYN of the client starts the current wait again, and a queue of half-open connections that
    is half full makes the kernel give up on old ones earlier. tcp_rto_max_ms has no part in it.
    """
    waits = [min(_FIRST_SYN_TIMEOUT * 2**sent, RTO_MAX_SECONDS) for sent in range(synack_retries + 1)]
    steps = [timer(wait, tick) for wait in waits]
    return Life(sum(step.low for step in steps), sum(step.high for step in steps))


def keepalive_life(
    time: float, interval: float, probes: int, *, user_timeout: float = 0.0, tick: float = TICK_SECONDS
) -> Life:
    """An idle connection with SO_KEEPALIVE whose peer is gone, from the last sign of the peer.

    The kernel takes negative times and reads them as unsigned: the first or the next probe is then months
    away (tcp_keepalive_timer()).

    Args:
        time: net.ipv4.tcp_keepalive_time or TCP_KEEPIDLE: idle seconds before the first probe.
        interval: net.ipv4.tcp_keepalive_intvl or TCP_KEEPINTVL: seconds between probes.
        probes: net.ipv4.tcp_keepalive_probes or TCP_KEEPCNT: unanswered probes that end it.
        user_timeout: TCP_USER_TIMEOUT in seconds, which replaces the number of probes; 0 for none.
        tick: Length of a jiffy.
    """
    if time < 0 or (interval < 0 and probes > 0):
        return NEVER
    unanswered = probes
    if user_timeout:
        unanswered = max(1, math.ceil((user_timeout - time) / interval - 1e-9))
    first, next_one = timer(time, tick), timer(interval, tick)
    return Life(first.low + unanswered * next_one.low, first.high + unanswered * next_one.high)


def zero_window_orphan_life(
    retries: int,
    retries2: int,
    rto: float | None = None,
    rto_max: float = RTO_MAX_SECONDS,
    *,
    tick: float = TICK_SECONDS,
) -> Life:
    """An orphan with unsent data whose peer answers probes and keeps its window shut, from the shutting.

    No count of probes ends it: each answer starts the count again. It ends at the first probe whose
    wait has reached `rto_max`, with at least `retries` doublings; tcp_retries2 stops the doubling, so a
    small one keeps the orphan for ever.
    """
    wait = max(lan_rto(tick=tick) if rto is None else rto, RTO_MIN_SECONDS)
    low = high = 0.0
    for doublings in range(retries2 + 1):
        backed_off = min(wait * 2**doublings, rto_max)
        step = timer(backed_off, tick)
        low, high = low + step.low, high + step.high
        if backed_off >= rto_max and doublings >= retries:
            return Life(low, high)
    return NEVER
