"""What the rules say of settings: of the values that files would set, and of those that run.

A rule whose condition reads only settings (and what the kernel makes of them by itself) is judged on the
facts as the files would make them. `check`, `sysctl lint` and `explain --sysctl` so say the same of one
value.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tcpdoctor.diagnosis.body import Body, FixText, fill
from tcpdoctor.diagnosis.closure import Facts, branches_of, compile_condition, facts_of
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.measure import make_judge, observe
from tcpdoctor.diagnosis.rule import Rule, Trigger, read_body
from tcpdoctor.diagnosis.sysctl_checks import Check
from tcpdoctor.diagnosis.sysctl_look import Fault, Look, Write
from tcpdoctor.diagnosis.tell import value_text
from tcpdoctor.facts.host import HostFacts
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.sysctl_facts import PARTS, SYSCTL_FACTS
from tcpdoctor.facts.sysctl_value import port_ranges, written_numbers
from tcpdoctor.facts.value import Value
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Samples, Snapshot, SysctlValue
from tcpdoctor.kernel.sysctl_files import Reader, dotted

_RANGE, _RESERVED = "net/ipv4/ip_local_port_range", "net/ipv4/ip_local_reserved_ports"
_DERIVED: Mapping[str, tuple[str, ...]] = {
    "files.limit": ("fs/file-max",),
    "files.default_limit": (),
    "kernel.memory": (),
    "kernel.page_size": (),
    "retransmission.longest": ("net/ipv4/tcp_rto_max_ms", "net/ipv4/tcp_retries2"),
    "ports.in_range": (_RANGE,),
    "ports.reserved": (_RESERVED, _RANGE),
    "ports.usable": (_RESERVED, _RANGE),
}
"""Facts that follow from settings and from the machine alone, and the settings that they follow from."""


class Warned(NamedTuple):
    """What one rule says of the values that run."""

    rule: str
    severity: Severity
    summary: str


def settings_of(fact: str) -> tuple[str, ...] | None:
    """Return the places below /proc/sys that a fact follows from; None for one that follows from more."""
    group, _, rest = fact.partition(".")
    if group == "default":
        return ()
    if group != "sysctl":
        return _DERIVED.get(fact)
    whole, _, part = rest.rpartition(".")
    return ((whole if part in PARTS.get(whole, ()) else rest).replace(".", "/"),)


def settings_triggers(rule: Rule) -> tuple[Trigger, ...]:
    """Return the conditions of a rule that read settings only, the worst first; nothing for other rules."""
    if rule.scope is not Scope.HOST:
        return ()
    found = []
    for trigger in rule.fires:
        places = [settings_of(fact.name) for fact in facts_of(trigger.tree)]
        if None not in places and any(places):
            found.append(trigger)
    return tuple(found)


def settings_rules(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Return the rules that can be judged on settings alone."""
    return tuple(rule for rule in rules if settings_triggers(rule))


def checks_of(rules: Sequence[Rule]) -> Mapping[str, Check]:
    """Return the checks of `sysctl lint` that rules are, by their names there."""
    found = {}
    for rule in settings_rules(rules):
        sources = tuple(reference.source for reference in read_body(rule).references)
        worst = max(_severity(rule, trigger) for trigger in settings_triggers(rule))
        name = rule.lint_id or rule.id
        found[name] = Check(name, worst, rule.title, sources)
    return found


def check_rules(look: Look) -> Iterator[Fault]:
    """Judge what files would set by every rule that reads settings only."""
    rules = settings_rules(look.rules)
    told: dict[tuple[str, str, int | None], Fault] = {}
    for reader in Reader:
        last = look.last.get(reader, {})
        if not last:
            continue
        facts = _Facts(as_set(look, last), look.fresh)
        for rule in rules:
            for one in _judged(rule, facts, last):
                told.setdefault((one.check, one.file, one.line), one)  # the readers may part ways elsewhere
    yield from told.values()


def _judged(rule: Rule, facts: Facts, last: Mapping[str, Write]) -> Iterator[Fault]:
    """One fault for each line that makes a part of the worst condition true."""
    body: Body | None = None
    for trigger in settings_triggers(rule):
        found = False
        for branch in branches_of(trigger.tree):  # each is a fault of its own, at a line of its own
            place = _place_of(rule, trigger._replace(tree=branch), facts, last)
            if place is not None:
                found = True
                body = body or read_body(rule)
                yield _fault(rule, trigger, body, facts, place)
        if found:
            return


def _place_of(rule: Rule, trigger: Trigger, facts: Facts, last: Mapping[str, Write]) -> Write | None:
    """The write that makes a condition true; None where none does, or it is not true."""
    if compile_condition(trigger.tree, rule.limit_values)(facts) is not True:
        return None
    for seen in observe(rule, trigger, facts):
        for path in settings_of(seen.fact.name) or ():
            if path in last:
                return last[path]
    return None


def _fault(rule: Rule, trigger: Trigger, body: Body, facts: Facts, write: Write) -> Fault:
    return Fault(
        check=rule.lint_id or rule.id,
        severity=_severity(rule, trigger),
        file=write.by.file,
        line=write.by.line.number,
        key=dotted(write.path),
        what=fill(body.summary, facts, rule.limit_values),
        do=_remedy(rule, body, facts, dotted(write.path)),
        sources=tuple(reference.source for reference in body.references),
    )


def _severity(rule: Rule, trigger: Trigger) -> Severity:
    return rule.severity or rule.lint_severity or trigger.severity


def _remedy(rule: Rule, body: Body, facts: Facts, key: str) -> str:
    """The fix that sets the key of the line, else the first."""
    fix = next(
        (one for one in body.fixes if one.sysctl is not None and one.sysctl.name == key), body.fixes[0]
    )
    title = fill(fix.title, facts, rule.limit_values)
    new = _new_value_of(rule, fix, facts)
    return f"{title}." if new is None else f"{title}: {new}, or remove the line."


def _new_value_of(rule: Rule, fix: FixText, facts: Facts) -> str | None:
    if fix.sysctl is None:
        return None
    text = value_text(fix.sysctl, rule, facts)
    return None if isinstance(text, Missing) else f"{fix.sysctl.name} = {text}"


def warnings_of(rules: Sequence[Rule], name: str, snapshot: Snapshot) -> tuple[Warned, ...]:
    """Return what the rules that read a setting say of the values that run, the worst first."""
    facts = HostFacts(Samples(None, snapshot))
    path, found = name.replace(".", "/"), []
    for rule in rules_about(rules, name):
        for trigger, decide in make_judge(rule).triggers:
            if trigger in settings_triggers(rule) and decide(facts) is True:
                reads = [settings_of(seen.fact.name) or () for seen in observe(rule, trigger, facts)]
                if any(path in places for places in reads):
                    summary = fill(read_body(rule).summary, facts, rule.limit_values)
                    found.append(Warned(rule.id, rule.severity or trigger.severity, summary))
                break
    return tuple(sorted(found, key=lambda one: -one.severity))


def rules_about(rules: Sequence[Rule], name: str) -> tuple[Rule, ...]:
    """Return the rules that read a setting and nothing but settings."""
    path = name.replace(".", "/")
    return tuple(
        rule
        for rule in rules
        for trigger in settings_triggers(rule)[:1]
        if any(path in (settings_of(fact.name) or ()) for fact in facts_of(trigger.tree))
    )


# the facts as files would make them


class _Facts(Mapping[str, Value]):
    """Facts of a snapshot, with defaults that were read from a fresh namespace in the place of the least."""

    def __init__(self, snapshot: Snapshot, fresh: Mapping[str, Value]) -> None:
        self._host = HostFacts(Samples(None, snapshot))
        self._fresh = fresh

    def __getitem__(self, name: str) -> Value:
        return self._fresh[name] if name in self._fresh else self._host[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._host)

    def __len__(self) -> int:
        return len(self._host)


def as_set(look: Look, last: Mapping[str, Write]) -> Snapshot:
    """Return a look at nothing but settings: those that run, and over them those that files set."""
    values = dict(look.running)
    for path, write in last.items():
        name = dotted(path)
        if name in SYSCTL_FACTS:
            values[name] = _written(name, write.value, values.get(name, _UNREAD))
    limit = values.get("fs.file-max")
    if isinstance(limit, int):
        values["fs.file-nr"] = (0, 0, limit)
    return only_settings(values, look.memory_pages, look.page_size)


_UNREAD = Missing("it was not read")


def only_settings(values: Mapping[str, Reading[SysctlValue]], memory: int | None, page_size: int) -> Snapshot:
    """Return a look at which nothing but these settings was read."""
    nothing = Missing("nothing but settings was read")
    return Snapshot(
        taken_at=0.0,
        clock=0.0,
        host="",
        kernel="",
        namespace=0,
        namespace_name=None,
        initial_namespace=nothing,
        euid=0,
        sysctls=values,
        counters=nothing,
        sockstat=nothing,
        census=nothing,
        listeners=nothing,
        detail=nothing,
        processes={},
        page_size=page_size,
        memory=Missing("the memory of the machine is not known") if memory is None else memory,
    )


def _written(name: str, text: str, running: Reading[SysctlValue]) -> Reading[SysctlValue]:
    """What a setting of TCP holds once a text was written to it; what runs where the kernel refuses it."""
    unit = SYSCTL_FACTS[name][0]
    if unit == "ports":
        ranges = port_ranges(text)
        return running if ranges is None else ranges
    if unit == "text":
        return text
    size = len(PARTS.get(name, ("",)))
    numbers = written_numbers(text, size)
    if numbers is None:
        return running
    if size == 1:
        return numbers[0]
    rest = running[len(numbers) :] if isinstance(running, tuple) else ()
    whole: list[int] = [*numbers, *(part for part in rest if isinstance(part, int))]
    return tuple(whole) if len(whole) == size else _UNREAD
