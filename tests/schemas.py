"""Every JSON document that the tests get from the program is what its schema says, and no more.

The schemas that are shipped allow keys that they do not name, for later versions. Here they are closed, so
that a key cannot be printed without being described.
"""

import functools
import json
from typing import Any

from jsonschema import Draft202012Validator

from tcpdoctor.cli.schema import load_schema

Document = dict[str, Any]


def assert_described(document: Document) -> Document:
    """The document is valid by the schema that it names, and every key of it is described there."""
    name = document["schema"].removeprefix("tcpdoctor.").removesuffix("/1")
    faults = sorted(_validator(name).iter_errors(document), key=lambda fault: list(map(str, fault.path)))
    told = [f"{'.'.join(map(str, fault.absolute_path))}: {fault.message[:300]}" for fault in faults]
    assert not told, f"schema {name}: {told}"
    for key in ("checks", "answers", "processes"):
        for inner in document.get(key) or []:
            if "schema" in inner:
                assert_described(inner)
    return document


def described(text: str) -> Document:
    """Parse what the program printed; see `assert_described`."""
    document: Document = json.loads(text, parse_constant=_refuse)
    return assert_described(document)


def closed(node: Any) -> Any:
    """The same schema without room for keys that it does not name."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    tight = {key: closed(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict) and "additionalProperties" not in node:
        tight["additionalProperties"] = False
    return tight


@functools.cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(closed(load_schema(name)), format_checker=Draft202012Validator.FORMAT_CHECKER)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
