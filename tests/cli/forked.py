"""Runs of the command without Python's start: half of the suite's time would be spent on that.

A child of this process is made what a new one would be (modules as they were imported, nothing cached, no
descriptor but the standard three, its own environment and streams) and then runs `tcpdoctor.__main__.main`.
What hangs on how a process starts (memory, signals, users, Python's own variables, what is imported) is
tested with real ones.
"""

import operator
import os
import pkgutil
import selectors
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

import tcpdoctor

_SECONDS = 60.0


def _imported() -> dict[str, dict[str, Any]]:
    """Import the whole program, and remember what its modules hold before anything ran."""
    names = [found.name for found in pkgutil.walk_packages(tcpdoctor.__path__, "tcpdoctor.")]
    modules = {name: import_module(name) for name in names if not name.endswith("__main__")}
    return {name: dict(vars(module)) for name, module in modules.items()}


_MODULES = _imported()
_CACHES = [held for module in _MODULES.values() for held in module.values() if hasattr(held, "cache_clear")]
from tcpdoctor import __main__ as _program  # noqa: E402 - it is no module of the walk


def run_forked(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: str | os.PathLike[str] | None = None,
    go_there: Callable[[], None] | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run it to its end as `subprocess.run` would; `TimeoutExpired` after a minute.

    `go_there` is called in the child first: it may go into other namespaces.
    """
    out, err = os.pipe(), os.pipe()
    changed, filled = _changed(), _filled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child needs no thread of ours
        child = os.fork()
    if child == 0:
        forget = partial(_forget, changed, filled)
        _become_the_program(arguments, environment, folder, (out[1], err[1]), (go_there, forget))
    os.close(out[1])
    os.close(err[1])
    try:
        said = _read_both(out[0], err[0], arguments)
        _wait_for_end(child, arguments)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(child, 0)
    return subprocess.CompletedProcess(
        [sys.executable, "-m", "tcpdoctor", *arguments],
        os.waitstatus_to_exitcode(status),
        said[out[0]].decode("utf-8"),
        said[err[0]].decode("utf-8"),
    )


def _wait_for_end(child: int, arguments: Sequence[str]) -> None:
    """Until it has ended, which comes a moment after its descriptors are closed."""
    deadline = time.monotonic() + _SECONDS
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if time.monotonic() > deadline:
            raise subprocess.TimeoutExpired([*arguments], _SECONDS)
        time.sleep(0.0005)


def _read_both(out: int, err: int, arguments: Sequence[str]) -> dict[int, bytes]:
    said = {out: b"", err: b""}
    deadline = time.monotonic() + _SECONDS
    with selectors.DefaultSelector() as readable:
        for pipe in said:
            readable.register(pipe, selectors.EVENT_READ)
        while readable.get_map():
            for key, _ in readable.select(max(deadline - time.monotonic(), 0.0)):
                if part := os.read(key.fd, 65536):
                    said[key.fd] += part
                else:
                    readable.unregister(key.fd)
                    os.close(key.fd)
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired([*arguments], _SECONDS)
    return said


def _become_the_program(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: str | os.PathLike[str] | None,
    pipes: tuple[int, int],
    before: tuple[Callable[[], None] | None, Callable[[], None]],
) -> NoReturn:
    go_there, forget = before
    try:
        os.dup2(pipes[0], 1)
        os.dup2(pipes[1], 2)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        if go_there is not None:
            go_there()
        if folder is not None:
            os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        for caught in (signal.SIGTERM, signal.SIGALRM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(caught, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        warnings.simplefilter("ignore")  # as a new process does
        forget()
        sys.argv = [str(_program.__file__), *arguments]
        sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115
        _program.main()
    finally:
        os._exit(99)


def _changed() -> list[str]:
    """Modules that no longer hold what they held. The parent looks: a child would copy all their pages."""
    return [name for name, held in _MODULES.items() if not _is_as_it_was(vars(sys.modules[name]), held)]


def _is_as_it_was(module: dict[str, Any], held: dict[str, Any]) -> bool:
    return len(module) == len(held) and all(map(operator.is_, module.values(), held.values()))


def _filled() -> list[Any]:
    return [cache for cache in _CACHES if cache.cache_info().currsize]


def _forget(changed: Iterable[str], filled: Iterable[Any]) -> None:
    for name in changed:
        module = vars(sys.modules[name])
        module.clear()
        module.update(_MODULES[name])
    for cache in filled:
        cache.cache_clear()
