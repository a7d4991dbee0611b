"""Workers of xdist that begin with the tests imported, by fork, instead of with a Python that knows nothing.

Each would import pytest, Hypothesis, the program and some 300 modules of tests for itself: a tenth of the
time of a whole run. The process that starts them does it once, and what they have in common is memory they
share. Nothing of xdist is changed but where its first workers come from; one that has to take the place of
another that died is started as ever.
"""

import atexit
import contextlib
import gc
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import pytest
from execnet import gateway_io
from execnet.gateway_base import Popen2IO


class ForkedWorker(Popen2IO):
    """The line to a worker, as execnet has it to a process that it started."""

    def __init__(self, pid: int, to: int, back: int, execmodel: Any) -> None:
        super().__init__(open(to, "wb"), open(back, "rb"), execmodel)  # noqa: SIM115 - execnet closes them
        self.pid, self.lock, self.code = pid, threading.Lock(), None

    def wait(self) -> int | None:
        with self.lock:
            if self.code is None:
                with contextlib.suppress(ChildProcessError):
                    self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            return self.code

    def kill(self) -> None:
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def prepare(config: pytest.Config, paths: list[Path], root: Path) -> None:
    """Import what is to be collected, and let as many children as there will be workers wait to be used."""
    wanted: list[str] = config.option.tx
    if set(wanted) != {"popen"} or threading.active_count() > 1:
        return
    _import(paths, root)
    gc.collect()
    gc.freeze()
    ends: list[tuple[int, int, int]] = []
    for _ in wanted:
        ends.append(_fork(ends))
    start: Callable[..., Any] = gateway_io.create_io
    waiting: Iterator[tuple[int, int, int]] = iter(ends)

    def create_io(spec: Any, execmodel: Any) -> Any:
        child = next(waiting, None) if spec.popen and not spec.python else None
        return ForkedWorker(*child, execmodel) if child else start(spec, execmodel)

    gateway_io.create_io = create_io
    config.add_cleanup(lambda: setattr(gateway_io, "create_io", start))


def _import(paths: list[Path], root: Path) -> None:
    """What cannot be imported, or warns, is left to collecting, which tells of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in paths:
            with contextlib.suppress(Exception, pytest.skip.Exception):
                import_module(".".join(path.relative_to(root).with_suffix("").parts))


def _fork(others: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    (theirs_in, to), (back, theirs_out) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        for descriptor in (to, back, *(end for _, *ends in others for end in ends)):
            os.close(descriptor)  # or that worker would not see that we have ended
        _become_a_worker(theirs_in, theirs_out)
    os.close(theirs_in)
    os.close(theirs_out)
    return pid, to, back


def _become_a_worker(read: int, write: int) -> NoReturn:
    """Do what the Python that execnet starts is told on its command line."""
    try:
        os.dup2(read, 0)
        os.dup2(write, 1)
        os.closerange(3, 65_536)  # what pytest keeps of its own output; tests count descriptors
        Path("/proc/self/comm").write_text("python", encoding="ascii")  # we may have been started as `pytest`
        random.seed()
        sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
        if line := sys.stdin.readline():  # else nobody needed us
            exec(eval(line), {"__name__": "__main__"})  # noqa: S102, S307 - as execnet's own line does
        atexit._run_exitfuncs()
    finally:
        os._exit(0)
