"""Run the checks on Debian's kernels: `python -m tests.kernels [--all] [--seconds N] [--page] [KERNEL ...]`.

Without --all: the matrices and a chosen hundred live tests, the three kernels side by side. With it, every
live test, `lab prove`, and the commands that people use first. A test may be skipped on these machines for
one of two reasons only: the kernel lacks a thing, or (with --all) the machine lacks a program. When the time
is over the machines are ended, but not before the matrices are done: what passed by then is counted.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.kernels.machines import (
    ARM,
    SUITES,
    MachineError,
    Outcome,
    Patience,
    boot,
    make_run_disk,
    prepare,
)
from tests.kernels.page import PAGE, differences, page, told_by_kernel
from tests.kernels.verdict import MATRICES_PASSED, ONCE_MORE, is_good, report

CHOSEN_SECONDS, ALL_SECONDS = 480, 7_200
PREPARING_SHARE = 0.6
"""How much of the time may go into downloads."""
MATRICES_MAY = 1.5
"""How much of the time that is left the matrices may take before their machine is ended all the same."""
PYTEST = (
    "python3 -u -m pytest -v -p tests.kernels.at_once -o cache_dir=/tmp/cache --tb=short -rfEs"
    " --override-ini=addopts="
)
KNOWS = 'echo "KNOWS $(python3 -m tests.kernels.knowledge)" || exit 1'
FIRST = f"""\
timeout 300 python3 -m tcpdoctor check --fail-on never || exit 1
timeout 300 python3 -m tcpdoctor explain --port 8080 || exit 1
timeout 300 python3 -m tcpdoctor explain --port 8080 --udp || exit 1
timeout 300 python3 -m tcpdoctor explain --connect 127.0.0.1:8080 || exit 1
passes() {{
    {PYTEST} "$@" && return
    echo "{ONCE_MORE}"
    {PYTEST} "$@" -n 0 --last-failed --last-failed-no-failures=none
}}
"""
MATRICES = f"""\
{FIRST}
export TCPDOCTOR_BIND_CASES=67
passes $(cat tests/kernels/matrices) || exit 1
echo "{MATRICES_PASSED}"
"""
CHOSEN = f"""\
{KNOWS}
{MATRICES}
passes $(cat tests/kernels/chosen)
"""
ALL = f"""\
{KNOWS}
{FIRST}
worst=0
passes $(cat tests/kernels/matrices) && echo "{MATRICES_PASSED}" || worst=$?
passes -n 3 --dist worksteal -m 'not peers' tests/live || worst=$?
timeout 1200 python3 -m tcpdoctor lab prove || worst=$?
exit $worst
"""


def main() -> int:
    """Run what was asked for; 0 where everything passed on every kernel, else 1."""
    options = read_options()
    kernels = tuple(options.kernel) or (*SUITES, *([ARM] if options.all else ()))
    seconds = options.seconds or (ALL_SECONDS if options.all else CHOSEN_SECONDS)
    until = time.monotonic() + seconds
    try:
        prepare(kernels, until - (1 - PREPARING_SHARE) * seconds)
        outcomes = run(kernels, options.command or (ALL if options.all else CHOSEN), until)
    except (MachineError, OSError, subprocess.SubprocessError, StopIteration) as error:
        sys.stderr.write(f"kernels: {'not run' if options.where_possible else 'no machine'}: {error}\n")
        return 0 if options.where_possible else 1
    good = {one: is_good(one, where_possible=options.where_possible) for one in outcomes}
    for outcome in outcomes:
        sys.stdout.write(report(outcome, whole=bool(options.command), good=good[outcome]))
    if options.page and told_by_kernel(outcomes).keys() >= SUITES.keys():
        PAGE.write_text(page(outcomes), encoding="ascii")
    news = differences(outcomes)
    sys.stdout.write("".join(f"{line}\n" for line in news))
    return 0 if all(good.values()) and (options.where_possible or not news) else 1


def read_options() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.kernels", description=__doc__)
    parser.add_argument("--all", action="store_true", help="every live test, and lab prove")
    bound = f"bound in all (default {CHOSEN_SECONDS}; {ALL_SECONDS} with --all)"
    parser.add_argument("--seconds", type=float, help=bound)
    parser.add_argument("--page", action="store_true", help=f"write {PAGE.name} from what the kernels answer")
    parser.add_argument(
        "--where-possible",
        action="store_true",
        help="0 with one line, too, where no machine can be made, or one does not end in its time",
    )
    parser.add_argument("--command", help="run this shell command instead")
    parser.add_argument(
        "kernel", nargs="*", choices=[*SUITES, ARM, []], help=f"default: three; {ARM}, too, with --all"
    )
    return parser.parse_args()


def run(kernels: tuple[str, ...], command: str, until: float) -> list[Outcome]:
    """Run the command on each of these kernels, side by side; another processor's gets the matrices alone."""
    with tempfile.TemporaryDirectory(prefix="tcpdoctor-kernel-") as folder:
        commands = {
            one: MATRICES if one == ARM and MATRICES_PASSED in command else command for one in kernels
        }
        disks = {text: Path(folder) / f"{number}.img" for number, text in enumerate(set(commands.values()))}
        for text, disk in disks.items():
            make_run_disk(disk, text)
        left = max(60.0, until - time.monotonic())
        patience = Patience(left, MATRICES_PASSED if MATRICES_PASSED in command else "", MATRICES_MAY * left)
        with ThreadPoolExecutor(len(kernels)) as pool:
            return list(pool.map(lambda one: boot(one, disks[commands[one]], patience), kernels))


if __name__ == "__main__":
    sys.exit(main())
