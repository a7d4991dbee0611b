"""`tcpdoctor fleet`: the reports of many hosts become one."""

import json
import math
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from tcpdoctor import __version__
from tcpdoctor.answers.fleet import Fleet, FleetAnswer, loud_fleet
from tcpdoctor.cli.options import takes
from tcpdoctor.cli.output import (
    COLOR,
    JSON,
    LONG,
    NO_PAGER,
    OUTPUT,
    QUIET,
    Output,
    emit,
    emit_parts,
    format_of,
    refuse_hopeless_file,
    refuse_quiet,
    style_of,
)
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.documents import read_documents
from tcpdoctor.kernel.files import read_text_file
from tcpdoctor.kernel.text import clean
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.report.document import as_json, json_lines
from tcpdoctor.report.fleet import fleet_html, fleet_markdown, fleet_short, fleet_text

FleetFormat = Literal["text", "json", "jsonl", "markdown", "html"]
_FAIL_ON = {"warning": Severity.WARNING, "critical": Severity.CRITICAL, "never": None}
_LARGEST_LIST = 8 << 20
"""Bytes of a list of hosts: a hundred thousand long names."""


class Request(NamedTuple):
    """What the user asks for: each field is an option."""

    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="What `check --format json` wrote: files, folders, or - for standard input; several "
            "reports may follow each other in one of them.",
        ),
    ]
    expect: Annotated[
        Path | None,
        typer.Option("--expect", metavar="FILE", help="The hosts that should report, one on each line."),
    ] = None
    names: Annotated[
        Literal["host", "file"],
        typer.Option("--names", help="Name a host as its report does, or as its file is called."),
    ] = "host"
    max_age: Annotated[
        float,
        typer.Option(
            "--max-age", metavar="SECONDS", min=0, help="Older reports show nothing any more; 0: all count."
        ),
    ] = 86_400.0
    hosts: Annotated[
        int, typer.Option("--hosts", metavar="N", min=1, help="How many hosts are named one by one.")
    ] = 20
    fail_on: Annotated[
        Literal["warning", "critical", "never"],
        typer.Option("--fail-on", help="The least severity that changes the exit code."),
    ] = "warning"
    quiet: QUIET = False
    long: LONG = False
    output_format: Annotated[
        FleetFormat,
        typer.Option("--format", help="For people, machines (jsonl: a host a line), tickets, or as a page."),
    ] = "text"
    as_json: JSON = False
    output: OUTPUT = None
    color: COLOR = "auto"
    no_pager: NO_PAGER = False


@takes(Request)
def fleet(asked: Request) -> None:
    """Merge the reports of many hosts: worst first, alike told once.

    The short form has the hosts, and of each finding what to type; --long prints all that they said.

    Exits 2 if a host is critical, 1 if one has a warning, 3 where nothing is worse than that something is
    not known (a host sent nothing, could not look, or long ago; a file is no report), else 0.
    """
    if not math.isfinite(asked.max_age):
        raise typer.BadParameter("give a number of seconds", param_hint="--max-age")
    kind = format_of(asked.output_format, asked.as_json)
    target = Output(kind, asked.output, asked.color, pager=not asked.no_pager, long=asked.long)
    refuse_quiet(asked.quiet, target.format)
    refuse_hopeless_file(target)
    answer = _merged(asked, asked.hosts if kind in ("json", "jsonl") else max(1000, asked.hosts))
    if asked.quiet:
        answer = loud_fleet(answer, _FAIL_ON[asked.fail_on])
    if not asked.quiet or answer.exit_code:
        _tell(answer, asked.hosts, target)
    raise typer.Exit(answer.exit_code)


def _merged(asked: Request, most_named: int) -> FleetAnswer:
    expected = None if asked.expect is None else _expected(asked.expect)
    merged = Fleet(name_by_file=asked.names == "file")
    for path in asked.files:
        for document in read_documents(path):
            merged.add(document)
    return merged.conclude(
        time.time(),
        max_age=asked.max_age or None,
        expected=expected,
        fail_on=_FAIL_ON[asked.fail_on],
        most_named=most_named,
        version=__version__,
    )


def _expected(path: Path) -> list[str]:
    """Return the names in a list of hosts: one on each line, `#` begins a remark."""
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


def _tell(answer: FleetAnswer, most: int, target: Output) -> None:
    match target.format:
        case "json":
            emit_parts(json_lines(answer), target)
        case "jsonl":
            emit_parts((json.dumps(as_json(host), allow_nan=False) + "\n" for host in answer.hosts), target)
        case "markdown":
            emit(fleet_markdown(answer, most), target)
        case "html":
            emit(fleet_html(answer, most), target)
        case _:
            told = fleet_text if target.long else fleet_short
            emit(told(answer, most, style_of(target)), target)
