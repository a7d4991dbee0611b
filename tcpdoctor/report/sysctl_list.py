"""What `sysctl show` says of each setting: its value beside the default, and what set it."""

from typing import NamedTuple

from tcpdoctor.diagnosis.sysctl_origin import Origin, Source
from tcpdoctor.facts.sysctl_words import value_as_printed, value_in_words
from tcpdoctor.kernel.live import Identity
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import SysctlValue
from tcpdoctor.knowledge.sysctl_pages import SysctlPage


class Shown(NamedTuple):
    """One setting."""

    page: SysctlPage
    value: Reading[SysctlValue]
    exists: bool
    """Whether this kernel has it, in this namespace or in the initial one."""
    computed: tuple[str, ...]
    """Defaults that were computed here; empty where the page's is fixed, or where none can be computed."""
    origin: Origin


class SettingsList(NamedTuple):
    """Everything that `sysctl show` says."""

    rows: tuple[Shown, ...]
    who: Identity
    taken_at: float
    """Seconds since 1970."""
    page_size: int
    asked: bool
    """Whether names were given."""
    only_changed: bool
    not_compared: tuple[str, ...]
    """Settings whose default cannot be computed here, or whose value was not read."""
    unseen: tuple[str, ...]
    """Sources of values that could not be looked at, each with the reason."""


def defaults(row: Shown) -> tuple[str, ...]:
    """Return every value that counts as the kernel's default; empty where that is not known."""
    if row.page.default is not None:
        return (row.page.default,)
    return row.computed or row.page.default_among


def printed(row: Shown) -> str | None:
    """Return the value as the kernel prints it; None where it was not read."""
    return None if isinstance(row.value, Missing) else value_as_printed(row.value)


def is_default(row: Shown) -> bool | None:
    """Return whether the value is the kernel's default; None where the default is not known, or the value."""
    value, known = printed(row), defaults(row)
    return None if value is None or not known else value in known


def in_words(row: Shown, page_size: int) -> str | None:
    """Return what the value stands for; None where the number says it."""
    if isinstance(row.value, Missing):
        return None
    named = row.page.values.get(str(row.value))
    return named or value_in_words(row.page.name, row.page.unit, row.value, page_size)


def default_words(row: Shown) -> str | None:
    """Say what the default is: a value, how it is computed, or None where nothing is known."""
    if row.page.default is not None:
        return row.page.default or "empty"
    if len(row.computed) == 1:
        return row.computed[0]
    return row.page.default_is


def origin_words(origin: Origin) -> str | None:
    """Say what set a value; None where nothing that can be seen sets the setting at all."""
    by, later = origin.by, origin.later
    if by is None:
        return (
            None
            if later is None
            else f"{_source(later)} says {later.value or 'nothing'}: not applied, or changed since"
        )
    if later is None:
        return f"set by {_source(by)}"
    return f"set by {_source(by)}; {_source(later)} says {later.value or 'nothing'} and has not set it"


def _source(source: Source) -> str:
    if source.kind == "tuned":
        return f"TuneD's profile {source.profile} ({source.file} line {source.line})"
    if source.kind == "command line":
        return "the kernel's command line"
    return f"{source.file} line {source.line}"
