"""Everything about one port that the kernel tells: its sockets, who holds them, with which options.

Nothing is bound, connected or written here, and only sockets of the port are listed: the kernel
filters them.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from tcpdoctor.kernel.addresses import interface_indexes, read_vrfs
from tcpdoctor.kernel.cgroups import find_cgroup_paths
from tcpdoctor.kernel.kept_rows import KeptRows, with_owners
from tcpdoctor.kernel.listing import WAYS, Way, read_udp_sockets
from tcpdoctor.kernel.namespaces import (
    Identity,
    asking_uid,
    booted_at,
    is_recording,
    moment,
    read_identity,
)
from tcpdoctor.kernel.owners import EveryHolder, find_every_holder
from tcpdoctor.kernel.processes import Lineage, read_lineage, read_process
from tcpdoctor.kernel.programs import Guarded, find_guarded_groups, find_programs, sign_of_programs
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.redirects import Redirects, read_redirects
from tcpdoctor.kernel.snapshot import (
    Connection,
    Detail,
    Endpoint,
    Held,
    Holder,
    Listener,
    Owner,
    Process,
    SysctlValue,
    UdpSocket,
)
from tcpdoctor.kernel.sock_diag_rows import decode_row, inode_and_uid, name_from, name_of
from tcpdoctor.kernel.sockets import read_connections, read_listeners
from tcpdoctor.kernel.sockopts import BIND_OPTIONS, Descriptor, SocketOptions, read_options
from tcpdoctor.kernel.standing import Standing, read_standings
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState
from tcpdoctor.kernel.sysctl import read_sysctls
from tcpdoctor.kernel.text import clean
from tcpdoctor.kernel.unlisted import Unlisted, find_unlisted
from tcpdoctor.named_tuples import NamedTuple

if TYPE_CHECKING:
    from tcpdoctor.kernel.snapshot import Samples
from tcpdoctor.kernel.bind_rules import (
    BindRules,
    privilege_of,
    read_bind_rules,
)

Ends: TypeAlias = bytes
"""Both ports and both addresses; an IPv4-mapped one as IPv4, so that both ends of a connection compare."""

_IPV4, _MAPPED = 2, bytes(10) + b"\xff\xff"


class OtherEnds:
    """Some other ends by their own addresses."""

    def __init__(
        self,
        rows: Mapping[Ends, bytes | Connection],
        owners: Mapping[int, Owner] = MappingProxyType({}),
    ) -> None:
        self._rows = rows
        self._owners = owners

    def inodes(self) -> dict[int, int]:
        """The uid by inode of those to which a file refers."""
        found = (
            inode_and_uid(row) if isinstance(row, bytes) else (row.inode, row.uid)
            for row in self._rows.values()
        )
        return {inode: uid for inode, uid in found if inode}

    def owned_by(self, owners: Mapping[int, Owner]) -> "OtherEnds":
        """The same with their owners."""
        return OtherEnds(self._rows, owners)

    def of(self, connection: Connection) -> Connection | None:
        """Return the other end of one of the connections; None where it is no socket here."""
        row = self._rows.get(_flipped(*name_from(connection)))
        if row is None:
            return None
        decoded = decode_row(row) if isinstance(row, bytes) else row
        if not isinstance(decoded, Connection):
            return None
        owner = self._owners.get(decoded.inode) if decoded.inode else None
        return decoded if owner is None else decoded._replace(owner=owner)


def other_ends_of(
    ours: Reading[Mapping[TcpState, Detail]], others: Reading[Mapping[TcpState, Detail]]
) -> OtherEnds:
    """Find the other ends of our connections among others."""
    wanted = {_flipped(*name) for name, _ in _each(ours)}
    found: dict[Ends, bytes | Connection] = {}
    for name, row in _each(others) if wanted else ():
        ends = _ends(*name)
        if ends in wanted:
            found.setdefault(ends, row)
    return OtherEnds(found)


def _each(
    details: Reading[Mapping[TcpState, Detail]],
) -> Iterator[tuple[tuple[int, bytes], bytes | Connection]]:
    for detail in () if isinstance(details, Missing) else details.values():
        rows: Iterable[bytes | Connection] = detail.connections
        if isinstance(detail.connections, KeptRows):
            rows = detail.connections.as_told() or rows
        for row in rows:
            yield name_of(row) if isinstance(row, bytes) else name_from(row), row


def _ends(family: int, name: bytes) -> Ends:
    source, target = _addresses(family, name)
    return name[:4] + source + target


def _flipped(family: int, name: bytes) -> Ends:
    source, target = _addresses(family, name)
    return name[2:4] + name[:2] + target + source


def _addresses(family: int, name: bytes) -> tuple[bytes, bytes]:
    """Our own and the other, out of struct inet_diag_sockid."""
    if family == _IPV4:
        return name[4:8], name[20:24]
    source, target = name[4:20], name[20:36]
    if source.startswith(_MAPPED) and target.startswith(_MAPPED):
        return source[12:], target[12:]
    return source, target


CONNECTION_STATES = tuple(state for state in COUNTED_STATES if state is not TcpState.LISTEN)

_ROWS = 20_000
"""Sockets per state that are kept one by one; of more, a uniform sample (Detail.total says so)."""
_OPTION_SOCKETS = 5_000
"""Connections whose options are read: 10 microseconds each."""
_OWNER_SECONDS = 5.0
"""Of CPU time for who asks once: a million descriptors are read in less."""
_STANDINGS = 50
"""Processes of which is read what keeps them running, half a millisecond each."""
_PROCESSES = 200
"""Processes described with unit and container, those with the most sockets at this port first."""

SYSCTLS = (
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_orphan_retries",
    "net.ipv4.tcp_rto_max_ms",
)

Row = TypeVar("Row", Connection, Listener)


class PortEvidence(NamedTuple):
    """One look at one port of one network namespace."""

    port: int
    uid: int
    """Effective uid of the user who asks."""
    listeners: Reading[tuple[Listener, ...]]
    """Those at this port, on any address."""
    listening: frozenset[Endpoint]
    """Every address and port of this namespace that is listened on; empty where that is unknown."""
    local: Reading[Mapping[TcpState, Detail]]
    """Sockets with this local port, in every state but LISTEN."""
    remote: Reading[Mapping[TcpState, int]]
    """How many sockets of this namespace are connected to this port, of this host or another."""
    options: Mapping[int, Reading[SocketOptions]]
    """By inode: all options of listeners, those that matter to bind() of other sockets."""
    processes: Mapping[int, Process]
    """Holders, by pid; not necessarily all of them."""
    lineages: Mapping[Holder, Reading[Lineage]]
    """Of holders, not necessarily all of them; those with low descriptors first."""
    rules: BindRules
    sysctls: Mapping[str, Reading[SysctlValue]]
    bound_seen: Reading[bool] = True
    """True, or Missing with the reason why a socket that is merely bound may have been overlooked."""
    unsure: frozenset[int] = frozenset()
    """Inodes of sockets in BOUND of which nothing tells whether they still hold their port."""
    udp: Reading[tuple[UdpSocket, ...]] = Missing("UDP sockets were not looked at")
    """UDP sockets on this port."""
    interfaces: Mapping[int, str] = {}
    """Names by index."""
    standings: Mapping[int, Reading[Standing]] = MappingProxyType({})
    """By pid: what keeps the topmost holders of these sockets running, and any systemd among them."""
    recorded: bool = False
    """It is a recording's: nobody can be asked by a probe."""
    booted_at: float = 0.0
    """When CLOCK_BOOTTIME was 0, in seconds since 1970: starts of processes are told by it."""
    groups: Mapping[int, str] = MappingProxyType({})
    """Paths of the control groups that listeners of a systemd were made in, by id: those of socket units."""
    redirects: Redirects = Redirects((), ("the rules of nft and iptables were not asked for",))
    """Rules that send the port elsewhere before any socket is looked up."""
    programs: Mapping[int, tuple[str, ...]] = MappingProxyType({})
    """By family, the hooks at which programs of eBPF decide about bind()."""
    programs_perhaps: str = ""
    """What tells that there are such programs where they could not be asked about."""
    guarded: Reading[tuple[Guarded, ...]] = ()
    """Control groups of which programs decide over bind() of others than who asks."""
    vrfs: Reading[Mapping[int, int]] = MappingProxyType({})
    """By index of an interface, the index of the VRF that it is of."""
    other_ends: OtherEnds = OtherEnds({})
    """The other ends of the port's connections where they are sockets of this namespace too."""
    given_away: frozenset[int] = frozenset()
    """Inodes of listeners that were given to another user after they were made."""
    unread: str = ""
    """Why these sockets may have holders that were not found; empty where everything was read that can be."""

    @property
    def rows(self) -> list[Connection]:
        """The sockets with this local port that are known one by one, listeners left out."""
        return connections(self.local)

    @property
    def pids(self) -> set[int]:
        """The processes that hold sockets at this port, as far as they are known."""
        listeners = () if isinstance(self.listeners, Missing) else self.listeners
        owners = [*(row.owner for row in listeners), *(row.owner for row in self.rows)]
        return {holder.pid for owner in owners if isinstance(owner, Held) for holder in owner.holders}


def seen_by(evidence: PortEvidence, uid: int | None) -> PortEvidence:
    """The same look for another user: his uid, and his right to privileged ports; None: for who asked."""
    if uid is None or uid == evidence.uid:
        return evidence
    return evidence._replace(uid=uid, rules=evidence.rules._replace(privileged=privilege_of(uid)))


class PortLook(NamedTuple):
    """All that is read to answer about a port."""

    evidence: PortEvidence
    samples: "Samples | None"
    """Two looks at the host as `check` takes them; None for a port that nobody uses: no rule is asked."""
    who: Identity
    taken_at: float
    """Of `evidence`, in seconds since 1970."""


def take_port_look(port: int, protocol: Literal["tcp", "udp"], *, window: float) -> PortLook:
    """Look at the host twice, `window` seconds apart, where somebody uses the port, and then at the port.

    The two looks take their time, and the port shall be told as it is afterwards.
    """
    samples = _samples(read_port_use(port), window)
    evidence = read_port_evidence(port, owner_seconds=_OWNER_SECONDS, protocol=protocol)
    # what is merely bound shows to the closer look alone
    samples = samples or _samples(_use(evidence.listeners, _totals(evidence.local), evidence.remote), window)
    return PortLook(evidence, samples, read_identity(), moment())


def _samples(use: "PortUse", window: float) -> "Samples | None":
    if use is PortUse.NONE:
        return None
    from tcpdoctor.kernel.live import take_samples

    return take_samples(window, every_listener=use is PortUse.LISTENING)


class PortUse(Enum):
    """Whether there is anything at a port."""

    NONE = "no socket has it, here or as the port of its peer"
    SOME = "there are sockets, and nobody listens; or it could not be seen"
    LISTENING = "somebody listens, or it could not be seen whether anybody does"


def read_port_use(port: int) -> PortUse:
    """Look whether a port of the calling thread's network namespace is used; who uses it is not looked up."""
    listeners = read_listeners(local_port=port)
    if isinstance(listeners, Missing) or listeners:
        return PortUse.LISTENING  # and connections, which take long to list, tell nothing more
    local = read_connections(CONNECTION_STATES, local_port=port, bound=1)
    remote = read_connections(CONNECTION_STATES, remote_port=port, bound=1)
    return _use(listeners, _totals(local), _totals(remote))


def _use(
    listeners: Reading[Sequence[Listener]],
    local: Reading[Mapping[TcpState, int]],
    remote: Reading[Mapping[TcpState, int]],
) -> PortUse:
    if isinstance(listeners, Missing) or listeners:
        return PortUse.LISTENING
    if isinstance(local, Missing) or isinstance(remote, Missing):
        return PortUse.SOME
    used = any(total for side in (local, remote) for total in side.values())
    return PortUse.SOME if used else PortUse.NONE


def read_port_evidence(
    port: int,
    *,
    owner_seconds: float = 1.0,
    ways: Sequence[Way] = WAYS,
    protocol: Literal["tcp", "udp"] = "tcp",
) -> PortEvidence:
    """Look at a port of the calling thread's network namespace, for the calling user.

    The search for holders ends after `owner_seconds`, and so does that for sockets that no listing has; who
    was not found by then is Missing. `ways` forces a way to list sockets; only tests need to.

    What cannot be read is Missing, each part on its own; nothing is taken as zero.
    """
    every_listener = read_listeners(ways=ways)
    listeners: Reading[tuple[Listener, ...]]
    if isinstance(every_listener, Missing):
        listeners, listening = every_listener, frozenset[Endpoint]()
    else:
        listeners = tuple(row for row in every_listener if row.local.port == port)
        listening = frozenset(row.local for row in every_listener)
    local, remote = _read_both_sides(port, ways)
    ends = other_ends_of(local, remote)
    local, unlisted = _with_unlisted(local, port, owner_seconds)
    udp = read_udp_sockets(local_port=port)
    owners, unread = _find_owners(listeners, local, ends, udp, owner_seconds)
    if not isinstance(listeners, Missing):
        listeners = with_owners(listeners, owners)
    rules = read_bind_rules()
    return PortEvidence(
        port=port,
        uid=asking_uid(),
        listeners=listeners,
        listening=listening,
        local=_owned(local, owners),
        remote=_totals(remote),
        options=_read_options(listeners, local, udp, owners),
        processes=_read_processes(owners.values()),
        lineages=_read_lineages(owners.values()),
        rules=rules,
        sysctls=read_sysctls(SYSCTLS),
        bound_seen=unlisted.complete,
        unsure=frozenset(row.inode for row in unlisted.ended),
        udp=udp if isinstance(udp, Missing) else with_owners(udp, owners),
        interfaces={index: clean(name) for name, index in interface_indexes().items()},
        standings=read_standings(_topmost(owners.values()), _ports_by_inode(every_listener)),
        recorded=is_recording(),
        booted_at=booted_at(),
        groups=_groups_of_systemd(listeners),
        redirects=read_redirects(port, protocol, rules.addresses),
        other_ends=ends.owned_by(owners),
        programs={family: find_programs("bind", family) for family in (4, 6)},
        programs_perhaps=sign_of_programs("bind"),
        guarded=find_guarded_groups(),
        vrfs=read_vrfs(),
        given_away=_given_away(listeners),
        unread=unread,
    )


def _read_both_sides(
    port: int, ways: Sequence[Way]
) -> tuple[Reading[Mapping[TcpState, Detail]], Reading[Mapping[TcpState, Detail]]]:
    """The sockets that have the port, and those whose peers have it."""
    states = CONNECTION_STATES
    local = read_connections(states, local_port=port, bound=_ROWS, undecoded=states, ways=ways)
    remote = read_connections(states, remote_port=port, bound=_ROWS, undecoded=states, ways=ways)
    return local, remote


def _totals(details: Reading[Mapping[TcpState, Detail]]) -> Reading[Mapping[TcpState, int]]:
    if isinstance(details, Missing):
        return details
    sampled = "; ".join(one.reason for one in details.values() if one.reason)
    return Missing(sampled) if sampled else {state: one.total for state, one in details.items()}


def _ports_by_inode(listeners: Reading[Sequence[Listener]]) -> Mapping[int, int]:
    """Say which port each listener of this namespace is on; nothing where they could not be listed."""
    return {} if isinstance(listeners, Missing) else {row.inode: row.local.port for row in listeners}


def _with_unlisted(
    local: Reading[Mapping[TcpState, Detail]], port: int, seconds: float
) -> tuple[Reading[Mapping[TcpState, Detail]], Unlisted]:
    """Add what no listing has where the kernel does not list bound sockets; nothing where it does."""
    if isinstance(local, Missing) or TcpState.BOUND in local:
        return local, Unlisted((), (), complete=True)
    unlisted = find_unlisted(port=port, seconds=seconds)
    rows = (*unlisted.bound, *unlisted.ended)
    return ({**local, TcpState.BOUND: Detail(rows, len(rows))} if rows else local), unlisted


def connections(detail: Reading[Mapping[TcpState, Detail]]) -> list[Connection]:
    """Return the sockets that are known one by one; none where there is nothing to be had."""
    if isinstance(detail, Missing):
        return []
    return [row for one in detail.values() for row in one.connections]


def _find_owners(
    listeners: Reading[tuple[Listener, ...]],
    local: Reading[Mapping[TcpState, Detail]],
    ends: OtherEnds,
    udp: Reading[tuple[UdpSocket, ...]],
    seconds: float,
) -> EveryHolder:
    """Find the holders of the port's sockets, and of those that are the other end of one of them."""
    wanted: dict[int, int] = {row.inode: row.uid for row in connections(local) if row.inode}
    wanted |= ends.inodes()
    if not isinstance(listeners, Missing):
        wanted |= {row.inode: row.uid for row in listeners if row.inode}
    if not isinstance(udp, Missing):
        wanted |= {row.inode: row.uid for row in udp if row.inode}
    return find_every_holder(wanted, seconds=seconds) if wanted else EveryHolder({})


def _owned(
    detail: Reading[Mapping[TcpState, Detail]], owners: Mapping[int, Owner]
) -> Reading[Mapping[TcpState, Detail]]:
    if isinstance(detail, Missing):
        return detail
    return {
        state: one._replace(connections=with_owners(one.connections, owners)) for state, one in detail.items()
    }


def _read_options(
    listeners: Reading[tuple[Listener, ...]],
    local: Reading[Mapping[TcpState, Detail]],
    udp: Reading[tuple[UdpSocket, ...]],
    owners: Mapping[int, Owner],
) -> dict[int, Reading[SocketOptions]]:
    found: dict[int, Reading[SocketOptions]] = {}
    if not isinstance(listeners, Missing):
        found |= _options_of([row.inode for row in listeners], owners, None)
    if not isinstance(udp, Missing):
        datagram = [row.inode for row in udp[:_OPTION_SOCKETS]]
        found |= _options_of(datagram, owners, (*BIND_OPTIONS, "SO_BINDTODEVICE"))
    live = [row.inode for row in connections(local) if row.inode]
    return found | _options_of(live[:_OPTION_SOCKETS], owners, BIND_OPTIONS)


def _options_of(
    inodes: Iterable[int], owners: Mapping[int, Owner], names: Iterable[str] | None
) -> dict[int, Reading[SocketOptions]]:
    """Ask each socket through its first holder that lets us."""
    found: dict[int, Reading[SocketOptions]] = {}
    waiting = {inode: list(owner.holders) for inode in inodes if isinstance(owner := owners.get(inode), Held)}
    while waiting:
        asked = {Descriptor(h[0].pid, h[0].fd, inode): inode for inode, h in waiting.items()}
        for descriptor, answer in read_options(asked, names).items():
            found[descriptor.inode] = answer
        waiting = {i: h[1:] for i, h in waiting.items() if isinstance(found[i], Missing) and len(h) > 1}
    return found


def _read_processes(owners: Iterable[Owner]) -> dict[int, Process]:
    sockets: dict[int, int] = {}
    for owner in owners:
        if isinstance(owner, Held):
            for holder in owner.holders:
                sockets[holder.pid] = sockets.get(holder.pid, 0) + 1
    busiest = sorted(sockets, key=lambda pid: (-sockets[pid], pid))[:_PROCESSES]
    found = {pid: read_process(pid) for pid in busiest}
    return {pid: process for pid, process in found.items() if not isinstance(process, Missing)}


def _groups_of_systemd(listeners: Reading[tuple[Listener, ...]]) -> Mapping[int, str]:
    """Systemd makes the sockets of a unit in the unit's group, where the kernel can filter by it."""
    rows = () if isinstance(listeners, Missing) else listeners
    held = [row for row in rows if isinstance(row.owner, Held) and isinstance(row.cgroup, int)]
    ids = [row.cgroup for row in held if any(h.name in ("systemd", "init") for h in _holders(row))]
    return find_cgroup_paths([one for one in ids if isinstance(one, int)])


def _given_away(listeners: Reading[tuple[Listener, ...]]) -> frozenset[int]:
    """Those that fchown() may have been called of: until then a socket's file has no time of change.

    It has one too where the kernel uses an inode again of which that was called.
    """
    rows = () if isinstance(listeners, Missing) or is_recording() else listeners
    return frozenset(row.inode for row in rows if any(_was_changed(row.inode, h) for h in _holders(row)[:1]))


def _was_changed(inode: int, holder: Holder) -> bool:
    try:
        status = os.stat(f"/proc/{holder.pid}/fd/{holder.fd}")
    except OSError:
        return False  # gone, or not ours to look at
    return status.st_ino == inode and status.st_ctime_ns != 0


def _holders(row: Listener) -> tuple[Holder, ...]:
    return row.owner.holders if isinstance(row.owner, Held) else ()


_BESIDE_SYSTEMD = 8


def _topmost(owners: Iterable[Owner]) -> list[int]:
    """Return whose standing matters: of each socket the topmost holder, or a systemd and whom it gave it."""
    wanted: dict[int, None] = {}
    for owner in owners:
        if isinstance(owner, Held):
            wanted[owner.holders[0].pid] = None
            if any(holder.name in ("systemd", "init") for holder in owner.holders):
                wanted |= {holder.pid: None for holder in owner.holders[:_BESIDE_SYSTEMD]}
    return list(wanted)[:_STANDINGS]


def _read_lineages(owners: Iterable[Owner]) -> dict[Holder, Reading[Lineage]]:
    """Read the traces of each holder; a connection has one, a listener may have many."""
    holders = [holder for owner in owners if isinstance(owner, Held) for holder in owner.holders]
    holders.sort(key=lambda holder: holder.fd)  # listeners are opened first
    lineages: dict[Holder, Reading[Lineage]] = {}
    of_process: dict[int, Lineage] = {}
    for holder in holders[:_PROCESSES]:
        lineages[holder] = found = read_lineage(holder.pid, holder.fd, known=of_process.get(holder.pid))
        if not isinstance(found, Missing):
            of_process[holder.pid] = found
    return lineages
