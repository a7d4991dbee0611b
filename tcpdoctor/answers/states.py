"""How many sockets are in which state, in all and perhaps by port, peer or process."""

import time
from collections.abc import Mapping

from tcpdoctor.kernel.namespaces import read_identity
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Census
from tcpdoctor.kernel.sockets import StateCounts, count_states, read_listeners, take_census
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState
from tcpdoctor.named_tuples import NamedTuple

StateReadings = Mapping[TcpState, Reading[int]]
"""A count, or why there is none, for every state of COUNTED_STATES."""


class Row(NamedTuple):
    """The sockets of one port, peer or process."""

    key: str
    """``443``, ``10.0.0.7``, ``nginx (811)``; or what the rest have in common: ``other peers``."""
    states: Mapping[TcpState, int]
    """Only what was counted; a state that is absent has none."""


class States(NamedTuple):
    """Sockets by state, in all and perhaps by something."""

    host: str
    kernel: str
    namespace: int
    namespace_name: str | None
    taken_at: float
    """Seconds since 1970, UTC."""
    readings: StateReadings
    complete: Reading[bool]
    """True, or Missing with the reason why there may be more sockets than counted."""
    by: str | None = None
    """``port``, ``peer``, ``process``, or None."""
    rows: Reading[tuple[Row, ...]] = ()
    """The largest first; Missing where they could not be told apart."""
    remarks: tuple[str, ...] = ()
    """Sentences that a reader of the rows must know."""


_PORT_RANGE = "net.ipv4.ip_local_port_range"


def state_readings(census: Reading[Census]) -> StateReadings:
    """Return every counted state's number, or the reason why it is not known."""
    if isinstance(census, Missing):
        return dict.fromkeys(COUNTED_STATES, census)
    return {
        state: census.bound if state is TcpState.BOUND else census.by_state.get(state, 0)
        for state in COUNTED_STATES
    }


def look_plain() -> States:
    """Count all sockets by state."""
    return _answer(count_states())


def look_by(by: str) -> States:
    """Count all sockets by state and by ``port``, ``peer`` or ``process``."""
    return _look_by_port() if by == "port" else _look_by_group(by)


def _look_by_port() -> States:
    from tcpdoctor.kernel.sysctl import read_sysctl

    value = read_sysctl(_PORT_RANGE)
    ephemeral: Reading[tuple[int, int]] = Missing(f"{_PORT_RANGE} is not known")
    match value:
        case (int(low), int(high)):
            ephemeral = low, high
    listeners = read_listeners()
    listening = () if isinstance(listeners, Missing) else listeners
    census = take_census(ephemeral, frozenset(listener.local.port for listener in listening))
    if isinstance(census, Missing):
        return _answer(census, "port")
    rest = "client ports" if isinstance(ephemeral, Missing) else f"client ports {ephemeral[0]}-{ephemeral[1]}"
    by_port: dict[int, dict[TcpState, int]] = {}
    for (state, port), number in census.by_port.items():
        by_port.setdefault(port, {})[state] = number
    rows = [Row(str(port) if port else rest, states) for port, states in by_port.items()]
    counts = StateCounts(census.by_state, census.bound, census.source, census.complete)
    return _answer(counts, "port")._replace(rows=_largest_first(rows))


def _look_by_group(by: str) -> States:
    from tcpdoctor.kernel.groups import MOST_PEERS, OTHER_PEERS, count_by_peer, count_by_process

    found = count_by_peer() if by == "peer" else count_by_process()
    if isinstance(found, Missing):
        return _answer(found, by)
    rows = tuple(Row(group.key, group.states) for group in found.groups)
    remarks = (
        f"There are too many peers to keep apart (more than {MOST_PEERS // 4}): each may have more sockets "
        f"than its row says; the difference is in {OTHER_PEERS!r}."
    )
    return _answer(found.counts, by)._replace(rows=rows, remarks=(remarks,) if found.folded else ())


def _answer(counts: Reading[StateCounts], by: str | None = None) -> States:
    readings: Mapping[TcpState, Reading[int]]
    complete: Reading[bool] = True
    rows: Reading[tuple[Row, ...]] = ()
    if isinstance(counts, Missing):
        readings, rows = dict.fromkeys(COUNTED_STATES, counts), counts
    else:
        readings, complete = counts.readings(), counts.complete
    who = read_identity()
    return States(
        who.host, who.kernel, who.namespace, who.namespace_name, time.time(), readings, complete, by, rows
    )


def _largest_first(rows: list[Row]) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=lambda row: (-sum(row.states.values()), row.key)))
