"""The answer to `diff A B`: what appeared, grew and went between two recordings, and what was set."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeVar

from tcpdoctor.answers.finding import ToldFinding, told_finding
from tcpdoctor.answers.record import NO_REASONS, Count, Host, Is, Reasons, Seconds, Time, utc
from tcpdoctor.answers.rules import load_rules
from tcpdoctor.answers.states import state_readings
from tcpdoctor.diagnosis.evaluate import diagnose
from tcpdoctor.diagnosis.finding import Diagnosis, Finding, SeverityName
from tcpdoctor.facts.counter_facts import GAUGES
from tcpdoctor.facts.rates import elapsed
from tcpdoctor.facts.sysctl_value import value_as_printed
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import (
    Census,
    Connection,
    Destination,
    Endpoint,
    Held,
    Listener,
    Samples,
    Snapshot,
)
from tcpdoctor.kernel.states import COUNTED_STATES, StateKey, TcpState
from tcpdoctor.kernel.sysctl import DEFAULT_PORTS
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.recordings.opened import booted_between
from tcpdoctor.recordings.recording import Recording
from tcpdoctor.recordings.source import UNNAMED, Source, another_boot

T = TypeVar("T")

_MOST = 1_000
"""Rows of each kind, those that changed most."""


class Side(NamedTuple):
    """One of the two recordings."""

    recording: Source
    host: Host
    taken_at: Time


class FindingThen(NamedTuple):
    """A finding of the earlier recording."""

    rule: str
    severity: SeverityName
    label: str
    title: str
    fingerprint: str


class FindingChanged(NamedTuple):
    """A finding of both that is more or less severe."""

    rule: str
    label: str
    title: str
    fingerprint: str
    severity_before: SeverityName
    severity: SeverityName


class FindingUnanswered(NamedTuple):
    """A finding of the earlier one of which the later one tells nothing."""

    rule: str
    severity: SeverityName
    label: str
    title: str
    fingerprint: str
    reason: str


class StateDifference(NamedTuple):
    """Sockets of one state."""

    state: StateKey
    before: Reading[Count]
    after: Reading[Count]
    stayed: Annotated[Reading[Count], Is("Sockets that are in this state in both.")]
    missing: Reasons = NO_REASONS


class HolderDifference(NamedTuple):
    """Sockets of one state that one process holds."""

    process: Annotated[str, Is("Name and pid: nginx (811).")]
    state: StateKey
    before: Reading[Count]
    after: Reading[Count]
    missing: Reasons = NO_REASONS


class DestinationDifference(NamedTuple):
    """Sockets towards one destination."""

    destination: str
    source: str
    before: Reading[Count]
    after: Reading[Count]
    missing: Reasons = NO_REASONS


class CounterDifference(NamedTuple):
    """A counter that grew."""

    counter: Annotated[str, Is("As `tcpdoctor facts` calls it: TcpExt.ListenOverflows.")]
    before: int
    after: int
    per_s: Annotated[Reading[float], Is("Events a second.")]
    missing: Reasons = NO_REASONS


class SettingDifference(NamedTuple):
    """A setting with another value."""

    sysctl: str
    before: str
    after: str


class DiffAnswer(NamedTuple):
    """What `tcpdoctor diff A B --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.diff/1"]
    before: Side
    after: Side
    seconds: Annotated[Reading[Seconds], Is("From the earlier one to the later one.")]
    appeared: Annotated[tuple[ToldFinding, ...], Is("Findings of the later one alone, the worst first.")]
    not_asked_before: Annotated[
        tuple[ToldFinding, ...], Is("The same of rules that the earlier one leaves open: new, or not.")
    ]
    gone: Annotated[tuple[FindingThen, ...], Is("Findings of the earlier one alone.")]
    changed: tuple[FindingChanged, ...]
    unanswered: tuple[FindingUnanswered, ...]
    stayed: Annotated[Count, Is("Findings of both, of the same severity.")]
    unchecked: Annotated[
        tuple[Count, Count], Is("Rules that the earlier and the later recording leave open.")
    ]
    checked: Annotated[tuple[Count, Count], Is("Rules that they answer.")]
    states: tuple[StateDifference, ...]
    processes: Annotated[
        Reading[tuple[HolderDifference, ...]], Is("That hold more or fewer, most different first.")
    ]
    destinations: Annotated[
        Reading[tuple[DestinationDifference, ...]], Is("With more or fewer, most different first.")
    ]
    counters: Annotated[Reading[tuple[CounterDifference, ...]], Is("That grew, the fastest first.")]
    went_back: Annotated[tuple[str, ...], Is("Counters that are lower than before: they were reset.")]
    sysctls: Annotated[tuple[SettingDifference, ...], Is("Known of both, and different.")]
    missing: Reasons


def compare_recordings(one: Recording, other: Recording, apart: float | None = None) -> DiffAnswer:
    """Return what is different between two recordings, of which the earlier one is told first.

    Args:
        one: A recording.
        other: Another one, mostly of the same host.
        apart: Seconds between them, where they do not say when they were taken.

    Raises:
        RuleError: A rule file is wrong.
        ConfigError: The configuration is wrong.
    """
    dated = one.source.dated and other.source.dated
    if dated and one.samples.after.taken_at > other.samples.after.taken_at:
        one, other = other, one
    then, now = one.samples.after, other.samples.after
    if not dated and apart is not None:
        then = then._replace(clock=now.clock - apart)
    seconds = _seconds(then, now)
    findings = _findings(one, other, then, seconds)
    counters, went_back = _counters(then, now, seconds)
    return DiffAnswer(
        "tcpdoctor.diff/1",
        _side(one),
        _side(other),
        seconds,
        *findings,
        states=_states(one, other, _why_others(then, now)),
        processes=_processes(one, other),
        destinations=_destinations(then, now),
        counters=counters,
        went_back=went_back,
        sysctls=_settings(then, now),
        missing={},
    )


def _side(recording: Recording) -> Side:
    look = recording.samples.after
    host = Host(look.host, look.kernel, str(look.namespace), look.namespace_name)
    return Side(recording.source, host, utc(look.taken_at))


def _seconds(then: Snapshot, now: Snapshot) -> Reading[float]:
    if (others := _other_hosts(then, now)) is not None:
        return others
    if booted_between(then, now):
        return Missing("the host was booted between the recordings: its counters began again")
    return elapsed(Samples(then, now))


def _other_hosts(then: Snapshot, now: Snapshot) -> Missing | None:
    """Say that two looks are of different hosts, or may be; None where they are of one as far as is told."""
    if then.host == now.host:
        return None
    if UNNAMED in (then.host, now.host):
        return Missing(
            f"one does not tell its host, the other is of {max(then.host, now.host, key=_is_named)}"
        )
    told = f"the recordings are of different hosts, {then.host} and {now.host}"
    return Missing(told + another_boot(then.host, now.host))


def _is_named(host: str) -> bool:
    return host != UNNAMED


# Findings.


def _findings(
    one: Recording, other: Recording, then: Snapshot, seconds: Reading[float]
) -> tuple[
    tuple[ToldFinding, ...],
    tuple[ToldFinding, ...],
    tuple[FindingThen, ...],
    tuple[FindingChanged, ...],
    tuple[FindingUnanswered, ...],
    int,
    tuple[int, int],
    tuple[int, int],
]:
    rules = load_rules().rules
    samples = other.samples
    if samples.before is None and not isinstance(seconds, Missing):
        samples = Samples(then, samples.after)
    before, after = diagnose(rules, one.samples), diagnose(rules, samples)
    old = {finding.fingerprint: finding for finding in before.findings}
    new = {finding.fingerprint: finding for finding in after.findings}
    reasons = {rule.rule: rule.reason for rule in after.unchecked}
    lost = [finding for fingerprint, finding in old.items() if fingerprint not in new]
    both = [(old[one], new[one]) for one in old if one in new]
    found = [finding for fingerprint, finding in new.items() if fingerprint not in old]
    open_before = {rule.rule for rule in before.unchecked}
    return (
        tuple(told_finding(finding) for finding in found if finding.rule not in open_before),
        tuple(told_finding(finding) for finding in found if finding.rule in open_before),
        tuple(FindingThen(*_told(finding)) for finding in lost if finding.rule not in reasons),
        tuple(_changed(*pair) for pair in both if pair[0].severity != pair[1].severity),
        tuple(
            FindingUnanswered(*_told(finding), reasons[finding.rule])
            for finding in lost
            if finding.rule in reasons
        ),
        sum(earlier.severity == later.severity for earlier, later in both),
        (_open(before), _open(after)),
        (len(rules) - _left_out(before), len(rules) - _left_out(after)),
    )


def _left_out(diagnosis: Diagnosis) -> int:
    """How many rules are not answered, whether or not they apply."""
    return len({rule.rule for rule in diagnosis.unchecked})


def _open(diagnosis: Diagnosis) -> int:
    """How many rules are left open that apply."""
    return len({rule.rule for rule in diagnosis.unchecked if rule.applies})


def _told(finding: Finding) -> tuple[str, SeverityName, str, str, str]:
    severity = finding.severity.key
    return finding.rule, severity, finding.label, finding.title, finding.fingerprint


def _changed(before: Finding, after: Finding) -> FindingChanged:
    rule, severity, label, title, fingerprint = _told(after)
    return FindingChanged(rule, label, title, fingerprint, _told(before)[1], severity)


# Sockets.


def _rows(recording: Recording) -> Reading[list[Connection | Listener]]:
    sockets = recording.sockets
    return sockets if isinstance(sockets, Missing) else [seen.row for seen in sockets]


def _why_others(then: Snapshot, now: Snapshot) -> Missing | None:
    """Say why no socket of one look can be one of the other, whatever its number; None where it may."""
    if (others := _other_hosts(then, now)) is not None:
        return others
    return Missing("the host was booted between the recordings") if booted_between(then, now) else None


def _states(one: Recording, other: Recording, others: Missing | None) -> tuple[StateDifference, ...]:
    before = state_readings(one.samples.after.census)
    after = state_readings(other.samples.after.census)
    same = others or _stayed(_rows(one), _rows(other))

    def stayed(state: TcpState) -> Reading[int]:
        unknown = [known for known in (before[state], after[state], same) if isinstance(known, Missing)]
        if unknown or isinstance(same, Missing):
            return unknown[0]
        return same[state]

    return tuple(
        StateDifference(
            state.key,
            before[state],
            after[state],
            stayed(state),
        )
        for state in COUNTED_STATES
    )


def _stayed(
    before: Reading[Sequence[Connection | Listener]], after: Reading[Sequence[Connection | Listener]]
) -> Reading[Counter[TcpState]]:
    """How many sockets of each state are in both: by the kernel's cookie, else by their ends."""
    if isinstance(before, Missing):
        return before
    if isinstance(after, Missing):
        return after
    known = {_same(row) for row in before}
    return Counter(row.state for row in after if _same(row) in known)


def _same(row: Connection | Listener) -> tuple[TcpState, int | Endpoint, Endpoint | None]:
    if row.cookie:
        return row.state, row.cookie, None
    return row.state, row.local, row.remote if isinstance(row, Connection) else None


def _processes(one: Recording, other: Recording) -> Reading[tuple[HolderDifference, ...]]:
    before, after = _rows(one), _rows(other)
    if isinstance(before, Missing):
        return before
    if isinstance(after, Missing):
        return after
    old, new = _Holdings(one, before), _Holdings(other, after)
    if bool(old.held) != bool(new.held) and (mute := new if old.held else old).rows:
        return Missing(f"{mute.file} names no process; ask for: ss -tanoempi (as root)")
    return tuple(
        HolderDifference(process, state.key, old.number(process, state), new.number(process, state))
        for process, state in _most_different(old.held, new.held)
    )


class _Holdings:
    """Sockets of one recording by process and state."""

    def __init__(self, recording: Recording, rows: Sequence[Connection | Listener]) -> None:
        self.rows = rows
        self.file = next(iter(recording.source.files), "one recording")
        census = recording.samples.after.census
        self._complete = census if isinstance(census, Missing) else census.complete
        self.held: Counter[tuple[str, TcpState]] = Counter()
        self._unnamed: dict[TcpState, Missing] = {}
        for row in rows:
            if isinstance(row.owner, Held):
                holder = row.owner.holders[0]
                self.held[f"{holder.name} ({holder.pid})", row.state] += 1
            elif isinstance(row.owner, Missing):
                self._unnamed[row.state] = row.owner

    def number(self, process: str, state: TcpState) -> Reading[int]:
        """How many it holds; none are none only where all are listed and named."""
        number = self.held[process, state]
        if number or (self._complete is True and state not in self._unnamed):
            return number
        return self._complete if isinstance(self._complete, Missing) else self._unnamed.get(state, _NOT_ALL)


_NOT_ALL = Missing("not all sockets are listed")


def _most_different(old: Mapping[T, int], new: Mapping[T, int]) -> list[T]:
    """What there are more or fewer of, the largest difference first."""
    changed = [key for key in {**old, **new} if old.get(key, 0) != new.get(key, 0)]
    changed.sort(key=lambda key: (-abs(new.get(key, 0) - old.get(key, 0)), str(key)))
    return changed[:_MOST]


def _destinations(then: Snapshot, now: Snapshot) -> Reading[tuple[DestinationDifference, ...]]:
    if isinstance(then.census, Missing):
        return then.census
    if isinstance(now.census, Missing):
        return now.census
    if _client_ports(then) != _client_ports(now):
        return Missing("net.ipv4.ip_local_port_range, which tells who connects, was changed between the two")
    old, new = _uses(then.census), _uses(now.census)

    def number(look: Snapshot, uses: Mapping[Destination, int], key: Destination) -> Reading[int]:
        if key not in uses and "destination" in look.untold:
            return Missing(look.untold["destination"])
        return uses.get(key, 0)

    return tuple(
        DestinationDifference(
            str(Endpoint(key.address, key.port)),
            key.source,
            number(then, old, key),
            number(now, new, key),
        )
        for key in _most_different(old, new)
    )


def _client_ports(look: Snapshot) -> object:
    """The range of ephemeral ports; where it is not told the kernel's own, by which sockets were sorted."""
    chosen = look.sysctls.get("net.ipv4.ip_local_port_range")
    return chosen if isinstance(chosen, tuple) else DEFAULT_PORTS


def _uses(census: Census) -> Mapping[Destination, int]:
    return {destination: use.total for destination, use in census.by_destination.items()}


# Counters and settings.


def _counters(
    then: Snapshot, now: Snapshot, seconds: Reading[float]
) -> tuple[Reading[tuple[CounterDifference, ...]], tuple[str, ...]]:
    """Counters that grew, and those that went back; gauges among the kernel's counters are left out."""
    if isinstance(then.counters, Missing):
        return then.counters, ()
    if isinstance(now.counters, Missing):
        return now.counters, ()
    old = then.counters
    both = [(name, old[name], number) for name, number in now.counters.items() if name in old]
    both = [(name, before, after) for name, before, after in both if name not in GAUGES]
    grown = sorted(
        ((name, before, after) for name, before, after in both if after > before),
        key=lambda each: (each[1] - each[2], each[0]),
    )
    rates = (
        CounterDifference(
            name,
            before,
            after,
            seconds if isinstance(seconds, Missing) else round((after - before) / seconds, 6),
        )
        for name, before, after in grown
    )
    return tuple(rates), tuple(name for name, before, after in both if after < before)


def _settings(then: Snapshot, now: Snapshot) -> tuple[SettingDifference, ...]:
    found = []
    for name, value in sorted(now.sysctls.items()):
        before = then.sysctls.get(name)
        if name in _MEASURES or before is None or isinstance(before, Missing) or isinstance(value, Missing):
            continue
        if before != value:
            found.append(SettingDifference(name, value_as_printed(before), value_as_printed(value)))
    return tuple(found)


_MEASURES = frozenset(
    {
        *("fs.file-nr", "fs.aio-nr", "fs.dentry-state", "fs.inode-nr", "fs.inode-state"),
        *("kernel.ns_last_pid", "kernel.pty.nr", "kernel.random.uuid", "kernel.random.entropy_avail"),
        *("kernel.random.boot_id", "net.netfilter.nf_conntrack_count", "vm.stat_refresh"),
    }
)
"""What /proc/sys holds that nobody sets."""
