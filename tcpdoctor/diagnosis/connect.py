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

from tcpdoctor.diagnosis.bind import NO, OK, UNKNOWN, Attempt, Existing, Wanted, conflicts, four
from tcpdoctor.facts.deadlines import TIME_WAIT_SECONDS
from tcpdoctor.facts.dimension import SECOND, show
from tcpdoctor.facts.portrange import PortReuse
from tcpdoctor.kernel.connect_evidence import NoRoute, PortUse, PortUser, Route
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.redirects import NO_FILTERS, Filters, Redirects
from tcpdoctor.kernel.snapshot import Connection, Endpoint, Listener, PortRanges
from tcpdoctor.kernel.states import TcpState


class Ports(NamedTuple):
    """The ports that the kernel chooses from."""

    low: int
    high: int
    reserved: PortRanges

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
    bound_source: bool
    """Whether the client names its address by bind(); else the route chooses."""
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
    bind_first: str
    """What bind(source, 0) before connect() answers: ``ok``, ``EADDRINUSE``, or what its address brings."""
    bind_first_free: int
    """Ports that bind(source, 0) can choose from."""
    doubts: tuple[str, ...]
    """Why the verdict is not certain."""
    stage: Literal["bind", "route", "port", "listener", "accepted", "peer"]
    """Where the verdict falls: ``bind``, ``route``, ``port``, ``listener``; ``peer`` where it is the other
    host's to answer, ``accepted`` where a listener of this host takes it."""
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
    lost = {port for port, found in users.items() if any(user.explicit for user in found)}
    ours = {row.local.port: row for row in scene.towards if row.local.port in usable}
    taken_over = {port for port, row in ours.items() if port not in lost and _wait(row, scene) == 0}
    held = set(ours) - taken_over
    shared = set(users) - lost - set(ours)
    free = usable - lost - held
    # Of a port that no process named, bind(0) and connect() leave the same traces.
    doubtful = shared | taken_over
    stage, verdict, doubts = _judge(journey, scene, free, doubtful)
    from_port = tuple(_from_port(journey, scene, attempt) for attempt in scene.binds)
    if from_port and stage == "port":
        stage, verdict, doubts = _judge_from_port(scene, from_port[0])
    if verdict == OK:
        stage, verdict, doubts = _arrive(journey, scene, doubts)
    bindable = usable - {port for port, found in users.items() if _stops_bind(journey, found)}
    bind_first = OK if bindable else "EADDRINUSE"
    if isinstance(journey.route, NoRoute) and journey.route.at_bind:
        bind_first, bindable = journey.route.errno, frozenset()
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
        bind_first_free=len(bindable),
        doubts=doubts,
        stage=stage,
        from_port=from_port,
    )


Stage: TypeAlias = Literal["bind", "route", "port", "listener", "accepted", "peer"]
_Judgement: TypeAlias = tuple[Stage, str, tuple[str, ...]]
"""Stage, verdict, and why it is not certain."""


def _judge(journey: Journey, scene: Scene, free: frozenset[int], doubtful: set[int]) -> _Judgement:
    route = journey.route
    if isinstance(route, NoRoute):
        return "bind" if route.at_bind else "route", route.errno, ()
    if goes_to_many(journey):
        return "route", "ENETUNREACH", ()
    doubts = [f"the route could not be asked: {route.reason}"] if isinstance(route, Missing) else []
    if not free:
        if any(_old_kernels_take_over(row, scene) for row in scene.towards):
            doubts.append(_OLD_FIN_WAIT_2)
        if any(_waits_for_a_full_second(row, scene) for row in scene.towards):
            doubts.append(_OLD_SECOND)
        # Sockets that were not seen can only take more ports.
        return "port", "EADDRNOTAVAIL", tuple(doubts)
    if free <= doubtful:
        doubts.append(_WHY_DOUBTFUL)
    if len(free) == 1 and (scene.ports.high - scene.ports.low) % 2 == 0:
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
    same = [row for row in scene.towards if row.local.port == journey.source_port]
    certain = attempt.certain and scene.complete is True and not isinstance(route, Missing)
    if any(not row.minisocket for row in same):
        return PortAttempt(attempt.options, OK, "EADDRNOTAVAIL", attempt.certain)
    if same:
        stamped = scene.sysctls.get("net.ipv4.tcp_timestamps") != 0
        return PortAttempt(attempt.options, OK, OK if stamped else "EADDRNOTAVAIL", certain=False)
    return PortAttempt(attempt.options, OK, OK, certain)


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
    doubts = (*doubts, *_filtered(scene))
    if listeners is None:
        return "peer", OK, doubts
    if scene.redirects.found:
        return "peer", OK, (*doubts, _REDIRECTED)
    if isinstance(listeners, Missing):
        return "accepted", OK, (*doubts, f"whether anybody listens there: {listeners.reason}")
    if not listeners and _goes_to_itself(journey):
        return "accepted", OK, doubts
    if not listeners:
        return "listener", "ECONNREFUSED", (*doubts, *_may_not_be_refused(journey, scene))
    full = [row for row in listeners if row.accept_queue > _room(row)]
    if len(full) == len(listeners):
        return "listener", "ETIMEDOUT", (*doubts, _WHY_FULL_DOUBTFUL)
    if full:
        return "accepted", OK, (*doubts, _SOME_FULL)
    return "accepted", OK, doubts


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


def _goes_to_itself(journey: Journey) -> bool:
    """Whether both ends are one: TCP connects such a socket to itself (a simultaneous open)."""
    return journey.source_port == journey.port and journey.source == journey.destination


def _room(listener: Listener) -> float:
    """How long the accept queue may be; a SYN is dropped where it is longer (sk_acceptq_is_full())."""
    return math.inf if isinstance(listener.accept_limit, Missing) else listener.accept_limit


def _may_not_be_refused(journey: Journey, scene: Scene) -> Iterator[str]:
    chosen = not journey.source_port and journey.port in scene.ports.usable()
    if chosen and journey.source == journey.destination:
        yield _PERHAPS_TO_ITSELF
    for reason in scene.redirects.not_looked:
        yield f"whether a rule sends it elsewhere was not looked: {reason}"


_PERHAPS_TO_ITSELF = (
    "the port is one of those that the kernel chooses from, and a client that gets this very port connects "
    "to itself"
)
_REDIRECTED = (
    "a rule of this host may send the connection elsewhere; whether it acts on connections that begin here, "
    "and under which other conditions, was not looked at"
)
_WHY_FULL_DOUBTFUL = (
    "the SYN is sent again for net.ipv4.tcp_syn_retries, and gets in if the process accepts by then"
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
    "one port is left, and of a range with an odd number of ports each search of the kernel leaves one out "
    "(__inet_hash_connect() rounds the number down to an even one)"
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


def _stops_bind(journey: Journey, users: frozenset[PortUser]) -> bool:
    """Whether bind(address, 0) without options skips a port: it shares with nobody whose address overlaps."""
    any_address = "0.0.0.0" if journey.family == 4 else "::"
    address = journey.source if journey.bound_source and journey.source else any_address
    wanted = Wanted(journey.family, address, v6only=journey.family == 6 and address != "::", uid=0)
    return any(conflicts(wanted, (), _existing(user)) for user in users)


def _existing(user: PortUser) -> Existing:
    """A socket as the bind() predictor wants it. v6only matters for ``::`` only, where it is rarely set."""
    state = TcpState.LISTEN if user.explicit else TcpState.ESTABLISHED
    specific = user.address != "::" and four(user.family, user.address) is None
    v6only = UNKNOWN._replace(value=specific)
    return Existing(state, user.family, user.address, v6only, 0, 0, False, NO, NO)  # noqa: FBT003 - a record


def _count_states(rows: Iterable[Connection]) -> Mapping[TcpState, int]:
    found: dict[TcpState, int] = {}
    for row in rows:
        found[row.state] = found.get(row.state, 0) + 1
    return found


# The verdict on connect() in a sentence, what to do, and what not to do.


_ROUTE_ERRORS = {
    "ENETUNREACH": "no route leads there",
    "EHOSTUNREACH": "a route of type unreachable, or the missing gateway, stops it",
    "EACCES": "a route of type prohibit forbids it",
    "EINVAL": "a route of type blackhole, or a source address that cannot go there, stops it",
    "EADDRNOTAVAIL": "the kernel finds no source address for it",
}
_MOSTLY_LOST = 0.5
"""From this share of ports that somebody is bound to on, these are what matters."""
_MOSTLY_TIME_WAIT = 0.5
"""From this share of TIME_WAIT on, who closes first is what matters."""


def connect_verdict(journey: Journey, scene: Scene, answer: ConnectPrediction) -> str:
    """Say in a sentence what connect() answers, why, and until when; that another host was not asked."""
    who = f"connect() from {_from(journey)} to {journey.where}"
    if journey.source is None:
        who = f"connect() to {journey.where}"
    if isinstance(journey.route, NoRoute):
        return f"{who} fails with {answer.verdict}: {_refusal(journey.route)}."
    if goes_to_many(journey):
        return f"{who} fails with {answer.verdict}: TCP connects to no broadcast or multicast address."
    if answer.stage == "port":
        return f"{who} {_no_port(journey, scene, answer)}"
    return f"{who} {_how_far(journey, scene, answer)}"


def _how_far(journey: Journey, scene: Scene, answer: ConnectPrediction) -> str:
    sure = "" if answer.certain else "probably "
    match answer.stage:
        case "peer" if scene.redirects.found:
            one = scene.redirects.found[0]
            return (
                f"{sure}{_lets_out(journey, answer)}, and {one.where} sends it to {one.to}; whether that "
                "answers was not asked."
            )
        case "peer":
            return f"{sure}{_lets_out(journey, answer)}; whether the peer answers was not asked."
        case "accepted" if not scene.listeners and _goes_to_itself(journey):
            return f"{sure}connects the socket to itself: both ends are the same, and nothing listens there."
        case "accepted":
            return f"{sure}{_lets_out(journey, answer)}, and a listener of this host takes it."
        case "bind":
            return f"{sure}fails at bind(): {answer.verdict}. {_why_no_bind(journey, answer)}"
    if answer.verdict == "ECONNREFUSED":
        return f"is {sure}refused (ECONNREFUSED): the address is this host's, and nothing listens there."
    return f"{sure}gets no answer (ETIMEDOUT): {_full_queue(scene)}"


def _no_port(journey: Journey, scene: Scene, answer: ConnectPrediction) -> str:
    if journey.source_port:
        sure = "" if answer.certain else "probably "
        return f"{sure}fails with {answer.verdict}: a socket of this host already has these two ends."
    if not answer.usable:
        return "fails with EADDRNOTAVAIL: the port range holds no port that is not reserved."
    taken = f"none of the {answer.usable:,} ports {scene.ports.low}-{scene.ports.high} is left"
    held = ", ".join(f"{number:,} {state.name}" for state, number in answer.used_by_state.items())
    because = [f"connections there hold {held}"] if held else []
    because += [f"listeners and sockets placed by bind() have {answer.lost:,}"] if answer.lost else []
    return f"fails with EADDRNOTAVAIL: {taken}: {', '.join(because)}. {_until(answer)}"


def _from(journey: Journey) -> str:
    if not journey.source_port or journey.source is None:
        return journey.source or ""
    return str(Endpoint(journey.source, journey.source_port))


def _lets_out(journey: Journey, answer: ConnectPrediction) -> str:
    if journey.source_port:
        return "gets that local port: this host lets it out"
    return f"gets a local port ({answer.free:,} of {answer.usable:,} are free for it): this host lets it out"


def _full_queue(scene: Scene) -> str:
    listeners = scene.listeners if isinstance(scene.listeners, tuple) else ()
    queues = [f"{row.accept_queue} of {row.accept_limit}" for row in listeners]
    whose = "the listener there" if len(queues) == 1 else f"each of the {len(queues)} listeners there"
    return (
        f"the accept queue of {whose} is full ({', '.join(queues[:3])}), so SYNs are dropped until its "
        "process accepts."
    )


def _why_no_bind(journey: Journey, answer: ConnectPrediction) -> str:
    better = [attempt for attempt in answer.from_port if attempt.connect == OK]
    port = f"{journey.asks(f'explain --port {journey.source_port}')} says who has the port"
    if not better:
        return f"No combination of SO_REUSEADDR and SO_REUSEPORT helps; {port}."
    return f"With {' and '.join(better[0].options)} set before bind() it works; {port}."


def _refusal(route: NoRoute) -> str:
    if route.at_bind:
        return f"bind() to that source does, before any port is sought: {route.why}"
    return route.why or _ROUTE_ERRORS.get(route.errno, "the routing tables answer so")


def connect_advice(journey: Journey, scene: Scene, answer: ConnectPrediction) -> tuple[str, ...]:
    """Return what to do, the most useful first; empty where nothing needs doing."""
    if isinstance(journey.route, NoRoute):
        return (_find_a_way(journey, journey.route),)
    if goes_to_many(journey):
        return ("Give the address of one host.",)
    advice = list(_arrival_advice(journey, answer))
    if journey.source_port:
        return tuple(advice + _own_port_advice(answer))
    if not answer.usable:
        advice.append(
            "Widen net.ipv4.ip_local_port_range, or take ports out of net.ipv4.ip_local_reserved_ports: "
            "it covers the whole range."
        )
    elif not answer.free or answer.free * 5 < answer.usable:
        advice += _make_room(journey, scene, answer)
    if answer.free and answer.bind_first != OK:
        advice.append(
            "A client that calls bind(address, 0) before connect() fails with EADDRINUSE all the same: leave "
            "bind() out, or set IP_BIND_ADDRESS_NO_PORT before it, so that connect() chooses the port."
        )
    return tuple(advice)


def _arrival_advice(journey: Journey, answer: ConnectPrediction) -> Iterator[str]:
    if answer.stage != "listener":
        return
    if answer.verdict == "ECONNREFUSED":
        yield (
            f"Start the server, or let it listen on {journey.destination} as well: "
            f"`{journey.asks(f'explain --port {journey.port}')}` says what is at that port, and whether it "
            "can be bound."
        )
        yield (
            "A server in a container or another network namespace has addresses of its own: look from there "
            "with --netns."
        )
    else:
        yield (
            "See what the server's threads wait for: it does not accept. "
            f"`{journey.asks(f'explain --port {journey.port}')}` names it."
        )


def _own_port_advice(answer: ConnectPrediction) -> list[str]:
    if answer.stage == "port" and answer.verdict != OK:
        return ["Close the connection that has these ends, or give the client another port, or none at all."]
    if answer.stage == "bind":
        return ["Let the kernel choose the port: no bind(), or IP_BIND_ADDRESS_NO_PORT and port 0."]
    return []


def _find_a_way(journey: Journey, route: NoRoute) -> str:
    if route.at_bind and route.errno == "EADDRNOTAVAIL":
        family = "ipv6" if journey.family == 6 else "ipv4"
        return (
            "Give a source address of this host (`ip address` lists them). For one that comes later or "
            f"moves between hosts: IP_FREEBIND in the client, or net.{family}.ip_nonlocal_bind=1."
        )
    if route.errno == "EACCES" and route.at_bind:
        return (
            "Give the client a port from net.ipv4.ip_unprivileged_port_start on, or the capability "
            "CAP_NET_BIND_SERVICE (AmbientCapabilities= in its unit)."
        )
    if route.errno == "ETIMEDOUT" or journey.destination.startswith(("127.", "::1")):
        return "Put lo up: ip link set lo up. (A fresh network namespace begins with it down.)"
    if route.errno == "EADDRNOTAVAIL":
        return (
            "Connect to an IPv4 address, or give this host (or container) IPv6: "
            "`sysctl net.ipv6.conf.all.disable_ipv6`, `ip -6 address`. A wider port range changes nothing."
        )
    if route.why is not None:
        return "Name the interface: each has its own link-local addresses."
    source = f" from {journey.source}" if journey.bound_source else ""
    return (
        f"See `ip route get {journey.destination}{source}` and `ip rule`: connect() fails before it looks "
        "for a port."
    )


def connect_avoid(journey: Journey, answer: ConnectPrediction) -> tuple[str, ...]:
    """Return what is often tried against this and does not help."""
    if answer.verdict == "ETIMEDOUT" and answer.stage == "listener":
        return ("A longer backlog or net.core.somaxconn: a server that does not accept fills any queue.",)
    if (
        answer.stage != "port"
        or answer.verdict != "EADDRNOTAVAIL"
        or not answer.usable
        or journey.source_port
    ):
        return ()
    return (
        "Lowering tcp_fin_timeout: TIME_WAIT lasts 60 s whatever it says.",
        "SO_REUSEADDR on the client: it makes connect() find no further port.",
        "Counting all TIME_WAIT of the host: only those towards this one destination matter here.",
    )


def _make_room(journey: Journey, scene: Scene, answer: ConnectPrediction) -> list[str]:
    advice = []
    if answer.lost > _MOSTLY_LOST * answer.usable:
        advice.append(
            f"Close what is bound and not used: `{journey.asks('sockets --state bound')}` and "
            "`--state listen` name the holders. connect() skips such a port whatever the destination and "
            "the source."
        )
    if answer.used_by_state:
        advice.append(
            "Keep connections open and reuse them (a pool, HTTP keep-alive) instead of one for each request."
        )
    waiting = answer.used_by_state.get(TcpState.TIME_WAIT, 0)
    if waiting >= _MOSTLY_TIME_WAIT * max(1, sum(answer.used_by_state.values())):
        advice.append("Let the server close first: the side that closes first keeps the TIME_WAIT.")
        reuse = scene.reuse
        if not isinstance(reuse, Missing) and not reuse.allowed:
            advice.append(
                f"net.ipv4.tcp_tw_reuse=1 (with tcp_timestamps=1) lets connect() take over a TIME_WAIT "
                f"that is {reuse.after:g} s old, if the peer uses timestamps; today: {reuse.why}."
            )
    if answer.used_by_state.get(TcpState.CLOSE_WAIT, 0):
        advice.append(
            "CLOSE_WAIT never ends by itself: the client must close() (explain --state close-wait)."
        )
    others = answer.usable - answer.lost
    more = "a wider net.ipv4.ip_local_port_range, which"
    if others:
        more = (
            "a second source address, destination address or destination port each brings "
            f"{others:,}; a wider net.ipv4.ip_local_port_range brings fewer, and"
        )
    advice.append(
        f"More ports: {more} must not cover ports that servers here listen on unless they are in "
        "ip_local_reserved_ports."
    )
    return advice


def _until(answer: ConnectPrediction) -> str:
    if answer.next_free is None:
        gives_up = " or one in SYN_SENT gives up" if TcpState.SYN_SENT in answer.used_by_state else ""
        if not answer.used_by_state:
            return "None becomes free until one of these sockets is closed."
        return f"None becomes free until a connection there is closed{gives_up}."
    return f"The next becomes free in {show(answer.next_free, SECOND)} at the earliest."
