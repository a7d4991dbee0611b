"""A light look: all sockets counted in one walk, and who is who of those that may leak.

`take_snapshot` asks the kernel for every socket once to count them and once to know those in closing states
one by one, and the kernel goes through its whole table each time. Here one listing gives both, with no more
of each socket than its identity, so that who looks on for hours costs a host little.
"""

import time
from collections.abc import Mapping, Sequence

from tcpdoctor.kernel.counters import read_counters, read_sockstat
from tcpdoctor.kernel.kept_rows import Handle, KeptRows
from tcpdoctor.kernel.live import boottime, ports_of
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Census, Listener, Snapshot
from tcpdoctor.kernel.sockets import Handles, read_listeners, take_census
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.named_tuples import NamedTuple

HELD_STATES = (TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_2)
"""States that a process can leave its sockets in for ever."""
_NO_COOKIES: Missing = Missing("/proc/net/tcp does not tell which socket is which")


class Pulse(NamedTuple):
    """What a light look saw."""

    taken_at: float
    """Seconds since 1970, UTC."""
    clock: float
    """CLOCK_BOOTTIME in seconds when the counters were read."""
    counters: Reading[Mapping[str, int]]
    sockstat: Reading[Mapping[str, int]]
    listeners: Reading[tuple[Listener, ...]]
    census: Reading[Census]
    """Without what is told of established connections one by one."""
    held: Reading[Mapping[TcpState, Sequence[Handle]]]
    """The sockets of `HELD_STATES`; fewer than the census counts where they are very many."""


def take_pulse(known: Snapshot) -> Pulse:
    """Look once, at the network namespace and with the settings of an earlier look.

    Raises:
        KernelReadError: The kernel answered in a way we do not understand.
    """
    taken_at, clock = time.time(), boottime()
    counted, sockstat, listeners = read_counters().counters, read_sockstat(), read_listeners()
    ephemeral, listening, reserved = ports_of(known.sysctls, listeners)
    handles = Handles(HELD_STATES)
    census = take_census(ephemeral, listening, reserved=reserved, handles=handles)
    return Pulse(
        taken_at,
        clock,
        counted,
        sockstat,
        listeners,
        census,
        census if isinstance(census, Missing) else handles.found if handles.told else _NO_COOKIES,
    )


def pulse_of(look: Snapshot) -> Pulse:
    """Return what a whole look, or a recording of one, tells of the same."""
    return Pulse(
        look.taken_at,
        look.clock,
        look.counters,
        look.sockstat,
        look.listeners,
        look.census,
        _handles_of(look),
    )


def _handles_of(look: Snapshot) -> Reading[Mapping[TcpState, Sequence[Handle]]]:
    if isinstance(look.detail, Missing):
        return look.detail
    found: dict[TcpState, Sequence[Handle]] = {}
    for state in HELD_STATES:
        if state not in look.detail:
            return Missing("they were not read one by one")
        rows = look.detail[state].connections
        if isinstance(rows, KeptRows):
            found[state] = rows.handles()
        else:
            found[state] = [Handle(row.cookie, row.inode, row.uid) for row in rows]
    return found
