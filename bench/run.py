"""Measure what a look at very many sockets costs, beside other programs and beside the kernel itself.

    python bench/run.py --sockets 10000 100000 --results bench/results/ordinary

Makes the sockets in a private network namespace and runs every command there `rounds` times, taking
turns, before and after. Prints the least CPU time (user and system, of the command and its
children) in ms, the ratio to the floor, the same without what the command costs in an empty
namespace over the floor and over `ss -tan`, and the highest resident set. See bench/README.md.
"""

import argparse
import contextlib
import html
import math
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tcpdoctor.lab.namespace import NamespaceRefusedError, enter_private_namespace

sys.path.insert(0, str(Path(__file__).parent))  # so that it runs from any directory
from sockets import FIRST_PORT, KINDS, crowd

HERE = Path(__file__).parent
FLOOR, START, SS = "floor (C)", "python -c pass", "ss -tan"
_SLOW = ("psutil", "lsof", "pyroute2", "ss -tanp")
"""They are run once, and not at all where there are more sockets than this, as `QUESTIONS` are not:"""
_UP_TO = 100_000
_WORKER = "WORKER"
"""Stands for the pid of the first worker; before there is one, for that of the benchmark."""
_AT = f"127.0.0.1:{FIRST_PORT}"
QUESTIONS = {
    "states --by peer": "states --by peer",
    "states --by process": "states --by process",
    "explain --connect": f"explain --connect {_AT}",
    "explain --port": f"explain --port {FIRST_PORT}",
    "explain --pid": f"explain --pid {_WORKER}",
    "sockets": "sockets",
    "sockets json": "sockets --format json",
}
"""All are about the first worker: its listener's port, its sockets."""
_LIMIT, _LONGER = 120, 600
"""Seconds that one of them may take, and any other on a machine that is busy."""
_PORTS = "(32768, 60999)"
_PYROUTE2 = """
from pyroute2 import DiagSocket
import socket
with DiagSocket() as diag:
    diag.bind()
    for family in (socket.AF_INET, socket.AF_INET6):
        diag.get_sock_stats(family=family)
"""
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
    found |= {name: [python, "-m", "tcpdoctor", *asked.split()] for name, asked in QUESTIONS.items()}
    found["cat /proc/net/tcp"] = ["cat", "/proc/net/tcp"]
    if shutil.which("ss"):
        found |= {SS: ["ss", "-tan"], "ss -tanp": ["ss", "-tanp"]}
    if shutil.which("lsof"):
        found["lsof"] = ["lsof", "-nP", "-iTCP"]
    if find_spec("psutil"):
        found["psutil"] = [python, "-c", "import psutil; psutil.net_connections('tcp')"]
    found["pyroute2"] = [python, "-c", _PYROUTE2]
    return found


def measure(command: list[str], limit: int) -> Cost:
    """Run it with its output thrown away, and return what it cost.

    Raises:
        RuntimeError: It ended with a code that means failure (3 and above, or a signal).
    """
    command = ["timeout", str(limit), *command]
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


def compare(todo: Mapping[str, list[str]], rounds: int, worker: int) -> dict[str, list[Cost]]:
    """Run all commands `rounds` times in turn, so that a slow minute hits each alike; the slow ones once."""
    todo = {name: [str(worker) if word == _WORKER else word for word in todo[name]] for name in todo}
    costs: dict[str, list[Cost]] = {name: [] for name in todo}
    for turn in range(rounds):
        for name, command in todo.items():
            if not turn or name not in _SLOW:
                slow = name in _SLOW
                with contextlib.suppress(RuntimeError) if slow else contextlib.nullcontext():
                    costs[name].append(measure(command, _LIMIT if slow else _LONGER))
    return {name: each for name, each in costs.items() if each}


class Row(NamedTuple):
    """One command's line of the table; times in ms of CPU."""

    name: str
    empty: float
    full: float
    floor: float | None
    beyond: float | None
    """Beyond start-up, over the floor."""
    over_ss: float | None
    """Beyond start-up, over `ss -tan` beyond its own."""
    peak: str


def rows_of(empty: Mapping[str, Sequence[Cost]], full: Mapping[str, Sequence[Cost]]) -> list[Row]:
    """The table's lines."""
    before = {name: 1000 * min(cost.cpu for cost in each) for name, each in empty.items()}
    after = {name: 1000 * min(cost.cpu for cost in each) for name, each in full.items()}
    floor, ss = after.get(FLOOR), after.get(SS, 0) - before.get(SS, 0)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = []
    for name in full:
        beyond = after[name] - before[name]
        peak = max(cost.peak for cost in full[name])
        rows.append(
            Row(
                name,
                before[name],
                after[name],
                after[name] / floor if floor else None,
                beyond / floor if floor else None,
                beyond / ss if ss > 0 else None,
                f"{peak / 1024:.0f}" if peak > own else f"<={own / 1024:.0f}",
            )
        )
    return rows


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    print(f"{'':20}{'empty':>9}{'full':>9}{'/ floor':>9}{'beyond start':>14}{'/ ss':>7}{'peak MiB':>10}")
    for name, empty, full, floor, beyond, over_ss, peak in rows:
        ratios = f"{_ratio(floor):>9}{_ratio(beyond):>14}{_ratio(over_ss):>7}"
        print(f"{name:20}{empty:9.1f}{full:9.1f}{ratios}{peak:>10}")


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def as_markdown(heading: str, rows: Sequence[Row]) -> str:
    """The same as a table of Markdown."""
    lines = [
        heading,
        "",
        "| | empty | full | / floor | beyond start / floor | beyond start / ss | peak MiB |",
    ]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for name, empty, full, *ratios, peak in rows:
        cells = (name, f"{empty:.1f}", f"{full:.1f}", *map(_ratio, ratios), peak)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


_COLOURS = [
    "#1b6ca8",
    "#c0392b",
    "#27ae60",
    "#8e44ad",
    "#d68910",
    "#16a085",
    "#7f8c8d",
    "#2c3e50",
    "#a04000",
    "#5d6d7e",
]


def as_plot(tables: Mapping[int, Sequence[Row]]) -> str:
    """CPU time over the number of sockets, both logarithmic, as SVG: a straight line grows evenly."""
    series: dict[str, list[tuple[float, float]]] = {}
    for sockets, rows in tables.items():
        for row in rows:
            series.setdefault(row.name, []).append((math.log10(sockets), math.log10(max(row.full, 0.1))))
    every = [point for points in series.values() for point in points]
    left, right = _span(x for x, _ in every)
    low, high = _span(y for _, y in every)

    def place(x: float, y: float) -> tuple[float, float]:
        return 60 + 440 * (x - left) / (right - left), 380 - 350 * (y - low) / (high - low)

    parts = []
    for power in range(low, high + 1):
        y = round(place(left, power)[1])
        parts.append(f'<path d="M60 {y}H500" stroke="#ddd"/>')
        parts.append(f'<text x="54" y="{y + 4}" text-anchor="end">{10.0**power:g} ms</text>')
    for power in range(left, right + 1):
        x = round(place(power, low)[0])
        parts.append(f'<path d="M{x} 30V380" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="396" text-anchor="middle">{10**power:,}</text>')
    parts.append('<text x="280" y="414" text-anchor="middle">sockets</text>')
    for number, (name, points) in enumerate(series.items()):
        colour, placed = _COLOURS[number % len(_COLOURS)], [place(*point) for point in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
        parts.append(f'<text x="512" y="{44 + 17 * number}" fill="{colour}">{html.escape(name)}</text>')
    size = 'width="720" height="420" font-family="sans-serif" font-size="11"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', *parts, "</svg>"]) + "\n"


def _span(logarithms: Iterable[float]) -> tuple[int, int]:
    """The whole powers of ten around some values."""
    known = list(logarithms)
    return math.floor(min(known)), math.ceil(max(known) + 0.01)


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
    parser.add_argument("--sockets", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--mix", type=parse_mix, default="established", help="established=6,time_wait=3,close_wait=1"
    )
    parser.add_argument("--processes", type=int, default=1, help="over which CLOSE_WAIT is spread")
    parser.add_argument(
        "--age", type=float, default=0, help="seconds that the sockets wait: 65 make a leak old"
    )
    parser.add_argument("--only", nargs="*", help="names of the commands to run, as printed")
    parser.add_argument("--results", type=Path, help="write NAME.md and NAME.svg as well")
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
        compare(todo, 1, os.getpid())
        empty = compare(todo, options.rounds, os.getpid())
        tables = {number: _table(todo, empty, number, options) for number in options.sockets}
    if options.results:
        options.results.parent.mkdir(parents=True, exist_ok=True)
        texts = [as_markdown(_heading(number, options), rows) for number, rows in tables.items()]
        options.results.with_suffix(".md").write_text("\n".join(texts), encoding="utf-8")
        options.results.with_suffix(".svg").write_text(as_plot(tables), encoding="utf-8")
    return 0


def _table(
    todo: Mapping[str, list[str]], empty: Mapping[str, list[Cost]], number: int, options: argparse.Namespace
) -> list[Row]:
    chosen = {
        name: command
        for name, command in todo.items()
        if name in empty and (number <= _UP_TO or not (name in _SLOW or name in QUESTIONS))
    }
    with crowd(number, options.mix, options.processes) as workers:
        time.sleep(options.age)
        full = compare(chosen, options.rounds, workers[0])
    rows = rows_of(empty, full)
    print(_heading(number, options))
    show(rows)
    return rows


def _heading(number: int, options: argparse.Namespace) -> str:
    cpus = len(os.sched_getaffinity(0))
    mix = ", ".join(f"{share:g} {kind}" for kind, share in options.mix.items())
    return (
        f"{number} sockets ({mix}), {options.rounds} rounds, {cpus} CPUs, Linux {platform.release()}, "
        f"Python {platform.python_version()}"
    )


if __name__ == "__main__":
    sys.exit(main())
