"""Who began a connection: this socket by connect(), or its peer."""

from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection
from tcpdoctor.kernel.states import TcpState

_FIN_QUEUED = frozenset((TcpState.FIN_WAIT_1, TcpState.CLOSING, TcpState.LAST_ACK))
"""Our FIN is in the send queue, or on its way."""
_NO_NUMBERS = Missing("its numbers of bytes do not fit each other")
_NO_CONNECTION = Missing("it is no connection")


def began_here(row: Connection) -> Reading[bool]:
    """Whether connect() was called on this socket; False where it came from accept().

    The kernel keeps no note of it, but its numbers do: what this end has put into the sequence of the
    connection, less the data, is 1 where it sent a SYN of its own and 0 where its SYN-ACK preceded the
    socket (tcp_create_openreq_child() starts behind it). That is bytes acknowledged, and sent but not
    acknowledged, less the data sent once; our FIN counts one as well, from when it is sent. It holds for
    TCP Fast Open and for simultaneous opens, which both ends began.

    Missing for sockets without tcp_info (TIME_WAIT and other minisockets), before Linux 4.19, for a
    socket that is merely bound, and where the numbers do not fit each other: they were read while data
    moved, or this host itself refused segments on their way out (netfilter, a full queueing discipline),
    which count as sent and were not. One such segment of a single byte makes connect() look like accept().
    """
    if row.state is TcpState.SYN_SENT:
        return True
    if row.state is TcpState.BOUND:
        return _NO_CONNECTION
    if isinstance(row.info, Missing):
        return row.info
    moved = row.info.bytes
    if isinstance(moved, Missing):
        return moved
    on_its_way = max(0, row.send_queue - row.info.notsent)
    beyond_data = moved.acked + on_its_way - (moved.sent - moved.retransmitted) - _fin_sent(row)
    return bool(beyond_data) if beyond_data in (0, 1) else _NO_NUMBERS


def _fin_sent(row: Connection) -> int:
    """Our FIN, if it was sent: it is the last in the queue, so it waits as long as anything does."""
    if isinstance(row.info, Missing) or row.state is TcpState.FIN_WAIT_2:
        return row.state is TcpState.FIN_WAIT_2
    return row.state in _FIN_QUEUED and row.info.notsent == 0
