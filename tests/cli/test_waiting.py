"""Somebody waits for a look: how far it is, and Ctrl-C inside it, with real sockets and a real signal."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from tcpdoctor.cli.waiting import progress_text
from tcpdoctor.kernel.reading import UNDERWAY
from tests.cli.command import environment
from tests.live.crowd import connect, serve
from tests.terminal import OnTerminal

CONNECTIONS = 503
SOCKETS = 2 * CONNECTIONS + 1

IMPATIENT = """
import os, signal, sys, threading
from tcpdoctor.kernel.reading import UNDERWAY, Underway

class Watched(Underway):
    acted = False
    @property
    def done(self):
        return self._done
    @done.setter
    def done(self, number):
        self._done = number
        if number and self.task == {task!r} and not self.acted:
            self.acted = True
            {action}

UNDERWAY.__class__ = Watched
sys.argv[1:] = {arguments!r}
from tcpdoctor.cli import waiting
waiting.SHORTEST_SAID = 0.1
shown, show = threading.Event(), waiting._show
def show_and_note(text):
    show(text)
    if text.startswith({task!r}):
        shown.set()
waiting._show = show_and_note
from tcpdoctor.__main__ import main
main()
"""
"""Does something once, as soon as a part of a task is done."""
INTERRUPT = "os.kill(os.getpid(), signal.SIGINT)"


def script(*arguments, task="sockets read", action=INTERRUPT):
    return [sys.executable, "-c", IMPATIENT.format(arguments=arguments, task=task, action=action)]


def among_sockets(*run, **options):
    connect(serve(), CONNECTIONS)
    done = subprocess.run(
        script(*run, **options),
        capture_output=True,
        encoding="utf-8",
        env=environment(),
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


def test_an_interrupt_while_sockets_are_counted_tells_those_counted_by_then(in_namespace):
    code, output, errors = in_namespace(among_sockets, "states")
    assert (code, errors) == (3, "")
    first, second, *rest = output.splitlines()
    assert first == "INCOMPLETE: interrupted before all was read"
    assert 0 < int(re.search(r": ([\d,]+) TCP sockets?$", second)[1].replace(",", "")) < SOCKETS
    assert "There may be more than counted: interrupted before all was read." in rest


@pytest.mark.parametrize("by", ["port", "peer", "process"])
def test_an_interrupt_while_sockets_are_grouped_is_told_too(by, in_namespace):
    code, output, errors = in_namespace(among_sockets, "states", "--by", by)
    assert (code, errors) == (3, "")
    assert output.startswith("INCOMPLETE: interrupted before all was read\n")


def test_an_interrupted_check_takes_nothing_unread_for_healthy(in_namespace):
    code, output, errors = in_namespace(among_sockets, "check", "--window", "0", "--unanswered")
    assert (code, errors) == (3, "")
    assert output.startswith("INCOMPLETE: interrupted before all was read\n")
    assert "interrupted before all was read" in output.partition("\n")[2]
    assert "No findings" not in output


def test_an_interrupted_search_for_owners_lists_the_sockets_without(in_namespace):
    code, output, errors = in_namespace(among_sockets, "sockets", task="owners found")
    assert (code, errors) == (3, "")
    assert output.startswith("INCOMPLETE: interrupted before all was read\n")
    assert f": {SOCKETS} TCP sockets" in output
    assert "(hidden)" in output


def test_an_interrupt_ends_sockets_as_json_behind_those_told_by_then(in_namespace):
    run = ("sockets", "--state", "established", "--format", "json")
    code, output, errors = in_namespace(among_sockets, *run)
    assert (code, errors) == (3, "")
    answer = json.loads(output)
    assert 0 < answer["total"] == len(answer["sockets"]) < 2 * CONNECTIONS
    assert answer["missing"]["sockets"] == "interrupted before all was read"


def test_sockets_as_json_in_a_file_are_all_or_none(in_namespace, tmp_path):
    os.chdir(tmp_path)
    run = ("sockets", "--format", "json", "--output", "answer.json")
    assert in_namespace(among_sockets, *run) == (130, "", "")
    assert list(tmp_path.iterdir()) == []


LISTINGS = {
    "ss": (
        "State Recv-Q Send-Q Local Address:Port Peer Address:Port",
        "CLOSE-WAIT 1 0 10.0.0.1:8080 10.0.0.2:{port} timer:(keepalive,9min,0)",
    ),
    "netstat": (
        "Proto Recv-Q Send-Q Local Address           Foreign Address         State",
        "tcp        1      0 10.0.0.1:8080           10.0.0.2:{port}          CLOSE_WAIT",
    ),
    "lsof": (
        "COMMAND   PID  USER   FD   TYPE DEVICE SIZE/OFF NODE NAME",
        "orders    811  root   {n}u  IPv4  {port}      0t0  TCP 10.0.0.1:8080->10.0.0.2:{port} (CLOSE_WAIT)",
    ),
    "proc": (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
        "{n}: 0100000A:1F90 0200000A:{port:04X} 08 0:1 00:0 0 0 0 {port} 1 0",
    ),
}


def from_a_listing(folder, form, *run):
    """Check a listing of CONNECTIONS sockets, interrupted behind the first of them."""
    heading, row = LISTINGS[form]
    rows = [row.format(n=n, port=20_000 + n) for n in range(CONNECTIONS)]
    listing = folder / "listing"
    listing.write_text("\n".join([heading, *rows, ""]))
    words = ("check", "--from", str(listing), *run)
    done = subprocess.run(
        script(*words, task="sockets of the recording read"),
        capture_output=True,
        encoding="utf-8",
        env=environment(),
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("form", LISTINGS)
def test_an_interrupt_while_a_recording_is_read_tells_what_was_read_by_then(form, tmp_path):
    code, output, errors = from_a_listing(tmp_path, form)
    assert (code, errors) == (3, "")
    assert output.startswith("INCOMPLETE: interrupted before all was read\nUNKNOWN  this recording: ")
    assert f"pasted output ({form})" in output
    assert 0 < int(re.search(r"^    (\d+) close_wait$", output, re.M)[1]) < CONNECTIONS


def test_an_interrupt_of_a_recording_leaves_nothing_to_machines(tmp_path):
    assert from_a_listing(tmp_path, "ss", "--format", "json") == (130, "", "")


def test_an_interrupt_among_network_namespaces_tells_those_looked_at_by_then(in_namespace):
    question = ("explain", "--port", "47", "--netns", "all")
    code, output, errors = in_namespace(among_sockets, *question, task="network namespaces looked at")
    assert code == 3
    assert output.startswith("INCOMPLETE: interrupted before all was read\n")
    assert "TCP port 47" in output
    assert re.search(r"^tcpdoctor: network namespace .*: interrupted before all was read$", errors, re.M)


@pytest.mark.parametrize("output", [("--format", "json"), ("--output", "answer.txt")])
def test_what_is_for_machines_or_a_file_is_all_or_nothing(output, in_namespace, tmp_path):
    os.chdir(tmp_path)
    assert in_namespace(among_sockets, "states", *output) == (130, "", "")
    assert list(tmp_path.iterdir()) == []


def test_who_interrupts_twice_does_not_wait_for_an_answer(in_namespace):
    assert in_namespace(among_sockets, "states", action=f"{INTERRUPT}; {INTERRUPT}") == (130, "", "")


def on_a_terminal(*run, action):
    """What a terminal shows of stderr while a command runs."""
    connect(serve(), CONNECTIONS)
    with OnTerminal(script(*run, action=action), environment(), answers_here=False) as terminal:
        output = terminal.read_until(None)
        terminal.end()
    return output


def test_a_terminal_is_told_how_far_a_long_look_is_and_nothing_is_left_of_it(in_namespace):
    output = in_namespace(on_a_terminal, "states", action="shown.wait(60)")
    assert re.search(r"sockets read: \d+ of 1,0\d\d", output)
    assert output.endswith("\r\x1b[K")


@pytest.fixture
def task():
    UNDERWAY.begin("")
    yield UNDERWAY.begin
    UNDERWAY.begin("")


def test_what_is_not_known_of_a_task_is_not_told(task):
    assert progress_text() == "looking"
    task("owners found")
    UNDERWAY.done = 811
    assert progress_text() == "owners found: 811"


def test_the_rest_is_guessed_from_what_is_done_once_that_is_enough(task, monkeypatch):
    task("owners found", 4001)
    monkeypatch.setattr("time.monotonic", lambda: UNDERWAY.began + 3)
    UNDERWAY.done = 41
    assert progress_text() == "owners found: 41 of 4,001"
    UNDERWAY.done = 1009
    assert progress_text() == "owners found: 1,009 of 4,001, 9 s left"
    UNDERWAY.done = 4001
    assert progress_text() == "owners found: 4,001 of 4,001"


def test_a_signal_that_is_ignored_stays_ignored(in_namespace):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code, output, _ = in_namespace(among_sockets, "states")
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 0
    assert "INCOMPLETE" not in output
