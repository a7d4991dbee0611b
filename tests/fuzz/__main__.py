"""Fuzz for long: `python -m tests.fuzz [--inputs N] [TARGET ...]`; what breaks is kept in tests/fuzz/corpus.

A run that was cut goes on where it was: how far each target came is kept in build/fuzzed, for as long as its
seeds and the changes made to them stay what they are. The targets that are done soonest come first.

Where atheris is installed (`pip install atheris`) it leads the inputs by what code they reach
(`--atheris TARGET`); without it they are made as in the tests, only more of them.
"""

import argparse
import hashlib
import inspect
import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import islice, repeat
from pathlib import Path
from typing import NamedTuple

from tests.fuzz import mutate
from tests.fuzz.mutate import inputs
from tests.fuzz.targets import TARGETS
from tests.fuzz.test_fuzz import CORPUS, try_one

FAR = Path(__file__).parents[2] / "build" / "fuzzed"
SAVED_EACH = 2_000
PACED = 100
"""Inputs by which it is told how long a target takes."""
NOT_DONE = 124
"""The exit code where the time was over, as that of timeout(1)."""


class Progress(NamedTuple):
    """How far a target came."""

    recipe: str
    """A sum of its seeds and of how they are changed."""
    commit: str
    """On which it was begun."""
    inputs: int = 0
    faults: int = 0
    seconds: float = 0.0


def recipe(name: str) -> str:
    """What makes the inputs of a target, as a sum."""
    told = b"\0".join((inspect.getsource(mutate).encode(), *TARGETS[name].seeds))
    return hashlib.sha256(told).hexdigest()[:12]


def commit() -> str:
    """The commit that is checked out."""
    told = ("git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*")
    return subprocess.run(
        told, capture_output=True, text=True, check=False, cwd=FAR.parents[1]
    ).stdout.strip()


def read_progress(name: str) -> Progress:
    """How far a target came before; not at all where its inputs were others."""
    try:
        found = Progress(**json.loads((FAR / name.replace(" ", "-")).read_bytes()))
    except FileNotFoundError:
        found = Progress("", "")
    return found if found.recipe == recipe(name) else Progress(recipe(name), commit())


def save(name: str, progress: Progress) -> None:
    """Keep how far a target came."""
    FAR.mkdir(parents=True, exist_ok=True)
    made = FAR / f".{name.replace(' ', '-')}"
    made.write_text(json.dumps(progress._asdict()))
    made.replace(FAR / name.replace(" ", "-"))


def keep(name: str, data: bytes) -> str:
    """Keep an input that broke something, where the tests will find it."""
    folder = CORPUS / name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()[:12]
    path.write_bytes(data)
    return str(path)


def run(name: str, number: int, until: float) -> Progress:
    """Give a target so many inputs, or as many as the time allows; what broke something is counted."""
    progress = read_progress(name)
    while progress.inputs < number and time.monotonic() < until:
        begun = time.monotonic()
        part = min(SAVED_EACH, number - progress.inputs)
        faults = try_part(name, part, progress.inputs)
        progress = progress._replace(
            inputs=progress.inputs + part,
            faults=progress.faults + faults,
            seconds=progress.seconds + time.monotonic() - begun,
        )
        save(name, progress)
    return progress


def try_part(name: str, number: int, start: int) -> int:
    """Give a target some of its inputs; say what broke something, and return how many did."""
    broken = 0
    for data in inputs(TARGETS[name].seeds, number, start):
        problem = try_one(name, data)
        if problem is not None:
            broken += 1
            if broken <= 5:
                sys.stdout.write(f"{name}: {problem}: {keep(name, data)}\n")
    sys.stdout.flush()
    return broken


def tell(name: str, progress: Progress, number: int) -> str:
    """A line of how far a target came."""
    done = f"{progress.inputs}" if progress.inputs >= number else f"{progress.inputs} of {number}"
    begun = "" if progress.commit == commit() else f" (begun on {progress.commit})"
    return f"{name}: {done} inputs, {progress.faults} faults{begun}, {progress.seconds:.0f} s\n"


def seconds_left(name: str, number: int) -> float:
    """About how long a target takes from where it is."""
    begun = time.thread_time()
    for data in islice(inputs(TARGETS[name].seeds, PACED), PACED):
        try_one(name, data)
    return (time.thread_time() - begun) / PACED * max(0, number - read_progress(name).inputs)


def lead(name: str, number: int) -> None:
    """Let atheris choose the inputs; it ends the process at the first fault."""
    import atheris

    def one(data: bytes) -> None:
        problem = try_one(name, data)
        if problem is not None:
            raise AssertionError(f"{problem}: {keep(name, data)}")

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], f"-runs={number}", "-max_len=65536"], one)
    atheris.Fuzz()


def main() -> int:
    """Fuzz what was asked for; 1 where something broke, 124 where the time was over before."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of each target")
    parser.add_argument("--seconds", type=float, default=math.inf, help="end after so long; go on next time")
    parser.add_argument("--anew", action="store_true", help="do not go on where the last run was cut")
    parser.add_argument("--atheris", action="store_true", help="one target, led by coverage")
    parser.add_argument("target", nargs="*", help="default: all")
    options = parser.parse_args()
    names = options.target or list(TARGETS)
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        parser.error(f"no target {unknown[0]!r}; there are: {', '.join(TARGETS)}")
    if options.atheris:
        lead(names[0], options.inputs)
    if options.anew:
        for name in names:
            save(name, Progress(recipe(name), commit()))
    until = time.monotonic() + options.seconds
    names.sort(key=lambda name: seconds_left(name, options.inputs))
    ends = []
    with ProcessPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for name, end in zip(names, pool.map(run, names, repeat(options.inputs), repeat(until)), strict=True):
            sys.stdout.write(tell(name, end, options.inputs))
            sys.stdout.flush()
            ends.append(end)
    if any(end.faults for end in ends):
        return 1
    return NOT_DONE if any(end.inputs < options.inputs for end in ends) else 0


if __name__ == "__main__":
    sys.exit(main())
