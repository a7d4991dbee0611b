"""Every TCP socket of the calling thread's network namespace, counted by peer or by process.

Memory is bounded: beyond MOST_PEERS the rarest peers are counted together, and owners are looked up
for MOST_OWNED sockets at most.
"""

import _socket as socket  # what is around it takes 3 ms to import, and is not needed
import os
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from tcpdoctor.kernel.listing import (
    WAYS,
    Way,
    bound_reading,
    each_row,
    first_answer,
    list_rows,
    read_proc_rows,
)
from tcpdoctor.kernel.namespaces import replayed
from tcpdoctor.kernel.owners import find_owners
from tcpdoctor.kernel.processes import read_name, read_status
from tcpdoctor.kernel.reading import UNDERWAY, Missing, Reading
from tcpdoctor.kernel.snapshot import MAPPED, Connection, Held, Listener, Owner
from tcpdoctor.kernel.sock_diag import Request, Rows
from tcpdoctor.kernel.sock_diag_rows import align
from tcpdoctor.kernel.sockets import StateCounts
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState
from tcpdoctor.kernel.tally import LISTED_STATES

MOST_PEERS = 16_384
MOST_OWNED = 100_000
"""Looking up the owner of one socket takes some hundred bytes."""

NO_PEER = "no peer: listening or merely bound"
OTHER_PEERS = "other peers"
NO_PROCESS = "held by no process"
GONE = "gone while they were looked up"
NOT_LOOKED_UP = f"not looked up: only the first {MOST_OWNED} were"

_EVERYTHING = Request(sum(1 << state for state in (*LISTED_STATES, TcpState.BOUND, TcpState.NEW_SYN_RECV)))
_STATE, _FAMILY, _REMOTE, _UID, _INODE = 17, 16, 40, 80, 84
"""Offsets in a row: struct inet_diag_msg after the 16 bytes of struct nlmsghdr."""
_ADDRESS_BYTES = {int(socket.AF_INET): 4, int(socket.AF_INET6): 16}
_STATES = {int(state): state for state in LISTED_STATES} | {int(TcpState.CLOSE): TcpState.BOUND}
"""By the number in a row."""
_NUMBERS = {state: number for number, state in _STATES.items()}
_LINKS_BETWEEN_CLOCKS = 512

_Tally = TypeVar("_Tally", "_PeerTally", "_OwnerTally")
_Take = Callable[[TcpState, bytes, int, int], None]
"""Takes a socket's state, remote address as bytes, inode and uid."""


class Group(NamedTuple):
    """The sockets of one peer or process."""

    key: str
    states: Mapping[TcpState, int]


class Groups(NamedTuple):
    """Every socket counted, in all and by group."""

    counts: StateCounts
    groups: tuple[Group, ...]
    """The largest first; each socket is in exactly one."""
    folded: bool = False
    """Whether some groups were too many to keep apart: then the number of a peer is a lower bound."""


@replayed
def count_by_peer() -> Reading[Groups]:
    """Count the sockets by the address at their other end; IPv4 and its mapped form are one peer."""
    found = _tallied(_PeerTally)
    if isinstance(found, Missing):
        return found
    tally, way, complete = found
    counted = {(_peer_name(address), state): number for (address, state), number in tally.counts.items()}
    counted |= {(OTHER_PEERS, state): number for state, number in tally.others.items()}
    return Groups(_totals(counted, way, complete), _grouped(counted), folded=bool(tally.others))


@replayed
def count_by_process(*, seconds: float = 5.0) -> Reading[Groups]:
    """Count the sockets by the process that holds them: ``nginx (811)``.

    A socket that several processes share counts for the topmost of them. Where an owner cannot be
    found the key is ``unknown:`` and the reason. Looking for owners takes `seconds` at most.
    """
    found = _tallied(_OwnerTally)
    if isinstance(found, Missing):
        return found
    tally, way, complete = found
    counted: Counter[tuple[str, TcpState]] = Counter()
    begun = time.thread_time()
    for key, states in held_by_topmost(tally.held, seconds):
        counted.update({(key, _STATES[number]): many for number, many in states.items()})
    left = seconds - (time.thread_time() - begun)
    owners = find_owners(dict.fromkeys(tally.held, 0), seconds=max(1.0, left))
    present = _listed(inode for inode, owner in owners.items() if owner_key(owner) == NO_PROCESS)
    for inode, number in tally.held.items():
        key = owner_key(owners[inode])
        counted[GONE if key == NO_PROCESS and inode not in present else key, _STATES[number]] += 1
    counted.update({(NO_PROCESS, state): number for state, number in tally.unheld.items()})
    counted.update({(NOT_LOOKED_UP, state): number for state, number in tally.beyond.items()})
    return Groups(_totals(counted, way, complete), _grouped(counted))


@replayed
def count_holders(states: Iterable[TcpState], *, seconds: float) -> Reading[tuple[Group, ...]]:
    """Count the sockets in some states by the process that holds them; of those whose holder is found soon.

    The kernel lists no others. What belongs to no process is a group, too; what was not found by then, or is
    hidden, is in none. The search takes about `seconds` of CPU time.
    """
    found = _tallied(_OwnerTally, Request(sum(1 << _NUMBERS[state] for state in states)))
    if isinstance(found, Missing):
        return found
    tally = found[0]
    counted = {
        (key, _STATES[number]): many
        for key, kinds in held_by_topmost(tally.held, seconds)
        for number, many in kinds.items()
    }
    return _grouped(counted | {(NO_PROCESS, state): number for state, number in tally.unheld.items()})


def _tallied(
    new: Callable[[], _Tally], asked: Request = _EVERYTHING
) -> tuple[_Tally, Way, Reading[bool]] | Missing:
    """Show every socket that was asked for to a tally, a new one for each way that is tried."""

    def look(way: Way) -> tuple[_Tally, bool]:
        tally = new()
        if way is not Way.PROC:
            return tally, list_rows(way, asked, tally.take_rows)

        def take(state: TcpState, address: bytes, inode: int, uid: int) -> None:
            if asked.states >> _NUMBERS[state] & 1:
                tally.take(state, address, inode, uid)

        return tally, _each_socket(way, take)

    return first_answer(WAYS, look)


def held_by_topmost(held: dict[int, int], seconds: float) -> Iterator[tuple[str, Counter[int]]]:
    """Count sockets by process, parents before their children, and take out of `held` those that were found.

    So a socket counts for the topmost of those that share it, at the price of a link for each. What is left
    is held by processes that hide it or came later, or by none.

    Args:
        held: By inode what is to be counted; emptied as they are found.
        seconds: Budget of CPU time.

    Yields:
        What a process is called, and how many of each kind it holds.
    """
    UNDERWAY.begin("owners found", len(held))
    deadline = time.thread_time() + seconds
    for pid in _parents_first():
        if not held or UNDERWAY.is_interrupted or time.thread_time() > deadline:
            return
        try:
            folder = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue  # it hides or is gone: the search for what is left says so
        taken: list[int] = []
        kinds: list[int] = []
        try:
            _take_out(held, folder, deadline, taken, kinds)
            if taken:
                name = f"{read_name(pid)} ({pid})"
                _prove_alive(folder)
                yield name, Counter(kinds)
        except OSError:
            held.update(zip(taken, kinds, strict=True))  # it ended: whoever has them now is found later
        finally:
            os.close(folder)


def _take_out(held: dict[int, int], folder: int, deadline: float, taken: list[int], kinds: list[int]) -> None:
    """Take what a process holds out of `held`, and put it into `taken`, in the order of `kinds`."""
    readlink = os.readlink
    with os.scandir(folder) as entries:  # one at a time: a process may have a million
        for number, entry in enumerate(entries, start=1):
            if not number % _LINKS_BETWEEN_CLOCKS:
                UNDERWAY.done = UNDERWAY.of - len(held)
                if UNDERWAY.is_interrupted or time.thread_time() > deadline:
                    return
            try:
                link = readlink(entry.name, dir_fd=folder)
            except FileNotFoundError:
                continue  # closed since it was listed
            if link.startswith("socket:["):
                inode = int(link[8:-1])
                kind = held.pop(inode, None)
                if kind is not None:
                    taken.append(inode)
                    kinds.append(kind)


def _prove_alive(folder: int) -> None:
    """See that the process of a table of descriptors has not ended, so that its number is still its own.

    Raises:
        OSError: It has.
    """
    with os.scandir(folder) as entries:
        next(entries, None)


def _pids() -> list[int]:
    return sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def _parents_first() -> list[int]:
    """Every process that /proc shows, none before the one that began it."""
    parents: dict[int, int] = {}
    for pid in _pids():
        try:
            parents[pid] = read_status(pid)["PPid"]
        except OSError:
            continue  # it ended
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent if parent in parents else 0, []).append(pid)
    ordered = children.get(0, [])
    for pid in ordered:  # which grows on the way
        ordered += children.get(pid, ())
    return ordered


class _PeerTally:
    """Sockets by remote address and state."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[bytes, TcpState]] = Counter()
        self.others: Counter[TcpState] = Counter()

    def take(self, state: TcpState, address: bytes, inode: int, uid: int) -> None:  # noqa: ARG002 - a _Take
        self._add(state, address, 1)

    def take_rows(self, rows: Rows) -> None:
        """Count the sockets of a datagram: a peer costs a call, a socket a tenth of one."""
        data, end, stride, *_ = align(rows)
        families = data[_FAMILY:end:stride]
        if families.count(socket.AF_INET) == len(families):
            keys = bytearray(8 * len(families))
            for place in range(4):
                keys[place::8] = data[_REMOTE + place : end : stride]
            keys[4::8] = data[_STATE:end:stride]
            for key, number in Counter(memoryview(keys).cast("Q")).items():
                plain = key.to_bytes(8, sys.byteorder)
                self._add(_STATES[plain[4]], plain[:4], number)
            return
        row = struct.Struct(f"{_FAMILY}xBB{_REMOTE - _STATE - 1}x16s{stride - _REMOTE - 16}x")
        found = Counter(row.iter_unpack(memoryview(data)[:end]))
        for (family, state, address), number in found.items():
            self._add(_STATES[state], address[: _ADDRESS_BYTES[family]], number)

    def _add(self, state: TcpState, address: bytes, number: int) -> None:
        if state in (TcpState.LISTEN, TcpState.BOUND):
            address = b""
        elif address.startswith(MAPPED):
            address = address[12:]
        self.counts[address, state] += number
        if len(self.counts) > MOST_PEERS:
            self._fold()

    def _fold(self) -> None:
        """Count the rarer peers together, until half of the table is free."""
        totals: Counter[bytes] = Counter()
        for (address, _), number in self.counts.items():
            totals[address] += number
        kept = {address for address, _ in totals.most_common(MOST_PEERS // 4)} | {b""}
        for address, state in [key for key in self.counts if key[0] not in kept]:
            self.others[state] += self.counts.pop((address, state))


class _OwnerTally:
    """Sockets by inode, as far as memory shall go."""

    def __init__(self) -> None:
        self.held: dict[int, int] = {}
        """State of the sockets that a process may hold, as rows have it, by inode."""
        self.unheld: Counter[TcpState] = Counter()
        """Sockets to which no file refers: nobody can hold them."""
        self.beyond: Counter[TcpState] = Counter()

    def take_rows(self, rows: Rows) -> None:
        """Take the sockets of a datagram."""
        data, end, stride, *_ = align(rows)
        states = data[_STATE:end:stride]
        inodes = memoryview(data).cast("I")[_INODE >> 2 : end >> 2 : stride >> 2].tolist()
        without = inodes.count(0)
        if without or len(self.held) + len(inodes) > MOST_OWNED:
            for state, inode in zip(states, inodes, strict=True):
                self._add(_STATES[state], state, inode)
        else:
            self.held.update(zip(inodes, states, strict=True))

    def take(self, state: TcpState, address: bytes, inode: int, uid: int) -> None:  # noqa: ARG002 - a _Take
        self._add(state, _NUMBERS[state], inode)

    def _add(self, state: TcpState, number: int, inode: int) -> None:
        if not inode:
            self.unheld[state] += 1
        elif len(self.held) < MOST_OWNED:
            self.held[inode] = number
        else:
            self.beyond[state] += 1


def _each_socket(way: Way, take: _Take) -> bool:
    """Give every socket to `take`; True if the listing was interrupted."""
    if way is Way.PROC:
        for row in read_proc_rows():
            take(row.state, _remote_of(row), row.inode, row.uid)
        return False

    def take_rows(rows: Rows) -> None:
        data = rows.data
        words = memoryview(data).cast("I")  # rows and their lengths are multiples of four
        for at, _ in each_row(rows, _EVERYTHING):
            size = _ADDRESS_BYTES[data[at + _FAMILY]]
            address = bytes(data[at + _REMOTE : at + _REMOTE + size])
            take(_STATES[data[at + _STATE]], address, words[(at + _INODE) >> 2], words[(at + _UID) >> 2])

    return list_rows(way, _EVERYTHING, take_rows)


def _remote_of(row: Connection | Listener) -> bytes:
    if isinstance(row, Listener):
        return b""
    return socket.inet_pton(socket.AF_INET if row.family == 4 else socket.AF_INET6, row.remote.address)


def _listed(inodes: Iterable[int]) -> set[int]:
    """Which of these sockets are still there: one that was closed meanwhile was held by somebody."""
    wanted = frozenset(inodes)
    if not wanted:
        return set()

    def look(way: Way) -> tuple[set[int], bool]:
        seen: set[int] = set()

        def take(state: TcpState, address: bytes, inode: int, uid: int) -> None:  # noqa: ARG001 - a _Take
            if inode in wanted:
                seen.add(inode)

        return seen, _each_socket(way, take)

    found = first_answer(WAYS, look)
    return set(wanted) if isinstance(found, Missing) else found[0]


def owner_key(owner: Owner) -> str:
    """Return by what a socket's holder is told from others."""
    if isinstance(owner, Held):
        return owner.label
    return f"unknown: {owner.reason}" if isinstance(owner, Missing) else NO_PROCESS


def _peer_name(address: bytes) -> str:
    if not address:
        return NO_PEER
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def _totals(counted: Mapping[tuple[str, TcpState], int], way: Way, complete: Reading[bool]) -> StateCounts:
    by_state = dict.fromkeys(COUNTED_STATES, 0)
    for (_, state), number in counted.items():
        by_state[state] += number
    bound = by_state.pop(TcpState.BOUND)
    return StateCounts(by_state, bound_reading(way, bound), way.source, complete)


def _grouped(counted: Mapping[tuple[str, TcpState], int]) -> tuple[Group, ...]:
    groups: dict[str, dict[TcpState, int]] = {}
    for (key, state), number in counted.items():
        groups.setdefault(key, {})[state] = number
    largest = sorted(groups.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    return tuple(Group(key, states) for key, states in largest)
