"""Which ports the kernel hands out by itself."""

from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Snapshot

_RANGE = "net.ipv4.ip_local_port_range"
_RESERVED = "net.ipv4.ip_local_reserved_ports"


def ephemeral_range(snapshot: Snapshot) -> Reading[tuple[int, int]]:
    """First and last port of net.ipv4.ip_local_port_range, both included."""
    value = snapshot.sysctls.get(_RANGE, Missing(f"{_RANGE} was not read"))
    match value:
        case Missing():
            return value
        case (int(low), int(high)):
            return low, high
    return Missing(f"{_RANGE} is no pair of ports")


def reserved_ports(snapshot: Snapshot) -> Reading[tuple[tuple[int, int], ...]]:
    """The ranges of net.ipv4.ip_local_reserved_ports, both ends included."""
    value = snapshot.sysctls.get(_RESERVED, Missing(f"{_RESERVED} was not read"))
    if isinstance(value, Missing):
        return value
    ranges = [part for part in value if isinstance(part, tuple)] if isinstance(value, tuple) else []
    if not isinstance(value, tuple) or len(ranges) < len(value):
        return Missing(f"{_RESERVED} is no list of ranges")
    return tuple(ranges)


def reserved_in_range(snapshot: Snapshot) -> Reading[int]:
    """How many ports of the range are reserved; the ranges of the kernel's list never overlap."""
    ends, reserved = ephemeral_range(snapshot), reserved_ports(snapshot)
    if isinstance(ends, Missing):
        return ends
    if isinstance(reserved, Missing):
        return reserved
    return sum(max(0, min(high, ends[1]) - max(low, ends[0]) + 1) for low, high in reserved)


def usable_ports(snapshot: Snapshot) -> Reading[int]:
    """How many ports connect() and bind(0) choose from: the range less the reserved."""
    ends, taken = ephemeral_range(snapshot), reserved_in_range(snapshot)
    if isinstance(ends, Missing):
        return ends
    if isinstance(taken, Missing):
        return taken
    return ends[1] - ends[0] + 1 - taken


def ports_in_range(snapshot: Snapshot) -> Reading[int]:
    """How many ports the range has, reserved ones as well."""
    ends = ephemeral_range(snapshot)
    return ends if isinstance(ends, Missing) else ends[1] - ends[0] + 1


def is_ephemeral(port: int, snapshot: Snapshot) -> Reading[bool]:
    """Whether the kernel may give this port to an outgoing connection."""
    ends, reserved = ephemeral_range(snapshot), reserved_ports(snapshot)
    if isinstance(ends, Missing):
        return ends
    if not ends[0] <= port <= ends[1]:
        return False
    if isinstance(reserved, Missing):
        return reserved
    return not any(low <= port <= high for low, high in reserved)


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
        port = connection.local.port
        if port in self._listening:
            return False
        return isinstance(self._range, Missing) or self._range[0] <= port <= self._range[1]
