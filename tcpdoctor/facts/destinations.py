"""Facts of destinations: how many of the ephemeral ports towards one are taken, and who gets no answer.

A port is taken per (source address, peer, peer's port): other destinations may still use it.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from heapq import nsmallest
from itertools import islice

from tcpdoctor.facts.connection import Earlier, partly, unanswered_age
from tcpdoctor.facts.established import Living, ages_of, holders_text, unacknowledged
from tcpdoctor.facts.ports import PortReuse, Roles, connectable_ports, is_loopback, port_reuse
from tcpdoctor.facts.socketset import NONE, SocketSet, count_holders, lasting, most_common, oldest, pids_of
from tcpdoctor.facts.subject import Crowd, LazyFacts, Scope, Subject, Teller, Told, functions_of, lift
from tcpdoctor.facts.value import BYTE, COUNT, SECOND, NamedText, Range, Value
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import (
    Census,
    Connection,
    Destination,
    DestinationUse,
    Detail,
    Endpoint,
    Samples,
    Snapshot,
    plain_address,
)
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.named_tuples import NamedTuple

_APART = frozenset({"destination.port"})
"""The only number by which destinations differ that are alike in all else."""
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
    return _Destinations(samples, host).crowd()


class _Destinations:
    """What the destinations of a look share."""

    def __init__(self, samples: Samples, host: Mapping[str, Value]) -> None:
        self._snapshot, self._host = samples.after, host
        self._census = samples.after.census
        self._attempts = _attempts(samples.after.detail)
        self._earlier = Earlier(samples)
        self._living = Living.of(samples.after, Roles(samples.after))

    def crowd(self) -> Crowd:
        """A subject for each destination."""
        uses = {} if isinstance(self._census, Missing) else self._census.by_destination
        tried = {} if isinstance(self._attempts, Missing) else self._attempts.by_destination
        fixed = self._living.fixed_port_destinations()
        destinations = list(dict.fromkeys((*uses, *tried, *fixed)))
        alone = {*tried, *fixed, *self._living.unanswered_destinations()}

        def kind(destination: Destination) -> Hashable:
            """All that its facts are made of; where sockets were looked at one by one it is of its own."""
            if destination in alone:
                return destination
            loopback = is_loopback(destination.source) or is_loopback(destination.address)
            return _use(self._census, destination), loopback

        return Crowd(map(kind, destinations), lambda number: self._subject(destinations[number]), _APART)

    def _subject(self, destination: Destination) -> Subject:
        attempts = self._attempts
        towards = Towards(
            destination,
            _use(self._census, destination),
            attempts if isinstance(attempts, Missing) else attempts.towards(destination),
            self._snapshot,
            self._earlier,
            self._living,
        )
        source, address, port = destination
        return Subject(
            Scope.DESTINATION,
            f"{Endpoint(address, port)} from {source}",
            {"source": source, "address": address, "port": port},
            LazyFacts(towards, FUNCTIONS, self._host),
        )


class PortsLeft(NamedTuple):
    """How many ports connect() can still choose from towards one peer, at least."""

    endpoint: str
    """``10.0.0.5:5432``."""
    number: int


class Left(NamedTuple):
    """What connections towards one destination leave of the ports."""

    source: str
    peer: str
    """``10.0.0.5:5432``."""
    used: int
    """Sockets towards it, those in TIME_WAIT included."""
    usable: int
    """Ports that connect() chooses from."""
    left: Reading[int]
    """At least; Missing where sockets may be absent from the count."""


def fewest_ports_left(snapshot: Snapshot, most: int) -> Sequence[PortsLeft]:
    """Return the peers to which the fewest ports are left, the fewest first, at most so many.

    Of several local addresses the one with the fewest counts. Empty where the ports or the sockets towards
    some peer are not known: a number that may be too high would look like health.
    """
    found = ports_left(snapshot)
    if isinstance(found, Missing):
        return ()
    left: dict[str, int] = {}
    for one in found:
        if isinstance(one.left, Missing):
            return ()
        left[one.peer] = min(one.left, left.get(one.peer, one.left))
    fewest = nsmallest(most, ((number, endpoint) for endpoint, number in left.items()))
    return tuple(PortsLeft(endpoint, number) for number, endpoint in fewest)


def ports_left(snapshot: Snapshot, most: int | None = None) -> Reading[Sequence[Left]]:
    """Return the destinations that use most ports, at most so many, and what is left towards each.

    Missing where the destinations were not counted, or the number of ports is not known.
    """
    connectable, census = connectable_ports(snapshot), snapshot.census
    if isinstance(connectable, Range):
        connectable = connectable.low
    if isinstance(census, Missing):
        return census
    if isinstance(connectable, Missing):
        return connectable
    if not isinstance(connectable, int | float):
        return Missing("the number of ports is not known")
    unsure = census.complete if isinstance(census.complete, Missing) else None
    found = []
    for towards, use in islice(census.by_destination.items(), most):
        reuse = port_reuse(snapshot, towards.source, towards.address)
        spared = use.time_wait if not isinstance(reuse, Missing) and reuse.allowed else 0
        number = max(0, int(connectable) - (use.total - spared) - use.uncounted)
        peer = str(Endpoint(towards.address, towards.port))
        found.append(Left(towards.source, peer, use.total, int(connectable), unsure or number))
    return found


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
    numbers, hidden = count_holders(attempts.connections)
    if not numbers:
        return hidden[0] if hidden else NONE
    return NamedText(most_common(numbers, "{name}: {number:,}"), pids=pids_of(attempts.connections))


def _unanswered(value: Callable[[SocketSet], Value]) -> Callable[[Towards], Value]:
    return lift(
        lambda towards: towards.living.towards(towards.destination), lambda sockets, _: value(sockets)
    )


_UNANSWERED = "connections in ESTABLISHED that have sent the same segment three times or more without answer"
_SS_INFO_ON = "ss -tnoi state established (timer, rto, backoff, lastack)"

_of_destination = Teller[Towards](Scope.DESTINATION)

FACTS: Sequence[Told[Towards]] = (
    _of_destination.text(
        "destination.address", "Address of the peer.", "ss -tan", lambda towards: towards.destination.address
    ),
    _of_destination.gauge(
        "destination.port", COUNT, "Port of the peer.", "ss -tan", lambda towards: towards.destination.port
    ),
    _of_destination.text(
        "destination.endpoint",
        "Address and port of the peer.",
        "ss -tan",
        lambda towards: str(Endpoint(towards.destination.address, towards.destination.port)),
    ),
    _of_destination.text(
        "destination.source",
        "Local address of the connections to this peer.",
        "ss -tan",
        lambda towards: towards.destination.source,
    ),
    _of_destination.text(
        "destination.owners",
        "Processes whose connections to this peer are in SYN_SENT, those with most first.",
        "ss -tanp state syn-sent",
        _owners,
    ),
    _of_destination.gauge(
        "ports.used",
        COUNT,
        "Ephemeral ports in use between this source address and this peer's port, in any state.",
        "ss -tan dst ADDRESS dport = :PORT src SOURCE",
        _used,
    ),
    _of_destination.gauge(
        "ports.time_wait",
        COUNT,
        "Of the ephemeral ports in use towards this peer, those in TIME_WAIT.",
        "ss -tan state time-wait dst ADDRESS dport = :PORT src SOURCE",
        _time_wait,
    ),
    _of_destination.gauge(
        "ports.blocked",
        COUNT,
        "Of the ephemeral ports in use towards this peer, those that connect() cannot take: all but the "
        "TIME_WAIT that net.ipv4.tcp_tw_reuse lets it take over.",
        "ss -tan dst ADDRESS dport = :PORT src SOURCE, /proc/sys/net/ipv4/tcp_tw_reuse",
        _blocked,
    ),
    _of_destination.text(
        "ports.time_wait_reuse",
        "Whether connect() may take over ports in TIME_WAIT towards this peer, and what decides it.",
        "/proc/sys/net/ipv4/tcp_tw_reuse, /proc/sys/net/ipv4/tcp_timestamps",
        _time_wait_reuse,
    ),
    _of_destination.gauge(
        "syn_sent.lasting",
        COUNT,
        "Connection attempts to this peer without answer: an earlier look at least 0.9 s ago found them, "
        "or the SYN was retransmitted three times.",
        "ss -tano state syn-sent (timer)",
        lift(_stuck, lambda stuck, _: stuck.number()),
    ),
    _of_destination.ages(
        "syn_sent.lasting_ages",
        "How long each unanswered connection attempt has lasted, from its retransmissions and timer.",
        "ss -tanoi state syn-sent (timer, rto, backoff)",
        lift(_stuck, lambda stuck, towards: stuck.ages(towards.earlier)),
    ),
    _of_destination.gauge(
        "syn_sent.oldest_age",
        SECOND,
        "How long the oldest connection attempt to this peer has lasted; 0 where there is none.",
        "ss -tanoi state syn-sent (timer, rto, backoff)",
        _oldest,
    ),
    _of_destination.ages(
        "destination.unanswered_ages",
        f"How long each of the {_UNANSWERED} from this peer has waited.",
        _SS_INFO_ON,
        _unanswered(lambda sockets: ages_of(sockets, unanswered_age)),
    ),
    _of_destination.gauge(
        "destination.unanswered_oldest",
        SECOND,
        "How long the longest-waiting of these has had no answer; 0 where there is none.",
        _SS_INFO_ON,
        _unanswered(lambda sockets: oldest(ages_of(sockets, unanswered_age))),
    ),
    _of_destination.text(
        "destination.unanswered_owners",
        "Processes whose established connections to this peer get no answer, those with most first.",
        "ss -tnop state established",
        _unanswered(holders_text),
    ),
    _of_destination.gauge(
        "destination.unanswered_send_queue",
        BYTE,
        "Bytes sent or to be sent to this peer on the connections without answer.",
        "ss -tno state established (Send-Q)",
        _unanswered(unacknowledged),
    ),
)
FUNCTIONS = functions_of(FACTS)
