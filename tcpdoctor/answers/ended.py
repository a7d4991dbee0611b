"""What is told of connections that have ended: one by one, and what they amount to.

`tcpdoctor.answers.trace` makes these records; `explain --port --trace` tells the summary as well.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from tcpdoctor.answers.record import Count, Is, Pid, PortNumber, Reasons, Seconds
from tcpdoctor.diagnosis.endings import First, Side
from tcpdoctor.kernel.reading import Reading
from tcpdoctor.named_tuples import NamedTuple


class StateTime(NamedTuple):
    """How long a connection was in one state."""

    state: Annotated[str, Is("As tcpdoctor states calls it: fin_wait_2.")]
    seconds: Annotated[
        Seconds | None, Is("Null where it began before the trace, or went on in a minisocket.")
    ]


class EndedConnection(NamedTuple):
    """One end of a connection that has ended; null is not known."""

    type: Literal["connection"]
    local: Annotated[str, Is("Address and port: 10.0.0.9:8080, [::1]:8080.")]
    remote: Annotated[str, Is("The same; the port is 0 where it was not known any more.")]
    closed_first: First | None
    pid: Annotated[Pid | None, Is("Of the process that closed it, opened it, or listens for such.")]
    name: str | None
    reason: Annotated[str | None, Is("Why it ended otherwise than by close() at both ends, in words.")]
    states: Annotated[tuple[StateTime, ...], Is("In their order; TIME_WAIT is no state of a socket.")]
    bytes_in: Count | None
    bytes_out: Count | None
    rtt_s: Seconds | None
    retransmissions: Count | None
    idle_at_close_s: Annotated[
        Seconds | None, Is("Without data in either direction, when it was closed first.")
    ]


class ResetCount(NamedTuple):
    """How many resets there were for one reason."""

    by: Annotated[Literal["here", "peer"], Is("Whose resets these are.")]
    reason: str
    number: Count


class IdleEnding(NamedTuple):
    """One side ends connections that were idle for about one time: its keep-alive timeout."""

    by: Annotated[Literal["here", "peer"], Is("Which side ends them.")]
    idle_s: Seconds
    alike: Annotated[int, Is("Connections that it ended after about that time.", minimum=0)]
    of: Annotated[int, Is("Connections that it ended, where the idle time is known.", minimum=0)]
    other_keeps_s: Annotated[
        Seconds | None, Is("Up to how long the other side's program was seen to use idle connections again.")
    ]
    requests_reset: Annotated[int, Is("Requests of the other side that met a reset.", minimum=0)]


class ProgramEndings(NamedTuple):
    """What ended of one program, at one service's port; null is not known, or the rest of very many."""

    name: str | None
    pids: Annotated[tuple[Pid, ...], Is("The first eight that were seen.")]
    side: Annotated[Side | None, Is("accepted: it listens at this port; opened: it connects to it.")]
    port: PortNumber | None
    connections: Count
    closed_first_here: Count
    closed_first_by_peer: Count
    reset_here: Count
    reset_by_peer: Count
    never_established: Count
    resets: Annotated[
        tuple[ResetCount, ...], Is("All resets, also of connections that had been closed first.")
    ]


class PeerEndings(NamedTuple):
    """What ended with one peer; null is the rest of very many."""

    address: str | None
    side: Annotated[Side | None, Is("Who began them: accepted from it, or opened to it.")]
    port: Annotated[PortNumber | None, Is("The service's: the peer's where opened, ours where accepted.")]
    name: Annotated[str | None, Is("The program here that has most of them.")]
    connections: Count
    closed_first_here: Count
    closed_first_by_peer: Count
    reset_here: Count
    reset_by_peer: Count
    never_established: Count
    failures: Annotated[Mapping[str, int], Is("Why some were never established, in words, and how many.")]
    idle: Annotated[tuple[IdleEnding, ...], Is("Who ends idle connections after how long.")]


class TraceSummary(NamedTuple):
    """The last that `tcpdoctor trace --format json` prints: what ended in all."""

    type: Literal["summary"]
    schema: Literal["tcpdoctor.trace/1"]
    seconds: Seconds
    connections: Annotated[int, Is("Ends in this network namespace: two where both are here.", minimum=0)]
    closed_first_here: Reading[Count]
    closed_first_by_peer: Reading[Count]
    reset_here: Reading[Count]
    reset_by_peer: Reading[Count]
    never_established: Reading[Count]
    still_open: Reading[Count]
    events_lost: Annotated[int, Is("Events and messages that found no room: numbers are too low.", minimum=0)]
    by_process: tuple[ProgramEndings, ...]
    by_peer: tuple[PeerEndings, ...]
    missing: Reasons
