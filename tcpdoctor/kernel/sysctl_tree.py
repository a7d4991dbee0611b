"""What is below /proc/sys: which settings a glob stands for, what may be written, what a setting holds."""

import errno
import os
import re
import stat
from typing import NamedTuple

from tcpdoctor.kernel.procfile import read_kernel_file
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.sysctl import PROC_SYS
from tcpdoctor.kernel.text import clean, decode

_LONGEST = 1 << 19

_SECRET = re.compile(r"(?:tcp_fastopen_key|stable_secret)$")
"""Keys that open something are never read: the Fast Open key, and RFC 7217's secret of each interface."""

_ACTS_WHEN_READ = frozenset({"vm/stat_refresh"})


class Held(NamedTuple):
    """One setting of this kernel, as a file."""

    exists: bool
    writable: bool
    """Whether its mode lets root write it."""
    value: Reading[str]
    """As the kernel prints it, one space between its parts; `Missing` with the reason."""


def look_at(path: str, root: str = PROC_SYS) -> Held:
    """Look at the setting at a place below /proc/sys, ``net/ipv4/tcp_sack``."""
    place = os.path.join(root, path)
    try:
        mode = os.stat(place).st_mode
    except (OSError, ValueError) as error:
        return Held(exists=False, writable=False, value=Missing(_why(error)))
    if not stat.S_ISREG(mode):
        return Held(
            exists=False, writable=False, value=Missing("it is a group of settings and no single one")
        )
    writable = bool(mode & 0o222)
    if not mode & 0o444 or path in _ACTS_WHEN_READ:
        return Held(exists=True, writable=writable, value=Missing("it can only be written"))
    if _SECRET.search(path):
        return Held(exists=True, writable=writable, value=Missing("it is a secret key, which is never read"))
    try:
        text = decode(read_kernel_file(place, _LONGEST))
    except OSError as error:
        return Held(exists=True, writable=writable, value=Missing(_why(error)))
    return Held(exists=True, writable=writable, value=clean(" ".join(text.split()), 4096))


def matching(pattern: str, root: str = PROC_SYS) -> tuple[str, ...]:
    """Return the places that a glob stands for, sorted, as glob(7) finds them."""
    places = [""]
    for part in pattern.strip("/").split("/"):
        places = [os.path.join(place, name) for place in places for name in _names(root, place, part)]
    return tuple(sorted(place for place in places if os.path.exists(os.path.join(root, place))))


def _names(root: str, place: str, part: str) -> list[str]:
    if not re.search(r"[*?\[\\]", part):
        return [part]
    try:
        present = os.listdir(os.path.join(root, place))
    except (OSError, ValueError):
        return []
    wanted = re.compile(_expression(part), re.DOTALL)
    return [
        name for name in present if wanted.fullmatch(name) and part.startswith(".") == name.startswith(".")
    ]


def _expression(part: str) -> str:
    """Translate one part of a glob; Python's own fnmatch knows neither ``[^a]`` nor backslashes.

    What follows a star is looked for once, where it comes first: going back would find nothing more, and
    takes for ever where there are many stars.
    """
    first, *rest = _between_stars(part)
    if not rest:
        return first
    return first + "".join(f"(?>.*?{piece})" for piece in rest[:-1] if piece) + f".*{rest[-1]}"


def _between_stars(part: str) -> list[str]:
    """The expressions of what stands before, between and behind the stars of one part of a glob."""
    pieces = [""]
    place = 0
    while place < len(part):
        char = part[place]
        place += 1
        if char == "*":
            pieces.append("")
        elif char == "\\" and place < len(part):
            pieces[-1] += re.escape(part[place])
            place += 1
        elif char == "[" and (end := _end_of_set(part, place)) > 0:
            pieces[-1] += _set(part[place:end])
            place = end + 1
        else:
            pieces[-1] += "." if char == "?" else re.escape(char)
    return pieces


def _end_of_set(part: str, start: int) -> int:
    first = start + (part[start : start + 1] in ("!", "^") and part[start : start + 1] != "")
    return part.find("]", first + 1)


def _set(inside: str) -> str:
    negated = inside[:1] in ("!", "^")
    members = inside[1:] if negated else inside
    escaped = members.replace("\\", "\\\\").replace("]", "\\]").replace("[", "\\[").replace("^", "\\^")
    text = f"[{'^' if negated else ''}{escaped}]"
    try:
        re.compile(text)
    except re.error:  # a range that runs backwards matches nothing
        return "[^\\s\\S]" if not negated else "."
    return text


def _why(error: OSError | ValueError) -> str:
    number = error.errno if isinstance(error, OSError) else errno.ENOENT
    if number in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return "this kernel or network namespace does not have it"
    if number in (errno.EACCES, errno.EPERM):
        return "only root may read it; run as root" if os.geteuid() else "permission denied, even as root"
    return f"reading it failed: {os.strerror(number or 0)}"
