"""Records of hosts become hosts, worst first, and what is true of many is counted.

A host is made of its record whenever it is asked for, and never kept: of ten thousand there is one at a time.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.fleet_document import STATUSES
from tcpdoctor.diagnosis.fleet_records import Digest, Records
from tcpdoctor.diagnosis.fleet_report import Host, Unknown, Unread

CLOCK_SLACK = 300.0
"""Seconds that clocks of hosts may differ before a report counts as coming from the future."""
_UNKNOWN = STATUSES.index("unknown")
_MOST_REASONS = 10_000
_MORE_REASONS = "for more reasons than are told here"


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
            kept = reason if len(self._unknown) < _MOST_REASONS or reason in self._unknown else _MORE_REASONS
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
