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
from tcpdoctor.diagnosis.port_socket import time_left
from tcpdoctor.facts.deadlines import TIME_WAIT_SECONDS
from tcpdoctor.facts.port_reuse import PortReuse
from tcpdoctor.kernel.port_use import PortUse, PortUser
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.routes import NoRoute, Route
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
