"""`diff A B` for people: findings first, then sockets, rates and settings."""

from collections.abc import Sequence

from tcpdoctor.answers.diff import DiffAnswer, Side, StateDifference
from tcpdoctor.facts.value import SECOND, show
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.report.host import plural, source_words
from tcpdoctor.report.page import Block, Fields, Found, Prose, Section, Table, Title
from tcpdoctor.report.style import Style
from tcpdoctor.report.table import Column

_MOST = 12
"""Rows of each table; JSON has all."""
_LABEL = 12


def diff_page(answer: DiffAnswer, style: Style) -> list[Block]:
    """Return what is different as blocks; what could not be compared says why."""
    seconds = answer.seconds
    apart = f"not known how far apart: {seconds.reason}" if isinstance(seconds, Missing) else ""
    over = apart or f"{show(seconds if not isinstance(seconds, Missing) else 0.0, SECOND)} apart"
    page: list[Block] = [
        Title(_headline(answer)),
        Prose(over),
        Fields((("before", _side(answer.before)), ("after", _side(answer.after))), _LABEL),
        *_open(answer),
        *_findings(answer, style),
        *_states(answer.states),
        *_processes(answer),
        *_destinations(answer),
        *_counters(answer),
    ]
    if answer.sysctls:
        rows = tuple((each.sysctl, each.before, each.after) for each in answer.sysctls[:_MOST])
        page.append(_table("Settings changed", ("SETTING", "BEFORE", "AFTER"), rows, len(answer.sysctls)))
    return page


def _headline(answer: DiffAnswer) -> str:
    host = answer.after.host.name
    numbers = (
        (len(answer.appeared), "new"),
        (len(answer.not_asked_before), "not known before"),
        (len(answer.gone), "gone"),
        (len(answer.changed), "changed"),
        (answer.stayed, "as before"),
    )
    found = ", ".join(f"{number} {word}" for number, word in numbers if number)
    return f"{host}: findings: {found}" if found else f"{host}: no findings, before or after"


def _open(answer: DiffAnswer) -> list[Block]:
    """What silence may hide: rules that one of the two leaves open."""
    (then, now), (told_then, told_now) = answer.unchecked, answer.checked
    if not then and not now:
        return []
    rules = f"{told_then} of {then + told_then} rules answered before, {told_now} after"
    return [Prose(f"{rules}: check --from FILE --unanswered says what to ask for")]


def _side(side: Side) -> str:
    return f"{side.taken_at}, {side.host.name}, {source_words(side.recording)}"


def _findings(answer: DiffAnswer, style: Style) -> list[Block]:
    new, unknown = (
        tuple(
            Found(
                one.severity,
                f"{one.subject['label']}: {one.title}",
                style.asks(f"tcpdoctor explain {one.rule}"),
            )
            for one in found[:_MOST]
        )
        for found in (answer.appeared, answer.not_asked_before)
    )
    gone = tuple(Found(one.severity, f"{one.label}: {one.title}") for one in answer.gone[:_MOST])
    changed = tuple(
        Found(one.severity, f"{one.label}: {one.title} (was {one.severity_before})")
        for one in answer.changed[:_MOST]
    )
    unanswered = tuple(
        Found(one.severity, f"{one.label}: {one.title} ({one.reason})") for one in answer.unanswered[:_MOST]
    )
    named = (
        ("New", new),
        ("There now, and not known before", unknown),
        ("Gone", gone),
        ("Changed", changed),
        ("Not answered any more", unanswered),
    )
    return [Section(title, rows) for title, rows in named if rows]


def _states(states: Sequence[StateDifference]) -> list[Block]:
    rows = tuple(
        (
            each.state,
            _number(each.before),
            _number(each.after),
            _change(each.before, each.after),
            _number(each.stayed),
        )
        for each in states
        if each.before != 0 or each.after != 0
    )
    if not rows:
        return [Section("Sockets", (Prose("None, before or after."),))]
    if all(isinstance(side, Missing) for each in states for side in (each.before, each.after)):
        return []  # the reason is said of the processes
    return [_table("Sockets", ("STATE", "BEFORE", "AFTER", "CHANGE", "THE SAME"), rows, len(rows))]


def _change(before: Reading[int], after: Reading[int]) -> str:
    if isinstance(before, Missing) or isinstance(after, Missing):
        return "unknown"
    return _signed(after - before)


def _number(number: Reading[int]) -> str:
    return "unknown" if isinstance(number, Missing) else f"{number:,}"


def _signed(number: int) -> str:
    return f"{number:+,}" if number else "0"


def _from_to(before: Reading[int], after: Reading[int]) -> tuple[str, str, str]:
    return _number(before), _number(after), _change(before, after)


def _processes(answer: DiffAnswer) -> list[Block]:
    if isinstance(answer.processes, Missing):
        return [Section("By process", (Prose(f"Not known: {answer.processes.reason}."),))]
    rows = tuple(
        (each.process, each.state, *_from_to(each.before, each.after)) for each in answer.processes[:_MOST]
    )
    heads = ("PROCESS", "STATE", "BEFORE", "AFTER", "CHANGE")
    return [_table("By process", heads, rows, len(answer.processes))] if rows else []


def _destinations(answer: DiffAnswer) -> list[Block]:
    if isinstance(answer.destinations, Missing):
        if isinstance(answer.processes, Missing):
            return []
        return [Section("Outgoing connections", (Prose(f"Not compared: {answer.destinations.reason}."),))]
    if not answer.destinations:
        return []
    rows = tuple(
        (each.destination, each.source, *_from_to(each.before, each.after))
        for each in answer.destinations[:_MOST]
    )
    heads = ("DESTINATION", "FROM", "BEFORE", "AFTER", "CHANGE")
    return [_table("Outgoing connections", heads, rows, len(answer.destinations))]


def _counters(answer: DiffAnswer) -> list[Block]:
    if isinstance(answer.counters, Missing):
        return [Section("Counters", (Prose(f"Not known: {answer.counters.reason}."),))]
    rows = tuple(
        (
            each.counter,
            f"{each.after - each.before:+,}",
            "unknown" if isinstance(each.per_s, Missing) else f"{each.per_s:,.4g}",
        )
        for each in answer.counters[:_MOST]
    )
    blocks: list[Block] = []
    if rows:
        blocks.append(_table("Counters that grew", ("COUNTER", "BY", "A SECOND"), rows, len(answer.counters)))
    if answer.went_back:
        number = plural(len(answer.went_back), "counter")
        blocks.append(Prose(f"{number} went back: the host, or its namespace, was started anew."))
    return blocks


def _table(title: str, heads: Sequence[str], rows: tuple[tuple[str, ...], ...], total: int) -> Section:
    first = 0 if heads[0] == "STATE" else 38
    columns = tuple(
        Column(head, right=head in _NUMBERS, most=first if place == 0 else 0, least=16 if place == 0 else 0)
        for place, head in enumerate(heads)
    )
    blocks: list[Block] = [Table(columns, rows)]
    if total > len(rows):
        blocks.append(Prose(f"{total - len(rows):,} more; --format json has them.", faint=True))
    return Section(title, tuple(blocks))


_NUMBERS = ("BEFORE", "AFTER", "CHANGE", "THE SAME", "BY", "A SECOND")
