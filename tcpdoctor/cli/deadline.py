"""`--timeout`: an end in time, whatever the rest of the program is doing.

A process that waits inside the kernel cannot always be interrupted: while somebody else holds a lock of the
kernel, neither a signal nor a thread gets it out. So the work is done in a forked child, and who started us
waits for the parent, which waits no longer than was asked for. The child prints into memory, because whoever
reads our output waits until the last process has closed it; and it says through a pipe what it is about, for
the parent to repeat.
"""

import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable

import typer

from tcpdoctor.cli.output import INTERRUPTED, UNKNOWN, is_journal
from tcpdoctor.errors import DeadlineError, OutputError
from tcpdoctor.kernel.reading import is_ready

SHORTEST, LONGEST = 0.1, 86400.0
"""Seconds."""
_START = "starting"
_LAST_RESORT = 5
"""Seconds after which the child ends itself, where its parent was killed."""


def refuse_bad_timeout(seconds: float, window: float) -> None:
    """Refuse a time in which there could be no answer.

    Raises:
        typer.BadParameter: With what may be given instead.
    """
    if not SHORTEST <= seconds <= LONGEST:
        text = f"{seconds:g} is no time to wait; give {SHORTEST:g} to {LONGEST:g} seconds"
        raise typer.BadParameter(text, param_hint="--timeout")
    if seconds <= window:
        text = f"{seconds:g} s is over before the window of {window:g} s is; give more, or a shorter --window"
        raise typer.BadParameter(text, param_hint="--timeout")


def end_within(seconds: float) -> Callable[[str], None]:
    """Go on in a child; the parent prints what it printed and exits as it did, or stops waiting.

    Returns:
        In the child only: a function to say what it is about to do.

    Raises:
        typer.Exit: In the parent: with the child's exit code; with 3 where nobody reads the answer in time.
        DeadlineError: In the parent: there was no answer in time. The child is killed, as far as it can be.
    """
    deadline = time.monotonic() + seconds
    try:
        reader, writer = os.pipe()
        outputs = {1: os.memfd_create("answer"), 2: os.memfd_create("complaints")}
        child = _fork()
    except OSError as error:
        why = error.strerror or str(error)
        raise DeadlineError(
            f"--timeout looks in a process of its own, which cannot be started ({why}): leave it out, or "
            "raise the limits of processes and descriptors (ulimit -u, -n; pids.max)"
        ) from error
    if child == 0:
        os.close(reader)
        for number, memory in outputs.items():
            os.dup2(memory, number)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(math.ceil(seconds) + _LAST_RESORT)
        return lambda stage: _tell(writer, stage)
    os.close(writer)
    stage = _wait_for_end(reader, deadline)
    if stage is not None:
        os.kill(child, signal.SIGKILL)
        raise DeadlineError(f"no answer within {seconds:g} s: it was still {stage}")
    code = _code_of(child)
    copied = [_copy(memory, number, deadline) for number, memory in outputs.items()]
    raise typer.Exit(code if all(copied) else UNKNOWN)


def _fork() -> int:
    """Fork a child that ends with us, however we end; return its id, and 0 to it."""
    from tcpdoctor.kernel.workers import end_with

    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
            is_journal(stream.fileno())  # remembered by the child, which prints for it
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        end_with(parent)
    return child


def _copy(memory: int, target: int, deadline: float) -> bool:
    """Write to a descriptor what a memory file holds; False where the deadline comes first."""
    data = memoryview(os.pread(memory, os.fstat(memory).st_size, 0))
    while data:
        left = deadline - time.monotonic()
        if left <= 0 or not is_ready(target, left, to_write=True):
            return False
        try:
            data = data[os.write(target, data[: select.PIPE_BUF]) :]  # so much never blocks by then
        except BrokenPipeError:
            return True  # the reader has seen enough
        except OSError as error:
            raise OutputError(f"standard output: {error.strerror}: the answer is incomplete") from error
    return True


def _tell(writer: int, stage: str) -> None:
    os.write(writer, f"{stage}\n".encode())


def _wait_for_end(reader: int, deadline: float) -> str | None:
    """Wait until the child closes its end of the pipe; return its last stage where it does not in time."""
    told = b""
    while (left := deadline - time.monotonic()) > 0:
        if not is_ready(reader, left):
            break
        part = os.read(reader, 4096)
        if not part:
            return None
        told += part
    return told.decode().rstrip("\n").rpartition("\n")[2] or _START


def _code_of(child: int) -> int:
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGINT:
        return INTERRUPTED
    if code < 0:
        raise DeadlineError(f"the look was ended from outside, by {signal.Signals(-code).name}")
    return code
