"""`check --netns all` in every format: the list of namespaces first, then each that has something to tell.

Text, Markdown and HTML stand here; JSON, JUnit, Prometheus and Nagios know themselves how to tell of several.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from tcpdoctor.answers.check import Check, Checks, exit_code, loud_findings, status
from tcpdoctor.diagnosis.finding import Finding
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.report.check_formats import CheckFormat, TextForm
from tcpdoctor.report.host import plural
from tcpdoctor.report.style import Style

_NAME = 20
"""Columns of a namespace's name in the list."""


class ListRow(NamedTuple):
    """One network namespace in the list: its verdict and the worst that was found."""

    verdict: str
    name: str
    label: str
    worst: str
    """The worst finding with its subject, or why it could not be looked at; empty where all is well."""


def render_everywhere(
    checks: Checks, kind: CheckFormat, style: Style, *, quiet: bool = False, form: TextForm = "long"
) -> str:
    """Return the answer in one format; with `quiet` the loud findings only, nothing where there are none."""
    if quiet:
        loud = tuple(check for check in checks.checks if loud_findings(check))
        checks = checks._replace(checks=loud)
        if not loud and not checks.unseen:
            return ""
    if kind == "journal":  # where its socket is not there, lines with priorities serve
        from tcpdoctor.report.journal import with_priorities

        return with_priorities(_text(checks, style, form, quiet=quiet))
    return _text(checks, style, form, quiet=quiet) if kind == "text" else _RENDERERS[kind](checks, quiet)


def list_rows(checks: Checks) -> Iterator[ListRow]:
    """Return every namespace, the worst first; those that nobody could look at before those that are well."""
    rows = [_row(check) for check in checks.checks]
    ill = sum(exit_code(check) in (1, 2) for check in checks.checks)
    unseen = [ListRow("unknown", one.place.short, one.place.label, one.reason) for one in checks.unseen]
    yield from (*rows[:ill], *unseen, *rows[ill:])


def _row(check: Check) -> ListRow:
    findings, place = check.diagnosis.findings, check.place
    worst = (
        f"{findings[0].whom or findings[0].label}: {findings[0].headline or findings[0].title}"
        if findings
        else ""
    )
    name, label = ("here", "here") if place is None else (place.short, place.label)
    if check.samples.after.initial_namespace is True and name == "here":
        name = "host"
    return ListRow(status(check), name, label, worst)


def verdict_of_all(checks: Checks) -> str:
    """Return the worst status of all."""
    order = ("critical", "warning", "unknown", "ok")
    words = {status(check) for check in checks.checks} | ({"unknown"} if checks.unseen else set())
    return next((word for word in order if word in words), "ok")


def verdict_words(checks: Checks) -> str:
    """Say how many namespaces have which verdict: ``5 network namespaces: 1 warning, 1 unknown, 3 ok``."""
    rows = [row.verdict for row in list_rows(checks)]
    counted = [(rows.count(word), word) for word in ("critical", "warning", "unknown", "ok")]
    return f"{plural(len(rows), 'network namespace')}: " + ", ".join(
        f"{n} {word}" for n, word in counted if n
    )


def _shown(check: Check, *, quiet: bool) -> Sequence[Finding] | None:
    return loud_findings(check) if quiet else None


# Text.


def _text(checks: Checks, style: Style, form: TextForm, *, quiet: bool) -> str:
    if form == "unanswered":
        return _unanswered(checks, style)
    parts = ["\n".join(_head(checks, style))]
    told = [check for check in checks.checks if form == "long" or check.diagnosis.findings]
    parts += [_part(check, style, form, quiet=quiet) for check in told]
    if form == "short":
        parts.append("\n".join(_ending(checks, style, quiet=quiet)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(checks: Checks, style: Style) -> list[str]:
    from tcpdoctor.report.check_short import when_looked

    verdict = verdict_of_all(checks)
    word = verdict.upper()
    host = f"{checks.checks[0].samples.after.host}: " if checks.checks else ""
    said = f"{word}  {host}{verdict_words(checks)}"
    looked = when_looked(checks.checks[0], checks.checks[0].samples.after, style) if checks.checks else ""
    gap = style.width - len(said) - len(looked)
    line = f"{said}{' ' * gap}{looked}" if gap >= 2 else style.wrap(f"{said}\n\n{looked}", "  ", "")
    lines = [part for part in line.splitlines() if part.strip()]
    lines[0] = style.severity(verdict, word) + style.bold(lines[0][len(word) :])
    return [*lines, "", *_list(checks, style)]


def _list(checks: Checks, style: Style) -> list[str]:
    from tcpdoctor.report.check_short import cut_text
    from tcpdoctor.report.table import cut

    lines = []
    rows = list(list_rows(checks))
    width = min(_NAME, max((len(row.name) for row in rows if row.worst), default=0))
    for row in rows:
        if row.worst:
            lead = f" {row.verdict.upper():<8} {cut(row.name, width):<{width}} "
            told = (
                row.worst
                if row.verdict == "unknown"
                else cut_text(row.worst, max(20, style.width - len(lead)))
            )
            line = style.wrap(told, " " * len(lead), lead)
            lines.append(
                line.replace(row.verdict.upper(), style.severity(row.verdict, row.verdict.upper()), 1)
            )
    for verdict in ("unknown", "ok"):
        names = [row.name for row in rows if row.verdict == verdict and not row.worst]
        if names:
            line = style.wrap(", ".join(names), " " * 10, f" {verdict.upper():<8} ")
            lines.append(line.replace(verdict.upper(), style.severity(verdict, verdict.upper()), 1))
    return lines


def _part(check: Check, style: Style, form: TextForm, *, quiet: bool) -> str:
    only = _shown(check, quiet=quiet)
    lines = _heading(check, style)
    style = style._replace(netns=check.netns)
    if form == "short":
        from tcpdoctor.report.check_short import short_findings

        return "\n".join([*lines, *short_findings(check, style, only)])
    from tcpdoctor.report.check_text import check_text, finding_texts

    body = check_text(check, style) if only is None else "\n\n".join(finding_texts(only, style))
    return "\n".join([*lines, body.rstrip("\n")])


def _heading(check: Check, style: Style) -> list[str]:
    place = check.place
    if place is None:
        return []
    here = ", where this was started" if place.own else ""
    lines = [style.bold(style.wrap(f"=== {place.label}{here}", "    ", ""))]
    if place.way and check.diagnosis.findings:
        from tcpdoctor.report.check_text import way_line

        lines.append(way_line(place.way, style))
    return lines


def _ending(checks: Checks, style: Style, *, quiet: bool) -> list[str]:
    from tcpdoctor.report.check_text import worst_line

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
    from tcpdoctor.report.check_short import unanswered_text

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


# The other formats for people.


def _markdown(checks: Checks, quiet: bool) -> str:  # noqa: FBT001 - one of many renderers
    from tcpdoctor.report.check_markdown import check_markdown
    from tcpdoctor.report.page_markdown import escaped

    rows = [
        f"| {row.verdict.upper()} | {escaped(row.label)} | {escaped(row.worst)} |"
        for row in list_rows(checks)
    ]
    host = f"{checks.checks[0].samples.after.host}: " if checks.checks else ""
    parts = [
        f"# {verdict_of_all(checks).upper()}: {escaped(host + verdict_words(checks))}",
        "\n".join(["| Verdict | Network namespace | Worst finding |", "| --- | --- | --- |", *rows]),
    ]
    for check in checks.checks:
        label = check.place.label if check.place else "here"
        parts += [
            f"# {escaped(label[:1].upper() + label[1:])}",
            check_markdown(check, _shown(check, quiet=quiet)).rstrip(),
        ]
    return "\n\n".join(parts) + "\n"


def _html(checks: Checks, quiet: bool) -> str:  # noqa: FBT001 - one of many renderers
    from tcpdoctor.report.check_html import check_footer, check_part
    from tcpdoctor.report.page_html import html_page, text

    verdict = verdict_of_all(checks)
    names = {check.place.label: f"ns{number}" for number, check in enumerate(checks.checks) if check.place}
    items = "".join(
        f'<li><span class="pill is-{row.verdict}">{row.verdict.upper()}</span>'
        + (f'<a href="#{names[row.label]}">' if row.label in names else "<span>")
        + f'{text(row.label)} <span class="whom">{text(row.worst)}</span>'
        + ("</a></li>" if row.label in names else "</span></li>")
        for row in list_rows(checks)
    )
    host = checks.checks[0].samples.after.host if checks.checks else ""
    said = verdict_words(checks)
    head = (
        f'<header class="hero is-{verdict}"><div class="line"><span class="pill">{verdict.upper()}</span>'
        f'<h1>{text(host)}</h1></div><p class="said">{text(said)}.</p>'
        f'<ul class="toc" aria-label="Network namespaces">{items}</ul></header>\n'
    )
    parts = [
        check_part(check, f"ns{number}", _shown(check, quiet=quiet), opened=number == 0)
        for number, check in enumerate(checks.checks)
    ]
    footer = check_footer(checks.checks[0]) if checks.checks else ""
    return html_page(f"{verdict.upper()}: {host} - tcpdoctor", head + "".join(parts) + footer)


# Those for machines.


def _json(checks: Checks, quiet: bool) -> str:  # noqa: FBT001 - one of many renderers
    import json

    from tcpdoctor.answers.verdict import checks_answer
    from tcpdoctor.report.document import as_json

    return json.dumps(as_json(checks_answer(checks, quiet=quiet)), indent=1, allow_nan=False)


def _jsonl(checks: Checks, quiet: bool) -> str:  # noqa: FBT001 - one of many renderers
    import json

    from tcpdoctor.answers.verdict import checks_answer
    from tcpdoctor.report.document import as_json

    return json.dumps(as_json(checks_answer(checks, quiet=quiet)), allow_nan=False)


def _nagios(checks: Checks, _quiet: bool) -> str:  # noqa: FBT001 - one of many renderers
    from tcpdoctor.report.check_nagios import checks_nagios

    return checks_nagios(checks)


def _prometheus(checks: Checks, _quiet: bool) -> str:  # noqa: FBT001 - one of many renderers
    from tcpdoctor.report.check_prometheus import checks_prometheus

    return checks_prometheus(checks)


def _junit(checks: Checks, _quiet: bool) -> str:  # noqa: FBT001 - one of many renderers
    from tcpdoctor.report.check_junit import checks_junit

    return checks_junit(checks)


_RENDERERS: Mapping[CheckFormat, Callable[[Checks, bool], str]] = {
    "json": _json,
    "jsonl": _jsonl,
    "nagios": _nagios,
    "prometheus": _prometheus,
    "junit": _junit,
    "markdown": _markdown,
    "html": _html,
}
