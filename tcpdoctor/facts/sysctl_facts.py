"""The words for sysctls; data only.

Each is (unit of the file, meaning). A fact has one of the program's own units, so values that the
kernel keeps in milli-, micro- or nanoseconds or in percent are converted, and the sentence says so;
`sysctl -n NAME` still prints the kernel's number. ``switch`` is a number that selects a behaviour.

Source: Linux Documentation/networking/ip-sysctl.rst, Documentation/admin-guide/sysctl/net.rst and fs.rst.
"""

_BUFFER = {
    "min": "guaranteed even under memory pressure",
    "default": "its size at first",
    "max": "the most that it grows to by itself",
}

SYSCTL_FACTS: dict[str, tuple[str, str]] = {
    # closing
    "net.ipv4.tcp_fin_timeout": (
        "second",
        "How long an orphaned socket may stay in FIN_WAIT_2; it has no influence on TIME_WAIT.",
    ),
    "net.ipv4.tcp_max_orphans": (
        "count",
        "Orphaned sockets (closed, not yet finished) that the machine may keep; above it they are reset.",
    ),
    "net.ipv4.tcp_max_tw_buckets": (
        "count",
        "Minisockets (TIME_WAIT, orphans' FIN_WAIT_2) that may exist; no further one is kept.",
    ),
    "net.ipv4.tcp_orphan_retries": (
        "count",
        "Retransmissions after which an orphaned socket is given up; 0 stands for 8.",
    ),
    "net.ipv4.tcp_rfc1337": ("switch", "Whether RST segments are ignored in TIME_WAIT, as RFC 1337 says."),
    "net.ipv4.tcp_tw_reuse": (
        "switch",
        "Whether connect() may reuse a port in TIME_WAIT towards the same peer: 0 no, 1 yes, 2 on loopback.",
    ),
    "net.ipv4.tcp_tw_reuse_delay": (
        "millisecond",
        "How old a TIME_WAIT socket must be before connect() may reuse it; milliseconds in the file.",
    ),
    # keepalive and retransmission
    "net.ipv4.tcp_keepalive_time": (
        "second",
        "Idle time before the first keepalive probe of a socket with SO_KEEPALIVE.",
    ),
    "net.ipv4.tcp_keepalive_intvl": ("second", "Time between unanswered keepalive probes."),
    "net.ipv4.tcp_keepalive_probes": (
        "count",
        "Unanswered keepalive probes after which a connection is dead.",
    ),
    "net.ipv4.tcp_retries1": (
        "count",
        "Retransmissions without answer after which the network layer is told to look for another route.",
    ),
    "net.ipv4.tcp_retries2": (
        "count",
        "Retransmissions without answer after which an owned connection is given up.",
    ),
    "net.ipv4.tcp_syn_retries": ("count", "How often a SYN is retransmitted before connect() fails."),
    "net.ipv4.tcp_syn_linear_timeouts": (
        "count",
        "How many of the first retransmissions of a SYN come at a constant interval, before it doubles.",
    ),
    "net.ipv4.tcp_synack_retries": (
        "count",
        "How often a SYN+ACK is retransmitted to a client that does not answer.",
    ),
    "net.ipv4.tcp_rto_min_us": (
        "microsecond",
        "Smallest retransmission timeout; microseconds in the file.",
    ),
    "net.ipv4.tcp_rto_max_ms": (
        "millisecond",
        "Largest retransmission timeout; milliseconds in the file.",
    ),
    "net.ipv4.tcp_retrans_collapse": (
        "switch",
        "Whether retransmissions may be joined to larger segments, for broken printers.",
    ),
    "net.ipv4.tcp_early_retrans": ("switch", "Tail loss probe: 0 off, 3 or 4 on."),
    "net.ipv4.tcp_frto": (
        "switch",
        "Whether spurious retransmission timeouts are detected (F-RTO, RFC 5682).",
    ),
    "net.ipv4.tcp_recovery": ("switch", "Bits that choose how losses are detected; 1 is RACK."),
    "net.ipv4.tcp_reordering": (
        "count",
        "Packets that may arrive out of order before one counts as lost, at first.",
    ),
    "net.ipv4.tcp_max_reordering": (
        "count",
        "Largest tcp_reordering that a connection may learn by itself.",
    ),
    "net.ipv4.tcp_thin_linear_timeouts": (
        "switch",
        "Whether streams with few packets in flight retransmit at constant intervals at first.",
    ),
    # listening
    "net.core.somaxconn": ("count", "Upper limit of the backlog that listen() takes."),
    "net.ipv4.tcp_max_syn_backlog": (
        "count",
        "Half-open connections that one listener may remember; see also net.core.somaxconn.",
    ),
    "net.ipv4.tcp_syncookies": (
        "switch",
        "Whether a full SYN queue is answered with SYN cookies: 0 never, 1 when full, 2 always.",
    ),
    "net.ipv4.tcp_abort_on_overflow": (
        "switch",
        "Whether a client whose final handshake ACK meets a full accept queue is reset, not ignored.",
    ),
    "net.ipv4.tcp_migrate_req": (
        "switch",
        "Whether waiting connections of a closed SO_REUSEPORT listener move to another of its group.",
    ),
    "net.ipv4.tcp_fastopen": ("switch", "Bits that enable TCP Fast Open: 1 as client, 2 as server."),
    "net.ipv4.tcp_fastopen_blackhole_timeout_sec": (
        "second",
        "How long Fast Open is off after a firewall has swallowed its SYN; 0: it is not detected.",
    ),
    # ports
    "net.ipv4.ip_local_port_range": ("count", "Ports that connect() and bind(0) choose from"),
    "net.ipv4.ip_local_reserved_ports": (
        "ports",
        "Ports that connect() and bind(0) never choose; an explicit bind() may still take them.",
    ),
    "net.ipv4.ip_unprivileged_port_start": ("count", "First port that needs no privilege to bind."),
    "net.ipv4.ip_nonlocal_bind": (
        "switch",
        "Whether an IPv4 bind() accepts an address that is not of this host.",
    ),
    "net.ipv4.ip_autobind_reuse": (
        "switch",
        "Whether bind(0) with SO_REUSEADDR may share a port once no free one is left.",
    ),
    "net.ipv6.bindv6only": (
        "switch",
        "Whether an IPv6 socket leaves IPv4 alone (IPV6_V6ONLY) unless its program says otherwise.",
    ),
    "net.ipv6.ip_nonlocal_bind": (
        "switch",
        "Whether an IPv6 bind() accepts an address that is not of this host.",
    ),
    # memory
    "net.ipv4.tcp_mem": ("page", "Memory that the buffers of all TCP sockets of the machine may hold"),
    "net.ipv4.tcp_rmem": ("byte", "Receive buffer of a TCP socket"),
    "net.ipv4.tcp_wmem": ("byte", "Send buffer of a TCP socket"),
    "net.core.rmem_default": ("byte", "Receive buffer of sockets other than TCP."),
    "net.core.rmem_max": ("byte", "Largest receive buffer that SO_RCVBUF may ask for."),
    "net.core.wmem_default": ("byte", "Send buffer of sockets other than TCP."),
    "net.core.wmem_max": ("byte", "Largest send buffer that SO_SNDBUF may ask for."),
    "net.core.optmem_max": ("byte", "Memory that one socket's options and control messages may hold."),
    "net.ipv4.tcp_moderate_rcvbuf": ("switch", "Whether receive buffers grow by themselves with the path."),
    "net.ipv4.tcp_adv_win_scale": (
        "switch",
        "Share of the receive buffer that is set aside for overhead, as a power of two; obsolete since 6.6.",
    ),
    "net.ipv4.tcp_app_win": (
        "switch",
        "Share of the window that is kept for the application, as a power of two.",
    ),
    "net.ipv4.tcp_shrink_window": (
        "switch",
        "Whether the advertised window may shrink to limit memory; RFC 9293 advises against it.",
    ),
    "net.ipv4.tcp_notsent_lowat": (
        "byte",
        "Unsent bytes above which a socket is not writable; 4294967295 sets no limit.",
    ),
    "net.ipv4.tcp_limit_output_bytes": (
        "byte",
        "Bytes of one socket that may wait in the queues of the device.",
    ),
    # options of the protocol
    "net.ipv4.tcp_timestamps": (
        "switch",
        "TCP timestamps: 0 off, 1 with a random offset per connection, 2 without.",
    ),
    "net.ipv4.tcp_sack": ("switch", "Whether selective acknowledgements are used."),
    "net.ipv4.tcp_dsack": ("switch", "Whether duplicates are reported by selective acknowledgements."),
    "net.ipv4.tcp_fack": ("switch", "Without effect; kept for old configurations."),
    "net.ipv4.tcp_window_scaling": ("switch", "Whether windows above 64 KiB are possible (RFC 7323)."),
    "net.ipv4.tcp_ecn": (
        "switch",
        "Explicit congestion notification: 0 off, 1 asked for and accepted, 2 accepted; 3 to 5: AccECN.",
    ),
    "net.ipv4.tcp_ecn_fallback": (
        "switch",
        "Whether a SYN that asks for ECN and gets no answer is repeated without asking.",
    ),
    "net.ipv4.tcp_ecn_option": ("switch", "When AccECN sends its option: 0 never, 1 in part, 2 as needed."),
    "net.ipv4.tcp_ecn_option_beacon": ("count", "How often per round trip AccECN sends its option at least."),
    "net.ipv4.tcp_stdurg": ("switch", "Which of two readings of the urgent pointer is used."),
    "net.ipv4.tcp_reflect_tos": (
        "switch",
        "Whether a server answers with the DSCP value of the client's SYN.",
    ),
    "net.ipv4.tcp_workaround_signed_windows": (
        "switch",
        "Whether a peer without window scaling is taken to read the window as a signed number.",
    ),
    "net.ipv4.tcp_challenge_ack_limit": (
        "per_second",
        "Challenge ACKs that the namespace may send per second; 2147483647 sets no limit.",
    ),
    "net.ipv4.tcp_invalid_ratelimit": (
        "millisecond",
        "Least time between two ACKs that answer invalid segments of a connection; milliseconds in the file.",
    ),
    "net.ipv4.tcp_backlog_ack_defer": (
        "switch",
        "Whether the ACK of packets that waited for the socket's lock is sent once, at the end.",
    ),
    "net.ipv4.tcp_pingpong_thresh": (
        "count",
        "Answers in a row after which a connection counts as interactive and delays its ACKs.",
    ),
    "net.ipv4.tcp_comp_sack_delay_ns": (
        "nanosecond",
        "Longest time that selective acknowledgements are held back; nanoseconds in the file.",
    ),
    "net.ipv4.tcp_comp_sack_slack_ns": (
        "nanosecond",
        "Slack of the timer that holds selective acknowledgements back; nanoseconds in the file.",
    ),
    "net.ipv4.tcp_comp_sack_nr": ("count", "Selective acknowledgements that may be held back; 0: none."),
    # sending
    "net.ipv4.tcp_congestion_control": ("text", "Congestion control of connections that choose none."),
    "net.ipv4.tcp_available_congestion_control": ("text", "Congestion controls that are loaded."),
    "net.ipv4.tcp_allowed_congestion_control": ("text", "Congestion controls that any process may choose."),
    "net.ipv4.tcp_available_ulp": ("text", "Upper layer protocols that are loaded, such as tls."),
    "net.ipv4.tcp_slow_start_after_idle": (
        "switch",
        "Whether the congestion window shrinks after an idle period.",
    ),
    "net.ipv4.tcp_autocorking": (
        "switch",
        "Whether small writes are joined while earlier packets still wait.",
    ),
    "net.ipv4.tcp_no_metrics_save": (
        "switch",
        "Whether a closing connection forgets what it learned of the path instead of saving it.",
    ),
    "net.ipv4.tcp_no_ssthresh_metrics_save": (
        "switch",
        "Whether the slow start threshold is left out of what is saved.",
    ),
    "net.ipv4.tcp_min_rtt_wlen": ("second", "Time over which the smallest round trip time is tracked."),
    "net.ipv4.tcp_min_tso_segs": ("count", "Least segments of one packet for segmentation offload."),
    "net.ipv4.tcp_tso_rtt_log": (
        "switch",
        "Round trip time under which offloaded packets grow, as a power of two of microseconds; 0 off.",
    ),
    "net.ipv4.tcp_tso_win_divisor": (
        "switch",
        "Fraction of the congestion window that one offloaded packet may take.",
    ),
    "net.ipv4.tcp_pacing_ss_ratio": (
        "percent",
        "Pacing rate relative to the current rate in slow start; percent in the file.",
    ),
    "net.ipv4.tcp_pacing_ca_ratio": (
        "percent",
        "Pacing rate relative to the current rate in congestion avoidance; percent in the file.",
    ),
    "net.ipv4.tcp_mtu_probing": (
        "switch",
        "Search for the path's packet size by probes: 0 off, 1 after a black hole, 2 always.",
    ),
    "net.ipv4.tcp_base_mss": ("byte", "Segment size at which the search of tcp_mtu_probing starts."),
    "net.ipv4.tcp_mtu_probe_floor": (
        "byte",
        "Least segment size that the search of tcp_mtu_probing tries.",
    ),
    "net.ipv4.tcp_min_snd_mss": ("byte", "Smallest segment size that a peer may impose."),
    "net.ipv4.tcp_probe_interval": ("second", "Time between two searches for a larger packet size."),
    "net.ipv4.tcp_probe_threshold": ("byte", "Bytes of doubt at which the search of tcp_mtu_probing ends."),
    "net.ipv4.tcp_plb_enabled": ("switch", "Whether a congested connection may move to another path (PLB)."),
    "net.ipv4.tcp_plb_idle_rehash_rounds": (
        "count",
        "Congested rounds after which an idle connection may move.",
    ),
    "net.ipv4.tcp_plb_rehash_rounds": ("count", "Congested rounds after which a busy connection moves."),
    "net.ipv4.tcp_plb_suspend_rto_sec": ("second", "Time without moving after a retransmission timeout."),
    "net.ipv4.tcp_plb_cong_thresh": (
        "switch",
        "Share of packets with congestion marks that makes a round congested, in 1/256.",
    ),
    # the rest
    "net.ipv4.tcp_early_demux": ("switch", "Whether a packet's socket is looked up before its route."),
    "net.ipv4.tcp_fwmark_accept": (
        "switch",
        "Whether accepted sockets take over the mark of the client's SYN.",
    ),
    "net.ipv4.tcp_l3mdev_accept": ("switch", "Whether one listener serves all VRFs."),
    "net.ipv4.tcp_low_latency": ("switch", "Without effect; kept for old configurations."),
    "net.ipv4.tcp_rx_skb_cache": (
        "switch",
        "Whether freed receive buffers are cached per socket; gone since 5.16.",
    ),
    "net.ipv4.tcp_tx_skb_cache": (
        "switch",
        "Whether freed send buffers are cached per socket; gone since 5.16.",
    ),
    "net.ipv4.tcp_ehash_entries": (
        "count",
        "Buckets of the table of connections; negative: shared with the initial namespace.",
    ),
    "net.ipv4.tcp_child_ehash_entries": (
        "count",
        "Connection table's buckets in namespaces made from here; 0: shared with the initial one's.",
    ),
    "net.core.netdev_max_backlog": ("count", "Packets that may wait for the CPU on the way in."),
    "net.core.netdev_budget": ("count", "Packets that one round of network processing may take."),
    "net.core.netdev_budget_usecs": (
        "microsecond",
        "Time that one round of network processing may take; microseconds in the file.",
    ),
    "net.ipv4.ip_default_ttl": ("count", "Hops that an IPv4 packet of this host may take."),
    "net.ipv4.ip_no_pmtu_disc": ("switch", "Path MTU discovery: 0 on, 1 and 2 off, 3 on and stricter."),
    "net.ipv4.neigh.default.gc_thresh1": ("count", "Neighbours (ARP) below which none is taken out."),
    "net.ipv4.neigh.default.gc_thresh2": ("count", "Neighbours above which old ones are taken out at once."),
    "net.ipv4.neigh.default.gc_thresh3": ("count", "Neighbours that the machine may know at most."),
    "net.core.default_qdisc": ("text", "Queueing discipline of new devices."),
    "net.netfilter.nf_conntrack_count": ("count", "Connections that this namespace tracks now."),
    "net.netfilter.nf_conntrack_max": (
        "count",
        "Connections that each network namespace may track; 0 sets no limit.",
    ),
    "net.netfilter.nf_conntrack_buckets": (
        "count",
        "Buckets of the table of tracked connections, which all namespaces share.",
    ),
    "net.netfilter.nf_conntrack_tcp_timeout_established": (
        "second",
        "How long a tracked connection may be idle before it is forgotten.",
    ),
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait": (
        "second",
        "How long the firewall's table keeps a half-closed connection; no socket is concerned.",
    ),
    "net.netfilter.nf_conntrack_tcp_timeout_time_wait": (
        "second",
        "How long the firewall's table keeps a closed connection; no socket is concerned.",
    ),
    "net.netfilter.nf_conntrack_tcp_be_liberal": (
        "switch",
        "1 where tracking takes packets outside a connection's window for valid, all but resets.",
    ),
    "fs.file-nr": ("count", "Open files of the machine"),
    "fs.file-max": ("count", "Open files that the machine may have."),
    "fs.nr_open": ("count", "Largest limit of descriptors that a process may be given."),
}

NOT_READ = frozenset({"net.ipv4.tcp_fastopen_key"})
"""Settings of TCP that are secrets."""

PARTS: dict[str, dict[str, str]] = {
    "net.ipv4.ip_local_port_range": {"low": "the first", "high": "the last, included"},
    "net.ipv4.tcp_mem": {
        "min": "below this TCP saves nothing",
        "pressure": "above this TCP saves memory",
        "max": "above this TCP gets no more",
    },
    "fs.file-nr": {
        "open": "those that there are",
        "unused": "those that are allocated and not in use, 0 since Linux 2.6",
        "max": "those that there may be, the same as fs.file-max",
    },
    "net.ipv4.tcp_rmem": _BUFFER,
    "net.ipv4.tcp_wmem": _BUFFER,
}
"""Sysctls of several numbers: the suffixes of their facts, in the file's order."""
