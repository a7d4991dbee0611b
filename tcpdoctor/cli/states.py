"""`tcpdoctor states`: how many sockets are in which state."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tcpdoctor.answers.states import StatesAnswer, look_by, look_plain
from tcpdoctor.cli.everywhere import ask
from tcpdoctor.cli.options import FROM, NETNS, source_from
from tcpdoctor.cli.output import COLOR, FORMAT, JSON, OUTPUT, Output, format_of

if TYPE_CHECKING:
    from tcpdoctor.report.page import Block
    from tcpdoctor.report.style import Style


def states(
    *,
    by: Annotated[
        Literal["port", "peer", "process"] | None,
        typer.Option("--by", help="Also count per local port, peer address or process."),
    ] = None,
    netns: NETNS = None,
    from_: FROM = None,
    output_format: FORMAT = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """Count the sockets in each TCP state.

    Bound sockets are those that neither listen nor are connected. What is not known says so, and why.
    """
    source = source_from(from_, netns)
    target = Output(format_of(output_format, as_json), output, color, netns=netns, source=source)
    ask(look_plain if by is None else partial(look_by, by), _page, target)


def _page(answer: StatesAnswer, style: "Style") -> "list[Block]":
    from tcpdoctor.report.states_text import states_page  # JSON does without it

    return states_page(answer, style)
