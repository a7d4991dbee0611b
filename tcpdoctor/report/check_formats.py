"""The formats of `check`: one module each, imported when it is asked for, and one way in."""

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from tcpdoctor.answers.check import Check, loud_findings
from tcpdoctor.diagnosis.finding import Finding
from tcpdoctor.report.style import Style

CheckFormat: TypeAlias = Literal[
    "text", "json", "jsonl", "nagios", "prometheus", "junit", "markdown", "html", "journal"
]

QUIET_FORMATS = ("text", "json", "jsonl", "markdown", "html", "journal")
"""Formats in which less can be said; the readers of the others need every rule, or one line at least."""
MEASURING_FORMATS = ("nagios", "prometheus")
"""Formats that tell what every rule measures, so that they need every fact of every subject."""

TextForm: TypeAlias = Literal["short", "long", "unanswered"]
"""What the text holds: two lines a finding, all of it, or the rules that could not be answered."""

Findings: TypeAlias = tuple[Finding, ...]


def render(
    check: Check, kind: CheckFormat, style: Style, *, quiet: bool = False, form: TextForm = "long"
) -> str:
    """Return the answer in one format; with `quiet` the loud findings only, nothing where there are none.

    `style` and `form` are for text; every other format looks the same everywhere.
    """
    loud = loud_findings(check)
    if quiet and not loud:
        return ""
    only = loud if quiet else None
    if kind == "journal":  # where its socket is not there, lines with priorities serve
        from tcpdoctor.report.journal import with_priorities

        return with_priorities(_text(check, only, style, form))
    return _text(check, only, style, form) if kind == "text" else _RENDERERS[kind](check, only)


def _text(check: Check, only: Findings | None, style: Style, form: TextForm) -> str:
    if form == "long":
        from tcpdoctor.report.check_text import check_text, finding_texts

        return check_text(check, style) if only is None else "\n\n".join(finding_texts(only, style))
    from tcpdoctor.report.check_short import check_short, unanswered_text

    return check_short(check, style, only) if form == "short" else unanswered_text(check, style)


def _json(check: Check, only: Findings | None) -> str:
    import json

    from tcpdoctor.answers.verdict import check_answer
    from tcpdoctor.report.document import as_json

    return json.dumps(as_json(check_answer(check, only)), indent=1, allow_nan=False)


def _jsonl(check: Check, only: Findings | None) -> str:
    import json

    from tcpdoctor.answers.verdict import check_answer
    from tcpdoctor.report.document import as_json

    return json.dumps(as_json(check_answer(check, only)), allow_nan=False)


def _nagios(check: Check, _only: Findings | None) -> str:
    from tcpdoctor.report.check_nagios import check_nagios

    return check_nagios(check)


def _prometheus(check: Check, _only: Findings | None) -> str:
    from tcpdoctor.report.check_prometheus import check_prometheus

    return check_prometheus(check)


def _junit(check: Check, _only: Findings | None) -> str:
    from tcpdoctor.report.check_junit import check_junit

    return check_junit(check)


def _markdown(check: Check, only: Findings | None) -> str:
    from tcpdoctor.report.check_markdown import check_markdown

    return check_markdown(check, only)


def _html(check: Check, only: Findings | None) -> str:
    from tcpdoctor.report.check_html import check_html

    return check_html(check, only)


_RENDERERS: Mapping[CheckFormat, Callable[[Check, Findings | None], str]] = {
    "json": _json,
    "jsonl": _jsonl,
    "nagios": _nagios,
    "prometheus": _prometheus,
    "junit": _junit,
    "markdown": _markdown,
    "html": _html,
}
