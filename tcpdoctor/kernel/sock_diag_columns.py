"""Take whole columns out of a netlink datagram: little is done once per socket.

A datagram's rows mostly have one length, so that the n-th byte of every row is one strided
slice, and counting is `bytes.count`. Where lengths mix (TIME_WAIT has no attributes, an IPv6
listener one more) their beginnings have been found one by one, at 0.1 us a socket; that is less than
a second listing costs, which besides would miss or count twice what moves in between.
"""

import socket
import struct
from collections.abc import Iterable
from itertools import chain, compress
from operator import itemgetter

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.sock_diag import Rows
from tcpdoctor.kernel.tally import Column, GroupTally, Key, StateTally, both

_FAMILY, _STATE, _LOCAL_PORT, _REMOTE_PORT = 16, 17, 20, 22
"""Offsets in a row: struct inet_diag_msg after the 16 bytes of struct nlmsghdr."""
_KEY_BYTES = {int(socket.AF_INET): 22, int(socket.AF_INET6): 34}
_IS_OF = {family: bytes(number == family for number in range(256)) for family in _KEY_BYTES}


def add_states(tally: StateTally, rows: Rows) -> None:
    """Count the rows by state.

    Raises:
        KernelReadError: A state that was not asked for.
    """
    (column,) = _columns(rows, _STATE)
    tally.add(column)


def add_groups(states: StateTally, groups: GroupTally, rows: Rows) -> None:
    """Count the rows by state, by local port and by destination.

    Raises:
        KernelReadError: A state that was not asked for, or neither IPv4 nor IPv6.
    """
    families, column, high, low = _columns(rows, _FAMILY, _STATE, _LOCAL_PORT, _LOCAL_PORT + 1)
    if sum(map(families.count, _KEY_BYTES)) != len(families):
        raise KernelReadError("sock_diag: a socket that is neither IPv4 nor IPv6")
    states.add(column)
    groups.add(column, high, low, lambda marked: _keys(rows, families, marked))


def _columns(rows: Rows, *places: int) -> list[Column]:
    """The bytes at these places of every row, a column for each place."""
    data, end = rows.data, rows.end
    if rows.stride:
        return [data[place : end : rows.stride] for place in places]
    if len(rows.offsets) == 1:  # of a single item itemgetter() makes no tuple
        return [data[at : at + 1] for at in (rows.offsets[0] + place for place in places)]
    pick = itemgetter(*rows.offsets)
    return [bytes(pick(data[place:end])) for place in places]


def _keys(rows: Rows, families: Column, marked: bytes) -> Iterable[Key]:
    """The destination keys of the marked rows, in any order."""
    parts = []
    for family, size in _KEY_BYTES.items():
        count = families.count(family)
        if count:
            alike = count == len(families)
            mine = marked if alike else both(marked, families.translate(_IS_OF[family]))
            parts.append(_slices(rows, size, mine))
    return parts[0] if len(parts) == 1 else chain.from_iterable(parts)


def _slices(rows: Rows, size: int, marked: bytes) -> Iterable[Key]:
    if rows.stride:
        layout = f"{_REMOTE_PORT}x{size}s{rows.stride - _REMOTE_PORT - size}x"
        every = struct.iter_unpack(layout, memoryview(rows.data)[: rows.end])
        return compress(chain.from_iterable(every), marked)
    data = bytes(memoryview(rows.data)[_REMOTE_PORT : rows.end])
    return [data[at : at + size] for at in compress(rows.offsets, marked)]
