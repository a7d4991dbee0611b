"""`sockets` for people: of TCP a line that says which socket and one how it is, of UDP a row each."""

import math
from collections.abc import Iterator, Sequence

from tcpdoctor.answers.record import ABSENT, told_number, utc
from tcpdoctor.answers.socket import (
    OPTION_UNITS,
    SocketOwner,
    ToldAge,
    ToldSocket,
    UdpRow,
    UdpSockets,
    told_socket,
)
from tcpdoctor.answers.sockets import Entry, Sockets, idle_seconds, unacknowledged_bytes
from tcpdoctor.facts.connection import Age
from tcpdoctor.facts.value import BYTE, SECOND, Range, show
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Connection, Held, Listener, NotHeld, Owner
from tcpdoctor.kernel.sockopts import Linger, OptionValue, PortRange
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.report.host import host_words, plural, where_words
from tcpdoctor.report.page import Block, Entries, Fields, Item, Prose, Section, Table, Title
from tcpdoctor.report.style import Style
from tcpdoctor.report.table import Column

_SHORT = {"second": "s", "millisecond": "ms", "microsecond": "us", "byte": "B", "count": "", None: ""}
_LABEL = 13
"""Columns of a state's name."""
_TIMERS = {
    Timer.RETRANSMIT: "retransmission",
    Timer.KEEPALIVE: "keepalive",
    Timer.TIME_WAIT: "ends",
    Timer.PROBE: "window probe",
}


def sockets_page(answer: Sockets, style: Style, columns: Sequence[str] = ()) -> list[Block]:
    """Return every socket with its owner, age, timer and queues, and its options where asked for.

    One row each under a header where that fits the terminal, else two lines; `columns`, keys of the JSON, are
    shown as they are, whatever the width.
    """
    host, survey = answer.host, answer.survey
    remarks = [Prose(f"Not known: {what}: {reason}.") for what, reason in survey.missing.items()]
    left = survey.total - len(answer.entries)
    if left > 0:
        narrower = "--state, --port, --peer, --older and --pid narrow the list"
        remarks.insert(0, Prose(f"{left:,} more are not shown; {narrower}.", apart=True))
    return [
        Title(f"{host_words(host.host, style)}: {plural(survey.total, 'TCP socket')}"),
        Prose(where_words(utc(answer.taken_at), host.kernel, host.namespace, host.namespace_name)),
        Section("", tuple(_rows(answer, columns))),
        *remarks,
    ]


def _rows(answer: Sockets, columns: Sequence[str]) -> list[Block]:
    if not answer.entries:
        return []
    if columns:
        header = tuple(Column(name.upper()) for name in columns)
        told = [told_socket(entry, options=False) for entry in answer.entries]
        rows = [tuple(_cell(row, name) for name in columns) for row in told]
        return [Table(header, tuple(rows), whole=True)]
    lines: list[Block] = [
        Fields(tuple(_lines(entry, options=answer.options)), _LABEL) for entry in answer.entries
    ]
    if answer.options:
        return lines
    return [_table(tuple(map(_row, answer.entries)), tuple(lines))]


def _table(rows: tuple[tuple[str, ...], ...], lines: tuple[Block, ...]) -> Table:
    """A row each; where that does not fit and all are in one state, without the column that says it."""
    states = {row[0] for row in rows}
    if len(states) > 1:
        return Table(_HEADER, rows, otherwise=lines)
    above = f"All in {states.pop()}:"
    narrower = Table(_HEADER[1:], tuple(row[1:] for row in rows), otherwise=lines, above=above)
    return Table(_HEADER, rows, otherwise=(narrower,))


_HEADER = (
    *map(Column, ("STATE", "LOCAL", "REMOTE", "OWNER")),
    *(Column(name, right=True) for name in ("AGE", "RECV", "SEND")),
    Column("TIMER"),
)


def _row(entry: Entry) -> tuple[str, ...]:
    """What is most often asked of a socket; a listener's RECV and SEND are its accept queue and limit."""
    row = entry.seen.row
    owner = _short_owner(row)
    if isinstance(row, Listener):
        limit = "?" if isinstance(row.accept_limit, Missing) else str(row.accept_limit)
        return "LISTEN", row.local.on(entry.device), "", owner, "", _number(row.accept_queue), limit, ""
    remote = str(row.remote) if row.remote.port else ""
    return (
        row.state.name,
        row.local.on(entry.device),
        remote,
        owner,
        _short_age(entry.age),
        _number(row.receive_queue),
        _number(row.send_queue),
        _timer(row, " "),
    )


def _number(number: int) -> str:
    """A queue; below 0 stands for one that a recording does not tell."""
    return str(number) if number >= 0 else "?"


def _timer(row: Connection, joined: str) -> str:
    """When its timer ends; nothing where none runs."""
    if math.isnan(row.expires):
        return "?" if joined == " " else ""
    return f"{_TIMERS[row.timer]}{joined}{show(row.expires, SECOND)}" if row.timer in _TIMERS else ""


def _short_age(age: Age | None) -> str:
    """``17 min+`` for at least so long, ``?`` where nothing is known."""
    if age is None:
        return ""
    if age.low <= 0 and math.isinf(age.high):
        return "?"
    exact = age.high - age.low < max(1.0, age.low / 10)
    return show(age.low, SECOND) + ("" if exact else "+")


def _short_owner(row: Listener | Connection) -> str:
    if _waits_for_accept(row):
        return "(not accepted)"
    if isinstance(row.owner, Held):
        return row.owner.label
    return "(hidden)" if isinstance(row.owner, Missing) else "(no process)"


def _cell(row: ToldSocket, column: str) -> str:
    """A value of the JSON in few words; ``-`` where there is none."""
    value = getattr(row, column)
    if isinstance(value, SocketOwner):
        return f"{value.name} ({value.pid})"
    if isinstance(value, ToldAge):
        return f"{value.at_least_s}..{'' if value.at_most_s is None else value.at_most_s}"
    return "-" if value is None or value is ABSENT or isinstance(value, Missing) else str(value)


def option_words(name: str, value: OptionValue) -> str:
    """Return an option as one word: ``SO_KEEPALIVE=on``, ``TCP_KEEPIDLE=7200s``."""
    match value:
        case bool():
            return f"{name}={'on' if value else 'off'}"
        case Linger(on, seconds):
            return f"{name}={f'on,{seconds}s' if on else 'off'}"
        case PortRange(low, high):
            return f"{name}={f'{low}-{high}' if low or high else 'sysctl'}"
        case _:
            return f"{name}={value if value != '' else 'none'}{_SHORT[OPTION_UNITS.get(name)]}"


def age_words(at_least: float, at_most: float | None) -> str:
    """Return an age in seconds as ``for 3 s to 12 min``, or as ``for an unknown time``."""
    shown = show(Range(at_least, math.inf if at_most is None else at_most, ""), SECOND)
    return f"for {'an unknown time' if shown == 'unknown' else shown}"


def owner_words(owner: Owner) -> str:
    """Return the owner as ``nginx (811) fd 6``, or why there is none."""
    match owner:
        case Held(holders):
            return f"{owner.label} fd {holders[0].fd}" if holders[0].fd >= 0 else owner.label
        case Missing(reason):
            return f"owner unknown: {reason}"
        case _:
            return "held by no process"


def _lines(entry: Entry, *, options: bool) -> Iterator[tuple[str, str]]:
    """Which socket it is, and below that how it is."""
    row = entry.seen.row
    ends = row.local.on(entry.device)
    if isinstance(row, Connection) and row.remote.port:
        ends += f" - {row.remote}"
    yield row.state.name, ends
    condition = (
        queue_words(told_number(row.accept_queue), row.accept_limit, row.drops)
        if isinstance(row, Listener)
        else _condition(row, entry)
    )
    yield (
        "",
        ", ".join(["not accepted yet" if _waits_for_accept(row) else owner_words(row.owner), *condition]),
    )
    if options:
        yield "", _option_line(entry)


def _waits_for_accept(row: Listener | Connection) -> bool:
    """No file refers to a connection that is still in its listener's accept queue."""
    return (
        isinstance(row, Connection)
        and row.state in (TcpState.ESTABLISHED, TcpState.CLOSE_WAIT)
        and isinstance(row.owner, NotHeld)
        and not row.inode
    )


def queue_words(queue: object, limit: object, drops: object) -> list[str]:
    """Return a listener's accept queue and drops in words."""
    length, of, lost = ("unknown" if isinstance(one, Missing) else one for one in (queue, limit, drops))
    return [f"accept queue {length} of {of}", f"drops {lost}"]


def _condition(row: Connection, entry: Entry) -> list[str]:
    age = entry.age
    parts = [] if age is None or math.isinf(age.high) else [age_words(age.low, age.high)]
    parts += _idle(row)
    parts += _unread(row)
    unsent = unacknowledged_bytes(row)
    parts += [f"unsent or unacknowledged {show(unsent, BYTE)}"] if unsent > 0 else []
    parts += _tries(row)
    timer = _timer(row, " in ")
    return [*parts, timer] if timer else parts


def _tries(row: Connection) -> list[str]:
    """What was sent again in vain: of a socket that probes the kernel counts probes, not segments."""
    if row.retransmits <= 0:
        return []
    if row.timer in (Timer.KEEPALIVE, Timer.PROBE):
        return [f"{plural(row.retransmits, 'probe')} without answer"]
    return [plural(row.retransmits, "retransmission")]


def _idle(row: Connection) -> list[str]:
    seconds = idle_seconds(row)
    if seconds is None or isinstance(seconds, Missing):
        return []
    return [f"idle for {show(seconds, SECOND)}"]


def _unread(row: Connection) -> list[str]:
    """In CLOSE_WAIT the peer's FIN counts as one byte until the program has read the end of file."""
    if row.receive_queue < 0:
        return ["unread bytes not told"]
    if row.state is not TcpState.CLOSE_WAIT:
        return [f"unread {show(row.receive_queue, BYTE)}"] if row.receive_queue else []
    if not row.receive_queue:
        return ["end of file read"]
    data = row.receive_queue - 1
    return [f"unread {show(data, BYTE)} and end of file" if data else "end of file unread"]


def _option_line(entry: Entry) -> str:
    options = entry.seen.options
    if isinstance(options, Missing):
        return f"options unknown: {options.reason}"
    known = [
        option_words(name, value)
        for name, value in options.items()
        if not isinstance(value, Missing) and name not in ("SO_COOKIE", "SO_ACCEPTCONN")
    ]
    return " ".join(known)


_UDP_HEADER = (
    *map(Column, ("LOCAL", "REMOTE", "OWNER")),
    *(Column(name, right=True) for name in ("RECV", "SEND", "DROPS")),
)


def udp_sockets_page(answer: UdpSockets, style: Style, columns: Sequence[str] = ()) -> list[Block]:
    """Return a row for each socket, on two lines where the terminal is narrow.

    `columns`, keys of the JSON, are shown as they are, whatever the width.
    """
    host = answer.host
    remarks = [Prose(f"Not known: {what}: {reason}.") for what, reason in answer.missing.items()]
    left = answer.total - len(answer.sockets)
    if left:
        narrower = "--port, --peer, --name and --pid narrow it"
        remarks.insert(0, Prose(f"{left:,} more are not shown; {narrower}.", apart=True))
    return [
        Title(f"{host_words(host.name, style)}: {plural(answer.total, 'UDP socket')}"),
        Prose(where_words(answer.taken_at, host.kernel, host.namespace, host.namespace_name)),
        *([Section("", (_udp_rows(answer.sockets, columns),))] if answer.sockets else []),
        *remarks,
    ]


def _udp_rows(sockets: Sequence[UdpRow], columns: Sequence[str]) -> Table:
    if columns:
        cells = tuple(tuple(_udp_cell(row, name) for name in columns) for row in sockets)
        return Table(tuple(Column(name.upper()) for name in columns), cells, whole=True)
    two_lines = Entries(tuple(map(_two_lines, sockets)), deeper=2)
    return Table(_UDP_HEADER, tuple(map(_udp_row, sockets)), otherwise=(two_lines,))


def _udp_row(row: UdpRow) -> tuple[str, ...]:
    numbers = (row.receive_queue, row.send_queue, row.drops)
    return (row.local, row.remote or "", _owner(row), *map(str, numbers))


def _owner(row: UdpRow) -> str:
    if isinstance(row.owner, Missing):
        return "(hidden)"
    return (
        f"{row.owner.name} ({row.owner.pid})"
        if row.owner
        else "(the kernel)"
        if not row.inode
        else "(no process)"
    )


def _two_lines(row: UdpRow) -> Item:
    ends = f"{row.local} - {row.remote}" if row.remote else row.local
    told = f"{_owner(row)}, unread {row.receive_queue} B, unsent {row.send_queue} B, drops {row.drops}"
    return Item(ends, blocks=(Prose(told),))


def _udp_cell(row: UdpRow, column: str) -> str:
    """A value of the JSON in few words; ``-`` where there is none."""
    value = getattr(row, column)
    if column == "owner":
        return _owner(row) if value is not None else "-"
    return "-" if value is None else str(value)
