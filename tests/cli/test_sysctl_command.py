"""`tcpdoctor sysctl` as its user meets it: exit codes, formats, names, bad input."""

import json
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from tcpdoctor import __version__
from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.settings_rules import checks_of
from tcpdoctor.diagnosis.sysctl_checks import CHECKS
from tests.cli.command import complaint, tcpdoctor

BAD = "net.ipv4.tcp_tw_recycle = 1\nnet.ipv4.tcp_fin_timeout = 5\nnet.ipv4.tcp_keepalve_time = 9\n"


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad file.conf"
    path.write_text(BAD)
    return path


def put(root: Path, path: str, text: str) -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


# lint


def test_a_remark_has_file_line_sentence_and_remedy(bad):
    answer = tcpdoctor("sysctl", "lint", bad)
    assert answer.returncode == 1
    assert str(bad) in answer.stdout
    words = " ".join(answer.stdout.split())
    assert "line 1: warning: key-removed net.ipv4.tcp_tw_recycle is gone since Linux 4.12." in words
    assert "line 3: warning: key-unknown This kernel does not have net.ipv4.tcp_keepalve_time." in words
    assert "-> Did you mean net.ipv4.tcp_keepalive_time?" in words
    # a path stands on a line of its own and whole, however long
    assert all(len(line) <= 80 for line in answer.stdout.splitlines() if line != str(bad))


def test_of_very_many_remarks_the_worst_are_shown_and_one_of_each_check_and_json_has_all(tmp_path):
    many = "".join(f"net.ipv4.tcp_nonsense{number} = 1\n" for number in range(1009))
    path = tmp_path / "many.conf"
    path.write_text(f"net.ipv4.tcp_fin_timeout = 31\n{many}net.ipv4.tcp_tw_recycle = 1\n")
    answer = tcpdoctor("sysctl", "lint", path)
    remarks = json.loads(tcpdoctor("sysctl", "lint", path, "--format", "json").stdout)["faults"]
    lines = [line for line in answer.stdout.splitlines() if line.startswith("  line ")]
    assert (answer.returncode, len(lines), len(answer.stdout) < 20_000) == (1, 100, True)
    assert "  line 2: warning: key-unknown" in lines
    assert "  line 1011: warning: key-removed" in lines
    assert not any(": info: " in line for line in lines)
    infos = sum(remark["severity"] == "info" for remark in remarks)
    more = len(remarks) - 100
    words = " ".join(answer.stdout.split())
    assert f"and {more:,} more ({more - infos:,} warning, {infos} info); --format json lists all" in words
    assert f"1 file, {len(remarks):,} remarks ({more + 100 - infos:,} warning, {infos} info)." in words
    assert {remark["line"] for remark in remarks} >= set(range(2, 1012))


@pytest.mark.parametrize(("fail_on", "code"), [("info", 1), ("warning", 1), ("critical", 0), ("never", 0)])
def test_the_exit_code_is_that_of_check(bad, fail_on, code):
    assert tcpdoctor("sysctl", "lint", bad, "--fail-on", fail_on).returncode == code


def test_info_never_changes_the_exit_code(tmp_path):
    put(tmp_path, "x.conf", "net.ipv4.tcp_fin_timeout = 31\n")
    answer = tcpdoctor("sysctl", "lint", tmp_path / "x.conf", "--fail-on", "info")
    assert (answer.returncode, "info: fin-timeout-changed" in answer.stdout) == (0, True)


@pytest.mark.parametrize(("fail_on", "lines"), [("warning", [1, 3]), ("critical", []), ("never", [])])
def test_quiet_prints_what_is_at_or_above_fail_on_and_else_nothing(bad, fail_on, lines):
    answer = tcpdoctor("sysctl", "lint", bad, "--quiet", "--fail-on", fail_on)
    assert [f"  line {line}: warning" in answer.stdout for line in (1, 3)] == [
        line in lines for line in (1, 3)
    ]
    assert (bool(answer.stdout), answer.returncode) == (bool(lines), int(bool(lines)))
    assert "info:" not in answer.stdout
    assert "remarks" not in answer.stdout


def test_quiet_is_for_people(bad):
    assert "--format text" in complaint(tcpdoctor("sysctl", "lint", bad, "-q", "--json"))


def test_a_clean_file_says_so(tmp_path):
    put(tmp_path, "x.conf", "# nothing\n")
    answer = tcpdoctor("sysctl", "lint", tmp_path / "x.conf")
    assert (answer.returncode, answer.stdout) == (0, "1 file, nothing to correct.\n")


def test_files_are_taken_in_the_order_given(tmp_path):
    put(tmp_path, "z.conf", "net.ipv4.tcp_sack = 0\n")
    put(tmp_path, "a.conf", "net.ipv4.tcp_sack = 1\n")
    assert "sack-off" not in tcpdoctor("sysctl", "lint", tmp_path / "z.conf", tmp_path / "a.conf").stdout
    assert "sack-off" in tcpdoctor("sysctl", "lint", tmp_path / "a.conf", tmp_path / "z.conf").stdout


def test_json_has_every_fault_with_its_sources(bad):
    document = json.loads(tcpdoctor("sysctl", "lint", bad, "--format", "json").stdout)
    assert document["schema"] == "tcpdoctor.sysctl-lint/1"
    assert document["exit_code"] == 1
    assert [
        (fault["line"], fault["check"]) for fault in document["faults"] if fault["severity"] == "warning"
    ] == [
        (1, "key-removed"),
        (2, "fin-timeout-short"),
        (3, "key-unknown"),
    ]
    assert document["faults"][0]["sysctl"] == "net.ipv4.tcp_tw_recycle"
    assert document["faults"][0]["sources"]
    assert document["summary"]["warning"] == 3


def test_another_system_is_read_below_its_root(tmp_path):
    put(tmp_path, "usr/lib/sysctl.d/10.conf", "net.ipv4.tcp_retries2 = 3\n")
    put(tmp_path, "etc/sysctl.d/10.conf", "net.ipv4.tcp_retries2 = 9\n")
    put(tmp_path, "etc/sysctl.conf", "net.ipv4.tcp_sack = 0\n")
    answer = tcpdoctor("sysctl", "lint", "--root", tmp_path, "--format", "json")
    document = json.loads(answer.stdout)
    assert {fault["check"] for fault in document["faults"]} == {"sysctl-conf-not-read", "sack-off"}
    assert [file["path"] for file in document["files"]] == [
        f"{tmp_path}/etc/sysctl.d/10.conf",
        f"{tmp_path}/etc/sysctl.conf",
    ]
    assert document["files"][0]["hides"] == [f"{tmp_path}/usr/lib/sysctl.d/10.conf"]
    assert document["unchecked"][0]["what"] == "running values"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("lint", "/nothing"), "/nothing: no such file; give a file of settings"),
        (("lint", "/proc/self"), "no file of this folder ends in .conf"),
        (("lint", "-", "-"), "can be read once"),
        (("lint", "--root", "/nothing"), "/nothing: no such folder; give the root of a system's files"),
        (("lint", "/etc/sysctl.conf", "--root", "/"), "--root takes no files"),
        (("lint", "--fail-on", "severe"), "'severe'"),
        (("show", "tcp_fin_timout"), "did you mean net.ipv4.tcp_fin_timeout?"),
        (("show", "keepalive"), "'*keepalive*' stands for net.ipv4.tcp_keepalive_time"),
        (("show", "nothing*"), "no sysctl of TCP is called 'nothing*'"),
        (("show", "/etc/passwd"), "no sysctl of TCP is called '/etc/passwd'"),
        (("show", "../../etc/passwd"), "no sysctl of TCP is called"),
        (("show", "net/../../../etc/*"), "no sysctl of TCP is called"),
        (("show", "--format", "sarif"), "'sarif'"),
    ],
)
def test_a_mistake_is_one_line(arguments, words):
    assert words in complaint(tcpdoctor("sysctl", *arguments))


STOCK = {
    "etc/sysctl.d/10-x.conf": "net.ipv4.conf.default.rp_filter=2\nnet.ipv4.conf.all.rp_filter=2\n",
    "etc/sysctl.d/README.sysctl": "nothing\n",
    "etc/sysctl.conf": "#net.ipv4.tcp_syncookies=1\n",
    "usr/lib/sysctl.d/50-default.conf": "net.ipv4.conf.default.rp_filter = 2\nnet.ipv4.conf.*.rp_filter = 2\n"
    "-net.ipv4.conf.all.rp_filter\n-net.core.default_qdisc = fq_codel\nfs.protected_fifos = 1\n",
    "usr/lib/sysctl.d/50-pid-max.conf": "kernel.pid_max = 4194304\n",
    "usr/lib/sysctl.d/99-protect-links.conf": "fs.protected_fifos = 1\n",
}


def test_the_files_of_a_distribution_are_no_warning(tmp_path):
    for path, text in STOCK.items():
        put(tmp_path, path, text)
    document = json.loads(tcpdoctor("sysctl", "lint", "--root", tmp_path, "--format", "json").stdout)
    assert [fault["check"] for fault in document["faults"]] == ["readers-disagree"]
    assert document["summary"] == {"info": 1, "warning": 0, "critical": 0}


def test_a_sensible_tuning_of_another_system_is_no_remark(tmp_path):
    put(
        tmp_path,
        "etc/sysctl.d/60-x.conf",
        "net.core.somaxconn=65535\nnet.core.rmem_max=67108864\nnet.core.default_qdisc=fq\n"
        "net.ipv4.tcp_congestion_control=bbr\nvm.swappiness=10\nnet.ipv4.tcp_keepalive_time=300\n"
        "net.ipv4.ip_local_port_range=10240 65535\nnet.ipv4.ip_local_reserved_ports=30000-32767\n"
        "net.ipv4.tcp_rmem=4096 131072 33554432\nnet.ipv4.tcp_max_tw_buckets=2000000\n",
    )
    assert tcpdoctor("sysctl", "lint", "--root", tmp_path).stdout.endswith("1 file, nothing to correct.\n")


def test_a_root_without_files_of_settings_says_so(tmp_path):
    answer = tcpdoctor("sysctl", "lint", "--root", tmp_path)
    assert answer.returncode == 0
    assert "There is no file of settings" in answer.stdout


def test_hostile_files_are_no_trouble(tmp_path):
    path = tmp_path / "\x1b[31mred\u202e.conf"
    path.write_bytes(
        bytes(range(256)) * 40
        + b"\nnet.ipv4.conf."
        + b"a/" * 3000
        + b" = 1\n"
        + b"=\n-\n--\n-=\n[ = 1\n\\ = 2"
    )
    for form in ("text", "json", "sarif"):
        answer = tcpdoctor("sysctl", "lint", path, "--format", form)
        assert answer.returncode == 1, answer
        assert answer.stderr == ""
        assert "\x1b" not in answer.stdout


# sarif


def run_of(text: str) -> dict:
    document = json.loads(text)
    assert document["version"] == "2.1.0"
    assert document["$schema"].endswith("/sarif-schema-2.1.0.json")
    (run,) = document["runs"]
    assert run["tool"]["driver"]["name"] == "tcpdoctor"
    assert run["tool"]["driver"]["semanticVersion"] == __version__
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(set(rules)) == len(rules)
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in ("note", "warning", "error")
        assert result["message"]["text"]
    return run


def test_sarif_points_to_file_and_line(bad):
    run = run_of(tcpdoctor("sysctl", "lint", bad, "--format", "sarif").stdout)
    assert {rule["id"] for rule in run["tool"]["driver"]["rules"]} == set(CHECKS) | set(
        checks_of(load_rules().rules)
    )
    first = run["results"][0]
    place = first["locations"][0]["physicalLocation"]
    assert (first["ruleId"], first["level"]) == ("key-removed", "warning")
    assert unquote(urlparse(place["artifactLocation"]["uri"]).path) == str(bad)
    assert " " not in place["artifactLocation"]["uri"]
    assert place["region"] == {"startLine": 1}


def test_rules_lint_knows_sarif(tmp_path):
    (tmp_path / "close").mkdir()
    (tmp_path / "close" / "x.toml").write_text("id = 3\n")
    answer = tcpdoctor("rules", "lint", tmp_path, "--format", "sarif")
    assert answer.returncode == 1
    (result,) = run_of(answer.stdout)["results"]
    assert result["ruleId"] == "unreadable"
    assert run_of(tcpdoctor("rules", "lint", "--format", "sarif").stdout)["results"] == []


# show


def names(*arguments: str) -> list[str]:
    document = json.loads(tcpdoctor("sysctl", "show", *arguments, "--format", "json").stdout)
    return [row["sysctl"] for row in document["sysctls"]]


def test_a_setting_is_shown_by_any_name_prefix_or_pattern():
    keepalive = [f"net.ipv4.tcp_keepalive_{part}" for part in ("intvl", "probes", "time")]
    for asked in ("tcp_keepalive*", "net.ipv4.tcp_keepalive_*", "net/ipv4/tcp_keepalive_*", "tcp_keepalive_"):
        assert sorted(names(asked)) == keepalive
    for asked in ("tcp_fin_timeout", "net.ipv4.tcp_fin_timeout", "/proc/sys/net/ipv4/tcp_fin_timeout"):
        assert names(asked) == ["net.ipv4.tcp_fin_timeout"]
    assert names("net.ipv4.conf.lo.rp_*") == ["net.ipv4.conf.lo.rp_filter"]
    assert names("tcp_sack", "tcp_dsack", "tcp_sack") == ["net.ipv4.tcp_sack", "net.ipv4.tcp_dsack"]


def test_without_a_name_every_setting_of_tcp_is_shown_once():
    shown = names()
    assert shown == sorted(set(shown))
    assert {"net.ipv4.tcp_sack", "net.core.somaxconn", "net.ipv4.ip_local_port_range"} <= set(shown)
    assert "net.ipv4.tcp_tw_recycle" not in shown


def test_a_setting_that_no_page_tells_of_is_shown_all_the_same():
    (row,) = json.loads(tcpdoctor("sysctl", "show", "kernel.pid_max", "--format", "json").stdout)["sysctls"]
    assert isinstance(row["value"], int)
    assert (row["default"], row["is_default"], row["scope"]) == (None, None, None)


def test_text_fits_80_columns_and_says_what_is_gone():
    text = tcpdoctor("sysctl", "show").stdout
    assert max(map(len, text.splitlines())) <= 80
    gone = " ".join(tcpdoctor("sysctl", "show", "tcp_tw_recycle").stdout.split())
    assert "not on this kernel" in gone
    assert "Gone since Linux 4.12. Instead: for connect()" in gone


def test_a_secret_key_is_never_shown():
    (row,) = json.loads(tcpdoctor("sysctl", "show", "tcp_fastopen_key", "--format", "json").stdout)["sysctls"]
    assert row["value"] is None
    assert "secret" in row["missing"]["value"]


def test_what_acts_when_it_is_read_and_what_is_secret_is_not_read():
    asked = ("vm.stat_refresh", "vm.drop_caches", "net.ipv6.conf.default.stable_secret")
    text = tcpdoctor("sysctl", "show", *asked).stdout
    assert "vm.stat_refresh: it can only be written" in text
    assert "vm.drop_caches: it can only be written" in text
    assert "net.ipv6.conf.default.stable_secret: it is a secret key" in text
    assert names("net..ipv4.tcp_sack") == ["net.ipv4.tcp_sack"]


# more ways to name files


def test_standard_input_is_a_file_as_well():
    text = "net.ipv4.tcp_sack = 0\n"
    answer = tcpdoctor("sysctl", "lint", "-", input=text)
    assert answer.returncode == 1
    assert answer.stdout.startswith("-\n  line 1: warning: sack-off\n")


def test_a_folder_stands_for_its_files_in_the_order_of_their_names(tmp_path):
    put(tmp_path, "d/20.conf", "net.ipv4.tcp_sack = 1\n")
    put(tmp_path, "d/10.conf", "net.ipv4.tcp_sack = 0\n")
    put(tmp_path, "d/30.txt", "net.ipv4.tcp_retries2 = 3\n")
    document = json.loads(tcpdoctor("sysctl", "lint", tmp_path / "d", "--format", "json").stdout)
    assert [file["path"].rpartition("/")[2] for file in document["files"]] == ["10.conf", "20.conf"]
    assert {fault["check"] for fault in document["faults"]} <= {"set-twice", "differs-from-running"}


def test_a_socket_option_in_a_file_is_told_to_be_one(tmp_path):
    put(tmp_path, "x.conf", "net.ipv4.tcp_nodelay = 1\n")
    answer = " ".join(tcpdoctor("sysctl", "lint", tmp_path / "x.conf").stdout.split())
    assert "TCP_NODELAY is an option that programs set on a socket" in answer
    assert "tcpdoctor explain --option TCP_NODELAY" in answer
