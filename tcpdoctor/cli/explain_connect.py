"""`tcpdoctor explain --connect`: look, predict, print. Nothing is bound and nothing connected."""

import socket
import time
from collections import Counter
from collections.abc import Iterable

from tcpdoctor.cli.output import Output, emit, style_of
from tcpdoctor.diagnosis.bind import four
from tcpdoctor.diagnosis.bind_address import find_obstacle, parse_target
from tcpdoctor.diagnosis.connect import Journey, Ports, Scene, predict_connect
from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.port_reuse import port_reuse
from tcpdoctor.facts.portrange import ephemeral_range, reserved_ports
from tcpdoctor.kernel.bind_rules import read_bind_rules
from tcpdoctor.kernel.identity import read_identity
from tcpdoctor.kernel.live import take_snapshot
from tcpdoctor.kernel.owners import find_owners
from tcpdoctor.kernel.port_use import read_port_use
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.routes import NoRoute, Route, find_route
from tcpdoctor.kernel.snapshot import Connection, Detail, Held, Holder, NotHeld, Snapshot
from tcpdoctor.kernel.sockets import read_connections, read_listeners
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.report.connect import ConnectReport

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


def answer_connect(host_port: str, source: str | None, output: Output) -> None:
    """Say whether a client gets a local port towards HOST:PORT, who holds them, and what to do.

    Raises:
        QuestionError: The destination or the source is none, or this host's ports could not be read.
    """
    report = look(host_port, source)
    if output.format == "json":
        import json

        from tcpdoctor.report.connect_json import connect_json

        emit(json.dumps(connect_json(report), indent=1, allow_nan=False), output)
    else:
        from tcpdoctor.report.connect_text import connect_text

        emit(connect_text(report, style_of(output)), output)


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


def parse_destination(host_port: str) -> tuple[int, str, int]:
    """Return family (4 or 6), numeric address and port of ``10.0.0.5:5432``, ``[::1]:80`` or ``name:443``.

    Raises:
        QuestionError: It is none of these, or the name has no address.
    """
    host, colon, port = host_port.strip().rpartition(":")
    example = "give it as HOST:PORT, for example 10.0.0.5:5432 or [::1]:80"
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= 65535:
        raise QuestionError(f"--connect {host_port}: no destination; {example}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise QuestionError(f"--connect {host_port}: an IPv6 address stands in brackets; {example}")
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else "no name of a host"
        raise QuestionError(f"--connect {host_port}: {host}: {why}; {example}") from error
    family, address = found[0][0], str(found[0][4][0])
    if family == socket.AF_INET:
        return 4, "127.0.0.1" if address == "0.0.0.0" else address, int(port)
    ipv4 = four(6, address)
    if ipv4 is not None:
        return 4, ipv4, int(port)
    return 6, "::1" if address == "::" else address.partition("%")[0], int(port)


def _journey(host_port: str, source: str | None) -> Journey:
    family, destination, port = parse_destination(host_port)
    bound = _source(family, source) if source is not None else None
    obstacle = _unusable(bound)
    route: Reading[Route | NoRoute] = obstacle or find_route(family, destination, bound)
    chosen = bound or (route.source if isinstance(route, Route) else None)
    return Journey(family, chosen or "an unknown address", bound is not None, destination, port, route)


def _source(family: int, source: str) -> str:
    """The address in canonical form; the rest of the question is checked as a server's would be."""
    try:
        target = parse_target(source, 65535, {name: index for index, name in socket.if_nameindex()})
    except QuestionError as error:
        raise QuestionError(f"--source {source}: no IP address; give it in numbers") from error
    address = four(target.family, target.address) or target.address
    if (":" in address) != (family == 6):
        raise QuestionError(
            f"--source {source}: the destination has another family; give an address of its kind"
        )
    return address


def _unusable(source: str | None) -> NoRoute | None:
    """The error that bind() to the source address answers before any route is looked up."""
    if source is None or source in ("0.0.0.0", "::"):
        return None
    obstacle = find_obstacle(parse_target(source, 65535, {}), read_bind_rules())
    return None if obstacle is None or isinstance(obstacle, Missing) else NoRoute(obstacle.errno)


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
        port_reuse(snapshot, journey.source, journey.destination),
        complete,
    )


def _completeness(details: Iterable[Detail]) -> Reading[bool]:
    if any(found.total > len(found.connections) for found in details):
        return Missing("there were too many sockets with this peer port to look at all of them")
    return True


def _goes(row: Connection, journey: Journey) -> bool:
    """Whether a socket has exactly these ends, whatever family its process chose for it."""
    local, remote = (four(row.family, end.address) or end.address for end in (row.local, row.remote))
    return local == journey.source and remote == journey.destination


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
    wildcards = ("0.0.0.0", "::")
    return any(
        (four(row.family, row.local.address) or row.local.address) in (journey.destination, *wildcards)
        for row in listeners
    )
