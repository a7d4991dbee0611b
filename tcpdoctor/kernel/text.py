"""Text that another user of this host can choose, made safe to show.

Process names, command lines, unit names and paths come from whoever runs them. Their bytes reach
terminals, logs and pagers, so what steers a terminal or deceives a reader is taken out once, when
the text is read.
"""

import re
from collections.abc import Sequence

_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
    + "".join(map(chr, range(0x180B, 0x1810)))
    + "".join(map(chr, range(0xFE00, 0xFE10)))
    + "".join(map(chr, range(0xE0100, 0xE01F0)))
)
"""Letters, marks and selectors that Unicode counts as printable although nothing shows: fillers and
variation selectors. Zero-width and bidi characters are of category Cf, which `isprintable` refuses."""

_REPLACEMENT = "\ufffd"
_DIGITS = 20
"""Of 2**64. Python reads no number of more than 4,300 digits, and takes long for one of less."""


def clean(text: str, limit: int = 256) -> str:
    """Return `text` without anything that steers a terminal or hides from a reader.

    Control characters (C0, C1, DEL), bidi controls, zero-width and otherwise invisible characters are
    dropped; every kind of white space becomes one plain space each, so the result is one line; bytes
    that are no UTF-8 (the surrogates of ``surrogateescape``) become U+FFFD. All other Unicode stays.

    Args:
        text: As read, decoded with ``errors="surrogateescape"``.
        limit: Characters at most, at least 1; a longer text ends in an ellipsis.
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join(map(_shown, text[: limit * 16]))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def beginning_of(text: str, most: int) -> str:
    """Return a text in at most so many characters; the dots of one that was longer count."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def name_a_few(names: Sequence[str], most: int, total: int | None = None, between: str = ", ") -> str:
    """Join names: ``a, b``, or where there are more than `most`, ``a, b and 7 more``.

    Args:
        names: All of them, or the first of `total`.
        most: So many are named.
        total: How many there are; None: as many as `names`.
        between: What parts them; a semicolon where names hold commas.
    """
    shown = names[:most]
    rest = (len(names) if total is None else total) - len(shown)
    return between.join(shown) + (f" and {rest:,} more" if rest > 0 else "")


def blank_split(text: str) -> list[str]:
    """Split at the blanks of ASCII only, unlike str.split(), for which a no-break space is one."""
    return [word for word in re.split(r"[ \t\n\v\f\r]+", text) if word]


def is_whole(text: str) -> bool:
    """Whether it is a whole number in ASCII's digits, no more of them than any number of the kernel has."""
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS


def decode(raw: bytes) -> str:
    """Decode bytes of any origin without failing; `clean` shows what was no UTF-8."""
    return raw.decode("utf-8", "surrogateescape")


def _shown(character: str) -> str:
    if character.isspace():
        return " "
    if "\ud800" <= character <= "\udfff":
        return _REPLACEMENT
    return character if character.isprintable() and character not in _INVISIBLE else ""
