"""What `tcpdoctor completion` answers while somebody types."""

import os
import socket
import subprocess

import pytest

from tcpdoctor.cli.app import COMMANDS, build_command
from tcpdoctor.cli.completion import possibilities

from .command import COMMAND, complaint, environment, tcpdoctor


def words(*line):
    return [text.partition("\t")[0] for text in possibilities(line)]


def test_commands_are_told_with_what_they_answer():
    assert words("") == list(COMMANDS)
    assert possibilities(["sta"]) == [f"states\t{COMMANDS['states'].help}"]
    assert words("--v") == ["--version"]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_of_every_command_is_there(name):
    command = build_command(name, COMMANDS[name])
    if getattr(command, "commands", None) is not None:
        assert words(name, "") == list(command.commands)
        return
    long = {
        opt
        for param in command.params
        if param.param_type_name == "option" and not param.hidden
        for opt in param.opts
        if opt[:2] == "--"
    }
    assert set(words(name, "--")) == long


def test_an_option_that_was_given_is_not_offered_again_but_for_those_that_repeat():
    offered = words("check", "--quiet", "--only", "close-wait-leak", "--")
    assert "--quiet" not in offered
    assert {"--only", "--skip", "--strict"} <= set(offered)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (("check", "close-wait-l"), ["close-wait-leak"]),
        (("help", "chec"), ["check"]),
        (("sockets", "--sort", "send_q"), ["send_queue"]),
        (("sockets", "--columns", "state,send_q"), ["state,send_queue"]),
        (("check", "--only", "close-wait-l"), ["close-wait-leak"]),
        (("check", "--only", "fin-timeout-short,close-wait-l"), ["fin-timeout-short,close-wait-leak"]),
        (("check", "--only=close-wait-l"), ["--only=close-wait-leak"]),
        (("rules", "show", "close-wait-l"), ["close-wait-leak"]),
        (("explain", "--rule", "close-wait-l"), ["close-wait-leak"]),
        (("fix", "syncookies-of"), ["syncookies-off"]),
        (("fix", "--as", "sysc"), ["sysctl.d"]),
        (("explain", "--state", "last"), ["last-ack"]),
        (("sockets", "--state", "closi"), ["closing"]),
        (("explain", "--sysctl", "net.ipv4.tcp_fin"), ["net.ipv4.tcp_fin_timeout"]),
        (("sysctl", "show", "net.ipv4.tcp_fin"), ["net.ipv4.tcp_fin_timeout"]),
        (("explain", "--option", "SO_REUSEA"), ["SO_REUSEADDR"]),
        (("explain", "--error", "EADDRI"), ["EADDRINUSE"]),
        (("facts", "TcpExt.ListenO"), ["TcpExt.ListenOverflows"]),
        (("check", "--format", "jun"), ["junit"]),
        (("check", "--format=jun"), ["--format=junit"]),
        (("check", "--format", "js"), ["json", "jsonl"]),
        (("check", "--format=js"), ["--format=json", "--format=jsonl"]),
        (("states", "--by", ""), ["port", "peer", "process"]),
        (("schema", "chec"), ["check", "checks"]),
        (("completion", "f"), ["fish"]),
        (("check", "--output", ""), [":files"]),
        (("check", "--rules", ""), [":folders"]),
        (("check", "--netns", "al"), ["all"]),
        (("no-such-command", ""), []),
        (("check", "--no-such-option", ""), []),
        (("check", "--window", ""), []),
    ],
)
def test_what_stands_next_is_offered(line, expected):
    found = words(*line)
    assert found[: len(expected)] == expected
    assert len(found) == len(expected) or line[0] in ("sysctl", "facts")


def test_scenarios_of_the_lab_are_offered():
    assert "fin-wait-2-held-open" in words("lab", "run", "fin-wait-2")


def test_an_option_without_value_is_followed_by_anything():
    assert words("check", "--quiet", "--str") == ["--strict"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_printed_and_the_words_answered(shell):
    script = tcpdoctor("completion", shell)
    assert (script.returncode, script.stderr) == (0, "")
    assert "completion " + shell in script.stdout
    answer = tcpdoctor("completion", shell, "--", "=explain", "=--state", "=last")
    assert (answer.stdout, answer.stderr, answer.returncode) == ("last-ack\n", "", 0)
    assert tcpdoctor("completion", shell, "--", "=check", "=--output=").stdout == ":files\n"
    assert tcpdoctor("completion", shell, "--", "=").stdout.startswith("check\t")


def test_a_shell_that_is_not_known_is_refused():
    assert "csh" in complaint(tcpdoctor("completion", "csh"))


# --- what is on this host ---


def offered_here(name: str) -> dict[str, list[str]]:
    """Two listeners, and a process whose name somebody chose."""
    with (
        socket.create_server(("127.0.0.1", 7001)),
        socket.create_server(("::1", 7003), family=socket.AF_INET6),
        socket.create_connection(("127.0.0.1", 7001)),
    ):
        with open("/proc/self/comm", "w", encoding="ascii") as comm:
            comm.write(name)
        return {
            "ports": words("explain", "--port", ""),
            "sockets": words("sockets", "--port=70"),
            "words": words("explain", ""),
            "begun": words("explain", "70"),
            "processes": words("explain", "--pid", ""),
            "names": words("sockets", "--name", ""),
            "pids": words("sockets", "--pid", str(os.getpid())),
            "own": [str(os.getpid())],
        }


def test_listening_ports_and_running_programs_are_offered(in_namespace):
    told = in_namespace(offered_here, "a-server")
    assert told["ports"] == ["7001", "7003"]
    assert told["sockets"] == ["--port=7001", "--port=7003"]
    assert told["begun"] == ["7001", "7003"]
    assert {"7001", "a-server", "close-wait"} <= set(told["words"])
    assert "a-server" in told["processes"]
    assert "a-server" in told["names"]
    assert told["own"][0] in told["pids"]


@pytest.mark.parametrize("name", ["$(id>/tmp/x)", "a b", "-rf", "`id`", "a;b", "a\\b", "*"])
def test_a_name_that_a_shell_would_read_something_into_is_not_offered(in_namespace, name):
    told = in_namespace(offered_here, name)
    assert name not in told["processes"]
    assert not any(set(word) & set(" $`;&|<>*?\\'\"()") for word in told["processes"])


def test_the_kernels_own_threads_are_no_programs():
    assert not any(word.startswith(("kworker", "ksoftirqd")) for word in words("explain", "--pid", ""))


@pytest.mark.parametrize(
    ("begun", "word"),
    [
        ("tcp_fin_t", "tcp_fin_timeout"),
        ("net.ipv4.tcp_fin_t", "net.ipv4.tcp_fin_timeout"),
        ("EADDRINU", "EADDRINUSE"),
        ("SO_REUSEA", "SO_REUSEADDR"),
        ("close-wait-le", "close-wait-leak"),
        ("closi", "closing"),
    ],
)
def test_explain_completes_words_of_every_kind(begun, word):
    assert words("explain", begun) == [word]


def test_where_proc_is_not_to_be_read_nothing_is_offered_and_nothing_is_said(user_namespace):
    script = 'mount -t tmpfs none /proc && exec "$0" "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, *COMMAND]
    asked = [*command, "completion", "bash", "--", "=explain", "=--port", "="]
    answer = subprocess.run(asked, capture_output=True, text=True, env=environment(), check=False, timeout=60)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
