"""A finding of `check` as every answer has it in its record."""

from collections.abc import Mapping
from typing import Annotated, TypeAlias

from tcpdoctor.answers.record import Is
from tcpdoctor.diagnosis.finding import Finding, Fix, FixKind, Reference, SeverityName, WrongFix
from tcpdoctor.facts.subject import ScopeName
from tcpdoctor.kernel.reading import JsonValue
from tcpdoctor.named_tuples import NamedTuple

SysctlNumber: TypeAlias = Annotated[
    int | str | tuple[int | tuple[int, int], ...] | None,
    Is("A number, numbers, inclusive ranges of ports, or text; null where it could not be read."),
]


class Bounds(NamedTuple):
    """A value that is known within bounds."""

    at_least: float | None
    at_most: float | None


class ToldEvidence(NamedTuple):
    """One fact that a rule read."""

    fact: Annotated[str, Is("The fact, or the call: rate(TcpExt.ListenOverflows).")]
    value: Annotated[
        float | str | bool | Bounds | tuple[JsonValue, ...] | None,
        Is("In the unit; an object where it is known within bounds; null where it is unknown, or a text."),
    ]
    unit: Annotated[
        str,
        Is(
            "Of value: count, second, byte, page, per_second, ratio, text, or a compound such as "
            "byte_per_second.",
            pattern="^[a-z_]+$",
        ),
    ]
    source: Annotated[str, Is("Where to see it without this program.")]


class ToldSysctl(NamedTuple):
    """The sysctl that a fix writes."""

    name: str
    current: SysctlNumber
    value: SysctlNumber
    persist: Annotated[str, Is("A line for a file of /etc/sysctl.d.")]


class ToldFix(NamedTuple):
    """One way out."""

    kind: FixKind
    title: str
    do: str
    risk: str
    verify: Annotated[str, Is("A command, or a sentence.")]
    undo: str | None
    sysctl: ToldSysctl | None
    prose: Annotated[str, Is("`do` without its commands.")]
    commands: Annotated[tuple[str, ...], Is("What to type, for this host; `do` has them as well.")]
    verify_commands: Annotated[
        tuple[str, ...],
        Is("The same as `verify`, where that is something to type; each may end in a comment."),
    ]
    undo_commands: Annotated[tuple[str, ...], Is("The same as `undo`, where that is something to type.")]


class SubjectKeys(NamedTuple):
    """What is told of every subject, beside what identifies it."""

    label: Annotated[str, Is("For people: nginx (811).")]
    process: Annotated[str | None, Is("Name of the process that it is, or that holds it.", optional=True)]
    unit: Annotated[str | None, Is("The process's systemd unit.", optional=True)]
    container: Annotated[str | None, Is("Id of the process's container.", optional=True)]
    ports: Annotated[
        tuple[int, ...],
        Is("Local ports: where the process listens, or the port that it is.", optional=True),
    ]
    namespace: Annotated[
        str | None,
        Is("With --netns all: name of the network namespace, its pod, container or unit.", optional=True),
    ]


class ToldFinding(NamedTuple):
    """One rule that fired for one subject."""

    rule: str
    severity: SeverityName
    scope: ScopeName
    subject: Annotated[Mapping[str, str | int | tuple[int, ...] | None], Is(keys=SubjectKeys)]
    fingerprint: Annotated[str, Is("The same in every run for the same rule, namespace and subject.")]
    title: str
    summary: str
    explanation: str
    impact: str
    evidence: tuple[ToldEvidence, ...]
    fixes: tuple[ToldFix, ...]
    wrong_fixes: tuple[WrongFix, ...]
    references: tuple[Reference, ...]
    normal_when: tuple[str, ...]
    headline: Annotated[str, Is("One line with its numbers.")]


def told_finding(finding: Finding, namespace: str | None = None) -> ToldFinding:
    """Return a finding as it is printed for machines; `namespace` is named where there are many."""
    identity = {key: value for key, value in finding.identity.items() if key != "label"}
    where = finding.whereabouts
    return ToldFinding(
        rule=finding.rule,
        severity=finding.severity.key,
        scope=finding.scope.value,
        subject={"label": finding.label, **identity, **where._asdict()}
        | ({} if namespace is None else {"namespace": namespace}),
        fingerprint=finding.fingerprint,
        title=finding.title,
        summary=finding.summary,
        explanation=finding.explanation,
        impact=finding.impact,
        evidence=tuple(
            ToldEvidence(item.fact, item.value, item.unit, item.source)  # type: ignore[arg-type]  # JSON's values
            for item in finding.evidence
        ),
        fixes=tuple(map(_told_fix, finding.fixes)),
        wrong_fixes=finding.wrong_fixes,
        references=finding.references,
        normal_when=finding.normal_when,
        headline=finding.headline,
    )


def _told_fix(fix: Fix) -> ToldFix:
    sysctl = None
    if fix.sysctl is not None:
        current, value = fix.sysctl.current, fix.sysctl.value
        sysctl = ToldSysctl(fix.sysctl.name, current, value, fix.sysctl.persist)  # type: ignore[arg-type]
    return ToldFix(
        kind=fix.kind,
        title=fix.title,
        do=fix.do,
        risk=fix.risk,
        verify=fix.verify,
        undo=fix.undo,
        sysctl=sysctl,
        prose=fix.prose,
        commands=fix.commands,
        verify_commands=fix.verify_commands,
        undo_commands=fix.undo_commands,
    )
