"""`tcpdoctor explain --option` and `--error` as users run them."""

import json
import socket

import pytest

from tests.cli.command import complaint, tcpdoctor


def explained(question: str, name: str, *options: str) -> str:
    answer = tcpdoctor("explain", question, name, *options)
    assert (answer.returncode, answer.stderr) == (0, "")
    lines = answer.stdout.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert len(lines) <= 80
    return answer.stdout


def test_an_option_is_explained_on_stdout():
    assert explained("--option", "so-reuseaddr").startswith("SO_REUSEADDR: off on a new socket here\n")
    text = explained("--option", "so-reuseaddr", "--long")
    assert "Listeners, not: socketserver.TCPServer" in text
    assert "  Python   sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)" in text


def test_an_error_is_explained_on_stdout():
    text = explained("--error", "Address already in use")
    assert text.startswith("EADDRINUSE (98, Address already in use)\n")
    assert "tcpdoctor explain --port N" in text


def test_the_listeners_of_this_host_are_counted(in_namespace):
    def ask():
        kept = [socket.create_server(("127.0.0.1", 0)), socket.socket()]
        kept[1].bind(("127.0.0.1", 0))
        kept[1].listen()
        return tcpdoctor("explain", "--option", "SO_REUSEADDR", "--format", "json").stdout

    listeners = json.loads(in_namespace(ask))["listeners"]
    assert sorted(listener["value"] for listener in listeners) == [False, True]
    assert all(listener["owner"] for listener in listeners)


@pytest.mark.parametrize(
    ("question", "name", "schema"),
    [
        ("--option", "TCP_KEEPIDLE", "tcpdoctor.option/1"),
        ("--option", "SO_LINGER", "tcpdoctor.option/1"),
        ("--error", "ETIMEDOUT", "tcpdoctor.error/1"),
        ("--error", "EMFILE", "tcpdoctor.error/1"),
    ],
)
def test_json_is_one_object(question, name, schema):
    answer = tcpdoctor("explain", question, name, "--format", "json")
    assert answer.returncode == 0
    assert json.loads(answer.stdout)["schema"] == schema


def test_json_has_the_deadlines_of_a_timeout_as_numbers():
    answer = json.loads(tcpdoctor("explain", "--error", "ETIMEDOUT", "--format", "json").stdout)
    connect, data, keepalive, idle = answer["here"]
    assert connect["value"]["low_s"] < data["value"]["low_s"] < keepalive["value"]["high_s"]
    assert idle["value"] is None
    assert idle["text"] == "never"


@pytest.mark.parametrize(
    ("question", "name", "nearest"),
    [
        ("--option", "SO_REUSEADR", "SO_REUSEADDR"),
        ("--option", "../../etc/passwd", "for example"),
        ("--error", "EADDRINUS", "EADDRINUSE"),
        ("--error", "9999", "no error has the number"),
        ("--error", "0", "no error has the number"),
        ("--error", "E\x1b[31m", "E"),
    ],
)
def test_an_unknown_name_is_one_line_and_exit_3(question, name, nearest):
    assert nearest in complaint(tcpdoctor("explain", question, name))
