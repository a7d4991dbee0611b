"""Many hosts become one answer: the worst first, the same finding told once, silence never taken for health.

Reports are added one at a time. Kept of each is a small record, and of each kind of finding the words of one
host, so that memory hardly grows with the size and the number of reports.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, TypeVar

from tcpdoctor.answers.host_report import (
    STATUSES,
    FleetFix,
    HostLook,
    Status,
    ToldFinding,
    looks_of,
)
from tcpdoctor.answers.record import Count, Is, Time, utc
from tcpdoctor.diagnosis.finding import Severity, WrongFix
from tcpdoctor.kernel.documents import Document
from tcpdoctor.named_tuples import NamedTuple

MOST_GROUPS = 300
"""Kinds of findings (rule and severity) whose words are kept: far above what the rules can say."""
MOST_NOTES = 10_000
"""Documents that are no report, told one by one."""
MOST_REPEATED = 1_000
"""Older reports of a host, told one by one."""
MOST_NAMESPACES = 4_000
"""Of one host: above what a host of containers has."""
CLOCK_SLACK = 300.0
"""Seconds that clocks of hosts may differ before a report counts as coming from the future."""


class Tool(NamedTuple):
    """What made an answer."""

    name: Literal["tcpdoctor"]
    version: str


class FleetSummary(NamedTuple):
    """How many hosts are how."""

    hosts: Count
    critical: Count
    warning: Count
    unknown: Count
    ok: Count
    expected: Annotated[int | None, Is(minimum=0)]
    """Hosts that should have reported; None where nobody said which."""
    findings: Annotated[int, Is("Kinds of findings: rule and severity.", minimum=0)]
    unread: Count
    repeated: Count
    sick: Annotated[int, Is("Hosts with findings.", minimum=0)]
    doubted: Annotated[int, Is("Hosts that something is not known of.", minimum=0)]
    oldest: Annotated[Time | None, Is("When the first of the looks that count was taken.")]
    newest: Annotated[Time | None, Is("When the last of them was taken.")]


class FleetExample(NamedTuple):
    """What was seen on one of the hosts."""

    host: str
    subject: str
    summary: str
    headline: Annotated[str, Is("In a line; empty where the host's version does not say.")]
    namespace: Annotated[str, Is("How its network namespace is called; empty of one without a name.")]
    whom: Annotated[str, Is("Whom it is about, for people: a process rather than an address.")]


class FleetFinding(NamedTuple):
    """The same finding, on one host or many, in the words of one of them."""

    rule: str
    severity: Severity
    title: str
    hosts_total: Count
    findings_total: Annotated[int, Is("On all of them together.", minimum=0)]
    hosts: Annotated[tuple[str, ...], Is("The worst first; up to a bound.")]
    example: FleetExample | None
    """None where the report that the words are from was left out."""
    explanation: str
    impact: str
    fixes: tuple[FleetFix, ...]
    wrong_fixes: tuple[WrongFix, ...]


class HostFinding(NamedTuple):
    """A kind of finding on one host, and for how many subjects."""

    rule: str
    severity: Severity
    subjects: Count


class FleetHost(NamedTuple):
    """What is known of one host, in all its namespaces that were looked at."""

    name: str
    status: Status
    """The worst of its namespaces."""
    reasons: Annotated[
        tuple[str, ...], Is("Why it is unknown, wholly or in part, or its report shows nothing any more.")
    ]
    taken_at: Annotated[Time | None, Is("Of its oldest look; null where there was none.")]
    stale: bool
    namespaces: Count
    unanswered: Annotated[int, Is("Rules, added up over its namespaces.", minimum=0)]
    findings: Annotated[tuple[HostFinding, ...], Is("The worst first.")]
    findings_not_told: Count
    sources: tuple[str, ...]


class Unread(NamedTuple):
    """A document that is no report of a host that is known."""

    source: str
    reason: str


class Repeated(NamedTuple):
    """Two reports of one namespace of one host: the older one does not count."""

    host: str
    counted: Annotated[str, Is("Where the newer report is from.")]
    left_out: str


class NotKnown(NamedTuple):
    """Why something is not known, and of which hosts."""

    reason: str
    hosts: Annotated[tuple[str, ...], Is("The worst first; up to a bound.")]
    hosts_total: Count


class FleetAnswer(NamedTuple):
    """All that can be said of a fleet."""

    schema: Literal["tcpdoctor.fleet/1"]
    tool: Tool
    made_at: Time
    status: Status
    """The worst of a host, ``unknown`` also where a document is nobody's."""
    exit_code: Literal[0, 1, 2, 3]
    summary: FleetSummary
    findings: Annotated[
        tuple[FleetFinding, ...],
        Is("The worst first, then those of most hosts; the same on many hosts is told once."),
    ]
    hosts: Annotated[tuple[FleetHost, ...], Is("The worst first.")]
    unread: tuple[Unread, ...]
    repeated: Annotated[
        tuple[Repeated, ...],
        Is("Reports that do not count, because there is a newer one of the same namespace of the host."),
    ]
    silent: Annotated[tuple[str, ...], Is("Expected hosts without any report.")]
    unexpected: Annotated[tuple[str, ...], Is("Hosts that nobody expected.")]
    unknown: Annotated[tuple[NotKnown, ...], Is("What is not known; the reason of most hosts first.")]


def loud_fleet(answer: FleetAnswer, least: Severity | None) -> FleetAnswer:
    """Return it without the findings below `least`, as `--quiet` has it; None: without any."""
    loud = [one for one in answer.findings if least is not None and one.severity >= least]
    return answer._replace(findings=tuple(loud))


def sick_hosts(answer: FleetAnswer) -> Iterable[FleetHost]:
    """Give the hosts with findings, the worst first."""
    return (host for host in answer.hosts if host.findings or host.findings_not_told)


class _Digest(NamedTuple):
    """What is kept of a look into one namespace of one host."""

    namespace: str
    """Its number and name; empty where nothing was seen."""
    taken_at: float
    complete_since: float
    status: int
    """Place in STATUSES."""
    reason: str | None
    findings: tuple[tuple[int, int], ...]
    """Kind of finding, and for how many subjects."""
    untold: int
    unanswered: int
    source: str


_UNKNOWN = STATUSES.index("unknown")
_Kept = TypeVar("_Kept")


class Fleet:
    """Reports so far; `conclude`, called once, says what they come to."""

    def __init__(self, *, name_by_file: bool = False) -> None:
        """Take a host's name from its file instead of its report where `name_by_file`."""
        self._by_file = name_by_file
        self._looks: dict[str, tuple[_Digest, ...]] = {}
        """By host; one for each namespace."""
        self._places: dict[tuple[str, Severity], int] = {}
        self._told: list[tuple[ToldFinding, str, str, float]] = []
        """By place: the words, and whose they are: host, namespace, time."""
        self._unread: list[tuple[Unread, str | None]] = []
        """With the name of the file."""
        self._repeated: list[Repeated] = []
        self._more_unread = 0
        self._more_repeated = 0
        self._shared: dict[object, object] = {}
        """What many hosts have in common, each once."""

    def add(self, document: Document) -> None:
        """Take in one document; whatever is wrong with it becomes part of the answer."""
        for look in looks_of(document.value):
            name = document.name if self._by_file and document.name else look.host
            if name is not None:
                self._keep(name, look, document.source)
            else:
                self._note(document.source, document.name, look.reason or "it is no report")

    def _keep(self, name: str, look: HostLook, source: str) -> None:
        looks = self._looks.get(name, ())
        place = next((n for n, one in enumerate(looks) if one.namespace == look.namespace), len(looks))
        if place >= MOST_NAMESPACES:
            self._note(source, None, f"{name} has more than {MOST_NAMESPACES} network namespaces")
            return
        for before in looks[place : place + 1]:
            if (look.taken_at, look.status) < (before.taken_at, STATUSES[before.status]):
                self._leave_out(name, before.source, source)
                return
            self._leave_out(name, source, before.source)
        digest = self._digest(name, look, source)
        self._looks[name] = (*looks[:place], digest, *looks[place + 1 :])

    def _digest(self, name: str, look: HostLook, source: str) -> _Digest:
        counts: dict[int, int] = {}
        untold = 0
        for told in look.findings:
            kind = self._kind(told, name, look)
            untold += kind is None
            if kind is not None:
                counts[kind] = counts.get(kind, 0) + 1
        for rule, severity, number in look.beyond:
            kind = self._places.get((rule, severity))
            if kind is None:
                untold += number
            else:
                counts[kind] = counts.get(kind, 0) + number
        return _Digest(
            self._share(look.namespace),
            look.taken_at,
            look.complete_since,
            STATUSES.index(look.status),
            self._share(look.reason),
            self._share(tuple(counts.items())),
            untold,
            look.unanswered,
            source,
        )

    def _share(self, value: _Kept) -> _Kept:
        return self._shared.setdefault(value, value)  # type: ignore[return-value]

    def _note(self, source: str, name: str | None, reason: str) -> None:
        if len(self._unread) < MOST_NOTES:
            self._unread.append((Unread(source, self._share(reason)), name))
        else:
            self._more_unread += 1

    def _leave_out(self, name: str, counted: str, left_out: str) -> None:
        if len(self._repeated) < MOST_REPEATED:
            self._repeated.append(Repeated(name, counted, left_out))
        else:
            self._more_repeated += 1

    def _kind(self, told: ToldFinding, name: str, look: HostLook) -> int | None:
        """Return the place of a kind of finding; its words are those of the first host, at its newest."""
        key = (told.rule, told.severity)
        place = self._places.get(key)
        if place is None:
            if len(self._told) >= MOST_GROUPS:
                return None
            place = self._places[key] = len(self._told)
            self._told.append((told, name, look.namespace, look.taken_at))
        else:
            _, host, where, before = self._told[place]
            if (host, where) == (name, look.namespace) and look.taken_at > before:
                self._told[place] = (told, name, look.namespace, look.taken_at)
        return place

    def conclude(
        self,
        now: float,
        *,
        max_age: float | None,
        expected: Iterable[str] | None = None,
        fail_on: Severity | None = Severity.WARNING,
        most_named: int = 1000,
        version: str = "",
    ) -> FleetAnswer:
        """Return the answer; nothing can be added any more.

        Args:
            now: Seconds since 1970.
            max_age: Seconds after which a report no longer shows that its host is well; None: never.
            expected: The hosts that should have reported.
            fail_on: The least severity that changes the exit code; None: no finding does.
            most_named: Hosts that are named of a finding, and of a reason why they are not known; beyond
                them they are counted.
            version: Of this program.
        """
        wanted = None if expected is None else {name.casefold(): name for name in expected}
        silent, unexpected = self._miss(wanted or {}) if wanted is not None else ((), ())
        hosts, groups = self._judged(now, max_age, most_named)
        unread = tuple(one for one, _ in self._unread)
        summary = _summary(hosts, wanted, len(groups))._replace(
            unread=len(unread) + self._more_unread, repeated=len(self._repeated) + self._more_repeated
        )
        return FleetAnswer(
            "tcpdoctor.fleet/1",
            Tool("tcpdoctor", version),
            utc(now),
            _status(summary),
            _exit_code(summary, fail_on),
            summary,
            groups,
            tuple(hosts),
            unread,
            tuple(self._repeated),
            silent,
            unexpected,
            _not_known(hosts, most_named),
        )

    def _judged(
        self, now: float, max_age: float | None, most_named: int
    ) -> tuple[list[FleetHost], tuple[FleetFinding, ...]]:
        """The hosts, the worst first, and what was found on them; each look counts once."""
        counted = {name: self._counted(name) for name in sorted(self._looks)}
        current = {
            (name, one.namespace, one.taken_at) for name, looks in counted.items() for one in looks
        }  # as `_told` knows them
        ranks = self._ranks(counted.values())
        hosts = sorted(
            (self._host(name, looks, ranks, now, max_age) for name, looks in counted.items()), key=_badness
        )
        return hosts, self._groups(hosts, ranks, current, most_named)

    def _miss(self, wanted: dict[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Keep a look for each host that should have reported and did not; return these and the unexpected.

        Documents that explain it are told as its own.
        """
        unexpected = tuple(sorted(name for name in self._looks if name.casefold() not in wanted))
        heard = {name.casefold() for name in self._looks}
        silent = {folded: name for folded, name in wanted.items() if folded not in heard}
        nothing = "it sent no report" if not self._more_unread else "it sent no report that can be read"
        damaged: dict[str, list[_Digest]] = {}
        rest = []
        for one, file in self._unread:
            if file is not None and (folded := file.casefold()) in silent:
                damaged.setdefault(folded, []).append(_unread_look(one))
            else:
                rest.append((one, file))
        self._unread = rest
        for folded, name in silent.items():
            self._looks[name] = tuple(damaged.get(folded, [_unheard(nothing)]))
        return tuple(sorted(silent.values())), unexpected

    def _counted(self, name: str) -> Sequence[_Digest]:
        """Leave out what a later report of all namespaces, or of any after a failure, has overtaken."""
        looks = self._looks.pop(name)
        if len(looks) == 1:
            return looks
        since = max(look.complete_since for look in looks)
        seen = max((look.taken_at for look in looks if look.namespace), default=0.0)
        counted = [look for look in looks if not 0 < look.taken_at < (since if look.namespace else seen)]
        newest = max(looks, key=lambda look: look.taken_at)
        for source in sorted(look.source for look in looks if look not in counted):
            self._leave_out(name, newest.source, source)
        return counted

    def _ranks(self, counted: Iterable[Sequence[_Digest]]) -> dict[int, int]:
        """Number the kinds of findings that there are: the worst first, then those of most hosts."""
        spread: dict[int, int] = {}
        for looks in counted:
            for kind in {kind for look in looks for kind, _ in look.findings}:
                spread[kind] = spread.get(kind, 0) + 1

        def importance(kind: int) -> tuple[int, int, str]:
            told = self._told[kind][0]
            return -told.severity, -spread[kind], told.rule

        return {kind: number for number, kind in enumerate(sorted(spread, key=importance))}

    def _host(
        self,
        name: str,
        looks: Sequence[_Digest],
        ranks: dict[int, int],
        now: float,
        max_age: float | None,
    ) -> FleetHost:
        counts: dict[int, int] = {}
        for look in looks:
            for kind, number in look.findings:
                counts[kind] = counts.get(kind, 0) + number
        dated = [look.taken_at for look in looks if look.taken_at]
        doubt = _doubt(dated, now, max_age)
        worst = max(look.status for look in looks)
        reasons = [look.reason for look in looks if look.reason] + ([doubt] if doubt else [])
        findings = tuple(
            self._host_finding(kind, counts[kind]) for kind in sorted(counts, key=ranks.__getitem__)
        )
        return FleetHost(
            name,
            STATUSES[worst if doubt is None else max(worst, _UNKNOWN)],
            self._share(tuple(dict.fromkeys(reasons))),
            self._share(utc(min(dated))) if dated else None,
            doubt is not None,
            sum(1 for look in looks if look.namespace and look.taken_at),
            sum(look.unanswered for look in looks),
            self._share(findings),
            sum(look.untold for look in looks),
            tuple(dict.fromkeys(look.source for look in looks if look.source)),
        )

    def _host_finding(self, kind: int, number: int) -> HostFinding:
        told = self._told[kind][0]
        return self._share(HostFinding(told.rule, told.severity, number))

    def _groups(
        self,
        hosts: Sequence[FleetHost],
        ranks: dict[int, int],
        current: set[tuple[str, str, float]],
        most_named: int,
    ) -> tuple[FleetFinding, ...]:
        names: dict[tuple[str, Severity], list[str]] = {}
        spread: dict[tuple[str, Severity], int] = {}
        totals: dict[tuple[str, Severity], int] = {}
        for host in hosts:
            for one in host.findings:
                key = one.rule, one.severity
                spread[key] = spread.get(key, 0) + 1
                totals[key] = totals.get(key, 0) + one.subjects
                if len(named := names.setdefault(key, [])) < most_named:
                    named.append(host.name)
        groups = []
        for told, name, namespace, taken_at in (self._told[kind] for kind in ranks):
            key = told.rule, told.severity
            shown = FleetExample(name, told.label, told.summary, told.headline, told.within, told.whom)
            groups.append(
                FleetFinding(
                    told.rule,
                    told.severity,
                    told.title,
                    spread[key],
                    totals[key],
                    tuple(names[key]),
                    shown if (name, namespace, taken_at) in current else None,
                    told.explanation,
                    told.impact,
                    told.fixes,
                    told.wrong_fixes,
                )
            )
        return tuple(groups)


def _unheard(reason: str, source: str = "") -> _Digest:
    """Return the look of a host that nothing is known of."""
    return _Digest("", 0.0, 0.0, _UNKNOWN, reason, (), 0, 0, source)


def _unread_look(document: Unread) -> _Digest:
    return _unheard(f"its report could not be read: {document.reason}", document.source)


def _badness(host: FleetHost) -> tuple[int, int, int, int]:
    """Order hosts: by status, then by how many of the worst findings they have."""
    found = dict.fromkeys(Severity, 0)
    for one in host.findings:
        found[one.severity] -= one.subjects
    worst_first = found[Severity.CRITICAL], found[Severity.WARNING], found[Severity.INFO]
    return -STATUSES.index(host.status), *worst_first


def _doubt(dated: list[float], now: float, max_age: float | None) -> str | None:
    """Say why reports of these times do not show how the host is now; None where they do."""
    if dated and max(dated) - now > CLOCK_SLACK:
        return f"its report is dated {_span(max(dated) - now)} in the future: a clock is wrong"
    if dated and max_age is not None and now - min(dated) > max_age:
        return f"its report is {_span(now - min(dated))} old"
    return None


def _span(seconds: float) -> str:
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _summary(hosts: Sequence[FleetHost], wanted: dict[str, str] | None, groups: int) -> FleetSummary:
    statuses = dict.fromkeys(STATUSES, 0)
    for host in hosts:
        statuses[host.status] += 1
    dates = [host.taken_at for host in hosts if host.taken_at is not None]
    return FleetSummary(
        len(hosts),
        statuses["critical"],
        statuses["warning"],
        statuses["unknown"],
        statuses["ok"],
        None if wanted is None else len(wanted),
        groups,
        0,
        0,
        sum(1 for host in hosts if host.findings or host.findings_not_told),
        sum(1 for host in hosts if host.reasons),
        min(dates, default=None),
        max(dates, default=None),
    )


def _blind(summary: FleetSummary) -> bool:
    """Whether something is not known of the fleet: a host, in whole or in part, or whose a document is."""
    return bool(summary.unread or summary.doubted or not summary.hosts)


def _status(summary: FleetSummary) -> Status:
    if summary.critical:
        return "critical"
    if summary.warning:
        return "warning"
    return "unknown" if summary.unknown or _blind(summary) else "ok"


def _exit_code(summary: FleetSummary, fail_on: Severity | None) -> Literal[0, 1, 2, 3]:
    """Return 2 critical, 1 warning, 3 where nothing worse and a host or a document says nothing, else 0."""
    if fail_on is not None and summary.critical:
        return 2
    if fail_on is not None and fail_on <= Severity.WARNING and summary.warning:
        return 1
    return 3 if _blind(summary) else 0


def _not_known(hosts: Iterable[FleetHost], most_named: int) -> tuple[NotKnown, ...]:
    """Return each reason why something is not known, that of most hosts first."""
    names: dict[str, list[str]] = {}
    totals: dict[str, int] = {}
    for host in hosts:
        for reason in host.reasons:
            totals[reason] = totals.get(reason, 0) + 1
            if len(named := names.setdefault(reason, [])) < most_named:
                named.append(host.name)
    ranked = sorted(names, key=lambda reason: -totals[reason])
    return tuple(NotKnown(reason, tuple(names[reason]), totals[reason]) for reason in ranked)
