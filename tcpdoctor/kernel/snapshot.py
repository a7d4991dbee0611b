"""One look at one network namespace, as plain values.

Records are named tuples and not dataclasses: a frozen dataclass with slots costs 0.66 ms
to define, a named tuple 0.07 ms, and every start of the program pays for all of them.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TypeAlias

from tcpdoctor.kernel.counters import CpuPackets
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.named_tuples import NamedTuple

MAPPED = bytes(10) + b"\xff\xff"
"""What stands before an IPv4 address in one of IPv6."""


def plain_address(address: str) -> str:
    """Return an IPv4 address that an IPv6 socket uses as IPv4; others unchanged."""
    return address[7:] if address.startswith("::ffff:") and "." in address else address


class Endpoint(NamedTuple):
    """One end of a connection."""

    address: str
    """Numeric, without brackets: ``127.0.0.1``, ``::1``, ``::ffff:10.0.0.1``."""
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"

    def on(self, device: str | None) -> str:
        """As ss prints an end that is bound to an interface: ``0.0.0.0%lo:179``, ``[::%lo]:179``."""
        return str(self._replace(address=f"{self.address}%{device}")) if device else str(self)

    def plain(self) -> "Endpoint":
        """The end as packets have it, of IPv4 where an IPv6 socket uses that: so both ends compare equal."""
        return self._replace(address=plain_address(self.address)) if "." in self.address else self


class Holder(NamedTuple):
    """A process with a descriptor that refers to a socket."""

    pid: int
    name: str
    """The process's comm, cleaned of control and bidi characters."""
    fd: int
    uid: int
    """Effective uid of the process."""


class Owned(Enum):
    """Sockets whose owners can be looked up by themselves."""

    CLOSE_WAIT = "close_wait"
    FIN_WAIT_2 = "fin_wait_2"
    SYN_SENT = "syn_sent"
    BOUND = "bound"
    LISTENER = "listener"
    """Those that a rule may have something to say about."""
    SUSPECT = "suspect"
    """Suspects among the connections in ESTABLISHED, and a few that have been idle for long."""


class Held(NamedTuple):
    """The socket is held by these processes, by pid, but the topmost first; never empty.

    The topmost is the one that began the others, as the master of a pre-fork server. A search that may
    stop early names one holder only; `complete` says whether all are here.
    """

    holders: tuple[Holder, ...]
    complete: bool = False

    @property
    def label(self) -> str:
        """The topmost holder, for people: ``nginx (811)``."""
        return f"{self.holders[0].name} ({self.holders[0].pid})"


class NotHeld(NamedTuple):
    """No process holds a descriptor of the socket, and that is certain.

    Either its inode is 0 (an orphan, a minisocket, or not accepted yet), or a complete scan of
    all processes found nobody (closed side of MPTCP, a descriptor in flight, a user inside the kernel).
    """


Owner: TypeAlias = Held | NotHeld | Missing

ENDED = Missing("the process that held it ended while it was looked up")


class TcpBytes(NamedTuple):
    """What a connection has moved in its life, in bytes: the counters of struct tcp_info."""

    acked: int
    """Of ours, acknowledged by the peer; a SYN and a FIN count one each."""
    received: int
    """Of the peer's, received in order."""
    sent: int
    """Data that left here, retransmissions included; no SYN and no FIN."""
    retransmitted: int
    """Of `sent`, what had been sent before."""


class TcpInfo(NamedTuple):
    """The part of struct tcp_info that facts use. Times in seconds."""

    rto: float
    rtt: float
    backoff: int
    probes: int
    total_retrans: int
    """Segments retransmitted over the connection's whole life."""
    unacked: int
    notsent: int
    """Bytes in the send queue that were never sent."""
    last_data_sent: float
    last_data_recv: float
    last_ack_recv: float
    bytes: Reading[TcpBytes] = Missing("this kernel does not count the bytes of a connection (Linux 4.19)")
    mss: int = 0
    """Bytes of data in a full segment that is sent."""
    sacked: int = 0
    """Of `unacked`, segments that the peer says it has, beyond one that it has not."""


class SocketMemory(NamedTuple):
    """What a socket's buffers take of the kernel's memory, in bytes: SK_MEMINFO_*.

    Whole pages and headers are counted, so it is more than the bytes in its queues.
    """

    receive: int
    """Taken by what has come in and is not read yet."""
    receive_limit: int
    """SO_RCVBUF as the kernel keeps it."""
    send: int
    """Taken by what is in the send queue (SK_MEMINFO_WMEM_QUEUED)."""
    send_limit: int
    """SO_SNDBUF as the kernel keeps it."""
    reserved: int
    """Set aside for this socket beyond that (SK_MEMINFO_FWD_ALLOC)."""
    drops: int
    """Segments dropped at this socket in its life."""


class Connection(NamedTuple):
    """A socket that is no listener, in detail."""

    state: TcpState
    family: int
    """4 or 6: the family of the socket, not of the address (``::ffff:10.0.0.1`` is 6)."""
    local: Endpoint
    remote: Endpoint
    device: int
    """Interface index of SO_BINDTODEVICE (or of a link-local peer), 0 for none."""
    cookie: int
    """The kernel's identity of the socket; 0 where it is not known (/proc/net/tcp)."""
    inode: int
    """0: no file refers to it."""
    uid: int
    timer: Timer
    expires: float
    """Seconds until `timer` fires; 0 without one. NaN where a recording does not tell the timers."""
    retransmits: int
    """Retransmissions (or probes) since the last progress."""
    receive_queue: int
    """Unread bytes, plus one for a FIN that is not read yet; -1, here and below: a recording lacks it."""
    send_queue: int
    """Bytes unsent or not acknowledged, plus one for a SYN or FIN."""
    cgroup: Reading[int]
    """Id of the cgroup v2 of its creator."""
    v6only: bool | None
    """IPV6_V6ONLY; None where the kernel does not tell."""
    info: Reading[TcpInfo]
    owner: Owner
    memory: Reading[SocketMemory] = Missing("memory of the socket was not asked for")
    mptcp: bool = False
    """It is a subflow of MPTCP; told only to who has CAP_NET_ADMIN."""

    @property
    def minisocket(self) -> bool:
        """Whether it is TIME_WAIT or an orphan's FIN_WAIT_2, kept as a 256-byte stub."""
        return self.timer is Timer.TIME_WAIT

    @property
    def request(self) -> bool:
        """Whether it is a listener's note of a SYN, and no socket: it holds no port.

        A whole socket is in SYN_RECV where TCP Fast Open handed it to accept() before the handshake was
        over, and in a simultaneous open; it has an inode, or tcp_info while it is not accepted yet.
        """
        return self.state is TcpState.SYN_RECV and not self.inode and isinstance(self.info, Missing)


class Listener(NamedTuple):
    """A socket in LISTEN.

    The kernel reuses idiag_rqueue and idiag_wqueue here for a length and a limit
    in *connections*, so a listener is a type of its own: bytes and connections
    cannot be added by mistake.
    """

    family: int
    local: Endpoint
    device: int
    cookie: int
    inode: int
    uid: int
    accept_queue: int
    """Connections established and waiting for accept(2); -1: a recording lacks it."""
    accept_limit: Reading[int]
    """min(backlog given to listen(2), net.core.somaxconn) at the time of listen. Full is *above* it."""
    drops: Reading[int]
    """Connections that this listener dropped in its life (SKMEMINFO)."""
    cgroup: Reading[int]
    v6only: bool | None
    owner: Owner

    @property
    def state(self) -> TcpState:
        """LISTEN, for who counts listeners among all sockets."""
        return TcpState.LISTEN


class UdpSocket(NamedTuple):
    """A UDP socket that has a local port."""

    family: int
    """4 or 6: the family of the socket, not of the address."""
    local: Endpoint
    remote: Endpoint
    """Port 0: it is not connected."""
    inode: int
    """0: it is the kernel's own (a tunnel)."""
    uid: int
    receive_queue: int
    """Memory of datagrams that nobody has read, in bytes."""
    send_queue: int
    drops: int
    """Datagrams dropped in its life, mostly because its queue was full."""
    owner: Owner


class Process(NamedTuple):
    """A process that holds a socket of interest."""

    pid: int
    name: str
    uid: int
    parent: Reading[int]
    executable: Reading[str]
    """Target of /proc/PID/exe."""
    command: Reading[str]
    """Command line, arguments joined by spaces, cleaned."""
    descriptors: Reading[int]
    """Descriptors open."""
    descriptor_limit: Reading[int]
    """Soft RLIMIT_NOFILE."""
    unit: Reading[str | None]
    """systemd unit from its cgroup; None: in no unit."""
    container: Reading[str | None]
    """Container id from its cgroup; None: in no container."""
    started: Reading[float] = Missing("its start was not read")
    """When it started, in seconds of CLOCK_BOOTTIME."""
    sockets: Reading[int] = Missing("its descriptors were not looked at one by one")
    """Of its descriptors, those that are sockets of any kind; read only of one near its limit."""
    sockets_within: int = 0
    """How far `sockets` may be off, where only some of very many descriptors were looked at."""


class Destination(NamedTuple):
    """What makes an ephemeral port usable again: it is per (source, peer, peer port)."""

    source: str
    address: str
    port: int


class DestinationUse(NamedTuple):
    """Sockets from ephemeral ports towards one destination."""

    total: int
    time_wait: int
    """Of `total`, in TIME_WAIT."""
    uncounted: int = 0
    """How many more there may be at most, where the table of destinations had to be pruned."""


class Detail(NamedTuple):
    """The sockets of one state that are known one by one."""

    connections: Sequence[Connection]
    total: int
    """How many there were; above len(connections) these are a uniform sample."""
    reason: str = ""
    """Why not all of them are known one by one, where it is another reason than their number."""


class Established(NamedTuple):
    """The sockets in ESTABLISHED: all counted by their timers, few known one by one.

    Those few were found among all rows of the census, and then each was asked about alone, with tcp_info
    and memory; one that was gone by then is left out of its connections and of its total.
    """

    no_timer: int
    """Nothing is outstanding, and no keepalive."""
    retransmitting: int
    """A retransmission timer runs: data is on its way, which is usual where there is traffic."""
    keepalive: int
    """Nothing is outstanding; the timer is keepalive's."""
    probing: int
    """Something is to be sent and nothing on its way: mostly the peer's window is closed; it is probed."""
    unanswered: Detail
    """Of these and `probing`, those with UNANSWERED_RETRIES tries or more since the last answer."""
    closed_window: Detail
    """Those of `probing` whose probes are answered."""
    self_connected: Detail
    """Both ends have the same address and port: a socket that is connected to itself."""
    large: Detail
    """At least LARGE_QUEUE bytes unread or unacknowledged."""
    sample: Detail
    """A uniform sample of all; all of them where they are few."""
    unread: Reading[Detail] = Missing("unread data of established connections was not looked at")
    """Anything in the receive queue when they were counted; read by now where `receive_queue` is 0. Where a
    listener had anybody waiting also those that no process had accepted (inode 0)."""


class DeadSocket(NamedTuple):
    """A connection that is over, and its descriptor is still open."""

    fd: int
    inode: int
    silent: float
    """Seconds since its last data or acknowledgement; it ended no earlier."""
    peer: Endpoint | None = None
    """Its other end; None where the socket does not tell it."""


class DeadSockets(NamedTuple):
    """Those of one process."""

    found: tuple[DeadSocket, ...]
    looked_at: int
    """Descriptors of sockets that were asked."""
    every: int
    """1: all of them; 2, 4 ...: one in so many, the same in each look."""


class DeadUse(NamedTuple):
    """Processes that hold descriptors of connections that are over."""

    by_pid: Mapping[int, DeadSockets]
    complete: Reading[bool]
    """True where no process with many descriptors was left out; else why one was."""


class Census(NamedTuple):
    """Every TCP socket counted, none kept; memory does not grow with their number."""

    by_state: Mapping[TcpState, int]
    """Every state of COUNTED_STATES except BOUND; FIN_WAIT_2 includes orphans' minisockets."""
    bound: Reading[int]
    """Bound, neither listening nor connected. Missing before Linux 6.8."""
    by_port: Mapping[tuple[TcpState, int], int]
    """By state and local port; ports of the ephemeral range that nobody listens on count as port 0.

    So do, where there are more than 16,384 entries, the rarest of the other ports that nobody listens on.
    """
    by_destination: Mapping[Destination, DestinationUse]
    """Sockets with a local port in the ephemeral range that nobody listens on, the most used first.

    ``::ffff:10.0.0.5`` is listed as ``10.0.0.5``: both draw on the same ports. At most 4,096 entries.
    """
    source: str
    """Where it was read: ``sock_diag`` or ``/proc/net/tcp``."""
    complete: Reading[bool]
    """True, or Missing with the reason why sockets may be absent from the counts."""
    unlisted: int = 0
    """A destination absent from `by_destination` has at most so many sockets; 0: none is absent."""
    established: Reading[Established] = Missing("sockets in ESTABLISHED were not looked at")


class Translation(NamedTuple):
    """The ports that source NAT has given to connections from one address of its own to one destination."""

    protocol: str
    """``tcp``, ``udp`` ..."""
    towards: Destination
    """Its `source` is the address that the destination sees."""
    used: int
    """Different ports in use."""
    lowest: int
    highest: int


class Translations(NamedTuple):
    """What the table of tracked connections says."""

    fullest: Translation | None
    """Of source NAT the one with most ports in use; None where no source is translated."""
    cut: int = 0
    """Connections of TCP, once established, that a reset ended within nf_conntrack_tcp_timeout_close: for so
    long they stay in it."""


PortRanges: TypeAlias = tuple[tuple[int, int], ...]
"""Inclusive ranges of ports, ascending: ip_local_reserved_ports."""

SysctlValue: TypeAlias = int | tuple[int, ...] | PortRanges | str
"""A number, a pair or triple of numbers, a list of ranges, or text (names)."""


class Snapshot(NamedTuple):
    """One look at one network namespace."""

    taken_at: float
    """Seconds since 1970, UTC."""
    clock: float
    """CLOCK_BOOTTIME in seconds at the moment the counters were read: for rates."""
    host: str
    kernel: str
    namespace: int
    """Inode of the network namespace."""
    namespace_name: str | None
    initial_namespace: Reading[bool]
    """Whether it is the host's own namespace, where the machine-wide sysctls are."""
    euid: int
    """Effective uid that looked."""
    sysctls: Mapping[str, Reading[SysctlValue]]
    """By dotted name: ``net.ipv4.tcp_fin_timeout``."""
    counters: Reading[Mapping[str, int]]
    """``TcpExt.ListenOverflows`` and so on; a counter that this kernel lacks is absent."""
    sockstat: Reading[Mapping[str, int]]
    """``TCP.inuse``, ``TCP.orphan``, ``TCP.mem`` (pages), ``TCP6.inuse`` ...

    orphan, alloc and mem are machine-wide.
    """
    census: Reading[Census]
    listeners: Reading[tuple[Listener, ...]]
    detail: Reading[Mapping[TcpState, Detail]]
    """CLOSE_WAIT, FIN_WAIT_1, FIN_WAIT_2, CLOSING, LAST_ACK, SYN_SENT, SYN_RECV and BOUND."""
    processes: Mapping[int, Process]
    """The holders of listeners and connections above, and processes near their limit, by pid."""
    page_size: int
    surveyed: Reading[bool] = True
    """True where no process near its limit of descriptors was overlooked; else why one may be."""
    passed_over: Reading[float] = Missing("the other processes' shares of descriptors were not looked at")
    """The most that a process which is not in `processes` uses of its limit of descriptors, as a share."""
    softnet: Reading[tuple[CpuPackets, ...]] = Missing("packets of each CPU were not read")
    """What every CPU of the machine did with packets that came in."""
    dead: Reading[DeadUse] = Missing("descriptors were not asked for connections that are over")
    """Connections in no table whose descriptors are still open."""
    first_seen: Mapping[int, float] = {}
    """By cookie, when a run with `--since-last` first saw a socket in CLOSE_WAIT or FIN_WAIT_2, in seconds of
    CLOCK_BOOTTIME. Empty but in what one run leaves for the next."""
    translations: Reading[Translations] = Missing(
        "insertions into the table of tracked connections did not fail"
    )
    """What the table of tracked connections says; read where insertions into it failed since the earlier
    look, or where so far about as many resets were sent unasked as packets were called invalid."""
    unread: Mapping[str, str] = {}
    """Why counters of a group (``TcpExt``) are not among `counters` although the kernel has them."""

    memory: Reading[int] = Missing("the memory of the machine was not read")
    """Pages of memory of the whole machine."""
    untold: Mapping[str, str] = {}
    """By the name of a fact why it is not known, although what it is computed from is there; by the name of a
    scope (``listener``), or as ``sockets``, why there may be others than those that are listed. Empty but
    where a recording leaves something out (queues, timers, states)."""


class Samples(NamedTuple):
    """Two looks at the same namespace, or one."""

    before: Snapshot | None
    """None with ``--window 0``. It lacks sysctls, owners, the census and the detail of BOUND."""
    after: Snapshot
