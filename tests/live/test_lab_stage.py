"""What the lab makes is gone afterwards, however it ends: processes, sockets and namespace."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tcpdoctor.lab.pairs import NeverCameError
from tcpdoctor.lab.scenario import Ended, Looked, Opened, Reached, Refused, Scenario, Scene, Stage, Step
from tests.terminal import OnTerminal

from .test_private_namespace import is_running

COMMAND = [sys.executable, "-m", "tcpdoctor", "lab", "run", "fin-timeout-short"]
HELD = "Ctrl-C ends it here"


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def descendants(pid: int) -> list[int]:
    """The processes below one, at any depth."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *descendants(int(child))]
    return found


def read_until(stream, words: str) -> str:
    text = ""
    while words not in text:
        line = stream.readline()
        assert line, text
        text += line
    return text


@pytest.fixture
def held(in_namespace):
    """`lab run --hold`, at the disease: the process, its descendants and its namespace."""
    lab = subprocess.Popen([*COMMAND, "--hold"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        told = read_until(lab.stdout, HELD)
        below = descendants(lab.pid)
        assert len(below) == 2, "keeper and player"
        yield lab, below, told
    finally:
        lab.kill()
        lab.wait()
        lab.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_no_process_outlives_the_command_whatever_ends_it(held, number):
    lab, below, _ = held
    lab.send_signal(number)
    lab.wait(timeout=10)
    wait_until(lambda: not any(map(is_running, below)), f"left: {list(filter(is_running, below))}")
    assert lab.returncode == (130 if number == signal.SIGINT else -number)


@pytest.mark.parametrize("place", [0, 1], ids=["keeper", "player"])
def test_a_killed_keeper_or_player_takes_the_others_along_and_is_told(held, place):
    lab, below, _ = held
    os.kill(below[place], signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, below[place:])), "what was below it is gone")
    lab.send_signal(signal.SIGINT)
    assert lab.wait(timeout=10) == 130
    wait_until(lambda: not any(map(is_running, below)), "all are gone")


def test_the_way_in_that_is_printed_leads_into_the_namespace(held):
    _, _, told = held
    (command,) = [line for line in told.splitlines() if line.startswith("  nsenter")]
    look = [*command.split(), "cat", "/proc/sys/net/ipv4/tcp_fin_timeout"]
    assert subprocess.run(look, capture_output=True, text=True, check=True, timeout=120).stdout == "5\n"


def test_what_is_printed_shows_the_finding_from_outside(in_namespace):
    command = [*COMMAND[:-1], "close-wait-leak", "--hold"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as lab:
        try:
            told = read_until(lab.stdout, HELD)
            held = told[told.index("It is held") :].replace(" \\\n   ", "")
            asked = [line.split() for line in held.splitlines() if line.startswith("  tcpdoctor ")]
            answers = [
                subprocess.run(
                    [*COMMAND[:3], *words[1:]], capture_output=True, text=True, check=False, timeout=120
                )
                for words in asked
            ]
            (config,) = [words[words.index("--config") + 1] for words in asked if "--config" in words]
            assert Path(config).exists()
        finally:
            lab.terminate()
    wait_until(lambda: not Path(config).exists(), "the limits of the lesson are gone with it")
    assert "WARNING  " in held, "the finding stands there"
    (pid,) = re.findall(r"^  nsenter -t (\d+) -n$", held, re.MULTILINE)
    assert f" nsenter -t {pid} -n ss " in held, "what it says to type is typed from outside as well"
    assert [words[1] for words in asked] == ["check", "sockets"]
    assert [answer.returncode for answer in answers] == [1, 0], answers
    assert "holds 113 sockets in CLOSE_WAIT" in " ".join(answers[0].stdout.split())
    assert answers[1].stdout.count("CLOSE_WAIT") >= 113


# --- a terminal ---


def at_a_terminal(
    *options: str, name: str = COMMAND[-1], environment: Mapping[str, str] = os.environ
) -> OnTerminal:
    return OnTerminal([*COMMAND[:-1], name, *options, "--color", "never"], environment)


def test_enter_goes_on_from_the_disease_to_the_fix(in_namespace):
    with at_a_terminal("--hold") as terminal:
        told = terminal.read_until(HELD)
        assert "Fixed" not in told
        terminal.type(b"\n")
        fixed = terminal.read_until(HELD)
        assert "Fixed" in fixed
        terminal.type(b"\n")
        rest = terminal.read_until(None)
        assert "All went as told" in rest
        assert terminal.end() == 0


def test_at_a_terminal_each_step_waits_for_enter(in_namespace):
    with at_a_terminal() as terminal:
        told = terminal.read_until(HELD)
        assert "The disease" in told
        below = descendants(terminal.pid)
        assert len(below) == 2, "the story waits too"
        terminal.type(b"\n")
        assert "Fixed" in terminal.read_until(HELD)
        terminal.type(b"\n")
        assert "All went as told" in terminal.read_until(None)
        assert terminal.end() == 0
        wait_until(lambda: not any(map(is_running, below)), "all are gone")


def test_q_ends_the_story_where_it_is(in_namespace):
    with at_a_terminal() as terminal:
        terminal.read_until(HELD)
        below = descendants(terminal.pid)
        terminal.type(b"q\n")
        rest = terminal.read_until(None)
        assert "Ended here" in rest
        assert "Fixed" not in rest
        assert terminal.end() == 0
        wait_until(lambda: not any(map(is_running, below)), "all are gone")


def test_without_pause_nothing_is_waited_for(in_namespace):
    with at_a_terminal("--no-pause") as terminal:
        told = terminal.read_until(None)
        assert HELD not in told
        assert "All went as told" in told
        assert terminal.end() == 0


@pytest.mark.parametrize(
    ("locale", "arrow"), [("C.UTF-8", "\u2500 SYN \u2500"), ("C", "- SYN -")], ids=["UTF-8", "C"]
)
def test_both_ends_are_drawn_as_the_locale_can_show_them(in_namespace, locale, arrow):
    environment = {"LC_ALL": locale, "PATH": os.environ["PATH"]}
    with at_a_terminal(
        "--no-pause", name="fin-wait-2-against-close-wait", environment=environment
    ) as terminal:
        told = terminal.read_until(None)
        assert terminal.end() == 0
        assert arrow in told
        states = [line.split() for line in told.splitlines() if line.startswith("  FIN_WAIT_2  ")]
        assert ["FIN_WAIT_2", "(the", "kernel)", "CLOSE_WAIT"] in states
        assert "113 connections in these states" in told


@pytest.mark.parametrize("options", [(), ("--hold",)], ids=["at a step", "held"])
def test_ctrl_c_ends_quietly_and_leaves_nothing(in_namespace, options):
    with at_a_terminal(*options) as terminal:
        told = terminal.read_until(HELD if options else "The disease")
        below = descendants(terminal.pid)
        terminal.type(b"\x03")
        rest = terminal.read_until(None)
        assert terminal.end() == 130
        assert "Traceback" not in told + rest
        wait_until(lambda: not any(map(is_running, below)), "all are gone")


def test_a_reader_that_has_seen_enough_ends_it_quietly(in_namespace):
    command = [*COMMAND[:-1], "fin-wait-2-held-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as lab:
        read_until(lab.stdout, "What happens")
        below = descendants(lab.pid)
        lab.stdout.close()
        begun = time.monotonic()
        assert lab.stderr.read() == ""
        assert lab.wait(timeout=10) == 0
    assert time.monotonic() - begun < 4, "the rest of the story takes more than four seconds of waiting"
    wait_until(lambda: not any(map(is_running, below)), "all are gone")


# --- stories that do not behave ---


def unseen(_scene: Scene) -> None:
    """A look that sees nothing."""


def messages(play: Callable[[], Iterator[Scene]]) -> list:
    seen = []
    with Stage(Scenario("a-story", "A story", play), unseen) as stage:
        while not seen or not isinstance(seen[-1], Ended):
            seen.append(stage.receive())
            if isinstance(seen[-1], Looked):
                stage.go()
    return seen


def wait_for_a_look(stage: Stage) -> None:
    while not isinstance(message := stage.receive(), Looked):
        assert not isinstance(message, Ended | Refused), message


def test_a_story_is_told_scene_by_scene(in_namespace):
    def play():
        yield Step("first")
        yield Step("second")

    opened, *scenes, ended = messages(play)
    assert isinstance(opened, Opened)
    assert [type(message) for message in scenes] == [Reached, Looked] * 2
    assert [message.scene.text for message in scenes] == ["first", "first", "second", "second"]
    assert ended == Ended(None)


def test_what_a_story_raises_is_told(in_namespace):
    def play():
        yield Step("first")
        raise NeverCameError("not within 10 s: rain")

    *_, ended = messages(play)
    assert ended.problem == "not within 10 s: rain"
    assert "NeverCameError" in ended.trace


def test_a_story_that_dies_is_told(in_namespace):
    def play():
        yield Step("first")
        os.kill(os.getpid(), signal.SIGKILL)

    *_, ended = messages(play)
    assert "was killed" in ended.problem


def test_a_player_that_is_killed_between_two_scenes_is_told(in_namespace):
    def play():
        yield Step("first")
        yield Step("second")

    with Stage(Scenario("a-story", "A story", play), unseen) as stage:
        opened = stage.receive()
        wait_for_a_look(stage)
        os.kill(opened.player, signal.SIGKILL)
        wait_until(lambda: not is_running(opened.player), "the player ends")
        stage.go()
        assert stage.receive().problem == "the process that plays the scenario was killed"


def leave_a_daemon_behind(pids: Path) -> Callable[[], Iterator[Scene]]:
    """A story that starts a process in a session of its own whose parent is gone, as daemons do."""

    def play():
        parent = os.fork()
        if parent == 0:
            os.setsid()
            pids.write_text(str(subprocess.Popen(["sleep", "60"]).pid))
            os._exit(0)
        os.waitpid(parent, 0)
        yield Step("it runs")

    return play


def test_a_daemon_that_a_story_left_behind_ends_with_it(in_namespace, tmp_path):
    pids = tmp_path / "pids"
    with Stage(Scenario("a-daemon", "A daemon", leave_a_daemon_behind(pids)), unseen) as stage:
        wait_for_a_look(stage)
        daemon = int(pids.read_text())
        assert is_running(daemon)
    assert not is_running(daemon)


def test_a_daemon_ends_even_if_the_caller_is_killed(in_namespace, tmp_path):
    pids = tmp_path / "pids"
    reader, writer = os.pipe()
    caller = os.fork()
    if caller == 0:
        stage = Stage(Scenario("a-daemon", "A daemon", leave_a_daemon_behind(pids)), unseen)
        wait_for_a_look(stage)
        os.write(writer, b"x")
        time.sleep(60)
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    daemon = int(pids.read_text())
    below = descendants(caller)
    assert daemon in below
    assert len(below) == 3
    assert all(map(is_running, below))
    os.kill(caller, signal.SIGKILL)
    os.waitpid(caller, 0)
    wait_until(lambda: not any(map(is_running, below)), "all are gone")
    os.close(reader)
