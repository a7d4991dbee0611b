"""Many endings counted: by program and by peer, resets by their reason, and who ends idle connections when.

The last is the keep-alive mismatch behind sporadic errors of a proxy: one side ends connections that were
idle for a time, the other still sends a request on one at that moment, and the request meets a reset.
"""

from collections import Counter
from typing import Literal, TypeVar

from tcpdoctor.diagnosis.endings import Ending, First, Side, Why
from tcpdoctor.named_tuples import NamedTuple

_Key = TypeVar("_Key", "ProgramKey", "PeerKey")

_MOST_PIDS = 8
_MOST_TIMES = 10_000
"""Idle times of one peer that are kept."""
_MOST_KEYS = 2_000
"""Programs, and peers, that are told apart; the rest is counted together."""
_SHORTEST_IDLE = 0.3
"""Seconds: what is closed sooner was not idle."""
_APART, _SHARE = 0.2, 0.05
"""Seconds, and of the idle time itself, by which times may differ that are one setting's."""
_FEWEST = 5


class ProgramKey(NamedTuple):
    """What is counted together by program; None where it is not known, or is one of the rest."""

    name: str | None
    side: Side | None
    port: int | None
    """The service's: local where accepted, remote where opened."""


class PeerKey(NamedTuple):
    """What is counted together by peer."""

    address: bytes | None
    side: Side | None
    port: int | None


class IdleEnd(NamedTuple):
    """One side ends connections that were idle for about one time."""

    by: Literal["here", "peer"]
    seconds: float
    alike: int
    """Closes after about that time."""
    of: int
    """Closes by that side whose idle time is known."""


class Group:
    """What ended of one program, or with one peer."""

    def __init__(self) -> None:
        self.firsts: Counter[First | None] = Counter()
        self.resets: Counter[tuple[str, Why]] = Counter()
        """By whose it was, and why."""
        self.failures: Counter[Why] = Counter()
        """Of those that were never established."""
        self.pids: dict[int, None] = {}
        """The first few."""
        self.names: Counter[str] = Counter()
        self.requests_reset = 0
        """Requests on idle connections that met a reset of the other side."""
        self._idle: dict[str, list[float]] = {"here": [], "peer": []}
        self._waited: list[float] = []

    def add(self, ending: Ending) -> None:
        """Count one more."""
        self.firsts[ending.first] += 1
        if ending.owner is not None:
            if len(self.pids) < _MOST_PIDS:
                self.pids[ending.owner.pid] = None
            if ending.owner.name is not None and len(self.names) < _MOST_KEYS:
                self.names[ending.owner.name] += 1
        if ending.why is not None and ending.first == "never_established":
            self.failures[ending.why] += 1
        elif ending.why is not None and ending.reset is not None:
            self.resets[ending.reset, ending.why] += 1
        if ending.waited is not None or (ending.why is Why.LATE_DATA and ending.opened is False):
            self.requests_reset += 1
        if ending.waited is not None and len(self._waited) < _MOST_TIMES:
            self._waited.append(ending.waited)
        times = self._idle.get(ending.first or "")
        if times is not None and ending.idle is not None and len(times) < _MOST_TIMES:
            times.append(ending.idle)

    @property
    def total(self) -> int:
        """How many ended."""
        return sum(self.firsts.values())

    def idle_end(self, by: Literal["here", "peer"]) -> IdleEnd | None:
        """After how long without data that side closes; None where its closes have no time in common."""
        times = sorted(self._idle[by])
        if len(times) < _FEWEST:
            return None
        middle = times[len(times) // 2]
        near = max(_APART, _SHARE * middle)
        alike = sum(abs(time - middle) <= near for time in times)
        if middle < _SHORTEST_IDLE or 2 * alike <= len(times):
            return None
        return IdleEnd(by, middle, alike, len(times))

    def longest_wait(self) -> float | None:
        """The longest that a connection was idle before a request on it met a reset, in seconds."""
        return max(self._waited, default=None)


class EndingCounts:
    """All that ended in one trace."""

    def __init__(self) -> None:
        self.all = Group()
        self.programs: dict[ProgramKey, Group] = {}
        self.peers: dict[PeerKey, Group] = {}

    def add(self, ending: Ending) -> None:
        """Count one more."""
        _, local_port, remote, remote_port = ending.ends
        side: Side | None = None if ending.opened is None else "opened" if ending.opened else "accepted"
        port = {"opened": remote_port, "accepted": local_port}.get(side or "")
        name = ending.owner.name if ending.owner else None
        self.all.add(ending)
        _at(self.programs, ProgramKey(name, side, port), ProgramKey(None, None, None)).add(ending)
        _at(self.peers, PeerKey(remote, side, port), PeerKey(None, None, None)).add(ending)

    def kept_here(self, name: str | None) -> float | None:
        """After how long a program ends idle connections that it opened, to whomever; None: not seen."""
        if name is None:
            return None
        ends = (
            group.idle_end("here")
            for key, group in self.programs.items()
            if key.name == name and key.side == "opened"
        )
        return max((end.seconds for end in ends if end is not None), default=None)


def _at(groups: dict[_Key, Group], key: _Key, rest: _Key) -> Group:
    found = groups.get(key)
    if found is None:
        found = groups.setdefault(key if len(groups) < _MOST_KEYS else rest, Group())
    return found
