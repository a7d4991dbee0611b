"""How long the kernel keeps a socket by itself, computed as the kernel does it.

Every answer is a `Life`: the earliest and the latest moment, in seconds, because a timer of the
kernel never fires early and fires late by up to an eighth (the timer wheel of kernel/time/timer.c
rounds up to its bucket), and because most limits are compared only when a retransmission is due.

Source: net/ipv4/tcp_timer.c (tcp_model_timeout, retransmits_timed_out, tcp_write_timeout,
tcp_orphan_retries, tcp_probe_timer, tcp_keepalive_timer), tcp_fin_time() in include/net/tcp.h,
tcp_time_wait() in tcp_minisocks.c and reqsk_timer_handler() in inet_connection_sock.c, Linux 6.18.
Each function has its live test in tests/live/test_deadlines*.py.

`state_deadlines` puts them together with the sysctls of this host, for people: its cases of a state are told
apart as a person sees them, held by a process or not, with SO_KEEPALIVE or not, and its times are for a peer
that is silent and a round trip that takes no time to speak of.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import SysctlValue
from tcpdoctor.named_tuples import NamedTuple

# How long something lives: a range of seconds, because the kernel's timers fire late and never early.


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


# When the kernel gives up retransmitting: the arithmetic of net/ipv4/tcp_timer.c, Linux 6.18.


RTO_MIN_SECONDS = 0.2
"""TCP_RTO_MIN: what the limits are computed with, whatever RTO the connection has."""
RTO_MAX_SECONDS = 120.0
"""TCP_RTO_MAX; where it exists, the sysctl tcp_rto_max_ms says another one."""
DEFAULT_ORPHAN_RETRIES = 8
_MOST_FIRINGS = 100_000
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


def orphan_limit(retries: int, rto_max: float) -> Callable[[float], float]:
    """The limit that holds at a firing whose wait was given: 0 retries count as 8 below rto_max only."""

    def limit(wait: float) -> float:
        boundary = retries if wait >= rto_max else effective_orphan_retries(retries)
        return modelled_timeout(boundary, RTO_MIN_SECONDS, rto_max)

    return limit


def after_first_loss(limit: Callable[[float], float], rto: float | None, rto_max: float, tick: float) -> Life:
    """Add the wait for the first retransmission, from which the kernel counts.

    That is one RTO, or two where a tail loss probe goes out first and starts the timer again.
    """
    base = min(lan_rto(tick=tick) if rto is None else rto, rto_max)
    first = timer(base, tick)
    rest = until(limit, doubling(base, rto_max), AT_ONCE, tick)
    return Life(base + rest.low, 2 * first.high + rest.high)


class Retrying(NamedTuple):
    """A socket in the middle of its retransmissions; times in seconds."""

    rto: float
    backoff: int
    expires: float


def time_left(limit: Callable[[float], float], socket: Retrying, rto_max: float, tick: float) -> Life:
    """When the limit will be reached, in seconds from the moment the socket was read."""
    base = base_rto(socket.rto, socket.backoff, rto_max)
    if socket.backoff == 0:
        rest = until(limit, doubling(base, rto_max), AT_ONCE, tick)
        # The timer that runs may be that of a tail loss probe, with a whole RTO after it.
        return Life(socket.expires + rest.low, timer(socket.expires + base, tick).high + rest.high)
    waits = doubling(base, rto_max)
    passed = [timer(next(waits), tick) for _ in range(socket.backoff - 1)]
    before = Life(sum(step.low for step in passed), sum(step.high for step in passed))
    whole = until(limit, waits, before, tick)
    running = max(0.0, socket.rto - socket.expires)
    # It cannot end before the timer that runs now.
    low, high = whole.low - before.high - running, whole.high - before.low - running
    return Life(max(socket.expires, low), max(socket.expires, high))


def until(limit: Callable[[float], float], waits: Iterator[float], start: Life, tick: float) -> Life:
    """Let a timer fire after each wait until the time since the first retransmission is past the limit."""
    low, high = start
    earliest: float | None = None
    for _, wait in zip(range(_MOST_FIRINGS), waits, strict=False):
        step = timer(wait, tick)
        low, high = low + step.low, high + step.high
        bound = limit(wait)
        if earliest is None and high >= bound:
            earliest = max(low, bound)
        if low >= bound:
            return Life(low if earliest is None else earliest, high)
    return NEVER


def doubling(base: float, most: float) -> Iterator[float]:
    """Waits after the first, `base`: each twice the one before, none above `most`."""
    wait: float = min(base * 2, most)
    while True:
        yield wait
        wait = min(2 * wait, most)


TIME_WAIT_SECONDS = 60.0
"""TCP_TIMEWAIT_LEN of include/net/tcp.h: a constant, no sysctl changes it."""

_FIRST_SYN_TIMEOUT = 1.0
_LONGEST = 1_000
"""More SYNs than tcp_syn_retries (127) and tcp_syn_linear_timeouts (127) can ask for."""


def time_wait_life(tick: float = TICK_SECONDS) -> Life:
    """A TIME_WAIT socket, from the last FIN it saw."""
    return timer(TIME_WAIT_SECONDS, tick)


def fin_wait_2_orphan_life(fin_timeout: float, rto: float | None = None, tick: float = TICK_SECONDS) -> Life:
    """A FIN_WAIT_2 socket that no process holds, from close() or from the acknowledgement of its FIN.

    Up to 60 s it lasts what it is told, but never below 3.5 RTO. Above 60 s the kernel keeps the
    whole socket for t-60 s and then a minisocket for t-60 s again: 2*(t-60) in all, so that 61 to 89
    last shorter than 60.

    Args:
        fin_timeout: net.ipv4.tcp_fin_timeout; zero and negative values are accepted by the kernel.
        rto: Its retransmission timeout; without it that of a LAN.
        tick: Length of a jiffy.
    """
    least = 3.5 * (lan_rto(tick=tick) if rto is None else rto)
    asked = max(fin_timeout, least)
    if asked <= TIME_WAIT_SECONDS:
        return timer(asked, tick)
    whole = timer(asked - TIME_WAIT_SECONDS, tick)
    stub = timer(max(asked - TIME_WAIT_SECONDS, least), tick)
    return Life(whole.low + stub.low, whole.high + stub.high)


def orphan_retry_life(
    retries: int,
    rto: float | None = None,
    rto_max: float = RTO_MAX_SECONDS,
    tick: float = TICK_SECONDS,
) -> Life:
    """An orphan (FIN_WAIT_1, CLOSING, LAST_ACK) whose peer is silent, from the sending of its FIN.

    Args:
        retries: net.ipv4.tcp_orphan_retries as it stands; 0 means 8.
        rto: Its retransmission timeout before any doubling; without it that of a LAN.
        rto_max: net.ipv4.tcp_rto_max_ms in seconds.
        tick: Length of a jiffy.
    """
    limit = orphan_limit(retries, rto_max)
    return after_first_loss(limit, rto, rto_max, tick)


def owned_retry_life(
    retries2: int,
    rto: float | None = None,
    rto_max: float = RTO_MAX_SECONDS,
    tick: float = TICK_SECONDS,
) -> Life:
    """A socket that a process holds and whose data or FIN nobody acknowledges, from the sending of it.

    Args:
        retries2: net.ipv4.tcp_retries2.
        rto: Its retransmission timeout before any doubling; without it that of a LAN.
        rto_max: net.ipv4.tcp_rto_max_ms in seconds.
        tick: Length of a jiffy.
    """
    limit = modelled_timeout(retries2, RTO_MIN_SECONDS, rto_max)
    return after_first_loss(lambda _: limit, rto, rto_max, tick)


def orphan_time_left(
    retries: int,
    rto: float,
    backoff: int,
    expires: float,
    rto_max: float = RTO_MAX_SECONDS,
    tick: float = TICK_SECONDS,
) -> Life:
    """What an orphan whose peer stays silent has left, in seconds from the moment it was read.

    Args:
        retries: net.ipv4.tcp_orphan_retries as it stands; 0 means 8.
        rto: tcpi_rto as read, doublings included.
        backoff: tcpi_backoff as read: retransmissions so far.
        expires: Seconds until the retransmission timer fires (idiag_expires).
        rto_max: net.ipv4.tcp_rto_max_ms in seconds.
        tick: Length of a jiffy.
    """
    limit = orphan_limit(retries, rto_max)
    return time_left(limit, Retrying(rto, backoff, expires), rto_max, tick)


def syn_sent_life(
    syn_retries: int,
    linear_timeouts: int,
    rto_max: float = RTO_MAX_SECONDS,
    tick: float = TICK_SECONDS,
) -> Life:
    """A connect() that nobody answers, from the first SYN.

    Args:
        syn_retries: net.ipv4.tcp_syn_retries, or TCP_SYNCNT of the socket.
        linear_timeouts: net.ipv4.tcp_syn_linear_timeouts: so many retries come a second apart before the
            waits double; 0 on kernels that lack it (before 6.5).
        rto_max: net.ipv4.tcp_rto_max_ms in seconds.
        tick: Length of a jiffy.
    """
    limit = modelled_timeout(syn_retries, _FIRST_SYN_TIMEOUT, rto_max)
    most = syn_retries + linear_timeouts
    wait, low, high = _FIRST_SYN_TIMEOUT, 0.0, 0.0
    earliest: float | None = None
    for sent in range(_LONGEST):
        step = timer(wait, tick)
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


def keepalive_life(time: float, interval: float, probes: int, tick: float = TICK_SECONDS) -> Life:
    """An idle connection with SO_KEEPALIVE whose peer is gone, from the last sign of the peer.

    The kernel takes negative times and reads them as unsigned: the first or the next probe is then months
    away (tcp_keepalive_timer()).

    Args:
        time: net.ipv4.tcp_keepalive_time or TCP_KEEPIDLE: idle seconds before the first probe.
        interval: net.ipv4.tcp_keepalive_intvl or TCP_KEEPINTVL: seconds between probes.
        probes: net.ipv4.tcp_keepalive_probes or TCP_KEEPCNT: unanswered probes that end it.
        tick: Length of a jiffy.
    """
    if time < 0 or (interval < 0 and probes > 0):
        return NEVER
    first, next_one = timer(time, tick), timer(interval, tick)
    return Life(first.low + probes * next_one.low, first.high + probes * next_one.high)


def zero_window_orphan_life(
    retries: int,
    retries2: int,
    rto: float | None = None,
    rto_max: float = RTO_MAX_SECONDS,
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


Sysctls = Mapping[str, Reading[SysctlValue]]

DEADLINE_STATES = (
    "syn_sent",
    "syn_recv",
    "established",
    "fin_wait_1",
    "fin_wait_2",
    "close_wait",
    "closing",
    "last_ack",
    "time_wait",
)
"""The states in which some timer may run."""

DEADLINE_SYSCTLS = (
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_orphan_retries",
    "net.ipv4.tcp_retries2",
    "net.ipv4.tcp_rto_max_ms",
    "net.ipv4.tcp_rto_min_us",
    "net.ipv4.tcp_syn_linear_timeouts",
    "net.ipv4.tcp_syn_retries",
    "net.ipv4.tcp_synack_retries",
)
"""What they are computed from."""


class Deadline(NamedTuple):
    """When the kernel ends a socket in one case."""

    case: str
    """``orphan``, ``held, no SO_KEEPALIVE`` and so on."""
    life: Reading[Life]
    """Seconds from its begin; `Missing` where a sysctl could not be read."""
    sysctls: tuple[str, ...]
    """Full names of those it was computed from; empty where none has a part."""
    remark: str = ""
    """What a sysctl's value means, where it does not mean what it says."""


def state_deadlines(key: str, sysctls: Sysctls, tick: float = TICK_SECONDS) -> tuple[Deadline, ...]:
    """Return the cases of a state, those held by a process first.

    Args:
        key: ``fin_wait_2`` and so on, ``closed`` and ``bound`` included.
        sysctls: By full name; those that this kernel lacks are Missing or absent.
        tick: Length of a jiffy here, in seconds.
    """
    here = _Here(sysctls, tick)
    match key:
        case "syn_sent":
            return (here.syn_sent(), Deadline("closed by its process", AT_ONCE, ()))
        case "syn_recv":
            return (here.syn_recv(),)
        case "established":
            return (_NO_KEEPALIVE, here.keepalive(), here.owned("data not acknowledged"))
        case "fin_wait_1":
            return (here.owned("held by a process"), here.orphan(), here.shut_window())
        case "fin_wait_2":
            return (_NO_KEEPALIVE, here.keepalive(), here.fin_wait_2())
        case "close_wait":
            return (_NO_KEEPALIVE, here.keepalive(), Deadline("waiting for accept()", NEVER, ()))
        case "closing" | "last_ack":
            return (here.owned("held by a process"), here.orphan())
        case "time_wait":
            return (Deadline("always", time_wait_life(tick), ()),)
    return (Deadline("held by a process", NEVER, ()),)


def deadlines_of_sysctl(
    name: str, sysctls: Sysctls, tick: float = TICK_SECONDS
) -> Sequence[tuple[tuple[str, ...], Deadline]]:
    """Return every deadline that a sysctl has a part in, with the keys of the states it holds for."""
    found: list[tuple[tuple[str, ...], Deadline]] = []
    for key in DEADLINE_STATES:
        for deadline in state_deadlines(key, sysctls, tick):
            if name not in deadline.sysctls:
                continue
            same = next((place for place, entry in enumerate(found) if entry[1] == deadline), None)
            if same is None:
                found.append(((key,), deadline))
            else:
                found[same] = (*found[same][0], key), deadline
    return found


_NO_KEEPALIVE = Deadline("held, no SO_KEEPALIVE", NEVER, ())


class _Here(NamedTuple):
    """The sysctls and the clock of one host."""

    sysctls: Sysctls
    tick: float

    def syn_sent(self) -> Deadline:
        names = _full("tcp_syn_retries", *self.present("tcp_syn_linear_timeouts"))
        return self.deadline(
            "no answer",
            names,
            lambda retries, linear=0: syn_sent_life(retries, linear, self.rto_max(), tick=self.tick),
        )

    def syn_recv(self) -> Deadline:
        return self.deadline(
            "no answer", _full("tcp_synack_retries"), lambda retries: syn_recv_life(retries, self.tick)
        )

    def keepalive(self) -> Deadline:
        names = _full("tcp_keepalive_time", "tcp_keepalive_intvl", "tcp_keepalive_probes")
        return self.deadline(
            "held, SO_KEEPALIVE, peer gone",
            names,
            lambda time, interval, probes: keepalive_life(time, interval, probes, tick=self.tick),
        )

    def owned(self, case: str) -> Deadline:
        names = _full("tcp_retries2", *self.present("tcp_rto_max_ms"))
        return self.deadline(
            case,
            names,
            lambda retries, *_: owned_retry_life(retries, self.rto(), self.rto_max(), tick=self.tick),
        )

    def orphan(self) -> Deadline:
        names = _full("tcp_orphan_retries", *self.present("tcp_rto_max_ms"))
        found = self.deadline(
            "orphan",
            names,
            lambda retries, *_: orphan_retry_life(retries, self.rto(), self.rto_max(), tick=self.tick),
        )
        retries = self.sysctls.get(names[0])
        if retries == 0:
            return found._replace(remark=f"0 means {effective_orphan_retries(0)}")
        return found

    def shut_window(self) -> Deadline:
        names = _full("tcp_orphan_retries", "tcp_retries2", *self.present("tcp_rto_max_ms"))
        return self.deadline(
            "orphan, peer's window shut",
            names,
            lambda retries, most, *_: zero_window_orphan_life(
                retries, most, self.rto(), self.rto_max(), tick=self.tick
            ),
        )

    def fin_wait_2(self) -> Deadline:
        names = _full("tcp_fin_timeout")
        found = self.deadline(
            "orphan",
            names,
            lambda seconds: fin_wait_2_orphan_life(seconds, rto=self.rto(), tick=self.tick),
        )
        seconds = self.sysctls.get(names[0])
        if isinstance(seconds, int) and seconds > 60:
            return found._replace(remark=f"above 60: 2 x ({seconds} - 60) s")
        if isinstance(found.life, Life) and isinstance(seconds, int) and seconds < found.life.low:
            return found._replace(remark="at least 3.5 retransmission timeouts")
        return found

    def deadline(self, case: str, names: tuple[str, ...], life: Callable[..., Life]) -> Deadline:
        values: list[int] = []
        for name in names:
            value = self.sysctls.get(name, Missing(f"{name} was not read"))
            if isinstance(value, Missing):
                return Deadline(case, value, names)
            if not isinstance(value, int):
                return Deadline(case, Missing(f"{name} is no number"), names)
            values.append(value)
        return Deadline(case, life(*values), names)

    def present(self, *names: str) -> tuple[str, ...]:
        """Those that this kernel has: older ones lack some and behave as if they had the default."""
        return tuple(name for name in names if isinstance(self.sysctls.get(f"net.ipv4.{name}"), int))

    def rto_max(self) -> float:
        value = self.sysctls.get("net.ipv4.tcp_rto_max_ms")
        return value / 1000 if isinstance(value, int) else RTO_MAX_SECONDS

    def rto(self) -> float:
        return assumed_rto(self.sysctls, self.tick)


def assumed_rto(sysctls: Sysctls, tick: float = TICK_SECONDS) -> float:
    """Return the retransmission timeout, in seconds, of a connection to a near peer on this host."""
    value = sysctls.get("net.ipv4.tcp_rto_min_us")
    return lan_rto(value / 1e6, tick) if isinstance(value, int) else lan_rto(tick=tick)


def _full(*names: str) -> tuple[str, ...]:
    return tuple(f"net.ipv4.{name}" for name in names)
