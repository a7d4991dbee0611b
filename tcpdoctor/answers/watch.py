"""What `tcpdoctor watch` shows: one record a look, with what has gone on since watch began.

`Course` makes the record and remembers what went before; it reads nothing. `answers.watching` looks.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from tcpdoctor.answers.check import Check, checked, count_of, status
from tcpdoctor.answers.states import state_readings
from tcpdoctor.diagnosis.finding import Finding, Severity
from tcpdoctor.facts.destinations import Left
from tcpdoctor.facts.rates import Series, TooFew
from tcpdoctor.kernel.kept_rows import Handle
from tcpdoctor.kernel.pulse import NOT_YET, Pulse
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Held, Listener, NotHeld, Owner, Process
from tcpdoctor.kernel.states import COUNTED_STATES, HELD_STATES, TcpState
from tcpdoctor.named_tuples import NamedTuple

STAYS = 60.0
"""Seconds for which a row that ended is still shown."""
NEW_FOR = 10.0
"""Seconds for which a finding counts as one that has just come."""
MOST_ROWS = 200
"""Of each kind so many rows are kept."""
_MOST_EVENTS = 200
_FEW_PORTS, _ENOUGH_PORTS = 0.1, 0.2
"""Shares of the ports that can be used; between them nothing is said of a destination that was low."""
FIRST_STATES = (
    TcpState.ESTABLISHED,
    TcpState.TIME_WAIT,
    TcpState.CLOSE_WAIT,
    TcpState.FIN_WAIT_2,
    TcpState.SYN_RECV,
)
"""Those that are shown first; others where there is room and where they ever had a socket."""
_UNIT_ENDS = ".service"


class StateRow(NamedTuple):
    """The sockets in one state."""

    key: str
    label: str
    now: Reading[int]
    per_minute: Reading[float]
    note: str
    """What matters in this state beside the number: the oldest, orphans, those at servers."""
    series: Series
    ended: float | None = None


class OwnerRow(NamedTuple):
    """What one process holds."""

    key: str
    label: str
    """``orders-api (811)``."""
    where: str
    """Its container or unit; empty where it is in none, or that is not known."""
    pid: int | None
    """None: the sockets whose owner is not known."""
    close_wait: Reading[int]
    per_minute: Reading[float]
    fin_wait_2: Reading[int]
    descriptors: Reading[int]
    limit: Reading[int]
    until_limit: float | None
    """Seconds until it has no descriptor left, if that goes on like this; None: it does not, or that is not
    known."""
    descriptor_growth: Reading[float]
    """Descriptors per minute."""
    series: Series
    ended: float | None = None


class DestinationRow(NamedTuple):
    """The connections from one address of this host to one address and port."""

    key: str
    label: str
    """``10.0.0.5:5432 from 10.0.0.9``."""
    peer: str
    """``10.0.0.5:5432``."""
    source: str
    left: Reading[int]
    used: int
    per_minute: Reading[float]
    until_none: float | None
    """Seconds until no port is left, if it goes on like this; None: it does not, or that is not known."""
    low: bool
    """Whether below a tenth of the ports is left."""
    series: Series
    ended: float | None = None


class ListenerRow(NamedTuple):
    """The listeners on one address, which may be several with SO_REUSEPORT."""

    key: str
    label: str
    port: int
    sockets: int
    queue: int
    """Connections that wait for accept(), in all of them; -1: a recording lacks it."""
    limit: Reading[int]
    most: int
    """The highest `queue` since watch began."""
    drops: Reading[float]
    """Connections dropped a second since the look before."""
    full: bool
    """Whether one of them holds more than its limit."""
    owner: str
    """``nginx (700)``; empty where it is not known."""
    closed_here: Reading[float] | None
    """Of the connections that ended at this port, the share closed here first; None without trace."""
    series: Series
    ended: float | None = None


class FindingRow(NamedTuple):
    """A finding of `check`."""

    key: str
    label: str
    finding: Finding
    began: float
    """When watch first had it, in seconds of CLOCK_BOOTTIME."""
    new: bool
    """Whether it came a moment ago, and was not there when watch began."""
    series: Series
    """Of the number that the rule measures."""
    ended: float | None = None


Row: TypeAlias = FindingRow | StateRow | OwnerRow | DestinationRow | ListenerRow
_AnyRow = TypeVar("_AnyRow", StateRow, OwnerRow, DestinationRow, ListenerRow)


class Rates(NamedTuple):
    """What happened between the look before and this one, a second."""

    opened_in: Reading[float]
    """Connections that listeners took."""
    opened_out: Reading[float]
    """Connections that this host began."""
    retransmitted: Reading[float]
    """Share of the segments sent that were sent again."""
    resets_out: Reading[float]
    overflows: Reading[float]
    """Connections for which an accept queue had no room."""


class Event(NamedTuple):
    """Something that began, ended or moved."""

    taken_at: float
    text: str


class Verdict(NamedTuple):
    """The answer of `check`."""

    status: str
    """``ok``, ``warning``, ``critical`` or ``unknown``."""
    counts: tuple[int, int, int]
    """Findings: critical, warning, info."""
    answered: int
    rules: int
    why_not: str
    """Why the first of those that apply was not answered; empty where all were."""
    taken_at: float


class Watch(NamedTuple):
    """One look, and what went before."""

    host: str
    kernel: str
    where: str
    """Which network namespace: ``host netns``, ``netns blue``."""
    taken_at: float
    clock: float
    interval: float
    source: str
    """Which recording it is, of how many; empty for a live look."""
    cpu: float | None
    """What watch itself takes of a core, as a share; None while that is not known, and for recordings."""
    verdict: Verdict | None
    findings: tuple[FindingRow, ...]
    states: tuple[StateRow, ...]
    owners: tuple[OwnerRow, ...]
    destinations: tuple[DestinationRow, ...]
    listeners: tuple[ListenerRow, ...]
    rates: Rates
    events: tuple[Event, ...]
    """The latest last."""
    unknown: Mapping[str, str]
    """Why a whole part is not known, by its name: ``owners``, ``destinations``, ``listeners``."""


class Sight(NamedTuple):
    """What one look saw, for `Course` to make a record of."""

    pulse: Pulse
    check: Check | None
    """What the rules say, where they were asked at this look."""
    owner_of: Callable[[Handle], Owner]
    processes: Mapping[int, Process]
    """The holders of the sockets of `HELD_STATES`, and processes near their limit of descriptors."""
    left: Reading[Sequence[Left]]
    """The destinations that use most ports."""
    oldest: Mapping[TcpState, str]
    """By state, how long the oldest socket has been in it, for people."""
    cpu: float | None = None
    source: str = ""
    closed_here: Mapping[int, float] | None = None
    """By local port the share of connections closed here first; None where nobody traces."""


class Course:
    """What has gone on since watch began, in bounded memory."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._series: dict[str, Series] = {}
        self._shown: dict[str, dict[str, Row]] = {}
        self._most: dict[str, int] = {}
        self._drops: dict[str, tuple[float, int]] = {}
        self._before: Pulse | None = None
        self._check: Check | None = None
        self._verdict: Verdict | None = None
        self._findings: dict[str, FindingRow] = {}
        self._events: list[Event] = []
        self._low: set[str] = set()
        self._heard: dict[str, tuple[str, frozenset[int]]] = {}
        """The listeners of the look before by the key of their row: address and cookies."""
        self._clock = 0.0

    def add(self, sight: Sight) -> Watch:
        """Take in one look and return what there is to show."""
        pulse = sight.pulse
        self._clock = pulse.clock
        if sight.check is not None:
            self._judge(sight.check, pulse)
        self._age_findings()
        check = self._check
        look = None if check is None else check.samples.after
        unknown: dict[str, str] = {}
        states = self._kept("states", self._states(sight))
        owners = self._kept("owners", self._owners(sight, unknown))
        destinations = self._kept("destinations", self._destinations(sight, unknown))
        listeners = self._kept("listeners", self._listeners(sight, unknown))
        watch = Watch(
            host=look.host if look else "",
            kernel=look.kernel if look else "",
            where=_where(check),
            taken_at=pulse.taken_at,
            clock=pulse.clock,
            interval=self._interval,
            source=sight.source,
            cpu=sight.cpu,
            verdict=self._verdict,
            findings=tuple(self._findings.values()),
            states=states,
            owners=owners,
            destinations=destinations,
            listeners=listeners,
            rates=_rates(self._before, pulse),
            events=tuple(self._events),
            unknown=unknown,
        )
        self._before = pulse
        return watch

    # What the rules say.

    def _judge(self, check: Check, pulse: Pulse) -> None:
        first = self._check is None
        self._check = check
        found = {finding.fingerprint: finding for finding in check.diagnosis.findings}
        for key, row in list(self._findings.items()):
            if key not in found and row.ended is None:
                self._findings[key] = row._replace(ended=pulse.clock, new=False)
                self._say(pulse, f"{row.finding.rule} ended ({_whom(row.finding)})")
        kept = {key: row for key, row in self._findings.items() if key not in found}
        current = {}
        for key, finding in found.items():
            before = self._findings.get(key)
            fresh = before is None or before.ended is not None
            began = pulse.clock if fresh or before is None else before.began
            series = self._track(f"finding {key}", finding.value)
            new = fresh and not first
            current[key] = FindingRow(f"finding {key}", finding.rule, finding, began, new, series)
            if new:
                self._say(pulse, f"{finding.rule} began ({_whom(finding)})")
        self._findings = {**current, **kept}
        self._verdict = _verdict_of(check)

    def _age_findings(self) -> None:
        self._findings = {
            key: row._replace(new=row.new and self._clock - row.began < NEW_FOR)
            for key, row in self._findings.items()
            if row.ended is None or self._clock - row.ended < STAYS
        }

    # The rows.

    def _states(self, sight: Sight) -> list[StateRow]:
        census = sight.pulse.census
        readings = state_readings(census)
        others = [state for state in COUNTED_STATES if state not in FIRST_STATES]
        rows = []
        for state in (*FIRST_STATES, *others):
            now, name = readings[state], f"state {state.key}"
            seen = name in self._series or (not isinstance(now, Missing) and now > 0)
            if state in others and not seen:
                continue
            series = self._track(name, _known(now))
            rows.append(StateRow(name, state.name, now, _growth(now, series), _note(state, sight), series))
        return rows

    def _owners(self, sight: Sight, unknown: dict[str, str]) -> list[OwnerRow]:
        held = sight.pulse.held
        if isinstance(held, Missing):
            unknown["owners"] = held.reason
            return []
        counts = {state: Counter[int]() for state in HELD_STATES}
        names: dict[int, str] = {}
        nobody: dict[TcpState, int] = dict.fromkeys(HELD_STATES, 0)
        why = ""
        for state in HELD_STATES:
            for handle in held.get(state, ()):
                match sight.owner_of(handle):
                    case Held(holders):
                        counts[state][holders[0].pid] += 1
                        names[holders[0].pid] = holders[0].name
                    case NotHeld():
                        continue
                    case Missing(reason) if reason != NOT_YET.reason:
                        nobody[state] += 1
                        why = why or reason
            nobody[state] += _not_listed(sight.pulse, state, len(held.get(state, ())))
        names |= {pid: one.name for pid, one in sight.processes.items() if pid not in names}
        rows = [
            self._owner(pid, names[pid], {state: counts[state][pid] for state in HELD_STATES}, sight)
            for pid in names
        ]
        rows.sort(key=lambda row: (-_worth(row.per_minute), -_worth(row.close_wait), row.label))
        if any(nobody.values()):
            rows.append(self._unowned(nobody, why or "there are too many to look up"))
        return rows[:MOST_ROWS]

    def _owner(self, pid: int, name: str, number: Mapping[TcpState, int], sight: Sight) -> OwnerRow:
        key, process = f"owner {pid}", sight.processes.get(pid)
        series = self._track(key, number[TcpState.CLOSE_WAIT])
        absent = Missing(f"process {pid} was not looked at yet, or is gone")
        used = absent if process is None else process.descriptors
        limit = absent if process is None else process.descriptor_limit
        taken = self._track(f"descriptors {pid}", _known(used))
        return OwnerRow(
            key,
            f"{name} ({pid})",
            "" if process is None else _place_of(process),
            pid,
            number[TcpState.CLOSE_WAIT],
            series.per_minute(),
            number[TcpState.FIN_WAIT_2],
            used,
            limit,
            None if isinstance(limit, Missing) else taken.seconds_until(limit),
            _growth(used, taken),
            series,
        )

    def _unowned(self, number: Mapping[TcpState, int], why: str) -> OwnerRow:
        unknown, series = Missing(why), self._track("owner ?", number[TcpState.CLOSE_WAIT])
        return OwnerRow(
            "owner ?", "owner not known", "", None, number[TcpState.CLOSE_WAIT], series.per_minute(),
            number[TcpState.FIN_WAIT_2], unknown, unknown, None, unknown, series,
        )  # fmt: skip

    def _destinations(self, sight: Sight, unknown: dict[str, str]) -> list[DestinationRow]:
        if isinstance(sight.left, Missing):
            unknown["destinations"] = sight.left.reason
            return []
        rows = []
        for one in sight.left:
            key = f"destination {one.peer} {one.source}"
            series = self._track(key, one.used)
            low = not isinstance(one.left, Missing) and one.left < _FEW_PORTS * one.usable
            self._tell_low(sight.pulse, one, low=low)
            until = None if isinstance(one.left, Missing) else series.seconds_until(one.used + one.left)
            rows.append(
                DestinationRow(
                    key, f"{one.peer} from {one.source}", one.peer, one.source, one.left, one.used,
                    series.per_minute(), until, low, series,
                )
            )  # fmt: skip
        return rows

    def _tell_low(self, pulse: Pulse, one: Left, *, low: bool) -> None:
        key = f"{one.peer} {one.source}"
        if low and key not in self._low:
            self._low.add(key)
            if self._before is not None:
                self._say(pulse, f"{one.peer} from {one.source}: below 10 % of its ports left")
        elif key in self._low and _worth(one.left) >= _ENOUGH_PORTS * one.usable:
            self._low.discard(key)
            self._say(pulse, f"{one.peer} from {one.source}: ports enough again")

    def _listeners(self, sight: Sight, unknown: dict[str, str]) -> list[ListenerRow]:
        listeners = sight.pulse.listeners
        if isinstance(listeners, Missing):
            unknown["listeners"] = listeners.reason
            return []
        groups: dict[str, list[Listener]] = {}
        for row in listeners:
            groups.setdefault(f"listener {row.local} {row.device}", []).append(row)
        rows = [self._listener(key, group, sight) for key, group in groups.items()]
        self._tell_listeners(sight, groups, {row.key: row.owner for row in rows})
        rows.sort(
            key=lambda row: (-_worth(row.drops), not row.full, -row.queue, -row.most, row.port, row.label)
        )
        return rows[:MOST_ROWS]

    def _listener(self, key: str, group: Sequence[Listener], sight: Sight) -> ListenerRow:
        queue = -1 if any(row.accept_queue < 0 for row in group) else sum(row.accept_queue for row in group)
        limits = [row.accept_limit for row in group]
        hidden = next((limit for limit in limits if isinstance(limit, Missing)), None)
        self._most[key] = most = max(queue, self._most.get(key, 0))
        return ListenerRow(
            key,
            str(group[0].local),
            group[0].local.port,
            len(group),
            queue,
            hidden or sum(limit for limit in limits if isinstance(limit, int)),
            most,
            self._dropped(key, group),
            any(isinstance(row.accept_limit, int) and row.accept_queue > row.accept_limit for row in group),
            _owner_of_listener(group, sight),
            None if sight.closed_here is None else _share_closed(sight.closed_here, group[0].local.port),
            self._track(key, queue),
        )

    def _dropped(self, key: str, group: Sequence[Listener]) -> Reading[float]:
        total = 0
        for row in group:
            if isinstance(row.drops, Missing):
                return row.drops
            total += row.drops
        before, self._drops[key] = self._drops.get(key), (self._clock, total)
        if before is None or self._clock <= before[0]:
            return TooFew("needs two looks")
        if total < before[1]:
            return Missing("a listener ended between the looks")
        return (total - before[1]) / (self._clock - before[0])

    def _tell_listeners(
        self, sight: Sight, groups: Mapping[str, Sequence[Listener]], owners: Mapping[str, str]
    ) -> None:
        """Say which listeners began, ended, or are other sockets than at the look before."""
        now = {
            key: (str(group[0].local), frozenset(row.cookie for row in group))
            for key, group in groups.items()
        }
        before, self._heard = self._heard, now
        if self._before is None or isinstance(self._before.listeners, Missing):
            return
        moved = [
            key
            for key, (_, cookies) in now.items()
            if key in before and not cookies & before[key][1] and all(cookies)
        ]
        for words, keys in (
            ("began", [key for key in now if key not in before]),
            ("ended", [key for key in before if key not in now]),
            ("moved", moved),
        ):
            told: dict[str, list[str]] = {}
            for key in keys:
                told.setdefault(owners.get(key, ""), []).append((now.get(key) or before[key])[0])
            for owner, addresses in told.items():
                self._say(sight.pulse, _listeners_words(words, addresses, owner))

    # What is remembered.

    def _track(self, key: str, value: float | None) -> Series:
        series = self._series.get(key, Series())
        if not series.recent or series.recent[-1].clock < self._clock:
            series = series.add(self._clock, value)
        self._series[key] = series
        return series

    def _kept(self, part: str, rows: Iterable[_AnyRow]) -> tuple[_AnyRow, ...]:
        """The rows, and behind them for a minute those that ended; what is gone for longer is forgotten."""
        current: dict[str, Row] = {row.key: row for row in rows}
        before = self._shown.get(part, {})
        for key, row in before.items():
            if key not in current:
                ended = self._clock if row.ended is None else row.ended
                if self._clock - ended < STAYS:
                    current[key] = row._replace(ended=ended)
                else:
                    self._series.pop(key, None)
                    if isinstance(row, OwnerRow):
                        self._series.pop(f"descriptors {row.pid}", None)
                    self._most.pop(key, None)
                    self._drops.pop(key, None)
        self._shown[part] = current
        return tuple(current.values())  # type: ignore[arg-type]  # all of one part are of one kind

    def _say(self, pulse: Pulse, text: str) -> None:
        self._events.append(Event(pulse.taken_at, text))
        del self._events[:-_MOST_EVENTS]


def _where(check: Check | None) -> str:
    if check is None:
        return ""
    look = check.samples.after
    if look.namespace_name:
        return f"netns {look.namespace_name}"
    return "host netns" if look.initial_namespace is True else f"netns {look.namespace}"


def _verdict_of(check: Check) -> Verdict:
    diagnosis = check.diagnosis
    unanswered = {one.rule: one.reason for one in diagnosis.unchecked if one.applies}
    return Verdict(
        status(check),
        (
            count_of(diagnosis, Severity.CRITICAL),
            count_of(diagnosis, Severity.WARNING),
            count_of(diagnosis, Severity.INFO),
        ),
        checked(diagnosis),
        diagnosis.rules,
        next(iter(unanswered.values()), ""),
        check.samples.after.taken_at,
    )


def _whom(finding: Finding) -> str:
    return finding.whom or finding.label


def _known(value: Reading[int]) -> int | None:
    return None if isinstance(value, Missing) else value


def _growth(now: Reading[int], series: Series) -> Reading[float]:
    return now if isinstance(now, Missing) else series.per_minute()


def _worth(value: Reading[float]) -> float:
    return 0.0 if isinstance(value, Missing) else value


def _note(state: TcpState, sight: Sight) -> str:
    pulse = sight.pulse
    if state is TcpState.TIME_WAIT:
        if isinstance(pulse.census, Missing) or isinstance(pulse.listeners, Missing):
            return ""
        ports = {row.local.port for row in pulse.listeners}
        at_servers = sum(
            number
            for (counted, port), number in pulse.census.by_port.items()
            if counted is TcpState.TIME_WAIT and port in ports
        )
        return f"at servers {at_servers:,}" if at_servers else ""
    if state is TcpState.FIN_WAIT_2:
        if isinstance(pulse.held, Missing):
            return ""
        orphans = sum(not handle.inode for handle in pulse.held.get(state, ()))
        return f"orphans {orphans:,}" if orphans else ""
    return sight.oldest.get(state, "")


def _not_listed(pulse: Pulse, state: TcpState, listed: int) -> int:
    """How many sockets are counted and not told apart."""
    if isinstance(pulse.census, Missing):
        return 0
    return max(0, pulse.census.by_state.get(state, 0) - listed) if listed >= 10_000 else 0


def _place_of(process: Process) -> str:
    if isinstance(process.container, str):
        return process.container[:12]
    return process.unit.removesuffix(_UNIT_ENDS) if isinstance(process.unit, str) else ""


def _owner_of_listener(group: Sequence[Listener], sight: Sight) -> str:
    for row in group:
        owner = row.owner
        if not isinstance(owner, Held):
            owner = sight.owner_of(Handle(row.cookie, row.inode, row.uid))
        if isinstance(owner, Held):
            return owner.label
    return ""


def _share_closed(closed: Mapping[int, float], port: int) -> Reading[float]:
    return closed.get(port, Missing("no connection at this port has ended since the trace began"))


def _listeners_words(what: str, addresses: Sequence[str], owner: str) -> str:
    whose = f"{owner}: " if owner else ""
    which = addresses[0] if len(addresses) == 1 else f"{len(addresses)} listeners"
    if what == "moved":
        return f"{whose}{which} opened anew"
    return f"{whose}{which} {what}" if len(addresses) > 1 else f"{whose}listener {which} {what}"


_COUNTERS = {
    "opened_in": "Tcp.PassiveOpens",
    "opened_out": "Tcp.ActiveOpens",
    "resets_out": "Tcp.OutRsts",
    "overflows": "TcpExt.ListenOverflows",
}


def _rates(before: Pulse | None, after: Pulse) -> Rates:
    rates = {name: _rate(counter, before, after) for name, counter in _COUNTERS.items()}
    again, sent = _rate("Tcp.RetransSegs", before, after), _rate("Tcp.OutSegs", before, after)
    share: Reading[float]
    if isinstance(again, Missing) or isinstance(sent, Missing):
        share = again if isinstance(again, Missing) else Missing("it is not known how many were sent")
    else:  # OutSegs does not count those that are sent again
        share = again / (sent + again) if sent + again else 0.0
    return Rates(retransmitted=share, **rates)


def _rate(name: str, before: Pulse | None, after: Pulse) -> Reading[float]:
    if before is None:
        return TooFew("needs two looks")
    for look in (after, before):
        if isinstance(look.counters, Missing):
            return look.counters
        if name not in look.counters:
            return Missing(f"this kernel does not count {name}")
    seconds = after.clock - before.clock
    if seconds <= 0:
        return TooFew("needs two looks taken at different times")
    grown = after.counters[name] - before.counters[name]  # type: ignore[index]  # neither is Missing
    return Missing(f"{name} went backwards: it was reset") if grown < 0 else grown / seconds
