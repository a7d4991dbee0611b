"""A rule that fired for a subject becomes a finding: evidence, prose and fixes with this host's numbers."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypedDict

from tcpdoctor.diagnosis.body import (
    AddPort,
    Body,
    FixText,
    SysctlChange,
    Template,
    blanks_of,
    fill,
    fill_command,
    fill_headline,
)
from tcpdoctor.diagnosis.closure import (
    NOT_READ,
    Calculation,
    Facts,
    Number,
    Observation,
    branches_of,
    compile_condition,
    compile_number,
    facts_of,
)
from tcpdoctor.diagnosis.finding import Evidence, Finding, Fix, JsonValue, SysctlFix, Whereabouts, WrongFix
from tcpdoctor.diagnosis.measure import certain, first_limit, observe, value_of
from tcpdoctor.diagnosis.rule import Rule, Trigger
from tcpdoctor.facts.namespace import scale_of
from tcpdoctor.facts.subject import Fact, Scope, Subject
from tcpdoctor.facts.value import (
    COUNT,
    PER_SECOND,
    SECOND,
    Dimension,
    NamedText,
    Range,
    Value,
    show,
    unit_name,
)
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint, Held, Snapshot, SysctlValue
from tcpdoctor.named_tuples import NamedTuple

_TOGETHER = 50
"""Of so many subjects one command reserves the ports: each of their findings has all of these in it."""


def tell(
    rule: Rule, body: Body, trigger: Trigger, subject: Subject, snapshot: Snapshot, alike: Sequence[Subject]
) -> Finding:
    """Write a finding.

    Args:
        rule: The rule that fired.
        body: Its prose.
        trigger: Its condition that holds.
        subject: For whom.
        snapshot: For the namespace, and the current values of sysctls.
        alike: All for whom the rule fired: a list of ports is written for all of them at once, because
            one command after the other would each undo the one before.
    """
    facts, limits = subject.facts, rule.limit_values
    others = [other.facts for other in alike[:_TOGETHER]]

    def filled(template: Template) -> str:
        return fill(template, facts, limits)

    return Finding(
        rule=rule.id,
        severity=rule.severity or trigger.severity,
        scope=rule.scope,
        label=subject.label,
        identity=subject.identity,
        fingerprint=fingerprint(rule.id, snapshot.namespace, subject),
        title=rule.title,
        summary=_summary(body, trigger, facts, limits),
        explanation=filled(body.explanation),
        impact=filled(body.impact),
        evidence=tuple(_evidence(seen, facts) for seen in observe(rule, trigger, facts)),
        fixes=_fixes(rule, body, trigger, facts, others, snapshot),
        wrong_fixes=tuple(WrongFix(filled(wrong.title), filled(wrong.why)) for wrong in body.wrong_fixes),
        references=body.references,
        normal_when=tuple(filled(case) for case in body.normal_when),
        **_whom(body, subject),
        whereabouts=_whereabouts(subject, snapshot),
        whom=_in_few_words(subject, snapshot),
        headline=rule.title
        if body.headline is None
        else fill_headline(body.headline, facts, limits, at_most=trigger.at_most),
        value=certain(value_of(rule, facts, at_most=trigger.at_most)),
        limit=first_limit(rule),
        holding=_holding(rule, body, trigger, facts, others, snapshot),
    )


def _summary(body: Body, trigger: Trigger, facts: Facts, limits: Mapping[str, float]) -> str:
    if trigger.at_most and body.summary_upper is not None:
        return fill(body.summary_upper, facts, limits, at_most=True)
    return fill(body.summary, facts, limits)


class _Whom(TypedDict):
    pids: frozenset[int]
    peers: frozenset[Endpoint]
    local_ports: frozenset[int]


def _whom(body: Body, subject: Subject) -> _Whom:
    """The processes and ends that the subject is, those that the prose names, and where their sockets are."""
    pids, peers, ports = set[int](), set[Endpoint](), set[int]()
    identity = subject.identity
    if isinstance(pid := identity.get("pid"), int):
        pids.add(pid)
    if subject.scope is Scope.DESTINATION:
        peers.add(Endpoint(str(identity["address"]), int(identity["port"] or 0)))
    for template in (body.summary, body.explanation, body.impact):
        for fact in blanks_of(template):
            value = subject.facts.get(fact.name, NOT_READ)
            if isinstance(value, NamedText):
                pids |= value.pids
                peers |= value.peers
                ports |= value.ports
    return {"pids": frozenset(pids), "peers": frozenset(peers), "local_ports": frozenset(ports)}


def _whereabouts(subject: Subject, snapshot: Snapshot) -> Whereabouts:
    identity, ports = subject.identity, set[int]()
    pid = identity.get("pid")
    if subject.scope is Scope.LISTENER:
        owner = subject.facts.get("listener.owner", NOT_READ)
        pid = min(owner.pids, default=None) if isinstance(owner, NamedText) else None
    if subject.scope in (Scope.LISTENER, Scope.PORT):
        ports.add(int(identity.get("port") or 0))
    elif isinstance(pid, int):
        ports.update(_listens_on(pid, snapshot))
    process = snapshot.processes.get(pid) if isinstance(pid, int) else None
    if process is None:
        name = identity.get("name") if subject.scope is Scope.PROCESS else None
        return Whereabouts(process=None if name is None else str(name), ports=tuple(sorted(ports - {0})))
    unit, container = (
        None if isinstance(word, Missing) else word for word in (process.unit, process.container)
    )
    return Whereabouts(process.name, unit, container, tuple(sorted(ports - {0})))


def _listens_on(pid: int, snapshot: Snapshot) -> Iterator[int]:
    listeners = () if isinstance(snapshot.listeners, Missing) else snapshot.listeners
    for listener in listeners:
        if isinstance(listener.owner, Held) and any(holder.pid == pid for holder in listener.owner.holders):
            yield listener.local.port


def _in_few_words(subject: Subject, snapshot: Snapshot) -> str:
    """``this host``, or its namespace; the one process behind a listener; an end without ours; the label."""
    if subject.scope is Scope.HOST:
        return "this namespace" if snapshot.initial_namespace is False else "this host"
    owner = subject.facts.get("listener.owner", NOT_READ) if subject.scope is Scope.LISTENER else NOT_READ
    if isinstance(owner, NamedText) and len(owner.pids) == 1:
        return str(owner)
    if subject.scope is Scope.DESTINATION:
        return str(Endpoint(str(subject.identity["address"]), int(subject.identity["port"] or 0)))
    return subject.label


def fingerprint(rule: str, namespace: int, subject: Subject) -> str:
    """Sixteen hexadecimal digits: the same in every run for the same rule, namespace and subject."""
    from hashlib import sha256  # only what fires pays for it

    key = (rule, namespace, subject.scope.value, sorted(subject.identity.items()))
    return sha256(repr(key).encode()).hexdigest()[:16]


# evidence


def _evidence(seen: Observation, facts: Facts) -> Evidence:
    fact = seen.fact
    if seen.call is None:
        # as it was read: a whole number stays one
        value: Value = facts.get(fact.name, NOT_READ)
        return _item(fact, fact.name, value, fact.dimension)
    dimension = PER_SECOND if seen.call == "rate" else COUNT
    asked = f", {show(seen.seconds, SECOND)}" if seen.seconds is not None else ""
    return _item(fact, f"{seen.call}({fact.name}{asked})", seen.value, dimension)


def _item(fact: Fact, asked: str, value: Value, dimension: Dimension | None) -> Evidence:
    text = f"unknown: {value.reason}" if isinstance(value, Missing) else show(value, dimension)
    return Evidence(asked, as_json(value), unit_name(dimension), fact.source, text, fact.name)


def as_json(value: Value) -> JsonValue:
    """A value for machines: a number, ``{"at_least", "at_most"}`` for a range, None where it is missing."""
    match value:
        case Range():
            return {"at_least": _plain(value.low), "at_most": _plain(value.high)}
        case int() | float():
            return _plain(value)
        case _:
            return None


def _plain(number: float) -> JsonValue:
    if number in (float("inf"), float("-inf")):
        return None
    return int(number) if number == int(number) else round(number, 6)


# fixes


def _fixes(
    rule: Rule, body: Body, trigger: Trigger, facts: Facts, others: Sequence[Facts], snapshot: Snapshot
) -> tuple[Fix, ...]:
    """The fixes that change something here, and of settings those that are to blame, if any is.

    Who is woken by one of two settings, and types what would set the other to what it is, believes that all
    is done.
    """
    fixes = tuple(_fix(fix, rule, facts, others, snapshot) for fix in body.fixes)
    told = tuple(fix for fix in fixes if fix.sysctl is None or _is_of_use(fix.sysctl, rule, trigger, facts))
    return told or fixes


def _holding(
    rule: Rule, body: Body, trigger: Trigger, facts: Facts, others: Sequence[Facts], snapshot: Snapshot
) -> tuple[Fix, ...]:
    """The sysctl fixes that ask for what is there, of settings that have to do with what was found."""
    fixes = (_fix(fix, rule, facts, others, snapshot) for fix in body.fixes if fix.sysctl is not None)
    return tuple(
        fix
        for fix in fixes
        if fix.sysctl is not None
        and _changes_nothing(fix.sysctl)
        and _is_to_blame(fix.sysctl, rule, trigger, facts)
    )


def _is_of_use(change: SysctlFix, rule: Rule, trigger: Trigger, facts: Facts) -> bool:
    """Whether a setting would change, and is part of what holds where one of several parts is enough."""
    return not _changes_nothing(change) and _is_to_blame(change, rule, trigger, facts)


def _changes_nothing(change: SysctlFix) -> bool:
    return not isinstance(change.value, str) and change.value is not None and change.value == change.current


def _is_to_blame(change: SysctlFix, rule: Rule, trigger: Trigger, facts: Facts) -> bool:
    """Whether a setting is part of what holds, or the condition does not speak of it."""
    branches = branches_of(trigger.tree)
    about = [branch for branch in branches if any(_is_of(change.name, fact) for fact in facts_of(branch))]
    return not about or any(compile_condition(tree, rule.limit_values)(facts) is True for tree in about)


def _is_of(setting: str, fact: Fact) -> bool:
    """Whether a fact is a setting's value, or one of its numbers."""
    return f"{fact.name}.".startswith(f"sysctl.{setting}.")


def _fix(fix: FixText, rule: Rule, facts: Facts, others: Sequence[Facts], snapshot: Snapshot) -> Fix:
    limits = rule.limit_values

    def filled(template: Template) -> str:
        return fill(template, facts, limits)

    def typed(templates: tuple[Template, ...]) -> tuple[str, ...]:
        found = (fill_command(template, facts, limits) for template in templates)
        return tuple(command for command in found if not isinstance(command, Missing))

    sysctl = None if fix.sysctl is None else _sysctl_fix(fix.sysctl, rule, facts, others, snapshot)
    prose = "" if fix.do is None else filled(fix.do)
    commands = typed(fix.commands)
    if sysctl is not None:
        commands = () if sysctl.command is None else (sysctl.command,)
    return Fix(
        kind=fix.kind,
        title=filled(fix.title),
        do=_whole(prose, commands) if sysctl is None else prose or sysctl.command or sysctl.persist,
        risk=filled(fix.risk),
        verify=filled(fix.verify),
        undo=None if fix.undo is None else filled(fix.undo),
        sysctl=sysctl,
        prose=prose,
        commands=commands,
        verify_commands=typed(fix.verify_commands),
        undo_commands=typed(fix.undo_commands),
        harmless=fix.harmless,
    )


def _whole(prose: str, commands: tuple[str, ...]) -> str:
    """Prose, and below it the commands; of commands alone the first begins at the margin."""
    lines = "\n".join(f"    {command}" for command in commands)
    return f"{prose}\n\n{lines}".strip() if commands else prose


class _NewValue(NamedTuple):
    """What a sysctl shall hold: for machines, and as sysctl(8) wants it."""

    value: JsonValue
    text: str


def _sysctl_fix(
    change: SysctlChange, rule: Rule, facts: Facts, others: Sequence[Facts], snapshot: Snapshot
) -> SysctlFix:
    current = snapshot.sysctls.get(change.name, NOT_READ)
    if isinstance(change.value, AddPort):
        new = _with_ports(compile_number(change.value.port, rule.limit_values), facts, others, current)
    else:
        new = _new_value(change, change.value, rule, facts)
    return SysctlFix(
        name=change.name,
        current=None if isinstance(current, Missing) else _sysctl_json(current),
        value=None if isinstance(new, Missing) else new.value,
        persist=f"# {change.name}: {new.reason}"
        if isinstance(new, Missing)
        else f"{change.name} = {new.text}",
        applies_to=change.applies_to,
        formula=change.formula,
        alternative=change.alternative,
        why_not=new.reason if isinstance(new, Missing) else None,
        command=None if isinstance(new, Missing) else _command(change.name, new.text, snapshot),
    )


def _command(name: str, value: str, snapshot: Snapshot) -> str:
    """Where the setting is shown and may not be written, sysctl(8) prints nothing and ends with 0."""
    typed = f"sysctl -w {name}='{value}'" if " " in value else f"sysctl -w {name}={value}"
    elsewhere = name in _READ_ONLY_IN_A_NAMESPACE and snapshot.initial_namespace is False
    return f"{typed}   # on the host: in this namespace it is read only" if elsewhere else typed


_READ_ONLY_IN_A_NAMESPACE = frozenset(("net.netfilter.nf_conntrack_max",))
"""Of what applies to the whole machine that which another network namespace shows."""


def value_text(change: SysctlChange, rule: Rule, facts: Facts) -> str | Missing:
    """Return what a fix would write, as sysctl(8) wants it; `Missing` where it cannot be computed."""
    if isinstance(change.value, AddPort):
        return Missing("the value could not be computed: it is for one port at a time")
    new = _new_value(change, change.value, rule, facts)
    return new if isinstance(new, Missing) else new.text


def _new_value(
    change: SysctlChange, trees: Iterable[Calculation], rule: Rule, facts: Facts
) -> _NewValue | Missing:
    numbers, scale = [], scale_of(change.name)
    for tree in trees:
        number = compile_number(tree, rule.limit_values)(facts)
        if isinstance(number, Missing | Range):
            return Missing(f"the value could not be computed: {number.reason}")
        numbers.append(round(number * scale))
    value: JsonValue = list[JsonValue](numbers) if len(numbers) > 1 else numbers[0]
    return _NewValue(value, " ".join(map(str, numbers)))


def _with_ports(
    port_of: Callable[[Facts], Number], facts: Facts, others: Sequence[Facts], current: SysctlValue | Missing
) -> _NewValue | Missing:
    """The ports that the list holds now, this one, and those of the others as far as they are known."""
    port = port_of(facts)
    for value in (port, current):
        if isinstance(value, Missing):
            return Missing(f"the value could not be computed: {value.reason}")
    if not isinstance(port, float) or not isinstance(current, tuple):
        return Missing("the value could not be computed: it is no list of ports")
    held = [span for span in current if isinstance(span, tuple)]
    wanted = {int(number) for number in (port, *map(port_of, others)) if isinstance(number, float)}
    text = ",".join(_span_text(span) for span in _merged([*held, *((one, one) for one in wanted)]))
    return _NewValue(text, text)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same ports, ascending, with neighbours joined."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def _span_text(span: tuple[int, int]) -> str:
    return str(span[0]) if span[0] == span[1] else f"{span[0]}-{span[1]}"


def _sysctl_json(value: SysctlValue) -> JsonValue:
    if not isinstance(value, tuple):
        return value
    if value and isinstance(value[0], int):
        return [number for number in value if isinstance(number, int)]
    return ",".join(_span_text(span) for span in value if isinstance(span, tuple))
