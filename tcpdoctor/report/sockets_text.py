"""`sockets` for people: a line that says which socket, and one that says how it is."""

import math

from tcpdoctor.answers.sockets import Entry, Sockets, idle_seconds
from tcpdoctor.facts.dimension import BYTE, SECOND, show
from tcpdoctor.facts.socketset import Age
from tcpdoctor.facts.value import Range
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Connection, Held, Listener, NotHeld, Owner
from tcpdoctor.kernel.sockopts import OPTIONS, Linger, OptionValue, PortRange
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.report.host import plural, utc
from tcpdoctor.report.style import Style

_UNITS = {option.name: option.unit for option in OPTIONS}
_SHORT = {"second": "s", "millisecond": "ms", "microsecond": "us", "byte": "B", "count": "", None: ""}
_INDENT = " " * 13
_TIMERS = {
    Timer.RETRANSMIT: "retransmission",
    Timer.KEEPALIVE: "keepalive",
    Timer.TIME_WAIT: "ends",
    Timer.PROBE: "window probe",
}

_OWN_FLAG_UNANSWERED = frozenset(
    {TcpState.SYN_SENT, TcpState.FIN_WAIT_1, TcpState.CLOSING, TcpState.LAST_ACK}
)
"""Here the SYN or FIN that is not acknowledged takes one byte of the send queue, and is none."""


def sockets_text(answer: Sockets, style: Style) -> str:
    """Return every socket with its owner, age, timer and queues, and its options where asked for."""
    host, survey = answer.host, answer.survey
    lines = [
        style.bold(style.wrap(f"{host.host}: {plural(survey.total, 'TCP socket')}")),
        style.wrap(f"{utc(answer.taken_at)}, Linux {host.kernel}, network namespace {host.namespace}"),
        "",
    ]
    for entry in answer.entries:
        lines += _socket(entry, style, options=answer.options)
    if survey.total > len(answer.entries):
        left = survey.total - len(answer.entries)
        narrower = "--state, --port, --peer, --older and --pid narrow the list"
        lines += ["", style.wrap(f"{left:,} more are not shown; {narrower}.")]
    lines += [style.wrap(f"Not known: {what}: {reason}.") for what, reason in survey.missing.items()]
    return "\n".join(lines) + "\n"


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
            return f"{name}={value if value != '' else 'none'}{_SHORT[_UNITS.get(name)]}"


def age_words(age: Age) -> str:
    """Return an age as ``for 3 s to 12 min``, or as ``for an unknown time``."""
    shown = show(Range(age.low, age.high, age.reason), SECOND)
    return f"for {'an unknown time' if shown == 'unknown' else shown}"


def owner_words(owner: Owner) -> str:
    """Return the owner as ``nginx (811) fd 6``, or why there is none."""
    match owner:
        case Held(holders):
            return f"{holders[0].name} ({holders[0].pid}) fd {holders[0].fd}"
        case Missing(reason):
            return f"owner unknown: {reason}"
        case _:
            return "held by no process"


def _socket(entry: Entry, style: Style, *, options: bool) -> list[str]:
    row = entry.seen.row
    state = "LISTEN" if isinstance(row, Listener) else row.state.name
    ends = str(row.local)
    if isinstance(row, Connection) and row.remote.port:
        ends += f" - {row.remote}"
    condition = queue_words(row) if isinstance(row, Listener) else _condition(row, entry)
    details = ["not accepted yet" if _waits_for_accept(row) else owner_words(row.owner), *condition]
    lines = [style.wrap(ends, _INDENT, f"{state:<13}"), style.wrap(", ".join(details), _INDENT)]
    if options:
        lines.append(style.wrap(_option_line(entry), _INDENT))
    return lines


def _waits_for_accept(row: Listener | Connection) -> bool:
    """No file refers to a connection that is still in its listener's accept queue."""
    return (
        isinstance(row, Connection)
        and row.state in (TcpState.ESTABLISHED, TcpState.CLOSE_WAIT)
        and isinstance(row.owner, NotHeld)
        and not row.inode
    )


def queue_words(row: Listener) -> list[str]:
    """Return a listener's accept queue and drops in words."""
    limit = "unknown" if isinstance(row.accept_limit, Missing) else row.accept_limit
    drops = "unknown" if isinstance(row.drops, Missing) else row.drops
    return [f"accept queue {row.accept_queue} of {limit}", f"drops {drops}"]


def _condition(row: Connection, entry: Entry) -> list[str]:
    parts = [] if entry.age is None or math.isinf(entry.age.high) else [age_words(entry.age)]
    parts += _idle(row)
    parts += _unread(row)
    unsent = row.send_queue - (row.state in _OWN_FLAG_UNANSWERED)
    parts += [f"unsent or unacknowledged {show(unsent, BYTE)}"] if unsent > 0 else []
    parts += _tries(row)
    parts += [f"{_TIMERS[row.timer]} in {show(row.expires, SECOND)}"] if row.timer in _TIMERS else []
    return parts


def _tries(row: Connection) -> list[str]:
    """What was sent again in vain: of a socket that probes the kernel counts probes, not segments."""
    if not row.retransmits:
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
