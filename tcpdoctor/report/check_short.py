"""`check` in its short form: the verdict, two lines a finding with its remedy, and the worst again last.

It is what somebody reads who was woken: on 80 columns five findings take at most 24 lines, and what stays in
view when the prompt is back is the worst of them. Everything else is one command away, which is printed.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from tcpdoctor.answers.check import Check, Checks, list_rows, loud_findings, status, verdict_of_all
from tcpdoctor.answers.record import utc
from tcpdoctor.answers.states import state_readings
from tcpdoctor.diagnosis.finding import Diagnosis, Finding, Fix, Severity, Untold
from tcpdoctor.facts.value import SECOND, show
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Snapshot
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.report.check_text import (
    at_once_words,
    blindness,
    check_text,
    finding_texts,
    rules_checked,
    style_there,
    too_early_lines,
    unchecked_lines,
    unjudged_lines,
    verdicts_counted,
    worst_line,
)
from tcpdoctor.report.finding_page import first_sentence, grouped
from tcpdoctor.report.host import clock, plural, source_words
from tcpdoctor.report.style import NO_BREAK, Style, TextForm
from tcpdoctor.report.table import cut

MOST_SHOWN = 10
"""Findings that are shown; the rest are counted."""

_SEVERITY = 8
_SUBJECT = 20
_HEADLINE = 49
_NARROW = 1 + _SEVERITY + 1 + _SUBJECT + 1 + _HEADLINE
"""Columns that a finding's line needs: severity, subject, headline and what parts them."""
_INDENT = " " * (1 + _SEVERITY + 1)
_MOST_COMMAND_LINES = 2
_SHORTEST_REASON = 16
_HINTS = (
    ("tcpdoctor explain 8080", "it cannot bind a port"),
    ("tcpdoctor explain db:5432", "it cannot connect"),
    ("tcpdoctor explain ECONNRESET", "it shows an error"),
)
_ASKED = "A service fails anyway?"


def check_short(check: Check, style: Style, only: Sequence[Finding] | None = None) -> str:
    """Return the short form; with `only` those findings, and nothing of what was not answered."""
    findings = check.diagnosis.findings if only is None else tuple(only)
    untold = check.diagnosis.untold if only is None else ()
    style = style_there(check, style)
    lines = [_verdict_line(check, findings, untold, style)]
    if check.source is not None:
        lines.append(style.told("", style.dim(style.wrap(source_words(check.source), "  ", "", whole=True))))
    if findings:
        lines += ["", *_findings(findings, style), *_more(findings, untold, style)]
        lines += _ending(check, findings, style, told=only is None)
    elif only is None:
        lines += [style.told("", line) for line in _nothing(check, style)]
    return "\n".join(lines) + "\n"


def short_findings(check: Check, style: Style, only: Sequence[Finding] | None = None) -> list[str]:
    """Return the lines of the findings alone; with `only` of those."""
    findings = check.diagnosis.findings if only is None else tuple(only)
    lines = [line for finding in findings[:MOST_SHOWN] for line in finding_lines(finding, style)]
    return [*lines, *_more(findings, check.diagnosis.untold if only is None else (), style)]


def counts_words(findings: Iterable[Finding], untold: Iterable[Untold] = ()) -> str:
    """Say how many findings there are of each severity, the worst first: ``1 critical, 4 warning``."""
    numbers = Counter(finding.severity for finding in findings)
    for each in untold:
        numbers[each.severity] += each.number
    counted = [(numbers[severity], severity.key) for severity in reversed(Severity)]
    return ", ".join(f"{number:,} {key}" for number, key in counted if number)


def finding_lines(finding: Finding, style: Style) -> list[str]:
    """Return what is wrong in one line, and below it what to do, with the rule's name for more."""
    word, headline = finding.severity.key.upper(), finding.headline or finding.title
    painted = style.severity(finding.severity.key, f"{word:<{_SEVERITY}}")
    if style.width < _NARROW:
        subject = style.bold(style.wrap(finding.whom or finding.label, "   "))
        lines = [f" {painted} {subject.strip()}", style.wrap(headline, "   ")]
        lines += _remedy(finding, "   ", style)
        return [style.told(finding.severity.key, line) for line in lines]
    room = style.width - _NARROW
    subject = cut(finding.whom or finding.label, _SUBJECT + room // 3)
    line = f" {painted} {subject:<{_SUBJECT + room // 3}} {headline}"
    plain = len(line) - len(painted) + _SEVERITY
    if plain > style.width:
        line = f" {painted} {subject}\n{style.wrap(headline, _INDENT)}"
    return [style.told(finding.severity.key, each) for each in (line, *_remedy(finding, _INDENT, style))]


def _verdict_line(check: Check, findings: Sequence[Finding], untold: Sequence[Untold], style: Style) -> str:
    snapshot = check.samples.after
    verdict = status(check)
    said = f"{verdict.upper()}  {check.title}: {_verdict_words(check, findings, untold, verdict)}"
    looked = when_looked(check, snapshot, style)
    return style.told(verdict, "\n".join(_first_lines(verdict, said, looked, style)))


def _first_lines(verdict: str, said: str, looked: str, style: Style) -> list[str]:
    """What is said, in colours, and when was looked behind it, or below where there is no room."""
    gap = style.width - len(said) - len(looked)
    line = f"{said}{' ' * gap}{looked}" if gap >= 2 else style.wrap(f"{said}\n\n{looked}", "  ", "")
    lines = [part for part in line.splitlines() if part.strip()]
    lines[0] = style.severity(verdict, verdict.upper()) + style.bold(lines[0][len(verdict) :])
    return lines


def _verdict_words(check: Check, findings: Sequence[Finding], untold: Sequence[Untold], verdict: str) -> str:
    if findings:
        return counts_words(findings, untold)
    if verdict == "unknown":
        return blindness(check)
    return "nothing wrong" if check.diagnosis.rules else "no rule was asked for"


def when_looked(check: Check, snapshot: Snapshot, style: Style) -> str:
    """Say when was looked, how long, and in which network namespace where it is one of its own."""
    parts = [clock(snapshot.taken_at) if style.terminal else utc(snapshot.taken_at)]
    if check.window:
        parts.append(f"{show(check.window, SECOND)} apart")
    if check.place is None and (snapshot.initial_namespace is False or snapshot.namespace_name):
        parts.append(f"netns {snapshot.namespace_name or snapshot.namespace}")
    return ", ".join(parts)


def _findings(findings: Sequence[Finding], style: Style) -> list[str]:
    if len(findings) == 1:
        return _only_finding(findings[0], style)
    return [line for finding in findings[:MOST_SHOWN] for line in finding_lines(finding, style)]


def _only_finding(finding: Finding, style: Style) -> list[str]:
    """One finding has room for what not to do as well."""
    word = finding.severity.key.upper()
    lead = f" {style.severity(finding.severity.key, word)}{' ' * (_SEVERITY - len(word))} "
    first = style.wrap(f"{finding.whom or finding.label}: {_lower_first(finding.title)}", _INDENT, lead)
    lines = [first, style.bold(style.wrap(finding.headline or finding.summary, _INDENT))]
    for fix in finding.fixes[:1]:
        lines += _labelled("do", _lower_first(fix.title), style)
        if fix.commands:
            lines.append(style.command_block(style.asks(fix.commands[0]), _INDENT + "  "))
    for wrong in finding.wrong_fixes[:1]:
        lines += _labelled("not", f"{_lower_first(wrong.title)}: {first_sentence(wrong.why)}", style)
    more = style.command(style.asks(f"tcpdoctor check {finding.rule}"), _INDENT)
    lines.append(_label("more") + more.removeprefix(_INDENT))
    return [style.told(finding.severity.key, line) for line in lines]


def _labelled(label: str, text: str, style: Style) -> list[str]:
    return [style.wrap(text, _INDENT, _label(label))]


def _label(label: str) -> str:
    return f"   {label:<{len(_INDENT) - 3}}"


def _remedy(finding: Finding, indent: str, style: Style) -> list[str]:
    fix = _first_fix(finding)
    typed = style.asks(fix.commands[0]) if fix is not None and fix.commands else None
    title = style.asks(f"tcpdoctor check {finding.rule}") if fix is None else fix.title
    return remedy_lines(typed, title, finding.rule, indent, style)


def remedy_lines(typed: str | None, title: str, rule: str, indent: str, style: Style) -> list[str]:
    """Return a fix's command where it is short, else its title; the rule ends the line where it fits."""
    lead = f"{indent}-> "
    if typed is not None:
        lines = style.command(typed, " " * len(lead)).splitlines()
        lines[0] = lead + lines[0].strip()
        if len(lines) <= _MOST_COMMAND_LINES:
            return _with_rule([style.cyan(line) for line in lines], lines[-1], rule, style)
    lines = style.wrap(title, indent + "   ", lead).splitlines()
    return _with_rule(lines, lines[-1], rule, style)


def _with_rule(lines: list[str], last: str, rule: str, style: Style) -> list[str]:
    gap = style.width - len(last) - len(rule)
    if gap >= 2:
        return [*lines[:-1], f"{lines[-1]}{' ' * gap}{style.dim(rule)}"]
    return [*lines, f"{style.dim(rule):>{style.width + len(style.dim(rule)) - len(rule)}}"]


def _first_fix(finding: Finding) -> Fix | None:
    """The first fix that can be typed; else the first."""
    typed = [fix for fix in finding.fixes if fix.commands]
    return next(iter([*typed, *finding.fixes]), None)


def _more(findings: Sequence[Finding], untold: Sequence[Untold], style: Style) -> list[str]:
    """Say how many there are besides, and what names them."""
    rest, counted = findings[MOST_SHOWN:], sum(each.number for each in untold)
    if not rest and not counted:
        return []
    named = "--format json" if any(alike.more for alike in grouped(findings)) else "--long"
    bound = "counted only: most_subjects in man tcpdoctor-rules is how many are named"
    parts = [named] if rest else []
    parts += [f"{counted:,} {bound}" if rest else bound] if counted else []
    more = f"and {len(rest) + counted:,} more ({counts_words(rest, untold)}): {'; '.join(parts)}"
    return [style.told("", style.wrap(more, "  ", " "))]


def _ending(check: Check, findings: Sequence[Finding], style: Style, *, told: bool) -> list[str]:
    lines = [""]
    if told:
        lines += [*unjudged_lines(check, style, " "), *too_early_lines(check, style, " ")]
        lines += _unanswered(check.diagnosis, style)
    if told and check.settable:
        lines.append(at_once_line(check.settable, style))
    if len(findings) > 1:
        full = f" Each in full: {style.asks('tcpdoctor check RULE')}   all: --long"
        page = "   page: --format html"
        lines.append(style.wrap(full + page if len(full + page) <= style.width else full, " "))
    worst = [worst_line(findings[0], style)] if len(findings) > 1 else []
    return [*(style.told("", line) for line in lines), *worst] if len(lines) > 1 else []


def at_once_line(settings: int, style: Style) -> str:
    """Say what changes settings together, as `at_once_words`."""
    return style.wrap(at_once_words(settings, style), "  ", " ")


def _unanswered(diagnosis: Diagnosis, style: Style, indent: str = "") -> list[str]:
    """Say how many rules were not answered that apply here, with the reason of most of them."""
    reasons = {rule.rule: rule.reason for rule in diagnosis.unchecked if rule.applies}
    if not reasons:
        return []
    said = f"{indent} {rules_checked(diagnosis)} answered; {len(reasons)} not"
    reason, end = Counter(reasons.values()).most_common(1)[0][0], "): --unanswered"
    room = style.width - len(said) - len(" (") - len(end)
    if room < _SHORTEST_REASON:
        return [style.wrap(f"{said.strip()}: --unanswered", f"{indent}  ", f"{indent} ")]
    return [f"{said} ({cut_text(reason, room)}{end}"]


def _nothing(check: Check, style: Style) -> list[str]:
    readings = state_readings(check.samples.after.census)
    counted = [
        f"{reading:,}{NO_BREAK}{state.key}"
        for state, reading in readings.items()
        if not isinstance(reading, Missing) and reading and state is not TcpState.BOUND
    ]
    unknown = all(isinstance(reading, Missing) for reading in readings.values())
    sockets = "sockets unknown" if unknown else "  ".join(counted) or "no TCP socket"
    unanswered = _unanswered(check.diagnosis, style, "   ")
    if not unanswered:
        answered = f"{rules_checked(check.diagnosis)} answered"
        sockets += f"    {answered.replace(' ', NO_BREAK)}"
    lines = [style.wrap(sockets, "    ")]
    lines += [*unjudged_lines(check, style, "    "), *too_early_lines(check, style, "    "), *unanswered]
    if status(check) == "ok" and check.samples.after.namespace_name is None:
        lines += _hints(style)
    if check.source is not None and status(check) == "unknown":
        lines += _what_to_ask(check, style, listed=not unknown)
    return lines


def _what_to_ask(check: Check, style: Style, *, listed: bool) -> list[str]:
    """Say what a recording of which too little is known answers, or what it lacks."""
    if listed:
        return [style.wrap(style.asks("tcpdoctor states"), "      ", "    Whose they are: ", whole=True)]
    if isinstance(check.samples.after.counters, Missing) or check.samples.before is not None:
        return []
    said = "Counters since boot tell no rate: take them twice, a minute apart, and"
    command = (
        f"tcpdoctor check{''.join(f' --from {name}' for name in style.recorded)} --from SECOND --window 60"
    )
    return [style.wrap(said, "      ", "    "), style.command(command, "      ")]


def _hints(style: Style) -> list[str]:
    """Say where to go on when a service fails although nothing is wrong with TCP."""
    if style.recorded or style.netns:
        return [style.wrap(style.asks(_HINTS[0][0]), "      ", f"    {_ASKED} ", whole=True)]
    widest = max(len(command) for command, _ in _HINTS)
    beside = f"    {_ASKED}  "
    if style.width < len(beside) + widest + 2 + max(len(what) for _, what in _HINTS):
        return [f"    {_ASKED}", *(f"      {style.cyan(command)}" for command, _ in _HINTS)]
    lines = []
    for command, what in _HINTS:
        lines.append(f"{beside}{style.cyan(command)}{' ' * (widest - len(command))}  {what}")
        beside = " " * len(beside)
    return lines


def unanswered_text(check: Check, style: Style) -> str:
    """Return the rules that could not be answered, by reason; those that do not apply here come last."""
    diagnosis = check.diagnosis
    said = f"{rules_checked(diagnosis)} answered"
    if not diagnosis.unchecked:
        return style.told("", f"{said}.") + "\n"
    lines = [style.bold(f"{said}; not answered:"), *unchecked_lines(diagnosis.unchecked, style)]
    return style.told("", "\n".join(lines)) + "\n"


def cut_text(text: str, room: int) -> str:
    """Cut to `room` columns behind a word, if there is one, which ends in dots."""
    if len(text) <= room:
        return text
    kept = text[: max(1, room - 2)]  # one more than is shown: it may be the space behind a word
    return (kept.rpartition(" ")[0] or kept[:-1]).rstrip(" ,;:") + "..."


def _lower_first(text: str) -> str:
    """The text as it goes on behind a colon; names and abbreviations keep their capitals."""
    head = text[:2]
    return text[:1].lower() + text[1:] if head[:1].isupper() and head[1:].islower() else text


_NAME = 20
"""Columns of a namespace's name in the list."""


def checks_text(checks: Checks, style: Style, form: TextForm, *, quiet: bool = False) -> str:
    """Return the list of namespaces, the worst first, then each that has something to tell."""
    if form == "unanswered":
        return _unanswered_of_all(checks, style)
    parts = ["\n".join(_head(checks, style))]
    told = [check for check in checks.checks if form == "long" or check.diagnosis.findings]
    parts += [_part(check, style, form, quiet=quiet) for check in told]
    if form == "short":
        parts.append("\n".join(_ending_of_all(checks, style, quiet=quiet)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(checks: Checks, style: Style) -> list[str]:
    verdict = verdict_of_all(checks)
    host = f"{checks.checks[0].samples.after.host}: " if checks.checks else ""
    said = f"{verdict.upper()}  {host}{verdicts_counted(checks)}"
    looked = when_looked(checks.checks[0], checks.checks[0].samples.after, style) if checks.checks else ""
    first = style.told(verdict, "\n".join(_first_lines(verdict, said, looked, style)))
    return [first, "", *_list(checks, style)]


def _list(checks: Checks, style: Style) -> list[str]:

    lines = []
    rows = list(list_rows(checks))
    width = min(_NAME, max((len(row.name) for row in rows if row.worst), default=0))
    for row in rows:
        if row.worst:
            plain, painted = _word(row.verdict, style)
            name = f" {cut(row.name, width):<{width}} "
            told = (
                row.worst
                if row.verdict == "unknown"
                else cut_text(row.worst, max(20, style.width - len(plain + name)))
            )
            line = style.wrap(told, " " * len(plain + name), painted + name)
            lines.append(style.told(row.verdict, line))
    for verdict in ("unknown", "ok"):
        names = [row.name for row in rows if row.verdict == verdict and not row.worst]
        if names:
            plain, painted = _word(verdict, style)
            line = style.wrap(", ".join(names), " " * len(f"{plain} "), f"{painted} ")
            lines.append(style.told(verdict, line))
    return lines


def _word(verdict: str, style: Style) -> tuple[str, str]:
    """A verdict as it begins a line, plain and in its colour."""
    word = verdict.upper()
    return f" {word:<8}", f" {style.severity(verdict, word)}{' ' * (8 - len(word))}"


def _part(check: Check, style: Style, form: TextForm, *, quiet: bool) -> str:
    only = loud_findings(check) if quiet else None
    lines = _heading(check, style)
    style = style_there(check, style)
    if form == "short":
        return "\n".join([*lines, *short_findings(check, style, only)])
    body = check_text(check, style) if only is None else "\n\n".join(finding_texts(only, style))
    return "\n".join([*lines, body.rstrip("\n")])


def _heading(check: Check, style: Style) -> list[str]:
    place = check.place
    if place is None:
        return []
    here = ", where this was started" if place.own else ""
    return [style.told("", style.bold(style.wrap(f"=== {place.label}{here}", "    ", "")))]


def _ending_of_all(checks: Checks, style: Style, *, quiet: bool) -> list[str]:
    lines: list[str] = []
    hidden = [check for check in checks.checks if any(rule.applies for rule in check.diagnosis.unchecked)]
    if hidden and not quiet:
        where = (
            "everywhere" if len(hidden) == len(checks.checks) else f"in {plural(len(hidden), 'namespace')}"
        )
        said = f"Not all rules were answered {where}: --unanswered"
        lines.append(style.told("", style.wrap(said, " ", " ")))
    found = [check for check in checks.checks if check.diagnosis.findings]
    if found:
        full = "Each in full: tcpdoctor check RULE --netns all   all: --long"
        lines.append(style.told("", style.wrap(full, " ", " ")))
    if len(found) > 1 or (found and len(found[0].diagnosis.findings) > 1):
        worst = found[0].diagnosis.findings[0]
        name = found[0].place.short if found[0].place else ""
        lines.append(worst_line(worst._replace(whom=f"{name}: {worst.whom or worst.label}"), style))
    return lines


def _unanswered_of_all(checks: Checks, style: Style) -> str:
    """Return the rules that could not be answered; where it is the same it is told once."""
    alike: dict[str, list[str]] = {}
    for check in checks.checks:
        alike.setdefault(unanswered_text(check, style), []).append("\n".join(_heading(check, style)[:1]))
    parts = ["\n".join([*headings, text]) for text, headings in alike.items()]
    for one in checks.unseen:
        heading = style.bold(style.wrap(f"=== {one.place.label}", "    ", ""))
        parts.append(style.told("unknown", f"{heading}\n{style.wrap(one.reason)}") + "\n")
    return "\n".join(parts)
