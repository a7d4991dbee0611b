"""`check` as Markdown, for tickets and chats."""

from collections.abc import Sequence

from tcpdoctor.answers.check import (
    Check,
    Checks,
    checked,
    list_rows,
    loud_findings,
    status,
    untold_by_rule,
    verdict_of_all,
)
from tcpdoctor.answers.record import utc
from tcpdoctor.answers.states import state_readings
from tcpdoctor.diagnosis.finding import Finding
from tcpdoctor.report.check_text import namespace_words, style_there, verdict_sentence, verdicts_counted
from tcpdoctor.report.finding_page import Alike, grouped, more_words, pages_of, unanswered_by_reason
from tcpdoctor.report.host import plural, samples_words, source_words, states_sentence
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
    snapshot = check.samples.after
    verdict = status(check)
    looked = samples_words(check.window)
    said = f"{snapshot.host}: {verdict_sentence(check, verdict)}"
    where = f"Linux {snapshot.kernel}, network namespace {namespace_words(check)}, tcpdoctor {check.version}"
    read = [] if check.source is None else [escaped(source_words(check.source))]
    head = f"{utc(snapshot.taken_at)}, {looked}, {escaped(where)}"
    return [f"# {verdict.upper()}: {escaped(said)}", head, *read]


def _alike(alike: Alike, check: Check) -> str:
    pages = pages_of(alike, style_there(check, PLAIN))
    parts = [page_markdown((*page.act, *page.know)) for page in pages]
    return "\n\n".join([*parts, *([escaped(more_words(alike))] if alike.more else [])])


def _tail(check: Check) -> list[str]:
    diagnosis = check.diagnosis
    parts = ["## What was looked at", escaped(states_sentence(state_readings(check.samples.after.census)))]
    parts.append(f"{checked(diagnosis)} of {plural(diagnosis.rules, 'rule')} checked.")
    reasons = unanswered_by_reason(diagnosis.unchecked)
    if reasons:
        parts.append("No full answer from:")
        parts.append(
            "\n".join(f"- {', '.join(map(code, rules))}: {escaped(why)}" for why, rules in reasons.items())
        )
    return parts


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
