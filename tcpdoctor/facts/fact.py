"""What a fact is, and how it is told: name, unit, sentence, where to see it, and function, in one call."""

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeAlias, TypeVar

from tcpdoctor.facts.dimension import COUNT, SECOND, Dimension
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.value import Value
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.named_tuples import NamedTuple

GAUGE, COUNTER, AGES, TEXT = "gauge", "counter", "ages", "text"


class Fact(NamedTuple):
    """What a fact is, without its value."""

    name: str
    dimension: Dimension | None
    """None for a text."""
    scope: Scope
    """The scope it belongs to; facts of the host can be used in every scope."""
    kind: str
    """``gauge``: a number now. ``counter``: grows since boot, only its growth means anything.
    ``ages``: a set of sockets, by how long each has been in its state. ``text``: words."""
    meaning: str
    """One plain sentence."""
    source: str
    """Where one can see it without this program: a file, a command or a netlink field."""


S = TypeVar("S")
T = TypeVar("T")
Told: TypeAlias = tuple[Fact, Callable[[S], Value]]
"""A fact, and what computes it."""


class Teller(Generic[S]):
    """Tells facts of one scope; S is what their functions compute from."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def gauge(
        self, name: str, dimension: Dimension, meaning: str, source: str, function: Callable[[S], Value]
    ) -> Told[S]:
        """A number now."""
        return Fact(name, dimension, self._scope, GAUGE, meaning, source), function

    def counter(self, name: str, meaning: str, source: str, function: Callable[[S], Value]) -> Told[S]:
        """Events since boot; the function computes their growth."""
        return Fact(name, COUNT, self._scope, COUNTER, meaning, source), function

    def ages(self, name: str, meaning: str, source: str, function: Callable[[S], Value]) -> Told[S]:
        """How long each of some sockets has been as it is."""
        return Fact(name, SECOND, self._scope, AGES, meaning, source), function

    def text(self, name: str, meaning: str, source: str, function: Callable[[S], Value]) -> Told[S]:
        """Words."""
        return Fact(name, None, self._scope, TEXT, meaning, source), function


def functions_of(facts: Iterable[Told[S]]) -> Mapping[str, Callable[[S], Value]]:
    """The functions by the facts' names."""
    return {fact.name: function for fact, function in facts}


def lift(of: Callable[[S], Reading[T]], value: Callable[[T, S], Value]) -> Callable[[S], Value]:
    """Compute from what was read; where that is `Missing`, so is the value, for the same reason.

    Args:
        of: What is read, of a subject.
        value: What is computed from it, and from the subject.
    """

    def function(subject: S) -> Value:
        found = of(subject)
        return found if isinstance(found, Missing) else value(found, subject)

    return function
