"""Pasted text told apart by content, several forms behind each other.

What people paste has been through terminals, chats and trackers: what those add is taken off before anything
is read (`tcpdoctor.recordings.tidied`), and what a terminal cut in two is put together.
"""

import re
from collections.abc import Iterable
from typing import Literal, TypeAlias

from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.text import clean
from tcpdoctor.recordings.counts import COUNT_LINE, SUMMARY_LINE, read_counts, read_summary
from tcpdoctor.recordings.lsof import LSOF_FIELD, LSOF_HEADER, LSOF_NOISE, LSOF_SOCKET, read_lsof
from tcpdoctor.recordings.netstat import NETSTAT_HEADER, NETSTAT_NOISE, NETSTAT_SOCKET, read_netstat
from tcpdoctor.recordings.nstat import (
    is_conntrack_line,
    is_nstat_line,
    is_section,
    read_counters_text,
    spelt_out,
)
from tcpdoctor.recordings.pasted import ASK_FOR_SS, Pasted, not_understood
from tcpdoctor.recordings.procfiles import kind_of_line, read_proc_text
from tcpdoctor.recordings.settings import is_setting_line, read_settings_text
from tcpdoctor.recordings.ss import SS_BARE, SS_HEADER, SS_SOCKET, SS_STARTS, ends_details, read_ss
from tcpdoctor.recordings.tidied import Command, command_in, is_of_a_shell, tidied

_Kind: TypeAlias = Literal["ss", "summary", "netstat", "lsof", "counts", "proc", "counters", "settings"]

_PROC_SYS = "/proc/sys/"
_FILE = re.compile(r"==> (/\S{1,200}) <==$")
"""What ``head`` and ``tail`` print above each of several files."""
_OF_FILE = re.compile(r"(/proc/(?:sys|net|[\w-]{1,20}/net)/[\w./-]{1,200}):(.*)$", re.DOTALL)
"""What ``grep . FILE...`` prints: the file's name before each of its lines."""
_NUMBER_LAST = re.compile(r"[\w./-]{1,80} ?= ?\S|[A-Z][A-Za-z0-9]{1,60} +\d")
"""A setting, or a counter of nstat."""
_OPEN = "(/.,=[:"
"""With none of these the line of a socket ends."""
_DIFFERENT = 12
"""Characters by which lines of sockets differ that are not filled with blanks."""
_LOOKED_BACK = 2_000
"""Characters before the last line."""
_NARROWEST, _WIDEST = 60, 400
"""Columns of terminals that cut lines."""
_USUAL = (80, 100, 120, 132, 160)
"""Of these one is meant where no line is quite as long, for blanks at the edge are gone."""
_BLANKS_AT_EDGE = {"netstat": 40, "lsof": 40, "proc": 40, "counters": 0, "settings": 0}
"""How many blanks, which are taken off, may have stood before the edge, by form: of those whose lines stand
alone, so that one that means nothing may be the rest of the one above it."""
_ASK = "take it there with: ss -tanoempi"
_FOREIGN = (
    (
        re.compile(
            r"\s*Proto\s+Recv-Q\s+Send-Q\s+Local Address\s+Foreign Address\s+\(state\)"
            r"|\s*(?:tcp|udp)(?:4|46)\s+\d+\s+\d+\s+\S+\.(?:\d+|\*)\s|Active LOCAL \(UNIX\)"
        ),
        "netstat of macOS or BSD",
    ),
    (
        re.compile(
            r"\s*Proto\s+(?:Local Address|Lokale Adresse|Adresse locale)\s+\S.*\S"
            r"|\s*TCP\s+\S+:\d+\s+\S+:\d+\s+\S"
        ),
        "netstat of Windows",
    ),
    (re.compile(r"\s*LocalAddress\s+LocalPort\s+RemoteAddress"), "Get-NetTCPConnection of Windows"),
    (re.compile(r"\s*USER\s+COMMAND\s+PID\s+FD\s+PROTO\s"), "sockstat of FreeBSD"),
    (re.compile(r"\s*(?:TCP: IPv4$|Local Address\s+Remote Address\s+Swind)"), "netstat of Solaris"),
)
"""What other systems print, and who prints it."""


class _Section:
    """Lines of one form, and the command above them."""

    def __init__(self, kind: _Kind, command: Command | None) -> None:
        self.kind = kind
        self.command = command
        self.lines: list[str] = []
        self.sockets = False
        self.bare = False
        """Its headings have no column for the state."""
        self._rests: set[int] = set()

    def add(self, line: str) -> None:
        """Take a line of which it is known that it is of this form."""
        self.lines.append(line)
        if not _is_heading(line):
            self.sockets = True
        elif (match := SS_HEADER.match(line)) is not None:
            self.bare = match["state"] is None

    def add_rest(self, line: str) -> None:
        """Take a line that says nothing alone: the rest of one that a terminal cut, or a remark."""
        if line and not (self.kind == "counters" and line[0].isspace()):  # as netstat -s prints its words
            self._rests.add(len(self.lines))
        self.lines.append(line)

    def whole_lines(self) -> list[str]:
        """The lines, those that the edge of a terminal cut put together."""
        lines, self.lines = self.lines, []
        longest = max(map(len, lines), default=0)
        edge = next((columns for columns in _USUAL if 0 <= columns - longest <= 4), longest)
        if not self._rests or self.kind not in _BLANKS_AT_EDGE or not _NARROWEST <= edge <= _WIDEST:
            return lines
        found: list[str] = []
        width = 0
        for place, line in enumerate(lines):
            if found and place in self._rests and 0 <= edge - width <= _BLANKS_AT_EDGE[self.kind]:
                found[-1] += " " * (edge - width) + line
            else:
                found.append(line)
            width = len(line)
        return found

    def goes_on(self, line: str) -> bool:
        """Whether a line is surely one of it, whatever else it looks like."""
        if not line or line[0] == "\t":
            return True
        if self.kind != "ss":
            return False
        return line[:6] in SS_STARTS or (SS_BARE if self.bare else SS_SOCKET).match(line) is not None


def read_forms(text: str, shown: str) -> list[Pasted]:
    """Return what each of the forms in a paste says, in their order.

    Args:
        text: All of it, bytes that are no UTF-8 as surrogates.
        shown: Names the file in errors.

    Raises:
        SnapshotError: Nothing in it is understood, or it is of another system; one line.
    """
    text, ending, is_cut = _whole_lines_of(text)
    sections, leftover = _sections(tidied(spelt_out(text)), shown)
    found = [_read(section) for section in sections]
    sections.clear()
    if not found:
        first = f", first line: {clean(leftover[0].strip(), 60)}" if leftover else ""
        raise SnapshotError(
            f"{shown}: nothing of ss, netstat, lsof, nstat, sysctl or /proc/net is in it{first}; "
            "ask for: ss -tanoempi"
        )
    found[0] = found[0]._replace(notes=(*not_understood(leftover), *found[0].notes, *ending))
    if is_cut and found[-1].every_socket is True:
        found[-1] = found[-1]._replace(every_socket=Missing(f"{ending[0]}; {ASK_FOR_SS}"))
    return found


def _whole_lines_of(text: str) -> tuple[str, tuple[str, ...], bool]:
    """A text without a last line that was cut, the note of that, and whether it surely was.

    Copied text often ends without the end of a line, and what was cut short does. Where lines are filled with
    blanks, as ss and netstat do it, a shorter one is cut, and what ss -i says of a socket has an end;
    elsewhere the last word may be.
    """
    head, _, last = text.rpartition("\n")
    first = last.split(maxsplit=1)[0] if last and not last.isspace() else ""
    before = [line for line in head[-_LOOKED_BACK:].split("\n")[1:] if line]
    alike = [line for line in before if first and line.lstrip().startswith(first)]
    filled = [line for line in alike if line[-1] == " " and len(line) > len(last)]
    is_short = alike and (last[-1] in _OPEN or len(last) + _DIFFERENT < min(map(len, alike)))
    is_short = is_short or (filled and len(filled) > len(before) / 2)
    if is_short or (" rto:" in last and not ends_details(last)):
        return f"{head}\n", ("it ends in the middle of a line, which is left out",), True
    may_go_on = (_NUMBER_LAST, SS_SOCKET, NETSTAT_SOCKET)
    if not last.rstrip()[-1:].isalnum() or not (alike or any(form.match(last) for form in may_go_on)):
        return text, (), False
    return (
        text,
        (f"it ends without the end of a line: {clean(last.split()[-1], 40)} may be cut short",),
        False,
    )


def _sections(lines: Iterable[str], shown: str) -> tuple[list[_Section], list[str]]:
    """Part lines into forms; return them, and the lines before the first."""
    parts = _Parts(shown)
    for line in lines:
        parts.take(line)
    return parts.sections, parts.leftover


class _Parts:
    """The forms in the lines read so far."""

    def __init__(self, shown: str) -> None:
        self.sections: list[_Section] = []
        self.leftover: list[str] = []
        self._shown = shown
        self._current: _Section | None = None
        self._command: Command | None = None

    def take(self, line: str) -> None:
        """Take the next line."""
        current = self._current
        if current is not None and current.goes_on(line):
            current.sockets = True
            current.lines.append(line)
            return
        line = self._without_file(line)
        kind = _kind_of(line, self._shown)
        if kind is None and (setting := _setting(line, self._command)) is not None:
            kind, line = "settings", setting
        if kind is not None:
            self._begin(kind, line)
        else:
            self._take_other(line)

    def _without_file(self, line: str) -> str:
        """The line without the file that grep put before it; what head put above a file is a command."""
        if line[:4] == "==> " and (match := _FILE.match(line)):
            self._command, self._current = Command("cat", frozenset(), (match[1],), "", by_root=False), None
            return ""
        if line[:6] == "/proc/" and (match := _OF_FILE.match(line)):
            self._command = Command("cat", frozenset(), (match[1],), "", by_root=False)
            return match[2]
        return line

    def _begin(self, kind: _Kind, line: str) -> None:
        """Take a line of which it is known of what form it is."""
        self._current = _continued(self.sections, self._current, kind, line)
        if self._current is None:
            self._current = _Section(kind, self._command)
            self.sections.append(self._current)
        self._current.add(line)

    def _take_other(self, line: str) -> None:
        """Take a line that is of no form by itself."""
        current = self._current
        if current is not None and not current.sockets and line and "Process".endswith(line.strip()):
            current.lines.append(line)  # the rest of the headings of ss, which is no command
        elif (typed := command_in(line)) is not None:
            self._command, self._current = typed, None
        elif is_of_a_shell(line):
            self._command = self._current = None
        elif current is not None:
            current.add_rest(line)
        elif line and not LSOF_NOISE.match(line):
            self.leftover.append(line)


def _setting(line: str, command: Command | None) -> str | None:
    """The value that ``cat /proc/sys/net/...`` printed, as sysctl prints it."""
    if command is None or command.program != "cat" or len(command.words) != 1 or not line:
        return None
    (path,) = command.words
    if not path.startswith(_PROC_SYS) or not line[:1].isalnum() or len(line) > 200:
        return None
    return f"{path[len(_PROC_SYS) :].replace('/', '.')} = {line}"


def _continued(sections: list[_Section], current: _Section | None, kind: _Kind, line: str) -> _Section | None:
    """The section that a line goes on with; None: it begins one."""
    if kind in ("proc", "counters", "settings"):
        return next((section for section in sections if section.kind == kind), None)
    if current is None or current.kind != kind:
        return None
    return None if current.sockets and _is_heading(line) and kind != "netstat" else current


def _is_heading(line: str) -> bool:
    return bool(SS_HEADER.match(line) or NETSTAT_HEADER.match(line) or LSOF_HEADER.match(line))


def _kind_of(line: str, shown: str) -> _Kind | None:
    """What form a line is of; None: it does not say."""
    for kind, patterns in _LINES:
        if any(pattern.match(line) for pattern in patterns):
            return kind
    for pattern, program in _FOREIGN:
        if pattern.match(line):
            raise SnapshotError(f"{shown}: {program}, and tcpdoctor knows Linux only; {_ASK}")
    if kind_of_line(line) not in (None, "cut"):
        return "proc"
    if is_nstat_line(line) or is_conntrack_line(line) or is_section(line):
        return "counters"
    return "settings" if is_setting_line(line) else None


_LINES: tuple[tuple[_Kind, tuple[re.Pattern[str], ...]], ...] = (
    ("counts", (COUNT_LINE,)),  # first: the beginning of a socket would do for a state and a number
    ("ss", (SS_SOCKET, SS_HEADER)),
    ("netstat", (NETSTAT_SOCKET, NETSTAT_HEADER, NETSTAT_NOISE)),
    ("summary", (SUMMARY_LINE,)),
    ("lsof", (LSOF_HEADER, LSOF_SOCKET, LSOF_FIELD)),
)


def _read(section: _Section) -> Pasted:
    """Read one form."""
    if section.kind in ("proc", "counters", "settings"):
        read = {"proc": read_proc_text, "counters": read_counters_text, "settings": read_settings_text}
        return read[section.kind]("\n".join(section.whole_lines()))
    sockets = {
        "ss": read_ss,
        "netstat": read_netstat,
        "lsof": read_lsof,
        "summary": read_summary,
        "counts": read_counts,
    }
    return sockets[section.kind](section.whole_lines(), section.command)
