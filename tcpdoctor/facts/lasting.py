"""Which sockets in a passing state are stuck there.

FIN_WAIT_1, LAST_ACK, CLOSING and SYN_SENT last for one round trip and a delayed ACK, some 60 ms on a
healthy link; FIN_WAIT_1 also for as long as unsent data drains after close(). So a single look
proves nothing. A socket is stuck where nobody answers it:

- it was there in the same state at least `LASTING_SECONDS` ago and the peer has acknowledged
  nothing since (its send queue is the same), or
- it has retransmitted `PROOF_BY_RETRIES` times in a row, which takes 1.4 s even at the smallest
  timeout of 200 ms, or has probed a closed window as often without an answer.

One whose peer answers and keeps its window closed is none of these: a client that reads in gulps looks
like that for seconds, and is well. How long such a window has been closed is told apart from them.
"""

from collections.abc import Iterable

from tcpdoctor.facts.earlier import Earlier, partly
from tcpdoctor.facts.socketset import SocketSet, Unsure, join_reasons
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Detail
from tcpdoctor.kernel.states import TcpState, Timer

LASTING_SECONDS = 0.9
"""The default window of 1 s, less what reading takes; far above a round trip with a delayed ACK."""

PROOF_BY_RETRIES = 3


def lasting(detail: Reading[Detail], state: TcpState, earlier: Earlier) -> Reading[SocketSet]:
    """The sockets stuck in one state: those with proof, and those of which it cannot be told.

    Missing if the sockets of that state were not read.
    """
    if isinstance(detail, Missing):
        return detail
    stuck = split(detail.connections, earlier)
    unseen = detail.total - len(detail.connections)
    if not unseen:
        return stuck
    reasons = join_reasons(filter(None, [stuck.reason, partly(detail, state)]))
    return stuck._replace(unseen=unseen, reason=reasons)


def split(connections: Iterable[Connection], earlier: Earlier) -> SocketSet:
    """Separate the sockets that are stuck from those that may be; the others are left out."""
    sure: list[Connection] = []
    maybe: list[Connection] = []
    reasons: dict[str, None] = {}
    for connection in connections:
        verdict = _is_stuck(connection, earlier)
        if isinstance(verdict, Missing):
            maybe.append(connection)
            reasons[verdict.reason] = None
        elif verdict:
            sure.append(connection)
    return SocketSet(sure, Unsure(maybe), 0, join_reasons(reasons))


def _is_stuck(connection: Connection, earlier: Earlier) -> Reading[bool]:
    if connection.retransmits >= PROOF_BY_RETRIES:
        return True
    if connection.timer is Timer.PROBE:
        return False
    before = earlier.find(connection)
    if isinstance(before, Missing) or isinstance(earlier.elapsed, Missing):
        return before if isinstance(before, Missing) else False
    if before is None:
        return False
    if earlier.elapsed < LASTING_SECONDS:
        return Missing("needs two samples that are a second apart")
    return before.send_queue == connection.send_queue


def waits_for_a_window(connection: Connection) -> bool:
    """Whether the peer keeps its window closed and is there: it answered one of the last three probes."""
    return connection.timer is Timer.PROBE and connection.retransmits < PROOF_BY_RETRIES
