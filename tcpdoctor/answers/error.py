"""The answer to `explain --error`: a page of the encyclopaedia, and the numbers of this host beside it."""

import time
from typing import NamedTuple

from tcpdoctor.facts.deadlines import Life
from tcpdoctor.facts.state_deadlines import DEADLINE_SYSCTLS, Sysctls, state_deadlines
from tcpdoctor.kernel.namespaces import Identity, read_identity
from tcpdoctor.kernel.procfile import read_tick
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import SysctlValue
from tcpdoctor.kernel.sysctl import read_sysctl, read_sysctls
from tcpdoctor.knowledge.error_pages import ErrorPage, Look, find_error


class Here(NamedTuple):
    """One thing of this host that has to do with the error."""

    says: str
    value: Reading[SysctlValue | Life]
    """A deadline is a `Life` in seconds; anything else is a number or a text."""
    source: tuple[str, ...]
    """Sysctls that it comes from, or what was asked."""


class ErrorAnswer(NamedTuple):
    """Everything that `explain --error` says."""

    page: ErrorPage
    who: Identity
    taken_at: float
    """Seconds since 1970."""
    here: tuple[Here, ...]


# `tcpdoctor explain --error`: an error of a socket call, and what has to do with it here.


_RANGE = "net.ipv4.ip_local_port_range"
_RESERVED = "net.ipv4.ip_local_reserved_ports"
_FILES = "fs.file-nr"


def look_at_error(name: str) -> ErrorAnswer:
    """Return the page of an error and this host's numbers for it.

    Raises:
        QuestionError: There is no such error.
    """
    page = find_error(name)
    return ErrorAnswer(page=page, who=read_identity(), taken_at=time.time(), here=_here(page))


def _here(page: ErrorPage) -> tuple[Here, ...]:
    sysctls = read_sysctls(DEADLINE_SYSCTLS) if any(look.state for look in page.here) else {}
    return tuple(_look(look, sysctls) for look in page.here)


def _look(look: Look, sysctls: Sysctls) -> Here:
    if look.sysctl is not None:
        return Here(look.says, read_sysctl(look.sysctl), (look.sysctl,))
    if look.state is not None:
        for deadline in state_deadlines(look.state, sysctls, read_tick()):
            if deadline.case == look.case:
                return Here(look.says, deadline.life, deadline.sysctls)
        raise ValueError(f"{look.state} has no case {look.case!r}")  # a fault of our own data
    match look.fact:
        case "usable_ports":
            return Here(look.says, _usable_ports(), (_RANGE, _RESERVED))
        case "descriptor_limit":
            return Here(look.says, _descriptor_limit(), ())
        case "host_descriptors":
            return Here(look.says, _host_descriptors(), (_FILES,))
    raise ValueError(f"no such fact: {look.fact!r}")


def _usable_ports() -> Reading[SysctlValue]:
    ends, reserved = read_sysctl(_RANGE), read_sysctl(_RESERVED)
    if isinstance(reserved, Missing):
        return reserved
    taken = [part for part in reserved if isinstance(part, tuple)] if isinstance(reserved, tuple) else []
    match ends:
        case Missing():
            return ends
        case (int(low), int(high)):
            lost = sum(max(0, min(last, high) - max(first, low) + 1) for first, last in taken)
            return f"{high - low + 1 - lost:,}"
    return Missing(f"{_RANGE} is no pair of ports")


def _descriptor_limit() -> Reading[SysctlValue]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"{_number(soft)}, which a process may raise to {_number(hard)} itself"


def _number(limit: int) -> str:
    return "unlimited" if limit < 0 else f"{limit:,}"


def _host_descriptors() -> Reading[SysctlValue]:
    match read_sysctl(_FILES):
        case Missing() as hidden:
            return hidden
        case (int(used), _, int(most)):
            return f"{used:,} of {most:,}"
    return Missing(f"{_FILES} is not three numbers")
