"""Tables for people: a header, columns as wide as what is in them, nothing drawn; they fit the terminal."""

from collections.abc import Sequence

from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.report.style import Style

AS_WIDE_AS_IT_IS = 2**31
"""Columns of a terminal in which nothing is cut, for who asked for columns by name."""

_BETWEEN = "  "


class Column(NamedTuple):
    """One column, and what may become of it where the terminal is narrow."""

    name: str
    right: bool = False
    """Whether its numbers stand below each other."""
    most: int = 0
    """A longer cell is cut; 0: none is."""
    least: int = 0
    """Where room is short it may be cut to so many letters; 0: it stays whole."""
    goes: int = 0
    """It may be left out, the highest first; 0: it stays."""
    below: bool = False
    """It is prose: where it does not fit beside the others, it stands under them, a row of its own."""
    severe: bool = False
    """Its cells are a severity in capitals, each coloured as that."""

    def painted(self, cell: str, style: Style) -> str:
        """Return a cell as it is printed."""
        return style.severity(cell.lower(), cell) if self.severe else cell


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], style: Style, margin: str = ""
) -> list[str]:
    """Return the lines of a table that fits the terminal.

    Where it does not, in this order: what is `below` goes there; what may be cut is cut; what `goes` is left
    out, and named under the table; at last each row becomes a few lines, a column's name before its cell.
    What was cut stands whole under its row. Columns in which nothing stands are left out; without rows
    there is no header either.
    """
    filled = _filled(rows)
    if not filled:
        return []
    columns, rows = _chosen(columns, rows, filled)
    room = style.room - len(margin)
    if table_width(columns, rows) <= room and not any(map(_too_long, [columns] * len(rows), rows)):
        return _drawn(columns, rows, style, margin)
    under = [place for place, column in enumerate(columns) if column.below]
    prose = [[row[place] for place in under if row[place]] for row in rows]
    columns, rows = _chosen(columns, rows, [place for place in range(len(columns)) if place not in under])
    gone: list[str] = []
    while _least_width(columns, rows) > room:
        least = max(columns, key=lambda column: column.goes)
        if not least.goes:
            return _stacked(columns, rows, prose, style, margin)
        gone.append(least.name)
        columns, rows = _chosen(
            columns, rows, [place for place, column in enumerate(columns) if column is not least]
        )
    short = _cut_to(columns, rows, room)
    prose = [
        [*(whole for whole, cell in zip(row, cells, strict=True) if whole != cell), *said]
        for row, cells, said in zip(rows, short, prose, strict=True)
    ]
    lines = _drawn(columns, short, style, margin, prose)
    if gone:
        lines += style.dim(style.wrap(f"(no room for {', '.join(gone)})", margin)).splitlines()
    return lines


def _filled(rows: Sequence[Sequence[str]]) -> list[int]:
    """The columns in which something stands."""
    return [place for place in range(len(rows[0])) if any(row[place] for row in rows)] if rows else []


def _too_long(columns: Sequence[Column], row: Sequence[str]) -> bool:
    return any(column.most and len(cell) > column.most for column, cell in zip(columns, row, strict=True))


def cut(text: str, room: int) -> str:
    """Cut a name to `room` columns before its pid, which stays: ``a-very-long-nam~ (27685)``."""
    if len(text) <= room:
        return text
    name, space, pid = text.rpartition(" ")
    if space and pid.startswith("(") and room - len(pid) - 2 >= 1:
        return f"{name[: room - len(pid) - 2]}~ {pid}"
    return text[: room - 1] + "~"


def _chosen(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], places: Sequence[int]
) -> tuple[list[Column], list[list[str]]]:
    return [columns[place] for place in places], [[row[place] for place in places] for row in rows]


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    widths = []
    for place, column in enumerate(columns):
        widest = max((len(row[place]) for row in rows), default=0)
        widths.append(max(len(column.name), min(widest, column.most or widest)))
    return widths


def table_width(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> int:
    """Return how many columns of a terminal a table takes of which nothing is cut."""
    columns, rows = _chosen(columns, rows, _filled(rows))
    return sum(_widths(columns, rows)) + len(_BETWEEN) * (len(columns) - 1)


def _least_width(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> int:
    widths = _widths(columns, rows)
    least = [min(width, column.least or width) for column, width in zip(columns, widths, strict=True)]
    return sum(least) + len(_BETWEEN) * (len(columns) - 1)


def _cut_to(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> list[list[str]]:
    """Cut the widest of the columns that may be cut, until they all fit."""
    widths = _widths(columns, rows)
    over = sum(widths) + len(_BETWEEN) * (len(columns) - 1) - room
    while over > 0:
        widest = max(
            (place for place, column in enumerate(columns) if column.least and widths[place] > column.least),
            key=lambda place: widths[place],
        )
        widths[widest] -= 1
        over -= 1
    return [[cut(cell, width) for cell, width in zip(row, widths, strict=True)] for row in rows]


def _drawn(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    style: Style,
    margin: str,
    prose: Sequence[Sequence[str]] = (),
) -> list[str]:
    from tabulate import tabulate  # 21 ms: only where a table is printed

    align = ["right" if column.right else "left" for column in columns]
    told = [[column.painted(cell, style) for column, cell in zip(columns, row, strict=True)] for row in rows]
    cells = [[column.name for column in columns], *told]
    text = tabulate(cells, tablefmt="plain", colalign=align, disable_numparse=True)
    head, *drawn = (f"{margin}{line}".rstrip() for line in text.split("\n"))
    lines = [style.bold(head)]
    for place, line in enumerate(drawn):
        lines.append(line)
        if place < len(prose):
            lines += [line for said in prose[place] for line in _below(said, style, margin)]
    return lines


def _stacked(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    prose: Sequence[Sequence[str]],
    style: Style,
    margin: str,
) -> list[str]:
    lines: list[str] = []
    for row, said in zip(rows, prose, strict=True):
        lines += style.wrap(columns[0].painted(row[0], style), f"{margin}  ", margin).splitlines()
        cells = zip(columns[1:], row[1:], strict=True)
        beside = ", ".join(f"{column.name} {cell}" for column, cell in cells if cell)
        lines += style.wrap(beside, f"{margin}    ").splitlines()
        lines += [line for text in said for line in _below(text, style, margin)]
    return lines


def _below(text: str, style: Style, margin: str) -> list[str]:
    return style.wrap(style.dim(text), f"{margin}    ").splitlines()
