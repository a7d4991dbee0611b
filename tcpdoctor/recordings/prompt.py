"""The command line above what it printed: ``root@web1:~# ss -tanp | grep 8080``.

It says what the printed text alone cannot: what was asked for, and whether all of the answer is there.
"""

import re

from tcpdoctor.named_tuples import NamedTuple

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
