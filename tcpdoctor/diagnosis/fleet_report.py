"""What the reports of many hosts come to, and what is concluded from it: the same in every format."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.fleet_document import STATUSES, Told


class Unread(NamedTuple):
    """A document that is no report of a host that is known."""

    source: str
    name: str | None
    """Of its file, without the suffix."""
    reason: str


class Repeated(NamedTuple):
    """Two reports of one namespace of one host: the older one does not count."""

    host: str
    counted: str
    """The source of the newer one."""
    left_out: str


class Group(NamedTuple):
    """The same finding, on one host or many."""

    told: Told
    """In the words of the host `example`."""
    example: str | None
    """None where that host's report was left out: what `told` says of its subject is then of no host."""
    hosts: tuple[str, ...]
    """That have it, the worst first; up to a bound."""
    hosts_total: int
    findings: int
    """On all of them together: a host may have it for several subjects."""


class Host(NamedTuple):
    """What is known of one host, in all its namespaces that were looked at."""

    name: str
    status: str
    """One of STATUSES: the worst of its namespaces."""
    reasons: tuple[str, ...]
    """Why it is unknown, wholly or in part, or no longer sure."""
    taken_at: float | None
    """Of its oldest look, in seconds since 1970; None where there was none."""
    stale: bool
    findings: tuple[tuple[int, int], ...]
    """Place in `FleetReport.groups`, and for how many subjects."""
    untold: int
    """Findings beyond MOST_GROUPS kinds."""
    namespaces: int
    unanswered: int
    """Rules that could not be answered there, added up over its namespaces."""
    sources: tuple[str, ...]


class Unknown(NamedTuple):
    """Why something is not known, and of which hosts."""

    reason: str
    hosts: tuple[str, ...]
    """The worst first; up to a bound."""
    hosts_total: int


class Hosts(Protocol):
    """Hosts, each made when it is asked for: all of them at once would take much memory."""

    def __len__(self) -> int:
        """Return how many they are."""

    def __iter__(self) -> Iterator[Host]:
        """Give them one by one."""

    def __getitem__(self, place: int, /) -> Host:
        """Return one by its place."""


class FleetReport(NamedTuple):
    """All that can be said of a fleet."""

    made_at: float
    hosts: Hosts
    """The worst first."""
    statuses: dict[str, int]
    """How many hosts have each, the worst status first."""
    doubted: int
    """Hosts that something is not known of."""
    unknown: tuple[Unknown, ...]
    """The reason of most hosts first."""
    sick: int
    """Hosts with findings."""
    oldest: float | None
    """When the first of the looks that count was taken, and the last; None where there is none."""
    newest: float | None
    groups: tuple[Group, ...]
    """The worst first, then those of most hosts."""
    unread: tuple[Unread, ...]
    more_unread: int
    """Beyond MOST_NOTES."""
    repeated: tuple[Repeated, ...]
    more_repeated: int
    """Beyond MOST_NOTES."""
    expected: int | None
    """Hosts that should have reported; None where nobody said which."""
    silent: tuple[str, ...]
    """Expected, and not one report of them."""
    unexpected: tuple[str, ...]
    """Reported, and not expected."""


def exit_code(report: FleetReport, fail_on: Severity | None) -> int:
    """Return 2 critical, 1 warning, 3 where nothing worse and a host or a file says nothing, else 0."""
    for severity, code in ((Severity.CRITICAL, 2), (Severity.WARNING, 1)):
        if fail_on is not None and severity >= fail_on and report.statuses[severity.key]:
            return code
    return 3 if blind(report) else 0


def blind(report: FleetReport) -> bool:
    """Whether something is not known of the fleet: a host, in whole or in part, or whose a file is."""
    return bool(report.unread or report.more_unread or report.doubted or not len(report.hosts))


def status_of(report: FleetReport) -> str:
    """Return the worst status of a host, ``unknown`` also where a file is nobody's."""
    worst = max((STATUSES.index(status) for status, hosts in report.statuses.items() if hosts), default=0)
    if blind(report):
        worst = max(worst, STATUSES.index("unknown"))
    return STATUSES[worst]


def sick_hosts(report: FleetReport) -> Iterator[Host]:
    """Give the hosts with findings, the worst first."""
    for host in report.hosts:
        if host.findings or host.untold:
            yield host
