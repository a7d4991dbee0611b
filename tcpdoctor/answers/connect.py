"""The answer to `explain --connect`: can a client connect there, and if not, who or what stands in the way.

Nothing is bound and nothing connected.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Annotated, Literal, NamedTuple, TypeVar

from tcpdoctor.answers.ends import ANY_PORT, parse_ends
from tcpdoctor.answers.finding import ToldFinding, told_finding
from tcpdoctor.answers.record import (
    Count,
    Host,
    Is,
    Pid,
    PortNumber,
    Reasons,
    Seconds,
    Time,
    host_of,
    told_number,
    utc,
)
from tcpdoctor.answers.sockets import outstanding
from tcpdoctor.diagnosis.bind import Attempt, four
from tcpdoctor.diagnosis.connect import ConnectPrediction, Journey, Ports, Scene, predict_connect
from tcpdoctor.diagnosis.connect_advice import connect_advice, connect_avoid, connect_verdict
from tcpdoctor.diagnosis.finding import Diagnosis, Unchecked
from tcpdoctor.diagnosis.port import Target, find_obstacle, is_link_local, wanted_device
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.connection import age_in_one_look
from tcpdoctor.facts.ports import Settings, ephemeral_range, port_reuse, reserved_ports
from tcpdoctor.kernel.addresses import is_loopback_down, read_local_addresses, read_vrfs
from tcpdoctor.kernel.bind_rules import find_user, read_bind_rules
from tcpdoctor.kernel.connect_evidence import (
    NextHop,
    NoRoute,
    Route,
    find_route,
    interface_of,
    read_port_use,
)
from tcpdoctor.kernel.ipsec import find_ipsec, sign_of_ipsec
from tcpdoctor.kernel.kept_rows import with_owners
from tcpdoctor.kernel.namespaces import Identity, moment, read_identity
from tcpdoctor.kernel.owners import find_owners
from tcpdoctor.kernel.packet_rules import why_rules_unread
from tcpdoctor.kernel.programs import (
    find_arrival_programs,
    find_programs,
    looks_up_sockets,
    sign_of_programs,
    why_programs_unread,
)
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.redirects import (
    NO_FILTERS,
    Redirects,
    read_filters,
    read_sent_redirects,
    sign_of_rules,
)
from tcpdoctor.kernel.snapshot import (
    Connection,
    Detail,
    Endpoint,
    Held,
    Holder,
    Listener,
    NotHeld,
)
from tcpdoctor.kernel.sockets import (
    SocketFilter,
    find_signers,
    read_connections,
    read_listeners,
    why_signers_hidden,
)
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.sysctl import DEFAULT_PORTS, read_sysctls

T = TypeVar("T")
_Verdict = Annotated[str, Is("ok, or the name of an error.", pattern="^(ok|E[A-Z0-9]+)$")]


class PortsLeft(NamedTuple):
    """What connect() answers, and the local ports that it may choose from towards this destination."""

    verdict: _Verdict
    certain: bool
    usable_ports: Reading[Count]
    used: Reading[Count]
    free: Reading[Count]
    free_perhaps: Reading[Count]
    used_by_state: Mapping[str, Count]
    lost_to_bound_sockets: Reading[Count]
    time_wait_counts: Reading[bool]
    time_wait_reusable: Reading[Count]
    next_free_in_s: Seconds | None
    stage: Annotated[
        Literal["bind", "route", "port", "listener", "accepted", "peer", "next-hop"],
        Is(
            "What the verdict comes from. peer: another host's to answer, which was not asked. next-hop: "
            "nothing leaves this host."
        ),
    ]


class OwnPort(NamedTuple):
    """What a client that names its own port gets, with these options set before bind()."""

    options: tuple[str, ...]
    bind: _Verdict
    connect: Annotated[_Verdict | None, Is("null: bind() fails.")]
    certain: bool


class BindFirst(NamedTuple):
    """What bind() before connect() answers."""

    bind: _Verdict | None
    free: Annotated[Reading[Count], Is("Ports that bind(address, 0) can choose from.")]
    attempts: Annotated[tuple[OwnPort, ...], Is("From a port of the client's own; empty without one.")]
    certain: Annotated[bool, Is("Of bind.")]


class WayThere(NamedTuple):
    """The route that the kernel takes, or the error that it answers instead."""

    source: str | None
    interface: str | None
    gateway: str | None
    kind: str | None
    error: str | None
    carrier: Annotated[bool | None, Is("false: the interface is connected to nothing; null: not known.")]
    neighbour: Annotated[
        str | None,
        Is("What is known of the next hop's link address: reachable, stale, failed...; null: nothing."),
    ]


class OwnerCount(NamedTuple):
    """How many of the sockets towards the destination one process holds."""

    pid: Pid
    name: str
    uid: Reading[Count]
    sockets: Count


class ListenerThere(NamedTuple):
    """A listener of this host that the destination leads to."""

    local: str
    accept_queue: Reading[Count]
    accept_limit: Reading[Count]
    pid: Pid | None
    name: str | None


class SocketsTowards(NamedTuple):
    """The sockets of one state from this source to the destination."""

    state: TcpState
    sockets: Count
    oldest_s: Annotated[Seconds | None, Is("Age of the oldest, at least; null where nothing tells.")]
    unanswered: Annotated[
        Reading[Count], Is("Those whose last segment was sent again, so far without an answer.")
    ]
    unacknowledged_bytes: Annotated[Reading[Count], Is("Data sent, or to be sent, and not acknowledged.")]
    unread_bytes: Annotated[Reading[Count], Is("Data received that the process has not read.")]
    unanswered_s: Annotated[
        Seconds | None, Is("At least so long ago what is sent again was sent first: of the longest.")
    ]


class RedirectThere(NamedTuple):
    """A rule of this host that may send the connection elsewhere."""

    to: str
    where: Annotated[str, Is("Where the rule stands.")]


class ConnectAnswer(NamedTuple):
    """What `tcpdoctor explain --connect HOST:PORT --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.connect/1"]
    host: Host
    taken_at: Time
    source: Reading[str]
    destination: str
    summary: str
    connect: PortsLeft
    bind_then_connect: BindFirst
    range: Reading[tuple[PortNumber, PortNumber]]
    route: Reading[WayThere]
    listens_here: Annotated[bool | None, Is("null: another host's, or not known.")]
    other_addresses: tuple[str, ...]
    owners: tuple[OwnerCount, ...]
    held_by_no_process: Count
    advice: tuple[str, ...]
    does_not_help: tuple[str, ...]
    doubts: tuple[str, ...]
    source_port: PortNumber | None
    user: str | None
    time_wait: str
    """What happens to a TIME_WAIT towards the destination, in words."""
    listeners: tuple[ListenerThere, ...]
    sockets: tuple[SocketsTowards, ...]
    redirects: tuple[RedirectThere, ...]
    findings: tuple[ToldFinding, ...]
    unchecked: tuple[Unchecked, ...]
    missing: Reasons
    not_looked: Annotated[
        str | None,
        Is("Why what may stop the connection or lead it elsewhere was not all looked at; null: it was."),
    ]


class Client(NamedTuple):
    """Who connects, as far as it is said."""

    source: str | None = None
    """``ADDR``, ``ADDR:PORT`` or ``:PORT``."""
    user: str | None = None
    """Name or number; None: the calling user."""
    look_up: bool = True
    """Whether a destination given as a name may be looked up."""
    netns: str = ""
    """What `--netns` leads to where this is asked, as a shell takes it; for the commands that are named."""


_CONNECTED = (
    TcpState.ESTABLISHED,
    TcpState.SYN_SENT,
    TcpState.FIN_WAIT_1,
    TcpState.FIN_WAIT_2,
    TcpState.TIME_WAIT,
    TcpState.CLOSE_WAIT,
    TcpState.LAST_ACK,
    TcpState.CLOSING,
)
_SYSCTLS = (
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_orphan_retries",
    "net.ipv4.tcp_rto_max_ms",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_tw_reuse_delay",
)
_OWNER_SECONDS = 2.0
_WINDOW = 1.0
"""Seconds between the two looks, as of `check`."""
_MOST_PORTS = 65_536
"""No more sockets than that can go from one address to one destination."""


def look_at_connection(host_port: str, client: Client) -> ConnectAnswer:
    """Say whether a client gets a local port towards HOST:PORT and what it meets there.

    Where sockets go there, or this host listens there, `check`'s rules are asked as well, with two looks.

    Raises:
        QuestionError: The destination, the source or the user is none, or the ports in use cannot be read.
    """
    taken_at = moment()
    journey, scene, answer = predict_from_here(host_port, client)
    diagnosis = _diagnose(journey, scene)
    return _told(journey, scene, answer, diagnosis, client, read_identity(), taken_at)


def predict_from_here(host_port: str, client: Client) -> tuple[Journey, Scene, ConnectPrediction]:
    """Gather what the answer is made of, and predict; errors as `look_at_connection`."""
    uid = None if client.user is None else find_user(client.user)
    if isinstance(uid, Missing):
        raise QuestionError(f"--user {client.user}: {uid.reason}; give a name or a number")
    journey = _journey(host_port, client, uid)
    scene = _scene(journey, Settings(read_sysctls(_SYSCTLS)), uid)
    answer = predict_connect(journey, scene)
    if isinstance(answer, Missing):
        raise QuestionError(f"the ports in use could not be read: {answer.reason}")
    return journey, scene, answer


def _diagnose(journey: Journey, scene: Scene) -> Diagnosis:
    """Ask the rules; where nothing goes there and nobody listens there is nothing to ask about."""
    listeners = scene.listeners if isinstance(scene.listeners, tuple) else ()
    if not scene.towards and not listeners:
        return Diagnosis((), (), 0)
    from tcpdoctor.answers.rules import load_rules
    from tcpdoctor.diagnosis.evaluate import diagnose_destination
    from tcpdoctor.kernel.live import take_samples

    return diagnose_destination(
        load_rules().rules,
        take_samples(_WINDOW, every_listener=bool(listeners)),
        Endpoint(journey.destination, journey.port),
        journey.source,
        listeners,
    )


def _told(
    journey: Journey,
    scene: Scene,
    answer: ConnectPrediction,
    diagnosis: Diagnosis,
    client: Client,
    who: Identity,
    taken_at: float,
) -> ConnectAnswer:
    owners, unheld, hidden = _owners(scene.towards)
    told = _teller(scene)
    no_source = Missing("the kernel chooses none, because no route leads there")
    return ConnectAnswer(
        schema="tcpdoctor.connect/1",
        host=host_of(who),
        taken_at=utc(taken_at),
        source=no_source if journey.source is None else journey.source,
        destination=journey.where,
        summary=connect_verdict(journey, scene, answer),
        connect=_ports_left(scene, answer),
        bind_then_connect=BindFirst(
            answer.bind_first.errno,
            told(answer.bind_first.free),
            tuple(OwnPort(*one) for one in answer.from_port),
            answer.bind_first.certain,
        ),
        range=told((scene.ports.low, scene.ports.high)),
        route=_way_there(journey.route),
        listens_here=scene.listens,
        other_addresses=journey.others,
        owners=owners,
        held_by_no_process=unheld,
        advice=connect_advice(journey, scene, answer),
        does_not_help=connect_avoid(journey, scene, answer),
        doubts=answer.doubts,
        source_port=journey.source_port or None,
        user=client.user,
        time_wait=f"unknown: {scene.reuse.reason}" if isinstance(scene.reuse, Missing) else str(scene.reuse),
        listeners=_listeners_there(scene),
        sockets=_sockets_towards(scene.towards),
        redirects=tuple(RedirectThere(str(one.to), one.where) for one in scene.redirects.found),
        findings=tuple(map(told_finding, diagnosis.findings)),
        unchecked=tuple(rule for rule in diagnosis.unchecked if rule.applies),
        missing={"owners": hidden} if hidden else {},
        not_looked=scene.not_looked or None,
    )


def _ports_left(scene: Scene, answer: ConnectPrediction) -> PortsLeft:
    reuse, told = scene.reuse, _teller(scene)
    return PortsLeft(
        verdict=answer.verdict,
        certain=answer.certain,
        usable_ports=told(answer.usable),
        used=told(answer.used),
        free=told(answer.free),
        free_perhaps=told(answer.doubtful),
        used_by_state={state.key: number for state, number in answer.used_by_state.items()},
        lost_to_bound_sockets=told(answer.lost),
        time_wait_counts=reuse if isinstance(reuse, Missing) else not reuse.allowed,
        time_wait_reusable=told(answer.reusable),
        next_free_in_s=None if answer.next_free is None else round(answer.next_free, 3),
        stage=answer.stage,
    )


def _teller(scene: Scene) -> Callable[[T], Reading[T]]:
    """Return what keeps numbers back that hang on settings which are not known."""
    unknown = scene.ports.unknown
    return lambda number: Missing(unknown) if unknown else number


def _way_there(route: Reading[Route | NoRoute]) -> Reading[WayThere]:
    match route:
        case Route(source, interface, gateway, kind, hop):
            known = hop if isinstance(hop, NextHop) else None
            seen = (None, None) if known is None else (known.carrier, known.neighbour or None)
            return WayThere(source, interface, gateway, kind, None, *seen)
        case NoRoute(errno):
            return WayThere(None, None, None, None, errno, None, None)
    return route


def _listeners_there(scene: Scene) -> tuple[ListenerThere, ...]:
    if not isinstance(scene.listeners, tuple):
        return ()
    there = []
    for row in scene.listeners:
        holder = row.owner.holders[0] if isinstance(row.owner, Held) else None
        there.append(
            ListenerThere(
                str(row.local),
                told_number(row.accept_queue),
                row.accept_limit,
                None if holder is None else holder.pid,
                None if holder is None else holder.name,
            )
        )
    return tuple(there)


def _sockets_towards(rows: Sequence[Connection]) -> tuple[SocketsTowards, ...]:
    by_state: dict[TcpState, list[Connection]] = {}
    for row in rows:
        by_state.setdefault(row.state, []).append(row)
    return tuple(_of_state(state, by_state[state]) for state in _CONNECTED if state in by_state)


def _of_state(state: TcpState, rows: Sequence[Connection]) -> SocketsTowards:
    waits = outstanding(rows)
    ages = [age.low for age in map(age_in_one_look, rows) if not math.isinf(age.high)]
    return SocketsTowards(
        state=state,
        sockets=len(rows),
        oldest_s=round(max(ages), 3) if ages else None,
        unanswered=waits.unanswered,
        unacknowledged_bytes=waits.unacknowledged_bytes,
        unread_bytes=waits.unread_bytes,
        unanswered_s=waits.unanswered_for,
    )


def _journey(host_port: str, client: Client, uid: int | None) -> Journey:
    ends = parse_ends(host_port, client.source, look_up=client.look_up)
    to, mine = ends.destination, ends.source
    named = None if mine is None or mine.address in ("0.0.0.0", "::") else mine
    bound = None if named is None or _is_of_many(named) else named
    source_port = 0 if mine is None else mine.port
    interface = wanted_device(to) or (wanted_device(bound) if bound else 0)
    route = _refusal(to, mine, interface, uid) or _without_way(
        find_route(
            to.family,
            to.address,
            to.port,
            bound.address if bound else None,
            interface,
            source_port=source_port,
            uid=uid,
        ),
        to,
        bound,
    )
    chosen = bound.address if bound else route.source if isinstance(route, Route) else None
    return Journey(
        family=to.family,
        source=chosen,
        bound=named.address if named else None,
        destination=to.address,
        port=to.port,
        route=route,
        interface=interface,
        zone=ends.zone,
        others=ends.others,
        source_port=source_port,
        netns=client.netns,
    )


def _is_of_many(source: Target) -> bool:
    """Whether it is a broadcast or multicast address, for which __inet_bind() leaves the source open."""
    if source.family != 4:
        return False  # bind() refuses those of IPv6
    if ip_address(source.address).is_multicast or source.address == "255.255.255.255":
        return True
    route = find_route(4, source.address, ANY_PORT, None)
    return isinstance(route, Route) and route.kind == "broadcast"


def _without_way(
    route: Reading[Route | NoRoute], to: Target, source: Target | None
) -> Reading[Route | NoRoute]:
    """Add what the routing tables do not say: IPv6 without any address here, and a loopback that is down."""
    if to.family == 6 and source is None and not isinstance(route, Missing):
        ours = read_local_addresses().ipv6
        if not isinstance(ours, Missing) and all(one.tentative for one in ours):
            return NoRoute("EADDRNOTAVAIL", _NO_IPV6)  # ip6_dst_lookup_tail() asks for a source first
    if isinstance(route, Route) and route.kind == "local" and is_loopback_down():
        return NoRoute("ETIMEDOUT", "the interface lo is down, and what stays on this host passes it")
    if isinstance(route, Route) and route.kind == "unicast":
        ipsec = find_ipsec(route.source if source is None else source.address, to.address, to.port)
        if ipsec == "blocks":
            return NoRoute("EPERM", "a policy of IPsec blocks it (ip xfrm policy)")
        return route._replace(protected=ipsec == "protects")
    return route


_NO_IPV6 = (
    "there is no IPv6 address here that the connection could come from (IPv6 is off, or has none yet); "
    "no port is missing"
)


def _refusal(to: Target, source: Target | None, interface: int, uid: int | None) -> NoRoute | None:
    """The error that comes before any route is looked up: of bind() to the source, or of the scope."""
    if source is not None:
        obstacle = find_obstacle(source._replace(port=source.port or ANY_PORT), read_bind_rules(uid))
        if obstacle is not None and not isinstance(obstacle, Missing):
            return NoRoute(obstacle.errno, obstacle.why, at_bind=True)
    if to.family == 6 and is_link_local(to) and not interface:
        why = f"{to.address} is a link-local address and names no interface, as {to.address}%eth0 does"
        return NoRoute("EINVAL", why)  # tcp_v6_connect()
    return None


def _scene(journey: Journey, settings: Settings, uid: int | None) -> Scene:
    ports = _ports(settings)
    vrfs = read_vrfs()
    only = SocketFilter(local=journey.source, remote=journey.destination)
    detail = read_connections(_CONNECTED, remote_port=journey.port, only=only, bound=_MOST_PORTS)
    towards: tuple[Connection, ...] = ()
    complete: Reading[bool] = True
    if isinstance(detail, Missing):
        complete = detail
    elif journey.source is not None:
        towards = tuple(row for found in detail.values() for row in found.connections if _goes(row, journey))
        complete = _completeness(detail.values())
    local = isinstance(journey.route, Route) and journey.route.kind == "local"
    listeners = _listeners(journey) if local else None
    redirects = _redirects(journey, stays=local)
    return Scene(
        ports,
        towards,
        read_port_use(
            ports.low,
            ports.high,
            interface=journey.interface,
            vrfs={} if isinstance(vrfs, Missing) else vrfs,  # nor could a route be asked for then
        ),
        port_reuse(settings, journey.source or "", journey.destination),
        complete,
        settings.sysctls,
        listeners=listeners,
        signed=_signed(journey, listeners) if isinstance(listeners, tuple) else False,
        signers_hidden=why_signers_hidden(journey.port) if listeners else "",
        programs=_programs(journey, listeners),
        perhaps=tuple(filter(None, _signs(stays=local))),
        not_looked=why_rules_unread()
        or "; ".join(filter(None, (why_programs_unread(), *redirects.not_looked))),
        redirects=redirects,
        binds=_binds(journey, uid),
        filters=read_filters(journey.port, local=local) if isinstance(journey.route, Route) else NO_FILTERS,
    )


def _ports(settings: Settings) -> Ports:
    """The ports that the kernel chooses from; its defaults, and why, where the settings are not known."""
    ends, reserved = ephemeral_range(settings), reserved_ports(settings)
    reasons = dict.fromkeys(part.reason for part in (ends, reserved) if isinstance(part, Missing))
    low, high = DEFAULT_PORTS if isinstance(ends, Missing) else ends
    return Ports(low, high, () if isinstance(reserved, Missing) else reserved, "; ".join(reasons))


def _completeness(details: Iterable[Detail]) -> Reading[bool]:
    if any(found.total > len(found.connections) for found in details):
        return Missing("there were too many sockets with these ends to look at all of them")
    return True


def _goes(row: Connection, journey: Journey) -> bool:
    """Whether a socket may lead out by the interface that the client is tied to, if it is to any."""
    return not journey.interface or row.device in (0, journey.interface)


def _binds(journey: Journey, uid: int | None) -> tuple[Attempt, ...]:
    """What bind() to the client's own port answers; nothing is asked where it names none."""
    if not journey.source_port or (isinstance(journey.route, NoRoute) and journey.route.at_bind):
        return ()
    from tcpdoctor.diagnosis.port import answer  # large, and only clients that name their port need it
    from tcpdoctor.kernel.port_evidence import read_port_evidence

    any_address = "0.0.0.0" if journey.family == 4 else "::"
    address = journey.bound or any_address
    evidence = read_port_evidence(journey.source_port)
    if uid is not None:
        evidence = evidence._replace(uid=uid, rules=read_bind_rules(uid))
    target = Target(journey.family, address, journey.interface, journey.source_port)
    return answer(target, evidence).attempts


def _owners(rows: Sequence[Connection]) -> tuple[tuple[OwnerCount, ...], int, str]:
    """How many sockets each process holds, how many nobody does, and of how many that is hidden and why."""
    found = find_owners({row.inode: row.uid for row in rows if row.inode}, seconds=_OWNER_SECONDS)
    held: Counter[int] = Counter()
    first: dict[int, Holder] = {}
    hidden: Counter[str] = Counter()
    unheld = 0
    for row in rows:
        match found.get(row.inode, NotHeld()):
            case Held(holders):
                held[holders[0].pid] += 1
                first.setdefault(holders[0].pid, holders[0])
            case Missing(reason):
                hidden[reason] += 1
            case _:
                unheld += 1
    owners = tuple(
        OwnerCount(pid, first[pid].name, told_number(first[pid].uid), number)
        for pid, number in held.most_common()
    )
    told = (f"{number} socket{'' if number == 1 else 's'}: {why}" for why, number in hidden.items())
    return owners, unheld, "; ".join(told)


def _listeners(journey: Journey) -> Reading[tuple[Listener, ...]]:
    """The listeners of this host that connections to the destination come to, with their owners."""
    every = read_listeners(local_port=journey.port)
    if isinstance(every, Missing):
        return every
    tied = any(row.device for row in every)
    entrance = journey.interface or (interface_of(journey.family, journey.destination) if tied else None)
    there = _nearest([row for row in every if _answers(row, journey, entrance)])
    return with_owners(there, find_owners({row.inode: row.uid for row in there}, seconds=_OWNER_SECONDS))


def _signed(journey: Journey, listeners: Iterable[Listener]) -> bool:
    """Whether a listener there takes what comes from the source with a TCP-MD5 signature only."""
    signers = find_signers(journey.port)
    networks = [network for row in listeners for network in signers.get(row.inode, ())]
    source = None if journey.source is None else ip_address(journey.source)
    return any(source is None or source in ip_network(network, strict=False) for network in networks)


def _programs(journey: Journey, listeners: Reading[tuple[Listener, ...]] | None) -> tuple[str, ...]:
    """The hooks at which programs decide: over this process, over who is there, and who that is."""
    rows = listeners if isinstance(listeners, tuple) else ()
    arrival = find_arrival_programs({row.cgroup for row in rows if isinstance(row.cgroup, int)})
    theirs = tuple(f"{hook} of the listener" for hook in arrival)
    here = ("sk_lookup",) if listeners is not None and looks_up_sockets() else ()
    return (*find_programs("connect", journey.family), *theirs, *here)


def _answers(row: Listener, journey: Journey, entrance: int | None) -> bool:
    """Whether connections to the destination come to this listener; `entrance` has that address."""
    if row.device and row.device != entrance:
        return False
    ipv4 = four(row.family, row.local.address)
    if ipv4 is not None:
        return journey.family == 4 and ipv4 in ("0.0.0.0", journey.destination)
    if row.local.address == "::":
        return journey.family == 6 or not row.v6only
    return row.local.address == journey.destination


def _nearest(listeners: Sequence[Listener]) -> tuple[Listener, ...]:
    """Those that the kernel prefers: on the address itself before the wildcard (inet_lhash2_lookup())."""
    wild = ("0.0.0.0", "::", "::ffff:0.0.0.0")
    exact = tuple(row for row in listeners if row.local.address not in wild)
    return exact or tuple(listeners)


def _signs(*, stays: bool) -> tuple[str, ...]:
    """What tells that something decides over the connection that nobody without privilege may look at."""
    return sign_of_rules(), sign_of_programs("connect"), "" if stays else sign_of_ipsec()


def _redirects(journey: Journey, *, stays: bool) -> Redirects:
    """The rules that send the connection elsewhere before it leaves, or comes to a listener."""
    if not isinstance(journey.route, Route):
        return Redirects((), ())
    return read_sent_redirects(journey.port, journey.destination, stays=stays)
