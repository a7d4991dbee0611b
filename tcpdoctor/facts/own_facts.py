"""The words for facts of the host that are computed here and have no name in the kernel; data only.

Each is (scope, kind, unit, meaning, source); `vocabulary` turns them into `Fact`.
"""

_LASTS = (
    "an earlier look at least 0.9 s ago found it with the same bytes still to be acknowledged, or it has "
    "retransmitted, or probed a closed window without answer, three times"
)

OWN_FACTS: dict[str, tuple[str, str, str, str, str]] = {
    # host
    "kernel.page_size": (
        "host",
        "gauge",
        "byte",
        "Size of a memory page, the unit of net.ipv4.tcp_mem and of sockstat's mem.",
        "getconf PAGESIZE",
    ),
    "kernel.memory": (
        "host",
        "gauge",
        "page",
        "Memory of the machine in pages; what net.ipv4.tcp_mem is compared with.",
        "/proc/meminfo (MemTotal), divided by the size of a page",
    ),
    "files.default_limit": (
        "host",
        "gauge",
        "count",
        "The least that a kernel takes for fs.file-max by itself, with this machine's memory.",
        "/proc/meminfo (MemTotal in kB), a tenth of it",
    ),
    "softnet.processed": (
        "host",
        "counter",
        "count",
        "Packets that the CPUs of the whole machine took up, of all protocols and namespaces.",
        "/proc/net/softnet_stat (first column, hexadecimal, a line for each CPU)",
    ),
    "softnet.dropped": (
        "host",
        "counter",
        "count",
        "Packets that the whole machine dropped because net.core.netdev_max_backlog waited for a CPU.",
        "/proc/net/softnet_stat (second column, hexadecimal, a line for each CPU)",
    ),
    "softnet.squeezed": (
        "host",
        "counter",
        "count",
        "Times that a CPU stopped receiving with packets left over; they are taken up a moment later.",
        "/proc/net/softnet_stat (third column, hexadecimal, a line for each CPU)",
    ),
    "ports.usable": (
        "host",
        "gauge",
        "count",
        "Ephemeral ports that connect() and bind(0) choose from: ip_local_port_range less the reserved.",
        "/proc/sys/net/ipv4/ip_local_port_range, /proc/sys/net/ipv4/ip_local_reserved_ports",
    ),
    "ports.reserved": (
        "host",
        "gauge",
        "count",
        "Ports inside net.ipv4.ip_local_port_range that net.ipv4.ip_local_reserved_ports takes out of it.",
        "/proc/sys/net/ipv4/ip_local_reserved_ports",
    ),
    "ports.in_range": (
        "host",
        "gauge",
        "count",
        "Ports of net.ipv4.ip_local_port_range, both ends included, reserved ones as well.",
        "/proc/sys/net/ipv4/ip_local_port_range",
    ),
    "ports.bound": (
        "host",
        "gauge",
        "count",
        (
            "Ephemeral ports with a socket that is bound and not connected, listening or not: connect() and "
            "bind() to port 0 skip them."
        ),
        "ss -tln; ss -tanB of iproute2 6.8 and later (ports inside the range)",
    ),
    "ports.connectable": (
        "host",
        "gauge",
        "count",
        (
            "Ephemeral ports that connect() chooses from: the usable ones without a listener, nor a socket "
            "that is merely bound where the kernel lists these (Linux 6.8)."
        ),
        "/proc/sys/net/ipv4/ip_local_port_range, ip_local_reserved_ports; ss -tln; ss -tanB",
    ),
    "ports.bound_owners": (
        "host",
        "text",
        "text",
        "Processes that hold these sockets, those with most first.",
        "ss -tlnp; ss -tanBp of iproute2 6.8 and later",
    ),
    "time_wait.at_listeners": (
        "host",
        "gauge",
        "count",
        (
            "Sockets in TIME_WAIT on ports that somebody listens on: connections that were accepted here and "
            "closed here first."
        ),
        "ss -tan state time-wait; ss -tln (the same local port)",
    ),
    "conntrack.entries": (
        "host",
        "gauge",
        "count",
        "Connections that this network namespace tracks, of TCP and others, ended ones included for a while.",
        "/proc/sys/net/netfilter/nf_conntrack_count (conntrack -C)",
    ),
    "conntrack.limit": (
        "host",
        "gauge",
        "count",
        "Connections that each network namespace may track; 0 sets no limit.",
        "/proc/sys/net/netfilter/nf_conntrack_max",
    ),
    "snat.ports_used": (
        "host",
        "gauge",
        "count",
        (
            "Ports that source NAT has given to connections from one address of its own to one destination: "
            "of the destination with most. Read only where insertions into the table fail."
        ),
        "/proc/net/nf_conntrack (the second src, sport, dst and dport of each entry)",
    ),
    "snat.ports_span": (
        "host",
        "gauge",
        "count",
        "Ports from the lowest to the highest of these: as many as are used, where none between is free.",
        "/proc/net/nf_conntrack (the second dport of each entry)",
    ),
    "snat.ports": (
        "host",
        "text",
        "text",
        "The lowest and the highest of these ports.",
        "/proc/net/nf_conntrack (the second dport of each entry)",
    ),
    "snat.source": (
        "host",
        "text",
        "text",
        "The address of the NAT that these ports belong to.",
        "/proc/net/nf_conntrack (the second dst of each entry)",
    ),
    "snat.destination": (
        "host",
        "text",
        "text",
        "The destination with most of these ports, and the protocol.",
        "/proc/net/nf_conntrack (the second src and sport of each entry)",
    ),
    "files.open": (
        "host",
        "gauge",
        "count",
        "Open files of the whole machine, sockets among them, also when read inside a namespace.",
        "/proc/sys/fs/file-nr (first number)",
    ),
    "files.limit": (
        "host",
        "gauge",
        "count",
        "Open files that the machine may have.",
        "/proc/sys/fs/file-max",
    ),
    "fin_wait_2.orphaned": (
        "host",
        "gauge",
        "count",
        "Sockets in FIN_WAIT_2 that no file refers to; the kernel ends them after net.ipv4.tcp_fin_timeout.",
        "ss -tane state fin-wait-2 (rows with ino:0)",
    ),
    "fin_wait_2.orphan_peers": (
        "host",
        "text",
        "text",
        "Peers of the orphaned FIN_WAIT_2 sockets, those with most first.",
        "ss -tane state fin-wait-2 (rows with ino:0)",
    ),
    "fin_wait_1.lasting": (
        "host",
        "gauge",
        "count",
        f"Sockets in FIN_WAIT_1 that are stuck: {_LASTS}.",
        "ss -tano state fin-wait-1 (timer, Send-Q)",
    ),
    "fin_wait_1.lasting_peers": (
        "host",
        "text",
        "text",
        "Peers of the sockets stuck in FIN_WAIT_1, those with most first.",
        "ss -tano state fin-wait-1 (timer, Send-Q)",
    ),
    "fin_wait_1.lasting_send_queue": (
        "host",
        "gauge",
        "byte",
        "Bytes that the sockets stuck in FIN_WAIT_1 still hold for their peers.",
        "ss -tano state fin-wait-1 (Send-Q)",
    ),
    "fin_wait_1.closed_window_ages": (
        "host",
        "ages",
        "second",
        "How long each socket in FIN_WAIT_1 whose peer answers has found the peer's window closed.",
        "ss -tnoi state fin-wait-1 (timer:(persist,..), rto, backoff, lastsnd)",
    ),
    "fin_wait_1.closed_window_peers": (
        "host",
        "text",
        "text",
        "Peers that keep the windows of sockets in FIN_WAIT_1 closed, those with most first.",
        "ss -tno state fin-wait-1 (timer:(persist,..))",
    ),
    "fin_wait_1.closed_window_send_queue": (
        "host",
        "gauge",
        "byte",
        "Bytes that sockets in FIN_WAIT_1 hold for peers that keep their windows closed.",
        "ss -tno state fin-wait-1 (timer:(persist,..), Send-Q)",
    ),
    "fin_wait_1.at_full_queues": (
        "host",
        "gauge",
        "count",
        "Of the sockets stuck in FIN_WAIT_1, those whose peer is a listener here with a full accept queue.",
        "ss -tano state fin-wait-1; ss -tln (Recv-Q above Send-Q, the same port)",
    ),
    "fin_wait_1.full_queues": (
        "host",
        "text",
        "text",
        "These listeners.",
        "ss -tln (Recv-Q above Send-Q)",
    ),
    "last_ack.lasting": (
        "host",
        "gauge",
        "count",
        f"Sockets in LAST_ACK that are stuck: {_LASTS}.",
        "ss -tano state last-ack (timer, Send-Q)",
    ),
    "last_ack.lasting_peers": (
        "host",
        "text",
        "text",
        "Peers of the sockets stuck in LAST_ACK, those with most first.",
        "ss -tano state last-ack (timer, Send-Q)",
    ),
    "closing.lasting": (
        "host",
        "gauge",
        "count",
        f"Sockets in CLOSING that are stuck: {_LASTS}.",
        "ss -tano state closing (timer, Send-Q)",
    ),
}

SOCKSTAT_FACTS: dict[str, tuple[str, str]] = {
    "TCP.inuse": (
        "count",
        "IPv4 sockets of this namespace that listen or are connected, TIME_WAIT not included.",
    ),
    "TCP6.inuse": (
        "count",
        "IPv6 sockets of this namespace that listen or are connected, TIME_WAIT not included.",
    ),
    "TCP.orphan": (
        "count",
        (
            "TCP sockets that no file refers to and that are not yet minisockets, of the whole machine, even "
            "when read inside a network namespace."
        ),
    ),
    "TCP.tw": ("count", "Minisockets in this namespace: TIME_WAIT, and orphans' FIN_WAIT_2."),
    "TCP.alloc": (
        "count",
        "TCP sockets allocated, of the whole machine, even when read inside a network namespace.",
    ),
    "TCP.mem": (
        "page",
        "Memory that TCP's buffers hold, of the whole machine, even when read inside a network namespace.",
    ),
}
