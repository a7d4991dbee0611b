"""The answer to `explain --state`: a page of the encyclopaedia, and this host's numbers beside it."""

from collections.abc import Mapping
from typing import NamedTuple

from tcpdoctor.facts.state_deadlines import Deadline
from tcpdoctor.kernel.live import Identity
from tcpdoctor.kernel.reading import Reading
from tcpdoctor.kernel.snapshot import SysctlValue
from tcpdoctor.knowledge.state_pages import StatePage


class ProcessCount(NamedTuple):
    """How many sockets of the state one process holds."""

    pid: int
    name: str
    sockets: int


class PortCount(NamedTuple):
    """How many sockets of the state one local port has."""

    port: int
    """0: all client ports together."""
    sockets: int


class Whose(NamedTuple):
    """To whom the sockets of a state belong."""

    processes: tuple[ProcessCount, ...] = ()
    """The one with the most first."""
    held: int = 0
    """Sockets that some process holds."""
    not_held: int = 0
    """Orphans and minisockets; in ESTABLISHED and CLOSE_WAIT those that wait for accept()."""
    unknown: int = 0
    """Sockets whose owner is hidden."""
    reason: str | None = None
    """Why owners are hidden."""
    looked_at: int | None = None
    """Set where there were so many that only a sample of this size was looked at."""
    ports: tuple[PortCount, ...] = ()
    """Instead of processes, for states that no process ever holds."""


class StateAnswer(NamedTuple):
    """Everything that `explain --state` says."""

    page: StatePage
    who: Identity
    taken_at: float
    """Seconds since 1970."""
    number: Reading[int]
    """How many sockets are in this state."""
    complete: Reading[bool]
    whose: Reading[Whose]
    deadlines: tuple[Deadline, ...]
    sysctls: Mapping[str, Reading[SysctlValue]]
    """Those of the deadlines."""
    rto: float
    """The retransmission timeout that the deadlines suppose, in seconds."""
    picture: str
    """The state machine, drawn."""
