"""The program looks while everything moves: `python -m tests.churn [--runs N] [COMMAND ...]`.

In PID and network namespaces of their own processes begin and end as fast as the machine makes them, with
numbers that are used again at once; connections open and close, a listener restarts, network namespaces come
and go. Each process is named after the port of its one socket, so that a wrong owner shows itself.
"""

import argparse
import contextlib
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from tcpdoctor.lab.namespace import enter_private_namespace

SERVER, RESTARTED = 9000, 7001
FIRST_CLIENT, CLIENTS = 20_000, 2_000
ABROAD = 7000
"""The port that is listened on in each of the network namespaces that come and go."""
LOWEST_PID = 300
FORKS_BETWEEN = 61
"""So many processes begin before their numbers are given out anew."""
COMMANDS = {
    "sockets": ("sockets", "--format", "json"),
    "explain": ("explain", "--port", str(RESTARTED), "--format", "json"),
    "check": ("check", "--window", "0.1", "--format", "json"),
    "states": ("states", "--by", "process", "--format", "json"),
    "all": ("check", "--window", "0", "--netns", "all", "--format", "json"),
    "recorded": ("sockets", "--from", "-", "--format", "json"),
    "fix": ("fix", "--window", "0", "--format", "json"),
    "trace": ("trace", "--for", "0.3s", "--format", "json"),
}
RECORD = ("snapshot", "--window", "0", "--raw")
"""What a command that reads standard input is given."""
INSIDE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--")


def main() -> int:
    """Look so many times; 0 where nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.churn", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="of each command")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs="*", choices=[*COMMANDS, []], help="default: all of them")
    options = parser.parse_args()
    if not options.inside:
        words = [*options.command, "--inside", "--runs", str(options.runs)]
        return subprocess.run([*INSIDE, sys.executable, "-m", "tests.churn", *words], check=False).returncode
    enter_private_namespace()
    faults = 0
    with crowd():
        for name in options.command or COMMANDS:
            faults += look(name, options.runs)
    return 1 if faults else 0


@contextlib.contextmanager
def crowd() -> Iterator[None]:
    """Keep everything moving while the body runs."""
    movers = [serve, restart, travel, *[come_and_go] * 2]
    pids = [begin(mover) for mover in movers]
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def begin(function: Callable[[], object]) -> int:
    """Run a function in a child that ends with it, whatever happens to it."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(OSError, KeyboardInterrupt):
            function()
        os._exit(0)
    return pid


def call_oneself(port: int) -> None:
    with open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write(f"p{port}")


def serve() -> None:
    """Take in connections, and let the oldest go as new ones come."""
    call_oneself(SERVER)
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", SERVER), backlog=128) as server:
        while True:
            held.append(server.accept()[0])
            if len(held) > 23:
                held.pop(0).close()


def come_and_go() -> None:
    """Begin processes without end, each with one socket, and use their numbers again."""
    number = os.getpid()
    while True:
        number += 1
        port = FIRST_CLIENT + number * 7 % CLIENTS
        os.waitpid(begin(lambda port=port: be_a_client(port)), 0)
        if number % FORKS_BETWEEN == 0:
            with contextlib.suppress(OSError), open("/proc/sys/kernel/ns_last_pid", "w") as file:
                file.write(str(LOWEST_PID))


def be_a_client(port: int) -> None:
    call_oneself(port)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        if port % 3:
            sock.connect(("127.0.0.1", SERVER))
        else:
            sock.listen()
        time.sleep(random.random() * 0.02)


def restart() -> None:
    """A listener that restarts without end."""

    def listen() -> None:
        call_oneself(RESTARTED)
        with socket.create_server(("127.0.0.1", RESTARTED)):
            time.sleep(random.random() * 0.03)

    while True:
        os.waitpid(begin(listen), 0)


def travel() -> None:
    """Network namespaces that come and go, each with a listener."""

    def emigrate() -> None:
        call_oneself(ABROAD)
        enter_private_namespace()
        with socket.create_server(("127.0.0.1", ABROAD)):
            time.sleep(random.random() * 0.05)

    while True:
        os.waitpid(begin(emigrate), 0)


def look(name: str, runs: int) -> int:
    """Look so many times; say what was wrong, and how many owners were right."""
    faults, owners, begun = 0, 0, time.monotonic()
    for _ in range(runs):
        wrong, right = look_once(name)
        owners += right
        faults += bool(wrong)
        for line in wrong[:3]:
            sys.stdout.write(f"{name}: {line}\n")
    seconds = time.monotonic() - begun
    sys.stdout.write(f"{name}: {runs} runs, {owners} owners right, {faults} runs at fault, {seconds:.0f} s\n")
    sys.stdout.flush()
    return faults


def look_once(name: str) -> tuple[list[str], int]:
    """Run a command once; return what is wrong with its answer, and the number of right owners in it."""
    given = run(RECORD).stdout if "-" in COMMANDS[name] else ""
    done = run(COMMANDS[name], given)
    wrong = [line for line in done.stderr.splitlines() if "Traceback" in line or "a fault of this" in line]
    if done.returncode not in (0, 1, 2) or not done.stdout:
        wrong.append(f"exit {done.returncode}, {len(done.stdout)} bytes: {done.stderr[:300]!r}")
        return wrong, 0
    texts = done.stdout.splitlines() if name == "trace" else [done.stdout]
    document = [json.loads(text) for text in texts]
    wrong += [f"the number {number}" for number in numbers(document) if number < 0 or math.isnan(number)]
    named = list(owners_named(document))
    wrong += [f"port {port} has the owner {owner!r}" for port, owner in named if owner != f"p{port}"]
    return wrong, len(named)


def run(words: tuple[str, ...], given: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tcpdoctor", *words]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False)


def numbers(document: object) -> Iterator[float]:
    """Every number in a document but settings, some of which are negative."""
    if isinstance(document, dict):
        document = [value for key, value in document.items() if key != "sysctls"]
    if isinstance(document, list):
        for part in document:
            yield from numbers(part)
    elif isinstance(document, (int, float)) and not isinstance(document, bool):
        yield document


def owners_named(document: object) -> Iterator[tuple[int, str]]:
    """Every local port that is told with the name of its owner."""
    if isinstance(document, list):
        for part in document:
            yield from owners_named(part)
    if not isinstance(document, dict):
        return
    local, owner = document.get("local"), document.get("owner", document)  # a row of trace names it itself
    if isinstance(local, str) and isinstance(owner, dict) and owner.get("name"):
        yield int(local.rpartition(":")[2]), owner["name"]
    for part in document.values():
        yield from owners_named(part)


if __name__ == "__main__":
    sys.exit(main())
