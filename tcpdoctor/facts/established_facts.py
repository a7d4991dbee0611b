"""The words for facts about connections in ESTABLISHED and SYN_RECV; data only, as `own_facts`."""

_UNANSWERED = "connections in ESTABLISHED that have sent the same segment three times or more without answer"
_SS_ON = "ss -tno state established (timer:(on,..,3) or (persist,..,3), or more)"
_SS_INFO_ON = "ss -tnoi state established (timer, rto, backoff, lastack)"
_SS_PERSIST = "ss -tnoi state established (timer:(persist,..), backoff, lastsnd)"
_SS_IDLE = "ss -tnoi state established (no timer, lastsnd, lastrcv)"
_SS_MEMORY = "ss -tnm (Recv-Q, Send-Q, skmem)"
_SAMPLED = "Of the established connections looked at (all up to 256, else a uniform sample of 256)"

ESTABLISHED_FACTS: dict[str, tuple[str, str, str, str, str]] = {
    # host
    "established.no_timer": (
        "host",
        "gauge",
        "count",
        "Connections in ESTABLISHED without any timer: nothing is outstanding, and keepalive is off.",
        "ss -Htno state established | grep -vc timer:",
    ),
    "established.keepalive": (
        "host",
        "gauge",
        "count",
        "Connections in ESTABLISHED with nothing outstanding, whose keepalive timer runs (SO_KEEPALIVE).",
        "ss -Htno state established | grep -c timer:.keepalive",
    ),
    "established.retransmitting": (
        "host",
        "gauge",
        "count",
        "Connections in ESTABLISHED with data on its way: the retransmission timer runs, just in case.",
        "ss -Htno state established | grep -c timer:.on",
    ),
    "established.probing": (
        "host",
        "gauge",
        "count",
        "Connections in ESTABLISHED with data to send held back, mostly as the peer's window is closed.",
        "ss -Htno state established | grep -c timer:.persist",
    ),
    "unanswered.sockets": (
        "host",
        "gauge",
        "count",
        f"{_UNANSWERED[0].upper()}{_UNANSWERED[1:]}.",
        _SS_ON,
    ),
    "unanswered.backoff": (
        "host",
        "gauge",
        "count",
        (
            "How often the most repeated segment or probe of these connections was sent again unanswered; "
            "each time the wait doubled. 0 where there is none."
        ),
        _SS_INFO_ON,
    ),
    "unanswered.incoming_ages": (
        "host",
        "ages",
        "second",
        f"Of the {_UNANSWERED}, those that were accepted here: for how long.",
        _SS_INFO_ON,
    ),
    "unanswered.incoming_peers": (
        "host",
        "text",
        "text",
        "Peers of the accepted connections without answer, those with most first.",
        _SS_ON,
    ),
    "unanswered.incoming_owners": (
        "host",
        "text",
        "text",
        "Processes that hold the accepted connections without answer, those with most first.",
        "ss -tnop state established",
    ),
    "unanswered.incoming_send_queue": (
        "host",
        "gauge",
        "byte",
        "Bytes that the accepted connections without answer still hold for their peers.",
        "ss -tno state established (Send-Q)",
    ),
    "zero_window.ages": (
        "host",
        "ages",
        "second",
        "How long each established connection with data to send has found its peer's window closed.",
        _SS_PERSIST,
    ),
    "zero_window.oldest": (
        "host",
        "gauge",
        "second",
        "How long the longest-waiting of these has found its peer's window closed; 0 where there is none.",
        _SS_PERSIST,
    ),
    "zero_window.peers": (
        "host",
        "text",
        "text",
        "Peers whose windows are closed, those with most connections first.",
        "ss -tno state established (timer:(persist,..))",
    ),
    "zero_window.owners": (
        "host",
        "text",
        "text",
        "Processes that wait for a closed window to open, those with most connections first.",
        "ss -tnop state established (timer:(persist,..))",
    ),
    "zero_window.send_queue": (
        "host",
        "gauge",
        "byte",
        "Bytes that wait here for the closed windows of peers to open.",
        "ss -tno state established (timer:(persist,..), Send-Q)",
    ),
    "idle.sampled": (
        "host",
        "gauge",
        "count",
        "Connections in ESTABLISHED that were looked at for how long they are idle.",
        "ss -Htno state established | wc -l (at most 256 of them)",
    ),
    "idle.unprobed_ages": (
        "host",
        "ages",
        "second",
        (
            f"{_SAMPLED}, those to other hosts without any timer, keepalive off: how long no data went "
            "either way."
        ),
        _SS_IDLE,
    ),
    "idle.oldest_unprobed": (
        "host",
        "gauge",
        "second",
        "How long the most idle of these has been idle; 0 where there is none.",
        _SS_IDLE,
    ),
    "idle.unprobed_peers": (
        "host",
        "text",
        "text",
        "Peers of the sixteen longest idle of these, those with most first.",
        _SS_IDLE,
    ),
    "idle.unprobed_owners": (
        "host",
        "text",
        "text",
        (
            "Processes that hold the sixteen longest idle of these, those with most first; looked up where "
            "they have been idle for an hour."
        ),
        "ss -tnopi state established (no timer, lastsnd, lastrcv)",
    ),
    "self_connected.sockets": (
        "host",
        "gauge",
        "count",
        "Connections whose two ends are one and the same socket: it connected to its own port.",
        "ss -tn state established (Local Address:Port equal to Peer Address:Port)",
    ),
    "self_connected.endpoints": (
        "host",
        "text",
        "text",
        "Address and port of each socket that is connected to itself.",
        "ss -tn state established (Local Address:Port equal to Peer Address:Port)",
    ),
    "self_connected.owners": (
        "host",
        "text",
        "text",
        "Processes that hold a socket connected to itself.",
        "ss -tnp state established (Local Address:Port equal to Peer Address:Port)",
    ),
    "self_connected.ports": (
        "host",
        "text",
        "text",
        "Their ports with commas between them, as net.ipv4.ip_local_reserved_ports takes them.",
        "ss -tn state established (Local Address:Port equal to Peer Address:Port)",
    ),
    "queues.large": (
        "host",
        "gauge",
        "count",
        "Connections with 1 MiB or more in a queue, unread here or not acknowledged by the peer.",
        _SS_MEMORY,
    ),
    "queues.large_bytes": (
        "host",
        "gauge",
        "byte",
        "Bytes in the queues of the connections with 1 MiB or more in one of them.",
        _SS_MEMORY,
    ),
    "queues.large_owners": (
        "host",
        "text",
        "text",
        "Who holds these connections, how many and with how much unread and unsent, the most bytes first.",
        "ss -tnmp (Recv-Q, Send-Q, skmem)",
    ),
    # listener
    "syn_queue.length": (
        "listener",
        "gauge",
        "count",
        (
            "Half-open connections to this listener (SYN_RECV). Clients that were answered with a SYN cookie "
            "are not among them: the kernel keeps nothing of those."
        ),
        "ss -tn state syn-recv sport = :PORT",
    ),
    "syn_queue.length_before": (
        "listener",
        "gauge",
        "count",
        "The same at the first of the two samples.",
        "ss -tn state syn-recv sport = :PORT",
    ),
    "syn_queue.least": (
        "listener",
        "gauge",
        "count",
        "The smaller of these numbers in the samples there are.",
        "ss -tn state syn-recv sport = :PORT",
    ),
    "syn_queue.limit": (
        "listener",
        "gauge",
        "count",
        (
            "Half-open connections that fit: the backlog of listen() (at most net.core.somaxconn), and where "
            "SYN cookies are off three quarters of net.ipv4.tcp_max_syn_backlog if that is less."
        ),
        "ss -tln (Send-Q), /proc/sys/net/ipv4/tcp_max_syn_backlog",
    ),
    "syn_queue.repeated": (
        "listener",
        "gauge",
        "count",
        "Of its half-open connections those whose SYN+ACK was sent again, as nothing came back in a second.",
        "ss -tno state syn-recv sport = :PORT (timer:(on,..,1) or more)",
    ),
    "syn_queue.peers": (
        "listener",
        "text",
        "text",
        "Addresses that the half-open connections came from, those with most first.",
        "ss -tn state syn-recv sport = :PORT",
    ),
    # destination
    "destination.unanswered_ages": (
        "destination",
        "ages",
        "second",
        f"How long each of the {_UNANSWERED} from this peer has waited.",
        _SS_INFO_ON,
    ),
    "destination.unanswered_oldest": (
        "destination",
        "gauge",
        "second",
        "How long the longest-waiting of these has had no answer; 0 where there is none.",
        _SS_INFO_ON,
    ),
    "destination.unanswered_owners": (
        "destination",
        "text",
        "text",
        "Processes whose established connections to this peer get no answer, those with most first.",
        "ss -tnop state established",
    ),
    "destination.unanswered_send_queue": (
        "destination",
        "gauge",
        "byte",
        "Bytes sent or to be sent to this peer on the connections without answer.",
        "ss -tno state established (Send-Q)",
    ),
}
