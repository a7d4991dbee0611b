"""Files of settings on a real kernel: what procps makes of them, what lint and show then say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tcpdoctor.answers.settings_files import apply_files, known_settings
from tcpdoctor.cli.app import run
from tcpdoctor.diagnosis.sysctl_checks import refusal, stays
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sysctl import look_at, read_fresh, read_sysctl
from tcpdoctor.kernel.sysctl_files import Reader, SettingsFile
from tcpdoctor.knowledge.sysctl_pages import all_pages
from tcpdoctor.lab.namespace import enter_private_namespace, write_sysctl
from tests.cli.command import tcpdoctor
from tests.sysctl_tree import cover, held, make_root, predicted, run_reader

FILES = {
    "usr/lib/sysctl.d/10-vendor.conf": b"net.ipv4.tcp_retries2 = 9\nnet.ipv4.tcp_syn_retries = 4\n",
    "etc/sysctl.d/10-vendor.conf": b"net.ipv4.tcp_retries2 = 11\n",
    "run/sysctl.d/20-late.conf": b"net/ipv4/tcp_fin_timeout = 0x1f\n-net.ipv4.tcp_nothing = 1\n",
    "etc/sysctl.d/30-globs.conf": b"net.ipv4.conf.*.tag=7\n-net.ipv4.conf.lo.tag\nnet.ipv4.conf.all.tag=3\n",
    "usr/local/lib/sysctl.d/40-masked.conf": b"net.ipv4.tcp_orphan_retries = 2\n",
    "etc/sysctl.d/40-masked.conf": "/dev/null",
    "etc/sysctl.conf": b"net.ipv4.tcp_fin_timeout = 23 # as it was\nnet.ipv4.tcp_retries2 = 300\n",
}
EXPECTED = {
    "net/ipv4/tcp_retries2": "11",
    "net/ipv4/tcp_syn_retries": "6",
    "net/ipv4/tcp_fin_timeout": "23",
    "net/ipv4/conf/all/tag": "3",
    "net/ipv4/conf/lo/tag": "0",
    "net/ipv4/conf/default/tag": "7",
    "net/ipv4/tcp_orphan_retries": "0",
}


def applied_by_procps() -> tuple[dict[str, str], dict[str, str | None]]:
    write_sysctl("net.ipv4.conf.lo.tag", 0)
    root = make_root(FILES)
    expected = predicted(root, "procps")
    run_reader(root, "sysctl", "--system")
    return expected, held(list(EXPECTED))


def test_procps_leaves_what_is_predicted_and_what_its_manual_says(in_namespace):
    expected, after = in_namespace(applied_by_procps)
    assert after == EXPECTED
    assert expected["net/ipv4/tcp_fin_timeout"] == "23 # as it was"
    assert expected["net/ipv4/tcp_retries2"] == "11"
    assert "net/ipv4/conf/lo/tag" not in expected


def drift(text: bytes) -> list[str]:
    cover("/etc/sysctl.d", {"60-x.conf": text})
    write_sysctl("net.ipv4.tcp_retries2", 9)
    write_sysctl("net.ipv4.tcp_rmem", "4096 100000 2000000")
    write_sysctl("net.ipv4.ip_local_reserved_ports", "8080-8082")
    write_sysctl("net.ipv4.tcp_fin_timeout", 41)
    faults = json.loads(tcpdoctor("sysctl", "lint", "--format", "json").stdout)["faults"]
    return [
        fault["sysctl"]
        for fault in faults
        if fault["check"] == "differs-from-running" and fault["file"] == "/etc/sysctl.d/60-x.conf"
    ]


def test_only_a_value_that_really_differs_is_told_to_differ(in_namespace):
    text = (
        b"net.ipv4.tcp_retries2 = 0x9\n"
        b"net.ipv4.tcp_rmem=4096\t100000   2000000\n"
        b"net.ipv4.ip_local_reserved_ports = 8081,8080,8082\n"
        b"net.ipv4.tcp_fin_timeout = 43\n"
    )
    assert in_namespace(drift, text) == ["net.ipv4.tcp_fin_timeout"]


def left_behind(text: str) -> tuple[str, str]:
    """What a refused write to tcp_rmem leaves, and what lint says that it leaves."""
    write_sysctl("net.ipv4.tcp_rmem", "4099 131071 6291453")
    taken_now = write_raw("net/ipv4/tcp_rmem", text)
    after = Path("/proc/sys/net/ipv4/tcp_rmem").read_text(encoding="ascii").split()
    assert not taken_now
    known = known_settings(["net/ipv4/tcp_rmem"])["net/ipv4/tcp_rmem"]
    return " ".join(after), stays("net/ipv4/tcp_rmem", text, known, "4099 131071 6291453")


@pytest.mark.parametrize(
    ("text", "after", "stored"),
    [
        ("8192 87380 16M", "8192 87380 6291453", "numbers become 8192 87380."),
        ("8192 65536, 16777216", "8192 131071 6291453", "number becomes 8192."),
        ("8192 65536 0", "8192 65536 6291453", "numbers become 8192 65536."),
        ("8k 65536 1", "4099 131071 6291453", "The setting stays as it was."),
    ],
)
def test_what_a_refused_vector_leaves_behind_is_what_lint_says(in_namespace, text, after, stored):
    left, said = in_namespace(left_behind, text)
    assert left == after
    assert said.endswith(stored)


def after(*writes: tuple[str, str]) -> dict[str, str]:
    """What settings of forwarding hold after writes."""
    for path, value in writes:
        assert write_raw(path, value)
    names = ("ip_forward", "conf/all/forwarding", "conf/default/forwarding", "conf/all/accept_redirects")
    return {name: Path("/proc/sys/net/ipv4", name).read_text(encoding="ascii").strip() for name in names}


def test_two_names_of_one_variable_and_what_a_write_to_it_resets(in_namespace):
    one = in_namespace(after, ("net/ipv4/ip_forward", "1"), ("net/ipv4/conf/all/forwarding", "0"))
    assert (one["ip_forward"], one["conf/all/forwarding"]) == ("0", "0")
    before = ("net/ipv4/conf/all/accept_redirects", "1"), ("net/ipv4/conf/default/forwarding", "0")
    two = in_namespace(after, *before, ("net/ipv4/ip_forward", "1"))
    assert (two["conf/all/accept_redirects"], two["conf/default/forwarding"]) == ("0", "1")


def disable_ipv6_everywhere() -> str:
    assert write_raw("net/ipv6/conf/lo/disable_ipv6", "0")
    assert write_raw("net/ipv6/conf/all/disable_ipv6", "1")
    return Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6").read_text(encoding="ascii").strip()


def test_disable_ipv6_of_all_interfaces_sets_each(in_namespace):
    assert in_namespace(disable_ipv6_everywhere) == "1"


def fresh_and_changed() -> tuple[object, object]:
    write_sysctl("net.core.somaxconn", 77)
    return read_fresh(["net.core.somaxconn"])["net.core.somaxconn"], read_sysctl("net.core.somaxconn")


def test_a_fresh_namespace_has_what_nobody_has_changed(in_namespace):
    assert in_namespace(fresh_and_changed) == (4096, 77)


def reasons_where_settings_are_masked() -> tuple[int, list[dict]]:
    cover("/proc/sys/net", {})
    answer = tcpdoctor("check", "--window", "0", "--strict", "--format", "json")
    return answer.returncode, json.loads(answer.stdout)["unchecked"]


def test_masked_settings_are_said_to_be_hidden_and_count_for_strict(in_namespace):
    code, unchecked = in_namespace(reasons_where_settings_are_masked)
    assert code == 3
    words = {one["rule"]: one["reason"] for one in unchecked}
    assert "/proc/sys/net/ipv4 is hidden here" in words["fin-timeout-short"]
    assert "is hidden here" in words["conntrack-table-nearly-full"]
    told = " ".join(words.values())
    assert "not loaded" not in told
    assert "initial network namespace only" not in told


def where_settings_are_read_only(text: bytes) -> tuple[str, dict]:
    cover("/etc/sysctl.d", {"60-x.conf": text})
    subprocess.run(["mount", "-o", "bind", "/proc/sys", "/proc/sys"], check=True, timeout=120)
    subprocess.run(["mount", "-o", "remount,bind,ro", "/proc/sys"], check=True, timeout=120)
    faults = json.loads(tcpdoctor("sysctl", "lint", "--format", "json").stdout)["faults"]
    (drift,) = [fault["do"] for fault in faults if fault["file"] == "/etc/sysctl.d/60-x.conf"]
    return drift, json.loads(tcpdoctor("explain", "--sysctl", "tcp_retries2", "--format", "json").stdout)


def test_where_settings_are_read_only_nobody_is_told_to_apply_anything(in_namespace):
    drift, answer = in_namespace(where_settings_are_read_only, b"net.ipv4.tcp_retries2 = 11\n")
    assert drift.startswith("Settings are read-only here")
    assert (answer["value"], answer["writable"]) == (15, False)


def changed() -> tuple[str, str]:
    enter_private_namespace()  # with the machine's table of connections: defaults follow from its size
    fresh = tcpdoctor("sysctl", "show", "--changed")
    if Path("/proc/sys/net/ipv4/tcp_ecn_option").exists():
        write_sysctl("net.ipv4.tcp_rmem", "4096 131072 6291456")  # what it was before 6.16
    write_sysctl("net.ipv4.tcp_retries2", 7)
    write_sysctl("net.ipv4.tcp_max_tw_buckets", 1009)
    return fresh.stdout, tcpdoctor("sysctl", "show", "--changed", "--format", "json").stdout


def test_a_fresh_namespace_has_nothing_changed_and_a_written_one_has_it(in_namespace):
    fresh, written = in_namespace(changed)
    assert fresh.startswith("No setting is changed. Of ")
    rows = {row["sysctl"]: row for row in json.loads(written)["sysctls"]}
    young = {"net.ipv4.tcp_rmem"} if Path("/proc/sys/net/ipv4/tcp_ecn_option").exists() else set()
    assert set(rows) == {"net.ipv4.tcp_retries2", "net.ipv4.tcp_max_tw_buckets"} | young
    assert (rows["net.ipv4.tcp_retries2"]["value"], rows["net.ipv4.tcp_retries2"]["default"]) == (7, "15")
    assert int(rows["net.ipv4.tcp_max_tw_buckets"]["default"]) > 1009
    assert rows["net.ipv4.tcp_retries2"]["set_by"] is None


def owners() -> dict[str, tuple[dict | None, dict | None]]:
    enter_private_namespace()  # with the machine's table of connections: defaults follow from its size
    cover("/etc/sysctl.d", {"60-x.conf": b"# first\nnet.ipv4.tcp_retries2 = 0x9\nnet.ipv4.tcp_sack = 0\n"})
    write_sysctl("net.ipv4.tcp_retries2", 9)
    write_sysctl("net.ipv4.tcp_fin_timeout", 31)
    rows = json.loads(tcpdoctor("sysctl", "show", "--changed", "--format", "json").stdout)["sysctls"]
    return {row["sysctl"].rpartition(".")[2]: (row["set_by"], row["not_set_by"]) for row in rows}


def test_a_value_has_the_line_that_set_it_or_nobody(in_namespace):
    found = in_namespace(owners)
    assert set(found) == {"tcp_retries2", "tcp_fin_timeout"}
    by, later = found["tcp_retries2"]
    assert (by["kind"], by["file"], by["line"], later) == ("file", "/etc/sysctl.d/60-x.conf", 2, None)
    assert found["tcp_fin_timeout"] == (None, None)


def every_default() -> dict[str, str]:
    """What `show` says of each setting that a fresh namespace has of its own and whose default is known."""
    enter_private_namespace()  # with the machine's table of connections: defaults follow from its size
    rows = json.loads(tcpdoctor("sysctl", "show", "--format", "json").stdout)["sysctls"]
    known = [row for row in rows if row["scope"] == "namespace" and row["is_default"] is not None]
    assert len(known) > 90
    return {row["sysctl"]: row["printed"] for row in known if not row["is_default"]}


def test_what_a_fresh_namespace_has_is_the_default_of_every_setting(in_namespace):
    assert in_namespace(every_default) == {}


WORDS = (
    "7",
    "7 # c",
    "7# c",
    "7s",
    "0x07",
    "07",
    "08",
    "+7",
    "-1",
    "",
    "7 8",
    "7,8",
    '"7"',
    "7;",
    "1e1",
    "7.0",
    "\x0b7",
    "7\x0b",
    "7\x0c",
    "\u00a07",
    "7\u00a0",
    "7\u3000",
    "7\u200b",
    "\x1c7",
    "7\x1c",
    "0x",
    "07777777",
    "00000000000000000007",
    "000000000000000000007",
    "9" * 25,
)


def write_raw(path: str, value: str) -> bool:
    """Write as the readers do, and return whether the kernel took it."""
    descriptor = os.open(f"/proc/sys/{path}", os.O_WRONLY)
    try:
        os.write(descriptor, f"{value}\n".encode())
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def taken(path: str, value: str) -> bool:
    before = Path("/proc/sys", path).read_bytes()
    if not write_raw(path, value):
        return False
    after = Path("/proc/sys", path).read_bytes()
    Path("/proc/sys", path).write_bytes(before)
    return not _is_passed_over(path, value, before, after)


def _is_passed_over(path: str, value: str, before: bytes, after: bytes) -> bool:
    """Older kernels (5.10) pass over a negative number for an unsigned long, and say that all is well."""
    return path.endswith("_ns") and value.startswith("-") and before == after


PORT_LISTS = (
    "8080,9000-9010", "9000,80", "9-8", "70000", "8080,", ",", ",8080", "8080,,9000", "8080, 9000", "8080-",
    "80 90",
)  # fmt: skip


def wrong_refusals() -> list[str]:
    """Try many texts on settings of every shape: each handler of /proc/sys parses in its own way."""
    file = SettingsFile("x.conf", "x.conf", b"")
    tried = [(path, word) for path in SHAPES for word in WORDS]
    tried += [("net/ipv4/ip_local_reserved_ports", word) for word in PORT_LISTS]
    tried += [("net/ipv4/tcp_rmem", word) for word in ("4096 8192", "1 2 3 4", "0 1 2", "4096, 8192, 9000")]
    tried += [
        ("net/ipv4/ip_local_port_range", word) for word in ("2000", "2000 3001", "3001 2000", "2000-3001")
    ]
    lines = "".join(f"{path} = 1\n" for path, _ in tried).encode()
    known = apply_files({Reader.PROCPS: [file._replace(content=lines)]}).known
    return [
        f"{path} = {word!r}: {why or 'taken'}"
        for path, word in tried
        if ((why := refusal(path, word, known[path], look_at(path).value)) is None) is not taken(path, word)
    ]


SHAPES = (
    "net/ipv4/tcp_fin_timeout",
    "net/ipv4/tcp_retries2",
    "net/ipv4/tcp_max_tw_buckets",
    "net/ipv4/tcp_notsent_lowat",
    "net/ipv4/tcp_comp_sack_delay_ns",
    "net/core/somaxconn",
    "net/ipv4/ip_local_reserved_ports",
    "net/ipv4/tcp_congestion_control",
)


def test_what_is_said_to_be_refused_is_what_the_kernel_refuses(in_namespace):
    wrong = in_namespace(wrong_refusals)
    # a name that no module has is refused too, and which modules there are cannot be known
    assert [each for each in wrong if "tcp_congestion_control" not in each] == []
    assert all(each.endswith(": taken") for each in wrong)


def test_every_range_of_a_page_reaches_lint(in_namespace):
    def complaints() -> tuple[int, list[str]]:
        pages = [page for page in all_pages().values() if page.limits and page.removed is None]
        content = "".join(f"{page.name} = banana\n" for page in pages).encode()
        applied = apply_files({Reader.PROCPS: [SettingsFile("x.conf", "x.conf", content)]})
        return len(pages), sorted(applied.last[Reader.PROCPS])

    number, stayed = in_namespace(complaints)
    assert number > 80
    assert stayed == []


def first_unprivileged_ports() -> list[bool]:
    """Whether each is taken where the ephemeral range begins at 32768."""
    return [taken("net/ipv4/ip_unprivileged_port_start", text) for text in ("80", "32768", "32769")]


def test_the_first_unprivileged_port_cannot_be_inside_the_range(in_namespace):
    assert in_namespace(first_unprivileged_ports) == [True, True, False]  # as lint says: value-refused


NOBODY = 65534


def as_nobody(arguments: tuple[str, ...]) -> tuple[int, str]:
    """Run a command as root, which imports what only root may read, then as a user who may do nothing."""
    run(["sysctl", *arguments])
    writer = os.memfd_create("answer")
    sys.stdout = os.fdopen(writer, "w", encoding="utf-8", closefd=False)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    code = run(["sysctl", *arguments])
    return code, os.pread(writer, 1 << 20, 0).decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become an ordinary user")
@pytest.mark.parametrize("arguments", [("show",), ("show", "--changed"), ("lint",)])
def test_an_ordinary_user_gets_an_answer(in_namespace, arguments):
    code, text = in_namespace(as_nobody, arguments)
    assert code in (0, 1)
    assert "None" not in text
    if arguments == ("show",):
        assert ["net.ipv4.tcp_fin_timeout", "60"] in [line.split() for line in text.splitlines()]


def test_a_missing_one_says_why(in_namespace):
    answer = in_namespace(tcpdoctor, "sysctl", "show", "tcp_mem", "tcp_tw_recycle", "--format", "json")
    (mem, gone) = json.loads(answer.stdout)["sysctls"]
    assert mem["missing"]["value"] == "net.ipv4.tcp_mem exists in the initial network namespace only"
    assert (gone["exists"], gone["removed"]) == (False, "4.12")
    assert isinstance(look_at("net/ipv4/tcp_nothing").value, Missing)


def warned_of_no_probes():
    write_sysctl("net.ipv4.tcp_keepalive_probes", 0)
    return (
        json.loads(tcpdoctor("explain", "--sysctl", "tcp_keepalive_probes", "--format", "json").stdout),
        json.loads(tcpdoctor("explain", "--sysctl", "tcp_keepalive_time", "--format", "json").stdout),
    )


def test_explain_says_of_a_value_what_check_says_of_it(in_namespace):
    probes, time = in_namespace(warned_of_no_probes)
    (warned,) = probes["findings"]
    assert (warned["rule"], warned["severity"]) == ("keepalive-probes-zero", "warning")
    assert "is reset, healthy or not, without a probe" in warned["summary"]
    assert "keepalive-probes-zero" in probes["rules"]
    assert time["findings"] == []
    assert "timeouts-look-like-milliseconds" in time["rules"]
