"""`tcpdoctor watch` on a real terminal, driven through tmux: what is drawn, and what is left behind."""

import contextlib
import itertools
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tcpdoctor.kernel.recorded import pack_samples
from tcpdoctor.kernel.snapshot import Samples
from tcpdoctor.kernel.states import TcpState
from tests.live.crowd import connect, serve
from tests.report.examples import CENSUS, SNAPSHOT

SECONDS = 60
LEAKED = 23
PROGRAM = f"{shlex.quote(sys.executable)} -m tcpdoctor watch --interval 0.5"
PROMPT = "ready>"


class Pane:
    """A shell in a window of tmux."""

    def __init__(self, tmux, folder, environment=None):
        self._tmux, self._folder = tmux, folder
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "TERM": "xterm-256color",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            **(environment or {}),
        }
        self._runs = itertools.count()
        self.pid = 0

    def __enter__(self):
        settings = self._folder / "settings"
        settings.write_text(f"PS1='{PROMPT} '\n")
        shell = f"bash --noprofile --rcfile {settings} -i"
        self.do("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", shell)
        return self

    def __exit__(self, *_):
        with contextlib.suppress(subprocess.CalledProcessError):
            self.do("kill-server")

    def do(self, *words):
        command = [self._tmux, "-S", str(self._folder / "socket"), *words]
        return subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=True, timeout=SECONDS
        ).stdout

    def text(self, *options):
        return self.do("capture-pane", "-p", *options)

    def keys(self, *keys):
        self.do("send-keys", *keys)

    def until(self, condition, what):
        """Wait for what is drawn; keys are sent only when the screen says that the last ones were met."""
        deadline = time.monotonic() + SECONDS
        while not condition(text := self.text()):
            assert time.monotonic() < deadline, f"no {what}:\n{text}"
            time.sleep(0.05)
        return text

    def press(self, key, condition):
        self.keys(key)
        return self.until(condition, f"answer to {key}")

    def press_until(self, key, condition):
        """Press a key again and again, as somebody does who looks for a row."""
        deadline = time.monotonic() + SECONDS
        while not condition(text := self.text()):
            assert time.monotonic() < deadline, text
            self.keys(key)
            time.sleep(0.2)
        return text

    def resize(self, columns, lines):
        self.do("resize-window", "-x", str(columns), "-y", str(lines))

    def begin(self, options="", *, screen=True):
        """Start watch, with the settings of the terminal taken down before and after it."""
        mark = self._folder / f"{next(self._runs)}"
        inner = f"echo $$ >{mark}.pid; exec {PROGRAM} {options}"
        line = f"clear; stty -g >{mark}.before; sh -c '{inner}'; stty -g >{mark}.after; echo ended=$?"
        self.keys("-l", line.replace("echo ended=$?", "").replace(f"'{inner}';", f"'{inner}'; code=$?;"))
        self.keys("-l", "echo ended=$code")
        self.keys("Enter")
        if screen:
            self.until(is_list, "list")
        self.pid = int((Path(f"{mark}.pid")).read_text()) if screen else 0
        return mark

    def ended(self, mark, code):
        """The shell is back, the code is that, and the terminal is set as before."""
        text = self.until(lambda text: re.search(r"^ended=\d+", text, re.MULTILINE), "end")
        assert f"ended={code}\n" in text
        assert Path(f"{mark}.after").read_text() == Path(f"{mark}.before").read_text()
        assert "enter explain" not in text
        return text


def is_list(text):
    return "tcpdoctor watch" in text.splitlines()[0] and "rates" in text and "enter" in text


def is_on_a_row(text):
    """Whether the cursor has left the findings."""
    return any(line.startswith(">") for line in text.splitlines()[3:])


def fits(columns):
    """Whether the screen was drawn for so many columns, down to its last line."""

    def drawn(text):
        lines = text.rstrip("\n").splitlines()
        if not lines:
            return False
        head, last = lines[0], lines[-1]
        return "watch" in head and head.rstrip().endswith(("%", "Z")) and "?" in last and len(head) <= columns

    return drawn


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def in_a_pane(tmux, drive, environment=None):
    """Make a leak and a listener whose queue is full, and drive watch beside them."""
    server, busy = serve(), socket.create_server(("127.0.0.1", 9443), backlog=2)
    pairs = connect(server, LEAKED)
    for client, _ in pairs:
        client.close()
    waiting = [socket.create_connection(busy.getsockname()) for _ in range(3)]
    with tempfile.TemporaryDirectory() as folder, Pane(tmux, Path(folder), environment) as pane:
        pane.until(lambda text: PROMPT in text, "prompt")
        drive(pane)
    return len(pairs), len(waiting)


@pytest.fixture
def drive(need, in_namespace):
    tmux = need("tmux", "tmux")

    def run(drive, environment=None):
        assert in_namespace(in_a_pane, tmux, drive, environment) == (LEAKED, 3)

    return run


def press_every_key(pane):
    mark = pane.begin()
    pane.until(lambda text: re.search(rf"CLOSE_WAIT +{LEAKED} ", text), "leak")
    pane.until(lambda text: "accept-queue-full" in text.splitlines()[1], "finding")
    pane.press("s", lambda text: "sorted by size" in text)
    pane.press("/", lambda text: "filter: _" in text)
    pane.keys("-l", "zzz")
    pane.until(lambda text: "filter: zzz_" in text and "no socket listens" in text, "filtered list")
    pane.press("BSpace", lambda text: "filter: zz_" in text)
    pane.press("Escape", lambda text: "127.0.0.1" in text and "enter explain" in text)
    pane.press_until("Down", is_on_a_row)
    pane.press_until("Up", lambda text: ">accept-queue-full" in text.splitlines()[1])
    page = pane.press("Enter", lambda text: "esc back" in text)
    assert "CRITICAL" in page
    pane.press("Escape", is_list)
    pane.press("?", lambda text: "esc back" in text and "the row under the cursor" in text)
    pane.press("q", lambda text: "ended=0" in text)
    pane.ended(mark, 0)


def test_every_key_does_what_the_last_line_says(drive):
    drive(press_every_key)


def explain_a_state(pane):
    mark = pane.begin()
    pane.press_until("Down", is_on_a_row)
    pane.press("Enter", lambda text: "esc back" in text and "per minute" in text)
    pane.press("Escape", is_list)
    pane.press("n", lambda text: "network namespaces of this host" in text and "(shown)" in text)
    pane.press("Escape", is_list)
    pane.press("p", lambda text: "PAUSED" in text)
    at = re.search(r"\d\d:\d\d:\d\dZ", pane.text()).group()
    pane.press("s", lambda text: "sorted by" in text)
    assert at in pane.text()
    pane.press("p", lambda text: "PAUSED" not in text and at not in text)
    pane.keys("C-c")
    pane.ended(mark, 0)


def test_a_row_is_explained_and_the_screen_pauses_and_ctrl_c_ends_it(drive):
    drive(explain_a_state)


def resize(pane):
    mark = pane.begin()
    for columns, lines in ((40, 10), (250, 60), (41, 24), (160, 50), (120, 10), (80, 24)):
        pane.resize(columns, lines)
        text = pane.until(fits(columns), f"screen of {columns} x {lines}")
        assert max(map(len, text.splitlines())) <= columns
    for number in range(100):
        os.kill(pane.pid, signal.SIGWINCH)
        if number % 4 == 0:
            pane.resize(40 + number, 10 + number % 37)
    pane.resize(80, 24)
    pane.until(lambda text: fits(80)(text) and is_list(text), "screen after the storm")
    assert not is_gone(pane.pid)
    pane.keys("q")
    pane.ended(mark, 0)


def test_it_is_drawn_anew_for_every_size_and_survives_a_storm_of_them(drive):
    drive(resize)


def stop_and_go_on(pane):
    mark = pane.begin()
    pane.keys("C-z")
    assert "Stopped" in pane.ended(mark, 128 + signal.SIGTSTP)
    again = Path(f"{mark}.again")
    pane.keys("-l", f"clear; fg; stty -g >{again}; echo over")
    pane.press("Enter", is_list)
    pane.press_until("Down", is_on_a_row)
    os.kill(pane.pid, signal.SIGTERM)
    pane.until(lambda text: "\nover\n" in text and "enter explain" not in text, "end")
    assert again.read_text() == Path(f"{mark}.before").read_text()
    mark = pane.begin()
    os.kill(pane.pid, signal.SIGHUP)
    pane.ended(mark, 128 + signal.SIGHUP)


def test_ctrl_z_gives_the_terminal_back_and_fg_goes_on_and_signals_end_it(drive):
    drive(stop_and_go_on)


def close_the_terminal(pane):
    pane.begin()
    pid = pane.pid
    pane.do("new-window", "-d", "sleep 600")  # else the server would end with its last window
    pane.do("kill-pane")
    deadline = time.monotonic() + SECONDS
    while not is_gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_nothing_goes_on_behind_a_terminal_that_was_closed(drive):
    drive(close_the_terminal)


def trace_who_closes(pane):
    mark = pane.begin()
    server = socket.create_server(("127.0.0.1", 8081), backlog=5)
    text = pane.press(
        "t", lambda text: "tracing: " in text or "is not told" in text or "may not look" in text
    )
    if "tracing: " not in text:  # said in the last line, and nothing is claimed
        assert "we close 1st" not in text
    else:
        for _ in range(5):
            client = socket.create_connection(server.getsockname())
            accepted, _ = server.accept()
            accepted.close()
            client.close()
        pane.until(lambda text: re.search(r"127.0.0.1:8081 .* 100 %", text), "who closed first")
        pane.press("t", lambda text: "the trace has ended" in text)
    pane.keys("q")
    pane.ended(mark, 0)


def test_t_tells_who_closes_first_or_why_not(drive):
    drive(trace_who_closes)


COLOUR = re.compile(r"\x1b\[[0-9;]*(?:3[0-7]|38;5;[0-9]+)m")


def see_colours(pane):
    mark = pane.begin()
    pane.until(lambda text: "accept-queue-full" in text.splitlines()[1], "finding")
    assert COLOUR.search(pane.text("-e"))
    pane.keys("q")
    pane.ended(mark, 0)
    mark = pane.begin("--color never")
    text = pane.until(lambda text: ">accept-queue-full" in text.splitlines()[1], "finding")
    assert not COLOUR.search(pane.text("-e"))
    assert re.match("(CRITICAL|WARNING) [0-9]+ ", text.splitlines()[1])
    pane.keys("q")
    pane.ended(mark, 0)


def test_colours_can_be_had_or_not_and_say_nothing_that_words_do_not(drive):
    drive(see_colours)


def without_unicode(pane):
    mark = pane.begin()
    text = pane.until(lambda text: "accept-queue-full" in text.splitlines()[1], "finding")
    assert text.isascii()
    pane.keys("q")
    pane.ended(mark, 0)


def test_without_unicode_it_draws_in_ascii(drive):
    drive(without_unicode, {"LC_ALL": "C"})


def on_a_dumb_terminal(pane):
    mark = pane.begin("--count 2", screen=False)
    text = pane.ended(mark, 0)
    said = "TERM=dumb cannot show a screen; a line a look instead, as with --plain"
    assert said.replace(" ", "") in "".join(text.split())
    assert len(re.findall(r"^\d\d:\d\d:\d\d estab=", text, re.MULTILINE)) == 2


def test_a_dumb_terminal_gets_a_line_a_look_and_is_told_why(drive):
    def run(pane):
        pane.keys("-l", "export TERM=dumb; clear")
        pane.keys("Enter")
        on_a_dumb_terminal(pane)

    drive(run)


def test_a_python_without_curses_gets_a_line_a_look_and_is_told_why(drive, tmp_path):
    (tmp_path / "_curses.py").write_text("raise ImportError('built without it')\n")

    def run(pane):
        mark = pane.begin("--count 2", screen=False)
        text = pane.ended(mark, 0)
        assert "thisPythonhasnocurses;alinealookinstead" in "".join(text.split())
        assert len(re.findall(r"^\d\d:\d\d:\d\d estab=", text, re.MULTILINE)) == 2

    drive(run, {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"})


def step_through_recordings(pane):
    mark = pane.begin("--from $HOME/first.json $HOME/second.json")
    pane.until(lambda text: "1 of 2: first.json" in text and re.search(r"CLOSE_WAIT +23 ", text), "first")
    pane.press("]", lambda text: "2 of 2: second.json" in text and re.search(r"CLOSE_WAIT +37 ", text))
    pane.press("]", lambda text: "2 of 2: second.json" in text)
    pane.press("[", lambda text: "1 of 2: first.json" in text)
    pane.press("t", lambda text: "a recording cannot be traced" in text)
    pane.keys("q")
    pane.ended(mark, 0)


def test_recordings_are_stepped_through(drive, tmp_path):
    for name, number, seconds in (("first", 23, 0.0), ("second", 37, 60.0)):
        census = CENSUS._replace(by_state=CENSUS.by_state | {TcpState.CLOSE_WAIT: number})
        look = SNAPSHOT._replace(
            taken_at=SNAPSHOT.taken_at + seconds, clock=SNAPSHOT.clock + seconds, census=census
        )
        (tmp_path / f"{name}.json").write_bytes(pack_samples(Samples(None, look)))
    drive(step_through_recordings, {"HOME": str(tmp_path)})
