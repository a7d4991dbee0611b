"""Text in the columns of a terminal: how many a text takes, cut and padded to a number of them."""

import unicodedata
from functools import lru_cache

_WIDE = ("W", "F")
_MAX_ASCII = "\x7f"


def columns_of(text: str) -> int:
    """Return how many columns a terminal gives a text: two to wide characters, none to combining marks."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def cut_to(text: str, room: int) -> str:
    """Return a text in at most `room` columns; what was cut ends in ``~``."""
    if columns_of(text) <= room:
        return text
    if room <= 0:
        return ""
    taken, kept = 0, []
    for character in text:
        wide = _columns(character)
        if taken + wide > room - 1:
            break
        kept.append(character)
        taken += wide
    return "".join(kept) + "~"


def left(text: str, room: int) -> str:
    """Return a text in exactly `room` columns, cut where it is longer, blanks behind it."""
    text = cut_to(text, room)
    return text + " " * (room - columns_of(text))


def right(text: str, room: int) -> str:
    """Return a text in exactly `room` columns, cut where it is longer, blanks before it."""
    text = cut_to(text, room)
    return " " * (room - columns_of(text)) + text


def drawable(text: str, *, is_unicode: bool) -> str:
    """Return a text that a terminal can draw: nothing that steers it, ASCII where its locale has no more."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if character.isprintable() and (is_unicode or character <= _MAX_ASCII) else "?"
        for character in text
    )


@lru_cache(4096)  # a screen draws the same few again and again
def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1
