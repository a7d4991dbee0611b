"""Whom a rule is about, what a fact is, and how the facts of a subject are told and looked up."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Generic, Literal, TypeAlias, TypeVar, overload

from tcpdoctor.facts.value import COUNT, SECOND, Dimension, Value
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Owned
from tcpdoctor.named_tuples import NamedTuple

HIDDEN_LABEL = "processes that cannot be seen"
"""Who holds the sockets whose owners are hidden from us."""


ScopeName: TypeAlias = Literal["host", "listener", "process", "port", "destination"]


class Scope(Enum):
    """Once per what a rule is evaluated. Facts of the host are visible in every scope."""

    HOST = "host"
    LISTENER = "listener"
    PROCESS = "process"
    PORT = "port"
    DESTINATION = "destination"


class Subject(NamedTuple):
    """One host, listener, process, port or destination with its facts."""

    scope: Scope
    label: str
    """For people: ``nginx (811)``, ``0.0.0.0:80``, ``8080``, ``10.0.0.5:5432 from 10.0.0.9``."""
    identity: Mapping[str, int | str | None]
    """For machines: ``{"pid": 811, "name": "nginx"}``; part of the JSON subject."""
    facts: Mapping[str, Value]
    """Facts of its own scope and of the host, by name."""
    hidden: bool = False
    """Stands for all the processes that we cannot see: its facts are ranges from 0, and a rule that
    could fire for it is unchecked, never a finding."""


class Crowd(Sequence[Subject]):
    """Very many subjects of one scope, most of them alike; each is made when it is asked for, and kept.

    Five thousand listeners at rest have the same facts: a rule is asked once for all of them.
    """

    def __init__(
        self, kinds: Iterable[Hashable], make: Callable[[int], Subject], apart: frozenset[str] = frozenset()
    ) -> None:
        """Take what the subjects are.

        Args:
            kinds: One for each: those of one kind have equal numbers in all facts but those in `apart`.
            make: Makes the subject of a place among these.
            apart: Names of facts that tell apart those of one kind.
        """
        self.alike: dict[Hashable, list[int]] = {}
        """By kind the places of its subjects."""
        self.apart = apart
        for number, kind in enumerate(kinds):
            self.alike.setdefault(kind, []).append(number)
        self._length = sum(map(len, self.alike.values()))
        self._make = make
        self._made: dict[int, Subject] = {}

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Subject: ...

    @overload
    def __getitem__(self, index: slice) -> list[Subject]: ...

    def __getitem__(self, index: int | slice) -> Subject | list[Subject]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        number = index % len(self)
        if number not in self._made:
            self._made[number] = self._make(number)
        return self._made[number]


# Facts of one subject, computed when they are asked for.


S = TypeVar("S")

_NOTHING: Mapping[str, str] = {}


class LazyFacts(Mapping[str, Value], Generic[S]):
    """A subject's own facts, then those of the host behind them.

    A rule reads five facts of four hundred, and there may be thousands of destinations: nothing is
    computed before it is asked for, and nothing twice.
    """

    __slots__ = ("_functions", "_host", "_known", "_subject")

    def __init__(
        self,
        subject: S,
        functions: Mapping[str, Callable[[S], Value]],
        host: Mapping[str, Value],
    ) -> None:
        self._subject = subject
        self._functions = functions
        self._host = host
        self._known: dict[str, Value] | None = None

    def __getitem__(self, name: str) -> Value:
        if self._known is not None and name in self._known:
            return self._known[name]
        function = self._functions.get(name)
        if function is None:
            return self._host[name]
        untold = getattr(self._host, "untold", _NOTHING)
        value = Missing(untold[name]) if name in untold else function(self._subject)
        if self._known is None:
            self._known = {}
        self._known[name] = value
        return value

    def __iter__(self) -> Iterator[str]:
        yield from self._functions
        yield from self._host

    def __len__(self) -> int:
        return len(self._functions) + len(self._host)

    def __contains__(self, name: object) -> bool:
        return name in self._functions or name in self._host


FactKind: TypeAlias = Literal["gauge", "counter", "ages", "text"]
GAUGE: FactKind = "gauge"
COUNTER: FactKind = "counter"
AGES: FactKind = "ages"
TEXT: FactKind = "text"


class Fact(NamedTuple):
    """What a fact is, without its value."""

    name: str
    dimension: Dimension | None
    """None for a text."""
    scope: Scope
    """The scope it belongs to; facts of the host can be used in every scope."""
    kind: FactKind
    """``gauge``: a number now. ``counter``: grows since boot, only its growth means anything.
    ``ages``: a set of sockets, by how long each has been in its state. ``text``: words."""
    meaning: str
    """One plain sentence."""
    source: str
    """Where one can see it without this program: a file, a command or a netlink field."""


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
