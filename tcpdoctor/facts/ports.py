"""Local ports: which the kernel hands out by itself, and how many sockets are in which state at each."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from tcpdoctor.facts.connection import partly
from tcpdoctor.facts.socketset import NONE, count_holders, most_common, pids_of
from tcpdoctor.facts.subject import HIDDEN_LABEL, LazyFacts, Scope, Subject, Teller, Told, functions_of
from tcpdoctor.facts.value import COUNT, NamedText, Range, Value
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Census, Connection, Detail, Listener, Samples, Snapshot, SysctlValue
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState
from tcpdoctor.named_tuples import NamedTuple

_RANGE = "net.ipv4.ip_local_port_range"
_RESERVED = "net.ipv4.ip_local_reserved_ports"
LAST_PORT = 65_535


class WithSysctls(Protocol):
    """A snapshot, or what was read of one."""

    @property
    def sysctls(self) -> Mapping[str, Reading[SysctlValue]]:
        """By dotted name."""


class Settings(NamedTuple):
    """Sysctls alone, where nothing else is looked at."""

    sysctls: Mapping[str, Reading[SysctlValue]]


def ephemeral_range(snapshot: WithSysctls) -> Reading[tuple[int, int]]:
    """First and last port of net.ipv4.ip_local_port_range, both included."""
    value = snapshot.sysctls.get(_RANGE, Missing(f"{_RANGE} was not read"))
    match value:
        case Missing():
            return value
        case (int(low), int(high)) if 0 <= low <= high <= LAST_PORT:
            return low, high
    return Missing(f"{_RANGE} is no range of ports")


def reserved_ports(snapshot: WithSysctls) -> Reading[tuple[tuple[int, int], ...]]:
    """The ranges of net.ipv4.ip_local_reserved_ports, both ends included."""
    value = snapshot.sysctls.get(_RESERVED, Missing(f"{_RESERVED} was not read"))
    if isinstance(value, Missing):
        return value
    ranges = [part for part in value if isinstance(part, tuple)] if isinstance(value, tuple) else []
    if not isinstance(value, tuple) or len(ranges) < len(value):
        return Missing(f"{_RESERVED} is no list of ranges")
    if any(not 0 <= low <= high <= LAST_PORT for low, high in ranges):
        return Missing(f"{_RESERVED} is no list of ranges of ports")
    return tuple(ranges)


def reserved_in_range(snapshot: WithSysctls) -> Reading[int]:
    """How many ports of the range are reserved; the ranges of the kernel's list never overlap."""
    ends, reserved = ephemeral_range(snapshot), reserved_ports(snapshot)
    if isinstance(ends, Missing):
        return ends
    if isinstance(reserved, Missing):
        return reserved
    return sum(max(0, min(high, ends[1]) - max(low, ends[0]) + 1) for low, high in reserved)


def usable_ports(snapshot: WithSysctls) -> Reading[int]:
    """How many ports connect() and bind(0) choose from: the range less the reserved."""
    ends, taken = ephemeral_range(snapshot), reserved_in_range(snapshot)
    if isinstance(ends, Missing):
        return ends
    if isinstance(taken, Missing):
        return taken
    return ends[1] - ends[0] + 1 - taken


def ports_in_range(snapshot: WithSysctls) -> Reading[int]:
    """How many ports the range has, reserved ones as well."""
    ends = ephemeral_range(snapshot)
    return ends if isinstance(ends, Missing) else ends[1] - ends[0] + 1


def is_ephemeral(port: int, snapshot: WithSysctls) -> Reading[bool]:
    """Whether the kernel may give this port to an outgoing connection."""
    return ephemeral_test(snapshot)(port)


def ephemeral_test(snapshot: WithSysctls) -> Callable[[int], Reading[bool]]:
    """The same as a function of the port, where there are many."""
    ends, reserved = ephemeral_range(snapshot), reserved_ports(snapshot)

    def test(port: int) -> Reading[bool]:
        if isinstance(ends, Missing):
            return ends
        if not ends[0] <= port <= ends[1]:
            return False
        if isinstance(reserved, Missing):
            return reserved
        return not any(low <= port <= high for low, high in reserved)

    return test


class Roles:
    """Tells a connection that this host made from one that it accepted, by its local port."""

    def __init__(self, snapshot: Snapshot) -> None:
        listeners = () if isinstance(snapshot.listeners, Missing) else snapshot.listeners
        self._listening = {listener.local.port for listener in listeners}
        self._range = ephemeral_range(snapshot)

    def has_listener(self, connection: Connection) -> bool:
        """Whether somebody listens on its local port, so that it was accepted."""
        return connection.local.port in self._listening

    def is_client(self, connection: Connection) -> bool:
        """Whether this host can have made the connection: from an ephemeral port that nobody listens on."""
        return self.is_client_port(connection.local.port)

    def is_client_port(self, port: int) -> bool:
        """Whether this host can have made a connection that has this local port."""
        if port in self._listening:
            return False
        return isinstance(self._range, Missing) or self._range[0] <= port <= self._range[1]


# Whether connect() may take over the ports of connections that are in TIME_WAIT.


_REUSE, _TIMESTAMPS = "net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_timestamps"
_DELAY = "net.ipv4.tcp_tw_reuse_delay"
_DEFAULT_DELAY_MS = 1000


class PortReuse(NamedTuple):
    """What the kernel allows between one source and one peer address."""

    allowed: bool
    """connect() may use the local port of a TIME_WAIT again, once that is `after` seconds old."""
    after: float
    """Seconds: net.ipv4.tcp_tw_reuse_delay where the kernel has it, else its fixed second."""
    why: str
    """The setting that decides, as in "tcp_tw_reuse is 2, for loopback only"."""

    def __str__(self) -> str:
        if not self.allowed:
            return f"they block their ports for 60 s ({self.why})"
        return f"connect() may take them over once {self.after:g} s old ({self.why})"


def port_reuse(snapshot: WithSysctls, source: str, peer: str) -> Reading[PortReuse]:
    """What tcp_twsk_unique() (net/ipv4/tcp_ipv4.c) says for connections from `source` to `peer`.

    It supposes that the peer uses TCP timestamps too, as everybody does by default.
    Missing where tcp_tw_reuse or tcp_timestamps could not be read.
    """
    reuse, timestamps = (_number(snapshot, name) for name in (_REUSE, _TIMESTAMPS))
    if isinstance(reuse, Missing):
        return reuse
    if isinstance(timestamps, Missing):
        return timestamps
    delay = _number(snapshot, _DELAY)
    after = (_DEFAULT_DELAY_MS if isinstance(delay, Missing) else delay) / 1000
    if timestamps == 0:
        return PortReuse(allowed=False, after=after, why="tcp_timestamps is 0")
    if reuse == 2:
        loopback = is_loopback(source) or is_loopback(peer)
        what = "and this is loopback" if loopback else "for loopback only"
        return PortReuse(allowed=loopback, after=after, why=f"tcp_tw_reuse is 2, {what}")
    also = ", if the peer uses timestamps too" if reuse == 1 else ""
    return PortReuse(allowed=reuse == 1, after=after, why=f"tcp_tw_reuse is {reuse}{also}")


def is_loopback(address: str) -> bool:
    """Whether the kernel takes a numeric address for loopback: 127.0.0.0/8, mapped or not, or ::1."""
    return address.startswith(("127.", "::ffff:127.")) or address == "::1"


def _number(snapshot: WithSysctls, name: str) -> Reading[int]:
    value = snapshot.sysctls.get(name, Missing(f"{name} was not read"))
    if isinstance(value, int | Missing):
        return value
    return Missing(f"{name} is no number")


# Ephemeral ports that are not connect()'s to give: somebody is bound to them.


class BoundPorts(NamedTuple):
    """The sockets that are bound and not connected, on ports that connect() would choose from."""

    sockets: tuple[Listener | Connection, ...]
    unseen: int
    """Bound sockets that were not looked at."""
    reason: str
    """Why; empty where all were."""


def bound_ports(snapshot: Snapshot) -> Reading[BoundPorts]:
    """Find them; Missing before Linux 6.8, which lists no bound socket that does not listen."""
    if isinstance(snapshot.detail, Missing):
        return snapshot.detail
    bound = snapshot.detail.get(TcpState.BOUND)
    if bound is None:
        if not isinstance(snapshot.census, Missing) and isinstance(snapshot.census.bound, Missing):
            return snapshot.census.bound
        return Missing("this kernel does not list sockets that are bound and neither listen nor connect")
    return _with_listeners(snapshot, bound)


def _with_listeners(snapshot: Snapshot, bound: Detail) -> Reading[BoundPorts]:
    ends, reserved, listeners = ephemeral_range(snapshot), reserved_ports(snapshot), snapshot.listeners
    if isinstance(ends, Missing):
        return ends
    if isinstance(reserved, Missing):
        return reserved
    if isinstance(listeners, Missing):
        return listeners
    rows: list[Listener | Connection] = [*listeners, *bound.connections]
    found = tuple(
        row
        for row in rows
        if ends[0] <= row.local.port <= ends[1]
        and not any(low <= row.local.port <= high for low, high in reserved)
    )
    unseen = bound.total - len(bound.connections)
    return BoundPorts(found, unseen, partly(bound, TcpState.BOUND) if unseen else "")


def number_bound(snapshot: Snapshot) -> Value:
    """How many different ports they are on: several sockets may share one (SO_REUSEPORT, own addresses)."""
    bound = bound_ports(snapshot)
    if isinstance(bound, Missing):
        return bound
    number = len({row.local.port for row in bound.sockets})
    return Range(number, number + bound.unseen, bound.reason) if bound.unseen else number


def connectable_ports(snapshot: Snapshot) -> Value:
    """How many ports connect() chooses from: of the usable ones those without a socket placed by bind().

    Where the kernel does not list sockets that are merely bound, only listeners are left out.
    """
    usable, bound = usable_ports(snapshot), bound_ports(snapshot)
    if isinstance(usable, Missing):
        return usable
    if isinstance(bound, Missing):
        bound = _with_listeners(snapshot, Detail((), 0))
    if isinstance(bound, Missing):
        return bound
    left = usable - len({row.local.port for row in bound.sockets})
    return Range(max(0, left - bound.unseen), left, bound.reason) if bound.unseen else left


def owners_bound(snapshot: Snapshot) -> Value:
    """Who holds them, those with most first."""
    bound = bound_ports(snapshot)
    if isinstance(bound, Missing):
        return bound
    numbers, hidden = count_holders(bound.sockets)
    if hidden:
        numbers[HIDDEN_LABEL] = len(hidden)
    if not numbers:
        return NONE
    return NamedText(most_common(numbers, "{name}: {number:,}"), pids=pids_of(bound.sockets))


BOUND_SOURCE = "ss -tanB (sock_diag state bit 13, Linux 6.8 and later)"


class Port(NamedTuple):
    """One local port, and the count that it is part of."""

    number: int
    census: Census


def port_subjects(samples: Samples, host: Mapping[str, Value]) -> Reading[Sequence[Subject]]:
    """One subject per local port in use, ascending.

    Ports of the ephemeral range that nobody listens on are no subjects: the census counts them
    together. Missing where sockets could not be counted.
    """
    census = samples.after.census
    if isinstance(census, Missing):
        return census
    numbers = sorted({port for _, port in census.by_port} - {0})
    return [
        Subject(Scope.PORT, str(number), {"port": number}, LazyFacts(Port(number, census), FUNCTIONS, host))
        for number in numbers
    ]


def state_count(census: Census, state: TcpState, number: int) -> Value:
    """A number of the census; a lower bound where the census may lack sockets."""
    if state is TcpState.BOUND and isinstance(census.bound, Missing):
        return census.bound
    if isinstance(census.complete, Missing):
        return Range(number, math.inf, census.complete.reason)
    return number


_of_port = Teller[Port](Scope.PORT)


def _count(state: TcpState) -> Told[Port]:
    meaning, source = f"Sockets in {state.name} whose local port is this one.", "ss -tan 'sport = :PORT'"
    if state is TcpState.BOUND:
        meaning, source = "Sockets bound to this port that neither listen nor are connected.", BOUND_SOURCE
    return _of_port.gauge(
        f"port.{state.key}",
        COUNT,
        meaning,
        source,
        lambda port: state_count(port.census, state, port.census.by_port.get((state, port.number), 0)),
    )


FACTS: Sequence[Told[Port]] = (
    _of_port.gauge("port.number", COUNT, "The local port.", "ss -tan", lambda port: port.number),
    *map(_count, COUNTED_STATES),
)
FUNCTIONS = functions_of(FACTS)
