"""`rules`, `explain --rule` and `facts` for people: a rule as a page, all rules, what lints and tests say.

Facts stand by scope and subject, each with its value and meaning.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from tcpdoctor.diagnosis.finding import JsonValue, Severity
from tcpdoctor.report.finding_page import instruction
from tcpdoctor.report.host import host_words, plural, where_words
from tcpdoctor.report.lint_text import SarifResult, SarifRule, sarif
from tcpdoctor.report.page import (
    Block,
    Command,
    Entries,
    Fields,
    Inset,
    Item,
    Items,
    Prose,
    Section,
    Table,
    Title,
    as_far_as,
    labelled,
    listed,
    short_form,
    titled,
    typed,
)
from tcpdoctor.report.style import Style
from tcpdoctor.report.table import Column

if TYPE_CHECKING:  # a page of one kind needs not the looks of the others
    from tcpdoctor.answers.facts import FactRow, FactsAnswer
    from tcpdoctor.answers.rule import (
        FactRead,
        NotAnswered,
        RuleAnswer,
        RuleFix,
        RuleHead,
        RuleHere,
        RuleListAnswer,
    )
    from tcpdoctor.answers.rule_checks import LintAnswer, RuleTestsAnswer
    from tcpdoctor.diagnosis.lint import Complaint


_MOST_FINDINGS = 10
_UPPER = "warning_upper"
"""A warning whose ages are counted otherwise."""


_LIST = (
    Column("RULE"),
    *(Column(name, goes=goes) for name, goes in (("FAMILY", 2), ("SCOPE", 3), ("SEVERITY", 1))),
    *(Column("STATE"), Column("TITLE", below=True), Column("", below=True)),
)


def rule_list_page(answer: "RuleListAnswer", _style: Style) -> list[Block]:
    """All rules by family, with what switched one off."""
    rules = answer.rules
    if not rules:
        return [Prose("No rules.")]
    on = sum(rule.enabled for rule in rules)
    end = f"{len(rules)} rules, {on} on. One of them: tcpdoctor rules show ID"
    return [Inset((Table(_LIST, tuple(map(_list_row, rules))),), 2), Section("", (Prose(end),))]


def _list_row(rule: "RuleHead") -> tuple[str, ...]:
    off = rule.switched_off_by
    remarks = [] if rule.shipped else [f"file: {rule.source}"]
    remarks += [] if off is None else [f"switched off by {off}"]
    about = (rule.family, rule.scope, "/".join(rule.severities), "on" if rule.enabled else "off")
    return rule.id, *about, rule.title, "; ".join(remarks)


def rule_page(rule: "RuleAnswer", style: Style, *, long: bool = True) -> list[Block]:
    """One rule, with what it found here where somebody looked; what to do stands before how it is told."""
    return _long(rule, style) if long else _short(rule, style)


_SHOWN_HERE = 3
"""Findings in the short form."""


def _short(rule: "RuleAnswer", style: Style) -> list[Block]:
    """What it finds here, what that means, what to do first, what does not help, when it is no fault."""
    found = [
        f"{one.severity.upper()} {one.subject}: {one.headline}"
        for one in (rule.here.findings if rule.here else ())
    ]
    here = [*found[:_SHOWN_HERE], *([f"and {len(found) - _SHOWN_HERE} more"] if found[_SHOWN_HERE:] else [])]
    if not found and rule.here is not None:
        here = [_unanswered(one) for one in rule.here.unchecked[:1]] or ["It does not fire."]
    fix = rule.fixes[0]
    commands = rule.here.findings[0].commands if found and rule.here else map(_with_words, fix.commands)
    rows = [
        *labelled("now", here),
        *(("off", _switched(rule)) for _ in [0] if not rule.enabled),
        ("do", _with_n(fix.title)),
        *(("", typed([style.asks(command)], style)) for command in tuple(commands)[:3]),
        *(("risk", as_far_as(_with_n(fix.risk), 150)) for _ in [0] if fix.risk),
        *(("not", as_far_as(_with_n(f"{one.title}: {one.why}"), 150)) for one in rule.wrong_fixes[:1]),
        *labelled("well", [f"if {_with_n(text)}" for text in rule.normal_when[:1]]),
        *(("whole", style.asks(f"tcpdoctor check {rule.id}")) for _ in [0] if found),
    ]
    more = "every way out, its limits, the facts it reads, where it is from"
    means = as_far_as(_with_n(rule.explanation.split("\n\n")[0]), 330)
    return short_form(f"{rule.id}: {rule.title}", means, rows, more)


_BLANK = re.compile(r"\{\w+(?:\.\w+)*\.(\w+)[^{}]*\}|\{\w+\([^{}]*\}")


def _with_words(text: str) -> str:
    """What is typed where nothing was found to fill it in: ``PID`` for ``{process.pid}``."""
    return _BLANK.sub(lambda blank: (blank[1] or "N").upper(), text)


def _with_n(text: str) -> str:
    """What is said where nothing was found to fill it in: names in capitals, any number as N."""
    said = _BLANK.sub(lambda blank: blank[1].upper() if blank[1] in _SAID else "N", text)
    return re.sub(r" \(N(?: (?:to|of) N)?\)", "", said)


_SAID = ("pid", "name", "port", "address", "local", "peer")


def _unanswered(unchecked: "NotAnswered") -> str:
    return f"{'could not be checked' if unchecked.applies else 'does not apply'}: {unchecked.reason}"


def _long(rule: "RuleAnswer", style: Style) -> list[Block]:
    references = (f"{reference.claim}: {reference.source}" for reference in rule.references)
    return [
        Title(f"{rule.id}: {rule.title}"),
        *_about(rule),
        *([_here(rule.id, rule.here, style)] if rule.here is not None else []),
        *titled("What it says", rule.summary),
        Section("What to do", (Items(tuple(_fix(fix, style) for fix in rule.fixes), numbered=True),)),
        *_wrong_fixes(rule),
        *titled("What happens", rule.explanation),
        *titled("What it costs", rule.impact),
        *listed("When this is no fault", rule.normal_when),
        Section("It fires", (Fields(tuple(_conditions(rule))),)),
        *([Section("Limits", (Items(tuple(_limits(rule))), Prose(_hint(rule))))] if rule.limits else []),
        Section("Facts it reads", (Items(tuple(map(_fact, rule.facts))),)),
        *listed("Where this is from", references),
        *listed("Its tests", (f"{test.name}: {test.expect}" for test in rule.tests)),
        *titled("Why no scenario of the lab proves it", rule.no_scenario),
    ]


def _about(rule: "RuleAnswer") -> list[Block]:
    about = f"{rule.family}, asked once per {rule.scope}, {rule.status}, since {rule.since}"
    if rule.namespace == "initial":
        about += ", in the host's initial network namespace only"
    if rule.needs is not None:
        about += f", where there is {rule.needs.replace('-', ' ')}"
    file = [] if rule.shipped else [Prose(f"file: {rule.source}")]
    return [Prose(f"{about}; {_switched(rule)}"), *file]


def _switched(rule: "RuleAnswer") -> str:
    """``on``, ``off by --skip``, ``on, severity set to info``."""
    if rule.switched_off_by is not None:
        return f"off by {rule.switched_off_by}"
    return "on" if rule.severity_set is None else f"on, severity set to {rule.severity_set}"


def _here(rule: str, here: "RuleHere", style: Style) -> Section:
    blocks: list[Block] = [
        Item(finding.summary, severity=finding.severity) for finding in here.findings[:_MOST_FINDINGS]
    ]
    if len(here.findings) > _MOST_FINDINGS:
        command = style.asks(f"tcpdoctor check {rule}")
        blocks.append(Item(f"and {len(here.findings) - _MOST_FINDINGS} more: {command}"))
    blocks += [Item(_unanswered(unchecked)) for unchecked in here.unchecked]
    return Section("Here and now", tuple(blocks) or (Prose("It does not fire."),))


def _conditions(rule: "RuleAnswer") -> Iterator[tuple[str, str]]:
    for key, condition in rule.fires.items():
        upper = key == _UPPER
        ages = "ages counted by how long no data came or went: " if upper else ""
        yield "warning" if upper else key, ages + condition
    if rule.severity_set is not None:
        yield "but", f"every finding is reported as {rule.severity_set} (configuration)"
    if rule.measure is not None:
        against = ", ".join(f"{name} ({severity})" for severity, name in rule.measure_limits.items())
        end = f", {'below' if rule.measure_falls else 'against'} {against}" if against else ""
        yield "measure", f"how far it has gone{end}"
        yield "", " ".join(rule.measure.split())


def _limits(rule: "RuleAnswer") -> Iterator[Item]:
    for limit in rule.limits:
        changed = f" (configuration; default {limit.default:.15g})" if limit.value != limit.default else ""
        yield Item(limit.reason, f"{limit.name} = {limit.value:.15g} {limit.unit}{changed}")


def _hint(rule: "RuleAnswer") -> str:
    return f"To change one: /etc/tcpdoctor/config.toml, [rules.{rule.id}.limits]"


def _fact(fact: "FactRead") -> Item:
    unit = "set of ages" if fact.kind == "ages" else fact.unit
    kind = ", grows since boot" if fact.kind == "counter" else ""
    return Item(fact.meaning, f"{fact.fact} ({unit}{kind})", blocks=(Prose(f"from {fact.source}"),))


def _fix(fix: "RuleFix", style: Style) -> Item:
    blocks: list[Block] = [Prose(fix.do)] if fix.do is not None else []
    blocks += [Command(tuple(map(style.asks, fix.commands)))] if fix.commands else []
    if fix.sysctl is not None:
        blocks.append(Prose(f"Sets {fix.sysctl.name}, which applies to this {fix.sysctl.applies_to}."))
    blocks.append(Prose(fix.risk, "Risk"))
    blocks += instruction("Verify", fix.verify, tuple(map(style.asks, fix.verify_commands)))
    blocks += instruction("Undo", fix.undo or "", tuple(map(style.asks, fix.undo_commands)))
    return Item("", fix.title, fix.kind, tuple(blocks))


def _wrong_fixes(rule: "RuleAnswer") -> tuple[Section, ...]:
    wrong = tuple(Item(wrong.why, wrong.title) for wrong in rule.wrong_fixes)
    return (Section("What does not help", (Items(wrong),)),) if wrong else ()


def rule_lint_page(answer: "LintAnswer", _style: Style) -> list[Block]:
    """The complaints, by file."""
    rules = plural(answer.rules, "rule")
    if not answer.complaints:
        return [Prose(f"{rules}, no complaint.")]
    total = f"{rules}, {plural(len(answer.complaints), 'complaint')}."
    texts = [(one.source, f"{one.name}: {one.what}") for one in answer.complaints]
    return [*_by_file(texts), Section("", (Prose(total),))]


def rule_tests_page(answer: "RuleTestsAnswer", _style: Style) -> list[Block]:
    """The tests that failed, by file."""
    failed = answer.failures
    number = f"{plural(answer.rules, 'rule')}, {plural(answer.tests, 'test')}"
    if not failed:
        return [Prose(f"{number}, every answer as expected.")]
    texts = [(one.source, one.what) for one in failed]
    return [*_by_file(texts), Section("", (Prose(f"{number}, {len(failed)} failed."),))]


def _by_file(texts: Sequence[tuple[str, str]]) -> Iterator[Block]:
    for source, group in groupby(texts, lambda one: one[0]):
        yield Title(source, whole=True)
        yield Inset((Entries(tuple(Item(text) for _, text in group)),), 2)


def rule_sarif(complaints: "Sequence[Complaint]") -> dict[str, JsonValue]:
    """Return every complaint as a result; the checks that complained are its rules."""
    names = sorted({complaint.name for complaint in complaints})
    return sarif(
        {name: SarifRule(name, Severity.WARNING, name.replace("-", " ").capitalize()) for name in names},
        [
            SarifResult(complaint.name, Severity.WARNING, complaint.what, complaint.source, None)
            for complaint in complaints
        ],
    )


MOST_SUBJECTS = 20
"""More of one scope are not read by people; json lists all."""

_TITLES = {
    "host": "Host: for rules of every scope",
    "listener": "Listener: once per listening socket",
    "process": "Process: once per process that holds sockets of interest",
    "port": "Port: once per local port in use",
    "destination": "Destination: once per source address, peer and peer's port",
}

_GROUPS = {
    "": "Computed from sockets and settings",
    "sockets": "Sockets by state",
    "sockstat": "Sockets and memory (/proc/net/sockstat)",
    "sysctl": "Settings (/proc/sys)",
    **{
        group: f"Counters {group}: growth between the samples"
        for group in ("Tcp", "TcpExt", "MPTcpExt", "Ip", "IpExt", "Ip6", "Icmp", "Icmp6", "nf_conntrack")
    },
}

_WIDEST_VALUE, _NARROWEST_VALUE = 34, 12


def facts_page(answer: "FactsAnswer", style: Style) -> list[Block]:
    """Return every fact with its value; its meaning once per scope, under the first subject."""
    blocks = _head(answer, style)
    for scope, rows in groupby(answer.facts, lambda row: row.scope):
        blocks += _section(scope, list(rows))
    if answer.not_described:
        names = ", ".join(answer.not_described)
        said = f"This kernel also has, unknown to the vocabulary and so of no use in rules: {names}."
        blocks.append(Section("", (Prose(said),)))
    return blocks


def _head(answer: "FactsAnswer", style: Style) -> list[Block]:
    host = answer.host
    samples = f"two samples, {answer.window_s:.1f} s apart" if answer.window_s else "one sample, so no growth"
    where = where_words(answer.taken_at, host.kernel, host.namespace, host.namespace_name)
    return [
        Title(f"{host_words(host.name, style)}: facts that rules may use"),
        Prose(f"{where}, {samples}"),
    ]


def _section(scope: str, rows: "Sequence[FactRow]") -> Iterator[Section]:
    if rows[0].subject is None:
        said = Prose(f"{rows[0].missing or 'unknown'}; the facts would be:")
        yield Section(
            _TITLES[scope], (said, Table(_COLUMNS, tuple((row.fact, "", "", _meaning(row)) for row in rows)))
        )
        return
    yield Section("", (Title(_TITLES[scope]),))
    if scope == "host":
        groups: dict[str, list[FactRow]] = {}
        for row in rows:
            groups.setdefault(_group(row), []).append(row)
        yield from (_titled(title, members, with_meaning=True) for title, members in groups.items())
        return
    facts = len({row.fact for row in rows})
    subjects = [rows[first : first + facts] for first in range(0, len(rows), facts)]
    for place, subject in enumerate(subjects[:MOST_SUBJECTS]):
        yield _titled(str((subject[0].subject or {})["label"]), subject, with_meaning=place == 0)
    if len(subjects) > MOST_SUBJECTS:
        more = plural(len(subjects) - MOST_SUBJECTS, scope)
        yield Section("", (Inset((Prose(f"... and {more} more; --format json lists all"),), 2),))


def _titled(title: str, rows: "Sequence[FactRow]", *, with_meaning: bool) -> Section:
    told = tuple((row.fact, *_shown(row), _meaning(row) if with_meaning else "") for row in rows)
    return Section("", (Inset((Title(title), Table(_COLUMNS, told)), 2),))


_COLUMNS = (
    Column("FACT"),
    Column("VALUE", most=_WIDEST_VALUE, least=_NARROWEST_VALUE),
    Column("BECAUSE", below=True),
    Column("MEANING", below=True),
)


def _group(row: "FactRow") -> str:
    return _GROUPS.get(row.fact.partition(".")[0], _GROUPS[""])


def _meaning(row: "FactRow") -> str:
    return f"{row.meaning} [{row.unit}; {row.source}]"


def _shown(row: "FactRow") -> tuple[str, str]:
    """The value, and beside it, where that is short, why it is not certain if one can see that it is not."""
    if row.certain or row.missing is None:
        return row.in_words, ""
    if row.value is not None:
        return row.in_words, f"({row.missing})"
    whole = f"{row.in_words}: {row.missing}"
    return (whole, "") if len(whole) <= _WIDEST_VALUE else (row.in_words, row.missing)
