"""Where an answer is from, if it is not from a look at this host."""

import re
from typing import Literal, TypeAlias

from tcpdoctor.named_tuples import NamedTuple

Form: TypeAlias = Literal["ss", "netstat", "proc", "sysctl", "nstat", "lsof", "counts"]
"""The kinds of text that are understood, as JSON names them."""
Kind: TypeAlias = Literal["snapshot", "sosreport", "text"]


UNNAMED = "unknown"
"""Stands for the name of a host that is not told."""


def another_boot(one: str, other: str) -> str:
    """Say that two hosts may be one; nothing where a name is its own.

    `snapshot` replaces names with a key of the boot, so that after another boot the same host has another.
    """
    replaced = [re.fullmatch("host-[0-9a-f]{6}", name) is not None for name in (one, other)]
    if all(replaced):
        return " (or one host before and after a boot: names are replaced by others then)"
    return " (or one host, whose name was replaced in one of them)" if any(replaced) else ""


class Source(NamedTuple):
    """The recordings that were read."""

    kind: Kind
    forms: tuple[Form, ...]
    """What a sosreport or a paste consists of, each once; nothing of a snapshot."""
    looks: Literal[1, 2]
    files: tuple[str, ...] = ()
    """As they may be shown; ``standard input`` too."""
    dated: bool = True
    """Whether it says when it was taken; else the time that is told is that of the file."""
    notes: tuple[str, ...] = ()
    """What a reader must know: ``netstat without -W cuts addresses``."""

    def title(self, host: str) -> str:
        """Return the host's name for a heading, where it is told."""
        return "this recording" if host == UNNAMED else host
