"""The real shells complete tcpdoctor: what a user gets who types and presses the tab key."""

import os
import pty
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.terminal import is_readable

FOLDER = str(Path(sys.executable).parent)
"""Where `tcpdoctor` is."""

SETUP = {
    "bash": ("--norc", "--noprofile", "-i"),
    "zsh": ("-f", "-i"),
}
LOAD = {
    "bash": 'bind "set bell-style none"; eval "$(tcpdoctor completion bash)"',
    "zsh": "autoload -U compinit; compinit -u -D; source <(tcpdoctor completion zsh)",
}
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|[\x07\r]")


class Terminal:
    """An interactive shell on a pseudo-terminal."""

    def __init__(self, shell: str, path: str) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            environment = {
                "PATH": f"{FOLDER}:{os.environ['PATH']}",
                "TERM": "dumb",
                "PS1": "$ ",
                "HOME": "/nowhere",
            }
            os.execve(path, [shell, *SETUP[shell]], environment)  # noqa: S606 - it becomes the shell
        self.type(LOAD[shell] + "\necho rea''dy\n")
        self.read_until("ready")

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def read_until(self, expected: str, seconds: float = 20) -> str:
        seen, deadline = "", time.monotonic() + seconds
        while expected not in CONTROL.sub("", seen):
            assert time.monotonic() < deadline, f"no {expected!r} in {seen!r}"
            if is_readable(self.master, 0.2):
                seen += os.read(self.master, 65536).decode("utf-8", "replace")
        return CONTROL.sub("", seen)

    def close(self) -> None:
        os.close(self.master)  # the shell gets SIGHUP
        os.waitpid(self.pid, 0)


@pytest.fixture(params=sorted(SETUP))
def terminal(request, need):
    shell = Terminal(request.param, need(request.param, request.param))
    yield shell
    shell.close()


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("tcpdoctor exp", "tcpdoctor explain "),
        ("tcpdoctor check --only-", "--only-changes"),
        ("tcpdoctor check --only close-wait-l", "close-wait-leak"),
        ("tcpdoctor check --skip=close-wait-leak,fin-wait-2-h", "close-wait-leak,fin-wait-2-held-open"),
        ("tcpdoctor explain --rule syncookies-o", "syncookies-off"),
        ("tcpdoctor explain --state last-a", "last-ack"),
        ("tcpdoctor sockets --state clos", "close-wait"),
        ("tcpdoctor explain --sysctl net.ipv4.tcp_fin", "net.ipv4.tcp_fin_timeout"),
        ("tcpdoctor explain --error EADDRNOT", "EADDRNOTAVAIL"),
        ("tcpdoctor check --format prom", "prometheus"),
        ("tcpdoctor check --format=prom", "--format=prometheus"),
        ("tcpdoctor lab run fin-wait-2-held", "fin-wait-2-held-open"),
        ("tcpdoctor rules te", "rules test"),
        ("tcpdoctor rules lint /etc/pass", "/etc/passwd"),
        ("tcpdoctor check --output=/etc/pass", "--output=/etc/passwd"),
    ],
)
def test_the_tab_key_completes(terminal, typed, completed):
    terminal.type(typed + "\t\t")
    terminal.read_until(completed)
    terminal.type("\x15\x03")


def test_the_tab_key_completes_a_port_that_listens(terminal):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        terminal.type(f"tcpdoctor explain {port[:-1]}\t\t")
        terminal.read_until(port)
        terminal.type("\x15\x03")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tcpdoctor exp", ["explain"]),
        ("tcpdoctor check --only close-wait-l", ["close-wait-leak"]),
        (
            "tcpdoctor check --only=close-wait-leak,fin-wait-2-h",
            ["--only=close-wait-leak,fin-wait-2-held-open"],
        ),
        ("tcpdoctor sockets --state clos", ["close-wait", "closing"]),
        ("tcpdoctor explain --sysctl net.ipv4.tcp_fin", ["net.ipv4.tcp_fin_timeout"]),
        ("tcpdoctor check --format prom", ["prometheus"]),
        ("tcpdoctor lab run fin-wait-2-held", ["fin-wait-2-held-open"]),
        ("tcpdoctor completion ", ["bash", "fish", "zsh"]),
        ("tcpdoctor rules lint /etc/pass", ["/etc/passwd"]),
    ],
)
def test_fish_completes(need, tmp_path, line, expected):
    fish = need("fish", "fish")
    environment = os.environ | {
        "PATH": f"{FOLDER}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "TERM": "dumb",
    }
    script = f"tcpdoctor completion fish | source; complete -C '{line}'"
    done = subprocess.run(
        [fish, "--no-config", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=30,
    )
    assert done.stderr == ""
    assert sorted(
        {word.partition("\t")[0] for word in done.stdout.splitlines()} - {"/etc/passwd-"}
    ) == sorted(expected)


def test_each_shell_accepts_its_script(need):
    for shell, options in (("bash", ["-n"]), ("zsh", ["-n"]), ("fish", ["--no-execute"])):
        script = subprocess.run(
            [shutil.which("tcpdoctor", path=FOLDER), "completion", shell],
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        program = need(shell, shell)
        done = subprocess.run(
            [program, *options, "/dev/stdin"],
            input=script.stdout,
            text=True,
            capture_output=True,
            check=False,
            timeout=300,
        )
        assert (done.returncode, done.stderr) == (0, "")
