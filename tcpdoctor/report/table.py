"""Tables for people: a header, columns as wide as what is in them, nothing drawn."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> list[str]:
    """Return the lines of a table; `right` names the columns whose numbers stand below each other."""
    from tabulate import tabulate  # 21 ms: only where a table is printed

    align = ["right" if name in right else "left" for name in header]
    text = tabulate(rows, headers=header, tablefmt="plain", colalign=align, disable_numparse=True)
    return [line.rstrip() for line in text.splitlines()]


def fits(lines: Sequence[str], columns: int) -> bool:
    """Whether no line is wider than the terminal."""
    return max(map(len, lines), default=0) <= columns
