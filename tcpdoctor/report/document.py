"""Any answer as a JSON object, its text part by part, and its JSON Schema (2020-12), from its types alone.

A field is a key, in the record's order. What could not be read is null, and its reason stands in the nearest
field ``missing``, by its place below it: ``owner``, ``options.SO_KEEPALIVE``, ``sockets[3].age``.
"""

import functools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from enum import Enum
from functools import partial
from itertools import groupby, islice, repeat
from json import JSONEncoder
from json.encoder import encode_basestring_ascii as encode_string
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from tcpdoctor.answers.record import ABSENT, Absent, Is, Moment
from tcpdoctor.kernel.reading import JsonValue, Missing

Part: TypeAlias = dict[str, Any]

_encode = JSONEncoder(allow_nan=False).encode

_ABOUT = "https://json-schema.org/draft/2020-12/schema"


def as_json(record: Any) -> dict[str, JsonValue]:
    """Return a record as an object; a `Missing` that no field ``missing`` takes the reason of is an error."""
    reasons: dict[str, str] = {}
    told = _object(record, reasons)
    if reasons:
        raise TypeError(f"{type(record).__name__}: no field `missing` for {', '.join(reasons)}")
    return told


def as_long_json(record: Any) -> "dict[str, JsonValue | Written]":
    """Return the same, its long lists of records written one by one: never all of them are in memory."""
    long = {
        key: value
        for key, value in zip(record._fields, record, strict=True)
        if type(value) is tuple and len(value) > LONG and "missing" in getattr(value[0], "_fields", ())
    }
    document: dict[str, JsonValue | Written] = {**as_json(record._replace(**dict.fromkeys(long, ())))}
    for key, rows in long.items():
        document[key] = Written(partial(json_rows, rows))
    return document


def json_text(record: Any, indent: int | None = None) -> str:
    """Return the text of `as_json`, on one line where there is no indent."""
    return json.dumps(as_json(record), indent=indent, allow_nan=False)


def json_lines(record: Any) -> Iterator[str]:
    """Give the text of `as_json`, an element of a list of records a line: no more is held in memory."""
    yield "{"
    for number, (key, value) in enumerate(zip(record._fields, record, strict=True)):
        yield f'{"," if number else ""}\n "{key}": '
        listed = isinstance(value, tuple) and not hasattr(value, "_fields")
        if listed and value and hasattr(value[0], "_fields"):
            for place, row in enumerate(value):
                yield f"{',' if place else '['}\n  {json.dumps(as_json(row), allow_nan=False)}"
            yield "\n ]"
        else:
            told = as_json(value) if hasattr(value, "_fields") else value
            yield json.dumps(told, indent=None if listed else 1, allow_nan=False).replace("\n", "\n ")
    yield "\n}\n"


def json_line(record: Any) -> str:
    """Return `as_json` on one line."""
    return _encode(as_json(record))


def json_rows(records: Iterable[Any]) -> Iterator[str]:
    """Give the same of each of many, in a quarter of the time: whole columns are written at once."""
    rest = iter(records)
    while some := list(islice(rest, _AT_ONCE)):
        for kind, alike in groupby(some, type):
            texts, untaken = _rows(list(alike))
            for reasons in untaken.values():
                raise TypeError(f"{kind.__name__}: no field `missing` for {', '.join(reasons)}")
            yield from texts


_AT_ONCE = 256

_Reasons: TypeAlias = dict[int, dict[str, str]]
"""By the place of a record among those that are written at once, its reasons by key."""


def _rows(records: Sequence[Any]) -> tuple[Iterable[str], _Reasons]:
    """Write records of one type; the reasons are those for which they have no field ``missing``."""
    reasons: _Reasons = {}
    parts: list[str] = []
    columns: list[Iterable[Any]] = []
    taken: Sequence[Mapping[str, str]] = ()
    at = 0
    for key, column in zip(records[0]._fields, zip(*records, strict=True), strict=True):
        kinds = set(map(type, column))
        if Absent in kinds:
            if len(kinds) > 1:
                return _rows_apart(records)
            continue
        parts.append(f'"{key}": %s')
        if key == "missing" and all(hasattr(kind, "keys") for kind in kinds):  # a fact has one, no mapping
            taken, at = column, len(columns)
        columns.append(() if taken is column else _texts(key, kinds, column, reasons))
    if taken:
        columns[at], reasons = _reasons_texts(taken, reasons), {}
    template = "{" + ", ".join(parts) + "}"
    return (
        map(template.__mod__, zip(*columns, strict=True)) if parts else repeat("{}", len(records))
    ), reasons


def _rows_apart(records: Sequence[Any]) -> tuple[Iterable[str], _Reasons]:
    """The same of records that do not all have the same keys."""
    groups: dict[tuple[bool, ...], list[int]] = {}
    for place, record in enumerate(records):
        groups.setdefault(tuple(value is ABSENT for value in record), []).append(place)
    found, reasons = [""] * len(records), dict[int, dict[str, str]]()
    for places in groups.values():
        texts, untaken = _rows([records[place] for place in places])
        for place, text in zip(places, texts, strict=True):
            found[place] = text
        reasons |= {places[number]: own for number, own in untaken.items()}
    return found, reasons


def _texts(key: str, kinds: Set[type], column: Sequence[Any], reasons: _Reasons) -> Iterable[Any]:
    """Write what stands under one key; what is printed is as good as its text."""
    if len(kinds) == 1:
        (kind,) = kinds
        return _alike(key, kind, column, range(len(column)), reasons)
    found: list[Any] = [None] * len(column)
    for kind in kinds:
        places = [place for place, value in enumerate(column) if value.__class__ is kind]
        values = [column[place] for place in places]
        for place, text in zip(places, _alike(key, kind, values, places, reasons), strict=True):
            found[place] = text
    return found


def _alike(
    key: str, kind: Any, values: Sequence[Any], places: Sequence[int], reasons: _Reasons
) -> Iterable[Any]:
    """Write values of one type, which stand at these places."""
    if kind is int:
        return values
    if kind is str:
        return map(encode_string, values)
    if kind is float:
        return [repr(value) if math.isfinite(value) else "null" for value in values]
    if kind is type(None):
        return repeat("null", len(values))
    if hasattr(kind, "_fields") and not issubclass(kind, Missing):
        texts, untaken = _rows(values)
        for number, below in untaken.items():
            own = reasons.setdefault(places[number], {})
            own |= {f"{key}.{name}": reason for name, reason in below.items()}
        return texts
    found = []
    for place, value in zip(places, values, strict=True):
        told: dict[str, str] = {}
        found.append(_encode(_plain(value, key, told)))
        if told:
            reasons.setdefault(place, {}).update(told)
    return found


def _reasons_texts(told: Sequence[Mapping[str, str]], reasons: _Reasons) -> Iterable[str]:
    """Write what stands under ``missing``: what a record told itself, and what was missing in it."""
    if not reasons and not any(told):
        return repeat("{}", len(told))
    return [_reasons_text((*own.items(), *reasons.get(place, {}).items())) for place, own in enumerate(told)]


@functools.lru_cache(64)
def _reasons_text(reasons: tuple[tuple[str, str], ...]) -> str:
    return _encode(dict(reasons))


def _object(record: Any, above: dict[str, str]) -> dict[str, JsonValue]:
    reasons: dict[str, str] = {}
    told = {
        key: value if type(value) in _AS_IT_IS else _plain(value, key, reasons)
        for key, value in zip(record._fields, record, strict=True)
        if value is not ABSENT
    }
    if isinstance(told.get("missing"), dict):
        told["missing"] = {**record.missing, **reasons}
    else:
        above |= reasons
    return told


_AS_IT_IS = {type(None), bool, int, str}


def _plain(value: Any, place: str, reasons: dict[str, str]) -> JsonValue:
    if type(value) in _AS_IT_IS:  # nearly all of a hundred thousand sockets is
        told_at_once: JsonValue = value
        return told_at_once
    match value:
        case Missing(reason):
            reasons[place] = reason
            return None
        case float():
            return value if math.isfinite(value) else None
        case tuple() if hasattr(value, "_fields"):
            below: dict[str, str] = {}
            told: JsonValue = _object(value, below)
            reasons |= {f"{place}.{name}": reason for name, reason in below.items()}
            return told
        case Enum():
            key = getattr(value, "key", value.value)
            return str(key) if isinstance(key, str) else int(key)
        case Mapping():
            return {str(name): _plain(item, f"{place}.{name}", reasons) for name, item in value.items()}
        case tuple() | list():
            return [_plain(item, f"{place}[{number}]", reasons) for number, item in enumerate(value)]
        case None | bool() | int() | str():
            return value
    raise TypeError(f"{place}: {type(value).__name__} is nothing that JSON has")


def schema_of(record: Any, description: str) -> Part:
    """Return the JSON Schema of a record whose field ``schema`` is ``Literal["tcpdoctor.NAME/1"]``."""
    (title,) = get_args(get_type_hints(record)["schema"])
    name = title.removeprefix("tcpdoctor.").removesuffix("/1")
    about = {"$schema": _ABOUT, "$id": f"urn:tcpdoctor:schema:{name}:1", "title": title}
    return {**about, "description": description, **_object_part(record)}


def _object_part(record: Any) -> Part:
    hints = get_type_hints(record, include_extras=True)
    return {
        "type": "object",
        "required": [key for key in record._fields if not _is_optional(hints[key])],
        "properties": {key: part_of(hints[key]) for key in record._fields},
    }


def _is_optional(hint: Any) -> bool:
    return get_origin(hint) is Annotated and any(
        isinstance(said, Is) and said.optional for said in hint.__metadata__
    )


_NAMES: Mapping[Any, str] = {
    str: "string",
    Moment: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
    Missing: "null",
}


def part_of(hint: Any) -> Part:
    """Return the schema of one type."""
    origin, inside = get_origin(hint), get_args(hint)
    if {list, dict} <= {get_origin(member) for member in inside}:  # JsonValue: whatever JSON has
        return {}
    if origin is Annotated:
        return _with_annotations(part_of(inside[0]), hint.__metadata__)
    if origin in (Union, UnionType):
        return _any_of(part_of(member) for member in inside if member is not Absent)
    if origin is Literal:
        return {"const": inside[0]} if len(inside) == 1 else {"enum": list(inside)}
    if origin in (tuple, list):
        return _array(inside)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": part_of(inside[1])}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [getattr(member, "key", member.value) for member in hint]}
    if isinstance(hint, type) and issubclass(hint, tuple):
        return _object_part(hint)
    return {"type": _NAMES[hint]}


def _with_annotations(part: Part, said: Iterable[Any]) -> Part:
    for one in said:
        if isinstance(one, Is):
            told = {key: value for key, value in one._asdict().items() if value is not None}
            keys = told.pop("keys", None)
            del told["optional"]
            part = part | told | (_object_part(keys) if keys else {})
    return part


def _array(inside: tuple[Any, ...]) -> Part:
    if len(inside) == 1 or inside[1] is Ellipsis:
        return {"type": "array", "items": part_of(inside[0])}
    items = _any_of(part_of(member) for member in inside)
    return {"type": "array", "items": items, "minItems": len(inside), "maxItems": len(inside)}


def _any_of(members: Iterable[Part]) -> Part:
    parts: list[Part] = []
    for part in members:
        if part not in parts:
            parts.append(part)
    if len(parts) == 1:
        return parts[0]
    plain = [part for part in parts if "type" in part and "enum" not in part]
    types = [part["type"] for part in plain]
    rest = [part for part in plain if part["type"] != "null" and len(part) > 1]
    if len(plain) == len(parts) and all(isinstance(one, str) for one in types) and len(rest) <= 1:
        return {**(rest[0] if rest else {}), "type": types}
    return {"anyOf": parts}


LONG = 100
"""Lists of more objects have each on a line of its own: the encoder in C writes it, in a tenth of time."""


class Written:
    """The objects of a list, each as text: made when it is asked for, and let go of then."""

    def __init__(self, rows: Callable[[], Iterable[str]]) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows())


class Late:
    """A value that is known only once all that stands above it has been written."""

    def __init__(self, value: Callable[[], JsonValue]) -> None:
        self.value = value


def document_lines(document: Mapping[str, JsonValue | Written | Late]) -> Iterator[str]:
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
    elif isinstance(value, Written):
        before = "[" + inner
        for row in value:
            yield before + row
            before = "," + inner
        yield "[]" if before.startswith("[") else line + "]"
    elif isinstance(value, Late):
        yield from _parts(value.value(), line, encode)
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
