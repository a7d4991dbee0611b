"""Ephemeral ports that are not connect()'s to give: somebody is bound to them."""

from collections import Counter
from typing import NamedTuple

from tcpdoctor.facts.earlier import partly
from tcpdoctor.facts.portrange import ephemeral_range, reserved_ports, usable_ports
from tcpdoctor.facts.socketset import NONE, most_common
from tcpdoctor.facts.subject import HIDDEN_LABEL
from tcpdoctor.facts.value import Range, Value
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Detail, Held, Listener, NotHeld, Snapshot
from tcpdoctor.kernel.states import TcpState


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
    numbers: Counter[str] = Counter()
    for row in bound.sockets:
        match row.owner:
            case Held(holders=holders):
                numbers[f"{holders[0].name} ({holders[0].pid})"] += 1
            case NotHeld():
                numbers["no process"] += 1
            case Missing():
                numbers[HIDDEN_LABEL] += 1
    return most_common(numbers, "{name}: {number:,}") if numbers else NONE
