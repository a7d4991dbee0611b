"""Fuzz for long: `python -m tests.fuzz [--inputs N] [TARGET ...]`; what breaks is kept in tests/fuzz/corpus.

Where atheris is installed (`pip install atheris`) it leads the inputs by what code they reach
(`--atheris TARGET`); without it they are made as in the tests, only more of them.
"""

import argparse
import hashlib
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

from tests.fuzz.mutate import inputs
from tests.fuzz.targets import TARGETS
from tests.fuzz.test_fuzz import CORPUS, try_one


def keep(name: str, data: bytes) -> str:
    """Keep an input that broke something, where the tests will find it."""
    folder = CORPUS / name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()[:12]
    path.write_bytes(data)
    return str(path)


def run(name: str, number: int) -> int:
    """Give a target so many inputs; return how many broke something."""
    begun, broken = time.monotonic(), 0
    for data in inputs(TARGETS[name].seeds, number):
        problem = try_one(name, data)
        if problem is not None:
            broken += 1
            if broken <= 5:
                sys.stdout.write(f"{name}: {problem}: {keep(name, data)}\n")
    sys.stdout.write(f"{name}: {number} inputs, {broken} faults, {time.monotonic() - begun:.0f} s\n")
    sys.stdout.flush()
    return broken


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
    """Fuzz what was asked for; 1 where something broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of each target")
    parser.add_argument("--atheris", action="store_true", help="one target, led by coverage")
    parser.add_argument("target", nargs="*", help="default: all")
    options = parser.parse_args()
    names = options.target or list(TARGETS)
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        parser.error(f"no target {unknown[0]!r}; there are: {', '.join(TARGETS)}")
    if options.atheris:
        lead(names[0], options.inputs)
    with ProcessPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        return 1 if sum(pool.map(run, names, repeat(options.inputs))) else 0


if __name__ == "__main__":
    sys.exit(main())
