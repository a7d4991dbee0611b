"""Of very many sockets the few that have been in their state the longest, without decoding the others.

The kernel tells no age. What bounds it (`age_in_one_look` in tcpdoctor.facts.socketset) are numbers at fixed
places of a row: by those the rows of one state are put in order here, and only what is kept is ever decoded.
"""

from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappushpop

from tcpdoctor.kernel.sock_diag_rows import INFO, find_attribute
from tcpdoctor.kernel.states import TcpState

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
