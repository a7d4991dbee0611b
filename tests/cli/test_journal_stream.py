"""Only a stream that $JOURNAL_STREAM names gets priorities: other output inherits the variable too."""

import os
import re
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


@pytest.mark.parametrize("options", [(), ("--timeout", "30"), ("--netns", "all")])
def test_text_has_a_priority_on_each_line(in_namespace, options):
    code, lines = in_namespace(said_to, own, "check", "--window", "0", "--only", "syncookies-off", *options)
    assert code == 0 or "all" in options  # other namespaces of this machine may be ill
    assert lines
    assert all(re.match("<[2-6]>[^<]", line) for line in lines)


@pytest.mark.parametrize("options", [("--no-such-option",), ("--timeout", "30", "--config", "/nowhere")])
def test_a_complaint_is_an_error(options):
    code, (line,) = said_to(own, "check", *options)
    assert code == 3
    assert line.startswith("<3>tcpdoctor check: ")


def test_json_has_none(in_namespace):
    _, lines = in_namespace(said_to, own, "check", "--window", "0", "--format", "json")
    assert lines[0] == "{"


@pytest.mark.parametrize("stream", ["", "1:1", "nonsense", "8:99999999999999"])
def test_another_stream_gets_plain_text(in_namespace, stream):
    _, lines = in_namespace(said_to, lambda _: stream, "check", "--window", "0")
    assert not [line for line in lines if line.startswith("<")]
