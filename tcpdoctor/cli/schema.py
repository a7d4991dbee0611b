"""`tcpdoctor schema`: what the JSON of every command looks like, for programs that read it."""

from typing import Annotated

import typer

from tcpdoctor.cli.output import OUTPUT, Output, emit, style_of


def schema(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="For example check; without it, the names are listed."),
    ] = None,
    *,
    output: OUTPUT = None,
) -> None:
    """Print the JSON Schema of what --format json prints.

    NAME is what stands in the key "schema" of that JSON, between the point and the slash:
    tcpdoctor.check/1 is check. Later versions may add keys to any object, and never remove one.
    """
    import json

    from tcpdoctor.knowledge.resource import bare, find_name
    from tcpdoctor.report.schemas import description_of, load_schema, schema_names

    names = schema_names()
    target = Output("json" if name else "text", output)
    if name is None:
        style = style_of(target)
        column = max(map(len, names)) + 2
        lines = (style.wrap(description_of(each), " " * column, f"{each:<{column}}") for each in names)
        emit("\n".join(lines), target)
        return
    asked = name.removeprefix("tcpdoctor.").removesuffix("/1")
    wanted = find_name(asked, {bare(each): each for each in names}, "schema")
    emit(json.dumps(load_schema(wanted), indent=1), target)
