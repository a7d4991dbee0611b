"""What a text written to a setting makes of it, as the kernel parses it.

Numbers: blanks separate them, ``0x`` begins a hexadecimal and ``0`` an octal one, at most one minus sign
stands before. As many as the setting has are read; what follows them after a blank is ignored, so a comment
behind a number does no harm by luck, and directly behind it (``60#``) makes the write fail. Fewer than the
setting has leave the rest as it was. Lists of ports take no blanks at all.

Source: kernel/sysctl.c (proc_get_long, do_proc_dointvec, proc_do_large_bitmap); asked of the kernel by
tests/live/test_sysctl_files.py.
"""

import re
from typing import TypeAlias

Numbers: TypeAlias = tuple[int, ...]

_NUMBER = re.compile(r"-?(?:0[xX][0-9a-fA-F]+|[0-9]+)")
_PORT = r"(?:0[xX][0-9a-fA-F]+|[0-9]+)"
_PORTS = re.compile(rf"{_PORT}(?:-{_PORT})?(?:,{_PORT}(?:-{_PORT})?)*")
_BLANKS = " \t\n"


def written_numbers(text: str, most: int) -> Numbers | None:
    """Return the numbers that a write sets, `most` of them at most; None where the kernel refuses it."""
    numbers = []
    for word in re.split(r"[ \t\n]+", text.strip())[:most]:
        if not _NUMBER.fullmatch(word):
            return None
        number = _number(word)
        if number is None:
            return None
        numbers.append(number)
    return tuple(numbers) or None


def _number(word: str) -> int | None:
    digits = word.removeprefix("-")
    sign = -1 if word != digits else 1
    if digits[:2] in ("0x", "0X"):
        return sign * int(digits[2:], 16)
    if digits.startswith("0") and len(digits) > 1:
        return sign * int(digits, 8) if re.fullmatch("[0-7]+", digits) else None
    return sign * int(digits)


def printed_numbers(text: str) -> Numbers | None:
    """Return the numbers of a value as the kernel prints it; None for a text that holds anything else."""
    words = text.split()
    return (
        tuple(map(int, words)) if words and all(re.fullmatch(r"-?[0-9]+", word) for word in words) else None
    )


def port_ranges(text: str) -> tuple[tuple[int, int], ...] | None:
    """Return the ranges of a list of ports, both ends included; None where the kernel refuses it.

    An empty text is the empty list.
    """
    text = text.strip(_BLANKS)
    if not text:
        return ()
    if not _PORTS.fullmatch(text):
        return None
    ranges = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        first, last = _number(low), _number(high or low)
        if first is None or last is None or not first <= last <= 65535:
            return None
        ranges.append((first, last))
    return merged(ranges)


def merged(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return ranges in order, with those that overlap or touch joined, as the kernel prints them."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return tuple(joined)


def is_same(written: str, running: str) -> bool:
    """Whether a setting that holds `running` is what writing `written` would have made of it.

    Numbers are compared as numbers, lists of ports as sets, everything else word by word.
    """
    if " ".join(written.split()) == " ".join(running.split()):
        return True
    numbers = printed_numbers(running)
    if numbers is not None:
        wanted = written_numbers(written, len(numbers))
        if wanted is not None:
            return numbers[: len(wanted)] == wanted
    if re.fullmatch(r"[0-9,-]*", running):
        ports = port_ranges(written)
        return ports is not None and ports == port_ranges(running)
    return False
