"""Looks at files of settings made from literals, and what the lint says of them."""

from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.sysctl_checks import refusal
from tcpdoctor.diagnosis.sysctl_lint import lint_settings
from tcpdoctor.diagnosis.sysctl_look import UNKNOWN, Fault, Known, Look, Placed, winners, writes
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sysctl import Held, parse_sysctl
from tcpdoctor.kernel.sysctl_files import Reader, SettingsFile, dotted, read_lines

RULES = load_rules().rules
INT = (-(2**31), 2**31 - 1)
RUNNING = {
    "tcp_timestamps": "1",
    "tcp_syncookies": "1",
    "tcp_abort_on_overflow": "0",
    "tcp_window_scaling": "1",
    "tcp_sack": "1",
    "tcp_fin_timeout": "60",
    "tcp_orphan_retries": "0",
    "tcp_retries2": "15",
    "tcp_keepalive_time": "7200",
    "tcp_keepalive_intvl": "75",
    "tcp_notsent_lowat": "4294967295",
    "tcp_rmem": "4096 131072 6291456",
    "tcp_wmem": "4096 16384 4194304",
    "tcp_mem": "1000 2000 3000",
    "tcp_max_orphans": "131072",
    "tcp_max_tw_buckets": "131072",
    "tcp_max_syn_backlog": "2048",
    "tcp_tw_reuse": "2",
    "tcp_keepalive_probes": "9",
    "tcp_syn_retries": "6",
    "tcp_synack_retries": "5",
    "tcp_early_retrans": "3",
    "tcp_recovery": "1",
    "tcp_adv_win_scale": "1",
    "ip_forward": "0",
    "conf/all/forwarding": "0",
    "conf/all/accept_redirects": "1",
    "conf/default/forwarding": "0",
    "tcp_fack": "0",
    "ip_local_port_range": "32768 60999",
    "ip_local_reserved_ports": "",
    "ip_unprivileged_port_start": "1024",
    "ip_default_ttl": "64",
    "ip_no_pmtu_disc": "0",
    "neigh/default/gc_thresh1": "128",
    "neigh/default/gc_thresh2": "512",
    "neigh/default/gc_thresh3": "1024",
    "tcp_dsack": "1",
    "tcp_frto": "2",
    "tcp_limit_output_bytes": "1048576",
    "tcp_min_snd_mss": "48",
    "tcp_rto_max_ms": "120000",
    "conf/all/rp_filter": "0",
    "conf/eth0/rp_filter": "0",
    "conf/all/arp_ignore": "0",
    "conf/default/arp_ignore": "0",
    "conf/eth0/arp_ignore": "0",
}
HELD = {f"net/ipv4/{name}": Held(exists=True, writable=True, value=value) for name, value in RUNNING.items()}
OTHERS = {
    "net/core/somaxconn": "4096",
    "net/core/rmem_max": "212992",
    "net/core/wmem_max": "212992",
    "net/core/optmem_max": "20480",
    "net/core/netdev_budget": "300",
    "net/core/netdev_budget_usecs": "8000",
    "net/core/netdev_max_backlog": "1000",
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv6/neigh/default/gc_thresh3": "1024",
    "net/ipv6/conf/eth0/disable_ipv6": "0",
    "net/netfilter/nf_conntrack_max": "262144",
    "net/netfilter/nf_conntrack_buckets": "262144",
    "net/nf_conntrack_max": "262144",
    "fs/nr_open": "1048576",
    "fs/file-max": "400000",
}
HELD |= {path: Held(exists=True, writable=True, value=value) for path, value in OTHERS.items()}
HELD["net/ipv4/tcp_available_congestion_control"] = Held(exists=True, writable=False, value="reno cubic")
HELD["net/ipv4/tcp_allowed_congestion_control"] = Held(exists=True, writable=True, value="reno cubic")
HELD["net/ipv4/tcp_congestion_control"] = Held(exists=True, writable=True, value="cubic")
KNOWN = {path: Known("count", INT, len(held.value.split()) or None) for path, held in HELD.items()} | {
    "net/ipv4/tcp_retries2": Known("count", (0, 255), 1),
    "net/ipv4/tcp_notsent_lowat": Known("byte", (0, 2**32 - 1), 1),
    "net/ipv4/ip_local_reserved_ports": Known("ports"),
    "net/ipv4/tcp_congestion_control": Known("text"),
    "net/ipv4/tcp_available_congestion_control": Known("text"),
    "net/ipv4/tcp_allowed_congestion_control": Known("text"),
    "net/ipv4/tcp_tw_recycle": Known("switch", removed="4.12", instead="nothing"),
    "net/ipv4/tcp_tw_len": Known("second", removed="never there"),
    "net/ipv4/conf/all/rp_filter": Known("switch", INT, 1, modes=frozenset((0, 1, 2)), acts_as="2, loose"),
    "net/ipv4/conf/all/arp_ignore": Known(
        "switch", INT, 1, modes=frozenset((0, 1, 2, 3, 8)), acts_as="0, all", harms={"8": "none is answered."}
    ),
    "net/ipv6/neigh/default/gc_thresh3": Known("count", INT, 1, "initial", harms={"<1024": "packets go."}),
    "net/ipv4/tcp_syncookies": Known(
        "switch", (0, 255), 1, modes=frozenset((0, 1, 2)), acts_as="1, when the queue is full"
    ),
    "net/ipv4/tcp_keepalive_time": Known("second", (-(2**31), 2**31 - 1), 1, harms={"0": "it is not off."}),
    "net/ipv4/tcp_rto_future": Known("count", since="9.9"),
    "net/ipv4/udp_mem": Known("page", INT, 3, "initial", harms={"<4096": "they are pages."}),
}
UDP_MEM = {"net/ipv4/udp_mem": Held(exists=True, writable=True, value="288000 384000 576000")}
ABSENT = Held(exists=False, writable=False, value=Missing("this kernel does not have it"))
NAMES = ("net.ipv4.tcp_keepalive_time", "net.core.somaxconn")


def look(*texts: str | bytes, **changed) -> Look:
    """One file for each text, /etc/sysctl.d/1.conf and so on, as both readers take them."""
    files = tuple(
        SettingsFile(
            f"/etc/sysctl.d/{number}.conf", f"{number}.conf", text.encode() if isinstance(text, str) else text
        )
        for number, text in enumerate(texts, start=1)
    )
    lines = {reader: {file.path: read_lines(file.content, reader) for file in files} for reader in Reader}
    placed = {
        reader: [Placed(path, line) for path, found in each.items() for line in found.lines]
        for reader, each in lines.items()
    }
    targets = {item.line.target for each in placed.values() for item in each if item.line.path is not None}
    held = {path: HELD.get(path, ABSENT) for path in {*targets, *HELD} if not set("*?[") & set(path)}
    done = {reader: writes(each, reader, changed.get("matches", {})) for reader, each in placed.items()}

    def accepts(path: str, value: str) -> bool:
        return refusal(path, value, KNOWN.get(path, UNKNOWN), held.get(path, ABSENT).value) is None

    last = {reader: winners(each, accepts) for reader, each in done.items()}
    plain = Look(
        files,
        lines,
        done,
        last,
        known=KNOWN,
        held=held,
        last_path="/etc/sysctl.conf",
        memory_pages=1_000_000,
        running={dotted(path): parse_sysctl(dotted(path), value.value, path) for path, value in HELD.items()}
        | {"net.ipv4.tcp_ehash_entries": 262144},
        rules=RULES,
    )
    return plain._replace(**changed)


def faults(*texts: str | bytes, **changed) -> list[Fault]:
    return list(lint_settings(look(*texts, **changed), NAMES).faults)


def found(*texts: str | bytes, **changed) -> set[str]:
    return {fault.check for fault in faults(*texts, **changed)} - {"differs-from-running"}
