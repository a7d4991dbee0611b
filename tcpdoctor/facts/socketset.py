"""Sets of sockets of which some only perhaps belong: how many, how old, which."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import overload

from tcpdoctor.facts.rates import elapsed
from tcpdoctor.facts.subject import HIDDEN_LABEL
from tcpdoctor.facts.value import Ages, Merged, NamedText, Range
from tcpdoctor.kernel.kept_rows import KeptRows
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import (
    Connection,
    Detail,
    Endpoint,
    Held,
    Listener,
    NotHeld,
    Owner,
    Samples,
    TcpInfo,
    plain_address,
)
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.kernel.text import name_a_few
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

_TICK = 0.01
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
    fits = -1.2 * _TICK <= early <= 1.2 * _TICK + min(2 * info.rtt, _LONG_ROUND_TRIP)
    return seconds if fits and seconds <= quiet else 0


_LONG_ROUND_TRIP = 0.25
"""Seconds. With a longer one too many other moments would look like a probe's."""


def _narrowed(connection: Connection, earlier: Earlier) -> Age:
    age = age_in_one_look(connection)
    low, high = _narrow(age.low, age.high, earlier.find(connection), earlier)
    return age._replace(low=low, high=high)


def _narrow(
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
            return Age(0.0, TIME_WAIT_SECONDS + _TICK, ONLY_BOUNDS)
        age = max(0.0, TIME_WAIT_SECONDS - connection.expires)
        return Age(max(0.0, age - _TICK), age + _TICK, ONLY_BOUNDS)
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


NONE = "none"
"""What a list of peers or descriptors says when it is empty."""

_NAMED = 3
"""How many peers or descriptors a text names before it says how many more there are."""


class Unsure(Sequence[Connection]):
    """Sockets that may belong to any of many subjects.

    Each of those asks the same of them, so it is computed once: else thousands of processes times
    thousands of sockets would be counted.
    """

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = connections
        self._matching: dict[Callable[[Connection], bool], Unsure] = {}
        self._highs: dict[object, Sequence[float]] = {}

    def __len__(self) -> int:
        return len(self._connections)

    @overload
    def __getitem__(self, place: int) -> Connection: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Connection]: ...
    def __getitem__(self, place: int | slice) -> Connection | Sequence[Connection]:
        return self._connections[place]

    def where(self, condition: Callable[[Connection], bool]) -> "Unsure":
        """Those for which `condition` holds."""
        if not self._connections:
            return self
        found = self._matching.get(condition)
        if found is None:
            found = Unsure([row for row in self._connections if condition(row)])
            self._matching[condition] = found
        return found

    def highest_ages(self, earlier: Earlier) -> Sequence[float]:
        """The most that each can have been in its state, ascending.

        Of sockets that nobody has looked at this look alone tells it: two could tell less.
        """
        if isinstance(self._connections, KeptRows) and not earlier.knows_first_seen:
            if earlier not in self._highs and (ages := self._connections.highest_ages()) is not None:
                self._highs[earlier] = [age + _TICK for age in ages]
            if earlier in self._highs:
                return self._highs[earlier]
        return self._highest(earlier, lambda row: age_of(row, earlier))

    def highest_by(self, age: "Callable[[Connection], Age]") -> Sequence[float]:
        """The most that each can be old by this measure, ascending."""
        return self._highest(age, age)

    def _highest(self, key: object, age: "Callable[[Connection], Age]") -> Sequence[float]:
        if not self._connections:
            return ()
        if key not in self._highs:
            self._highs[key] = sorted(age(row).high for row in self._connections)
        return self._highs[key]


class SocketSet(NamedTuple):
    """Sockets that belong to a subject, and those that may."""

    sure: Sequence[Connection] = ()
    maybe: Unsure = Unsure(())
    """Their owner is hidden, or there is no proof yet."""
    unseen: int = 0
    """Sockets of the same state that are not known one by one and may belong as well."""
    reason: str = ""
    """Why anything is unsure."""
    looked_at: int = 0
    """Size of the uniform sample that `sure` is part of where there are too many to look at all; else 0."""

    def where(self, condition: Callable[[Connection], bool]) -> "SocketSet":
        """The part of the set for which `condition` holds; it may hold for all that are unseen."""
        return self._replace(
            sure=[c for c in self.sure if condition(c)],
            maybe=self.maybe.where(condition),
        )

    def number(self) -> int | Range:
        """How many there are."""
        low = len(self.sure)
        high = low + len(self.maybe) + self.unseen
        return low if low == high else Range(low, high, self.reason)

    def total(self, quantity: Callable[[Connection], int]) -> int | Range:
        """The sum of a quantity over the set; without upper bound where sockets are unseen."""
        low = sum(map(quantity, self.sure))
        high = low + sum(map(quantity, self.maybe)) if not self.unseen else math.inf
        return low if low == high else Range(low, high, self.reason)

    def ages(self, earlier: Earlier) -> Ages:
        """How long each has been in its state."""
        bounds = self._ages_from_columns(earlier)
        sure = [age_of(c, earlier) for c in self.sure] if bounds is None else []
        bounds = [(age.low, age.high) for age in sure] if bounds is None else bounds
        at_most: Sequence[float] = tuple(sorted(high for _, high in bounds))
        if self.maybe or self.unseen:
            at_most = Merged(at_most, self.maybe.highest_ages(earlier), self.unseen)
        reasons = [self.reason] if self.maybe or self.unseen else []
        reasons += dict.fromkeys(age.reason for age in sure if age.low < age.high)
        reasons += [ONLY_BOUNDS] * (not sure and any(low < high for low, high in bounds))
        lows = tuple(sorted(low for low, _ in bounds))
        return Ages(lows, at_most, "; ".join(reasons) or None, _quiet(sure), _hidden(sure))

    def _ages_from_columns(self, earlier: Earlier) -> list[tuple[float, float]] | None:
        """The bounds of the ages of sockets that nobody looked at; None where more may be known."""
        if not isinstance(self.sure, KeptRows) or earlier.knows_first_seen or not self.sure:
            return None
        ages, state = self.sure.ages(), self.sure.state
        if ages is None:
            return None
        if isinstance(earlier.elapsed, Missing):
            return [(low, high + _TICK) for _, low, high in ages]
        return [
            _narrow(low, high + _TICK, earlier.find_key(state, cookie), earlier) for cookie, low, high in ages
        ]

    def peers(self, is_client_port: Callable[[int], bool]) -> str | Missing:
        """Peers with most sockets first: ``10.0.0.7:443 (812), 10.0.0.9:443 (3) and 14 more``.

        A peer's port is named where `is_client_port` does not deny that we were the client and where its
        connections share ports, as those to a server do.
        """
        if not self.sure:
            return Missing(self.reason) if self.maybe or self.unseen else NONE
        ends = [(address, port, is_client_port(local)) for local, address, port in _ends_of(self.sure)]
        ours = {Endpoint(plain_address(address), port) for address, port, is_ours in ends if is_ours}
        return NamedText(most_common(_count_ends(ends)), peers=ours)

    def descriptors(self) -> str | Missing:
        """Descriptors of the first holder of each: ``fd 6, 7, 9 and 137 more``."""
        fds = sorted(c.owner.holders[0].fd for c in self.sure if isinstance(c.owner, Held))
        if not fds:
            return Missing(self.reason) if self.maybe or self.unseen else NONE
        return some_descriptors(fds)


def _quiet(ages: Sequence[Age]) -> tuple[float, ...]:
    """How long each has been quiet at least, ascending; empty where that proves no more than `low`."""
    doubted = [age.perhaps_quiet for age in ages if age.perhaps_quiet is not None]
    probed = len(doubted) - doubted.count(0.0) >= _PROBED_TOGETHER * len(doubted)
    quiet = [max(age.quiet, age.perhaps_quiet or 0.0) if probed else age.quiet for age in ages]
    if not any(quiet):
        return ()
    return tuple(sorted(max(age.low, seconds) for age, seconds in zip(ages, quiet, strict=True)))


def _hidden(ages: Sequence[Age]) -> tuple[float, ...]:
    """The same as if those were quiet of which nobody can tell; empty where there is none."""
    if not any(age.hidden_quiet for age in ages):
        return ()
    return tuple(sorted(max(age.low, age.quiet, age.perhaps_quiet or 0.0, age.hidden_quiet) for age in ages))


def some_descriptors(fds: Sequence[int]) -> str:
    """The first of some descriptors: ``fd 6, 7, 9 and 137 more``."""
    named = fds if len(fds) <= _NAMED + 1 else fds[:_NAMED]
    return "fd " + enumerate_some([str(fd) for fd in named], len(fds) - len(named))


def pids_of(rows: Iterable[Connection | Listener]) -> frozenset[int]:
    """The processes that hold any of these sockets, as far as they were looked up."""
    return frozenset(
        holder.pid for row in rows if isinstance(row.owner, Held) for holder in row.owner.holders
    )


def holder_name(owner: Owner) -> Reading[str]:
    """Who holds a socket: ``nginx (811)``, ``no process``; Missing where that is hidden."""
    if isinstance(owner, Held):
        return owner.label
    return owner if isinstance(owner, Missing) else "no process"


def count_holders(
    rows: Iterable[Connection | Listener], loose: str = "no process"
) -> tuple[Counter[str], list[Missing]]:
    """How many of these sockets each process holds, `loose` those without a descriptor; what hides others."""
    numbers: Counter[str] = Counter()
    hidden: list[Missing] = []
    for row in rows:
        name = holder_name(row.owner)
        if isinstance(name, Missing):
            hidden.append(name)
        else:
            numbers[loose if isinstance(row.owner, NotHeld) and not row.inode else name] += 1
    if hidden and numbers:
        numbers[HIDDEN_LABEL] = len(hidden)
    return numbers, hidden


def oldest(ages: Ages) -> float | Range:
    """The age of the oldest of a set, 0 for an empty one."""
    low = ages.at_least[-1] if ages.at_least else 0.0
    high = ages.at_most[-1] if ages.at_most else 0.0
    return low if low == high else Range(low, high, ages.reason or "")


def most_common(numbers: Counter[str], form: str = "{name} ({number:,})") -> str:
    """The names counted most often, with their numbers."""
    ordered = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
    named = ordered if len(ordered) <= _NAMED + 1 else ordered[:_NAMED]
    words = [form.format(name=name, number=number) for name, number in named]
    return enumerate_some(words, len(ordered) - len(named))


def enumerate_some(words: Sequence[str], more: int) -> str:
    """Join words with commas: ``a, b and c``, or ``a, b and 7 more``."""
    if more:
        return name_a_few(words, len(words), len(words) + more)
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _ends_of(rows: Sequence[Connection]) -> Iterable[tuple[int, str, int]]:
    """The local port of each, and address and port of its other end; none is decoded for it."""
    if isinstance(rows, KeptRows) and not rows.decoded:
        return rows.ends()
    return ((row.local.port, *row.remote) for row in rows)


def name_ends(ends: Iterable[Endpoint]) -> str:
    """The other ends with most connections first, with their ports where connections share them."""
    return most_common(_count_ends((*end, True) for end in ends))


def _count_ends(ends: Iterable[tuple[str, int, bool]]) -> Counter[str]:
    """Count other ends, by address and port, each with whether its port may be that of a server."""
    by_address: dict[str, Counter[int]] = {}
    counted = Counter((address, port if is_server else _ANY) for address, port, is_server in ends)
    for (address, port), number in counted.items():
        by_address.setdefault(plain_address(address), Counter())[port] += number
    numbers: Counter[str] = Counter()
    for address, ports in by_address.items():
        shared = len(ports) == 1 or ports.total() >= 2 * len(ports)
        for port, number in ports.items():
            named = shared and port != _ANY
            numbers[str(Endpoint(address, port)) if named else address] += number
    return numbers


_ANY = -1


def join_reasons(reasons: Iterable[str]) -> str:
    """Distinct reasons in the order in which they came."""
    return "; ".join(dict.fromkeys(reasons))


# Which sockets in a passing state are stuck there.
#
# FIN_WAIT_1, LAST_ACK, CLOSING and SYN_SENT last for one round trip and a delayed ACK, some 60 ms on a
# healthy link; FIN_WAIT_1 also for as long as unsent data drains after close(). So a single look proves
# nothing. A socket is stuck where nobody answers it:
#
# - it was there in the same state at least `LASTING_SECONDS` ago and the peer has acknowledged nothing
# since (its send queue is the same), or - it has retransmitted `PROOF_BY_RETRIES` times in a row, which
# takes 1.4 s even at the smallest timeout of 200 ms, or has probed a closed window as often without an
# answer.
#
# One whose peer answers and keeps its window closed is none of these: a client that reads in gulps looks
# like that for seconds, and is well. How long such a window has been closed is told apart from them.


LASTING_SECONDS = 0.9
"""The default window of 1 s, less what reading takes; far above a round trip with a delayed ACK."""

PROOF_BY_RETRIES = 3


def lasting(detail: Reading[Detail], state: TcpState, earlier: Earlier) -> Reading[SocketSet]:
    """The sockets stuck in one state: those with proof, and those of which it cannot be told.

    Missing if the sockets of that state were not read.
    """
    if isinstance(detail, Missing):
        return detail
    stuck = split(detail.connections, earlier)
    unseen = detail.total - len(detail.connections)
    if not unseen:
        return stuck
    reasons = join_reasons(filter(None, [stuck.reason, partly(detail, state)]))
    return stuck._replace(unseen=unseen, reason=reasons)


def split(connections: Iterable[Connection], earlier: Earlier) -> SocketSet:
    """Separate the sockets that are stuck from those that may be; the others are left out."""
    sure: list[Connection] = []
    maybe: list[Connection] = []
    reasons: dict[str, None] = {}
    for connection in connections:
        verdict = _is_stuck(connection, earlier)
        if isinstance(verdict, Missing):
            maybe.append(connection)
            reasons[verdict.reason] = None
        elif verdict:
            sure.append(connection)
    return SocketSet(sure, Unsure(maybe), 0, join_reasons(reasons))


def _is_stuck(connection: Connection, earlier: Earlier) -> Reading[bool]:
    if connection.retransmits >= PROOF_BY_RETRIES:
        return True
    if connection.timer is Timer.PROBE:
        return False
    before = earlier.find(connection)
    if isinstance(before, Missing) or isinstance(earlier.elapsed, Missing):
        return before if isinstance(before, Missing) else False
    if before is None:
        return False
    if earlier.elapsed < LASTING_SECONDS:
        return Missing("needs two samples that are a second apart")
    return before.send_queue == connection.send_queue


def waits_for_a_window(connection: Connection) -> bool:
    """Whether the peer keeps its window closed and is there: it answered one of the last three probes."""
    return connection.timer is Timer.PROBE and connection.retransmits < PROOF_BY_RETRIES
