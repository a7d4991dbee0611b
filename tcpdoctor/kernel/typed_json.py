"""Named tuples as JSON and back, driven by their own type hints: a new field needs no line here.

A record becomes the list of its values; which fields those are stands once in a layout beside them, so
that a file from before a field was added can be read: such a field is `Missing` where its type allows
that, else it has its default. `Missing` becomes ``{"missing": reason}``, records of which a field may
hold one of several become ``{"NotHeld": []}``, mappings whose keys are no text a list of pairs.

Reading trusts nothing: what does not fit the hints exactly is refused, texts are cleaned, numbers have
64 bits at most and are finite, addresses and ports are such.
"""

import types
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from tcpdoctor.kernel.reading import Missing

Layout: TypeAlias = dict[str, list[str]]
"""The fields of each kind of record, in the order of its values."""

Code: TypeAlias = Callable[[Any], Any]

PLAIN = (int, float, bool, str)
"""Types that JSON has itself."""


class Encoder:
    """Turns values into JSON; afterwards `layout` says what fields its records have."""

    def __init__(self) -> None:
        self.layout: Layout = {}
        self._known: dict[Any, Code] = {}

    def of(self, hint: Any) -> Code:
        """Return what encodes values of this type.

        Raises:
            TypeError: It is a type that has no form in JSON here; a mistake of the program.
        """
        if hint not in self._known:
            self._known[hint] = self._make(hint)
        return self._known[hint]

    def _make(self, hint: Any) -> Code:
        if hint in PLAIN:
            return _same
        if is_record(hint):
            return self._record(hint)
        if isinstance(hint, type) and issubclass(hint, Enum):
            return _value_of
        if is_union(hint):
            return self._union(Alternatives(hint))
        match get_origin(hint), get_args(hint):
            case (origin, (item, second)) if origin is tuple and second is Ellipsis:
                each = self.of(item)
                return lambda values: [each(value) for value in values]
            case (origin, items) if origin is tuple:
                codes = [self.of(item) for item in items]
                return lambda values: [code(value) for code, value in zip(codes, values, strict=True)]
            case (origin, (key, value)) if is_mapping(origin):
                return _encode_mapping(self.of(key), self.of(value), text_keys=key is str)
            case (origin, _) if origin is Literal:
                return _same
        raise TypeError(f"no form in JSON for {hint}")

    def _record(self, record: Any) -> Code:
        self.layout[record.__name__] = list(record._fields)
        hints = get_type_hints(record)
        codes = [self.of(hints[field]) for field in record._fields]
        if all(code is _same for code in codes):
            return list
        return lambda values: [code(value) for code, value in zip(codes, values, strict=True)]

    def _union(self, union: "Alternatives") -> Code:
        if union.only is not None:
            return _encode_optional(self.of(union.only))
        records = {record: self.of(record) for record in union.records}

        def encode(value: Any) -> Any:
            if value is None or type(value) is Missing:
                return _encode_absent(value)
            code = records.get(type(value))
            return _as_lists(value) if code is None else {type(value).__name__: code(value)}

        return encode


class Alternatives:
    """The members of a union, sorted."""

    def __init__(self, hint: Any) -> None:
        members = get_args(hint)
        self.missing = Missing in members
        self.none = type(None) in members
        rest = [member for member in members if member not in (Missing, type(None))]
        self.only: Any = rest[0] if len(rest) == 1 else None
        self.records = [member for member in rest if is_record(member)]
        self.others = [member for member in rest if not is_record(member)]


def is_record(hint: Any) -> bool:
    """Whether a type is a named tuple."""
    return isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields")


def is_mapping(origin: Any) -> bool:
    """Whether a generic type is a mapping."""
    return isinstance(origin, type) and issubclass(origin, Mapping)


def is_union(hint: Any) -> bool:
    """Whether a type is one of several."""
    return get_origin(hint) in (types.UnionType, Union)


def _same(value: Any) -> Any:
    return value


def _value_of(value: Any) -> Any:
    return value.value


def _encode_absent(value: Missing | None) -> Any:
    return None if value is None else {"missing": value.reason}


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, tuple) else value


def _encode_mapping(key: Code, value: Code, *, text_keys: bool) -> Code:
    if text_keys:
        return lambda mapping: {name: value(item) for name, item in mapping.items()}
    return lambda mapping: [[key(name), value(item)] for name, item in mapping.items()]


def _encode_optional(code: Code) -> Code:
    return lambda value: _encode_absent(value) if value is None or type(value) is Missing else code(value)
