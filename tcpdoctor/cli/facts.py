"""`tcpdoctor facts`: what a rule may ask, and the answers here and now."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from tcpdoctor.cli.options import NETNS, WINDOW, look_from, refuse_bad_window
from tcpdoctor.cli.output import (
    COLOR,
    FORMAT,
    JSON,
    OUTPUT,
    Output,
    emit,
    emit_json,
    format_of,
    said_to_take,
    style_of,
)

if TYPE_CHECKING:
    from tcpdoctor.facts.fact import Fact
    from tcpdoctor.facts.subject import Scope


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
    output_format: FORMAT = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
    color: COLOR = "auto",
) -> None:
    """List the facts that rules may use, with their values here.

    Each with its unit, its meaning and where it can be seen without this program. What could not be
    read says why. Counters show how much they grew between the two samples.
    """
    from tcpdoctor.answers.facts import gather
    from tcpdoctor.facts.subject import Scope

    refuse_bad_window(window)
    wanted = _wanted(names or [], Scope(scope) if scope else None)
    target = Output(format_of(output_format, as_json), output, color)
    if only_names:
        if target.format == "json":
            raise typer.BadParameter("prints text; without it JSON has the names too", param_hint="--names")
        emit("\n".join(fact.name for known in wanted.values() for fact in known), target)
        return
    look_from(netns)
    with said_to_take(window):
        from tcpdoctor.kernel.live import take_samples

        samples = take_samples(window, every_listener=True)
    listing = gather(samples, wanted)
    if target.format == "json":
        from tcpdoctor.report.facts_json import facts_json

        emit_json(facts_json(listing), target)
    else:
        from tcpdoctor.report.facts_text import facts_text

        emit(facts_text(listing, style_of(target)), target)


def _wanted(beginnings: list[str], scope: "Scope | None") -> "dict[Scope, Sequence[Fact]]":
    """Return the facts to list, by scope.

    Raises:
        QuestionError: A beginning fits no fact of these scopes; with the nearest that there is.
    """
    from tcpdoctor.facts.subject import Scope
    from tcpdoctor.facts.vocabulary import own_facts

    scopes = [scope] if scope else list(Scope)
    found = {one: own_facts(one) for one in scopes}
    everything = [fact.name for one in scopes for fact in found[one]]
    for beginning in beginnings:
        if not any(name.startswith(beginning) for name in everything):
            _complain(beginning, everything, scope)
    if not beginnings:
        return found
    chosen: dict[Scope, Sequence[Fact]] = {
        one: [fact for fact in known if fact.name.startswith(tuple(beginnings))]
        for one, known in found.items()
    }
    return {one: known for one, known in chosen.items() if known}


def _complain(beginning: str, names: list[str], scope: "Scope | None") -> NoReturn:
    from tcpdoctor.diagnosis.table import nearest
    from tcpdoctor.errors import QuestionError

    where = f" of scope {scope.value}" if scope else ""
    guess = nearest(beginning, names)
    hint = f"did you mean {guess}?" if guess else "tcpdoctor facts --window 0 lists them all"
    raise QuestionError(f"no fact{where} begins with {beginning!r}; {hint}")
