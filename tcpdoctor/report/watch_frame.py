"""The screen of `tcpdoctor watch`: a record and a view become lines of text with their roles; pure.

A frame has exactly as many lines as the terminal, none wider than it. What a role looks like is the affair of
who draws; nothing is told by looks alone: the row under the cursor has a ``>``, what is full a ``!``.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from tcpdoctor.answers.watch import (
    FIRST_STATES,
    FindingRow,
    ListenerRow,
    OwnerRow,
    Row,
    StateRow,
    Watch,
)
from tcpdoctor.facts.rates import TooFew
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.report.cells import (
    columns_of,
    count_cell,
    cut_to,
    drawable,
    growth_cell,
    left,
    rate_cell,
    right,
    sparkline,
    until_cell,
)
from tcpdoctor.report.host import clock as clock_words

Span: TypeAlias = tuple[str, str]
"""A text and its role: ``plain``, ``title``, ``head``, ``selected``, ``dim``, ``bold``, ``keys``,
``changed``, ``ok``, ``info``, ``warning``, ``critical``, ``unknown``."""
Line: TypeAlias = list[Span]

SORTS = ("growth", "size", "name")
_SPLIT_AT = 120
"""Columns from which on the row under the cursor is open beside the list."""
_LIST = 100
"""Columns of the list there, at most."""
_NAME = 14
"""Characters by which a row is known to be the same."""
_SHORTEST_FINDING = 20
"""Columns in which a finding that is cut still says something."""
_KEYS = (
    ("enter", "explain"),
    ("s", "sort"),
    ("/", "filter"),
    ("p", "pause"),
    ("n", "netns"),
    ("t", "trace"),
    ("?", "help"),
    ("q", ""),
)


class View(NamedTuple):
    """What the person who looks has chosen."""

    cursor: str = ""
    """Key of the row that is selected; empty, or gone: the first."""
    sort: str = "growth"
    filter: str = ""
    typing: bool = False
    """Whether the filter is being typed."""
    paused: bool = False
    page: tuple[str, ...] | None = None
    """Lines that cover the screen: an explanation, the help, the namespaces."""
    title: str = ""
    scroll: int = 0
    choice: int | None = None
    """Line of the page that is chosen, where one can be."""
    message: str = ""
    """Said once in the last line."""
    is_unicode: bool = True
    steps: bool = False
    """Whether [ and ] step through recordings."""
    tracing: bool = False
    opened: tuple[str, ...] = ()
    """What stands beside the list, as wide as `pane_width` says."""


def frame(watch: Watch, view: View, width: int, height: int) -> list[Line]:
    """Return the lines to draw: exactly `height`, none of them wider than `width` columns."""
    if view.page is not None:
        lines = _page_lines(view, width, height)
    elif pane_width(width):
        lines = _beside(watch, view, width, height)
    else:
        lines = _list_lines(watch, view, width, height - 1)
    if view.page is None:
        empty: list[Line] = [[("", "plain")] for _ in range(height - 1 - len(lines))]
        lines = [*lines[: height - 1], *empty, _last_line(view, width)]
    return [_fitted(line, width, view) for line in lines[:height]] + [
        [("", "plain")] for _ in range(height - len(lines))
    ]


def with_changes(before: Sequence[Line], after: Sequence[Line]) -> list[Line]:
    """Return a frame with the digits marked that differ from the frame before it, row by row.

    Only rows of the list that stand where they stood count: what moved is no change.
    """
    marked = [*after]
    for number in range(3, min(len(before), len(after)) - 1):
        if before[number] != after[number] and len(before[number]) == len(after[number]):
            pairs = zip(before[number], after[number], strict=True)
            marked[number] = [span for old, new in pairs for span in _changed(old, new)]
    return marked


def _changed(old: Span, new: Span) -> Line:
    (text_before, _), (text, role) = old, new
    if role != "plain" or len(text_before) != len(text) or text_before[:_NAME] != text[:_NAME]:
        return [new]
    spans: Line = []
    for before, character in zip(text_before, text, strict=True):
        looks = "changed" if character.isdigit() and character != before else role
        if spans and spans[-1][1] == looks:
            spans[-1] = (spans[-1][0] + character, looks)
        else:
            spans.append((character, looks))
    return spans


def pane_width(width: int) -> int:
    """Return how many columns stand beside the list; 0 where the terminal is too narrow."""
    return width - min(_LIST, width * 5 // 8) - 3 if width >= _SPLIT_AT else 0


def rows_in_order(watch: Watch, view: View) -> dict[str, Sequence[Row]]:
    """Return the rows by part, as they are shown: filtered, and sorted as the view says."""
    wanted = view.filter.casefold()

    def chosen(rows: Sequence[Row], sort: Callable[[Row], tuple[object, ...]] | None) -> Sequence[Row]:
        kept = [row for row in rows if wanted in _searched(row).casefold()]
        if sort is None:
            return kept
        return sorted(kept, key=lambda row: (row.ended is not None, *sort(row), row.label))

    return {
        "findings": [row for row in watch.findings if wanted in _searched(row).casefold()],
        "states": watch.states,
        "owners": chosen(watch.owners, _ORDERS["owners"][view.sort]),
        "destinations": chosen(watch.destinations, _ORDERS["destinations"][view.sort]),
        "listeners": chosen(watch.listeners, _ORDERS["listeners"][view.sort]),
    }


def selected_row(watch: Watch, view: View) -> Row | None:
    """Return the row under the cursor: the one that was chosen, else the first of all."""
    every = [row for rows in rows_in_order(watch, view).values() for row in rows]
    return next((row for row in every if row.key == view.cursor), every[0] if every else None)


def moved_cursor(watch: Watch, view: View, by: int) -> str:
    """Return the key of the row so many further down; it stops at both ends."""
    keys = [row.key for rows in rows_in_order(watch, view).values() for row in rows]
    if not keys:
        return ""
    at = keys.index(view.cursor) if view.cursor in keys else 0
    return keys[max(0, min(len(keys) - 1, at + by))]


def _searched(row: Row) -> str:
    match row:
        case OwnerRow():
            return f"{row.label} {row.where}"
        case ListenerRow():
            return f"{row.label} {row.owner}"
        case FindingRow():
            return f"{row.label} {row.finding.label} {row.finding.whom}"
        case _:
            return row.label


def _high(value: Reading[float]) -> float:
    """For sorting: the highest first, what is not known last."""
    return 1.0 if isinstance(value, Missing) else -float(value)


_ORDERS: dict[str, dict[str, Callable[..., tuple[object, ...]]]] = {
    "owners": {
        "growth": lambda row: (_high(row.per_minute), _high(row.close_wait)),
        "size": lambda row: (_high(row.close_wait), _high(row.fin_wait_2)),
        "name": lambda _row: (),
    },
    "destinations": {
        "growth": lambda row: (row.until_none is None, row.until_none or 0.0, -row.used),
        "size": lambda row: (-row.used,),
        "name": lambda _row: (),
    },
    "listeners": {
        "growth": lambda row: (_high(row.drops), not row.full, -row.queue, -row.most, row.port),
        "size": lambda row: (-row.queue, -row.most, row.port),
        "name": lambda row: (row.port,),
    },
}


# The parts of the list.


def _beside(watch: Watch, view: View, width: int, height: int) -> list[Line]:
    """The list, and beside it what is open."""
    room = pane_width(width)
    lines = _list_lines(watch, view, width - room - 3, height - 1)
    lines += [[("", "plain")] for _ in range(height - 1 - len(lines))]
    bar = "\u2502" if view.is_unicode else "|"
    beside = [*_opened(watch, view, room, height - 4)]
    joined = []
    for number, line in enumerate(lines):
        if number < 2:  # the first two say what is looked at and the verdict, over the whole width
            joined.append(_head_lines(watch, view, width)[number])
            continue
        text, role = beside[number - 3] if 0 <= number - 3 < len(beside) else ("", "plain")
        padded = _padded(line, width - room - 3)
        joined.append([*padded, (f" {bar} ", "dim"), (text, role)])
    return joined


def _opened(watch: Watch, view: View, room: int, height: int) -> list[Span]:
    """What is open, and below it what began, ended and moved."""
    events = [
        f"{clock_words(event.taken_at)[:8]} {drawable(event.text, is_unicode=view.is_unicode)}"
        for event in reversed(watch.events)
    ]
    below = min(len(events) or 1, max(3, height // 4))
    above = [(cut_to(text, room), "plain") for text in view.opened[: height - below - 2]]
    above += [("", "plain")] * (height - below - 2 - len(above))
    told = [(cut_to(text, room), "plain") for text in events[:below]] or [
        ("nothing has begun or ended", "dim")
    ]
    return [*above, ("", "plain"), ("since watch began, the latest first", "head"), *told]


def _list_lines(watch: Watch, view: View, width: int, height: int) -> list[Line]:
    head = [*_head_lines(watch, view, width), [("\u2500" * width if view.is_unicode else "-" * width, "dim")]]
    ordered = rows_in_order(watch, view)
    chosen = selected_row(watch, view)
    key = chosen.key if chosen else ""
    rates = _rates_lines(watch, width)
    room = height - len(head) - 1
    parts = _shares(ordered, room)
    lines = head
    for name, lay in _LAYOUTS.items():
        if not parts.get(name):
            continue
        rows = _around(ordered[name], key, parts[name] - 1)
        lines += lay(watch, view, rows, len(ordered[name]), key, width)
    return [*lines, *rates[: max(0, height - len(lines))]]


def _shares(ordered: dict[str, Sequence[Row]], room: int) -> dict[str, int]:
    """How many lines each part gets, its heading included; those above come first where it is tight."""
    wishes = {name: 1 + len(ordered[name]) for name in _LAYOUTS}
    least = {"states": 1 + len(FIRST_STATES), "owners": 3, "destinations": 3, "listeners": 3}
    shares: dict[str, int] = {}
    for name, number in least.items():
        share = min(number, wishes[name], room)
        shares[name] = share if share > 1 or wishes[name] == 1 else 0
        room -= shares[name]
    while room > 0 and any(shares[name] < wishes[name] for name in shares):
        for name in shares:
            if room > 0 and shares[name] < wishes[name]:
                shares[name] += 1
                room -= 1
    return shares


def _around(rows: Sequence[Row], key: str, room: int) -> Sequence[Row]:
    """As many rows as fit, such that the one under the cursor is among them."""
    at = next((place for place, row in enumerate(rows) if row.key == key), 0)
    first = max(0, min(at - room + 1, len(rows) - room)) if at >= room else 0
    return rows[first : first + max(0, room)]


def _head_lines(watch: Watch, view: View, width: int) -> list[Line]:
    """What it looks at, how often and what it costs; and what check says."""
    paused = " PAUSED" if view.paused else ""
    every = f"every {watch.interval:g} s" if not watch.source else watch.source
    cpu = "" if watch.cpu is None else f"own CPU {watch.cpu * 100:.1f} %"
    at = clock_words(watch.taken_at)
    ends = [f"{at}  {every}  {cpu}".rstrip(), f"{at}  {cpu}".rstrip(), at]
    starts = [
        f"tcpdoctor watch{paused}  {watch.host}  {watch.kernel}  {watch.where}",
        f"tcpdoctor watch{paused}  {watch.host}  {watch.where}",
        f"watch{paused}  {watch.host}  {watch.where}",
        f"watch{paused}  {watch.host}",
    ]
    tries = [(start, end) for end in ends[:2] for start in starts[:2]] + [(start, at) for start in starts]
    for start, end in tries:
        start_drawn = drawable(start, is_unicode=view.is_unicode)
        if columns_of(start_drawn) + 2 + len(end) <= width:
            gap = " " * (width - columns_of(start_drawn) - len(end))
            return [[(start_drawn + gap + end, "title")], _verdict_line(watch, view, width)]
    return [[(left(f"watch{paused} {at}", width), "title")], _verdict_line(watch, view, width)]


def _verdict_line(watch: Watch, view: View, width: int) -> Line:
    verdict = watch.verdict
    if verdict is None:
        return [("looking", "dim")]
    chosen = selected_row(watch, view)
    word = verdict.status.upper()
    line: Line = [(f"{word} ", verdict.status)]
    rows = [row for row in rows_in_order(watch, view)["findings"] if isinstance(row, FindingRow)]
    living = [row for row in rows if row.ended is None]
    total = sum(verdict.counts)
    if not rows:
        hidden = f"{total} not shown by the filter" if total else "nothing wrong"
        said = f" {hidden if verdict.status != 'unknown' or total else 'too little could be checked'}"
        line.append((said, "plain"))
    else:
        line.append((f"{total or len(living)} ", "bold"))
    used = sum(columns_of(text) for text, _ in line)
    tail = _tail_of_verdict(watch)
    start = rows.index(chosen) if isinstance(chosen, FindingRow) and chosen in rows else 0
    room = width - used - (len(tail) + 2 if tail and width >= 80 else 0)
    for row in [*rows[start:], *rows[:start]]:
        ended = " (ended)" if row.ended is not None else ""
        said = drawable(
            f"{row.finding.rule}: {row.finding.whom or row.finding.label}{ended}", is_unicode=view.is_unicode
        )
        if room < min(columns_of(said) + 1, _SHORTEST_FINDING):
            break
        marked = cut_to(f"{'>' if row is chosen else ' '}{said}", room)
        line += [(marked, _role_of_finding(row, chosen)), (" ", "plain")]
        room -= columns_of(marked) + 1
    if tail and width >= 80:
        gap = width - sum(columns_of(text) for text, _ in line) - len(tail)
        if gap >= 1:
            line.append((" " * gap + tail, "dim"))
    return line


def _tail_of_verdict(watch: Watch) -> str:
    """How much of it was answered, where it was not all; and when, where that is a while ago."""
    verdict = watch.verdict
    if verdict is None:
        return ""
    said = [] if not verdict.why_not else [f"{verdict.answered} of {verdict.rules} rules answered"]
    ago = watch.taken_at - verdict.taken_at
    if ago >= max(5.0, 1.5 * watch.interval) and not watch.source:
        said.append(f"checked {ago:.0f} s ago")
    return ", ".join(said)


def _role_of_finding(row: FindingRow, chosen: Row | None) -> str:
    if row.ended is not None:
        return "dim"
    if row.new:
        return "bold"
    return "selected" if row is chosen else row.finding.severity.key


class _Column(NamedTuple):
    """A column of a part."""

    head: str
    room: int
    cell: Callable[..., str]
    from_width: int = 0
    """Left out where the list is narrower."""
    flush_left: bool = False


def _table(
    title: str,
    columns: Sequence[_Column],
    rows: Sequence[Row],
    more: int,
    key: str,
    width: int,
    *,
    view: View,
    least: int,
) -> list[Line]:
    """One part: a heading, and a line a row; the name of a row takes what the columns leave."""
    shown = [column for column in columns if width >= column.from_width]
    while shown and width - 2 - sum(column.room + 1 for column in shown) < least:
        shown = [
            column for column in shown if column.from_width < max(one.from_width for one in shown)
        ] or shown[:-1]
    name_room = max(1, width - 1 - sum(column.room + 1 for column in shown))
    titled = f"{title}{f' ({more} more)' if more > 0 else ''}"
    head = " " + left(titled, name_room)
    for column in shown:
        head += " " + (left if column.flush_left else right)(column.head, column.room)
    lines: list[Line] = [[(cut_to(head, width), "head")]]
    for row in rows:
        text = (">" if row.key == key else " ") + left(_label(row, view, name_room), name_room)
        for column in shown:
            cell = drawable(column.cell(row), is_unicode=view.is_unicode)
            text += " " + (left if column.flush_left else right)(cell, column.room)
        role = "selected" if row.key == key else "dim" if row.ended is not None else "plain"
        lines.append([(cut_to(text, width), role)])
    return lines


def _label(row: Row, view: View, room: int) -> str:
    """What a row is called; that it ended stays readable where its name is cut."""
    text = f"{row.label} {row.where}".rstrip() if isinstance(row, OwnerRow) else row.label
    if isinstance(row, ListenerRow) and row.sockets > 1:
        text += f" x{row.sockets}"
    text = drawable(text, is_unicode=view.is_unicode)
    return text if row.ended is None else f"{cut_to(text, max(1, room - 8))} (ended)"


def _states_part(
    watch: Watch, view: View, rows: Sequence[Row], total: int, key: str, width: int
) -> list[Line]:
    spark = max(0, min(width - 12 - 10 - 8 - 6 - (22 if width >= 66 else 0), 60))

    def drawn(row: StateRow) -> str:
        return sparkline(row.series, watch.clock, spark, is_unicode=view.is_unicode)

    columns = [
        _Column("now", 9, lambda row: count_cell(row.now)),
        _Column("/min", 7, lambda row: growth_cell(row.per_minute)),
        _Column(" last 5 min", spark + 1, lambda row: " " + drawn(row), 50, flush_left=True),
        _Column("", 22, lambda row: row.note, 66, flush_left=True),
    ]
    return _table("states", columns, rows, total - len(rows), key, width, view=view, least=12)


def _owners_part(
    watch: Watch, view: View, rows: Sequence[Row], total: int, key: str, width: int
) -> list[Line]:
    columns = [
        _Column("CLOSE_WAIT", 10, lambda row: count_cell(row.close_wait)),
        _Column("/min", 6, lambda row: growth_cell(row.per_minute, 6)),
        _Column("FIN_WAIT_2", 10, lambda row: count_cell(row.fin_wait_2), 70),
        _Column("fds", 17, _descriptors_cell, 78),
        _Column("full in", 8, lambda row: until_cell(row.until_limit), 60),
    ]
    empty = "no process holds sockets in CLOSE_WAIT or FIN_WAIT_2"
    title = _title("owners", watch, rows, empty)
    return _table(title, columns if rows else [], rows, total - len(rows), key, width, view=view, least=14)


def _descriptors_cell(row: OwnerRow) -> str:
    return f"{count_cell(row.descriptors, 7)} of {count_cell(row.limit, 7)}"


def _destinations_part(
    watch: Watch, view: View, rows: Sequence[Row], total: int, key: str, width: int
) -> list[Line]:
    columns = [
        _Column("ports left", 11, lambda row: count_cell(row.left) + _mark(row.low)),
        _Column("used", 7, lambda row: count_cell(row.used, 7)),
        _Column("/min", 7, lambda row: growth_cell(row.per_minute), 60),
        _Column("exhausted in", 12, lambda row: until_cell(row.until_none), 70),
    ]
    title = _title("destinations", watch, rows, "no connection from a port of the ephemeral range")
    return _table(title, columns if rows else [], rows, total - len(rows), key, width, view=view, least=17)


def _queue_cell(connections: int, room: int) -> str:
    return "?" if connections < 0 else count_cell(connections, room)


def _listeners_part(
    watch: Watch, view: View, rows: Sequence[Row], total: int, key: str, width: int
) -> list[Line]:
    columns = [
        _Column("queue", 7, lambda row: _queue_cell(row.queue, 5) + _mark(row.full)),
        _Column("limit", 6, lambda row: count_cell(row.limit, 6)),
        _Column("most", 6, lambda row: _queue_cell(row.most, 6), 56),
        _Column("drops", 9, lambda row: rate_cell(row.drops) + _mark(_is_positive(row.drops)), 46),
    ]
    if view.tracing:
        columns.append(_Column("we close 1st", 12, _closed_cell, 70))
    title = _title("listeners", watch, rows, "no socket listens")
    return _table(title, columns if rows else [], rows, total - len(rows), key, width, view=view, least=16)


def _mark(ill: bool) -> str:  # noqa: FBT001 - it is what the mark says
    """What stands behind a number that is bad, in as many columns as where it is not."""
    return " !" if ill else "  "


def _is_positive(value: Reading[float]) -> bool:
    return not isinstance(value, Missing) and value > 0


def _closed_cell(row: ListenerRow) -> str:
    if row.closed_here is None:
        return ""
    return "-" if isinstance(row.closed_here, Missing) else f"{row.closed_here * 100:.0f} %"


def _title(name: str, watch: Watch, rows: Sequence[Row], empty: str) -> str:
    if name in watch.unknown:
        return f"{name}: ? ({watch.unknown[name]})"
    return name if rows else f"{name}: {empty}"


_LAYOUTS: dict[str, Callable[[Watch, View, Sequence[Row], int, str, int], list[Line]]] = {
    "states": _states_part,
    "owners": _owners_part,
    "destinations": _destinations_part,
    "listeners": _listeners_part,
}


def _rates_lines(watch: Watch, width: int) -> list[Line]:
    """What happens a second, in two lines where one is too short."""
    rates = watch.rates
    again = rates.retransmitted
    share = "-" if isinstance(again, TooFew) else "?"
    if not isinstance(again, Missing):
        share = f"{again * 100:.1f} %"
    parts = [
        f"opened in {rate_cell(rates.opened_in)}",
        f"out {rate_cell(rates.opened_out)}",
        f"retrans {share}",
        f"resets out {rate_cell(rates.resets_out)}",
        f"overflows {rate_cell(rates.overflows)}{' !' if _is_positive(rates.overflows) else ''}",
    ]
    lines = [" rates"]
    for part in parts:
        if len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += "  " + part
        else:
            lines.append(f"        {part}")
    return [[(cut_to(line, width), "plain")] for line in lines]


# The last line, and pages that cover the list.


def _last_line(view: View, width: int) -> Line:
    if view.typing:
        return [(cut_to(f" filter: {view.filter}_   enter keeps it, esc drops it", width), "keys")]
    if view.message:
        return [(cut_to(" " + drawable(view.message, is_unicode=view.is_unicode), width), "keys")]
    arrows = "\u2191\u2193" if view.is_unicode else "^v"
    keys = [(arrows, "select"), *_KEYS]
    if view.steps:
        keys.insert(1, ("[ ]", "step"))
    filtered = f"filtered: {view.filter}  " if view.filter else ""
    text = filtered + "  ".join(f"{key} {verb}".rstrip() for key, verb in keys)
    if columns_of(text) > width:
        text = filtered + " ".join(key for key, _ in keys)
    return [(cut_to(drawable(text, is_unicode=view.is_unicode), width), "keys")]


def _page_lines(view: View, width: int, height: int) -> list[Line]:
    lines = view.page or ()
    room = max(1, height - 2)
    first = max(0, min(view.scroll, len(lines) - room))
    shown = lines[first : first + room]
    where = f"{first + 1}-{first + len(shown)} of {len(lines)}" if len(lines) > room else ""
    title = left(drawable(view.title, is_unicode=view.is_unicode), max(0, width - len(where) - 1))
    body: list[Line] = [
        [
            (
                drawable(text, is_unicode=view.is_unicode),
                "selected" if view.choice is not None and first + place == view.choice else "plain",
            )
        ]
        for place, text in enumerate(shown)
    ]
    body += [[("", "plain")] for _ in range(room - len(body))]
    last = (
        " enter choose  esc back  q quit"
        if view.choice is not None
        else " esc back  space down  b up  q quit"
    )
    said = f" {view.message}" if view.message else last
    return [[(f"{title} {where}", "title")], *body, [(cut_to(said, width), "keys")]]


def _fitted(line: Line, width: int, view: View) -> Line:
    """Cut a line where it would be too wide, whatever was in it."""
    fitted: Line = []
    room = width
    for text, role in line:
        drawn = cut_to(drawable(text, is_unicode=view.is_unicode), room)
        if drawn:
            fitted.append((drawn, role))
            room -= columns_of(drawn)
    return fitted or [("", "plain")]


def _padded(line: Line, width: int) -> Line:
    taken = sum(columns_of(text) for text, _ in line)
    return [*line, (" " * (width - taken), "plain")] if taken < width else line
