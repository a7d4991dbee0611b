"""Only a stream that $JOURNAL_STREAM names gets priorities: other output inherits the variable too."""

import os
import socket
import subprocess

import pytest

from .command import COMMAND, environment


def said_to(stream_of, *arguments):
    """What is written to a socket as standard output and error, as systemd's journal would read it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        status = os.fstat(theirs.fileno())
        env = environment({"JOURNAL_STREAM": stream_of(status), "COLUMNS": "80"})
        done = subprocess.run(
            [*COMMAND, *arguments], stdout=theirs, stderr=theirs, env=env, check=False, timeout=60
        )
        theirs.close()
        with ours.makefile("r", encoding="utf-8") as file:
            return done.returncode, file.read().splitlines()


def own(status):
    return f"{status.st_dev}:{status.st_ino}"


def test_text_has_a_priority_on_each_line(in_namespace):
    code, lines = in_namespace(said_to, own, "check", "--window", "0")
    assert code == 0
    assert lines
    assert all(line[0] == "<" and line[1].isdigit() and line[2] == ">" for line in lines)


def test_a_complaint_is_an_error():
    code, (line,) = said_to(own, "check", "--no-such-option")
    assert code == 3
    assert line.startswith("<3>tcpdoctor check: ")


def test_json_has_none(in_namespace):
    _, lines = in_namespace(said_to, own, "check", "--window", "0", "--format", "json")
    assert lines[0] == "{"


@pytest.mark.parametrize("stream", ["", "1:1", "nonsense", "8:99999999999999"])
def test_another_stream_gets_plain_text(in_namespace, stream):
    _, lines = in_namespace(said_to, lambda _: stream, "check", "--window", "0")
    assert not [line for line in lines if line.startswith("<")]
