"""The answer to `explain --error`: a page of the encyclopaedia, and the numbers of this host beside it."""

import math
from typing import Annotated, Literal, NamedTuple

from tcpdoctor.answers.record import ABSENT, Absent, Count, Host, Is, Time, host_of, utc
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.deadlines import Life, show_life
from tcpdoctor.facts.state_deadlines import DEADLINE_SYSCTLS, Sysctls, state_deadlines
from tcpdoctor.facts.sysctl_value import value_as_printed
from tcpdoctor.kernel.entered import is_recording, moment
from tcpdoctor.kernel.namespaces import Identity, read_identity
from tcpdoctor.kernel.reading import JsonValue, Missing, Reading, read_tick
from tcpdoctor.kernel.snapshot import SysctlValue
from tcpdoctor.kernel.sysctl import read_sysctl, read_sysctls
from tcpdoctor.knowledge.error_pages import Call, ErrorPage, Look, find_error
from tcpdoctor.knowledge.log_lines import log_line_of
from tcpdoctor.knowledge.resource import Mistake


class Here(NamedTuple):
    """One thing of this host that has to do with the error."""

    says: str
    source: tuple[str, ...]
    """Sysctls that it comes from, or what was asked."""
    missing: str | None
    """Why `value` is not known."""
    value: JsonValue
    """A deadline is a range in seconds, null for never; anything else is a number, numbers or a text."""
    unit: str | None
    text: Annotated[str | Absent, Is(optional=True)] = ABSENT
    """A deadline in words."""


class ErrorAnswer(NamedTuple):
    """What `tcpdoctor explain --error E --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.error/1"]
    error: Annotated[str, Is(pattern="^E[A-Z0-9]+$")]
    number: Count
    text: str
    host: Host
    taken_at: Time
    means: str
    calls: tuple[Call, ...]
    here: tuple[Here, ...]
    ask: tuple[str, ...]
    """Commands that show more of it on this host."""
    mistaken_for: tuple[Mistake, ...]
    remedy: tuple[str, ...]
    see_also: tuple[str, ...]


_RANGE = "net.ipv4.ip_local_port_range"
_RESERVED = "net.ipv4.ip_local_reserved_ports"
_FILES = "fs.file-nr"


def look_at_error(name: str) -> ErrorAnswer:
    """Return the page of an error and this host's numbers for it.

    Raises:
        QuestionError: There is no such error.
    """
    line = log_line_of(name)
    if line is not None:
        raise QuestionError(f"a line of the kernel's log, and no error. {line.means} Ask: {line.command}")
    page = find_error(name)
    return answer_of(page, read_identity(), moment(), _here(page))


def answer_of(page: ErrorPage, who: Identity, taken_at: float, here: tuple[Here, ...]) -> ErrorAnswer:
    """Return the answer of a page on one host."""
    return ErrorAnswer(
        schema="tcpdoctor.error/1",
        error=page.name,
        number=page.number,
        text=page.text,
        host=host_of(who),
        taken_at=utc(taken_at),
        means=page.means,
        calls=page.calls,
        here=here,
        ask=page.ask,
        mistaken_for=page.mistaken,
        remedy=page.remedy,
        see_also=page.see,
    )


def here_of(says: str, value: Reading[SysctlValue | Life], source: tuple[str, ...]) -> Here:
    """Return one thing of this host; a deadline is a `Life` in seconds."""
    if isinstance(value, Missing):
        return Here(says, source, value.reason, None, None)
    if isinstance(value, Life):
        low, high = value
        ends: JsonValue = None
        if not math.isinf(low):
            ends = {"low_s": round(low, 3), "high_s": None if math.isinf(high) else round(high, 3)}
        return Here(says, source, None, ends, "second", show_life(value))
    told: JsonValue = value if not isinstance(value, tuple) else [_as_list(part) for part in value]
    return Here(says, source, None, told, None, value_as_printed(value) or "empty")


def _as_list(part: float | tuple[int, int]) -> JsonValue:
    return list(part) if isinstance(part, tuple) else part


def _here(page: ErrorPage) -> tuple[Here, ...]:
    sysctls = read_sysctls(DEADLINE_SYSCTLS) if any(look.state for look in page.here) else {}
    return tuple(_look(look, sysctls) for look in page.here)


def _look(look: Look, sysctls: Sysctls) -> Here:
    if look.sysctl is not None:
        return here_of(look.says, read_sysctl(look.sysctl), (look.sysctl,))
    if look.state is not None:
        for deadline in state_deadlines(look.state, sysctls, read_tick()):
            if deadline.case == look.case:
                return here_of(look.says, deadline.life, deadline.sysctls)
        raise ValueError(f"{look.state} has no case {look.case!r}")  # a fault of our own data
    match look.fact:
        case "usable_ports":
            return here_of(look.says, _usable_ports(), (_RANGE, _RESERVED))
        case "descriptor_limit":
            return here_of(look.says, _descriptor_limit(), ())
        case "host_descriptors":
            return here_of(look.says, _host_descriptors(), (_FILES,))
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
    if is_recording():
        return Missing("it is of the process that asks, and this is a recording")
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
