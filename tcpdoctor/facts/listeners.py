"""Facts of listeners: their accept queues, and connections that were closed before anybody accepted them.

A connection in CLOSE_WAIT without inode waits in an accept queue. Whose, the kernel does not say; it
follows from the rule by which the kernel itself finds a listener (compute_score() in
net/ipv4/inet_hashtables.c): same family of socket, same port, bound to the connection's local address
or else to the wildcard, bound to its device or else to none. Several listeners that share all of these
(SO_REUSEPORT) share the connections as well; their queues' lengths bound who has how many.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence

from tcpdoctor.facts.connection import Earlier, partly, unread_age
from tcpdoctor.facts.established import ages_of
from tcpdoctor.facts.ports import ephemeral_test, is_ephemeral
from tcpdoctor.facts.rates import elapsed, grown
from tcpdoctor.facts.socketset import NONE, SocketSet, most_common
from tcpdoctor.facts.subject import Crowd, LazyFacts, Scope, Subject, Teller, Told, functions_of
from tcpdoctor.facts.value import COUNT, RATIO, Ages, NamedText, Range, Value
from tcpdoctor.kernel.kept_rows import KeptRows, without_file
from tcpdoctor.kernel.reading import Missing, Reading, joined
from tcpdoctor.kernel.snapshot import (
    Connection,
    Detail,
    Held,
    Listener,
    NotHeld,
    Owner,
    Samples,
    Snapshot,
    plain_address,
)
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.named_tuples import NamedTuple

# Facts of half-open connections (SYN_RECV) by listener.
#
# A request socket says which local address and port it came to, not whose it is; that follows from the rule
# by which the kernel finds a listener, as for connections that were never accepted. Listeners that share an
# address (SO_REUSEPORT) share the request sockets as far as one can see.
#
# A client that was answered with a SYN cookie leaves no request socket: there is nothing to be counted, and
# the queue then stays at its limit. With Fast Open and TCP_DEFER_ACCEPT a client may have answered and its
# request socket still be there.


_NO_INODES = "the listing does not tell which connections wait for accept(); ask for: ss -tanoempi"
_SHARED_HALF_OPEN = (
    "listeners that share an address (SO_REUSEPORT) share its half-open connections, "
    "and the kernel does not tell which has which"
)

FindPlace = Callable[[Connection], "tuple[int, str, int, int] | None"]


class HalfOpen(NamedTuple):
    """What is known of the half-open connections of one place in one look."""

    sockets: Sequence[Connection]
    unseen: int
    """Sockets in SYN_RECV that were not looked at and may belong here."""
    sharers: int
    """Listeners at this place."""
    reason: str

    def number(self) -> Value:
        """How many this listener has; between none and all where several share them."""
        found = len(self.sockets)
        low = found if self.sharers == 1 else 0
        high = found + self.unseen
        return low if low == high else Range(low, high, self.reason or _SHARED_HALF_OPEN)


def half_open_at(
    snapshot: Snapshot | None, find: FindPlace, places: Mapping[tuple[int, str, int, int], int]
) -> Reading[Mapping[tuple[int, str, int, int], HalfOpen]]:
    """The half-open connections of every place that somebody listens at; `places` counts the listeners."""
    if snapshot is None:
        return Missing("needs two samples")
    detail = snapshot.detail
    if isinstance(detail, Missing):
        return detail
    sockets = detail.get(TcpState.SYN_RECV)
    if sockets is None:
        return Missing("sockets in SYN_RECV were not read one by one")
    by_place: dict[tuple[int, str, int, int], list[Connection]] = {place: [] for place in places}
    for connection in sockets.connections:
        place = find(connection)
        if place in by_place:
            by_place[place].append(connection)
    unseen = sockets.total - len(sockets.connections)
    reason = partly(sockets, TcpState.SYN_RECV) if unseen else ""
    return {place: HalfOpen(rows, unseen, places[place], reason) for place, rows in by_place.items()}


def queue_limit(listener: Listener, snapshot: Snapshot) -> Value:
    """How many half-open connections fit (tcp_conn_request() in net/ipv4/tcp_input.c).

    The queue is full above the backlog. Without SYN cookies a quarter of tcp_max_syn_backlog is kept
    for clients that are known already.
    """
    limit = listener.accept_limit
    if isinstance(limit, Missing):
        return limit
    cookies = snapshot.sysctls.get("net.ipv4.tcp_syncookies", Missing("tcp_syncookies was not read"))
    most = snapshot.sysctls.get("net.ipv4.tcp_max_syn_backlog", Missing("tcp_max_syn_backlog was not read"))
    if isinstance(cookies, Missing):
        return cookies
    if cookies:
        return limit
    if isinstance(most, Missing):
        return most
    return min(limit, most - (most >> 2)) if isinstance(most, int) else Missing("no number")


def least(now: Value, before: Value) -> Value:
    """The smaller of two counts; that of now where there is no earlier one."""
    if isinstance(before, Missing) or isinstance(now, Missing):
        return now
    low, high = _ends(now), _ends(before)
    ends = min(low[0], high[0]), min(low[1], high[1])
    return ends[0] if ends[0] == ends[1] else Range(*ends, low[2] or high[2])


def repeated(found: HalfOpen) -> Value:
    """Those whose SYN+ACK was sent again."""
    return found._replace(sockets=[row for row in found.sockets if row.retransmits]).number()


def peers(found: HalfOpen) -> Value:
    """Addresses that they came from: ``198.51.100.7 (812), 198.51.100.9 (3) and 14 more``."""
    numbers = Counter(plain_address(row.remote.address) for row in found.sockets)
    return most_common(numbers) if numbers else NONE


def _ends(number: Value) -> tuple[float, float, str]:
    if isinstance(number, Range):
        return number.low, number.high, number.reason
    assert isinstance(number, int)  # noqa: S101 - counts are whole, or ranges
    return number, number, ""


_APART = frozenset({"listener.port"})
"""The only number by which listeners differ that are alike in all else."""
_SHARED = (
    "listeners that share an address (SO_REUSEPORT) share its connections, "
    "and the kernel does not tell which has which"
)


class Queue(NamedTuple):
    """One listener with what is known of its accept queue."""

    listener: Listener
    before: Reading[Listener]
    """The same listener in the first sample."""
    unserved: Reading[SocketSet]
    """Those in ESTABLISHED that were never accepted, in the same way."""
    not_accepted: Reading[SocketSet]
    """Connections in CLOSE_WAIT that were never accepted, of all listeners that share its address."""
    others: int
    """Connections that wait in the queues of the others of these."""
    samples: Samples
    earlier: Earlier
    half_open: Reading[HalfOpen]
    """Half-open connections to its place, in the second look or the only one."""
    half_open_before: Reading[HalfOpen]


def listener_subjects(samples: Samples, host: Mapping[str, Value]) -> Reading[Sequence[Subject]]:
    """One subject per listening socket; Missing where they could not be read."""
    listeners = samples.after.listeners
    return listeners if isinstance(listeners, Missing) else _Queues(samples, listeners, host).crowd()


class _Queues:
    """What the listeners of a look share: the places they listen at, and what waits there."""

    def __init__(self, samples: Samples, listeners: Sequence[Listener], host: Mapping[str, Value]) -> None:
        self._samples, self._listeners, self._host = samples, listeners, host
        self._places = list(map(_place, listeners))
        self._shared = Counter(self._places)
        self._waiting = _Waiting(listeners, _in_close_wait(samples.after))
        self._unserved = _Waiting(listeners, _with_unread_data(samples.after))
        self._before = _Before(samples)
        self._earlier = Earlier(samples)
        self._half_open = half_open_at(samples.after, self._find, self._shared)
        self._half_open_before = half_open_at(samples.before, self._find, self._shared)

    def _find(self, connection: Connection) -> "_Place | None":
        return _find_place(connection, self._shared)

    def crowd(self) -> Crowd:
        """A subject for each listener."""
        is_ephemeral = ephemeral_test(self._samples.after)
        kinds = (
            self._kind(number, is_ephemeral(listener.local.port))
            for number, listener in enumerate(self._listeners)
        )
        return Crowd(kinds, self._subject, _APART)

    def _kind(self, number: int, is_ephemeral: Reading[bool]) -> Hashable:
        """All that its facts are made of; at a place with connections every listener is one of its own."""
        listener, place = self._listeners[number], self._places[number]
        if self._waiting.at(place) or self._unserved.at(place) or self._is_half_open(place):
            return number
        before = self._before.find(listener)
        since: Hashable = before
        if not isinstance(before, Missing):
            since = before.accept_queue, before.drops, listener.drops
        queues = listener.accept_queue, listener.accept_limit, self._waiting.others(place, listener)
        return queues, since, self._shared[place], is_ephemeral

    def _is_half_open(self, place: "_Place") -> bool:
        return any(
            not isinstance(found, Missing) and found[place].sockets
            for found in (self._half_open, self._half_open_before)
        )

    def _subject(self, number: int) -> Subject:
        listener, place = self._listeners[number], self._places[number]
        alone = self._shared[place] == 1
        half_open, before = self._half_open, self._half_open_before
        queue = Queue(
            listener,
            self._before.find(listener),
            self._unserved.of(listener)[0],
            *self._waiting.of(listener),
            self._samples,
            self._earlier,
            half_open if isinstance(half_open, Missing) else half_open[place],
            before if isinstance(before, Missing) else before[place],
        )
        facts = LazyFacts(queue, FUNCTIONS, self._host)
        return Subject(Scope.LISTENER, _label(listener, alone=alone), _identity(listener, alone=alone), facts)


_Place = tuple[int, str, int, int]
"""Family, address, port and device: what the kernel finds a listener by."""


def _place(listener: Listener) -> _Place:
    return listener.family, listener.local.address, listener.local.port, listener.device


def _in_close_wait(look: Snapshot) -> Reading[tuple[Detail, str]]:
    """The sockets in CLOSE_WAIT, and why some of them are not known."""
    if isinstance(look.detail, Missing):
        return look.detail
    sockets = look.detail.get(TcpState.CLOSE_WAIT)
    if sockets is None:
        return Missing("sockets in CLOSE_WAIT were not read one by one")
    return sockets, partly(sockets, TcpState.CLOSE_WAIT)


def _with_unread_data(look: Snapshot) -> Reading[tuple[Detail, str]]:
    """Those in ESTABLISHED with anything unread.

    Of more than a thousand a uniform sample is known; the rest is taken to be as young as nearly all are
    where there is traffic.
    """
    established = look.census if isinstance(look.census, Missing) else look.census.established
    unread = established if isinstance(established, Missing) else established.unread
    if isinstance(unread, Missing):
        return unread
    return unread._replace(total=len(unread.connections)), ""


class _Waiting:
    """The connections of one kind that nobody accepted, by the place they came to."""

    def __init__(self, listeners: Sequence[Listener], found: Reading[tuple[Detail, str]]) -> None:
        self._queues: Counter[_Place] = Counter()
        for listener in listeners:
            self._queues[_place(listener)] += max(0, listener.accept_queue)
        self._by_place: dict[_Place, list[Connection]] = {}
        self._unseen, self._reason = 0, ""
        self._untold: Counter[_Place | None] = Counter()
        self._unread: Missing | None = None
        if isinstance(found, Missing):
            self._unread = found
            return
        sockets, reason = found
        self._unseen = sockets.total - len(sockets.connections)
        if self._unseen:
            self._reason = reason
        for connection in without_file(sockets.connections):
            place = _find_place(connection, self._queues)
            if place is not None:
                self._by_place.setdefault(place, []).append(connection)
        listed = () if isinstance(sockets.connections, KeptRows) else sockets.connections
        self._untold = Counter(_find_place(each, self._queues) for each in listed if each.inode < 0)

    def at(self, place: "_Place") -> Sequence[Connection]:
        """The connections that came to a place."""
        return self._by_place.get(place, ())

    def others(self, place: "_Place", listener: Listener) -> int:
        """How many connections wait in the queues of the other listeners at its place."""
        return self._queues[place] - max(0, listener.accept_queue)

    def of(self, listener: Listener) -> tuple[Reading[SocketSet], int]:
        """What came to a listener's place, and how many connections wait in other queues there."""
        place = _place(listener)
        others = self.others(place, listener)
        if self._unread is not None:
            return self._unread, others
        untold = min(self._untold[place], self._queues[place])
        unseen, reasons = self._unseen + untold, [self._reason, _NO_INODES if untold else ""]
        return SocketSet(self.at(place), unseen=unseen, reason=joined(reasons)), others


def _find_place(connection: Connection, places: Mapping[_Place, int]) -> _Place | None:
    """The place among `places` that the kernel chooses for a connection; None if there is none left."""
    family, address, port = connection.family, connection.local.address, connection.local.port
    wildcards = [address, "0.0.0.0" if family == 4 else "::ffff:0.0.0.0", "::"]
    for candidate in wildcards:
        for device in dict.fromkeys((connection.device, 0)):
            place = family, candidate, port, device
            if place in places:
                return place
    return None


class _Before:
    """The listeners of the first sample."""

    def __init__(self, samples: Samples) -> None:
        before = samples.before
        found = Missing("needs two samples") if before is None else before.listeners
        self._unread = found if isinstance(found, Missing) else None
        listeners = () if isinstance(found, Missing) else found
        self._by_cookie = {listener.cookie: listener for listener in listeners if listener.cookie}
        self._by_place = {_place(listener): listener for listener in listeners}

    def find(self, listener: Listener) -> Reading[Listener]:
        if self._unread is not None:
            return self._unread
        if listener.cookie and self._by_cookie:
            found = self._by_cookie.get(listener.cookie)
        else:
            found = self._by_place.get(_place(listener))
        return Missing("it was not listening at the first sample") if found is None else found


def _label(listener: Listener, *, alone: bool) -> str:
    """The address; with the owner where several listeners share it."""
    text = f"{listener.local} on interface {listener.device}" if listener.device else str(listener.local)
    if alone or not isinstance(listener.owner, Held):
        return text
    first = listener.owner.holders[0]
    return f"{text} {first.name} ({first.pid})"


def _identity(listener: Listener, *, alone: bool) -> Mapping[str, int | str | None]:
    """What stays the same when the process is restarted; listeners that share it are told apart."""
    identity: dict[str, int | str | None] = {"address": listener.local.address, "port": listener.local.port}
    if listener.device:
        identity["interface"] = listener.device
    if not alone:
        identity["cookie"] = listener.cookie
    return identity


def owner_text(owner: Owner) -> str | Missing:
    """Who holds a socket: ``nginx (811)``, ``nginx (811) and 3 more processes``, ``no process``."""
    match owner:
        case Held(holders=holders):
            first, more = owner.label, len(holders) - 1
            text = f"{first} and {more} more process{'es' if more > 1 else ''}" if more else first
            return NamedText(text, pids=(holder.pid for holder in holders))
        case NotHeld():
            return "no process"
        case Missing():
            return owner


def _pid(owner: Owner) -> Reading[str]:
    match owner:
        case Held(holders=holders):
            workers = (one.pid for one in holders[1:] if one.name == holders[0].name)
            return str(next(workers, holders[0].pid))
        case NotHeld():
            return Missing("no process holds it")
        case Missing():
            return owner


def _length_before(queue: Queue) -> Value:
    return queue.before if isinstance(queue.before, Missing) else queue.before.accept_queue


def _least(queue: Queue) -> Value:
    length = queue.listener.accept_queue
    return length if isinstance(queue.before, Missing) else min(length, queue.before.accept_queue)


def _drops(queue: Queue) -> Value:
    seconds = elapsed(queue.samples)
    if isinstance(seconds, Missing):
        return seconds
    before = queue.before if isinstance(queue.before, Missing) else queue.before.drops
    return grown("the listener's count of drops", before, queue.listener.drops, seconds)


def _not_accepted(queue: Queue) -> Value:
    sockets = queue.not_accepted
    if isinstance(sockets, Missing):
        return sockets
    low, high, reason = _share(queue, sockets)
    return low if low == high else Range(low, high, reason)


def _not_accepted_ages(queue: Queue) -> Value:
    sockets = queue.not_accepted
    if isinstance(sockets, Missing):
        return sockets
    ages = sockets.ages(queue.earlier)
    low, high, reason = _share(queue, sockets)
    if low == len(ages.at_least) and high == len(ages.at_most):
        return ages
    # as old as the youngest `low` are those that surely are its own, as the oldest `high` those that may be
    reasons = joined([reason, ages.reason or ""])
    return Ages(ages.at_least[:low], ages.at_most[len(ages.at_most) - high :], reasons, ages.quiet[:low])


def _share(queue: Queue, sockets: SocketSet) -> tuple[int, int, str]:
    """Least and most of the never accepted connections that can be this listener's.

    No more than its queue holds; those that came after the queue was read are too young to matter.
    """
    found = len(sockets.sure)
    low = max(0, found - queue.others)
    length = queue.listener.accept_queue
    high = found + sockets.unseen if length < 0 else max(low, min(found + sockets.unseen, length))
    reasons = [_SHARED] if low < found else []
    return low, high, joined([*reasons, sockets.reason])


def _unserved_ages(queue: Queue) -> Value:
    if isinstance(queue.unserved, Missing):
        return queue.unserved
    return _ages_in_queue(queue, queue.unserved.where(lambda row: row.receive_queue > 0))


def _waiting_ages(queue: Queue) -> Value:
    return queue.unserved if isinstance(queue.unserved, Missing) else _ages_in_queue(queue, queue.unserved)


def _ages_in_queue(queue: Queue, sockets: SocketSet) -> Value:
    """The ages of those that are surely in this queue: no more than it holds, the youngest first.

    Subflows of MPTCP have no inode either, and are in no queue.
    """
    ages, found = ages_of(sockets, unread_age), len(sockets.sure)
    low = min(max(0, found - queue.others), max(0, queue.listener.accept_queue))
    return ages if low == found else ages._replace(at_least=ages.at_least[:low], reason=_SHARED)


def _port_is_ephemeral(queue: Queue) -> Value:
    answer = is_ephemeral(queue.listener.local.port, queue.samples.after)
    return answer if isinstance(answer, Missing) else int(answer)


def _half_open(value: Callable[[HalfOpen], Value]) -> Callable[[Queue], Value]:
    def fact(queue: Queue) -> Value:
        return queue.half_open if isinstance(queue.half_open, Missing) else value(queue.half_open)

    return fact


def _half_open_before(queue: Queue) -> Value:
    before = queue.half_open_before
    return before if isinstance(before, Missing) else before.number()


_SS_INFO = "ss -tani state close-wait (lastack .. lastrcv, milliseconds)"

_of_listener = Teller[Queue](Scope.LISTENER)

FACTS: Sequence[Told[Queue]] = (
    _of_listener.text(
        "listener.address",
        "Address and port it listens on.",
        "ss -tln",
        lambda queue: str(queue.listener.local),
    ),
    _of_listener.gauge(
        "listener.port", COUNT, "Port it listens on.", "ss -tln", lambda queue: queue.listener.local.port
    ),
    _of_listener.text(
        "listener.owner",
        "Process that holds the listening socket, the lowest pid first.",
        "ss -tlnp",
        lambda queue: owner_text(queue.listener.owner),
    ),
    _of_listener.text(
        "listener.pid",
        "Id of a process that accepts from it: of a server with workers one of those, else of its owner.",
        "ss -tlnp",
        lambda queue: _pid(queue.listener.owner),
    ),
    _of_listener.gauge(
        "listener.port_is_ephemeral",
        RATIO,
        "1 where its port lies in net.ipv4.ip_local_port_range and is not reserved, so that an outgoing "
        "connection may take it while nobody listens; else 0.",
        "/proc/sys/net/ipv4/ip_local_port_range, /proc/sys/net/ipv4/ip_local_reserved_ports",
        _port_is_ephemeral,
    ),
    _of_listener.gauge(
        "accept_queue.length",
        COUNT,
        "Connections that are established and wait for the process to accept() them.",
        "ss -tln (Recv-Q)",
        lambda queue: queue.listener.accept_queue,
    ),
    _of_listener.gauge(
        "accept_queue.length_before",
        COUNT,
        "The same at the first of the two samples.",
        "ss -tln (Recv-Q)",
        _length_before,
    ),
    _of_listener.gauge(
        "accept_queue.least",
        COUNT,
        "The shorter of the accept queue's lengths in the samples there are.",
        "ss -tln (Recv-Q)",
        _least,
    ),
    _of_listener.gauge(
        "accept_queue.limit",
        COUNT,
        "The smaller of the backlog given to listen() and net.core.somaxconn at that time; the queue is "
        "full when it is longer.",
        "ss -tln (Send-Q)",
        lambda queue: queue.listener.accept_limit,
    ),
    _of_listener.counter(
        "accept_queue.drops",
        "Packets that this listener dropped, most of them connection attempts while its queue was full.",
        "ss -tlnm (skmem d)",
        _drops,
    ),
    _of_listener.ages(
        "accept_queue.unread_ages",
        "How long ago data last came in on each established connection in its accept queue: a client that "
        "has sent something, and that no process has accepted.",
        "ss -tani state established (rows with ino:0 of -e and Recv-Q above 0; lastrcv, milliseconds)",
        _unserved_ages,
    ),
    _of_listener.ages(
        "accept_queue.waiting_ages",
        "How long ago data last came in on each established connection in its accept queue, and where none "
        "ever has, how long ago it came: a client that no process has accepted.",
        "ss -tani state established (rows with ino:0 of -e; lastrcv, milliseconds)",
        _waiting_ages,
    ),
    _of_listener.gauge(
        "close_wait.not_accepted",
        COUNT,
        "Connections in its accept queue whose peer has already closed: CLOSE_WAIT, and no process ever "
        "accepted them.",
        "ss -tane state close-wait (rows with ino:0)",
        _not_accepted,
    ),
    _of_listener.ages(
        "close_wait.not_accepted_ages",
        "How long ago the peer closed each connection that was never accepted.",
        _SS_INFO,
        _not_accepted_ages,
    ),
    _of_listener.gauge(
        "syn_queue.length",
        COUNT,
        "Half-open connections to this listener (SYN_RECV). Clients that were answered with a SYN cookie "
        "are not among them: the kernel keeps nothing of those.",
        "ss -tn state syn-recv sport = :PORT",
        _half_open(HalfOpen.number),
    ),
    _of_listener.gauge(
        "syn_queue.length_before",
        COUNT,
        "The same at the first of the two samples.",
        "ss -tn state syn-recv sport = :PORT",
        _half_open_before,
    ),
    _of_listener.gauge(
        "syn_queue.least",
        COUNT,
        "The smaller of these numbers in the samples there are.",
        "ss -tn state syn-recv sport = :PORT",
        lambda queue: least(_half_open(HalfOpen.number)(queue), _half_open_before(queue)),
    ),
    _of_listener.gauge(
        "syn_queue.limit",
        COUNT,
        "Half-open connections that fit: the backlog of listen() (at most net.core.somaxconn), and where "
        "SYN cookies are off three quarters of net.ipv4.tcp_max_syn_backlog if that is less.",
        "ss -tln (Send-Q), /proc/sys/net/ipv4/tcp_max_syn_backlog",
        lambda queue: queue_limit(queue.listener, queue.samples.after),
    ),
    _of_listener.gauge(
        "syn_queue.repeated",
        COUNT,
        "Of its half-open connections those whose SYN+ACK was sent again, as nothing came back in a second.",
        "ss -tno state syn-recv sport = :PORT (timer:(on,..,1) or more)",
        _half_open(repeated),
    ),
    _of_listener.text(
        "syn_queue.peers",
        "Addresses that the half-open connections came from, those with most first.",
        "ss -tn state syn-recv sport = :PORT",
        _half_open(peers),
    ),
)
FUNCTIONS = functions_of(FACTS)
