"""What the numbers of one connection tell: who began it, and how long something has lasted on it."""

import math

from tcpdoctor.facts.ports import Roles
from tcpdoctor.facts.socketset import ONLY_BOUNDS, Age
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import (
    Connection,
    TcpInfo,
    plain_address,
)
from tcpdoctor.kernel.states import TcpState, Timer

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


_LEAST_TIMEOUT = 0.004
"""Where tcp_info is not known: a route's rto_min and tcp_rto_min_us allow as little as a clock tick."""


_LONGEST_TIMEOUT = 120.0
"""TCP_RTO_MAX, and the most that tcp_rto_max_ms may be."""


_TICK = 0.01


def is_lost_by_size(row: Connection) -> bool:
    """Whether full segments are lost on the way to a peer that is there: small ones pass.

    A full segment was sent again and again; and the peer has said since then that it got something behind
    it (SACK), or has sent or acknowledged something. From a peer that is gone nothing comes any more.

    Where all that is on its way is full, nothing can come. Then it was small ones that passed, all of them
    ever, and the last was acknowledged just before: a peer that died of itself did not wait for this one.
    """
    info = row.info
    if isinstance(info, Missing) or row.timer is not Timer.RETRANSMIT or not info.mss:
        return False
    if row.send_queue - info.notsent < info.mss:
        return False
    retrying = _retrying_for(row, info)
    if info.sacked > 0 or min(info.last_ack_recv, info.last_data_recv) + _TICK < retrying:
        return True
    only_small = not isinstance(info.bytes, Missing) and 1 < info.bytes.acked <= info.mss
    return only_small and info.last_ack_recv - retrying < _JUST_BEFORE


_JUST_BEFORE = 1.0
"""Seconds between the last acknowledgement and the first sending of what is lost, as between a request's head
and its body; the waits of retransmission are known to a fraction of that."""


def _retrying_for(row: Connection, info: TcpInfo) -> float:
    """How long the same segment has been sent again: the timeout is the last wait, and doubled each time."""
    return info.rto * (1 - 0.5**row.retransmits) + max(0.0, info.rto - row.expires)


def unanswered_age(row: Connection) -> Age:
    """Bound the time since the segment or probe that is sent again and again was sent first."""
    probes = row.timer is Timer.PROBE
    if isinstance(row.info, Missing):
        waits = [min(_LEAST_TIMEOUT * 2**n, _LONGEST_TIMEOUT) for n in range(row.retransmits - probes)]
        return Age(sum(waits), math.inf, row.info.reason)
    if probes:
        waits = _probe_waits(row.info)[-row.retransmits :]
        passed = sum(waits[:-1]) + max(0.0, waits[-1] - row.expires)
    else:
        passed = _retrying_for(row, row.info)
    high = row.info.last_ack_recv + _TICK
    return Age(min(passed, high), high, ONLY_BOUNDS)


def lost_by_size_age(row: Connection) -> Age:
    """Bound the time since the full segment that is lost again and again was sent first.

    The peer answers other segments meanwhile, so only the retransmissions tell.
    """
    if isinstance(row.info, Missing):
        return Age(0.0, math.inf, row.info.reason)
    return Age(_retrying_for(row, row.info), math.inf, ONLY_BOUNDS)


def closed_window_age(row: Connection) -> Age:
    """Bound the time since the peer closed its window."""
    if isinstance(row.info, Missing):
        return Age(0.0, math.inf, row.info.reason)
    waits = _probe_waits(row.info)
    passed = sum(waits[:-1]) + max(0.0, waits[-1] - row.expires)
    high = row.info.last_data_sent + _TICK
    return Age(min(passed, high), high, ONLY_BOUNDS)


def _probe_waits(info: TcpInfo) -> list[float]:
    """The waits between probes up to now, in seconds: unlike a retransmission's, `rto` stays as it is."""
    return [min(info.rto * 2**n, _LONGEST_TIMEOUT) for n in range(info.backoff + 1)]


def unread_age(row: Connection) -> Age:
    """The time since data last came in of which some is still unread: all that is, is at least that old."""
    if isinstance(row.info, Missing):
        return Age(0.0, math.inf, row.info.reason)
    return Age(row.info.last_data_recv, row.info.last_data_recv, "")


SMALL_ANSWER = 16_384
"""Bytes. What a pooled connection of a client may hold unread until it is used again: TLS session tickets,
settings of HTTP/2, "408 Request Timeout"."""


def is_left_unread(row: Connection, roles: Roles) -> bool:
    """Whether a connection that was accepted holds data that nobody has read, or a client's a lot of it."""
    if not row.inode or not row.receive_queue:
        return False
    if row.receive_queue >= SMALL_ANSWER:
        return True
    ours = began_here(row)
    return not (roles.is_client(row) if isinstance(ours, Missing) else ours)


def idle_age(row: Connection) -> Age:
    """The time since data last went either way."""
    if isinstance(row.info, Missing):
        return Age(0.0, math.inf, row.info.reason)
    seconds = min(row.info.last_data_sent, row.info.last_data_recv)
    return Age(seconds, seconds, "")


def on_this_host(row: Connection) -> bool:
    """Whether the peer is surely on this host: its end is then closed with its process, and at once."""
    address = plain_address(row.remote.address)
    return address.startswith("127.") or address == "::1" or address == plain_address(row.local.address)


def silence_age(row: Connection) -> Age:
    """The time since anything went over a connection that the way notices: data, or an answered probe."""
    if isinstance(row.info, Missing):
        return Age(0.0, math.inf, row.info.reason)
    seconds = min(row.info.last_data_sent, row.info.last_data_recv, row.info.last_ack_recv)
    return Age(seconds, seconds, "")
