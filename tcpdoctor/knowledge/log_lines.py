"""What the kernel's log says of TCP, and the answer that it leads to."""

import re
from typing import NamedTuple


class LogLine(NamedTuple):
    """One message of the kernel, known by its words, whatever numbers and names stand in it."""

    words: str
    """What all versions of it have in common, in lower case."""
    means: str
    """One sentence."""
    flag: str
    """What `explain` is asked: ``--rule``, ``--sysctl``."""
    name: str
    """Of the page."""

    @property
    def command(self) -> str:
        """What to type for the answer."""
        return f"tcpdoctor explain {self.flag} {self.name}"


LOG_LINES = (
    LogLine(
        "possible syn flooding",
        "A listener's queue of half-open connections was full: SYN cookies were sent, or SYNs dropped.",
        "--rule",
        "syn-queue-full",
    ),
    LogLine(
        "too many orphaned sockets",
        "More closed connections were unfinished than tcp_max_orphans allows: the kernel reset some.",
        "--rule",
        "orphans-near-limit",
    ),
    LogLine(
        "consider tuning tcp_mem",
        "TCP held more memory than tcp_mem allows, so closing connections were reset.",
        "--rule",
        "tcp-memory-nearly-full",
    ),
    LogLine(
        "out of socket memory",
        "Before Linux 3.10: too many orphans, or more memory than tcp_mem allows.",
        "--rule",
        "orphans-near-limit",
    ),
    LogLine(
        "mptcp: out of memory",
        "MPTCP reset a closing connection: too many orphans, or more memory than tcp_mem allows.",
        "--rule",
        "orphans-near-limit",
    ),
    LogLine(
        "table full, dropping packet",
        "The table of tracked connections was full: packets of new connections were dropped.",
        "--rule",
        "conntrack-table-overflows",
    ),
    LogLine(
        "nf_conntrack: table full",
        "The table of tracked connections was full: packets of new connections were dropped.",
        "--rule",
        "conntrack-table-overflows",
    ),
    LogLine(
        "time wait bucket table overflow",
        "More connections were in TIME_WAIT than tcp_max_tw_buckets allows: further ones skipped it.",
        "--rule",
        "time-wait-table-nearly-full",
    ),
    LogLine(
        "prefer different parity for start/end values",
        "Both ends of ip_local_port_range are even, or both odd.",
        "--sysctl",
        "net.ipv4.ip_local_port_range",
    ),
    LogLine(
        "treason uncloaked",
        "Before Linux 3.2: a peer took back window that it had offered.",
        "--sysctl",
        "net.ipv4.tcp_shrink_window",
    ),
    LogLine(
        "file-max limit",
        "The machine had as many open files as fs.file-max allows (VFS: file-max limit reached).",
        "--rule",
        "open-files-near-machine-limit",
    ),
    LogLine(
        "ndisc_cache: neighbor table overflow",
        "The table of IPv6 neighbours (NDP) was full: packets to hosts that are not in it were dropped.",
        "--sysctl",
        "net.ipv6.neigh.default.gc_thresh3",
    ),
    LogLine(
        "neighbor table overflow",
        "The table of neighbours (ARP, NDP) was full: packets to hosts that are not in it were dropped.",
        "--sysctl",
        "net.ipv4.neigh.default.gc_thresh3",
    ),
    LogLine(
        "cannot expose privileged port",
        "Rootless Podman or Docker: the user may not bind ports below net.ipv4.ip_unprivileged_port_start.",
        "--sysctl",
        "net.ipv4.ip_unprivileged_port_start",
    ),
    LogLine(
        "tcp backlog setting of",
        "Redis: net.core.somaxconn is below the backlog that it asks for.",
        "--sysctl",
        "net.core.somaxconn",
    ),
    LogLine(
        "neighbour table overflow",
        "The table of neighbours (ARP, NDP) was full: packets to hosts that are not in it were dropped.",
        "--sysctl",
        "net.ipv4.neigh.default.gc_thresh3",
    ),
    LogLine(
        "martian source",
        "A packet came in from an address that cannot be reached through that interface: rp_filter drops it.",
        "--rule",
        "reverse-path-filter-drops",
    ),
    LogLine(
        "unexpectedly shrunk window",
        "A peer took back window that it had offered; the connection goes on.",
        "--sysctl",
        "net.ipv4.tcp_shrink_window",
    ),
    LogLine(
        "drop open request from",
        "Before Linux 4.4: the queue of half-open connections was full, and no SYN cookies were sent.",
        "--rule",
        "syn-queue-drops",
    ),
    LogLine(
        "netdev watchdog",
        "A network card sent nothing for seconds: its driver or hardware; nobody's connection timed out yet.",
        "--rule",
        "packets-stuck-in-host-queues",
    ),
    LogLine(
        "page allocation failure",
        "The kernel found no free memory at once, mostly for a packet: the packet was dropped.",
        "--rule",
        "packets-dropped-machine-out-of-memory",
    ),
    LogLine(
        "listen queue of socket",
        "uWSGI: as many connections waited for it as its listen option allows.",
        "--rule",
        "accept-queue-full",
    ),
)
_LEAST = 8
"""Letters that a part of a message has at least, to be taken for it."""


def log_line_of(asked: str) -> LogLine | None:
    """Return the message that a text is, holds, or is a part of; None where it is none.

    ``TCP: request_sock_TCP: Possible SYN flooding on port 80. Sending cookies.``, ``possible SYN flooding``,
    ``table full``.
    """
    text = _plain(asked)
    whole = next((line for line in LOG_LINES if _plain(line.words) in text), None)
    if whole is not None or len(text) < _LEAST:
        return whole
    return next((line for line in LOG_LINES if text in _plain(line.words)), None)


class OwnLimit(NamedTuple):
    """What a program says when a limit or a timer of its own is reached."""

    words: str
    """A pattern, in small letters."""
    means: str
    """What it is, and what to ask."""


OWN_LIMITS = (
    OwnLimit(
        "worker_connections are not enough",
        "nginx holds as many connections as its worker_connections allows, those of clients and of upstreams "
        "together: a limit of nginx.conf. What it holds: tcpdoctor explain nginx",
    ),
    OwnLimit(
        "worker_connections exceed open file resource limit",
        "nginx may open fewer descriptors than it may hold connections: worker_rlimit_nofile in nginx.conf, "
        "or LimitNOFILE= of its unit. What it holds: tcpdoctor explain nginx",
    ),
    OwnLimit(
        r"no live upstreams|no healthy upstream|has no server available",
        "the proxy has taken every server of that group out, or never had one: its lines before say why each "
        "failed. Ask about one of them: tcpdoctor explain HOST:PORT",
    ),
    OwnLimit(
        r"reset reason: overflow|upstream_rq_pending_overflow|\bresponse flags?\W+uo\b",
        "Envoy's own circuit breaker: as many connections or requests to that cluster as max_connections, "
        "max_pending_requests or max_requests allow. No limit of TCP",
    ),
    OwnLimit(
        "reset reason: connection termination",
        "the upstream closed the connection before it had answered, mostly one that had been idle for as "
        "long as its own keepalive timeout, or it was ended. Who closes first: tcpdoctor trace, on its host",
    ),
    OwnLimit(
        "reset reason: connection timeout",
        "Envoy's own connect_timeout was over before the upstream had answered: a firewall, a full accept "
        "queue there, or a host that is gone. Ask: tcpdoctor explain HOST:PORT, and on its host tcpdoctor "
        "check",
    ),
    OwnLimit(
        r"upstream connect error or disconnect/reset(?!.*connect error: \d)",
        "Envoy's connection to the upstream failed or ended; what it calls the reset reason says which. Ask "
        "about the upstream: tcpdoctor explain HOST:PORT",
    ),
    OwnLimit(
        r"too many clients already|remaining connection slots|max number of clients reached"
        r"|(?<!have )\btoo many connections\b",
        "the server holds as many connections as its own setting allows (max_connections, maxclients): no "
        "limit of TCP. Who holds them: tcpdoctor explain PORT, on the server's host",
    ),
    OwnLimit(
        r"maxrequestworkers setting|pm\.max_children setting",
        "every worker of the server is busy: a limit of its own. New connections wait in the accept queue: "
        "tcpdoctor check, and tcpdoctor explain PORT",
    ),
    OwnLimit(
        r"\bworker timeout\b",
        "the server's master ended a worker that was busy for too long: its own timer. What it waits for: "
        "tcpdoctor explain PID, while it hangs",
    ),
    OwnLimit(
        r"connection pool is full|connection is not available, request timed out"
        r"|timeout waiting for connection from pool|connection pool timeout|queuepool limit"
        r"|pool (?:exhausted|timed out)",
        "every connection of the program's own pool was in use, or leaked: no error of TCP. What it holds, "
        "and for how long: tcpdoctor explain PID",
    ),
    OwnLimit(
        "missed heartbeats",
        "RabbitMQ heard nothing on that connection for its own heartbeat timeout: the client's thread was "
        "busy, or the network lost the connection. Ask on the client: tcpdoctor check",
    ),
    OwnLimit(
        "lost connection to pod",
        "kubectl's tunnel through the API server ended, or nothing listens in the pod: ask there, in its "
        "network namespace: tcpdoctor explain PORT --netns PID",
    ),
    OwnLimit(
        r"^(?!.*address already in use).*error forwarding port \d+ to pod",
        "kubectl reached the pod, and what it forwards to did not answer: ask there, in its network "
        "namespace: tcpdoctor explain PORT --netns PID",
    ),
    OwnLimit(
        r"^(?:\S+ )*failed to listen on (?!.*errno)[^:]*$|could not create any tcp/ip sockets"
        r"|still could not bind|cannot bind any address|no listening sockets available",
        "a socket could not be opened; the line before says which and why: journalctl -u UNIT -b, and "
        "tcpdoctor explain with that line",
    ),
    OwnLimit(
        r"cannot bind unix socket|bind on unix socket|dial unix .*no such file",
        "a socket of a path, not of TCP: the path is there already (or not at all), or its folder cannot be "
        "written: ls -l, ss -xl",
    ),
    OwnLimit(
        "suspect gro implementation",
        "a driver told the kernel a packet size that is none: receive windows may stay small. It is the "
        "driver's: update it, or ethtool -K INTERFACE gro off",
    ),
    OwnLimit(
        r"communications link failure|unavailable: io exception|nobrokersavailable|ora-1254[15]"
        r"|bootstrap broker .* disconnected|unable to connect to any of the specified",
        "the driver does not say which error of TCP it met: what stands below does (Caused by ...), or ask "
        "about the server: tcpdoctor explain HOST:PORT",
    ),
    OwnLimit(
        r"^(?!.*(?:refused|reset by peer|timed out|no route to|cannot assign))"
        r".*(?:\b50[23]\b.*(?:bad gateway|service unavailable)|\bbad gateway\b)",
        "the proxy reached no server, or that closed the connection before it had answered: the proxy's own "
        "error log has the line that says which: tcpdoctor explain with that line",
    ),
    OwnLimit(
        r"\b504\b.*gateway|\bgateway time-?out\b",
        "the proxy's own timer was over before the server had answered: it is slow, or waits for somebody "
        "else. On its host: tcpdoctor check",
    ),
    OwnLimit(
        r"blocked for more than \d+ seconds",
        "that process waits in the kernel (state D: a disk, NFS, a driver ...): it serves nobody, and no "
        "signal ends it before that is over. Its sockets: tcpdoctor explain PID",
    ),
    OwnLimit(
        "free ports for the requested pod ports",
        "the scheduler's book: another pod has that hostPort on each of those nodes. On a node: tcpdoctor "
        "explain PORT",
    ),
    OwnLimit(
        r"wrong.version.number|plain http request was sent to https",
        "one end speaks TLS on that port and the other does not: no error of TCP. Look at the port and the "
        "scheme",
    ),
    OwnLimit(
        "epmd error for host|epmd is not running|failed to connect to epmd",
        "Erlang's port mapper on that host was not reached, or does not know the node: tcpdoctor explain "
        "HOST:4369",
    ),
    OwnLimit(
        r"aborted connection \d+ to db",
        "MySQL's client went without saying so, or was silent for wait_timeout, or its packet was larger "
        "than max_allowed_packet: no limit of TCP. On the client's host: tcpdoctor check",
    ),
    OwnLimit(
        r"reached the configured maximum connection limit|\bmaxconn(?:ections)? reached\b",
        "the proxy holds as many connections as its own maxconn allows: no limit of TCP. Further clients "
        "wait in the accept queue. What it holds: tcpdoctor explain PID",
    ),
    OwnLimit(
        "out-of-fds|out of file descriptors",
        "the server has as many descriptors as it may open, and accepts nobody before some are closed: "
        "tcpdoctor explain EMFILE. What it holds: tcpdoctor explain PID",
    ),
    OwnLimit(
        r"\[ufw (?:block|audit)\]|\bfinal_reject\b|iptables[- ](?:drop|denied|reject)",
        "a rule of this host's firewall matched that packet, and dropped it where the line says so: SRC and "
        "DPT= in it say whose it was. See ufw status, nft list ruleset",
    ),
    OwnLimit(
        r"apparmor=.denied.*\b(?:bind|connect|listen|accept|create)\b"
        r"|avc: +denied .*\bname_(?:bind|connect)\b",
        "a security module refused that call (EACCES), whatever the user and the port are: aa-status, or "
        "ausearch -m avc. The page of the error: tcpdoctor explain EACCES",
    ),
    OwnLimit(
        "start request repeated too quickly",
        "systemd gave up to start that unit: why it ended each time stands before. systemctl status UNIT, "
        "and tcpdoctor explain with the line that names an address or a port",
    ),
    OwnLimit(
        r"nfs: server .* not responding",
        "the NFS server has not answered for a while; who waits for it waits in the kernel. Ask about it: "
        "tcpdoctor explain HOST:2049",
    ),
    OwnLimit(
        r"\bdst cache overflow|route cache is full",
        "the kernel holds as many routes of IPv6 (before Linux 3.6 of IPv4) as net.ipv6.route.max_size "
        "allows: packets to further hosts are dropped. Raise it; Linux 6.3 took the limit away",
    ),
    OwnLimit(
        "conntrack: falling back to vmalloc",
        "the table of tracked connections is so large that its memory is in pieces: nothing is lost by it",
    ),
    OwnLimit(
        "expectation table full",
        "conntrack's helpers (FTP, SIP ...) expect as many connections as nf_conntrack_expect_max allows: "
        "it is not the table of connections",
    ),
    OwnLimit(
        r"\budp: (?:bad checksum|short packet)",
        "a datagram came in damaged or cut, and was dropped: a network card's or virtual switch's offload, "
        "or the sender. It is no TCP: nstat -az UdpInCsumErrors",
    ),
    OwnLimit(
        "illegal window scaling value",
        "a peer, or a middlebox, sent a window scale above 14 (RFC 7323): the kernel takes it as 14, and the "
        "connection goes on",
    ),
    OwnLimit(
        "callbacks suppressed",
        "so many messages of that kind were left out of the log: the lines before it say of what",
    ),
)


def own_limit_of(text: str) -> str | None:
    """Return what a line means that tells of a program's own limit, and no error of TCP; None for others."""
    lowered = " ".join(text[:1000].lower().split())
    return next((one.means for one in OWN_LIMITS if re.search(one.words, lowered)), None)


_NOT_RESOLVED = re.compile(
    r"\b(?:ENOTFOUND|EAI_AGAIN|no such host|could not resolve|UnknownHostException|name resolution"
    r"|(?:name|nodename) (?:or|nor) (?:service|servname)|host not found in upstream)",
    re.IGNORECASE,
)


_CLOSED = re.compile(
    r"closed (?:the )?connection (?:without|unexpectedly)|closed by (?:the )?remote host"
    r"|connection closed by (?:remote|foreign|peer)|empty reply from server"
    r"|prematurely closed connection|connection (?:was )?closed (?:unexpectedly|prematurely)|unexpected EOF"
    r"|EOF occurred|EOF detected|end of stream|server has gone away|lost connection to mysql server"
    r"|server disconnected|ClosedChannelException|handshake error from .*: EOF$|other side closed"
    r"|closed before message completed|closed in the middle|IncompleteReadError|failed to respond"
    r"|RemoteDisconnected|ServerDisconnected|^EOF$|EOFException|EOFError|connection unexpectedly closed"
    r"|prematurely closed|disconnected before secure|sent GOAWAY|transport is closing"
    r"|error reading from server: EOF|remote host terminated the handshake|first read error: EOF",
    re.IGNORECASE,
)


def no_error_of_tcp(text: str) -> str | None:
    """Return what a line means that tells of a name, a program's own limit, or an end in order; else None."""
    if _NOT_RESOLVED.search(text):
        return "a name was not found, before any TCP: see getent ahosts NAME, and /etc/resolv.conf"
    if (limit := own_limit_of(text)) is not None:
        return limit
    if not _CLOSED.search(text):
        return None
    return (
        "the other end closed the connection without a reset (recv() returned 0), which is no error of TCP: "
        "its own log says why. Who closes first, and after how long: tcpdoctor trace"
    )


_OWN_TIMER = re.compile(
    r"(?:read|connect|write)(?: operation)? timed out|(?:read|open|connect|write|socket)[ ._]?timeout"
    r"|i/o timeout|deadline exceeded|client\.timeout|timed out after \d|upstream timed out|layer[467] timeout"
    r"|timeout of \d+ ?ms exceeded|handshake timeout|execution expired|timeout expired|timeout, server"
    r"|esockettimedout|timeout reading|\btimeouterror\b(?!.*errno)|^timeout$"
)


def tells_own_timer(text: str) -> bool:
    """Whether a line says that the program's own timer ran out, which its connection may well outlive.

    nginx logs its own timers with the kernel's error, ``upstream timed out (110: ...)``.
    """
    return bool(_OWN_TIMER.search(" ".join(text[:1000].lower().split())))


def _plain(text: str) -> str:
    """Letters and digits only, with one blank between words."""
    return " ".join(re.findall(r"[a-z0-9_]+", text[:1000].lower()))
