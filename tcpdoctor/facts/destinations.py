"""Facts of destinations: how many of the ephemeral ports towards one are taken, and who gets no answer.

A port is taken per (source address, peer, peer's port): other destinations may still use it.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tcpdoctor.facts.established import SET_FUNCTIONS, Living
from tcpdoctor.facts.portrange import PortReuse, Roles, port_reuse
from tcpdoctor.facts.socketset import (
    NONE,
    Earlier,
    SocketSet,
    lasting,
    most_common,
    oldest,
    partly,
    pids_of,
    plain_address,
)
from tcpdoctor.facts.subject import HIDDEN_LABEL, LazyFacts, Scope, Subject
from tcpdoctor.facts.value import NamedText, Range, Value
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import (
    Census,
    Connection,
    Destination,
    DestinationUse,
    Detail,
    Endpoint,
    Held,
    NotHeld,
    Samples,
    Snapshot,
)
from tcpdoctor.kernel.states import TcpState

_PRUNED = "there were too many destinations to count all of them"


class Towards(NamedTuple):
    """One destination with the sockets that go there."""

    destination: Destination
    use: Reading[DestinationUse]
    attempts: Reading[Detail]
    """Sockets in SYN_SENT towards it, and how many there may be."""
    snapshot: Snapshot
    earlier: Earlier
    living: Living


def destination_subjects(samples: Samples, host: Mapping[str, Value]) -> Reading[Sequence[Subject]]:
    """One subject per (source, peer, peer's port), the most used first.

    These are the destinations of the census (connections from ephemeral ports), those of connections in
    SYN_SENT, and those from other ports that get no answer. Missing where
    neither could be read; with only one of the two, the other's facts are Missing.
    """
    census, detail = samples.after.census, samples.after.detail
    if isinstance(census, Missing) and isinstance(detail, Missing):
        return census
    attempts = _attempts(detail)
    uses = {} if isinstance(census, Missing) else census.by_destination
    tried = {} if isinstance(attempts, Missing) else attempts.by_destination
    earlier = Earlier(samples)
    living = Living.of(samples.after, Roles(samples.after))
    subjects = []
    for destination in dict.fromkeys((*uses, *tried, *living.fixed_port_destinations())):
        towards = Towards(
            destination,
            _use(census, destination),
            attempts if isinstance(attempts, Missing) else attempts.towards(destination),
            samples.after,
            earlier,
            living,
        )
        source, address, port = destination
        subjects.append(
            Subject(
                Scope.DESTINATION,
                f"{Endpoint(address, port)} from {source}",
                {"source": source, "address": address, "port": port},
                LazyFacts(towards, FUNCTIONS, host),
            )
        )
    return subjects


class _Attempts(NamedTuple):
    """The sockets in SYN_SENT, by destination."""

    by_destination: Mapping[Destination, Sequence[Connection]]
    seen: int
    total: int

    def towards(self, destination: Destination) -> Detail:
        """Those towards one destination; all that were not looked at may go there as well."""
        found = self.by_destination.get(destination, ())
        return Detail(tuple(found), len(found) + self.total - self.seen)


def _attempts(detail: Reading[Mapping[TcpState, Detail]]) -> Reading[_Attempts]:
    if isinstance(detail, Missing):
        return detail
    sockets = detail.get(TcpState.SYN_SENT)
    if sockets is None:
        return Missing("sockets in SYN_SENT were not read one by one")
    found: dict[Destination, list[Connection]] = {}
    for connection in sockets.connections:
        destination = Destination(
            plain_address(connection.local.address),
            plain_address(connection.remote.address),
            connection.remote.port,
        )
        found.setdefault(destination, []).append(connection)
    return _Attempts(found, len(sockets.connections), sockets.total)


def _use(census: Reading[Census], destination: Destination) -> Reading[DestinationUse]:
    if isinstance(census, Missing):
        return census
    return census.by_destination.get(destination, DestinationUse(0, 0, census.unlisted))


def _used(towards: Towards) -> Value:
    return _counted(towards, lambda use: use.total)


def _time_wait(towards: Towards) -> Value:
    return _counted(towards, lambda use: use.time_wait)


def _blocked(towards: Towards) -> Value:
    """Where TIME_WAIT may be taken over, its few sockets that are too young for it are not counted."""
    reuse = _reuse(towards)
    if isinstance(reuse, Missing):
        return reuse
    return _counted(towards, lambda use: use.total - use.time_wait if reuse.allowed else use.total)


def _time_wait_reuse(towards: Towards) -> Value:
    reuse = _reuse(towards)
    return reuse if isinstance(reuse, Missing) else str(reuse)


def _reuse(towards: Towards) -> Reading[PortReuse]:
    return port_reuse(towards.snapshot, towards.destination.source, towards.destination.address)


def _counted(towards: Towards, part: Callable[[DestinationUse], int]) -> Value:
    use, census = towards.use, towards.snapshot.census
    if isinstance(use, Missing):
        return use
    low = part(use)
    if not isinstance(census, Missing) and isinstance(census.complete, Missing):
        return Range(low, math.inf, census.complete.reason)
    return Range(low, low + use.uncounted, _PRUNED) if use.uncounted else low


def _stuck(towards: Towards) -> Reading[SocketSet]:
    return lasting(towards.attempts, TcpState.SYN_SENT, towards.earlier)


def _lasting(towards: Towards) -> Value:
    stuck = _stuck(towards)
    return stuck if isinstance(stuck, Missing) else stuck.number()


def _lasting_ages(towards: Towards) -> Value:
    stuck = _stuck(towards)
    return stuck if isinstance(stuck, Missing) else stuck.ages(towards.earlier)


def _oldest(towards: Towards) -> Value:
    attempts = towards.attempts
    if isinstance(attempts, Missing):
        return attempts
    unseen = attempts.total - len(attempts.connections)
    reason = partly(attempts, TcpState.SYN_SENT) if unseen else ""
    return oldest(SocketSet(attempts.connections, unseen=unseen, reason=reason).ages(towards.earlier))


def _owners(towards: Towards) -> Value:
    """The holders of the sockets in SYN_SENT: those of other states are not looked up."""
    attempts = towards.attempts
    if isinstance(attempts, Missing):
        return attempts
    numbers: Counter[str] = Counter()
    unknown: list[Missing] = []
    for connection in attempts.connections:
        match connection.owner:
            case Held(holders=holders):
                numbers[f"{holders[0].name} ({holders[0].pid})"] += 1
            case NotHeld():
                numbers["no process"] += 1
            case Missing():
                unknown.append(connection.owner)
    if not numbers:
        return unknown[0] if unknown else NONE
    if unknown:
        numbers[HIDDEN_LABEL] = len(unknown)
    return NamedText(most_common(numbers, "{name}: {number:,}"), pids=pids_of(attempts.connections))


def _unanswered(value: Callable[[SocketSet], Value]) -> Callable[[Towards], Value]:
    def fact(towards: Towards) -> Value:
        sockets = towards.living.towards(towards.destination)
        return sockets if isinstance(sockets, Missing) else value(sockets)

    return fact


FUNCTIONS: Mapping[str, Callable[[Towards], Value]] = {
    "destination.address": lambda towards: towards.destination.address,
    "destination.port": lambda towards: towards.destination.port,
    "destination.endpoint": lambda towards: str(
        Endpoint(towards.destination.address, towards.destination.port)
    ),
    "destination.source": lambda towards: towards.destination.source,
    "destination.owners": _owners,
    "ports.used": _used,
    "ports.time_wait": _time_wait,
    "ports.blocked": _blocked,
    "ports.time_wait_reuse": _time_wait_reuse,
    "syn_sent.lasting": _lasting,
    "syn_sent.lasting_ages": _lasting_ages,
    "syn_sent.oldest_age": _oldest,
    **{name: _unanswered(value) for name, value in SET_FUNCTIONS.items()},
}
