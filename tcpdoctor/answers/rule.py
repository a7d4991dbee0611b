"""The answers to `rules list`, `rules show`, `explain --rule`: what a rule looks for, and finds here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from tcpdoctor.answers.record import Is
from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.body import Body, Expected, FixText, unfilled
from tcpdoctor.diagnosis.closure import facts_of
from tcpdoctor.diagnosis.evaluate import diagnose
from tcpdoctor.diagnosis.finding import Diagnosis, FixKind, Reach, Reference, SeverityName, WrongFix
from tcpdoctor.diagnosis.rule import Need, Rule, Status, read_body
from tcpdoctor.facts.subject import FactKind, ScopeName
from tcpdoctor.facts.value import unit_name
from tcpdoctor.kernel.live import take_samples

_WINDOW = 1.0
"""Seconds between the two looks: a rule about rates has no answer without."""


class RuleHead(NamedTuple):
    """What the list says of a rule."""

    id: str
    family: str
    title: str
    status: Status
    since: str
    scope: ScopeName
    namespace: Annotated[
        Literal["any", "initial"],
        Is("initial: it has a meaning in the host's own network namespace only."),
    ]
    tags: tuple[str, ...]
    severities: Annotated[tuple[str, ...], Is("That its findings can have, the worst first.")]
    enabled: bool
    switched_off_by: str | None
    shipped: Annotated[bool, Is("Part of this program.")]
    source: Annotated[str, Is("Its file.")]


class RuleListAnswer(NamedTuple):
    """What `tcpdoctor rules list --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.rules/1"]
    rules: tuple[RuleHead, ...]


class FoundHere(NamedTuple):
    """A finding of the rule."""

    severity: SeverityName
    subject: str
    summary: str
    headline: Annotated[str, Is("One line with its numbers.")]
    commands: Annotated[tuple[str, ...], Is("What to type for the first way out, for this host.")]


class NotAnswered(NamedTuple):
    """Why the rule could not be answered."""

    reason: str
    applies: Annotated[bool, Is("false: it has no meaning here.")]


class RuleHere(NamedTuple):
    """What the rule finds here."""

    findings: tuple[FoundHere, ...]
    unchecked: tuple[NotAnswered, ...]


class Fires(NamedTuple):
    """The conditions, by severity."""

    critical: Annotated[str, Is(optional=True)]
    warning: Annotated[str, Is(optional=True)]
    warning_upper: Annotated[str, Is("Ages are counted by how long no data came or went.", optional=True)]
    info: Annotated[str, Is(optional=True)]


class RuleLimit(NamedTuple):
    """A number of the rule that a user may change."""

    name: str
    value: float
    default: float
    unit: str
    reason: str


class FactRead(NamedTuple):
    """A fact that the conditions read."""

    fact: str
    kind: FactKind
    unit: Annotated[
        str,
        Is(
            "Of value: count, second, byte, page, per_second, ratio, text, or a compound such as "
            "byte_per_second.",
            pattern="^[a-z_]+$",
        ),
    ]
    scope: ScopeName
    meaning: str
    source: str


class SysctlOfFix(NamedTuple):
    """The sysctl that a fix writes."""

    name: str
    applies_to: Reach


class RuleFix(NamedTuple):
    """One way out, with its blanks as ``{...}``."""

    kind: FixKind
    title: str
    do: str | None
    risk: str
    verify: str
    undo: str | None
    sysctl: SysctlOfFix | None
    commands: tuple[str, ...]
    verify_commands: tuple[str, ...]
    undo_commands: tuple[str, ...]


class RuleTested(NamedTuple):
    """A test that the rule carries."""

    name: str
    expect: Expected


class RuleAnswer(NamedTuple):
    """What `rules show ID` and `explain --rule ID` print as JSON, and the text says.

    Blanks of the prose stand as ``{...}``.
    """

    schema: Literal["tcpdoctor.rule/1"]
    id: str
    family: str
    title: str
    status: Status
    since: str
    scope: ScopeName
    namespace: Annotated[
        Literal["any", "initial"],
        Is("initial: it has a meaning in the host's own network namespace only."),
    ]
    tags: tuple[str, ...]
    severities: Annotated[tuple[str, ...], Is("That its findings can have, the worst first.")]
    enabled: bool
    switched_off_by: str | None
    shipped: Annotated[bool, Is("Part of this program.")]
    source: Annotated[str, Is("Its file.")]
    here: Annotated[RuleHere | None, Is("What it finds here; null where nobody looked.")]
    fires: Annotated[Mapping[str, str], Is(keys=Fires)]
    limits: tuple[RuleLimit, ...]
    facts: tuple[FactRead, ...]
    summary: str
    explanation: str
    impact: str
    normal_when: tuple[str, ...]
    headline: str | None
    measure: Annotated[str | None, Is("The expression that the rule is about.")]
    measure_limits: Annotated[Mapping[str, str], Is("By severity: the limit that measure is compared with.")]
    measure_falls: Annotated[bool, Is("The rule fires below the limit.")]
    fixes: tuple[RuleFix, ...]
    wrong_fixes: tuple[WrongFix, ...]
    references: tuple[Reference, ...]
    tests: tuple[RuleTested, ...]
    explains: Annotated[tuple[str, ...], Is("Rules that say nothing of a subject for which this one fires.")]
    no_scenario: Annotated[str | None, Is("Why no lesson of the lab proves it.")]
    needs: Annotated[
        Literal[Need, None],
        Is("What has to be there for the disease to exist at all; elsewhere the rule does not apply."),
    ]
    severity_set: Annotated[SeverityName | None, Is("What the configuration makes of every finding.")]


def list_all_rules(dirs: Sequence[Path], config: Path | None) -> RuleListAnswer:
    """Return every rule: those of this program, of the administrator and of these folders.

    Raises:
        RuleError: A rule file is wrong.
        ConfigError: The configuration is wrong.
    """
    heads = tuple(_head(rule, off) for rule, off in load_rules(dirs, config).everything)
    return RuleListAnswer("tcpdoctor.rules/1", heads)


def show_one_rule(name: str, dirs: Sequence[Path], config: Path | None) -> RuleAnswer:
    """Return a rule, without a look at this host.

    Raises:
        QuestionError: There is no such rule.
        RuleError: A rule file is wrong.
        ConfigError: The configuration is wrong.
    """
    rule, off = load_rules(dirs, config).find(name)
    return rule_answer(rule, off, read_body(rule))


def look_at_rule(name: str) -> RuleAnswer:
    """Return a rule, and what it finds here from two looks a second apart.

    Raises:
        QuestionError: There is no such rule.
        RuleError: A rule file is wrong.
        ConfigError: The configuration is wrong.
    """
    rule, off = load_rules().find(name)
    return rule_answer(rule, off, read_body(rule), diagnose([rule], take_samples(_WINDOW)))


def rule_answer(rule: Rule, off: str | None, body: Body, here: Diagnosis | None = None) -> RuleAnswer:
    """Return the answer of a rule and what switched it off; `here` is what it found."""
    return RuleAnswer(
        "tcpdoctor.rule/1",
        *_head(rule, off),
        here=None if here is None else _here(here),
        fires={trigger.key: " ".join(trigger.text.split()) for trigger in rule.fires},
        limits=tuple(
            RuleLimit(name, limit.given, limit.default, limit.unit, limit.reason)
            for name, limit in rule.limits.items()
        ),
        facts=_facts_read(rule),
        summary=unfilled(body.summary),
        explanation=unfilled(body.explanation),
        impact=unfilled(body.impact),
        normal_when=tuple(map(unfilled, body.normal_when)),
        headline=None if body.headline is None else unfilled(body.headline),
        measure=rule.measure,
        measure_limits={severity.key: name for severity, name in rule.measure_limits.items()},
        measure_falls=rule.measure_falls,
        fixes=tuple(map(_fix, body.fixes)),
        wrong_fixes=tuple(WrongFix(unfilled(one.title), unfilled(one.why)) for one in body.wrong_fixes),
        references=body.references,
        tests=tuple(RuleTested(test.name, test.expect) for test in body.tests),
        explains=rule.explains,
        no_scenario=rule.no_scenario,
        needs=rule.needs,
        severity_set=None if rule.severity is None else rule.severity.key,
    )


def _head(rule: Rule, off: str | None) -> RuleHead:
    levels = tuple(dict.fromkeys(trigger.severity.key for trigger in rule.fires))
    return RuleHead(
        id=rule.id,
        family=rule.family,
        title=rule.title,
        status=rule.status,
        since=rule.since,
        scope=rule.scope.value,
        namespace="initial" if rule.initial_only else "any",
        tags=rule.tags,
        severities=levels if rule.severity is None else (rule.severity.key,),
        enabled=off is None,
        switched_off_by=off,
        shipped=rule.shipped,
        source=rule.source,
    )


def _here(here: Diagnosis) -> RuleHere:
    return RuleHere(
        tuple(
            FoundHere(
                severity=one.severity.key,
                subject=one.label,
                summary=one.summary,
                headline=one.headline or one.title,
                commands=one.fixes[0].commands if one.fixes else (),
            )
            for one in here.findings
        ),
        tuple(NotAnswered(one.reason, one.applies) for one in here.unchecked),
    )


def _facts_read(rule: Rule) -> tuple[FactRead, ...]:
    """The facts that its conditions read, without duplicates."""
    facts = dict.fromkeys(fact for trigger in rule.fires for fact in facts_of(trigger.tree))
    return tuple(
        FactRead(
            fact=fact.name,
            kind=fact.kind,
            unit=unit_name(fact.dimension),
            scope=fact.scope.value,
            meaning=fact.meaning,
            source=fact.source,
        )
        for fact in facts
    )


def _fix(fix: FixText) -> RuleFix:
    change = fix.sysctl
    return RuleFix(
        kind=fix.kind,
        title=unfilled(fix.title),
        do=None if fix.do is None else unfilled(fix.do),
        risk=unfilled(fix.risk),
        verify=unfilled(fix.verify),
        undo=None if fix.undo is None else unfilled(fix.undo),
        sysctl=None if change is None else SysctlOfFix(change.name, change.applies_to),
        commands=tuple(map(unfilled, fix.commands)),
        verify_commands=tuple(map(unfilled, fix.verify_commands)),
        undo_commands=tuple(map(unfilled, fix.undo_commands)),
    )
