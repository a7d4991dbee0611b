"""What the reports of many hosts come to, and what is concluded from it: the same in every format."""

from collections.abc import Iterator
from typing import NamedTuple

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
    """All that have it, the worst first."""
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


class FleetReport(NamedTuple):
    """All that can be said of a fleet."""

    made_at: float
    hosts: tuple[Host, ...]
    """The worst first."""
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
    found = {host.status for host in report.hosts}
    for severity, code in ((Severity.CRITICAL, 2), (Severity.WARNING, 1)):
        if fail_on is not None and severity >= fail_on and severity.key in found:
            return code
    return 3 if blind(report) else 0


def blind(report: FleetReport) -> bool:
    """Whether something is not known of the fleet: a host, in whole or in part, or whose a file is."""
    return bool(report.unread) or not report.hosts or any(host.reasons for host in report.hosts)


def status_of(report: FleetReport) -> str:
    """Return the worst status of a host, ``unknown`` also where a file is nobody's."""
    worst = max((STATUSES.index(host.status) for host in report.hosts), default=0)
    if blind(report):
        worst = max(worst, STATUSES.index("unknown"))
    return STATUSES[worst]


def count_hosts(report: FleetReport) -> dict[str, int]:
    """Return how many hosts have each status, the worst status first."""
    counts = dict.fromkeys(reversed(STATUSES), 0)
    for host in report.hosts:
        counts[host.status] += 1
    return counts


def unknown_hosts(report: FleetReport) -> Iterator[tuple[str, list[str]]]:
    """Give each reason why something is not known, with the hosts that it is true of."""
    reasons: dict[str, list[str]] = {}
    for host in report.hosts:
        for reason in host.reasons:
            reasons.setdefault(reason, []).append(host.name)
    yield from sorted(reasons.items(), key=lambda item: -len(item[1]))
