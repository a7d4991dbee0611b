"""Where an answer is from, if it is not from a look at this host."""

from typing import Literal, TypeAlias

from tcpdoctor.named_tuples import NamedTuple

Form: TypeAlias = Literal["ss", "netstat", "proc", "sysctl", "nstat", "lsof", "counts"]
"""The kinds of text that are understood, as JSON names them."""
Kind: TypeAlias = Literal["snapshot", "sosreport", "text"]


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
