"""Everything about one port that the kernel tells: its sockets, who holds them, with which options.

Nothing is bound, connected or written here, and only sockets of the port are listed: the kernel
filters them.
"""

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

from tcpdoctor.kernel.bind_rules import BindRules, read_bind_rules
from tcpdoctor.kernel.lineage import Lineage, read_lineage
from tcpdoctor.kernel.owners import find_owners, with_owners
from tcpdoctor.kernel.processes import read_process
from tcpdoctor.kernel.reading import Missing, Reading
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
)
from tcpdoctor.kernel.sockets import read_connections, read_listeners
from tcpdoctor.kernel.sockopts import BIND_OPTIONS, Descriptor, SocketOptions, read_options
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState
from tcpdoctor.kernel.sysctl import read_sysctls

CONNECTION_STATES = tuple(state for state in COUNTED_STATES if state is not TcpState.LISTEN)

_ROWS = 20_000
"""Sockets per state that are kept one by one; of more, a uniform sample (Detail.total says so)."""
_OPTION_SOCKETS = 5_000
"""Connections whose options are read: 10 microseconds each."""
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
    remote: Reading[Mapping[TcpState, Detail]]
    """Sockets of this namespace that are connected to this port, of this host or another."""
    options: Mapping[int, Reading[SocketOptions]]
    """By inode: all options of listeners, those that matter to bind() of other sockets."""
    processes: Mapping[int, Process]
    """Holders, by pid; not necessarily all of them."""
    lineages: Mapping[Holder, Reading[Lineage]]
    """Of the listeners' holders."""
    rules: BindRules
    sysctls: Mapping[str, Reading[SysctlValue]]


def read_port_evidence(port: int, *, owner_seconds: float = 1.0) -> PortEvidence:
    """Look at a port of the calling thread's network namespace, for the calling user.

    The search for holders ends after `owner_seconds`; who was not found by then is Missing.

    What cannot be read is Missing, each part on its own; nothing is taken as zero.
    """
    every_listener = read_listeners()
    listeners: Reading[tuple[Listener, ...]]
    if isinstance(every_listener, Missing):
        listeners, listening = every_listener, frozenset[Endpoint]()
    else:
        listeners = tuple(row for row in every_listener if row.local.port == port)
        listening = frozenset(row.local for row in every_listener)
    local = read_connections(CONNECTION_STATES, local_port=port, bound=_ROWS)
    remote = read_connections(CONNECTION_STATES, remote_port=port, bound=_ROWS)
    owners = _find_owners(listeners, local, remote, owner_seconds)
    if not isinstance(listeners, Missing):
        listeners = with_owners(listeners, owners)
    return PortEvidence(
        port=port,
        uid=os.geteuid(),
        listeners=listeners,
        listening=listening,
        local=_owned(local, owners),
        remote=_owned(remote, owners),
        options=_read_options(listeners, local, owners),
        processes=_read_processes(owners.values()),
        lineages=_read_lineages(() if isinstance(listeners, Missing) else listeners),
        rules=read_bind_rules(),
        sysctls=read_sysctls(SYSCTLS),
    )


def connections(detail: Reading[Mapping[TcpState, Detail]]) -> list[Connection]:
    """Return the sockets that are known one by one; none where there is nothing to be had."""
    if isinstance(detail, Missing):
        return []
    return [row for one in detail.values() for row in one.connections]


def _find_owners(
    listeners: Reading[tuple[Listener, ...]],
    local: Reading[Mapping[TcpState, Detail]],
    remote: Reading[Mapping[TcpState, Detail]],
    seconds: float,
) -> Mapping[int, Owner]:
    """Find the holders of the port's sockets, and of those that are the other end of one of them."""
    ours = connections(local)
    ends = {(plain(row.remote), plain(row.local)) for row in ours}
    peers = [row for row in connections(remote) if (plain(row.local), plain(row.remote)) in ends]
    wanted: dict[int, int] = {row.inode: row.uid for row in (*ours, *peers) if row.inode}
    if not isinstance(listeners, Missing):
        wanted |= {row.inode: row.uid for row in listeners if row.inode}
    return find_owners(wanted, seconds=seconds, every_holder=True) if wanted else {}


def plain(end: Endpoint) -> Endpoint:
    """Return the endpoint with an IPv4-mapped address as IPv4, so that both ends compare equal."""
    return end._replace(address=end.address.removeprefix("::ffff:")) if "." in end.address else end


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
    owners: Mapping[int, Owner],
) -> dict[int, Reading[SocketOptions]]:
    found: dict[int, Reading[SocketOptions]] = {}
    if not isinstance(listeners, Missing):
        found |= _options_of([row.inode for row in listeners], owners, None)
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


def _read_lineages(listeners: Iterable[Listener]) -> dict[Holder, Reading[Lineage]]:
    holders = [h for row in listeners if isinstance(row.owner, Held) for h in row.owner.holders]
    return {holder: read_lineage(holder.pid, holder.fd) for holder in holders[:_PROCESSES]}
