"""What is known of a setting whatever this host holds: from the encyclopaedia, for pure judgements."""

from typing import NamedTuple


class Known(NamedTuple):
    """One setting that has a page; the plain one stands for all that have none."""

    unit: str | None = None
    """As `facts.sysctl_facts` has it; None for a setting that this program knows nothing of."""
    bounds: tuple[int, int] | None = None
    """Smallest and largest number that the kernel takes; None where that is not known."""
    size: int | None = None
    """How many numbers it holds; None where it is no number or that is not known."""
    scope: str = "namespace"
    """As `knowledge.sysctl_pages` has it: ``namespace``, ``initial``, ``shared`` or ``machine``."""
    removed: str | None = None
    """The first kernel without it; ``never there`` for a name that kernel.org never had."""
    instead: str | None = None
    since: str | None = None
    """The kernel that brought it, ``6.15``; None where it was always there or that is not known."""


UNKNOWN = Known()
