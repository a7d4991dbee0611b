"""What `check --netns all` takes on a host with many network namespaces: wall time and CPU time of each.

    sudo .venv/bin/python bench/namespaces.py [--namespaces 50] [--window 1] [--rounds 3]

It goes into namespaces of its own, names so many network namespaces there, each with a listener and a
connection to itself, and prints medians. CPU time is user and system, children included; *each* is what one
namespace more costs: the difference to the same host without them, over their number.
"""

import argparse
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMAND = (sys.executable, "-m", "tcpdoctor")
INSIDE = "TCPDOCTOR_BENCH_INSIDE"


def take(command: tuple[str, ...]) -> tuple[float, float]:
    """Seconds of wall time and of CPU time that one run takes."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode == 3:
        sys.exit(done.stderr.decode())
    took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def fill(number: int) -> list[socket.socket]:
    """Name so many namespaces; keep a listener and a connection to itself in each."""
    held = []
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    for name in (f"bench{each}" for each in range(number)):
        subprocess.run(["ip", "netns", "add", name], check=True)
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        enter(os.open(f"/run/netns/{name}", os.O_RDONLY))
        server = socket.create_server(("127.0.0.1", 8080))
        held += [server, socket.create_connection(server.getsockname()), server.accept()[0]]
        enter(own)
    return held


def enter(descriptor: int) -> None:
    """Go into a network namespace (os.setns is there since Python 3.12)."""
    import ctypes

    if ctypes.CDLL(None).setns(descriptor, 0x40000000):
        sys.exit("a network namespace cannot be entered: run it as root")


def measure(label: str, command: tuple[str, ...], rounds: int) -> tuple[float, float]:
    """Print medians of one command; return them."""
    taken = [take(command) for _ in range(rounds)]
    wall, cpu = (statistics.median(column) for column in zip(*taken, strict=True))
    print(f"| {label:<34} | {wall:8.2f} | {cpu * 1000:8.0f} |", end="", flush=True)
    return wall, cpu


def main() -> None:
    """Measure on this host alone, then with the namespaces."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--namespaces", type=int, default=50)
    parser.add_argument("--window", default="1")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    if not os.environ.get(INSIDE):
        os.environ[INSIDE] = "1"
        kinds = ("--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--net")
        os.execvp(  # noqa: S606 - that is the way into namespaces of one's own
            "unshare", ["unshare", *kinds, sys.executable, str(Path(__file__).resolve()), *sys.argv[1:]]
        )
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    Path("/run/netns").mkdir()
    commands = {
        f"check --netns all --window {asked.window}": ("check", "--netns", "all", "--window", asked.window),
        "check --netns all --window 0 --json": ("check", "--netns", "all", "--window", "0", "--json"),
        "check --netns all --format prometheus": (
            *("check", "--netns", "all", "--window", "0", "--format", "prometheus"),
        ),
        "states --netns all": ("states", "--netns", "all"),
    }
    print(f"| command, {asked.namespaces:4} namespaces          | wall, s  | CPU, ms  | each, ms |")
    print("| ---------------------------------- | -------: | -------: | -------: |")
    alone = {}
    for label, words in commands.items():
        alone[label] = statistics.median(take((*COMMAND, *words))[1] for _ in range(asked.rounds))
    held = fill(asked.namespaces)
    for label, words in commands.items():
        _, cpu = measure(label, (*COMMAND, *words), asked.rounds)
        print(f" {(cpu - alone[label]) / asked.namespaces * 1000:8.1f} |")
    for each in held:
        each.close()


if __name__ == "__main__":
    main()
