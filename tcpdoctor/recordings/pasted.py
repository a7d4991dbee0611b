"""What one printed form says of a host, in the kernel's words, and nothing that it does not say.

A form is the output of one program (``ss``, ``netstat``, ``nstat``, ``sysctl``, ``lsof``) or a copy of a file
of /proc. Each of them leaves things out: what it leaves out is Missing here, with what to ask for next.

Before it is read a paste loses what terminals, mails, logs and trackers added to it: colours, quotation
marks, fences, entities of HTML, line numbers, time stamps, indentation and prompts. What is taken off is
known to be no part of what a program printed. The command line above it says what the printed text alone
cannot: what was asked for, and whether all of the answer is there.
"""

import html
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice, pairwise
from typing import Literal, Protocol, TypeVar

from tcpdoctor.kernel.counters import CpuPackets
from tcpdoctor.kernel.reading import INTERRUPTED, UNDERWAY, Missing, Reading
from tcpdoctor.kernel.snapshot import Endpoint, Owner, SocketMemory, SysctlValue, TcpInfo
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.kernel.text import clean
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.recordings.source import Form as Form

ASK_FOR_SS = "ask for: ss -tanoempi"
"""Ends the reason of what a form of sockets leaves out: this prints it."""
ASK_SYSCTL = "ask for: sysctl -a"
NOT_ALL = Missing(f"some of its sockets could not be read; {ASK_FOR_SS}")
_NARROWEST, _WIDEST = 40, 400
"""Columns to which somebody may have cut lines."""
_SEVERAL = 3
"""Lines that end at one column by chance are fewer, or end as the program ends them."""
IPV4_HAS_NONE = Missing("an IPv4 socket has no IPV6_V6ONLY")
LIMIT_OF_LISTENERS = Missing("only a listener has one")
LAST_PORT = 65_535
_ASK_COMMAND = "put the command that printed it on the line above it ($ ss -tanoempi)"


class Unread(Protocol):
    """What is printed of a connection, read when somebody asks: of very many nobody asks for most."""

    def read(self) -> Reading[TcpInfo]:
        """Return what it says."""


class PastedSocket(NamedTuple):
    """One socket as a program printed it."""

    protocol: Literal["tcp", "udp"]
    state: TcpState
    """CLOSE for a UDP socket that is not connected."""
    family: int
    """4 or 6, of the socket where the form tells it, else of its address."""
    local: Endpoint
    remote: Endpoint
    """Port 0: none."""
    device: Reading[str | None]
    """Name of the interface behind ``%`` of the local address; None: none. Missing where it is dropped."""
    receive_queue: Reading[int]
    """Bytes unread; of a listener, connections that wait for accept()."""
    send_queue: Reading[int]
    """Bytes unsent or not acknowledged; nothing of a listener: see `accept_limit`."""
    accept_limit: Reading[int]
    """Of a listener; only ``ss`` prints it."""
    timer: Reading[Timer]
    expires: Reading[float]
    """Seconds until `timer` fires."""
    retransmits: Reading[int]
    """Tries since the last progress."""
    owner: Owner
    """NotHeld only where the form says so for sure (inode 0); `Holder.uid` is -1 where it is not told."""
    inode: Reading[int]
    uid: Reading[int]
    cookie: Reading[int]
    v6only: Reading[bool]
    cgroup: Reading[str]
    """Path of its creator's control group (``ss --cgroup``, or ``-e`` of late versions)."""
    details: Reading[Unread]
    memory: Reading[SocketMemory]

    @property
    def info(self) -> Reading[TcpInfo]:
        """What the kernel tells of the connection (``ss -i``)."""
        return self.details if isinstance(self.details, Missing) else self.details.read()


class Pasted(NamedTuple):
    """What one form said. A part that it does not speak of is Missing."""

    form: Form
    sockets: Reading[tuple[PastedSocket, ...]] = Missing("the recording lists no sockets")
    every_socket: Reading[bool] = Missing("the recording lists no sockets")
    """True: a TCP socket that is not among `sockets` did not exist, or with `counts`: a state that is not
    among them had none. Sockets that are bound only are never in it. Missing: a part (a grep, one state)."""
    counts: Reading[Mapping[TcpState, int]] = Missing("the recording has no counts by state")
    """Sockets by state where the form counts instead of listing (``ss -s``, ``uniq -c``)."""
    counters: Reading[Mapping[str, int]] = Missing("the recording has no counters")
    """``TcpExt.ListenOverflows`` ..."""
    sockstat: Reading[Mapping[str, int]] = Missing("the recording has no /proc/net/sockstat")
    sysctls: Reading[Mapping[str, Reading[SysctlValue]]] = Missing("the recording has no settings")
    softnet: Reading[tuple[CpuPackets, ...]] = Missing("packets of each CPU are not in the recording")
    notes: tuple[str, ...] = ()
    """What a reader must know of this form: ``netstat without -W cuts addresses``."""
    whole_addresses: Reading[bool] = True
    """Missing: some addresses are cut. What is left of such a one is given as ``2001:db8:1::``, so that
    different peers may look like one."""


_Record = TypeVar("_Record")


def port_in(text: str) -> int:
    """Return the number that stands where a port belongs, 0 for ``*``; above `LAST_PORT` it is none."""
    return 0 if text == "*" else int(text)


shown = lru_cache(maxsize=4096)(clean)
"""A name without anything that steers a terminal; the same few stand on very many lines."""


def until_interrupted(records: Sequence[_Record]) -> Iterator[_Record]:
    """Yield each record of a listing, until somebody does not want to wait for the rest."""
    UNDERWAY.begin("sockets of the recording read", len(records))
    before, UNDERWAY.is_divisible = UNDERWAY.is_divisible, True
    for number, record in enumerate(records):
        if UNDERWAY.is_interrupted:
            break
        UNDERWAY.done = number
        yield record
    UNDERWAY.is_divisible = before or UNDERWAY.is_interrupted  # what follows is told of what was read


def read_to_the_end(whole: Reading[bool]) -> Reading[bool]:
    """Whether a listing has every socket, if nobody has ended the reading of it."""
    return INTERRUPTED if UNDERWAY.is_interrupted else whole


def not_understood(lines: Sequence[str]) -> tuple[str, ...]:
    """The note of lines that no reader took, or nothing where there are none."""
    if not lines:
        return ()
    many = "1 line" if len(lines) == 1 else f"{len(lines)} lines"
    return (f"{many} not understood, first: {clean(lines[0].strip(), 60)}",)


def cut_lines(
    lines: Sequence[str], is_unfinished: Callable[[str], bool], begins: Callable[[str], bool]
) -> tuple[Container[int], int]:
    """Find what ``cut -c`` or ``less -S`` left of a listing: numbers and names at the edge may be parts.

    Args:
        lines: The listing. A terminal that wraps leaves the rest of each on the next line: not meant here.
        is_unfinished: Whether no program ends a line so.
        begins: Whether a line is no rest of the one before.

    Returns:
        The places of lines that are cut, and the column; nothing and 0 where they are not.
    """
    edge = max(map(len, lines), default=0)
    if not _NARROWEST <= edge <= _WIDEST:
        return (), 0
    near = edge - 1  # a blank at the edge is taken off; a number before it is whole
    cut = {
        place
        for place, line in enumerate(lines)
        if (len(line) == edge or (len(line) == near and not line[-1].isdigit())) and is_unfinished(line)
    }
    if len(cut) < _SEVERAL or not all(begins(line) for line in _next_of(lines, cut)):
        return (), 0
    return cut, edge


def _next_of(lines: Sequence[str], places: Iterable[int]) -> Iterable[str]:
    return (lines[place + 1] for place in places if place + 1 < len(lines))


def note_of_cut(number: int, edge: int) -> str:
    """Say that lines were cut."""
    lines = "1 line is" if number == 1 else f"{number} lines are"
    return f"{lines} cut at column {edge}, and left out; write it to a file: ss -tanoempi > FILE"


def lists_all(
    program: str, sockets: Sequence[PastedSocket], command: "Command | None", *, headings: bool
) -> Reading[bool]:
    """Whether a listing has every TCP socket of its network namespace, bound ones apart.

    Args:
        program: ``ss`` or ``netstat``.
        sockets: All that are listed.
        command: The command line above them.
        headings: The line of headings is there, which grep leaves out.
    """
    if command is None or command.program != program or all(row.protocol == "udp" for row in sockets):
        return _seems_whole(sockets, headings=headings)
    if command.through:
        return Missing(f"the listing went through {clean(command.through, 40)}; {ASK_FOR_SS}")
    if command.words and program == "ss":
        return Missing(f"ss was asked for a part: {clean(' '.join(command.words), 60)}; {ASK_FOR_SS}")
    if command.letters & {"4", "6"}:
        return Missing(f"{program} was asked for one family of addresses; {ASK_FOR_SS}")
    if "a" not in command.letters:
        return Missing(f"{program} without -a lists a part of the states; {ASK_FOR_SS}")
    return True


def _seems_whole(sockets: Sequence[PastedSocket], *, headings: bool) -> Reading[bool]:
    """The same where no command stands above it, from what is in it."""
    tcp = [row for row in sockets if row.protocol == "tcp"]
    part = f"so it may be a part; {ASK_FOR_SS}"
    if sockets and not tcp:
        return Missing(f"the listing has UDP sockets only; {ASK_FOR_SS}")
    if not headings:
        return Missing(f"the listing has no headings, {part}")
    states = {row.state for row in tcp}
    if TcpState.LISTEN not in states:
        return Missing(f"the listing has no listener, {part}")
    if states == {TcpState.LISTEN}:
        return Missing(f"the listing has listeners only, {part}")
    if len({row.local.port for row in tcp}) == 1:
        return Missing(f"all sockets listed have port {tcp[0].local.port}, {part}")
    if len(families := {row.family for row in tcp}) == 1:
        (family,) = families
        return Missing(f"all sockets listed are of IPv{family}, so it may be a part; {_ASK_COMMAND}")
    return True


_COMMAND = re.compile(
    r"(?:^\s{0,16}|[#$%>\u276f]\s?|\u279c\s{1,3}(?:\S{1,40}\s{1,3}){0,3}?|^\+{1,3} |^Every [\d.,]{1,9}s: )"
    r"(?:(?:sudo|time|watch|nice|timeout|docker|podman|kubectl|oc|crictl|lxc|incus|nsenter|ip netns|ssh|LANG="
    r"|LC_ALL=)\S{0,40}\s(?:[^|\s]{1,60}\s{1,4}){0,12}?){0,3}"
    r"(?:/\S{0,60}/)?(?P<program>ss|netstat|lsof|nstat|sysctl|cat|head|tail|conntrack|sockstat)(?P<rest>\s.*|)$"
)
_ROOT = re.compile(r"\s{0,16}(?:\[?root@|#)|.*# ?(?:ss|netstat|lsof)\b|.*\bsudo ")
_LONG = {
    "all": "a",
    "listening": "l",
    "numeric": "n",
    "programs": "p",
    "processes": "p",
    "timers": "o",
    "options": "o",
    "extend": "e",
    "extended": "e",
    "memory": "m",
    "info": "i",
    "tcp": "t",
    "udp": "u",
    "wide": "W",
    "no-header": "H",
    "oneline": "O",
    "ipv4": "4",
    "ipv6": "6",
    "summary": "s",
    "statistics": "s",
    "bound-inactive": "B",
    "inet": "4",
    "inet6": "6",
}
_FILTERS = ("state", "exclude", "sport", "dport", "src", "dst", "(", "'(", '"(')


class Command(NamedTuple):
    """A command that was typed."""

    program: str
    letters: frozenset[str]
    """Its short options; long ones as the letter that means the same."""
    words: tuple[str, ...]
    """What is no option: a filter, a file."""
    through: str
    """First program that its output went through, such as ``grep``; empty: none."""
    by_root: bool
    """The prompt or sudo says that root asked."""


def command_in(line: str) -> Command | None:
    """Return the command of a line that is one (with a prompt, with sudo, or bare), else None."""
    if len(line) > 400 or (match := _COMMAND.search(line)) is None:
        return None
    rest = match["rest"]
    if line.startswith("Every "):  # watch ends its heading with the host and the time
        rest = re.split(r"\s{2,}|\.{3}", rest.strip(), maxsplit=1)[0]
    own, *piped = rest.split("|")
    letters: set[str] = set()
    words = []
    for word in own.split():
        if word.startswith("--"):
            letters.add(_LONG.get(word[2:].partition("=")[0], word))
        elif word.startswith("-") and len(word) < 20:
            letters.update(word[1:])
        elif word.startswith((">", "2>")):
            break
        else:
            words.append(word)
    if not letters and "|" not in rest and not _asks(match["program"], words):
        return None
    through = next(iter(piped[0].split()), "") if piped else ""
    return Command(match["program"], frozenset(letters), tuple(words), through, _ROOT.match(line) is not None)


def _asks(program: str, words: list[str]) -> bool:
    """Whether words without an option are a command, and no sentence that begins with a program's name."""
    if program in ("cat", "head", "tail"):
        return bool(words) and words[0].startswith(("/", "~", "."))
    return not words or (program == "ss" and words[0] in _FILTERS)


_COLOURS = re.compile(r"\x1b(?:\[[0-9;?]{0,20}[A-Za-z]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[()][A-Z0-9])")
_ENTITY = re.compile(r"&(?:quot|apos|nbsp|gt|lt|amp|#\d{1,5}|#[xX][0-9a-fA-F]{1,4});")
_ODD = (("\xa0", " "), ("\ufeff", ""), ("\u200b", ""))
_QUOTE = re.compile(r"(?:> ?){1,9}(?=\S|\s|$)")
_FENCE = re.compile(
    r"\s*(?:(?:```|~~~)[\w-]{0,20}|\{(?:noformat|code|quote)(?::[^}]{0,20})?\}|(?:</?(?:pre|code)>)+|\(END\)|--More--.{0,20})\s*$"
)
_SHELL = re.compile(
    r"\s{0,16}(?:\[?[\w.-]{1,40}@[\w.-]{1,70}[^#$%>]{0,80}[#$%>](?:\s.*)?|[#$%>\u276f]|\u279c\s.{0,80}|exit|logout|\(END\)"
    r"|Last login: .*|Connection to \S+ closed\.|Script (?:started|done) on .*)$"
)
"""A prompt with nothing behind it that prints what is read here, and how a session begins and ends."""
_NUMBERED = re.compile(
    r"\s{0,6}\d{1,6}(?::|\t)\s{0,2}(?=(?:(?:tcp|udp)6?|[A-Z][A-Z-]{4,9}[12]?)\s+(?:[A-Z]+\s+)?\d+\s+\d+\s)"
)
"""The number of the line, as ``grep -n`` and ``cat -n`` print it before a socket."""
_NUMBER = re.compile(r"\s{0,6}(\d{1,7})(?:\t|:(?! [0-9A-F]{8})|$)")
"""The same before anything but a row of /proc/net/tcp, which has a number of its own."""
_STAMP = re.compile(
    r"(?:\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?: ?Z|[+-]\d\d:?\d\d)?\]?"
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)"
    r"(?: (?=\S+ [\w./@-]{1,60}(?:\[\d{1,8}\])?:(?: |$))\S+ [^:]{1,70}:)?(?: |$)"
)
"""When a line was printed, from ``ts``, journald or syslog, which name host and program too."""
_BAR = re.compile(r"(?:[\w.-]{1,40} {0,20})?\|(?: |$)")
"""A quotation of some mailers, and the container in front of what it printed."""
_INDENTED = re.compile(
    r"([ \t]+)(?:State\s+Recv-Q|Netid\s+State|Recv-Q\s+Send-Q|Proto\s+Recv-Q|COMMAND\s+PID|Active Internet"
    r"|Every \d|[$#] \S|(?:ESTAB|LISTEN|[A-Z]{3,5}-[A-Z]{3,4}(?:-[12])?)\s+\d+\s+\d+"
    r"|(?:tcp|udp)6?\s+(?:\d+\s+\d+|[A-Z])"
    r"|#kernel|cpu=\d+\s+\w+=|(?:Tcp|Udp|Ip|Icmp)\w*(?::\s*$|:(?: +[A-Za-z]\w*){2}|\w\s+\d+\s+\d)"
    r"|sockets: used"
    r"|(?:net|fs|kernel|vm|abi|debug|dev)\.[\w./-]+ ?= ?|==> /"
    r"|[0-9a-f]{8} [0-9a-f]{8} | {2}sl  local_address)"
)
"""What no program indents, with what somebody put before all of it."""
_INITIALS = frozenset("SNRPCAE$#LTtuFKcUIsnfkvad=lbe0123456789")
_BLANKS = (" ", "\t")
_LEADING = frozenset(" \t0123456789")
_SAMPLE = 400
_MOST = 0.9
"""Share of lines that have something in front of them where all were printed so."""


def tidied(text: str) -> Iterator[str]:
    """Yield the lines of a paste as the programs printed them, blanks at their ends taken off."""
    text = _plain(text)
    fronts = _fronts(text)
    margin = _Margin()
    for line in _lines(text):
        if line[:1] == ">" and (match := _QUOTE.match(line)):
            line = line[match.end() :]
        for front in fronts:
            line = front.sub("", line, count=1)
        if len(line) >= 40 or not _FENCE.match(line):
            yield margin.taken_off(line) if margin.width or line[:1] in _LEADING else line


class _Margin:
    """What stands before each line of a block: blanks, or the number of the line."""

    def __init__(self) -> None:
        self._indent = ""
        self.width = 0

    def taken_off(self, line: str) -> str:
        """Return the next line without it."""
        if self.width:
            if line.startswith(self._indent):
                line = line[self.width :]
            elif line:
                self.width = 0
        if line[:1] in _BLANKS:
            if not self.width and line.lstrip()[:1] in _INITIALS and (match := _INDENTED.match(line)):
                self._indent, self.width = match[1], len(match[1])
                return line[self.width :]
            return _NUMBERED.sub("", line, count=1) if line[:2] == "  " else line
        return _NUMBERED.sub("", line, count=1) if line[:1].isdecimal() else line


def _plain(text: str) -> str:
    """A text without colours, entities and odd blanks."""
    if "\x1b" in text:
        text = _COLOURS.sub("", text)
    if "&" in text and _ENTITY.search(text):
        text = _ENTITY.sub(_character, _ENTITY.sub(_character, text))  # some trackers do it twice
    for odd, plain in _ODD:
        if odd in text:
            text = text.replace(odd, plain)
    return text


def is_of_a_shell(line: str) -> bool:
    """Whether a line is a prompt, or how a session began or ended: nothing that a program printed."""
    return len(line) < 400 and _SHELL.match(line) is not None


def _lines(text: str) -> Iterator[str]:
    """The lines; of one that a pager has overwritten, what was seen last."""
    place, end = 0, len(text)
    overwritten = "\r" in text
    while place < end:
        after = text.find("\n", place)
        after = end if after < 0 else after
        line = text[place:after].rstrip()
        place = after + 1
        yield line.rpartition("\r")[2] if overwritten else line


def _character(match: "re.Match[str]") -> str:
    return html.unescape(match[0])


def _fronts(text: str) -> list["re.Pattern[str]"]:
    """What stands before all lines but a few, and is to be taken off in this order."""
    sample = [line for line in islice(_lines(text), _SAMPLE) if line]
    found = []
    for front in (_BAR, _STAMP, _NUMBER):
        matches = [match for line in sample if (match := front.match(line))]
        if not matches or len(matches) < _MOST * len(sample):
            continue
        if front is _NUMBER and not _rises([int(match[1]) for match in matches]):
            continue
        found.append(front)
        sample = [front.sub("", line, count=1) for line in sample]
    return found


def _rises(numbers: Iterable[int]) -> bool:
    told = list(numbers)
    return len(told) > 1 and all(one < another for one, another in pairwise(told))
