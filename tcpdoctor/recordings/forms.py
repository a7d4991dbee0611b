"""Pasted text told apart by content, several forms behind each other.

What people paste has been through terminals, chats and trackers: what those add is taken off before anything
is read (`tcpdoctor.recordings.pasted`), and what a terminal cut in two is put together.

Two small forms are read here: settings as ``sysctl -a`` prints them, whole or in part, and how many sockets
there are in each state, as a shell counts them, with the totals of ``ss -s``. Of
``netstat -ant | awk '{print $6}' | sort | uniq -c`` and its kin the number stands before the word or
(``awk '{++n[$1]} END ...'``) behind it. Words of the headings are counted along by such a line, ``Foreign``
and ``established)`` of netstat and ``State`` of ss: they show that nothing was taken out before.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from tcpdoctor.errors import KernelReadError, SnapshotError
from tcpdoctor.kernel.reading import Missing, Reading, Refused
from tcpdoctor.kernel.snapshot import SysctlValue
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState
from tcpdoctor.kernel.sysctl import is_secret, parse_sysctl
from tcpdoctor.kernel.text import clean
from tcpdoctor.recordings.lsof import LSOF_FIELD, LSOF_HEADER, LSOF_NOISE, LSOF_SOCKET, read_lsof
from tcpdoctor.recordings.netstat import NETSTAT_HEADER, NETSTAT_NOISE, NETSTAT_SOCKET, STATES, read_netstat
from tcpdoctor.recordings.nstat import (
    is_conntrack_line,
    is_nstat_line,
    is_section,
    read_counters_text,
    spelt_out,
)
from tcpdoctor.recordings.pasted import (
    ASK_FOR_SS,
    ASK_SYSCTL,
    Command,
    Pasted,
    command_in,
    is_of_a_shell,
    not_understood,
    tidied,
)
from tcpdoctor.recordings.procfiles import kind_of_line, read_proc_text
from tcpdoctor.recordings.ss import SS_BARE, SS_HEADER, SS_SOCKET, SS_STARTS, ends_details, read_ss

_ROOTS = "abi|crypto|debug|dev|fs|kernel|net|sunrpc|user|vm"
_SETTING = re.compile(rf"((?:{_ROOTS})[./][\w.:@/-]+) = ?(.*)$")
_REFUSED = re.compile(r"sysctl: permission denied on key ['\"]?([\w.:@/-]+?)['\"]?:?$", re.IGNORECASE)
_NOISE = re.compile(r"sysctl: ")
_WISH = re.compile(rf"\s*-?(?:{_ROOTS})[./][\w.:@/*-]+\s*=\s*\S")
"""A line of a file of settings, which is not what is in force."""
_WISHES = "KEY=VALUE as a file has it is not what is in force; ask for: sysctl -a"


def is_setting_line(line: str) -> bool:
    """Whether a line is one that ``sysctl`` prints."""
    return bool(_SETTING.match(line) or _NOISE.match(line))


def read_settings_text(text: str) -> Pasted:
    """Read what ``sysctl`` printed, typed as a live look types it.

    A key that it was refused, that does not hold what its name says, or that is there twice with different
    values is Missing; secret keys are left out.
    """
    found: dict[str, Reading[SysctlValue]] = {}
    leftover = []
    lines = [line.rstrip("\r") for line in text.split("\n")]
    edge = _edge(lines)
    for line in lines:
        if match := _SETTING.match(line):
            _add(found, match[1], match[2], cut=len(line) == edge)
        elif refused := _REFUSED.match(line):
            found.setdefault(
                refused[1], Refused(f"{clean(refused[1])}: sysctl was not allowed to read it; run it as root")
            )
        elif line.strip() and not _NOISE.match(line):
            leftover.append(line)
    notes = not_understood(leftover)
    if any(map(_WISH.match, leftover)):
        notes = (*notes, _WISHES)
    return Pasted(form="sysctl", sysctls=found or Missing("the recording has no settings"), notes=notes)


def _edge(lines: Sequence[str]) -> int:
    """Where a terminal cut the lines, if several are as long as none is longer; else 0."""
    longest = max(map(len, lines), default=0)
    many = sum(len(line) == longest for line in lines) > 1
    return longest if many and _NARROWEST <= longest <= _WIDEST else 0


def _add(found: dict[str, Reading[SysctlValue]], name: str, text: str, *, cut: bool) -> None:
    if is_secret(name):
        return
    value = Missing(f"{name} is cut in the recording; {ASK_SYSCTL}") if cut else _typed(name, text)
    earlier = found.get(name, value)
    both = isinstance(earlier, Missing) or earlier == value
    found[name] = value if both else Missing(f"{name} is in the recording twice, with different values")


def _typed(name: str, text: str) -> Reading[SysctlValue]:
    try:
        return parse_sysctl(name, text.strip(), f"{name} in the recording")
    except KernelReadError as error:
        return Missing(str(error))


_HEADINGS = ("Foreign", "Adresse", "Address", "established)", "servers)", "State", "Recv-Q", "stehende")
_WORD = "|".join(sorted((*map(re.escape, (*STATES, *_HEADINGS)),), key=len, reverse=True))
_SPELT = r"(?:FIN-WAIT-[12]|TIME-WAIT|CLOSE-WAIT|SYN-SENT|SYN-RECV|LAST-ACK|UNCONN)"
COUNT_LINE = re.compile(rf"\s*(?:(\d{{1,9}})\s+({_WORD}|{_SPELT})|({_WORD}|{_SPELT})[\s:=]+(\d{{1,9}}))\s*$")
"""A count and a state, in either order."""
_ANY = re.compile(r"\s*(?:\d{1,9}\s+\S{1,60}|\S{1,60}\s+\d{1,9}|\d{1,9})\s*$")


def read_counts(lines: Sequence[str], command: Command | None = None) -> Pasted:  # noqa: ARG001
    """Read counts by state; a state that is not among them is not known, where not all were counted."""
    counts: dict[TcpState, int] = {}
    headings, leftover = False, []
    for line in lines:
        if (match := COUNT_LINE.match(line)) is None:
            if line.strip() and not _ANY.match(line):
                leftover.append(line)
            continue
        word, number = match[2] or match[3], int(match[1] or match[4])
        state = STATES.get(word.upper().replace("-", "_"))
        if state is None or state is TcpState.CLOSE:
            headings = True
        else:
            counts[state] = counts.get(state, 0) + number
    return Pasted(
        "counts",
        counts=_all_states(counts) if headings and TcpState.LISTEN in counts else counts,
        every_socket=_whole(counts, headings=headings),
        notes=not_understood(leftover),
    )


def _all_states(counts: dict[TcpState, int]) -> dict[TcpState, int]:
    return {state: counts.get(state, 0) for state in COUNTED_STATES if state is not TcpState.BOUND}


def _whole(counts: dict[TcpState, int], *, headings: bool) -> Reading[bool]:
    if not headings:
        return Missing(f"the counts may be of a part: no words of the headings are among them; {ASK_FOR_SS}")
    if TcpState.LISTEN not in counts:
        return Missing(f"listeners were not counted, so it is a part of the states; {ASK_FOR_SS}")
    return True


SUMMARY_LINE = re.compile(
    r"\s*(?:Total: \d+|TCP:\s+\d+ \(estab \d+|Transport\s+Total\s+IP\s+IPv6"
    r"|(?:\*|RAW|UDP|TCP|INET|FRAG)\s+(?:\d+|-)\s+(?:\d+|-)\s+(?:\d+|-)\s*$)"
)
"""A line of ``ss -s``."""
_TCP = re.compile(
    r"\s*TCP:\s+(\d{1,12}) \(estab (\d{1,12}), closed -?\d+, orphaned (\d{1,12}),"
    r"(?: synrecv \d+,)? timewait (\d{1,12})(?:/\d+)?\)"
)
_FAMILIES = re.compile(r"\s*(TCP|UDP|RAW)\s+\d+\s+(\d{1,12})\s+(\d{1,12})\s*$")
_USED = re.compile(r"\s*Total: (\d{1,12})")


def read_summary(lines: Sequence[str], command: Command | None = None) -> Pasted:  # noqa: ARG001
    """Read ``ss -s``: what it took from sockstat by the names there, and ``Tcp.CurrEstab``.

    Its ``estab`` is CurrEstab, which counts CLOSE_WAIT too; its ``timewait`` counts the mini-sockets of
    FIN_WAIT_2; its ``closed`` is a difference between sockets of the whole machine and those of one network
    namespace. So none of them is a count by state.
    """
    sockstat: dict[str, int] = {}
    counters: dict[str, int] = {}
    leftover = []
    for line in lines:
        if match := _TCP.match(line):
            total, established, orphans, stubs = map(int, match.groups())
            sockstat.update({"TCP.orphan": orphans, "TCP.tw": stubs, "TCP.alloc": total - stubs})
            counters["Tcp.CurrEstab"] = established
        elif match := _FAMILIES.match(line):
            sockstat[f"{match[1]}.inuse"] = int(match[2])
            sockstat[f"{match[1]}6.inuse"] = int(match[3])
        elif match := _USED.match(line):
            sockstat["sockets.used"] = int(match[1])
        elif line.strip() and not SUMMARY_LINE.match(line):
            leftover.append(line)
    return Pasted(
        "ss",
        counters=counters or Missing("the recording has no counters"),
        sockstat=sockstat or Missing("the recording has no /proc/net/sockstat"),
        notes=not_understood(leftover),
    )


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
