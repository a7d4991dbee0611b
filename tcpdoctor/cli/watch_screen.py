"""The screen of `tcpdoctor watch`: a loop of looks, keys and frames."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tcpdoctor.answers.everywhere import place_of
from tcpdoctor.answers.watch import DestinationRow, ListenerRow, OwnerRow, Row, StateRow, Watch
from tcpdoctor.answers.watching import Watcher, untraced
from tcpdoctor.cli.terminal import (
    DOWN,
    ENTER,
    ERASE,
    ESCAPE,
    PAGE_DOWN,
    PAGE_UP,
    UP,
    Ended,
    Terminal,
    opened_terminal,
    speaks_unicode,
)
from tcpdoctor.errors import TcpdoctorError
from tcpdoctor.kernel.namespace_entry import NamespacePlace, enter_held, find_namespaces, hold, who_is_inside
from tcpdoctor.kernel.namespaces import network_namespace
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.page import Block, page_text
from tcpdoctor.report.style import Style
from tcpdoctor.report.watch_frame import (
    SORTS,
    View,
    frame,
    moved_cursor,
    pane_width,
    selected_row,
    with_changes,
)
from tcpdoctor.report.watch_page import HELP, row_page

if TYPE_CHECKING:
    from tcpdoctor.answers.trace import Closings

_IDLE = 3600.0
_WIDEST_PAGE = 100
_SAID_FOR = 4.0
"""Seconds for which a message stands in the last line."""


class Live:
    """Looks at this host."""

    steps = False

    def __init__(self, watcher: Watcher, count: int | None) -> None:
        self.watcher, self._left = watcher, count
        self._next = time.monotonic()

    def next(self) -> Watch | None:
        """Look, unless it was done often enough."""
        if self._left is not None:
            if not self._left:
                return None
            self._left -= 1
        seen = self.watcher.look()
        self._next = max(self._next + self.watcher.interval(), time.monotonic())
        return seen

    def due(self) -> float:
        """Return the seconds until the next look."""
        return max(0.0, self._next - time.monotonic())

    def step(self, _by: int) -> Watch | None:
        """Refuse: what is live cannot be stepped through."""
        return None

    def elsewhere(self) -> None:
        """Begin anew, in the network namespace that the thread is in by then."""
        self.watcher = self.watcher.anew()
        self._next = time.monotonic()


class Recorded:
    """Steps through what was recorded."""

    steps = True

    def __init__(self, shown: Sequence[Watch]) -> None:
        self._shown, self._at = shown, 0

    def next(self) -> Watch | None:
        """Return the one that is looked at."""
        return self._shown[self._at]

    def due(self) -> float:
        """Return the seconds until there is another one, which there is not by itself."""
        return _IDLE

    def step(self, by: int) -> Watch | None:
        """Return the record so many further; the first and the last stay."""
        self._at = max(0, min(len(self._shown) - 1, self._at + by))
        return self._shown[self._at]


def show_screen(source: Live | Recorded, *, colored: bool, there: Style) -> int | None:
    """Show the screen until somebody ends it; return the signal that did, None where it was a key.

    Raises:
        TcpdoctorError: A look failed; the terminal is as it was by then.
    """
    is_unicode = speaks_unicode()
    try:
        with opened_terminal(colored=colored) as terminal:
            _Screen(terminal, source, is_unicode=is_unicode, there=there).run()
    except Ended as end:
        return end.number
    return None


class _Screen:
    """What is shown at the moment, and what each key does."""

    def __init__(
        self, terminal: Terminal, source: Live | Recorded, *, is_unicode: bool, there: Style
    ) -> None:
        self._terminal, self._source, self._there = terminal, source, there
        self._view = View(is_unicode=is_unicode, steps=source.steps)
        self._latest: Watch | None = None
        self._shown: Watch | None = None
        self._before: Watch | None = None
        """What was shown at the look before: digits that differ from it are underlined."""
        self._said_until = 0.0
        self._home = network_namespace()
        self._chosen: Callable[[int], None] | None = None
        self._going = True
        self._closings: Closings | None = None

    def run(self) -> None:
        """Look, draw and obey until a key ends it, or the looks that were asked for are over."""
        due = 0.0
        while self._going:
            if due <= 0:
                latest = self._source.next()
                if latest is None:
                    return
                self._latest = latest
                if not self._view.paused or self._shown is None:
                    self._before, self._shown = self._shown, latest
            self._draw()
            self._obey(self._source.due())
            due = self._source.due()

    def _draw(self) -> None:
        if self._shown is None:
            return
        size = self._terminal.size()
        if self._view.message and time.monotonic() > self._said_until:
            self._set(message="")
        room = pane_width(size.columns)
        row = selected_row(self._shown, self._view) if room and self._view.page is None else None
        opened = self._page_of(row, room) if row is not None else ()
        view = self._view._replace(opened=opened)
        lines = frame(self._shown, view, size.columns, size.lines)
        if self._before is not None and view.page is None:
            lines = with_changes(frame(self._before, view, size.columns, size.lines), lines)
        self._terminal.draw(lines)

    def _page_of(self, row: Row, width: int) -> tuple[str, ...]:
        assert self._shown is not None  # noqa: S101 - a row is one of what is shown
        return tuple(row_page(self._shown, row, width, is_unicode=self._view.is_unicode, there=self._there))

    def _obey(self, seconds: float) -> None:
        """Do what the keys ask that come in so many seconds; each is shown at once."""
        until = time.monotonic() + seconds
        while self._going:
            key = self._terminal.key(until - time.monotonic())
            if key is None:
                return
            self._do(key)
            self._draw()

    def _do(self, key: str) -> None:
        if self._view.typing:
            self._type(key)
        elif self._view.page is not None:
            self._do_on_page(key)
        else:
            self._do_on_list(key)

    # Keys on the list.

    def _do_on_list(self, key: str) -> None:
        moves = {UP: -1, "k": -1, DOWN: 1, "j": 1, PAGE_UP: -10, PAGE_DOWN: 10}
        if self._shown is not None and key in moves:
            self._set(cursor=moved_cursor(self._shown, self._view, moves[key]))
        does: dict[str, Callable[[], None]] = {
            "q": self._quit,
            ENTER: self._explain,
            "s": self._sort,
            "/": lambda: self._set(typing=True),
            ESCAPE: lambda: self._set(filter="", message=""),
            "p": self._pause,
            "n": self._show_namespaces,
            "t": self._trace,
            "?": lambda: self._open(HELP, "keys, and what is shown"),
            "[": lambda: self._step(-1),
            "]": lambda: self._step(1),
        }
        if key in does:
            does[key]()

    def _set(self, **changes: Any) -> None:
        self._view = self._view._replace(**changes)

    def _quit(self) -> None:
        self._going = False

    def _sort(self) -> None:
        sort = SORTS[(SORTS.index(self._view.sort) + 1) % len(SORTS)]
        self._set(sort=sort)
        self._say(f"sorted by {sort}")

    def _pause(self) -> None:
        self._set(paused=not self._view.paused)
        if not self._view.paused:
            self._shown = self._latest

    def _step(self, by: int) -> None:
        stepped = self._source.step(by)
        if stepped is None:
            self._say("[ and ] step through recordings: tcpdoctor watch --from A B")
        else:
            self._before, self._latest, self._shown = self._shown, stepped, stepped

    def _trace(self) -> None:
        """Begin or end a trace of who closes first at each listener, or say why there is none."""
        if not isinstance(self._source, Live):
            self._say("a recording cannot be traced: tcpdoctor trace looks at this host")
        elif self._closings is not None:
            self._end_trace()
            self._say("the trace has ended")
        else:
            from tcpdoctor.answers.trace import Closings  # who does not trace does without

            try:
                self._closings = Closings()
            except TcpdoctorError as error:
                self._say(str(error))
                return
            if self._closings.why_not:
                self._say(f"who closes first is not told: {self._closings.why_not}")
                self._end_trace()
                return
            self._source.watcher.closed_here = self._closings.shares
            self._set(tracing=True)
            self._say("tracing: who closes first is counted from here on")

    def _end_trace(self) -> None:
        if self._closings is not None:
            self._closings.close()
        self._closings = None
        if isinstance(self._source, Live):
            self._source.watcher.closed_here = untraced
        self._set(tracing=False)

    def _say(self, text: str) -> None:
        self._set(message=text)
        self._said_until = time.monotonic() + _SAID_FOR

    def _type(self, key: str) -> None:
        """Take a key of the filter, which works while it is typed."""
        typed = self._view.filter
        if key == ENTER:
            self._set(typing=False)
        elif key == ESCAPE:
            self._set(typing=False, filter="")
        elif key == ERASE:
            self._set(filter=typed[:-1])
        elif len(key) == 1 and len(typed) < _WIDEST_PAGE:
            self._set(filter=typed + key)

    # Pages.

    def _open(self, text: str, title: str) -> None:
        style = self._style()
        lines = [line for part in style.wrap(text).splitlines() for line in (part or "").split("\n")]
        self._set(page=tuple(lines), title=title, scroll=0, choice=None)

    def _style(self) -> Style:
        columns = self._terminal.size().columns
        return self._there._replace(color=False, width=max(40, min(columns, _WIDEST_PAGE)))

    def _explain(self) -> None:
        """Open the row under the cursor: its page, and behind it what explain says of it here."""
        row = selected_row(self._shown, self._view) if self._shown is not None else None
        if row is None:
            return
        style = self._style()
        lines = [*self._page_of(row, style.width)]
        if not self._source.steps:
            lines += ["", *_explained(row, style)]
        self._set(page=tuple(lines), title=row.label, scroll=0, choice=None)

    def _do_on_page(self, key: str) -> None:
        lines = len(self._view.page or ())
        room = max(1, self._terminal.size().lines - 2)
        moves = {UP: -1, "k": -1, DOWN: 1, "j": 1, PAGE_UP: -room, "b": -room, PAGE_DOWN: room, " ": room}
        if key in moves and self._view.choice is not None:
            choice = max(0, min(lines - 1, self._view.choice + moves[key]))
            scroll = min(max(self._view.scroll, choice - room + 1), choice)
            self._set(choice=choice, scroll=scroll)
        elif key in moves:
            scroll = max(0, min(lines - room, self._view.scroll + moves[key]))
            self._set(scroll=scroll)
        elif key == ENTER and self._view.choice is not None and self._chosen is not None:
            self._chosen(self._view.choice)
        elif key in (ESCAPE, ENTER, "?"):
            self._close()
        elif key == "q":
            self._going = False

    def _close(self) -> None:
        self._set(page=None, choice=None, scroll=0, message="")
        self._chosen = None

    # Network namespaces.

    def _show_namespaces(self) -> None:
        if not isinstance(self._source, Live):
            self._say("a recording is of one network namespace")
            return
        places = [who_is_inside(place) for place in find_namespaces().places]
        here = network_namespace()
        lines = tuple(
            f" {place_of(place, self._home).label}{'  (shown)' if place.inode == here else ''}"
            for place in places
        )
        title = "network namespaces of this host"
        self._set(page=lines, title=title, scroll=0, choice=0)
        self._chosen = lambda choice: self._go_to(places[choice])

    def _go_to(self, place: NamespacePlace) -> None:
        """Look from inside another namespace from here on."""
        held = hold(place)
        if isinstance(held, Missing):
            self._say(held.reason)
            return
        try:
            enter_held(held.descriptor, "it cannot be entered")
        except TcpdoctorError as error:
            self._say(str(error))
            return
        finally:
            os.close(held.descriptor)
        named = place_of(place, self._home)
        self._there = self._there._replace(netns=named.netns, way=named.way or "", is_host=named.own)
        self._close()
        self._end_trace()
        if isinstance(self._source, Live):
            self._source.elsewhere()
        self._set(cursor="", paused=False)
        self._before = None
        self._latest = self._shown = self._source.next()
        self._going = self._latest is not None


def _explained(row: Row, style: Style) -> list[str]:
    """What `explain` says of a row here and now, or why it cannot."""
    try:
        blocks = _blocks_of(row, style)
    except TcpdoctorError as error:
        return style.wrap(str(error)).splitlines()
    return page_text(blocks, style).splitlines() if blocks else []


def _blocks_of(row: Row, style: Style) -> Iterable[Block]:
    """Ask the question that a row stands for; each is imported only when it is asked.

    Raises:
        QuestionError: It has no answer any more, as of a process that has ended.
    """
    match row:
        case StateRow():
            from tcpdoctor.answers.knowledge import look_at_state
            from tcpdoctor.report.knowledge_text import state_page

            return state_page(look_at_state(row.label), style)
        case OwnerRow(pid=int(pid)):
            from tcpdoctor.answers.process import look_at_processes
            from tcpdoctor.report.process_text import process_page

            return process_page(look_at_processes((pid,), shortly=True), style, long=False)
        case DestinationRow():
            from tcpdoctor.answers.connect import Client, look_at_connection
            from tcpdoctor.report.connect_text import connect_page

            client = Client(row.source, look_up=False, netns=style.netns)
            return connect_page(look_at_connection(row.peer, client), style, long=False)
        case ListenerRow():
            from tcpdoctor.answers.port import PortQuestion, look_at_port
            from tcpdoctor.report.port_text import port_page

            return port_page(look_at_port(PortQuestion(row.port)), style, long=False)
        case _:
            return ()
