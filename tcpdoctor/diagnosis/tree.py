"""A condition or a calculation of a rule, checked: what `expression` makes and `closure` runs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

from tcpdoctor.facts.fact import Fact
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.value import BYTE, COUNT, PAGE, PER_SECOND, RATIO, SECOND, Dimension
from tcpdoctor.named_tuples import NamedTuple


class Vocabulary(Protocol):
    """The facts that exist; the module `tcpdoctor.facts.vocabulary` is one."""

    def find_fact(self, name: str) -> Fact | None:
        """The fact of that name, None where there is none."""

    def fact_names(self, scope: Scope) -> Sequence[str]:
        """The facts that a rule of this scope may use."""


class Context(NamedTuple):
    """What an expression may refer to."""

    scope: Scope
    limits: Mapping[str, Dimension]
    vocabulary: Vocabulary


class Constant(NamedTuple):
    """A number or a unit."""

    value: float


class Limit(NamedTuple):
    """``limit.NAME``: its value comes from the rule or from the configuration."""

    name: str


class Gauge(NamedTuple):
    """A fact that is a number by itself."""

    fact: Fact


class Text(NamedTuple):
    """A fact that is a text; for prose only."""

    fact: Fact


class Grown(NamedTuple):
    """``rate(COUNTER)`` or ``delta(COUNTER)``."""

    call: str
    fact: Fact


class Older(NamedTuple):
    """``older(AGES, SECONDS)``."""

    fact: Fact
    seconds: "Calculation"


class Arithmetic(NamedTuple):
    """``left + - * / right``."""

    operator: str
    left: "Calculation"
    right: "Calculation"


class Extreme(NamedTuple):
    """``min(...)`` or ``max(...)``."""

    call: str
    items: tuple["Calculation", ...]


class Negative(NamedTuple):
    """``-item``."""

    item: "Calculation"


class Comparison(NamedTuple):
    """``left >= right``."""

    operator: str
    left: "Calculation"
    right: "Calculation"


class Every(NamedTuple):
    """``a and b and ...``."""

    items: tuple["Condition", ...]


class Some(NamedTuple):
    """``a or b or ...``."""

    items: tuple["Condition", ...]


class Not(NamedTuple):
    """``not item``."""

    item: "Condition"


Calculation: TypeAlias = Constant | Limit | Gauge | Grown | Older | Arithmetic | Extreme | Negative
Condition: TypeAlias = Comparison | Every | Some | Not
Node: TypeAlias = Calculation | Condition | Text


class Quantity(NamedTuple):
    """A calculation and what its result is counted in."""

    tree: Calculation | Text
    dimension: Dimension | None
    """None: a text, or a plain number that goes with counts and ratios."""


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it, in the order of the text."""
    yield node
    for child in children(node):
        yield from walk(child)


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below, in the order of the text."""
    match node:
        case Arithmetic() | Comparison():
            return (node.left, node.right)
        case Extreme() | Every() | Some():
            return node.items
        case Negative() | Not():
            return (node.item,)
        case Older():
            return (node.seconds,)
        case _:
            return ()


def facts_of(node: Node) -> list[Fact]:
    """The facts that a condition or calculation may read, without duplicates, in the order of the text."""
    found = [part.fact for part in walk(node) if isinstance(part, Gauge | Text | Grown | Older)]
    return list(dict.fromkeys(found))


def branches_of(tree: "Condition") -> tuple["Condition", ...]:
    """The parts of an ``or``, each of which is reason enough; of any other condition itself."""
    return (
        tuple(part for item in tree.items for part in branches_of(item))
        if isinstance(tree, Some)
        else (tree,)
    )


# The units of the rule language: how large they are, and what dimensions are called.


UNITS: Mapping[str, tuple[float, Dimension]] = {
    "second": (1.0, SECOND),
    "minute": (60.0, SECOND),
    "hour": (3600.0, SECOND),
    "day": (86400.0, SECOND),
    "KiB": (1024.0, BYTE),
    "MiB": (1024.0**2, BYTE),
    "GiB": (1024.0**3, BYTE),
    "percent": (0.01, RATIO),
    "per_second": (1.0, PER_SECOND),
}
"""What a name in an expression multiplies by: size in the base unit, dimension."""

LIMIT_UNITS: Mapping[str, tuple[float, Dimension]] = {
    "count": (1.0, COUNT),
    **UNITS,
    "byte": (1.0, BYTE),
    "page": (1.0, PAGE),
    "ratio": (1.0, RATIO),
}
"""What the ``unit`` of a limit may be."""

_BASES = (("number", "count"), ("byte", "bytes"), ("page", "pages"), ("second", "seconds"))
_NO_UNIT = "a pure number"


def in_base_unit(value: float, unit: str) -> float:
    """The value in seconds, bytes, pages, counts, or as a share: 80 percent is 0.8, 2 minutes are 120."""
    # a percentage is divided, because 57 * 0.01 is not 0.57
    return value / 100 if unit == "percent" else value * LIMIT_UNITS[unit][0]


def dimension_words(dimension: Dimension) -> str:
    """What a dimension is called in a complaint: ``seconds``, ``count per second``, ``a pure number``."""
    exponents = [(word, getattr(dimension, field)) for field, word in _BASES]
    above = [_power(word, exponent) for word, exponent in exponents if exponent > 0]
    below = [_power(word.removesuffix("s"), -exponent) for word, exponent in exponents if exponent < 0]
    if not above and not below:
        return _NO_UNIT
    words = " times ".join(above) or "1"
    return f"{words} per {' and '.join(below)}" if below else words


def _power(word: str, exponent: int) -> str:
    return word if exponent == 1 else f"{word} to the power of {exponent}"
