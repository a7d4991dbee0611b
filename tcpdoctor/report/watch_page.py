"""What `watch` opens: a finding in check's own words, or a row and what it means; `--plain` too."""

from collections.abc import Iterator, Sequence

from tcpdoctor.answers.watch import (
    DestinationRow,
    FindingRow,
    ListenerRow,
    OwnerRow,
    Row,
    StateRow,
    Watch,
)
from tcpdoctor.diagnosis.finding import Finding
from tcpdoctor.facts.rates import Series, TooFew
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.value import SECOND, show
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.report.cells import count_cell, drawable, growth_cell, rate_cell, sparkline, until_cell
from tcpdoctor.report.check_text import finding_text
from tcpdoctor.report.host import clock
from tcpdoctor.report.style import PLAIN, Style

_NARROWEST = 40

HELP = """\
Every look is check's own: the second line is what check says, findings come and go there. The rows below are
what changes: sockets by state, who holds those that are not closed, the ports left towards each destination,
and the accept queues.

    up down  j k     the row under the cursor, marked with >
    enter            explains it: what check or explain says; esc goes back
    s                sorts by growth, by size, by name
    /                filters rows by a part of their name; esc drops the filter
    p                pauses: the screen stays, looks go on
    n                the network namespaces of this host; enter goes there
    t                begins or ends a trace: who closes first, by listener
    [ ]              one recording back or on, with --from
    ?                this page
    q  ctrl-c        ends watch

/min is the growth per minute over the last minute, from the third look on; before that it is -. A time
until something is full or exhausted is what follows if it goes on like that. A number that cannot be known
is ?, and enter on its row says why. A row that ended stays for a minute, and says (ended). ! marks what is
full, low or dropped from.

Counts are made anew each interval. The rules of check are asked as often as watch stays below 2 % of a
core; where that is seldom, the second line says how long ago it was. Owners are looked up when a socket has
been there for two looks, and all of them again every 30 s."""

_MEANINGS = {
    "StateRow": "Sockets in this state in this network namespace, orphans included.",
    "OwnerRow": (
        "Sockets in CLOSE_WAIT wait for this process to call close(); FIN_WAIT_2 are those it shut down for "
        "writing and still holds. fds: its open descriptors of its limit; when they are used up, accept() "
        "and open() fail with EMFILE."
    ),
    "DestinationRow": (
        "Connections from ephemeral ports of this host to one address and port. Each takes a local port, in "
        "TIME_WAIT too; when none is left connect() fails with EADDRNOTAVAIL. Other destinations have "
        "ports of their own."
    ),
    "ListenerRow": (
        "queue: connections established and waiting for accept(); above its limit further ones are dropped, "
        "and clients wait or time out. most: the longest queue since watch began."
    ),
}


def row_page(watch: Watch, row: Row, width: int, *, is_unicode: bool, there: Style = PLAIN) -> list[str]:
    """Return the lines that open for a row: its numbers as of this look, and the findings about it.

    `there` says where their commands are to be typed.
    """
    style = there._replace(color=False, width=max(_NARROWEST, width))
    if isinstance(row, FindingRow):
        body = _finding_lines(watch, row, style, is_unicode=is_unicode)
    else:
        body = [*_numbers(watch, row, style, is_unicode=is_unicode)]
        for finding in _about(watch, row):
            body += ["", *finding_text(finding, style).splitlines()]
    return [drawable(line, is_unicode=is_unicode) for line in body]


def command_for(row: Row) -> str | None:
    """Return the command that answers more of a row; None where there is none."""
    match row:
        case StateRow():
            return f"tcpdoctor explain --state {row.label}"
        case OwnerRow(pid=int(pid)):
            return f"tcpdoctor explain --pid {pid}"
        case DestinationRow():
            return f"tcpdoctor explain --connect {row.peer} --source {row.source}"
        case ListenerRow():
            return f"tcpdoctor explain --port {row.port}"
        case _:
            return None


def _finding_lines(watch: Watch, row: FindingRow, style: Style, *, is_unicode: bool) -> list[str]:
    finding = row.finding
    since = f"for {show(round(max(0.0, watch.clock - row.began)), SECOND)} so far"
    if row.ended is not None:
        since = f"ended {show(round(max(0.0, watch.clock - row.ended)), SECOND)} ago"
    lines = [style.wrap(f"{finding.rule}, {since} (since watch began)", "  ", "")]
    if finding.value is not None and row.series.looks > 1:
        lines.append(_drawn(watch, row.series, style, is_unicode=is_unicode))
    return [*"\n".join(lines).splitlines(), "", *finding_text(finding, style).splitlines()]


def _numbers(watch: Watch, row: Row, style: Style, *, is_unicode: bool) -> Iterator[str]:
    where = f" {row.where}" if isinstance(row, OwnerRow) and row.where else ""
    yield from style.wrap(f"{row.label}{where}{' (ended)' if row.ended is not None else ''}").splitlines()
    yield _drawn(watch, row.series, style, is_unicode=is_unicode)
    unknown: dict[str, list[str]] = {}
    for name, shown, reading in _cells(row):
        yield from style.wrap(f"{name:<18} {shown}", " " * 21, "  ").splitlines()
        if isinstance(reading, Missing) and not isinstance(reading, TooFew):
            unknown.setdefault(reading.reason, []).append(name)
    for reason, names in unknown.items():
        yield from style.wrap(f"not known: {', '.join(names)}: {reason}", "    ", "  ").splitlines()
    yield ""
    yield from style.wrap(_MEANINGS[type(row).__name__]).splitlines()
    command = command_for(row)
    if command:
        yield from style.command(style.asks(command), "    ").splitlines()


def _cells(row: Row) -> Sequence[tuple[str, str, Reading[float] | None]]:
    match row:
        case StateRow():
            return [
                ("now", count_cell(row.now, 20), row.now),
                ("per minute", growth_cell(row.per_minute, 20), row.per_minute),
                *([("", row.note, None)] if row.note else []),
            ]
        case OwnerRow():
            return [
                ("CLOSE_WAIT", count_cell(row.close_wait, 20), row.close_wait),
                ("per minute", growth_cell(row.per_minute, 20), row.per_minute),
                ("FIN_WAIT_2", count_cell(row.fin_wait_2, 20), row.fin_wait_2),
                ("descriptors", count_cell(row.descriptors, 20), row.descriptors),
                ("their limit", count_cell(row.limit, 20), row.limit),
                ("more per minute", growth_cell(row.descriptor_growth, 20), row.descriptor_growth),
                ("full in", until_cell(row.until_limit), None),
            ]
        case DestinationRow():
            return [
                ("ports left", count_cell(row.left, 20), row.left),
                ("used", count_cell(row.used, 20), None),
                ("more per minute", growth_cell(row.per_minute, 20), row.per_minute),
                ("exhausted in", until_cell(row.until_none), None),
            ]
        case ListenerRow():
            closed = row.closed_here
            share = [] if closed is None else [("closed here first", _share(closed), closed)]
            return [
                ("held by", row.owner or "?", None if row.owner else Missing("its owner was not found")),
                ("queue", count_cell(row.queue, 20), None),
                ("limit", count_cell(row.limit, 20), row.limit),
                ("most so far", count_cell(row.most, 20), None),
                ("dropped", rate_cell(row.drops), row.drops),
                *share,
            ]
        case FindingRow():
            return []


def _share(value: Reading[float]) -> str:
    return "?" if isinstance(value, Missing) else f"{value * 100:.0f} %"


def _drawn(watch: Watch, series: Series, style: Style, *, is_unicode: bool) -> str:
    """How it went since watch began, as wide as there is room."""
    began = series.whole[0].clock if series.whole else watch.clock
    room = min(style.width - 4, 60)
    line = sparkline(series, watch.clock, room, is_unicode=is_unicode, since=began - watch.interval / 2)
    return f"  {line}"


def _about(watch: Watch, row: Row) -> Iterator[Finding]:
    """The findings that are about what a row shows."""
    for found in watch.findings:
        finding = found.finding
        if found.ended is not None:
            continue
        match row:
            case OwnerRow():
                about = row.pid is not None and row.pid in finding.pids
            case DestinationRow():
                about = any(str(peer) == row.peer for peer in finding.peers)
            case ListenerRow():
                about = finding.identity.get("port") == row.port and finding.scope is not Scope.DESTINATION
            case StateRow():
                state = TcpState[row.label].key
                about = any(state in item.fact for item in finding.evidence)
            case FindingRow():
                about = False
        if about:
            yield finding


_GROWING = (TcpState.TIME_WAIT, TcpState.CLOSE_WAIT)
_NAMES = {
    TcpState.ESTABLISHED: "estab",
    TcpState.TIME_WAIT: "tw",
    TcpState.CLOSE_WAIT: "cw",
    TcpState.FIN_WAIT_2: "fw2",
    TcpState.SYN_RECV: "syn",
}


def plain_line(watch: Watch) -> str:
    """Return one look: ``14:02:10 estab=9214 tw=18120/+912 cw=412/+37 fw2=131 syn=3 findings=2 worst=RULE``.

    Behind a stroke is the growth per minute, ``-`` until there were three looks; ``?`` is what is not known.
    """
    rows = {row.key: row for row in watch.states}
    parts = [clock(watch.taken_at)[:8]]
    for state, name in _NAMES.items():
        row = rows.get(f"state {state.key}")
        parts.append(f"{name}={_number(row)}{_growth(row) if state in _GROWING else ''}")
    verdict = watch.verdict
    living = [row for row in watch.findings if row.ended is None]
    blind = verdict is None or (verdict.status == "unknown" and not living)
    parts.append(f"findings={'?' if blind or verdict is None else sum(verdict.counts)}")
    parts.append(f"worst={'?' if blind else living[0].finding.rule if living else '-'}")
    return " ".join(parts)


def _number(row: StateRow | None) -> str:
    return "?" if row is None or isinstance(row.now, Missing) else str(row.now)


def _growth(row: StateRow | None) -> str:
    if row is None or isinstance(row.now, Missing):
        return "/?"
    if isinstance(row.per_minute, Missing):
        return "/-" if isinstance(row.per_minute, TooFew) else "/?"
    return f"/{round(row.per_minute):+d}"
