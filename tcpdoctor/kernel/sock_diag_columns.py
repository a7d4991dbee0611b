"""Take whole columns out of a netlink datagram: little is done once per socket.

A datagram's rows mostly have one length, so that the n-th byte of every row is one strided
slice, and counting is `bytes.count`. Where lengths mix (TIME_WAIT has no attributes, an IPv6
listener one more) their beginnings have been found one by one, and what is needed of each row is copied into
rows of one length, at 0.15 us a socket in all; that is less than a second listing costs, which
besides would miss or count twice what moves in between.
"""

import functools
import socket
import struct
import sys
from collections.abc import Iterable
from itertools import chain, compress

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.established import Columns, EstablishedTally
from tcpdoctor.kernel.sock_diag import HEAD, Rows
from tcpdoctor.kernel.tally import Column, GroupTally, Key, KeysWhere, StateTally, both

_FAMILY, _STATE, _TIMER, _RETRIES, _LOCAL_PORT, _REMOTE_PORT = 16, 17, 18, 19, 20, 22
_RECEIVE_QUEUE, _SEND_QUEUE = 72, 76
"""Offsets in a row: struct inet_diag_msg after the 16 bytes of struct nlmsghdr."""
_BYTE_2, _BYTE_3 = (2, 3) if sys.byteorder == "little" else (1, 0)
"""Where the bytes worth 65,536 and 16,777,216 lie in a word."""
_AT_ONCE = 32
_KEY_BYTES = {int(socket.AF_INET): 22, int(socket.AF_INET6): 34}
_IS_OF = {family: bytes(number == family for number in range(256)) for family in _KEY_BYTES}


def add_states(tally: StateTally, rows: Rows) -> None:
    """Count the rows by state.

    Raises:
        KernelReadError: A state that was not asked for.
    """
    rows = align(rows)
    tally.add(rows.data[_STATE : rows.end : rows.stride])


def add_groups(states: StateTally, groups: GroupTally, rows: Rows) -> None:
    """Count the rows by state, by local port and by destination.

    Raises:
        KernelReadError: A state that was not asked for, or neither IPv4 nor IPv6.
    """
    data, end, stride, *_ = rows = align(rows)
    families, column = data[_FAMILY:end:stride], data[_STATE:end:stride]
    if sum(map(families.count, _KEY_BYTES)) != len(families):
        raise KernelReadError("sock_diag: a socket that is neither IPv4 nor IPv6")
    states.add(column)
    high, low = data[_LOCAL_PORT:end:stride], data[_LOCAL_PORT + 1 : end : stride]
    groups.add(column, high, low, _keys(rows, families))


def add_established(tally: EstablishedTally[bytes], rows: Rows) -> None:
    """Count the rows in ESTABLISHED by timer, and keep those worth a second look."""
    aligned = align(rows)
    data, end, stride, *_ = aligned

    def column(place: int) -> Column:
        return data[place:end:stride]

    def row_at(place: int) -> bytes:
        at = place * stride
        return bytes(data[at : at + HEAD])

    tally.add(
        Columns(
            column(_STATE),
            column(_TIMER),
            column(_RETRIES),
            (column(_LOCAL_PORT), column(_LOCAL_PORT + 1), column(_REMOTE_PORT), column(_REMOTE_PORT + 1)),
            (
                column(_RECEIVE_QUEUE + _BYTE_2),
                column(_RECEIVE_QUEUE + _BYTE_3),
                column(_SEND_QUEUE + _BYTE_2),
                column(_SEND_QUEUE + _BYTE_3),
            ),
        ),
        row_at,
    )


def align(rows: Rows) -> Rows:
    """The same rows with one length, if need be cut to their heads; done twice it costs nothing more."""
    if rows.stride:
        return rows
    heads = rows.heads or b"".join([rows.data[at : at + HEAD] for at in rows.offsets])
    return Rows(heads, len(heads), HEAD)


def _keys(rows: Rows, families: Column) -> KeysWhere:
    unpacked: dict[int, tuple[Key, ...]] = {}

    def keys_where(marked: bytes) -> Iterable[Key]:
        parts = []
        for family, size in _KEY_BYTES.items():
            count = families.count(family)
            if count:
                alike = count == len(families)
                mine = marked if alike else both(marked, families.translate(_IS_OF[family]))
                if size not in unpacked:
                    unpacked[size] = tuple(_unpack(rows, size))
                parts.append(compress(unpacked[size], mine))
        return parts[0] if len(parts) == 1 else chain.from_iterable(parts)

    return keys_where


def _unpack(rows: Rows, size: int) -> Iterable[Key]:
    """The key of every row, as if all were of the family whose keys have this size."""
    one, many = _key_layouts(rows.stride, size)
    data, end = memoryview(rows.data), rows.end
    tail = end - end % many.size
    return chain.from_iterable(chain(many.iter_unpack(data[:tail]), one.iter_unpack(data[tail:end])))


@functools.cache
def _key_layouts(stride: int, size: int) -> tuple[struct.Struct, struct.Struct]:
    """How to take the key out of one row, and out of many rows: that takes a fifth of the time for each."""
    layout = f"{_REMOTE_PORT}x{size}s{stride - _REMOTE_PORT - size}x"
    return struct.Struct(layout), struct.Struct(layout * _AT_ONCE)
