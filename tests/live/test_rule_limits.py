"""The rules of limits: descriptors and the table of tracked connections, compared with /proc."""

import errno
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tcpdoctor.kernel.conntrack_table import read_translations
from tcpdoctor.kernel.counters import ask_conntrack, parse_conntrack_stat
from tcpdoctor.lab.catalogue import LAB
from tcpdoctor.lab.limits import (
    count_tracked,
    descriptors_used,
    track_for,
    tracked,
    translated_ports_used_up,
)
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.packets import drop_untracked_packets
from tcpdoctor.lab.pairs import allow_descriptors, connect_pair, listen, wait_until

from .checks import check, evidence, findings, only_finding, severities, the_finding
from .scenes import scenes_of

FULL, OVERFLOWS, FORGETS = (
    "conntrack-table-nearly-full",
    "conntrack-table-overflows",
    "conntrack-forgets-idle-connections",
)
SNAT = "snat-ports-used-up"
DESCRIPTORS, MACHINE = "descriptors-nearly-used-up", "open-files-near-machine-limit"
NETFILTER = "/proc/sys/net/netfilter/nf_conntrack_"


def fact(name):
    command = [sys.executable, "-m", "tcpdoctor", "facts", "--format", "json"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return next(item for item in json.loads(printed)["facts"] if item["fact"] == name)


def number_in(path):
    return int(Path(path).read_text(encoding="ascii").split()[0])


# --- the table of tracked connections ---


def nearly_full():
    first, last = list(scenes_of(LAB[FULL]))
    return first.report, last.report, number_in(f"{NETFILTER}max")


def test_a_table_that_fills_is_found_and_measured_against_what_it_may_hold(in_namespace):
    sick, cured, most = in_namespace(nearly_full)
    (finding,) = findings(sick, FULL)
    assert evidence(finding, "conntrack.entries") == 131
    assert evidence(finding, "conntrack.limit") == most
    assert findings(cured, FULL) == []


def many_tracked():
    with tracked(131):
        rows = len(Path("/proc/net/nf_conntrack").read_text().splitlines()) if os.geteuid() == 0 else 131
        report = check("--window", "0.1")
        return rows, fact("conntrack.entries")["value"], report


def test_tracked_connections_are_counted_and_a_table_with_room_is_no_finding(in_namespace):
    rows, entries, report = in_namespace(many_tracked)
    assert (rows, entries) == (131, 131)
    assert [f["rule"] for f in report["findings"] if "conntrack" in f["rule"]] == []


def forgetting():
    drop_untracked_packets()
    track_for(1800)
    with ExitStack() as stack:
        untracked = severities(check("--window", "0"), FORGETS)
        connect_pair(stack, listen(stack))
        sick = the_finding(check("--window", "0"), FORGETS)
        track_for(next(fix["sysctl"]["value"] for fix in sick["fixes"] if fix["sysctl"]))
        return untracked, sick, severities(check("--window", "0"), FORGETS)


def test_a_timeout_below_the_keepalive_time_is_worth_a_remark_once_something_is_tracked(in_namespace):
    untracked, sick, cured = in_namespace(forgetting)
    assert (untracked, sick["severity"], cured) == ([], "info", [])
    assert "after 30 min" in sick["summary"]


def the_kernel_forgets():
    drop_untracked_packets()
    track_for(1)
    with ExitStack() as stack:
        client, accepted = connect_pair(stack, listen(stack))
        client.sendall(b"x")
        accepted.recv(1)
        wait_until(lambda: count_tracked() == 0, "the idle connection to be forgotten")
        before = counters()
        client.sendall(b"y")
        accepted.settimeout(1.0)
        with pytest.raises(TimeoutError):
            accepted.recv(1)
        return counters() - before


def counters():
    return sum(
        int(line.split()[4], 16)
        for line in Path("/proc/net/stat/nf_conntrack").read_text(encoding="ascii").splitlines()[1:]
    )


def test_the_segment_after_the_timeout_is_dropped_as_the_text_says(in_namespace):
    assert in_namespace(the_kernel_forgets) >= 1


def overflowing():
    return [seen.report for seen in scenes_of(LAB[OVERFLOWS])], severities(check("--window", "0"), FULL)


def test_a_full_table_throws_connections_out_and_that_is_seen_in_the_counters(in_namespace):
    (sick, cured), still_full = in_namespace(overflowing)
    (finding,) = findings(sick, OVERFLOWS)
    assert finding["severity"] in ("warning", "critical")
    assert next(part["value"] for part in finding["evidence"] if "early_drop" in part["fact"]) > 100
    assert findings(cured, OVERFLOWS) == []
    assert still_full == ["critical"]


def looking():
    done = subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=socket,execve,init_module,finit_module", "--",
         sys.executable, "-m", "tcpdoctor", "check", "--window", "0.1"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.stderr


def test_to_look_opens_no_way_by_which_tracking_could_be_loaded(in_namespace):
    traced = in_namespace(looking)
    assert "NETLINK_SOCK_DIAG" in traced
    assert "NETFILTER" not in traced
    assert traced.count("execve(") == 1
    assert "init_module" not in traced


MASK = "mount -t tmpfs none /proc/sys/net/netfilter"
HIDE = f"{MASK} && mount -t tmpfs none /sys/module"


def without_tracking(hide=HIDE):
    command = f"{hide} && exec {sys.executable} -m tcpdoctor check --window 0.1 --strict --format json"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stderr, json.loads(done.stdout)


def test_on_a_host_that_tracks_nothing_the_rules_do_not_apply(in_namespace, mount_namespace):
    code, said, report = in_namespace(without_tracking)
    assert (code, said, report["findings"]) == (0, "", [])
    reasons = {item["rule"]: item["reason"] for item in report["unchecked"]}
    assert {rule for rule in reasons if "conntrack" in rule or rule == SNAT} == {
        FULL, OVERFLOWS, FORGETS, "conntrack-insertions-fail", "conntrack-max-lowered", SNAT,
        "conntrack-established-short", "conntrack-buckets-few",
    }  # fmt: skip
    assert "nf_conntrack is not loaded" in reasons[FULL]


def test_where_the_settings_of_tracking_are_masked_nobody_says_that_nothing_is_tracked(
    in_namespace, mount_namespace
):
    code, _, report = in_namespace(without_tracking, MASK)
    reasons = {item["rule"]: item["reason"] for item in report["unchecked"]}
    assert code == 3
    assert "/proc/sys/net/netfilter is hidden here" in reasons[FULL]
    assert "not loaded" not in " ".join(reasons.values())


def forget_one(stack, server):
    """A segment of a connection that was forgotten counts as invalid."""
    track_for(1)
    client, accepted = connect_pair(stack, server)
    client.sendall(b"x")
    accepted.recv(1)
    wait_until(lambda: count_tracked() <= 1, "the idle connection to be forgotten")
    client.sendall(b"y")
    wait_until(lambda: counters() > 0, "the segment to be dropped")


def told_twice():
    drop_untracked_packets()
    with ExitStack() as stack:
        server = listen(stack)
        connect_pair(stack, server)
        forget_one(stack, server)
        path = "/proc/net/stat/nf_conntrack"
        with tempfile.TemporaryDirectory() as modules:
            (Path(modules) / "nf_conntrack_netlink").mkdir()  # built in here, and not listed
            return parse_conntrack_stat(Path(path).read_text(), path), ask_conntrack(modules)


def test_netlink_tells_the_same_as_the_file(in_namespace):
    file, netlink = in_namespace(told_twice)
    assert set(netlink) == set(file)
    assert netlink == file
    assert file["nf_conntrack.invalid"] >= 1


# --- ports of source NAT ---


def ports_of_nat():
    seen = list(scenes_of(LAB[SNAT]))
    sick, cured = (scene.report for scene in seen)
    return sick, cured, check("--window", "0.5")


def test_ports_of_nat_that_are_used_up_are_one_finding_and_no_full_table(in_namespace):
    sick, cured, whole = in_namespace(ports_of_nat)
    finding = only_finding(sick, SNAT)
    assert finding["severity"] == "critical"
    assert "7 of the 7 ports 40000-40006 of 127.0.0.1" in finding["summary"]
    assert evidence(finding, "snat.ports_used") == 7
    assert findings(cured, SNAT) == []
    assert findings(whole, OVERFLOWS) == []


def while_used_up():
    with translated_ports_used_up(7):
        report = check()
    return {finding["rule"] for finding in report["findings"] if "conntrack" in finding["rule"]}, report


def test_clashes_for_want_of_ports_are_no_overflow_and_no_chance(in_namespace):
    others, report = in_namespace(while_used_up)
    assert others == set()
    assert severities(report, SNAT) == ["critical"]


def table_told_twice():
    with translated_ports_used_up(7), tempfile.TemporaryDirectory() as modules:
        (Path(modules) / "nf_conntrack_netlink").mkdir()  # built in here, and not listed
        asked = read_translations(1.0, f"{modules}/absent", modules)
        return read_translations(1.0), asked


def test_netlink_lists_the_same_ports_as_the_file(in_namespace):
    read, asked = in_namespace(table_told_twice)
    assert read == asked
    assert (read.fullest.used, read.fullest.towards.source) == (7, "127.0.0.1")


def cut_and_refused():
    """Of 17 tracked connections a reset ends 13; 7 more are refused, which ends no connection."""
    with tracked(0) as server, tempfile.TemporaryDirectory() as modules, ExitStack() as stack:
        write_sysctl("net.netfilter.nf_conntrack_tcp_timeout_close", 600)
        pairs = [connect_pair(stack, server) for _ in range(17)]
        for client, _ in pairs[:13]:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            for _ in range(7):
                with socket.socket() as refused:
                    assert refused.connect_ex(unused.getsockname()) == errno.ECONNREFUSED
        (Path(modules) / "nf_conntrack_netlink").mkdir()
        return read_translations(9.0), read_translations(9.0, f"{modules}/absent", modules)


def test_connections_that_a_reset_has_cut_off_are_counted_in_the_table(in_namespace):
    read, asked = in_namespace(cut_and_refused)
    assert (read.cut, asked.cut) == (13, 13)


# --- descriptors ---


def descriptors():
    return [(seen.report, len(os.listdir("/proc/self/fd")) - 1) for seen in scenes_of(LAB[DESCRIPTORS])]


def test_a_process_near_its_limit_is_found_without_a_single_close_wait(in_namespace):
    (sick, counted), (cured, _) = in_namespace(descriptors)
    (finding,) = findings(sick, DESCRIPTORS)
    assert (finding["severity"], finding["scope"]) == ("warning", "process")
    assert abs(evidence(finding, "process.descriptors.used") - counted) <= 3  # pipes of the test itself
    assert evidence(finding, "process.descriptors.limit") == 211
    assert evidence(finding, "process.descriptors.sockets") == 179
    assert findings(cured, DESCRIPTORS) == []


def who_has_them():
    with descriptors_used(89, limit=211):
        finding = the_finding(check("--window", "0"), DESCRIPTORS)
        lines = "\n".join(finding["fixes"][0]["commands"])
        return subprocess.run(["bash", "-c", lines], capture_output=True, text=True, check=True, timeout=120)


def test_the_command_that_it_gives_counts_sockets_by_state_and_peer(in_namespace):
    printed = in_namespace(who_has_them)
    assert printed.stderr == ""
    assert ["178", "tcp", "ESTAB", "127.0.0.1"] in [line.split() for line in printed.stdout.splitlines()]


SEEN_FROM_A_POD = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-m", "tcpdoctor", "check"]


def from_another_pid_namespace():
    with descriptors_used(89, limit=211):
        command = [*SEEN_FROM_A_POD, "--window", "0", "--format", "json", "--only", DESCRIPTORS]
        return json.loads(
            subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout
        )


def test_processes_outside_our_pid_namespace_may_have_used_theirs_up(in_namespace):
    report = in_namespace(from_another_pid_namespace)
    assert report["findings"] == []
    (open_question,) = report["unchecked"]
    assert "outside this PID namespace" in open_question["reason"]


def files_instead():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        for _ in range(179):
            stack.enter_context(open("/dev/null", "rb"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (211, hard))
        report = check("--window", "0")
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return severities(report, DESCRIPTORS)


def test_a_process_whose_descriptors_are_files_is_no_finding_of_this_program(in_namespace):
    assert in_namespace(files_instead) == []


def half_used():
    with descriptors_used(59, limit=211):
        return severities(check("--window", "0"), DESCRIPTORS)


def test_a_process_that_uses_half_is_no_finding(in_namespace):
    assert in_namespace(half_used) == []


ELSEWHERE = """
import resource, socket, sys
sockets = [socket.socket() for _ in range(179)]
resource.setrlimit(resource.RLIMIT_NOFILE, (211, 211))
print("ready", flush=True)
sys.stdin.read()
"""


def in_another_namespace():
    allow_descriptors(256)
    command = ["unshare", "-n", sys.executable, "-c", ELSEWHERE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        report = check("--window", "0")
        here = subprocess.run(
            [sys.executable, "-m", "tcpdoctor", "check", "--netns", str(other.pid), "--window", "0",
             "--format", "json"],
            capture_output=True, text=True, check=False, timeout=60,
        ).stdout  # fmt: skip
        other.stdin.close()
    return severities(report, DESCRIPTORS), json.loads(here)


def test_a_process_of_another_network_namespace_is_reported_there_and_not_here(in_namespace):
    here, there = in_namespace(in_another_namespace)
    assert here == []
    assert severities(there, DESCRIPTORS) == ["warning"]


def open_files():
    before = fact("files.open")["value"]
    with ExitStack() as stack:
        allow_descriptors(4200)
        for _ in range(4001):
            stack.enter_context(socket.socket())
        until = time.monotonic() + 20
        while True:  # until nobody else opens or closes many files meanwhile
            earlier = number_in("/proc/sys/fs/file-nr")
            counted, now = fact("files.open")["value"], number_in("/proc/sys/fs/file-nr")
            if abs(earlier - now) < 500 or time.monotonic() > until:
                return before, counted, now, fact("files.limit")["value"]


def test_open_files_of_the_machine_are_counted_from_inside_a_namespace_too(in_namespace):
    before, after, now, limit = in_namespace(open_files)
    assert after - before > 3000  # others come and go
    assert abs(after - now) < 1000
    assert limit == number_in("/proc/sys/fs/file-max")
