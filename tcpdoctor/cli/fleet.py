"""`tcpdoctor fleet`: the reports of many hosts become one."""

import math
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from tcpdoctor import __version__
from tcpdoctor.cli.output import (
    COLOR,
    JSON,
    OUTPUT,
    Output,
    emit,
    emit_parts,
    format_of,
    refuse_hopeless_file,
    style_of,
)
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.fleet import Fleet
from tcpdoctor.diagnosis.fleet_report import exit_code
from tcpdoctor.kernel.documents import read_documents
from tcpdoctor.report.fleet import FleetAnswer

FleetFormat = Literal["text", "json", "markdown", "html"]
_FAIL_ON = {"warning": Severity.WARNING, "critical": Severity.CRITICAL, "never": None}
_LARGEST_LIST = 8 << 20
"""Bytes of a list of hosts: a hundred thousand long names."""


def fleet(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="What `check --format json` wrote: files, folders, or - for standard input; several "
            "reports may follow each other in one of them.",
        ),
    ],
    *,
    expect: Annotated[
        Path | None,
        typer.Option("--expect", metavar="FILE", help="The hosts that should report, one on each line."),
    ] = None,
    names: Annotated[
        Literal["host", "file"],
        typer.Option("--names", help="Name a host as its report does, or as its file is called."),
    ] = "host",
    max_age: Annotated[
        float,
        typer.Option(
            "--max-age", metavar="SECONDS", min=0, help="Older reports show nothing any more; 0: all count."
        ),
    ] = 86_400.0,
    hosts: Annotated[
        int, typer.Option("--hosts", metavar="N", min=1, help="How many hosts are named one by one.")
    ] = 20,
    fail_on: Annotated[
        Literal["warning", "critical", "never"],
        typer.Option("--fail-on", help="The least severity that changes the exit code."),
    ] = "warning",
    output_format: Annotated[
        FleetFormat,
        typer.Option("--format", help="For people, machines, tickets, or as a page."),
    ] = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """Merge the reports of many hosts: worst first, alike told once.

    Exits 2 if a host is critical, 1 if one has a warning, 3 where nothing is worse than that something is
    not known (a host sent nothing, could not look, or long ago; a file is no report), else 0.
    """
    if not math.isfinite(max_age):
        raise typer.BadParameter("give a number of seconds", param_hint="--max-age")
    target = Output(format_of(output_format, as_json), output, color)
    refuse_hopeless_file(target)
    wanted = None if expect is None else _expected(expect)
    merged = Fleet(name_by_file=names == "file")
    for path in files:
        for document in read_documents(path):
            merged.add(document)
    report = merged.conclude(
        time.time(), max_age=max_age or None, expected=wanted, most_named=max(1000, hosts)
    )
    answer = FleetAnswer(report, _FAIL_ON[fail_on], hosts, __version__)
    if target.format == "json":
        from tcpdoctor.report.fleet_json import fleet_json_lines

        emit_parts(fleet_json_lines(answer), target)
    else:
        emit(_render(answer, target), target)
    raise typer.Exit(exit_code(report, answer.fail_on))


def _expected(path: Path) -> list[str]:
    """Return the names in a list of hosts: one on each line, `#` begins a remark."""
    from tcpdoctor.errors import QuestionError
    from tcpdoctor.kernel.files import read_text_file
    from tcpdoctor.kernel.text import clean

    text = read_text_file(path, limit_bytes=_LARGEST_LIST, trusted_owner=False, error=QuestionError)
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    names = [clean(line, 120) for line in lines if line]
    ranges = [name for name in names if "[" in name and ":" in name.partition("[")[2]]
    if ranges:
        shown = clean(str(path), 300)
        raise QuestionError(f"{shown}: {ranges[0]} is a range; write each host on a line of its own")
    if not names:
        raise QuestionError(f"{clean(str(path), 300)}: names no host; write one on each line")
    return names


def _render(answer: FleetAnswer, target: Output) -> str:
    match target.format:
        case "markdown":
            from tcpdoctor.report.fleet_markdown import fleet_markdown

            return fleet_markdown(answer)
        case "html":
            from tcpdoctor.report.fleet_html import fleet_html

            return fleet_html(answer)
        case _:
            from tcpdoctor.report.fleet_text import fleet_text

            return fleet_text(answer, style_of(target))
