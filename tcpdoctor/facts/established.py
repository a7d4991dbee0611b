"""Facts of connections in ESTABLISHED: by timer, and the suspects that the census picked out.

How long something lasts no interface tells; the timers do, as bounds:

- Unanswered data. Of n retransmissions each waited for twice as long as the one before, so their sum has
  passed at least; and nothing was acknowledged since the last ACK came, so no more than that. Of n probes
  without answer n - 1 waits are over.
- A closed window. The probes back off in the same way from the retransmission timeout, which gives the
  least; what could be sent was sent before the window closed, so the last data sent is the most.
- Idle: since data last went either way; the kernel tells both times.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from tcpdoctor.facts.connection import (
    Age,
    closed_window_age,
    idle_age,
    is_lost_by_size,
    lost_by_size_age,
    on_this_host,
    silence_age,
    unanswered_age,
)
from tcpdoctor.facts.ports import Roles
from tcpdoctor.facts.socketset import (
    NONE,
    SocketSet,
    count_holders,
    enumerate_some,
    holder_name,
    most_common,
    oldest,
    pids_of,
)
from tcpdoctor.facts.subject import HIDDEN_LABEL, Scope, Teller, Told, functions_of, lift
from tcpdoctor.facts.value import BYTE, COUNT, SECOND, Ages, Merged, NamedText, Range, Value, show
from tcpdoctor.kernel.kept_rows import with_queue
from tcpdoctor.kernel.reading import Missing, Reading, joined
from tcpdoctor.kernel.snapshot import (
    Connection,
    Destination,
    Detail,
    Endpoint,
    Established,
    Snapshot,
    plain_address,
)
from tcpdoctor.kernel.sock_diag_rows import NOT_LOOKED_UP
from tcpdoctor.kernel.states import Timer
from tcpdoctor.kernel.tally import LARGE_QUEUE
from tcpdoctor.named_tuples import NamedTuple

# The established connections of one look, and which of those without answer this host made.


class Living(NamedTuple):
    """The established connections of one look."""

    established: Reading[Established]
    snapshot: Snapshot
    roles: Roles

    @classmethod
    def of(cls, snapshot: Snapshot, roles: Roles) -> "Living":
        """Those of a snapshot; Missing where the census was not taken."""
        census = snapshot.census
        return cls(census if isinstance(census, Missing) else census.established, snapshot, roles)

    def some(self, part: Callable[[Established], Detail]) -> Reading[SocketSet]:
        """The sockets of one kind, with what was not looked at."""
        if isinstance(self.established, Missing):
            return self.established
        return as_set(part(self.established))

    def all(self, number: int) -> Value:
        """A number of the census; a lower bound where the census may lack sockets."""
        census = self.snapshot.census
        if not isinstance(census, Missing) and isinstance(census.complete, Missing):
            return Range(number, math.inf, census.complete.reason)
        return number

    def unanswered(self) -> Reading[SocketSet]:
        """Those that get no answer."""
        return self.some(lambda established: established.unanswered)

    def incoming(self) -> Reading[SocketSet]:
        """The accepted ones of those that get no answer."""
        sockets = self.unanswered()
        if isinstance(sockets, Missing):
            return sockets
        ours = {id(row) for row in self._from_fixed_ports(sockets)}
        return sockets.where(
            lambda row: not self.roles.is_client(row) and id(row) not in ours and not is_lost_by_size(row)
        )

    def lost_by_size(self) -> Reading[SocketSet]:
        """Those whose peers answer, and whose full segments get no answer; tcp_info alone tells them."""
        sockets = self.unanswered()
        if isinstance(sockets, Missing):
            return sockets
        for row in (*sockets.sure, *sockets.maybe):
            if isinstance(row.info, Missing) and row.timer is Timer.RETRANSMIT:
                return row.info
        return sockets.where(is_lost_by_size)

    def fixed_port_destinations(self) -> list[Destination]:
        """Where those lead that get no answer and were made from ports outside the ephemeral range."""
        sockets = self.unanswered()
        return [] if isinstance(sockets, Missing) else [*map(_destination, self._from_fixed_ports(sockets))]

    def unanswered_destinations(self) -> set[Destination]:
        """Where those lead that get no answer."""
        sockets = self.unanswered()
        return (
            set() if isinstance(sockets, Missing) else {*map(_destination, (*sockets.sure, *sockets.maybe))}
        )

    def _from_fixed_ports(self, sockets: SocketSet) -> list[Connection]:
        """Outgoing ones whose program chose the local port (haproxy `source` with ports, NFS, BGP).

        Nobody listens on that port, and only one of these is on it: what is left of a server that listens
        no more shares the server's port.
        """
        on_port = Counter(row.local.port for row in sockets.sure)
        return [
            row
            for row in sockets.sure
            if not self.roles.is_client(row)
            and not self.roles.has_listener(row)
            and on_port[row.local.port] == 1
        ]

    def towards(self, destination: Destination) -> Reading[SocketSet]:
        """The outgoing ones to one destination of those that get no answer."""
        sockets = self.unanswered()
        if isinstance(sockets, Missing):
            return sockets
        return sockets.where(lambda row: _destination(row) == destination and not is_lost_by_size(row))


def as_set(detail: Detail) -> SocketSet:
    """The sockets that are known one by one, and how many more there are."""
    unseen = detail.total - len(detail.connections)
    reason = (
        detail.reason or f"only {len(detail.connections):,} of {detail.total:,} such sockets were looked at"
    )
    if not unseen:
        return SocketSet(detail.connections)
    return SocketSet(detail.connections, unseen=unseen, reason=reason, looked_at=len(detail.connections))


def _destination(row: Connection) -> Destination:
    return Destination(plain_address(row.local.address), plain_address(row.remote.address), row.remote.port)


_MOST_IDLE = 16
"""Of the connections idle for long so many owners were looked up."""


def ages_of(sockets: SocketSet, age: Callable[[Connection], Age]) -> Ages:
    """How old each socket of a set is by this measure."""
    known = [age(row) for row in sockets.sure]
    highs: Sequence[float] = tuple(sorted(one.high for one in known))
    if sockets.maybe or sockets.unseen:
        highs = Merged(highs, sockets.maybe.highest_by(age), sockets.unseen)
    reasons = [sockets.reason] if sockets.maybe or sockets.unseen else []
    reasons += dict.fromkeys(one.reason for one in known if one.low < one.high)
    lows = [one.low for one in known]
    return Ages(_of_all(lows, sockets), highs, joined(reasons) or None)


def _of_all(lows: list[float], sockets: SocketSet) -> tuple[float, ...]:
    """The lower ends of all, from those of a sample: a part of it tells the part of all.

    Of each age so many are taken to be as old as the sample's share says, less three standard deviations;
    never fewer than were seen. Without that an outage of a thousand connections could not be told from
    one of the five hundred that are looked at.
    """
    if not sockets.looked_at:
        return tuple(sorted(lows))
    size, found = sockets.looked_at, list[float]()
    for number, low in enumerate(sorted(lows, reverse=True), start=1):
        share = number / size
        spread = 3 * math.sqrt(max(share * (1 - share), 3 / size) / size)
        surely = max(number, math.floor((size + sockets.unseen) * (share - spread)))
        found += [low] * (surely - len(found))
    return tuple(reversed(found))


def holders_text(sockets: SocketSet) -> Value:
    """Who holds the sockets: ``orders-api (811): 23, worker (97): 2``."""
    numbers, hidden = count_holders(sockets.sure, "not accepted yet")
    if not numbers:
        return hidden[0] if hidden else NONE
    text = most_common(numbers, "{name}: {number:,}")
    return NamedText(text, pids=pids_of(sockets.sure), ports=(row.local.port for row in sockets.sure))


def _idle_unprobed(living: Living) -> Reading[SocketSet]:
    """The sampled connections to other hosts that nothing would end if the peer were gone."""
    if isinstance(living.established, Missing):
        return living.established
    sample = living.established.sample.connections
    strange = next((row.info for row in sample if isinstance(row.info, Missing)), None)
    if strange is not None:
        return strange
    return SocketSet([row for row in sample if row.timer is Timer.NONE and not on_this_host(row)])


def _kept_alive(living: Living) -> Reading[SocketSet]:
    """The sampled connections to other hosts on which keepalive waits to send a probe."""
    if isinstance(living.established, Missing):
        return living.established
    sample = living.established.sample.connections
    return SocketSet([row for row in sample if row.timer is Timer.KEEPALIVE and not on_this_host(row)])


def _longest(
    of: Callable[[Living], Reading[SocketSet]], age: Callable[[Connection], Age]
) -> Callable[[Living], Reading[SocketSet]]:
    """The sixteen of these that are so for longest."""

    def longest(living: Living) -> Reading[SocketSet]:
        sockets = of(living)
        if isinstance(sockets, Missing):
            return sockets
        ordered = sorted(sockets.sure, key=lambda row: age(row).low, reverse=True)
        return SocketSet(ordered[:_MOST_IDLE])

    return longest


_kept_alive_longest, _idle_longest = _longest(_kept_alive, silence_age), _longest(_idle_unprobed, idle_age)


def _latest_probe(sockets: SocketSet) -> Value:
    """The longest time from the last packet to the next probe: TCP_KEEPIDLE of that connection."""
    waits = [silence_age(row).low + row.expires for row in sockets.sure if not isinstance(row.info, Missing)]
    return max(waits, default=0.0)


def _looked_up_holders(sockets: SocketSet) -> Value:
    """Who holds those of the set whose owners were looked up."""
    asked = [row for row in sockets.sure if row.owner != NOT_LOOKED_UP]
    if sockets.sure and not asked:
        return Missing("owners are looked up of connections that have been idle for an hour")
    return holders_text(SocketSet(asked))


def _large(living: Living) -> Reading[SocketSet]:
    """Connections of every state with a long queue: those in other states are known one by one anyway."""
    sockets, detail = living.some(lambda established: established.large), living.snapshot.detail
    if isinstance(sockets, Missing):
        return sockets
    if isinstance(detail, Missing):
        return detail
    others = [row for of_state in detail.values() for row in with_queue(of_state.connections, LARGE_QUEUE)]
    return sockets._replace(sure=[*sockets.sure, *others])


def _large_owners(sockets: SocketSet) -> Value:
    """``orders-api (811): 23 with 71 MiB``, the most bytes first."""
    numbers: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for row in sockets.sure:
        name = holder_name(row.owner)
        name = HIDDEN_LABEL if isinstance(name, Missing) else name
        numbers[name] += 1
        held[name] += row.receive_queue + row.send_queue
    if not numbers:
        return NONE
    words = [f"{name}: {numbers[name]:,} with {show(number, BYTE)}" for name, number in held.most_common()]
    text = enumerate_some(words[:_NAMED], len(words) - len(words[:_NAMED]))
    return NamedText(text, pids=pids_of(sockets.sure), ports=(row.local.port for row in sockets.sure))


_NAMED = 3


def _endpoints(rows: Sequence[Connection]) -> str:
    named = sorted({str(row.local) for row in rows})
    text = enumerate_some(named[:_NAMED], len(named) - len(named[:_NAMED])) or NONE
    ends = (Endpoint(plain_address(row.remote.address), row.remote.port) for row in rows)
    return NamedText(text, peers=ends, ports=(row.local.port for row in rows))


def _ports(rows: Iterable[Connection]) -> str:
    return ",".join(map(str, sorted({row.local.port for row in rows}))) or NONE


_Of = Callable[[Living], Reading[SocketSet]]


def _with(of: _Of, value: Callable[[SocketSet], Value]) -> Callable[[Living], Value]:
    return lift(of, lambda sockets, _: value(sockets))


def _peers(of: _Of) -> Callable[[Living], Value]:
    return lift(of, lambda sockets, living: sockets.peers(living.roles.is_client_port))


def _count(number: Callable[[Established], int]) -> Callable[[Living], Value]:
    return lift(
        lambda living: living.established, lambda established, living: living.all(number(established))
    )


def unacknowledged(sockets: SocketSet) -> Value:
    """Bytes in the send queues of these sockets."""
    return sockets.total(lambda row: row.send_queue)


def _most_repeated(sockets: SocketSet) -> Value:
    """The most repetitions of one segment or probe."""
    most = max((row.retransmits for row in sockets.sure), default=0)
    return Range(most, math.inf, sockets.reason) if sockets.unseen else most


def _mss_of(row: Connection) -> int:
    return 0 if isinstance(row.info, Missing) else row.info.mss


def _closed(living: Living) -> Reading[SocketSet]:
    return living.some(lambda established: established.closed_window)


def _self_connected(living: Living) -> Reading[SocketSet]:
    return living.some(lambda established: established.self_connected)


def _ages(age: Callable[[Connection], Age]) -> Callable[[SocketSet], Ages]:
    return lambda sockets: ages_of(sockets, age)


def _oldest(age: Callable[[Connection], Age]) -> Callable[[SocketSet], Value]:
    return lambda sockets: oldest(ages_of(sockets, age))


_UNANSWERED = "connections in ESTABLISHED that have sent the same segment three times or more without answer"
_SS_ON = "ss -tno state established (timer:(on,..,3) or (persist,..,3), or more)"
_SS_INFO_ON = "ss -tnoi state established (timer, rto, backoff, lastack)"
_SS_PERSIST = "ss -tnoi state established (timer:(persist,..), backoff, lastsnd)"
_SS_IDLE = "ss -tnoi state established (no timer, lastsnd, lastrcv)"
_SS_KEPT_ALIVE = "ss -tnoi state established (timer:(keepalive,..), lastsnd, lastrcv, lastack)"
_SS_BY_SIZE = "ss -tnoi state established (timer:(on,..,3) or more, mss, sacked, lastack)"
_SS_MEMORY = "ss -tnm (Recv-Q, Send-Q, skmem)"
_SAMPLED = "Of the established connections looked at (all up to 256, else a uniform sample of 256)"

_of_host = Teller[Living](Scope.HOST)

FACTS: Sequence[Told[Living]] = (
    _of_host.gauge(
        "established.no_timer",
        COUNT,
        "Connections in ESTABLISHED without any timer: nothing is outstanding, and keepalive is off.",
        "ss -Htno state established | grep -vc timer:",
        _count(lambda established: established.no_timer),
    ),
    _of_host.gauge(
        "established.keepalive",
        COUNT,
        "Connections in ESTABLISHED with nothing outstanding, whose keepalive timer runs (SO_KEEPALIVE).",
        "ss -Htno state established | grep -c timer:.keepalive",
        _count(lambda established: established.keepalive),
    ),
    _of_host.gauge(
        "established.retransmitting",
        COUNT,
        "Connections in ESTABLISHED with data on its way: the retransmission timer runs, just in case.",
        "ss -Htno state established | grep -c timer:.on",
        _count(lambda established: established.retransmitting),
    ),
    _of_host.gauge(
        "established.probing",
        COUNT,
        "Connections in ESTABLISHED with data to send held back, mostly as the peer's window is closed.",
        "ss -Htno state established | grep -c timer:.persist",
        _count(lambda established: established.probing),
    ),
    _of_host.gauge(
        "unanswered.sockets",
        COUNT,
        f"{_UNANSWERED[0].upper()}{_UNANSWERED[1:]}.",
        _SS_ON,
        _with(lambda living: living.unanswered(), SocketSet.number),
    ),
    _of_host.gauge(
        "unanswered.backoff",
        COUNT,
        "How often the most repeated segment or probe of these connections was sent again unanswered; "
        "each time the wait doubled. 0 where there is none.",
        _SS_INFO_ON,
        _with(lambda living: living.unanswered(), _most_repeated),
    ),
    _of_host.ages(
        "unanswered.incoming_ages",
        f"Of the {_UNANSWERED}, those that were accepted here: for how long.",
        _SS_INFO_ON,
        _with(Living.incoming, _ages(unanswered_age)),
    ),
    _of_host.text(
        "unanswered.incoming_peers",
        "Peers of the accepted connections without answer, those with most first.",
        _SS_ON,
        _peers(Living.incoming),
    ),
    _of_host.text(
        "unanswered.incoming_owners",
        "Processes that hold the accepted connections without answer, those with most first.",
        "ss -tnop state established",
        _with(Living.incoming, holders_text),
    ),
    _of_host.gauge(
        "unanswered.incoming_send_queue",
        BYTE,
        "Bytes that the accepted connections without answer still hold for their peers.",
        "ss -tno state established (Send-Q)",
        _with(Living.incoming, unacknowledged),
    ),
    _of_host.ages(
        "unanswered.by_size_ages",
        f"{_UNANSWERED[0].upper()}{_UNANSWERED[1:]}, full segments, while the peer answers small ones: for "
        "how long at least.",
        _SS_BY_SIZE,
        _with(Living.lost_by_size, _ages(lost_by_size_age)),
    ),
    _of_host.gauge(
        "unanswered.by_size_mss",
        BYTE,
        "Data in a full segment of these connections, the largest; 0 where there is none.",
        _SS_BY_SIZE,
        _with(Living.lost_by_size, lambda sockets: max((_mss_of(row) for row in sockets.sure), default=0)),
    ),
    _of_host.text(
        "unanswered.by_size_peers",
        "Peers of these connections, those with most first.",
        _SS_BY_SIZE,
        _peers(Living.lost_by_size),
    ),
    _of_host.text(
        "unanswered.by_size_owners",
        "Processes that hold these connections, those with most first.",
        "ss -tnopi state established (timer:(on,..,3) or more, mss, sacked)",
        _with(Living.lost_by_size, holders_text),
    ),
    _of_host.ages(
        "zero_window.ages",
        "How long each established connection with data to send has found its peer's window closed.",
        _SS_PERSIST,
        _with(_closed, _ages(closed_window_age)),
    ),
    _of_host.gauge(
        "zero_window.oldest",
        SECOND,
        "How long the longest-waiting of these has found its peer's window closed; 0 where there is none.",
        _SS_PERSIST,
        _with(_closed, _oldest(closed_window_age)),
    ),
    _of_host.text(
        "zero_window.peers",
        "Peers whose windows are closed, those with most connections first.",
        "ss -tno state established (timer:(persist,..))",
        _peers(_closed),
    ),
    _of_host.text(
        "zero_window.owners",
        "Processes that wait for a closed window to open, those with most connections first.",
        "ss -tnop state established (timer:(persist,..))",
        _with(_closed, holders_text),
    ),
    _of_host.gauge(
        "zero_window.send_queue",
        BYTE,
        "Bytes that wait here for the closed windows of peers to open.",
        "ss -tno state established (timer:(persist,..), Send-Q)",
        _with(_closed, unacknowledged),
    ),
    _of_host.gauge(
        "idle.sampled",
        COUNT,
        "Connections in ESTABLISHED that were looked at for how long they are idle.",
        "ss -Htno state established | wc -l (at most 256 of them)",
        _count(lambda established: len(established.sample.connections)),
    ),
    _of_host.ages(
        "idle.unprobed_ages",
        f"{_SAMPLED}, those to other hosts without any timer, keepalive off: how long no data went "
        "either way.",
        _SS_IDLE,
        _with(_idle_unprobed, _ages(idle_age)),
    ),
    _of_host.gauge(
        "idle.oldest_unprobed",
        SECOND,
        "How long the most idle of these has been idle; 0 where there is none.",
        _SS_IDLE,
        _with(_idle_unprobed, _oldest(idle_age)),
    ),
    _of_host.text(
        "idle.unprobed_peers",
        "Peers of the sixteen longest idle of these, those with most first.",
        _SS_IDLE,
        _peers(_idle_longest),
    ),
    _of_host.text(
        "idle.unprobed_owners",
        "Processes that hold the sixteen longest idle of these, those with most first; looked up where "
        "they have been idle for an hour.",
        "ss -tnopi state established (no timer, lastsnd, lastrcv)",
        _with(_idle_longest, _looked_up_holders),
    ),
    _of_host.ages(
        "idle.kept_alive_ages",
        f"{_SAMPLED}, those to other hosts with keepalive on: how long nothing went over them, no probe "
        "either.",
        _SS_KEPT_ALIVE,
        _with(_kept_alive, _ages(silence_age)),
    ),
    _of_host.gauge(
        "idle.latest_probe",
        SECOND,
        "The longest time from the last packet to the next probe among these, which is their TCP_KEEPIDLE.",
        _SS_KEPT_ALIVE,
        _with(_kept_alive, _latest_probe),
    ),
    _of_host.text(
        "idle.kept_alive_peers",
        "Peers of the sixteen of these over which nothing went for longest, those with most first.",
        _SS_KEPT_ALIVE,
        _peers(_kept_alive_longest),
    ),
    _of_host.gauge(
        "self_connected.sockets",
        COUNT,
        "Connections whose two ends are one and the same socket: it connected to its own port.",
        "ss -tn state established (Local Address:Port equal to Peer Address:Port)",
        _with(_self_connected, SocketSet.number),
    ),
    _of_host.text(
        "self_connected.endpoints",
        "Address and port of each socket that is connected to itself.",
        "ss -tn state established (Local Address:Port equal to Peer Address:Port)",
        _with(_self_connected, lambda sockets: _endpoints(sockets.sure)),
    ),
    _of_host.text(
        "self_connected.owners",
        "Processes that hold a socket connected to itself.",
        "ss -tnp state established (Local Address:Port equal to Peer Address:Port)",
        _with(_self_connected, holders_text),
    ),
    _of_host.text(
        "self_connected.ports",
        "Their ports with commas between them, as net.ipv4.ip_local_reserved_ports takes them.",
        "ss -tn state established (Local Address:Port equal to Peer Address:Port)",
        _with(_self_connected, lambda sockets: _ports(sockets.sure)),
    ),
    _of_host.gauge(
        "queues.large",
        COUNT,
        "Connections with 1 MiB or more in a queue, unread here or not acknowledged by the peer.",
        _SS_MEMORY,
        _with(_large, SocketSet.number),
    ),
    _of_host.gauge(
        "queues.large_bytes",
        BYTE,
        "Bytes in the queues of the connections with 1 MiB or more in one of them.",
        _SS_MEMORY,
        _with(_large, lambda sockets: sockets.total(lambda row: row.receive_queue + row.send_queue)),
    ),
    _of_host.text(
        "queues.large_owners",
        "Who holds these connections, how many and with how much unread and unsent, the most bytes first.",
        "ss -tnmp (Recv-Q, Send-Q, skmem)",
        _with(_large, _large_owners),
    ),
)
FUNCTIONS = functions_of(FACTS)
