r"""The lines of a file of settings, as systemd-sysctl and as procps understand them.

The two agree on nearly everything, and where they do not a setting works on one host and not on the next:

=====================  ==============================  ======================================
a line                 systemd-sysctl                  procps
=====================  ==============================  ======================================
ends at                \n, \r or NUL                     \n; what follows a NUL is not seen
longer than 1 MiB      ends the reading of the file    is read
``- key = 1``          the blank is dropped            the blank is part of the key
``--key = 1``          a key that begins with a dash   both dashes are dropped
``net..ipv4.x = 1``    separators are joined           the same place, but no glob's exception
``a/../b = 1``         refused                         followed
=====================  ==============================  ======================================

Source: systemd 252, src/sysctl/sysctl.c (parse_file), src/basic/fileio.c (read_line_full),
src/basic/sysctl-util.c (sysctl_normalize, sysctl_write); procps 4.0.2, src/sysctl.c (parse_setting_line,
setting_new, slashdot).
"""

import posixpath
import re
from typing import NamedTuple

from tcpdoctor.kernel.sysctl_files import Reader
from tcpdoctor.kernel.text import decode

LONGEST_LINE = 1 << 20
"""Bytes that systemd-sysctl takes for one line (LONG_LINE_MAX)."""

_BLANKS = " \t\n\r"
_SPACES = " \t\n\v\f\r"
_GLOB = frozenset("*?[")


class Line(NamedTuple):
    """One line that means something, or that was meant to."""

    number: int
    """As an editor counts, from 1."""
    key: str
    """As it is written, without the dash of an exception."""
    path: str | None
    """Its place below /proc/sys as this reader spells it, ``net/ipv4/tcp_sack``; None for a line that is no
    setting."""
    value: str | None = None
    """What is written there; None for an exclusion."""
    lenient: bool = False
    """Whether a failure is to be ignored: ``-key = value``."""
    refused: bool = False
    """Whether this reader does not follow the path (``..``, or outside /proc/sys)."""

    @property
    def is_glob(self) -> bool:
        """Whether it stands for several settings."""
        return self.path is not None and not _GLOB.isdisjoint(self.path)

    @property
    def target(self) -> str:
        """The place below /proc/sys that is written, in one form."""
        return posixpath.normpath(self.path or "").lstrip("/")


class Lines(NamedTuple):
    """A file as one reader understands it."""

    lines: tuple[Line, ...]
    ends_at: int | None = None
    """The line that is too long for this reader, where its reading ended; None where it read all."""


def read_lines(content: bytes, reader: Reader) -> Lines:
    """Return the settings, exclusions and mistakes of a file; comments and empty lines are left out."""
    return _for_systemd(content) if reader is Reader.SYSTEMD else _for_procps(content)


_END = re.compile(rb"(?:\n\r?|\r\n?)\0?|\0")


def _for_systemd(content: bytes) -> Lines:
    lines: list[Line] = []
    start, number = 0, 1
    while start < len(content):
        end = _END.search(content, start)
        stop, after = (end.start(), end.end()) if end else (len(content), len(content))
        if stop - start >= LONGEST_LINE:
            return Lines(tuple(lines), number)
        line = _systemd_line(decode(content[start:stop]).strip(_BLANKS), number)
        if line is not None:
            lines.append(line)
        number += content.count(b"\n", start, after)
        start = after
    return Lines(tuple(lines))


def _systemd_line(text: str, number: int) -> Line | None:
    if not text or text[0] in "#;":
        return None
    key, equals, value = text.partition("=")
    dash = key.startswith("-")
    if not equals and not dash:
        return Line(number, text, None)
    key = key.removeprefix("-").strip(_BLANKS)
    path = re.sub(r"/+", "/", _slashed(key))
    path = "/".join(part for part in path.split("/") if part != ".").strip("/")
    refused = ".." in path.split("/")
    return Line(number, key, path, value.strip(_BLANKS) if equals else None, dash and bool(equals), refused)


def _for_procps(content: bytes) -> Lines:
    lines = []
    for number, raw in enumerate(content.split(b"\n"), start=1):
        line = _procps_line(decode(raw.partition(b"\0")[0]).lstrip(_SPACES), number)
        if line is not None:
            lines.append(line)
    return Lines(tuple(lines))


def _procps_line(text: str, number: int) -> Line | None:
    if len(text.encode("utf-8", "surrogateescape")) < 2 or text[0] in "#;":
        return None
    key, equals, value = text.partition("=")
    dash = key.startswith("-")
    if not equals and not dash:
        return Line(number, text.rstrip(_SPACES), None)
    key = key.removeprefix("-").rstrip(_SPACES)
    path = _slashed(key.removeprefix("-"))
    refused = not posixpath.normpath("/proc/sys/" + path).startswith("/proc/sys/")
    return Line(number, key, path, value.strip(_SPACES) if equals else None, dash and bool(equals), refused)


def _slashed(key: str) -> str:
    """Spell a key with slashes: its first separator says which of the two separates, sysctl.d(5)."""
    first = re.search(r"[/.]", key)
    if first is None or first[0] == "/":
        return key
    return key.translate({46: "/", 47: "."})


def dotted(path: str) -> str:
    """Return the name that sysctl(8) prints for a place below /proc/sys: dots between, slashes for dots."""
    return path.translate({46: "/", 47: "."})
