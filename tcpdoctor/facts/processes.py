"""Facts of processes: the sockets they hold that their peers have done with, and their descriptors.

A socket that several processes hold (a server with forked workers) belongs to the one with the lowest
pid: counted for each of them, the same leak would be reported many times over.

Where owners are hidden, a process may hold more than we see, so its counts are ranges; and one subject
more, `hidden`, stands for all the processes that hold such sockets unseen.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from tcpdoctor.facts.connection import Earlier, is_left_unread, partly, unread_age
from tcpdoctor.facts.established import ages_of
from tcpdoctor.facts.ports import Roles
from tcpdoctor.facts.socketset import (
    NONE,
    SocketSet,
    Unsure,
    name_ends,
    oldest,
    some_descriptors,
)
from tcpdoctor.facts.subject import HIDDEN_LABEL, LazyFacts, Scope, Subject, Teller, Told, functions_of, lift
from tcpdoctor.facts.value import BYTE, COUNT, RATIO, SECOND, Range, Value
from tcpdoctor.kernel.kept_rows import KeptRows
from tcpdoctor.kernel.reading import Missing, Reading, joined
from tcpdoctor.kernel.snapshot import (
    Connection,
    DeadSocket,
    DeadSockets,
    DeadUse,
    Detail,
    Held,
    Holder,
    Owner,
    Process,
    Samples,
    Snapshot,
)
from tcpdoctor.kernel.sock_diag_rows import NOT_LOOKED_UP
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.named_tuples import NamedTuple


class Holding(NamedTuple):
    """One process with the sockets it holds."""

    process: Reading[Process]
    """Missing for the unseen ones."""
    close_wait: Reading[SocketSet]
    fin_wait_2: Reading[SocketSet]
    earlier: Earlier
    roles: Roles
    dead: "_Dead"
    unread: Reading[SocketSet]
    """Connections in ESTABLISHED with data that has waited to be read."""
    passed_over: Value
    """What the unseen ones use of their limits of descriptors."""


def process_subjects(samples: Samples, host: Mapping[str, Value]) -> Reading[Sequence[Subject]]:
    """One subject per process that holds a socket of interest, by pid, and the hidden one if any.

    Missing where no socket could be looked at one by one.
    """
    detail = samples.after.detail
    if isinstance(detail, Missing):
        return detail
    close_wait = _Owners.of(detail, TcpState.CLOSE_WAIT)
    fin_wait_2 = _Owners.of(detail, TcpState.FIN_WAIT_2)
    earlier, roles = Earlier(samples), Roles(samples.after)
    passed_over = _passed_over(samples.after)
    dead, unread = _Dead(samples), _unread_by_owner(samples.after, roles)
    processes = {
        **close_wait.processes(),
        **fin_wait_2.processes(),
        **unread.processes(),
        **samples.after.processes,
    }

    def facts_of(pid: int | None, process: Reading[Process]) -> LazyFacts[Holding]:
        held = close_wait.held_by(pid), fin_wait_2.held_by(pid)
        holding = Holding(process, *held, earlier, roles, dead, unread.held_by(pid), passed_over)
        return LazyFacts(holding, FUNCTIONS, host)

    subjects = [
        Subject(
            Scope.PROCESS,
            f"{process.name} ({pid})",
            {"pid": pid, "name": process.name},
            facts_of(pid, process),
        )
        for pid, process in sorted(processes.items())
    ]
    overlooked = samples.after.surveyed
    unsurveyed = overlooked.reason if isinstance(overlooked, Missing) else ""
    reason = joined([close_wait.reason, fin_wait_2.reason, unsurveyed, dead.reason, unread.reason])
    if reason:
        facts = facts_of(None, Missing(reason))
        subjects.append(Subject(Scope.PROCESS, HIDDEN_LABEL, {"pid": None, "name": None}, facts, hidden=True))
    return subjects


class SocketCount(NamedTuple):
    """Sockets that were seen, and how many there are."""

    seen: tuple[DeadSocket, ...]
    least: int
    most: float
    reason: str


class _Dead:
    """The descriptors of connections that are over, in both looks."""

    def __init__(self, samples: Samples) -> None:
        before = None if samples.before is None else samples.before.dead
        self._after = samples.after.dead
        self._before = before if isinstance(before, DeadUse) else None
        complete: Reading[bool] = self._after.complete if isinstance(self._after, DeadUse) else True
        self.reason = complete.reason if isinstance(complete, Missing) else ""
        """Why some processes were not asked; empty where all were."""

    def of(self, pid: int | None) -> Reading[SocketCount]:
        """The descriptors that were seen, and how many those of a process are at least and at most."""
        if isinstance(self._after, Missing):
            return self._after
        found = None if pid is None else self._after.by_pid.get(pid)
        if found is None:
            return SocketCount((), 0, math.inf if self.reason else 0, self.reason)
        if self._before is None:
            return SocketCount(found.found, 0, len(found.found) * found.every, "needs two samples")
        then = self._before.by_pid.get(pid or 0)
        known = {row.inode for row in then.found} if then is not None else set()
        lasting = tuple(row for row in found.found if row.inode in known)
        return _scaled(lasting, found)


def _scaled(seen: tuple[DeadSocket, ...], asked: DeadSockets) -> SocketCount:
    """From a sample to all: the share that was seen, give or take three standard deviations."""
    number = len(seen)
    if asked.every == 1 or not asked.looked_at:
        return SocketCount(seen, number, number, "")
    share = number / asked.looked_at
    spread = 3 * math.sqrt(max(share * (1 - share), 3 / asked.looked_at) / asked.looked_at)
    total = asked.looked_at * asked.every
    least = max(number, math.floor(total * (share - spread)))
    most = min(total, math.ceil(total * (share + spread)))
    return SocketCount(seen, least, most, f"of its descriptors {asked.looked_at:,} were asked")


def _passed_over(snapshot: Snapshot) -> Value:
    """The share of descriptors of a process that is no subject: not more than the highest of all those."""
    if isinstance(snapshot.surveyed, Missing):
        return snapshot.surveyed
    if isinstance(snapshot.passed_over, Missing):
        return snapshot.passed_over
    return Range(0.0, snapshot.passed_over, "it is not known which process it is")


_NOBODY = -1


def _pid_of(owner: Owner) -> int | None:
    """Who holds a socket first; `_NOBODY`, or None where that is hidden."""
    if isinstance(owner, Held):
        return owner.holders[0].pid
    return None if isinstance(owner, Missing) else _NOBODY


class _Owners(NamedTuple):
    """The sockets of one state that files refer to, by who holds them."""

    by_pid: Mapping[int, Sequence[Connection]]
    hidden: Unsure
    unseen: int
    reason: str
    """Why owners are not known; empty where all are."""
    unread: Missing | None = None
    names: Mapping[int, Holder] = {}
    """By pid the process as it was seen to hold a socket."""

    @classmethod
    def of(cls, detail: Mapping[TcpState, Detail], state: TcpState) -> "_Owners":
        sockets = detail.get(state)
        if sockets is None:
            return cls({}, Unsure(()), 0, "", Missing(f"sockets in {state.name} were not read one by one"))
        unseen = sockets.total - len(sockets.connections)
        rows = sockets.connections
        if isinstance(rows, KeptRows) and not rows.owned:
            # nobody looked for owners, so all that a file refers to may be anybody's
            held = rows.with_file()
            reasons = [NOT_LOOKED_UP.reason] * bool(held) + [partly(sockets, state)] * bool(unseen)
            return cls({}, Unsure(held), unseen, joined(reasons))
        if isinstance(rows, KeptRows) and not rows.decoded:
            return cls.among_kept(rows, unseen, partly(sockets, state))
        return cls.among(rows, unseen, partly(sockets, state))

    @classmethod
    def among_kept(cls, rows: KeptRows, unseen: int, why: str) -> "_Owners":
        """As `among`, of rows that are not decoded for it."""
        by_pid = rows.parted(_pid_of)
        hidden = by_pid.get(None, ())
        untold = hidden.owners() if isinstance(hidden, KeptRows) else ()
        reasons = dict.fromkeys(owner.reason for _, owner in untold if isinstance(owner, Missing))
        if unseen:
            reasons[why] = None
        held = {pid: some for pid, some in by_pid.items() if pid is not None and pid != _NOBODY}
        first = ((pid, next(some.owners())[1]) for pid, some in held.items())
        names = {pid: owner.holders[0] for pid, owner in first if isinstance(owner, Held)}
        return cls(held, Unsure(hidden), unseen, joined(reasons), names=names)

    @classmethod
    def among(cls, rows: Iterable[Connection], unseen: int = 0, why: str = "") -> "_Owners":
        """The owners of these sockets; `unseen` more are not known one by one, and `why`."""
        by_pid: dict[int, list[Connection]] = {}
        names: dict[int, Holder] = {}
        hidden: list[Connection] = []
        reasons: dict[str, None] = {}
        for connection in rows:
            match connection.owner:
                case Held(holders=holders):
                    by_pid.setdefault(holders[0].pid, []).append(connection)
                    names.setdefault(holders[0].pid, holders[0])
                case Missing(reason=reason) if connection.inode:
                    hidden.append(connection)
                    reasons[reason] = None
        if unseen:
            reasons[why] = None
        return cls(by_pid, Unsure(hidden), unseen, joined(reasons), names=names)

    def held_by(self, pid: int | None) -> Reading[SocketSet]:
        """What a process holds; None stands for the processes that are not seen."""
        if self.unread is not None:
            return self.unread
        held = () if pid is None else self.by_pid.get(pid, ())
        return SocketSet(held, self.hidden, self.unseen, self.reason)

    def processes(self) -> dict[int, Process]:
        """The holders as far as their descriptors tell: those that could not be read have gone since."""
        gone = Missing("the process ended while it was looked at")
        return {
            pid: Process(pid, holder.name, holder.uid, gone, gone, gone, gone, gone, gone, gone)
            for pid, holder in self.names.items()
        }


def _unread_by_owner(snapshot: Snapshot, roles: Roles) -> _Owners:
    """Who holds connections with data left unread.

    Of more than a thousand with anything unread a uniform sample is known; the rest is taken to be as
    young as nearly all are where there is traffic. Owners are looked up of what has waited for a moment.
    """
    census = snapshot.census
    established = census if isinstance(census, Missing) else census.established
    unread = established if isinstance(established, Missing) else established.unread
    if isinstance(unread, Missing):
        return _Owners({}, Unsure(()), 0, "", unread)
    left = [
        row
        for row in unread.connections
        if is_left_unread(row, roles.is_client) and row.owner != NOT_LOOKED_UP
    ]
    return _Owners.among(left)


def _process(holding: Holding) -> Reading[Process]:
    return holding.process


def _unread(holding: Holding) -> Reading[SocketSet]:
    return holding.unread


def _close_wait(holding: Holding) -> Reading[SocketSet]:
    return holding.close_wait


def _fin_wait_2(holding: Holding) -> Reading[SocketSet]:
    return holding.fin_wait_2


def _number(sockets: SocketSet, _: Holding) -> Value:
    return sockets.number()


def _ages(sockets: SocketSet, holding: Holding) -> Value:
    return sockets.ages(holding.earlier)


def _oldest(sockets: SocketSet, holding: Holding) -> Value:
    return oldest(sockets.ages(holding.earlier))


def _peers(sockets: SocketSet, holding: Holding) -> Value:
    return sockets.peers(holding.roles.is_client_port)


def _descriptors(sockets: SocketSet, _: Holding) -> Value:
    return sockets.descriptors()


def _with_unread(condition: Callable[[int], bool]) -> Callable[[SocketSet, Holding], Value]:
    return lambda sockets, _: sockets.where(lambda row: condition(row.receive_queue)).number()


def _words(text: Reading[str | None]) -> Value:
    return NONE if text is None else text


def _sockets(process: Process, _: Holding) -> Value:
    if isinstance(process.sockets, Missing) or not process.sockets_within:
        return process.sockets
    low, high = process.sockets - process.sockets_within, process.sockets + process.sockets_within
    return Range(max(0, low), high, "of its very many descriptors about a thousand were looked at")


def _dead(holding: Holding) -> Reading[SocketCount]:
    return holding.dead.of(None if isinstance(holding.process, Missing) else holding.process.pid)


def _dead_sockets(count: SocketCount, holding: Holding) -> Value:
    used = math.inf if isinstance(holding.process, Missing) else holding.process.descriptors
    most = count.most if isinstance(used, Missing) else min(count.most, max(used, count.least))
    return count.least if count.least == most else Range(count.least, most, count.reason)


def _dead_descriptors(count: SocketCount, _: Holding) -> Value:
    numbers = sorted(row.fd for row in count.seen)
    return some_descriptors(numbers) if numbers else NONE


def _dead_peers(count: SocketCount, _: Holding) -> Value:
    ends = [row.peer for row in count.seen if row.peer is not None]
    return name_ends(ends) if ends else NONE


def _share(holding: Holding) -> Value:
    """What it uses of its limit; one that is not seen was passed over by the search for large users."""
    process = holding.process
    if isinstance(process, Missing):
        return holding.passed_over
    used, limit = process.descriptors, process.descriptor_limit
    if isinstance(used, Missing) or isinstance(limit, Missing):
        return used if isinstance(used, Missing) else limit
    return used / limit if limit else 1.0


_SS_INFO = "ss -tani state close-wait (lastack .. lastrcv, milliseconds)"
_SS_FW2 = "ss -tani state fin-wait-2 (lastack .. lastsnd, milliseconds)"
_SS_PROCESS_CW = "ss -tanp state close-wait"
_SS_PROCESS_FW2 = "ss -tanp state fin-wait-2"
_SS_UNREAD = "ss -tnpi state established (Recv-Q, lastrcv)"
_STATUS = "/proc/PID/status"

_of_process = Teller[Holding](Scope.PROCESS)

FACTS: Sequence[Told[Holding]] = (
    _of_process.text(
        "process.pid", "Process id.", _STATUS, lift(_process, lambda process, _: str(process.pid))
    ),
    _of_process.text(
        "process.name",
        "Name of the process (comm).",
        "/proc/PID/comm",
        lift(_process, lambda process, _: process.name),
    ),
    _of_process.text(
        "process.unit",
        "systemd unit that the process runs in, or none.",
        "/proc/PID/cgroup",
        lift(_process, lambda process, _: _words(process.unit)),
    ),
    _of_process.text(
        "process.container",
        "Id of the container that the process runs in, or none.",
        "/proc/PID/cgroup",
        lift(_process, lambda process, _: _words(process.container)),
    ),
    _of_process.gauge(
        "process.descriptors.used",
        COUNT,
        "File descriptors that the process has open.",
        "/proc/PID/fd",
        lift(_process, lambda process, _: process.descriptors),
    ),
    _of_process.gauge(
        "process.descriptors.limit",
        COUNT,
        "File descriptors that the process may have open: its soft RLIMIT_NOFILE.",
        "/proc/PID/limits (Max open files)",
        lift(_process, lambda process, _: process.descriptor_limit),
    ),
    _of_process.gauge(
        "process.descriptors.share",
        RATIO,
        "Share of its limit of descriptors that the process uses; of processes that are not seen, the most "
        "that any of them can use.",
        "/proc/PID/fd, /proc/PID/limits",
        _share,
    ),
    _of_process.gauge(
        "process.descriptors.sockets",
        COUNT,
        "Of its descriptors, those that are sockets of any kind; looked at only where the process uses "
        "half of what it may.",
        "ls -l /proc/PID/fd | grep -c socket:",
        lift(_process, _sockets),
    ),
    _of_process.gauge(
        "unread.owned",
        COUNT,
        "Established connections of the process in which data has waited to be read: any in accepted "
        "ones, 16 KiB or more in its own. What has just come in is not counted.",
        _SS_UNREAD,
        lift(_unread, _number),
    ),
    _of_process.ages(
        "unread.owned_ages",
        "How long ago data last came in on each of these; none of what is unread is younger.",
        _SS_UNREAD,
        lift(_unread, lambda sockets, _: ages_of(sockets, unread_age)),
    ),
    _of_process.gauge(
        "unread.oldest_owned_age",
        SECOND,
        "The longest of these times; 0 where there is no such connection.",
        _SS_UNREAD,
        lift(_unread, lambda sockets, _: oldest(ages_of(sockets, unread_age))),
    ),
    _of_process.gauge(
        "unread.owned_bytes",
        BYTE,
        "Bytes that wait to be read in these connections.",
        "ss -tnp state established (Recv-Q)",
        lift(_unread, lambda sockets, _: sockets.total(lambda row: row.receive_queue)),
    ),
    _of_process.text(
        "unread.peers",
        "Peers of these connections, those with most first.",
        "ss -tnp state established (Recv-Q)",
        lift(_unread, _peers),
    ),
    _of_process.text(
        "unread.descriptors",
        "Descriptors of these connections, the lowest first.",
        "ss -tnp state established (Recv-Q)",
        lift(_unread, _descriptors),
    ),
    _of_process.gauge(
        "descriptors.dead_sockets",
        COUNT,
        "Descriptors of the process that are TCP connections which are over, in both looks: state CLOSE, "
        "in no table, and not closed by the process. Looked for where 64 or more can be so.",
        "ls -l /proc/PID/fd | grep socket: (inodes that ss -tane does not list); lsof: protocol: TCP",
        lift(_dead, _dead_sockets),
    ),
    _of_process.text(
        "descriptors.dead",
        "The descriptors of these connections, the lowest first.",
        "ls -l /proc/PID/fd | grep socket: (inodes that ss -tane does not list)",
        lift(_dead, _dead_descriptors),
    ),
    _of_process.text(
        "descriptors.dead_peers",
        "The peers of these connections, those with most first.",
        "nothing else shows them; each socket is asked (SO_PEERNAME)",
        lift(_dead, _dead_peers),
    ),
    _of_process.gauge(
        "close_wait.owned",
        COUNT,
        "Sockets in CLOSE_WAIT that the process holds: the peer has closed, the process has not. "
        "A socket that several processes share counts for the one with the lowest pid.",
        _SS_PROCESS_CW,
        lift(_close_wait, _number),
    ),
    _of_process.gauge(
        "close_wait.eof_read",
        COUNT,
        "CLOSE_WAIT sockets whose end of file the process has read, without closing them (Recv-Q 0).",
        _SS_PROCESS_CW + " (Recv-Q)",
        lift(_close_wait, _with_unread(lambda waiting: waiting == 0)),
    ),
    _of_process.gauge(
        "close_wait.eof_unread",
        COUNT,
        "CLOSE_WAIT sockets where only the end of file is left to read (Recv-Q 1).",
        _SS_PROCESS_CW + " (Recv-Q)",
        lift(_close_wait, _with_unread(lambda waiting: waiting == 1)),
    ),
    _of_process.gauge(
        "close_wait.unread_data",
        COUNT,
        "CLOSE_WAIT sockets with data that the process has not read (Recv-Q above 1).",
        _SS_PROCESS_CW + " (Recv-Q)",
        lift(_close_wait, _with_unread(lambda waiting: waiting > 1)),
    ),
    _of_process.ages(
        "close_wait.owned_ages",
        "How long ago the peer closed each CLOSE_WAIT socket that the process holds.",
        _SS_INFO,
        lift(_close_wait, _ages),
    ),
    _of_process.gauge(
        "close_wait.oldest_owned_age",
        SECOND,
        "How long ago the peer closed the oldest CLOSE_WAIT socket of the process; 0 where it holds none.",
        _SS_INFO,
        lift(_close_wait, _oldest),
    ),
    _of_process.text(
        "close_wait.peers",
        "Peers of the process's CLOSE_WAIT sockets, those with most first.",
        _SS_PROCESS_CW,
        lift(_close_wait, _peers),
    ),
    _of_process.text(
        "close_wait.descriptors",
        "Descriptors of the process's CLOSE_WAIT sockets, the lowest first.",
        _SS_PROCESS_CW,
        lift(_close_wait, _descriptors),
    ),
    _of_process.gauge(
        "fin_wait_2.owned",
        COUNT,
        "Sockets in FIN_WAIT_2 that the process holds: it has shut down its side and not closed. "
        "A socket that several processes share counts for the one with the lowest pid.",
        _SS_PROCESS_FW2,
        lift(_fin_wait_2, _number),
    ),
    _of_process.ages(
        "fin_wait_2.owned_ages",
        "How long ago the peer acknowledged the end of each FIN_WAIT_2 socket that the process holds.",
        _SS_FW2,
        lift(_fin_wait_2, _ages),
    ),
    _of_process.gauge(
        "fin_wait_2.oldest_owned_age",
        SECOND,
        "How long the oldest FIN_WAIT_2 socket of the process has been in that state; 0 where it holds none.",
        _SS_FW2,
        lift(_fin_wait_2, _oldest),
    ),
    _of_process.text(
        "fin_wait_2.peers",
        "Peers of the process's FIN_WAIT_2 sockets, those with most first.",
        _SS_PROCESS_FW2,
        lift(_fin_wait_2, _peers),
    ),
    _of_process.text(
        "fin_wait_2.descriptors",
        "Descriptors of the process's FIN_WAIT_2 sockets, the lowest first.",
        _SS_PROCESS_FW2,
        lift(_fin_wait_2, _descriptors),
    ),
)
FUNCTIONS = functions_of(FACTS)
