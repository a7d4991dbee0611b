"""Measure what a look at very many sockets costs, beside other programs and beside the kernel itself.

    python bench/run.py --sockets 100000 --rounds 7

Makes the sockets in a private network namespace and runs every command there `rounds` times, taking
turns, before and after. Prints medians of the CPU time (user and system, of the command and its
children) in ms, the ratio to the floor, the same without what the command costs in an empty
namespace, and the highest resident set. See bench/README.md.
"""

import argparse
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tcpdoctor.lab.namespace import NamespaceRefusedError, enter_private_namespace

sys.path.insert(0, str(Path(__file__).parent))  # so that it runs from any directory
from sockets import KINDS, crowd

HERE = Path(__file__).parent
FLOOR, START = "floor (C)", "python -c pass"
_PORTS = "(32768, 60999)"
_PLAIN_IMPORT = "from tcpdoctor.kernel.sockets import "


class Cost(NamedTuple):
    """What one run of a command cost."""

    cpu: float
    """Seconds, user and system."""
    peak: int
    """Highest resident set in KiB."""


def commands(floor: Path | None) -> dict[str, list[str]]:
    """The commands to compare, by the name they are printed under."""
    python = sys.executable
    found = {FLOOR: [str(floor)]} if floor else {}
    found |= {
        START: [python, "-c", "pass"],
        "count_states()": [python, "-c", _PLAIN_IMPORT + "count_states; count_states()"],
        "take_census()": [
            python,
            "-c",
            _PLAIN_IMPORT + "take_census, read_listeners as r;"
            f"take_census({_PORTS}, [row.local.port for row in r()], established=True)",
        ],
        "tcpdoctor states": [python, "-m", "tcpdoctor", "states"],
        "tcpdoctor check": [python, "-m", "tcpdoctor", "check", "--window", "0", "--format", "json"],
    }
    if shutil.which("ss"):
        found["ss -tan"] = ["ss", "-tan"]
    found["cat /proc/net/tcp"] = ["cat", "/proc/net/tcp"]
    return found


def measure(command: list[str]) -> Cost:
    """Run it with its output thrown away, and return what it cost.

    Raises:
        RuntimeError: It ended with a code that means failure (3 and above, or a signal).
    """
    pid = os.posix_spawn(
        shutil.which(command[0]) or command[0],
        command,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if not 0 <= code <= 2:  # check exits 1 and 2 for what it finds
        raise RuntimeError(f"{' '.join(command)} ended with {code}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)


def compare(todo: Mapping[str, list[str]], rounds: int) -> dict[str, list[Cost]]:
    """Run all commands `rounds` times in turn, so that a slow minute hits each alike."""
    costs: dict[str, list[Cost]] = {name: [] for name in todo}
    for _ in range(rounds):
        for name, command in todo.items():
            costs[name].append(measure(command))
    return costs


def show(empty: Mapping[str, Sequence[Cost]], full: Mapping[str, Sequence[Cost]]) -> None:
    """Print the table."""
    before = {name: statistics.median(cost.cpu for cost in each) for name, each in empty.items()}
    after = {name: statistics.median(cost.cpu for cost in each) for name, each in full.items()}
    floor = after.get(FLOOR)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{'':20}{'empty':>9}{'full':>9}{'/ floor':>9}{'beyond start':>14}{'peak MiB':>10}")
    for name in full:
        ratios = f"{'':23}"
        if floor:
            ratios = f"{after[name] / floor:9.2f}{(after[name] - before[name]) / floor:14.2f}"
        peak = max(cost.peak for cost in full[name])
        shown = f"{peak / 1024:.0f}" if peak > own else f"<={own / 1024:.0f}"
        print(f"{name:20}{1000 * before[name]:9.1f}{1000 * after[name]:9.1f}{ratios}{shown:>10}")


def build_floor(folder: Path) -> Path | None:
    """Compile the C program, or None where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    subprocess.run([compiler, "-O2", "-o", folder / "floor", HERE / "floor.c"], check=True)
    return folder / "floor"


def parse_mix(text: str) -> dict[str, float]:
    """``established=6,time_wait=3`` as shares."""
    shares = {}
    for part in text.split(","):
        kind, _, share = part.partition("=")
        if kind not in KINDS:
            raise argparse.ArgumentTypeError(f"unknown kind {kind!r}; known are {', '.join(KINDS)}")
        shares[kind] = float(share or 1)
    return shares


def main() -> int:
    """Run the benchmark; 0 if every command ran."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sockets", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--mix", type=parse_mix, default="established", help="established=6,time_wait=3,close_wait=1"
    )
    parser.add_argument("--processes", type=int, default=1, help="over which CLOSE_WAIT is spread")
    parser.add_argument("--only", nargs="*", help="names of the commands to run, as printed")
    options = parser.parse_args()
    try:
        enter_private_namespace()
    except NamespaceRefusedError as refusal:
        print(f"no private network namespace: {refusal}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        todo = commands(build_floor(Path(folder)))
        if options.only:
            todo = {name: command for name, command in todo.items() if name in options.only}
        # bytecode is kept, as it is for an installed program, whatever this shell prefers
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        compare(todo, 1)
        empty = compare(todo, options.rounds)
        with crowd(options.sockets, options.mix, options.processes):
            full = compare(todo, options.rounds)
    cpus = len(os.sched_getaffinity(0))
    print(
        f"{options.sockets} sockets, {options.rounds} rounds, {cpus} CPUs, Linux {platform.release()}, "
        f"Python {platform.python_version()}"
    )
    show(empty, full)
    return 0


if __name__ == "__main__":
    sys.exit(main())
