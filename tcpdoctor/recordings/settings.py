"""Settings as ``sysctl -a`` prints them, whole or in part."""

import re
from collections.abc import Sequence

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.reading import Missing, Reading, Refused
from tcpdoctor.kernel.snapshot import SysctlValue
from tcpdoctor.kernel.sysctl import is_secret, parse_sysctl
from tcpdoctor.kernel.text import clean
from tcpdoctor.recordings.pasted import Pasted, not_understood

_ROOTS = "abi|crypto|debug|dev|fs|kernel|net|sunrpc|user|vm"
_SETTING = re.compile(rf"((?:{_ROOTS})[./][\w.:@/-]+) = ?(.*)$")
_REFUSED = re.compile(r"sysctl: permission denied on key ['\"]?([\w.:@/-]+?)['\"]?:?$", re.IGNORECASE)
_NOISE = re.compile(r"sysctl: ")
_WISH = re.compile(rf"\s*-?(?:{_ROOTS})[./][\w.:@/*-]+\s*=\s*\S")
"""A line of a file of settings, which is not what is in force."""
_WISHES = "KEY=VALUE as a file has it is not what is in force; ask for: sysctl -a"


_ASK = "ask for: sysctl -a"
_NARROWEST, _WIDEST = 60, 400
"""Columns of terminals that cut lines."""


def is_setting_line(line: str) -> bool:
    """Whether a line is one that ``sysctl`` prints."""
    return bool(_SETTING.match(line) or _NOISE.match(line))


def is_settings_text(text: str) -> bool:
    """Whether a text begins with what ``sysctl -a`` prints."""
    return any(_SETTING.match(line) for line in text[:65536].splitlines()[:20])


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
    value = Missing(f"{name} is cut in the recording; {_ASK}") if cut else _typed(name, text)
    earlier = found.get(name, value)
    both = isinstance(earlier, Missing) or earlier == value
    found[name] = value if both else Missing(f"{name} is in the recording twice, with different values")


def _typed(name: str, text: str) -> Reading[SysctlValue]:
    try:
        return parse_sysctl(name, text.strip(), f"{name} in the recording")
    except KernelReadError as error:
        return Missing(str(error))
