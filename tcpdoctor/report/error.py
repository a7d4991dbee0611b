"""The answer to `explain --error`: a page of the encyclopaedia, and the numbers of this host beside it."""

from typing import NamedTuple

from tcpdoctor.facts.life import Life
from tcpdoctor.kernel.identity import Identity
from tcpdoctor.kernel.reading import Reading
from tcpdoctor.kernel.snapshot import SysctlValue
from tcpdoctor.knowledge.error_pages import ErrorPage


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
