"""JSON as text, part by part: nothing but the document itself is ever in memory."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from json import JSONEncoder
from typing import Any

from tcpdoctor.kernel.reading import JsonValue

LONG = 100
"""Lists of more objects have each on a line of its own: the encoder in C writes it, in a tenth of time."""


class Written:
    """The objects of a list, each as text: made when it is asked for, and let go of then."""

    def __init__(self, rows: Callable[[], Iterable[str]]) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows())


def json_lines(document: Mapping[str, JsonValue | Written]) -> Iterator[str]:
    """Yield the text of an object, as ``json.dumps`` with an indent of 1 but for long lists of objects.

    One that is written already has an object at least.

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
    elif isinstance(value, Written):
        before = "[" + inner
        for row in value:
            yield before + row
            before = "," + inner
        yield line + "]"
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
