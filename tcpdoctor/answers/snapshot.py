"""What `tcpdoctor snapshot` records: all that rules and questions look at, to be asked about elsewhere."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Annotated, Literal

from tcpdoctor.answers.record import Is
from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.addresses import interface_indexes
from tcpdoctor.kernel.kept_rows import with_owners
from tcpdoctor.kernel.listing import read_udp_sockets
from tcpdoctor.kernel.live import take_samples
from tcpdoctor.kernel.owners import find_owners
from tcpdoctor.kernel.processes import read_process
from tcpdoctor.kernel.reading import JsonValue, Missing, Reading
from tcpdoctor.kernel.snapshot import Held, Owner, Process, UdpSocket
from tcpdoctor.kernel.states import COUNTED_STATES
from tcpdoctor.kernel.surroundings import take_surroundings
from tcpdoctor.kernel.survey import Row, Seen, take_survey
from tcpdoctor.kernel.text import clean
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.recordings.recording import Recording
from tcpdoctor.recordings.source import Source

MOST_SOCKETS = 100_000
"""So many are recorded one by one, 300 bytes each; of more, those of the states with most are thinned."""
_MOST_UDP = 10_000
_MOST_INTERFACES = 4_096
_MOST_PROCESSES = 2_000
"""Half a millisecond each."""
_OWNER_SECONDS = 5.0


class SnapshotFile(NamedTuple):
    """What `tcpdoctor snapshot` writes; `tcpdoctor check --from FILE` reads it."""

    schema: Literal["tcpdoctor.snapshot/1"]
    tool: Annotated[str, Is("The version that wrote it.")]
    layout: Annotated[
        Mapping[str, tuple[str, ...]],
        Is("The fields of each kind of record: a record is the list of their values, in this order."),
    ]
    content: Annotated[tuple[JsonValue, ...], Is("A record Samples: the look before, or null, and the look.")]
    sockets: Annotated[JsonValue, Is("Records Seen, one a TCP socket; or why there are none.")]
    udp: Annotated[JsonValue, Is("Records UdpSocket; or why there are none.")]
    processes: Annotated[JsonValue, Is("Records Process of those that hold these sockets, by pid.")]
    interfaces: Annotated[Mapping[str, int], Is("Numbers of the interfaces.")]
    around: Annotated[
        JsonValue,
        Is(
            "A record Surroundings: routes, packet rules, addresses, what keeps processes running.",
            optional=True,
        ),
    ]


def take_recording(window: float) -> Recording:
    """Look at the calling thread's network namespace as `check` does, and at every socket besides.

    Args:
        window: Seconds between the two looks; 0: one look.

    Raises:
        KernelReadError: The kernel answered in a way we do not understand.
    """
    samples = take_samples(window, every_listener=True, owner_seconds=_OWNER_SECONDS)
    survey = take_survey(COUNTED_STATES, options=True, owner_seconds=_OWNER_SECONDS, room=MOST_SOCKETS)
    sockets: Reading[Sequence[Seen]] = survey if isinstance(survey, Missing) else thinned(survey.sockets)
    udp = _udp_sockets()
    rows: list[Row | UdpSocket] = [] if isinstance(sockets, Missing) else [seen.row for seen in sockets]
    rows += [] if isinstance(udp, Missing) else udp
    source = Source("snapshot", (), 1 if samples.before is None else 2)
    processes = _processes(row.owner for row in rows)
    around = take_surroundings(
        [row for row in rows if not isinstance(row, UdpSocket)],
        [row for row in rows if isinstance(row, UdpSocket)],
    )
    interfaces = {clean(name): index for name, index in islice(interface_indexes().items(), _MOST_INTERFACES)}
    return Recording(source, samples, sockets, udp, processes, interfaces, around=around)


def thinned(sockets: Sequence[Seen]) -> tuple[Seen, ...]:
    """Return at most so many sockets; of the states with most of them every other one goes, then again."""
    kept = tuple(sockets)
    while len(kept) > MOST_SOCKETS:
        numbers = Counter(_state(seen) for seen in kept)
        (largest, _), *_ = numbers.most_common(1)
        places = [place for place, seen in enumerate(kept) if _state(seen) == largest]
        gone = set(places[: 2 * (len(kept) - MOST_SOCKETS) : 2])
        kept = tuple(seen for place, seen in enumerate(kept) if place not in gone)
    return kept


def _state(seen: Seen) -> object:
    return getattr(seen.row, "state", "listen")


def _udp_sockets() -> Reading[tuple[UdpSocket, ...]]:
    rows = read_udp_sockets()
    if isinstance(rows, Missing):
        return rows
    some = rows[:_MOST_UDP]
    return with_owners(some, find_owners({row.inode: row.uid for row in some if row.inode}, seconds=1.0))


def _processes(owners: Iterable[Owner]) -> Mapping[int, Process]:
    pids = {holder.pid for owner in owners if isinstance(owner, Held) for holder in owner.holders}
    found = {pid: read_process(pid) for pid in sorted(pids)[:_MOST_PROCESSES]}
    return {pid: process for pid, process in found.items() if not isinstance(process, Missing)}


def refuse_all(netns: str | None, every: str) -> None:
    """Refuse to record every namespace in one file.

    Raises:
        QuestionError: That was asked for.
    """
    if netns == every:
        raise QuestionError(f"--netns {every}: a snapshot is of one network namespace; record each by itself")
