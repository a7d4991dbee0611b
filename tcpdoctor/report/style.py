"""How text reports look: colour, width, and wrapping that knows colour and keeps commands whole."""

import functools
import re
from collections.abc import Iterator
from typing import Literal, TypeAlias

from tcpdoctor.named_tuples import NamedTuple

_SGR = {"bold": "1", "dim": "2", "red": "31", "yellow": "33", "green": "32", "cyan": "36"}
_SEVERITY = {"critical": "red", "warning": "yellow", "info": "cyan", "ok": "green", "unknown": "yellow"}

SGR_CODES = ("0", *_SGR.values())
"""Every colour code that a report may hold; the edge escapes all other control characters."""
_RESET = "\x1b[0m"


_PRIORITIES = {"critical": 2, "warning": 4, "unknown": 4, "gone": 5}
NO_MATTER = 6
"""Syslog's numbers (syslog(3)), by what a line tells; info and the rest are no matter."""


class Style(NamedTuple):
    """How wide a text is, and whether it may be coloured. Colour never carries meaning alone."""

    color: bool
    width: int
    """Columns, at least 40."""
    columns: int = 0
    """Of the terminal where it is wider than prose should be; 0: it is not."""
    terminal: bool = False
    """Whether somebody reads it as it comes; then the date goes without saying."""
    netns: str = ""
    """What `--netns` leads to the network namespace that is told of; empty: none is needed."""
    recorded: tuple[str, ...] = ()
    """The recordings that are told of, as a shell takes their names; none: it is this host."""
    way: str = ""
    """What to type before another program's command to run it in that namespace; empty: it is our own."""
    is_host: bool = True
    """Whether that namespace may be the host's own, for which alone files set values at boot."""
    journal: bool = False
    """Whether each line begins with the priority of what it tells, as systemd's journal reads text."""

    @property
    def room(self) -> int:
        """Columns that a table may use."""
        return self.columns or self.width

    def asks(self, command: str) -> str:
        """Return a command such that this program asks the recording or namespace that is told of.

        Every hint to type one goes through here: what is printed has to answer as it stands. A remark behind
        ``#`` stays behind it. A command of another program is run inside the namespace where it would else
        read ours, or set there what is to be set elsewhere.
        """
        if not command.startswith("tcpdoctor "):
            return f"{self.way} {command}" if self.way and _is_of_network(command) else command
        where = [f" --from {name}" for name in self.recorded]
        where += [f" --netns {self.netns}"] if self.netns else []
        typed, mark, remark = command.partition("   # ")
        return f"{typed}{''.join(where)}{mark}{remark}"

    def bold(self, text: str) -> str:
        """Return `text`, bold where colour is allowed."""
        return self._paint("bold", text)

    def dim(self, text: str) -> str:
        """Return `text`, faint where colour is allowed."""
        return self._paint("dim", text)

    def cyan(self, text: str) -> str:
        """Return `text` coloured as commands are."""
        return self._paint("cyan", text)

    def severity(self, key: str, text: str | None = None) -> str:
        """Return `text` (or the word itself) coloured as critical, warning, info, ok or unknown."""
        return self._paint(_SEVERITY[key], key if text is None else text)

    def wrap(self, text: str, indent: str = "", first: str | None = None, *, whole: bool = False) -> str:
        """Fill paragraphs to the width; `first` stands instead of `indent` on the first line.

        Paragraphs are separated by empty lines. A line that starts with four spaces (or a tab) is a
        command and stays whole, see `command`. So does one between backquotes, on a line of its own where
        it is longer than one. A number and its unit stay on one line. Any other word longer than the line is
        cut, never hidden; where words have to stay `whole`, the line is longer.
        Colours take no room, and end and begin again where a line does: pagers show each line by itself.
        """
        lines: list[str] = []
        for part in _paragraphs(text):
            lead = indent if first is None or lines else first
            if part.startswith(("    ", "\t")):
                command = part.lstrip()
                lines.append(self.command(command, indent + part[: -len(command)]))
                continue
            for number, (prose, command) in enumerate(self._around_commands(part, len(indent))):
                lines += self._fill(prose, indent if number else lead, indent, whole=whole)
                lines += [self.command(command, indent + "  ")] if command else []
        return "\n".join(lines)

    def _around_commands(self, text: str, indent: int) -> Iterator[tuple[str, str]]:
        """Yield prose that keeps commands whole, and behind each part a command that needs its own line."""
        if "`" not in text:
            yield text, ""
            return
        prose = ""
        for number, part in enumerate(_commands_in_prose().split(text)):
            if number % 2 == 0:
                prose += part
            elif indent + len(part) + _AROUND <= self.width:
                prose += part.replace(" ", NO_BREAK)
            else:
                yield prose.rstrip(" ("), part.strip("`")
                prose = ""
        if prose.strip(" )."):
            yield prose.lstrip(" );,:"), ""

    def _fill(self, text: str, lead: str, indent: str, *, whole: bool) -> list[str]:
        import textwrap  # formats for machines need none

        bare_text, bare_lead = _without_colour(text), _without_colour(lead)
        lines = textwrap.wrap(
            _before_units().sub(NO_BREAK, bare_text),
            width=self.width,
            initial_indent=bare_lead,
            subsequent_indent=indent,
            break_on_hyphens=False,
            break_long_words=not whole,
        ) or [bare_lead.rstrip()]
        lines = [line.replace(NO_BREAK, " ") for line in lines]
        coloured = len(bare_text) + len(bare_lead) < len(text) + len(lead)
        return _painted_again(lines, lead + text) if coloured else lines

    def command(self, text: str, indent: str = "") -> str:
        """Return a shell command that can be copied whole, whatever its length.

        Where it does not fit, its trailing comment moves to a line above, and the rest is continued
        with backslashes, at spaces outside quotes only.
        """
        lines: list[str] = []
        for line in text.strip().splitlines():
            lines += _command_lines(line.strip(), indent, self.width)
        return "\n".join(lines)

    def command_block(self, text: str, indent: str) -> str:
        """Return a command as `command` does, coloured as commands are."""
        return self.cyan(self.command(text, indent))

    def told(self, severity: str, text: str) -> str:
        """Return lines that tell of something as bad as this; for the journal each with its priority.

        Empty lines are left out there: it would drop them.

        Args:
            severity: ``critical``, ``warning``, ``unknown``, or ``gone``; any other word is no matter.
            text: Laid out already.
        """
        if not self.journal:
            return text
        priority = _PRIORITIES.get(severity, NO_MATTER)
        end = "\n" if text.endswith("\n") else ""
        return "\n".join(f"<{priority}>{line}" for line in text.splitlines() if line.strip()) + end

    def _paint(self, name: str, text: str) -> str:
        if not self.color:
            return text
        code = f"\x1b[{_SGR[name]}m"
        return "\n".join(f"{code}{line}{_RESET}" if line else line for line in text.split("\n"))


TextForm: TypeAlias = Literal["short", "long", "unanswered", "lesson", "again"]
"""What a text of `check` holds: two lines a finding, all of it, or the rules that could not be answered."""

PLAIN = Style(color=False, width=80)

NO_BREAK = "\u00a0"
"""A space that `wrap` does not break at; it is a plain one in what it returns."""


@functools.cache
def _before_units() -> re.Pattern[str]:
    """The space between a number and its unit, as `tcpdoctor.facts.value` prints them."""
    return re.compile(r"(?<=\d) (?=(?:%|/s|[mu]?s|min|h|d|(?:[KMGT]i)?B|pages?)(?![\w-]))")


_AROUND = 3
"""Columns for what stands around a command in prose: parentheses, and a full stop or a comma."""


@functools.cache
def _commands_in_prose() -> re.Pattern[str]:
    """Several words between backquotes."""
    return re.compile(r"(`[^`\s]+ [^`]+`)")


@functools.cache
def _colour_code() -> re.Pattern[str]:
    return re.compile("(\x1b\\[[0-9]+m)")


def _without_colour(text: str) -> str:
    return _colour_code().sub("", text) if "\x1b" in text else text


def _painted_again(lines: list[str], painted: str) -> list[str]:
    """Give the letters of wrapped lines the colours that they had in one line."""
    looks: list[str] = []
    look = ""
    for part in _colour_code().split(painted):
        if part.startswith("\x1b"):
            look = "" if part == _RESET else part
        else:
            looks += [look] * sum(not letter.isspace() for letter in part)
    every = iter(looks)
    return [_painted_line(line, every) for line in lines]


def _painted_line(line: str, looks: Iterator[str]) -> str:
    text = current = blanks = ""
    for letter in line:
        if letter.isspace():
            blanks += letter
            continue
        look = next(looks)
        if look != current:
            text += (_RESET if current else "") + blanks + look
        else:
            text += blanks
        text, current, blanks = text + letter, look, ""
    return text + (_RESET if current else "") + blanks


def _paragraphs(text: str) -> list[str]:
    """Join the lines of each paragraph; keep empty lines between them and examples as they are."""
    parts: list[str] = []
    joinable = False
    for line in text.strip("\n").splitlines():
        example = line.startswith(("    ", "\t"))
        if joinable and line.strip() and not example:
            parts[-1] += " " + line.strip()
        else:
            parts.append(line if example else line.strip())
        joinable = bool(line.strip()) and not example
    return parts or [""]


def _command_lines(line: str, indent: str, width: int) -> list[str]:
    if len(indent) + len(line) <= width:
        return [indent + line]
    import textwrap

    command, comment = _split_comment(line)
    lines = [f"{indent}# {part}" for part in textwrap.wrap(comment, max(20, width - len(indent) - 2))]
    words = _shell_words(command)
    current = indent
    for number, word in enumerate(words, start=1):
        joined = word if not current.strip() else " " + word
        room = width if number == len(words) else width - len(" \\")
        if current.strip() and len(current) + len(joined) > room:
            lines.append(current + " \\")
            current, joined = indent + "  ", word
        current += joined
    return [*lines, current]


_NETWORK = (
    *("conntrack", "ethtool", "ip", "ip6tables-save", "iptables-save", "nft", "nstat", "ss", "sysctl", "tc"),
    "tcpdump",
)
"""Programs whose answer is of one network namespace."""


def _is_of_network(command: str) -> bool:
    """Whether a command reads or changes what each network namespace has for itself."""
    return command.partition(" ")[0] in _NETWORK or "/proc/net/" in command or "/proc/sys/net/" in command


def _split_comment(line: str) -> tuple[str, str]:
    """Separate ``command   # comment``; a # inside quotes or inside a word is part of the command."""
    quote = ""
    for place, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#" and place > 0 and line[place - 1].isspace():
            return line[:place].rstrip(), line[place + 1 :].strip()
    return line, ""


def _shell_words(command: str) -> list[str]:
    """Split at spaces outside quotes; quotes stay."""
    words = [""]
    quote = ""
    for char in command:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == " ":
            if words[-1]:
                words.append("")
            continue
        words[-1] += char
    return [word for word in words if word]


_LONGEST = 1_000


def shorten(text: str) -> str:
    """Return a complaint without its middle where it is too long to read: its end says what to do."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 300]} ... {text[-295:]}"
