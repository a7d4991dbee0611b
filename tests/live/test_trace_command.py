"""`tcpdoctor trace` as people run it, and as somebody without privilege does."""

import json
import os
import select
import signal
import socket
import struct
import subprocess
import time
from contextlib import contextmanager, suppress

import pytest

from tcpdoctor.answers.trace import TraceQuestion
from tcpdoctor.kernel import tracepoints
from tcpdoctor.lab.pairs import wait_until
from tests.cli.command import COMMAND, complaint, environment, tcpdoctor
from tests.live.traced import LONGEST, endings_of, needs_events
from tests.schemas import assert_described

PORT = 7001
HERE = "127.0.0.1"


def some_connections(number: int) -> None:
    """Each is closed first by its server."""
    with socket.create_server((HERE, PORT), backlog=512) as listener:
        for _ in range(number):
            with socket.create_connection((HERE, PORT)) as client:
                listener.accept()[0].close()
                assert client.recv(1) == b""


@contextmanager
def tracing(*arguments: str, **options):
    """The command, which looks by now; it is killed at the end."""
    with subprocess.Popen(
        [*COMMAND, "trace", *arguments],
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        env=environment(),
        **options,
    ) as process:
        assert process.stderr is not None
        try:
            said = b""
            while b"looking until" not in said:
                assert select.select([process.stderr], [], [], LONGEST)[0]
                part = os.read(process.stderr.fileno(), 4096)
                assert part, said
                said += part
            yield process
        finally:
            process.kill()


def read_lines(process: subprocess.Popen[bytes], number: int) -> list[str]:
    assert process.stdout is not None
    until, said = time.monotonic() + LONGEST, b""
    while said.count(b"\n") < number and (left := until - time.monotonic()) > 0:
        if select.select([process.stdout], [], [], left)[0]:
            part = os.read(process.stdout.fileno(), 65536)
            if not part:
                break
            said += part
    return said.decode().splitlines()


def interrupted() -> tuple[list[str], list[str], int, bytes]:
    with tracing("--port", str(PORT), "--format", "json") as process:
        some_connections(13)
        before = read_lines(process, 26)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LONGEST)
        return before, out.decode().splitlines(), process.returncode, err


@needs_events
def test_lines_come_as_connections_end_and_ctrl_c_ends_it_with_the_summary(in_namespace):
    before, after, code, err = in_namespace(interrupted)
    connections = [json.loads(line) for line in before]
    assert len(connections) == 26
    (summary,) = [json.loads(line) for line in after]
    assert (code, err) == (0, b"")
    assert_described(summary)
    assert {each["type"] for each in connections} == {"connection"}
    assert list(connections[0]) == [
        *("type", "local", "remote", "closed_first", "pid", "name", "reason", "states", "bytes_in"),
        *("bytes_out", "rtt_s", "retransmissions", "idle_at_close_s"),
    ]
    assert list(summary) == [
        *("type", "schema", "seconds", "connections", "closed_first_here", "closed_first_by_peer"),
        *("reset_here", "reset_by_peer", "never_established", "still_open", "events_lost"),
        *("by_process", "by_peer", "missing"),
    ]
    assert (summary["closed_first_here"], summary["closed_first_by_peer"]) == (13, 13)


def as_text() -> tuple[str, int]:
    with tracing("--port", str(PORT)) as process:
        some_connections(13)
        lines = read_lines(process, 26)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=LONGEST)
        return "\n".join(lines) + "\n" + out.decode(), process.returncode


@needs_events
def test_text_is_80_columns_of_ascii_and_says_where_time_wait_comes_from(in_namespace):
    text, code = in_namespace(as_text)
    assert code == 0
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 80
    assert "that is where TIME_WAIT comes from" in text
    assert "closed first here         13  50 %" in text
    assert sum(line.startswith("here ") for line in text.splitlines()) == 13


def nobody_reads() -> tuple[int, bytes]:
    reader, writer = os.pipe()
    with tracing(stdout=writer) as process:
        os.close(writer)
        os.close(reader)
        some_connections(1)
        _, err = process.communicate(timeout=LONGEST)
        return process.returncode, err


def test_a_closed_pipe_ends_it_quietly(in_namespace):
    assert in_namespace(nobody_reads) == (0, b"")


def test_a_time_is_enough(in_namespace):
    answer = in_namespace(tcpdoctor, "trace", "--for", "0.2")
    assert answer.returncode == 0
    assert "0 connections ended in" in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--for", "0"), "no time to look"),
        (("--for", "soon"), "no time"),
        (("--port", "70000"), "ports are 1 to 65535"),
        (("--peer", "db"), "no peer"),
        (("--pid", "no-such-program"), "no process here is called so"),
        (("--buffer", "0"), "no size"),
        (("--netns", "all"), "one network namespace"),
    ],
)
def test_a_bad_question_is_one_line(arguments, said):
    assert said in complaint(tcpdoctor("trace", *arguments))


OTHER_USER = 1234


def become_another_user() -> None:
    """All modules are loaded before: Python's own may lie in a folder of root's."""
    endings_of(lambda: some_connections(1), 2)
    os.seteuid(OTHER_USER)


def without_privilege():
    become_another_user()
    return endings_of(lambda: some_connections(13), 26)


def test_without_privilege_the_last_numbers_are_told_and_what_is_not_known(in_namespace):
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    ended, summary = in_namespace(without_privilege)
    assert summary.connections == len(ended) == 26
    assert {each.closed_first for each in ended} == {None}
    assert {each.bytes_out for each in ended} == {0}
    assert all(each.rtt_s is not None and each.idle_at_close_s is not None for each in ended)
    for key in ("closed_first_here", "closed_first_by_peer", "reset_here", "never_established", "states"):
        assert "run as root" in summary.missing[key]
    assert not isinstance(summary.closed_first_here, int)


def without_ends():
    """Seven clients that abort, five that are refused while connect() waits, and two that are closed."""
    become_another_user()

    def work():
        with socket.create_server(("127.0.0.1", 0)) as server:
            for _ in range(7):
                client = socket.create_connection(server.getsockname())
                accepted = server.accept()[0]
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                accepted.close()
            free = server.getsockname()
        for _ in range(5):
            with socket.socket() as client, suppress(ConnectionRefusedError):
                client.connect(free)
        some_connections(1)

    return endings_of(work, 7 + 2)


def test_without_privilege_what_leaves_no_ends_is_said(in_namespace):
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    _, summary = in_namespace(without_ends)
    assert summary.connections == 7 + 2
    assert "closed with SO_LINGER 0, or refused while connect() waited" in summary.missing["connections"]


def crowded():
    """A few messages fit where hundreds come before anybody reads."""
    tracepoints._ROOM = 4_096
    return endings_of(lambda: some_connections(307), 1)


def test_messages_that_found_no_room_are_counted_and_told(in_namespace):
    ended, summary = in_namespace(crowded)
    assert summary.events_lost >= 1
    assert "found no room" in summary.missing["messages_lost"]
    assert len(ended) < 614


@needs_events
def test_events_that_found_no_room_are_counted_and_told(in_namespace):
    question = TraceQuestion(buffer=0.008)
    ended, summary = in_namespace(endings_of, lambda: some_connections(307), 614, question)
    assert summary.events_lost > 614
    assert f"{summary.events_lost:,} events found no room" in summary.missing["events_lost"]
    assert len(ended) == summary.connections == 614  # their last numbers come all the same


def mounts() -> str:
    with open("/proc/self/mounts", encoding="utf-8") as file:
        return file.read()


def killed() -> tuple[bool, list[str]]:
    before = mounts()
    with tracing(start_new_session=True) as process:
        process.kill()
        process.wait()
        left = [pid for pid in os.listdir("/proc") if pid.isdecimal() and _is_of(pid, process.pid)]
    return mounts() == before, left


def _is_of(pid: str, session: int) -> bool:
    try:
        return os.getsid(int(pid)) == session
    except ProcessLookupError:
        return False


def test_nothing_is_left_after_sigkill(in_namespace):
    assert in_namespace(killed) == (True, [])


def from_outside() -> tuple[list[str], int]:
    """A trace that is started in another namespace than that which it looks at."""
    command = ["unshare", "--net", *COMMAND, "trace", "--netns", str(os.getpid()), "--format", "json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stderr is not None
        assert b"looking until" in process.stderr.readline()
        some_connections(3)
        lines = read_lines(process, 6)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=LONGEST)
        return [*lines, *out.decode().splitlines()], process.returncode


@needs_events
def test_another_namespace_is_looked_at_from_outside(in_namespace):
    lines, code = in_namespace(from_outside)
    assert code == 0
    assert json.loads(lines[-1])["connections"] == 6


def by_filter(question: TraceQuestion):
    return endings_of(lambda: some_connections(13), 13, question)


@needs_events
def test_only_one_process_or_peer_is_told_where_that_is_wanted(in_namespace):
    from tcpdoctor.answers.ends import parse_peer

    ended, summary = in_namespace(by_filter, TraceQuestion(peer=parse_peer(f"{HERE}:{PORT}")))
    assert {each.remote for each in ended} == {f"{HERE}:{PORT}"}
    assert summary.closed_first_by_peer == 13
    (row,) = summary.by_peer
    assert (row.address, row.port, row.side, row.connections) == (HERE, PORT, "opened", 13)


def of_nobody():
    question = TraceQuestion(pids=(1,))
    return endings_of(lambda: (some_connections(3), wait_until(lambda: True, "nothing")), 0, question)


@needs_events
def test_another_processs_connections_are_left_out(in_namespace):
    ended, summary = in_namespace(of_nobody)
    assert (ended, summary.connections) == ([], 0)
    assert "one process" in summary.still_open.reason


def test_who_may_not_even_hear_of_ends_is_told_so(monkeypatch):
    """A sandbox without netlink: the socket itself is refused."""
    monkeypatch.setattr(tracepoints, "_NETLINK_SOCK_DIAG", 31)
    assert "does not tell of sockets that end" in tracepoints.open_destroyed().reason


def explained() -> "subprocess.CompletedProcess[str]":
    """Connections come and go for as long as the question is not answered."""
    command = [*COMMAND, "explain", "--port", str(PORT), "--trace", "2s", "--format", "json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), text=True
    ) as process:
        until = time.monotonic() + LONGEST
        while process.poll() is None and time.monotonic() < until:
            some_connections(3)
            time.sleep(0.1)
        out, err = process.communicate(timeout=LONGEST)
        return subprocess.CompletedProcess(command, process.returncode, out, err)


@needs_events
def test_explain_of_a_port_tells_who_closed_first_where_it_is_asked_to_look(in_namespace):
    answer = in_namespace(explained)
    assert (answer.returncode, answer.stderr) == (0, "")
    document = json.loads(answer.stdout)
    assert_described(document)
    trace = document["trace"]
    assert trace["closed_first_here"] >= 3
    accepted = [row for row in trace["by_process"] if row["side"] == "accepted"]
    assert [row["closed_first_by_peer"] for row in accepted] == [0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("explain", "--port", "80", "--trace", "0"), "no time to look"),
        (("explain", "--port", "80", "--udp", "--trace", "1"), "UDP has no connections"),
        (("explain", "--pid", "1", "--trace", "1"), "--trace belongs to explain --port"),
    ],
)
def test_explain_looks_for_a_time_at_a_port_of_tcp(arguments, said):
    assert said in complaint(tcpdoctor(*arguments))
