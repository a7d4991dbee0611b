"""`states` for people: a table, and what it does not know."""

from collections.abc import Mapping

from tcpdoctor.answers.states import Row, StatesAnswer
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.host import plural
from tcpdoctor.report.style import Style

MOST_ROWS = 40
"""Longer tables are not read by people; json lists all."""

_LONGEST_BAR, _SHORTEST_BAR = 30, 8
_ASK_WHOSE = ("close_wait", "fin_wait_2", "last_ack", "closing", "syn_sent")
"""States in which many sockets are somebody's fault."""

_TITLES = {"port": "By local port", "peer": "By peer address", "process": "By process"}
_WIDEST_KEY = 34


def states_answer_text(answer: StatesAnswer, style: Style) -> str:
    """Return a line with a bar for each state that has sockets, then the rows of what it was grouped by."""
    readings, host = answer.states._asdict(), answer.host
    counts = {state: number for state, number in readings.items() if not isinstance(number, Missing)}
    total = plural(sum(counts.values()), "TCP socket") if counts else "TCP sockets unknown"
    lines = [
        style.bold(style.wrap(f"{host.name}: {total}")),
        style.wrap(f"{answer.taken_at}, Linux {host.kernel}, network namespace {host.namespace}"),
        "",
        *_bars({state: number for state, number in counts.items() if number}, style),
    ]
    empty = [state for state, number in counts.items() if not number]
    if empty:
        lines.append(style.dim(style.wrap(", ".join(empty), " " * 16, f"  {'none':<14}")))
    for state, reading in readings.items():
        if isinstance(reading, Missing):
            lines.append(style.wrap(f"unknown: {reading.reason}", " " * 16, f"  {state:<14}"))
    if "states" in answer.missing:
        lines += ["", style.wrap(f"There may be more than counted: {answer.missing['states']}.")]
    if answer.grouped_by is not None:
        lines += ["", *_table(answer, style)]
    return "\n".join(lines) + "\n"


def _bars(counts: Mapping[str, int], style: Style) -> list[str]:
    """A line a state: its number, and a bar as long as its share; a sick one says how to see whose it is."""
    most = max(counts.values(), default=0)
    numbers = max((len(f"{number:,}") for number in counts.values()), default=0)
    sick = [state for state in counts if state in _ASK_WHOSE]
    hints = {state: f"whose: tcpdoctor explain {state.replace('_', '-')}" for state in sick}
    widest = max(map(len, hints.values()), default=0)
    room = min(_LONGEST_BAR, style.width - 20 - numbers - widest)
    lines = []
    for state, number in counts.items():
        line = f"  {state:<14}{number:>{numbers},}"
        if room < _SHORTEST_BAR:
            lines += [line, *([style.wrap(style.dim(hints[state]), "      ")] if state in hints else [])]
            continue
        bar = "#" * max(1, round(number / most * room))
        hint = f"  {style.dim(hints[state])}" if state in hints else ""
        lines.append(f"{line}  {bar:<{room}}{hint}".rstrip())
    return lines


def _table(answer: StatesAnswer, style: Style) -> list[str]:
    title = _TITLES[answer.grouped_by or ""]
    if isinstance(answer.by, Missing):
        return [style.wrap(f"{title}: unknown: {answer.by.reason}")]
    rows = answer.by or ()
    lines = [style.bold(title)]
    shown = rows[:MOST_ROWS]
    width = max((len(row.key) for row in shown if len(row.key) <= _WIDEST_KEY), default=0)
    for row in shown:
        lines += _row(row, width, style)
    if not rows:
        lines.append("  none")
    if len(rows) > len(shown):
        lines.append(f"  ... and {len(rows) - len(shown)} more; --format json lists all")
    if "by" in answer.missing:
        lines.append(style.wrap(answer.missing["by"]))
    return lines


def _row(row: Row, width: int, style: Style) -> list[str]:
    counted = {state: number for state, number in row.states._asdict().items() if number}
    parts = ", ".join(f"{state} {number}" for state, number in counted.items())
    numbers = f"{sum(counted.values()):>9}  "
    rest = " " * (2 + width + len(numbers))
    if len(row.key) <= width:
        return [style.wrap(parts, rest, f"  {row.key:<{width}}{numbers}")]
    return [style.wrap(row.key, "    ", "  "), style.wrap(parts, rest, f"  {'':<{width}}{numbers}")]
