"""`tcpdoctor trace`: how connections end, as they do."""

from collections.abc import Iterator
from signal import SIGINT, default_int_handler, getsignal, signal
from typing import Annotated, Literal

import typer

from tcpdoctor.answers.ended import EndedConnection
from tcpdoctor.answers.ends import parse_peer
from tcpdoctor.answers.trace import Trace, TraceItem, TraceQuestion
from tcpdoctor.answers.words import pids_of, port_of
from tcpdoctor.cli.options import EVERY, NETNS, duration, look_from, takes
from tcpdoctor.cli.output import (
    COLOR,
    FORMAT,
    JSON,
    OUTPUT,
    Output,
    complain,
    emit_as_it_comes,
    format_of,
    laid_out,
    style_of,
)
from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.text import is_whole
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.report.document import json_line
from tcpdoctor.report.host import plural
from tcpdoctor.report.trace_text import connection_text, trace_page

_LONGEST = 604_800.0
_LEAST_BUFFER, _MOST_BUFFER = 1 / 128, 1024.0
"""MiB a processor."""


class Request(NamedTuple):
    """What the user asks for: each field is an option."""

    port: Annotated[
        str | None, typer.Option("-p", "--port", metavar="N", help="Only connections with it at either end.")
    ] = None
    pid: Annotated[
        str | None, typer.Option("--pid", metavar="N|NAME", help="Only those of this process.")
    ] = None
    peer: Annotated[
        str | None, typer.Option("--peer", metavar="ADDR[:PORT]", help="Only those with this peer.")
    ] = None
    seconds: Annotated[
        float | None,
        typer.Option(
            "--for", metavar="TIME", parser=duration, help="How long: 10, 10s, 5m; else until Ctrl-C."
        ),
    ] = None
    buffer: Annotated[
        float | None,
        typer.Option("--buffer", metavar="MB", help="Memory for events a processor (16; 256 in all)."),
    ] = None
    netns: NETNS = None
    output_format: FORMAT = "text"
    as_json: JSON = False
    output: OUTPUT = None
    color: COLOR = "auto"
    lesson: Annotated[Literal["lesson"] | None, typer.Option("--as", hidden=True)] = None
    """As the lab shows it: the first connections and the summary."""


@takes(Request)
def trace(asked: Request) -> None:
    """Tell of connections as they end: who closed first, and why.

    A line as each ends: who closed first, how long each state lasted, bytes, round trip, and why. The last
    is a summary: whose TIME_WAIT it is, who resets whom, who never answered, and which side ends idle
    connections that the other still uses. Ctrl-C ends it with the summary and exit 0. Both ends of a
    connection count where both are in this network namespace.
    """
    kind = format_of(asked.output_format, asked.as_json)
    target = Output(kind, asked.output, asked.color, netns=asked.netns)
    question = _question(asked)
    if asked.netns == EVERY:
        raise QuestionError("--netns all: trace looks at one network namespace; give its name or a process")
    look_from(asked.netns)
    ended = _ends_by_interrupt()
    with Trace(question) as looking:
        for remark in looking.missing.values() if not looking.sees_events else ():
            complain(f"tcpdoctor trace: not all can be told: {remark}")
            break
        if "buffer" in looking.missing:
            complain(f"tcpdoctor trace: {looking.missing['buffer']}")
        until = "Ctrl-C" if asked.seconds is None else f"{asked.seconds:g} s are over"
        complain(f"tcpdoctor trace: looking until {until}")
        lines = _lines if asked.lesson is None else _lines_of_lesson
        emit_as_it_comes(lines(looking.follow(lambda: bool(ended)), target), target)


def _question(asked: Request) -> TraceQuestion:
    seconds, buffer, pid = asked.seconds, asked.buffer, asked.pid
    if seconds is not None and not 0 < seconds <= _LONGEST:
        raise typer.BadParameter(f"{seconds:g} is no time to look; give 1 s to 7 days", param_hint="--for")
    if buffer is not None and not _LEAST_BUFFER <= buffer <= _MOST_BUFFER:
        raise typer.BadParameter(
            f"{buffer:g} is no size; give 0.01 to {_MOST_BUFFER:g} MB a processor", param_hint="--buffer"
        )
    return TraceQuestion(
        port=None if asked.port is None else port_of(asked.port)[1],
        pids=() if pid is None else pids_of(pid),
        name=None if pid is None or is_whole(pid) else pid,
        peer=None if asked.peer is None else parse_peer(asked.peer),
        seconds=float("inf") if seconds is None else seconds,
        buffer=buffer,
    )


def _ends_by_interrupt() -> list[int]:
    """Let Ctrl-C end the look with its summary, a second one at once; a shell's background ignores both."""
    came: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        came.append(number)
        signal(SIGINT, default_int_handler)

    if getsignal(SIGINT) is default_int_handler:
        signal(SIGINT, interrupt)
    return came


def _lines(items: Iterator[TraceItem], target: Output) -> Iterator[str]:
    style = style_of(target)
    for item in items:
        if target.format == "json":
            yield json_line(item) + "\n"
        elif isinstance(item, EndedConnection):
            yield connection_text(item, style) + "\n"
        else:
            yield laid_out(trace_page(item), target) + "\n"


_LESSON_LINES = 6
"""Of connections, where a lesson shows what a trace tells."""


def _lines_of_lesson(items: Iterator[TraceItem], target: Output) -> Iterator[str]:
    """The first connections, how many lines more there were, and the summary."""
    style, told = style_of(target), list[str]()
    for item in items:
        if isinstance(item, EndedConnection):
            told += connection_text(item, style).splitlines()
            continue
        more = len(told) - _LESSON_LINES
        shown = told[:_LESSON_LINES] + ([f"[... {plural(more, 'more line')}]"] if more > 0 else [])
        yield "\n".join([*shown, "", laid_out(trace_page(item), target)]) + "\n"
