"""Which of very many sockets are worth a closer look: suspects in ESTABLISHED, and the oldest of a state.

The census marks the suspects; they are asked for tcp_info and memory, one by one. Of the oldest only those
that are kept are ever decoded.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heapify, heappushpop
from typing import TypeVar

from tcpdoctor.kernel.kept_rows import with_owners
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import ENDED, Connection, Detail, Established, Listener, NotHeld, Owner
from tcpdoctor.kernel.sock_diag import DumpRefusedError
from tcpdoctor.kernel.sock_diag_rows import (
    INFO,
    WITH_INFO,
    WITH_MEMORY,
    ask_again,
    decode_row,
    find_attribute,
    name_from,
    name_of,
)
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.kernel.tally import LARGE_QUEUE, UNANSWERED_RETRIES, EstablishedTally, Sample

T = TypeVar("T")

MOST_IDLE = 16
"""Of the sockets that have been idle for long so many owners are looked up: enough to name who."""
_LONG_IDLE = 3600.0
_LONG_UNREAD = 0.4


def look_closer(marked: EstablishedTally[bytes]) -> Established:
    """Ask about each marked row once; those that are gone, or well by now, are left out.

    Where the kernel does not answer about single sockets the rows are decoded as they were listed,
    without tcp_info and memory.

    Raises:
        KernelReadError: An answer makes no sense.
    """
    rows = {name_of(row): row for sample in _samples(marked) for row in sample.kept}
    try:
        current = {name_of(row): row for row in ask_again(rows, WITH_INFO | WITH_MEMORY)}
    except DumpRefusedError:
        current = rows
    decoded = {key: decode_row(row) for key, row in current.items()}
    return take_apart(marked, lambda row: decoded.get(name_of(row)))


def take_apart(
    marked: EstablishedTally[T], decode: Callable[[T], Connection | Listener | None]
) -> Established:
    """Decode the marked rows, kind by kind; of one that `decode` does not know nothing is said."""

    def known(sample: Sample[T], still: Callable[[Connection], bool] | None = None) -> Detail:
        decoded = [decode(row) for row in sample.kept]
        rows = tuple(
            row
            for row in decoded
            if isinstance(row, Connection) and row.state is TcpState.ESTABLISHED and (not still or still(row))
        )
        return Detail(rows, sample.total - len(sample.kept) + len(rows))

    return Established(
        marked.no_timer,
        marked.retransmitting,
        marked.keepalive,
        marked.probing,
        unanswered=known(marked.unanswered, is_unanswered),
        closed_window=known(marked.closed_window, _is_held_back),
        self_connected=known(marked.self_connected, lambda row: row.local == row.remote),
        large=known(marked.large, lambda row: max(row.receive_queue, row.send_queue) >= LARGE_QUEUE),
        sample=known(marked.sample),
        unread=known(marked.unread),
    )


def is_unanswered(row: Connection) -> bool:
    """Whether it has sent the same segment again and again, or as many probes that nobody answered.

    Of a socket that probes, the kernel tells the probes since the last answer (icsk_probes_out). They go
    unanswered where the peer fell silent with its window closed; and where this host itself drops what
    leaves it: a segment that netfilter refused at once was never sent, so it is probed for, and the peer's
    window may be wide open.
    """
    return row.timer in (Timer.RETRANSMIT, Timer.PROBE) and row.retransmits >= UNANSWERED_RETRIES


def _is_held_back(row: Connection) -> bool:
    """Whether the peer answers the probes, and what it says is that its window is closed."""
    return row.timer is Timer.PROBE and not is_unanswered(row)


def worth_an_owner(established: Established) -> list[Connection]:
    """The sockets whose owners are to be looked up: suspects, and a few that have been idle for long."""
    rows = [row for detail in _suspects(established) for row in detail.connections]
    if not isinstance(established.unread, Missing):
        rows += [row for row in established.unread.connections if _is_long_unread(row)]
    return rows + idle_longest(established)


def _is_long_unread(row: Connection) -> bool:
    """Whether what came in has waited for so long that it is worth knowing for whom."""
    return row.receive_queue > 0 and (
        isinstance(row.info, Missing) or row.info.last_data_recv >= _LONG_UNREAD
    )


def idle_longest(established: Established) -> list[Connection]:
    """Of the sample the MOST_IDLE without timer that have been idle longest, an hour at the least."""
    idle = [
        (idle_seconds(row), place)
        for place, row in enumerate(established.sample.connections)
        if row.timer is Timer.NONE and idle_seconds(row) >= _LONG_IDLE
    ]
    return [established.sample.connections[place] for _, place in sorted(idle, reverse=True)[:MOST_IDLE]]


def idle_seconds(row: Connection) -> float:
    """Seconds since data last went either way; 0 where the kernel did not tell."""
    return 0.0 if isinstance(row.info, Missing) else min(row.info.last_data_sent, row.info.last_data_recv)


PENDING = Missing("owner is looked up where something hangs on it")
"""Told from a socket whose owner is of no interest at all."""


def postpone_owners(established: Established) -> Established:
    """The same with `PENDING` for the owners that `fill_in_owners` would be given."""
    return fill_in_owners(
        established, {row.inode: PENDING for row in worth_an_owner(established) if row.inode}
    )


def fill_in_owners(established: Established, owners: Mapping[int, Owner]) -> Established:
    """The same with the owners that were found.

    A socket that nobody holds is asked about once more: one that was closed while its holder was
    searched for is left out.

    Raises:
        KernelReadError: An answer makes no sense.
    """
    unheld = {inode for inode, owner in owners.items() if isinstance(owner, NotHeld) or owner == ENDED}
    doubtful = [row for row in worth_an_owner(established) if row.inode in unheld and row.cookie]
    gone = {row.cookie for row in doubtful} - _cookies_of(doubtful)

    def own(detail: Detail) -> Detail:
        kept = [row for row in detail.connections if row.cookie not in gone]
        return Detail(with_owners(kept, owners), detail.total - len(detail.connections) + len(kept))

    details = [own(detail) for detail in _suspects(established)]
    return established._replace(
        unanswered=details[0],
        closed_window=details[1],
        self_connected=details[2],
        large=details[3],
        sample=own(established.sample),
        unread=established.unread if isinstance(established.unread, Missing) else own(established.unread),
    )


def _cookies_of(rows: list[Connection]) -> set[int]:
    """Which of these sockets are still there in ESTABLISHED; all where the kernel does not tell."""
    try:
        again = [decode_row(row) for row in ask_again(map(name_from, rows), 0)] if rows else []
    except DumpRefusedError:
        return {row.cookie for row in rows}
    return {row.cookie for row in again if isinstance(row, Connection) and row.state is TcpState.ESTABLISHED}


def _suspects(established: Established) -> tuple[Detail, Detail, Detail, Detail]:
    return (
        established.unanswered,
        established.closed_window,
        established.self_connected,
        established.large,
    )


def _samples(marked: EstablishedTally[bytes]) -> Iterable[Sample[bytes]]:
    return (
        marked.unanswered,
        marked.closed_window,
        marked.self_connected,
        marked.large,
        marked.sample,
        marked.unread,
    )


# The oldest. The kernel tells no age. What bounds it (`age_in_one_look` in tcpdoctor.facts.connection) are
# numbers at fixed places of a row: by those the rows of one state are put in order here.


_RETRANSMITS, _EXPIRES = 19, 68
"""Offsets in a row: struct inet_diag_msg after the 16 bytes of struct nlmsghdr."""
_LAST_DATA_SENT, _LAST_DATA_RECEIVED, _LAST_ACK_RECEIVED = 44, 52, 56
"""Offsets in struct tcp_info of times in milliseconds."""


class Oldest:
    """Keeps the `bound` rows of one state that have been in it longest, in the order in which they came.

    Where nothing tells how old one is, as of established connections, the first ones are kept.
    """

    def __init__(self, bound: int, state: TcpState) -> None:
        self.total = 0
        """How many rows there were."""
        self._bound = bound
        self._age = _AGES.get(state)
        self._state = state
        self._heap: list[tuple[int, int, bytes]] = []

    @property
    def kept(self) -> list[bytes]:
        """The rows that were kept."""
        return [row for _, _, row in sorted(self._heap, key=lambda one: -one[1])]

    def passes_over(self, number: int) -> bool:
        """Count so many more rows where none of them can be kept; else do nothing and return False."""
        if self._age is not None or len(self._heap) < self._bound:
            return False
        self.total += number
        return True

    def offer(self, data: bytes | bytearray, places: Sequence[int], stride: int = 0) -> None:
        """Look at the rows that begin at these offsets; `stride` is the length of all rows in `data`."""
        first, age = self.total, self._age
        self.total += len(places)
        room = max(0, self._bound - len(self._heap))
        for number, at in enumerate(places[:room]):
            row = bytes(data[at : at + _number(data, at)])
            self._heap.append((age(row, 0) if age else 0, -(first + number), row))
        if room and len(self._heap) == self._bound:
            heapify(self._heap)
        if age is None:
            return
        numbered: Iterable[tuple[int, int]] = enumerate(places[room:], first + room)
        if stride and self._state in _TIMES:
            numbered = self._not_younger(data, stride, [*numbered])
        for number, at in numbered:
            # of two that are as old the one that came first stays
            if (found := age(data, at)) > self._heap[0][0]:
                heappushpop(self._heap, (found, -number, bytes(data[at : at + _number(data, at)])))

    def _not_younger(
        self, data: bytes | bytearray, stride: int, numbered: list[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """Those of the rows, given by number and offset, whose lesser time is not below that of all kept.

        Two columns of a datagram tell it in a fifth of the time of one by one.
        """
        if not numbered:
            return numbered
        at = numbered[0][1]
        place = find_attribute(bytes(data[at : at + stride]), INFO)
        one, other = _TIMES[self._state]
        if place is None or place + max(one, other) + 4 > stride or stride % 4:
            return numbered
        words, step = memoryview(data).cast("I"), stride >> 2
        header = words[(at + place - 4) >> 2]
        lengths = words[(place - 4) >> 2 :: step]
        if any(lengths[at // stride] != header for _, at in numbered):
            return numbered
        ones, others = words[(place + one) >> 2 :: step], words[(place + other) >> 2 :: step]
        least = self._heap[0][0] >> 32
        return [each for each in numbered if ones[row := each[1] // stride] >= least and others[row] >= least]


def _number(data: bytes | bytearray, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _age_in_time_wait(data: bytes | bytearray, at: int) -> int:
    return -_number(data, at + _EXPIRES)


def _age_of_attempt(data: bytes | bytearray, at: int) -> int:
    """The more often its SYN was sent again the older, and then the sooner it is sent the next time."""
    return (data[at + _RETRANSMITS] << 32) - _number(data, at + _EXPIRES)


def _age_since(one: int, other: int) -> Callable[[bytes | bytearray, int], int]:
    """The lesser of two times of tcp_info, then the greater: without tcp_info that has no bound."""
    known = 0, b""  # where tcp_info began in the row before, and the header before it

    def age(data: bytes | bytearray, at: int) -> int:
        nonlocal known
        length, (place, header) = _number(data, at), known
        if not place or data[at + place - 4 : at + place] != header:
            found = find_attribute(bytes(data[at : at + length]), INFO)
            if found is None or found + other + 4 > length:
                return 0xFFFFFFFF
            place = found
            known = place, bytes(data[at + place - 4 : at + place])
        low, high = _number(data, at + place + one), _number(data, at + place + other)
        return low << 32 | high if low < high else high << 32 | low

    return age


_TIMES = {
    TcpState.CLOSE_WAIT: (_LAST_DATA_RECEIVED, _LAST_ACK_RECEIVED),
    TcpState.FIN_WAIT_2: (_LAST_DATA_SENT, _LAST_ACK_RECEIVED),
}
"""By state the two times that bound how long a socket has been in it."""

_AGES: dict[TcpState, Callable[[bytes | bytearray, int], int]] = {
    TcpState.TIME_WAIT: _age_in_time_wait,
    TcpState.SYN_SENT: _age_of_attempt,
} | {state: _age_since(*times) for state, times in _TIMES.items()}
