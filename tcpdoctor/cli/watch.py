"""`tcpdoctor watch`: what check says, live, with what grows and when it will be too much."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tcpdoctor.cli.options import EVERY, NETNS, duration, look_from, takes
from tcpdoctor.cli.output import COLOR, Output, complain, emit_line, style_of
from tcpdoctor.errors import QuestionError
from tcpdoctor.named_tuples import NamedTuple

if TYPE_CHECKING:
    from tcpdoctor.answers.watch import Watch
    from tcpdoctor.answers.watching import Watcher

_SHORTEST, _LONGEST = 0.2, 3600.0
_MOST_LOOKS = 1_000_000_000
_MOST_RECORDINGS = 10_000


class Request(NamedTuple):
    """What the user asks for: each field is an option."""

    recordings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE]...", help="Further recordings, behind --from FILE."),
    ] = None
    interval: Annotated[
        float,
        typer.Option("--interval", metavar="TIME", parser=duration, help="Time between looks: 2, 10s, 5m."),
    ] = 2.0
    looks: Annotated[
        int | None,
        typer.Option("--count", metavar="N", min=1, max=_MOST_LOOKS, help="End after N looks."),
    ] = None
    plain: Annotated[
        bool, typer.Option("--plain", help="A line a look instead of a screen, as in a pipe.")
    ] = False
    netns: NETNS = None
    from_: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="FILE", help="Step through recordings instead of looking."),
    ] = None
    color: COLOR = "auto"


@takes(Request)
def watch(asked: Request) -> None:
    """Show the same live: what comes, what grows, when it is full.

    On a terminal it is a screen: the answer of check, sockets by state, who holds those that are not closed,
    ports left towards each destination, accept queues; ? shows its keys. In a pipe it is a line a look. It
    takes less than 2 % of a core beside 10,000 sockets, every 2 s. Ctrl-C ends it, with 0.
    """
    _refuse_nonsense(asked)
    paths = [*(asked.from_ or []), *(asked.recordings or [])]
    style = style_of(Output("text", None, asked.color, netns=asked.netns))
    on_screen = _has_screen(plain=asked.plain)
    look_from(None if paths else asked.netns)
    if not on_screen:
        _print_lines(paths, asked.interval, asked.looks)
        return
    from tcpdoctor.cli.watch_screen import Live, Recorded, show_screen

    every = asked.interval
    source = Recorded(_recorded(paths, every)) if paths else Live(_watcher(every), asked.looks)
    ended = show_screen(source, colored=style.color, there=style)
    if ended is not None and ended != signal.SIGINT:
        signal.signal(ended, signal.SIG_DFL)
        os.kill(os.getpid(), ended)


def _has_screen(*, plain: bool) -> bool:
    """Whether there is a screen to show, and it is wanted; why there is none is told where it was."""
    streams = (sys.stdin, sys.stdout)  # None where it is closed
    if plain or not all(stream is not None and stream.isatty() for stream in streams):
        return False
    from tcpdoctor.cli.terminal import why_no_screen

    why = why_no_screen()
    if why is not None:
        complain(f"tcpdoctor watch: {why}; a line a look instead, as with --plain")
    return why is None


def _refuse_nonsense(asked: Request) -> None:
    """Refuse what cannot be meant.

    Raises:
        typer.BadParameter: With what may be given instead.
        QuestionError: With the command that answers it.
    """
    from_, more = asked.from_ or (), asked.recordings or ()
    if not _SHORTEST <= asked.interval <= _LONGEST:
        text = f"give {_SHORTEST:g} to {_LONGEST:g} seconds, not {asked.interval:g}"
        raise typer.BadParameter(text, param_hint="--interval")
    if more and not from_:
        from tcpdoctor.cli.usage import question_of  # only a mistake pays for it

        question = question_of(more)
        told = f"; did you mean: tcpdoctor explain {question}" if question else ""
        raise QuestionError(
            f"{more[0]!r} is no option; recordings follow --from, as in: watch --from A B{told}"
        )
    if from_ and asked.netns is not None:
        text = "does not go with --from: a recording has its namespace"
        raise typer.BadParameter(text, param_hint="--netns")
    if asked.netns == EVERY:
        text = f"{EVERY} cannot be watched at once; name one, or press n on the screen"
        raise typer.BadParameter(text, param_hint="--netns")
    if len(from_) + len(more) > _MOST_RECORDINGS:
        raise typer.BadParameter(f"at most {_MOST_RECORDINGS} recordings", param_hint="--from")


def _watcher(interval: float) -> "Watcher":
    from tcpdoctor.answers.rules import load_rules
    from tcpdoctor.answers.watching import Watcher

    return Watcher(load_rules(), interval)


def _recorded(paths: Sequence[str], interval: float) -> "list[Watch]":
    from tcpdoctor.answers.rules import load_rules
    from tcpdoctor.answers.watching import watch_recordings
    from tcpdoctor.recordings.opened import open_recording

    return watch_recordings([open_recording(path) for path in paths], load_rules(), interval)


def _print_lines(paths: Sequence[str], interval: float, count: int | None) -> None:
    """Print a line a look until somebody has seen enough."""
    from tcpdoctor.report.watch_page import plain_line

    try:
        if paths:
            for shown in _recorded(paths, interval)[:count]:
                if not emit_line(plain_line(shown)):
                    return
            return
        watcher, due = _watcher(interval), time.monotonic()
        done = 0
        while True:
            if not emit_line(plain_line(watcher.look())):
                return
            done += 1
            if done == count:
                return
            due = max(due + watcher.interval(), time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
    except KeyboardInterrupt:
        return  # whoever watches ends it so: that is no failure
