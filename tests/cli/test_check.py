"""`check` as a whole: what it refuses, what it answers on a real kernel, and how it exits."""

import os
import socket
import subprocess

import pytest

from tcpdoctor.kernel.states import COUNTED_STATES
from tests.cli.command import COMMAND, complaint, environment, tcpdoctor
from tests.schemas import described

CRITICAL_RULE = "accept-queue-full"
INFO_RULE = "listener-port-in-ephemeral-range"
NEEDS_TWO = "accept-queue-overflows"
PORT = 40009
"""Inside the default ephemeral range of a fresh namespace."""

RULE = """\
id = "odd"
title = "Host has a port range"
status = "stable"
since = "0.1"
scope = "host"
tags = ["x"]
[limits]
least = { default = %s, unit = "count", reason = "an example" }
[fires]
warning = "%s"
[prose]
summary = "It has."
explanation = "It has."
impact = "None."
normal_when = ["in tests"]
[[fix]]
kind = "operational"
title = "Ignore it"
do = "Nothing."
risk = "None."
verify = "true"
[[reference]]
claim = "it has"
source = "ip-sysctl.rst"
"""


def rule(folder, *, condition="ports.usable >= limit.least", default="1"):
    folder.mkdir(exist_ok=True)
    path = folder / "odd.toml"
    path.write_text(RULE % (default, condition))
    return path


def refused(tmp_path, *arguments):
    """The complaint of a run that was to write a file; the file must not be there, whole or half."""
    before = sorted(os.listdir(tmp_path))
    line = complaint(tcpdoctor("check", "--window", 0, *arguments, "--output", tmp_path / "answer"))
    assert sorted(os.listdir(tmp_path)) == before
    return line


class TestWhatIsRefusedInOneLine:
    def test_a_rule_folder_that_is_not_there(self, tmp_path):
        assert "nowhere" in refused(tmp_path, "--rules", tmp_path / "nowhere")

    def test_a_rule_folder_that_is_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        assert "folder" in refused(tmp_path, "--rules", tmp_path / "file")

    def test_a_rule_that_is_no_toml(self, tmp_path):
        rule(tmp_path / "local").write_text("id = \n")
        assert "odd.toml" in refused(tmp_path, "--rules", tmp_path / "local")

    def test_a_rule_with_a_misspelt_fact(self, tmp_path):
        rule(tmp_path / "local", condition="ports.usabel >= limit.least")
        line = refused(tmp_path, "--rules", tmp_path / "local")
        assert "odd.toml: fires.warning" in line
        assert "ports.usable" in line

    def test_a_limit_that_is_no_number(self, tmp_path):
        rule(tmp_path / "local", default="nan")
        line = refused(tmp_path, "--rules", tmp_path / "local")
        assert "odd.toml: limits.least" in line

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root is protected from other users' files")
    def test_a_rule_that_another_user_can_write(self, tmp_path):
        rule(tmp_path / "local").chmod(0o666)
        line = refused(tmp_path, "--rules", tmp_path / "local")
        assert "odd.toml" in line
        assert "666" in line

    def test_a_configuration_that_is_not_there(self, tmp_path):
        assert "nowhere" in refused(tmp_path, "--config", tmp_path / "nowhere.toml")

    def test_a_configuration_that_is_a_folder(self, tmp_path):
        assert "folder" in refused(tmp_path, "--config", tmp_path)

    @pytest.mark.parametrize(
        ("text", "hint"),
        [
            ("[rules.close-wait-leak.limits]\nmin_sockets = nan\n", "min_sockets"),
            ("[rules.close-wait-leak.limits]\nmin_socket = 5\n", "min_sockets"),
            ("[rules.close-wait-leek]\nenabled = false\n", "close-wait-leak"),
            ("[rules.close-wait-leak]\nenabeld = false\n", "enabled"),
            ("rules = 3\n", "rules"),
            ("[[[", "config.toml"),
        ],
    )
    def test_a_configuration_that_is_wrong(self, tmp_path, text, hint):
        (tmp_path / "config.toml").write_text(text)
        line = refused(tmp_path, "--config", tmp_path / "config.toml")
        assert "config.toml" in line
        assert hint in line

    @pytest.mark.parametrize("option", ["--only", "--skip"])
    def test_a_rule_that_does_not_exist_with_the_nearest_that_does(self, tmp_path, option):
        assert "close-wait-leak" in refused(tmp_path, option, "close-wait-leek")
        assert "close-wait-leak" in refused(tmp_path, option, "fin-timeout-short,close-wait-leek")

    def test_only_with_nothing_in_it(self, tmp_path):
        assert "--only" in refused(tmp_path, "--only", ",")

    def test_everything_skipped_leaves_nothing_to_say_ok_about(self):
        answer = tcpdoctor("check", "--window", 0, "--only", INFO_RULE, "--skip", INFO_RULE)
        assert answer.returncode == 3


@pytest.mark.parametrize("name", ["nowhere/answer", "file/answer"])
def test_a_file_that_could_not_be_written_is_told_before_the_window_has_passed(tmp_path, name):
    (tmp_path / "file").write_text("")
    line = complaint(tcpdoctor("check", "--window", 3600, "--output", tmp_path / name))
    assert f"there is no folder {(tmp_path / name).parent}" in line
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_ours_is_told_before_the_window_has_passed():
    assert "you may not write in /proc" in complaint(
        tcpdoctor("check", "--window", 3600, "--output", "/proc/x")
    )


def overflowing(*runs, env=None):
    """Run `check` several times beside a listener whose queue is over its limit; answers of each."""
    with socket.create_server(("127.0.0.1", PORT), backlog=2):
        clients = [socket.create_connection(("127.0.0.1", PORT)) for _ in range(3)]
        answers = [tcpdoctor("check", *arguments, env=env) for arguments in runs]
        for client in clients:
            client.close()
    return [(answer.returncode, answer.stdout, answer.stderr) for answer in answers]


def on_a_quiet_host(*runs):
    return [(a.returncode, a.stdout, a.stderr) for a in (tcpdoctor("check", *run) for run in runs)]


def test_the_exit_code_is_that_of_the_worst_finding(in_namespace):
    short = ("--window", "0.3")
    info_only = ("--only", INFO_RULE, "--window", "0")
    wanted = {
        short: 2,
        (*short, "--fail-on", "critical"): 2,
        (*short, "--fail-on", "never"): 0,
        (*short, "--strict"): 2,
        ("--window", "0"): 1,  # one sample: a warning at most
        ("--window", "0", "--fail-on", "critical"): 0,
        ("--window", "0", "--fail-on", "critical", "--strict"): 3,
        info_only: 0,
        (*info_only, "--fail-on", "info"): 0,
        (*info_only, "--strict"): 0,
        ("--only", NEEDS_TWO, "--window", "0"): 3,  # not one rule was answered
        ("--only", f"{NEEDS_TWO},{INFO_RULE}", "--window", "0"): 0,
        ("--only", NEEDS_TWO, "--only", INFO_RULE, "--window", "0", "--strict"): 3,
        (*short, "--skip", CRITICAL_RULE, "--fail-on", "info"): 0,
    }
    answers = in_namespace(overflowing, *wanted)
    assert {run: code for run, (code, _, _) in zip(wanted, answers, strict=True)} == wanted


def test_json_speaks_of_this_kernel_in_the_words_of_the_contract(in_namespace):
    ((code, output, errors),) = in_namespace(overflowing, ("--window", "0.3", "--format", "json"))
    document = described(output)
    assert errors == ""
    assert code == document["exit_code"] == 2
    assert document["status"] == "critical"
    assert document["window_s"] == 0.3
    assert list(document["states"]) == [state.key for state in COUNTED_STATES]
    assert document["states"]["listen"] == 1
    assert document["states"]["established"] == 6
    assert document["sysctls"]["net.ipv4.tcp_fin_timeout"] == 60
    assert document["sysctls"]["net.ipv4.ip_local_port_range"] == [32768, 60999]
    assert document["host"]["name"] == os.uname().nodename
    assert isinstance(document["host"]["namespace"], str)
    rules = [finding["rule"] for finding in document["findings"]]
    assert rules == [CRITICAL_RULE, INFO_RULE]
    summary = document["summary"]
    assert (summary["critical"], summary["warning"], summary["info"]) == (1, 0, 1)
    assert summary["unchecked"] == len({entry["rule"] for entry in document["unchecked"]})


def test_the_same_subject_has_the_same_fingerprint_in_every_run(in_namespace):
    run = ("--window", "0", "--format", "json")
    first, second = (described(output)["findings"] for _, output, _ in in_namespace(overflowing, run, run))
    assert [finding["fingerprint"] for finding in first] == [finding["fingerprint"] for finding in second]
    assert len({finding["fingerprint"] for finding in first}) == len(first)


def test_text_has_the_worst_first_and_what_was_not_checked_last(in_namespace):
    ((_, output, _),) = in_namespace(overflowing, ("--window", "0", "--long"))
    lines = output.splitlines()
    assert lines[0].startswith("WARNING: ")
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in output
    order = [
        output.index("WARNING  127.0.0.1:40009"),
        output.index("INFO  127.0.0.1:40009"),
        output.index("needs two samples"),
    ]
    assert order == sorted(order)
    for part in ("Why:", "Cost:", "Evidence", "What to do", "Risk:", "Verify:", "What does not help"):
        assert part in output


def test_quiet_prints_the_loud_findings_only(in_namespace):
    short = ("--window", "0.3", "--quiet")
    loud, silent, never, document, nothing = in_namespace(
        overflowing,
        short,
        ("--only", INFO_RULE, *short),
        (*short, "--fail-on", "never"),
        (*short, "--format", "json"),
        ("--only", INFO_RULE, *short, "--format", "json"),
    )
    assert loud[0] == 2
    assert loud[1].startswith("CRITICAL  ")
    assert f"tcpdoctor check {CRITICAL_RULE}" in loud[1]
    assert "INFO" not in loud[1]
    assert silent == never == nothing == (0, "", "")
    assert [finding["rule"] for finding in described(document[1])["findings"]] == [CRITICAL_RULE]


def test_quiet_does_not_leave_exit_3_unexplained(in_namespace):
    ((code, output, errors),) = in_namespace(
        on_a_quiet_host, ("--quiet", "--strict", "--window", "0", "--only", NEEDS_TWO)
    )
    assert (code, output) == (3, "")
    assert len(errors.splitlines()) == 1


def test_a_host_with_kernel_defaults_is_well_and_told_what_was_checked(in_namespace):
    short, text, document = in_namespace(
        on_a_quiet_host,
        ("--window", "0.2"),
        ("--window", "0.2", "--long"),
        ("--window", "0.2", "--format", "json"),
    )
    assert short[0] == text[0] == 0
    assert short[1].startswith("OK  ")
    assert "tcpdoctor explain 8080" in short[1]
    assert text[1].startswith("OK: ")
    assert "Sockets: none." in text[1]
    assert "does not apply here" in text[1]  # tcp_mem and tcp_max_orphans are the machine's
    answer = described(document[1])
    assert answer["findings"] == []
    assert answer["status"] == "ok"
    assert answer["summary"]["checked"] >= 17


def test_colour_on_demand_changes_no_word(in_namespace):
    import re

    plain, colored = in_namespace(overflowing, ("--window", "0"), ("--window", "0", "--color", "always"))
    assert "\x1b[33m" in colored[1]

    def words(text):
        return [line for line in re.sub(r"\x1b\[\d+m", "", text).splitlines() if "samples" not in line]

    assert words(colored[1])[2:] == words(plain[1])[2:]


def test_ascii_is_enough_for_a_finding(in_namespace):
    ((code, output, errors),) = in_namespace(
        overflowing, ("--window", "0"), env={"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    )
    assert (code, errors) == (1, "")
    assert output.isascii()


def test_a_file_holds_what_stdout_would(in_namespace, tmp_path):
    target = tmp_path / "check.json"
    target.write_text("the answer before")
    ((code, output, errors),) = in_namespace(
        overflowing, ("--window", "0", "--format", "json", "--output", str(target))
    )
    assert (code, output, errors) == (1, "", "")
    assert described(target.read_text())["exit_code"] == 1


def test_quiet_empties_a_file_of_findings_that_are_gone(in_namespace, tmp_path):
    target = tmp_path / "findings"
    target.write_text("WARNING  the one of yesterday\n")
    in_namespace(on_a_quiet_host, ("--window", "0", "--quiet", "--output", str(target)))
    assert target.read_text() == ""


@pytest.mark.parametrize(("rule", "code"), [(INFO_RULE, 0)])
def test_a_run_that_cannot_be_kept_keeps_its_exit_code_and_its_one_answer(tmp_path, rule, code):
    """A full disk under the file of --since-last: what was found has been told all the same."""
    limit = ("prlimit", "--fsize=10")
    command = (
        *limit,
        *COMMAND,
        "check",
        "--only",
        rule,
        "--format",
        "nagios",
        "--since-last",
        tmp_path / "last",
    )
    answer = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment(), timeout=120
    )
    assert answer.returncode == code
    assert answer.stdout.startswith("TCPDOCTOR OK - ")
    assert answer.stdout.count("TCPDOCTOR") == 1
    assert "not kept for the next run" in answer.stderr
    assert answer.stderr.count("\n") == 1
