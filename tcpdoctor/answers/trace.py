"""The answer to `trace`: how connections end while somebody looks, one by one, and what that amounts to.

`follow_endings` is the look: it yields each connection as it ends, and last the summary.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Event, Thread
from typing import TypeAlias, TypeVar

from tcpdoctor.answers.ended import (
    EndedConnection,
    IdleEnding,
    PeerEndings,
    ProgramEndings,
    ResetCount,
    StateTime,
    TraceSummary,
)
from tcpdoctor.answers.ends import Peer
from tcpdoctor.answers.port import PortAnswer
from tcpdoctor.diagnosis.ending_counts import EndingCounts, Group, IdleEnd, PeerKey, ProgramKey
from tcpdoctor.diagnosis.endings import (
    EVENTS_TAKE,
    Ending,
    Ends,
    First,
    Known,
    Program,
    Side,
    Stories,
    ending_without_events,
)
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.connection import began_here
from tcpdoctor.kernel.addresses import address_text, raw_address
from tcpdoctor.kernel.namespaces import shares_namespace
from tcpdoctor.kernel.perf_ring import (
    MIB,
    Exited,
    Forked,
    Named,
    ProcessNames,
    Rings,
    online_processors,
    open_rings,
)
from tcpdoctor.kernel.reading import UNDERWAY, Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Endpoint, Held, Listener
from tcpdoctor.kernel.sockets import EVERY_SOCKET, SocketFilter, count_states, read_connections
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.survey import Wanted, call_roll
from tcpdoctor.kernel.tracepoints import (
    ERROR,
    RESET_SENT,
    DestroyedSockets,
    Tracepoints,
    open_destroyed,
    read_tracepoints,
)
from tcpdoctor.named_tuples import NamedTuple

_AnyKey = TypeVar("_AnyKey", ProgramKey, PeerKey)
Forever = float("inf")
_TICK = 0.05
"""Seconds from one look to the next; a ring that fills is looked at at once."""
_LAST_MESSAGES = 0.15, 1.0
"""Seconds in the end without a message after which none is expected, and the longest that is waited."""
_MOST_KNOWN = 50_000
"""Connections that are there before: of more the owners are not looked for."""
_END_OF_TIME = 1 << 62
_OPEN = frozenset(
    {
        *(TcpState.ESTABLISHED, TcpState.SYN_SENT, TcpState.FIN_WAIT_1, TcpState.FIN_WAIT_2),
        *(TcpState.CLOSE_WAIT, TcpState.LAST_ACK, TcpState.CLOSING),
    }
)
_MOST_ROWS = 100
"""Programs, and peers, that the summary tells, those with most endings first."""


class TraceQuestion(NamedTuple):
    """Which connections are wanted, and for how long."""

    port: int | None = None
    """At either end."""
    pids: tuple[int, ...] = ()
    """Of these processes; empty: of any."""
    name: str | None = None
    """And of any that is called so."""
    peer: Peer | None = None
    seconds: float = Forever
    buffer: float | None = None
    """MiB for each processor; None: as much as is usual."""


TraceItem: TypeAlias = EndedConnection | TraceSummary


class Trace:
    """A trace that is going on; use it in a `with` block."""

    def __init__(self, question: TraceQuestion) -> None:
        """Begin to listen in the calling thread's network namespace.

        Raises:
            QuestionError: The kernel does not even tell of sockets that end.
        """
        self.missing: dict[str, str] = {}
        """What is not known, with the reason."""
        self._question = question
        self._counts = EndingCounts()
        self._stories = Stories(self._program, question.port, shares_namespace)
        self._rings: Rings | None = None
        self._open_rings()
        self._names = ProcessNames()  # who is renamed meanwhile is told by an event
        destroyed = open_destroyed()
        if isinstance(destroyed, Missing):
            self.close()
            raise QuestionError(f"trace may not look here: {destroyed.reason}")
        self._destroyed: DestroyedSockets = destroyed
        self._began = time.monotonic()
        self._processors = online_processors()
        self._know_before()

    def __enter__(self) -> "Trace":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.close()
        self._destroyed.close()

    def close(self) -> None:
        """Give the rings back."""
        if self._rings is not None:
            self._rings.close()
            self._rings = None

    @property
    def sees_events(self) -> bool:
        """Whether the order of events is known, and not only how sockets were in the end."""
        return self._rings is not None

    @property
    def connections(self) -> int:
        """How many have ended so far."""
        return self._counts.all.total

    def _program(self, pid: int) -> Program | None:
        name = self._names.name(pid)
        return None if name is None else Program(pid, name)

    def _open_rings(self) -> None:
        points = read_tracepoints(self._question.port)
        if isinstance(points, Missing):
            self._blind(points.reason)
            return
        each = None if self._question.buffer is None else max(1, int(self._question.buffer * MIB))
        rings = open_rings(points.found, each)
        if isinstance(rings, Missing):
            self._blind(rings.reason)
            return
        self._rings = rings
        if rings.each < rings.wanted:
            self.missing["buffer"] = (
                f"only {rings.each / MIB:g} MiB a processor may be locked, instead of {rings.wanted / MIB:g} "
                "(RLIMIT_MEMLOCK, kernel.perf_event_mlock_kb)"
            )
        self._note_absent(points)

    def _note_absent(self, points: Tracepoints) -> None:
        if ERROR in points.absent:
            self.missing["errors"] = (
                "this kernel does not tell which error a program got (sock:inet_sk_error_report)"
            )
        if RESET_SENT in points.absent or not points.tells_reasons:
            self.missing["reset_reasons"] = (
                "this kernel does not say why it sends a reset; that is told from what else is known of the "
                "socket, and resets after a connection's end (late requests) are not counted"
            )

    def _blind(self, reason: str) -> None:
        """Without events only the last numbers of each socket are known."""
        for key in (*_FIRST_KEYS.values(), "states", "reasons", "pid"):
            self.missing[key] = reason
        self.missing["bytes_in"] = "whether the peer's FIN counts as a byte in it is not known without events"
        self.missing["idle_at_close_s"] = "it includes the time from the first close to the end of the socket"
        self.missing["connections"] = (
            "one that was closed with SO_LINGER 0, or refused while connect() waited, leaves no ends and is "
            "not counted"
        )

    def _know_before(self) -> None:
        """Learn who listens, and whose the connections are that are there by now."""
        question = self._question
        counted = count_states()
        states = {TcpState.LISTEN, *_OPEN}
        if not isinstance(counted, Missing) and sum(counted.by_state[state] for state in _OPEN) > _MOST_KNOWN:
            states = {TcpState.LISTEN}
            self.missing["owners_before"] = (
                f"there are more than {_MOST_KNOWN:,} connections: whose those are that ended without their "
                "process's doing was not looked up"
            )
        wanted = [Wanted(states, local_port=question.port)]
        if question.port is not None and len(states) > 1:
            wanted.append(Wanted(_OPEN, remote_port=question.port))
        for each in wanted:
            roll = call_roll(each, seconds=1.0)
            for row in () if isinstance(roll, Missing) else roll:
                self._know(row)

    def _know(self, row: Connection | Listener) -> None:
        owner = None
        if isinstance(row.owner, Held):
            holder = row.owner.holders[0]
            owner = Program(holder.pid, holder.name)
        if isinstance(row, Listener):
            if owner is not None:
                self._stories.listeners.setdefault(row.local.port, owner)
        elif not row.minisocket:
            opened = began_here(row)
            known = Known(owner, None if isinstance(opened, Missing) else opened)
            self._stories.known[_raw_ends(row.local, row.remote)] = known

    def follow(self, stop: Callable[[], bool] = lambda: False) -> Iterator[TraceItem]:
        """Yield each connection as it ends, then the summary; as `endings`."""
        for item in self.endings(stop):
            yield connection_record(item) if isinstance(item, Ending) else item

    def endings(self, stop: Callable[[], bool]) -> Iterator[Ending | TraceSummary]:
        """Yield each ending, then the summary.

        Args:
            stop: Asked twenty times a second whether it is enough.
        """
        until = self._began + self._question.seconds
        while not stop() and (left := until - time.monotonic()) > 0:
            yield from self._step(time.monotonic_ns())
            self._wait(min(left, _TICK))
        seconds = time.monotonic() - self._began
        yield from self._finish()
        yield self._summary(seconds)

    def _wait(self, seconds: float) -> None:
        if self._rings is not None:
            self._rings.wait(seconds)
        else:
            time.sleep(seconds)

    def _finish(self) -> Iterator[Ending]:
        """Take what is on its way: the kernel sends its messages a little later.

        Connections that end after the rings have stopped are not told: nothing is known of their order.
        """
        if self._rings is None:
            self._wait(_TICK)
            yield from self._step(time.monotonic_ns())
            return
        silence, longest = _LAST_MESSAGES
        yield from self._step(time.monotonic_ns())
        self._rings.stop()
        began = heard = time.monotonic()
        yield from self._step(_END_OF_TIME, until=time.monotonic_ns())
        while time.monotonic() - heard < silence and time.monotonic() - began < longest:
            self._wait(_TICK / 5)
            before = self.connections
            yield from self._step(_END_OF_TIME)
            if self.connections != before:
                heard = time.monotonic()

    def _step(self, now: int, until: int | None = None) -> Iterator[Ending]:
        """Take what has happened by now, and tell what has ended.

        Args:
            now: As `Rings.drain` wants it.
            until: When the last events came; None: they still do, or that has been told.
        """
        if self._rings is not None:
            for event in self._rings.drain(now):
                if isinstance(event, Named | Forked | Exited):
                    self._names.learn(event)
                else:
                    self._stories.add_event(event)
        arrived = time.monotonic_ns()
        for numbers in self._destroyed.read():
            if self._rings is not None:
                self._stories.add_numbers(numbers, arrived)
                continue
            known = self._stories.known.pop(
                (numbers.local, numbers.local_port, numbers.remote, numbers.remote_port), None
            )
            ending = ending_without_events(numbers, arrived, known)
            if ending is not None:
                yield from self._told([ending])
        if self._rings is not None:
            late = now if now != _END_OF_TIME else until + EVENTS_TAKE if until is not None else 0
            yield from self._told(self._stories.tell(late))

    def _told(self, endings: Iterable[Ending]) -> Iterator[Ending]:
        for ending in endings:
            if self._is_wanted(ending):
                self._counts.add(ending)
                yield ending

    def _is_wanted(self, ending: Ending) -> bool:
        question, (_, local_port, remote, remote_port) = self._question, ending.ends
        if question.port is not None and question.port not in (local_port, remote_port):
            return False
        if question.peer is not None and (
            address_text(remote) != question.peer.address or question.peer.port not in (None, remote_port)
        ):
            return False
        if not question.pids:
            return True
        owner = ending.owner
        return owner is not None and (
            owner.pid in question.pids or (question.name is not None and owner.name == question.name)
        )

    def _note_what_is_missing(self) -> int:
        """Say in `missing` what was not seen; return how many events and messages found no room."""
        lost = 0
        if self._rings is not None:
            lost = self._rings.lost
            if self._rings.lost:
                self.missing["events_lost"] = (
                    f"{lost:,} events found no room: all numbers are too low, and who closed first may be "
                    "wrong; give more --buffer, or a --port"
                )
            come = set(online_processors()) - set(self._processors)
            if come:
                self.missing["processors"] = (
                    f"{len(come)} processors came online meanwhile: what happened on them was not seen"
                )
        if self._destroyed.overruns:
            lost += self._destroyed.overruns
            self.missing["messages_lost"] = (
                f"messages of ended sockets found no room {self._destroyed.overruns} times, nobody knows how "
                "many: connections are missing from all numbers"
            )
        if self._stories.undelivered:
            self.missing["undelivered"] = (
                "the kernel did not deliver all events of some connections "
                f"({self._stories.undelivered:,}): they are told by what is left, which may leave open who "
                "closed first"
            )
        if self._stories.late_resets:
            self.missing["late_resets"] = (
                f"{self._stories.late_resets} resets answered what peers wrote after our close, when the "
                "connection had been told: they are in no row"
            )
        return lost

    def _summary(self, seconds: float) -> TraceSummary:
        counts, lost = self._counts, self._note_what_is_missing()
        firsts = {
            key: Missing(self.missing[key]) if key in self.missing else counts.all.firsts[first]
            for first, key in _FIRST_KEYS.items()
        }
        return TraceSummary(
            type="summary",
            schema="tcpdoctor.trace/1",
            seconds=round(seconds, 3),
            connections=counts.all.total,
            **firsts,
            still_open=self._still_open(),
            events_lost=lost,
            by_process=tuple(_program_row(key, group) for key, group in _largest(counts.programs)),
            by_peer=tuple(_peer_row(key, group, counts) for key, group in _largest(counts.peers)),
            missing=dict(self.missing),
        )

    def _still_open(self) -> Reading[int]:
        question = self._question
        if question.pids:
            return Missing("not counted where only one process's connections are wanted")
        only = EVERY_SOCKET if question.peer is None else SocketFilter(remote=question.peer.address)
        peer_port = None if question.peer is None else question.peer.port
        if question.port is None:
            return _count_open(None, peer_port, only)
        if peer_port is not None and peer_port != question.port:
            return _count_open(question.port, peer_port, only)
        counts = [
            _count_open(question.port, peer_port, only),
            _count_open(None, question.port, only),
            _count_open(question.port, question.port, only),
        ]
        if peer_port is not None:
            return counts[1]
        total = 0
        for count, sign in zip(counts, (1, 1, -1), strict=True):
            if isinstance(count, Missing):
                return count
            total += sign * count
        return total


def _count_open(local_port: int | None, remote_port: int | None, only: SocketFilter) -> Reading[int]:
    bounds = dict.fromkeys(_OPEN - {TcpState.FIN_WAIT_2}, 1)
    found = read_connections(_OPEN, local_port=local_port, remote_port=remote_port, only=only, bound=bounds)
    if isinstance(found, Missing):
        return found
    orphans = sum(row.minisocket for row in found[TcpState.FIN_WAIT_2].connections)
    return sum(detail.total for detail in found.values()) - orphans


_FIRST_KEYS: Mapping[First, str] = {
    "here": "closed_first_here",
    "peer": "closed_first_by_peer",
    "reset_here": "reset_here",
    "reset_by_peer": "reset_by_peer",
    "never_established": "never_established",
}


def connection_record(ending: Ending) -> EndedConnection:
    """Return what is printed of one ending."""
    local, local_port, remote, remote_port = ending.ends
    return EndedConnection(
        type="connection",
        local=_shown(local, local_port),
        remote=_shown(remote, remote_port),
        closed_first=ending.first,
        pid=ending.owner.pid if ending.owner else None,
        name=ending.owner.name if ending.owner else None,
        reason=ending.why.value if ending.why else None,
        states=tuple(
            StateTime(state.key, None if seconds is None else round(seconds, 6))
            for state, seconds in ending.states
        ),
        bytes_in=ending.bytes_in,
        bytes_out=ending.bytes_out,
        rtt_s=ending.rtt,
        retransmissions=ending.retransmissions,
        idle_at_close_s=None if ending.idle is None else round(ending.idle, 3),
    )


def _shown(address: bytes, port: int) -> str:
    return str(Endpoint(address_text(address), port))


def _raw_ends(local: Endpoint, remote: Endpoint) -> Ends:
    return raw_address(local.address), local.port, raw_address(remote.address), remote.port


def _largest(groups: Mapping[_AnyKey, Group]) -> list[tuple[_AnyKey, Group]]:
    return sorted(groups.items(), key=lambda each: -each[1].total)[:_MOST_ROWS]


def _five(group: Group) -> dict[str, int]:
    return {key: group.firsts[first] for first, key in _FIRST_KEYS.items()}


def _program_row(key: ProgramKey, group: Group) -> ProgramEndings:
    resets = sorted(group.resets.items(), key=lambda each: -each[1])
    return ProgramEndings(
        name=key.name,
        pids=tuple(group.pids),
        side=key.side,
        port=key.port,
        connections=group.total,
        **_five(group),
        resets=tuple(
            ResetCount("here" if by == "here" else "peer", why.value, count) for (by, why), count in resets
        ),
    )


def _peer_row(key: PeerKey, group: Group, counts: EndingCounts) -> PeerEndings:
    name = next((name for name, _ in group.names.most_common(1)), None)
    ends = [end for end in (group.idle_end("here"), group.idle_end("peer")) if end is not None]
    return PeerEndings(
        address=None if key.address is None else address_text(key.address),
        side=key.side,
        port=key.port,
        name=name,
        connections=group.total,
        **_five(group),
        failures={why.value: count for why, count in group.failures.most_common()},
        idle=tuple(_idle_row(end, key.side, name, group, counts) for end in ends),
    )


def _idle_row(
    end: IdleEnd, side: Side | None, name: str | None, group: Group, counts: EndingCounts
) -> IdleEnding:
    """A request is reset on connections that its own side opened and the other side ends."""
    by_server = (end.by == "peer") == (side == "opened")
    kept = counts.kept_here(name) if side == "opened" and end.by == "peer" else None
    longest = group.longest_wait()
    seen = [seconds for seconds in (kept, longest) if seconds is not None and seconds >= end.seconds]
    return IdleEnding(
        by=end.by,
        idle_s=round(end.seconds, 3),
        alike=end.alike,
        of=end.of,
        other_keeps_s=round(max(seen), 3) if seen and end.by == "peer" else None,
        requests_reset=group.requests_reset if by_server else 0,
    )


def follow_endings(question: TraceQuestion, stop: Callable[[], bool] = lambda: False) -> Iterator[TraceItem]:
    """Yield each connection of this network namespace as it ends, then one summary; see `Trace`.

    Raises:
        QuestionError: The kernel does not even tell of sockets that end.
    """
    with Trace(question) as trace:
        yield from trace.follow(stop)


def with_trace(look: Callable[[], PortAnswer], port: int, seconds: float) -> PortAnswer:
    """Watch the connections that end at a port, then look at it; Ctrl-C ends the watch.

    Raises:
        QuestionError: As `look`, or the kernel does not even tell of sockets that end.
    """
    question = TraceQuestion(port=port, seconds=seconds)
    *_, summary = follow_endings(question, lambda: UNDERWAY.is_interrupted or UNDERWAY.is_hurried)
    assert isinstance(summary, TraceSummary)  # noqa: S101 - the last always is
    return look()._replace(trace=summary)


_HERE = ("here", "reset_here")
_EITHER = (*_HERE, "peer", "reset_by_peer")
_SECONDS = 5.0
"""For the thread to notice that it is to end; it asks twenty times a second."""


class Closings:
    """A trace in a thread of its own, of the network namespace that the calling thread is in."""

    def __init__(self) -> None:
        """Begin to listen.

        Raises:
            QuestionError: The kernel does not even tell of sockets that end.
        """
        self._trace = Trace(TraceQuestion())
        self.why_not = "" if self._trace.sees_events else next(iter(self._trace.missing.values()), "")
        """Why it is not known who closed first; empty where it is."""
        self._here: Counter[int] = Counter()
        self._either: Counter[int] = Counter()
        self._over = Event()
        self._thread = Thread(target=self._count, daemon=True)
        self._thread.start()

    def shares(self) -> Mapping[int, float]:
        """Return by local port which share of the connections that ended was closed or reset here first."""
        return {port: self._here[port] / number for port, number in self._either.copy().items()}

    def close(self) -> None:
        """End it; what was counted is forgotten with it."""
        self._over.set()
        self._thread.join(_SECONDS)

    def _count(self) -> None:
        with self._trace:
            for item in self._trace.endings(self._over.is_set):
                if isinstance(item, Ending) and item.first in _EITHER:
                    _, port, _, _ = item.ends
                    self._here[port] += item.first in _HERE
                    self._either[port] += 1
