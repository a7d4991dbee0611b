"""The formats of `check`: one module each, imported when it is asked for, and one way in."""

from collections.abc import Callable
from typing import Literal, TypeAlias

from tcpdoctor.answers.check import Check, Checks, loud_findings
from tcpdoctor.diagnosis.finding import Finding
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.report.style import Style, TextForm

CheckFormat: TypeAlias = Literal[
    "text", "json", "jsonl", "nagios", "prometheus", "junit", "markdown", "html", "journal"
]

QUIET_FORMATS = ("text", "json", "jsonl", "markdown", "html", "journal")
"""Formats in which less can be said; the readers of the others need every rule, or one line at least."""
MEASURING_FORMATS = ("nagios", "prometheus")
"""Formats that tell what every rule measures, so that they need every fact of every subject."""

Findings: TypeAlias = tuple[Finding, ...]


class Renderers(NamedTuple):
    """How a format tells of one network namespace, and of many."""

    one: Callable[[Check, Findings | None], str]
    """With findings, those only."""
    many: Callable[[Checks, bool], str]
    """Quiet or not."""


def render(
    check: Check, kind: CheckFormat, style: Style, *, quiet: bool = False, form: TextForm = "long"
) -> str:
    """Return the answer in one format; with `quiet` the loud findings only, nothing where there are none.

    `style` and `form` are for text; every other format looks the same everywhere.
    """
    loud = loud_findings(check)
    if quiet and not loud:
        return ""
    return _renderers(kind, style, form).one(check, loud if quiet else None)


def render_everywhere(
    checks: Checks, kind: CheckFormat, style: Style, *, quiet: bool = False, form: TextForm = "long"
) -> str:
    """Return the same of many network namespaces, in one document."""
    if quiet:
        loud = tuple(check for check in checks.checks if loud_findings(check))
        checks = checks._replace(checks=loud)
        if not loud and not checks.unseen:
            return ""
    return _renderers(kind, style, form).many(checks, quiet)


def _renderers(kind: CheckFormat, style: Style, form: TextForm) -> Renderers:
    if kind == "text":
        return _text(style, form)
    if kind == "journal":  # where its socket is not there, lines with priorities serve
        return _text(style._replace(journal=True, color=False), form)
    if kind in ("json", "jsonl"):
        return _documents(1 if kind == "json" else None)
    return _of_programs(kind)


def _of_programs(kind: CheckFormat) -> Renderers:
    if kind == "nagios":
        from tcpdoctor.report.check_nagios import check_nagios, checks_nagios

        return Renderers(lambda check, _: check_nagios(check), lambda checks, _: checks_nagios(checks))
    if kind == "prometheus":
        from tcpdoctor.report.check_prometheus import check_prometheus, checks_prometheus

        return Renderers(
            lambda check, _: check_prometheus(check), lambda checks, _: checks_prometheus(checks)
        )
    if kind == "junit":
        from tcpdoctor.report.check_junit import check_junit, checks_junit

        return Renderers(lambda check, _: check_junit(check), lambda checks, _: checks_junit(checks))
    if kind == "markdown":
        from tcpdoctor.report.check_markdown import check_markdown, checks_markdown

        return Renderers(check_markdown, lambda checks, quiet: checks_markdown(checks, quiet=quiet))
    from tcpdoctor.report.check_html import check_html, checks_html

    return Renderers(check_html, lambda checks, quiet: checks_html(checks, quiet=quiet))


def _text(style: Style, form: TextForm) -> Renderers:
    def one(check: Check, only: Findings | None) -> str:
        if form == "long":
            from tcpdoctor.report.check_text import check_text, finding_texts

            return check_text(check, style) if only is None else "\n\n".join(finding_texts(only, style))
        if form in ("lesson", "again"):
            from tcpdoctor.report.check_text import lesson_text

            return lesson_text(check, style, again=form == "again")
        from tcpdoctor.report.check_short import check_short, unanswered_text

        return check_short(check, style, only) if form == "short" else unanswered_text(check, style)

    def many(checks: Checks, quiet: bool) -> str:  # noqa: FBT001 - one of many renderers
        from tcpdoctor.report.check_short import checks_text

        return checks_text(checks, style, form, quiet=quiet)

    return Renderers(one, many)


def _documents(indent: int | None) -> Renderers:
    from tcpdoctor.answers.verdict import check_answer, checks_answer
    from tcpdoctor.report.document import json_text

    return Renderers(
        lambda check, only: json_text(check_answer(check, only), indent),
        lambda checks, quiet: json_text(checks_answer(checks, quiet=quiet), indent),
    )
