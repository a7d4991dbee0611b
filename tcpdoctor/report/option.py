"""The answer to `explain --option`: a page of the encyclopaedia, this host's sockets, and who sets it."""

from collections.abc import Mapping
from typing import NamedTuple

from tcpdoctor.kernel.identity import Identity
from tcpdoctor.kernel.reading import Reading
from tcpdoctor.kernel.snapshot import SysctlValue
from tcpdoctor.kernel.sockopts import Linger, OptionValue, PortRange
from tcpdoctor.knowledge.option_pages import OptionPage
from tcpdoctor.knowledge.runtimes import Runtime, Value


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
