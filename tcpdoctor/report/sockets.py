"""What `tcpdoctor sockets` has to say, whatever the format."""

from typing import NamedTuple

from tcpdoctor.facts.ages import Age, age_in_one_look
from tcpdoctor.kernel.identity import Identity
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.survey import Seen, Survey


class Entry(NamedTuple):
    """One socket and how long it has been in its state."""

    seen: Seen
    age: Age | None
    """None: the kernel tells nothing of it (listeners and bound sockets)."""


class Sockets(NamedTuple):
    """The sockets that were asked for, and where and when they were seen."""

    host: Identity
    taken_at: float
    """Seconds since 1970, UTC."""
    entries: tuple[Entry, ...]
    survey: Survey
    options: bool
    """Whether socket options were asked for."""


def idle_seconds(row: Connection) -> Reading[float] | None:
    """Return how long no data went either way on an established connection; None where it is not idle.

    In other states data has ended or never began, and where something is outstanding it is on its way.
    """
    if row.state is not TcpState.ESTABLISHED or row.send_queue:
        return None
    if isinstance(row.info, Missing):
        return row.info
    return min(row.info.last_data_sent, row.info.last_data_recv)


def entries_of(survey: Survey) -> tuple[Entry, ...]:
    """Return every socket of a survey with its age, as far as one look tells it."""
    return tuple(
        Entry(seen, age_in_one_look(seen.row) if isinstance(seen.row, Connection) else None)
        for seen in survey.sockets
    )
