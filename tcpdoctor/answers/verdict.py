"""What `check` tells machines: its record, of one network namespace or of many, and of what has changed."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from tcpdoctor.answers import check as conclusions
from tcpdoctor.answers.ages import TooEarly, too_early
from tcpdoctor.answers.check import Check, Checks, Status, loud_findings
from tcpdoctor.answers.finding import SysctlNumber, ToldFinding, told_finding
from tcpdoctor.answers.planned import PlannedChange
from tcpdoctor.answers.record import ABSENT, Absent, Count, Host, Is, Reasons, Time, utc
from tcpdoctor.answers.states import SocketsByState, state_readings
from tcpdoctor.diagnosis.finding import Finding, Severity, SeverityName, Unchecked
from tcpdoctor.kernel.reading import JsonValue, Missing, Reading
from tcpdoctor.kernel.snapshot import Snapshot
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.recordings.source import Source

if TYPE_CHECKING:  # most runs are of one namespace, and know of none before
    from tcpdoctor.answers.everywhere import Place, Unseen
    from tcpdoctor.diagnosis.changes import Changes
    from tcpdoctor.kernel.recorded import Told


class Tool(NamedTuple):
    """Which program looked."""

    name: Literal["tcpdoctor"]
    version: str


class Summary(NamedTuple):
    """How many findings there are, and how many rules were answered."""

    info: Count
    warning: Count
    critical: Count
    checked: Annotated[int, Is("Rules answered for every subject.", minimum=0)]
    unchecked: Count


class ToldUntold(NamedTuple):
    """What the bound on findings of one rule leaves out."""

    rule: str
    severity: SeverityName
    number: Annotated[int, Is(minimum=1)]


class ChangedSeverity(NamedTuple):
    """A finding that was there before with another severity."""

    fingerprint: str
    severity_before: SeverityName


class ToldBefore(NamedTuple):
    """A finding of the run before."""

    rule: str
    severity: SeverityName
    label: str
    title: str
    fingerprint: str
    since: Time


class NotAnswered(NamedTuple):
    """A finding of the run before, of which this one knows nothing."""

    rule: str
    severity: SeverityName
    label: str
    title: str
    fingerprint: str
    since: Time
    reason: str


class ToldChanges(NamedTuple):
    """With --only-changes: findings are then those that appeared or have another severity."""

    since: Annotated[Time | None, Is("When the run before was; null: there was none.")]
    appeared: Annotated[tuple[str, ...], Is("Fingerprints.")]
    changed: tuple[ChangedSeverity, ...]
    gone: tuple[ToldBefore, ...]
    unanswered: Annotated[
        tuple[NotAnswered, ...], Is("Found by the run before, and not answered by this one.")
    ]


class ToldInside(NamedTuple):
    """A container in a network namespace."""

    runtime: str
    id: str
    pod: str | None


class ToldNamespace(NamedTuple):
    """Which of many network namespaces it is."""

    label: Annotated[str, Is("For people, with all who share it.")]
    own: Annotated[bool, Is("It is the one that the command was started in.")]
    containers: tuple[ToldInside, ...]
    unit: Annotated[str | None, Is("Where no container is inside, the unit of its lowest process.")]
    enter: Annotated[str | None, Is("What to type before a command to run it there; null for one's own.")]


class CheckAnswer(NamedTuple):
    """What `tcpdoctor check --format json` prints."""

    schema: Literal["tcpdoctor.check/1"]
    tool: Tool
    host: Host
    taken_at: Time
    window_s: Annotated[float, Is("Seconds between the two samples; 0: one sample.", minimum=0)]
    status: Status
    exit_code: Literal[0, 1, 2, 3]
    summary: Summary
    states: SocketsByState
    missing: Reasons
    """Also ``states``, where there may be more sockets than counted."""
    sysctls: Mapping[str, Reading[SysctlNumber]]
    findings: Annotated[tuple[ToldFinding, ...], Is("The worst first.")]
    unchecked: tuple[Unchecked, ...]
    untold: Annotated[
        tuple[ToldUntold, ...],
        Is("Subjects for which a rule fired as well, none worse than those among the findings."),
    ]
    plan: Annotated[
        tuple[PlannedChange, ...], Is("What tcpdoctor fix would change, in this order; none: no setting.")
    ]
    too_early: Annotated[
        tuple[TooEarly, ...],
        Is("Leaks that only their age keeps from being findings: whether they are any cannot be told yet."),
    ]
    changes: Annotated[
        ToldChanges | Absent,
        Is(
            "With --only-changes: findings are then those that appeared or have another severity.",
            optional=True,
        ),
    ] = ABSENT
    source: Annotated[
        Source | Absent, Is("With --from: which recordings were read, and what they are.", optional=True)
    ] = ABSENT
    network_namespace: Annotated[
        ToldNamespace | Absent, Is("With --netns all: which one it is.", optional=True)
    ] = ABSENT


class FailedNamespace(NamedTuple):
    """A network namespace that could not be looked at."""

    namespace: str
    namespace_name: str | None
    reason: str


class AnyAnswer(NamedTuple):
    """What every answer has."""

    schema: str


class NamespacesAnswer(NamedTuple):
    """What any other command prints with `--netns all --format json`."""

    schema: Literal["tcpdoctor.namespaces/1"]
    answers: tuple[
        Annotated[
            Mapping[str, JsonValue],
            Is("The answer of the command; its key schema says of which form.", keys=AnyAnswer),
        ],
        ...,
    ]
    failed: Annotated[tuple[FailedNamespace, ...], Is("Namespaces that could not be looked at.")]
    hidden_processes: Annotated[
        int,
        Is("Processes that hide their namespace from us: there may be more namespaces.", minimum=0),
    ]


class ChecksAnswer(NamedTuple):
    """What `tcpdoctor check --netns all --format json` prints: one check for each network namespace."""

    schema: Literal["tcpdoctor.checks/1"]
    checks: tuple[CheckAnswer, ...]
    failed: Annotated[tuple[FailedNamespace, ...], Is("Namespaces that could not be looked at.")]
    hidden_processes: Annotated[
        int,
        Is("Processes that hide their namespace from us: there may be more namespaces.", minimum=0),
    ]


def check_answer(check: Check, findings: Sequence[Finding] | None = None) -> CheckAnswer:
    """Return what was found as it is told.

    `findings` instead of all of them where the user wants only some (`--quiet`); status, exit code and
    summary still speak of all. Quantities are numbers, in the unit that the key or ``unit`` names.
    """
    diagnosis, snapshot = check.diagnosis, check.samples.after
    shown = diagnosis.findings if findings is None else findings
    where = check.place.name if check.place else None
    return CheckAnswer(
        schema="tcpdoctor.check/1",
        tool=Tool("tcpdoctor", check.version),
        host=Host(snapshot.host, snapshot.kernel, str(snapshot.namespace), snapshot.namespace_name),
        taken_at=utc(snapshot.taken_at),
        window_s=float(check.window),
        status=conclusions.status(check),
        exit_code=conclusions.exit_code(check),  # type: ignore[arg-type]  # one of the four
        summary=_summary(check),
        states=SocketsByState(*state_readings(snapshot.census).values()),
        missing=_reasons(snapshot),
        sysctls=dict(sorted(snapshot.sysctls.items())),
        findings=tuple(told_finding(finding, where) for finding in shown),
        unchecked=diagnosis.unchecked,
        untold=tuple(ToldUntold(each.rule, each.severity.key, each.number) for each in diagnosis.untold),
        plan=check.plan,
        too_early=too_early(diagnosis, check.samples, check.rules),
        source=ABSENT if check.source is None else check.source,
        network_namespace=_told_namespace(check.place) if check.place else ABSENT,
    )


def _summary(check: Check) -> Summary:
    diagnosis = check.diagnosis
    info, warning, critical = (conclusions.count_of(diagnosis, severity) for severity in Severity)
    unchecked = len(conclusions.unchecked_rules(diagnosis))
    return Summary(info, warning, critical, conclusions.checked(diagnosis), unchecked)


def _reasons(snapshot: Snapshot) -> Mapping[str, str]:
    census = snapshot.census
    if isinstance(census, Missing) or not isinstance(census.complete, Missing):
        return {}
    return {"states": census.complete.reason}


def _told_namespace(place: "Place") -> ToldNamespace:
    containers = tuple(ToldInside(each.runtime, each.short, each.pod) for each in place.inside)
    return ToldNamespace(place.label, place.own, containers, place.unit, place.way)


def checks_answer(checks: Checks, *, quiet: bool = False) -> ChecksAnswer:
    """Return the checks of many network namespaces as they are told; with `quiet` their loud findings."""
    return ChecksAnswer(
        "tcpdoctor.checks/1",
        tuple(check_answer(check, loud_findings(check) if quiet else None) for check in checks.checks),
        tuple(map(failed_namespace, checks.unseen)),
        checks.hidden,
    )


def failed_namespace(unseen: "Unseen") -> FailedNamespace:
    """Return a namespace that could not be looked at as it is told."""
    return FailedNamespace(str(unseen.place.namespace), unseen.place.name, unseen.reason)


def changes_answer(check: Check, changes: "Changes") -> CheckAnswer:
    """Return what changed only: ``findings`` are those that appeared or have another severity.

    Status, exit code and summary speak of all that is there.
    """
    told = ToldChanges(
        None if changes.since is None else utc(changes.since),
        tuple(finding.fingerprint for finding in changes.appeared),
        tuple(
            ChangedSeverity(item.finding.fingerprint, item.before)  # type: ignore[arg-type]  # a key of Severity
            for item in changes.changed
        ),
        tuple(map(_told_before, changes.gone)),
        tuple(NotAnswered(*_told_before(item.told), reason=item.reason) for item in changes.unanswered),
    )
    findings = (*changes.appeared, *(item.finding for item in changes.changed))
    return check_answer(check, findings)._replace(changes=told)


def _told_before(told: "Told") -> ToldBefore:
    return ToldBefore(
        told.rule,
        told.severity,  # type: ignore[arg-type]  # a key of Severity
        told.label,
        told.title,
        told.fingerprint,
        utc(told.since),
    )
