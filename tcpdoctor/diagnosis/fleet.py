"""Many hosts become one report: the worst first, the same finding told once, silence never taken for health.

Reports are added one at a time. Kept of each is a digest of some hundred bytes, and of each finding the
words of one host, so that memory hardly grows with the size and the number of reports.
"""

from collections.abc import Iterable
from typing import NamedTuple

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.fleet_document import STATUSES, Look, Told, looks_of
from tcpdoctor.diagnosis.fleet_report import FleetReport, Group, Host, Repeated, Unread
from tcpdoctor.kernel.documents import Document

MOST_GROUPS = 300
"""Kinds of findings (rule and severity) whose words are kept: far above what the rules can say."""
MOST_NOTES = 10_000
"""Unreadable documents, and repeated reports, that are told one by one."""
CLOCK_SLACK = 300.0
"""Seconds that clocks of hosts may differ before a report counts as coming from the future."""


class _Digest(NamedTuple):
    """What is kept of a look."""

    taken_at: float
    status: int
    reason: str | None
    findings: tuple[tuple[int, int], ...]
    untold: int
    unanswered: int
    complete_since: float
    source: str


class Fleet:
    """Reports so far; `conclude` says what they come to."""

    def __init__(self, *, name_by_file: bool = False) -> None:
        """Take a host's name from its file instead of its report where `name_by_file`."""
        self._by_file = name_by_file
        self._digests: dict[str, dict[str, _Digest]] = {}
        self._places: dict[tuple[str, Severity], int] = {}
        self._told: list[tuple[Told, str, str, float]] = []
        """By place: the words, and whose they are: host, namespace, time."""
        self._unread: list[Unread] = []
        self._repeated: list[Repeated] = []
        self._more_unread = 0
        self._more_repeated = 0

    def add(self, document: Document) -> None:
        """Take in one document; whatever is wrong with it becomes part of the report."""
        for look in looks_of(document.value):
            name = document.name if self._by_file and document.name else look.host
            if name is not None:
                self._keep(name, look, document.source)
            elif len(self._unread) < MOST_NOTES:
                self._unread.append(Unread(document.source, document.name, look.reason or "it is no report"))
            else:
                self._more_unread += 1

    def _keep(self, name: str, look: Look, source: str) -> None:
        looks = self._digests.setdefault(name, {})
        key = look.namespace
        before = looks.get(key)
        if before is not None and (look.taken_at, look.status) < (before.taken_at, STATUSES[before.status]):
            self._leave_out(name, before.source, source)
            return
        if before is not None:
            self._leave_out(name, source, before.source)
        counts: dict[int, int] = {}
        untold = 0
        for told in look.findings:
            place = self._place(told, name, look)
            untold += place is None
            if place is not None:
                counts[place] = counts.get(place, 0) + 1
        looks[key] = _Digest(
            look.taken_at,
            STATUSES.index(look.status),
            look.reason,
            tuple(counts.items()),
            untold,
            look.unanswered,
            look.complete_since,
            source,
        )

    def _leave_out(self, name: str, counted: str, left_out: str) -> None:
        if len(self._repeated) < MOST_NOTES:
            self._repeated.append(Repeated(name, counted, left_out))
        else:
            self._more_repeated += 1

    def _place(self, told: Told, name: str, look: Look) -> int | None:
        """Return the place of a kind of finding; its words are those of the first host, at its newest."""
        key = (told.rule, told.severity)
        place = self._places.get(key)
        if place is None:
            if len(self._told) >= MOST_GROUPS:
                return None
            place = self._places[key] = len(self._told)
            self._told.append((told, name, look.namespace, look.taken_at))
        else:
            _, host, namespace, taken_at = self._told[place]
            if (host, namespace) == (name, look.namespace) and look.taken_at > taken_at:
                self._told[place] = (told, name, look.namespace, look.taken_at)
        return place

    def conclude(
        self, now: float, *, max_age: float | None, expected: Iterable[str] | None = None
    ) -> FleetReport:
        """Return the report.

        Args:
            now: Seconds since 1970.
            max_age: Seconds after which a report no longer shows that its host is well; None: never.
            expected: The hosts that should have reported.
        """
        hosts = [self._host(name, looks, now, max_age) for name, looks in self._digests.items()]
        silent: list[str] = []
        unexpected: list[str] = []
        unread = list(self._unread)
        wanted = None if expected is None else {name.casefold(): name for name in expected}
        if wanted is not None:
            known = {name.casefold() for name in self._digests}
            unexpected = sorted(name for name in self._digests if name.casefold() not in wanted)
            silent = [name for folded, name in wanted.items() if folded not in known]
            hosts += [_silent(name, unread) for name in silent]
        hosts.sort(key=self._badness)
        order, groups = self._groups(hosts)
        return FleetReport(
            made_at=now,
            hosts=tuple(
                host._replace(findings=tuple(sorted((order[place], n) for place, n in host.findings)))
                for host in hosts
            ),
            groups=groups,
            unread=tuple(unread),
            more_unread=self._more_unread,
            repeated=tuple(self._repeated),
            more_repeated=self._more_repeated,
            expected=None if wanted is None else len(wanted),
            silent=tuple(sorted(silent)),
            unexpected=tuple(unexpected),
        )

    def _host(self, name: str, looks: dict[str, _Digest], now: float, max_age: float | None) -> Host:
        counted = self._counted(name, looks)
        counts: dict[int, int] = {}
        for digest in counted.values():
            for place, number in digest.findings:
                counts[place] = counts.get(place, 0) + number
        dated = [digest.taken_at for digest in counted.values() if digest.taken_at]
        doubt = _doubt(dated, now, max_age)
        worst = max(digest.status for digest in counted.values())
        if doubt is not None:
            worst = max(worst, STATUSES.index("unknown"))
        reasons = [digest.reason for digest in counted.values() if digest.reason]
        return Host(
            name=name,
            status=STATUSES[worst],
            reasons=tuple(dict.fromkeys(reasons + ([doubt] if doubt else []))),
            taken_at=min(dated, default=None),
            stale=doubt is not None,
            findings=tuple(counts.items()),
            untold=sum(digest.untold for digest in counted.values()),
            namespaces=sum(1 for key in counted if key),
            unanswered=sum(digest.unanswered for digest in counted.values()),
            sources=tuple(dict.fromkeys(digest.source for digest in counted.values())),
        )

    def _counted(self, name: str, looks: dict[str, _Digest]) -> dict[str, _Digest]:
        """Leave out what a later report of all namespaces, or of any after a failure, has overtaken."""
        since = max(digest.complete_since for digest in looks.values())
        seen = max((digest.taken_at for key, digest in looks.items() if key), default=0.0)
        counted = {}
        newest = max(looks.values(), key=lambda digest: digest.taken_at)
        for key, digest in looks.items():
            if 0 < digest.taken_at < (seen if not key else since):
                self._leave_out(name, newest.source, digest.source)
            else:
                counted[key] = digest
        return counted

    def _badness(self, host: Host) -> tuple[int, tuple[int, ...], str]:
        """Order hosts: by status, then by how many of the worst findings they have, then by name."""
        found = [0] * len(Severity)
        for place, number in host.findings:
            found[-int(self._told[place][0].severity)] -= number
        return -STATUSES.index(host.status), tuple(found), host.name

    def _groups(self, hosts: list[Host]) -> tuple[dict[int, int], tuple[Group, ...]]:
        """Return the groups, the worst first, and where each place in `_told` went."""
        names: dict[int, list[str]] = {}
        totals: dict[int, int] = {}
        for host in hosts:
            for place, number in host.findings:
                names.setdefault(place, []).append(host.name)
                totals[place] = totals.get(place, 0) + number
        ranked = sorted(names, key=lambda place: self._importance(place, len(names[place])))
        groups = []
        for place in ranked:
            told, name, namespace, taken_at = self._told[place]
            digest = self._digests[name].get(namespace)
            current = digest is not None and digest.taken_at == taken_at and name in names[place]
            groups.append(Group(told, name if current else None, tuple(names[place]), totals[place]))
        return {place: number for number, place in enumerate(ranked)}, tuple(groups)

    def _importance(self, place: int, hosts: int) -> tuple[int, int, str]:
        told = self._told[place][0]
        return -told.severity, -hosts, told.rule


def _silent(name: str, unread: list[Unread]) -> Host:
    """Return a host that sent nothing, or whose file of that name could not be read (and is told here)."""
    mine = [one for one in unread if one.name is not None and one.name.casefold() == name.casefold()]
    for one in mine:
        unread.remove(one)
    reasons = tuple(f"its report could not be read: {one.reason}" for one in mine)
    return Host(
        name=name,
        status="unknown",
        reasons=reasons or ("it sent no report",),
        taken_at=None,
        stale=False,
        findings=(),
        untold=0,
        namespaces=0,
        unanswered=0,
        sources=tuple(one.source for one in mine),
    )


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
