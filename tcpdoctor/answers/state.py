"""The answer to `explain --state`: a page of the encyclopaedia, and this host's numbers beside it."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from tcpdoctor.facts.state_deadlines import DEADLINE_SYSCTLS, Deadline, assumed_rto, state_deadlines
from tcpdoctor.kernel.namespaces import Identity, read_identity
from tcpdoctor.kernel.owners import find_owners
from tcpdoctor.kernel.procfile import read_tick
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Held, Listener, NotHeld, SysctlValue
from tcpdoctor.kernel.sockets import StateCounts, count_states, read_connections, read_listeners, take_census
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.sysctl import read_sysctl, read_sysctls
from tcpdoctor.knowledge.state_pages import StatePage, draw_states, find_state


class ProcessCount(NamedTuple):
    """How many sockets of the state one process holds."""

    pid: int
    name: str
    sockets: int


class PortCount(NamedTuple):
    """How many sockets of the state one local port has."""

    port: int
    """0: all client ports together."""
    sockets: int


class Whose(NamedTuple):
    """To whom the sockets of a state belong."""

    processes: tuple[ProcessCount, ...] = ()
    """The one with the most first."""
    held: int = 0
    """Sockets that some process holds."""
    not_held: int = 0
    """Orphans and minisockets; in ESTABLISHED and CLOSE_WAIT those that wait for accept()."""
    unknown: int = 0
    """Sockets whose owner is hidden."""
    reason: str | None = None
    """Why owners are hidden."""
    looked_at: int | None = None
    """Set where there were so many that only a sample of this size was looked at."""
    ports: tuple[PortCount, ...] = ()
    """Instead of processes, for states that no process ever holds."""


class StateAnswer(NamedTuple):
    """Everything that `explain --state` says."""

    page: StatePage
    who: Identity
    taken_at: float
    """Seconds since 1970."""
    number: Reading[int]
    """How many sockets are in this state."""
    complete: Reading[bool]
    whose: Reading[Whose]
    deadlines: tuple[Deadline, ...]
    sysctls: Mapping[str, Reading[SysctlValue]]
    """Those of the deadlines."""
    rto: float
    """The retransmission timeout that the deadlines suppose, in seconds."""
    picture: str
    """The state machine, drawn."""


# `tcpdoctor explain --state`: a state of TCP, and how it stands with it here.


_PORT_RANGE = "net.ipv4.ip_local_port_range"

_NEVER_HELD = (TcpState.TIME_WAIT, TcpState.SYN_RECV)
_SECONDS_FOR_OWNERS = 2.0


def look_at_state(name: str) -> StateAnswer:
    """Return the page of a state and what is here and now in it.

    Raises:
        QuestionError: There is no such state.
    """
    page = find_state(name)
    sysctls = read_sysctls(DEADLINE_SYSCTLS)
    tick = read_tick()
    counts = count_states()
    return StateAnswer(
        page=page,
        who=read_identity(),
        taken_at=time.time(),
        number=_number(page.key, counts),
        complete=True if isinstance(counts, Missing) else counts.complete,
        whose=_whose(page.key, counts),
        deadlines=state_deadlines(page.key, sysctls, tick),
        sysctls=sysctls,
        rto=assumed_rto(sysctls, tick),
        picture=draw_states(page.key),
    )


def _number(key: str, counts: Reading[StateCounts]) -> Reading[int]:
    if key == "closed":
        return Missing("the kernel keeps no list of closed sockets")
    return counts if isinstance(counts, Missing) else counts.readings()[TcpState[key.upper()]]


def _whose(key: str, counts: Reading[StateCounts]) -> Reading[Whose]:
    if key == "closed":
        return Missing("the kernel keeps no list of closed sockets")
    state = TcpState[key.upper()]
    if state in _NEVER_HELD:
        return _ports(state)
    if not isinstance(counts, Missing) and counts.readings()[state] == 0:
        return Whose()
    rows, total = _rows(state)
    if isinstance(rows, Missing):
        return rows
    return _count_owners(rows, total)


def _rows(state: TcpState) -> tuple[Reading[tuple[Connection | Listener, ...]], int]:
    if state is TcpState.LISTEN:
        listeners = read_listeners()
        return listeners, 0 if isinstance(listeners, Missing) else len(listeners)
    details = read_connections((state,))
    if isinstance(details, Missing):
        return details, 0
    detail = details.get(state)
    if detail is None:
        return Missing("this kernel does not list bound sockets"), 0
    return tuple(detail.connections), detail.total


def _count_owners(rows: tuple[Connection | Listener, ...], total: int) -> Whose:
    wanted = {row.inode: row.uid for row in rows if row.inode}
    owners = find_owners(wanted, seconds=_SECONDS_FOR_OWNERS)
    held: Counter[tuple[int, str]] = Counter()
    not_held = unknown = 0
    reason = None
    for row in rows:
        match owners[row.inode] if row.inode else row.owner:
            case Held(holders):
                held[holders[0].pid, holders[0].name] += 1
            case NotHeld():
                not_held += 1
            case Missing(why):
                unknown, reason = unknown + 1, why
    processes = tuple(ProcessCount(pid, name, number) for (pid, name), number in held.most_common())
    looked_at = len(rows) if len(rows) < total else None
    return Whose(processes, held.total(), not_held, unknown, reason, looked_at)


def _ports(state: TcpState) -> Reading[Whose]:
    value: Reading[SysctlValue] = read_sysctl(_PORT_RANGE)
    ephemeral: Reading[tuple[int, int]] = Missing(f"{_PORT_RANGE} is not known")
    match value:
        case (int(low), int(high)):
            ephemeral = low, high
    listeners = read_listeners()
    listening = () if isinstance(listeners, Missing) else listeners
    census = take_census(ephemeral, frozenset(listener.local.port for listener in listening))
    if isinstance(census, Missing):
        return census
    by_port: Mapping[tuple[TcpState, int], int] = census.by_port
    ports = [PortCount(port, number) for (its, port), number in by_port.items() if its is state]
    ports.sort(key=lambda count: (-count.sockets, count.port))
    return Whose(not_held=census.by_state.get(state, 0), ports=tuple(ports))
