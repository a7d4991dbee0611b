"""Where the answer goes: a terminal, a pipe that closes, a full disk, a file."""

import io
import os
import subprocess
import sys

import pytest

from tcpdoctor.cli.output import Output, emit, escape_controls, style_of
from tcpdoctor.cli.terminal import page_text
from tcpdoctor.report.style import Style
from tests.cli.command import COMMAND, environment, tcpdoctor
from tests.terminal import OnTerminal


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def fileno(self):
        raise io.UnsupportedOperation("no terminal behind it")


@pytest.mark.parametrize(
    ("choice", "variables", "terminal", "colored"),
    [
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"TERM": "dumb"}, True, False),
        ("auto", {"CLICOLOR": "0"}, True, False),
        ("auto", {"CLICOLOR": "1"}, False, False),
        ("auto", {"CLICOLOR_FORCE": "1"}, False, True),
        ("auto", {"FORCE_COLOR": "1"}, False, True),
        ("auto", {"FORCE_COLOR": "0"}, False, False),
        ("auto", {"CLICOLOR_FORCE": "1", "CLICOLOR": "0", "TERM": "dumb"}, False, True),
        ("auto", {"NO_COLOR": "1", "CLICOLOR_FORCE": "1"}, True, False),
        ("auto", {"NO_COLOR": ""}, True, True),
        ("always", {"NO_COLOR": "1", "TERM": "dumb"}, False, True),
        ("never", {"CLICOLOR_FORCE": "1"}, True, False),
    ],
)
def test_colour_is_decided_by_the_strongest_wish(monkeypatch, choice, variables, terminal, colored):
    for name in ("NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", Terminal() if terminal else io.StringIO())
    assert style_of(Output(color=choice)).color is colored


def test_a_file_is_no_terminal(monkeypatch, tmp_path):
    monkeypatch.delenv("CLICOLOR_FORCE", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert style_of(Output(file=tmp_path / "answer")) == Style(
        color=False, width=80, columns=80, terminal=False
    )


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("bell\x07", r"bell\x07"),
        ("back\rover", r"back\x0dover"),
        ("c1 \x9b31m", r"c1 \x9b31m"),
        ("right\u202eleft", r"right\u202eleft"),
        ("line\u2028break", r"line\u2028break"),
        ("lone\udce9", r"lone\udce9"),
        ("two\nlines\tand a tab, ünïcode ☃", "two\nlines\tand a tab, ünïcode ☃"),
    ],
)
def test_control_characters_are_shown_and_not_obeyed(raw, shown):
    assert escape_controls(raw) == shown


def test_only_our_own_colours_pass():
    text = "\x1b[31mred\x1b[0m \x1b[8mhidden\x1b[0m \x1b]0;title\x07"
    assert (
        escape_controls(text, colored=True) == "\x1b[31mred\x1b[0m \\x1b[8mhidden\x1b[0m \\x1b]0;title\\x07"
    )


@pytest.mark.parametrize("kind", ["nagios", "prometheus", "junit", "markdown", "html", "journal", "plan"])
def test_no_form_for_people_or_programs_is_steered(capfd, kind):
    emit("a name: \x1b[2J\u202e\x9b1m\u2028\udcff", Output(kind))
    assert capfd.readouterr().out == "a name: \\x1b[2J\\u202e\\x9b1m\\u2028\\udcff\n"


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("states",), ("check", "--help")])
class TestStdoutThatFails:
    def test_a_full_disk_is_one_line_and_exit_3(self, arguments):
        with open("/dev/full", "w") as full:
            answer = run(arguments, stdout=full)
        assert answer.returncode == 3
        assert len(answer.stderr.splitlines()) == 1
        assert "No space left on device" in answer.stderr

    def test_a_closed_stdout_is_one_line_and_exit_3(self, arguments):
        answer = run(arguments, stdout=None, preexec_fn=lambda: os.close(1))
        assert answer.returncode == 3
        assert len(answer.stderr.splitlines()) == 1
        assert "standard output is closed" in answer.stderr

    def test_nobody_to_tell_is_still_exit_3(self, arguments):
        def close_both():
            os.close(1)
            os.close(2)

        assert run(arguments, stdout=None, stderr=None, preexec_fn=close_both).returncode == 3

    def test_a_closed_pipe_ends_quietly(self, arguments):
        reader, writer = os.pipe()
        os.close(reader)
        answer = run(arguments, stdout=writer)
        os.close(writer)
        assert (answer.returncode, answer.stderr) == (0, "")

    def test_a_locale_that_knows_ascii_only_is_no_problem(self, arguments):
        answer = tcpdoctor(*arguments, env={"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
        assert (answer.returncode, answer.stderr) == (0, "")
        assert answer.stdout.isascii()


def run(arguments, **options):
    options.setdefault("stderr", subprocess.PIPE)
    return subprocess.run(
        [*COMMAND, *arguments], env=environment(), encoding="utf-8", timeout=60, check=False, **options
    )


def test_an_unbuffered_stdout_gets_every_byte():
    answer = tcpdoctor("check", "--help", env={"PYTHONUNBUFFERED": "1"})
    assert answer.stdout == tcpdoctor("check", "--help", env={"PYTHONUNBUFFERED": ""}).stdout


def test_a_file_gets_the_answer_and_stdout_nothing(tmp_path):
    target = tmp_path / "states.json"
    answer = tcpdoctor("states", "--format", "json", "--output", target)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    assert target.read_text().startswith('{\n "schema": "tcpdoctor.states/1"')
    assert os.listdir(tmp_path) == ["states.json"]


def test_a_file_works_without_a_stdout(tmp_path):
    target = tmp_path / "states"
    answer = run(("states", "--output", str(target)), stdout=None, preexec_fn=lambda: os.close(1))
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "established" in target.read_text()


def test_a_dash_is_stdout(tmp_path):
    answer = tcpdoctor("states", "--output", "-", cwd=tmp_path)
    assert "established" in answer.stdout
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["missing/answer", ".", ""])
def test_a_file_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path, name):
    answer = tcpdoctor("states", "--output", name, cwd=tmp_path)
    assert (answer.returncode, answer.stdout) == (3, "")
    assert len(answer.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == []


def test_an_answer_in_a_terminal_is_coloured_and_fits_it():
    output = in_terminal(["states"], columns=60)
    assert "\x1b[1m" in output
    plain = escape_free(output)
    assert max(len(line) for line in plain.splitlines()) <= 60


def in_terminal(arguments, columns):
    command = (*COMMAND, *arguments)
    with OnTerminal(command, environment({"TERM": "xterm"}), columns=columns) as terminal:
        output = terminal.read_until(None)
        assert terminal.end() == 0
    return output


def escape_free(text):
    import re

    return re.sub(r"\x1b\[[0-9]+m", "", text).replace("\r", "")


def test_a_full_pipe_that_somebody_made_non_blocking_gets_everything():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with subprocess.Popen([*COMMAND, "schema", "check"], stdout=writer, env=environment()) as first:
        os.close(writer)
        whole = b""
        while part := os.read(reader, 1000):
            whole += part
        assert first.wait(30) == 0
    expected = tcpdoctor("schema", "check").stdout
    assert whole.decode() == expected


def test_more_than_a_pipe_holds_reaches_a_slow_reader_that_does_not_block():
    code = "from tcpdoctor.cli.output import Output, emit; emit('x' * 300_000, Output())"
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with subprocess.Popen([sys.executable, "-c", code], stdout=writer, env=environment()) as command:
        os.close(writer)
        whole = b""
        while part := os.read(reader, 777):
            whole += part
        assert command.wait(30) == 0
    assert whole == b"x" * 300_000 + b"\n"


# a text that is longer than the terminal


def paged(pager, uid):
    """What `page_text` answers a user, and what the pager prints."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        if os.geteuid() == 0:
            os.setresuid(uid, uid, uid)
        os.environ |= {"PAGER": pager, "LESS": "FRX"}
        os._exit(int(page_text("the text\n")))
    os.close(write)
    with open(read, encoding="utf-8") as shown:
        text = shown.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1, text


@pytest.mark.parametrize(
    ("pager", "expected"),
    [
        ("sed s/the/PAGED/", (True, "PAGED text\n")),
        ("cat", (False, "")),
        ("", (False, "")),
        ("/no/such/pager -x", (False, "")),
        ("less '", (False, "")),
    ],
)
def test_a_user_s_pager_is_run_where_it_can_be_and_else_the_text_is_printed(pager, expected):
    assert paged(pager, 65534) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="it is about root")
def test_root_s_pager_is_less_whatever_the_environment_says():
    assert paged("sed s/the/PAGED/", 0) == (os.path.exists("/usr/bin/less"), "the text\n")
