"""`states` for people: a table, and what it does not know."""

from collections.abc import Mapping, Sequence

from tcpdoctor.answers.states import SICK, Row, RowStates, StatesAnswer
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.host import host_words, plural, where_words
from tcpdoctor.report.page import Bar, Bars, Block, Fields, Inset, Prose, Section, Table, Title
from tcpdoctor.report.style import Style
from tcpdoctor.report.table import Column

MOST_ROWS = 40
"""Longer tables are not read by people; json lists all."""

_LABEL = 14
"""Columns of a state's name."""

_TITLES = {"port": "By local port", "peer": "By peer address", "process": "By process"}
_HEADS = {"port": "PORT", "peer": "PEER", "process": "PROCESS"}
_WIDEST_KEY, _NARROWEST_KEY = 45, 16
_MATTERS = (
    *("close_wait", "time_wait", "fin_wait_2", "established", "syn_sent", "last_ack", "fin_wait_1"),
    *("syn_recv", "closing", "listen", "bound"),
)
"""The states, the one first whose column goes last where there is no room for all."""


def states_page(answer: StatesAnswer, style: Style) -> list[Block]:
    """Return a bar for each state that has sockets, then the rows of what it was grouped by."""
    readings, host = answer.states._asdict(), answer.host
    counts = {state: number for state, number in readings.items() if not isinstance(number, Missing)}
    total = plural(sum(counts.values()), "TCP socket") if counts else "TCP sockets unknown"
    empty = [state for state, number in counts.items() if not number]
    unknown = _unknown({state: one.reason for state, one in readings.items() if isinstance(one, Missing)})
    bars = (Bar(state, number, _whose(answer, state, style)) for state, number in counts.items() if number)
    blocks: list[Block] = [Bars(tuple(bars), _LABEL)]
    blocks += [Fields((("none", ", ".join(empty)),), _LABEL, faint=True)] if empty else []
    blocks += [Fields(tuple(unknown), _LABEL)] if unknown else []
    page: list[Block] = [
        Title(f"{host_words(host.name, style)}: {total}"),
        Prose(where_words(answer.taken_at, host.kernel, host.namespace, host.namespace_name)),
        Section("", (Inset(tuple(blocks), 2),)),
    ]
    if "states" in answer.missing:
        page.append(Section("", (Prose(f"There may be more than counted: {answer.missing['states']}."),)))
    return [*page, *(_grouped(answer) if answer.grouped_by is not None else [])]


def _unknown(reasons: Mapping[str, str]) -> list[tuple[str, str]]:
    """Each reason once, with all states that are unknown for it."""
    by_reason: dict[str, list[str]] = {}
    for state, reason in reasons.items():
        by_reason.setdefault(reason, []).append(state)
    return [
        (states[0], f"unknown: {reason}")
        if len(states) == 1
        else ("unknown", f"{', '.join(states)}: {reason}")
        for reason, states in by_reason.items()
    ]


def _whose(answer: StatesAnswer, state: str, style: Style) -> str:
    """Of a sick state who has most, else how to see it."""
    if all(state != one.key for one in SICK):
        return ""
    for found in (one for one in answer.most if one.state == state):
        return f"{found.holder}: {found.sockets:,}"
    if answer.grouped_by == "process" and answer.by and not isinstance(answer.by, Missing):
        most = max(answer.by, key=lambda row: row.states._asdict()[state] or 0)
        return f"{most.key}: {most.states._asdict()[state] or 0:,}"
    return f"whose: {style.asks(f'tcpdoctor explain {state}'.replace('_', '-'))}"


def _grouped(answer: StatesAnswer) -> list[Block]:
    title = _TITLES[answer.grouped_by or ""]
    if isinstance(answer.by, Missing):
        return [Section("", (Prose(f"{title}: unknown: {answer.by.reason}"),))]
    rows = answer.by or ()
    shown = rows[:MOST_ROWS]
    states = [state for state in RowStates._fields if any(row.states._asdict()[state] for row in shown)]
    columns = (
        Column(_HEADS[answer.grouped_by or ""], most=_WIDEST_KEY, least=_NARROWEST_KEY),
        Column("SOCKETS", right=True),
        *(Column(_name(state), right=True, goes=1 + _MATTERS.index(state)) for state in states),
    )
    blocks: list[Block] = [Table(columns, tuple(_row(row, states) for row in shown))]
    blocks += [] if rows else [Prose("none")]
    if len(rows) > len(shown):
        blocks.append(Prose(f"... and {len(rows) - len(shown)} more; --format json lists all"))
    remark = [Prose(answer.missing["by"])] if "by" in answer.missing else []
    return [Section(title, tuple(blocks)), *remark]


def _name(state: str) -> str:
    return state if state == "bound" else state.upper()


def _row(row: Row, states: Sequence[str]) -> tuple[str, ...]:
    """Name, sum, and a number for each state."""
    counts = row.states._asdict()
    numbers = [f"{counts[state]:,}" if counts[state] else "" for state in states]
    return row.key, f"{sum(filter(None, counts.values())):,}", *numbers
