"""`explain --state` for people: what is here first, then what it means, ends, and is mistaken for."""

from collections.abc import Iterable, Sequence

from tcpdoctor.answers.state import StateAnswer, Whose
from tcpdoctor.facts.deadlines import NEVER, show_life
from tcpdoctor.facts.state_deadlines import Deadline
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.host import plural
from tcpdoctor.report.style import Style

MOST_NAMED = 5
"""Processes or ports that are named; json lists all."""

_OF_THE_RTO = ("retries2", "orphan_retries")
_WAITS_FOR_ACCEPT = ("established", "close_wait")


def state_text(answer: StateAnswer, style: Style) -> str:
    """Return the page, at most as wide as the style says."""
    page = answer.page
    blocks = [
        style.bold(style.wrap(_headline(answer))),
        *_whose(answer, style),
        "",
        style.wrap(page.means),
        "",
        style.bold("What ends it, computed here"),
        *_deadlines(answer, style),
        style.wrap(page.owned, "  "),
        style.wrap(page.orphan, "  "),
        "",
        *_ways("In: ", page.enter, style),
        *_ways("Out:", page.leave, style),
        style.wrap(page.costs, "       ", "Costs: "),
        "",
        style.bold("Often taken for something else"),
        *[style.wrap(f'"{wrong.claim}": {wrong.truth}.', "    ", "  - ") for wrong in page.mistaken],
        "",
        *_picture(answer, style),
        "",
        "See them with",
        *[style.command(command, "  ") for command in page.look],
    ]
    return "\n".join(blocks) + "\n"


def _headline(answer: StateAnswer) -> str:
    page = answer.page
    name = page.name if page.key == "bound" else f"{page.name} ({page.rfc} in RFC 9293)"
    name = page.name if page.name == page.rfc else name
    if isinstance(answer.number, Missing):
        return f"{name}: number unknown here: {answer.number.reason}"
    least = "at least " if isinstance(answer.complete, Missing) else ""
    return f"{name}: {least}{plural(answer.number, 'socket')} here"


def _whose(answer: StateAnswer, style: Style) -> list[str]:
    whose = answer.whose
    if isinstance(whose, Missing):
        if isinstance(answer.number, Missing):
            return []
        return [style.wrap(f"Whose they are is unknown: {whose.reason}.", "  ")]
    lines = []
    if whose.looked_at is not None:
        lines.append(f"Of a sample of {whose.looked_at}:")
    if whose.ports:
        lines.append(f"By local port: {_ports(whose)}.")
    if whose.held:
        holders = [f"{process.name} ({process.pid}) {process.sockets}" for process in whose.processes]
        number = plural(len(holders), "process", "processes")
        lines.append(f"{whose.held} held by {number}: {_some(holders)}.")
    if whose.not_held and not whose.ports:
        lines.append(f"{_not_held(answer.page.key, whose.not_held)}.")
    if whose.unknown:
        lines.append(f"{whose.unknown} of unknown owner: {whose.reason}.")
    if isinstance(answer.complete, Missing):
        lines.append(f"There may be more: {answer.complete.reason}.")
    return [style.wrap(line, "    ", "  ") for line in lines]


def _not_held(key: str, number: int) -> str:
    if key in _WAITS_FOR_ACCEPT:
        return f"{number} not accepted by their server yet, or held by no process"
    return plural(number, "orphan") + f" (no process holds {'it' if number == 1 else 'them'})"


def _ports(whose: Whose) -> str:
    return _some(
        [f"{count.port or 'client ports together'}: {count.sockets}" for count in whose.ports], separator="; "
    )


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
        because = _because(deadline, answer)
        lines.append(style.wrap(because, " " * len(head), head) if because else head.rstrip())
    if any(name.endswith(_OF_THE_RTO) for item in answer.deadlines for name in item.sysctls):
        supposed = f"For a near peer: a retransmission timeout of {answer.rto * 1000:.0f} ms."
        lines.append(style.dim(style.wrap(f"{supposed} A longer one makes it longer.", "  ")))
    return [*lines, ""]


def _life(deadline: Deadline) -> str:
    if isinstance(deadline.life, Missing):
        return "unknown"
    return "never by itself" if deadline.life == NEVER else show_life(deadline.life)


def _because(deadline: Deadline, answer: StateAnswer) -> str:
    if isinstance(deadline.life, Missing):
        return deadline.life.reason
    values = [f"{name.rpartition('.')[2]} = {answer.sysctls[name]}" for name in deadline.sysctls]
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
    marked = f"[[{answer.page.name}]]"
    return [line.replace(marked, style.bold(marked)) for line in answer.picture.splitlines()]
