"""`check --timeout`: an end in time while the kernel does not answer, told in every format."""

import os
import resource
import signal
import socket
import subprocess
import time

import pytest

from tcpdoctor.lab.closing import close_wait
from tests.cli.command import COMMAND, environment, tcpdoctor
from tests.live.refusal import hold_netlink, needs_known_machine

IN_TIME = 4.0
"""Seconds: the timeout of 1 s, a start, and a busy machine."""
FORMATS = ("text", "json", "nagios", "prometheus", "junit", "markdown", "html")


def stuck(*runs: tuple[str, ...]) -> list[tuple[int, str, str, float]]:
    """Run `check` where the kernel does not answer socket(AF_NETLINK, ...), ever."""
    listener = hold_netlink()
    answers = []
    for run in runs:
        started = time.monotonic()
        answer = tcpdoctor("check", "--window", "0", *run)
        answers.append((answer.returncode, answer.stdout, answer.stderr, time.monotonic() - started))
    os.close(listener)
    return answers


@needs_known_machine
def test_a_call_that_waits_inside_the_kernel_ends_with_unknown_in_time(in_namespace):
    runs = [("--timeout", "1", "--format", kind) for kind in FORMATS]
    for (code, output, errors, took), kind in zip(in_namespace(stuck, *runs), FORMATS, strict=True):
        assert (code, took < IN_TIME) == (3, True), kind
        said, other = (output, errors) if kind == "nagios" else (errors, output)
        assert other == ""
        (line,) = said.splitlines()
        assert "no answer within 1 s: it was still asking the kernel for sockets" in line
        assert line.startswith("TCPDOCTOR UNKNOWN - " if kind == "nagios" else "tcpdoctor check: ")


def child_of(pid: int) -> int:
    """The process that does the work."""
    deadline = time.monotonic() + 10
    while True:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            children = file.read().split()
        if children:
            return int(children[0])
        assert time.monotonic() < deadline, "no child"
        time.sleep(0.01)


def test_a_child_that_is_stopped_is_not_waited_for(in_namespace, tmp_path):
    def stop_it():
        target = tmp_path / "answer"
        target.write_text("the answer before")
        run = [*COMMAND, "check", "--window", "1.5", "--timeout", "2.5", "--output", str(target)]
        with subprocess.Popen(run, stderr=subprocess.PIPE, text=True, env=environment()) as parent:
            os.kill(child_of(parent.pid), signal.SIGSTOP)
            _, errors = parent.communicate(timeout=20)
        return parent.returncode, errors, target.read_text()

    code, errors, kept = in_namespace(stop_it)
    assert code == 3
    assert "no answer within 2.5 s" in errors
    assert kept == "the answer before"


def test_an_answer_that_nobody_reads_ends_in_time_too(in_namespace):
    def do_not_read():
        reader, writer = socket.socketpair()
        writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        run = [*COMMAND, "check", "--window", "0", "--timeout", "2", "--format", "html"]
        with reader, writer:
            started = time.monotonic()
            done = subprocess.run(
                run,
                stdout=writer,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                timeout=30,
                env=environment(),
            )
        return done.returncode, done.stderr, time.monotonic() - started

    code, errors, took = in_namespace(do_not_read)
    assert code == 3
    assert errors == ""
    assert took < IN_TIME + 1


def test_an_answer_in_time_is_the_answer_and_its_exit_code(in_namespace):
    def answers():
        with close_wait(11):
            runs = [("--only", "syncookies-off"), ("--only", "accept-queue-overflows")]
            return [
                [tcpdoctor("check", "--window", "0", *run, *more) for more in ((), ("--timeout", "30"))]
                for run in runs
            ]

    for plain, bounded in in_namespace(answers):
        assert plain.returncode == bounded.returncode
        assert plain.stderr == bounded.stderr
        assert plain.stdout.splitlines()[2:] == bounded.stdout.splitlines()[2:]


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (("--timeout", "0"), "0.1 to 86400"),
        (("--timeout", "nan"), "0.1 to 86400"),
        (("--timeout", "1"), "--window"),
        (("--timeout", "3", "--window", "5"), "--window"),
    ],
)
def test_a_time_in_which_there_could_be_no_answer_is_refused(options, hint):
    answer = tcpdoctor("check", *options)
    assert (answer.returncode, answer.stdout) == (3, "")
    assert hint in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def crowd_descriptors():
    """In a child that is about to run: have 1,100 descriptors open, as one that leaks them leaves them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2000), hard))
    for number in range(3, 1100):
        os.dup2(0, number)


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2000,
    reason="needs 2,000 descriptors a process (ulimit -Hn)",
)
def test_whoever_starts_it_may_leave_more_descriptors_open_than_select_takes(in_namespace):
    def look():
        return subprocess.run(
            [*COMMAND, "check", "--window", "0", "--timeout", "30", "--only", "syncookies-off"],
            preexec_fn=crowd_descriptors,
            close_fds=False,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=environment(),
        )

    done = in_namespace(look)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("OK ")
