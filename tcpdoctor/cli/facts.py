"""`tcpdoctor facts`: what a rule may ask, and the answers here and now."""

from typing import Annotated, Literal

import typer

from tcpdoctor.answers.facts import look_at_facts, wanted_facts
from tcpdoctor.cli.everywhere import ask
from tcpdoctor.cli.options import FROM, NETNS, WINDOW, recording_from, refuse_bad_window
from tcpdoctor.cli.output import COLOR, FORMAT, JSON, NO_PAGER, OUTPUT, Output, emit, format_of
from tcpdoctor.facts.subject import Scope
from tcpdoctor.report.rules_text import facts_page


def facts(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="Only facts whose names begin so: close_wait, TcpExt.Listen."
        ),
    ] = None,
    *,
    scope: Annotated[
        Literal["host", "listener", "process", "port", "destination"] | None,
        typer.Option("--scope", help="Only facts of this scope; those of the host can be used in any."),
    ] = None,
    only_names: Annotated[
        bool, typer.Option("--names", help="Only their names, one on each line; nothing is looked at.")
    ] = False,
    window: WINDOW = 1.0,
    netns: NETNS = None,
    from_: FROM = None,
    output_format: FORMAT = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
    color: COLOR = "auto",
    no_pager: NO_PAGER = False,
) -> None:
    """List the facts that rules may use, with their values here.

    Each with its unit, its meaning and where it can be seen without this program. What could not be
    read says why. Counters show how much they grew between the two samples.
    """
    refuse_bad_window(window)
    wanted = wanted_facts(names or [], Scope(scope) if scope else None)
    target = Output(format_of(output_format, as_json), output, color, netns=netns, pager=not no_pager)
    if only_names:
        if target.format == "json":
            raise typer.BadParameter("prints text; without it JSON has the names too", param_hint="--names")
        emit("\n".join(fact.name for known in wanted.values() for fact in known), target)
        return
    recording = recording_from(from_, netns, None if window == 1.0 else window)
    if recording is not None:
        target, window = target._replace(source=recording.source), 0.0
    ask(lambda: look_at_facts(wanted, window), facts_page, target, takes=window)
