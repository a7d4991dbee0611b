"""The answers to `explain --state`, `--option` and `--error`: a page of the encyclopaedia, and this host."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from tcpdoctor.answers.record import (
    ABSENT,
    NO_REASONS,
    Absent,
    Count,
    Host,
    Is,
    Pid,
    Reasons,
    Seconds,
    Time,
    host_of,
    utc,
)
from tcpdoctor.answers.states import census_by_port
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.deadlines import (
    DEADLINE_SYSCTLS,
    Deadline,
    Life,
    Sysctls,
    assumed_rto,
    show_life,
    state_deadlines,
)
from tcpdoctor.facts.sysctl_value import value_as_printed
from tcpdoctor.kernel.listing import why_not_listed
from tcpdoctor.kernel.namespaces import Identity, is_recording, moment, read_identity
from tcpdoctor.kernel.owners import find_owners
from tcpdoctor.kernel.reading import JsonValue, Missing, Reading, read_tick
from tcpdoctor.kernel.snapshot import Connection, Held, Listener, NotHeld, SysctlValue
from tcpdoctor.kernel.sockets import StateCounts, count_states, read_connections, read_listeners
from tcpdoctor.kernel.sockopts import OPTIONS, OptionValue, read_fresh_option
from tcpdoctor.kernel.states import StateKey, TcpState
from tcpdoctor.kernel.survey import Seen, take_survey
from tcpdoctor.kernel.sysctl import read_sysctl, read_sysctls
from tcpdoctor.knowledge.error_pages import Call, ErrorPage, Look, find_error
from tcpdoctor.knowledge.log_lines import log_line_of
from tcpdoctor.knowledge.option_pages import OptionPage, Runtime, Value, find_option, read_runtimes
from tcpdoctor.knowledge.resource import Mistake
from tcpdoctor.knowledge.state_pages import StatePage, draw_states, find_state

# `tcpdoctor explain --state`: what it means, and who is in it here.


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


# `tcpdoctor explain --option`: a socket option, and which listeners here have it.


class ListenerOption(NamedTuple):
    """One listener of this host, and its value of the option."""

    local: str
    owner: Annotated[Reading[str | None], Is("nginx (811); null where no process holds it.")]
    value: Reading[OptionValue]
    missing: Reasons = NO_REASONS


class Limits(NamedTuple):
    """The smallest and the largest value."""

    low: int
    high: int


class Sets(NamedTuple):
    """A program or library in its default configuration, and what was seen on its sockets."""

    name: str
    software: str
    seen_with: Annotated[str | None, Is("The versions.")]
    sets: Annotated[bool, Is("false: it leaves the option as it is.")]
    value: Annotated[JsonValue, Is("The value that was seen; null where it sets none.")]
    note: str | None
    oldest: Annotated[str, Is("The first of the versions.")]


class OptionAnswer(NamedTuple):
    """What `tcpdoctor explain --option SO_X --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.option/1"]
    option: str
    level: str
    number: Count
    type: Annotated[str, Is("Of C.")]
    unit: str | None
    host: Host
    taken_at: Time
    does: str
    value_of_a_new_socket: Reading[OptionValue]
    default: str | None
    accepts: Limits | None
    otherwise: Annotated[str | None, Is("What happens to other values.")]
    accepts_is: Annotated[str | None, Is("The limits in words, where two numbers do not say it.")]
    sysctls: Annotated[Mapping[str, Reading[SysctlValue]], Is("Those that have to do with it.")]
    set_when: str
    inherited_by_accepted: Annotated[bool | None, Is("null: neither, inherited_is says how.")]
    inherited_is: str | None
    since: str | None
    beware: str | None
    mistaken_for: tuple[Mistake, ...]
    code: Annotated[Mapping[str, str], Is("How to set it, by language.")]
    listeners: Annotated[Reading[tuple[ListenerOption, ...]], Is("Every listener that can have it.")]
    set_by: Annotated[
        Mapping[str, tuple[Sets, ...]], Is("By socket (listener, accepted, client), those that set it first.")
    ]
    set_by_is: str | None
    see_also: tuple[str, ...]
    missing: Reasons
    said: Annotated[
        tuple[str, ...], Is("Languages in whose place of `code` a sentence says why there is none.")
    ]


class OptionHere(NamedTuple):
    """What was read of one option here and now."""

    fresh: Reading[OptionValue]
    """Its value on a socket that was just made here."""
    sysctls: Mapping[str, Reading[SysctlValue]]
    """Those of the page."""
    listeners: Reading[tuple[ListenerOption, ...]]
    """Every listener that can have the option; Missing where they were not asked, or cannot be."""


def who_sets(name: str, runtimes: Sequence[Runtime]) -> Mapping[str, tuple[Sets, ...]]:
    """Tell who sets an option, per kind of socket; IPV6_V6ONLY was looked at on listeners only."""
    told = {}
    for socket in ("listener",) if name == "IPV6_V6ONLY" else ("listener", "accepted", "client"):
        seen: list[Sets] = []
        plain: list[Sets] = []
        for runtime in runtimes:
            options: Mapping[str, Value] | None = getattr(runtime, socket)
            if options is None:
                continue
            sets = name in options
            seen_with = ", ".join(runtime.versions)
            one = Sets(
                runtime.name,
                runtime.software,
                seen_with,
                sets,
                options.get(name),
                runtime.note,
                runtime.versions[0],
            )
            (seen if sets else plain).append(one)
        told[socket] = (*seen, *plain)
    return told


_MOST_LISTENERS = 2_000


def look_at_option(name: str) -> OptionAnswer:
    """Return the page of an option and how it stands here.

    Raises:
        QuestionError: There is no such option.
    """
    page = find_option(name)
    here = OptionHere(
        fresh=read_fresh_option(page.option(), ipv6=page.level == "IPPROTO_IPV6"),
        sysctls=read_sysctls(page.sysctls),
        listeners=_listeners(page),
    )
    return option_answer(page, read_identity(), moment(), here)


def option_answer(page: OptionPage, who: Identity, taken_at: float, here: OptionHere) -> OptionAnswer:
    """Return the answer of a page and what was read on one host."""
    return OptionAnswer(
        schema="tcpdoctor.option/1",
        option=page.name,
        level=page.level,
        number=page.number,
        type=page.c_type,
        unit=page.unit or ("switch" if page.kind == "switch" else None),
        host=host_of(who),
        taken_at=utc(taken_at),
        does=page.does,
        value_of_a_new_socket=here.fresh,
        default=page.default,
        accepts=None if page.limits is None else Limits(*page.limits),
        otherwise=page.outside,
        accepts_is=page.accepts,
        sysctls=here.sysctls,
        set_when=page.set_when,
        inherited_by_accepted=page.inherited,
        inherited_is=page.inherited_is,
        since=page.since,
        beware=page.beware,
        mistaken_for=page.mistaken,
        code=page.code,
        listeners=here.listeners,
        set_by=who_sets(page.name, read_runtimes()),
        set_by_is=page.runtimes,
        see_also=page.see,
        missing=NO_REASONS,
        said=page.said,
    )


def _listeners(page: OptionPage) -> Reading[tuple[ListenerOption, ...]]:
    if page.name not in {option.name for option in OPTIONS}:
        return Missing(f"tcpdoctor does not ask other processes' sockets for {page.name}")
    survey = take_survey(
        (TcpState.LISTEN,), options=True, owner_seconds=_SECONDS_FOR_OWNERS, room=_MOST_LISTENERS
    )
    if isinstance(survey, Missing):
        return survey
    six_only = page.level == "IPPROTO_IPV6"
    return tuple(
        ListenerOption(str(seen.row.local), _owner(seen), _value(seen, page.name))
        for seen in survey.sockets
        if seen.row.family == 6 or not six_only
    )


def _owner(seen: Seen) -> Reading[str | None]:
    owner = seen.row.owner
    if isinstance(owner, Held):
        return owner.label
    return owner if isinstance(owner, Missing) else None


def _value(seen: Seen, name: str) -> Reading[OptionValue]:
    return seen.options if isinstance(seen.options, Missing) else seen.options[name]


class Here(NamedTuple):
    """One thing of this host that has to do with the error."""

    says: str
    source: tuple[str, ...]
    """Sysctls that it comes from, or what was asked."""
    missing: str | None
    """Why `value` is not known."""
    value: JsonValue
    """A deadline is a range in seconds, null for never; anything else is a number, numbers or a text."""
    unit: str | None
    text: Annotated[str | Absent, Is(optional=True)] = ABSENT
    """A deadline in words."""


class ErrorAnswer(NamedTuple):
    """What `tcpdoctor explain --error E --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.error/1"]
    error: Annotated[str, Is(pattern="^E[A-Z0-9]+$")]
    number: Count
    text: str
    host: Host
    taken_at: Time
    means: str
    calls: tuple[Call, ...]
    here: tuple[Here, ...]
    ask: tuple[str, ...]
    """Commands that show more of it on this host."""
    mistaken_for: tuple[Mistake, ...]
    remedy: tuple[str, ...]
    see_also: tuple[str, ...]


_RANGE = "net.ipv4.ip_local_port_range"
_RESERVED = "net.ipv4.ip_local_reserved_ports"
_FILES = "fs.file-nr"


def look_at_error(name: str) -> ErrorAnswer:
    """Return the page of an error and this host's numbers for it.

    Raises:
        QuestionError: There is no such error.
    """
    line = log_line_of(name)
    if line is not None:
        raise QuestionError(f"a line of the kernel's log, and no error. {line.means} Ask: {line.command}")
    page = find_error(name)
    return answer_of(page, read_identity(), moment(), _here(page))


def answer_of(page: ErrorPage, who: Identity, taken_at: float, here: tuple[Here, ...]) -> ErrorAnswer:
    """Return the answer of a page on one host."""
    return ErrorAnswer(
        schema="tcpdoctor.error/1",
        error=page.name,
        number=page.number,
        text=page.text,
        host=host_of(who),
        taken_at=utc(taken_at),
        means=page.means,
        calls=page.calls,
        here=here,
        ask=page.ask,
        mistaken_for=page.mistaken,
        remedy=page.remedy,
        see_also=page.see,
    )


def here_of(says: str, value: Reading[SysctlValue | Life], source: tuple[str, ...]) -> Here:
    """Return one thing of this host; a deadline is a `Life` in seconds."""
    if isinstance(value, Missing):
        return Here(says, source, value.reason, None, None)
    if isinstance(value, Life):
        low, high = value
        ends: JsonValue = None
        if not math.isinf(low):
            ends = {"low_s": round(low, 3), "high_s": None if math.isinf(high) else round(high, 3)}
        return Here(says, source, None, ends, "second", show_life(value))
    told: JsonValue = value if not isinstance(value, tuple) else [_as_list(part) for part in value]
    return Here(says, source, None, told, None, value_as_printed(value) or "empty")


def _as_list(part: float | tuple[int, int]) -> JsonValue:
    return list(part) if isinstance(part, tuple) else part


def _here(page: ErrorPage) -> tuple[Here, ...]:
    sysctls = read_sysctls(DEADLINE_SYSCTLS) if any(look.state for look in page.here) else {}
    return tuple(_look(look, sysctls) for look in page.here)


def _look(look: Look, sysctls: Sysctls) -> Here:
    if look.sysctl is not None:
        return here_of(look.says, read_sysctl(look.sysctl), (look.sysctl,))
    if look.state is not None:
        for deadline in state_deadlines(look.state, sysctls, read_tick()):
            if deadline.case == look.case:
                return here_of(look.says, deadline.life, deadline.sysctls)
        raise ValueError(f"{look.state} has no case {look.case!r}")  # a fault of our own data
    match look.fact:
        case "usable_ports":
            return here_of(look.says, _usable_ports(), (_RANGE, _RESERVED))
        case "descriptor_limit":
            return here_of(look.says, _descriptor_limit(), ())
        case "host_descriptors":
            return here_of(look.says, _host_descriptors(), (_FILES,))
    raise ValueError(f"no such fact: {look.fact!r}")


def _usable_ports() -> Reading[SysctlValue]:
    ends, reserved = read_sysctl(_RANGE), read_sysctl(_RESERVED)
    if isinstance(reserved, Missing):
        return reserved
    taken = [part for part in reserved if isinstance(part, tuple)] if isinstance(reserved, tuple) else []
    match ends:
        case Missing():
            return ends
        case (int(low), int(high)):
            lost = sum(max(0, min(last, high) - max(first, low) + 1) for first, last in taken)
            return f"{high - low + 1 - lost:,}"
    return Missing(f"{_RANGE} is no pair of ports")


def _descriptor_limit() -> Reading[SysctlValue]:
    if is_recording():
        return Missing("it is of the process that asks, and this is a recording")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"{_limit_words(soft)}, which a process may raise to {_limit_words(hard)} itself"


def _limit_words(limit: int) -> str:
    return "unlimited" if limit < 0 else f"{limit:,}"


def _host_descriptors() -> Reading[SysctlValue]:
    match read_sysctl(_FILES):
        case Missing() as hidden:
            return hidden
        case (int(used), _, int(most)):
            return f"{used:,} of {most:,}"
    return Missing(f"{_FILES} is not three numbers")
