"""The answer to `explain --state`: a page of the encyclopaedia, and this host's numbers beside it."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

from tcpdoctor.answers.record import Count, Host, Is, Pid, Reasons, Seconds, StateKey, Time, host_of, utc
from tcpdoctor.answers.states import census_by_port
from tcpdoctor.facts.deadlines import show_life
from tcpdoctor.facts.state_deadlines import (
    DEADLINE_SYSCTLS,
    Deadline,
    Sysctls,
    assumed_rto,
    state_deadlines,
)
from tcpdoctor.kernel.entered import moment
from tcpdoctor.kernel.listing import why_not_listed
from tcpdoctor.kernel.namespaces import Identity, read_identity
from tcpdoctor.kernel.owners import find_owners
from tcpdoctor.kernel.reading import Missing, Reading, read_tick
from tcpdoctor.kernel.snapshot import Connection, Held, Listener, NotHeld
from tcpdoctor.kernel.sockets import StateCounts, count_states, read_connections, read_listeners
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.sysctl import read_sysctls
from tcpdoctor.knowledge.resource import Mistake
from tcpdoctor.knowledge.state_pages import StatePage, draw_states, find_state


class ProcessCount(NamedTuple):
    """How many sockets of the state one process holds."""

    pid: Pid
    name: str
    sockets: Count


class PortCount(NamedTuple):
    """How many sockets of the state one local port has."""

    port: Annotated[int | None, Is("null: all client ports together.", minimum=0)]
    sockets: Count


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


class WhatEnds(NamedTuple):
    """What ends a socket of the state."""

    owned: Annotated[str, Is("While a process holds it.")]
    orphan: Annotated[str | None, Is("When none does.")]


class ToldDeadline(NamedTuple):
    """When a state ends by itself."""

    case: str
    ends: Annotated[Reading[bool], Is("false: it never ends by itself; null: that is not known.")]
    low_s: Annotated[Reading[float | None], Is("null as well where it never ends.", minimum=0)]
    high_s: Annotated[Reading[float | None], Is("null as well where it may never end.", minimum=0)]
    text: str
    remark: Annotated[str | None, Is("What a sysctl's value means, where it does not mean what it says.")]
    sysctls: Annotated[Mapping[str, Reading[int]], Is("What it is computed from.")]


class StateAnswer(NamedTuple):
    """What `tcpdoctor explain --state S --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.state/1"]
    state: StateKey
    name: str
    rfc_name: Annotated[str | None, Is("As RFC 9293 writes it; null: it is no state of TCP there.")]
    host: Host
    taken_at: Time
    sockets: Reading[Count]
    held: Reading[Count]
    not_held: Reading[Count]
    owner_unknown: Reading[Count]
    sample_of: Annotated[
        Reading[int | None],
        Is("How many were looked at for their owners, where not all; else null.", minimum=0),
    ]
    processes: Reading[tuple[ProcessCount, ...]]
    local_ports: Reading[tuple[PortCount, ...]]
    missing: Reasons
    """``complete`` as well: why there may be more sockets than were counted."""
    means: str
    enter: tuple[str, ...]
    leave: tuple[str, ...]
    ends: WhatEnds
    deadlines: tuple[ToldDeadline, ...]
    assumed_rto_s: Seconds
    costs: str
    mistaken_for: tuple[Mistake, ...]
    look: tuple[str, ...]
    diagram: tuple[str, ...]


_NEVER_HELD = (TcpState.TIME_WAIT, TcpState.SYN_RECV)
_SECONDS_FOR_OWNERS = 2.0
_NOT_LISTED = Missing("the kernel keeps no list of closed sockets")


class StateHere(NamedTuple):
    """What was read of one state here and now."""

    number: Reading[int]
    complete: Reading[bool]
    whose: Reading[Whose]
    sysctls: Sysctls
    tick: float
    """Length of a jiffy in seconds."""


def look_at_state(name: str) -> StateAnswer:
    """Return the page of a state and what is here and now in it.

    Raises:
        QuestionError: There is no such state.
    """
    page = find_state(name)
    counts = count_states()
    here = StateHere(
        number=_number(page.key, counts),
        complete=True if isinstance(counts, Missing) else counts.complete,
        whose=_whose(page.key, counts),
        sysctls=read_sysctls(DEADLINE_SYSCTLS),
        tick=read_tick(),
    )
    return state_answer(page, read_identity(), moment(), here)


def state_answer(page: StatePage, who: Identity, taken_at: float, here: StateHere) -> StateAnswer:
    """Return the answer of a page and what was read on one host."""
    whose = here.whose
    reasons = {"complete": here.complete.reason} if isinstance(here.complete, Missing) else {}
    if isinstance(whose, Whose) and whose.reason is not None:
        reasons["owner_unknown"] = whose.reason
    return StateAnswer(
        schema="tcpdoctor.state/1",
        state=page.key,  # type: ignore[arg-type]  # one of them
        name=page.name,
        rfc_name=None if page.key == "bound" else page.rfc,
        host=host_of(who),
        taken_at=utc(taken_at),
        sockets=here.number,
        held=whose if isinstance(whose, Missing) else whose.held,
        not_held=whose if isinstance(whose, Missing) else whose.not_held,
        owner_unknown=whose if isinstance(whose, Missing) else whose.unknown,
        sample_of=whose if isinstance(whose, Missing) else whose.looked_at,
        processes=whose if isinstance(whose, Missing) else whose.processes,
        local_ports=whose if isinstance(whose, Missing) else whose.ports,
        missing=reasons,
        means=page.means,
        enter=page.enter,
        leave=page.leave,
        ends=WhatEnds(page.owned, page.orphan),
        deadlines=tuple(
            told_deadline(deadline, here.sysctls)
            for deadline in state_deadlines(page.key, here.sysctls, here.tick)
        ),
        assumed_rto_s=round(assumed_rto(here.sysctls, here.tick), 6),
        costs=page.costs,
        mistaken_for=page.mistaken,
        look=page.look,
        diagram=tuple(draw_states(page.key).splitlines()),
    )


def told_deadline(deadline: Deadline, sysctls: Sysctls) -> ToldDeadline:
    """Return one deadline as it is printed; ``never`` has no seconds."""
    life = deadline.life
    values = {name: _whole(name, sysctls) for name in deadline.sysctls}
    remark = deadline.remark or None
    if isinstance(life, Missing):
        return ToldDeadline(deadline.case, life, life, life, life.reason, remark, values)
    low, high = (None if math.isinf(end) else round(end, 3) for end in life)
    return ToldDeadline(deadline.case, low is not None, low, high, show_life(life), remark, values)


def _whole(name: str, sysctls: Sysctls) -> Reading[int]:
    value = sysctls.get(name, Missing(f"{name} was not read"))
    return value if isinstance(value, int | Missing) else Missing(f"{name} is no number")


def _number(key: str, counts: Reading[StateCounts]) -> Reading[int]:
    if key == "closed":
        return _NOT_LISTED
    return counts if isinstance(counts, Missing) else counts.readings()[TcpState[key.upper()]]


def _whose(key: str, counts: Reading[StateCounts]) -> Reading[Whose]:
    if key == "closed":
        return _NOT_LISTED
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
        return why_not_listed(state), 0
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
    census, _ = census_by_port()
    if isinstance(census, Missing):
        return census
    ports = [(-number, port) for (its, port), number in census.by_port.items() if its is state]
    counts = tuple(PortCount(port or None, -number) for number, port in sorted(ports))
    return Whose(not_held=census.by_state.get(state, 0), ports=counts)
