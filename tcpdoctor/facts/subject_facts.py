"""The words for facts of a process, a listener, a port or a destination; data only, as `own_facts`."""

_SS_INFO = "ss -tani state close-wait (lastack .. lastrcv, milliseconds)"
_SS_FW2 = "ss -tani state fin-wait-2 (lastack .. lastsnd, milliseconds)"
_SS_PROCESS_CW = "ss -tanp state close-wait"
_SS_PROCESS_FW2 = "ss -tanp state fin-wait-2"
_SS_UNREAD = "ss -tnpi state established (Recv-Q, lastrcv)"
_STATUS = "/proc/PID/status"

SUBJECT_FACTS: dict[str, tuple[str, str, str, str, str]] = {
    # process
    "process.pid": ("process", "text", "text", "Process id.", _STATUS),
    "process.name": ("process", "text", "text", "Name of the process (comm).", "/proc/PID/comm"),
    "process.unit": (
        "process",
        "text",
        "text",
        "systemd unit that the process runs in, or none.",
        "/proc/PID/cgroup",
    ),
    "process.container": (
        "process",
        "text",
        "text",
        "Id of the container that the process runs in, or none.",
        "/proc/PID/cgroup",
    ),
    "process.descriptors.used": (
        "process",
        "gauge",
        "count",
        "File descriptors that the process has open.",
        "/proc/PID/fd",
    ),
    "process.descriptors.limit": (
        "process",
        "gauge",
        "count",
        "File descriptors that the process may have open: its soft RLIMIT_NOFILE.",
        "/proc/PID/limits (Max open files)",
    ),
    "process.descriptors.share": (
        "process",
        "gauge",
        "ratio",
        (
            "Share of its limit of descriptors that the process uses; of processes that are not seen, the "
            "most that any of them can use."
        ),
        "/proc/PID/fd, /proc/PID/limits",
    ),
    "process.descriptors.sockets": (
        "process",
        "gauge",
        "count",
        (
            "Of its descriptors, those that are sockets of any kind; looked at only where the process uses "
            "half of what it may."
        ),
        "ls -l /proc/PID/fd | grep -c socket:",
    ),
    "unread.owned": (
        "process",
        "gauge",
        "count",
        (
            "Established connections of the process in which data has waited to be read: any in accepted "
            "ones, 16 KiB or more in its own. What has just come in is not counted."
        ),
        _SS_UNREAD,
    ),
    "unread.owned_ages": (
        "process",
        "ages",
        "second",
        "How long ago data last came in on each of these; none of what is unread is younger.",
        _SS_UNREAD,
    ),
    "unread.oldest_owned_age": (
        "process",
        "gauge",
        "second",
        "The longest of these times; 0 where there is no such connection.",
        _SS_UNREAD,
    ),
    "unread.owned_bytes": (
        "process",
        "gauge",
        "byte",
        "Bytes that wait to be read in these connections.",
        "ss -tnp state established (Recv-Q)",
    ),
    "unread.peers": (
        "process",
        "text",
        "text",
        "Peers of these connections, those with most first.",
        "ss -tnp state established (Recv-Q)",
    ),
    "unread.descriptors": (
        "process",
        "text",
        "text",
        "Descriptors of these connections, the lowest first.",
        "ss -tnp state established (Recv-Q)",
    ),
    "descriptors.dead_sockets": (
        "process",
        "gauge",
        "count",
        (
            "Descriptors of the process that are TCP connections which are over, in both looks: state CLOSE, "
            "in no table, and not closed by the process. Looked for where 64 or more can be so."
        ),
        "ls -l /proc/PID/fd | grep socket: (inodes that ss -tane does not list); lsof: protocol: TCP",
    ),
    "descriptors.dead": (
        "process",
        "text",
        "text",
        "The descriptors of these connections, the lowest first.",
        "ls -l /proc/PID/fd | grep socket: (inodes that ss -tane does not list)",
    ),
    "close_wait.owned": (
        "process",
        "gauge",
        "count",
        (
            "Sockets in CLOSE_WAIT that the process holds: the peer has closed, the process has not. "
            "A socket that several processes share counts for the one with the lowest pid."
        ),
        _SS_PROCESS_CW,
    ),
    "close_wait.eof_read": (
        "process",
        "gauge",
        "count",
        "CLOSE_WAIT sockets whose end of file the process has read, without closing them (Recv-Q 0).",
        _SS_PROCESS_CW + " (Recv-Q)",
    ),
    "close_wait.eof_unread": (
        "process",
        "gauge",
        "count",
        "CLOSE_WAIT sockets where only the end of file is left to read (Recv-Q 1).",
        _SS_PROCESS_CW + " (Recv-Q)",
    ),
    "close_wait.unread_data": (
        "process",
        "gauge",
        "count",
        "CLOSE_WAIT sockets with data that the process has not read (Recv-Q above 1).",
        _SS_PROCESS_CW + " (Recv-Q)",
    ),
    "close_wait.owned_ages": (
        "process",
        "ages",
        "second",
        "How long ago the peer closed each CLOSE_WAIT socket that the process holds.",
        _SS_INFO,
    ),
    "close_wait.oldest_owned_age": (
        "process",
        "gauge",
        "second",
        "How long ago the peer closed the oldest CLOSE_WAIT socket of the process; 0 where it holds none.",
        _SS_INFO,
    ),
    "close_wait.peers": (
        "process",
        "text",
        "text",
        "Peers of the process's CLOSE_WAIT sockets, those with most first.",
        _SS_PROCESS_CW,
    ),
    "close_wait.descriptors": (
        "process",
        "text",
        "text",
        "Descriptors of the process's CLOSE_WAIT sockets, the lowest first.",
        _SS_PROCESS_CW,
    ),
    "fin_wait_2.owned": (
        "process",
        "gauge",
        "count",
        (
            "Sockets in FIN_WAIT_2 that the process holds: it has shut down its side and not closed. "
            "A socket that several processes share counts for the one with the lowest pid."
        ),
        _SS_PROCESS_FW2,
    ),
    "fin_wait_2.owned_ages": (
        "process",
        "ages",
        "second",
        "How long ago the peer acknowledged the end of each FIN_WAIT_2 socket that the process holds.",
        _SS_FW2,
    ),
    "fin_wait_2.oldest_owned_age": (
        "process",
        "gauge",
        "second",
        "How long the oldest FIN_WAIT_2 socket of the process has been in that state; 0 where it holds none.",
        _SS_FW2,
    ),
    "fin_wait_2.peers": (
        "process",
        "text",
        "text",
        "Peers of the process's FIN_WAIT_2 sockets, those with most first.",
        _SS_PROCESS_FW2,
    ),
    "fin_wait_2.descriptors": (
        "process",
        "text",
        "text",
        "Descriptors of the process's FIN_WAIT_2 sockets, the lowest first.",
        _SS_PROCESS_FW2,
    ),
    # listener
    "listener.address": ("listener", "text", "text", "Address and port it listens on.", "ss -tln"),
    "listener.port": ("listener", "gauge", "count", "Port it listens on.", "ss -tln"),
    "listener.owner": (
        "listener",
        "text",
        "text",
        "Process that holds the listening socket, the lowest pid first.",
        "ss -tlnp",
    ),
    "listener.pid": (
        "listener",
        "text",
        "text",
        "Id of that process.",
        "ss -tlnp",
    ),
    "listener.port_is_ephemeral": (
        "listener",
        "gauge",
        "ratio",
        (
            "1 where its port lies in net.ipv4.ip_local_port_range and is not reserved, so that an outgoing "
            "connection may take it while nobody listens; else 0."
        ),
        "/proc/sys/net/ipv4/ip_local_port_range, /proc/sys/net/ipv4/ip_local_reserved_ports",
    ),
    "accept_queue.length": (
        "listener",
        "gauge",
        "count",
        "Connections that are established and wait for the process to accept() them.",
        "ss -tln (Recv-Q)",
    ),
    "accept_queue.length_before": (
        "listener",
        "gauge",
        "count",
        "The same at the first of the two samples.",
        "ss -tln (Recv-Q)",
    ),
    "accept_queue.least": (
        "listener",
        "gauge",
        "count",
        "The shorter of the accept queue's lengths in the samples there are.",
        "ss -tln (Recv-Q)",
    ),
    "accept_queue.limit": (
        "listener",
        "gauge",
        "count",
        (
            "The smaller of the backlog given to listen() and net.core.somaxconn at that time; the queue is "
            "full when it is longer."
        ),
        "ss -tln (Send-Q)",
    ),
    "accept_queue.drops": (
        "listener",
        "counter",
        "count",
        "Packets that this listener dropped, most of them connection attempts while its queue was full.",
        "ss -tlnm (skmem d)",
    ),
    "close_wait.not_accepted": (
        "listener",
        "gauge",
        "count",
        (
            "Connections in its accept queue whose peer has already closed: CLOSE_WAIT, and no process ever "
            "accepted them."
        ),
        "ss -tane state close-wait (rows with ino:0)",
    ),
    "close_wait.not_accepted_ages": (
        "listener",
        "ages",
        "second",
        "How long ago the peer closed each connection that was never accepted.",
        _SS_INFO,
    ),
    # port
    "port.number": ("port", "gauge", "count", "The local port.", "ss -tan"),
    # destination
    "destination.address": ("destination", "text", "text", "Address of the peer.", "ss -tan"),
    "destination.port": ("destination", "gauge", "count", "Port of the peer.", "ss -tan"),
    "destination.endpoint": (
        "destination",
        "text",
        "text",
        "Address and port of the peer.",
        "ss -tan",
    ),
    "destination.source": (
        "destination",
        "text",
        "text",
        "Local address of the connections to this peer.",
        "ss -tan",
    ),
    "destination.owners": (
        "destination",
        "text",
        "text",
        "Processes whose connections to this peer are in SYN_SENT, those with most first.",
        "ss -tanp state syn-sent",
    ),
    "ports.used": (
        "destination",
        "gauge",
        "count",
        "Ephemeral ports in use between this source address and this peer's port, in any state.",
        "ss -tan dst ADDRESS dport = :PORT src SOURCE",
    ),
    "ports.time_wait": (
        "destination",
        "gauge",
        "count",
        "Of the ephemeral ports in use towards this peer, those in TIME_WAIT.",
        "ss -tan state time-wait dst ADDRESS dport = :PORT src SOURCE",
    ),
    "ports.blocked": (
        "destination",
        "gauge",
        "count",
        (
            "Of the ephemeral ports in use towards this peer, those that connect() cannot take: all but the "
            "TIME_WAIT that net.ipv4.tcp_tw_reuse lets it take over."
        ),
        "ss -tan dst ADDRESS dport = :PORT src SOURCE, /proc/sys/net/ipv4/tcp_tw_reuse",
    ),
    "ports.time_wait_reuse": (
        "destination",
        "text",
        "text",
        "Whether connect() may take over ports in TIME_WAIT towards this peer, and what decides it.",
        "/proc/sys/net/ipv4/tcp_tw_reuse, /proc/sys/net/ipv4/tcp_timestamps",
    ),
    "syn_sent.lasting": (
        "destination",
        "gauge",
        "count",
        (
            "Connection attempts to this peer without answer: an earlier look at least 0.9 s ago found them, "
            "or the SYN was retransmitted three times."
        ),
        "ss -tano state syn-sent (timer)",
    ),
    "syn_sent.lasting_ages": (
        "destination",
        "ages",
        "second",
        "How long each unanswered connection attempt has lasted, from its retransmissions and timer.",
        "ss -tanoi state syn-sent (timer, rto, backoff)",
    ),
    "syn_sent.oldest_age": (
        "destination",
        "gauge",
        "second",
        "How long the oldest connection attempt to this peer has lasted; 0 where there is none.",
        "ss -tanoi state syn-sent (timer, rto, backoff)",
    ),
}
