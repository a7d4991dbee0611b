"""The answer to `explain --sysctl`: a page of the encyclopaedia, and the value here beside it."""

from collections.abc import Mapping
from typing import NamedTuple

from tcpdoctor.diagnosis.sysctl_origin import Origin
from tcpdoctor.facts.state_deadlines import Deadline
from tcpdoctor.facts.sysctl_words import value_as_printed, value_in_words
from tcpdoctor.kernel.live import Identity
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import SysctlValue
from tcpdoctor.knowledge.sysctl_pages import SysctlPage


class SysctlAnswer(NamedTuple):
    """Everything that `explain --sysctl` says."""

    page: SysctlPage
    who: Identity
    taken_at: float
    """Seconds since 1970."""
    value: Reading[SysctlValue]
    exists: bool
    """Whether this kernel has it, in this namespace or in the initial one."""
    writable: bool
    """Whether root may write it here."""
    bounds: tuple[int, int] | None
    """Smallest and largest number that the kernel takes, computed for this one."""
    deadlines: tuple[tuple[tuple[str, ...], Deadline], ...]
    """What it ends here, and when; with the keys of the states."""
    sysctls: Mapping[str, Reading[SysctlValue]]
    """Those of the deadlines."""
    rto: float
    page_size: int
    origin: Origin = Origin(None, None)
    """What set the value, as far as that can be seen."""


def printed(answer: SysctlAnswer) -> str | None:
    """Return the value as the kernel prints it; None where it was not read."""
    return None if isinstance(answer.value, Missing) else value_as_printed(answer.value)


def in_words(answer: SysctlAnswer) -> str | None:
    """Return what the value stands for; None where the number says it."""
    if isinstance(answer.value, Missing):
        return None
    named = answer.page.values.get(str(answer.value))
    if named is not None:
        return named
    return value_in_words(answer.page.name, answer.page.unit, answer.value, answer.page_size)


def is_default(answer: SysctlAnswer) -> bool | None:
    """Return whether the value is the kernel's default; None where that is computed or not known."""
    if answer.page.default is None or isinstance(answer.value, Missing):
        return None
    return printed(answer) == answer.page.default
