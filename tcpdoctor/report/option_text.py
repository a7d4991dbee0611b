"""`explain --option` for people: what it does and does not, who has it here, who sets it, and how."""

from collections.abc import Iterable

from tcpdoctor.answers.option import ListenerOption, OptionAnswer, Sets
from tcpdoctor.facts.sysctl_value import value_as_printed
from tcpdoctor.kernel.reading import JsonValue, Missing
from tcpdoctor.kernel.sockopts import Linger, OptionValue, PortRange
from tcpdoctor.kernel.text import name_a_few
from tcpdoctor.knowledge.option_pages import LANGUAGES
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import (
    Block,
    Fields,
    Item,
    Prose,
    Section,
    Title,
    as_far_as,
    labelled,
    mistaken,
    short_form,
)
from tcpdoctor.report.style import Style

MOST_NAMED = 5
"""Listeners that are named per value; json lists all."""

_SHOWN_LANGUAGES = ("c", "python")
"""In the short form."""

_SOCKETS = {"listener": "Listeners", "accepted": "Accepted", "client": "Clients"}


def option_page(answer: OptionAnswer, _style: Style, *, long: bool = True) -> list[Block]:
    """Return the page, or its short form."""
    return _long(answer) if long else _short(answer)


def _short(answer: OptionAnswer) -> list[Block]:
    """What it does, who has it here, when it must be set, who sets it anyway, and two lines of code."""
    code = (_code(answer, key, name) for key, name in LANGUAGES.items() if key in _SHOWN_LANGUAGES)
    inherited = [_inherited(answer)] if answer.inherited_by_accepted is not None else []
    when = " ".join(f"{text[:1].upper()}{text[1:]}" for text in [answer.set_when, *inherited])
    rows = [
        *labelled("here", _here(answer)[:3]),
        ("when", as_far_as(when, 150)),
        *(("take", text) for text in [answer.accepts_is or _range(answer)] if text is not None),
        *(("but", as_far_as(answer.beware, 150)) for _ in [0] if answer.beware),
        *(("not", as_far_as(f'"{one.claim}": {one.truth}', 150)) for one in answer.mistaken_for[:1]),
        *labelled("sets", [as_far_as(text, 150) for text in _who(answer)[:1]]),
        *(
            (name[:2].lower(), text if text.startswith("    ") else as_far_as(text, 150))
            for name, text in code
        ),
    ]
    more = "who sets it by itself, and how it is set in eight languages and servers"
    return short_form(_headline(answer), answer.does, rows, more)


def _long(answer: OptionAnswer) -> list[Block]:
    who = tuple(Item(text) for text in _who(answer))
    code = tuple(_code(answer, key, name) for key, name in LANGUAGES.items())
    return [
        Title(_headline(answer)),
        Prose(answer.does),
        *mistaken((wrong.claim, wrong.truth) for wrong in answer.mistaken_for),
        Section("", (Fields(tuple(_entries(answer))),)),
        Section("Who sets it without being told (seen with tcpdoctor sockets --options)", who),
        Section("How to set it", (Fields(code),)),
    ]


def _headline(answer: OptionAnswer) -> str:
    fresh = answer.value_of_a_new_socket
    if isinstance(fresh, Missing):
        return f"{answer.option}: not on this kernel ({fresh.reason})"
    return f"{answer.option}: {show_option(fresh, answer.unit)} on a new socket here"


def _entries(answer: OptionAnswer) -> list[tuple[str, str]]:
    entries = [("Here", text) if place == 0 else ("", text) for place, text in enumerate(_here(answer))]
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


def _here(answer: OptionAnswer) -> list[str]:
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


def _code(answer: OptionAnswer, key: str, name: str) -> tuple[str, str]:
    """Code keeps its lines, whatever their width; a sentence (where it cannot be set) is wrapped."""
    lines = answer.code[key].strip("\n").expandtabs(2).splitlines()
    if key in answer.said:
        return name, lines[0]
    if name == "C":
        lines = [line for line in lines if not line.startswith("#include")]
    return name, "\n".join(f"    {line}" for line in lines)
