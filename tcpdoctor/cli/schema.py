"""`tcpdoctor schema`: what the JSON of every command looks like, for programs that read it."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from tcpdoctor.cli.output import FORMAT, JSON, OUTPUT, Output, emit, format_of, say
from tcpdoctor.knowledge.resource import bare, find_name
from tcpdoctor.report.page import Fields
from tcpdoctor.report.schemas import load_schema, schema_list, schema_names

if TYPE_CHECKING:
    from tcpdoctor.answers.about import SchemaList
    from tcpdoctor.report.page import Block
    from tcpdoctor.report.style import Style


def schema(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="For example check; without it, the names are listed."),
    ] = None,
    *,
    output_format: FORMAT = "text",
    as_json: JSON = False,
    output: OUTPUT = None,
) -> None:
    """Print the JSON Schema of what --format json prints.

    NAME is what stands in the key "schema" of that JSON, between the point and the slash:
    tcpdoctor.check/1 is check. Later versions may add keys to any object, and never remove one.
    """
    target = Output("json" if name else format_of(output_format, as_json), output)
    if name is None:
        say(schema_list(), _names_page, target)
        return

    asked = name.removeprefix("tcpdoctor.").removesuffix("/1")
    wanted = find_name(asked, {bare(each): each for each in schema_names()}, "schema")

    emit(json.dumps(load_schema(wanted), indent=1), target)


def _names_page(answer: "SchemaList", _style: "Style") -> "list[Block]":
    return [Fields(tuple((each.name, each.says) for each in answer.schemas))]
