"""`--netns all`: the same question to every network namespace of this host, and one answer."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from tcpdoctor.cli.output import (
    UNKNOWN,
    Output,
    complain,
    emit,
    emit_parts,
    laid_out,
    say,
    style_of,
)
from tcpdoctor.cli.waiting import ends_with_what_is_known, said_to_take, was_cut_short
from tcpdoctor.kernel.reading import INTERRUPTED
from tcpdoctor.report.host import plural

if TYPE_CHECKING:  # most ask one namespace
    from tcpdoctor.answers.everywhere import Everywhere, Unseen
    from tcpdoctor.kernel.reading import JsonValue
    from tcpdoctor.report.page import Block
    from tcpdoctor.report.style import Style

_Answer = TypeVar("_Answer")


def ask(
    look: Callable[[], _Answer],
    page: "Callable[[_Answer, Style], Iterable[Block]]",
    output: Output,
    *,
    takes: float = 0.0,
) -> None:
    """Look, and print the finished answer as `say` does; or the answers of all network namespaces.

    Args:
        look: What it returns can be pickled.
        page: Makes blocks of it.
        output: Where, how, and whether everywhere.
        takes: Seconds that the look takes, most of them asleep.

    Raises:
        OutputError: It could not be written; a file is then as it was before.
        typer.Exit: With 3, where a network namespace could not be looked at, or where somebody interrupted
            the look; the others have been told, and what was known by then.
    """
    if output.everywhere:
        ask_everywhere(look, page, output, takes=takes)
        return
    in_part = _is_wanted_in_part(output)
    with said_to_take(takes), ends_with_what_is_known(wanted=in_part):
        answer = look()
    if in_part and was_cut_short():
        emit(_CUT_SHORT + laid_out(page(answer, style_of(output)), output), output)
        raise typer.Exit(UNKNOWN)
    say(answer, page, output)


_CUT_SHORT = f"INCOMPLETE: {INTERRUPTED.reason}\n"


def _is_wanted_in_part(output: Output) -> bool:
    """Whether somebody may read an answer in part: a document or a file is all or nothing."""
    return output.format == "text" and output.file is None


def ask_everywhere(
    look: Callable[[], _Answer],
    page: "Callable[[_Answer, Style], Iterable[Block]]",
    output: Output,
    *,
    takes: float = 0.0,
    encoded: Callable[[_Answer], str] | None = None,
) -> None:
    """Ask every network namespace and print the answers; arguments and errors as of `ask`.

    `encoded`, where it is given, makes the text of the JSON at once.
    """
    from tcpdoctor.answers.everywhere import look_everywhere
    from tcpdoctor.kernel.workers import at_once

    found = look_everywhere(
        at_once(look),
        each_waits=takes > 0,
        waiting=said_to_take(takes),
        in_part=_is_wanted_in_part(output),
    )
    print_everywhere(found, page, output, encoded=encoded)
    end_of_all(found)


def print_everywhere(
    found: "Everywhere",
    page: "Callable[[Any, Style], Iterable[Block]]",
    output: Output,
    *,
    encoded: Callable[[Any], str] | None = None,
) -> None:
    """Print the answers of all namespaces; arguments as of `ask_everywhere`."""
    if output.format == "json":
        import json

        from tcpdoctor.report.document import as_json

        also: dict[str, JsonValue] = {"also": [command for _, command in output.also]} if output.also else {}

        def encode(answer: Any) -> str:
            return json.dumps({**as_json(answer), **also}, indent=1, allow_nan=False)

        emit_parts(namespaces_parts(found, map(encoded or encode, (each for _, each in found.told))), output)
    else:
        cut_short = any(one.reason == INTERRUPTED.reason for one in found.unseen)
        text = laid_out(_under_headings(found, page, style_of(output)), output)
        emit(_CUT_SHORT * cut_short + text, output)


def end_of_all(found: "Everywhere") -> None:
    """Say what could not be looked at.

    Raises:
        typer.Exit: With 3, where that is so.
    """
    complain_of(found.unseen, found.hidden)
    if found.unseen:
        raise typer.Exit(UNKNOWN)


def complain_of(unseen: "Sequence[Unseen]", hidden: int) -> None:
    """Say on stderr which namespaces could not be looked at, and that there may be more."""
    for each in unseen:
        complain(f"tcpdoctor: {each.place.label}: {each.reason}")
    if hidden:
        remedy = "" if os.geteuid() == 0 else "; run as root"
        who = plural(hidden, "process", "processes")
        complain(f"tcpdoctor: {who} did not show a network namespace: there may be more{remedy}")


def _under_headings(
    found: "Everywhere", page: "Callable[[Any, Style], Iterable[Block]]", style: "Style"
) -> "Iterator[Block]":
    """Yield each answer below the name of its namespace."""
    from tcpdoctor.report.page import Heading, Inset, Prose, Section

    for place, answer in found.told:
        here = ", where this was started" if place.own else ""
        way = (Prose(f"(to run a command there: {place.way} COMMAND)", faint=True),) if place.way else ()
        yield Section(
            "",
            (
                Heading(f"{place.label}{here}"),
                *way,
                Inset(tuple(page(answer, style._replace(netns=place.netns, way=place.way or ""))), 0),
            ),
        )
    for one in found.unseen:
        yield Section("", (Heading(one.place.label), Prose(one.reason)))


def namespaces_parts(found: "Everywhere", documents: Iterator[str]) -> Iterator[str]:
    """Yield the text of one object of schema tcpdoctor.namespaces/1, of documents that are JSON by now."""
    yield '{\n "schema": "tcpdoctor.namespaces/1",\n "answers": ['
    before = "\n"
    for document in documents:
        yield before + document.rstrip("\n")
        before = ",\n"
    import json

    from tcpdoctor.answers.verdict import failed_namespace
    from tcpdoctor.report.document import as_json

    failed = [as_json(failed_namespace(one)) for one in found.unseen]
    yield f'],\n "failed": {json.dumps(failed)},\n "hidden_processes": {found.hidden}\n}}\n'
