"""What `explain --connect` has to say, whatever the format."""

import socket
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tcpdoctor.diagnosis.bind import Target, find_obstacle, four, is_link_local, parse_target, wanted_device
from tcpdoctor.diagnosis.connect import ConnectAnswer, Journey, Ports, Scene, predict_connect
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.portrange import ephemeral_range, port_reuse, reserved_ports
from tcpdoctor.kernel.connect_evidence import NoRoute, Route, find_route, read_port_use
from tcpdoctor.kernel.live import take_snapshot
from tcpdoctor.kernel.namespaces import Identity, read_identity
from tcpdoctor.kernel.owners import find_owners
from tcpdoctor.kernel.port_evidence import read_bind_rules
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Detail, Held, Holder, Listener, NotHeld, Snapshot
from tcpdoctor.kernel.sockets import read_connections, read_listeners
from tcpdoctor.kernel.states import TcpState


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


# `tcpdoctor explain --connect`: look, predict, print. Nothing is bound and nothing connected.


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
_OWNER_SECONDS = 2.0
_MOST_PORTS = 65_536
"""No more sockets than that can go from one address to one destination."""


def look(host_port: str, source: str | None) -> ConnectReport:
    """Gather what the answer is made of, and predict; errors as `answer_connect`."""
    taken_at = time.time()
    journey = _journey(host_port, source)
    snapshot = take_snapshot(owners=False, census=False)
    scene = _scene(journey, snapshot)
    answer = predict_connect(journey, scene)
    if isinstance(answer, Missing):
        raise QuestionError(f"the ports in use could not be read: {answer.reason}")
    holders, hidden, unheld = _owners(scene.towards)
    listens = (
        _listens(journey) if isinstance(journey.route, Route) and journey.route.kind == "local" else None
    )
    return ConnectReport(read_identity(), taken_at, journey, scene, answer, holders, hidden, unheld, listens)


class Ends(NamedTuple):
    """Where to, and from where if the client says so."""

    destination: Target
    zone: str
    """Name of the interface behind the % of the destination."""
    others: tuple[str, ...]
    source: Target | None


def parse_ends(host_port: str, source: str | None) -> Ends:
    """Read ``10.0.0.5:5432``, ``[::1]:80``, ``[fe80::1%eth0]:80`` or ``name:443``, and the client's address.

    Of a name with several addresses it is the first of the source's family, in the order of getaddrinfo().

    Raises:
        QuestionError: One of them is no such thing.
    """
    host, colon, port = host_port.strip().rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= 65535:
        raise QuestionError(f"--connect {host_port}: no destination; {_EXAMPLE}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise QuestionError(f"--connect {host_port}: an IPv6 address stands in brackets; {_EXAMPLE}")
    ours = None if source is None else _source(source)
    zone = host.partition("%")[2]
    if zone:
        found = [_address(f"--connect {host_port}", host, int(port))]
    else:
        found = _resolve(host_port, host, int(port))
    fit = [target for target in found if ours is None or target.family == ours.family]
    if not fit:
        raise QuestionError(
            f"--source {source}: the destination has another family; give an address of its kind"
        )
    others = tuple(target.address for target in found if target != fit[0])
    return Ends(fit[0], _name(fit[0].scope) if zone else "", others, ours)


_EXAMPLE = "give it as HOST:PORT, for example 10.0.0.5:5432 or [::1]:80"


def _resolve(host_port: str, host: str, port: int) -> list[Target]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else "no name of a host"
        raise QuestionError(f"--connect {host_port}: {host}: {why}; {_EXAMPLE}") from error
    targets = [
        _reachable(Target(4 if family == socket.AF_INET else 6, str(end[0]), 0, port))
        for family, _, _, _, end in found
    ]
    return list(dict.fromkeys(targets))


def _reachable(target: Target) -> Target:
    """What connect() takes the address for: 0.0.0.0 and :: mean this host, a mapped address is IPv4."""
    address = target.address.partition("%")[0]
    ipv4 = four(target.family, address)
    if ipv4 is not None:
        return target._replace(family=4, address="127.0.0.1" if ipv4 == "0.0.0.0" else ipv4)
    return target._replace(address="::1" if address == "::" else address)


def _address(question: str, text: str, port: int) -> Target:
    interfaces = {name: index for index, name in socket.if_nameindex()}
    try:
        return _reachable(parse_target(text, port, interfaces))
    except QuestionError as error:
        raise QuestionError(f"{question}: {str(error).partition(': ')[2]}") from error


def _source(text: str) -> Target:
    """The client's address; a wildcard stays one. The rest of it is checked as a server's would be."""
    interfaces = {name: index for index, name in socket.if_nameindex()}
    try:
        target = parse_target(text, 65535, interfaces)
    except QuestionError as error:
        raise QuestionError(f"--source {text}: {str(error).partition(': ')[2]}") from error
    ipv4 = four(target.family, target.address)
    return target if ipv4 is None else target._replace(family=4, address=ipv4)


def _name(interface: int) -> str:
    try:
        return socket.if_indextoname(interface)
    except OSError:
        return str(interface)


def _journey(host_port: str, source: str | None) -> Journey:
    ends = parse_ends(host_port, source)
    to, mine = ends.destination, ends.source
    bound = None if mine is None or mine.address in ("0.0.0.0", "::") else mine
    interface = wanted_device(to) or (wanted_device(bound) if bound else 0)
    route = _refusal(to, bound, interface) or find_route(
        to.family, to.address, to.port, bound.address if bound else None, interface
    )
    chosen = bound.address if bound else route.source if isinstance(route, Route) else None
    return Journey(
        family=to.family,
        source=chosen,
        bound_source=bound is not None,
        destination=to.address,
        port=to.port,
        route=route,
        interface=interface,
        zone=ends.zone,
        others=ends.others,
    )


def _refusal(to: Target, source: Target | None, interface: int) -> NoRoute | None:
    """The error that comes before any route is looked up: of bind() to the source, or of the scope."""
    if source is not None:
        obstacle = find_obstacle(source, read_bind_rules())
        if obstacle is not None and not isinstance(obstacle, Missing):
            return NoRoute(obstacle.errno, obstacle.why, at_bind=True)
    if to.family == 6 and is_link_local(to) and not interface:
        why = f"{to.address} is a link-local address and names no interface, as {to.address}%eth0 does"
        return NoRoute("EINVAL", why)  # tcp_v6_connect()
    return None


def _scene(journey: Journey, snapshot: Snapshot) -> Scene:
    ends, reserved = ephemeral_range(snapshot), reserved_ports(snapshot)
    if isinstance(ends, Missing):
        raise QuestionError(f"the range of local ports could not be read: {ends.reason}")
    if isinstance(reserved, Missing):
        raise QuestionError(f"the reserved ports could not be read: {reserved.reason}")
    detail = read_connections(_CONNECTED, remote_port=journey.port, bound=_MOST_PORTS)
    towards: tuple[Connection, ...] = ()
    complete: Reading[bool] = True
    if isinstance(detail, Missing):
        complete = detail
    else:
        towards = tuple(row for found in detail.values() for row in found.connections if _goes(row, journey))
        complete = _completeness(detail.values())
    return Scene(
        Ports(ends[0], ends[1], reserved),
        towards,
        read_port_use(ends[0], ends[1]),
        port_reuse(snapshot, journey.source or "", journey.destination),
        complete,
        snapshot.sysctls,
    )


def _completeness(details: Iterable[Detail]) -> Reading[bool]:
    if any(found.total > len(found.connections) for found in details):
        return Missing("there were too many sockets with this peer port to look at all of them")
    return True


def _goes(row: Connection, journey: Journey) -> bool:
    """Whether a socket has exactly these ends, whatever family its process chose for it."""
    local, remote = (four(row.family, end.address) or end.address for end in (row.local, row.remote))
    here = not journey.interface or row.device == journey.interface
    return here and local == journey.source and remote == journey.destination


def _owners(rows: Iterable[Connection]) -> tuple[dict[Holder, int], dict[str, int], int]:
    """How many sockets each process holds, how many are hidden by reason, how many nobody holds."""
    sockets = tuple(rows)
    found = find_owners({row.inode: row.uid for row in sockets if row.inode}, seconds=_OWNER_SECONDS)
    held: Counter[int] = Counter()
    first: dict[int, Holder] = {}
    hidden: Counter[str] = Counter()
    unheld = 0
    for row in sockets:
        match found.get(row.inode, NotHeld()):
            case Held(holders):
                held[holders[0].pid] += 1
                first.setdefault(holders[0].pid, holders[0])
            case Missing(reason):
                hidden[reason] += 1
            case _:
                unheld += 1
    return {first[pid]: number for pid, number in held.most_common()}, dict(hidden), unheld


def _listens(journey: Journey) -> bool | None:
    listeners = read_listeners(local_port=journey.port)
    if isinstance(listeners, Missing):
        return None
    return any(_answers(row, journey) for row in listeners)


def _answers(row: Listener, journey: Journey) -> bool:
    """Whether connections to the destination come to this listener."""
    ipv4 = four(row.family, row.local.address)
    if ipv4 is not None:
        return journey.family == 4 and ipv4 in ("0.0.0.0", journey.destination)
    if row.local.address == "::":
        return journey.family == 6 or not row.v6only
    return row.local.address == journey.destination
