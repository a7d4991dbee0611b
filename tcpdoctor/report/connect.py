"""What `explain --connect` has to say, whatever the format."""

from collections.abc import Mapping
from typing import NamedTuple

from tcpdoctor.diagnosis.connect import ConnectAnswer, Journey, Scene
from tcpdoctor.kernel.identity import Identity
from tcpdoctor.kernel.snapshot import Holder


class ConnectReport(NamedTuple):
    """One answer, and out of what it was made."""

    host: Identity
    taken_at: float
    """Seconds since 1970, UTC."""
    journey: Journey
    scene: Scene
    answer: ConnectAnswer
    holders: Mapping[Holder, int]
    """How many sockets towards the destination each process holds; `fd` is the lowest."""
    hidden: Mapping[str, int]
    """How many sockets have an unknown owner, by reason."""
    unheld: int
    """How many no process holds."""
    listens_here: bool | None
    """Whether something listens at the destination; None where that is another host."""
