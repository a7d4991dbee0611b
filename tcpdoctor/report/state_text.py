"""`explain --state` for people: what is here first, then what it means, ends, and is mistaken for."""

from collections.abc import Iterable, Sequence

from tcpdoctor.answers.state import PortCount, StateAnswer, ToldDeadline
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.host import plural
from tcpdoctor.report.style import Style

MOST_NAMED = 5
"""Processes or ports that are named; json lists all."""

_OF_THE_RTO = ("retries2", "orphan_retries")
_WAITS_FOR_ACCEPT = ("established", "close_wait")


def state_text(answer: StateAnswer, style: Style) -> str:
    """Return the page, at most as wide as the style says."""
    blocks = [
        style.bold(style.wrap(_headline(answer))),
        *_whose(answer, style),
        "",
        style.wrap(answer.means),
        "",
        style.bold("What ends it, computed here"),
        *_deadlines(answer, style),
        style.wrap(answer.ends.owned, "  "),
        *([style.wrap(answer.ends.orphan, "  ")] if answer.ends.orphan else []),
        "",
        *_ways("In: ", answer.enter, style),
        *_ways("Out:", answer.leave, style),
        style.wrap(answer.costs, "       ", "Costs: "),
        "",
        style.bold("Often taken for something else"),
        *[style.wrap(f'"{wrong.claim}": {wrong.truth}.', "    ", "  - ") for wrong in answer.mistaken_for],
        "",
        *_picture(answer, style),
        "",
        "See them with",
        *[style.command(command, "  ") for command in answer.look],
    ]
    return "\n".join(blocks) + "\n"


def _headline(answer: StateAnswer) -> str:
    name = answer.name
    if answer.rfc_name not in (None, name):
        name += f" ({answer.rfc_name} in RFC 9293)"
    if isinstance(answer.sockets, Missing):
        return f"{name}: number unknown here: {answer.sockets.reason}"
    least = "at least " if "complete" in answer.missing else ""
    return f"{name}: {least}{plural(answer.sockets, 'socket')} here"


def _whose(answer: StateAnswer, style: Style) -> list[str]:
    if isinstance(answer.held, Missing):
        if isinstance(answer.sockets, Missing):
            return []
        return [style.wrap(f"Whose they are is unknown: {answer.held.reason}.", "  ")]
    lines = []
    if isinstance(answer.sample_of, int):
        lines.append(f"Of a sample of {answer.sample_of}:")
    if isinstance(answer.local_ports, tuple) and answer.local_ports:
        lines.append(f"By local port: {_ports(answer.local_ports)}.")
    elif isinstance(answer.processes, tuple):
        if answer.held:
            holders = [f"{process.name} ({process.pid}) {process.sockets}" for process in answer.processes]
            number = plural(len(holders), "process", "processes")
            lines.append(f"{answer.held} held by {number}: {_some(holders)}.")
        if answer.not_held:
            lines.append(f"{_not_held(answer)}.")
    if answer.owner_unknown:
        lines.append(f"{answer.owner_unknown} of unknown owner: {answer.missing['owner_unknown']}.")
    if "complete" in answer.missing:
        lines.append(f"There may be more: {answer.missing['complete']}.")
    return [style.wrap(line, "    ", "  ") for line in lines]


def _not_held(answer: StateAnswer) -> str:
    number = answer.not_held
    if isinstance(number, Missing):
        return ""
    if answer.state in _WAITS_FOR_ACCEPT:
        return f"{number} not accepted by their server yet, or held by no process"
    return plural(number, "orphan") + f" (no process holds {'it' if number == 1 else 'them'})"


def _ports(ports: Sequence[PortCount]) -> str:
    told = [f"{count.port or 'client ports together'}: {count.sockets}" for count in ports]
    return _some(told, separator="; ")


def _some(parts: Sequence[str], separator: str = ", ") -> str:
    rest = len(parts) - MOST_NAMED
    more = f"{separator}and {rest} more" if rest > 0 else ""
    return separator.join(parts[:MOST_NAMED]) + more


def _deadlines(answer: StateAnswer, style: Style) -> list[str]:
    """Three columns: the case, how long, and from which sysctls."""
    cases = max(len(deadline.case) for deadline in answer.deadlines) + 2
    lives = max(len(_life(deadline)) for deadline in answer.deadlines) + 2
    lines = []
    for deadline in answer.deadlines:
        head = f"  {deadline.case:<{cases}}{_life(deadline):<{lives}}"
        because = _because(deadline)
        lines.append(style.wrap(because, " " * len(head), head) if because else head.rstrip())
    if any(name.endswith(_OF_THE_RTO) for item in answer.deadlines for name in item.sysctls):
        supposed = f"For a near peer: a retransmission timeout of {answer.assumed_rto_s * 1000:.0f} ms."
        lines.append(style.dim(style.wrap(f"{supposed} A longer one makes it longer.", "  ")))
    return [*lines, ""]


def _life(deadline: ToldDeadline) -> str:
    if isinstance(deadline.ends, Missing):
        return "unknown"
    return deadline.text if deadline.ends else "never by itself"


def _because(deadline: ToldDeadline) -> str:
    if isinstance(deadline.ends, Missing):
        return deadline.text
    values = [f"{name.rpartition('.')[2]} = {value}" for name, value in deadline.sysctls.items()]
    if deadline.remark:
        values[0] += f" ({deadline.remark})"
    return ", ".join(values)


def _ways(title: str, ways: Iterable[str], style: Style) -> list[str]:
    lines = []
    for way in ways:
        lines.append(style.wrap(way, "       ", f"{title} - "))
        title = "    "
    return lines


def _picture(answer: StateAnswer, style: Style) -> list[str]:
    marked = f"[[{answer.name}]]"
    return [line.replace(marked, style.bold(marked)) for line in answer.diagram]
