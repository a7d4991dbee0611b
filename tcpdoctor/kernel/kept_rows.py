"""Sockets known one by one and kept as the kernel told them: decoded when somebody looks at one.

Twenty thousand sockets take 100 ms and 20 MB to decode, and of most that wait in a closing state nothing is
asked but how old the oldest can be. That is a column of numbers at a fixed place of every row.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, TypeVar, overload

from tcpdoctor.kernel.reading import Reading
from tcpdoctor.kernel.snapshot import Connection, Listener, Owner, UdpSocket
from tcpdoctor.kernel.sock_diag_rows import (
    CGROUP_ID,
    INFO,
    address_of,
    cgroup_of,
    decode_row,
    find_attribute,
    inode_of,
    owner_of,
)
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.named_tuples import NamedTuple

_FAMILY, _LOCAL_PORT, _REMOTE_PORT, _REMOTE = 16, 20, 22, 40
_INODE, _UID, _RECEIVE_QUEUE, _SEND_QUEUE, _COOKIE = 84, 80, 72, 76, 60
"""Offsets in a row: struct inet_diag_msg after the 16 bytes of struct nlmsghdr."""
_LAST_DATA_SENT, _LAST_DATA_RECEIVED, _LAST_ACK_RECEIVED = 44, 52, 56
"""Offsets in struct tcp_info of times in milliseconds."""
_INFO_HEADER = 4
_TIMER, _KEEPALIVE = 18, int(Timer.KEEPALIVE)
_HANDLE = struct.Struct("=Q12xII")
"""The cookie, and behind timer and queues uid and inode."""
_NO_INODE = bytes(4)
_INODE_OF = struct.Struct(f"={_INODE}xI")
_AT_ONCE = 2_000
"""Rows that are joined at a time: more would take as much memory again."""
_PER_SECOND = 1e3


class Handle(NamedTuple):
    """What tells one socket from all others, and what its owner is searched by."""

    cookie: int
    inode: int
    """0: no file refers to it."""
    uid: int


def handle_at(data: bytes | bytearray, at: int) -> Handle:
    """Return who it is whose row begins there."""
    cookie, uid, inode = _HANDLE.unpack_from(data, at + _COOKIE)
    return Handle(cookie, inode, uid)


class KeptSocket(NamedTuple):
    """The same, and what else a search for its owner asks for."""

    cookie: int
    inode: int
    uid: int
    cgroup: Reading[int]
    row: bytes


K = TypeVar("K")
Row = TypeVar("Row", Connection, Listener, UdpSocket)
_Columns: TypeAlias = "tuple[memoryview[int], memoryview[int], memoryview[int], memoryview[int]]"


class KeptRows(Sequence[Connection]):
    """Connections in one state; whoever looks at one has all of them decoded, once."""

    def __init__(self, rows: list[bytes], state: TcpState, owners: Mapping[int, Owner] | None = None) -> None:
        self._rows = rows
        self.state = state
        self._owners = owners
        self._latest: list[KeptRows] | None = None
        self._decoded: tuple[Connection, ...] | None = None
        self._parts: dict[Callable[[Owner], object], dict[object, KeptRows]] = {}

    def __len__(self) -> int:
        return len(self._rows) if self._decoded is None else len(self._decoded)

    @overload
    def __getitem__(self, place: int) -> Connection: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Connection, ...]: ...
    def __getitem__(self, place: int | slice) -> Connection | tuple[Connection, ...]:
        return self._all()[place]

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return self._all() == tuple(other)

    def __hash__(self) -> int:
        return hash(self._all())

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        if self._decoded is None:  # rows travel between processes as they are
            return KeptRows, (self._rows, self.state, self._owners)
        return tuple, (self._decoded,)

    @property
    def decoded(self) -> bool:
        """Whether somebody has looked."""
        return self._decoded is not None

    @property
    def owned(self) -> bool:
        """Whether owners were searched for."""
        return self._owners is not None or self._decoded is not None

    def sought(self) -> "Iterator[KeptSocket | Connection]":
        """Those to which a file refers, for a search for their owners."""
        if self._decoded is not None:
            yield from (row for row in self._decoded if row.inode)
            return
        for row in self._rows:
            handle = handle_at(row, 0)
            if handle.inode:
                yield KeptSocket(*handle, cgroup_of(row), row)

    def uids(self) -> dict[int, int]:
        """By inode the uid of those to which a file refers; of rows that are not decoded."""
        found: dict[int, int] = {}
        for rows in self._blocks():
            words, step = _words(rows)
            found.update(zip(words[_INODE >> 2 :: step], words[_UID >> 2 :: step], strict=True))
        found.pop(0, None)
        return found

    def groups(self) -> set[Reading[int]]:
        """The control groups that made those to which a file refers; of rows that are not decoded."""
        found: set[Reading[int]] = set()
        for rows in self._blocks():
            at, (words, step) = find_attribute(rows[0], CGROUP_ID), _words(rows)
            if at is None or len(rows[0]) < at + 8 or not _is_same_in_all(words[at // 4 - 1 :: step]):
                found.update(cgroup_of(row) for row in rows if row[_INODE : _INODE + 4] != _NO_INODE)
                continue
            columns = words[_INODE >> 2 :: step], words[at // 4 :: step], words[at // 4 + 1 :: step]
            found.update(low | high << 32 for inode, low, high in {*zip(*columns, strict=True)} if inode)
        return found

    def with_owners(self, owners: Mapping[int, Owner]) -> "KeptRows":
        """The same, not decoded, with owners by inode."""
        return KeptRows([*self._rows], self.state, owners)  # which is emptied when they are decoded

    def owners(self) -> Iterator[tuple[int, Owner]]:
        """The inode of each that is not decoded, and its owner as far as it was searched for."""
        known = self._owners or {}
        for (inode,) in map(_INODE_OF.unpack_from, self._rows):
            yield inode, known[inode] if inode in known else owner_of(inode)

    def ends(self) -> Iterator[tuple[int, str, int]]:
        """The local port of each that is not decoded, and address and port of its other end."""
        for row in self._rows:
            local, remote = row[_LOCAL_PORT : _LOCAL_PORT + 2], row[_REMOTE_PORT : _REMOTE_PORT + 2]
            address = address_of(row[_FAMILY], row[_REMOTE : _REMOTE + 16])
            yield int.from_bytes(local, "big"), address, int.from_bytes(remote, "big")

    def parted(self, key: Callable[[Owner], K]) -> "dict[K, KeptRows]":
        """Those that are not decoded, in parts by what `key` makes of their owners.

        Only the part that was looked at last is kept decoded: somebody who tells of each, one after the
        other, needs no more. Who asks again with the same `key` is given the same parts.
        """
        if key in self._parts:
            return self._parts[key]  # type: ignore[return-value]  # it made them
        parts: dict[K, list[bytes]] = {}
        for row, (_, owner) in zip(self._rows, self.owners(), strict=True):
            parts.setdefault(key(owner), []).append(row)
        made = {part: KeptRows(rows, self.state, self._owners) for part, rows in parts.items()}
        latest: list[KeptRows] = []
        for part in made.values():
            part._latest = latest
        self._parts[key] = made  # type: ignore[assignment]
        return made

    def as_told(self) -> Sequence[bytes]:
        """The rows as the kernel told them; none where somebody has looked at one."""
        return self._rows

    def handles(self) -> list[Handle]:
        """Who is who, without decoding any."""
        if self._decoded is not None:
            return [Handle(row.cookie, row.inode, row.uid) for row in self._decoded]
        return [handle_at(row, 0) for row in self._rows]

    def without_file(self) -> Sequence[Connection]:
        """Those to which no file refers."""
        if self._decoded is not None:
            return [row for row in self._decoded if not row.inode]
        return self._each([row for row in self._rows if row[_INODE : _INODE + 4] == _NO_INODE])

    def with_file(self) -> "KeptRows":
        """Those to which a file refers."""
        rows = [row for row in self._rows if row[_INODE : _INODE + 4] != _NO_INODE]
        return KeptRows(rows, self.state, self._owners)

    def with_queue(self, least: int) -> Sequence[Connection]:
        """Those with so many bytes in a queue at least."""

        def is_long(row: bytes) -> bool:
            words = memoryview(row).cast("I")
            return max(words[_RECEIVE_QUEUE >> 2], words[_SEND_QUEUE >> 2]) >= least

        if self._decoded is not None:
            return [row for row in self._decoded if max(row.receive_queue, row.send_queue) >= least]
        return self._each([row for row in self._rows if is_long(row)])

    def highest_ages(self) -> Sequence[float] | None:
        """The most that each can have been in its state, in seconds, ascending, from this look alone.

        None where columns do not tell: in another state than CLOSE_WAIT and FIN_WAIT_2, or where the kernel
        does not describe each connection at the same place.
        """
        ages: list[int] = []
        for columns in self._times():
            if columns is None:
                return None
            ages += map(max, *columns[2:])
        ages.sort()
        return [age / _PER_SECOND for age in ages]

    def ages(self) -> list[tuple[int, float, float]] | None:
        """The cookie of each, and the least and the most that it can have been in its state.

        From this look alone; None as of `highest_ages`, and where a keepalive timer runs: it may tell more.
        """
        if any(row[_TIMER] == _KEEPALIVE for row in self._rows):
            return None
        ages: list[tuple[int, float, float]] = []
        for columns in self._times():
            if columns is None:
                return None
            for low, high, one, other in zip(*columns, strict=True):
                least, most = (one, other) if one < other else (other, one)
                ages.append((low | high << 32, least / _PER_SECOND, most / _PER_SECOND))
        return ages

    def _times(self) -> "Iterator[_Columns | None]":
        """Both halves of the cookies, and two times that bound an age, in milliseconds; None: not told."""
        places = {
            TcpState.CLOSE_WAIT: (_LAST_DATA_RECEIVED, _LAST_ACK_RECEIVED),
            TcpState.FIN_WAIT_2: (_LAST_DATA_SENT, _LAST_ACK_RECEIVED),
        }.get(self.state)
        if places is None or self._decoded is not None:
            yield None
            return
        for rows in self._blocks():
            yield _columns_of(rows, places)

    def _blocks(self) -> Iterator[list[bytes]]:
        """Those that are not decoded, in blocks of one length each."""
        lengths = set(map(len, self._rows))
        for length in lengths:
            alike = self._rows if len(lengths) == 1 else [row for row in self._rows if len(row) == length]
            for first in range(0, len(alike), _AT_ONCE):
                yield alike[first : first + _AT_ONCE]

    def _all(self) -> tuple[Connection, ...]:
        if self._decoded is None and self._latest is not None:
            for other in self._latest:
                other._decoded = None
            self._latest[:] = [self]
            self._decoded = tuple(self._each(self._rows))
        if self._decoded is None:
            self._rows.reverse()
            decoded = []
            while self._rows:  # each is let go of on the way: together both forms take half as much again
                decoded += self._each([self._rows.pop()])
            self._decoded = tuple(decoded)
        return self._decoded

    def _each(self, rows: Iterable[bytes]) -> list[Connection]:
        owner_of_inode = (self._owners or {}).get
        decoded = (decode_row(row, owner_of_inode(inode_of(row))) for row in rows)
        return [row for row in decoded if isinstance(row, Connection)]


def with_owners(rows: Iterable[Row], owners: Mapping[int, Owner]) -> tuple[Row, ...]:
    """Return the sockets with their owners filled in; those whose inode is not in `owners` as they are."""
    return tuple(
        row._replace(owner=owners[row.inode]) if row.inode and row.inode in owners else row for row in rows
    )


def without_file(rows: Sequence[Connection]) -> Sequence[Connection]:
    """Those of the connections to which no file refers."""
    return rows.without_file() if isinstance(rows, KeptRows) else [row for row in rows if not row.inode]


def with_queue(rows: Sequence[Connection], least: int) -> Sequence[Connection]:
    """Those of the connections with so many bytes in a queue at least."""
    if isinstance(rows, KeptRows):
        return rows.with_queue(least)
    return [row for row in rows if max(row.receive_queue, row.send_queue) >= least]


def _words(rows: list[bytes]) -> tuple["memoryview[int]", int]:
    """Rows of one length as numbers of 32 bits, and how many each has: netlink aligns all to them."""
    return memoryview(b"".join(rows)).cast("I"), len(rows[0]) // 4


def _is_same_in_all(column: "memoryview[int]") -> bool:
    return len(set(column.tolist())) == 1


def _columns_of(rows: list[bytes], places: tuple[int, int]) -> "_Columns | None":
    """The cookie and two numbers of struct tcp_info of each row; None where those are not there in each."""
    at = find_attribute(rows[0], INFO)
    if at is None or len(rows[0]) < at + places[1] + 4:
        return None
    words, step = _words(rows)
    if not _is_same_in_all(words[(at - _INFO_HEADER) // 4 :: step]):
        return None
    beginnings = (_COOKIE, _COOKIE + 4, at + places[0], at + places[1])
    low, high, one, other = (words[place // 4 :: step] for place in beginnings)
    return low, high, one, other
