"""What `tcpdoctor sockets` has to say, whatever the format."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.connection import Age, age_in_one_look, unanswered_age
from tcpdoctor.kernel.namespaces import Identity, moment, read_identity
from tcpdoctor.kernel.reading import NOT_RECORDED, Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Held
from tcpdoctor.kernel.sockets import SocketFilter
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState, Timer
from tcpdoctor.kernel.survey import (
    NOT_ASKED,
    ROOM,
    Roll,
    Row,
    Seen,
    Survey,
    Wanted,
    call_roll,
    held_by,
    take_survey,
    why_elsewhere,
)
from tcpdoctor.kernel.text import clean

if TYPE_CHECKING:
    from tcpdoctor.answers.ends import Peer


class Entry(NamedTuple):
    """One socket and how long it has been in its state."""

    seen: Seen
    age: Age | None
    """None: the kernel tells nothing of it (listeners and bound sockets)."""
    device: str | None = None
    """The interface that it is bound to (SO_BINDTODEVICE, a VRF); None for none."""


Devices: TypeAlias = Mapping[int, str]
"""Names of interfaces by their index."""
NO_DEVICES: Devices = {}


def state_of(entry: Entry) -> TcpState:
    """Return a socket's state; a listener's is LISTEN."""
    row = entry.seen.row
    return row.state


class Outstanding(NamedTuple):
    """What some sockets wait for."""

    unanswered: Reading[int]
    """Sockets whose last segment or probe was sent again, so far without an answer."""
    unacknowledged_bytes: Reading[int]
    """Data that was sent, or is to be sent, and not acknowledged; a SYN and a FIN are no data."""
    unread_bytes: Reading[int]
    """Data that came in and that the process has not read; a FIN is no data."""
    unanswered_for: float | None
    """Seconds, at least, since the segment or probe of an unanswered one was sent first: of the longest."""


_OWN_FLAG = frozenset((TcpState.SYN_SENT, TcpState.FIN_WAIT_1, TcpState.CLOSING, TcpState.LAST_ACK))
"""Here the SYN or FIN that is not acknowledged takes one byte of the send queue."""
_PEERS_FIN = frozenset((TcpState.CLOSE_WAIT, TcpState.CLOSING, TcpState.LAST_ACK))
"""Here the peer's FIN takes one byte of the receive queue as long as the end of file is not read."""


def unacknowledged_bytes(row: Connection) -> int:
    """Return how many bytes of data are unsent or unacknowledged, a SYN or FIN of ours not counted.

    0 as well where a recording does not tell it.
    """
    return max(0, row.send_queue - (row.state in _OWN_FLAG))


def outstanding(rows: Iterable[Connection]) -> Outstanding:
    """Return what these sockets wait for, together."""
    live = [row for row in rows if not row.minisocket and row.state is not TcpState.BOUND]
    repeated = [row for row in live if row.retransmits > 0]
    return Outstanding(
        _if_told((row.retransmits for row in live), len(repeated)),
        _if_told((row.send_queue for row in live), sum(unacknowledged_bytes(row) for row in live)),
        _if_told(
            (row.receive_queue for row in live),
            sum(max(0, row.receive_queue - (row.state in _PEERS_FIN)) for row in live),
        ),
        _longest_unanswered(repeated),
    )


def _if_told(numbers: Iterable[int], counted: int) -> Reading[int]:
    """What was counted of these numbers; Missing where a recording does not tell one of them."""
    return NOT_RECORDED if any(number < 0 for number in numbers) else counted


def _longest_unanswered(repeated: Iterable[Connection]) -> float | None:
    rows = [row for row in repeated if row.timer in (Timer.RETRANSMIT, Timer.PROBE)]
    if not rows:
        return None
    return round(max(unanswered_age(row).low for row in rows), 3)


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


def entries_of(survey: Survey, devices: Devices = NO_DEVICES) -> tuple[Entry, ...]:
    """Return every socket of a survey with its age, as far as one look tells it."""
    return tuple(_entry(seen, devices) for seen in survey.sockets)


def _entry(seen: Seen, devices: Devices = NO_DEVICES) -> Entry:
    row = seen.row
    # an interface may have gone, or come, since
    device = devices.get(row.device, f"if{row.device}") if row.device else None
    return Entry(seen, age_in_one_look(row) if isinstance(row, Connection) else None, device)


def _devices() -> Devices:
    from tcpdoctor.kernel.addresses import interface_indexes

    return {index: clean(name) for name, index in interface_indexes().items()}


class Order(NamedTuple):
    """Which sockets come first, and how many of them are wanted."""

    key: Callable[[Entry], Any] | None = None
    """What is least comes first; None: the oldest do."""
    most: int | None = None
    """None: all."""
    by_owner: bool = False
    """The key asks for the owner, so that all owners are needed."""

    def of(self, entries: Iterable[Entry]) -> tuple[Entry, ...]:
        """Return those that are wanted, in this order; equal ones stay as they came."""
        key = self.key or _oldest_first
        if self.most is None:
            return tuple(sorted(entries, key=key))
        from heapq import nsmallest

        return tuple(nsmallest(self.most, entries, key=key))

    def of_rows(self, rows: Iterable[Row]) -> list[Row]:
        """The same of sockets of which nothing more is known."""
        wanted = self.of(_entry(Seen(row, Missing("not asked"))) for row in rows)
        return [entry.seen.row for entry in wanted]


def _oldest_first(entry: Entry) -> tuple[float, float]:
    return (math.inf, 0.0) if entry.age is None else (-entry.age.low, -entry.age.high)


# `tcpdoctor sockets`: the sockets one by one.


def look_for_sockets(
    names: list[str],
    port: int | None,
    peer_port: int | None,
    pid: int | None,
    peer: "Peer | None",
    older: float | None,
    *,
    options: bool,
    name: str | None = None,
    order: Order | None = None,
) -> "Sockets":
    """Look at the sockets that were asked for; without `order` they come as the kernel lists them.

    Of very many sockets only those that are wanted are decoded and searched an owner for, where that is known
    before all owners are.
    """
    wanted = _find_states(names)
    if peer is not None and peer_port is None:
        peer_port = peer.port
    if older is not None:
        refuse_bad_age(older)
    early = order is not None and not (order.by_owner or name is not None or older is not None)
    by_age = early and order is not None and order.key is None
    taken_at = moment()
    survey = take_survey(
        wanted,
        local_port=port,
        remote_port=peer_port,
        pid=pid,
        peer=None if peer is None else peer.address,
        options=options,
        room=order.most or ROOM if by_age and order is not None else ROOM,
        oldest=by_age,
        choose=order.of_rows if early and order is not None else None,
    )
    if isinstance(survey, Missing):
        raise QuestionError(f"the sockets could not be listed: {survey.reason}")
    if name is not None:
        survey = _of_processes_called(name, survey)
    answer = Sockets(read_identity(), taken_at, entries_of(survey, _devices()), survey, options)
    if older is not None:
        answer = only_older(answer, older)
    return answer if order is None or early else answer._replace(entries=order.of(answer.entries))


class SocketRoll(NamedTuple):
    """The same where all are wanted as the kernel lists them: told one by one, never together in memory."""

    host: Identity
    taken_at: float
    roll: Roll
    """Its rows, and what is known when all have been told."""
    devices: Devices = NO_DEVICES

    def entries(self) -> Iterator[Entry]:
        """Give each socket, once."""
        for row in self.roll:
            yield _entry(Seen(row, NOT_ASKED), self.devices)


def call_sockets(
    names: list[str], port: int | None, peer_port: int | None, pid: int | None, peer: "Peer | None"
) -> SocketRoll:
    """Make ready to tell the sockets that were asked for one by one.

    Raises:
        QuestionError: They could not be listed, or the process is none.
    """
    known = None if pid is None else held_by(pid)
    if isinstance(known, Missing):
        raise QuestionError(f"the sockets could not be listed: {known.reason}")
    wanted = Wanted(
        _find_states(names),
        port,
        peer.port if peer is not None and peer_port is None else peer_port,
        SocketFilter(inodes=known, remote=None if peer is None else peer.address),
    )
    taken_at = moment()
    roll = call_roll(wanted, known)
    if isinstance(roll, Missing):
        raise QuestionError(f"the sockets could not be listed: {roll.reason}")
    reason = None if pid is None else why_elsewhere(pid)
    if reason is not None:
        roll.missing["sockets"] = reason
    return SocketRoll(read_identity(), taken_at, roll, _devices())


def _of_processes_called(name: str, survey: Survey) -> Survey:
    """Return the sockets that a process of this name holds; hidden owners are told as missing."""
    kept = tuple(
        seen
        for seen in survey.sockets
        if isinstance(seen.row.owner, Held) and any(one.name == name for one in seen.row.owner.holders)
    )
    hidden = sum(isinstance(seen.row.owner, Missing) for seen in survey.sockets)
    missing = dict(survey.missing)
    if hidden:
        missing["name"] = f"of {hidden:,} sockets the owner is hidden"
    if survey.total > len(survey.sockets):
        missing["name"] = f"only {len(survey.sockets):,} of {survey.total:,} sockets were looked at"
    return survey._replace(
        sockets=kept,
        total=len(kept),
        missing=missing,
        by_state=Counter(state_of(Entry(seen, None)) for seen in kept),
    )


def _find_states(names: list[str]) -> "tuple[TcpState, ...]":
    from tcpdoctor.knowledge.state_pages import find_state

    keys = {find_state(name).key for name in names}
    wanted = tuple(state for state in COUNTED_STATES if not names or state.key in keys)
    if not wanted:
        raise QuestionError("sockets in CLOSED are in no list of the kernel; ask for another state")
    return wanted


# The option `--older` of `tcpdoctor sockets`: which rows are kept.


def refuse_bad_age(seconds: float) -> None:
    """Refuse what is no time.

    Raises:
        QuestionError: It is negative, infinite or no number.
    """
    if not (0 <= seconds < math.inf):
        raise QuestionError(f"--older {seconds:g}: no time; give seconds, 0 or more")


def only_older(answer: Sockets, seconds: float) -> Sockets:
    """Keep the sockets that have been in their state for at least so many seconds, as far as it can be told.

    Those of which it cannot be told are left out; `missing` says how many they are.
    """
    kept = tuple(entry for entry in answer.entries if entry.age is not None and entry.age.low >= seconds)
    untold = sum(entry.age is None or entry.age.low < seconds <= entry.age.high for entry in answer.entries)
    survey = answer.survey
    missing = dict(survey.missing)
    if survey.total > len(answer.entries):
        missing["sockets"] = f"{survey.total - len(answer.entries):,} sockets were not looked at"
    if untold:
        missing["older"] = f"of {untold:,} of the sockets the kernel does not tell whether they are that old"
    return answer._replace(
        entries=kept,
        survey=survey._replace(
            sockets=tuple(entry.seen for entry in kept),
            total=len(kept),
            missing=missing,
            by_state=Counter(state_of(entry) for entry in kept),
        ),
    )
