"""One socket as every answer tells it."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from tcpdoctor.answers.record import (
    ABSENT,
    NO_REASONS,
    NOT_RECORDED,
    Absent,
    Count,
    Host,
    Is,
    Pid,
    PortNumber,
    Reasons,
    Seconds,
    StateKey,
    Time,
    told_number,
)
from tcpdoctor.answers.sockets import Entry, idle_seconds
from tcpdoctor.facts.socketset import Age
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Held, Listener
from tcpdoctor.kernel.sockopts import OPTIONS, OptionValue
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.named_tuples import NamedTuple


class SocketOwner(NamedTuple):
    """The process that holds a socket."""

    pid: Pid
    name: str
    fd: Reading[Count]
    uid: Reading[Count]


class ToldAge(NamedTuple):
    """How long it has been in its state."""

    at_least_s: Annotated[float, Is("Seconds.", minimum=0)]
    at_most_s: Annotated[float | None, Is("Seconds; null: no bound is known.", minimum=0)]


class ToldSocket(NamedTuple):
    """A socket; of a listener there are the keys of its queue, of others those of their connection."""

    state: StateKey
    family: Literal["ipv4", "ipv6"]
    local: str
    remote: str | None
    local_port: PortNumber
    remote_port: Annotated[int | None, Is(minimum=1, maximum=65535)]
    uid: Reading[Count]
    inode: Reading[Count]
    cookie: Count
    owner: Annotated[Reading[SocketOwner | None], Is("null as well where no process holds it.")]
    accept_queue: Annotated[
        Reading[Count] | Absent, Is("Connections that wait for accept(); listeners only.", optional=True)
    ] = ABSENT
    accept_limit: Annotated[Reading[Count] | Absent, Is(optional=True)] = ABSENT
    drops: Annotated[Reading[Count] | Absent, Is(optional=True)] = ABSENT
    age: Annotated[ToldAge | Absent | None, Is("null where nothing tells.", optional=True)] = ABSENT
    timer: Annotated[Reading[str | None] | Absent, Is("null where none runs.", optional=True)] = ABSENT
    expires_s: Annotated[Reading[float | None] | Absent, Is(optional=True)] = ABSENT
    retransmits: Annotated[Reading[Count] | Absent, Is(optional=True)] = ABSENT
    receive_queue: Annotated[
        Reading[Count] | Absent, Is("Bytes unread, one more for a FIN.", optional=True)
    ] = ABSENT
    send_queue: Annotated[
        Reading[Count] | Absent, Is("Bytes not acknowledged, one more for a SYN or FIN.", optional=True)
    ] = ABSENT
    rtt_s: Annotated[Reading[Seconds] | Absent, Is(optional=True)] = ABSENT
    idle_s: Annotated[
        Reading[Seconds | None] | Absent,
        Is("Established, nothing outstanding: seconds since data went either way.", optional=True),
    ] = ABSENT
    options: Annotated[
        Reading[Mapping[str, Reading[OptionValue]]] | Absent,
        Is(
            "By name, in the kernel's units: TCP_USER_TIMEOUT in milliseconds, buffers in bytes, times in "
            "seconds.",
            optional=True,
        ),
    ] = ABSENT
    missing: Reasons = NO_REASONS
    device: Annotated[
        str | Absent, Is("The interface that it is bound to (SO_BINDTODEVICE, a VRF).", optional=True)
    ] = ABSENT


class SocketsDocument(NamedTuple):
    """What `tcpdoctor sockets --format json` prints, one socket a line."""

    schema: Literal["tcpdoctor.sockets/1"]
    host: Host
    taken_at: Time
    total: Count
    missing: Reasons
    sockets: tuple[ToldSocket, ...]


_STATE_KEYS: dict[TcpState, Any] = {state: state.key for state in TcpState}
_TIMER_NAMES = {timer: timer.name.lower() if timer else None for timer in Timer}
"""An attribute of an enum takes several times as long as an entry here."""


def told_socket(entry: Entry, *, options: bool) -> ToldSocket:
    """Return a socket as it is printed; with its options where `options` says so."""
    row, known = entry.seen.row, entry.seen.options if options else ABSENT
    if isinstance(row, Listener):
        return ToldSocket(
            state="listen",
            family="ipv4" if row.family == 4 else "ipv6",
            local=str(row.local),
            remote=None,
            local_port=row.local.port,
            remote_port=None,
            uid=told_number(row.uid),
            inode=told_number(row.inode),
            cookie=row.cookie,
            owner=_owner(row),
            accept_queue=told_number(row.accept_queue),
            accept_limit=row.accept_limit,
            drops=row.drops,
            options=known,
            device=ABSENT if entry.device is None else entry.device,
        )
    state, family, local, remote, _, cookie, inode, uid, timer, expires, retransmits, unread, unsent = row[
        :13
    ]
    timed = expires == expires  # not NaN, which stands for a timer that a recording does not tell
    return ToldSocket(
        _STATE_KEYS[state],
        "ipv4" if family == 4 else "ipv6",
        str(local),
        str(remote) if remote.port else None,
        local.port,
        remote.port or None,
        uid if uid >= 0 else NOT_RECORDED,
        inode if inode >= 0 else NOT_RECORDED,
        cookie,
        _owner(row),
        ABSENT,
        ABSENT,
        ABSENT,
        told_age(entry.age),
        _TIMER_NAMES[timer] if timed else NOT_RECORDED,
        (expires if timer else None) if timed else NOT_RECORDED,
        retransmits if retransmits >= 0 else NOT_RECORDED,
        unread if unread >= 0 else NOT_RECORDED,
        unsent if unsent >= 0 else NOT_RECORDED,
        _round_trip(row),
        idle_seconds(row),
        known,
        device=ABSENT if entry.device is None else entry.device,
    )


OPTION_UNITS: Mapping[str, str | None] = {option.name: option.unit for option in OPTIONS}
"""The unit of each socket option's value, by name."""


def sort_value(entry: Entry, column: str) -> tuple[int, float, str]:
    """Where a socket stands when sorted by a column: numbers the largest first, then texts, then nothing."""
    value = getattr(told_socket(entry, options=False), column)
    if isinstance(value, SocketOwner):
        return 1, 0.0, value.name
    if isinstance(value, ToldAge):
        value = value.at_least_s
    if isinstance(value, bool | int | float):
        return 0, -float(value), ""
    absent = value is None or value is ABSENT or isinstance(value, Missing)
    return (2, 0.0, "") if absent else (1, 0.0, str(value))


_UNBOUNDED = ToldAge(0.0, None)


def told_age(age: Age | None) -> ToldAge | None:
    """Return the bounds of an age in seconds; None where there is none."""
    if age is None:
        return None
    if age.low == 0 and age.high == math.inf:
        return _UNBOUNDED
    return ToldAge(round(age.low, 3), None if math.isinf(age.high) else round(age.high, 3))


def _owner(row: Listener | Connection) -> Reading[SocketOwner | None]:
    owner = row.owner
    if isinstance(owner, Held):
        pid, name, fd, uid = owner.holders[0]
        return SocketOwner(pid, name, told_number(fd), told_number(uid))
    return owner if isinstance(owner, Missing) else None


def _round_trip(row: Connection) -> Reading[float]:
    """In seconds; the kernel's 0 stands for none measured."""
    if isinstance(row.info, Missing):
        return row.info
    return row.info.rtt or Missing("no round trip has been measured yet")
