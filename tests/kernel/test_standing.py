"""What keeps a process running, asked of real ones: shells, those that ignore TERM, those with children."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tcpdoctor.kernel.standing import Standing, read_standings, runs_in_loop
from tests.pace import is_done_within

LOOPS = {
    "while true": "while true; do srv --port 80; sleep 1; done",
    "while :": "#!/bin/sh\nwhile :\ndo\n  /opt/srv\ndone\n",
    "until": "until srv; do echo crashed; sleep 1; done",
    "arithmetic": "for ((;;)); do srv; done",
    "the loop calls what it was given": 'while true; do "$@" || true; done',
    "a variable": "while sleep 1; do $SERVER; done",
    "in a function": "run() { while true; do srv; done; }\nrun",
    "the server in the condition": "while ! sudo -u app /opt/srv --port 80; do echo srv ended; done",
    "beside a document": "cat > conf <<EOF\nport 80\nEOF\nwhile true; do srv conf; done",
    "beside a shift": "n=$((1 <<n))\nwhile true; do srv; done",
    "beside a document without end": "cat <<EOF\nwhile true; do srv; done",
    "beside a word that is given": "cat <<<EOF\nwhile true; do srv; done\nEOF",
    "after a wait": "until nc -z db 5432; do sleep 1; done\nwhile true; do srv; done",
}
NO_LOOPS = {
    "none": "srv --port 80\necho ended",
    "it waits for a database first": "while ! nc -z db 5432; do sleep 1; done\nsrv",
    "the database is a variable": "until pg_isready -h $DB; do sleep 1; done\nsrv",
    "a comment": "# while true; do srv; done\nsrv",
    "another program": "while true; do other-srv; srv2; done & \nsrv",
    "a list with an end": "for f in a b; do srv $f; done",
    "lines with an end": "while IFS= read -r port; do srv $port & done < ports",
    "words with an end": "cat ports | while read port; do srv $port & done",
    "it waits for the server's end": "srv &\nwhile pgrep -x srv > /dev/null; do sleep 5; done",
    "it waits for the server's beginning": "srv &\nuntil [ -S /run/srv ]; do echo srv is late; sleep 1; done",
    "it looks whether the server is there": "while true; do if pgrep srv; then sleep 1; fi; done",
    "a document of another language": "cat > a <<'X'\nwhile True:\n    run()\nX\nfor f in a;do srv $f & done",
    "a document behind tabs": "\tcat <<-E\n\twhile true\n\tE\nsrv",
}


@pytest.mark.parametrize("script", LOOPS.values(), ids=LOOPS)
def test_a_loop_is_one(script):
    assert runs_in_loop(script, "srv")


@pytest.mark.parametrize("script", NO_LOOPS.values(), ids=NO_LOOPS)
def test_what_is_no_loop_is_none(script):
    assert not runs_in_loop(script, "srv")


@pytest.mark.parametrize("line", ["cat <<a\n", "while x; ", "do ", "<<", "a=$(", "while read "])
def test_a_script_of_another_user_takes_no_time(line):
    script = (line * (1 << 18))[: 1 << 18]
    assert is_done_within(0.7, lambda: runs_in_loop(script, "srv"))


@contextmanager
def running(command: list[str]) -> Iterator[int]:
    """Run what prints a pid once it is ready; give that pid."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            os.killpg(process.pid, 9)


def standing_of(pid: int) -> Standing:
    found = read_standings([pid])[pid]
    assert isinstance(found, Standing)
    return found


SAYS_ITS_PID = f"{sys.executable} -c 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'"


@pytest.mark.parametrize("shell", ["bash", "dash", "busybox sh"])
@pytest.mark.parametrize("from_file", [True, False])
def test_the_loop_of_a_real_shell_is_found(tmp_path, shell, from_file):
    if shutil.which(shell.split()[0]) is None:
        pytest.skip(f"{shell} is not installed")
    script = f"while true; do {SAYS_ITS_PID}; sleep 1; done\n"
    (tmp_path / "loop").write_text(script)
    with running([*shell.split(), *([str(tmp_path / "loop")] if from_file else ["-c", script])]) as pid:
        found = standing_of(pid)
    assert found.loop is not None
    assert found.loop.pid == found.kin.parent


def test_a_script_without_a_loop_starts_nothing_again(tmp_path):
    (tmp_path / "once").write_text(f"{SAYS_ITS_PID}\ntrue\n")
    with running(["sh", str(tmp_path / "once")]) as pid:
        assert standing_of(pid).loop is None


PRINTS = "import os, signal, time; {}; print(os.getpid(), flush=True); time.sleep(60)"


@pytest.mark.parametrize(
    ("before", "ignores"),
    [
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", True),
        ("signal.signal(signal.SIGTERM, lambda *_: None)", False),
        ("pass", False),
    ],
)
def test_whether_it_ignores_term_is_read(before, ignores):
    with running([sys.executable, "-c", PRINTS.format(before)]) as pid:
        assert standing_of(pid).ignores_term is ignores


def test_what_it_began_and_what_that_began_is_below_it():
    fork = "[os.fork() or os.fork()]"
    with running(
        [sys.executable, "-c", f"import os, time; print(os.getpid(), flush=True); {fork}; time.sleep(60)"]
    ) as pid:
        deadline = time.monotonic() + 30
        while len(standing_of(pid).below) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        found = standing_of(pid)
    assert len(found.below) == 2
    assert not found.ours


def test_the_others_that_its_parent_began_are_counted():
    with running(["sh", "-c", "sleep 60 & sleep 60 & sleep 60 & echo $!; wait"]) as pid:
        found = standing_of(pid)
        assert found.siblings == 2
        assert standing_of(found.kin.parent).below, "the kernel lists children"


def test_whoever_asks_descends_from_his_own_parent():
    assert standing_of(os.getppid()).ours
    assert standing_of(os.getpid()).kin.pid in standing_of(os.getppid()).below
