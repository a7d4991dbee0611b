"""Facts of half-open connections (SYN_RECV) by listener.

A request socket says which local address and port it came to, not whose it is; that follows from the
rule by which the kernel finds a listener, as for connections that were never accepted. Listeners that
share an address (SO_REUSEPORT) share the request sockets as far as one can see.

A client that was answered with a SYN cookie leaves no request socket: there is nothing to be counted, and
the queue then stays at its limit. With Fast Open and TCP_DEFER_ACCEPT a client may have answered and its
request socket still be there.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tcpdoctor.facts.earlier import partly
from tcpdoctor.facts.socketset import NONE, most_common, plain_address
from tcpdoctor.facts.value import Range, Value
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Listener, Snapshot
from tcpdoctor.kernel.states import TcpState

_SHARED = (
    "listeners that share an address (SO_REUSEPORT) share its half-open connections, "
    "and the kernel does not tell which has which"
)

FindPlace = Callable[[Connection], "tuple[int, str, int, int] | None"]


class HalfOpen(NamedTuple):
    """What is known of the half-open connections of one place in one look."""

    sockets: Sequence[Connection]
    unseen: int
    """Sockets in SYN_RECV that were not looked at and may belong here."""
    sharers: int
    """Listeners at this place."""
    reason: str

    def number(self) -> Value:
        """How many this listener has; between none and all where several share them."""
        found = len(self.sockets)
        low = found if self.sharers == 1 else 0
        high = found + self.unseen
        return low if low == high else Range(low, high, self.reason or _SHARED)


def half_open_at(
    snapshot: Snapshot | None, find: FindPlace, places: Mapping[tuple[int, str, int, int], int]
) -> Reading[Mapping[tuple[int, str, int, int], HalfOpen]]:
    """The half-open connections of every place that somebody listens at; `places` counts the listeners."""
    if snapshot is None:
        return Missing("needs two samples")
    detail = snapshot.detail
    if isinstance(detail, Missing):
        return detail
    sockets = detail.get(TcpState.SYN_RECV)
    if sockets is None:
        return Missing("sockets in SYN_RECV were not read one by one")
    by_place: dict[tuple[int, str, int, int], list[Connection]] = {place: [] for place in places}
    for connection in sockets.connections:
        place = find(connection)
        if place in by_place:
            by_place[place].append(connection)
    unseen = sockets.total - len(sockets.connections)
    reason = partly(sockets, TcpState.SYN_RECV) if unseen else ""
    return {place: HalfOpen(rows, unseen, places[place], reason) for place, rows in by_place.items()}


def queue_limit(listener: Listener, snapshot: Snapshot) -> Value:
    """How many half-open connections fit (tcp_conn_request() in net/ipv4/tcp_input.c).

    The queue is full above the backlog. Without SYN cookies a quarter of tcp_max_syn_backlog is kept
    for clients that are known already.
    """
    limit = listener.accept_limit
    if isinstance(limit, Missing):
        return limit
    cookies = snapshot.sysctls.get("net.ipv4.tcp_syncookies", Missing("tcp_syncookies was not read"))
    most = snapshot.sysctls.get("net.ipv4.tcp_max_syn_backlog", Missing("tcp_max_syn_backlog was not read"))
    if isinstance(cookies, Missing):
        return cookies
    if cookies:
        return limit
    if isinstance(most, Missing):
        return most
    return min(limit, most - (most >> 2)) if isinstance(most, int) else Missing("no number")


def least(now: Value, before: Value) -> Value:
    """The smaller of two counts; that of now where there is no earlier one."""
    if isinstance(before, Missing) or isinstance(now, Missing):
        return now
    low, high = _ends(now), _ends(before)
    ends = min(low[0], high[0]), min(low[1], high[1])
    return ends[0] if ends[0] == ends[1] else Range(*ends, low[2] or high[2])


def repeated(found: HalfOpen) -> Value:
    """Those whose SYN+ACK was sent again."""
    return found._replace(sockets=[row for row in found.sockets if row.retransmits]).number()


def peers(found: HalfOpen) -> Value:
    """Addresses that they came from: ``198.51.100.7 (812), 198.51.100.9 (3) and 14 more``."""
    numbers = Counter(plain_address(row.remote.address) for row in found.sockets)
    return most_common(numbers) if numbers else NONE


def _ends(number: Value) -> tuple[float, float, str]:
    if isinstance(number, Range):
        return number.low, number.high, number.reason
    assert isinstance(number, int)  # noqa: S101 - counts are whole, or ranges
    return number, number, ""
