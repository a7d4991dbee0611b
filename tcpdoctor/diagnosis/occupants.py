"""What stands at a port: each socket as bind() meets it, with its flags, its kind, and when it leaves."""

import math
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Literal, TypeAlias, get_args

from tcpdoctor.diagnosis.bind import (
    NO,
    UNKNOWN,
    YES,
    Existing,
    Flag,
    Wanted,
    four,
)
from tcpdoctor.facts.connection import began_here
from tcpdoctor.facts.deadlines import RTO_MAX_SECONDS, Life, orphan_time_left
from tcpdoctor.kernel.port_evidence import PortEvidence
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Listener, NotHeld, UdpSocket
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.named_tuples import NamedTuple

Row: TypeAlias = Connection | Listener | UdpSocket


_TcpRow: TypeAlias = Connection | Listener


Cause: TypeAlias = Literal[
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
]
"""Everything that can stop a plain bind(), the one that decides first."""
CAUSES: tuple[Cause, ...] = get_args(Cause)


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
    cause: Cause
    """Which it would be."""
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


def listening_sockets(evidence: PortEvidence, wanted: Wanted) -> tuple[PortSocket, ...]:
    """Return the listeners at the port, as `wanted` meets them."""
    listeners = () if isinstance(evidence.listeners, Missing) else evidence.listeners
    origin = _inheritance(evidence)
    return tuple(
        PortSocket(row, _existing(row, evidence, origin), _cause_of_listener(row, wanted), None)
        for row in listeners
    )


def connected_sockets(evidence: PortEvidence) -> tuple[PortSocket, ...]:
    """Return all others at the port, which everybody who binds meets alike."""
    rows = evidence.rows
    origin = _inheritance(evidence)
    reached = frozenset(end.port for end in evidence.listening)
    found = []
    computed = [began_here(row) for row in rows]
    told = {known for known in computed if isinstance(known, bool)}
    many = len({row.remote.port for row in rows if row.remote.port}) > 1
    for row, known in zip(rows, computed, strict=True):
        existing = _existing(row, evidence, origin)._replace(accepted=known is False)
        began: Reading[bool | None] = known
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
        uid_known=row.uid >= 0 and bool(row.inode or row.uid),
        device_known=told == "" or told in interfaces,
    )
    return PortSocket(row, existing, "udp-socket", None)


def _existing(row: _TcpRow, evidence: PortEvidence, origin: Inheritance) -> Existing:
    return Existing(
        state=TcpState.NEW_SYN_RECV if isinstance(row, Connection) and row.request else row.state,
        family=row.family,
        address=row.local.address,
        v6only=_v6only(row, evidence, origin),
        uid=row.uid,
        device=row.device,
        minisocket=not isinstance(row, Listener) and row.minisocket,
        reuseaddr=_flag(row, "SO_REUSEADDR", evidence, guess=origin.reuseaddr),
        reuseport=_flag(row, "SO_REUSEPORT", evidence, guess=origin.reuseport),
        uid_known=row.uid >= 0 and bool(row.inode or row.uid),
        surely_holds=row.inode not in evidence.unsure,
        device_known=bool(row.cookie),
        vrf=vrf_of(row.device, evidence),
        vrf_known=_is_vrf_known(row.device, evidence),
        given_away=row.inode in evidence.given_away,
    )


def _is_vrf_known(device: int, evidence: PortEvidence) -> bool:
    """Whether a socket's VRF is that of its device; only a VRF itself and lo are always of the same.

    A socket keeps the VRF that its device was of when it was bound, and nothing tells since when that is.
    """
    vrfs = evidence.vrfs
    if not device or isinstance(vrfs, Missing):
        return not device
    return not vrfs or vrfs.get(device) == device or evidence.interfaces.get(device) == "lo"


def vrf_of(device: int, evidence: PortEvidence) -> int:
    """Return the index of the interface's VRF; 0 where it is of none, or where that is not known."""
    return 0 if isinstance(evidence.vrfs, Missing) else evidence.vrfs.get(device, 0)


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


def _inheritance(evidence: PortEvidence) -> Inheritance:
    """Guess the flags of leftovers: those of the listener, else of a connection that can still be asked."""
    listeners = () if isinstance(evidence.listeners, Missing) else evidence.listeners
    others = (row for row in evidence.rows if row.state is not TcpState.BOUND)
    candidates: Iterable[_TcpRow] = chain(listeners, others)
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


def _cause_of_listener(row: Listener, wanted: Wanted) -> Cause:
    """An IPv6 listener is in IPv4's way by being dual-stack; in IPv6's way it would be anyhow."""
    dual = row.family == 6 and four(6, row.local.address) is None and row.v6only is False
    wants_ipv4 = four(wanted.family, wanted.address) is not None
    return "dual-stack-listener" if dual and wants_ipv4 else "listener"


def _cause_of_connection(row: Connection, *, outgoing: bool) -> Cause:
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
    remote = row.remote.plain().address
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
        return Life(0.0, _MINI) if math.isnan(row.expires) else Life(row.expires, row.expires)
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
