"""The guard of a change of settings: a process of its own that ends it when nobody else does.

It outlives the terminal, the session and whoever started it: it is forked twice into a session of its own,
and where systemd runs the host a timer of systemd does the same once more, because logind may end every
process of a session. It goes back while nobody has confirmed, and forward once somebody has.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tcpdoctor.errors import TcpdoctorError
from tcpdoctor.kernel.fix_ending import end_journal, is_here, is_of_this_boot, time_left
from tcpdoctor.kernel.fix_journal import is_at_work, locked_journal, read_journal
from tcpdoctor.kernel.namespaces import name_of_namespace, shares_namespace
from tcpdoctor.kernel.reading import Missing

SYSTEMD_RUN = "/usr/bin/systemd-run"
_BOOTED = "/run/systemd/system"
"""Where systemd is process 1 (sd_booted(3))."""
_STARTS_WITHIN = 20.0
"""Seconds that systemd may take for an answer."""


def arm_guard(path: str, run: str) -> int:
    """Start a guard of the journal at `path`, and return the descriptor that tells it that we are at work.

    As soon as that is closed, by our end too, the guard ends what is not ended.

    Raises:
        OSError: No process could be started.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                _become_guard(reader)
                watch_journal(path, run, 0)
        finally:
            os._exit(0)
    os.close(reader)
    os.waitpid(child, 0)
    return writer


def _become_guard(reader: int) -> None:
    """Keep nothing of who started us but the pipe, which becomes standard input."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.dup2(reader, 0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1)
    os.chdir("/")


_LOOKS_AGAIN = 1.0
"""Seconds; the time that is left may have become less."""
_MOST_FAILURES = 60


def watch_journal(path: str, run: str, reader: int | None = None) -> None:
    """Wait until this run is ended, or has to be; then end it.

    Args:
        path: Of the journal.
        run: Which one.
        reader: A pipe that ends with who applies it; None: that process is looked for.
    """
    is_gone, failures = False, 0
    while failures < _MOST_FAILURES:
        try:
            with locked_journal(path) as folder:
                journal = read_journal(folder)
                if journal is None or journal.run != run or journal.state not in ("pending", "keeping"):
                    return
                if is_of_this_boot(journal) and not is_here(journal):
                    return  # its settings cannot be reached from here: it stays what it is, and is told of
                is_gone = is_gone or (reader is None and not is_at_work(journal))
                left = time_left(journal)
                if journal.state == "keeping" or is_gone or left <= 0:
                    end_journal(folder, journal)
                    return
        except (OSError, TcpdoctorError):  # a full disk, say: what could not be ended is tried again
            failures += 1
            time.sleep(_LOOKS_AGAIN)
            continue
        is_gone = is_gone or _is_closed_within(reader, min(left, _LOOKS_AGAIN))


def _is_closed_within(reader: int | None, seconds: float) -> bool:
    if reader is None:
        time.sleep(max(0.0, seconds))
        return False
    ready, _, _ = select.select([reader], [], [], max(0.0, seconds))
    return bool(ready)


# under systemd

_FINDS_US = ("PYTHONPATH", "PYTHONHOME")
"""What a unit of systemd does not inherit, and without which Python may not find this program."""


def arm_timer(path: str, run: str, seconds: float, netns: str | None) -> Missing | None:
    """Let systemd start a guard after so many seconds; None where it will, or does not run this host.

    Args:
        path: Of the journal.
        run: Which one it is for.
        seconds: From now.
        netns: What leads into the network namespace, as `--netns` takes it; None: none is needed.
    """
    if not os.path.isdir(_BOOTED) or not os.access(SYSTEMD_RUN, os.X_OK):
        return None
    if netns is None and shares_namespace(1) is False:
        netns = name_of_namespace()
        if netns is None:
            return Missing("systemd is in another network namespace, and this one has no name")
    inside = [] if netns is None else ["--netns", netns]
    command = [
        SYSTEMD_RUN,
        "--quiet",
        "--collect",
        f"--unit=tcpdoctor-fix-{run}",
        f"--on-active={max(1, round(seconds))}s",
        "--timer-property=AccuracySec=1s",
        f"--working-directory={os.getcwd()}",
        *(f"--setenv={name}={os.environ[name]}" for name in _FINDS_US if os.environ.get(name)),
        "--",
        *_this_program(),
        *("fix", "--guard", run, "--journal", path, *inside),
    ]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_STARTS_WITHIN, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Missing(f"{SYSTEMD_RUN}: {error}")
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return Missing(f"{SYSTEMD_RUN}: {said[-1] if said else done.returncode}")
    return None


def _this_program() -> Sequence[str]:
    """The words that started this program, up to its own arguments, with Python by its whole path."""
    own = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv[1:])]
    return [sys.executable, *own]


# signals of who applies it


class InterruptedFixError(Exception):
    """A signal asks to end: what has begun is undone."""


_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


@contextmanager
def ends_by_signal() -> Iterator[None]:
    """Raise `InterruptedFixError` in the body on SIGHUP, SIGINT and SIGTERM, at most once.

    One that is ignored, as by nohup(1), stays so.

    Raises:
        InterruptedFixError: One has come.
    """

    def end(number: int, _frame: object) -> None:
        for each in _ENDING:
            signal.signal(each, signal.SIG_IGN)
        raise InterruptedFixError(signal.Signals(number).name)

    minded = [each for each in _ENDING if signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, end) for each in minded}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def unsignalled() -> Iterator[None]:
    """Let signals that end wait until the body is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
