"""TCP sockets that stand in no listing, found in the processes that have them open: bound and dead ones.

Before Linux 6.8 (commit 91051f003948) no interface lists a socket that is bound and neither listens nor
connects, and /proc/net/tcp does not list it today. Its process has a descriptor of it, and a duplicate of
that (pidfd_getfd(2), Linux 5.6) answers getsockname(2) and getsockopt(2). Nothing is set on it, and it is
closed before the next is opened, as in `tcpdoctor.kernel.sockopts`.
"""

import _socket as socket  # what is around it takes 3 ms to import, and is not needed
import errno
import fcntl
import os
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

from tcpdoctor.kernel.counters import FEWEST_UNLISTED
from tcpdoctor.kernel.descriptor_use import is_elsewhere
from tcpdoctor.kernel.listing import WAYS, Way, first_answer, list_rows, read_proc_rows
from tcpdoctor.kernel.namespaces import replayed, sees_all_processes_of_machine
from tcpdoctor.kernel.processes import (
    OUTSIDE,
    hides_from_us,
    is_proc_hiding,
    size_counts_descriptors,
    whether_all_are_seen,
)
from tcpdoctor.kernel.reading import Missing, Reading, is_absent, joined
from tcpdoctor.kernel.snapshot import Connection, DeadSocket, DeadSockets, DeadUse, Endpoint
from tcpdoctor.kernel.sock_diag import Request, Rows
from tcpdoctor.kernel.sock_diag_rows import BOUND_INFO, NOT_LOOKED_UP
from tcpdoctor.kernel.sockopts import duplicate_descriptor, duplicates, explain_refusal
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.kernel.tally import LISTED_STATES
from tcpdoctor.named_tuples import NamedTuple

_INODE = struct.Struct("=I")
_INODE_AT = 84  # of idiag_inode in a row
_SO_PROTOCOL, _SO_DOMAIN, _SO_COOKIE, _SO_BINDTOIFINDEX, _SO_NETNS_COOKIE = 38, 39, 57, 62, 71
_SOL_IPV6, _IPV6_V6ONLY = 41, 26
_SIOCGSKNS = 0x894C
_STREAMS = (socket.IPPROTO_TCP, 262)  # 262: IPPROTO_MPTCP, whose first subflow has the port
_TCP_INFO, _SEGMENTS, _WORD = 11, struct.Struct("=II"), struct.Struct("=I")
_SEGMENTS_AT, _RCV_MSS_AT = 136, 20  # of tcpi_segs_out and tcpi_segs_in, of tcpi_rcv_mss
_PATIENCE = 5
_NO_CGROUP = Missing("the cgroup of a socket that no listing has is not told")


class Unlisted(NamedTuple):
    """Bound sockets of this network namespace, found in the processes that hold them."""

    bound: tuple[Connection, ...]
    """Never connected: they hold their ports. Each in state BOUND, its owner not looked up."""
    ended: tuple[Connection, ...]
    """Connected, or listened, and no more: one whose process named the port in bind() keeps it, any other
    has let go of it, and nothing tells which is which."""
    complete: Reading[bool]
    """True, or Missing with the reason why such a socket may have been overlooked."""


@replayed
def find_unlisted(*, port: int = 0, seconds: float = 1.0) -> Unlisted:
    """Look through the descriptors of all processes for TCP sockets that no listing shows.

    Args:
        port: Only sockets on this local port; 0 for all.
        seconds: Budget of CPU time; a busy host takes longer by the clock, at most five times as long.
    """
    search = _Search(port, seconds)
    try:
        search.run(_listed_inodes())
    except TimeoutError:
        search.reasons[f"the time budget of {seconds:g} s for finding bound sockets ran out"] = None
    if search.hidden:
        search.reasons[hides_from_us(frozenset(search.hidden))] = None
    elif is_proc_hiding():
        search.reasons[hides_from_us(frozenset())] = None
    elif not sees_all_processes_of_machine():
        search.reasons[OUTSIDE] = None
    complete = Missing(joined(search.reasons)) if search.reasons else True
    return Unlisted(tuple(search.bound), tuple(search.ended), complete)


def _listed_inodes() -> frozenset[int]:
    """The sockets that need not be asked, because a listing shows them; none where there is no listing."""
    found: set[int] = set()

    def look(way: Way) -> tuple[None, bool]:
        if way is Way.PROC:
            found.update(row.inode for row in read_proc_rows())
            return None, False
        return None, list_rows(way, Request(sum(1 << state for state in LISTED_STATES)), take)

    def take(rows: Rows) -> None:
        found.update(_INODE.unpack_from(rows.data, at + _INODE_AT)[0] for at in rows.offsets)

    first_answer(WAYS, look)
    return frozenset(found)


class _Search:
    """One pass through all processes, and what it has found so far."""

    def __init__(self, port: int, seconds: float) -> None:
        self.bound: list[Connection] = []
        self.ended: list[Connection] = []
        self.hidden: set[int] = set()
        self.reasons: dict[str, None] = {}
        self._port = port
        self._is_ours = _namespace_test()
        self._seen: set[int] = set()
        self._cpu_deadline = time.thread_time() + seconds
        self._deadline = time.monotonic() + seconds * _PATIENCE

    def run(self, listed: frozenset[int]) -> None:
        """Ask every socket of every process that is not in `listed`, each once."""
        self._seen |= listed
        counted = size_counts_descriptors()
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            self._check_time()
            try:
                if counted and not os.stat(f"/proc/{entry}/fd").st_size:
                    continue
                sockets = list(self._new_sockets(f"/proc/{entry}/fd"))
            except OSError as error:
                self._note(int(entry), error)
                continue
            if sockets:
                self._ask_process(int(entry), sockets)

    def _new_sockets(self, folder: str) -> Iterator[tuple[int, int]]:
        """Descriptor and inode of each socket that was not asked yet."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in os.listdir(descriptor):
                try:
                    link = os.readlink(name, dir_fd=descriptor)
                except FileNotFoundError:
                    continue  # closed since it was listed
                if link.startswith("socket:[") and (inode := int(link[8:-1])) not in self._seen:
                    self._seen.add(inode)
                    yield int(name), inode
        finally:
            os.close(descriptor)

    def _ask_process(self, pid: int, sockets: list[tuple[int, int]]) -> None:
        try:
            process = os.pidfd_open(pid)
        except OSError as error:
            self._note(pid, error)
            return
        try:
            for number, inode in sockets:
                self._check_time()
                try:
                    self._ask(process, number, inode)
                except OSError as error:
                    self._seen.discard(inode)  # another process may let us look at it
                    self._note(pid, error)
        finally:
            os.close(process)

    def _ask(self, process: int, number: int, inode: int) -> None:
        """Duplicate one descriptor, ask, and close the duplicate before anything else happens."""
        duplicate = duplicate_descriptor(process, number)
        try:
            status = os.fstat(duplicate)
            family = None if status.st_ino != inode else _family_of_stream(duplicate)
            if family is not None:
                # With family, type and protocol given, Python probes nothing and sets nothing.
                sock = socket.socket(family, socket.SOCK_STREAM, 0, fileno=duplicate)
                try:
                    self._take(sock, inode, status.st_uid)
                finally:
                    sock.detach()
        finally:
            os.close(duplicate)

    def _take(self, sock: socket.socket, inode: int, uid: int) -> None:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 256)
        if info[0] != TcpState.CLOSE or not self._is_ours(sock):
            return
        row = _bound_row(sock, inode, uid)
        if row.local.port and self._port in (0, row.local.port):
            (self.ended if _was_connected(info) else self.bound).append(row)

    def _note(self, pid: int, error: OSError) -> None:
        """Remember what may hide something; a process or a descriptor that is gone hides nothing."""
        if is_absent(error) or error.errno in (errno.EBADF, errno.ESRCH):
            return
        if error.errno in (errno.EPERM, errno.EACCES):
            self.hidden.add(pid)
        else:
            self.reasons[explain_refusal(error, pid).reason] = None

    def _check_time(self) -> None:
        if time.thread_time() >= self._cpu_deadline or time.monotonic() >= self._deadline:
            raise TimeoutError


def _was_connected(info: bytes) -> bool:
    """Whether a socket in CLOSE has connected, tried to, or listened.

    Its counters say so, but connect() that fails clears them (tcp_disconnect()), and leaves a trace: it sets
    the estimate of the peer's segments (rcv_mss), which is 0 in a socket that was only bound.
    """
    return any(_SEGMENTS.unpack_from(info, _SEGMENTS_AT)) or any(_WORD.unpack_from(info, _RCV_MSS_AT))


def _family_of_stream(descriptor: int) -> int | None:
    """The family of a TCP socket; None for a socket of another kind."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=descriptor)
    try:
        domain = sock.getsockopt(socket.SOL_SOCKET, _SO_DOMAIN)
        if domain not in (socket.AF_INET, socket.AF_INET6):
            return None
        stream = sock.getsockopt(socket.SOL_SOCKET, _SO_PROTOCOL) in _STREAMS
        return domain if stream else None
    finally:
        sock.detach()


def _bound_row(sock: socket.socket, inode: int, uid: int) -> Connection:
    """The socket as a listing would show it. Its uid is that of its inode: sock_alloc() sets both alike."""
    ipv6 = sock.family == socket.AF_INET6
    (cookie,) = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8))
    return Connection(
        state=TcpState.BOUND,
        family=6 if ipv6 else 4,
        local=Endpoint(*sock.getsockname()[:2]),
        remote=Endpoint("::" if ipv6 else "0.0.0.0", 0),
        device=sock.getsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX),
        cookie=cookie,
        inode=inode,
        uid=uid,
        timer=Timer.NONE,
        expires=0.0,
        retransmits=0,
        receive_queue=0,
        send_queue=0,
        cgroup=_NO_CGROUP,
        v6only=bool(sock.getsockopt(_SOL_IPV6, _IPV6_V6ONLY)) if ipv6 else None,
        info=BOUND_INFO,
        owner=NOT_LOOKED_UP,
    )


def _namespace_test() -> Callable[[socket.socket], bool]:
    """Return what tells whether a socket is of the calling thread's network namespace.

    SO_NETNS_COOKIE (Linux 5.14) tells it to everybody, SIOCGSKNS to who has CAP_NET_ADMIN there. Where
    neither answers a socket counts as ours: of two mistakes, an "in use" too many is the smaller one.
    """
    try:
        with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as own:
            mine = _namespace_of(own)
    except OSError:
        mine = None  # a seccomp filter lets us make none

    def is_ours(sock: socket.socket) -> bool:
        theirs = _namespace_of(sock)
        return mine is None or theirs is None or theirs == mine

    return is_ours


def _namespace_of(sock: socket.socket) -> int | None:
    try:
        (cookie,) = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))
        return int(cookie)
    except OSError:
        pass  # before Linux 5.14
    try:
        namespace = fcntl.ioctl(sock.fileno(), _SIOCGSKNS)
    except OSError:
        return None
    try:
        return os.fstat(namespace).st_ino
    finally:
        os.close(namespace)


# Connections that are over while a process still holds their descriptors. A reset, a user timeout or an
# unanswered keepalive ends a connection whatever the program does. Its socket is then in state CLOSE and in
# no table of the kernel: neither ss nor sock_diag lists it. The descriptor stays until close(). Only the
# socket itself tells: a duplicate of the descriptor is asked for TCP_INFO.
#
# That touches other processes, so it is done only where it may matter: the kernel counts all TCP sockets that
# are allocated and, for this namespace, those in its tables; if the two differ by less than anybody would
# call a leak there is nothing to look for.


MOST_LOOKED_AT = 1024
"""Descriptors of one process that are asked, 10 us each; of more one in two, four ... is."""
_GOLDEN = 2654435769
"""2**32 over the golden ratio: multiples of it lie evenly, whatever the step between the numbers. A proxy's
descriptors alternate, one for each side, and every second one is those of one side alone."""
_LAST_DATA_RECV, _LAST_ACK_RECV, _BYTES_ACKED, _BYTES_RECEIVED = 52, 56, 120, 128
"""Offsets in struct tcp_info (include/uapi/linux/tcp.h)."""


def find_dead_sockets(seconds: float, only: Iterable[int] | None = None) -> DeadUse:
    """Ask the descriptors of all processes of the calling thread's network namespace that have many.

    Args:
        seconds: Budget of CPU time.
        only: The processes to ask; all where None.

    Returns:
        The processes that hold such sockets. `complete` is Missing where time ran out, or where a process
        hides its descriptors from us.
    """
    deadline = time.thread_time() + seconds
    own = os.stat("/proc/thread-self/ns/net")
    complete = whether_all_are_seen()
    pids = sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit()) if only is None else [*only]
    found: dict[int, DeadSockets] = {}
    seen: set[int] = set()
    for number, pid in enumerate(pids):
        if time.thread_time() > deadline:
            why = f"the time budget of {seconds:g} s ran out after {number} of {len(pids)} processes"
            return DeadUse(found, Missing(why))
        try:
            few = os.stat(f"/proc/{pid}/fd").st_size in range(1, FEWEST_UNLISTED)
            if not few and not is_elsewhere(pid, own):
                dead = ask_process(pid)
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
def ask_process(pid: int) -> Reading[DeadSockets]:
    """Ask the descriptors of one process, at most `MOST_LOOKED_AT` of them.

    Missing where it does not let us look (that takes root, or CAP_SYS_PTRACE, for another user's process),
    or where the kernel is older than 5.6.

    Raises:
        OSError: The process is gone, or hides its descriptors.
    """
    numbers = sorted(map(int, os.listdir(f"/proc/{pid}/fd")))
    step = 1
    while len(numbers) > step * MOST_LOOKED_AT:
        step *= 2
    chosen = [number for number in numbers if number * _GOLDEN % (1 << 32) * step < 1 << 32]
    inodes = _inodes(f"/proc/{pid}/fd", chosen)
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
    if sock.getsockopt(socket.SOL_SOCKET, _SO_PROTOCOL) not in _STREAMS:
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
