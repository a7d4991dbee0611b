"""`tcpdoctor diff A B`: what is different between two recordings."""

from typing import Annotated

import typer

from tcpdoctor.cli.everywhere import ask
from tcpdoctor.cli.options import duration
from tcpdoctor.cli.output import COLOR, JSON, NO_PAGER, OUTPUT, PAGE_FORMAT, Output, format_of
from tcpdoctor.errors import QuestionError

_HELP = "A recording: snapshot, sosreport, pasted output of ss, netstat ...; - is standard input."


def diff(
    before: Annotated[str, typer.Argument(metavar="A", help=_HELP)],
    after: Annotated[str, typer.Argument(metavar="B", help="Another one, mostly of the same host.")],
    *,
    window: Annotated[
        float | None,
        typer.Option(
            "-w",
            "--window",
            metavar="TIME",
            parser=duration,
            help="Time between them, where they do not tell: 10, 10s, 5m.",
        ),
    ] = None,
    output_format: PAGE_FORMAT = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
    color: COLOR = "auto",
    no_pager: NO_PAGER = False,
) -> None:
    """Compare two recordings: what appeared, grew and went.

    The earlier one is told first, whatever the order. Exits 0 whatever is different, and 3 where one of them
    could not be read.
    """
    if before == after == "-":
        raise QuestionError("standard input is one recording; give a file for the other one")
    if window is not None and window <= 0:
        raise typer.BadParameter("is the time between the recordings: above 0", param_hint="--window")
    from tcpdoctor.answers.diff import compare_recordings
    from tcpdoctor.recordings.opened import open_recording
    from tcpdoctor.report.diff_text import diff_page

    target = Output(format_of(output_format, as_json), output, color, pager=not no_pager)
    one, other = open_recording(before), open_recording(after)
    ask(lambda: compare_recordings(one, other, window), diff_page, target)
