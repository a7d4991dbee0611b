"""`fix --apply` at a terminal: one key keeps, everything else undoes."""

import os
import pty
import signal
import sys
import termios
import time
from pathlib import Path

import pytest

from tcpdoctor.lab.namespace import write_sysctl
from tests.cli.command import environment
from tests.live.fix_stage import SOON, Stage, fall_ill, held, others_here, wait_until
from tests.terminal import is_readable

FIN = "net.ipv4.tcp_fin_timeout"
LONG = "80"
"""Seconds to confirm that no test waits for."""


class Terminal:
    """A terminal of its own, on which the command runs."""

    def __init__(self, stage: Stage, *words: str, program: tuple[str, ...] = ("-m", "tcpdoctor")) -> None:
        self.child, self.master = pty.fork()
        if self.child == 0:
            os.execve(  # noqa: S606
                sys.executable,
                [sys.executable, *program, "fix", "--apply", *stage.options, *words],
                environment({"TERM": "xterm"}),
            )
        self.seen = ""

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + SOON
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if is_readable(self.master, 0.1):
                try:
                    self.seen += os.read(self.master, 4096).decode("utf-8", "replace")
                except OSError:  # the command has ended
                    assert text in self.seen, self.seen

    def press(self, keys: bytes) -> None:
        """Press once the terminal gives single keys, so that nothing is flushed as typed too early."""
        wait_until(lambda: not termios.tcgetattr(self.master)[3] & termios.ICANON)
        os.write(self.master, keys)

    def end(self) -> int:
        """The exit code, or the negative number of the signal."""
        end = time.monotonic() + SOON
        while True:
            done, status = os.waitpid(self.child, os.WNOHANG)
            if done:
                while self._sees_more(0):
                    pass  # what it said last is in the terminal still
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < end, self.seen
            self._sees_more(0.02)

    def _sees_more(self, seconds: float) -> bool:
        if not is_readable(self.master, seconds):
            return False
        try:
            self.seen += os.read(self.master, 4096).decode("utf-8", "replace")
        except OSError:  # the command has ended
            return False
        return True


def asked(folder, confirm=LONG, **others):
    stage = fall_ill(folder)
    write_sysctl(FIN, "5")
    terminal = Terminal(stage, "--confirm", confirm, "fin-timeout-short", **others)
    terminal.wait_for("[y/N]")
    return stage, terminal


def declined(folder):
    stage, terminal = asked(folder)
    terminal.press(b"n")
    return terminal.end(), terminal.seen, held((FIN,)), stage.journal.exists()


def test_whoever_says_no_has_changed_nothing(in_namespace, tmp_path):
    code, seen, after, is_there = in_namespace(declined, tmp_path)
    assert (code, after, is_there) == (0, {FIN: "5"}, False)
    assert "Nothing was changed." in seen


def answered(folder, do, confirm=LONG):
    stage, terminal = asked(folder, confirm)
    terminal.press(b"y")
    terminal.wait_for("Keep it?")
    assert held((FIN,)) == {FIN: "60"}
    do(terminal)
    code = terminal.end()
    wait_until(lambda: not others_here())
    state = stage.state()
    return code, terminal.seen, held((FIN,))[FIN], stage.file.exists(), state.state if state else None


UNDOES = {
    "any other key": lambda terminal: terminal.press(b"\n"),
    "ctrl-C": lambda terminal: terminal.press(b"\x03"),
    "SIGTERM": lambda terminal: os.kill(terminal.child, signal.SIGTERM),
    "SIGKILL": lambda terminal: os.kill(terminal.child, signal.SIGKILL),
}


LONGER = ("any other key", "SIGTERM")


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=pytest.mark.slow) if what in LONGER else what for what in UNDOES]
)
def test_whatever_is_no_yes_undoes_it(in_namespace, tmp_path, what):
    code, _, after, is_there, state = in_namespace(answered, tmp_path, UNDOES[what])
    assert (after, is_there, state) == ("5", False, "undone")
    assert code == (-signal.SIGKILL if what == "SIGKILL" else 1)


def test_silence_undoes_it(in_namespace, tmp_path):
    code, seen, after, is_there, state = in_namespace(answered, tmp_path, lambda _terminal: None, "0.3")
    assert (code, after, is_there, state) == (1, "5", False, "undone")
    assert "Undone: nobody has confirmed." in seen


def test_a_y_keeps_it(in_namespace, tmp_path):
    code, seen, after, is_there, state = in_namespace(
        answered, tmp_path, lambda terminal: terminal.press(b"y")
    )
    assert (code, after, is_there, state) == (0, "60", True, "kept")
    assert "tcpdoctor fix --undo" in seen


def closed(folder):
    stage, terminal = asked(folder)
    terminal.press(b"y")
    terminal.wait_for("Keep it?")
    os.close(terminal.master)
    wait_until(lambda: held((FIN,)) == {FIN: "5"})
    os.waitpid(terminal.child, 0)
    wait_until(lambda: not others_here())
    state = stage.state()
    return stage.file.exists(), state.state if state else None


def test_a_terminal_that_is_closed_undoes_it(in_namespace, tmp_path):
    assert in_namespace(closed, tmp_path) == (False, "undone")


UNIT = """#!/bin/sh
for word; do echo "$word" >> {log}; done
while [ "$1" != -- ]; do shift; done
shift
setsid env -i $(sed -n 's/^--setenv=//p' {log}) "$@" > /dev/null 2>&1 < /dev/null &
"""
"""Stands where systemd would: it starts what it is given, in an environment of its own, and does not wait."""
UNDER_SYSTEMD = """
import tcpdoctor.kernel.fix_ending as guard
guard.SYSTEMD_RUN, guard._BOOTED = {run!r}, {booted!r}
guard.shares_namespace = lambda pid: True
from tcpdoctor.__main__ import main
main()
"""


CHECKOUT = Path(__file__).resolve().parents[2]


def by_a_timer(folder):
    run, log = folder / "systemd-run", folder / "words"
    run.write_text(UNIT.format(log=log), encoding="ascii")
    run.chmod(0o755)
    program = ("-c", UNDER_SYSTEMD.format(run=str(run), booted=str(folder)))
    os.environ["PYTHONPATH"] = str(CHECKOUT)
    os.chdir("/")
    stage, terminal = asked(folder, program=program)
    terminal.press(b"y")
    terminal.wait_for("Keep it?")
    wait_until(lambda: any("--guard" in command_line(pid) for pid in others_here()))
    for pid in others_here():
        if "--guard" not in command_line(pid):
            os.kill(pid, signal.SIGKILL)
    os.waitpid(terminal.child, 0)
    wait_until(lambda: not others_here())
    state = stage.state()
    return log.read_text(encoding="ascii").splitlines(), held((FIN,)), state.state if state else None


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def test_under_systemd_a_timer_undoes_it_where_all_processes_of_the_session_are_killed(
    in_namespace, tmp_path
):
    words, after, state = in_namespace(by_a_timer, tmp_path)
    assert f"--setenv=PYTHONPATH={CHECKOUT}" in words
    assert (after, state) == ({FIN: "5"}, "undone")
    assert [word for word in words if word.startswith("--on-active=")] == [f"--on-active={int(LONG) + 30}s"]
    assert words[-4:-2][0] == "--guard"
    assert words[-2:] == ["--journal", str(tmp_path / "state" / "fix.json")]
