"""Signals at any moment: `python -m tests.moments [--moments N] [COMMAND ...]`.

A command is ended by SIGINT, SIGTERM and SIGKILL at moments spread over all that it takes. After each, no
process of its family may run on, no file may be left or half-written, no namespace stay, and the exit code be
another than those of tcpdoctor(1) or the signal's own.

A command waits for most of its time, so that many are ended at once, each by a process that sees its own
folder, its own names of namespaces and the processes of its own run alone. All of it runs in a PID namespace:
`--netns all` looks into those that are made here, and not into what else runs on the machine.
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
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.recorded import LAST_FORMAT, LastRun, unpack
from tcpdoctor.recordings.recording import unpack_snapshot
from tests.churn import INSIDE

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
AT_ONCE = 16
NAMES = Path("/run/netns")
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: who loses its parent becomes our child, and so is seen
_NEW_MOUNTS, _PRIVATE = 0x20000, 0x44000  # CLONE_NEWNS; MS_REC | MS_PRIVATE


class End(NamedTuple):
    """How one run ended."""

    code: int
    stderr: str
    faults: tuple[str, ...]


class Sweep(NamedTuple):
    """How the runs of a command ended that one process watched."""

    moments: int
    faults: tuple[str, ...]
    codes: frozenset[int]


def main() -> int:
    """End the commands at so many moments; 0 where nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.moments", description=__doc__)
    parser.add_argument("--moments", type=int, default=67, help="of each command and signal")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help=f"runs side by side (default {AT_ONCE})")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs="*", choices=[*COMMANDS, []], help="default: all of them")
    options = parser.parse_args()
    if not options.inside:
        again = [*INSIDE, sys.executable, "-m", "tests.moments", "--inside", *sys.argv[1:]]
        return subprocess.run(again, check=False).returncode
    # Begun in the background by a shell, it ignores SIGINT, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    names, parts = options.command or list(COMMANDS), min(options.at_once, options.moments)
    faults = 0
    with ProcessPoolExecutor(parts, initializer=be_alone) as pool:
        begun = {
            name: [pool.submit(sweep, name, options.moments, part, parts) for part in range(parts)]
            for name in names
        }
        for name, running in begun.items():
            faults += tell(name, [one.result() for one in running])
    return 1 if faults else 0


def be_alone() -> None:
    """Become the parent of what loses its own, and the only one to see the names of namespaces made here."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_SUBREAPER, 1)
    NAMES.mkdir(parents=True, exist_ok=True)
    if libc.unshare(_NEW_MOUNTS) or libc.mount(b"none", b"/", None, _PRIVATE, None):
        raise OSError(ctypes.get_errno(), "no mounts of one's own")
    if libc.mount(b"none", bytes(NAMES), b"tmpfs", 0, None):
        raise OSError(ctypes.get_errno(), f"{NAMES} cannot be hidden")


def sweep(name: str, moments: int, part: int, parts: int) -> Sweep:
    """End a command at every so-manieth of the moments, by each signal in turn."""
    faults, codes, ended = [], set(), 0
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        end_at(Path(folder), COMMANDS[name], None, 0.0)
        whole = time.monotonic() - begun
        for number in range(part, moments * len(SIGNALS), parts):
            chosen = SIGNALS[number % len(SIGNALS)]
            after = whole * 1.1 * (number // len(SIGNALS)) / moments
            end = end_at(Path(folder), COMMANDS[name], chosen, after)
            ended += 1
            codes.add(end.code)
            faults += [f"{chosen.name} after {after * 1000:.0f} ms: {fault}" for fault in end.faults]
    return Sweep(ended, tuple(faults), frozenset(codes))


def tell(name: str, sweeps: list[Sweep]) -> int:
    """Say how the runs of a command ended; return how many faults there were."""
    faults = [fault for one in sweeps for fault in one.faults]
    sys.stdout.write("".join(f"{name}: {fault}\n" for fault in faults))
    codes = ", ".join(map(str, sorted(frozenset().union(*(one.codes for one in sweeps)))))
    moments = sum(one.moments for one in sweeps)
    sys.stdout.write(f"{name}: {moments} moments, {len(faults)} faults; exit codes {codes}\n")
    sys.stdout.flush()
    return len(faults)


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
                    unpack(data, LAST_FORMAT, LastRun, "last")
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
    """Return the names of ``ip netns`` that were given where only this process and its children see them."""
    return frozenset(os.listdir(NAMES))


if __name__ == "__main__":
    sys.exit(main())
