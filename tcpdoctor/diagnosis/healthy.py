"""Two healthy hosts, as facts: one left as the kernel set it up, one busy. Rules must leave both in peace.

The sysctls are the kernel's defaults on a machine with 4 GiB (Linux Documentation/networking/ip-sysctl.rst;
tcp_mem and tcp_max_orphans as net/ipv4/tcp.c computes them there). The busy host is a proxy with twenty
thousand clients: a pool's forgotten CLOSE_WAIT, short waits to accept, 0.4 % retransmissions, a third of the
ports towards one backend in TIME_WAIT. Every one of its numbers is what such a host shows on a good day.
"""

from collections.abc import Mapping
from typing import NamedTuple

from tcpdoctor.diagnosis.closure import Facts
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.value import Ages, Growth, Value
from tcpdoctor.facts.vocabulary import find_fact
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.states import COUNTED_STATES


class HealthyHost(NamedTuple):
    """A host and examples of what is on it."""

    name: str
    """Completes "it fires on ...": ``a host with the kernel's defaults``."""
    host: Mapping[str, Value]
    subjects: Mapping[Scope, tuple[Mapping[str, Value], ...]]


class Recorded(dict[str, Value]):
    """Facts of such a host. A counter that is not named did not grow; other facts are `Missing`."""

    def __missing__(self, name: str) -> Value:
        fact = find_fact(name)
        if fact is not None and fact.kind == "counter":
            return Growth(0, 1.0)
        return Missing(f"{name} is not recorded for this host")

    def get(self, name: str, default: object = None) -> Value:  # noqa: ARG002 - the signature is a mapping's
        """The fact, whatever the default."""
        return self[name]


def facts_on(host: HealthyHost, scope: Scope) -> list[Facts]:
    """The facts of every example of a scope."""
    if scope is Scope.HOST:
        return [Recorded(host.host)]
    return [Recorded({**host.host, **own}) for own in host.subjects[scope]]


_SYSCTLS: Mapping[str, Value] = {
    "net.ipv4.tcp_fin_timeout": 60,
    "net.ipv4.tcp_max_orphans": 16384,
    "net.ipv4.tcp_max_tw_buckets": 16384,
    "net.ipv4.tcp_orphan_retries": 0,
    "net.ipv4.tcp_rfc1337": 0,
    "net.ipv4.tcp_tw_reuse": 2,
    "net.ipv4.tcp_tw_reuse_delay": 1.0,
    "net.ipv4.tcp_keepalive_time": 7200,
    "net.ipv4.tcp_keepalive_intvl": 75,
    "net.ipv4.tcp_keepalive_probes": 9,
    "net.ipv4.tcp_retries1": 3,
    "net.ipv4.tcp_retries2": 15,
    "net.ipv4.tcp_syn_retries": 6,
    "net.ipv4.tcp_syn_linear_timeouts": 4,
    "net.ipv4.tcp_synack_retries": 5,
    "net.ipv4.tcp_rto_min_us": 0.2,
    "net.ipv4.tcp_rto_max_ms": 120.0,
    "net.ipv4.tcp_retrans_collapse": 1,
    "net.ipv4.tcp_early_retrans": 3,
    "net.ipv4.tcp_frto": 2,
    "net.ipv4.tcp_recovery": 1,
    "net.ipv4.tcp_reordering": 3,
    "net.ipv4.tcp_max_reordering": 300,
    "net.ipv4.tcp_thin_linear_timeouts": 0,
    "net.core.somaxconn": 4096,
    "net.ipv4.tcp_max_syn_backlog": 256,
    "net.ipv4.tcp_syncookies": 1,
    "net.ipv4.tcp_abort_on_overflow": 0,
    "net.ipv4.tcp_migrate_req": 0,
    "net.ipv4.tcp_fastopen": 1,
    "net.ipv4.tcp_fastopen_blackhole_timeout_sec": 0,
    "net.ipv4.ip_local_port_range.low": 32768,
    "net.ipv4.ip_local_port_range.high": 60999,
    "net.ipv4.ip_unprivileged_port_start": 1024,
    "net.ipv4.ip_nonlocal_bind": 0,
    "net.ipv4.ip_autobind_reuse": 0,
    "net.ipv6.bindv6only": 0,
    "net.ipv6.ip_nonlocal_bind": 0,
    "net.ipv4.tcp_mem.min": 46_000,
    "net.ipv4.tcp_mem.pressure": 61_000,
    "net.ipv4.tcp_mem.max": 92_000,
    "net.ipv4.tcp_rmem.min": 4096,
    "net.ipv4.tcp_rmem.default": 131072,
    "net.ipv4.tcp_rmem.max": 6291456,
    "net.ipv4.tcp_wmem.min": 4096,
    "net.ipv4.tcp_wmem.default": 16384,
    "net.ipv4.tcp_wmem.max": 4194304,
    "net.core.rmem_default": 212992,
    "net.core.rmem_max": 212992,
    "net.core.wmem_default": 212992,
    "net.core.wmem_max": 212992,
    "net.core.netdev_max_backlog": 1000,
    "net.ipv4.tcp_moderate_rcvbuf": 1,
    "net.ipv4.tcp_adv_win_scale": 1,
    "net.ipv4.tcp_app_win": 31,
    "net.ipv4.tcp_shrink_window": 0,
    "net.ipv4.tcp_timestamps": 1,
    "net.ipv4.tcp_sack": 1,
    "net.ipv4.tcp_dsack": 1,
    "net.ipv4.tcp_window_scaling": 1,
    "net.ipv4.tcp_ecn": 2,
    "net.ipv4.tcp_ecn_fallback": 1,
    "net.ipv4.tcp_stdurg": 0,
    "net.ipv4.tcp_challenge_ack_limit": 2147483647,
    "net.ipv4.tcp_slow_start_after_idle": 1,
    "net.ipv4.tcp_autocorking": 1,
    "net.ipv4.tcp_no_metrics_save": 0,
    "net.ipv4.tcp_min_tso_segs": 2,
    "net.ipv4.tcp_mtu_probing": 0,
    "net.ipv4.tcp_base_mss": 1024,
    "net.ipv4.tcp_min_snd_mss": 48,
    "net.ipv4.tcp_early_demux": 1,
    "net.netfilter.nf_conntrack_buckets": 65536,
    "net.netfilter.nf_conntrack_count": 0,
    "net.netfilter.nf_conntrack_max": 65536,
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait": 60,
    "net.netfilter.nf_conntrack_tcp_timeout_established": 432000,
    "net.netfilter.nf_conntrack_tcp_timeout_time_wait": 120,
    "fs.nr_open": 1048576,
}

_STATES = tuple(state.key for state in COUNTED_STATES)

_QUIET: Mapping[str, Value] = {
    **{f"sysctl.{name}": value for name, value in _SYSCTLS.items()},
    **{f"sockets.{state}": 0 for state in _STATES},
    "kernel.page_size": 4096,
    "ports.in_range": 28232,
    "ports.usable": 28232,
    "ports.bound": 0,
    "ports.connectable": 28232,
    "time_wait.at_listeners": 0,
    "conntrack.entries": 0,
    "conntrack.limit": 65536,
    "files.open": 1_500,
    "files.limit": 400_000,
    "ports.reserved": 0,
    "established.no_timer": 0,
    "established.keepalive": 1,
    "established.retransmitting": 0,
    "established.probing": 0,
    "unanswered.sockets": 0,
    "unanswered.backoff": 0,
    "unanswered.incoming_ages": Ages((), (), None),
    "unanswered.incoming_send_queue": 0,
    "zero_window.ages": Ages((), (), None),
    "zero_window.oldest": 0,
    "zero_window.send_queue": 0,
    "idle.sampled": 1,
    "idle.unprobed_ages": Ages((), (), None),
    "idle.oldest_unprobed": 0,
    "self_connected.sockets": 0,
    "queues.large": 0,
    "queues.large_bytes": 0,
    "fin_wait_2.orphaned": 0,
    "fin_wait_1.lasting": 0,
    "fin_wait_1.lasting_send_queue": 0,
    "fin_wait_1.closed_window_ages": Ages((), (), None),
    "fin_wait_1.closed_window_send_queue": 0,
    "last_ack.lasting": 0,
    "closing.lasting": 0,
    "sockstat.TCP.inuse": 3,
    "sockstat.TCP6.inuse": 1,
    "sockstat.TCP.orphan": 0,
    "sockstat.TCP.tw": 0,
    "sockstat.TCP.alloc": 5,
    "sockstat.TCP.mem": 1,
}

_NO_AGES = Ages((), (), None)


def _ages(*ages: float) -> Ages:
    return Ages(tuple(sorted(ages)), tuple(sorted(ages)), None)


def _process(used: int, limit: int, close_wait: Ages, fin_wait_2: Ages) -> Mapping[str, Value]:
    return {
        "process.descriptors.used": used,
        "process.descriptors.sockets": used * 9 // 10,
        "process.descriptors.limit": limit,
        "close_wait.owned": len(close_wait.at_least),
        "close_wait.eof_read": len(close_wait.at_least),
        "close_wait.eof_unread": 0,
        "close_wait.unread_data": 0,
        "close_wait.owned_ages": close_wait,
        "close_wait.oldest_owned_age": max(close_wait.at_least, default=0),
        "fin_wait_2.owned": len(fin_wait_2.at_least),
        "fin_wait_2.owned_ages": fin_wait_2,
        "fin_wait_2.oldest_owned_age": max(fin_wait_2.at_least, default=0),
    }


def _listener(
    port: int, queue: int, before: int, limit: int, ended: Ages, half_open: int = 0
) -> Mapping[str, Value]:
    return {
        "syn_queue.length": half_open,
        "syn_queue.length_before": half_open * 2 // 3,
        "syn_queue.least": half_open * 2 // 3,
        "syn_queue.limit": limit,
        "syn_queue.repeated": half_open // 7,
        "listener.port": port,
        "listener.port_is_ephemeral": 0,
        "accept_queue.length": queue,
        "accept_queue.length_before": before,
        "accept_queue.least": min(queue, before),
        "accept_queue.limit": limit,
        "accept_queue.drops": Growth(0, 1.0),
        "close_wait.not_accepted": len(ended.at_least),
        "close_wait.not_accepted_ages": ended,
    }


def _port(number: int, **states: int) -> Mapping[str, Value]:
    return {"port.number": number, **{f"port.{state}": states.get(state, 0) for state in _STATES}}


def _destination(port: int, used: int, time_wait: int, *attempts: float) -> Mapping[str, Value]:
    return {
        "destination.port": port,
        "ports.used": used,
        "ports.time_wait": time_wait,
        "ports.blocked": used - time_wait,
        "syn_sent.lasting": len(attempts),
        "syn_sent.lasting_ages": _ages(*attempts),
        "syn_sent.oldest_age": max(attempts, default=0),
        "destination.unanswered_ages": _ages(*(17.0 for _ in range(used // 4_000))),
        "destination.unanswered_oldest": 17.0 if used >= 4_000 else 0,
        "destination.unanswered_send_queue": 1_200 * (used // 4_000),
    }


DEFAULTS = HealthyHost(
    name="a host with the kernel's defaults",
    host={
        **_QUIET,
        "sockets.established": 1,
        "sockets.listen": 3,
        "Tcp.InSegs": Growth(6, 1.0),
        "Tcp.OutSegs": Growth(6, 1.0),
        "softnet.processed": Growth(31, 1.0),
    },
    subjects={
        Scope.PROCESS: (_process(9, 1024, _NO_AGES, _NO_AGES),),
        Scope.LISTENER: (_listener(22, 0, 0, 128, _NO_AGES),),
        Scope.PORT: (_port(22, established=1, listen=1),),
        Scope.DESTINATION: (_destination(443, 1, 0),),
    },
)

BUSY = HealthyHost(
    name="a healthy busy host",
    host={
        **_QUIET,
        "sockets.established": 20_411,
        "sockets.syn_sent": 3,
        "sockets.syn_recv": 29,
        "sockets.fin_wait_1": 31,
        "sockets.fin_wait_2": 307,
        "sockets.time_wait": 9_203,
        "sockets.close_wait": 61,
        "sockets.last_ack": 11,
        "sockets.listen": 19,
        "time_wait.at_listeners": 1_103,
        "ports.bound": 41,
        "ports.connectable": 28_191,
        "conntrack.entries": 33_500,
        "sysctl.net.netfilter.nf_conntrack_count": 33_500,
        "files.open": 52_000,
        "established.no_timer": 13_100,
        "established.keepalive": 6_300,
        "established.retransmitting": 970,
        "established.probing": 41,
        "unanswered.sockets": 83,
        "unanswered.backoff": 5,
        "unanswered.incoming_ages": _ages(*[2.0] * 40, *[31.0] * 37, *[400.0] * 4),
        "unanswered.incoming_send_queue": 2_100_000,
        "zero_window.ages": _ages(*[0.7] * 29, *[19.0] * 9, *[340.0] * 3),
        "zero_window.oldest": 340.0,
        "zero_window.send_queue": 9_000_000,
        "idle.sampled": 256,
        "idle.unprobed_ages": _ages(*[0.3] * 90, *[55.0] * 61, *[3_000.0] * 12, *[90_000.0] * 2),
        "idle.oldest_unprobed": 90_000.0,
        "queues.large": 7,
        "queues.large_bytes": 11_000_000,
        "TcpExt.TCPSYNChallenge": Growth(0, 1.0),
        "fin_wait_2.orphaned": 283,
        "fin_wait_1.lasting": 5,
        "fin_wait_1.lasting_send_queue": 40_000,
        "fin_wait_1.closed_window_ages": _ages(*[0.6] * 400, *[3.1] * 90, *[70.0] * 3),
        "fin_wait_1.closed_window_send_queue": 60_000_000,
        "last_ack.lasting": 2,
        "sockstat.TCP.inuse": 20_800,
        "sockstat.TCP6.inuse": 12,
        "sockstat.TCP.orphan": 331,
        "sockstat.TCP.tw": 9_500,
        "sockstat.TCP.alloc": 20_900,
        "sockstat.TCP.mem": 21_000,
        "Tcp.ActiveOpens": Growth(410, 1.0),
        "Tcp.PassiveOpens": Growth(620, 1.0),
        "Tcp.AttemptFails": Growth(3, 1.0),
        "Tcp.EstabResets": Growth(17, 1.0),
        "Tcp.InSegs": Growth(181_000, 1.0),
        "Tcp.OutSegs": Growth(203_000, 1.0),
        "Tcp.RetransSegs": Growth(811, 1.0),
        "Tcp.OutRsts": Growth(37, 1.0),
        "TcpExt.TCPTimeouts": Growth(43, 1.0),
        "TcpExt.TCPSynRetrans": Growth(5, 1.0),
        "TcpExt.TCPLostRetransmit": Growth(12, 1.0),
        "TcpExt.TCPFastRetrans": Growth(640, 1.0),
        "TcpExt.TCPAbortOnData": Growth(13, 1.0),
        "TcpExt.TCPAbortOnClose": Growth(7, 1.0),
        "TcpExt.DelayedACKs": Growth(9_000, 1.0),
        "Tcp.InCsumErrors": Growth(1, 1.0),
        "TcpExt.ListenOverflows": Growth(0, 1.0),
        "TcpExt.ListenDrops": Growth(1, 1.0),
        "TcpExt.TCPReqQFullDoCookies": Growth(2, 1.0),
        "TcpExt.SyncookiesSent": Growth(2, 1.0),
        "TcpExt.SyncookiesRecv": Growth(2, 1.0),
        "TcpExt.TCPAbortOnTimeout": Growth(4, 1.0),
        "TcpExt.TCPDSACKRecv": Growth(203, 1.0),
        "TcpExt.TCPLossProbes": Growth(310, 1.0),
        "TcpExt.TCPSpuriousRtxHostQueues": Growth(5, 1.0),
        "TcpExt.IPReversePathFilter": Growth(1, 1.0),
        "TcpExt.PruneCalled": Growth(41, 1.0),
        "TcpExt.TCPRcvCollapsed": Growth(700, 1.0),
        "TcpExt.RcvPruned": Growth(1, 1.0),
        "TcpExt.TCPRcvQDrop": Growth(1, 1.0),
        "TcpExt.OfoPruned": Growth(1, 1.0),
        "TcpExt.TCPZeroWindowDrop": Growth(1, 1.0),
        "TcpExt.TCPBacklogDrop": Growth(1, 1.0),
        "TcpExt.TCPToZeroWindowAdv": Growth(930, 1.0),
        "softnet.processed": Growth(412_000, 1.0),
        "softnet.dropped": Growth(7, 1.0),
        "softnet.squeezed": Growth(19, 1.0),
        "TcpExt.TW": Growth(410, 1.0),
        "nf_conntrack.invalid": Growth(23, 1.0),
        "nf_conntrack.clashres": Growth(2, 1.0),
    },
    subjects={
        Scope.PROCESS: (
            _process(20_900, 65_536, _ages(*[0.4] * 23, *[4.0] * 7), _ages(*[0.3] * 17, *[9.0] * 5)),
            _process(61, 1024, _ages(*[1800.0] * 31), _NO_AGES),
        ),
        Scope.LISTENER: (
            _listener(443, 7, 2, 4096, _ages(0.01, 0.02), half_open=29),
            _listener(5432, 3, 0, 5, _NO_AGES),
        ),
        Scope.PORT: (_port(443, established=19_000, time_wait=211, close_wait=30, listen=1),),
        Scope.DESTINATION: (_destination(8080, 9_400, 8_100), _destination(9999, 3, 0, 0.4, 1.3)),
    },
)
