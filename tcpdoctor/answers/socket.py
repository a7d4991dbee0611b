"""One socket as every answer tells it, TCP's and UDP's; and what `tcpdoctor sockets --udp` looks at."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from tcpdoctor.answers.record import (
    ABSENT,
    NO_REASONS,
    Absent,
    Count,
    Host,
    Is,
    Pid,
    PortNumber,
    Reasons,
    Seconds,
    Time,
    host_of,
    told_number,
    utc,
)
from tcpdoctor.answers.sockets import Entry, idle_seconds
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.connection import Age
from tcpdoctor.kernel.kept_rows import with_owners
from tcpdoctor.kernel.listing import read_udp_sockets
from tcpdoctor.kernel.namespaces import moment, read_identity
from tcpdoctor.kernel.owners import find_owners
from tcpdoctor.kernel.reading import NOT_RECORDED, Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Held, Listener, NotHeld, Owner, UdpSocket, plain_address
from tcpdoctor.kernel.sockopts import OPTIONS, OptionValue
from tcpdoctor.kernel.states import StateKey, TcpState, Timer
from tcpdoctor.kernel.survey import held_by
from tcpdoctor.named_tuples import NamedTuple

if TYPE_CHECKING:
    from tcpdoctor.answers.ends import Peer


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


_Options: TypeAlias = Reading[Mapping[str, Reading[OptionValue]]] | Absent


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
        _Options,
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


COLUMNS = tuple(key for key in ToldSocket._fields if key not in ("options", "missing"))
"""Keys of a socket that a table may show and be sorted by."""

_STATE_KEYS: dict[TcpState, Any] = {state: state.key for state in TcpState}
_TIMER_NAMES = {timer: timer.name.lower() if timer else None for timer in Timer}
"""An attribute of an enum takes several times as long as an entry here."""


def told_socket(entry: Entry, *, options: bool) -> ToldSocket:
    """Return a socket as it is printed; with its options where `options` says so."""
    row, known = entry.seen.row, entry.seen.options if options else ABSENT
    device = ABSENT if entry.device is None else entry.device
    if isinstance(row, Listener):
        return _told_listener(row, known, device)
    return _told_connection(row, entry.age, known, device)


def _told_listener(row: Listener, known: _Options, device: str | Absent) -> ToldSocket:
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
        device=device,
    )


def _told_connection(row: Connection, age: Age | None, known: _Options, device: str | Absent) -> ToldSocket:
    state, family, local, remote, _, cookie, inode, uid, timer, expires, retransmits, unread, unsent = row[
        :13
    ]
    timed = expires == expires  # not NaN, which stands for a timer that a recording does not tell
    return _new(ToldSocket, (
        _STATE_KEYS[state], "ipv4" if family == 4 else "ipv6",
        str(local), str(remote) if remote.port else None, local.port, remote.port or None,
        uid if uid >= 0 else NOT_RECORDED, inode if inode >= 0 else NOT_RECORDED, cookie, _owner(row),
        ABSENT, ABSENT, ABSENT,
        told_age(age),
        _TIMER_NAMES[timer] if timed else NOT_RECORDED,
        (expires if timer else None) if timed else NOT_RECORDED,
        retransmits if retransmits >= 0 else NOT_RECORDED,
        unread if unread >= 0 else NOT_RECORDED, unsent if unsent >= 0 else NOT_RECORDED,
        _round_trip(row), idle_seconds(row), known, NO_REASONS, device,
    ))  # fmt: skip


_new = tuple.__new__  # takes a third of the time that the constructor of a record does


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
        return _new(SocketOwner, (pid, name, told_number(fd), told_number(uid)))
    return owner if isinstance(owner, Missing) else None


def _round_trip(row: Connection) -> Reading[float]:
    """In seconds; the kernel's 0 stands for none measured."""
    if isinstance(row.info, Missing):
        return row.info
    return row.info.rtt or _NO_ROUND_TRIP


_NO_ROUND_TRIP = Missing("no round trip has been measured yet")


_OWNER_SECONDS = 5.0


class UdpOwner(NamedTuple):
    """The process that holds a socket."""

    pid: Pid
    name: str
    fd: Reading[Count]
    uid: Reading[Count]


class UdpRow(NamedTuple):
    """One UDP socket that has a local port."""

    family: Literal["ipv4", "ipv6"]
    local: str
    remote: Annotated[str | None, Is("null: it is not connected.")]
    local_port: PortNumber
    remote_port: PortNumber | None
    uid: Reading[Count]
    inode: Annotated[Reading[int], Is("0: it is the kernel's own, of a tunnel.", minimum=0)]
    owner: Reading[UdpOwner | None]
    receive_queue: Annotated[int, Is("Bytes that nobody has read, with the kernel's overhead.", minimum=0)]
    send_queue: Annotated[int, Is("Bytes that have not left, with the kernel's overhead.", minimum=0)]
    drops: Annotated[int, Is("Datagrams dropped in its life, mostly because its queue was full.", minimum=0)]
    missing: Reasons = NO_REASONS


class UdpSockets(NamedTuple):
    """The UDP sockets that were asked for, and where and when they were seen."""

    schema: Literal["tcpdoctor.udp-sockets/1"]
    host: Host
    taken_at: Time
    total: Count
    missing: Reasons
    sockets: tuple[UdpRow, ...]


UDP_COLUMNS = tuple(name for name in UdpRow._fields if name != "missing")
"""Keys of a row that a table may show and be sorted by."""


class UdpQuestion(NamedTuple):
    """Which of them are wanted; None: any."""

    port: int | None = None
    peer_port: int | None = None
    peer: "Peer | None" = None
    pid: int | None = None
    name: str | None = None


def look_for_udp_sockets(question: UdpQuestion) -> UdpSockets:
    """Read the UDP sockets of this network namespace, with their owners; the fullest queue comes first.

    Raises:
        QuestionError: They could not be listed, or a process hides its descriptors.
    """
    taken_at, who = moment(), read_identity()
    rows = read_udp_sockets(local_port=question.port or 0)
    if isinstance(rows, Missing):
        raise QuestionError(f"the UDP sockets could not be listed: {rows.reason}")
    rows = tuple(row for row in rows if _is_wanted(row, question))
    missing: dict[str, str] = {}
    if question.pid is not None:
        own = held_by(question.pid)
        if isinstance(own, Missing):
            raise QuestionError(f"the sockets of process {question.pid}: {own.reason}")
        rows = with_owners(tuple(row for row in rows if row.inode in own), own)
    else:
        wanted = {row.inode: row.uid for row in rows if row.inode}
        rows = with_owners(rows, find_owners(wanted, seconds=_OWNER_SECONDS))
    if question.name is not None:
        hidden = sum(isinstance(row.owner, Missing) for row in rows)
        if hidden:
            missing["name"] = f"of {hidden:,} sockets the owner is hidden"
        rows = tuple(row for row in rows if _is_called(row.owner, question.name))
    told = sorted(map(_told, rows), key=lambda row: (-row.receive_queue, -row.drops, row.local_port))
    return UdpSockets("tcpdoctor.udp-sockets/1", host_of(who), utc(taken_at), len(told), missing, tuple(told))


def sorted_by(rows: Iterable[UdpRow], column: str) -> tuple[UdpRow, ...]:
    """Sort by a column: numbers the largest first, ports the lowest, then texts, then what is not known."""

    def place(row: UdpRow) -> tuple[int, float, str]:
        value = getattr(row, column)
        if isinstance(value, UdpOwner):
            value = value.name
        if isinstance(value, int):
            return 0, value if column.endswith("port") else -value, ""
        return (1, 0, value) if isinstance(value, str) else (2, 0, "")

    return tuple(sorted(rows, key=place))


def _is_wanted(row: UdpSocket, question: UdpQuestion) -> bool:
    if question.peer_port is not None and row.remote.port != question.peer_port:
        return False
    if question.peer is None:
        return True
    fits = row.remote.port != 0 and plain_address(row.remote.address) == question.peer.address
    return fits and question.peer.port in (None, row.remote.port)


def _is_called(owner: Owner, name: str) -> bool:
    return isinstance(owner, Held) and any(one.name == name for one in owner.holders)


def _told(row: UdpSocket) -> UdpRow:
    return UdpRow(
        family="ipv4" if row.family == 4 else "ipv6",
        local=str(row.local),
        remote=str(row.remote) if row.remote.port else None,
        local_port=row.local.port,
        remote_port=row.remote.port or None,
        uid=told_number(row.uid),
        inode=told_number(row.inode),
        owner=_udp_owner(row.owner),
        receive_queue=row.receive_queue,
        send_queue=row.send_queue,
        drops=row.drops,
    )


def _udp_owner(owner: Owner) -> Reading[UdpOwner | None]:
    match owner:
        case Held(holders):
            pid, name, fd, uid = holders[0]
            return UdpOwner(pid, name, told_number(fd), told_number(uid))
        case NotHeld():
            return None
    return owner
