"""How a connection ended: who closed first, how long each state lasted, who reset it and why.

Events of one socket, in the order in which they happened, become one `Ending`. What the kernel's events mean
is not what their names say; each trap stands where it is dealt with, and tests/live/test_trace_table.py makes
each of them happen. Tracepoints tell of every network namespace; what counts is only what the kernel also
tells this namespace of, joined by the socket's cookie.
"""

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, TypeAlias

from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.tracepoints import (
    Destroyed,
    ErrorReported,
    LastNumbers,
    ResetReceived,
    ResetSent,
    SocketEvent,
    StateChange,
)
from tcpdoctor.named_tuples import NamedTuple

First: TypeAlias = Literal["here", "peer", "reset_here", "reset_by_peer", "never_established"]
Side: TypeAlias = Literal["accepted", "opened"]
Ends: TypeAlias = tuple[bytes, int, bytes, int]
"""Local and remote address and port; addresses of sixteen bytes, IPv4 as ::ffff:a.b.c.d."""


class Why(Enum):
    """Why a connection ended otherwise than by two FINs, in words."""

    UNREAD = "closed with unread data"
    LINGER = "closed with SO_LINGER 0"
    QUEUE = "the listener was closed with the connection in its queue"
    LATE_DATA = "the peer wrote after our close"
    LINGER2 = "closed with TCP_LINGER2 below 0"
    KEEPALIVE = "the peer answered no keepalive probe"
    TIMED_OUT = "the peer acknowledged nothing: given up (ETIMEDOUT)"
    ABORTED = "ended from outside (SOCK_DESTROY, as by ss -K)"
    OTHER_RESET = "a reset was sent here; this kernel does not say why"
    REFUSED = "refused: a reset answered the SYN (ECONNREFUSED)"
    NO_ANSWER = "nothing answered the SYN"
    UNREACHABLE = "unreachable: a router or this host said so"
    GIVEN_UP = "closed here before anything answered"
    PEER_RESET = "reset by the peer (ECONNRESET)"
    REQUEST_RESET = "a request on an idle connection met the peer's reset"
    RESET_AFTER_FIN = "what was sent after the peer's close met a reset (EPIPE)"
    RESET_AFTER_CLOSE = "the peer answered our close with a reset"


class Ending(NamedTuple):
    """One end of one connection, as it was in the end; None where that is not known."""

    at: int
    """When, in nanoseconds of CLOCK_MONOTONIC."""
    ends: Ends
    opened: bool | None
    """Whether connect() was called here; False: it came from accept()."""
    first: First | None
    owner: "Program | None"
    why: Why | None
    reset: Literal["here", "peer"] | None
    """Whose reset there was, whoever closed first."""
    states: tuple[tuple[TcpState, float | None], ...]
    """Seconds in each; None where it began before the trace, or went on in a minisocket."""
    bytes_in: int | None
    bytes_out: int | None
    rtt: float | None
    retransmissions: int | None
    idle: float | None
    """Seconds without data when it was closed first."""
    waited: float | None
    """Seconds from the last answer to the request that met the peer's reset."""


class Program(NamedTuple):
    """A process."""

    pid: int
    name: str | None


class Known(NamedTuple):
    """What was known of a connection before the trace began."""

    owner: Program | None
    opened: bool | None


_REASONS: Mapping[str, Why] = {
    "TCP_ABORT_ON_CLOSE": Why.UNREAD,
    "TCP_ABORT_ON_LINGER": Why.LINGER2,
    "TCP_STATE": Why.LINGER,  # told apart from a listener's queue by the listener's own event
    "TCP_DISCONNECT_WITH_DATA": Why.LINGER,
    "TCP_KEEPALIVE_TIMEOUT": Why.KEEPALIVE,
    "TCP_ABORT_ON_DATA": Why.LATE_DATA,
    "TCP_TIMEWAIT_SOCKET": Why.LATE_DATA,
    "NO_SOCKET": Why.LATE_DATA,
}
"""What the kernel's reasons for a reset (enum sk_rst_reason) mean to people."""

_ESTABLISHED, _SYN_SENT, _SYN_RECV, _FIN_WAIT_1, _FIN_WAIT_2 = 1, 2, 3, 4, 5
_CLOSE, _CLOSE_WAIT, _LAST_ACK, _LISTEN, _CLOSING = 7, 8, 9, 10, 11
_BEGINNINGS = {(_CLOSE, _SYN_SENT), (_LISTEN, _SYN_RECV)}
_CLOSED_HERE, _CLOSED_THERE = {_FIN_WAIT_1, _FIN_WAIT_2, _CLOSING}, {_CLOSE_WAIT, _LAST_ACK}
_NAMES = {int(state): state for state in TcpState}
_MINISOCKET = 1_000_000
"""Nanoseconds: a FIN_WAIT_2 that is over so soon was not over, but went on in a minisocket."""
_SAME_CLOSE = 1_000_000_000
"""Nanoseconds within which one thread closes a listener and what waits in its queue."""
_NEAR = 1_000_000_000
"""Nanoseconds between an error and the end that it is of."""
_TICK = 0.01
"""Seconds by which the kernel's times may disagree with the events': a step of its slowest clock."""
_REQUEST = 0.05
"""Seconds since the last answer after which what is sent is the next request."""
EVENTS_TAKE, _WAITS_FOR_NUMBERS = 200_000_000, 30_000_000_000
_MOST = 100_000
"""Of what waits for its other half, or for later, so much is kept."""


class _Story:
    """What has happened to one connection so far."""

    __slots__ = (
        *("before", "changes", "closer", "destroyed", "disconnected", "ended", "error", "ended_by"),
        *("destroyed_by", "local"),
        *("local_port", "opened", "opener", "queued", "remote", "remote_port", "reset_at"),
        *("reset_received", "reset_reason", "retransmitted", "told"),
    )

    def __init__(self, before: "_Story | None") -> None:
        self.before = before
        """The connection that the same socket had before: one that failed, mostly."""
        self.changes: list[tuple[int, int, int]] = []
        self.local = self.remote = b""
        self.local_port = self.remote_port = 0
        self.opened: bool | None = None
        self.opener: Program | None = None
        self.closer: Program | None = None
        self.reset_at: int | None = None
        self.reset_reason = ""
        self.reset_received: int | None = None
        self.retransmitted = 0
        self.queued = False
        self.ended: int | None = None
        self.ended_by = 0
        self.destroyed_by: int | None = None
        """The process that did it, 0 in an interrupt; None: not delivered."""
        self.destroyed = 0
        self.disconnected = False
        self.error = 0
        self.told = False

    @property
    def ends(self) -> Ends:
        return self.local, self.local_port, self.remote, self.remote_port


class Stories:
    """The connections that are going on; `tell` gives those that have ended."""

    def __init__(
        self,
        program: Callable[[int], Program | None],
        port: int | None = None,
        is_here: Callable[[int], bool | None] = lambda _: True,
    ) -> None:
        """Begin.

        Args:
            program: Names a process; None where it is nobody, as a thread of the kernel is.
            port: Only connections with this port at either end.
            is_here: Whether a process is in this network namespace; None where that is not known. Events come
                of all namespaces, and nothing else tells of a listener which is its own.
        """
        self.known: dict[Ends, Known] = {}
        """Connections that were there before."""
        self.listeners: dict[int, Program] = {}
        """Who listens, by local port."""
        self.late_resets = 0
        """Resets that answered what came after a connection had been told."""
        self.undelivered = 0
        """Connections of which the kernel did not deliver all events."""
        self.elsewhere = 0
        """Connections of other network namespaces that ended."""
        self._program, self._port, self._is_here = program, port, is_here
        self._live: dict[int, _Story] = {}
        self._waiting: dict[int, _Story] = {}
        self._unfinished: dict[Ends, _Story] = {}
        self._numbers: dict[int, tuple[int, LastNumbers]] = {}
        self._closed_listeners: dict[int, tuple[int, int]] = {}
        self._errors: dict[Ends, tuple[int, int]] = {}
        self._closed_here: dict[Ends, _Story] = {}

    def add_event(self, event: SocketEvent) -> None:
        """Take what happened next."""
        if isinstance(event, StateChange):
            self._change(event)
        elif isinstance(event, Destroyed):
            self._destroy(event)
        elif isinstance(event, ErrorReported):
            _bound(self._errors)
            self._errors[event.ends] = event.at, event.number
        elif isinstance(event, ResetSent):
            self._reset(event)
        elif (story := self._live.get(event.socket)) is not None:
            if isinstance(event, ResetReceived):
                story.reset_received = event.at
            else:
                story.retransmitted += 1

    def add_numbers(self, numbers: LastNumbers, at: int) -> None:
        """Take the last numbers of a socket of this namespace, which arrived at `at`."""
        _bound(self._numbers)
        self._numbers[numbers.cookie] = at, numbers

    def _change(self, event: StateChange) -> None:
        old, new = event.old, event.new
        if new == _LISTEN or (old == _LISTEN and new == _CLOSE):
            self._listen(event)
            return
        story = self._live.get(event.socket)
        if story is None or (old, new) in _BEGINNINGS:
            story = self._live[event.socket] = _Story(self._before(story, new))
        story.changes.append((event.at, old, new))
        if event.remote_port and (event.local_port or not story.local_port):
            story.local, story.local_port = event.local, event.local_port
            story.remote, story.remote_port = event.remote, event.remote_port
        elif not story.local_port:
            story.local, story.local_port = event.local, event.local_port
        if new == _SYN_SENT:
            story.opened, story.opener = True, self._who(event.pid)
        elif old == _LISTEN:
            story.opened = False
        elif event.pid and (new in (_FIN_WAIT_1, _LAST_ACK, _CLOSE) or old == new):
            story.closer = story.closer or self._who(event.pid)
        if new == _CLOSE:
            story.ended, story.ended_by = event.at, event.pid
            listener = self._closed_listeners.get(event.local_port)
            story.queued = (
                old in (_ESTABLISHED, _SYN_RECV, _CLOSE_WAIT)
                and listener is not None
                and listener[1] == event.thread
                and event.at - listener[0] < _SAME_CLOSE
            )

    def _before(self, story: "_Story | None", new: int) -> "_Story | None":
        """A connect() that failed, after which the same socket tries again.

        Any other connection that had this socket's address is over, although its end was not delivered.
        """
        if story is None:
            return None
        if new == _SYN_SENT and story.ended is not None and _first(story) == "never_established":
            return story
        _bound(self._unfinished)
        self._unfinished[story.ends] = story
        return None

    def _who(self, pid: int) -> Program | None:
        return self._program(pid) if pid else None

    def _listen(self, event: StateChange) -> None:
        """A listener is no connection; one that closes resets what nobody has accepted yet."""
        if event.new == _LISTEN:
            here = self._is_here(event.pid) if event.pid else None
            who, before = self._who(event.pid) if here else None, self.listeners.get(event.local_port)
            if who is not None:
                self.listeners[event.local_port] = who
            elif here is None and before is not None and not self._is_here(before.pid):
                del self.listeners[event.local_port]  # both are gone: it may have been either
        else:
            self._closed_listeners[event.local_port] = event.at, event.thread

    def _reset(self, event: ResetSent) -> None:
        story = self._live.get(event.socket)
        if story is None:
            if event.ends is not None:
                self._answer_late(event, event.ends)
        elif story.ended is None or story.reset_at is None:  # close() changes the state first, then it resets
            story.reset_at, story.reset_reason = event.at, event.reason

    def _answer_late(self, event: ResetSent, ends: Ends) -> None:
        """A minisocket, or no socket, answers what the peer of a connection sends that was closed here."""
        story = self._closed_here.pop(ends, None)
        if story is None:
            return
        if story.told:
            self.late_resets += 1
        elif story.reset_at is None:
            story.reset_at, story.reset_reason = event.at, event.reason

    def _destroy(self, event: Destroyed) -> None:
        story = self._live.pop(event.socket, None)
        if story is None:
            return
        story.destroyed, story.disconnected = event.at, event.disconnected
        story.destroyed_by = event.pid
        if len(self._waiting) >= _MOST:
            self._waiting.pop(next(iter(self._waiting)))
            self.elsewhere += 1
        self._waiting[event.cookie] = story
        if _first(story) == "here":
            _bound(self._closed_here)
            self._closed_here[story.ends] = story

    def tell(self, now: int) -> Iterator[Ending]:
        """Give the connections of this namespace that have ended, each once.

        Args:
            now: Until when all events have been added, in nanoseconds of CLOCK_MONOTONIC: numbers that came
                `EVENTS_TAKE` before it have none.
        """
        for cookie in [cookie for cookie in self._numbers if cookie in self._waiting]:
            _, numbers = self._numbers.pop(cookie)
            story = self._waiting.pop(cookie)
            self.undelivered += story.ended is None  # every socket changes to CLOSE before it is destroyed
            yield from self._tell_socket(story, numbers)
        late = [cookie for cookie, (at, _) in self._numbers.items() if now - at >= EVENTS_TAKE]
        yield from self._tell_late([self._numbers.pop(cookie) for cookie in late])
        while self._waiting:
            oldest = next(iter(self._waiting))
            if now - self._waiting[oldest].destroyed < _WAITS_FOR_NUMBERS:
                break
            del self._waiting[oldest]
            self.elsewhere += 1

    def _tell_late(self, late: Sequence[tuple[int, LastNumbers]]) -> Iterator[Ending]:
        """Tell the sockets whose end was not delivered: by what is known of a connection between these ends.

        perf drops, and does not count, what happens to a task while it is in another event, and a task can
        be left so for ever (seen on 6.18): then what its interrupts do is seen by nobody.
        """
        wanted = {_ends_of(numbers) for _, numbers in late if numbers.remote_port}
        if not wanted:
            return
        places: dict[Ends, list[int]] = {}
        for socket, story in self._live.items():
            if story.ends in wanted:
                places.setdefault(story.ends, []).append(socket)
        for at, numbers in late:
            ends = _ends_of(numbers)
            if not numbers.remote_port or self._port not in (None, numbers.local_port, numbers.remote_port):
                continue
            self.undelivered += 1
            found = self._unfinished.pop(ends, None)
            sockets = places.get(ends, [])
            if found is None and len(sockets) == 1:  # of two namespaces nobody knows whose it is
                found = self._live.pop(sockets.pop())
            if found is not None:
                found.destroyed = found.destroyed or at
                yield from self._tell_socket(found, numbers)
            elif (ending := ending_without_events(numbers, at, self.known.pop(ends, None))) is not None:
                yield ending

    def _tell_socket(self, story: "_Story | None", numbers: LastNumbers) -> Iterator[Ending]:
        chain: list[_Story] = []
        while story is not None:
            chain.append(story)
            story = story.before
        last = chain[0]
        for one in reversed(chain):
            known = self.known.pop(one.ends, None)
            if one.opened is None and known is not None:
                one.opened, one.opener = known.opened, known.owner
            if one.opened is None and one.local_port in self.listeners:
                one.opened = False
            at, number = self._errors.pop(one.ends, (0, 0))
            if one.ended is not None and abs(at - one.ended) < _NEAR:
                one.error = number
            wiped = one is not last or one.disconnected
            owner = one.closer or one.opener or self.listeners.get(one.local_port if not one.opened else -1)
            one.told = True
            yield _ending(one, None if wiped else numbers, numbers.unread if one is last else 0, owner)


def _bound(kept: "dict[Any, Any]") -> None:
    """Let the oldest go where there are too many."""
    if len(kept) >= _MOST:
        del kept[next(iter(kept))]


def _ends_of(numbers: LastNumbers) -> Ends:
    return numbers.local, numbers.local_port, numbers.remote, numbers.remote_port


def ending_without_events(numbers: LastNumbers, at: int, known: Known | None) -> Ending | None:
    """What the last numbers alone tell: no order of events, so not who closed first; None: no connection.

    A socket without a peer was never connected, or was disconnected, which clears its numbers: not told.
    """
    if not numbers.remote_port:
        return None
    return Ending(
        at=at,
        ends=_ends_of(numbers),
        opened=known.opened if known else None,
        first=None,
        owner=known.owner if known else None,
        why=None,
        reset=None,
        states=(),
        bytes_in=None,
        bytes_out=numbers.sent,
        rtt=numbers.rtt or None,
        retransmissions=numbers.retransmissions,
        idle=min(numbers.sent_before, numbers.received_before) if numbers.rtt else None,
        waited=None,
    )


def _ending(story: _Story, numbers: LastNumbers | None, unread: int, owner: Program | None) -> Ending:
    first = _first(story)
    reset = _whose_reset(story)
    sent_before = received_before = None
    left = _left_established(story)
    if numbers is not None and left and numbers.rtt:
        since = (story.destroyed - left) / 1e9
        sent_before, received_before = numbers.sent_before - since, numbers.received_before - since
    told = None if first == "never_established" else numbers
    fin = None if told is None else _fin_received(story, told.unread)
    received = None if told is None or fin is None else max(0, told.received - fin)
    waited = None
    asked = reset == "peer" and story.opened and received
    if asked and sent_before is not None and received_before is not None:
        gap = received_before - sent_before
        waited = gap if gap > _REQUEST else None
    return Ending(
        at=story.ended or story.destroyed,
        ends=story.ends,
        opened=story.opened,
        first=first,
        owner=owner,
        why=_why(story, first, reset, unread, waited),
        reset=reset,
        states=_durations(story),
        bytes_in=received,
        bytes_out=None if told is None else told.sent,
        rtt=(told.rtt or None) if told is not None else None,
        retransmissions=told.retransmissions if told is not None else story.retransmitted,
        idle=_idle(sent_before if waited is None else None, received_before),
        waited=waited,
    )


def _first(story: _Story) -> First | None:
    """Who ended it first, by the order of states; None where neither did: a timeout, or events were lost."""
    for at, old, new in story.changes:
        if new == _FIN_WAIT_1 or old in _CLOSED_HERE:
            return "here"
        if new == _CLOSE_WAIT or old in _CLOSED_THERE:
            return "peer"
        if new == _CLOSE and old == _SYN_SENT:
            return "never_established"
        if new == _CLOSE:
            if story.reset_received is not None and story.reset_received <= at:
                return "reset_by_peer"
            return "reset_here" if story.reset_at is not None or story.queued else None
    return None


def _whose_reset(story: _Story) -> Literal["here", "peer"] | None:
    if story.reset_received is not None:
        return "peer"
    return "here" if story.reset_at is not None or story.queued else None


def _left_established(story: _Story) -> int | None:
    """When data could last flow both ways."""
    return next((at for at, old, new in story.changes if new in _AFTER or old in _AFTER_OR_CLOSED), None)


_AFTER = _CLOSED_HERE | _CLOSED_THERE | {_CLOSE}
_AFTER_OR_CLOSED = _CLOSED_HERE | _CLOSED_THERE


def _fin_received(story: _Story, unread: int) -> int | None:
    """1 where the peer's FIN counts in the bytes received; None where that is not known."""
    for number, (_, old, new) in enumerate(story.changes):
        if new in (_CLOSE_WAIT, _LAST_ACK, _CLOSING) or old in (_CLOSE_WAIT, _LAST_ACK, _CLOSING):
            return 1
        if (old, new) == (_FIN_WAIT_2, _CLOSE) and story.reset_received is None and story.reset_at is None:
            orphan = _is_orphan(story, number)
            if unread or orphan is None:
                return 1 if unread else None  # close() reads no more, and an unread FIN is one byte
            return 0 if orphan else 1
    return 0


def _is_orphan(story: _Story, number: int) -> bool | None:
    """Whether a FIN_WAIT_2 went on in a minisocket: nobody held the socket; None where that is not known.

    One that a process holds ends with the peer's FIN, and its socket goes when the process closes it; an
    orphan goes at once, and where its FIN_WAIT_2 was over within microseconds it was not over.
    """
    at = story.changes[number][0]
    before = story.changes[number - 1] if number else None
    if before is None or at - before[0] >= _MINISOCKET:
        return False
    if before[1:] == (_FIN_WAIT_2, _FIN_WAIT_2):
        return True
    if story.ended_by or story.destroyed_by is None:
        return None
    return not story.destroyed_by


def _idle(sent_before: float | None, received_before: float | None) -> float | None:
    """Seconds without data at the close; data that came after it hides when the one before was."""
    times = [time for time in (sent_before, received_before) if time is not None and time > -_TICK]
    return max(0.0, min(times)) if times else None


def _durations(story: _Story) -> tuple[tuple[TcpState, float | None], ...]:
    """How long each state lasted, in order.

    The first is as long as nobody knows where it began before the trace. A child of a listener is in SYN_RECV
    for microseconds, after its handshake: that is left out.
    """
    told: list[tuple[TcpState, float | None]] = []
    changes = story.changes
    first = changes[0][1]
    if first not in (_CLOSE, _LISTEN):
        told.append((_NAMES.get(first, TcpState.CLOSE), None))
    for number, (at, old, new) in enumerate(changes):
        if new == _CLOSE or (new == _SYN_RECV and old == _LISTEN):
            continue
        lasted: float | None = None
        if number + 1 < len(changes):
            span = changes[number + 1][0] - at
            goes_on = (
                (new, changes[number + 1][2]) == (_FIN_WAIT_2, _CLOSE)
                and story.reset_received is None
                and _is_orphan(story, number + 1) is not False
            )
            lasted = None if goes_on else span / 1e9
        if old == new and told and told[-1][0] == _NAMES[new]:  # close() in FIN_WAIT_2
            before = told.pop()[1]
            lasted = None if before is None or lasted is None else before + lasted
        told.append((_NAMES.get(new, TcpState.CLOSE), lasted))
    return tuple(told)


def _why(
    story: _Story, first: First | None, reset: str | None, unread: int, waited: float | None
) -> Why | None:
    if first == "never_established":
        return _why_never(story)
    if reset == "peer":
        if waited is not None:
            return Why.REQUEST_RESET
        after = {"peer": Why.RESET_AFTER_FIN, "here": Why.RESET_AFTER_CLOSE}
        return after.get(first or "", Why.PEER_RESET)
    if reset == "here":
        return _why_reset(story, first, unread)
    if story.error == errno.ECONNABORTED:
        return Why.ABORTED
    if story.error in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH):
        return Why.TIMED_OUT
    if first is None and story.closer is None and story.ended is not None:
        return Why.TIMED_OUT
    return None


def _why_never(story: _Story) -> Why:
    if story.reset_received is not None:
        return Why.REFUSED
    if story.error in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNREFUSED, errno.EACCES):
        return Why.UNREACHABLE
    return Why.GIVEN_UP if story.closer is not None else Why.NO_ANSWER


def _why_reset(story: _Story, first: First | None, unread: int) -> Why:
    """Why this host sent a reset: as the kernel says, else from what else is known of the socket."""
    if story.queued:
        return Why.QUEUE
    if story.error == errno.ECONNABORTED:
        return Why.ABORTED
    told = _REASONS.get(story.reset_reason)
    if told is not None:
        return told
    if story.reset_reason not in ("", "NOT_SPECIFIED"):
        return Why.OTHER_RESET
    if story.disconnected:
        return Why.LINGER
    if first == "here":
        return Why.LATE_DATA
    if story.closer is not None and unread:
        return Why.UNREAD
    return Why.KEEPALIVE if story.error == errno.ETIMEDOUT else Why.OTHER_RESET
