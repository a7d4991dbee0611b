"""Runs without number leave nothing behind: `python -m tests.many_runs [--runs N]`.

What could be left: processes, namespaces, files in the folders for temporary ones, modules, changed flags of
a socket that was looked at, and descriptors and memory of a process that looks again and again. All of it
runs in a PID namespace of its own: what else runs on the machine makes no look longer and is no trace.
"""

import argparse
import fcntl
import gc
import importlib
import os
import pkgutil
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import tcpdoctor
from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.evaluate import diagnose
from tcpdoctor.kernel.live import take_samples
from tcpdoctor.lab.namespace import enter_private_namespace
from tests.churn import INSIDE

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
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    runs = options.runs
    if not options.inside:
        again = [*INSIDE, sys.executable, "-m", "tests.many_runs", "--inside", "--runs", str(runs)]
        return subprocess.run(again, check=False).returncode
    enter_private_namespace()
    import_everything()
    parts = len(os.sched_getaffinity(0))
    with socket.create_server(("127.0.0.1", 0)) as listener, ProcessPoolExecutor(1) as beside:
        listener.setblocking(False)
        growing = beside.submit(look_in_one_process, runs)
        left = run_commands(runs, parts, listener)
        grown = growing.result()
    for line in left:
        sys.stdout.write(f"left behind: {line}\n")
    sys.stdout.write(
        f"{runs} runs of {len(COMMANDS)} commands left {len(left)} traces; "
        f"{runs} looks of one process made it {grown} KiB larger\n"
    )
    return 1 if left or grown > GROWTH_KIB else 0


def import_everything() -> None:
    """Import all modules of the program, so that not each of the runs does."""
    for module in pkgutil.walk_packages(tcpdoctor.__path__, "tcpdoctor."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.freeze()


def run_commands(runs: int, parts: int, listener: socket.socket) -> list[str]:
    """Run the commands, some side by side; return what is there afterwards that was not before."""
    # What the first one loads is no trace of the others.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    in_child(lambda: run_command(("check", "--window", "0"), nowhere))
    os.close(nowhere)
    said = [os.memfd_create("said") for _ in range(parts)]
    before = traces(listener)
    running = [begin(partial(run_in_turn, part, runs, parts, said[part], listener)) for part in range(parts)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in running]
    after = traces(listener)
    failed = [
        os.pread(descriptor, 1 << 12, 0).decode(errors="replace")
        for code, descriptor in zip(codes, said, strict=True)
        if code
    ]
    left = [
        f"{kind}: {', '.join(sorted(new))}"
        for kind in ("processes", "namespaces", "files", "modules")
        if (new := getattr(after, kind) - getattr(before, kind))
    ]
    changed = [kind for kind in ("flags", "descriptors") if getattr(before, kind) != getattr(after, kind)]
    return failed + left + [f"{kind} changed" for kind in changed]


def run_in_turn(part: int, runs: int, parts: int, said: int, listener: socket.socket) -> None:
    """Run every so-manieth command; the first that ends as none may is told in `said`, and is the last."""
    words = {"port": listener.getsockname()[1], "pid": os.getppid()}
    for number in range(part, runs, parts):
        command = tuple(word.format(**words) for word in COMMANDS[number // parts % len(COMMANDS)])
        os.truncate(said, 0)
        code = in_child(partial(run_command, command, said))
        if code not in (0, 1, 2):
            told = os.pread(said, 1 << 12, 0)
            os.pwrite(said, f"run {number}: {' '.join(command)}: exit {code}: ".encode() + told, 0)
            os._exit(1)
    os._exit(0)


def run_command(words: tuple[str, ...], said: int) -> None:
    """Run the program, what it complains of written to `said`, and its answer as well."""
    from tcpdoctor.__main__ import main as run

    os.lseek(said, 0, os.SEEK_SET)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = ["tcpdoctor", *words]
    run()


def in_child(function: Callable[[], object]) -> int:
    """Run a function in a child; return its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(begin(function), 0)[1])


def begin(function: Callable[[], object]) -> int:
    """Begin a function in a child; return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(99)
    return pid


def traces(listener: socket.socket) -> Traces:
    """Look for everything that a run could leave."""
    return Traces(
        processes=frozenset(name for name in os.listdir("/proc") if name.isdigit()),
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
