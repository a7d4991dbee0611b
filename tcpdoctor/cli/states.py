"""`tcpdoctor states`: how many sockets are in which state."""

from typing import Annotated, Literal

import typer

from tcpdoctor.cli.options import NETNS, look_from
from tcpdoctor.cli.output import COLOR, FORMAT, JSON, OUTPUT, Output, emit, emit_json, format_of, style_of


def states(
    *,
    by: Annotated[
        Literal["port", "peer", "process"] | None,
        typer.Option("--by", help="Also count per local port, peer address or process."),
    ] = None,
    netns: NETNS = None,
    output_format: FORMAT = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """Count the sockets in each TCP state.

    Bound sockets are those that neither listen nor are connected. What is not known says so, and why.
    """
    look_from(netns)
    from tcpdoctor.answers.states import look_by, look_plain

    answer = look_plain() if by is None else look_by(by)
    target = Output(format_of(output_format, as_json), output, color)
    if target.format == "json":
        from tcpdoctor.report.states_json import states_answer_json

        emit_json(states_answer_json(answer), target)
    else:
        from tcpdoctor.report.states_text import states_answer_text

        emit(states_answer_text(answer, style_of(target)), target)
