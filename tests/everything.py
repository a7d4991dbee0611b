"""All there is to run: `python -m tests.everything [STEP ...]`; docs/tested.md keeps how each step ended.

It takes hours. A step that is named runs alone, and only its line of the page changes.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = CHECKOUT / "docs" / "tested.md"
PYTHON = str(CHECKOUT / ".venv" / "bin" / "python")
ENDS_ITSELF = 60
"""Seconds before the end of its time that a step is told of."""
NOT_RUN = "no result is kept"
PASSED = r"^=* ?(\d+ (?:passed|failed).*?) in .*$"
"""The last line of pytest."""


class Step(NamedTuple):
    """Something to run."""

    what: str
    """For the page."""
    command: tuple[str, ...]
    told: str
    """A regular expression: the lines of its output whose first group the page repeats."""
    hours: float = 1.0
    """After which it is ended; a command that ends by itself in time is given them as {seconds}."""


STEPS = {
    "lint": Step("Style, types, rules, man pages", (".ci/lint",), r"^(Success: .*)$"),
    "tests": Step("The README's test command", (PYTHON, "-m", "pytest", "-q"), PASSED),
    "peers": Step(
        "Real peers, and tests that wait", (PYTHON, "-m", "pytest", "-q", "-m", "peers or slow"), PASSED
    ),
    "pythons": Step(
        "The oldest and the newest other Python",
        (".ci/pythons", "--all"),
        r"^(?:pythons: )?(Python 3\S+|.*not run.*|.*not done.*|\d+ passed.*?)(?: in .*)?$",
    ),
    "kernels": Step("Debian's kernels: matrices, chosen live tests", (".ci/kernels",), r"^=== (Linux .*)$"),
    "all-kernels": Step(
        "Debian's kernels: every live test, `lab prove`",
        (".ci/kernels", "--all"),
        r"^=== (Linux .*)$",
        3.0,
    ),
    "fuzz": Step(
        "Bytes of others: a million inputs a target",
        (PYTHON, "-m", "tests.fuzz", "--seconds", "{seconds}"),
        r"^(.*: \d+(?: of \d+)? inputs, \d+ faults.*), \d+ s$",
        12.0,
    ),
    "churn": Step(
        "A hundred looks of each command while everything moves",
        (PYTHON, "-m", "tests.churn"),
        r"^(\w+: \d+ runs, .*), \d+ s$",
    ),
    "runs": Step(
        "Ten thousand runs leave nothing behind", (PYTHON, "-m", "tests.many_runs"), r"^(\d+ runs.*)$", 2.0
    ),
    "moments": Step(
        "SIGINT, SIGTERM and SIGKILL at two hundred moments of each command",
        (PYTHON, "-m", "tests.moments"),
        r"^(\w+: \d+ moments, .*)$",
        2.0,
    ),
    "recorded": Step(
        "Every story of the lab: what each program prints of it says nothing that a live look does not",
        ("unshare", "-n", PYTHON, "-m", "tests.live.test_recorded_verdicts"),
        r"^(\d+ stories, .*)$",
        6.0,
    ),
    "release": Step(
        "Packages: twice the same to the byte, `twine check`, lintian, installed and purged",
        (PYTHON, "-m", "pytest", "-q", "-m", "peers", "tests/peers/test_packages.py"),
        PASSED,
    ),
}


class Result(NamedTuple):
    """How a step ended."""

    what: str
    ended: str
    told: str
    taken: str
    when: str


def main() -> int:
    """Run what was asked for; 0 where all of it passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.everything", description=__doc__)
    parser.add_argument("--hours", type=float, help="a bound for each step in place of its own")
    parser.add_argument("step", nargs="*", choices=[*STEPS, []], help="default: all of them")
    options = parser.parse_args()
    ends = []
    for step in map(STEPS.__getitem__, options.step or STEPS):
        end = run(step._replace(hours=options.hours or step.hours))
        ends.append(end.ended)
        # Another step may have ended meanwhile, of another run.
        PAGE.write_text(page({**read_page(), step.what: end}), encoding="ascii")
    return 0 if set(ends) == {"passed"} else 1


def run(step: Step) -> Result:
    """Run one step, its output shown as it comes."""
    seconds = int(step.hours * 3600)
    command = [word.format(seconds=seconds - ENDS_ITSELF) for word in step.command]
    sys.stdout.write(f"=== {step.what}: {' '.join(command)}\n")
    begun, lines = time.monotonic(), []
    limited = ("timeout", "--kill-after=60", str(seconds), *command)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    with subprocess.Popen(limited, cwd=CHECKOUT, **pipes) as process:
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            lines.append(line)
    told = re.findall(step.told, "".join(lines), re.MULTILINE)
    ended = {0: "passed", 124: "not done in time"}.get(process.returncode, f"failed ({process.returncode})")
    taken = f"{(time.monotonic() - begun) / 60:.0f} min"
    return Result(step.what, ended, "; ".join(told).replace("|", "/"), taken, f"{_today()} {_commit()}")


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def _commit() -> str:
    """The commit that is checked out, and whether anything but the page has been changed since."""
    told = ("git", "describe", "--always", "--abbrev=10", "--exclude=*")
    changed = (
        "git",
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ".",
        f":!{PAGE.relative_to(CHECKOUT)}",
    )
    commit, files = (
        subprocess.run(command, capture_output=True, text=True, check=True, cwd=CHECKOUT).stdout.strip()
        for command in (told, changed)
    )
    return f"{commit}-dirty" if files else commit


def read_page() -> dict[str, Result]:
    """The results that the page has, by step; none where there is no page."""
    if not PAGE.exists():
        return {}
    rows = re.findall(r"^\| (.*) \| (.*) \| (.*) \| (.*) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    known = {step.what for step in STEPS.values()}
    return {row[0]: Result(*row) for row in rows if row[0] in known}


def page(results: dict[str, Result]) -> str:
    """The page, its lines in the order of the steps."""
    lines = [
        "# What was run last, and how it ended",
        "",
        "Written by `make everything` (`python -m tests.everything`), a line a step, with the day and the",
        "commit that it ran on; a row with two commits was put together by hand from runs between them.",
        "What CI runs on each change is in `.ci/run`.",
        "",
        "| what | ended | it said | took | when |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows = [results.get(step.what, Result(step.what, NOT_RUN, "", "", "")) for step in STEPS.values()]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
