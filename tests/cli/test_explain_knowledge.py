"""`tcpdoctor explain --state` and `--sysctl` as users run them."""

import json

import pytest

from tests.cli.command import complaint, tcpdoctor


def test_a_state_is_explained_on_stdout():
    answer = tcpdoctor("explain", "--state", "FIN-WAIT-2")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith("FIN_WAIT_2 (FIN-WAIT-2 in RFC 9293): ")
    assert max(len(line) for line in answer.stdout.splitlines()) <= 80
    assert "[[FIN_WAIT_2]]" in tcpdoctor("explain", "fin-wait-2", "--long").stdout


def test_a_sysctl_is_explained_on_stdout():
    answer = tcpdoctor("explain", "--sysctl", "/proc/sys/net/ipv4/tcp_fin_timeout")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith("net.ipv4.tcp_fin_timeout = ")
    assert max(len(line) for line in answer.stdout.splitlines()) <= 80


@pytest.mark.parametrize(
    ("question", "name", "schema"),
    [("--state", "timewait", "tcpdoctor.state/1"), ("--sysctl", "tcp_tw_reuse", "tcpdoctor.sysctl/1")],
)
def test_json_is_one_object(question, name, schema):
    answer = tcpdoctor("explain", question, name, "--format", "json")
    assert answer.returncode == 0
    assert json.loads(answer.stdout)["schema"] == schema


def test_a_sysctl_that_is_gone_is_an_answer_and_no_mistake():
    answer = tcpdoctor("explain", "--sysctl", "tcp_tw_recycle")
    assert answer.returncode == 0
    assert "Gone since Linux 4.12" in answer.stdout
    assert (
        json.loads(tcpdoctor("explain", "--sysctl", "tcp_tw_recycle", "--format", "json").stdout)["exists"]
        is False
    )


@pytest.mark.parametrize(
    ("question", "name", "nearest"),
    [
        ("--state", "FIN_WAIT_3", "FIN_WAIT"),
        ("--sysctl", "tcp_fin_timeot", "net.ipv4.tcp_fin_timeout"),
        ("--sysctl", "../../../etc/passwd", "for example"),
        ("--sysctl", "kernel.hostname", "for example"),
        ("--sysctl", "tcp_\x1b[31mred", "tcp_"),
    ],
)
def test_an_unknown_name_is_one_line_and_exit_3(question, name, nearest):
    assert nearest in complaint(tcpdoctor("explain", question, name))
