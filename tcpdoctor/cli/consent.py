"""What `tcpdoctor fix --apply` asks somebody at a terminal, and says meanwhile."""

import os
import select
import sys
import termios
import time
import tty

from tcpdoctor.cli.output import complain
from tcpdoctor.report.host import plural


def has_terminal() -> bool:
    """Whether there is somebody to ask: standard input and standard error are terminals."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def say_meanwhile(text: str) -> None:
    """Say on stderr what is being done; without a stderr there is nobody to tell."""
    complain(f"tcpdoctor fix: {text}")


def ask_to_apply(plan: str, settings: int) -> bool:
    """Show a plan and ask whether it shall be applied; only a y says so."""
    _write(f"{plan}\n\nChange {plural(settings, 'setting')}? [y/N] ")
    answer = _key(None)
    _write("\n")
    return answer == "y"


def ask_to_keep(seconds: float) -> bool:
    """Ask whether what was changed shall stay; whatever is no y, and silence, says no."""
    _write(f"Keep it? y keeps it; any other key, or {seconds:g} s without one, undoes it. ")
    answer = _key(seconds)
    _write("\n")
    return answer == "y"


def _key(seconds: float | None) -> str:
    """One key that is pressed from now on, in lower case; nothing where none is, or the terminal is gone."""
    descriptor = sys.stdin.fileno()
    try:
        before = termios.tcgetattr(descriptor)
        termios.tcflush(descriptor, termios.TCIFLUSH)  # what was typed before the question is no answer
        tty.setcbreak(descriptor)
    except (OSError, termios.error):
        return ""
    try:
        ready = _is_pressed_within(descriptor, seconds)
        return os.read(descriptor, 1).decode("ascii", "replace").lower() if ready else ""
    except OSError:
        return ""
    finally:
        _restore(descriptor, before)


def _restore(descriptor: int, before: list[object]) -> None:
    try:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)  # type: ignore[arg-type]
    except (OSError, termios.error):
        return  # the terminal is gone


def _is_pressed_within(descriptor: int, seconds: float | None) -> bool:
    """Whether a key is pressed; time passes in suspension as well, as for the guard."""
    if seconds is None:
        return bool(select.select([descriptor], [], [])[0])
    end = time.clock_gettime(time.CLOCK_BOOTTIME) + seconds
    while (left := end - time.clock_gettime(time.CLOCK_BOOTTIME)) > 0:
        if select.select([descriptor], [], [], min(left, 1.0))[0]:
            return True
    return False


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        return  # nobody reads it any more; the guard is there
