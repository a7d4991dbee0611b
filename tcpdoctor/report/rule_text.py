"""A rule as a page for people, and the list of all rules."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tcpdoctor.diagnosis.body import Body, FixText, bare, unfilled
from tcpdoctor.diagnosis.finding import Diagnosis
from tcpdoctor.diagnosis.lint import Complaint
from tcpdoctor.diagnosis.rule import Rule
from tcpdoctor.diagnosis.tree import facts_of
from tcpdoctor.facts.dimension import unit_name
from tcpdoctor.facts.fact import Fact
from tcpdoctor.report.page import (
    Block,
    Command,
    Fields,
    Item,
    Items,
    Prose,
    Section,
    Title,
    listed,
    page_text,
    titled,
)
from tcpdoctor.report.style import Style
from tcpdoctor.report.table import Column, table

# What the text page and the JSON of a rule have in common.


class ListEntry(NamedTuple):
    """What the list says of a rule besides its name and title."""

    severities: tuple[str, ...]
    """The severities that its findings can have, the worst first."""
    state: str
    """``on`` or ``off``."""


def list_entry(rule: Rule, off: str | None) -> ListEntry:
    """Sum up a rule."""
    levels = tuple(dict.fromkeys(trigger.severity.key for trigger in rule.fires))
    return ListEntry(
        severities=levels if rule.severity is None else (rule.severity.key,),
        state="on" if off is None else "off",
    )


def switched(rule: Rule, off: str | None) -> str:
    """``on``, ``off by --skip``, ``on, severity set to info``."""
    if off is not None:
        return f"off by {off}"
    return "on" if rule.severity is None else f"on, severity set to {rule.severity.key}"


def facts_read(rule: Rule) -> list[Fact]:
    """The facts that its conditions read, without duplicates."""
    return list(dict.fromkeys(fact for trigger in rule.fires for fact in facts_of(trigger.tree)))


_MARGIN = "  "
_MOST_FINDINGS = 10


_LIST = (
    Column("RULE"),
    *(Column(name, goes=goes) for name, goes in (("FAMILY", 2), ("SCOPE", 3), ("SEVERITY", 1))),
    *(Column("STATE"), Column("TITLE", below=True), Column("", below=True)),
)


def rule_list_text(rules: Sequence[tuple[Rule, str | None]], style: Style) -> str:
    """All rules by family; a rule comes with what switched it off, or None."""
    if not rules:
        return "No rules."
    on = sum(off is None for _, off in rules)
    end = f"{len(rules)} rules, {on} on. One of them: tcpdoctor rules show ID"
    return "\n".join([*table(_LIST, [_list_row(rule, off) for rule, off in rules], style, _MARGIN), "", end])


def _list_row(rule: Rule, off: str | None) -> list[str]:
    entry = list_entry(rule, off)
    remarks = [] if rule.shipped else [f"file: {rule.source}"]
    remarks += [] if off is None else [f"switched off by {off}"]
    about = [rule.family, rule.scope.value, "/".join(entry.severities), entry.state]
    return [rule.id, *about, rule.title, "; ".join(remarks)]


def rule_page(rule: Rule, off: str | None, body: Body, style: Style, here: Diagnosis | None = None) -> str:
    """One rule, with what it found here where `here` is given; what to do stands before how it is told."""
    references = (f"{reference.claim}: {reference.source}" for reference in body.references)
    blocks: list[Block] = [
        Title(f"{rule.id}: {rule.title}"),
        *_about(rule, off),
        *([_here(rule, here)] if here is not None else []),
        *titled("What it says", unfilled(body.summary)),
        Section("What to do", (Items(tuple(map(_fix, body.fixes)), numbered=True),)),
        *_wrong_fixes(body),
        *titled("What happens", unfilled(body.explanation)),
        *titled("What it costs", unfilled(body.impact)),
        *listed("When this is no fault", map(unfilled, body.normal_when)),
        Section("It fires", (Fields(tuple(_conditions(rule))),)),
        *([Section("Limits", (Items(tuple(_limits(rule))), Prose(_hint(rule))))] if rule.limits else []),
        Section("Facts it reads", (Items(tuple(map(_fact, facts_read(rule)))),)),
        *listed("Where this is from", references),
        *listed("Its tests", (f"{test.name}: {test.expect}" for test in body.tests)),
        *titled("Why no scenario of the lab proves it", rule.no_scenario),
    ]
    return page_text(blocks, style)


def _about(rule: Rule, off: str | None) -> list[Block]:
    about = f"{rule.family}, asked once per {rule.scope.value}, {rule.status}, since {rule.since}"
    if rule.initial_only:
        about += ", in the host's initial network namespace only"
    if rule.needs is not None:
        about += f", where there is {rule.needs.replace('-', ' ')}"
    file = [] if rule.shipped else [Prose(f"file: {rule.source}")]
    return [Prose(f"{about}; {switched(rule, off)}"), *file]


def _here(rule: Rule, here: Diagnosis) -> Section:
    blocks: list[Block] = [
        Item(finding.summary, severity=finding.severity.key) for finding in here.findings[:_MOST_FINDINGS]
    ]
    if len(here.findings) > _MOST_FINDINGS:
        blocks.append(Item(f"and {len(here.findings) - _MOST_FINDINGS} more: tcpdoctor check {rule.id}"))
    blocks += [
        Item(f"{'could not be checked' if unchecked.applies else 'does not apply'}: {unchecked.reason}")
        for unchecked in here.unchecked
    ]
    return Section("Here and now", tuple(blocks) or (Prose("It does not fire."),))


def _conditions(rule: Rule) -> Iterator[tuple[str, str]]:
    for trigger in rule.fires:
        ages = "ages counted by how long no data came or went: " if trigger.at_most else ""
        yield trigger.severity.key, ages + " ".join(trigger.text.split())
    if rule.severity is not None:
        yield "but", f"every finding is reported as {rule.severity.key} (configuration)"
    if rule.measure is not None:
        against = ", ".join(f"{name} ({severity.key})" for severity, name in rule.measure_limits.items())
        end = f", {'below' if rule.measure_falls else 'against'} {against}" if against else ""
        yield "measure", f"how far it has gone{end}"
        yield "", " ".join(rule.measure.split())


def _limits(rule: Rule) -> Iterator[Item]:
    for name, limit in rule.limits.items():
        changed = f" (configuration; default {bare(limit.default)})" if limit.given != limit.default else ""
        yield Item(limit.reason, f"{name} = {bare(limit.given)} {limit.unit}{changed}")


def _hint(rule: Rule) -> str:
    return f"To change one: /etc/tcpdoctor/config.toml, [rules.{rule.id}.limits]"


def _fact(fact: Fact) -> Item:
    unit = "set of ages" if fact.kind == "ages" else unit_name(fact.dimension)
    kind = ", grows since boot" if fact.kind == "counter" else ""
    return Item(fact.meaning, f"{fact.name} ({unit}{kind})", blocks=(Prose(f"from {fact.source}"),))


def _fix(fix: FixText) -> Item:
    blocks: list[Block] = [Prose(unfilled(fix.do))] if fix.do is not None else []
    blocks += [Command(tuple(map(unfilled, fix.commands)))] if fix.commands else []
    if fix.sysctl is not None:
        blocks.append(Prose(f"Sets {fix.sysctl.name}, which applies to this {fix.sysctl.applies_to}."))
    blocks.append(Prose(unfilled(fix.risk), "Risk"))
    blocks.append(Command(tuple(unfilled(fix.verify).splitlines()), "Verify"))
    if fix.undo is not None:
        blocks.append(Prose(unfilled(fix.undo), "Undo"))
    return Item("", unfilled(fix.title), fix.kind, tuple(blocks))


def _wrong_fixes(body: Body) -> tuple[Section, ...]:
    wrong = tuple(Item(unfilled(wrong.why), unfilled(wrong.title)) for wrong in body.wrong_fixes)
    return (Section("What does not help", (Items(wrong),)),) if wrong else ()


def lint_text(rules: int, complaints: Sequence[Complaint], style: Style) -> str:
    """The complaints, by file."""
    lines = _by_file(complaints, style, named=True)
    if not complaints:
        return f"{_rules(rules)}, no complaint."
    return "\n".join([*lines, "", f"{_rules(rules)}, {_number(len(complaints), 'complaint')}."])


def rule_tests_text(rules: int, tests: int, failed: Sequence[Complaint], style: Style) -> str:
    """The tests that failed, by file."""
    lines = _by_file(failed, style, named=False)
    if not failed:
        return f"{_rules(rules)}, {_number(tests, 'test')}, every answer as expected."
    total = f"{_rules(rules)}, {_number(tests, 'test')}, {len(failed)} failed."
    return "\n".join([*lines, "", total])


def _by_file(complaints: Sequence[Complaint], style: Style, *, named: bool) -> list[str]:
    lines = []
    source = None
    for complaint in complaints:
        if complaint.source != source:
            lines.append(style.bold(complaint.source))
            source = complaint.source
        first = f"{_MARGIN}{complaint.name}: " if named else _MARGIN
        lines.append(style.wrap(complaint.what, _MARGIN * 3, first=first))
    return lines


def _rules(number: int) -> str:
    return _number(number, "rule")


def _number(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
