"""What stands in a cell of a screen: text cut and padded to columns; numbers, times, rates in few letters."""

import unicodedata
from functools import lru_cache

from tcpdoctor.facts.rates import Series, TooFew
from tcpdoctor.kernel.reading import Missing, Reading

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


# Numbers.

_LONG = 30 * 86_400.0
_BLOCKS, _STROKES = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588", ".:-=+*#"


def count_cell(value: Reading[int] | float, room: int = 9) -> str:
    """Return a number with separators, shortened where it does not fit: ``18,120``, ``2.4M``, ``?``."""
    if isinstance(value, Missing):
        return "?"
    text = f"{round(value):,}"
    return text if len(text) <= room else _shortened(float(value))


def growth_cell(value: Reading[float], room: int = 7) -> str:
    """Return growth per minute with its sign; ``-`` before there were three looks."""
    if isinstance(value, Missing):
        return "-" if isinstance(value, TooFew) else "?"
    if not round(value):
        return "0"
    text = f"{round(value):+,}"
    return text if len(text) <= room else ("+" if value > 0 else "-") + _shortened(abs(value))


def _shortened(value: float) -> str:
    sign, value = ("-", -value) if value < 0 else ("", value)
    for unit in ("", "k", "M", "G", "T", "P", "E"):
        if value < 999.5:
            return f"{sign}{value:.{1 if value < 9.95 and unit else 0}f}{unit}"
        value /= 1000
    return f"{sign}huge"


def until_cell(seconds: float | None) -> str:
    """Return a time in one unit: ``16 min``; ``-`` where it does not come, or not within a month."""
    if seconds is None or seconds > _LONG:
        return "-"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def rate_cell(value: Reading[float]) -> str:
    """Return a rate: ``12/s``, ``0.5/s``; ``?`` where it is not known."""
    if isinstance(value, Missing):
        return "-" if isinstance(value, TooFew) else "?"
    return f"{value:.1f}/s" if 0 < value < 10 else f"{count_cell(value, 7)}/s"


def sparkline(
    series: Series, until: float, room: int, *, is_unicode: bool, since: float | None = None
) -> str:
    """Draw how a number went in `room` characters, blank where nobody looked.

    Args:
        series: What it was.
        until: When it ends.
        room: Characters.
        is_unicode: Whether there are blocks to draw with.
        since: When it begins; None: five minutes before.
    """
    if room <= 0:
        return ""
    steps = series.steps(room, until, since)
    known = [value for value in steps if value is not None]
    marks = _BLOCKS if is_unicode else _STROKES
    low, high = min(known, default=0.0), max(known, default=0.0)
    low = 0.0 if low < high / 2 else low - (high - low)  # what hardly moves is drawn as no cliff
    drawn = []
    for value in steps:
        if value is None:
            drawn.append(" ")
        elif high <= low:
            drawn.append(marks[len(marks) // 2 if high > 0 else 0])
        else:
            drawn.append(marks[min(len(marks) - 1, int((value - low) / (high - low) * len(marks)))])
    return "".join(drawn)
