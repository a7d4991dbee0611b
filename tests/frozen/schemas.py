"""JSON Schemas as flat promises: for each place in a document its types, values and required keys."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tcpdoctor.cli.schema import load_schema, schema_names

FOLDER = Path(__file__).parent / "schemas"


class Promise(NamedTuple):
    """What a schema says of one place."""

    place: str
    says: str
    """``type integer``, ``value "ok"``, ``key host``, ``required host``."""


def promises(schema: dict[str, Any]) -> frozenset[Promise]:
    """Every promise of a schema, its references followed."""
    definitions = schema.get("$defs", {})
    return frozenset(_of(schema, "", definitions))


def _of(node: dict[str, Any], place: str, definitions: dict[str, Any]) -> Iterator[Promise]:
    if "$ref" in node:
        yield from _of(definitions[node["$ref"].removeprefix("#/$defs/")], place, definitions)
        return
    for other in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        yield from _of(other, place, definitions)
    types = node.get("type", [])
    for name in [types] if isinstance(types, str) else types:
        yield Promise(place, f"type {name}")
    values = [*node.get("enum", ()), *([node["const"]] if "const" in node else ())]
    for value in values:
        yield Promise(place, f"value {json.dumps(value)}")
        yield Promise(place, f"type {_type_of(value)}")
    for key in node.get("required", ()):
        yield Promise(place, f"required {key}")
    for key, below in node.get("properties", {}).items():
        yield Promise(place, f"key {key}")
        yield from _of(below, f"{place}.{key}", definitions)
    for word, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(node.get(word), dict):
            yield from _of(node[word], place + mark, definitions)


def _type_of(value: object) -> str:
    if value is None:
        return "null"
    return {bool: "boolean", int: "integer", str: "string"}[type(value)]


def frozen(name: str) -> dict[str, Any]:
    """The schema as it was promised."""
    schema: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return schema


def main() -> None:
    """Freeze what the program prints today, unless that would take a promise back."""
    for name in schema_names():
        path = FOLDER / f"{name}.json"
        schema = load_schema(name)
        lost = promises(frozen(name)) - promises(schema) if path.exists() else frozenset()
        if lost:
            sys.exit(f"{name}: {len(lost)} promises would go, such as {min(lost)}")
        path.write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
