"""`explain --option` for people: what it does and does not, who has it here, who sets it, and how."""

from collections.abc import Iterable

from tcpdoctor.answers.option import OptionAnswer, Sets, show_option, who_sets
from tcpdoctor.facts.sysctl_value import value_as_printed
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sockopts import OptionValue
from tcpdoctor.knowledge.option_pages import LANGUAGES, Runtime, Value
from tcpdoctor.report.host import plural
from tcpdoctor.report.style import Style

MOST_NAMED = 5
"""Listeners that are named per value; json lists all."""

_LABEL = 11
_SOCKETS = {"listener": "Listeners", "accepted": "Accepted", "client": "Clients"}


def option_text(answer: OptionAnswer, style: Style) -> str:
    """Return the page, at most as wide as the style says."""
    page = answer.page
    lines = [
        style.bold(style.wrap(_headline(answer))),
        style.wrap(page.does),
        "",
        style.bold("Often taken for something else"),
        *[style.wrap(f'"{wrong.claim}": {wrong.truth}.', "    ", "  - ") for wrong in page.mistaken],
        "",
    ]
    for label, text in _entries(answer):
        lines.append(style.wrap(text, " " * _LABEL, f"{label:<{_LABEL}}"))
    lines += ["", style.bold("Who sets it without being told (seen with tcpdoctor sockets --options)")]
    lines += [style.wrap(text, "    ", "  ") for text in _who(answer)]
    lines += ["", style.bold("How to set it")]
    for key, name in LANGUAGES.items():
        lines += _code(name, page.code[key], style)
    return "\n".join(lines) + "\n"


def _headline(answer: OptionAnswer) -> str:
    page = answer.page
    if isinstance(answer.fresh, Missing):
        return f"{page.name}: not on this kernel ({answer.fresh.reason})"
    return f"{page.name}: {show_option(answer.fresh, page.unit)} on a new socket here"


def _entries(answer: OptionAnswer) -> list[tuple[str, str]]:
    page = answer.page
    entries = [("Here", text) if place == 0 else ("", text) for place, text in enumerate(_here(answer))]
    entries.append(("Set it", page.set_when))
    if page.inherited is not None or page.inherited_is is not None:
        entries.append(("Inherited", _inherited(answer)))
    kind = "a switch" if page.kind == "switch" else {"byte": "bytes", "count": "a count"}.get(page.unit or "")
    unit = kind or (f"{page.unit}s" if page.unit else None)
    entries.append(("Type", f"{page.c_type}{f', {unit}' if unit else ''}; level {page.level}, {page.number}"))
    accepts = page.accepts or _range(answer)
    if accepts is not None:
        entries.append(("Accepts", accepts))
    if page.default is not None:
        entries.append(("Default", page.default))
    for name, value in answer.sysctls.items():
        known = value.reason if isinstance(value, Missing) else value_as_printed(value)
        entries.append(("Sysctl", f"{name} = {known}"))
    if page.beware is not None:
        entries.append(("Beware", page.beware))
    entries.append(("Since", page.since))
    if page.see:
        entries.append(("See also", ", ".join(page.see)))
    return entries


def _inherited(answer: OptionAnswer) -> str:
    page = answer.page
    words = {True: "a socket from accept() has it from its listener.", False: "not by sockets from accept()."}
    parts = [words[page.inherited]] if page.inherited is not None else []
    if page.inherited:
        parts.append("Connections that wait for accept() already keep what they have.")
    return " ".join([*parts, *([page.inherited_is] if page.inherited_is else [])])


def _range(answer: OptionAnswer) -> str | None:
    page = answer.page
    if page.limits is None:
        return None
    low, high = page.limits
    return f"{low} to {high}; otherwise {page.outside}"


def _here(answer: OptionAnswer) -> list[str]:
    if isinstance(answer.listeners, Missing):
        return [f"which listeners have it is not known: {answer.listeners.reason}."]
    if not answer.listeners:
        return ["there is no listener that could have it."]
    groups: dict[str, list[str]] = {}
    hidden: list[str] = []
    for listener in answer.listeners:
        name = f"{listener.owner} {listener.local}" if listener.owner else listener.local
        if isinstance(listener.value, Missing):
            hidden.append(listener.value.reason)
        else:
            groups.setdefault(_shown(answer, listener.value), []).append(name)
    total = plural(len(answer.listeners), "listener")
    lines = [f"{value}: {len(names)} of {total}: {_some(names)}." for value, names in groups.items()]
    if hidden:
        lines.append(f"not known for {len(hidden)} of {total}: {hidden[0]}.")
    return lines


def _shown(answer: OptionAnswer, value: OptionValue) -> str:
    return show_option(value, answer.page.unit)


def _some(names: list[str]) -> str:
    rest = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _who(answer: OptionAnswer) -> list[str]:
    told = who_sets(answer.page.name, answer.runtimes)
    lines = [answer.page.runtimes] if answer.page.runtimes else []
    if not any(sets.seen for sets in told):
        servers, clients = len(told[0].plain), len(told[-1].plain)
        return [
            *lines,
            f"Nobody: none of the {servers} servers and {clients} clients that were looked at does.",
        ]
    for sets in told:
        inheriting = told[0] if sets.socket == "accepted" and told[0].seen else None
        lines += _told(sets, answer) if inheriting is None else _told_besides(sets, answer, inheriting)
    return lines


def _told(sets: Sets, answer: OptionAnswer) -> list[str]:
    label = _SOCKETS[sets.socket]
    if not sets.seen:
        return [f"{label}: none of {len(sets.plain)}."]
    lines = [f"{label}: {_by_value(sets.seen, answer)}."]
    if len(sets.plain) <= len(sets.seen):
        return lines + ([f"{label}, not: {_names(sets.plain)}."] if sets.plain else [])
    return [f"{lines[0]} The other {len(sets.plain)} do not."]


def _told_besides(sets: Sets, answer: OptionAnswer, listeners: Sets) -> list[str]:
    """Accepted sockets where listeners have it too: only what differs."""
    label = _SOCKETS[sets.socket]
    same = {runtime.name for runtime, _ in listeners.seen}
    more = [(runtime, value) for runtime, value in sets.seen if runtime.name not in same]
    lacking = [runtime for runtime in sets.plain if runtime.name in same]
    lines = [f"{label}, besides: {_by_value(more, answer)}."] if more else []
    return lines + ([f"{label}, not: {_names(lacking)}."] if lacking else [])


def _by_value(seen: Iterable[tuple[Runtime, Value]], answer: OptionAnswer) -> str:
    groups: dict[str, list[Runtime]] = {}
    for runtime, value in seen:
        groups.setdefault(show_option(value, answer.page.unit), []).append(runtime)
    if list(groups) == ["on"]:
        return _names(groups["on"])
    return "; ".join(f"{value}: {_names(runtimes)}" for value, runtimes in groups.items())


def _names(runtimes: Iterable[Runtime]) -> str:
    return ", ".join(f"{runtime.name} ({runtime.version.partition(',')[0]})" for runtime in runtimes)


def _code(name: str, code: str, style: Style) -> list[str]:
    """Code keeps its lines; a sentence (where it cannot be set) is wrapped."""
    head = f"  {name:<9}"
    lines = code.strip("\n").expandtabs(2).splitlines()
    if len(lines) == 1 and code.startswith("not "):
        return [style.wrap(code, " " * len(head), head)]
    if name == "C":
        lines = [line for line in lines if not line.startswith("#include")]
    return [f"{head if place == 0 else ' ' * len(head)}{line}".rstrip() for place, line in enumerate(lines)]
