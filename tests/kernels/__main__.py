"""Run the checks on Debian's kernels: `python -m tests.kernels [--all] [--seconds N] [--page] [KERNEL ...]`.

Without --all: the matrices and a chosen hundred live tests, the three kernels side by side. With it, every
live test, `lab prove`, and the commands that people use first. A test may be skipped on these machines for
one of two reasons only: the kernel lacks a thing, or (with --all) the machine lacks a program. What fails
beside others is asked once more, alone: an emulated machine is slow.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.kernels.machines import SUITES, MachineError, Outcome, boot, prepare

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "kernels.md"
CHOSEN_SECONDS = 480
PREPARING_SHARE = 0.6
"""How much of the time may go into downloads."""
PYTEST = "python3 -u -m pytest -v -o cache_dir=/tmp/cache --tb=short -rfEs --override-ini=addopts="
MATRICES_PASSED = "=== the matrices passed"
FIRST = f"""\
echo "KNOWS $(python3 -m tests.kernels.knowledge)" || exit 1
timeout 300 python3 -m tcpdoctor check --fail-on never || exit 1
timeout 300 python3 -m tcpdoctor explain --port 8080 || exit 1
timeout 300 python3 -m tcpdoctor explain --port 8080 --udp || exit 1
timeout 300 python3 -m tcpdoctor explain --connect 127.0.0.1:8080 || exit 1
passes() {{
    {PYTEST} "$@" && return
    echo "=== once more, alone, what failed"
    {PYTEST} "$@" -n 0 --last-failed --last-failed-no-failures=none
}}
"""
CHOSEN = f"""\
{FIRST}
export TCPDOCTOR_BIND_CASES=67
passes -n 2 --dist worksteal $(cat tests/kernels/matrices) || exit 1
echo "{MATRICES_PASSED}"
passes -n 2 --dist worksteal $(cat tests/kernels/chosen)
"""
ALL = f"""\
{FIRST}
worst=0
passes -n 3 --dist worksteal -m 'not peers' tests/live || worst=$?
timeout 1200 python3 -m tcpdoctor lab prove || worst=$?
exit $worst
"""
MAY_BE_SKIPPED = re.compile(
    r"this kernel lacks |.*not installed|no (?:module|command|program) |needs the program"
)


def main() -> int:
    """Run what was asked for; 0 where everything passed on every kernel, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.kernels", description=__doc__)
    parser.add_argument("--all", action="store_true", help="every live test, and lab prove")
    parser.add_argument(
        "--seconds", type=float, help=f"bound in all (default {CHOSEN_SECONDS}; 7200 with --all)"
    )
    parser.add_argument("--page", action="store_true", help=f"write {PAGE.name} from what the kernels answer")
    parser.add_argument(
        "--where-possible",
        action="store_true",
        help="0 with one line, too, where no machine can be made, or one does not end in its time",
    )
    parser.add_argument("--command", help="run this shell command instead")
    parser.add_argument("kernel", nargs="*", choices=[*SUITES, []], help="default: all three")
    options = parser.parse_args()
    kernels = tuple(options.kernel) or tuple(SUITES)
    seconds = options.seconds or (7_200 if options.all else CHOSEN_SECONDS)
    until = time.monotonic() + seconds
    command = options.command or (ALL if options.all else CHOSEN)
    try:
        prepare(until - (1 - PREPARING_SHARE) * seconds)
        with ThreadPoolExecutor(len(kernels)) as pool:
            left = max(60.0, until - time.monotonic())
            outcomes = list(pool.map(lambda kernel: boot(kernel, command, left), kernels))
    except (MachineError, OSError, subprocess.SubprocessError, StopIteration) as error:
        sys.stderr.write(f"kernels: {'not run' if options.where_possible else 'no machine'}: {error}\n")
        return 0 if options.where_possible else 1
    for outcome in outcomes:
        if outcome.code is None and options.where_possible:
            sys.stdout.write(f"kernels: Linux {outcome.kernel}: not done in {outcome.seconds:.0f} s\n")
        else:
            sys.stdout.write(report(outcome, whole=bool(options.command)))
    if options.page:
        PAGE.write_text(page(outcomes))
    ended = [one for one in outcomes if one.code is not None or not options.where_possible]
    return 0 if all(map(is_good, ended)) else 1


def is_good(outcome: Outcome) -> bool:
    """Whether its command ended well and nothing was skipped for another reason than allowed.

    A slow machine may not get through the chosen tests in its time: then the matrices have to have passed,
    and every other test that was run.
    """
    if bad_skips(outcome):
        return False
    failed = re.search(r"^(?:\[gw\d+\].*)?(?:FAILED|ERROR) ", outcome.output, re.MULTILINE)
    return outcome.code == 0 or (
        outcome.code is None and MATRICES_PASSED in outcome.output and failed is None
    )


def bad_skips(outcome: Outcome) -> list[str]:
    """The lines of pytest's summary that skip a test for a reason of ours and not of the kernel's."""
    lines = re.findall(r"^SKIPPED \[\d+\] \S+ (.*)$", outcome.output, re.MULTILINE)
    return [line for line in lines if not MAY_BE_SKIPPED.match(line)]


def report(outcome: Outcome, *, whole: bool) -> str:
    """What one kernel gave: all that it printed where something is wrong, else what counts."""
    ended = "did not end in time" if outcome.code is None else f"exit {outcome.code}"
    lines = [f"=== Linux {outcome.kernel}: {ended}, {outcome.seconds:.0f} s"]
    if whole or not is_good(outcome):
        lines.append(outcome.output)
        lines += [f"skipped for no reason of the kernel's: {line}" for line in bad_skips(outcome)]
    else:
        passed = len(re.findall(r"^(?:\[gw\d+\].*)PASSED ", outcome.output, re.MULTILINE))
        lines.append(f"{passed} tests passed")
        lines += re.findall(r"^SKIPPED .*$|^.*\d+ passed.*$", outcome.output, re.MULTILINE)
    return "\n".join(lines) + "\n"


def page(outcomes: list[Outcome]) -> str:
    """The page that says what each kernel lets be known, as the kernels answered."""
    told = {outcome.kernel: json.loads(found[1]) for outcome in outcomes if (found := knows(outcome))}
    names = sorted(told, key=lambda kernel: [int(part) for part in kernel.split(".")])
    lines = [
        "# What each kernel lets be known",
        "",
        "Written by `python -m tests.kernels --page`: each line was asked of the kernel itself, in a private",
        "network namespace. tcpdoctor tests for the thing and never for a version: a distribution's kernel",
        "may have more. Where a thing is absent, the answers that hang on it say so and are not guessed.",
        "",
        "| what | " + " | ".join(f"Linux {name}" for name in names) + " |",
        "| --- |" + " --- |" * len(names),
    ]
    for text in told[names[0]]["answers"]:
        marks = ["yes" if told[name]["answers"][text] else "no" for name in names]
        lines.append(f"| {text} | " + " | ".join(marks) + " |")
    lines += ["", "Asked of: " + ", ".join(told[name]["kernel"] for name in names) + " (Debian).", ""]
    return "\n".join(lines)


def knows(outcome: Outcome) -> re.Match[str] | None:
    """The line of tests.kernels.knowledge in what a machine printed."""
    return re.search(r"^KNOWS (\{.*\})$", outcome.output, re.MULTILINE)


if __name__ == "__main__":
    sys.exit(main())
