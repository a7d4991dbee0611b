"""What `tcpdoctor sockets --udp` has to say: the record that is printed, and the look that fills it."""

from collections.abc import Iterable
from typing import Annotated, Literal

from tcpdoctor.answers.record import (
    NO_REASONS,
    Count,
    Host,
    Is,
    Pid,
    PortNumber,
    Reasons,
    Time,
    host_of,
    told_number,
    utc,
)
from tcpdoctor.answers.sockets import Peer, plain_address
from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.entered import moment
from tcpdoctor.kernel.kept_rows import with_owners
from tcpdoctor.kernel.namespaces import read_identity
from tcpdoctor.kernel.owners import find_owners
from tcpdoctor.kernel.procnet import read_udp_sockets
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Held, NotHeld, Owner, UdpSocket
from tcpdoctor.kernel.survey import held_by
from tcpdoctor.named_tuples import NamedTuple

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
    peer: Peer | None = None
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
        owner=_owner(row.owner),
        receive_queue=row.receive_queue,
        send_queue=row.send_queue,
        drops=row.drops,
    )


def _owner(owner: Owner) -> Reading[UdpOwner | None]:
    match owner:
        case Held(holders):
            pid, name, fd, uid = holders[0]
            return UdpOwner(pid, name, told_number(fd), told_number(uid))
        case NotHeld():
            return None
    return owner
