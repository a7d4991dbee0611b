"""What a fact is, how it is told in one call, and which facts say who holds sockets."""

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeAlias, TypeVar

from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.value import COUNT, SECOND, Dimension, Value
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Owned
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


_CLOSE_WAIT, _FIN_WAIT_2 = frozenset({Owned.CLOSE_WAIT}), frozenset({Owned.FIN_WAIT_2})
_LISTENER, _SUSPECT = frozenset({Owned.LISTENER}), frozenset({Owned.SUSPECT})

OWNED_FACTS: Mapping[str, frozenset[Owned]] = {
    "close_wait.owned": _CLOSE_WAIT,
    "close_wait.eof_read": _CLOSE_WAIT,
    "close_wait.eof_unread": _CLOSE_WAIT,
    "close_wait.unread_data": _CLOSE_WAIT,
    "close_wait.owned_ages": _CLOSE_WAIT,
    "close_wait.oldest_owned_age": _CLOSE_WAIT,
    "close_wait.peers": _CLOSE_WAIT,
    "close_wait.descriptors": _CLOSE_WAIT,
    "fin_wait_2.owned": _FIN_WAIT_2,
    "fin_wait_2.owned_ages": _FIN_WAIT_2,
    "fin_wait_2.oldest_owned_age": _FIN_WAIT_2,
    "fin_wait_2.peers": _FIN_WAIT_2,
    "fin_wait_2.descriptors": _FIN_WAIT_2,
    "unread.owned": _SUSPECT,
    "unread.owned_ages": _SUSPECT,
    "unread.oldest_owned_age": _SUSPECT,
    "unread.owned_bytes": _SUSPECT,
    "unread.peers": _SUSPECT,
    "unread.descriptors": _SUSPECT,
    "listener.owner": _LISTENER,
    "listener.pid": _LISTENER,
    "destination.owners": frozenset({Owned.SYN_SENT}),
    "destination.unanswered_owners": _SUSPECT,
    "ports.bound_owners": frozenset({Owned.BOUND}),
    "unanswered.incoming_owners": _SUSPECT,
    "unanswered.by_size_owners": _SUSPECT,
    "zero_window.owners": _SUSPECT,
    "idle.unprobed_owners": _SUSPECT,
    "self_connected.owners": _SUSPECT,
    "queues.large_owners": frozenset({*Owned} - {Owned.LISTENER, Owned.BOUND}),
}
"""Every fact that says who holds sockets, or how many one process holds."""
