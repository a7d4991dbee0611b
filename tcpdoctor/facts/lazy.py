"""Facts of one subject, computed when they are asked for."""

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from tcpdoctor.facts.value import Value

S = TypeVar("S")


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
        value = function(self._subject)
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
