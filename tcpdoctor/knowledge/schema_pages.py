"""JSON Schemas (2020-12) that are written by hand; `tcpdoctor.report.schemas` knows all there are.

``schemas/NAME.json`` describes the object whose key ``schema`` is ``tcpdoctor.NAME/1``. What several have in
common stands once, in ``schemas/parts.json``; a schema may also refer to another one by its name.

Keys may be added to any object later and none is removed, so no schema forbids keys that it does not name.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from tcpdoctor.knowledge.resource import list_names, read_text

Schema: TypeAlias = dict[str, Any]

_FOLDER = "schemas"
_PARTS = "parts"
_REFERENCE = "#/$defs/"
_ABOUT_ITSELF = ("$schema", "$id")


def file_names() -> tuple[str, ...]:
    """Return the names that `load_file` knows, sorted."""
    names = {name.removesuffix(".json") for name in list_names(_FOLDER, ".json")}
    return tuple(sorted(names - {_PARTS}))


def load_file(name: str, load_other: Callable[[str], Schema]) -> Schema:
    """Return one schema with all that it refers to under ``$defs``.

    Args:
        name: Of the file.
        load_other: Returns a schema that this one refers to by its name, and that is no common part.

    Raises:
        FileNotFoundError: There is none of that name.
    """
    schema = _read(name)
    known: Mapping[str, Schema] = _read(_PARTS)["$defs"]
    definitions: dict[str, Schema] = {}
    waiting = list(_references(schema))
    while waiting:
        part = waiting.pop()
        if part in definitions:
            continue
        found = known.get(part)
        if found is None:
            found = {key: value for key, value in load_other(part).items() if key not in _ABOUT_ITSELF}
            definitions |= found.pop("$defs", {})
        definitions[part] = found
        waiting += _references(found)
    return {**schema, "$defs": dict(sorted(definitions.items()))} if definitions else schema


def description_of_file(name: str) -> str:
    """Return what a schema is of, in one sentence."""
    return str(_read(name)["description"])


def _read(name: str) -> Schema:
    schema: Schema = json.loads(read_text(f"{_FOLDER}/{name}.json"))
    return schema


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str):
            yield reference.removeprefix(_REFERENCE)
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)
