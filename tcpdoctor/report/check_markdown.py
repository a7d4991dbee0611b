"""`check` as Markdown, for tickets and chats."""

from collections.abc import Sequence

from tcpdoctor.answers.check import (
    Check,
    Checks,
    list_rows,
    loud_findings,
    untold_by_rule,
    verdict_of_all,
)
from tcpdoctor.diagnosis.finding import Finding
from tcpdoctor.report.check_text import closing, opening, style_there, verdicts_counted
from tcpdoctor.report.finding_page import Alike, grouped, more_words, pages_of
from tcpdoctor.report.page_markdown import code, escaped, page_markdown
from tcpdoctor.report.style import PLAIN


def check_markdown(check: Check, only: Sequence[Finding] | None = None) -> str:
    """Return the document: a verdict, the findings, what was looked at; or `only` some findings."""
    if only is not None:
        return "\n\n".join(_alike(each, check) for each in grouped(only)) + "\n"
    groups = grouped(check.diagnosis.findings, untold_by_rule(check.diagnosis))
    told = [_alike(each, check) for each in groups]
    return "\n\n".join([*_head(check), *told, *_tail(check)]) + "\n"


def _head(check: Check) -> list[str]:
    told = opening(check)
    where = f"{told.circumstances}, tcpdoctor {check.version}"
    read = [escaped(told.read)] if told.read else []
    return [f"# {told.verdict.upper()}: {escaped(f'{told.host}: {told.said}')}", escaped(where), *read]


def _alike(alike: Alike, check: Check) -> str:
    pages = pages_of(alike, style_there(check, PLAIN))
    parts = [page_markdown((*page.act, *page.know)) for page in pages]
    return "\n\n".join([*parts, *([escaped(more_words(alike))] if alike.more else [])])


def _tail(check: Check) -> list[str]:
    told = closing(check)
    unsure = ["\n".join(f"- {escaped(words)}" for words in told.unsure)] if told.unsure else []
    reasons = [f"- {', '.join(map(code, rules))}: {escaped(why)}" for why, rules in told.unanswered.items()]
    return [
        "## What was looked at",
        *unsure,
        *map(escaped, told.sockets),
        told.answered,
        *(["\n".join(reasons)] if reasons else []),
    ]


def checks_markdown(checks: Checks, *, quiet: bool = False) -> str:
    """Return the same of many network namespaces: their list, the worst first, then each."""
    rows = [
        f"| {row.verdict.upper()} | {escaped(row.label)} | {escaped(row.worst)} |"
        for row in list_rows(checks)
    ]
    host = f"{checks.checks[0].samples.after.host}: " if checks.checks else ""
    parts = [
        f"# {verdict_of_all(checks).upper()}: {escaped(host + verdicts_counted(checks))}",
        "\n".join(["| Verdict | Network namespace | Worst finding |", "| --- | --- | --- |", *rows]),
    ]
    for check in checks.checks:
        label = check.place.label if check.place else "here"
        parts += [
            f"# {escaped(label[:1].upper() + label[1:])}",
            check_markdown(check, loud_findings(check) if quiet else None).rstrip(),
        ]
    return "\n\n".join(parts) + "\n"
