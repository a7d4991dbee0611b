"""`states` for people: a table, and what it does not know."""

from tcpdoctor.answers.states import Row, States
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.states import COUNTED_STATES
from tcpdoctor.report.host import plural, utc
from tcpdoctor.report.style import Style

MOST_ROWS = 40
"""Longer tables are not read by people; json lists all."""

_TITLES = {"port": "By local port", "peer": "By peer address", "process": "By process"}
_WIDEST_KEY = 34


def states_answer_text(answer: States, style: Style) -> str:
    """Return the table of states, then the rows of what it was grouped by, the largest first."""
    counts = [reading for reading in answer.readings.values() if not isinstance(reading, Missing)]
    total = plural(sum(counts), "TCP socket") if counts else "TCP sockets unknown"
    lines = [
        style.bold(style.wrap(f"{answer.host}: {total}")),
        style.wrap(f"{utc(answer.taken_at)}, Linux {answer.kernel}, network namespace {answer.namespace}"),
        "",
    ]
    for state, reading in answer.readings.items():
        if isinstance(reading, Missing):
            lines.append(style.wrap(f"unknown: {reading.reason}", " " * 16, f"  {state.key:<14}"))
        else:
            line = f"  {state.key:<14}{reading:>9}"
            lines.append(line if reading else style.dim(line))
    if isinstance(answer.complete, Missing):
        lines += ["", style.wrap(f"There may be more than counted: {answer.complete.reason}.")]
    if answer.by is not None:
        lines += ["", *_table(answer, style)]
    return "\n".join(lines) + "\n"


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
