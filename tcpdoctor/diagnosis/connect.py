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
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tcpdoctor.diagnosis.bind import NO, OK, UNKNOWN, Existing, Wanted, conflicts, four
from tcpdoctor.diagnosis.port import time_left
from tcpdoctor.facts.deadlines import TIME_WAIT_SECONDS
from tcpdoctor.facts.dimension import SECOND, show
from tcpdoctor.facts.portrange import PortReuse
from tcpdoctor.kernel.connect_evidence import NoRoute, PortUse, PortUser, Route
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, PortRanges
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


class ConnectAnswer(NamedTuple):
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


def predict_connect(journey: Journey, scene: Scene) -> Reading[ConnectAnswer]:
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
    verdict, doubts = _judge(journey, scene, free, doubtful)
    bindable = usable - {port for port, found in users.items() if _stops_bind(journey, found)}
    bind_first = OK if bindable else "EADDRINUSE"
    if isinstance(journey.route, NoRoute) and journey.route.at_bind:
        bind_first, bindable = journey.route.errno, frozenset()
    return ConnectAnswer(
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
    )


def _judge(
    journey: Journey, scene: Scene, free: frozenset[int], doubtful: set[int]
) -> tuple[str, tuple[str, ...]]:
    route = journey.route
    if isinstance(route, NoRoute):
        return route.errno, ()
    if goes_to_many(journey):
        return "ENETUNREACH", ()
    doubts = [f"the route could not be asked: {route.reason}"] if isinstance(route, Missing) else []
    if not free:
        # Sockets that were not seen can only take more ports.
        return "EADDRNOTAVAIL", tuple(doubts)
    if free <= doubtful:
        doubts.append(_WHY_DOUBTFUL)
    if len(free) == 1 and (scene.ports.high - scene.ports.low) % 2 == 0:
        doubts.append(_ODD_RANGE)
    seen = (scene.complete, True if isinstance(scene.use, Missing) else scene.use.complete)
    doubts += [reading.reason for reading in seen if isinstance(reading, Missing)]
    if isinstance(scene.reuse, Missing) and any(row.state is TcpState.TIME_WAIT for row in scene.towards):
        doubts.append(scene.reuse.reason)
    return OK, tuple(dict.fromkeys(doubts))


def goes_to_many(journey: Journey) -> bool:
    """Whether the destination is a broadcast or multicast address: tcp_v4_connect() refuses them."""
    return isinstance(journey.route, Route) and journey.route.kind in ("broadcast", "multicast")


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
    left = time_left(row, scene.sysctls)
    if left is None or math.isinf(left.low):
        return None
    if row.state is TcpState.TIME_WAIT and not isinstance(scene.reuse, Missing) and scene.reuse.allowed:
        age = TIME_WAIT_SECONDS - row.expires
        return min(left.low, max(0.0, scene.reuse.after - age))
    return left.low


def _next_free(ours: Mapping[int, Connection], lost: set[int], scene: Scene) -> float | None:
    waits = [_wait(row, scene) for port, row in ours.items() if port not in lost]
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


def connect_verdict(
    journey: Journey, scene: Scene, answer: ConnectAnswer, *, listens: bool | None = None
) -> str:
    """Say in a sentence whether connect() gets a local port, and if not, why and until when.

    Args:
        journey: From where to where.
        scene: What was found.
        answer: The prediction.
        listens: Whether anybody listens there, of a destination on this host; None of others.
    """
    who = f"connect() from {journey.source} to {journey.where}"
    if journey.source is None:
        who = f"connect() to {journey.where}"
    if isinstance(journey.route, NoRoute):
        return f"{who} fails with {answer.verdict}: {_refusal(journey.route)}."
    if goes_to_many(journey):
        return f"{who} fails with {answer.verdict}: TCP connects to no broadcast or multicast address."
    if answer.verdict == OK:
        sure = "" if answer.certain else "probably "
        refused = " But nothing listens there: it is refused (ECONNREFUSED)." if listens is False else ""
        return (
            f"{who} {sure}gets a local port: {answer.free:,} of {answer.usable:,} are free for it.{refused}"
        )
    if not answer.usable:
        return f"{who} fails with EADDRNOTAVAIL: the port range holds no port that is not reserved."
    taken = f"none of the {answer.usable:,} ports {scene.ports.low}-{scene.ports.high} is left"
    held = ", ".join(f"{number:,} {state.name}" for state, number in answer.used_by_state.items())
    because = [f"connections there hold {held}"] if held else []
    because += [f"listeners and sockets placed by bind() have {answer.lost:,}"] if answer.lost else []
    return f"{who} fails with EADDRNOTAVAIL: {taken}: {', '.join(because)}. {_until(answer)}"


def _refusal(route: NoRoute) -> str:
    if route.at_bind:
        return f"bind() to that source does, before any port is sought: {route.why}"
    return route.why or _ROUTE_ERRORS.get(route.errno, "the routing tables answer so")


def connect_advice(journey: Journey, scene: Scene, answer: ConnectAnswer) -> tuple[str, ...]:
    """Return what to do, the most useful first; empty where nothing needs doing."""
    if isinstance(journey.route, NoRoute):
        return (_find_a_way(journey, journey.route),)
    if goes_to_many(journey):
        return ("Give the address of one host.",)
    advice = []
    if not answer.usable:
        advice.append(
            "Widen net.ipv4.ip_local_port_range, or take ports out of net.ipv4.ip_local_reserved_ports: "
            "it covers the whole range."
        )
    elif answer.verdict == "EADDRNOTAVAIL" or answer.free * 5 < answer.usable:
        advice += _make_room(scene, answer)
    if answer.verdict == OK and answer.bind_first != OK:
        advice.append(
            "A client that calls bind(address, 0) before connect() fails with EADDRINUSE all the same: leave "
            "bind() out, or set IP_BIND_ADDRESS_NO_PORT before it, so that connect() chooses the port."
        )
    return tuple(advice)


def _find_a_way(journey: Journey, route: NoRoute) -> str:
    if route.at_bind and route.errno == "EADDRNOTAVAIL":
        family = "ipv6" if journey.family == 6 else "ipv4"
        return (
            "Give a source address of this host (`ip address` lists them). For one that comes later or "
            f"moves between hosts: IP_FREEBIND in the client, or net.{family}.ip_nonlocal_bind=1."
        )
    if route.why is not None:
        return "Name the interface: each has its own link-local addresses."
    source = f" from {journey.source}" if journey.bound_source else ""
    return (
        f"See `ip route get {journey.destination}{source}` and `ip rule`: connect() fails before it looks "
        "for a port."
    )


def connect_avoid(journey: Journey, answer: ConnectAnswer) -> tuple[str, ...]:
    """Return what is often tried against this and does not help."""
    if answer.verdict != "EADDRNOTAVAIL" or isinstance(journey.route, NoRoute) or not answer.usable:
        return ()
    return (
        "Lowering tcp_fin_timeout: TIME_WAIT lasts 60 s whatever it says.",
        "SO_REUSEADDR on the client: it makes connect() find no further port.",
        "Counting all TIME_WAIT of the host: only those towards this one destination matter here.",
    )


def _make_room(scene: Scene, answer: ConnectAnswer) -> list[str]:
    advice = []
    if answer.lost > _MOSTLY_LOST * answer.usable:
        advice.append(
            "Close what is bound and not used: `tcpdoctor sockets --state bound` and `--state listen` name "
            "the holders. connect() skips such a port whatever the destination and the source."
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


def _until(answer: ConnectAnswer) -> str:
    if answer.next_free is None:
        gives_up = " or one in SYN_SENT gives up" if TcpState.SYN_SENT in answer.used_by_state else ""
        if not answer.used_by_state:
            return "None becomes free until one of these sockets is closed."
        return f"None becomes free until a connection there is closed{gives_up}."
    return f"The next becomes free in {show(answer.next_free, SECOND)} at the earliest."
