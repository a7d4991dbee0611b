"""`states` for people: a table, and what it does not know."""

from collections.abc import Mapping, Sequence

from tcpdoctor.answers.states import Row, RowStates, StatesAnswer
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.host import plural
from tcpdoctor.report.style import Style
from tcpdoctor.report.table import Column, table

MOST_ROWS = 40
"""Longer tables are not read by people; json lists all."""

_LONGEST_BAR, _SHORTEST_BAR = 30, 8
_ASK_WHOSE = ("close_wait", "fin_wait_2", "last_ack", "closing", "syn_sent")
"""States in which many sockets are somebody's fault."""

_TITLES = {"port": "By local port", "peer": "By peer address", "process": "By process"}
_HEADS = {"port": "PORT", "peer": "PEER", "process": "PROCESS"}
_WIDEST_KEY, _NARROWEST_KEY = 45, 16
_MATTERS = (
    *("close_wait", "time_wait", "fin_wait_2", "established", "syn_sent", "last_ack", "fin_wait_1"),
    *("syn_recv", "closing", "listen", "bound"),
)
"""The states, the one first whose column goes last where there is no room for all."""


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
    ask = {state: style.asks(f"tcpdoctor explain {state.replace('_', '-')}") for state in sick}
    hints = {state: f"whose: {command}" for state, command in ask.items()}
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
    states = [state for state in RowStates._fields if any(row.states._asdict()[state] for row in shown)]
    columns = [
        Column(_HEADS[answer.grouped_by or ""], most=_WIDEST_KEY, least=_NARROWEST_KEY),
        Column("SOCKETS", right=True),
        *(Column(_name(state), right=True, goes=1 + _MATTERS.index(state)) for state in states),
    ]
    lines += table(columns, [_row(row, states) for row in shown], style, "  ")
    if not rows:
        lines.append("  none")
    if len(rows) > len(shown):
        lines.append(f"  ... and {len(rows) - len(shown)} more; --format json lists all")
    if "by" in answer.missing:
        lines.append(style.wrap(answer.missing["by"]))
    return lines


def _name(state: str) -> str:
    return state if state == "bound" else state.upper()


def _row(row: Row, states: Sequence[str]) -> list[str]:
    """Name, sum, and a number for each state."""
    counts = row.states._asdict()
    numbers = [f"{counts[state]:,}" if counts[state] else "" for state in states]
    return [row.key, f"{sum(filter(None, counts.values())):,}", *numbers]
