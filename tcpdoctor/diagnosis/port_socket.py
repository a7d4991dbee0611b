"""One socket at a port, as what stands in bind()'s way: its flags, what kind it is, when it leaves."""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from tcpdoctor.diagnosis.bind import NO, UNKNOWN, YES, Existing, Flag, Wanted, four
from tcpdoctor.facts.deadlines import orphan_time_left
from tcpdoctor.facts.life import Life
from tcpdoctor.facts.retransmission import RTO_MAX_SECONDS
from tcpdoctor.kernel.port_evidence import PortEvidence, connections, plain
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Connection, Listener
from tcpdoctor.kernel.states import TcpState, Timer

Row: TypeAlias = Connection | Listener

CAUSES = (
    "address-not-local",
    "privileged-port",
    "listener",
    "dual-stack-listener",
    "bound-socket",
    "live-connections",
    "outgoing-connection",
    "fin-wait-2-orphan",
    "time-wait",
)
"""Everything that can stop a plain bind(), the one that decides first."""

_ORPHANS_RETRY = frozenset((TcpState.FIN_WAIT_1, TcpState.CLOSING, TcpState.LAST_ACK))


class PortSocket(NamedTuple):
    """A socket whose local port is the one in question."""

    row: Row
    existing: Existing
    cause: str
    """Which of `CAUSES` it would be."""
    leaves: Life | None
    """Seconds until it is gone by itself, as a range; None: it does not, or nobody can tell."""
    outgoing: bool = False
    """It was most probably begun here: not a connection of a server at this port."""

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
    for row in rows:
        existing = _existing(row, evidence, origin)
        outgoing = not origin.listening and (
            (row.remote.port in reached and leads_to_listener(row, evidence))
            or is_outgoing(row, existing, evidence, len(rows))
        )
        cause = _cause_of_connection(row, outgoing=outgoing)
        found.append(PortSocket(row, existing, cause, time_left(row, evidence.sysctls), outgoing))
    return tuple(found)


def _existing(row: Row, evidence: PortEvidence, origin: Inheritance) -> Existing:
    state = TcpState.LISTEN if isinstance(row, Listener) else row.state
    return Existing(
        state=state,
        family=row.family,
        address=row.local.address,
        v6only=_v6only(row, evidence, origin),
        uid=row.uid,
        device=row.device,
        minisocket=not isinstance(row, Listener) and row.minisocket,
        reuseaddr=_flag(row, "SO_REUSEADDR", evidence, guess=origin.reuseaddr),
        reuseport=_flag(row, "SO_REUSEPORT", evidence, guess=origin.reuseport),
    )


def _flag(row: Row, name: str, evidence: PortEvidence, *, guess: bool) -> Flag:
    """What the live socket says, or else a guess that is marked as one."""
    options = evidence.options.get(row.inode) if row.inode else None
    if options is None or isinstance(options, Missing):
        return UNKNOWN._replace(value=guess and not isinstance(row, Listener))
    value = options.get(name)
    return UNKNOWN if value is None or isinstance(value, Missing) else (YES if value else NO)


def _v6only(row: Row, evidence: PortEvidence, origin: Inheritance) -> Flag:
    if row.family == 4 or four(6, row.local.address) is not None:
        return NO
    if row.v6only is not None:
        return YES if row.v6only else NO
    return _flag(row, "IPV6_V6ONLY", evidence, guess=origin.v6only)


def _inheritance(
    evidence: PortEvidence, listeners: tuple[Listener, ...], rows: list[Connection]
) -> Inheritance:
    """Guess the flags of leftovers: those of the listener, else of a connection that can still be asked."""
    candidates: list[Row] = [*listeners, *(row for row in rows if row.state is not TcpState.BOUND)]
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


def is_outgoing(row: Connection, existing: Existing, evidence: PortEvidence, total: int) -> bool:
    """Whether the connection was most probably begun here, as far as its own ends tell.

    The kernel does not keep who began a connection. It is taken as outgoing if it is in SYN_SENT; or if
    its own port is in ip_local_port_range and either the other port is not, or it is the only socket here
    and lacks SO_REUSEADDR, which nearly every server sets and no client.
    """
    if row.state is TcpState.SYN_SENT:
        return True
    if not is_ephemeral(evidence.port, evidence.sysctls):
        return False
    alone = total == 1 and existing.reuseaddr == NO
    return alone or not is_ephemeral(row.remote.port, evidence.sysctls)


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
    if row.inode or not is_orphan(row):
        return None
    if row.state is TcpState.FIN_WAIT_2 and row.timer is Timer.KEEPALIVE:
        # Above 60 s the whole socket is followed by a minisocket that lasts as long (facts/deadlines.py).
        timeout = sysctls.get("net.ipv4.tcp_fin_timeout")
        more = max(0, timeout - 60) if isinstance(timeout, int) else 0
        return Life(row.expires + more, row.expires + more)
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
