"""`explain --state` for people: what is here first, then what it means, ends, and is mistaken for."""

from collections.abc import Sequence

from tcpdoctor.answers.state import PortCount, StateAnswer, ToldDeadline
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.text import name_a_few
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import (
    Block,
    Command,
    Fields,
    Item,
    Picture,
    Prose,
    Section,
    Title,
    as_far_as,
    labelled,
    mistaken,
    short_form,
    typed,
)
from tcpdoctor.report.style import NO_BREAK, Style

_SHOWN_ENDS = 4
"""Deadlines in the short form."""
MOST_NAMED = 5
"""Processes or ports that are named; json lists all."""

_OF_THE_RTO = ("retries2", "orphan_retries")
_WAITS_FOR_ACCEPT = ("established", "close_wait")


def state_page(answer: StateAnswer, style: Style, *, long: bool = True) -> list[Block]:
    """Return the page, or its short form."""
    return _long(answer, style) if long else _short(answer, style)


def _short(answer: StateAnswer, style: Style) -> list[Block]:
    """What it means, who is in it, which timer ends it here, and what has to be done."""
    life = max(len(_life(deadline)) for deadline in answer.deadlines) + 2
    ends = [f"{_life(one):{NO_BREAK}<{life}}{one.case}" for one in answer.deadlines[:_SHOWN_ENDS]]
    held = as_far_as(answer.ends.owned, 230)
    orphan = as_far_as(answer.ends.orphan, 150) if answer.ends.orphan else None
    rows = [
        *labelled("here", _whose(answer)),
        *labelled("ends", ends),
        *labelled("do", [held, *([orphan] if orphan else [])]),
        *(("not", as_far_as(f'"{one.claim}": {one.truth}', 150)) for one in answer.mistaken_for[:1]),
        ("see", typed(map(style.asks, answer.look[:2]), style)),
    ]
    more = "what leads into it and out of it, all that is mistaken about it, the picture"
    return short_form(_headline(answer), answer.means, rows, more)


def _long(answer: StateAnswer, style: Style) -> list[Block]:
    picture = Picture("\n".join(answer.diagram), f"[[{answer.name}]]")
    ways = (("In", answer.enter), ("Out", answer.leave))
    rows = [("" if place else label, f"- {way}") for label, each in ways for place, way in enumerate(each)]
    ends = (*_deadlines(answer), Prose(answer.ends.owned, apart=True), Prose(answer.ends.orphan or ""))
    return [
        Title(_headline(answer)),
        *(Item(line) for line in _whose(answer)),
        Prose(answer.means, apart=True),
        Section("What ends it, computed here", ends),
        Section("", (Fields((*rows, ("Costs", answer.costs))),)),
        *mistaken((wrong.claim, wrong.truth) for wrong in answer.mistaken_for),
        Section("", (picture,)),
        Section("See them with", (Command(tuple(map(style.asks, answer.look)), close=True),)),
    ]


def _headline(answer: StateAnswer) -> str:
    name = answer.name
    if answer.rfc_name not in (None, name):
        name += f" ({answer.rfc_name} in RFC 9293)"
    if isinstance(answer.sockets, Missing):
        return f"{name}: number unknown here: {answer.sockets.reason}"
    least = "at least " if "complete" in answer.missing else ""
    return f"{name}: {least}{plural(answer.sockets, 'socket')} here"


def _whose(answer: StateAnswer) -> list[str]:
    if isinstance(answer.held, Missing):
        unknown = f"Whose they are is unknown: {answer.held.reason}."
        return [] if isinstance(answer.sockets, Missing) else [unknown]
    lines = []
    if isinstance(answer.sample_of, int):
        lines.append(f"Of a sample of {answer.sample_of}:")
    if isinstance(answer.local_ports, tuple) and answer.local_ports:
        lines.append(f"By local port: {_ports(answer.local_ports)}.")
    elif isinstance(answer.processes, tuple):
        if answer.held:
            holders = [f"{process.name} ({process.pid}) {process.sockets}" for process in answer.processes]
            number = plural(len(holders), "process", "processes")
            lines.append(f"{answer.held} held by {number}: {name_a_few(holders, MOST_NAMED)}.")
        if answer.not_held:
            lines.append(f"{_not_held(answer)}.")
    if answer.owner_unknown:
        lines.append(f"{answer.owner_unknown} of unknown owner: {answer.missing['owner_unknown']}.")
    if "complete" in answer.missing:
        lines.append(f"There may be more: {answer.missing['complete']}.")
    return lines


def _not_held(answer: StateAnswer) -> str:
    number = answer.not_held
    if isinstance(number, Missing):
        return ""
    if answer.state in _WAITS_FOR_ACCEPT:
        return f"{number} not accepted by their server yet, or held by no process"
    return plural(number, "orphan") + f" (no process holds {'it' if number == 1 else 'them'})"


def _ports(ports: Sequence[PortCount]) -> str:
    told = [f"{count.port or 'client ports together'}: {count.sockets}" for count in ports]
    return name_a_few(told, MOST_NAMED, between="; ")


def _deadlines(answer: StateAnswer) -> list[Block]:
    """Three columns: the case, how long, and from which sysctls."""
    lives = max(len(_life(deadline)) for deadline in answer.deadlines) + 2
    rows = [
        (deadline.case, f"{_life(deadline):{NO_BREAK}<{lives}}{_because(deadline)}".rstrip())
        for deadline in answer.deadlines
    ]
    blocks: list[Block] = [Fields(tuple(rows))]
    if any(name.endswith(_OF_THE_RTO) for item in answer.deadlines for name in item.sysctls):
        supposed = f"For a near peer: a retransmission timeout of {answer.assumed_rto_s * 1000:.0f} ms."
        blocks.append(Prose(f"{supposed} A longer one makes it longer.", faint=True))
    return blocks


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
