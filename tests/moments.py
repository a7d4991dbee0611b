"""Signals at any moment: `python -m tests.moments [--moments N] [COMMAND ...]`.

A command is ended by SIGINT, SIGTERM and SIGKILL at moments spread over all that it takes. After each, no
process of its family may run on, no file may be left or half-written, no namespace stay, and the exit code be
another than those of tcpdoctor(1) or the signal's own.
"""

import argparse
import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.last_run import FORMAT, LastRun
from tcpdoctor.kernel.recorded import unpack
from tcpdoctor.recordings.recording import unpack_snapshot

COMMANDS = {
    "check": ("check", "--since-last", "last", "--format", "json", "--output", "answer"),
    "text": ("check", "--window", "0.2"),
    "all": ("check", "--window", "0.2", "--netns", "all", "--format", "json", "--output", "answer"),
    "lab": ("lab", "run", "close-wait-leak", "--no-pause"),
    "snapshot": ("snapshot", "--window", "0.2", "--output", "recording.gz"),
    "fix": ("fix", "--window", "0.2", "--format", "json", "--output", "answer"),
    "trace": ("trace", "--for", "0.3s", "--format", "json"),
    "watch": ("watch", "--plain", "--interval", "0.2", "--count", "2"),
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
OWN_CODES = frozenset((0, 1, 2, 3, 130))
PATIENCE = 30.0
CHECKOUT = Path(__file__).resolve().parent.parent
OURS = re.compile(rf'File "{re.escape(str(CHECKOUT))}/tcpdoctor/[^"]*", line \d+, in [^<]')
"""A line of a traceback from a function of the program: until one is called, Python itself starts."""
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: who loses its parent becomes our child, and so is seen


class End(NamedTuple):
    """How one run ended."""

    code: int
    stderr: str
    faults: tuple[str, ...]


def main() -> int:
    """End the commands at so many moments; 0 where nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.moments", description=__doc__)
    parser.add_argument("--moments", type=int, default=67, help="of each command and signal")
    parser.add_argument("command", nargs="*", choices=[*COMMANDS, []], help="default: all of them")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    faults = sum(sweep(name, options.moments) for name in options.command or COMMANDS)
    return 1 if faults else 0


def sweep(name: str, moments: int) -> int:
    """End a command at so many moments by each signal; say what was wrong."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        end_at(Path(folder), COMMANDS[name], None, 0.0)
        whole = time.monotonic() - begun
        wrong, codes = 0, set()
        for number in range(moments * len(SIGNALS)):
            chosen = SIGNALS[number % len(SIGNALS)]
            after = whole * 1.1 * (number // len(SIGNALS)) / moments
            end = end_at(Path(folder), COMMANDS[name], chosen, after)
            codes.add(end.code)
            wrong += bool(end.faults)
            for fault in end.faults:
                sys.stdout.write(f"{name}: {chosen.name} after {after * 1000:.0f} ms: {fault}\n")
    told = ", ".join(map(str, sorted(codes)))
    sys.stdout.write(f"{name}: {moments * len(SIGNALS)} moments, {wrong} faults; exit codes {told}\n")
    sys.stdout.flush()
    return wrong


def end_at(folder: Path, words: tuple[str, ...], chosen: signal.Signals | None, after: float) -> End:
    """Run a command and end it after so many seconds; look at what is left."""
    namespaces = named_namespaces()
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    look = subprocess.Popen(
        [sys.executable, "-m", "tcpdoctor", *words],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    if chosen is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            look.wait(after)
        with contextlib.suppress(ProcessLookupError):
            if chosen is signal.SIGINT:
                os.killpg(look.pid, chosen)  # as a terminal does
            else:
                os.kill(look.pid, chosen)
    _, stderr = look.communicate(timeout=PATIENCE * 4)
    faults = [*_of_the_end(look.returncode, stderr, chosen), *_of_files(folder)]
    if not has_no_children():
        faults.append("a process runs on")
    if named_namespaces() != namespaces:
        faults.append("a namespace has a name that had none")
    return End(look.returncode, stderr, tuple(faults))


def _of_the_end(code: int, stderr: str, chosen: signal.Signals | None) -> Iterator[str]:
    if code not in OWN_CODES and (chosen is None or code != -chosen):
        yield f"exit code {code}"
    if OURS.search(stderr):
        yield f"a traceback: {stderr[-300:]!r}"


def _of_files(folder: Path) -> Iterator[str]:
    for path in folder.iterdir():
        data = path.read_bytes()
        try:
            if path.name == "answer":
                json.loads(data)
            elif path.name == "recording.gz":
                unpack_snapshot(data, path.name)
            elif path.name == "last":
                if data:  # made before it is filled, so that it can be locked
                    unpack(data, FORMAT, LastRun, "last")
            else:
                yield f"the file {path.name}"
        except (ValueError, SnapshotError) as error:
            yield f"{path.name}: {error}"


def has_no_children() -> bool:
    """Whether all that began has ended, for which it has some time; those that have are taken note of."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        time.sleep(0.01)
    return False


def named_namespaces() -> frozenset[str]:
    """Return those names of ``ip netns`` that can be ours: other programs give and take names meanwhile."""
    names = os.listdir("/run/netns") if os.path.isdir("/run/netns") else ()
    return frozenset(name for name in names if "tcpdoctor" in name or "lab" in name)


if __name__ == "__main__":
    sys.exit(main())
