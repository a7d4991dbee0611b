"""The outermost edge: faults of the program itself, interrupts, descriptors that are closed."""

import re
import signal
import subprocess
import sys
import time

import pytest

from tests.cli.command import COMMAND, environment
from tests.terminal import OnTerminal

BROKEN = """
from tcpdoctor.cli import app
from tcpdoctor.__main__ import main
app.COMMANDS["states"] = app.Entry("tcpdoctor.cli.nowhere", "states", "A command that is not there.")
main()
"""


def broken(*words, **extra):
    return subprocess.run(
        [sys.executable, "-c", BROKEN, "states", *words],
        capture_output=True,
        encoding="utf-8",
        env=environment(extra),
        check=False,
        timeout=60,
    )


def test_a_fault_of_the_program_is_one_line_with_how_to_report_it():
    answer = broken()
    assert (answer.returncode, answer.stdout) == (3, "")
    (line,) = answer.stderr.splitlines()
    assert "a fault of this program in app.py line" in line
    assert "ModuleNotFoundError: No module named 'tcpdoctor.cli.nowhere'" in line
    assert "--debug" in line


@pytest.mark.parametrize(("words", "extra"), [(("--debug",), {}), ((), {"TCPDOCTOR_TRACEBACK": "1"})])
def test_the_traceback_is_there_for_who_asks_and_the_code_is_still_3(words, extra):
    answer = broken(*words, **extra)
    assert answer.returncode == 3
    assert answer.stderr.startswith("Traceback (most recent call last):")


def test_a_long_window_counts_down_on_a_terminal_and_leaves_nothing():
    command = (*COMMAND, "check", "--window", "3")
    with OnTerminal(command, environment(), answers_here=False) as terminal:
        output = terminal.read_until(None)
        assert terminal.end() in (0, 1, 2)
    assert "watching for 3 s: 3 s left" in output
    assert output.endswith("\r\x1b[K")


@pytest.mark.parametrize("window", ["0", "1", "3"])
def test_stderr_that_is_no_terminal_hears_nothing(window):
    answer = subprocess.run(
        [*COMMAND, "check", "--window", window, "--fail-on", "never"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
        check=False,
        timeout=60,
    )
    assert (answer.returncode, answer.stderr) == (0, b"")


@pytest.mark.parametrize("how", [("--format", "json"), ("--output", "answer.txt")])
def test_an_interrupt_is_quiet_and_130(how, tmp_path):
    output, errors, code = interrupted(*how, cwd=tmp_path)
    assert (code, output, errors) == (130, b"", b"")
    assert list(tmp_path.iterdir()) == []


def test_text_says_what_is_known_when_it_is_interrupted_and_that_it_is_incomplete(tmp_path):
    output, errors, code = interrupted(cwd=tmp_path)
    assert (code, errors) == (3, b"")
    first, second = output.decode().splitlines()[:2]
    assert re.fullmatch(r"INCOMPLETE: interrupted after \d+ s of 60 s", first)
    assert second.split()[0] in ("OK", "WARNING", "CRITICAL", "UNKNOWN")
    assert "60 s apart" not in output.decode()


def interrupted(*options, cwd):
    process = subprocess.Popen(
        [*COMMAND, "check", "--window", "60", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        cwd=cwd,
    )
    wait_until_asleep(process.pid)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    return output, errors, process.returncode


def wait_until_asleep(pid):
    """Until it waits for the second sample: five looks in a row find it asleep."""
    deadline = time.monotonic() + 30
    asleep = 0
    while asleep < 5:
        assert time.monotonic() < deadline, "it never began to wait"
        time.sleep(0.05)
        with open(f"/proc/{pid}/stat") as file:
            asleep = asleep + 1 if file.read().rpartition(")")[2].split()[0] == "S" else 0
