"""Sets of sockets of which some only perhaps belong: how many, how old, which."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, overload

from tcpdoctor.facts.ages import age_of
from tcpdoctor.facts.earlier import Earlier
from tcpdoctor.facts.value import Ages, Merged, Range
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Connection, Endpoint, Held

NONE = "none"
"""What a list of peers or descriptors says when it is empty."""

_NAMED = 3
"""How many peers or descriptors a text names before it says how many more there are."""


class Unsure(Sequence[Connection]):
    """Sockets that may belong to any of many subjects.

    Each of those asks the same of them, so it is computed once: else thousands of processes times
    thousands of sockets would be counted.
    """

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = connections
        self._matching: dict[Callable[[Connection], bool], Unsure] = {}
        self._highs: tuple[Earlier, Sequence[float]] | None = None

    def __len__(self) -> int:
        return len(self._connections)

    @overload
    def __getitem__(self, place: int) -> Connection: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Connection]: ...
    def __getitem__(self, place: int | slice) -> Connection | Sequence[Connection]:
        return self._connections[place]

    def where(self, condition: Callable[[Connection], bool]) -> "Unsure":
        """Those for which `condition` holds."""
        if not self._connections:
            return self
        found = self._matching.get(condition)
        if found is None:
            found = Unsure([row for row in self._connections if condition(row)])
            self._matching[condition] = found
        return found

    def highest_ages(self, earlier: Earlier) -> Sequence[float]:
        """The most that each can have been in its state, ascending."""
        if not self._connections:
            return ()
        if self._highs is None or self._highs[0] is not earlier:
            self._highs = earlier, sorted(age_of(row, earlier).high for row in self._connections)
        return self._highs[1]


class SocketSet(NamedTuple):
    """Sockets that belong to a subject, and those that may."""

    sure: Sequence[Connection] = ()
    maybe: Unsure = Unsure(())
    """Their owner is hidden, or there is no proof yet."""
    unseen: int = 0
    """Sockets of the same state that are not known one by one and may belong as well."""
    reason: str = ""
    """Why anything is unsure."""
    looked_at: int = 0
    """Size of the uniform sample that `sure` is part of where there are too many to look at all; else 0."""

    def where(self, condition: Callable[[Connection], bool]) -> "SocketSet":
        """The part of the set for which `condition` holds; it may hold for all that are unseen."""
        return self._replace(
            sure=[c for c in self.sure if condition(c)],
            maybe=self.maybe.where(condition),
        )

    def number(self) -> int | Range:
        """How many there are."""
        low = len(self.sure)
        high = low + len(self.maybe) + self.unseen
        return low if low == high else Range(low, high, self.reason)

    def total(self, quantity: Callable[[Connection], int]) -> int | Range:
        """The sum of a quantity over the set; without upper bound where sockets are unseen."""
        low = sum(map(quantity, self.sure))
        high = low + sum(map(quantity, self.maybe)) if not self.unseen else math.inf
        return low if low == high else Range(low, high, self.reason)

    def ages(self, earlier: Earlier) -> Ages:
        """How long each has been in its state."""
        sure = [age_of(c, earlier) for c in self.sure]
        at_most: Sequence[float] = tuple(sorted(age.high for age in sure))
        if self.maybe or self.unseen:
            at_most = Merged(at_most, self.maybe.highest_ages(earlier), self.unseen)
        reasons = [self.reason] if self.maybe or self.unseen else []
        reasons += dict.fromkeys(age.reason for age in sure if age.low < age.high)
        return Ages(tuple(sorted(age.low for age in sure)), at_most, "; ".join(reasons) or None)

    def peers(self, is_client: Callable[[Connection], bool]) -> str | Missing:
        """Peers with most sockets first: ``10.0.0.7:443 (812), 10.0.0.9:443 (3) and 14 more``.

        A peer's port is named where `is_client` does not deny that we were the client and where its
        connections share ports, as those to a server do.
        """
        if not self.sure:
            return Missing(self.reason) if self.maybe or self.unseen else NONE
        return most_common(_count_peers(self.sure, is_client))

    def descriptors(self) -> str | Missing:
        """Descriptors of the first holder of each: ``fd 6, 7, 9 and 137 more``."""
        fds = sorted(c.owner.holders[0].fd for c in self.sure if isinstance(c.owner, Held))
        if not fds:
            return Missing(self.reason) if self.maybe or self.unseen else NONE
        named = fds if len(fds) <= _NAMED + 1 else fds[:_NAMED]
        return "fd " + enumerate_some([str(fd) for fd in named], len(fds) - len(named))


def oldest(ages: Ages) -> float | Range:
    """The age of the oldest of a set, 0 for an empty one."""
    low = ages.at_least[-1] if ages.at_least else 0.0
    high = ages.at_most[-1] if ages.at_most else 0.0
    return low if low == high else Range(low, high, ages.reason or "")


def most_common(numbers: Counter[str], form: str = "{name} ({number:,})") -> str:
    """The names counted most often, with their numbers."""
    ordered = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
    named = ordered if len(ordered) <= _NAMED + 1 else ordered[:_NAMED]
    words = [form.format(name=name, number=number) for name, number in named]
    return enumerate_some(words, len(ordered) - len(named))


def enumerate_some(words: Sequence[str], more: int) -> str:
    """Join words with commas: ``a, b and c``, or ``a, b and 7 more``."""
    if more:
        return f"{', '.join(words)} and {more:,} more"
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _count_peers(connections: Iterable[Connection], is_client: Callable[[Connection], bool]) -> Counter[str]:
    by_address: dict[str, Counter[int]] = {}
    for connection in connections:
        ports = by_address.setdefault(plain_address(connection.remote.address), Counter())
        ports[connection.remote.port if is_client(connection) else _ANY] += 1
    numbers: Counter[str] = Counter()
    for address, ports in by_address.items():
        shared = len(ports) == 1 or ports.total() >= 2 * len(ports)
        for port, number in ports.items():
            named = shared and port != _ANY
            numbers[str(Endpoint(address, port)) if named else address] += number
    return numbers


_ANY = -1


def plain_address(address: str) -> str:
    """An IPv4 address that an IPv6 socket uses, as IPv4; others unchanged."""
    return address[7:] if address.startswith("::ffff:") and "." in address else address


def join_reasons(reasons: Iterable[str]) -> str:
    """Distinct reasons in the order in which they came."""
    return "; ".join(dict.fromkeys(reasons))
