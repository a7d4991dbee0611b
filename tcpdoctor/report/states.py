"""What `tcpdoctor states` has to say, whatever the format."""

from collections.abc import Mapping
from typing import NamedTuple

from tcpdoctor.kernel.reading import Reading
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.report.host import StateReadings


class Row(NamedTuple):
    """The sockets of one port, peer or process."""

    key: str
    """``443``, ``10.0.0.7``, ``nginx (811)``; or what the rest have in common: ``other peers``."""
    states: Mapping[TcpState, int]
    """Only what was counted; a state that is absent has none."""


class States(NamedTuple):
    """Sockets by state, in all and perhaps by something."""

    host: str
    kernel: str
    namespace: int
    namespace_name: str | None
    taken_at: float
    """Seconds since 1970, UTC."""
    readings: StateReadings
    complete: Reading[bool]
    """True, or Missing with the reason why there may be more sockets than counted."""
    by: str | None = None
    """``port``, ``peer``, ``process``, or None."""
    rows: Reading[tuple[Row, ...]] = ()
    """The largest first; Missing where they could not be told apart."""
    remarks: tuple[str, ...] = ()
    """Sentences that a reader of the rows must know."""
