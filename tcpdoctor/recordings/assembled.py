"""From printed forms to the look that rules are asked about: what no form tells is Missing, never 0.

Forms of one moment complete each other: the listing that tells most is taken, and what it leaves out is
filled in from the others where both ends of a socket are the same. What no form can tell of single sockets
makes them count without being known one by one, or makes the facts Missing that hang on it.
"""

import math
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.closer_look import take_apart
from tcpdoctor.kernel.live import DETAILED_STATES, PASSING_STATES
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import (
    Census,
    Connection,
    Destination,
    DestinationUse,
    Detail,
    Endpoint,
    Established,
    Held,
    Holder,
    Listener,
    NotHeld,
    Process,
    Samples,
    Snapshot,
    SysctlValue,
    UdpSocket,
    plain_address,
)
from tcpdoctor.kernel.sockets import DETAIL_BOUND
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.kernel.survey import Seen
from tcpdoctor.kernel.sysctl import DEFAULT_PORTS, WANTED
from tcpdoctor.kernel.tally import LISTED_STATES, MOST_DESTINATIONS, Columns, EstablishedTally
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.recordings.pasted import ASK_SYSCTL, Pasted, PastedSocket
from tcpdoctor.recordings.recording import Later, Recording
from tcpdoctor.recordings.source import UNNAMED, Form, Source

ASK_SS = "ask for: ss -tanoempi (as root)"
ASK_NSTAT = "ask for: nstat -az"

NOT_TOLD = -1
"""Stands for an inode, a uid, a queue or a number of tries that a form does not tell; inodes get numbers
below 0 of their own, so that owners are found by them. A timer that is not told ends in NaN seconds."""
_RICHEST: Sequence[Form] = ("ss", "netstat", "proc", "lsof")
"""Listings, the one that tells most first."""

_NO_BOUND = Missing("bound sockets are in no printed listing; record with: tcpdoctor snapshot")
_NO_PROCESS = Missing("the recording does not tell it of a process; record with: tcpdoctor snapshot")
_NO_OPTIONS = Missing("the recording does not tell socket options; record with: tcpdoctor snapshot --raw")
_NO_GROUP = Missing(
    "the recording does not tell the control group of a socket; record with: tcpdoctor snapshot"
)
_NO_COUNTERS = Missing(f"the recording has no counters; {ASK_NSTAT}")
_NO_SOCKSTAT = Missing("the recording has no /proc/net/sockstat; ask for it")
_NO_SETTING = Missing(f"the recording has no settings; {ASK_SYSCTL}")
_NO_SOCKETS = Missing(f"the recording lists no sockets; {ASK_SS}")
_NO_TIMERS = Missing(f"the listing has no timers; {ASK_SS}")
_NO_SURVEY = Missing(
    "descriptors and limits of processes are not in the recording; record with: tcpdoctor snapshot"
)
_PART = Missing("the listing is a part: states that it does not show may be there; ask for: ss -tan")
_NO_QUEUES = f"the listing has no queues; {ASK_SS}"
_NO_INODES = f"the listing does not tell which connections were accepted; {ASK_SS}"
_OF_INODES = ("close_wait.not_accepted", "close_wait.not_accepted_ages")
_SCOPES = ("listener", "port", "destination", "process", "sockets")
"""What there may be others of than those that part of a listing shows."""
_OF_QUEUES = ("close_wait.eof_read", "close_wait.eof_unread", "close_wait.unread_data")
_OF_ACCEPT_QUEUES = ("accept_queue.length", "accept_queue.length_before", "accept_queue.least")

_LISTEN, _FIN_WAIT_2 = TcpState.LISTEN, TcpState.FIN_WAIT_2
_NO_CONNECTIONS = (_LISTEN, TcpState.CLOSE, TcpState.BOUND)

N = TypeVar("N", int, float)
_Ends: TypeAlias = tuple[str, Endpoint, Endpoint]


class Circumstances(NamedTuple):
    """What is known of a host besides what the forms say."""

    taken_at: float
    """Seconds since 1970; that of the file where nothing else tells."""
    clock: float = 0.0
    """Seconds since boot; 0 where that is not told."""
    host: str = UNNAMED
    kernel: str = "unknown"
    namespace: int = 0
    namespace_name: str | None = None
    initial_namespace: Reading[bool] = Missing("the recording does not tell whether it is of the whole host")
    processes: Mapping[int, Process] = {}
    page_size: int = 4096
    memory: Reading[int] = Missing(
        "the recording does not tell the machine's memory; record with: tcpdoctor snapshot"
    )


def assemble(forms: Sequence[Pasted], told: Circumstances) -> Recording:
    """Return one look, made of forms of one moment.

    Raises:
        SnapshotError: There are none.
    """
    if not forms:
        raise SnapshotError("nothing in it is output of ss, netstat, sysctl, nstat, lsof or a file of /proc")
    every = merged(forms)
    look = _look_at_all_else(forms, told)
    seen: Reading[Sequence[Seen]] = _NO_SOCKETS
    if every is not None:
        look, seen = _with_listed(look, forms, [one for one in every if one.protocol == "tcp"])
    elif not isinstance(look.census, Missing):
        look = look._replace(untold=dict.fromkeys(_SCOPES, _NO_SOCKETS.reason))
    names = tuple(dict.fromkeys(form.form for form in forms))
    notes = dict.fromkeys(note for form in forms for note in form.notes)
    recording = Recording(Source("text", names, 1, notes=tuple(notes)), Samples(None, look), seen)
    recording = recording._replace(interfaces=_numbered_devices(every or ()))
    udp = _udp(every)
    return recording if udp is None else recording._replace(udp=udp)


def _look_at_all_else(forms: Sequence[Pasted], told: Circumstances) -> Snapshot:
    """All that was printed besides sockets one by one."""
    return Snapshot(
        taken_at=told.taken_at,
        clock=told.clock,
        host=told.host,
        kernel=told.kernel,
        namespace=told.namespace,
        namespace_name=told.namespace_name,
        initial_namespace=told.initial_namespace,
        euid=0,
        sysctls=_sysctls(forms),
        counters=_joined((form.counters for form in forms), _NO_COUNTERS),
        sockstat=_joined((form.sockstat for form in forms), _NO_SOCKSTAT),
        census=_counted(forms),
        listeners=_NO_SOCKETS,
        detail=_NO_SOCKETS,
        processes=told.processes,
        page_size=told.page_size,
        surveyed=_NO_SURVEY,
        softnet=next((form.softnet for form in forms if not isinstance(form.softnet, Missing)), _NO_SOFTNET),
        memory=told.memory,
    )


def _with_listed(
    look: Snapshot, forms: Sequence[Pasted], sockets: Sequence[PastedSocket]
) -> tuple[Snapshot, Sequence[Seen]]:
    listings = _listings(forms)
    complete = _PART if isinstance(listings[0].every_socket, Missing) else listings[0].every_socket
    look, seen = _with_sockets(look, sockets, complete)
    used = listings[:1] if complete is True else listings
    cut = [form.whole_addresses for form in used if isinstance(form.whole_addresses, Missing)]
    if cut:  # two destinations may look like one, and one may have another's connections
        look = look._replace(untold={**look.untold, "destination": cut[0].reason})
    return look, seen


_NO_SOFTNET = Missing("packets of each CPU are not in the recording; ask for: cat /proc/net/softnet_stat")


def _sysctls(forms: Iterable[Pasted]) -> Mapping[str, Reading[SysctlValue]]:
    found: dict[str, Reading[SysctlValue]] = {}
    for form in forms:
        if not isinstance(form.sysctls, Missing):
            found |= form.sysctls
    absent = Missing("it is not among the settings of the recording") if found else _NO_SETTING
    return {**dict.fromkeys(WANTED, absent), **found}


def _joined(parts: Iterable[Reading[Mapping[str, int]]], absent: Missing) -> Reading[Mapping[str, int]]:
    found: dict[str, int] = {}
    for part in parts:
        if not isinstance(part, Missing):
            found |= part
    return found or absent


def _counted(forms: Iterable[Pasted]) -> Reading[Census]:
    """What a form says that counts sockets without listing them."""
    for form in forms:
        if isinstance(form.counts, Missing):
            continue
        by_state = {state: number for state, number in form.counts.items() if state in LISTED_STATES}
        reason = f"the recording counts sockets by state and lists none; {ASK_SS}"
        return Census(by_state, _NO_BOUND, {}, {}, "a count", Missing(reason))
    return _NO_SOCKETS


# Forms that list sockets become one list.


def merged(forms: Sequence[Pasted]) -> list[PastedSocket] | None:
    """Return the sockets of all forms, each once; None where no form lists any."""
    listings = _listings(forms)
    if not listings:
        return None
    first, *others = listings
    found = [*first.sockets] if not isinstance(first.sockets, Missing) else []
    for form in others:
        sockets = () if isinstance(form.sockets, Missing) else form.sockets
        found = _filled_in(found, sockets, may_add=first.every_socket is not True)
    return found


def _listings(forms: Iterable[Pasted]) -> list[Pasted]:
    """The forms that list sockets: whole lists first, of those the ones that tell most."""
    found = [form for form in forms if not isinstance(form.sockets, Missing)]
    return sorted(found, key=lambda form: (form.every_socket is not True, _RICHEST.index(form.form)))


def _ends(socket: PastedSocket) -> _Ends:
    return socket.protocol, socket.local, socket.remote


def _filled_in(
    found: list[PastedSocket], others: Iterable[PastedSocket], *, may_add: bool
) -> list[PastedSocket]:
    """What is Missing of a socket from another listing, where the same ends are there once in each."""
    once = Counter(map(_ends, found))
    by_ends: dict[_Ends, list[PastedSocket]] = {}
    for socket in others:
        by_ends.setdefault(_ends(socket), []).append(socket)
    filled = []
    for socket in found:
        same = by_ends.get(_ends(socket), [])
        alone = len(same) == 1 and once[_ends(socket)] == 1 and same[0].state is socket.state
        filled.append(_completed(socket, same[0]) if alone else socket)
    if may_add:
        filled += [socket for ends, sockets in by_ends.items() if ends not in once for socket in sockets]
    return filled


def _completed(socket: PastedSocket, other: PastedSocket) -> PastedSocket:
    told: dict[str, Any] = {
        field: getattr(other, field)
        for field in socket._fields
        if isinstance(getattr(socket, field), Missing)
    }
    return socket._replace(**told)


# One list of sockets becomes what a live look has.


def _with_sockets(
    look: Snapshot, sockets: Sequence[PastedSocket], complete: Reading[bool]
) -> tuple[Snapshot, Sequence[Seen]]:
    devices = _numbered_devices(sockets)
    listeners = tuple(
        _listener(one, place, devices) for place, one in enumerate(sockets, 1) if one.state is _LISTEN
    )
    rows = _Rows(sockets, devices, _Inodes(listeners, known=complete is True))
    untold = {} if complete is True else dict.fromkeys(_SCOPES, _PART.reason)
    if rows.not_accepted_open:
        untold |= dict.fromkeys(_OF_INODES, _NO_INODES)
    census = _census(look, rows.live, listeners, complete)._replace(established=_established(rows))
    totals = Counter(one.state for one in rows.live)
    states = [state for state in DETAILED_STATES if state is not TcpState.BOUND]
    if complete is not True:
        states = [state for state in states if totals[state]]
    if any(isinstance(one.receive_queue, Missing) for one in sockets):
        untold |= dict.fromkeys((*_OF_QUEUES, *_OF_ACCEPT_QUEUES), _NO_QUEUES)
    look = look._replace(
        census=census,
        listeners=listeners if complete is True or listeners else _PART,
        detail={state: rows.detail(state, totals[state]) for state in states},
        processes={**_holders((*listeners, *rows.live)), **look.processes},
        untold=untold,
    )

    def every() -> tuple[Seen, ...]:
        made: list[Listener | Connection] = [*listeners, *rows.all()]
        return tuple(Seen(row, _NO_OPTIONS) for row in made)

    return look, Later(len(listeners) + len(rows.live), every)


class _Rows:
    """The sockets that do not listen, as connections: made when somebody asks, for most are only counted."""

    def __init__(self, sockets: Sequence[PastedSocket], devices: Mapping[str, int], judge: "_Inodes") -> None:
        self.live: list[PastedSocket] = []
        self.not_accepted_open = False
        """Of some in CLOSE_WAIT nothing tells whether they were accepted."""
        self._devices = devices
        self._judge = judge
        self._places: list[int] = []
        self._sure: dict[TcpState, list[int]] = {}
        close_wait, passing = TcpState.CLOSE_WAIT, PASSING_STATES
        for place, one in enumerate(sockets, 1):
            state = one.state
            if state in _NO_CONNECTIONS:
                continue
            if state is close_wait and judge.of(one) is None:
                self.not_accepted_open = True
            if self._is_known(one) if state in passing or state is _FIN_WAIT_2 else True:
                self._sure.setdefault(state, []).append(len(self.live))
            self.live.append(one)
            self._places.append(place)

    def row(self, number: int) -> Connection:
        """Return one of `live` by its number."""
        return _connection(self.live[number], self._places[number], self._devices, self._judge)

    def all(self) -> Iterator[Connection]:
        """Make all of them."""
        return map(self.row, range(len(self.live)))

    def detail(self, state: TcpState, total: int) -> Detail:
        """Return those of which nothing is open, of very many a part."""
        sure = self._sure.get(state, [])
        if len(sure) > DETAIL_BOUND:
            return Detail(tuple(map(self.row, sure[:: -(-len(sure) // DETAIL_BOUND)])), total)
        reason = "" if len(sure) == total else f"the listing does not tell all of them apart; {ASK_SS}"
        return Detail(tuple(map(self.row, sure)), total, reason)

    def _is_known(self, one: PastedSocket) -> bool:
        """Whether nothing is open about a socket on which rules hang that look at single sockets."""
        if one.state in PASSING_STATES:
            return not isinstance(one.send_queue, Missing)
        if self._judge.of(one) in (None, NOT_TOLD):
            return isinstance(one.owner, Held) or one.timer is Timer.NONE
        return True


def _numbered_devices(sockets: Iterable[PastedSocket]) -> Mapping[str, int]:
    names = sorted({one.device for one in sockets if isinstance(one.device, str)})
    return {name: number for number, name in enumerate(names, start=1)}


def _device(socket: PastedSocket, devices: Mapping[str, int]) -> int:
    return devices[socket.device] if isinstance(socket.device, str) else 0


def _known(value: Reading[N], otherwise: N) -> N:
    return otherwise if isinstance(value, Missing) else value


def _listener(one: PastedSocket, place: int, devices: Mapping[str, int]) -> Listener:
    return Listener(
        family=one.family,
        local=one.local,
        device=_device(one, devices),
        cookie=_known(one.cookie, 0),
        inode=_known(one.inode, -place),
        uid=_known(one.uid, NOT_TOLD),
        accept_queue=_known(one.receive_queue, NOT_TOLD),
        accept_limit=one.accept_limit,
        drops=one.memory if isinstance(one.memory, Missing) else one.memory.drops,
        cgroup=_NO_GROUP,
        v6only=None if isinstance(one.v6only, Missing) else one.v6only,
        owner=one.owner,
    )


class _Inodes:
    """Whether a file refers to a socket, where no form tells its inode."""

    def __init__(self, listeners: Iterable[Listener], *, known: bool) -> None:
        self._waiting = {row.local.port for row in listeners if row.accept_queue}
        self._all = known

    def of(self, one: PastedSocket) -> int | None:
        """The inode, `NOT_TOLD` where there is one, 0 where there is none, None where that is open."""
        if not isinstance(one.inode, Missing):
            return one.inode
        if isinstance(one.owner, Held):
            return NOT_TOLD
        if one.state in (TcpState.TIME_WAIT, TcpState.SYN_RECV) or one.timer is Timer.TIME_WAIT:
            return 0
        if isinstance(one.owner, NotHeld):
            return 0
        if one.state is TcpState.FIN_WAIT_2:
            return NOT_TOLD if one.timer is Timer.NONE else None
        if one.state in (TcpState.CLOSE_WAIT, TcpState.ESTABLISHED):
            # not accepted it can only be where a queue of its port holds something
            return None if not self._all or one.local.port in self._waiting else NOT_TOLD
        return NOT_TOLD


def _connection(one: PastedSocket, place: int, devices: Mapping[str, int], judge: _Inodes) -> Connection:
    """Return it with an inode of its own below 0 where that is not told, so that sockets are told apart."""
    inode = judge.of(one)
    stub = one.state is TcpState.TIME_WAIT and isinstance(one.timer, Missing)
    timed = one.timer is Timer.NONE or not isinstance(one.expires, Missing)
    return Connection(
        state=one.state,
        family=one.family,
        local=one.local,
        remote=one.remote,
        device=_device(one, devices),
        cookie=_known(one.cookie, 0),
        inode=-place if inode in (None, NOT_TOLD) else inode,
        uid=_known(one.uid, NOT_TOLD),
        timer=Timer.TIME_WAIT if stub else Timer.NONE if isinstance(one.timer, Missing) else one.timer,
        expires=_known(one.expires, 0.0) if timed else math.nan,
        retransmits=_known(one.retransmits, 0 if timed else NOT_TOLD),
        receive_queue=_known(one.receive_queue, NOT_TOLD),
        send_queue=_known(one.send_queue, NOT_TOLD),
        cgroup=_NO_GROUP,
        v6only=None if isinstance(one.v6only, Missing) else one.v6only,
        info=one.info,
        owner=NotHeld() if inode == 0 else one.owner,
        memory=one.memory,
    )


def _census(
    look: Snapshot, rows: Sequence[PastedSocket], listeners: Sequence[Listener], complete: Reading[bool]
) -> Census:
    listening = {row.local.port for row in listeners}
    low, high = _range(look.sysctls)
    by_state = Counter(row.state for row in rows)
    by_state[TcpState.LISTEN] = len(listeners)
    by_port: Counter[tuple[TcpState, int]] = Counter((TcpState.LISTEN, row.local.port) for row in listeners)
    total: Counter[Destination] = Counter()
    waiting: Counter[Destination] = Counter()
    for row in rows:
        port = row.local.port
        if not low <= port <= high or port in listening:
            by_port[row.state, port] += 1
            continue
        by_port[row.state, 0] += 1
        towards = Destination(
            plain_address(row.local.address), plain_address(row.remote.address), row.remote.port
        )
        total[towards] += 1
        waiting[towards] += row.state is TcpState.TIME_WAIT
    kept = total.most_common(MOST_DESTINATIONS + 1)
    unlisted = kept[MOST_DESTINATIONS][1] if len(kept) > MOST_DESTINATIONS else 0
    counted = {state: by_state[state] for state in LISTED_STATES if complete is True or by_state[state]}
    return Census(
        by_state=counted,
        bound=_NO_BOUND,
        by_port=dict(by_port),
        by_destination={
            towards: DestinationUse(number, waiting[towards]) for towards, number in kept[:MOST_DESTINATIONS]
        },
        source="a listing",
        complete=complete,
        unlisted=unlisted,
    )


def _range(sysctls: Mapping[str, Reading[SysctlValue]]) -> tuple[int, int]:
    match sysctls.get("net.ipv4.ip_local_port_range"):
        case (int(low), int(high)):
            return low, high
    return DEFAULT_PORTS  # only to sort the sockets by it


def _established(rows: _Rows) -> Reading[Established]:
    established = TcpState.ESTABLISHED
    places = [place for place, row in enumerate(rows.live) if row.state is established]
    live = [rows.live[place] for place in places]
    timers = [row.timer for row in live if not isinstance(row.timer, Missing)]
    if len(timers) < len(live):
        return _NO_TIMERS
    unread = [row.receive_queue for row in live if not isinstance(row.receive_queue, Missing)]
    unsent = [row.send_queue for row in live if not isinstance(row.send_queue, Missing)]
    if len(unread) < len(live) or len(unsent) < len(live):
        return Missing(_NO_QUEUES)
    tries = [_known(row.retransmits, 0) for row in live]
    receive, send = _bytes_of(unread), _bytes_of(unsent)
    local, remote = _bytes_of(row.local.port for row in live), _bytes_of(row.remote.port for row in live)
    inodes = [_known(row.inode, 0) for row in live]  # where none is told, each may wait for accept()
    tally = EstablishedTally[int]()
    tally.add(
        Columns(
            bytes([established]) * len(live),
            bytes(timers),
            bytes([min(255, number) for number in tries]),
            (local[1], local[0], remote[1], remote[0]),
            (receive[2], receive[3], send[2], send[3]),
            receive[:4],
            _bytes_of(inodes),
        ),
        places.__getitem__,
    )
    return take_apart(tally, rows.row)


def _bytes_of(numbers: Iterable[int]) -> tuple[bytes, ...]:
    """Return columns of the bytes of numbers, the lowest first."""
    column = array("Q", numbers)
    if sys.byteorder == "big":
        column.byteswap()
    every = column.tobytes()
    return tuple(every[place::8] for place in range(8))


def _holders(rows: Iterable[PastedSocket | Listener]) -> Mapping[int, Process]:
    """The processes that the listing names."""
    found: dict[int, Process] = {}
    for row in rows:
        for holder in row.owner.holders if isinstance(row.owner, Held) else ():
            if holder.pid not in found:
                found[holder.pid] = process_named(holder)
    return found


def process_named(holder: Holder) -> Process:
    """Return a process of which a listing tells number and name."""
    return Process(holder.pid, holder.name, holder.uid, *(_NO_PROCESS,) * 7, _NO_PROCESS, _NO_PROCESS)


def _udp(sockets: Iterable[PastedSocket] | None) -> tuple[UdpSocket, ...] | None:
    """The UDP sockets; None where no listing has any."""
    found = tuple(
        UdpSocket(
            one.family,
            one.local,
            one.remote,
            _known(one.inode, NOT_TOLD),
            _known(one.uid, NOT_TOLD),
            _known(one.receive_queue, 0),
            _known(one.send_queue, 0),
            0 if isinstance(one.memory, Missing) else one.memory.drops,
            one.owner,
        )
        for one in sockets or ()
        if one.protocol == "udp"
    )
    return found or None
