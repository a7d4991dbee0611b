"""A look at one port in the form that the facts of `check` are computed from."""

import os
import time
from collections import Counter
from collections.abc import Mapping

from tcpdoctor.kernel.counters import read_counters
from tcpdoctor.kernel.live import DETAILED_STATES, Identity
from tcpdoctor.kernel.port_evidence import CONNECTION_STATES, PortEvidence, connections, plain
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Census, Destination, DestinationUse, Detail, Snapshot
from tcpdoctor.kernel.sockstat import read_sockstat
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.sysctl import read_sysctls


def port_snapshot(evidence: PortEvidence, who: Identity, taken_at: float) -> Snapshot:
    """Complete the evidence by the host's settings and counters.

    Its census, listeners and sockets are those of the port, and of connections to it, only: good for
    facts of this listener, port and these destinations, and for no fact of the host that counts sockets.
    """
    return Snapshot(
        taken_at=taken_at,
        clock=time.clock_gettime(time.CLOCK_BOOTTIME),
        host=who.host,
        kernel=who.kernel,
        namespace=who.namespace,
        namespace_name=who.namespace_name,
        initial_namespace=who.initial_namespace,
        euid=who.euid,
        sysctls=read_sysctls(),
        counters=read_counters(),
        sockstat=read_sockstat(),
        census=_census(evidence),
        listeners=evidence.listeners,
        detail=_detail(evidence),
        processes=evidence.processes,
        page_size=os.sysconf("SC_PAGE_SIZE"),
    )


def _census(evidence: PortEvidence) -> Reading[Census]:
    local, listeners = evidence.local, evidence.listeners
    if isinstance(local, Missing):
        return local
    if isinstance(listeners, Missing):
        return listeners
    by_state: dict[TcpState, int] = {
        state: local[state].total for state in CONNECTION_STATES if state in local
    }
    by_state[TcpState.LISTEN] = len(listeners)
    bound: Reading[int] = Missing("this kernel does not list bound sockets")
    if TcpState.BOUND in by_state:
        bound = by_state.pop(TcpState.BOUND)
    return Census(
        by_state=by_state,
        bound=bound,
        by_port={(state, evidence.port): number for state, number in by_state.items() if number},
        by_destination=_by_destination(evidence),
        source="sock_diag",
        complete=True,
    )


def _by_destination(evidence: PortEvidence) -> dict[Destination, DestinationUse]:
    """Sockets to this port elsewhere whose own port is ephemeral and not listened on."""
    match evidence.sysctls.get("net.ipv4.ip_local_port_range"):
        case (int(low), int(high)):
            pass
        case _:
            return {}
    listening = {end.port for end in evidence.listening}
    total: Counter[Destination] = Counter()
    waiting: Counter[Destination] = Counter()
    for row in connections(evidence.remote):
        if row.local.port in listening or not low <= row.local.port <= high:
            continue
        end = Destination(plain(row.local).address, plain(row.remote).address, row.remote.port)
        total[end] += 1
        waiting[end] += row.state is TcpState.TIME_WAIT
    return {end: DestinationUse(number, waiting[end]) for end, number in total.items()}


def _detail(evidence: PortEvidence) -> Reading[Mapping[TcpState, Detail]]:
    """Sockets from this port; of those to it only the attempts, which are facts of a destination."""
    if isinstance(evidence.local, Missing):
        return evidence.local
    detail = {state: evidence.local[state] for state in DETAILED_STATES if state in evidence.local}
    if not isinstance(evidence.remote, Missing) and TcpState.SYN_SENT in evidence.remote:
        detail[TcpState.SYN_SENT] = evidence.remote[TcpState.SYN_SENT]
    return detail
