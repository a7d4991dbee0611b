"""`explain --state`, `--option` and `--error` for people: pages of the encyclopaedia, and how it stands here.

What is here comes first, then what it means, ends, does, or comes from, and what it is mistaken for.
"""

from collections.abc import Iterable, Sequence

from tcpdoctor.answers.knowledge import (
    ErrorAnswer,
    Here,
    ListenerOption,
    OptionAnswer,
    PortCount,
    Sets,
    StateAnswer,
    ToldDeadline,
)
from tcpdoctor.facts.sysctl_value import value_as_printed
from tcpdoctor.kernel.reading import JsonValue, Missing
from tcpdoctor.kernel.sockopts import Linger, OptionValue, PortRange
from tcpdoctor.kernel.text import name_a_few
from tcpdoctor.knowledge.option_pages import LANGUAGES
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import (
    Block,
    Command,
    Fields,
    Item,
    Lines,
    OneOf,
    Picture,
    Prose,
    Row,
    Section,
    Title,
    as_far_as,
    labelled,
    listed,
    mistaken,
    short_form,
    typed,
)
from tcpdoctor.report.style import NO_BREAK, Style

_SHOWN_ENDS = 4
"""Deadlines in the short form."""
MOST_NAMED = 5
"""Processes, ports or listeners that are named; json lists all."""

_OF_THE_RTO = ("retries2", "orphan_retries")
_WAITS_FOR_ACCEPT = ("established", "close_wait")


def state_page(answer: StateAnswer, style: Style, *, long: bool = True) -> list[Block]:
    """Return the page, or its short form."""
    return _long_state(answer, style) if long else _short_state(answer, style)


def _short_state(answer: StateAnswer, style: Style) -> list[Block]:
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
    return short_form(_state_headline(answer), answer.means, rows, more)


def _long_state(answer: StateAnswer, style: Style) -> list[Block]:
    picture = Picture("\n".join(answer.diagram), f"[[{answer.name}]]")
    ways = (("In", answer.enter), ("Out", answer.leave))
    rows: list[Row] = [
        ("" if place else label, OneOf(way)) for label, each in ways for place, way in enumerate(each)
    ]
    ends = (*_deadlines(answer), Prose(answer.ends.owned, apart=True), Prose(answer.ends.orphan or ""))
    return [
        Title(_state_headline(answer)),
        *(Item(line) for line in _whose(answer)),
        Prose(answer.means, apart=True),
        Section("What ends it, computed here", ends),
        Section("", (Fields((*rows, ("Costs", answer.costs))),)),
        *mistaken((wrong.claim, wrong.truth) for wrong in answer.mistaken_for),
        Section("", (picture,)),
        Section("See them with", (Command(tuple(map(style.asks, answer.look)), close=True),)),
    ]


def _state_headline(answer: StateAnswer) -> str:
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


_SHOWN_LANGUAGES = ("c", "python")
"""In the short form."""

_SOCKETS = {"listener": "Listeners", "accepted": "Accepted", "client": "Clients"}


def option_page(answer: OptionAnswer, _style: Style, *, long: bool = True) -> list[Block]:
    """Return the page, or its short form."""
    return _long_option(answer) if long else _short_option(answer)


def _short_option(answer: OptionAnswer) -> list[Block]:
    """What it does, who has it here, when it must be set, who sets it anyway, and two lines of code."""
    code = (_code(answer, key, name) for key, name in LANGUAGES.items() if key in _SHOWN_LANGUAGES)
    inherited = [_inherited(answer)] if answer.inherited_by_accepted is not None else []
    when = " ".join(f"{text[:1].upper()}{text[1:]}" for text in [answer.set_when, *inherited])
    rows = [
        *labelled("here", _listeners_with_it(answer)[:3]),
        ("when", as_far_as(when, 150)),
        *(("take", text) for text in [answer.accepts_is or _range(answer)] if text is not None),
        *(("but", as_far_as(answer.beware, 150)) for _ in [0] if answer.beware),
        *(("not", as_far_as(f'"{one.claim}": {one.truth}', 150)) for one in answer.mistaken_for[:1]),
        *labelled("sets", [as_far_as(text, 150) for text in _who(answer)[:1]]),
        *((name[:2].lower(), as_far_as(text, 150) if isinstance(text, str) else text) for name, text in code),
    ]
    more = "who sets it by itself, and how it is set in eight languages and servers"
    return short_form(_option_headline(answer), answer.does, rows, more)


def _long_option(answer: OptionAnswer) -> list[Block]:
    who = tuple(Item(text) for text in _who(answer))
    code = tuple(_code(answer, key, name) for key, name in LANGUAGES.items())
    return [
        Title(_option_headline(answer)),
        Prose(answer.does),
        *mistaken((wrong.claim, wrong.truth) for wrong in answer.mistaken_for),
        Section("", (Fields(tuple(_entries(answer))),)),
        Section("Who sets it without being told (seen with tcpdoctor sockets --options)", who),
        Section("How to set it", (Fields(code),)),
    ]


def _option_headline(answer: OptionAnswer) -> str:
    fresh = answer.value_of_a_new_socket
    if isinstance(fresh, Missing):
        return f"{answer.option}: not on this kernel ({fresh.reason})"
    return f"{answer.option}: {show_option(fresh, answer.unit)} on a new socket here"


def _entries(answer: OptionAnswer) -> list[tuple[str, str]]:
    entries = [
        ("Here", text) if place == 0 else ("", text) for place, text in enumerate(_listeners_with_it(answer))
    ]
    entries.append(("Set it", answer.set_when))
    if answer.inherited_by_accepted is not None or answer.inherited_is is not None:
        entries.append(("Inherited", _inherited(answer)))
    kind = {"switch": "a switch", "byte": "bytes", "count": "a count"}.get(answer.unit or "")
    unit = kind or (f"{answer.unit}s" if answer.unit else None)
    where = f"level {answer.level}, {answer.number}"
    entries.append(("Type", f"{answer.type}{f', {unit}' if unit else ''}; {where}"))
    accepts = answer.accepts_is or _range(answer)
    if accepts is not None:
        entries.append(("Accepts", accepts))
    if answer.default is not None:
        entries.append(("Default", answer.default))
    for name, value in answer.sysctls.items():
        known = value.reason if isinstance(value, Missing) else value_as_printed(value)
        entries.append(("Sysctl", f"{name} = {known}"))
    if answer.beware is not None:
        entries.append(("Beware", answer.beware))
    if answer.since is not None:
        entries.append(("Since", answer.since))
    if answer.see_also:
        entries.append(("See also", ", ".join(answer.see_also)))
    return entries


def _inherited(answer: OptionAnswer) -> str:
    inherited = answer.inherited_by_accepted
    words = {True: "a socket from accept() has it from its listener.", False: "not by sockets from accept()."}
    parts = [words[inherited]] if inherited is not None else []
    if inherited:
        parts.append("Connections that wait for accept() already keep what they have.")
    return " ".join([*parts, *([answer.inherited_is] if answer.inherited_is else [])])


def _range(answer: OptionAnswer) -> str | None:
    if answer.accepts is None:
        return None
    return f"{answer.accepts.low} to {answer.accepts.high}; otherwise {answer.otherwise}"


def _listeners_with_it(answer: OptionAnswer) -> list[str]:
    if isinstance(answer.listeners, Missing):
        return [f"which listeners have it is not known: {answer.listeners.reason}."]
    if not answer.listeners:
        return ["there is no listener that could have it."]
    groups: dict[str, list[str]] = {}
    hidden: list[str] = []
    for listener in answer.listeners:
        if isinstance(listener.value, Missing):
            hidden.append(listener.value.reason)
        else:
            groups.setdefault(show_option(listener.value, answer.unit), []).append(_named(listener))
    total = plural(len(answer.listeners), "listener")
    lines = [
        f"{value}: {len(names)} of {total}: {name_a_few(names, MOST_NAMED)}."
        for value, names in groups.items()
    ]
    if hidden:
        lines.append(f"not known for {len(hidden)} of {total}: {hidden[0]}.")
    return lines


def _named(listener: ListenerOption) -> str:
    known = listener.owner and not isinstance(listener.owner, Missing)
    return f"{listener.owner} {listener.local}" if known else listener.local


def _who(answer: OptionAnswer) -> list[str]:
    told = answer.set_by
    lines = [answer.set_by_is] if answer.set_by_is else []
    if not any(_seen(of) for of in told.values()):
        first, *_, last = map(len, (*told.values(), *told.values()))
        return [
            *lines,
            f"Nobody: none of the {first} servers and {last} clients that were looked at does.",
        ]
    listeners = told["listener"]
    for socket, of in told.items():
        besides = socket == "accepted" and bool(_seen(listeners))
        label = _SOCKETS[socket]
        lines += (
            _told_besides(label, of, listeners, answer.unit) if besides else _told(label, of, answer.unit)
        )
    return lines


def _seen(of: Iterable[Sets]) -> list[Sets]:
    return [one for one in of if one.sets]


def _plain(of: Iterable[Sets]) -> list[Sets]:
    return [one for one in of if not one.sets]


def _told(label: str, of: Iterable[Sets], unit: str | None) -> list[str]:
    seen, plain = _seen(of), _plain(of)
    if not seen:
        return [f"{label}: none of {len(plain)}."]
    lines = [f"{label}: {_by_value(seen, unit)}."]
    if len(plain) <= len(seen):
        return lines + ([f"{label}, not: {_names(plain)}."] if plain else [])
    return [f"{lines[0]} The other {len(plain)} do not."]


def _told_besides(label: str, of: Iterable[Sets], listeners: Iterable[Sets], unit: str | None) -> list[str]:
    """Accepted sockets where listeners have it too: only what differs."""
    same = {one.name for one in _seen(listeners)}
    more = [one for one in _seen(of) if one.name not in same]
    lacking = [one for one in _plain(of) if one.name in same]
    lines = [f"{label}, besides: {_by_value(more, unit)}."] if more else []
    return lines + ([f"{label}, not: {_names(lacking)}."] if lacking else [])


def _by_value(seen: Iterable[Sets], unit: str | None) -> str:
    groups: dict[str, list[Sets]] = {}
    for one in seen:
        groups.setdefault(show_option(one.value, unit), []).append(one)
    if list(groups) == ["on"]:
        return _names(groups["on"])
    return "; ".join(f"{value}: {_names(those)}" for value, those in groups.items())


def _names(those: Iterable[Sets]) -> str:
    return ", ".join(f"{one.name} ({one.oldest})" for one in those)


def show_option(value: OptionValue | JsonValue, unit: str | None) -> str:
    """Print an option's value: ``on``, ``7200 s``, ``on, 5 s``."""
    match value:
        case bool():
            return "on" if value else "off"
        case Linger(on, seconds):
            return f"on, {seconds} s" if on else "off"
        case PortRange(low, high):
            return f"{low or 'the lowest'} to {high or 'the highest'}" if low or high else "not set"
        case str():
            return value or "none"
    return f"{value} {_UNITS[unit]}" if unit in _UNITS else str(value)


_UNITS = {"second": "s", "millisecond": "ms", "microsecond": "us", "byte": "bytes"}


def _code(answer: OptionAnswer, key: str, name: str) -> tuple[str, str | Lines]:
    """Code keeps its lines, whatever their width; a sentence (where it cannot be set) is wrapped."""
    lines = answer.code[key].strip("\n").expandtabs(2).splitlines()
    if key in answer.said:
        return name, lines[0]
    if name == "C":
        lines = [line for line in lines if not line.startswith("#include")]
    return name, Lines(tuple(lines))


_SHOWN = 3
"""Reasons of all calls together in the short form."""


def error_page(answer: ErrorAnswer, style: Style, *, long: bool = True) -> list[Block]:
    """Return the page, or its short form."""
    return _long_error(answer, style) if long else _short_error(answer, style)


def _short_error(answer: ErrorAnswer, style: Style) -> list[Block]:
    """What it means, what to type, what to do, and the likeliest reasons of the calls that give it."""
    ask = [style.asks(one) for one in answer.ask[:2]]
    each = max(1, _SHOWN // max(1, len(answer.calls)))
    reasons = [f"{call.call}: {why}" for call in answer.calls for why in call.why[:each]]
    rows = [
        ("type", typed(ask, style)),
        *labelled("here", map(_here_words, answer.here[:2])),
        *labelled("do", [as_far_as(text, 150) for text in answer.remedy[:2]]),
        *labelled("from", [as_far_as(text, 120) for text in reasons[:_SHOWN]]),
        *(("not", as_far_as(f'"{one.claim}": {one.truth}', 150)) for one in answer.mistaken_for[:1]),
    ]
    more = "every reason of every call, all that is mistaken about it"
    return short_form(_error_headline(answer), as_far_as(answer.means, 200), rows, more)


def _error_headline(answer: ErrorAnswer) -> str:
    return f"{answer.error} ({answer.number}, {answer.text})"


def _long_error(answer: ErrorAnswer, style: Style) -> list[Block]:
    here: tuple[Block, ...] = (
        Command(tuple(map(style.asks, answer.ask)), close=True),
        *(Item(_here_words(one)) for one in answer.here),
    )
    see = ((("See also", ", ".join(answer.see_also)),),) if answer.see_also else ()
    return [
        Title(_error_headline(answer)),
        Prose(answer.means),
        Section("Here", here),
        *listed("What to do", answer.remedy),
        *(section for call in answer.calls for section in listed(f"From {call.call}", call.why)),
        *mistaken((wrong.claim, wrong.truth) for wrong in answer.mistaken_for),
        *(Section("", (Fields(rows),)) for rows in see),
    ]


def _here_words(here: Here) -> str:
    if here.missing is not None:
        return f"{here.says}: not known here: {here.missing}."
    source = f" ({', '.join(here.source)})" if here.source else ""
    never = " by itself" if here.unit == "second" and here.value is None else ""
    return f"{here.says}: {here.text}{never}{source}."
