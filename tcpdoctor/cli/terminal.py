"""A terminal that shows frames and gives keys, by curses, left as it was found; and a pager for long texts.

The pager is what $PAGER says; as root, whose PATH others may have a say in, it is /usr/bin/less alone.
"""

import contextlib
import locale
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from types import FrameType, ModuleType
from typing import Any

from tcpdoctor.kernel.reading import is_ready
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.report.cells import columns_of

ENTER, ESCAPE, UP, DOWN, PAGE_UP, PAGE_DOWN, ERASE, RESIZED = (
    "enter", "escape", "up", "down", "page up", "page down", "erase", "resized",
)  # fmt: skip
"""What `Terminal.key` returns beside characters."""
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_MOST_COLUMNS, _MOST_LINES = 1_000, 500


class Ended(Exception):  # noqa: N818 - it is no error that somebody ends it
    """A signal, or the end of the terminal, ends the program."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Size(NamedTuple):
    """Of a terminal."""

    columns: int
    lines: int


def why_no_screen() -> str | None:
    """Say why this terminal cannot show a screen; None where it can."""
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown", ""):
        return f"TERM={os.environ.get('TERM', '')} cannot show a screen"
    curses = _curses()
    if curses is None:
        return "this Python has no curses"
    try:
        curses.setupterm(fd=sys.stdout.fileno())
    except curses.error:
        return f"there is no description of a terminal called {os.environ['TERM']!r}"
    return None if curses.tigetstr("cup") else f"TERM={os.environ['TERM']} cannot show a screen"


def speaks_unicode() -> bool:
    """Whether the locale of the environment has more than ASCII; sets it for this process."""
    try:
        locale.setlocale(locale.LC_CTYPE, "")
    except locale.Error:
        return False
    return locale.nl_langinfo(locale.CODESET).upper().replace("-", "") == "UTF8"


def _curses() -> ModuleType | None:
    try:
        import curses
    except ImportError:  # a Python built without it
        return None
    return curses


class Terminal:
    """The terminal while frames are shown on it."""

    def __init__(self, curses: Any, screen: Any, wakeup: int, *, colored: bool) -> None:
        self._curses, self._screen, self._wakeup = curses, screen, wakeup
        self._signals: set[int] = set()
        self._looks = self._roles(colored=colored)
        self._pending: list[str] = []

    def size(self) -> Size:
        """Return how large it is at the moment."""
        try:
            columns, lines = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            raise Ended(signal.SIGHUP) from None
        return Size(max(1, min(columns, _MOST_COLUMNS)), max(1, min(lines, _MOST_LINES)))

    def draw(self, lines: Sequence[Sequence[tuple[str, str]]]) -> None:
        """Show a frame; curses sends only what differs from the one before.

        Raises:
            Ended: The terminal is gone.
        """
        size = self.size()
        if tuple(self._screen.getmaxyx()) != (size.lines, size.columns):
            self._curses.resizeterm(size.lines, size.columns)
            self._screen.clear()
        self._screen.erase()
        for number, line in enumerate(lines[: size.lines]):
            at = 0
            for text, role in line:
                # the last cell cannot be written without scrolling: curses complains, and draws it
                with contextlib.suppress(self._curses.error):
                    self._screen.addstr(number, at, text, self._looks.get(role, 0))
                at += columns_of(text)
        self._screen.refresh()

    def key(self, seconds: float) -> str | None:
        """Return the next key, waiting so long at most; None where there was none.

        Raises:
            Ended: By a signal, or because the terminal is gone.
        """
        if self._pending:
            return self._pending.pop(0)
        poll = select.poll()
        for descriptor in (sys.stdin.fileno(), self._wakeup):
            poll.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(max(0.0, seconds) * 1000)}
        if self._wakeup in ready:
            signals = set(os.read(self._wakeup, 4096))
            ending = [number for number in _ENDING if number in signals]
            if ending:
                raise Ended(ending[0])
            if signal.SIGTSTP in signals:
                self._stop()
                return RESIZED
            if signals & {signal.SIGWINCH, signal.SIGCONT}:
                return RESIZED
        if sys.stdin.fileno() not in ready:
            return None
        self._pending = [*self._read()]
        return self._pending.pop(0) if self._pending else None

    def _read(self) -> Iterator[str]:
        """All keys that are waiting."""
        read = 0
        names = self._names()
        while True:
            try:
                key = self._screen.get_wch()
            except self._curses.error:
                break
            read += 1
            if isinstance(key, int):
                if key in names:
                    yield names[key]
            elif key in ("\n", "\r"):
                yield ENTER
            elif key == "\x1b":
                yield ESCAPE
            elif key in ("\x7f", "\b"):
                yield ERASE
            elif key.isprintable():
                yield key
        if not read and not self._is_there():
            raise Ended(signal.SIGHUP)

    def _is_there(self) -> bool:
        """Whether the terminal still is: one that was closed is readable, and gives nothing."""
        if not is_ready(sys.stdin.fileno(), 0):
            return True
        try:
            read = os.read(sys.stdin.fileno(), 1)
        except OSError:
            return False
        for byte in read:  # a key that came meanwhile
            self._curses.ungetch(byte)
        return bool(read)

    def _names(self) -> dict[int, str]:
        curses = self._curses
        return {
            curses.KEY_UP: UP,
            curses.KEY_DOWN: DOWN,
            curses.KEY_PPAGE: PAGE_UP,
            curses.KEY_NPAGE: PAGE_DOWN,
            curses.KEY_ENTER: ENTER,
            curses.KEY_BACKSPACE: ERASE,
            curses.KEY_RESIZE: RESIZED,
        }

    def _stop(self) -> None:
        """Give the terminal back and stop, as Ctrl-Z asks; go on when somebody says so."""
        self._curses.def_prog_mode()
        self._curses.endwin()
        before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, before)
        self._curses.reset_prog_mode()
        self._screen.clear()

    def _roles(self, *, colored: bool) -> dict[str, int]:
        curses = self._curses
        looks = {
            "title": curses.A_REVERSE,
            "head": curses.A_BOLD,
            "selected": curses.A_REVERSE,
            "bold": curses.A_BOLD,
            "dim": curses.A_DIM,
            "keys": curses.A_DIM,
            "changed": curses.A_UNDERLINE,
            "critical": curses.A_BOLD,
            "warning": curses.A_BOLD,
            "unknown": curses.A_BOLD,
        }
        if not colored or not curses.has_colors():
            return looks
        curses.start_color()
        curses.use_default_colors()
        colors = {
            "critical": curses.COLOR_RED,
            "warning": curses.COLOR_YELLOW,
            "unknown": curses.COLOR_YELLOW,
            "ok": curses.COLOR_GREEN,
            "info": curses.COLOR_CYAN,
        }
        for pair, (role, color) in enumerate(colors.items(), start=1):
            curses.init_pair(pair, color, -1)
            looks[role] = looks.get(role, 0) | curses.color_pair(pair)
        return looks


@contextlib.contextmanager
def opened_terminal(*, colored: bool) -> Iterator[Terminal]:
    """Take the terminal over while the body runs, and give it back however that ends.

    Signals that end a program end the body with `Ended`; nothing is left of ours afterwards.
    """
    curses: Any = _curses()
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    caught = (*_ENDING, signal.SIGTSTP, signal.SIGWINCH, signal.SIGCONT)
    os.environ.setdefault("ESCDELAY", "25")  # else curses waits a second for what may follow
    before = {number: signal.signal(number, _ignored) for number in caught}
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        screen = curses.initscr()
        try:
            for number in caught:  # curses has put handlers of its own there
                signal.signal(number, _ignored)
            curses.noecho()
            curses.cbreak()
            screen.keypad(True)  # noqa: FBT003 - curses has no names for it
            screen.nodelay(True)  # noqa: FBT003
            with contextlib.suppress(curses.error):
                curses.curs_set(0)
            yield Terminal(curses, screen, reader, colored=colored)
        finally:
            with contextlib.suppress(curses.error):
                curses.curs_set(1)
            with contextlib.suppress(curses.error):
                curses.endwin()
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _ignored(number: int, frame: FrameType | None) -> None:
    """Python writes the number to the wake-up pipe; that is all there is to do."""


_LESS = ("/usr/bin/less", "/bin/less")
_AS_GIT_DOES = "FRX"
"""$LESS where the user has set none: quit if it fits, keep colours, leave the screen as it is."""


def page_text(text: str) -> bool:
    """Show a text in a pager; False where there is none, or it could not be started."""
    command = _pager()
    if command is None:
        return False
    environment = {**os.environ, "LESS": os.environ.get("LESS", _AS_GIT_DOES), "LESSSECURE": "1"}
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # it belongs to the pager while that runs
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as pager:
            pager.communicate(text.encode("utf-8", "backslashreplace"))
    except OSError:
        return False
    finally:
        signal.signal(signal.SIGINT, before)
    return True


def _pager() -> Sequence[str] | None:
    """What to run; None: the text is printed as it is."""
    wanted = os.environ.get("PAGER") if os.geteuid() else None
    if wanted is not None:
        try:
            words = shlex.split(wanted)
        except ValueError:  # a quotation without an end; a shell would not run it either
            words = []
        found = shutil.which(words[0]) if words else None
        return None if found is None or words[0] == "cat" else [os.path.abspath(found), *words[1:]]
    return next(([path] for path in _LESS if os.access(path, os.X_OK)), None)
