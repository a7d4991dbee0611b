"""Who holds a socket of a port, and what kind of holder that is."""

from typing import NamedTuple

from tcpdoctor.diagnosis.port_socket import Row
from tcpdoctor.kernel.lineage import Lineage
from tcpdoctor.kernel.port_evidence import PortEvidence, connections, plain
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Connection, Held, Holder, Listener, NotHeld
from tcpdoctor.kernel.states import TcpState

_NEVER_SERVERS = frozenset(
    ("sh", "bash", "dash", "zsh", "ksh", "fish", "sleep", "tail", "cat", "tee", "less", "more")
)
"""Programs that never make a listener themselves: where one holds a listener, it inherited it."""

_WAITING_FOR_CLIENTS = (
    "accept",
    "epoll",
    "ep_poll",
    "poll_schedule",
    "do_select",
    "do_poll",
    "io_uring",
    "io_cqring",
)
"""Parts of the kernel functions in which a server sleeps until a client comes."""


class Custody(NamedTuple):
    """The holders of one socket, and what is special about them."""

    holders: tuple[Holder, ...]
    """Empty: nobody, or nobody that can be seen."""
    hidden: str | None
    """Why holders may be hidden."""
    socket_unit: bool
    """Process 1 is systemd and holds it: a socket unit."""
    inherited: bool
    """A program that did not make it got it from one that holds it no longer, and may be gone."""
    first_process: bool = False
    """Process 1 holds it and is not systemd: a socket unit of another init, or a container's program."""


def custody_of(row: Row, evidence: PortEvidence) -> Custody:
    """Say who holds a socket."""
    if isinstance(row.owner, Missing):
        return Custody((), row.owner.reason, socket_unit=False, inherited=False)
    if isinstance(row.owner, NotHeld):
        return Custody((), None, socket_unit=False, inherited=False)
    holders = row.owner.holders
    return Custody(
        holders=holders,
        hidden=None,
        socket_unit=any(is_systemd(holder, evidence) for holder in holders),
        inherited=isinstance(row, Listener) and all(is_inherited(holder, evidence) for holder in holders),
        first_process=isinstance(row, Listener)
        and any(holder.pid == 1 and not is_systemd(holder, evidence) for holder in holders),
    )


def is_systemd(holder: Holder, evidence: PortEvidence) -> bool:
    """Whether the holder is process 1 and that is systemd, and not a container's only program."""
    process = evidence.processes.get(holder.pid)
    executable = process.executable if process else None
    return holder.pid == 1 and (
        "systemd" in holder.name or (isinstance(executable, str) and "systemd" in executable)
    )


def is_inherited(holder: Holder, evidence: PortEvidence) -> bool:
    """Whether a listener's holder most probably got it from a program that holds it no longer.

    The kernel keeps no record of it, so this goes by traces. The descriptor has no close-on-exec (or it
    would not have survived the start of another program), and the program is one that never listens, or
    its parent is gone (it now belongs to process 1 or to another session's process without leading a
    session itself) and none of its threads waits for clients. A server that a script started without
    close-on-exec and that waits for nobody looks the same.
    """
    lineage = evidence.lineages.get(holder)
    if lineage is None or isinstance(lineage, Missing) or lineage.close_on_exec or holder.pid == 1:
        return False
    if holder.name in _NEVER_SERVERS:
        return True
    return _is_reparented(holder, lineage) and not _waits_for_clients(lineage)


def _is_reparented(holder: Holder, lineage: Lineage) -> bool:
    """A child is in its parent's session unless it leads its own: another session means another parent."""
    if lineage.session == holder.pid:
        return False
    other_session = (
        not isinstance(lineage.parent_session, Missing) and lineage.parent_session != lineage.session
    )
    return other_session or lineage.parent == 1


def _waits_for_clients(lineage: Lineage) -> bool:
    """Unknown counts as yes: nobody is called an heir without a trace of it."""
    if isinstance(lineage.waits, Missing) or set(lineage.waits) <= {"0", ""}:
        return True
    return any(part in name for name in lineage.waits for part in _WAITING_FOR_CLIENTS)


def is_waiting(row: Row) -> bool:
    """Whether a connection is still in its listener's accept queue: no process has it yet."""
    waits = (TcpState.ESTABLISHED, TcpState.CLOSE_WAIT)
    return isinstance(row, Connection) and not row.inode and row.state in waits


def peer_of(row: Row, evidence: PortEvidence) -> Connection | None:
    """Return the other end of a connection where it is a socket of this network namespace too."""
    if isinstance(row, Listener) or not row.remote.port:
        return None
    ends = plain(row.remote), plain(row.local)
    candidates = (p for p in connections(evidence.remote) if p.local.port == row.remote.port)
    return next((p for p in candidates if (plain(p.local), plain(p.remote)) == ends), None)


def name_holder(holder: Holder, evidence: PortEvidence) -> str:
    """Name a holder for people: ``pid 811 nginx, fd 6, uid 33, nginx.service``."""
    process = evidence.processes.get(holder.pid)
    parts = [f"pid {holder.pid} {holder.name}", f"fd {holder.fd}", f"uid {holder.uid}"]
    if process is not None and isinstance(process.unit, str):
        parts.append(process.unit)
    if process is not None and isinstance(process.container, str):
        parts.append(f"container {process.container[:12]}")
    return ", ".join(parts)


def introduce(holder: Holder, evidence: PortEvidence) -> str:
    """Name a holder inside a sentence: ``nginx (pid 811, nginx.service)``."""
    process = evidence.processes.get(holder.pid)
    unit = f", {process.unit}" if process is not None and isinstance(process.unit, str) else ""
    return f"{holder.name} (pid {holder.pid}{unit})"


def first_holder(row: Row) -> Holder | None:
    """Return the holder with the lowest pid; None where nobody holds it or it cannot be seen."""
    return row.owner.holders[0] if isinstance(row.owner, Held) else None
