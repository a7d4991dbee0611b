"""`check --netns all` for people: the list of namespaces first, then each that has something to tell."""

from tcpdoctor.answers.check import Check, Checks, list_rows, loud_findings, verdict_of_all
from tcpdoctor.report.check_short import cut_text, short_findings, unanswered_text, when_looked
from tcpdoctor.report.check_text import check_text, finding_texts, verdicts_counted, way_line, worst_line
from tcpdoctor.report.host import plural
from tcpdoctor.report.style import Style, TextForm
from tcpdoctor.report.table import cut

_NAME = 20
"""Columns of a namespace's name in the list."""


def checks_text(checks: Checks, style: Style, form: TextForm, *, quiet: bool = False) -> str:
    """Return the list of namespaces, the worst first, then each that has something to tell."""
    if form == "unanswered":
        return _unanswered(checks, style)
    parts = ["\n".join(_head(checks, style))]
    told = [check for check in checks.checks if form == "long" or check.diagnosis.findings]
    parts += [_part(check, style, form, quiet=quiet) for check in told]
    if form == "short":
        parts.append("\n".join(_ending(checks, style, quiet=quiet)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(checks: Checks, style: Style) -> list[str]:
    verdict = verdict_of_all(checks)
    word = verdict.upper()
    host = f"{checks.checks[0].samples.after.host}: " if checks.checks else ""
    said = f"{word}  {host}{verdicts_counted(checks)}"
    looked = when_looked(checks.checks[0], checks.checks[0].samples.after, style) if checks.checks else ""
    gap = style.width - len(said) - len(looked)
    line = f"{said}{' ' * gap}{looked}" if gap >= 2 else style.wrap(f"{said}\n\n{looked}", "  ", "")
    lines = [part for part in line.splitlines() if part.strip()]
    lines[0] = style.severity(verdict, word) + style.bold(lines[0][len(word) :])
    return [*lines, "", *_list(checks, style)]


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
            lines.append(style.wrap(told, " " * len(plain + name), painted + name))
    for verdict in ("unknown", "ok"):
        names = [row.name for row in rows if row.verdict == verdict and not row.worst]
        if names:
            plain, painted = _word(verdict, style)
            lines.append(style.wrap(", ".join(names), " " * len(f"{plain} "), f"{painted} "))
    return lines


def _word(verdict: str, style: Style) -> tuple[str, str]:
    """A verdict as it begins a line, plain and in its colour."""
    word = verdict.upper()
    return f" {word:<8}", f" {style.severity(verdict, word)}{' ' * (8 - len(word))}"


def _part(check: Check, style: Style, form: TextForm, *, quiet: bool) -> str:
    only = loud_findings(check) if quiet else None
    lines = _heading(check, style)
    style = style._replace(netns=check.netns)
    if form == "short":
        return "\n".join([*lines, *short_findings(check, style, only)])
    body = check_text(check, style) if only is None else "\n\n".join(finding_texts(only, style))
    return "\n".join([*lines, body.rstrip("\n")])


def _heading(check: Check, style: Style) -> list[str]:
    place = check.place
    if place is None:
        return []
    here = ", where this was started" if place.own else ""
    lines = [style.bold(style.wrap(f"=== {place.label}{here}", "    ", ""))]
    if place.way and check.diagnosis.findings:
        lines.append(way_line(place.way, style))
    return lines


def _ending(checks: Checks, style: Style, *, quiet: bool) -> list[str]:
    lines: list[str] = []
    hidden = [check for check in checks.checks if any(rule.applies for rule in check.diagnosis.unchecked)]
    if hidden and not quiet:
        where = (
            "everywhere" if len(hidden) == len(checks.checks) else f"in {plural(len(hidden), 'namespace')}"
        )
        lines.append(style.wrap(f"Not all rules were answered {where}: --unanswered", " ", " "))
    found = [check for check in checks.checks if check.diagnosis.findings]
    if found:
        lines.append(style.wrap("Each in full: tcpdoctor check RULE --netns all   all: --long", " ", " "))
    if len(found) > 1 or (found and len(found[0].diagnosis.findings) > 1):
        worst = found[0].diagnosis.findings[0]
        name = found[0].place.short if found[0].place else ""
        lines.append(worst_line(worst._replace(whom=f"{name}: {worst.whom or worst.label}"), style))
    return lines


def _unanswered(checks: Checks, style: Style) -> str:
    """Return the rules that could not be answered; where it is the same it is told once."""
    alike: dict[str, list[str]] = {}
    for check in checks.checks:
        alike.setdefault(unanswered_text(check, style), []).append("\n".join(_heading(check, style)[:1]))
    parts = ["\n".join([*headings, text]) for text, headings in alike.items()]
    parts += [
        "\n".join([style.bold(style.wrap(f"=== {one.place.label}", "    ", "")), style.wrap(one.reason)])
        + "\n"
        for one in checks.unseen
    ]
    return "\n".join(parts)
