"""Sets of sockets of which some only perhaps belong: how many, how old, which."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import overload

from tcpdoctor.facts.connection import (
    ONLY_BOUNDS,
    TICK,
    Age,
    Earlier,
    age_of,
    hidden_ages,
    narrow,
    partly,
    quiet_ages,
)
from tcpdoctor.facts.subject import HIDDEN_LABEL
from tcpdoctor.facts.value import Ages, Merged, NamedText, Range
from tcpdoctor.kernel.kept_rows import KeptRows
from tcpdoctor.kernel.reading import Missing, Reading, joined
from tcpdoctor.kernel.snapshot import (
    Connection,
    Detail,
    Endpoint,
    Held,
    Listener,
    NotHeld,
    Owner,
    plain_address,
)
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.kernel.text import name_a_few
from tcpdoctor.named_tuples import NamedTuple

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
        self._highs: dict[object, Sequence[float]] = {}

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
        """The most that each can have been in its state, ascending.

        Of sockets that nobody has looked at this look alone tells it: two could tell less.
        """
        if isinstance(self._connections, KeptRows) and not earlier.knows_first_seen:
            if earlier not in self._highs and (ages := self._connections.highest_ages()) is not None:
                self._highs[earlier] = [age + TICK for age in ages]
            if earlier in self._highs:
                return self._highs[earlier]
        return self._highest(earlier, lambda row: age_of(row, earlier))

    def highest_by(self, age: "Callable[[Connection], Age]") -> Sequence[float]:
        """The most that each can be old by this measure, ascending."""
        return self._highest(age, age)

    def _highest(self, key: object, age: "Callable[[Connection], Age]") -> Sequence[float]:
        if not self._connections:
            return ()
        if key not in self._highs:
            self._highs[key] = sorted(age(row).high for row in self._connections)
        return self._highs[key]


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
        bounds = self._ages_from_columns(earlier)
        sure = [age_of(c, earlier) for c in self.sure] if bounds is None else []
        bounds = [(age.low, age.high) for age in sure] if bounds is None else bounds
        at_most: Sequence[float] = tuple(sorted(high for _, high in bounds))
        if self.maybe or self.unseen:
            at_most = Merged(at_most, self.maybe.highest_ages(earlier), self.unseen)
        reasons = [self.reason] if self.maybe or self.unseen else []
        reasons += dict.fromkeys(age.reason for age in sure if age.low < age.high)
        reasons += [ONLY_BOUNDS] * (not sure and any(low < high for low, high in bounds))
        lows = tuple(sorted(low for low, _ in bounds))
        return Ages(lows, at_most, joined(reasons) or None, quiet_ages(sure), hidden_ages(sure))

    def _ages_from_columns(self, earlier: Earlier) -> list[tuple[float, float]] | None:
        """The bounds of the ages of sockets that nobody looked at; None where more may be known."""
        if not isinstance(self.sure, KeptRows) or earlier.knows_first_seen or not self.sure:
            return None
        ages, state = self.sure.ages(), self.sure.state
        if ages is None:
            return None
        if isinstance(earlier.elapsed, Missing):
            return [(low, high + TICK) for _, low, high in ages]
        return [
            narrow(low, high + TICK, earlier.find_key(state, cookie), earlier) for cookie, low, high in ages
        ]

    def peers(self, is_client_port: Callable[[int], bool]) -> str | Missing:
        """Peers with most sockets first: ``10.0.0.7:443 (812), 10.0.0.9:443 (3) and 14 more``.

        A peer's port is named where `is_client_port` does not deny that we were the client and where its
        connections share ports, as those to a server do.
        """
        if not self.sure:
            return Missing(self.reason) if self.maybe or self.unseen else NONE
        ends = [(address, port, is_client_port(local)) for local, address, port in _ends_of(self.sure)]
        ours = {Endpoint(plain_address(address), port) for address, port, is_ours in ends if is_ours}
        return NamedText(most_common(_count_ends(ends)), peers=ours)

    def descriptors(self) -> str | Missing:
        """Descriptors of the first holder of each: ``fd 6, 7, 9 and 137 more``."""
        fds = sorted(c.owner.holders[0].fd for c in self.sure if isinstance(c.owner, Held))
        if not fds:
            return Missing(self.reason) if self.maybe or self.unseen else NONE
        return some_descriptors(fds)


def some_descriptors(fds: Sequence[int]) -> str:
    """The first of some descriptors: ``fd 6, 7, 9 and 137 more``."""
    named = fds if len(fds) <= _NAMED + 1 else fds[:_NAMED]
    return "fd " + enumerate_some([str(fd) for fd in named], len(fds) - len(named))


def pids_of(rows: Iterable[Connection | Listener]) -> frozenset[int]:
    """The processes that hold any of these sockets, as far as they were looked up."""
    return frozenset(
        holder.pid for row in rows if isinstance(row.owner, Held) for holder in row.owner.holders
    )


def holder_name(owner: Owner) -> Reading[str]:
    """Who holds a socket: ``nginx (811)``, ``no process``; Missing where that is hidden."""
    if isinstance(owner, Held):
        return owner.label
    return owner if isinstance(owner, Missing) else "no process"


def count_holders(
    rows: Iterable[Connection | Listener], loose: str = "no process"
) -> tuple[Counter[str], list[Missing]]:
    """How many of these sockets each process holds, `loose` those without a descriptor; what hides others."""
    numbers: Counter[str] = Counter()
    hidden: list[Missing] = []
    for row in rows:
        name = holder_name(row.owner)
        if isinstance(name, Missing):
            hidden.append(name)
        else:
            numbers[loose if isinstance(row.owner, NotHeld) and not row.inode else name] += 1
    if hidden and numbers:
        numbers[HIDDEN_LABEL] = len(hidden)
    return numbers, hidden


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
        return name_a_few(words, len(words), len(words) + more)
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _ends_of(rows: Sequence[Connection]) -> Iterable[tuple[int, str, int]]:
    """The local port of each, and address and port of its other end; none is decoded for it."""
    if isinstance(rows, KeptRows) and not rows.decoded:
        return rows.ends()
    return ((row.local.port, *row.remote) for row in rows)


def name_ends(ends: Iterable[Endpoint]) -> str:
    """The other ends with most connections first, with their ports where connections share them."""
    return most_common(_count_ends((*end, True) for end in ends))


def _count_ends(ends: Iterable[tuple[str, int, bool]]) -> Counter[str]:
    """Count other ends, by address and port, each with whether its port may be that of a server."""
    by_address: dict[str, Counter[int]] = {}
    counted = Counter((address, port if is_server else _ANY) for address, port, is_server in ends)
    for (address, port), number in counted.items():
        by_address.setdefault(plain_address(address), Counter())[port] += number
    numbers: Counter[str] = Counter()
    for address, ports in by_address.items():
        shared = len(ports) == 1 or ports.total() >= 2 * len(ports)
        for port, number in ports.items():
            named = shared and port != _ANY
            numbers[str(Endpoint(address, port)) if named else address] += number
    return numbers


_ANY = -1


# Which sockets in a passing state are stuck there.
#
# FIN_WAIT_1, LAST_ACK, CLOSING and SYN_SENT last for one round trip and a delayed ACK, some 60 ms on a
# healthy link; FIN_WAIT_1 also for as long as unsent data drains after close(). So a single look proves
# nothing. A socket is stuck where nobody answers it:
#
# - it was there in the same state at least `LASTING_SECONDS` ago and the peer has acknowledged nothing
# since (its send queue is the same), or - it has retransmitted `PROOF_BY_RETRIES` times in a row, which
# takes 1.4 s even at the smallest timeout of 200 ms, or has probed a closed window as often without an
# answer.
#
# One whose peer answers and keeps its window closed is none of these: a client that reads in gulps looks
# like that for seconds, and is well. How long such a window has been closed is told apart from them.


LASTING_SECONDS = 0.9
"""The default window of 1 s, less what reading takes; far above a round trip with a delayed ACK."""

PROOF_BY_RETRIES = 3


def lasting(detail: Reading[Detail], state: TcpState, earlier: Earlier) -> Reading[SocketSet]:
    """The sockets stuck in one state: those with proof, and those of which it cannot be told.

    Missing if the sockets of that state were not read.
    """
    if isinstance(detail, Missing):
        return detail
    stuck = split(detail.connections, earlier)
    unseen = detail.total - len(detail.connections)
    if not unseen:
        return stuck
    reasons = joined([stuck.reason, partly(detail, state)])
    return stuck._replace(unseen=unseen, reason=reasons)


def split(connections: Iterable[Connection], earlier: Earlier) -> SocketSet:
    """Separate the sockets that are stuck from those that may be; the others are left out."""
    sure: list[Connection] = []
    maybe: list[Connection] = []
    reasons: dict[str, None] = {}
    for connection in connections:
        verdict = _is_stuck(connection, earlier)
        if isinstance(verdict, Missing):
            maybe.append(connection)
            reasons[verdict.reason] = None
        elif verdict:
            sure.append(connection)
    return SocketSet(sure, Unsure(maybe), 0, joined(reasons))


def _is_stuck(connection: Connection, earlier: Earlier) -> Reading[bool]:
    if connection.retransmits >= PROOF_BY_RETRIES:
        return True
    if connection.timer is Timer.PROBE:
        return False
    before = earlier.find(connection)
    if isinstance(before, Missing) or isinstance(earlier.elapsed, Missing):
        return before if isinstance(before, Missing) else False
    if before is None:
        return False
    if earlier.elapsed < LASTING_SECONDS:
        return Missing("needs two samples that are a second apart")
    return before.send_queue == connection.send_queue


def waits_for_a_window(connection: Connection) -> bool:
    """Whether the peer keeps its window closed and is there: it answered one of the last three probes."""
    return connection.timer is Timer.PROBE and connection.retransmits < PROOF_BY_RETRIES
