"""Named tuples as JSON and back, driven by their own type hints: a new field needs no line here.

A record becomes the list of its values; which fields those are stands once in a layout beside them, so
that a file from before a field was added can be read: such a field is `Missing` where its type allows
that, else it has its default. `Missing` becomes ``{"missing": reason}``, records of which a field may
hold one of several become ``{"NotHeld": []}``, mappings whose keys are no text a list of pairs.

Reading trusts nothing: what does not fit the hints exactly is refused, texts are cleaned, numbers have
64 bits at most and are finite, addresses and ports are such.
"""

import math
import socket
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from functools import lru_cache, partial
from itertools import islice
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.text import clean

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
            case (origin, (item, *rest)) if is_list(origin, rest):
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
            if value is None or isinstance(value, Missing):
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


def is_list(origin: object, rest: list[object]) -> bool:
    """Whether a type is that of many of one kind, by its origin and what follows its first argument."""
    return (origin is tuple and rest == [Ellipsis]) or (origin is Sequence and not rest)


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
    return lambda value: _encode_absent(value) if value is None or isinstance(value, Missing) else code(value)


# JSON back into named tuples, by their type hints; the other half of `tcpdoctor.kernel.typed_json`.


LONGEST_TEXT = 8_192
"""Characters; the longest that is read of a kernel is a command line of 4,096 bytes."""
_LARGEST = 1 << 64
_MANY, _AT_ONCE = 50, 10_000
"""So many records are decoded by columns, and of very many so many at once."""


class MisfitError(Exception):
    """A value is not what its type hint says; `where` is the way to it, the innermost part first."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.where: list[str] = []

    def __str__(self) -> str:
        place = "".join(reversed(self.where)).lstrip(".")
        return f"{place}: {self.args[0]}" if place else str(self.args[0])


class Decoder:
    """Turns JSON back into values, given the layout of the file that it is from."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._known: dict[Any, Code] = {}
        self._columns: dict[Any, Code] = {}

    def of(self, hint: Any) -> Code:
        """Return what decodes values of this type; it raises `MisfitError`."""
        if hint not in self._known:
            self._known[hint] = self._make(hint)
        return self._known[hint]

    def _make(self, hint: Any) -> Code:
        if hint in _PLAIN:
            return _PLAIN[hint]
        if is_record(hint):
            return self._record(hint)
        if isinstance(hint, type) and issubclass(hint, Enum):
            return partial(_decode_enum, hint)
        if is_union(hint):
            return self._union(Alternatives(hint))
        match get_origin(hint), get_args(hint):
            case (origin, (item, *rest)) if is_list(origin, rest):
                return partial(_decode_list, self.of(item), self.column(item) if is_record(item) else None)
            case (origin, items) if origin is tuple:
                return partial(_decode_tuple, [self.of(item) for item in items])
            case (origin, (key, value)) if is_mapping(origin):
                decode = _decode_object if key is str else _decode_pairs
                return partial(decode, self.of(key), self.of(value))
            case (origin, choices) if origin is Literal:
                return partial(_decode_choice, choices)
        raise TypeError(f"no form in JSON for {hint}")

    def _record(self, record: Any) -> Code:
        name = record.__name__
        fields = self._layout.get(name)
        if fields is None:
            return partial(_refuse, f"the file does not say what a {name} consists of")
        hints = get_type_hints(record)
        unknown = [field for field in fields if field not in hints]
        if unknown:
            return partial(_refuse, f"{name} has a part unknown to this version: {clean(unknown[0], 60)}")
        rest = {
            field: _absent(record, field, hints[field]) for field in record._fields if field not in fields
        }
        lacking = [field for field, value in rest.items() if value is _REQUIRED]
        if lacking:
            return partial(_refuse, f"{name} lacks {lacking[0]}")
        codes = [(field, _checked(field, self.of(hints[field]), name)) for field in fields]
        if rest or [field for field, _ in codes] != list(record._fields):
            return partial(_decode_record, record, codes, rest)
        return _whole_record(record, codes)

    def _union(self, union: "Alternatives") -> Code:
        if union.only is not None:
            return partial(_decode_optional, union, self.of(union.only))
        records = {record.__name__: self.of(record) for record in union.records}
        others = [self.of(other) for other in union.others]

        def decode(value: Any) -> Any:
            if type(value) is dict and len(value) == 1:
                (name, inner), *_ = value.items()
                if name in records:
                    return _at(f".{name}", records[name], inner)
            for code in others:
                try:
                    return code(value)
                except MisfitError:
                    continue  # another alternative may fit
            raise MisfitError(f"{_shown(value)} is none of what may stand here")

        return partial(_decode_optional, union, decode)

    # Very many values of one type are decoded at once: checks of whole columns take a quarter of the time.

    def column(self, hint: Any) -> Code:
        """Return what decodes a list of values of this type; where one does not fit, only that is told."""
        if hint not in self._columns:
            self._columns[hint] = lambda values: self._columns[hint](values)  # a type that holds itself
            self._columns[hint] = self._make_column(hint)
        return self._columns[hint]

    def _make_column(self, hint: Any) -> Code:
        if hint in _COLUMNS:
            return _COLUMNS[hint]
        if is_record(hint):
            return self._record_column(hint)
        if isinstance(hint, type) and issubclass(hint, Enum):
            return partial(_few, (int, str), self.of(hint))
        if is_union(hint):
            return self._union_column(Alternatives(hint))
        match get_origin(hint), get_args(hint):
            case (origin, (item, *rest)) if is_list(origin, rest):
                return partial(_list_column, self.column(item))
        return partial(_each, self.of(hint))

    def _record_column(self, record: Any) -> Code:
        if self._layout.get(record.__name__) != list(record._fields):
            return partial(_each, self.of(record))
        hints, name = get_type_hints(record), record.__name__
        columns = [
            partial(_few, (str, int), _CHECKS[name, field])
            if (name, field) in _CHECKS
            else self.column(hints[field])
            for field in record._fields
        ]
        make = partial(tuple.__new__, record)

        def decode(values: Any) -> list[Any]:
            if not values:
                return []
            if set(map(type, values)) != {list} or set(map(len, values)) != {len(columns)}:
                raise MisfitError("not all are of this kind")
            if not columns:
                return [record()] * len(values)
            parts = [code(part) for code, part in zip(columns, zip(*values, strict=True), strict=True)]
            return list(map(make, zip(*parts, strict=True)))

        return decode

    def _union_column(self, union: "Alternatives") -> Code:
        """What is absent, and each kind of record, are taken out, decoded by themselves and put back."""
        records = {record.__name__: self.column(record) for record in union.records}
        only = None if union.only is None else self.column(union.only)
        alone = self.of(union.records[0] if only is None else union.only)
        rest = partial(_each, partial(_decode_optional, union, alone))

        def decode(values: Any) -> list[Any]:
            found: list[Any] = [None] * len(values)
            groups: dict[str, list[int]] = {}
            absent: dict[Any, Any] = {}
            for place, value in enumerate(values):
                kind = type(value)
                if kind is dict and len(value) == 1:
                    (name,) = value
                    if name == "missing" and type(reason := value[name]) is str:
                        if reason not in absent:
                            absent[reason] = rest([value])[0]
                        found[place] = absent[reason]
                        continue
                    groups.setdefault(name if only is None else "", []).append(place)
                elif value is None and union.none:
                    continue
                else:
                    groups.setdefault("", []).append(place)
            for name, places in groups.items():
                if only is None and name not in records:
                    raise MisfitError("not all are of this kind")
                inner = [values[place][name] if name else values[place] for place in places]
                code = records[name] if only is None else only
                for place, value in zip(places, code(inner), strict=True):
                    found[place] = value
            return found

        return decode


def _each(code: Code, values: Any) -> list[Any]:
    return [code(value) for value in values]


def _few(kinds: tuple[type, ...], code: Code, values: Any) -> list[Any]:
    """Of few different ones each is decoded once."""
    if not set(map(type, values)) <= set(kinds):
        return _each(code, values)
    known = {value: code(value) for value in set(values)}
    return [known[value] for value in values]


def _list_column(column: Code, values: Any) -> list[Any]:
    if set(map(type, values)) - {list}:
        raise MisfitError("not all are lists")
    inner = iter(column([item for value in values for item in value]))
    return [tuple(islice(inner, len(value))) for value in values]


def _integers(values: Any) -> Any:
    if set(map(type, values)) - {int} or (values and not -_LARGEST < min(values) <= max(values) < _LARGEST):
        raise MisfitError("not all are whole numbers of 64 bits")
    return values


def _numbers(values: Any) -> Any:
    kinds = set(map(type, values))
    if int in kinds:
        return _each(_number, values)
    if kinds - {float} or not all(map(math.isfinite, values)):
        raise MisfitError("not all are finite numbers")
    return values


def _refuse(what: str, _value: Any) -> Any:
    raise MisfitError(what)


def _at(place: str, code: Code, value: Any) -> Any:
    """Decode what is at a place, so that a misfit tells where it is."""
    try:
        return code(value)
    except MisfitError as error:
        error.where.append(place)
        raise


def _decode_optional(union: Alternatives, code: Code, value: Any) -> Any:
    if value is None and union.none:
        return None
    if union.missing and type(value) is dict and value.keys() == {"missing"}:
        return Missing(_at(".missing", _text, value["missing"]))
    return code(value)


def _decode_record(record: Any, codes: list[tuple[str, Code]], rest: Mapping[str, Any], value: Any) -> Any:
    if type(value) is not list or len(value) != len(codes):
        raise MisfitError(f"{_shown(value)} is no {record.__name__} of {len(codes)} values")
    found = {field: _at(f".{field}", code, item) for (field, code), item in zip(codes, value, strict=True)}
    return record(**found, **rest)


def _whole_record(record: Any, codes: list[tuple[str, Code]]) -> Code:
    """Decode a record whose values stand in the order of its fields: in two thirds of the time."""
    number, plain, make = len(codes), [code for _, code in codes], record._make

    def decode(value: Any) -> Any:
        if type(value) is list and len(value) == number:
            with suppress(MisfitError):  # which is then told with its place
                return make([code(item) for code, item in zip(plain, value, strict=True)])
        return _decode_record(record, codes, {}, value)

    return decode


def _decode_list(code: Code, column: Code | None, value: Any) -> tuple[Any, ...]:
    if type(value) is not list:
        raise MisfitError(f"{_shown(value)} is no list")
    if column is not None and len(value) >= _MANY:
        with suppress(MisfitError):  # which is then told with its place
            parts = (value[at : at + _AT_ONCE] for at in range(0, len(value), _AT_ONCE))
            return tuple([one for part in parts for one in column(part)])
    with suppress(MisfitError):  # which is then told with its place
        return tuple([code(item) for item in value])
    return tuple([_at(f"[{place}]", code, item) for place, item in enumerate(value)])


def _decode_tuple(codes: list[Code], value: Any) -> tuple[Any, ...]:
    if type(value) is not list or len(value) != len(codes):
        raise MisfitError(f"{_shown(value)} is no list of {len(codes)}")
    return tuple(code(item) for code, item in zip(codes, value, strict=True))


def _decode_object(_key: Code, code: Code, value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise MisfitError(f"{_shown(value)} is no object")
    return {_text(name): _at(f".{clean(name, 60)}", code, item) for name, item in value.items()}


def _decode_pairs(key: Code, code: Code, value: Any) -> dict[Any, Any]:
    pairs = _decode_list(partial(_decode_tuple, [key, code]), None, value)
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MisfitError("something is there twice")
    return found


def _decode_enum(kind: type[Enum], value: Any) -> Enum:
    known: Mapping[Any, Enum] = kind._value2member_map_
    if type(value) in (int, str) and value in known:
        return known[value]
    raise MisfitError(f"{_shown(value)} is no {kind.__name__}")


def _decode_choice(choices: tuple[Any, ...], value: Any) -> Any:
    if any(type(value) is type(choice) and value == choice for choice in choices):
        return value
    raise MisfitError(f"{_shown(value)} is none of {', '.join(map(str, choices))}")


def _integer(value: Any) -> int:
    if type(value) is not int or not -_LARGEST < value < _LARGEST:
        raise MisfitError(f"{_shown(value)} is no whole number of 64 bits")
    return value


def _number(value: Any) -> float:
    if type(value) is int and -_LARGEST < value < _LARGEST:
        return value
    if type(value) is not float or not math.isfinite(value):
        raise MisfitError(f"{_shown(value)} is no finite number")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise MisfitError(f"{_shown(value)} is neither true nor false")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise MisfitError(f"{_shown(value)} is no text")
    return clean(value, LONGEST_TEXT)


def _address(value: Any) -> str:
    text = _text(value)
    _check_address(text)
    return text


@lru_cache(4_096)
def _check_address(text: str) -> None:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        raise MisfitError(f"{_shown(text)} is no address") from None


def _network(value: Any) -> str:
    """An address, or a network as ``10.0.0.0/8``."""
    text = _text(value)
    address, slash, bits = text.partition("/")
    _check_address(address)
    if slash and not (bits.isascii() and bits.isdigit() and int(bits[:4]) <= (128 if ":" in address else 32)):
        raise MisfitError(f"{_shown(text)} is no network")
    return text


def _or_none(code: Code, value: Any) -> Any:
    return None if value is None else code(value)


def _at_most(largest: int, value: Any) -> int:
    number = _integer(value)
    if not 0 <= number <= largest:
        raise MisfitError(f"{number} is not between 0 and {largest}")
    return number


def _port(value: Any) -> int:
    port = _integer(value)
    if not 0 <= port <= 0xFFFF:
        raise MisfitError(f"{port} is no port")
    return port


_PLAIN: Mapping[Any, Code] = {int: _integer, float: _number, bool: _flag, str: _text}
_COLUMNS: Mapping[Any, Code] = {
    int: _integers,
    float: _numbers,
    bool: partial(_few, (bool,), _flag),
    str: partial(_few, (str,), _text),
}

_CHECKS: Mapping[tuple[str, str], Code] = {
    ("Endpoint", "address"): _address,
    ("Endpoint", "port"): _port,
    ("Destination", "source"): _address,
    ("Destination", "address"): _address,
    ("Destination", "port"): _port,
    ("RouteTo", "address"): _address,
    ("Route", "source"): partial(_or_none, _address),
    ("Route", "gateway"): partial(_or_none, _address),
    ("InterfaceAddress", "address"): _address,
    ("LocalPrefix", "network"): partial(_at_most, 0xFFFFFFFF),
    ("LocalPrefix", "length"): partial(_at_most, 32),
    ("Redirect", "address"): partial(_or_none, _network),
    ("RedirectsFrom", "port"): _port,
    ("FiltersFrom", "port"): _port,
}
"""What a type hint cannot say and the floors above rely on."""


def _checked(field: str, code: Code, record: str) -> Code:
    return _CHECKS.get((record, field), code)


_REQUIRED = object()
OF_AN_OLDER_VERSION = Missing("the recording is from a version that did not look at it")


def _absent(record: Any, field: str, hint: Any) -> Any:
    """Return what a field is that the file does not have; `_REQUIRED` where nothing can stand for it."""
    if Missing in get_args(hint):
        return OF_AN_OLDER_VERSION
    return record._field_defaults.get(field, _REQUIRED)


def _shown(value: Any) -> str:
    """Name what stands there, briefly and safely."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return repr(clean(value, 40))
        case list():
            return f"a list of {len(value)}"
        case dict():
            return "an object"
    return "a huge number" if type(value) is int and abs(value) >= _LARGEST else repr(value)
