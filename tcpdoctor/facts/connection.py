"""What the numbers of one connection tell: how long it has been in its state, and who began it."""

import math
from collections.abc import Callable, Sequence

from tcpdoctor.facts.rates import elapsed
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import (
    Connection,
    Detail,
    Endpoint,
    Samples,
    TcpInfo,
    plain_address,
)
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.named_tuples import NamedTuple

# Whether a socket was there in the first of two samples.


_Key = int | tuple[Endpoint, Endpoint]


class Earlier:
    """The first of two samples, as far as single sockets can be found in it."""

    def __init__(self, samples: Samples) -> None:
        self.elapsed: Reading[float] = elapsed(samples)
        """Seconds between the samples; Missing if there is no first one."""
        self._detail = Missing("needs two samples") if samples.before is None else samples.before.detail
        self._by_state: dict[TcpState, dict[_Key, Connection]] = {}
        self._first_seen = {} if samples.before is None else samples.before.first_seen
        self._now = samples.after.clock

    @property
    def knows_first_seen(self) -> bool:
        """Whether earlier runs tell when some sockets were first seen in their states."""
        return bool(self._first_seen)

    def seen_for(self, connection: Connection) -> float:
        """How many seconds ago an earlier run first saw it in its state; 0 where none did."""
        first = self._first_seen.get(connection.cookie)
        return 0.0 if first is None or isinstance(self.elapsed, Missing) else max(0.0, self._now - first)

    def find(self, connection: Connection) -> Connection | Missing | None:
        """The same socket in the same state, as it was in the first sample.

        Sockets are the same where their cookies are; where the kernel gave none (/proc/net/tcp), where
        both ends are. None: it was not there, or in another state. Missing: that cannot be told,
        because there is no first sample or it held only a part of the sockets.
        """
        return self.find_key(connection.state, _key(connection))

    def find_key(self, state: TcpState, key: _Key) -> Connection | Missing | None:
        """The same by cookie, or by both ends."""
        if isinstance(self.elapsed, Missing):
            return self.elapsed
        detail = self._of(state)
        if isinstance(detail, Missing):
            return detail
        index = self._by_state.get(state)
        if index is None:
            index = self._by_state[state] = {_key(c): c for c in detail.connections}
        found = index.get(key)
        if found is None and detail.total > len(detail.connections):
            return Missing(partly(detail, state))
        return found

    def _of(self, state: TcpState) -> Reading[Detail]:
        if isinstance(self._detail, Missing):
            return self._detail
        return self._detail.get(state, Missing(f"sockets in {state.name} were not read one by one"))


def partly(detail: Detail, state: TcpState) -> str:
    """The reason why sockets of this state are not all known."""
    if detail.reason:
        return detail.reason
    return f"only {len(detail.connections):,} of {detail.total:,} sockets in {state.name} were looked at"


def _key(connection: Connection) -> _Key:
    return connection.cookie or (connection.local, connection.remote)


# How long a socket has been in its state, as far as the kernel lets us know.
#
# No interface tells it. What struct tcp_info has are times since other events, and each is a bound:
#
# - CLOSE_WAIT began with the peer's FIN. A FIN carries an ACK, so the last ACK came then or later; no data
# comes after a FIN, so the last data came then or earlier. - FIN_WAIT_2 began with the ACK of our FIN, so
# the last ACK came then or later. All our data was sent before the FIN, so the last data left then or
# earlier. (The last data received is no bound: a peer may go on sending to a socket that was only shut
# down.) - TIME_WAIT lasts for a fixed time, of which its timer tells the rest. - SYN_SENT began when the
# first SYN was sent. tcp_info's times mean nothing there (net/ipv4/tcp.c initialises them when the
# connection is established); the retransmission timer tells instead.
#
# The first of two samples narrows all of them.
#
# A keepalive probe that is answered is an ACK as well. So where probes come more often than a rule's least
# age, the lower end of a CLOSE_WAIT or FIN_WAIT_2 never reaches it, for hours. What then tells a leak from
# a connection that has ended just now is how long it has been quiet: no data either way.
#
# Whether the last ACK was an answer to a probe shows in the timer: with the probe it was set to whole
# seconds (TCP_KEEPINTVL; or TCP_KEEPIDLE from the answer on), so what is left of it and the time since the
# answer are whole seconds together. A FIN comes at any moment of that time. One probe proves nothing, for it
# may have followed a FIN; but of many connections that ended at once within the last seconds only a part can
# have been probed since.


ONLY_BOUNDS = "the kernel tells only within bounds how long a socket has been in its state"

_TIMER_SLACK = 1.125
"""A timer of the kernel's wheel fires late by up to an eighth of its length (kernel/time/timer.c)."""

_EARLY, _LATE = 0.25, 1.0
"""Seconds. Time runs from counters to counters, and sockets are read some time after them: they were
looked at a little less than that apart where the first look was the slower one, or a little more."""

_PROBED_FOR = 3.0
"""Seconds. A program takes no longer to close the connections that its peers have all ended at once."""

_READ_FOR = 0.5
"""Seconds. So much less it takes where it has read the end-of-file already: nothing but close() is left. Two
looks are further apart, so that a probe just before them hides no such socket."""

_PROBED_TOGETHER = 0.8
"""Of sockets whose last ACK came a moment ago, how many must show that it answered a probe. Of those that
have just ended at most half do, the probes being `_FAR_APART`, and one in forty more by chance."""

_FAR_APART = 6
"""Seconds between probes: twice `_PROBED_FOR`."""

TICK = 0.01
"""Times of tcp_info are in clock ticks of at most 10 ms (HZ=100)."""


class Age(NamedTuple):
    """Seconds since a socket entered its state lie in [low, high]."""

    low: float
    high: float
    """Infinite where nothing bounds it."""
    reason: str
    quiet: float = 0.0
    """How long no data has gone either way, where answered keepalive probes keep `low` small; else 0."""
    perhaps_quiet: float | None = None
    """As `quiet`, where a FIN may have come just now instead of a probe's answer: it counts where others of
    the set show the same. 0 where the keepalive timer denies a probe; None where nothing is in doubt."""
    hidden_quiet: float = 0.0
    """As `quiet`, where probes come so often that nobody can tell whether a FIN has just come; else 0."""


def age_of(connection: Connection, earlier: Earlier) -> Age:
    """Bound the time since a socket entered CLOSE_WAIT, FIN_WAIT_2, TIME_WAIT or SYN_SENT.

    In other states only an earlier look bounds it.
    """
    age = _narrowed(connection, earlier)
    seen_for = earlier.seen_for(connection) - _EARLY
    if seen_for > age.low:
        age = age._replace(low=seen_for, high=max(age.high, seen_for))
    return _with_quiet(connection, age)


def _with_quiet(connection: Connection, age: Age) -> Age:
    info = connection.info
    if connection.timer is not Timer.KEEPALIVE or isinstance(info, Missing):
        return age
    if connection.state not in (TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_2):
        return age
    quiet = min(info.last_data_sent, info.last_data_recv, age.high)
    read = connection.state is TcpState.CLOSE_WAIT and not connection.receive_queue
    if age.low >= (_READ_FOR if read else _PROBED_FOR):
        return age._replace(quiet=quiet)
    apart = _probes_apart(connection, info, quiet)
    if apart < _FAR_APART:
        return age._replace(perhaps_quiet=0.0, hidden_quiet=quiet if apart else 0.0)
    return age._replace(perhaps_quiet=quiet)


def _probes_apart(connection: Connection, info: TcpInfo, quiet: float) -> int:
    """Seconds between probes, where the keepalive timer was set as long ago as the last ACK came; else 0.

    Give or take a round trip. A timer that is longer than the connection has been quiet was not set by a
    probe.
    """
    length = connection.expires + info.last_ack_recv
    seconds = round(length + info.rtt)
    early = seconds - length
    fits = -1.2 * TICK <= early <= 1.2 * TICK + min(2 * info.rtt, _LONG_ROUND_TRIP)
    return seconds if fits and seconds <= quiet else 0


_LONG_ROUND_TRIP = 0.25
"""Seconds. With a longer one too many other moments would look like a probe's."""


def _narrowed(connection: Connection, earlier: Earlier) -> Age:
    age = age_in_one_look(connection)
    low, high = narrow(age.low, age.high, earlier.find(connection), earlier)
    return age._replace(low=low, high=high)


def narrow(
    low: float, high: float, before: Connection | Missing | None, earlier: Earlier
) -> tuple[float, float]:
    """The bounds of an age by the first of two looks as well."""
    elapsed = earlier.elapsed
    if isinstance(before, Missing) or isinstance(elapsed, Missing):
        return low, high
    if before is None:
        high = min(high, elapsed + _LATE)
        return min(low, high), high
    then = age_in_one_look(before)
    low = max(low, then.low + max(0.0, elapsed - _EARLY))
    return low, max(low, min(high, then.high + elapsed + _LATE))


def age_in_one_look(connection: Connection) -> Age:
    """Bound the time since a socket entered its state, from one sample alone."""
    info, state = connection.info, connection.state
    if state is _TIME_WAIT:
        from tcpdoctor.facts.deadlines import (
            TIME_WAIT_SECONDS,  # no rule asks for it, and it is a large module
        )

        if math.isnan(connection.expires):  # a recording without timers
            return Age(0.0, TIME_WAIT_SECONDS + TICK, ONLY_BOUNDS)
        age = max(0.0, TIME_WAIT_SECONDS - connection.expires)
        return Age(max(0.0, age - TICK), age + TICK, ONLY_BOUNDS)
    if isinstance(info, Missing):
        return Age(0.0, math.inf, info.reason)
    if state is _CLOSE_WAIT:
        return _between(info.last_ack_recv, info.last_data_recv)
    if state is _FIN_WAIT_2:
        return _between(info.last_ack_recv, info.last_data_sent)
    if state is _SYN_SENT:
        return _since_first_syn(connection, info)
    return _UNBOUNDED


_UNBOUNDED = Age(0.0, math.inf, ONLY_BOUNDS)
_TIME_WAIT, _CLOSE_WAIT, _FIN_WAIT_2, _SYN_SENT = (
    TcpState.TIME_WAIT,
    TcpState.CLOSE_WAIT,
    TcpState.FIN_WAIT_2,
    TcpState.SYN_SENT,
)
"""A member of an enum takes several times as long as a name."""


def _between(low: float, high: float) -> Age:
    """Order the bounds: both come from clock ticks, and may cross by one."""
    return Age(min(low, high), max(low, high) + TICK, ONLY_BOUNDS)


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


def quiet_ages(ages: Sequence[Age]) -> tuple[float, ...]:
    """How long each has been quiet at least, in order; empty where that proves no more than `low`."""
    doubted = [age.perhaps_quiet for age in ages if age.perhaps_quiet is not None]
    probed = len(doubted) - doubted.count(0.0) >= _PROBED_TOGETHER * len(doubted)
    quiet = [max(age.quiet, age.perhaps_quiet or 0.0) if probed else age.quiet for age in ages]
    if not any(quiet):
        return ()
    return tuple(sorted(max(age.low, seconds) for age, seconds in zip(ages, quiet, strict=True)))


def hidden_ages(ages: Sequence[Age]) -> tuple[float, ...]:
    """The same as if those were quiet of which nobody can tell; empty where there is none."""
    if not any(age.hidden_quiet for age in ages):
        return ()
    return tuple(sorted(max(age.low, age.quiet, age.perhaps_quiet or 0.0, age.hidden_quiet) for age in ages))


# Who began a connection, and how long something has lasted on it.


_FIN_QUEUED = frozenset((TcpState.FIN_WAIT_1, TcpState.CLOSING, TcpState.LAST_ACK))
"""Our FIN is in the send queue, or on its way."""
_NO_NUMBERS = Missing("its numbers of bytes do not fit each other")
_NO_CONNECTION = Missing("it is no connection")


def began_here(row: Connection) -> Reading[bool]:
    """Whether connect() was called on this socket; False where it came from accept().

    The kernel keeps no note of it, but its numbers do: what this end has put into the sequence of the
    connection, less the data, is 1 where it sent a SYN of its own and 0 where its SYN-ACK preceded the
    socket (tcp_create_openreq_child() starts behind it). That is bytes acknowledged, and sent but not
    acknowledged, less the data sent once; our FIN counts one as well, from when it is sent. It holds for
    TCP Fast Open and for simultaneous opens, which both ends began.

    Missing for sockets without tcp_info (TIME_WAIT and other minisockets), before Linux 4.19, for a
    socket that is merely bound, and where the numbers do not fit each other: they were read while data
    moved, or this host itself refused segments on their way out (netfilter, a full queueing discipline),
    which count as sent and were not. One such segment of a single byte makes connect() look like accept().
    """
    if row.state is TcpState.SYN_SENT:
        return True
    if row.state is TcpState.BOUND:
        return _NO_CONNECTION
    if isinstance(row.info, Missing):
        return row.info
    moved = row.info.bytes
    if isinstance(moved, Missing):
        return moved
    on_its_way = max(0, row.send_queue - row.info.notsent)
    beyond_data = moved.acked + on_its_way - (moved.sent - moved.retransmitted) - _fin_sent(row)
    return bool(beyond_data) if beyond_data in (0, 1) else _NO_NUMBERS


def _fin_sent(row: Connection) -> int:
    """Our FIN, if it was sent: it is the last in the queue, so it waits as long as anything does."""
    if isinstance(row.info, Missing) or row.state is TcpState.FIN_WAIT_2:
        return row.state is TcpState.FIN_WAIT_2
    return row.state in _FIN_QUEUED and row.info.notsent == 0


_LEAST_TIMEOUT = 0.004
"""Where tcp_info is not known: a route's rto_min and tcp_rto_min_us allow as little as a clock tick."""


_LONGEST_TIMEOUT = 120.0
"""TCP_RTO_MAX, and the most that tcp_rto_max_ms may be."""


def is_lost_by_size(row: Connection) -> bool:
    """Whether full segments are lost on the way to a peer that is there: small ones pass.

    A full segment was sent again and again; and the peer has said since then that it got something behind
    it (SACK), or has sent or acknowledged something. From a peer that is gone nothing comes any more.

    Where all that is on its way is full, nothing can come. Then it was small ones that passed, all of them
    ever, and the last was acknowledged just before: a peer that died of itself did not wait for this one.
    """
    info = row.info
    if isinstance(info, Missing) or row.timer is not Timer.RETRANSMIT or not info.mss:
        return False
    if row.send_queue - info.notsent < info.mss:
        return False
    retrying = _retrying_for(row, info)
    if info.sacked > 0 or min(info.last_ack_recv, info.last_data_recv) + TICK < retrying:
        return True
    only_small = not isinstance(info.bytes, Missing) and 1 < info.bytes.acked <= info.mss
    return only_small and info.last_ack_recv - retrying < _JUST_BEFORE


_JUST_BEFORE = 1.0
"""Seconds between the last acknowledgement and the first sending of what is lost, as between a request's head
and its body; the waits of retransmission are known to a fraction of that."""


def _retrying_for(row: Connection, info: TcpInfo) -> float:
    """How long the same segment has been sent again: the timeout is the last wait, and doubled each time."""
    return info.rto * (1 - 0.5**row.retransmits) + max(0.0, info.rto - row.expires)


def unanswered_age(row: Connection) -> Age:
    """Bound the time since the segment or probe that is sent again and again was sent first."""
    probes = row.timer is Timer.PROBE
    if isinstance(row.info, Missing):
        waits = [min(_LEAST_TIMEOUT * 2**n, _LONGEST_TIMEOUT) for n in range(row.retransmits - probes)]
        return Age(sum(waits), math.inf, row.info.reason)
    if probes:
        waits = _probe_waits(row.info)[-row.retransmits :]
        passed = sum(waits[:-1]) + max(0.0, waits[-1] - row.expires)
    else:
        passed = _retrying_for(row, row.info)
    high = row.info.last_ack_recv + TICK
    return Age(min(passed, high), high, ONLY_BOUNDS)


def lost_by_size_age(row: Connection) -> Age:
    """Bound the time since the full segment that is lost again and again was sent first.

    The peer answers other segments meanwhile, so only the retransmissions tell.
    """
    if isinstance(row.info, Missing):
        return Age(0.0, math.inf, row.info.reason)
    return Age(_retrying_for(row, row.info), math.inf, ONLY_BOUNDS)


def closed_window_age(row: Connection) -> Age:
    """Bound the time since the peer closed its window."""
    if isinstance(row.info, Missing):
        return Age(0.0, math.inf, row.info.reason)
    waits = _probe_waits(row.info)
    passed = sum(waits[:-1]) + max(0.0, waits[-1] - row.expires)
    high = row.info.last_data_sent + TICK
    return Age(min(passed, high), high, ONLY_BOUNDS)


def _probe_waits(info: TcpInfo) -> list[float]:
    """The waits between probes up to now, in seconds: unlike a retransmission's, `rto` stays as it is."""
    return [min(info.rto * 2**n, _LONGEST_TIMEOUT) for n in range(info.backoff + 1)]


def unread_age(row: Connection) -> Age:
    """The time since data last came in of which some is still unread: all that is, is at least that old."""
    if isinstance(row.info, Missing):
        return Age(0.0, math.inf, row.info.reason)
    return Age(row.info.last_data_recv, row.info.last_data_recv, "")


SMALL_ANSWER = 16_384
"""Bytes. What a pooled connection of a client may hold unread until it is used again: TLS session tickets,
settings of HTTP/2, "408 Request Timeout"."""


def is_left_unread(row: Connection, is_client: Callable[[Connection], bool]) -> bool:
    """Whether a connection that was accepted holds data that nobody has read, or a client's a lot of it."""
    if not row.inode or not row.receive_queue:
        return False
    if row.receive_queue >= SMALL_ANSWER:
        return True
    ours = began_here(row)
    return not (is_client(row) if isinstance(ours, Missing) else ours)


def idle_age(row: Connection) -> Age:
    """The time since data last went either way."""
    if isinstance(row.info, Missing):
        return Age(0.0, math.inf, row.info.reason)
    seconds = min(row.info.last_data_sent, row.info.last_data_recv)
    return Age(seconds, seconds, "")


def on_this_host(row: Connection) -> bool:
    """Whether the peer is surely on this host: its end is then closed with its process, and at once."""
    address = plain_address(row.remote.address)
    return address.startswith("127.") or address == "::1" or address == plain_address(row.local.address)


def silence_age(row: Connection) -> Age:
    """The time since anything went over a connection that the way notices: data, or an answered probe."""
    if isinstance(row.info, Missing):
        return Age(0.0, math.inf, row.info.reason)
    seconds = min(row.info.last_data_sent, row.info.last_data_recv, row.info.last_ack_recv)
    return Age(seconds, seconds, "")
