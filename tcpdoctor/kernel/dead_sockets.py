"""Connections that are over while a process still holds their descriptors.

A reset, a user timeout or an unanswered keepalive ends a connection whatever the program does. Its socket is
then in state CLOSE and in no table of the kernel: neither ss nor sock_diag lists it. The descriptor stays
until close(). Only the socket itself tells: a duplicate of the descriptor (pidfd_getfd(2)) is asked for
TCP_INFO, as `sockopts` asks for options, and closed at once.

That touches other processes, so it is done only where it may matter: the kernel counts all TCP sockets that
are allocated and, for this namespace, those in its tables; if the two differ by less than anybody would call
a leak there is nothing to look for.
"""

import _socket as socket  # what is around it takes 3 ms to import, and is not needed
import os
import struct
import sys
import time
from collections.abc import Iterable
from contextlib import closing

from tcpdoctor.kernel.counters import FEWEST_UNLISTED
from tcpdoctor.kernel.descriptor_use import is_elsewhere
from tcpdoctor.kernel.entered import replayed
from tcpdoctor.kernel.processes import hides_from_us, whether_all_are_seen
from tcpdoctor.kernel.reading import Missing, Reading, is_absent
from tcpdoctor.kernel.snapshot import DeadSocket, DeadSockets, DeadUse, Endpoint
from tcpdoctor.kernel.sockopts import duplicates
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.named_tuples import NamedTuple

MOST_LOOKED_AT = 1024
"""Descriptors of one process that are asked, 10 us each; of more every second, fourth ... is."""
_SO_PROTOCOL = 38
_SO_NETNS_COOKIE = 71
_LAST_DATA_RECV, _LAST_ACK_RECV, _BYTES_ACKED, _BYTES_RECEIVED = 52, 56, 120, 128
"""Offsets in struct tcp_info (include/uapi/linux/tcp.h)."""


def find_dead_sockets(seconds: float, only: Iterable[int] | None = None, root: str = "/proc") -> DeadUse:
    """Ask the descriptors of all processes of the calling thread's network namespace that have many.

    Args:
        seconds: Budget of CPU time.
        only: The processes to ask; all where None.
        root: Where /proc is.

    Returns:
        The processes that hold such sockets. `complete` is Missing where time ran out, or where a process
        hides its descriptors from us.
    """
    deadline = time.thread_time() + seconds
    own = os.stat(f"{root}/thread-self/ns/net")
    complete = whether_all_are_seen()
    pids = sorted(int(entry) for entry in os.listdir(root) if entry.isdigit()) if only is None else [*only]
    found: dict[int, DeadSockets] = {}
    seen: set[int] = set()
    for number, pid in enumerate(pids):
        if time.thread_time() > deadline:
            why = f"the time budget of {seconds:g} s ran out after {number} of {len(pids)} processes"
            return DeadUse(found, Missing(why))
        try:
            if os.stat(f"{root}/{pid}/fd").st_size not in range(1, FEWEST_UNLISTED) and not is_elsewhere(
                pid, own, root
            ):
                dead = ask_process(pid, root)
                if isinstance(dead, Missing):
                    complete = dead
                elif fresh := _not_seen(dead, seen):
                    found[pid] = fresh
        except OSError as error:
            if not is_absent(error):
                complete = Missing(hides_from_us(frozenset({pid})))
    return DeadUse(found, complete)


def _not_seen(dead: DeadSockets, seen: set[int]) -> DeadSockets | None:
    """What no process before holds as well: heirs of one descriptor are not counted twice."""
    rows = tuple(row for row in dead.found if row.inode not in seen)
    seen.update(row.inode for row in rows)
    return dead._replace(found=rows) if rows else None


@replayed
def ask_process(pid: int, root: str = "/proc") -> Reading[DeadSockets]:
    """Ask the descriptors of one process, at most `MOST_LOOKED_AT` of them.

    Missing where it does not let us look (that takes root, or CAP_SYS_PTRACE, for another user's process),
    or where the kernel is older than 5.6.

    Raises:
        OSError: The process is gone, or hides its descriptors.
    """
    numbers = sorted(map(int, os.listdir(f"{root}/{pid}/fd")))
    step = 1
    while len(numbers) > step * MOST_LOOKED_AT:
        step *= 2
    chosen = [number for number in numbers if not number % step]
    inodes = _inodes(f"{root}/{pid}/fd", chosen)
    ours = _namespace_cookie()
    rows = []
    for fd, answer in duplicates(pid, inodes, lambda sock: _ask(sock, ours)):
        if isinstance(answer, Missing):
            return answer
        if answer is not None:
            rows.append(DeadSocket(fd, inodes[fd], answer.silent, answer.peer))
    return DeadSockets(tuple(rows), len(inodes), step)


def _inodes(folder: str, numbers: Iterable[int]) -> dict[int, int]:
    """The inodes of those descriptors that are sockets."""
    found = {}
    for number in numbers:
        try:
            link = os.readlink(f"{folder}/{number}")
        except FileNotFoundError:
            continue  # closed since it was listed
        if link.startswith("socket:["):
            found[number] = int(link[8:-1])
    return found


class _Over(NamedTuple):
    """What a connection that is over tells."""

    silent: float
    peer: Endpoint | None


def _ask(sock: socket.socket, namespace: bytes) -> _Over | None:
    """For how long a connection that is over has been silent, and its peer; None for any other socket."""
    try:
        silent = _silent_for(sock, namespace)
        return None if silent is None else _Over(silent, _peer_of(sock))
    except OSError:
        return None  # a kind of socket without such options: netlink, vsock ...


def _silent_for(sock: socket.socket, namespace: bytes) -> float | None:
    if sock.getsockopt(socket.SOL_SOCKET, _SO_PROTOCOL) not in (socket.IPPROTO_TCP, _MPTCP):
        return None
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    if len(info) < _BYTES_RECEIVED + 8 or info[0] != TcpState.CLOSE:
        return None
    acked, received = struct.unpack_from("=QQ", info, _BYTES_ACKED)
    if not acked and not received:
        return None  # it was never connected
    if _cookie_of(sock) != namespace:
        return None
    silent: tuple[int, int] = struct.unpack_from("=II", info, _LAST_DATA_RECV)
    return min(silent) / 1000


_MPTCP = 262
_SO_PEERNAME = 28


def _peer_of(sock: socket.socket) -> Endpoint | None:
    """Ask for the other end: getpeername(2) refuses where the connection is over, SO_PEERNAME does not.

    Source: Linux net/ipv4/af_inet.c, inet_getname() with a peer of 2.
    """
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERNAME, 16)  # more is refused for IPv4
        family = int.from_bytes(packed[:2], sys.byteorder)  # a duplicate does not know its own
        if family == socket.AF_INET6:
            packed = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERNAME, 28)
    except OSError:
        return None
    port, address = int.from_bytes(packed[2:4], "big"), packed[8:24] if len(packed) == 28 else packed[4:8]
    return Endpoint(socket.inet_ntop(family, address), port) if port else None


def _namespace_cookie() -> bytes:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as sock:
        return _cookie_of(sock)


def _cookie_of(sock: socket.socket) -> bytes:
    """The kernel's name for the network namespace of a socket; "" before Linux 5.14."""
    try:
        return sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    except OSError:
        return b""
