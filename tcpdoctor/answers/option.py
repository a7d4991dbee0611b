"""The answer to `explain --option`: a page of the encyclopaedia, this host's sockets, and who sets it."""

import time
from collections.abc import Mapping
from typing import NamedTuple

from tcpdoctor.kernel.namespaces import Identity, read_identity
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Held, SysctlValue
from tcpdoctor.kernel.sockopts import OPTIONS, Linger, OptionValue, PortRange, read_fresh_option
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.survey import Seen, take_survey
from tcpdoctor.kernel.sysctl import read_sysctls
from tcpdoctor.knowledge.option_pages import OptionPage, Runtime, Value, find_option, read_runtimes


class ListenerOption(NamedTuple):
    """One listener of this host, and its value of the option."""

    local: str
    owner: str | None
    """``nginx (811)``; None where it is not known."""
    value: Reading[OptionValue]


class OptionAnswer(NamedTuple):
    """Everything that `explain --option` says."""

    page: OptionPage
    who: Identity
    taken_at: float
    """Seconds since 1970."""
    fresh: Reading[OptionValue]
    """Its value on a socket that was just made here."""
    sysctls: Mapping[str, Reading[SysctlValue]]
    """Those of the page."""
    listeners: Reading[tuple[ListenerOption, ...]]
    """Every listener that can have the option; Missing where they were not asked, or cannot be."""
    runtimes: tuple[Runtime, ...]


class Sets(NamedTuple):
    """Which of the programs that were looked at set the option on one kind of socket."""

    socket: str
    """``listener``, ``accepted`` or ``client``."""
    seen: tuple[tuple[Runtime, Value], ...]
    """Those that do, and the value that was seen."""
    plain: tuple[Runtime, ...]
    """Those that leave it as it is."""


def who_sets(name: str, runtimes: tuple[Runtime, ...]) -> tuple[Sets, ...]:
    """Tell who sets an option, per kind of socket; IPV6_V6ONLY was looked at on listeners only."""
    told = []
    for socket in ("listener",) if name == "IPV6_V6ONLY" else ("listener", "accepted", "client"):
        seen, plain = [], []
        for runtime in runtimes:
            options: Mapping[str, Value] | None = getattr(runtime, socket)
            if options is None:
                continue
            if name in options:
                seen.append((runtime, options[name]))
            else:
                plain.append(runtime)
        told.append(Sets(socket, tuple(seen), tuple(plain)))
    return tuple(told)


def show_option(value: OptionValue, unit: str | None) -> str:
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


# `tcpdoctor explain --option`: a socket option, and which listeners here have it.


_SECONDS_FOR_OWNERS = 2.0
_MOST_LISTENERS = 2_000


def look_at_option(name: str) -> OptionAnswer:
    """Return the page of an option and how it stands here.

    Raises:
        QuestionError: There is no such option.
    """
    page = find_option(name)
    return OptionAnswer(
        page=page,
        who=read_identity(),
        taken_at=time.time(),
        fresh=read_fresh_option(page.option(), ipv6=page.level == "IPPROTO_IPV6"),
        sysctls=read_sysctls(page.sysctls),
        listeners=_listeners(page),
        runtimes=read_runtimes(),
    )


def _listeners(page: OptionPage) -> Reading[tuple[ListenerOption, ...]]:
    if page.name not in {option.name for option in OPTIONS}:
        return Missing(f"tcpdoctor does not ask other processes' sockets for {page.name}")
    survey = take_survey(
        (TcpState.LISTEN,), options=True, owner_seconds=_SECONDS_FOR_OWNERS, room=_MOST_LISTENERS
    )
    if isinstance(survey, Missing):
        return survey
    six_only = page.level == "IPPROTO_IPV6"
    return tuple(
        ListenerOption(str(seen.row.local), _owner(seen), _value(seen, page.name))
        for seen in survey.sockets
        if seen.row.family == 6 or not six_only
    )


def _owner(seen: Seen) -> str | None:
    match seen.row.owner:
        case Held(holders):
            return f"{holders[0].name} ({holders[0].pid})"
    return None


def _value(seen: Seen, name: str) -> Reading[OptionValue]:
    return seen.options if isinstance(seen.options, Missing) else seen.options[name]
