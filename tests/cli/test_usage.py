"""Wrong usage: one line that says what to type instead, and exit 3, because 2 would page somebody."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

import pytest

from tcpdoctor import __version__
from tcpdoctor.cli.app import COMMANDS, build_command
from tcpdoctor.cli.examples import EXAMPLES, FIRST
from tests.cli.command import COMMAND, complaint, environment, tcpdoctor


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("chekc",), "did you mean 'check'?"),
        (("frobnicate",), "there are: check, explain, states"),
        (("--windw", "5", "check"), "options follow their command: tcpdoctor check --windw 5 "),
        (("--json",), "options follow their command, as in: tcpdoctor check --json "),
        (("check", "--format", "json", "-o", "yaml"), "names a file; did you mean --format yaml?"),
        (("check", "-ojson"), "names a file; did you mean --format json? (the file: ./json)"),
        (("check", "--ignore", "accept-queue-full"), "did you mean --skip?"),
        (("check", "--no-color"), "did you mean --color never?"),
        (("check", "--html"), "did you mean --format html?"),
        (("check", "-p", "8080"), "tcpdoctor explain --port N"),
        (("check", "all"), "check alone asks every rule of this host"),
        (("check", "-"), "did you mean: tcpdoctor check --from -"),
        (("check", "/etc/hosts"), "did you mean: tcpdoctor check --from /etc/hosts"),
        (("sysctl", "-a"), "did you mean: tcpdoctor sysctl show "),
        (("sysctl", "-w", "net.ipv4.tcp_fin_timeout=60"), "tcpdoctor fix --apply"),
        (("lab", "run"), "tcpdoctor lab list names them"),
        (("lab", "rnu", "close-wait-leak"), "did you mean: tcpdoctor lab run close-wait-leak "),
        (("check", "--windw", "5"), "did you mean --window?"),
        (("check", "--frobnicate"), "--frobnicate"),
        (("check", "-x"), "-x"),
        (("check", "--sort", "age"), "tcpdoctor sockets --sort"),
        (("check", "--port", "80"), "tcpdoctor explain --port N"),
        (("check", "8080"), "tcpdoctor explain 8080"),
        (("check", "close-wait"), "or is it close_wait? tcpdoctor explain close-wait"),
        (("8080",), "did you mean: tcpdoctor explain 8080"),
        (("-v",), "did you mean --version?"),
        (("lab",), "which of its commands? there are: list, run, prove"),
        (("rules",), "which of its commands? there are: list, show, lint, test, new"),
        (("explain", "close-wait", "leaks", "here"), "did you mean: tcpdoctor explain close-wait"),
        (("explain", "--connect", "db:5432", "--no-lookup"), "for example 10.0.0.5:5432"),
        (("sysctl", "show", "nope"), "no sysctl of TCP is called 'nope'; for example net."),
        (("port", "8080"), "did you mean: tcpdoctor explain 8080"),
        (("EADDRINUSE",), "did you mean: tcpdoctor explain EADDRINUSE"),
        (("check", "--json", "--format", "junit"), "leave one of"),
        (("check", "-w", "5x"), "10, 10s, 5m or 2h"),
        (("explain", "8080", "--state", "listen"), "one question at a time"),
        (("check", "--only"), "--only"),
        (("check", "here"), "here"),
        (("check", "--fail-on", "sometimes"), "'info', 'warning', 'critical', 'never'"),
        (("check", "--format", "xml"), "'text', 'json'"),
        (("check", "--color", "pink"), "'auto', 'always', 'never'"),
        (("check", "--window", "soon"), "--window"),
        (("check", "--strict=yes"), "--strict"),
        (("states", "--by", "colour"), "'port', 'peer', 'process'"),
        (("states", "--bye", "port"), "did you mean --by?"),
    ],
)
def test_one_line_says_what_is_wrong_and_what_to_do(arguments, hint):
    assert hint in complaint(tcpdoctor(*arguments))


@pytest.mark.parametrize("window", ["nan", "-1", "-0.5", "inf", "1e9", "3601", "0.001", "1e-300", "-inf"])
def test_a_window_that_makes_no_sense_is_refused(window):
    line = complaint(tcpdoctor("check", f"--window={window}"))
    assert "--window" in line
    assert "0.1 to 3600" in line


def test_what_the_user_typed_cannot_steer_the_terminal():
    line = complaint(tcpdoctor("check", "--window", "\x1b[31m5\x07"))
    assert "\x1b" not in line
    assert "\x07" not in line


@pytest.mark.parametrize(
    "before",
    [
        ("explain", "--port"), ("explain",), ("explain", "--pid"), ("explain", "--connect"),
        ("explain", "--error"), ("explain", "--port", "80", "--user"), ("sockets", "--pid"),
        ("sockets", "--port"), ("check", "--netns"), ("check", "--only"), ("sockets", "--limit"), ("lab",),
    ],
)  # fmt: skip
def test_a_number_of_5000_digits_is_none_and_what_is_said_of_it_is_short(before):
    line = complaint(tcpdoctor(*before, "9" * 5000))
    assert "a fault of this program" not in line
    assert len(line) <= 1_001


def test_a_line_break_in_an_argument_does_not_break_the_line():
    assert "one" in complaint(tcpdoctor("check", "--only", "one\ntwo"))


def test_a_monitoring_system_hears_of_wrong_usage_on_stdout():
    for wrong in (("--no-such",), ("--window", "x"), ("--only=",), ("--window", "1", "--window", "2")):
        answer = tcpdoctor("check", "--format", "nagios", *wrong)
        assert (answer.returncode, answer.stderr) == (3, "")
        assert answer.stdout.startswith("TCPDOCTOR UNKNOWN - tcpdoctor check: ")
        assert len(answer.stdout.splitlines()) == 1


def test_without_a_command_it_says_what_can_be_asked():
    alone, asked = tcpdoctor(), tcpdoctor("--help")
    assert (alone.returncode, alone.stderr) == (0, "")
    assert alone.stdout == asked.stdout
    for command, answers in FIRST:
        assert re.search(rf"^  {re.escape(command)} +{re.escape(answers)}$", alone.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", sorted(EXAMPLES))
def test_every_help_ends_with_two_whole_examples(command):
    answer = tcpdoctor("help", *command.split())
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == tcpdoctor(*command.split(), "--help").stdout
    for example in EXAMPLES[command]:
        assert example.command in answer.stdout
        assert example.answers in answer.stdout


def test_version():
    answer = tcpdoctor("--version")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, f"tcpdoctor {__version__}\n", "")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_every_command_and_fits_80_columns(option):
    answer = tcpdoctor(option)
    assert answer.returncode == 0
    assert answer.stderr == ""
    for name, entry in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(entry.help)}$", answer.stdout, re.MULTILINE)
    assert max(map(len, answer.stdout.splitlines())) <= 80


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself_with_the_line_of_the_list(name):
    answer = tcpdoctor(name, "--help")
    assert answer.returncode == 0, answer.stderr
    assert COMMANDS[name].help in answer.stdout
    assert max(map(len, answer.stdout.splitlines())) <= 80


@pytest.mark.parametrize("entry", COMMANDS.values())
def test_a_line_of_the_list_of_commands_is_never_wrapped(entry):
    assert len(entry.help) <= 65


@pytest.mark.parametrize(
    "arguments",
    [("check", "--rules", ""), ("check", "--config="), ("check", "--only", ""), ("explain", "--connect", "")],
)
def test_an_empty_value_is_refused_and_never_means_the_working_folder(arguments):
    assert f"{arguments[1].rstrip('=')} has an empty value" in complaint(tcpdoctor(*arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        ("explain", "--port", "80", "--port", "81"),
        ("explain", "--state=listen", "--state", "bound"),
        ("check", "--window", "0", "--window=1"),
    ],
)
def test_the_same_option_twice_is_refused_where_the_last_would_silently_win(arguments):
    assert "is given twice" in complaint(tcpdoctor(*arguments))


@pytest.mark.parametrize("name", [name for name, entry in COMMANDS.items() if entry.attribute != "app"])
def test_the_repeatable_options_are_those_that_take_several_values(name):
    command = build_command(name, COMMANDS[name])
    several = {option for one in command.params if one.multiple for option in one.opts}
    assert several == set(COMMANDS[name].repeatable)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("ss", "tcpdoctor sockets"),
        ("netstat", "tcpdoctor sockets"),
        ("ss -tan", "tcpdoctor sockets"),
        ("ss -tlnp", "tcpdoctor sockets --state listen"),
        ("ss -uan", "tcpdoctor sockets --udp"),
        ("ss -tan state time-wait", "tcpdoctor sockets --state time-wait"),
        ("ss sport = :8080", "tcpdoctor sockets --port 8080"),
        ("netstat -tulpn", "tcpdoctor sockets --state listen"),
        ("lsof -i :8080", "tcpdoctor explain :8080"),
        ("lsof -itcp:8080", "tcpdoctor explain tcp:8080"),
        ("fuser 8080/tcp", "tcpdoctor explain 8080/tcp"),
        ("kill 8080", "tcpdoctor explain 8080"),
        ("kill", "tcpdoctor explain PORT"),
        ("nc 10.0.0.5 5432", "tcpdoctor explain 10.0.0.5 5432"),
        ("get sockets", "tcpdoctor sockets"),
        ("sudo states --by port", "tcpdoctor states --by port"),
        ("-p 8080", "tcpdoctor explain 8080"),
        ("--port=8080", "tcpdoctor explain 8080"),
        ("--pid 811", "tcpdoctor explain pid 811"),
        ("-i :8080", "tcpdoctor explain :8080"),
        ("-tulpn", "tcpdoctor sockets --state listen"),
        ("--fix", "tcpdoctor fix"),
        ("sockets -tan", "tcpdoctor sockets"),
        ("sockets --listening", "--state listen"),
        ("sockets 8080", "tcpdoctor sockets --port 8080"),
        ("sockets dport = :443", "tcpdoctor sockets --peer-port 443"),
        ("sockets 53/udp", "tcpdoctor sockets --port 53 --udp"),
        ("states time-wait", "tcpdoctor explain time-wait"),
        ("trace 8080", "tcpdoctor trace --port 8080"),
        ("trace udp/53", "tcpdoctor explain udp/53"),
        ("watch 8080", "tcpdoctor explain 8080"),
        ("snapshot case.json.gz", "tcpdoctor snapshot -o case.json.gz"),
        ("sysctl get tcp_fin_timeout", "tcpdoctor sysctl show tcp_fin_timeout"),
        ("ports", "tcpdoctor states --by port"),
        ("status", "tcpdoctor check"),
        ("run", "tcpdoctor lab run"),
        ("8080", "tcpdoctor explain 8080"),
        ("port 8080", "tcpdoctor explain 8080"),
        ("close-wait-leak", "tcpdoctor explain close-wait-leak"),
        ("check 8080", "tcpdoctor explain 8080"),
        ("check close_wait_leak", "tcpdoctor check close-wait-leak"),
        ("sysctl tcp_fin_timeout", "tcpdoctor sysctl show tcp_fin_timeout"),
        ("rules close-wait-leak", "tcpdoctor rules show close-wait-leak"),
        ("lab close-wait-leak", "tcpdoctor lab run close-wait-leak"),
        ("explain --sysctl tcp_fin", "net.ipv4.tcp_fin_timeout?"),
        ("explain --option SO_REUSE", "SO_REUSEADDR or SO_REUSEPORT?"),
        ("explain --state FIN", "FIN_WAIT_1 or FIN_WAIT_2?"),
    ],
)
def test_what_is_called_otherwise_elsewhere_is_recognised(words, meant):
    assert f"did you mean: {meant}" in (said := complaint(tcpdoctor(*words.split()))) or (
        f"did you mean {meant}" in said
    )


def test_a_refusal_to_look_names_up_is_no_mistake_where_a_word_is_no_name():
    assert tcpdoctor("explain", "EADDRINUSE", "--no-lookup").returncode == 0


@pytest.mark.parametrize(
    "command", [("check",), ("explain",), ("sockets",), ("lab", "run"), ()], ids=" ".join
)
def test_the_help_fits_a_narrow_terminal_and_has_no_thin_column(command):
    terminal, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 40, 0, 0))
    said = environment({"TERM": "dumb"})
    said.pop("COLUMNS", None)
    with subprocess.Popen([*COMMAND, *command, "--help"], stdin=theirs, stdout=theirs, env=said) as program:
        os.close(theirs)
        text = b""
        while True:
            try:
                piece = os.read(terminal, 1 << 16)
            except OSError:  # the other end is closed: EIO
                break
            text += piece
        assert program.wait(timeout=20) == 0
    os.close(terminal)
    lines = text.decode().replace("\r\n", "\n").splitlines()
    examples = next(place for place, line in enumerate(lines) if line in ("Examples:", "First:"))
    choices = ("<text|", "--fail-on", "NAME|PID")
    assert [
        line for line in lines[:examples] if len(line) > 40 and not any(it in line for it in choices)
    ] == []
    assert max(map(len, lines)) > 30, "the text uses the width that there is"
