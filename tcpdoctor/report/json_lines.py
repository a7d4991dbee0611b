"""JSON as text, part by part: nothing but the document itself is ever in memory."""

from collections.abc import Iterator
from json import JSONEncoder
from typing import Any

from tcpdoctor.kernel.reading import JsonValue

LONG = 100
"""Lists of more objects have each on a line of its own: the encoder in C writes it, in a tenth of time."""


def json_lines(document: dict[str, JsonValue]) -> Iterator[str]:
    """Yield the text of an object, as ``json.dumps`` with an indent of 1 but for long lists of objects.

    Raises:
        ValueError: It holds NaN or an infinite number, which JSON has not.
    """
    return _parts(document, "\n", JSONEncoder(allow_nan=False).encode)


def _parts(value: Any, line: str, encode: Any) -> Iterator[str]:
    inner = line + " "
    if isinstance(value, dict) and value:
        before = "{" + inner
        for key, item in value.items():
            yield f"{before}{encode(key)}: "
            yield from _parts(item, inner, encode)
            before = "," + inner
        yield line + "}"
    elif isinstance(value, list | tuple) and value:
        whole = len(value) > LONG and isinstance(value[0], dict)
        before = "[" + inner
        for item in value:
            yield before
            if whole:
                yield encode(item)
            else:
                yield from _parts(item, inner, encode)
            before = "," + inner
        yield line + "]"
    else:
        yield encode(value)
