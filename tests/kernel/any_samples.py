"""Samples of every form that the type hints of kernel/snapshot.py allow."""

import types
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.text import clean

TEXTS = st.text(max_size=20).map(clean)
ADDRESSES = st.ip_addresses().map(str)
PORTS = st.integers(0, 65535)
PLAIN: Mapping[Any, Any] = {
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    str: TEXTS,
    type(None): st.none(),
    Missing: st.builds(Missing, TEXTS),
}
ENDS = {
    ("Endpoint", "address"): ADDRESSES,
    ("Endpoint", "port"): PORTS,
    ("Destination", "source"): ADDRESSES,
    ("Destination", "address"): ADDRESSES,
    ("Destination", "port"): PORTS,
}


def values_of(hint: Any) -> Any:
    """A strategy for the values of a type, made from its hints."""
    if hint in PLAIN:
        return PLAIN[hint]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    if hasattr(hint, "_fields"):
        hints = get_type_hints(hint)
        kind = hint.__name__
        fields = [
            ENDS[kind, name] if (kind, name) in ENDS else values_of(hints[name]) for name in hint._fields
        ]
        return st.builds(hint, *fields)
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, Union):
        return st.one_of([values_of(member) for member in inner])
    if origin is Literal:
        return st.sampled_from(inner)
    if origin is Sequence or (origin is tuple and inner[-1] is Ellipsis):
        return st.lists(values_of(inner[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values_of, inner))
    assert issubclass(origin, Mapping), f"no values for {hint}"
    return st.dictionaries(values_of(inner[0]), values_of(inner[1]), max_size=3)
