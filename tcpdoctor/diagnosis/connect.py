"""What connect() will answer: whether a local port is left towards one destination, and when the next is.

The kernel's own search is __inet_hash_connect() in net/ipv4/inet_hashtables.c. It goes through the ports of
net.ipv4.ip_local_port_range that are not reserved, and takes a port

- on which there is no socket at all, or
- that connect() itself chose for all of its sockets, if none of them has the same two ends, or the one
  that has them is in TIME_WAIT and may be taken over (tcp_twsk_unique()).

A port on which any socket was bound by bind() is skipped, whatever its address. That is known of listening
and merely bound sockets, and of connected ones whose process named the port. Of others the kernel does not
tell whether bind(0) or connect() chose it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, TypeAlias

from tcpdoctor.diagnosis.bind import (
    NO,
    OK,
    UNKNOWN,
    Attempt,
    Existing,
    Wanted,
    conflicts,
    four,
    possible_conflicts,
    programs_decide,
)
from tcpdoctor.facts.deadlines import TIME_WAIT_SECONDS
from tcpdoctor.facts.ports import PortReuse
from tcpdoctor.kernel.connect_evidence import NextHop, NoRoute, PortUse, PortUser, Route
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.redirects import NO_FILTERS, Filters, Redirects
from tcpdoctor.kernel.snapshot import Connection, Listener, PortRanges
from tcpdoctor.kernel.states import TcpState


class Ports(NamedTuple):
    """The ports that the kernel chooses from."""

    low: int
    high: int
    reserved: PortRanges
    unknown: str = ""
    """Why the settings are not known, of which the kernel's defaults are taken then."""

    def usable(self) -> frozenset[int]:
        """All of the range that are not reserved."""
        taken = {port for low, high in self.reserved for port in range(low, high + 1)}
        return frozenset(range(self.low, self.high + 1)) - taken


class Journey(NamedTuple):
    """From where to where a client wants to connect, and what the kernel has on the way."""

    family: int
    """4 or 6, of the addresses; a mapped address is IPv4."""
    source: str | None
    """The client's own address, given or chosen by the route; None where no route chooses one."""
    bound: str | None
    """What the client names in bind(); None: nothing, or the wildcard.

    The route chooses the source then, and also where it is a broadcast or multicast address.
    """
    destination: str
    port: int
    route: Reading[Route | NoRoute]
    interface: int = 0
    """Index of the interface that a link-local address ties the socket to; 0 for none."""
    zone: str = ""
    """Its name, where the destination is a link-local address."""
    others: tuple[str, ...] = ()
    """Further addresses of the host name that was asked about; a client tries one after the other."""
    source_port: int = 0
    """The client's own port, which it names in bind(); 0: the kernel chooses."""
    netns: str = ""
    """What `--netns` leads to where this is asked; empty: none is needed."""

    def asks(self, command: str) -> str:
        """A command of this program such that it asks where this was asked."""
        return f"tcpdoctor {command}{f' --netns {self.netns}' if self.netns else ''}"

    @property
    def where(self) -> str:
        """The destination as people write it: ``10.0.0.5:5432`` or ``[fe80::1%eth0]:80``."""
        host = f"{self.destination}%{self.zone}" if self.zone else self.destination
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


class Scene(NamedTuple):
    """What was found on this host."""

    ports: Ports
    towards: tuple[Connection, ...]
    """Sockets from the source to exactly this destination and port."""
    use: Reading[PortUse]
    reuse: Reading[PortReuse]
    complete: Reading[bool]
    """True, or Missing with the reason why sockets may be absent."""
    sysctls: Mapping[str, object]
    """By dotted name; they decide when what nobody holds is gone."""
    listeners: Reading[tuple[Listener, ...]] | None = None
    """Those of this host that the destination leads to; None where it leads to another host."""
    signed: bool = False
    """Whether one of them takes what comes from the source with a TCP-MD5 signature only."""
    signers_hidden: str = ""
    """Why one of them may do so although that is not seen."""
    programs: tuple[str, ...] = ()
    """Hooks at which programs of eBPF decide about connect(), or about who is connected to."""
    perhaps: tuple[str, ...] = ()
    """What tells that something decides over the connection which could not be looked at."""
    not_looked: str = ""
    """Why what may stop the connection, or lead it elsewhere, was not all looked at."""
    redirects: Redirects = Redirects((), ())
    """Rules of nft and iptables that may send the connection elsewhere before it comes to a listener."""
    filters: Filters = NO_FILTERS
    """Rules that drop or reject packets on the way."""
    binds: tuple[Attempt, ...] = ()
    """What bind() to the client's own port answers, in the order of `ATTEMPTS`; empty without one."""

    @property
    def listens(self) -> bool | None:
        """Whether anybody listens at the destination; None where that is another host, or not known."""
        known = self.listeners is not None and not isinstance(self.listeners, Missing)
        return bool(self.listeners) if known else None


class PortAttempt(NamedTuple):
    """What a client that names its own port gets, with certain options set before bind()."""

    options: tuple[str, ...]
    bind: str
    """``ok`` or the name of an errno."""
    connect: str | None
    """The same; None where bind() fails."""
    certain: bool


class BindFirst(NamedTuple):
    """What bind(source, 0) answers to a client without options."""

    errno: str
    """``ok``, ``EADDRINUSE``, or what its address brings."""
    free: int
    """Ports that it can choose from for sure."""
    certain: bool


class ConnectPrediction(NamedTuple):
    """What connect() will answer, and out of what that follows."""

    verdict: str
    """``ok`` or the name of an errno."""
    certain: bool
    usable: int
    used: int
    """Ports that sockets towards this destination hold and do not give up."""
    free: int
    """Ports that connect() can take, reusable TIME_WAIT included; `doubtful` of them only perhaps."""
    doubtful: int
    """Of `free`: ports where only the kernel knows whether they can be shared or taken over."""
    lost: int
    """Ports with a socket whose process named them in bind(), and none to this destination."""
    reusable: int
    """Of `free`: ports of TIME_WAIT that connect() may take over."""
    used_by_state: Mapping[TcpState, int]
    """All sockets towards this destination from usable ports, reusable ones included."""
    next_free: float | None
    """Seconds until the next port becomes free at the earliest; None: one is, or none will by itself."""
    bind_first: "BindFirst"
    """What bind(source, 0) before connect() answers."""
    doubts: tuple[str, ...]
    """Why the verdict is not certain."""
    stage: "Stage"
    """Where the verdict falls: ``bind``, ``route``, ``port``, ``next-hop``, ``listener``; ``peer`` where it
    is the other host's to answer, ``accepted`` where a listener of this host takes it."""
    from_port: tuple[PortAttempt, ...] = ()
    """With a port of the client's own: each combination of options, in the order of `ATTEMPTS`."""


def predict_connect(journey: Journey, scene: Scene) -> Reading[ConnectPrediction]:
    """Predict connect() to one destination.

    Missing where the ports in use could not be read. The answer counts ports even where the route
    fails first; `verdict` is then the route's error.
    """
    if isinstance(scene.use, Missing):
        return scene.use
    usable = scene.ports.usable()
    users = {port: found for port, found in scene.use.users.items() if port in usable}
    kinds = set(users.values())  # few stand behind all ports
    explicit = {found for found in kinds if any(user.explicit and not user.perhaps for user in found)}
    lost = {port for port, found in users.items() if found in explicit}
    ours = {row.local.port: row for row in scene.towards if row.local.port in usable and _same(row, journey)}
    taken_over = {port for port, row in ours.items() if port not in lost and _wait(row, scene) == 0}
    held = set(ours) - taken_over
    shared = set(users) - lost - set(ours)
    free = usable - lost - held
    # Of a port that no process named, or of a connection that is over, bind(0) and connect() leave the same
    # traces.
    doubtful = shared | taken_over | (scene.use.apart & free)
    stage, verdict, doubts = _judge(journey, scene, free, doubtful)
    from_port = tuple(_from_port(journey, scene, attempt) for attempt in scene.binds)
    if from_port and stage == "port":
        stage, verdict, doubts = _judge_from_port(scene, from_port[0])
    if verdict == OK:
        stage, verdict, doubts = _arrive(journey, scene, doubts)
    bind_first = _bind_first(journey, scene, users, scene.use.complete)
    return ConnectPrediction(
        verdict=verdict,
        certain=not doubts,
        usable=len(usable),
        used=len(held),
        free=len(free),
        doubtful=len(doubtful),
        lost=len(lost - set(ours)),
        reusable=len(taken_over),
        used_by_state=_count_states(ours.values()),
        next_free=None if free else _next_free(ours, lost, scene),
        bind_first=bind_first,
        doubts=doubts,
        stage=stage,
        from_port=from_port,
    )


Stage: TypeAlias = Literal["bind", "route", "port", "listener", "accepted", "peer", "next-hop"]
_Judgement: TypeAlias = tuple[Stage, str, tuple[str, ...]]
"""Stage, verdict, and why it is not certain."""


def _judge(journey: Journey, scene: Scene, free: frozenset[int], doubtful: set[int]) -> _Judgement:
    route = journey.route
    if isinstance(route, NoRoute):
        return "bind" if route.at_bind else "route", route.errno, ()
    if goes_to_many(journey):
        return "route", "ENETUNREACH", ()
    doubts = [f"the route could not be asked: {route.reason}"] if isinstance(route, Missing) else []
    if scene.ports.unknown:
        ports = f"{scene.ports.low}-{scene.ports.high}"
        doubts.append(f"{scene.ports.unknown}; that its ports are the kernel's own {ports} is assumed")
    if not free:
        if any(_old_kernels_take_over(row, scene) for row in scene.towards):
            doubts.append(_OLD_FIN_WAIT_2)
        if any(_waits_for_a_full_second(row, scene) for row in scene.towards):
            doubts.append(_OLD_SECOND)
        # Sockets that were not seen can only take more ports.
        return "port", "EADDRNOTAVAIL", tuple(doubts)
    if free <= doubtful:
        doubts.append(_WHY_DOUBTFUL)
    if _is_odd(scene.ports) and len(free - doubtful) == 1:
        doubts.append(_ODD_RANGE)
    seen = (scene.complete, True if isinstance(scene.use, Missing) else scene.use.complete)
    doubts += [reading.reason for reading in seen if isinstance(reading, Missing)]
    if isinstance(scene.reuse, Missing) and any(row.state is TcpState.TIME_WAIT for row in scene.towards):
        doubts.append(scene.reuse.reason)
    return "port", OK, tuple(dict.fromkeys(doubts))


def _from_port(journey: Journey, scene: Scene, attempt: Attempt) -> PortAttempt:
    """One attempt from a port of the client's own: bind(), then whether the same two ends are taken.

    A TIME_WAIT, or an orphan's FIN_WAIT_2, between the same ends is taken over at once, whatever
    net.ipv4.tcp_tw_reuse says, where its peer used timestamps (tcp_twsk_unique() without a search for ports).
    """
    route = journey.route
    if attempt.bind != OK:
        return PortAttempt(attempt.options, attempt.bind, None, attempt.certain)
    if isinstance(route, NoRoute):
        return PortAttempt(attempt.options, OK, route.errno, attempt.certain)
    same = [row for row in scene.towards if row.local.port == journey.source_port and _same(row, journey)]
    certain = attempt.certain and scene.complete is True and not isinstance(route, Missing)
    if any(not row.minisocket for row in same):
        return PortAttempt(attempt.options, OK, "EADDRNOTAVAIL", attempt.certain)
    if same:
        stamped = scene.sysctls.get("net.ipv4.tcp_timestamps") != 0
        return PortAttempt(attempt.options, OK, OK if stamped else "EADDRNOTAVAIL", certain=False)
    return PortAttempt(attempt.options, OK, OK, certain)


def _same(row: Connection, journey: Journey) -> bool:
    """Whether a socket with the same ends is one connection with the client's (inet_match()).

    It is not where it is bound to an interface and the client to none: each may have the ends for itself.
    """
    return row.device in (0, journey.interface)


def _judge_from_port(scene: Scene, plain: PortAttempt) -> _Judgement:
    doubts = () if plain.certain else (_WHY_BIND_DOUBTFUL,)
    if plain.connect is None:
        return "bind", plain.bind, doubts
    if scene.complete is not True and not isinstance(scene.complete, bool):
        doubts = (*doubts, scene.complete.reason)
    return "port", plain.connect, doubts


_WHY_BIND_DOUBTFUL = (
    "what bind() to that port answers hangs on something that the kernel does not tell "
    "(explain --port says on what)"
)


def _arrive(journey: Journey, scene: Scene, doubts: tuple[str, ...]) -> _Judgement:
    """What a connection that gets out meets: another host's answer, or this host's own listener."""
    listeners = scene.listeners
    doubts = (*doubts, *_filtered(scene), *_signs(scene), *_programmed(scene))
    if listeners is None and scene.redirects.found:
        return "peer", OK, (*doubts, _SENT_ELSEWHERE)
    if listeners is None:
        protected = isinstance(journey.route, Route) and journey.route.protected
        return _leave(next_hop_of(journey), (*doubts, *((_PROTECTED,) if protected else ())))
    if scene.redirects.found:
        return "peer", OK, (*doubts, _REDIRECTED)
    if isinstance(listeners, Missing):
        return "accepted", OK, (*doubts, f"whether anybody listens there: {listeners.reason}")
    if not listeners and goes_to_itself(journey):
        return "accepted", OK, doubts
    if not listeners and unanswered(scene):
        return "listener", "ETIMEDOUT", (*doubts, _NO_RESET)
    if not listeners:
        return "listener", "ECONNREFUSED", (*doubts, *_may_not_be_refused(journey, scene))
    doubts = (*_perhaps_ipv6_only(journey, listeners), *_perhaps_full(listeners), *doubts)
    full = [row for row in listeners if row.accept_queue > _room(row)]
    if len(full) == len(listeners):
        return "listener", "ETIMEDOUT", (*doubts, _WHY_FULL_DOUBTFUL)
    if full:
        return "accepted", OK, (*doubts, _SOME_FULL)
    return "accepted", OK, doubts


def next_hop_of(journey: Journey) -> NextHop | None:
    """Where the connection leaves this host, as far as that is known."""
    hop = journey.route.next_hop if isinstance(journey.route, Route) else None
    return None if isinstance(hop, Missing) else hop


def _leave(hop: NextHop | None, doubts: tuple[str, ...]) -> _Judgement:
    """What keeps the SYN from the wire; without a link address of the next hop there is nobody to send it to.

    One that failed is asked again by the next packet, and may have come back.
    """
    resolved = hop is None or not hop.asks or hop.neighbour in ("permanent", "noarp")
    if hop is not None and not hop.carrier:
        return "next-hop", "ETIMEDOUT" if resolved else "EHOSTUNREACH", doubts
    if hop is not None and not resolved and hop.neighbour in ("failed", "incomplete"):
        return "next-hop", "EHOSTUNREACH", (*doubts, _ASKED_AGAIN)
    return "peer", OK, doubts


_PROTECTED = (
    "a policy of IPsec sends it through an association (ip xfrm policy, ip xfrm state): without one the "
    "connection waits for it, or its packets are dropped"
)
_ASKED_AGAIN = "the next hop is asked for its link address again, and may answer this time"


def unanswered(scene: Scene) -> int:
    """How many connects to that destination have sent their SYN again: neither SYN+ACK nor reset came."""
    return sum(row.state is TcpState.SYN_SENT and row.retransmits > 0 for row in scene.towards)


def _signs(scene: Scene) -> Iterator[str]:
    if scene.signed:
        yield _SIGNED
    elif scene.signers_hidden:
        yield f"whether a listener there takes signed segments only is not known: {scene.signers_hidden}"


def _programmed(scene: Scene) -> Iterator[str]:
    if scene.programs:
        yield programs_decide(scene.programs, "a connection")
    for sign in scene.perhaps:
        yield f"what decides over a connection was not all looked at: {sign}"


def _filtered(scene: Scene) -> Iterator[str]:
    """Rules that may stop the packets: those that name the port, else that there are others."""
    if scene.filters.named:
        yield (
            f"a rule of {' and of '.join(scene.filters.named[:2])} drops or rejects packets for this port, "
            "under conditions that were not all compared"
        )
    elif scene.filters.others:
        yield (
            f"rules of {' and of '.join(scene.filters.others[:2])} drop or reject packets; whether these, "
            "was not compared"
        )
    elif scene.filters.not_looked and scene.listeners is not None:
        yield f"whether a rule of nft stops it was not looked: {scene.filters.not_looked}"


def _perhaps_ipv6_only(journey: Journey, listeners: Iterable[Listener]) -> Iterator[str]:
    hidden = [row for row in listeners if row.local.address == "::" and row.v6only is None]
    if journey.family == 4 and hidden == [*listeners]:
        yield f"whether the listener on {hidden[0].local} lets IPv4 in (IPV6_V6ONLY) is not told"


def _perhaps_full(listeners: Iterable[Listener]) -> Iterator[str]:
    """What is not known of accept queues: with how many connections one is full, or how many it has."""
    for row in listeners:
        if row.accept_queue < 0:
            queue = f"the accept queue of {row.local}"
            yield f"how many connections wait in {queue} is not told; ask for: ss -tanoempi"
        elif row.accept_queue and isinstance(row.accept_limit, Missing):
            queue = f"{row.accept_queue} in the accept queue of {row.local}"
            yield f"whether the {queue} are all that it takes is not known: {row.accept_limit.reason}"


def goes_to_itself(journey: Journey) -> bool:
    """Whether both ends are one: TCP connects such a socket to itself (a simultaneous open)."""
    return journey.source_port == journey.port and journey.source == journey.destination


def _room(listener: Listener) -> float:
    """How long the accept queue may be; a SYN is dropped where it is longer (sk_acceptq_is_full())."""
    return math.inf if isinstance(listener.accept_limit, Missing) else listener.accept_limit


def _may_not_be_refused(journey: Journey, scene: Scene) -> Iterator[str]:
    chosen = not journey.source_port and journey.port in scene.ports.usable()
    if chosen and journey.source == journey.destination:
        yield _PERHAPS_TO_ITSELF
    if journey.source == "::1" != journey.destination:
        yield _RESET_TO_LOOPBACK
    for reason in scene.redirects.not_looked:
        yield f"whether a rule sends it elsewhere was not looked: {reason}"


_RESET_TO_LOOPBACK = (
    "the reset that refuses it is sent to ::1 by the interface that has the address, which has no way there: "
    "no answer comes then (ETIMEDOUT)"
)
_PERHAPS_TO_ITSELF = (
    "the port is one of those that the kernel chooses from, and a client that gets this very port connects "
    "to itself"
)
_SIGNED = (
    "a listener there takes segments from this source with a TCP-MD5 signature only (TCP_MD5SIG); whether "
    "the client has its key is not known"
)
_SENT_ELSEWHERE = (
    "a rule of this host may send the connection elsewhere before it leaves; what else it compares was not "
    "all looked at"
)
_REDIRECTED = (
    "a rule of this host may send the connection elsewhere; whether it acts on connections that begin here, "
    "and under which other conditions, was not looked at"
)
_WHY_FULL_DOUBTFUL = (
    "the SYN is sent again for net.ipv4.tcp_syn_retries, and gets in if the process accepts by then"
)
_NO_RESET = (
    "others there wait without the reset that a port without a listener answers with: something drops their "
    "SYN or the reset, which may not hold for this one, or a listener with a full accept queue has just ended"
)
_SOME_FULL = "the accept queues of some listeners there are full, and the kernel chooses by the client's port"


def goes_to_many(journey: Journey) -> bool:
    """Whether the destination is a broadcast or multicast address: tcp_v4_connect() refuses them."""
    return isinstance(journey.route, Route) and journey.route.kind in ("broadcast", "multicast")


def _old_kernels_take_over(row: Connection, scene: Scene) -> bool:
    """Whether some kernels let connect() take over an orphan in FIN_WAIT_2 as they do a TIME_WAIT.

    5.10 does, 6.1 as Debian has it does not. Where the kernel has tcp_tw_reuse_delay it is younger than both.
    """
    return row.minisocket and row.state is TcpState.FIN_WAIT_2 and _reuse_without_delay(scene)


def _waits_for_a_full_second(row: Connection, scene: Scene) -> bool:
    """Whether the kernel may take over a TIME_WAIT when its clock comes to the next full second.

    Where it lacks tcp_tw_reuse_delay it compares whole seconds (tcp_twsk_unique(), ktime_get_seconds()), and
    one that is a few milliseconds old may have begun in the second before.
    """
    return row.state is TcpState.TIME_WAIT and _reuse_without_delay(scene)


def _reuse_without_delay(scene: Scene) -> bool:
    told = isinstance(scene.sysctls.get("net.ipv4.tcp_tw_reuse_delay"), int)
    return not told and not isinstance(scene.reuse, Missing) and scene.reuse.allowed


_OLD_FIN_WAIT_2 = (
    "some kernels without net.ipv4.tcp_tw_reuse_delay take over an orphan in FIN_WAIT_2 as they do one in "
    "TIME_WAIT"
)
_OLD_SECOND = (
    "a kernel without net.ipv4.tcp_tw_reuse_delay takes over a TIME_WAIT as soon as a full second of its "
    "clock begins, which may be at once"
)
_WHY_DOUBTFUL = (
    "the only ports left have other sockets on them; connect() can share them if connect() chose them "
    "and not bind(), or take over a TIME_WAIT if its peer uses timestamps, which the kernel does not tell"
)

_ODD_RANGE = (
    "one port is left for sure, and of a range with an odd number of ports each search of the kernel leaves "
    "one out (__inet_hash_connect() rounds the number down to an even one)"
)


def _wait(row: Connection, scene: Scene) -> float | None:
    """Seconds until connect() may take this socket's port over; None: it does not go by itself."""
    from tcpdoctor.diagnosis.occupants import time_left

    left = time_left(row, scene.sysctls)
    if left is None or math.isinf(left.low):
        return None
    if row.state is TcpState.TIME_WAIT and not isinstance(scene.reuse, Missing) and scene.reuse.allowed:
        age = TIME_WAIT_SECONDS - row.expires
        return min(left.low, max(0.0, scene.reuse.after - age))
    return left.low


def _next_free(ours: Mapping[int, Connection], lost: set[int], scene: Scene) -> float | None:
    left = (row for port, row in ours.items() if port not in lost)
    waits = [0.0 if _waits_for_a_full_second(row, scene) else _wait(row, scene) for row in left]
    return min((wait for wait in waits if wait is not None), default=None)


def _bind_first(
    journey: Journey, scene: Scene, users: Mapping[int, frozenset[PortUser]], complete: Reading[bool]
) -> BindFirst:
    if isinstance(journey.route, NoRoute) and journey.route.at_bind:
        return BindFirst(journey.route.errno, 0, certain=True)
    usable = scene.ports.usable()
    answers = {found: _stops_bind(journey, found) for found in set(users.values())}
    free = usable - {port for port, found in users.items() if answers[found].likely}
    surely = free - {port for port, found in users.items() if answers[found].perhaps}
    perhaps = usable - {port for port, found in users.items() if answers[found].surely}
    if not free:
        return BindFirst("EADDRINUSE", 0, certain=not perhaps and not scene.ports.unknown)
    found = len(surely) > 1 or (bool(surely) and not _is_odd(scene.ports))
    seen = not scene.ports.unknown and complete is True
    return BindFirst(OK, len(free), certain=found and seen)


class _Stops(NamedTuple):
    """Whether sockets on a port keep bind(address, 0) from it."""

    surely: bool
    likely: bool
    perhaps: bool


def _is_odd(ports: Ports) -> bool:
    """Whether each search of the kernel leaves a port out: it looks at an even number of them, or at one."""
    return ports.low < ports.high and (ports.high - ports.low) % 2 == 0


def _stops_bind(journey: Journey, users: frozenset[PortUser]) -> _Stops:
    """Whether bind(address, 0) without options skips a port: it shares with nobody whose address overlaps."""
    any_address = "0.0.0.0" if journey.family == 4 else "::"
    address = journey.bound or any_address
    wanted = Wanted(journey.family, address, v6only=journey.family == 6 and address != "::", uid=0)
    old = list(map(_existing, users))
    possible = [set(possible_conflicts(wanted, (), one)) for one in old]
    return _Stops(
        surely={True} in possible,
        likely=any(conflicts(wanted, (), one) for one in old),
        perhaps=any(True in one for one in possible),
    )


def _existing(user: PortUser) -> Existing:
    """A socket as the bind() predictor wants it.

    IPV6_V6ONLY is not read there: bind() sets it for an address of IPv6, and connect() leaves it, mostly 0.
    """
    state = TcpState.LISTEN if user.explicit else TcpState.ESTABLISHED
    specific = user.address != "::"
    v6only = UNKNOWN._replace(value=specific and user.explicit)
    if four(user.family, user.address) is not None:
        v6only = NO
    old = Existing(state, user.family, user.address, v6only, 0, 0, False, NO, NO)  # noqa: FBT003 - a record
    return old._replace(surely_holds=not user.perhaps)


def _count_states(rows: Iterable[Connection]) -> Mapping[TcpState, int]:
    found: dict[TcpState, int] = {}
    for row in rows:
        found[row.state] = found.get(row.state, 0) + 1
    return found
