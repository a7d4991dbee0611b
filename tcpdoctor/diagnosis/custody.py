"""Who holds a socket of a port, what kind of holder that is, and what ends with it."""

from collections.abc import Iterable, Mapping, Sequence

from tcpdoctor.diagnosis.holders import is_service_manager, who_may_be_stopped
from tcpdoctor.diagnosis.occupants import PortSocket, Row
from tcpdoctor.diagnosis.stopping import Asker, Stop, name_place
from tcpdoctor.kernel.cgroups import place_of as place_of_group
from tcpdoctor.kernel.port_evidence import PortEvidence
from tcpdoctor.kernel.processes import Lineage
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Connection, Held, Holder, Listener, NotHeld
from tcpdoctor.kernel.standing import Standing
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.named_tuples import NamedTuple

_NEVER_SERVERS = frozenset(
    ("sh", "bash", "dash", "zsh", "ksh", "fish", "sleep", "tail", "cat", "tee", "less", "more")
)
"""Programs that never make a listener themselves: where one holds a listener, it inherited it."""


_STANDARD_ERROR = 2


_PASSING_TIME = ("nanosleep", "do_wait", "sigsuspend", "sys_pause")
"""Parts of the kernel functions in which a program sleeps that has nothing to do with its sockets."""


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


_STOPS = 5
"""Of how many further holders it is told how they are stopped."""


class Custody(NamedTuple):
    """The holders of one socket, and what is special about them."""

    holders: tuple[Holder, ...]
    """Empty: nobody, or nobody that can be seen."""
    hidden: str | None
    """Why holders may be hidden."""
    socket_unit: bool
    """A systemd holds it, the system's, a user's or a container's: a socket unit."""
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
        inherited=all(is_inherited(row, holder, evidence) for holder in holders),
        first_process=isinstance(row, Listener)
        and any(holder.pid == 1 and not is_systemd(holder, evidence) for holder in holders),
    )


def is_systemd(holder: Holder, evidence: PortEvidence) -> bool:
    """Whether the holder is a systemd: process 1, a user's service manager, or a container's."""
    return is_service_manager(holder, evidence.standings.get(holder.pid))


def stop_of(row: Row, evidence: PortEvidence) -> Stop | None:
    """Say who has to be stopped to free a socket, and how; None where no holder is known."""
    holders = row.owner.holders if isinstance(row.owner, Held) else ()
    heirs = bool(holders) and all(is_inherited(row, holder, evidence) for holder in holders)
    group = (
        evidence.groups.get(row.cgroup) if isinstance(row, Listener) and isinstance(row.cgroup, int) else None
    )
    unit = place_of_group(group).unit if group else None
    asker = Asker(
        evidence.uid,
        row.local.port,
        socket_unit=unit if unit and unit.endswith(".socket") else None,
        leads_to=next((one for one in evidence.redirects.found if one.names_port), None),
        kindred=_kindred_of(holders, evidence) if isinstance(row, Listener) and holders else (),
    )
    known = (evidence.processes.get(holder.pid) for holder in holders)
    parents = {one.pid: one.parent for one in known if one is not None and isinstance(one.parent, int)}
    return who_may_be_stopped(holders, evidence.standings, asker, inherited=heirs, parents=parents)


def _kindred_of(holders: Sequence[Holder], evidence: PortEvidence) -> tuple[int, ...]:
    """Who began the topmost holder, and whom else he began, of those with a socket of their own there."""
    known, listeners = evidence.processes, evidence.listeners
    parent = known[holders[0].pid].parent if holders[0].pid in known else 1
    bound = (row.owner for row in evidence.rows if row.state is TcpState.BOUND)
    listening = () if isinstance(listeners, Missing) else (row.owner for row in listeners)
    there = {one.pid for owner in (*listening, *bound) if isinstance(owner, Held) for one in owner.holders}
    there &= known.keys() - {one.pid for one in holders}
    return tuple(sorted(pid for pid in there if parent != 1 and parent in (pid, known[pid].parent)))


class HeldConnections(NamedTuple):
    """The port's connections, counted by who has them.

    Of a state that was only sampled, each stands for its share of all.
    """

    waiting: float
    """In an accept queue."""
    by_pids: Mapping[frozenset[int], float]
    """By all the processes that hold one."""


def connections_by_holders(evidence: PortEvidence) -> HeldConnections:
    """Count the port's connections by those who hold them."""
    waiting, by_pids, alone = 0.0, dict[frozenset[int], float](), dict[int, float]()
    for state, detail in () if isinstance(evidence.local, Missing) else evidence.local.items():
        share = detail.total / len(detail.connections) if detail.connections else 1.0
        for one in () if state is TcpState.BOUND else detail.connections:
            owner = one.owner
            if not one.inode and is_waiting(one):
                waiting += share
            elif isinstance(owner, Held) and len(owner.holders) == 1:  # nearly all, and there may be many
                pid = owner.holders[0].pid
                alone[pid] = alone.get(pid, 0.0) + share
            elif isinstance(owner, Held):
                pids = _pids_of(owner)
                by_pids[pids] = by_pids.get(pids, 0.0) + share
    by_pids |= {frozenset((pid,)): number for pid, number in alone.items()}
    return HeldConnections(waiting, by_pids)


def connections_that_end(
    stop: Stop, row: Row, evidence: PortEvidence, held: HeldConnections | None = None
) -> int:
    """Count the port's connections that end with the holder of a socket, those in its accept queue too.

    Args:
        stop: How the holder is stopped.
        row: The socket.
        evidence: What was found at the port.
        held: Its `connections_by_holders`, where many ask.
    """
    waiting, by_pids = connections_by_holders(evidence) if held is None else held
    ending = {holder.pid for holder in row.owner.holders} if isinstance(row.owner, Held) else set()
    number = waiting if isinstance(row, Listener) else 0.0
    number += sum(each for pids, each in by_pids.items() if _dies(pids, stop, ending, evidence))
    return round(number)


class Keeping(NamedTuple):
    """Who keeps one socket, its other end, and who has to be stopped to free it."""

    custody: Custody
    peer: Connection | None
    stop: Stop | None
    ends: int
    """Connections of the port that end with him who is stopped."""


def keeping_of(rows: Iterable[Row], evidence: PortEvidence) -> list[Keeping]:
    """Say of each of these sockets who keeps it."""
    some = tuple(rows)
    if not some:
        return []
    held = connections_by_holders(evidence)  # there may be very many: they are counted once for all of these
    return [_keeping(row, evidence, held) for row in some]


def _keeping(row: Row, evidence: PortEvidence, held: HeldConnections) -> Keeping:
    stop = stop_of(row, evidence)
    ends = 0 if stop is None else connections_that_end(stop, row, evidence, held)
    return Keeping(custody_of(row, evidence), peer_of(row, evidence), stop, ends)


def others_that_hold(
    blockers: Iterable[PortSocket], stop: Stop, row: Row, evidence: PortEvidence
) -> tuple[tuple[Holder, Stop | None], ...]:
    """Return the topmost holders of those blockers that stay when the holder of `row` has ended.

    With each how it is stopped, of the first few.
    """
    ending = {holder.pid for holder in row.owner.holders} if isinstance(row.owner, Held) else set()
    found: dict[int, tuple[Holder, Stop | None]] = {}
    for blocker in blockers:
        owner = blocker.row.owner
        if not isinstance(owner, Held) or owner.holders[0].pid in found:
            continue
        if not _dies(_pids_of(owner), stop, ending, evidence):
            how = stop_of(blocker.row, evidence) if len(found) < _STOPS else None
            found[owner.holders[0].pid] = owner.holders[0], how
    return tuple(found.values())


def _pids_of(owner: Held) -> frozenset[int]:
    return frozenset(holder.pid for holder in owner.holders)


def _dies(pids: frozenset[int], stop: Stop, ending: set[int], evidence: PortEvidence) -> bool:
    """Whether a socket's holders end with those that are stopped."""
    if pids & ending or pids & set(stop.ended):
        return True
    processes = [process for pid in pids if (process := evidence.processes.get(pid))]
    if stop.way in ("service", "user-service"):
        mine = evidence.processes.get(stop.holder.pid)
        return mine is not None and any(process.unit == mine.unit for process in processes)
    if stop.with_children and any(process.parent == stop.holder.pid for process in processes):
        return True
    box = stop.container.id if stop.container and stop.way == "container" else None
    return box is not None and any(process.container == box for process in processes)


def is_inherited(row: Row, holder: Holder, evidence: PortEvidence) -> bool:
    """Whether a socket's holder most probably got it from a program that holds it no longer.

    The kernel keeps no record of it, so this goes by traces. The descriptor has no close-on-exec (or it
    would not have survived the start of another program), and the program is one that never listens, or
    its parent is gone (it now belongs to process 1 or to another session's process without leading a
    session itself) and none of its threads waits for clients. A server that a script started without
    close-on-exec and that waits for nobody looks the same. A connection that is standard input or output was
    given on purpose (inetd), and one whose holder waits for anything but time or its children may be in use.
    """
    lineage = evidence.lineages.get(holder)
    if lineage is None or isinstance(lineage, Missing) or lineage.close_on_exec or holder.pid == 1:
        return False
    if not isinstance(row, Listener):
        return holder.fd > _STANDARD_ERROR and (
            holder.name in _NEVER_SERVERS or (_is_reparented(holder, lineage) and _only_passes_time(lineage))
        )
    if holder.name in _NEVER_SERVERS:
        return True
    return _is_reparented(holder, lineage) and not _waits_for_clients(lineage)


def _only_passes_time(lineage: Lineage) -> bool:
    """Whether all threads sleep until a time, a signal or the end of a child."""
    if isinstance(lineage.waits, Missing) or not lineage.waits:
        return False
    return all(any(part in name for part in _PASSING_TIME) for name in lineage.waits)


def _is_reparented(holder: Holder, lineage: Lineage) -> bool:
    """A child is in its parent's session unless it leads its own: another session means another parent.

    A server that the script which is process 1 of a container began is in that script's session.
    """
    if lineage.session == holder.pid:
        return False
    if isinstance(lineage.parent_session, Missing):
        return lineage.parent == 1
    return lineage.parent_session != lineage.session


def _waits_for_clients(lineage: Lineage) -> bool:
    """Unknown counts as yes, as does a thread that runs: nobody is called an heir without a trace of it."""
    if isinstance(lineage.waits, Missing) or not {"0", ""}.isdisjoint(lineage.waits) or not lineage.waits:
        return True
    return any(part in name for name in lineage.waits for part in _WAITING_FOR_CLIENTS)


def is_waiting(row: Row) -> bool:
    """Whether a connection is still in its listener's accept queue: no process has it yet."""
    waits = (TcpState.ESTABLISHED, TcpState.CLOSE_WAIT)
    return isinstance(row, Connection) and not row.inode and row.state in waits


def peer_of(row: Row, evidence: PortEvidence) -> Connection | None:
    """Return the other end of a connection where it is a socket of this network namespace too."""
    if not isinstance(row, Connection) or not row.remote.port:
        return None
    return evidence.other_ends.of(row)


def introduce(holder: Holder, evidence: PortEvidence) -> str:
    """Name a holder inside a sentence: ``nginx (pid 811, nginx.service)``."""
    where = _where_it_runs(holder, evidence)
    return f"{holder.name} (pid {holder.pid}{f', {where}' if where else ''})"


def _where_it_runs(holder: Holder, evidence: PortEvidence) -> str | None:
    """Return its unit or container; of a holder whose standing was not read what is known all the same."""
    standing = evidence.standings.get(holder.pid)
    if isinstance(standing, Standing) and not isinstance(standing.place, Missing):
        return name_place(standing.place)
    process = evidence.processes.get(holder.pid)
    if process is None:
        return None
    if isinstance(process.container, str):
        return f"container {process.container[:12]}"
    return process.unit if isinstance(process.unit, str) else None


def first_holder(row: Row) -> Holder | None:
    """Return the topmost holder; None where nobody holds it or it cannot be seen."""
    return row.owner.holders[0] if isinstance(row.owner, Held) else None
