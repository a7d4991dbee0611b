"""`states` for people: a table, and what it does not know."""

from collections.abc import Mapping

from tcpdoctor.answers.states import Row, States
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState
from tcpdoctor.report.host import plural, utc
from tcpdoctor.report.style import Style

MOST_ROWS = 40
"""Longer tables are not read by people; json lists all."""

_LONGEST_BAR, _SHORTEST_BAR = 30, 8
_ASK_WHOSE = (
    TcpState.CLOSE_WAIT,
    TcpState.FIN_WAIT_2,
    TcpState.LAST_ACK,
    TcpState.CLOSING,
    TcpState.SYN_SENT,
)
"""States in which many sockets are somebody's fault."""

_TITLES = {"port": "By local port", "peer": "By peer address", "process": "By process"}
_WIDEST_KEY = 34


def states_answer_text(answer: States, style: Style) -> str:
    """Return a line with a bar for each state that has sockets, then the rows of what it was grouped by."""
    counts = {state: number for state, number in answer.readings.items() if not isinstance(number, Missing)}
    total = plural(sum(counts.values()), "TCP socket") if counts else "TCP sockets unknown"
    lines = [
        style.bold(style.wrap(f"{answer.host}: {total}")),
        style.wrap(f"{utc(answer.taken_at)}, Linux {answer.kernel}, network namespace {answer.namespace}"),
        "",
        *_bars({state: number for state, number in counts.items() if number}, style),
    ]
    empty = [state.key for state, number in counts.items() if not number]
    if empty:
        lines.append(style.dim(style.wrap(", ".join(empty), " " * 16, f"  {'none':<14}")))
    for state, reading in answer.readings.items():
        if isinstance(reading, Missing):
            lines.append(style.wrap(f"unknown: {reading.reason}", " " * 16, f"  {state.key:<14}"))
    if isinstance(answer.complete, Missing):
        lines += ["", style.wrap(f"There may be more than counted: {answer.complete.reason}.")]
    if answer.by is not None:
        lines += ["", *_table(answer, style)]
    return "\n".join(lines) + "\n"


def _bars(counts: Mapping[TcpState, int], style: Style) -> list[str]:
    """A line a state: its number, and a bar as long as its share; a sick one says how to see whose it is."""
    most = max(counts.values(), default=0)
    numbers = max((len(f"{number:,}") for number in counts.values()), default=0)
    hints = {state: f"whose: tcpdoctor explain {_dashed(state)}" for state in counts if state in _ASK_WHOSE}
    widest = max(map(len, hints.values()), default=0)
    room = min(_LONGEST_BAR, style.width - 20 - numbers - widest)
    lines = []
    for state, number in counts.items():
        line = f"  {state.key:<14}{number:>{numbers},}"
        if room < _SHORTEST_BAR:
            lines += [line, *([style.wrap(style.dim(hints[state]), "      ")] if state in hints else [])]
            continue
        bar = "#" * max(1, round(number / most * room))
        hint = f"  {style.dim(hints[state])}" if state in hints else ""
        lines.append(f"{line}  {bar:<{room}}{hint}".rstrip())
    return lines


def _dashed(state: TcpState) -> str:
    return state.key.replace("_", "-")


def _table(answer: States, style: Style) -> list[str]:
    title = _TITLES[answer.by or ""]
    if isinstance(answer.rows, Missing):
        return [style.wrap(f"{title}: unknown: {answer.rows.reason}")]
    lines = [style.bold(title)]
    shown = answer.rows[:MOST_ROWS]
    width = max((len(row.key) for row in shown if len(row.key) <= _WIDEST_KEY), default=0)
    for row in shown:
        lines += _row(row, width, style)
    if not answer.rows:
        lines.append("  none")
    if len(answer.rows) > len(shown):
        lines.append(f"  ... and {len(answer.rows) - len(shown)} more; --format json lists all")
    lines += [style.wrap(remark) for remark in answer.remarks]
    return lines


def _row(row: Row, width: int, style: Style) -> list[str]:
    parts = ", ".join(f"{state.key} {row.states[state]}" for state in COUNTED_STATES if row.states.get(state))
    numbers = f"{sum(row.states.values()):>9}  "
    rest = " " * (2 + width + len(numbers))
    if len(row.key) <= width:
        return [style.wrap(parts, rest, f"  {row.key:<{width}}{numbers}")]
    return [style.wrap(row.key, "    ", "  "), style.wrap(parts, rest, f"  {'':<{width}}{numbers}")]
