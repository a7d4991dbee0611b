"""Many hosts become one report: the worst first, the same finding told once, silence never taken for health.

Reports are added one at a time. Kept of each is a record of some two hundred bytes, and of each kind of
finding the words of one host, so that memory hardly grows with the size and the number of reports.
"""

from collections.abc import Iterable

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.fleet_document import STATUSES, Look, Told, looks_of
from tcpdoctor.diagnosis.fleet_records import MOST_NAMESPACES, Digest, Records
from tcpdoctor.diagnosis.fleet_report import FleetReport, Group, Repeated, Unread
from tcpdoctor.diagnosis.fleet_summary import Hosts, Summary, Unheard
from tcpdoctor.kernel.documents import Document

MOST_GROUPS = 300
"""Kinds of findings (rule and severity) whose words are kept: far above what the rules can say."""
MOST_NOTES = 10_000
"""Documents that are no report, told one by one."""
MOST_REPEATED = 1_000
"""Older reports of a host, told one by one."""


class Fleet:
    """Reports so far; `conclude`, called once, says what they come to."""

    def __init__(self, *, name_by_file: bool = False) -> None:
        """Take a host's name from its file instead of its report where `name_by_file`."""
        self._by_file = name_by_file
        self._records = Records()
        self._places: dict[tuple[str, Severity], int] = {}
        self._told: list[tuple[Told, str, int, float]] = []
        """By place: the words, and whose they are: host, namespace, time."""
        self._unread: list[Unread] = []
        self._repeated: list[Repeated] = []
        self._more_unread = 0
        self._more_repeated = 0
        self._reasons: dict[str, str] = {}
        """Of documents that are no report: each kept once."""

    def add(self, document: Document) -> None:
        """Take in one document; whatever is wrong with it becomes part of the report."""
        for look in looks_of(document.value):
            name = document.name if self._by_file and document.name else look.host
            if name is not None:
                self._keep(name, look, document.source)
            else:
                self._note(document.source, document.name, look.reason or "it is no report")

    def _keep(self, name: str, look: Look, source: str) -> None:
        namespace = 0 if not look.namespace else hash(look.namespace) or 1
        before = self._records.look_into(name, namespace)
        if before is not None:
            if (look.taken_at, look.status) < (before.taken_at, STATUSES[before.status]):
                self._leave_out(name, before.source, source)
                return
            self._leave_out(name, source, before.source)
        counts: dict[int, int] = {}
        untold = 0
        for told in look.findings:
            place = self._place(told, name, namespace, look.taken_at)
            untold += place is None
            if place is not None:
                counts[place] = counts.get(place, 0) + 1
        digest = Digest(
            namespace,
            look.taken_at,
            look.complete_since,
            STATUSES.index(look.status),
            look.reason,
            tuple(counts.items()),
            untold,
            look.unanswered,
            source,
        )
        if not self._records.put(name, digest):
            self._note(source, None, f"{name} has more than {MOST_NAMESPACES} network namespaces")

    def _note(self, source: str, name: str | None, reason: str) -> None:
        if len(self._unread) < MOST_NOTES:
            self._unread.append(Unread(source, name, self._reasons.setdefault(reason, reason)))
        else:
            self._more_unread += 1

    def _leave_out(self, name: str, counted: str, left_out: str) -> None:
        if len(self._repeated) < MOST_REPEATED:
            self._repeated.append(Repeated(name, counted, left_out))
        else:
            self._more_repeated += 1

    def _place(self, told: Told, name: str, namespace: int, taken_at: float) -> int | None:
        """Return the place of a kind of finding; its words are those of the first host, at its newest."""
        key = (told.rule, told.severity)
        place = self._places.get(key)
        if place is None:
            if len(self._told) >= MOST_GROUPS:
                return None
            place = self._places[key] = len(self._told)
            self._told.append((told, name, namespace, taken_at))
        else:
            _, host, where, before = self._told[place]
            if (host, where) == (name, namespace) and taken_at > before:
                self._told[place] = (told, name, namespace, taken_at)
        return place

    def conclude(
        self,
        now: float,
        *,
        max_age: float | None,
        expected: Iterable[str] | None = None,
        most_named: int = 1000,
    ) -> FleetReport:
        """Return the report; nothing can be added any more.

        Args:
            now: Seconds since 1970.
            max_age: Seconds after which a report no longer shows that its host is well; None: never.
            expected: The hosts that should have reported.
            most_named: Hosts that are named of a finding, and of a reason why they are not known; beyond
                them they are counted.
        """
        missed = Unheard(self._records, self._unread, self._more_unread, expected)
        severities = [told.severity for told, *_ in self._told]
        hosts = Hosts(self._records, severities, now, max_age, self._leave_out)
        summary = Summary(hosts, len(self._told), most_named)
        ranked = sorted(summary.totals, key=lambda place: self._importance(place, summary))
        hosts.number_findings({place: number for number, place in enumerate(ranked)})
        return FleetReport(
            made_at=now,
            hosts=hosts,
            statuses=summary.statuses,
            doubted=summary.doubted,
            unknown=summary.unknown(),
            sick=summary.sick,
            oldest=summary.oldest,
            newest=summary.newest,
            groups=tuple(self._group(place, summary) for place in ranked),
            unread=tuple(missed.unread),
            more_unread=self._more_unread,
            repeated=tuple(self._repeated),
            more_repeated=self._more_repeated,
            expected=missed.expected,
            silent=missed.silent,
            unexpected=missed.unexpected,
        )

    def _group(self, place: int, summary: Summary) -> Group:
        told, name, namespace, taken_at = self._told[place]
        current = summary.hosts.counts(name, namespace, taken_at)
        names, spread = summary.names[place], summary.spread[place]
        return Group(told, name if current else None, tuple(names), spread, summary.totals[place])

    def _importance(self, place: int, summary: Summary) -> tuple[int, int, str]:
        told = self._told[place][0]
        return -told.severity, -summary.spread[place], told.rule
