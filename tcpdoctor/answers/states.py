"""How many sockets are in which state, in all and perhaps by port, peer or process."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeAlias

from tcpdoctor.answers.record import Count, Host, Is, Reasons, Time, host_of, utc
from tcpdoctor.kernel.namespaces import Identity, moment, read_identity
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Census
from tcpdoctor.kernel.sockets import StateCounts, count_states, read_listeners, take_census
from tcpdoctor.kernel.states import COUNTED_STATES, HELD_STATES, TcpState
from tcpdoctor.named_tuples import NamedTuple

StateReadings = Mapping[TcpState, Reading[int]]
"""A count, or why there is none, for every state of COUNTED_STATES."""


class SocketsByState(NamedTuple):
    """Sockets in each TCP state; null where that is not known. bound: neither listening nor connected."""

    established: Reading[Count]
    syn_sent: Reading[Count]
    syn_recv: Reading[Count]
    fin_wait_1: Reading[Count]
    fin_wait_2: Reading[Count]
    time_wait: Reading[Count]
    close_wait: Reading[Count]
    last_ack: Reading[Count]
    listen: Reading[Count]
    closing: Reading[Count]
    bound: Reading[Count]


class RowStates(NamedTuple):
    """The same of one row: null where the state is not known of the whole host, which says why."""

    established: Count | None
    syn_sent: Count | None
    syn_recv: Count | None
    fin_wait_1: Count | None
    fin_wait_2: Count | None
    time_wait: Count | None
    close_wait: Count | None
    last_ack: Count | None
    listen: Count | None
    closing: Count | None
    bound: Count | None


class Row(NamedTuple):
    """The sockets of one port, peer or process."""

    key: Annotated[str, Is("443, 10.0.0.7, nginx (811); or what the rest have in common: other peers.")]
    states: RowStates


class Most(NamedTuple):
    """Who has most of the sockets in a state."""

    state: Annotated[str, Is("A key of states.")]
    holder: Annotated[str, Is("nginx (811), or: held by no process.")]
    sockets: Count


By: TypeAlias = Literal["port", "peer", "process"]


class StatesAnswer(NamedTuple):
    """What `tcpdoctor states --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.states/1"]
    host: Host
    taken_at: Time
    states: SocketsByState
    by: Annotated[Reading[tuple[Row, ...] | None], Is("The largest first; null where nothing was grouped.")]
    missing: Reasons
    """Also ``states``, where there may be more than counted, and ``by``: what readers of rows must know."""
    grouped_by: Annotated[By | None, Is("What the rows are of.")]
    most: Annotated[
        tuple[Most, ...],
        Is(
            "Where nothing was grouped: who has most of the sockets in a state in which many are somebody's "
            "fault, if they are neither few nor too many to look them up and somebody was found."
        ),
    ]


Grouped: TypeAlias = Sequence[tuple[str, Mapping[TcpState, int]]]
"""What they are grouped by, the largest first, and the states that were counted there."""

_PORT_RANGE = "net.ipv4.ip_local_port_range"


def state_readings(census: Reading[Census]) -> StateReadings:
    """Return every counted state's number, or the reason why it is not known."""
    if isinstance(census, Missing):
        return dict.fromkeys(COUNTED_STATES, census)
    absent = census.complete if isinstance(census.complete, Missing) else 0
    return {
        state: census.bound if state is TcpState.BOUND else census.by_state.get(state, absent)
        for state in COUNTED_STATES
    }


SICK = (TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_2, TcpState.LAST_ACK, TcpState.CLOSING, TcpState.SYN_SENT)
"""States in which many sockets are somebody's fault."""
_FEW, _TOO_MANY = 10, 2_000
"""So many of a state say nothing; and whose so many are takes longer than to count all there is."""
_SEARCH_SECONDS = 0.1


def look_plain() -> StatesAnswer:
    """Count all sockets by state, and see who has most of the sick ones where they are not too many."""
    counts = count_states()
    return states_answer(read_identity(), moment(), counts, most=_who_has_most(counts))


def _who_has_most(counts: Reading[StateCounts]) -> tuple[Most, ...]:
    if isinstance(counts, Missing):
        return ()
    numbers = {state: number for state, number in counts.readings().items() if isinstance(number, int)}
    sick = [state for state in SICK if _FEW <= numbers.get(state, 0) <= _TOO_MANY]
    if not sick:
        return ()
    from tcpdoctor.kernel.groups import count_holders  # healthy hosts need none of it

    groups = count_holders(sick, seconds=_SEARCH_SECONDS)
    if isinstance(groups, Missing) or not groups:
        return ()
    found = []
    for state in sick:
        most = max(groups, key=lambda group: group.states.get(state, 0))
        rest = numbers[state] - sum(group.states.get(state, 0) for group in groups)
        if most.states.get(state, 0) >= max(_FEW, rest):  # else somebody who was not found may have more
            found.append(Most(state.key, most.key, most.states[state]))
    return tuple(found)


def look_by(by: By) -> StatesAnswer:
    """Count all sockets by state and by ``port``, ``peer`` or ``process``."""
    counts, grouped, remarks = _by_port() if by == "port" else _by_group(by)
    return states_answer(read_identity(), moment(), counts, by, grouped, remarks)


def census_by_port() -> tuple[Reading[Census], Reading[tuple[int, int]]]:
    """Count every socket, by local port as well; and say which ports connect() may choose, told as one."""
    from tcpdoctor.kernel.sysctl import read_sysctl

    ephemeral: Reading[tuple[int, int]] = Missing(f"{_PORT_RANGE} is not known")
    match read_sysctl(_PORT_RANGE):
        case (int(low), int(high)):
            ephemeral = low, high
    listeners = read_listeners()
    listening = () if isinstance(listeners, Missing) else listeners
    return take_census(ephemeral, frozenset(row.local.port for row in listening)), ephemeral


def _by_port() -> tuple[Reading[StateCounts], Reading[Grouped], str]:
    census, ephemeral = census_by_port()
    if isinstance(census, Missing):
        return census, census, ""
    rest = "client ports" if isinstance(ephemeral, Missing) else f"client ports {ephemeral[0]}-{ephemeral[1]}"
    by_port: dict[int, dict[TcpState, int]] = {}
    for (state, port), number in census.by_port.items():
        by_port.setdefault(port, {})[state] = number
    grouped = [(str(port) if port else rest, states) for port, states in by_port.items()]
    grouped.sort(key=lambda row: (-sum(row[1].values()), row[0]))
    return StateCounts(census.by_state, census.bound, census.source, census.complete), grouped, ""


def _by_group(by: By) -> tuple[Reading[StateCounts], Reading[Grouped], str]:
    from tcpdoctor.kernel.groups import MOST_PEERS, OTHER_PEERS, count_by_peer, count_by_process

    found = count_by_peer() if by == "peer" else count_by_process()
    if isinstance(found, Missing):
        return found, found, ""
    remark = (
        f"There are too many peers to keep apart (more than {MOST_PEERS // 4}): each may have more sockets "
        f"than its row says; the difference is in {OTHER_PEERS!r}."
    )
    grouped = [(group.key, group.states) for group in found.groups]
    return found.counts, grouped, remark if found.folded else ""


def states_answer(
    who: Identity,
    taken_at: float,
    counts: Reading[StateCounts],
    by: By | None = None,
    grouped: Reading[Grouped] | None = None,
    remark: str = "",
    most: tuple[Most, ...] = (),
) -> StatesAnswer:
    """Return the answer of what was counted.

    Args:
        who: Where it was counted.
        taken_at: Seconds since 1970.
        counts: In all.
        by: What the sockets of `grouped` have in common.
        grouped: The rows.
        remark: What a reader of the rows must know.
        most: Who has most of the sick ones.
    """
    readings = dict.fromkeys(COUNTED_STATES, counts) if isinstance(counts, Missing) else counts.readings()
    reasons = {"by": remark} if remark else {}
    if not isinstance(counts, Missing) and isinstance(counts.complete, Missing):
        reasons["states"] = counts.complete.reason
    rows: Reading[tuple[Row, ...] | None] = grouped if isinstance(grouped, Missing) else None
    if by is not None and grouped is not None and not isinstance(grouped, Missing):
        rows = tuple(_row(key, states, readings) for key, states in grouped)
    return StatesAnswer(
        schema="tcpdoctor.states/1",
        host=host_of(who),
        taken_at=utc(taken_at),
        states=SocketsByState(**{state.key: readings[state] for state in COUNTED_STATES}),
        by=rows,
        missing=reasons,
        grouped_by=by,
        most=most,
    )


def _row(key: str, states: Mapping[TcpState, int], readings: StateReadings) -> Row:
    known = {
        state.key: None if isinstance(readings[state], Missing) else states.get(state, 0)
        for state in COUNTED_STATES
    }
    return Row(key, RowStates(**known))


_MANY_CLOSING = 100
"""Sockets: with fewer in a state of the whole host nobody asks a process's rule; as its own limit."""


def are_many_closing(census: Reading[Census]) -> bool:
    """Whether there are so many sockets in a state that a process may hold on to that they may be a leak."""
    return not isinstance(census, Missing) and any(
        census.by_state.get(state, 0) >= _MANY_CLOSING for state in HELD_STATES
    )
