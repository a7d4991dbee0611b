"""A rule as a page for people, and the list of all rules."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tcpdoctor.diagnosis.body import Body, FixText, SysctlChange, Template, bare, unfilled
from tcpdoctor.diagnosis.finding import Diagnosis
from tcpdoctor.diagnosis.lint import Complaint
from tcpdoctor.diagnosis.rule import Rule
from tcpdoctor.diagnosis.tree import facts_of
from tcpdoctor.facts.dimension import unit_name
from tcpdoctor.facts.fact import Fact
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
    """One rule, with what it found here where `here` is given."""
    sections = [
        _head(rule, off, style),
        *([_here(rule, here, style)] if here is not None else []),
        _section("It fires", _conditions(rule, style), style),
        *([_section("Limits", _limits(rule, style), style)] if rule.limits else []),
        _section("Facts it reads", _facts(facts_read(rule), style), style),
        _section("What it says", _prose(body.summary, style), style),
        _section("What happens", _prose(body.explanation, style), style),
        _section("What it costs", _prose(body.impact, style), style),
        _section("When this is no fault", _bullets(map(unfilled, body.normal_when), style), style),
        _section("What to do", "\n".join(_fix(fix, style) for fix in body.fixes), style),
        _section("What does not help", _wrong_fixes(body, style), style),
        _section(
            "Where this is from",
            _bullets((f"{reference.claim}: {reference.source}" for reference in body.references), style),
            style,
        ),
        _section("Its tests", _bullets((f"{test.name}: {test.expect}" for test in body.tests), style), style),
        _section("Why no scenario of the lab proves it", style.wrap(rule.no_scenario or "", _MARGIN), style),
    ]
    return "\n\n".join(section for section in sections if section)


def _section(title: str, text: str, style: Style) -> str:
    return f"{style.bold(title)}\n{text}" if text else ""


def _head(rule: Rule, off: str | None, style: Style) -> str:
    lines = [style.wrap(f"{style.bold(rule.id)}: {rule.title}", _MARGIN, first="")]
    about = f"{rule.family}, asked once per {rule.scope.value}, {rule.status}, since {rule.since}"
    if rule.initial_only:
        about += ", in the host's initial network namespace only"
    if rule.needs is not None:
        about += f", where there is {rule.needs.replace('-', ' ')}"
    lines.append(style.wrap(f"{about}; {switched(rule, off)}", _MARGIN))
    if not rule.shipped:
        lines.append(style.wrap(f"file: {rule.source}", _MARGIN))
    return "\n".join(lines)


def _here(rule: Rule, here: Diagnosis, style: Style) -> str:
    lines = []
    for finding in here.findings[:_MOST_FINDINGS]:
        key = finding.severity.key
        lines.append(style.wrap(finding.summary, _MARGIN * 2, first=f"{_MARGIN}{style.severity(key)}: "))
    if len(here.findings) > _MOST_FINDINGS:
        lines.append(
            f"{_MARGIN}and {len(here.findings) - _MOST_FINDINGS} more: tcpdoctor check --only {rule.id}"
        )
    lines += [
        style.wrap(
            f"{'could not be checked' if unchecked.applies else 'does not apply'}: {unchecked.reason}",
            _MARGIN * 2,
            first=_MARGIN,
        )
        for unchecked in here.unchecked
    ]
    return _section("Here and now", "\n".join(lines) or f"{_MARGIN}It does not fire.", style)


def _conditions(rule: Rule, style: Style) -> str:
    lines = []
    for trigger in rule.fires:
        key = trigger.severity.key
        ages = ", ages counted by how long no data came or went," if trigger.at_most else ""
        lines.append(f"{_MARGIN}{style.severity(key)}{ages} when")
        lines.append(style.wrap(" ".join(trigger.text.split()), _MARGIN * 3))
    if rule.severity is not None:
        lines.append(f"{_MARGIN}every finding is reported as {rule.severity.key} (configuration)")
    if rule.measure is not None:
        against = ", ".join(f"{name} ({severity.key})" for severity, name in rule.measure_limits.items())
        end = f", {'below' if rule.measure_falls else 'against'} {against}" if against else ""
        lines.append(style.wrap(f"how far it has gone{end}", _MARGIN * 3, first=_MARGIN))
        lines.append(style.wrap(" ".join(rule.measure.split()), _MARGIN * 3))
    return "\n".join(lines)


def _limits(rule: Rule, style: Style) -> str:
    lines = []
    for name, limit in rule.limits.items():
        changed = f" (configuration; default {bare(limit.default)})" if limit.given != limit.default else ""
        first = f"{_MARGIN}{name} = {bare(limit.given)} {limit.unit}{changed}: "
        lines.append(style.wrap(limit.reason, _MARGIN * 3, first=first))
    hint = f"To change one: /etc/tcpdoctor/config.toml, [rules.{rule.id}.limits]"
    return "\n".join([*lines, style.wrap(hint, _MARGIN * 3, first=_MARGIN)])


def _facts(facts: Iterable[Fact], style: Style) -> str:
    lines = []
    for fact in facts:
        unit = "set of ages" if fact.kind == "ages" else unit_name(fact.dimension)
        kind = ", grows since boot" if fact.kind == "counter" else ""
        lines.append(f"{_MARGIN}{fact.name} ({unit}{kind})")
        lines.append(style.wrap(fact.meaning, _MARGIN * 3))
        lines.append(style.wrap(f"from {fact.source}", _MARGIN * 3))
    return "\n".join(lines)


def _prose(template: Template, style: Style) -> str:
    return style.wrap(unfilled(template), _MARGIN)


def _bullets(texts: Iterable[str], style: Style) -> str:
    return "\n".join(style.wrap(text, _MARGIN * 2, first=f"{_MARGIN}- ") for text in texts)


def _fix(fix: FixText, style: Style) -> str:
    inner = _MARGIN * 2
    lines = [style.wrap(f"{unfilled(fix.title)} ({fix.kind})", inner, first=f"{_MARGIN}- ")]
    if fix.do is not None:
        lines.append(style.wrap(unfilled(fix.do), inner))
    lines += [style.command(unfilled(command), inner * 2) for command in fix.commands]
    if fix.sysctl is not None:
        lines.append(style.wrap(_change(fix.sysctl), inner))
    lines.append(style.wrap(unfilled(fix.risk), inner * 2, first=f"{inner}risk: "))
    lines.append(f"{inner}verify:\n{style.command(unfilled(fix.verify), inner * 2)}")
    if fix.undo is not None:
        lines.append(style.wrap(unfilled(fix.undo), inner * 2, first=f"{inner}undo: "))
    return "\n".join(lines)


def _change(change: SysctlChange) -> str:
    return f"sets {change.name}, which applies to this {change.applies_to}"


def _wrong_fixes(body: Body, style: Style) -> str:
    return _bullets((f"{unfilled(wrong.title)}: {unfilled(wrong.why)}" for wrong in body.wrong_fixes), style)


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
