"""Many hosts become one report: the worst first, the same finding told once, silence never taken for health.

Reports are added one at a time. Kept of each is a record of some two hundred bytes, and of each kind of
finding the words of one host, so that memory hardly grows with the size and the number of reports.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.fleet_report import (
    STATUSES,
    FleetReport,
    Group,
    Host,
    Look,
    Repeated,
    Told,
    Unknown,
    Unread,
    looks_of,
)
from tcpdoctor.kernel.documents import Document

# What is kept of every report of a fleet: some two hundred bytes a host, whatever it sent.
#
# Words that many hosts share are kept once; of a host stay its name and numbers.


MOST_REASONS = 10_000
"""Different reasons why hosts are not known whose words are kept."""
MOST_NAMESPACES = 4_000
"""Of one host: above what a host of containers has."""
_MORE_REASONS = "its reason is in its report: too many different ones to tell"
_FORM = struct.Struct("<qddBIIIIII")
_NUMBER = struct.Struct("<II")
_WHOLE, _SHORT = "\0", "\1"
"""Stand for a host's name, and for that up to its first dot; no cleaned text holds them."""
_MOST = 2**32 - 1
_Value = TypeVar("_Value", str, bytes)


class Digest(NamedTuple):
    """What is kept of a look into one namespace of one host."""

    namespace: int
    """Stands for its number and name; 0 where nothing was seen."""
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


class Records:
    """The digests of every host, by its name; one for each namespace."""

    def __init__(self) -> None:
        """Begin with no host."""
        self._packed: dict[str, bytes] = {}
        self._reasons = _Words[str]()
        self._findings = _Words[bytes]()
        self._sources = _Words[str]()

    def __len__(self) -> int:
        """Return the number of hosts."""
        return len(self._packed)

    def __iter__(self) -> Iterator[str]:
        """Give the names of the hosts."""
        return iter(self._packed)

    def __contains__(self, name: str) -> bool:
        """Whether anything is known of a host of exactly this name."""
        return name in self._packed

    def of(self, name: str) -> list[Digest]:
        """Return what is kept of a host; nothing where it is not known."""
        packed = self._packed.get(name, b"")
        return [self._unpacked(name, fields) for fields in _FORM.iter_unpack(packed)]

    def look_into(self, name: str, namespace: int) -> Digest | None:
        """Return what is kept of one namespace of a host."""
        packed = self._packed.get(name, b"")
        start = _find(packed, namespace)
        return None if start < 0 else self._unpacked(name, _FORM.unpack_from(packed, start))

    def put(self, name: str, digest: Digest) -> bool:
        """Keep a look, in the place of an earlier one into that namespace; False where there are too many."""
        packed = self._packed.get(name, b"")
        start = _find(packed, digest.namespace)
        if start < 0:
            start = len(packed)
        if start >= MOST_NAMESPACES * _FORM.size:
            return False
        self._packed[name] = packed[:start] + self._as_bytes(name, digest) + packed[start + _FORM.size :]
        return True

    def _as_bytes(self, name: str, digest: Digest) -> bytes:
        reason = digest.reason or ""
        if len(self._reasons) >= MOST_REASONS and reason not in self._reasons:
            reason = _MORE_REASONS
        findings = b"".join(_NUMBER.pack(kind, min(number, _MOST)) for kind, number in digest.findings)
        source, line = _without_number(_without_name(digest.source, name))
        return _FORM.pack(
            digest.namespace,
            digest.taken_at,
            digest.complete_since,
            digest.status,
            self._reasons.place(reason),
            self._findings.place(findings),
            min(digest.untold, _MOST),
            min(digest.unanswered, _MOST),
            self._sources.place(source),
            line,
        )

    def _unpacked(self, name: str, fields: tuple[int, ...]) -> Digest:
        *seen, reason, findings, untold, unanswered, source, line = fields
        namespace, taken_at, complete_since, status = seen
        return Digest(
            namespace,
            taken_at,
            complete_since,
            status,
            self._reasons[reason] or None,
            tuple(_NUMBER.iter_unpack(self._findings[findings])),
            untold,
            unanswered,
            _with_name(f"{self._sources[source]}{line or ''}", name),
        )


def _find(packed: bytes, namespace: int) -> int:
    """Return where the record of a namespace begins; -1 where there is none."""
    wanted = _FORM.pack(namespace, *[0] * 9)[:8]
    start = packed.find(wanted)
    while start % _FORM.size and start > 0:
        start = packed.find(wanted, start + 1)
    return start


class _Words(Generic[_Value]):
    """Values that many share, each kept once and known by its place."""

    def __init__(self) -> None:
        self._places: dict[_Value, int] = {}
        self._values: list[_Value] = []

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, value: _Value) -> bool:
        return value in self._places

    def __getitem__(self, place: int) -> _Value:
        return self._values[place]

    def place(self, value: _Value) -> int:
        place = self._places.setdefault(value, len(self._values))
        if place == len(self._values):
            self._values.append(value)
        return place


def _without_name(source: str, name: str) -> str:
    """Return a source in the words that it shares with those of other hosts."""
    folder, slash, file = source.rpartition("/")
    short = name.partition(".")[0]
    if name in file:
        return folder + slash + file.replace(name, _WHOLE, 1)
    return folder + slash + (file.replace(short, _SHORT, 1) if short else file)


def _with_name(source: str, name: str) -> str:
    return source.replace(_WHOLE, name).replace(_SHORT, name.partition(".")[0])


def _without_number(source: str) -> tuple[str, int]:
    """Split ``all.jsonl line 7``; 0 where no line is named."""
    start, _, number = source.rpartition(" line ")
    if start and number.isascii() and number.isdigit() and not number.startswith("0") and int(number) < _MOST:
        return f"{start} line ", int(number)
    return source, 0


# Records of hosts become hosts, worst first, and what is true of many is counted.
#
# A host is made of its record whenever it is asked for, and never kept: of ten thousand there is one at a
# time.


CLOCK_SLACK = 300.0
"""Seconds that clocks of hosts may differ before a report counts as coming from the future."""
_UNKNOWN = STATUSES.index("unknown")
_MOST_REASONS = 10_000
_NOT_TOLD_HERE = "for more reasons than are told here"


class Unheard:
    """The hosts that should have reported and did not, and those that did and should not have."""

    def __init__(
        self, records: Records, unread: list[Unread], more_unread: int, expected: Iterable[str] | None
    ) -> None:
        """Put what is not heard of into `records`, with the reason; documents that explain it are taken."""
        self.unread = unread
        self.expected: int | None = None
        """How many hosts should have reported; None where nobody said which."""
        self.silent: tuple[str, ...] = ()
        self.unexpected: tuple[str, ...] = ()
        if expected is None:
            return
        wanted = {name.casefold(): name for name in expected}
        self.expected = len(wanted)
        self.unexpected = tuple(sorted(name for name in records if name.casefold() not in wanted))
        for name in records:
            wanted.pop(name.casefold(), None)
        damaged: dict[str, list[Unread]] = {}
        for one in unread:
            if one.name is not None and one.name.casefold() in wanted:
                damaged.setdefault(one.name.casefold(), []).append(one)
        self.unread = [one for one in unread if one.name is None or one.name.casefold() not in damaged]
        self.silent = tuple(sorted(wanted.values()))
        nothing = "it sent no report" if not more_unread else "it sent no report that can be read"
        for folded, name in wanted.items():
            reasons = [
                (f"its report could not be read: {one.reason}", one) for one in damaged.get(folded, ())
            ]
            for number, (reason, one) in enumerate(reasons):
                records.put(name, _nothing_seen(number, reason, one.source))
            if not reasons:
                records.put(name, _nothing_seen(0, nothing, ""))


def _nothing_seen(number: int, reason: str, source: str) -> Digest:
    """Return the record of a host that sent nothing, or of the damaged file of that number."""
    return Digest(-number, 0.0, 0.0, _UNKNOWN, reason, (), 0, 0, source)


class Hosts:
    """All hosts, the worst first."""

    def __init__(
        self,
        records: Records,
        severities: Sequence[Severity],
        now: float,
        max_age: float | None,
        leave_out: Callable[[str, str, str], None],
    ) -> None:
        """Judge and order them; `leave_out` is told of each report that a later one has overtaken."""
        self._records = records
        self._severities = severities
        self._now = now
        self._max_age = max_age
        self._numbers: dict[int, int] | None = None
        ranks: dict[str, tuple[int, tuple[int, ...]]] = {}
        known: dict[tuple[int, tuple[int, ...]], tuple[int, tuple[int, ...]]] = {}
        for name in sorted(records):
            looks = records.of(name)
            counted = _counted(looks)
            newest = max(looks, key=lambda digest: digest.taken_at)
            for source in sorted(digest.source for digest in set(looks).difference(counted)):
                leave_out(name, newest.source, source)
            rank = self._badness(self._host(name, counted))
            ranks[name] = known.setdefault(rank, rank)
        self._order = sorted(ranks, key=ranks.__getitem__)

    def __len__(self) -> int:
        """Return how many they are."""
        return len(self._order)

    def __getitem__(self, place: int) -> Host:
        """Return one, by its place among the worst."""
        name = self._order[place]
        return self._host(name, _counted(self._records.of(name)))

    def __iter__(self) -> Iterator[Host]:
        """Give them one by one."""
        for name in self._order:
            yield self._host(name, _counted(self._records.of(name)))

    def number_findings(self, numbers: dict[int, int]) -> None:
        """Let findings name groups by these numbers, and not by the kinds of the records."""
        self._numbers = numbers

    def counts(self, name: str, namespace: int, taken_at: float) -> bool:
        """Whether what that host said at that time is what is known of it now."""
        counted = _counted(self._records.of(name))
        return any((one.namespace, one.taken_at) == (namespace, taken_at) for one in counted)

    def _host(self, name: str, looks: list[Digest]) -> Host:
        counts: dict[int, int] = {}
        for digest in looks:
            for place, number in digest.findings:
                shown = place if self._numbers is None else self._numbers[place]
                counts[shown] = counts.get(shown, 0) + number
        dated = [digest.taken_at for digest in looks if digest.taken_at]
        doubt = _doubt(dated, self._now, self._max_age)
        worst = max(digest.status for digest in looks)
        if doubt is not None:
            worst = max(worst, _UNKNOWN)
        reasons = [digest.reason for digest in looks if digest.reason]
        return Host(
            name=name,
            status=STATUSES[worst],
            reasons=tuple(dict.fromkeys(reasons + ([doubt] if doubt else []))),
            taken_at=min(dated, default=None),
            stale=doubt is not None,
            findings=tuple(sorted(counts.items())),
            untold=sum(digest.untold for digest in looks),
            namespaces=sum(1 for digest in looks if digest.namespace and digest.taken_at),
            unanswered=sum(digest.unanswered for digest in looks),
            sources=tuple(dict.fromkeys(digest.source for digest in looks if digest.source)),
        )

    def _badness(self, host: Host) -> tuple[int, tuple[int, ...]]:
        """Order hosts: by status, then by how many of the worst findings they have."""
        found = [0] * len(Severity)
        for place, number in host.findings:
            found[-int(self._severities[place])] -= number
        return -STATUSES.index(host.status), tuple(found)


class Summary:
    """What is true of how many hosts, and of which."""

    def __init__(self, hosts: Hosts, kinds: int, most_named: int) -> None:
        """Look at each host once; of each kind of finding and each reason `most_named` hosts are named."""
        self.hosts = hosts
        self.statuses = dict.fromkeys(reversed(STATUSES), 0)
        self.sick = 0
        """Hosts with findings."""
        self.doubted = 0
        """Hosts that something is not known of."""
        self.oldest: float | None = None
        self.newest: float | None = None
        self.names: list[list[str]] = [[] for _ in range(kinds)]
        self.spread = [0] * kinds
        self.totals: dict[int, int] = {}
        """Findings of each kind that there is."""
        self._unknown: dict[str, list[str]] = {}
        self._unknown_hosts: dict[str, int] = {}
        self._most = most_named
        for host in hosts:
            self._see(host)

    def _see(self, host: Host) -> None:
        self.statuses[host.status] += 1
        self.sick += bool(host.findings or host.untold)
        self.doubted += bool(host.reasons)
        if host.taken_at is not None:
            self.oldest = min(host.taken_at, self.oldest or host.taken_at)
            self.newest = max(host.taken_at, self.newest or host.taken_at)
        for place, number in host.findings:
            self.totals[place] = self.totals.get(place, 0) + number
            self.spread[place] += 1
            if len(self.names[place]) < self._most:
                self.names[place].append(host.name)
        for reason in host.reasons:
            kept = reason if len(self._unknown) < _MOST_REASONS or reason in self._unknown else _NOT_TOLD_HERE
            names = self._unknown.setdefault(kept, [])
            self._unknown_hosts[kept] = self._unknown_hosts.get(kept, 0) + 1
            if len(names) < self._most:
                names.append(host.name)

    def unknown(self) -> tuple[Unknown, ...]:
        """Return each reason why something is not known, that of most hosts first."""
        totals = self._unknown_hosts
        ranked = sorted(self._unknown.items(), key=lambda item: -totals[item[0]])
        return tuple(Unknown(reason, tuple(names), totals[reason]) for reason, names in ranked)


def _counted(looks: list[Digest]) -> list[Digest]:
    """Leave out what a later report of all namespaces, or of any after a failure, has overtaken."""
    if len(looks) == 1:
        return looks
    since = max(digest.complete_since for digest in looks)
    seen = max((digest.taken_at for digest in looks if digest.namespace), default=0.0)
    return [digest for digest in looks if not 0 < digest.taken_at < (since if digest.namespace else seen)]


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
