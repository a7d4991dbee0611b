"""Settings that do harm, each in a namespace where it harms nobody."""

from collections.abc import Callable, Iterator, Mapping

from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.scenario import Broken, Cured, Scenario, Scene


def _setting(
    rule: str,
    harmful: Mapping[str, object],
    healthy: Mapping[str, object],
    why: str,
    cure: str,
    least: str = "warning",
) -> Callable[[], Iterator[Scene]]:
    """A story of settings that are harmful as they are, and no longer once they are set back."""

    def play() -> Iterator[Scene]:
        for name, value in harmful.items():
            write_sysctl(name, value)
        show = tuple(f"explain --sysctl {name.rpartition('.')[2]}" for name in healthy)
        yield Broken(why, fires={rule: least}, show=show, window=0)
        for name, value in healthy.items():
            write_sysctl(name, value)
        yield Cured(cure, window=0)

    return play


_FIN_TIMEOUT = "net.ipv4.tcp_fin_timeout"

SCENARIOS = (
    Scenario(
        "fin-timeout-short",
        "tcp_fin_timeout is so short that slow peers lose data",
        _setting(
            "fin-timeout-short",
            {_FIN_TIMEOUT: 5},
            {_FIN_TIMEOUT: 60},
            """
            tcp_fin_timeout is 5 s here; many articles recommend that "against TIME_WAIT". It has
            nothing to do with TIME_WAIT, which is 60 s whatever is set. It is the time that a
            socket which is closed here gives its peer to finish as well, in FIN_WAIT_2. A peer that
            needs longer gets a reset instead of an end.
            """,
            "tcp_fin_timeout is 60 s again, which is the kernel's default.",
        ),
    ),
    Scenario(
        "fin-timeout-between-61-and-89",
        "tcp_fin_timeout was raised and became shorter",
        _setting(
            "fin-timeout-between-61-and-89",
            {_FIN_TIMEOUT: 65},
            {_FIN_TIMEOUT: 60},
            """
            tcp_fin_timeout is 65 s, five more than the default, and orphans in FIN_WAIT_2 now live
            10 s. Above 60 s the kernel keeps the whole socket for (value - 60) s first, and then a
            small one for that same time once more: 2 x (65 - 60) = 10. Only from 90 on is it as
            long as the default.
            """,
            "tcp_fin_timeout is 60 s again: orphans live for 60 s.",
        ),
    ),
    Scenario(
        "tw-reuse-without-timestamps",
        "TIME_WAIT is to be reused, and timestamps are off",
        _setting(
            "tw-reuse-without-timestamps",
            {"net.ipv4.tcp_tw_reuse": 1, "net.ipv4.tcp_timestamps": 0},
            {"net.ipv4.tcp_timestamps": 1},
            """
            tcp_tw_reuse is 1: connect() may take a port over whose last connection is in TIME_WAIT.
            That is safe only because timestamps tell old segments from new ones, so without them
            the kernel does not do it. tcp_timestamps is 0 here: the setting has no effect at all.
            """,
            "With tcp_timestamps = 1, the default, tcp_tw_reuse does what was wanted.",
        ),
    ),
    Scenario(
        "syncookies-off",
        "SYN cookies are off: a flood of SYNs locks clients out",
        _setting(
            "syncookies-off",
            {"net.ipv4.tcp_syncookies": 0},
            {"net.ipv4.tcp_syncookies": 1},
            """
            tcp_syncookies is 0. While a listener's queue of half-open connections is full, every
            further SYN is dropped, so a few thousand forged SYNs a second are enough to lock all
            clients out. With 1 nothing changes until that happens; then the kernel answers without
            keeping anything, and clients still get in.
            """,
            "tcp_syncookies is 1, the default: cookies are sent only while the queue is full.",
        ),
    ),
    Scenario(
        "timestamps-off",
        "TCP timestamps are off",
        _setting(
            "timestamps-off",
            {"net.ipv4.tcp_timestamps": 0},
            {"net.ipv4.tcp_timestamps": 1},
            """
            tcp_timestamps is 0. Connections made from now on cannot tell old segments from new ones, and
            one that is made from a SYN cookie has neither window scaling nor SACK. They cost 12 bytes a
            packet, and their start is random: they show nobody how long the host is up.
            """,
            "With tcp_timestamps = 1, the default, new connections use them again.",
        ),
    ),
    Scenario(
        "window-scaling-off",
        "Windows end at 64 KiB",
        _setting(
            "window-scaling-off",
            {"net.ipv4.tcp_window_scaling": 0},
            {"net.ipv4.tcp_window_scaling": 1},
            """
            tcp_window_scaling is 0. No window of a connection made from now on is larger than 64 KiB: with
            a round trip of 50 ms it carries 1.3 MB/s, whatever the line can do.
            """,
            "With tcp_window_scaling = 1, the default, windows grow as far as the buffers do.",
        ),
    ),
    Scenario(
        "sack-off",
        "Selective acknowledgements are off",
        _setting(
            "sack-off",
            {"net.ipv4.tcp_sack": 0},
            {"net.ipv4.tcp_sack": 1},
            """
            tcp_sack is 0: a receiver cannot say which segments behind a gap it has, so each round trip
            repairs one loss, and neither RACK nor the tail loss probe works.
            """,
            "With tcp_sack = 1, the default, losses are repaired together.",
        ),
    ),
    Scenario(
        "tail-loss-probe-off",
        "An old default turns the tail loss probe off",
        _setting(
            "tail-loss-probe-off",
            {"net.ipv4.tcp_early_retrans": 1},
            {"net.ipv4.tcp_early_retrans": 3},
            """
            tcp_early_retrans is 1, as in many collections of settings. It turned early retransmit on, which
            is gone; today it turns off what took its place: the last segment of a message, once lost, waits
            for the retransmission timeout.
            """,
            "With tcp_early_retrans = 3, the default, the probe is on.",
            "info",
        ),
    ),
    Scenario(
        "rack-off",
        "Loss detection by time is off",
        _setting(
            "rack-off",
            {"net.ipv4.tcp_recovery": 0},
            {"net.ipv4.tcp_recovery": 1},
            """
            tcp_recovery is 0. Before Linux 6.17 that turns RACK off, which finds lost retransmissions;
            since then nothing else is left and the bit does nothing.
            """,
            "tcp_recovery is 1 again, the default.",
            "info",
        ),
    ),
    Scenario(
        "needless-retransmissions-untold",
        "Nobody tells what was sent twice",
        _setting(
            "needless-retransmissions-untold",
            {"net.ipv4.tcp_dsack": 0},
            {"net.ipv4.tcp_dsack": 1},
            """
            tcp_dsack is 0: a segment that comes twice is not reported, so its sender takes what was only late
            for lost, and stays slow.
            """,
            "tcp_dsack is 1 again, the default.",
            "info",
        ),
    ),
    Scenario(
        "output-limit-lowered",
        "A socket may queue less than one full packet",
        _setting(
            "output-limit-lowered",
            {"net.ipv4.tcp_limit_output_bytes": 4099},
            {"net.ipv4.tcp_limit_output_bytes": 4 << 20},
            """
            tcp_limit_output_bytes is 4099: once so much of a connection waits in this host's queues, it sends
            nothing before that has left.
            """,
            "It is 4 MiB, the default of Linux 6.18; earlier ones have 1 MiB.",
            "info",
        ),
    ),
    Scenario(
        "tcp-buffers-start-large",
        "Every connection may be sent 17 MB that nobody reads",
        _setting(
            "tcp-buffers-start-large",
            {"net.ipv4.tcp_rmem": "17000000 17000000 17000000"},
            {"net.ipv4.tcp_rmem": "4096 131072 33554432"},
            """
            All three numbers of tcp_rmem are 17 MB. Only the last makes fast, far connections fast: the
            second is where each begins, whoever its peer is.
            """,
            "tcp_rmem is 4096 131072 33554432, the default: buffers begin small and grow as far.",
            "info",
        ),
    ),
    Scenario(
        "segment-floor-high",
        "Segments may not become as small as a tunnel needs",
        _setting(
            "segment-floor-high",
            {"net.ipv4.tcp_min_snd_mss": 1399},
            {"net.ipv4.tcp_min_snd_mss": 48},
            """
            tcp_min_snd_mss is 1399: on a path that carries 1000 bytes full segments are dropped on this host
            itself, and the connection hangs.
            """,
            "tcp_min_snd_mss is 48, the default.",
            "warning",
        ),
    ),
    Scenario(
        "path-mtu-discovery-off",
        "TCP does not learn what paths carry",
        _setting(
            "path-mtu-discovery-off",
            {"net.ipv4.ip_no_pmtu_disc": 1},
            {"net.ipv4.ip_no_pmtu_disc": 0},
            """
            ip_no_pmtu_disc is 1: packets may be cut up on their way, and a report of a router makes the
            path as small as 552 bytes.
            """,
            "ip_no_pmtu_disc is 0, the default.",
            "info",
        ),
    ),
    Scenario(
        "ttl-low",
        "Far hosts cannot be reached",
        _setting(
            "ttl-low",
            {"net.ipv4.ip_default_ttl": 7},
            {"net.ipv4.ip_default_ttl": 64},
            """
            ip_default_ttl is 7: the eighth router drops what this host sends.
            """,
            "ip_default_ttl is 64, the default.",
            "warning",
        ),
    ),
    Scenario(
        "retries2-low",
        "A short outage ends every connection",
        _setting(
            "retries2-low",
            {"net.ipv4.tcp_retries2": 5},
            {"net.ipv4.tcp_retries2": 15},
            """
            tcp_retries2 is 5: a connection with data under way dies after 13 s without an answer. The
            reboot of a switch takes longer. RFC 1122 asks for 100 s, which is 8.
            """,
            "tcp_retries2 is 15 again: 15 minutes. Programs that want to know sooner set TCP_USER_TIMEOUT.",
        ),
    ),
    Scenario(
        "syn-retries-low",
        "connect() gives up after three seconds",
        _setting(
            "syn-retries-low",
            {"net.ipv4.tcp_syn_retries": 1},
            {"net.ipv4.tcp_syn_retries": 6},
            """
            tcp_syn_retries is 1: connect() fails with ETIMEDOUT three seconds after its first SYN was lost.
            """,
            "tcp_syn_retries is 6 again, the default.",
        ),
    ),
    Scenario(
        "keepalive-never",
        "A negative keepalive time means never",
        _setting(
            "keepalive-never",
            {"net.ipv4.tcp_keepalive_time": -1},
            {"net.ipv4.tcp_keepalive_time": 7200},
            """
            tcp_keepalive_time is -1, which the kernel takes: no probe is ever sent, although programs ask
            for them. Connections to peers that have vanished stay for ever.
            """,
            "tcp_keepalive_time is 7200 s again, the default.",
        ),
    ),
    Scenario(
        "keepalive-probes-zero",
        "Idle connections are reset without a probe",
        _setting(
            "keepalive-probes-zero",
            {"net.ipv4.tcp_keepalive_probes": 0},
            {"net.ipv4.tcp_keepalive_probes": 9},
            """
            tcp_keepalive_probes is 0. That does not turn keepalive off: when the timer of an idle
            connection fires, no probe is sent, the connection is over at once, and the peer gets a reset.
            """,
            "tcp_keepalive_probes is 9 again: nine probes have to stay unanswered.",
        ),
    ),
    Scenario(
        "keepalive-gives-up-fast",
        "Two lost probes end every idle connection",
        _setting(
            "keepalive-gives-up-fast",
            {"net.ipv4.tcp_keepalive_probes": 2, "net.ipv4.tcp_keepalive_intvl": 1},
            {"net.ipv4.tcp_keepalive_probes": 9, "net.ipv4.tcp_keepalive_intvl": 75},
            """
            Two probes, a second apart: a disturbance of two seconds ends every idle connection that happens
            to be probed then.
            """,
            "Nine probes, 75 s apart, as by default.",
            "info",
        ),
    ),
    Scenario(
        "receive-autotuning-off",
        "Receive buffers that do not grow",
        _setting(
            "receive-autotuning-off",
            {"net.ipv4.tcp_moderate_rcvbuf": 0},
            {"net.ipv4.tcp_moderate_rcvbuf": 1},
            """
            tcp_moderate_rcvbuf is 0: each receive buffer stays as large as it begins, the middle number of
            tcp_rmem.
            """,
            "tcp_moderate_rcvbuf is 1 again: buffers grow with what arrives.",
            "info",
        ),
    ),
    Scenario(
        "keepalive-interval-zero",
        "Keepalive probes without a pause",
        _setting(
            "keepalive-interval-zero",
            {"net.ipv4.tcp_keepalive_intvl": 0},
            {"net.ipv4.tcp_keepalive_intvl": 75},
            """
            tcp_keepalive_intvl is 0. That does not turn keepalive off: all probes leave within some 80 ms,
            and a peer whose answer takes longer is given up, healthy or not.
            """,
            "tcp_keepalive_intvl is 75 s again: an answer has time to arrive.",
        ),
    ),
    Scenario(
        "conntrack-established-short",
        "Tracking forgets connections before keepalive comes",
        _setting(
            "conntrack-established-short",
            {"net.netfilter.nf_conntrack_tcp_timeout_established": 600},
            {"net.netfilter.nf_conntrack_tcp_timeout_established": 432000},
            """
            Idle connections are forgotten after ten minutes; the first keepalive probe comes after two hours.
            """,
            "Idle connections are remembered for five days, the default.",
            "info",
        ),
    ),
    Scenario(
        "timeouts-look-like-milliseconds",
        "Ten minutes became a week",
        _setting(
            "timeouts-look-like-milliseconds",
            {"net.ipv4.tcp_keepalive_time": 600000},
            {"net.ipv4.tcp_keepalive_time": 600},
            """
            tcp_keepalive_time is 600000. It counts seconds: the first probe is sent after a week, not after
            ten minutes.
            """,
            "tcp_keepalive_time is 600 s.",
        ),
    ),
    Scenario(
        "fin-timeout-changed",
        "tcp_fin_timeout was changed against TIME_WAIT",
        _setting(
            "fin-timeout-changed",
            {"net.ipv4.tcp_fin_timeout": 30},
            {"net.ipv4.tcp_fin_timeout": 60},
            """
            tcp_fin_timeout is 30 s. It is for orphans in FIN_WAIT_2; TIME_WAIT lasts 60 s as before.
            """,
            "tcp_fin_timeout is 60 s again, the default.",
            "info",
        ),
    ),
    Scenario(
        "buffer-order",
        "A buffer begins larger than it may grow",
        _setting(
            "buffer-order",
            {"net.ipv4.tcp_rmem": "4096 8000000 6000000"},
            {"net.ipv4.tcp_rmem": "4096 131072 6291456"},
            """
            tcp_rmem is 4096 8000000 6000000: its three numbers are the least, the first and the most, and
            the first is above the most. The kernel does not check it.
            """,
            "The three numbers of tcp_rmem rise again.",
        ),
    ),
    Scenario(
        "tcp-buffers-tiny",
        "Sizes in KiB where bytes are meant",
        _setting(
            "tcp-buffers-tiny",
            {"net.ipv4.tcp_rmem": "4 87 6144"},
            {"net.ipv4.tcp_rmem": "4096 131072 33554432"},
            """
            tcp_rmem is 4 87 6144, in KiB perhaps; the kernel takes them for bytes. A receive buffer of 6
            KiB lets a connection over 20 ms of round trip carry 0.06 MB/s.
            """,
            "tcp_rmem ends at 32 MiB.",
        ),
    ),
    Scenario(
        "tcp-buffers-lowered",
        "An old raise of the buffers is a limit today",
        _setting(
            "tcp-buffers-lowered",
            {"net.ipv4.tcp_rmem": "4096 65536 70000"},
            {"net.ipv4.tcp_rmem": "4096 131072 33554432"},
            """
            tcp_rmem ends at 70000 bytes. Whatever guide it comes from, the kernel would let the buffer grow
            further by itself.
            """,
            "tcp_rmem ends at 32 MiB.",
            "info",
        ),
    ),
    Scenario(
        "notsent-lowat-zero",
        "No socket is ever writable",
        _setting(
            "notsent-lowat-zero",
            {"net.ipv4.tcp_notsent_lowat": 0},
            {"net.ipv4.tcp_notsent_lowat": 4294967295},
            """
            tcp_notsent_lowat is 0: poll() calls a socket writable while it holds less than that many bytes
            that were never sent. Less than nothing there is not.
            """,
            "tcp_notsent_lowat is what it was: no limit.",
        ),
    ),
    Scenario(
        "somaxconn-lowered",
        "An old default of somaxconn, written down",
        _setting(
            "somaxconn-lowered",
            {"net.core.somaxconn": 128},
            {"net.core.somaxconn": 4096},
            """
            net.core.somaxconn is 128, the default until Linux 5.4. No listener has a longer accept queue,
            whatever its program asks for.
            """,
            "net.core.somaxconn is 4096 again; listeners take it over when they listen() again.",
            "info",
        ),
    ),
    Scenario(
        "max-tw-buckets-lowered",
        "The table of TIME_WAIT was made small",
        _setting(
            "max-tw-buckets-lowered",
            {"net.ipv4.tcp_max_tw_buckets": 500},
            {"net.ipv4.tcp_max_tw_buckets": 1000000},
            """
            tcp_max_tw_buckets is 500: above it connections skip TIME_WAIT, old segments can reach new ones,
            and a FIN that comes again is answered with a reset.
            """,
            "There is room for a million.",
            "info",
        ),
    ),
    Scenario(
        "syn-backlog-above-somaxconn",
        "A limit that is never reached",
        _setting(
            "syn-backlog-above-somaxconn",
            {"net.ipv4.tcp_syncookies": 0, "net.ipv4.tcp_max_syn_backlog": 8192},
            {"net.ipv4.tcp_syncookies": 1},
            """
            Without SYN cookies tcp_max_syn_backlog counts: it is 8192, and net.core.somaxconn, which is
            smaller, bounds the same queue first.
            """,
            "With SYN cookies on, the default, neither number matters.",
            "info",
        ),
    ),
)
