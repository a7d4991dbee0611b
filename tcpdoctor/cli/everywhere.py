"""`--netns all`: the same question to every network namespace of this host, and one answer."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from tcpdoctor.cli.output import (
    UNKNOWN,
    Output,
    complain,
    emit,
    emit_parts,
    say,
    style_of,
)
from tcpdoctor.cli.waiting import ends_with_what_is_known, said_to_take, was_cut_short
from tcpdoctor.report.host import plural

if TYPE_CHECKING:  # most ask one namespace
    from tcpdoctor.answers.everywhere import Everywhere, Place, Unseen
    from tcpdoctor.kernel.reading import JsonValue
    from tcpdoctor.report.style import Style

_Answer = TypeVar("_Answer")


def ask(
    look: Callable[[], _Answer],
    text: "Callable[[_Answer, Style], str]",
    output: Output,
    *,
    takes: float = 0.0,
) -> None:
    """Look, and print the finished answer as `say` does; or the answers of all network namespaces.

    Args:
        look: What it returns can be pickled.
        text: Makes a page of it.
        output: Where, how, and whether everywhere.
        takes: Seconds that the look takes, most of them asleep.

    Raises:
        OutputError: It could not be written; a file is then as it was before.
        typer.Exit: With 3, where a network namespace could not be looked at, or where somebody interrupted
            the look; the others have been told, and what was known by then.
    """
    if output.everywhere:
        ask_everywhere(look, text, output, takes=takes)
        return
    in_part = output.format == "text" and output.file is None
    with said_to_take(takes), ends_with_what_is_known(wanted=in_part):
        answer = look()
    if in_part and was_cut_short():
        emit("INCOMPLETE: interrupted before all was read\n" + text(answer, style_of(output)), output)
        raise typer.Exit(UNKNOWN)
    say(answer, text, output)


def ask_everywhere(
    look: Callable[[], _Answer],
    text: "Callable[[_Answer, Style], str]",
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

    found = look_everywhere(at_once(look), each_waits=takes > 0, waiting=said_to_take(takes))
    print_everywhere(found, text, output, encoded=encoded)
    end_of_all(found)


def print_everywhere(
    found: "Everywhere",
    text: "Callable[[Any, Style], str]",
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
        emit(under_headings(found, text, style_of(output)), output)


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


def under_headings(found: "Everywhere", text: "Callable[[Any, Style], str]", style: "Style") -> str:
    """Return each answer below the name of its namespace."""
    parts = [
        f"{_heading(place, style)}\n{text(answer, style._replace(netns=place.netns))}".rstrip("\n") + "\n"
        for place, answer in found.told
    ]
    parts += [f"{_heading(one.place, style)}\n{style.wrap(one.reason)}\n" for one in found.unseen]
    return "\n".join(parts)


def _heading(place: "Place", style: "Style") -> str:
    here = ", where this was started" if place.own else ""
    return style.bold(style.wrap(f"=== {place.label}{here}", "    ", ""))


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
