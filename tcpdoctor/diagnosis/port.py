"""The whole answer about one port: what bind() will say, what stops it, until when."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from tcpdoctor.diagnosis.bind import (
    NO,
    OK,
    UNKNOWN,
    YES,
    Attempt,
    Existing,
    Flag,
    Obstacle,
    Target,
    Wanted,
    effective_v6only,
    find_obstacle,
    four,
    possible_conflicts,
    predict,
    predict_udp,
    wanted_device,
)
from tcpdoctor.diagnosis.holders import is_service_manager, who_may_be_stopped
from tcpdoctor.diagnosis.stopping import Asker, Stop, name_place
from tcpdoctor.facts.deadlines import RTO_MAX_SECONDS, Life, orphan_time_left
from tcpdoctor.facts.origin import began_here
from tcpdoctor.kernel.cgroups import place_of as place_of_group
from tcpdoctor.kernel.port_evidence import PortEvidence, Probe, connections, plain
from tcpdoctor.kernel.processes import Lineage
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Held, Holder, Listener, NotHeld, UdpSocket
from tcpdoctor.kernel.standing import Standing
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.named_tuples import NamedTuple

# One socket at a port, as what stands in bind()'s way: its flags, what kind it is, when it leaves.


Row: TypeAlias = Connection | Listener | UdpSocket
_TcpRow: TypeAlias = Connection | Listener

CAUSES = (
    "address-not-local",
    "privileged-port",
    "listener",
    "dual-stack-listener",
    "bound-socket",
    "udp-socket",
    "live-connections",
    "outgoing-connection",
    "fin-wait-2-orphan",
    "time-wait",
)
"""Everything that can stop a plain bind(), the one that decides first."""

_PRIVILEGED = 1024
"""Ports below it need a privilege, which clients that choose a port seldom have."""

_MPTCP_LATE = 3.0
"""Seconds that its work queue comes late: ends were seen up to 2 s after the time."""
_MINI, _LONGEST_HALF, _ROUGHLY = 60, 60, 1.5
"""Seconds: TCP_TIMEWAIT_LEN; what TCP_LINGER2, at most 120, is above it; how far off two looks add up."""

_ORPHANS_RETRY = frozenset((TcpState.FIN_WAIT_1, TcpState.CLOSING, TcpState.LAST_ACK))


class PortSocket(NamedTuple):
    """A socket whose local port is the one in question."""

    row: Row
    existing: Existing
    cause: str
    """Which of `CAUSES` it would be."""
    leaves: Life | None
    """Seconds until it is gone by itself, as a range; None: it does not, or nobody can tell."""
    began_here: bool | None = None
    """True: a client's, whose connect() was called here; False: a server's, from accept(); None: not told."""

    @property
    def state(self) -> TcpState:
        """Its TCP state; LISTEN for a listener."""
        return self.existing.state


class Inheritance(NamedTuple):
    """What sockets with hidden flags most probably have: they got it from a listener when they began."""

    reuseaddr: bool
    reuseport: bool
    v6only: bool
    listening: bool
    """The listener is still there."""


def port_sockets(evidence: PortEvidence, wanted: Wanted) -> tuple[PortSocket, ...]:
    """Return every socket at the port that is known one by one, listeners first, as `wanted` meets them."""
    listeners = () if isinstance(evidence.listeners, Missing) else evidence.listeners
    rows = connections(evidence.local)
    origin = _inheritance(evidence, listeners, rows)
    reached = frozenset(end.port for end in evidence.listening)
    found = [
        PortSocket(row, _existing(row, evidence, origin), _cause_of_listener(row, wanted), None)
        for row in listeners
    ]
    told = {known for row in rows if isinstance(known := began_here(row), bool)}
    many = len({row.remote.port for row in rows if row.remote.port}) > 1
    for row in rows:
        existing = _existing(row, evidence, origin)
        began: Reading[bool | None] = began_here(row)
        if isinstance(began, Missing) and (origin.listening or told == {False}):
            began = False
        elif isinstance(began, Missing) and row.remote.port in reached and leads_to_listener(row, evidence):
            began = True
        elif isinstance(began, Missing):
            began = _guess_who_began(row, existing, evidence, alone=len(rows) == 1, many=many)
        cause = _cause_of_connection(row, outgoing=began is True)
        found.append(PortSocket(row, existing, cause, time_left(row, evidence.sysctls), began))
    return tuple(found)


def udp_sockets(evidence: PortEvidence) -> tuple[PortSocket, ...]:
    """Return the UDP sockets at the port, as another UDP socket meets them."""
    if isinstance(evidence.udp, Missing):
        return ()
    named = {name: index for index, name in evidence.interfaces.items()}
    return tuple(_udp_socket(row, evidence, named) for row in evidence.udp)


def _udp_socket(row: UdpSocket, evidence: PortEvidence, interfaces: Mapping[str, int]) -> PortSocket:
    options = evidence.options.get(row.inode) if row.inode else None
    told = None if options is None or isinstance(options, Missing) else options.get("SO_BINDTODEVICE")
    mapped = row.family == 4 or four(6, row.local.address) is not None
    existing = Existing(
        state=TcpState.BOUND,
        family=row.family,
        address=row.local.address,
        v6only=NO if mapped else _flag(row, "IPV6_V6ONLY", evidence, guess=False),
        uid=row.uid,
        device=interfaces.get(told, 0) if isinstance(told, str) else 0,
        minisocket=False,
        reuseaddr=_flag(row, "SO_REUSEADDR", evidence, guess=False),
        reuseport=_flag(row, "SO_REUSEPORT", evidence, guess=False),
        uid_known=bool(row.inode or row.uid),
        device_known=told == "" or told in interfaces,
    )
    return PortSocket(row, existing, "udp-socket", None)


def _existing(row: _TcpRow, evidence: PortEvidence, origin: Inheritance) -> Existing:
    state = TcpState.LISTEN if isinstance(row, Listener) else row.state
    return Existing(
        state=TcpState.NEW_SYN_RECV if isinstance(row, Connection) and row.request else state,
        family=row.family,
        address=row.local.address,
        v6only=_v6only(row, evidence, origin),
        uid=row.uid,
        device=row.device,
        minisocket=not isinstance(row, Listener) and row.minisocket,
        reuseaddr=_flag(row, "SO_REUSEADDR", evidence, guess=origin.reuseaddr),
        reuseport=_flag(row, "SO_REUSEPORT", evidence, guess=origin.reuseport),
        uid_known=bool(row.inode or row.uid),
        surely_holds=row.inode not in evidence.unsure,
        device_known=bool(row.cookie),
    )


def _flag(row: Row, name: str, evidence: PortEvidence, *, guess: bool) -> Flag:
    """What the live socket says, or else a guess that is marked as one."""
    options = evidence.options.get(row.inode) if row.inode else None
    if options is None or isinstance(options, Missing):
        return UNKNOWN._replace(value=guess and not isinstance(row, Listener))
    value = options.get(name)
    return UNKNOWN if value is None or isinstance(value, Missing) else (YES if value else NO)


def _v6only(row: _TcpRow, evidence: PortEvidence, origin: Inheritance) -> Flag:
    if row.family == 4 or four(6, row.local.address) is not None:
        return NO
    if row.v6only is not None:
        return YES if row.v6only else NO
    return _flag(row, "IPV6_V6ONLY", evidence, guess=origin.v6only)


def _inheritance(
    evidence: PortEvidence, listeners: tuple[Listener, ...], rows: list[Connection]
) -> Inheritance:
    """Guess the flags of leftovers: those of the listener, else of a connection that can still be asked."""
    candidates: list[_TcpRow] = [*listeners, *(row for row in rows if row.state is not TcpState.BOUND)]
    for row in candidates:
        options = evidence.options.get(row.inode) if row.inode else None
        if options is not None and not isinstance(options, Missing):
            return Inheritance(
                reuseaddr=options.get("SO_REUSEADDR") is True,
                reuseport=options.get("SO_REUSEPORT") is True,
                v6only=options.get("IPV6_V6ONLY") is True,
                listening=bool(listeners),
            )
    return Inheritance(reuseaddr=False, reuseport=False, v6only=False, listening=bool(listeners))


def _cause_of_listener(row: Listener, wanted: Wanted) -> str:
    """An IPv6 listener is in IPv4's way by being dual-stack; in IPv6's way it would be anyhow."""
    dual = row.family == 6 and four(6, row.local.address) is None and row.v6only is False
    wants_ipv4 = four(wanted.family, wanted.address) is not None
    return "dual-stack-listener" if dual and wants_ipv4 else "listener"


def _cause_of_connection(row: Connection, *, outgoing: bool) -> str:
    if row.state is TcpState.BOUND:
        return "bound-socket"
    if row.state is TcpState.TIME_WAIT:
        return "time-wait"
    if row.state is TcpState.FIN_WAIT_2 and is_orphan(row):
        return "fin-wait-2-orphan"
    return "outgoing-connection" if outgoing else "live-connections"


def is_orphan(row: Connection) -> bool:
    """Whether a process closed it and the kernel alone finishes it."""
    return not row.inode and row.state not in (TcpState.ESTABLISHED, TcpState.CLOSE_WAIT, TcpState.SYN_RECV)


def _guess_who_began(
    row: Connection, existing: Existing, evidence: PortEvidence, *, alone: bool, many: bool
) -> bool | None:
    """What ports and options tell where the kernel's numbers do not (minisockets keep none); None: nothing.

    A server's clients come from many ports, behind a NAT from any above 1023, while a client's own port leads
    to one port of its peers, as a rule. So of a leftover on a port that connect() gives out nothing is
    said unless its peer's port is privileged. A live socket that is alone on such a port and lacks
    SO_REUSEADDR, which nearly every server sets and no client, is a client's.
    """
    ours = is_ephemeral(evidence.port, evidence.sysctls)
    theirs = is_ephemeral(row.remote.port, evidence.sysctls)
    if many or (theirs and not ours):
        return False
    if row.remote.port < _PRIVILEGED <= evidence.port:
        return True
    if evidence.port < _PRIVILEGED <= row.remote.port:
        return False
    if row.minisocket or not ours:
        return None
    return True if not theirs or (alone and existing.reuseaddr == NO) else None


def leads_to_listener(row: Connection, evidence: PortEvidence) -> bool:
    """Whether the other end is what a socket of this host listens on: then the connection began here."""
    return any(
        end.port == row.remote.port and _reaches(end.address, row, evidence) for end in evidence.listening
    )


def _reaches(listening: str, row: Connection, evidence: PortEvidence) -> bool:
    """Whether a listener of this host on that address is what the connection leads to."""
    remote = plain(row.remote).address
    if listening.removeprefix("::ffff:") == remote:
        return True
    addresses = evidence.rules.addresses
    if ":" not in remote:
        return listening in ("0.0.0.0", "::", "::ffff:0.0.0.0") and addresses.has_ipv4(remote) is True
    here = () if isinstance(addresses.ipv6, Missing) else addresses.ipv6
    return listening == "::" and any(address.address == remote for address in here)


def is_ephemeral(port: int, sysctls: Mapping[str, object]) -> bool:
    """Whether connect() may take the port by itself: in the range, and not reserved."""
    span = sysctls.get("net.ipv4.ip_local_port_range")
    reserved = sysctls.get("net.ipv4.ip_local_reserved_ports")
    if not isinstance(span, tuple) or not span[0] <= port <= span[1]:
        return False
    return not (isinstance(reserved, tuple) and any(low <= port <= high for low, high in reserved))


def time_left(row: Connection, sysctls: Mapping[str, object]) -> Life | None:
    """Return how long the socket stays if nothing happens to it; None where only a process ends it.

    A peer that answers can end it earlier, or make a TIME_WAIT of 60 s out of it.
    """
    if row.minisocket:
        return Life(row.expires, row.expires)
    if row.mptcp and row.inode and isinstance(row.owner, NotHeld):
        return _closed_mptcp_left(row)
    if row.inode or not is_orphan(row):
        return None
    if row.state is TcpState.FIN_WAIT_2 and row.timer is Timer.KEEPALIVE:
        return _whole_fin_wait_2_left(row, sysctls)
    retries = sysctls.get("net.ipv4.tcp_orphan_retries")
    if row.state not in _ORPHANS_RETRY or row.timer is not Timer.RETRANSMIT or not isinstance(retries, int):
        return None
    if isinstance(row.info, Missing):
        return None
    longest = sysctls.get("net.ipv4.tcp_rto_max_ms")
    return orphan_time_left(
        retries,
        row.info.rto,
        row.info.backoff,
        row.expires,
        longest / 1000 if isinstance(longest, int) else RTO_MAX_SECONDS,
    )


_UDP_CHAIN = 10
MOST_BLOCKERS = 20
"""Blockers that are listed; of more, those that stay longest."""


def _closed_mptcp_left(row: Connection) -> Life | None:
    """How long a subflow stays whose MPTCP socket was closed, while the peer closes its own not.

    Its state stays what it was, and it keeps its inode. TCP_TIMEWAIT_LEN runs from close(), which the peer
    acknowledged: that was the last that came from there. net.mptcp.close_timeout is for sockets that a
    process still holds, and does not shorten it.
    """
    if isinstance(row.info, Missing):
        return None
    left = max(0.0, _MINI - row.info.last_ack_recv)
    return Life(left, left + _MPTCP_LATE)


def _whole_fin_wait_2_left(row: Connection, sysctls: Mapping[str, object]) -> Life:
    """How long an orphan in FIN_WAIT_2 stays that is no minisocket yet.

    Where its time (TCP_LINGER2, else tcp_fin_timeout) is above 60 s, this socket lasts for what is above,
    and a minisocket follows that lasts as long again (tcp_keepalive_timer()). A time of 60 s and less is
    spent as a minisocket, but for the ACK of the FIN that came while close() still owned the socket: then
    the whole of it passes here. Which it is shows in how long the timer runs in all: what is left of it, and
    what has passed since the peer's last ACK, that of our FIN.
    """
    left, timeout = row.expires, sysctls.get("net.ipv4.tcp_fin_timeout")
    passed = None if isinstance(row.info, Missing) else row.info.last_ack_recv
    if not isinstance(timeout, int):
        return Life(left, left + _LONGEST_HALF)
    if passed is None or abs(left + passed - (timeout if timeout <= _MINI else timeout - _MINI)) < _ROUGHLY:
        more = max(0, timeout - _MINI)
        return Life(left + more, left + more)
    return Life(2 * left + passed, 2 * left + passed + _ROUGHLY)


class BindAnswer(NamedTuple):
    """What bind() and listen() answer for one address, and what stands in the way."""

    target: Target
    wanted: Wanted
    evidence: PortEvidence
    attempts: tuple[Attempt, ...]
    obstacle: Obstacle | None
    cause: str | None
    """Of the plain attempt's failure, one of `CAUSES`; None where it succeeds."""
    blockers: tuple[PortSocket, ...]
    """Sockets that stop the plain attempt, or may; the longest-lived first, at most `MOST_BLOCKERS`."""
    blockers_total: int
    by_cause: tuple[tuple[str, int], ...]
    """How many blockers there are of each cause, in the order of `CAUSES`."""
    free_in: float | None
    """Seconds until the last blocker is gone by itself, at the earliest; None: it stays, or there is none."""
    unknowns: tuple[str, ...]
    """Why an answer may be wrong or incomplete, as sentences."""


def answer(target: Target, evidence: PortEvidence) -> BindAnswer:
    """Put the answer together from one look at the port; what the kernel itself said is added later."""
    wanted = wanted_socket(target, evidence)
    obstacle = find_obstacle(target, evidence.rules)
    udp = target.protocol == "udp"
    sockets = udp_sockets(evidence) if udp else port_sockets(evidence, wanted)
    unknowns = _unknowns_of_udp(evidence, obstacle) if udp else _unknowns(evidence, obstacle)
    known = None if isinstance(obstacle, Missing) else obstacle
    foresee = predict_udp if udp else predict
    attempts = foresee(wanted, (s.existing for s in sockets), known, complete=not unknowns)
    if isinstance(obstacle, Missing):  # it may fail for that, with another errno
        attempts = tuple(attempt._replace(certain=False) for attempt in attempts)
    blockers = [s for s in sockets if any(possible_conflicts(wanted, (), s.existing))]
    blockers.sort(key=_longest_lived_first)
    present = _by_cause(blockers, evidence)
    cause = present[0][0] if present and attempts[0].bind != OK else None
    return BindAnswer(
        target=target,
        wanted=wanted,
        evidence=evidence,
        attempts=attempts,
        obstacle=known,
        cause=known.cause if known else cause,
        blockers=tuple(blockers[:MOST_BLOCKERS]),
        blockers_total=sum(number for _, number in present),
        by_cause=present,
        free_in=_free_in(known, blockers),
        unknowns=unknowns,
    )


def with_probes(answer: BindAnswer, probes: Sequence[Reading[Probe]]) -> BindAnswer:
    """Put what the kernel itself answered in place of the predictions, attempt by attempt.

    Where listen() was not tried it stays a prediction: it repeats the test that bind() has passed.
    """
    attempts = tuple(
        attempt if isinstance(probe, Missing) else _probed(attempt, probe)
        for attempt, probe in zip(answer.attempts, probes, strict=True)
    )
    plain = attempts[0].bind
    obstacle = answer.obstacle if answer.obstacle is not None and answer.obstacle.errno == plain else None
    cause = answer.by_cause[0][0] if answer.by_cause and plain == "EADDRINUSE" else None
    return answer._replace(
        attempts=attempts,
        obstacle=obstacle,
        cause=obstacle.cause if obstacle is not None else cause,
        free_in=answer.free_in if cause is not None else None,
    )


def _probed(attempt: Attempt, probe: Probe) -> Attempt:
    listen = probe.listen if probe.listen is not None else (OK if probe.bind == OK else None)
    return Attempt(
        attempt.options, probe.bind, listen, certain=True, probed=True, listen_probed=probe.listen is not None
    )


def wanted_socket(target: Target, evidence: PortEvidence) -> Wanted:
    """Return the socket that the user would bind, with the defaults of this network namespace."""
    return Wanted(
        family=target.family,
        address=target.address,
        v6only=effective_v6only(target, evidence.rules.bindv6only is True),
        uid=evidence.uid,
        device=wanted_device(target),
    )


def _longest_lived_first(socket: PortSocket) -> tuple[float, int]:
    end = math.inf if socket.leaves is None else socket.leaves.high
    return (-end, CAUSES.index(socket.cause))


def _free_in(obstacle: Obstacle | None, blockers: list[PortSocket]) -> float | None:
    if obstacle is not None or not blockers:
        return None
    ends = [s.leaves.low if s.leaves is not None else math.inf for s in blockers]
    last = max(ends)
    return None if math.isinf(last) else last


def _by_cause(blockers: list[PortSocket], evidence: PortEvidence) -> tuple[tuple[str, int], ...]:
    """Count blockers by cause; of a state that was only sampled, each stands for its share of all."""
    weights: dict[TcpState, float] = {}
    if not isinstance(evidence.local, Missing):
        for state, detail in evidence.local.items():
            if detail.connections:
                weights[state] = detail.total / len(detail.connections)
    counts = [
        (cause, sum(weights.get(b.state, 1.0) for b in blockers if b.cause == cause)) for cause in CAUSES
    ]
    return tuple((cause, round(number)) for cause, number in counts if number)


def _unknowns_of_udp(evidence: PortEvidence, obstacle: object) -> tuple[str, ...]:
    found = [part.reason for part in (evidence.udp, obstacle) if isinstance(part, Missing)]
    if not isinstance(evidence.udp, Missing) and len(evidence.udp) > _UDP_CHAIN:
        # udp_lib_get_port() then looks among sockets on the same address and on the wildcard only.
        found.append(f"with more than {_UDP_CHAIN} UDP sockets on a port the kernel does not compare all")
    return tuple(found)


def _unknowns(evidence: PortEvidence, obstacle: object) -> tuple[str, ...]:
    found = [part.reason for part in (evidence.listeners, evidence.local) if isinstance(part, Missing)]
    if isinstance(obstacle, Missing):
        found.append(obstacle.reason)
    if not isinstance(evidence.local, Missing):
        if isinstance(evidence.bound_seen, Missing):
            found.append(f"sockets that are bound and no more may be hidden: {evidence.bound_seen.reason}")
        for state, detail in evidence.local.items():
            if detail.total > len(detail.connections):
                found.append(
                    f"of {detail.total} sockets in {state.name} {len(detail.connections)} were looked at"
                )
    return tuple(found)


# Who holds a socket of a port, and what kind of holder that is.


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
    )
    return who_may_be_stopped(holders, evidence.standings, asker, inherited=heirs)


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
    waiting, by_pids = 0.0, dict[frozenset[int], float]()
    for state, detail in () if isinstance(evidence.local, Missing) else evidence.local.items():
        share = detail.total / len(detail.connections) if detail.connections else 1.0
        for one in () if state is TcpState.BOUND else detail.connections:
            if is_waiting(one):
                waiting += share
            elif isinstance(one.owner, Held):
                pids = _pids_of(one.owner)
                by_pids[pids] = by_pids.get(pids, 0.0) + share
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


def others_that_hold(answer: "BindAnswer", stop: Stop, row: Row) -> tuple[Holder, ...]:
    """Return the topmost holders of further blockers that stay when the holder of `row` has ended."""
    ending = {holder.pid for holder in row.owner.holders} if isinstance(row.owner, Held) else set()
    found: dict[int, Holder] = {}
    for blocker in answer.blockers:
        owner = blocker.row.owner
        if isinstance(owner, Held) and not _dies(_pids_of(owner), stop, ending, answer.evidence):
            found.setdefault(owner.holders[0].pid, owner.holders[0])
    return tuple(found.values())


def _pids_of(owner: Held) -> frozenset[int]:
    return frozenset(holder.pid for holder in owner.holders)


def _dies(pids: frozenset[int], stop: Stop, ending: set[int], evidence: PortEvidence) -> bool:
    """Whether a socket's holders end with those that are stopped."""
    if pids & ending:
        return True
    processes = [process for pid in pids if (process := evidence.processes.get(pid))]
    if stop.way in ("service", "user-service"):
        mine = evidence.processes.get(stop.holder.pid)
        return mine is not None and any(process.unit == mine.unit for process in processes)
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
    if not isinstance(row, Connection) or not row.remote.port:
        return None
    ends = plain(row.remote), plain(row.local)
    candidates = (p for p in connections(evidence.remote) if p.local.port == row.remote.port)
    return next((p for p in candidates if (plain(p.local), plain(p.remote)) == ends), None)


def name_holder(holder: Holder, evidence: PortEvidence) -> str:
    """Name a holder for people: ``pid 811 nginx, fd 6, uid 33, nginx.service``."""
    where = _where_it_runs(holder, evidence)
    parts = [f"pid {holder.pid} {holder.name}", f"fd {holder.fd}", f"uid {holder.uid}"]
    return ", ".join([*parts, where] if where else parts)


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
