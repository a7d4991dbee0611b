"""Runs without number leave nothing behind: `python -m tests.many_runs [--runs N]`.

What could be left: processes, namespaces, files in the folders for temporary ones, modules, changed flags of
a socket that was looked at, and descriptors and memory of a process that looks again and again.
"""

import argparse
import fcntl
import os
import resource
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.evaluate import diagnose
from tcpdoctor.kernel.live import take_samples
from tcpdoctor.lab.namespace import enter_private_namespace

COMMANDS = (
    ("check", "--window", "0"),
    ("states", "--by", "process"),
    ("sockets", "--options"),
    ("explain", "--port", "{port}"),
    ("explain", "--connect", "127.0.0.1:{port}"),
    ("explain", "--pid", "{pid}"),
    ("facts",),
    ("sysctl", "show"),
    ("check", "--window", "0", "--netns", "all"),
    ("snapshot", "--window", "0"),
    ("fix", "--window", "0"),
    ("watch", "--plain", "--count", "1"),
    ("trace", "--for", "0.01s"),
)
FIRST = 50
"""Looks of one process after which its memory is that of a program that has read everything once."""
GROWTH_KIB = 8 << 10
"""More than that is a leak: a thousand looks that kept a hundred bytes a socket each would be far above."""


class Traces(NamedTuple):
    """What is there before and after."""

    processes: frozenset[str]
    namespaces: frozenset[str]
    files: frozenset[str]
    modules: frozenset[str]
    flags: tuple[int, int, int]
    descriptors: int


def main() -> int:
    """Run so many commands, and look so many times in one process; 0 where nothing was left."""
    parser = argparse.ArgumentParser(prog="python -m tests.many_runs", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    runs = parser.parse_args().runs
    enter_private_namespace()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        left = run_commands(runs, listener)
        grown = look_in_one_process(runs)
    for line in left:
        sys.stdout.write(f"left behind: {line}\n")
    sys.stdout.write(
        f"{runs} runs of {len(COMMANDS)} commands left {len(left)} traces; "
        f"{runs} looks of one process made it {grown} KiB larger\n"
    )
    return 1 if left or grown > GROWTH_KIB else 0


def run_commands(runs: int, listener: socket.socket) -> list[str]:
    """Run the commands in turn; return what is there afterwards that was not before."""
    words = {"port": listener.getsockname()[1], "pid": os.getpid()}
    nowhere = os.open(os.devnull, os.O_WRONLY)
    # What the first one loads is no trace of the others.
    in_child(lambda: run_command(("check", "--window", "0"), nowhere))
    os.close(nowhere)
    before = traces(listener)
    for number in range(runs):
        command = tuple(word.format(**words) for word in COMMANDS[number % len(COMMANDS)])
        said = os.memfd_create("said")
        code = in_child(lambda command=command, said=said: run_command(command, said))
        words_said = os.pread(said, 1 << 12, 0).decode(errors="replace")
        os.close(said)
        if code not in (0, 1, 2):
            return [f"run {number}: {' '.join(command)}: exit {code}: {words_said!r}"]
    after = traces(listener)
    left = [
        f"{kind}: {', '.join(sorted(new))}"
        for kind in ("processes", "namespaces", "files", "modules")
        if (new := getattr(after, kind) - getattr(before, kind))
    ]
    return left + [
        f"{kind} changed"
        for kind in ("flags", "descriptors")
        if before._asdict()[kind] != after._asdict()[kind]
    ]


def run_command(words: tuple[str, ...], said: int) -> None:
    """Run the program, what it complains of written to `said`, and its answer as well."""
    from tcpdoctor.__main__ import main as run

    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = ["tcpdoctor", *words]
    run()


def in_child(function: Callable[[], object]) -> int:
    """Run a function in a child; return its exit code."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def traces(listener: socket.socket) -> Traces:
    """Look for everything that a run could leave."""
    return Traces(
        processes=frozenset(ours()),
        namespaces=frozenset(os.listdir("/run/netns") if os.path.isdir("/run/netns") else ()),
        files=frozenset(
            str(path)
            for folder in {tempfile.gettempdir(), "/run", "/var/lib"}
            for path in Path(folder).glob("*tcpdoctor*")
        ),
        modules=frozenset(line.split()[0] for line in lines_of("/proc/modules")),
        flags=(
            fcntl.fcntl(listener, fcntl.F_GETFL),
            fcntl.fcntl(listener, fcntl.F_GETFD),
            listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR),
        ),
        descriptors=len(os.listdir("/proc/self/fd")),
    )


def ours() -> list[str]:
    """The children that this process has."""
    own = os.getpid()
    return [pid for pid in lines_of(f"/proc/self/task/{own}/children")[:1] for pid in pid.split()]


def lines_of(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except FileNotFoundError:
        return []


def look_in_one_process(runs: int) -> int:
    """Look and judge again and again; return by how many KiB that made this process larger."""
    rules = load_rules().rules
    grown = 0
    for number in range(runs):
        diagnose(rules, take_samples(0.0))
        if number == FIRST:
            grown = -resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return grown + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if runs > FIRST else 0


if __name__ == "__main__":
    sys.exit(main())
