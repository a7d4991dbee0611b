"""Pasted text told apart by content, several forms behind each other.

What people paste has been through terminals, chats and trackers: prompts, colours, quotation marks of mail,
fences of Markdown, carriage returns and no-break spaces are taken off before anything is read.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.text import clean
from tcpdoctor.recordings.counts import COUNT_LINE, read_counts
from tcpdoctor.recordings.lsof import LSOF_HEADER, LSOF_SOCKET, read_lsof
from tcpdoctor.recordings.netstat import NETSTAT_HEADER, NETSTAT_NOISE, NETSTAT_SOCKET, read_netstat
from tcpdoctor.recordings.nstat import is_conntrack_line, is_nstat_line, read_counters_text
from tcpdoctor.recordings.pasted import Pasted, not_understood
from tcpdoctor.recordings.procfiles import kind_of_line, read_proc_text
from tcpdoctor.recordings.prompt import Command, command_in
from tcpdoctor.recordings.settings import is_setting_line, read_settings_text
from tcpdoctor.recordings.ss import SS_BARE, SS_HEADER, SS_SOCKET, read_ss
from tcpdoctor.recordings.ss_summary import SUMMARY_LINE, read_summary
from tcpdoctor.recordings.statistics import is_section

_Kind: TypeAlias = Literal["ss", "summary", "netstat", "lsof", "counts", "proc", "counters", "settings"]

_COLOURS = re.compile(r"\x1b(?:\[[0-9;?]{0,20}[A-Za-z]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[()][A-Z0-9])")
_QUOTE = re.compile(r"(?:> ?){1,9}(?=\S|\s|$)")
_FENCE = re.compile(r"\s*(?:```|~~~)[\w-]{0,20}\s*$|\s*</?(?:pre|code)>\s*$")
_NUMBERED = re.compile(
    r"\s{0,6}\d{1,6}(?::|\t)\s{0,2}(?=(?:(?:tcp|udp)6?|[A-Z][A-Z-]{4,9}[12]?)\s+(?:[A-Z]+\s+)?\d+\s+\d+\s)"
)
"""The number of the line, as ``grep -n`` and ``cat -n`` print it before a socket."""
_PROC_SYS = "/proc/sys/"
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

    def add(self, line: str) -> None:
        """Take a line of which it is known that it is of this form."""
        self.lines.append(line)
        if not _is_heading(line):
            self.sockets = True
        elif (match := SS_HEADER.match(line)) is not None:
            self.bare = match["state"] is None

    def goes_on(self, line: str) -> bool:
        """Whether a line is surely one of it, whatever else it looks like."""
        if not line or line[0] == "\t":
            return True
        return self.kind == "ss" and (SS_BARE if self.bare else SS_SOCKET).match(line) is not None


def read_forms(text: str, shown: str) -> list[Pasted]:
    """Return what each of the forms in a paste says, in their order.

    Args:
        text: All of it, bytes that are no UTF-8 as surrogates.
        shown: Names the file in errors.

    Raises:
        SnapshotError: Nothing in it is understood, or it is of another system; one line.
    """
    sections, leftover = _sections(_tidied(text), shown)
    found = [_read(section) for section in sections]
    sections.clear()
    if not found:
        first = f", first line: {clean(leftover[0].strip(), 60)}" if leftover else ""
        raise SnapshotError(
            f"{shown}: nothing of ss, netstat, lsof, nstat, sysctl or /proc/net is in it{first}; "
            "ask for: ss -tanoempi"
        )
    found[0] = found[0]._replace(notes=(*not_understood(leftover), *found[0].notes))
    return found


def _tidied(text: str) -> Iterator[str]:
    """The lines of a text without what a terminal, a mail or a tracker added."""
    if "\x1b" in text:
        text = _COLOURS.sub("", text)
    for odd, plain in (("\xa0", " "), ("\ufeff", ""), ("\u200b", ""), ("&gt;", ">"), ("&lt;", "<")):
        if odd in text:
            text = text.replace(odd, plain)
    place, end = 0, len(text)
    while place < end:
        after = text.find("\n", place)
        after = end if after < 0 else after
        line = text[place:after].rstrip()
        place = after + 1
        if line[:1] == ">":
            line = line[_quoted(line) :]
        if len(line) < 40 and _FENCE.match(line):
            continue
        if line[:1].isdecimal() or line[:2] == "  ":
            line = _NUMBERED.sub("", line, count=1)
        yield line


def _quoted(line: str) -> int:
    match = _QUOTE.match(line)
    return match.end() if match else 0


def _sections(lines: Iterable[str], shown: str) -> tuple[list[_Section], list[str]]:
    """Part lines into forms; return them, and the lines before the first."""
    sections: list[_Section] = []
    leftover: list[str] = []
    current: _Section | None = None
    command: Command | None = None
    for line in lines:
        if current is not None and current.goes_on(line):
            current.sockets = True
            current.lines.append(line)
            continue
        kind = _kind_of(line, shown)
        if kind is None and (setting := _setting(line, command)) is not None:
            kind, line = "settings", setting
        if kind is not None:
            current = _continued(sections, current, kind, line)
            if current is None:
                current = _Section(kind, command)
                sections.append(current)
            current.add(line)
        elif (typed := command_in(line)) is not None:
            command, current = typed, None
        elif current is not None:
            current.lines.append(line)
        elif line:
            leftover.append(line)
    return sections, leftover


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
    ("lsof", (LSOF_HEADER, LSOF_SOCKET)),
)


def _read(section: _Section) -> Pasted:
    """Read one form."""
    if section.kind in ("proc", "counters", "settings"):
        read = {"proc": read_proc_text, "counters": read_counters_text, "settings": read_settings_text}
        return read[section.kind]("\n".join(section.lines))
    sockets = {
        "ss": read_ss,
        "netstat": read_netstat,
        "lsof": read_lsof,
        "summary": read_summary,
        "counts": read_counts,
    }
    lines, section.lines = section.lines, []
    return sockets[section.kind](lines, section.command)
