"""Every check of `sysctl lint` from literals: what provokes it, and what does not."""

import pytest

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.settings_rules import checks_of
from tcpdoctor.diagnosis.sysctl_checks import CHECKS
from tcpdoctor.diagnosis.sysctl_lint import lint_settings, worst
from tcpdoctor.diagnosis.sysctl_look import Known, Listening
from tcpdoctor.kernel.reading import Missing, Refused
from tcpdoctor.kernel.sysctl import Held
from tcpdoctor.kernel.sysctl_files import Dangling, Lines, Reader, SettingsFile, Skipped, read_lines
from tests.diagnosis.settings_looks import HELD, KNOWN, NAMES, RULES, UDP_MEM, faults, found, look

LISTENING = (Listening(40_009, "0.0.0.0:40009"),)
NO_TABLE = {"running": {}, "memory_pages": None}
"""A kernel that does not tell the size of its tables, on a machine whose memory is not known."""
FRESH = {"fresh": {"default.net.core.optmem_max": 131072}}
ALL_CHECKS = {**CHECKS, **checks_of(RULES)}


@pytest.mark.parametrize(
    ("check", "text", "changed"),
    [
        ("not-an-assignment", "net.ipv4.tcp_sack 1", {}),
        ("stray-line-end", "net.ipv4.tcp_sack = 1\rnet.ipv4.tcp_sack = 1", {}),
        ("stray-line-end", "net.ipv4.tcp_sack = 1\0", {}),
        ("byte-order-mark", "\ufeffnet.ipv4.tcp_sack = 1", {}),
        ("not-utf-8", b"kernel.x = \xff", {}),
        ("line-too-long", "#" * (1 << 20), {}),
        ("pattern-excludes-nothing", "-net.ipv4.conf.*.rp_filter", {}),
        ("pattern-matches-nothing", "net.ipv4.conf.*.nothing = 1", {}),
        ("set-twice", "net.ipv4.tcp_retries2 = 9\nnet/ipv4/tcp_retries2 = 10", {}),
        ("readers-disagree", "net.ipv4.tcp_retries2 = 9\n-net.ipv4.tcp_retries2", {}),
        ("readers-disagree", "net.ipv4.tcp_retries2 = 9\nnet.ipv4.tcp_retries2 = 300", {}),
        ("not-an-assignment", "= 5", {}),
        ("not-an-assignment", "// net.ipv4.tcp_sack = 1", {}),
        ("not-an-assignment", "//net.ipv4.tcp_sack = 1", {}),
        ("not-an-assignment", "// as fast as it goes", {}),
        ("not-an-assignment", "\\# net.ipv4.tcp_sack = 1", {}),
        ("trailing-comment", "net.ipv4.tcp_retries2 = 9 // fewer", {}),
        ("trailing-comment", "net.ipv4.tcp_retries2 = 9 \\ fewer", {}),
        ("trailing-comment", "net.ipv4.tcp_retries2 = 9 /* fewer */", {}),
        ("key-outside-proc-sys", "net/../../../etc/shadow = 1", {}),
        ("key-outside-proc-sys", "net/../../kmsg = 1", {}),
        ("key-outside-proc-sys", "net/../../../etc/sh* = 1", {}),
        ("wrong-count", "net.ipv4.tcp_rmem = 8192", {}),
        ("wrong-count", "net.ipv4.tcp_rmem = 8192 87380 6291456 4", {}),
        ("wrong-count", "net.ipv4.tcp_retries2 = 9 10", {}),
        ("wrong-count", "net.ipv4.ip_local_port_range = 40000", {}),
        ("value-refused", "net.ipv4.tcp_rmem = 8192 87380 16M", {}),
        ("value-refused", "net.ipv4.tcp_retries2 = \u00a08", {}),
        ("value-refused", "net.ipv4.tcp_retries2 = 8\u3000", {}),
        ("value-refused", f"net.ipv4.tcp_retries2 = {'9' * 5000}", {}),
        ("key-removed", "net.ipv4.tcp_tw_recycle = 1", {}),
        ("key-never-existed", "net.ipv4.tcp_tw_len = 1", {}),
        ("key-unknown", "net.ipv4.tcp_keepalve_time = 1", {}),
        ("key-unknown", "net.ipv4.conf.eth0.1.rp_filter = 1", {}),
        ("key-too-new", "net.ipv4.tcp_rto_future = 1", {}),
        ("key-of-initial-namespace", "net.ipv4.udp_mem = 1 2 3", {"is_initial": False}),
        ("key-needs-module", "net.netfilter.nf_conntrack_acct = 1", {}),
        ("key-needs-module", "net.bridge.bridge-nf-call-iptables = 1", {}),
        ("key-unknown", "net.ipv6.tcp_fin_timeout = 30", {"running": {"net.ipv6.bindv6only": 0}}),
        (
            "key-unknown",
            "net.netfilter.nf_conntrack_tcp_timeout_establish = 600",
            {"running": {"net.netfilter.nf_conntrack_count": 7}},
        ),
        ("key-removed", "net.ipv4.netfilter.ip_conntrack_max = 65536", {}),
        ("key-removed", "net.ipv4.netfilter.ip_conntrack_tcp_timeout_established = 600", {}),
        ("key-of-absent-interface", "net.ipv4.conf.eth9.rp_filter = 1", {}),
        ("key-read-only", "net.ipv4.tcp_available_congestion_control = bbr", {}),
        ("key-has-no-effect", "net.ipv4.tcp_fack = 1", {}),
        ("value-refused", "net.ipv4.tcp_retries2 = 300", {}),
        ("value-refused", "net.ipv4.tcp_retries2 =", {}),
        ("value-refused", "net.ipv4.ip_local_reserved_ports = 8080, 9000", {}),
        ("value-refused", "net.ipv4.ip_local_port_range = 60000 50000", {}),
        ("value-refused", "net.ipv4.ip_local_port_range = 1000 60999", {}),
        ("value-refused", "net.ipv4.tcp_congestion_control = bbr cubic", {}),
        ("value-refused", "net.ipv4.ip_unprivileged_port_start = 32769", {}),
        ("congestion-control-unknown", "net.ipv4.tcp_congestion_control = bbrplus", {}),
        ("congestion-control-unknown", "net.ipv4.tcp_allowed_congestion_control = cubic bbr", {}),
        ("qdisc-unknown", "net.core.default_qdisc = fq_codell", {}),
        ("read-as-octal", "net.ipv4.tcp_fin_timeout = 060", {}),
        ("read-as-octal", "net.ipv4.tcp_rmem = 4096 0131072 6291456", {}),
        ("keepalive-interval-zero", "net.ipv4.tcp_keepalive_intvl = 0", {}),
        (
            "keepalive-gives-up-fast",
            "net.ipv4.tcp_keepalive_intvl = 1\nnet.ipv4.tcp_keepalive_probes = 3",
            {},
        ),
        ("receive-autotuning-off", "net.ipv4.tcp_moderate_rcvbuf = 0", {}),
        (
            "conntrack-established-short",
            "net.netfilter.nf_conntrack_tcp_timeout_established = 300",
            {},
        ),
        ("trailing-comment", "net.ipv4.tcp_retries2 = 9 # fewer", {}),
        ("trailing-comment", "net.ipv4.tcp_congestion_control = bbr ; fast", {}),
        ("fin-timeout-between-61-and-89", "net.ipv4.tcp_fin_timeout = 61", {}),
        ("fin-timeout-short", "net.ipv4.tcp_fin_timeout = 14", {}),
        ("fin-timeout-changed", "net.ipv4.tcp_fin_timeout = 30", {}),
        ("max-orphans-lowered", "net.ipv4.tcp_max_orphans = 131071", {}),
        ("max-orphans-lowered", "net.ipv4.tcp_max_orphans = 4095", NO_TABLE),
        ("max-tw-buckets-lowered", "net.ipv4.tcp_max_tw_buckets = 5000", NO_TABLE),
        (
            "max-tw-buckets-lowered",
            "net.ipv4.tcp_max_tw_buckets = 20000",
            {"running": {}, "memory_pages": 2 << 20},
        ),
        ("max-tw-buckets-lowered", "net.ipv4.tcp_max_tw_buckets = 5000", {}),
        ("orphan-retries-low", "net.ipv4.tcp_orphan_retries = 2", {}),
        ("tw-reuse-without-timestamps", "net.ipv4.tcp_tw_reuse = 1\nnet.ipv4.tcp_timestamps = 0", {}),
        ("timestamps-off", "net.ipv4.tcp_timestamps = 0", {}),
        ("window-scaling-off", "net.ipv4.tcp_window_scaling = 0", {}),
        ("sack-off", "net.ipv4.tcp_sack = 0", {}),
        ("retries2-low", "net.ipv4.tcp_retries2 = 7", {}),
        ("keepalive-never", "net.ipv4.tcp_keepalive_time = -1", {}),
        ("keepalive-never", "net.ipv4.tcp_keepalive_intvl = -1", {}),
        ("notsent-lowat-zero", "net.ipv4.tcp_notsent_lowat = 0", {}),
        ("tcp-mem-in-bytes", "net.ipv4.tcp_mem = 100000000 200000000 300000000", {}),
        ("buffer-order", "net.ipv4.tcp_rmem = 4096 8000000 6000000", {}),
        ("buffer-order", "net.ipv4.tcp_wmem = 4096 8000000 6000000", {}),
        ("syncookies-off", "net.ipv4.tcp_syncookies = 0", {}),
        ("syncookies-always", "net.ipv4.tcp_syncookies = 2", {}),
        ("abort-on-overflow", "net.ipv4.tcp_abort_on_overflow = 1", {}),
        (
            "syn-backlog-above-somaxconn",
            "net.ipv4.tcp_max_syn_backlog = 4097\nnet.ipv4.tcp_syncookies = 0",
            {},
        ),
        ("key-has-no-effect", "net.ipv4.tcp_max_syn_backlog = 4096", {}),
        ("key-has-no-effect", "net.ipv4.tcp_adv_win_scale = -2", {}),
        ("buffer-order", "net.ipv4.tcp_rmem = 262144 131072 6291456", {}),
        ("tcp-buffers-tiny", "net.ipv4.tcp_rmem = 4 87 6144", {}),
        ("tcp-buffers-tiny", "net.ipv4.tcp_wmem = 4 16 4096", {}),
        ("tcp-buffers-lowered", "net.ipv4.tcp_rmem = 4096 87380 4194304", {}),
        ("tcp-mem-order", "net.ipv4.tcp_mem = 2097152 1048576 786432", {}),
        ("tcp-mem-holds-buffer-sizes", "net.ipv4.tcp_mem = 4096 87380 16777216", {}),
        ("tcp-mem-nearly-all-memory", "net.ipv4.tcp_mem = 970000 970000 970000", {}),
        ("tcp-mem-lowered", "net.ipv4.tcp_mem = 1000 2000 3000", {}),
        ("somaxconn-lowered", "net.core.somaxconn = 128", {}),
        ("socket-buffer-limits-lowered", "net.core.rmem_max = 131071", {}),
        ("socket-buffer-limits-lowered", "net.core.wmem_max = 131071", {}),
        ("optmem-max-lowered", "net.core.optmem_max = 10240", {}),
        ("optmem-max-lowered", "net.core.optmem_max = 20480", FRESH),
        ("netdev-max-backlog-lowered", "net.core.netdev_max_backlog = 300", {}),
        ("file-max-lowered", "fs.file-max = 65535", {}),
        ("nr-open-lowered", "fs.nr_open = 65536", {}),
        ("conntrack-max-lowered", "net.netfilter.nf_conntrack_max = 10000", {}),
        ("keepalive-probes-zero", "net.ipv4.tcp_keepalive_probes = 0", {}),
        ("timeouts-look-like-milliseconds", "net.ipv4.tcp_keepalive_time = 600000", {}),
        ("timeouts-look-like-milliseconds", "net.ipv4.tcp_keepalive_intvl = 75000", {}),
        ("timeouts-look-like-milliseconds", "net.ipv4.tcp_fin_timeout = 30000", {}),
        ("syn-retries-low", "net.ipv4.tcp_syn_retries = 1", {}),
        ("syn-retries-low", "net.ipv4.tcp_synack_retries = 0", {}),
        ("tail-loss-probe-off", "net.ipv4.tcp_early_retrans = 1", {}),
        ("rack-off", "net.ipv4.tcp_recovery = 0", {}),
        ("retries2-low", "net.ipv4.tcp_rto_max_ms = 1000", {}),
        ("neighbour-table-limited", "net.ipv4.neigh.default.gc_thresh3 = 1000", {}),
        ("neighbour-table-limited", "net.ipv4.neigh.default.gc_thresh1 = 8192", {}),
        ("needless-retransmissions-untold", "net.ipv4.tcp_dsack = 0", {}),
        ("needless-retransmissions-untold", "net.ipv4.tcp_frto = 0", {}),
        ("output-limit-lowered", "net.ipv4.tcp_limit_output_bytes = 262144", {}),
        ("tcp-buffers-start-large", "net.ipv4.tcp_rmem = 16777216 16777216 16777216", {}),
        ("tcp-buffers-start-large", "net.ipv4.tcp_wmem = 4096 8388608 16777216", {}),
        ("conntrack-buckets-few", "net.netfilter.nf_conntrack_max = 4194305", {}),
        ("segment-floor-high", "net.ipv4.tcp_min_snd_mss = 1400", {}),
        ("path-mtu-discovery-off", "net.ipv4.ip_no_pmtu_disc = 1", {}),
        ("ttl-low", "net.ipv4.ip_default_ttl = 5", {}),
        ("netdev-budget-lowered", "net.core.netdev_budget = 64", {}),
        ("value-acts-as-another", "net.ipv4.conf.all.rp_filter = 3", {}),
        ("value-acts-as-another", "net.ipv4.conf.eth0.rp_filter = 7", {}),
        ("value-acts-as-another", "net.ipv4.tcp_syncookies = 3", {}),
        ("value-acts-as-another", "net.ipv4.conf.all.arp_ignore = 4", {}),
        ("value-acts-as-another", "net.ipv4.conf.eth0.arp_ignore = 9", {}),
        ("value-harmful", "net.ipv4.conf.default.arp_ignore = 8", {}),
        ("value-harmful", "net.ipv6.neigh.default.gc_thresh3 = 512", {}),
        ("value-harmful", "net.ipv4.udp_mem = 512 1024 2048", {"held": HELD | UDP_MEM}),
        ("value-harmful", "net.ipv4.tcp_keepalive_time = 0", {}),
        ("key-unknown", "net.ipv6.conf.all.tcp_rmem = 1 2 3", {"running": {"net.ipv6.bindv6only": 0}}),
        ("key-of-initial-namespace", "net.ipv4.neigh.default.gc_stale_time = 4096", {"is_initial": False}),
        ("key-of-initial-namespace", "net.core.busy_poll = 50", {"is_initial": False}),
        ("key-of-initial-namespace", "net.ipv4.route.gc_timeout = 4096", {"is_initial": False}),
        ("set-twice", "net.ipv4.ip_forward = 1\nnet.ipv4.conf.all.forwarding = 0", {}),
        (
            "set-twice",
            "net.netfilter.nf_conntrack_max = 1048576\nnet.nf_conntrack_max = 65536",
            {},
        ),
        (
            "reset-by-later-line",
            "net.ipv4.conf.all.accept_redirects = 1\nnet.ipv4.ip_forward = 1",
            {},
        ),
        (
            "reset-by-later-line",
            "net.ipv4.conf.default.forwarding = 0\nnet.ipv4.conf.all.forwarding = 1",
            {},
        ),
        (
            "reset-by-later-line",
            "net.ipv6.conf.eth0.disable_ipv6 = 0\nnet.ipv6.conf.all.disable_ipv6 = 1",
            {},
        ),
        ("range-holds-listener", "net.ipv4.ip_local_port_range = 32768 60999", {"listeners": LISTENING}),
        ("range-narrow", "net.ipv4.ip_local_port_range = 50000 59998", {}),
        ("range-same-parity", "net.ipv4.ip_local_port_range = 32768 60998", {}),
        ("range-holds-node-ports", "net.ipv4.ip_local_port_range = 10000 60999", {}),
        ("reserved-eats-range", "net.ipv4.ip_local_reserved_ports = 32768-60000", {}),
    ],
)
def test_a_check_finds_what_it_is_for(check, text, changed):
    here = [fault for fault in faults(text, **changed) if fault.check == check]
    assert here
    for fault in here:
        assert fault.file == "/etc/sysctl.d/1.conf"
        assert fault.severity <= ALL_CHECKS[check].severity
        assert fault.sources
        assert fault.what.endswith(".")
        assert fault.do[0].isupper()


def test_a_line_is_told_once_where_the_readers_end_with_other_numbers_beside_it():
    refused = "net.ipv4.tcp_fin_timeout = 25\nnet.ipv4.tcp_fin_timeout = 9999999999"
    told = faults(f"net.ipv4.tcp_keepalive_time = 7200000\n{refused}")
    assert [one.line for one in told if one.check == "timeouts-look-like-milliseconds"] == [1]


@pytest.mark.parametrize(
    "text",
    [
        "net.ipv4.tcp_fin_timeout = 60",
        "net.ipv4.tcp_retries2 = 8",
        "net.ipv4.tcp_retries2 = 0x0f",
        "net.ipv4.tcp_max_orphans = 131072",
        "net.ipv4.tcp_max_tw_buckets = -1",
        "net.ipv4.tcp_orphan_retries = 3",
        "net.ipv4.tcp_tw_reuse = 1",
        "net.core.somaxconn = 4096",
        "net.core.optmem_max = 20480",
        "net.ipv4.tcp_early_retrans = 3",
        "net.ipv4.tcp_keepalive_probes = 1",
        "net.ipv4.tcp_mem = 46875 62500 93750",
        "net.netfilter.nf_conntrack_max = 0",
        "net.ipv4.ip_forward = 1\nnet.ipv4.conf.all.accept_redirects = 0",
        "net.ipv4.conf.all.accept_redirects = 0\nnet.ipv4.ip_forward = 1",
        "net.ipv4.ip_local_port_range = 32768 60999",
        "net.ipv4.ip_local_reserved_ports = 8080,9000-9010",
        "net.ipv4.ip_local_reserved_ports = 8080,",
        "net.ipv4.tcp_rmem = 4096 131072 33554432",
        "net.ipv4.tcp_congestion_control = bbr",
        "net.ipv4.ip_unprivileged_port_start = 80",
        "# net.ipv4.tcp_sack = 0",
        "; net.ipv4.tcp_sack 0",
        "-net.ipv4.conf.eth0.rp_filter",
    ],
)
def test_good_lines_have_no_remark_but_that_they_differ(text):
    assert found(text) - {"key-of-absent-interface"} == set()


@pytest.mark.parametrize("value", ["9 # fewer", "7 ; too few", "9 # fewer\nnet.ipv4.tcp_sack = 1"])
def test_nobody_is_told_to_apply_a_comment(value):
    (drift,) = [
        fault for fault in faults(f"net.ipv4.tcp_retries2 = {value}") if fault.check == "differs-from-running"
    ]
    assert drift.do == "Do not apply it as it is: see the other remark on this line."


def test_a_file_as_a_whole():
    plain = SettingsFile("/etc/sysctl.d/x.conf", "x.conf", b"")
    files = (
        plain._replace(content=Missing("it is a folder, and no file")),
        plain._replace(path="/y", name="y.conf", content=Dangling(), hides=("/z/y.conf",)),
        plain._replace(path="/.h.conf", name=".h.conf"),
        plain._replace(path="/a*.conf", name="a*.conf"),
        plain._replace(
            path="/s", name="s.conf", content=Refused("permission denied; run as root to read it")
        ),
    )
    skipped = (
        Skipped("/etc/sysctl.d/10-x.cfg", "10-x.cfg"),
        Skipped("/etc/sysctl.d/README.sysctl", "README.sysctl"),
    )
    linted = lint_settings(look(files=files, skipped=skipped, unread_last=True), NAMES)
    assert [fault.check for fault in linted.faults] == [
        "no-readable-file",
        "link-to-nothing",
        "hidden-file",
        "file-name-is-pattern",
        "sysctl-conf-not-read",
        "file-not-read",
    ]
    assert linted.faults[1].severity is Severity.WARNING  # it hides a file that would be read
    assert "It hides /z/y.conf." in linted.faults[1].what
    assert [each.what for each in linted.unchecked] == ["/s"]


def test_every_check_is_provoked_here():
    marks = test_a_check_finds_what_it_is_for.pytestmark
    provoked = {case[0] for mark in marks for case in mark.args[1]}
    others = {
        "no-readable-file",
        "link-to-nothing",
        "hidden-file",
        "file-name-is-pattern",
        "sysctl-conf-not-read",
        "file-not-read",
        "differs-from-running",
    }
    assert provoked | others == set(ALL_CHECKS)
    assert provoked & others == set()


def test_every_check_names_what_it_rests_on():
    for name, check in ALL_CHECKS.items():
        assert name == check.name
        assert check.sources
        assert not check.title.endswith(".")


def test_only_what_stays_in_the_end_is_judged():
    assert "sack-off" not in found("net.ipv4.tcp_sack = 0", "net.ipv4.tcp_sack = 1")
    assert "sack-off" in found("net.ipv4.tcp_sack = 1", "net.ipv4.tcp_sack = 0")
    disagreeing = found("net.ipv4.tcp_sack = 0\nnet.ipv4.tcp_sack = x")
    assert {"sack-off", "readers-disagree", "value-refused"} <= disagreeing


def test_an_overridden_line_of_the_vendor_is_as_it_should_be():
    first = look("net.ipv4.tcp_retries2 = 9", "net.ipv4.tcp_retries2 = 10")
    assert "set-twice" in {fault.check for fault in lint_settings(first, NAMES).faults}
    vendor = look("net.ipv4.tcp_retries2 = 10")
    path = "/usr/lib/sysctl.d/0.conf"
    earlier = SettingsFile(path, "0.conf", b"net.ipv4.tcp_retries2 = 9")
    lines = {reader: {path: read_lines(earlier.content, reader), **vendor.lines[reader]} for reader in Reader}
    assert "set-twice" not in {
        fault.check
        for fault in lint_settings(vendor._replace(files=(earlier, *vendor.files), lines=lines), NAMES).faults
    }


def test_nobody_is_told_to_apply_what_is_wrong():
    advice = {fault.check: fault.do for fault in faults("net.ipv4.tcp_sack = 0\nnet.ipv4.tcp_retries2 = 9")}
    assert "sysctl -w net.ipv4.tcp_retries2=9" in advice["differs-from-running"]
    (wrong,) = [fault for fault in faults("net.ipv4.tcp_sack = 0") if fault.check == "differs-from-running"]
    assert wrong.do.startswith("Do not apply it")
    assert "differs-from-running" not in {fault.check for fault in faults("net.ipv4.tcp_fack = 1")}


def test_no_value_with_a_remark_is_said_to_be_applied():
    texts = (
        "net.ipv4.tcp_fin_timeout = 30",
        "net.ipv4.tcp_rmem = 8192",
        "net.ipv4.tcp_retries2 = 9\nnet.ipv4.tcp_retries2 = 9",
    )
    for text in texts:
        told = faults(text)
        (drift,) = [fault for fault in told if fault.check == "differs-from-running"]
        assert len([fault for fault in told if fault.line == drift.line]) > 1
        assert drift.do == "Do not apply it as it is: see the other remark on this line."


def test_what_a_refused_write_leaves_behind_is_told():
    def told(text):
        (refused,) = [fault for fault in faults(text) if fault.check == "value-refused"]
        return refused.what

    assert told("net.ipv4.tcp_retries2 = 8s").endswith("The setting stays as it was.")
    assert told("net.ipv4.tcp_rmem = 8192 87380 16M").endswith("its first numbers become 8192 87380.")
    assert told("net.ipv4.tcp_rmem = 8192 6553x 1").endswith("its first number becomes 8192.")
    assert told("net.ipv4.tcp_rmem = 8k 65536 1").endswith("The setting stays as it was.")
    assert told("net.ipv4.ip_local_port_range = 1024 65x").endswith("The setting stays as it was.")


def test_an_invisible_character_is_named():
    def told(text):
        (refused,) = [fault for fault in faults(text) if fault.check == "value-refused"]
        return refused.what

    assert "U+00A0 (no-break space)" in told("net.ipv4.tcp_retries2 = \u00a08")
    assert "U+3000 (ideographic space)" in told("net.ipv4.tcp_retries2 = 8\u3000")
    assert "U+200B (zero width space)" in told("net.ipv4.tcp_retries2 = 8\u200b")
    assert "U+001C (a control character)" in told("net.ipv4.tcp_retries2 = 8\x1c")


def test_a_setting_that_only_some_machines_have_is_no_fault():
    held = {**HELD, "kernel/nmi_watchdog": Held(exists=True, writable=False, value="0")}
    (told,) = faults("kernel.nmi_watchdog = 0", held=held)
    assert (told.check, told.severity) == ("key-read-only", Severity.INFO)
    assert "Remove" not in told.do


def test_what_a_namespace_may_only_read_is_set_on_the_host():
    held = {**HELD, "net/core/rmem_max": Held(exists=True, writable=False, value="4194304")}
    known = {**KNOWN, "net/core/rmem_max": Known("byte", (2304, 2**31 - 1), 1, scope="shared")}
    (told,) = faults("net.core.rmem_max = 8388608", held=held, known=known, is_initial=False)
    assert (told.check, told.severity) == ("key-read-only", Severity.INFO)
    assert told.do.startswith("Set it on the host")


def test_a_file_that_nothing_applies_differs_in_one_remark():
    text = "net.ipv4.tcp_retries2 = 9\nnet.ipv4.tcp_keepalive_time = 600\nnet.ipv4.tcp_orphan_retries = 4"
    other = frozenset({"/etc/sysctl.d/1.conf"})
    (told,) = faults(text, not_applied=other)
    assert (told.check, told.line) == ("differs-from-running", None)
    assert told.what.startswith("3 settings of it are not what runs here")


def test_a_line_with_a_dash_may_fail():
    assert [fault.severity for fault in faults("-net.ipv4.tcp_tw_recycle = 1")] == [Severity.INFO]
    assert [fault.severity for fault in faults("net.ipv4.tcp_tw_recycle = 1")] == [Severity.WARNING]


def test_a_reserved_listener_is_safe():
    text = "net.ipv4.ip_local_port_range = 32768 60999\nnet.ipv4.ip_local_reserved_ports = 40000-40010"
    assert "range-holds-listener" not in found(text, listeners=LISTENING)
    outside = (Listening(80, "[::]:80"),)
    assert "range-holds-listener" not in found(
        "net.ipv4.ip_local_port_range = 32768 60999", listeners=outside
    )


def test_listeners_that_were_not_read_are_said():
    unread = look("net.ipv4.ip_local_port_range = 32768 60999", listeners=Missing("no netlink"))
    assert [(each.what, each.reason) for each in lint_settings(unread, NAMES).unchecked] == [
        ("range-holds-listener", "no netlink")
    ]


def test_another_systems_files_are_not_compared_with_this_kernel():
    other = look(
        "net.ipv4.tcp_retries2 = 9\nnet.ipv4.tcp_nothing = 1\nnet.ipv4.tcp_tw_recycle = 1\n",
        is_here=False,
        held={},
    )
    linted = lint_settings(other, NAMES)
    assert {fault.check for fault in linted.faults} == {"key-removed"}
    assert linted.unchecked[0].what == "running values"


def test_hostile_names_are_made_safe():
    for fault in faults("net.ipv4.\x1b[31mtcp = 1\nx\u202ey = 2\n\x1b]0;t\x07"):
        assert fault.what.isprintable()
        assert "\u202e" not in fault.what


def test_the_worst_decides():
    assert worst(lint_settings(look("net.ipv4.tcp_fin_timeout = 60"), NAMES)) is None
    assert worst(lint_settings(look("net.ipv4.tcp_fin_timeout = 30"), NAMES)) is Severity.INFO
    assert worst(lint_settings(look("net.ipv4.tcp_fin_timeout = 5"), NAMES)) is Severity.WARNING


def test_no_lines_are_no_faults():
    assert faults("") == []
    assert look("").lines[Reader.SYSTEMD]["/etc/sysctl.d/1.conf"] == Lines(())


def test_the_value_of_a_pattern_is_judged_once_by_what_it_stands_for():
    glob = "net/ipv4/tcp_ret*"
    changed = {"matches": {glob: ("net/ipv4/tcp_retries2",)}}
    (told,) = [one for one in faults("net.ipv4.tcp_ret* = 300", **changed) if one.check == "value-refused"]
    assert (told.line, told.key) == (1, "net.ipv4.tcp_retries2")
    assert "value-refused" not in found("net.ipv4.tcp_ret* = 9", **changed)
    assert "value-refused" not in found("-net.ipv4.tcp_ret*", **changed)
