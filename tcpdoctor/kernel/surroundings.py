"""What decides about a port or a connection besides the sockets, taken whole so that it can be recorded.

Live, each question asks the kernel for its own port, destination or process. A recording has to know the
answers before it is asked: of the rules of nft and iptables for every port there is, of the routes for the
destinations that its sockets have, of the processes for those that hold them.
"""

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from tcpdoctor.kernel.addresses import LocalAddresses, is_loopback_down
from tcpdoctor.kernel.bind_rules import BindRules, read_bind_rules
from tcpdoctor.kernel.carriers import find_container_at
from tcpdoctor.kernel.cgroups import find_cgroup_paths
from tcpdoctor.kernel.connect_evidence import NoRoute, Route, find_route, interface_of
from tcpdoctor.kernel.packet_rules import TCP, UDP, Redirect, Wanted
from tcpdoctor.kernel.processes import Lineage, read_lineage
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.redirects import Filters, Redirects, find_filters, find_redirects
from tcpdoctor.kernel.snapshot import Connection, Held, Listener, UdpSocket, plain_address
from tcpdoctor.kernel.standing import Kin, Standing, read_standings
from tcpdoctor.kernel.text import clean
from tcpdoctor.named_tuples import NamedTuple

T = TypeVar("T")

_SECONDS = 1.0
"""CPU time for the rules of each kind, some of which are read again for every port that they name."""
_MOST_SPANS = 4_096
"""Ports at which the answer changes."""
_MOST_ROUTES, _MOST_HERE = 1_000, 64
"""Destinations, and addresses of this host among them."""
_MOST_PROCESSES, _MOST_KIN, _MOST_LINEAGES = 500, 5_000, 2_000
"""Holders, processes around them, and descriptors of theirs. What was left out is told as not looked at."""
_CONTAINERS = 32
"""Addresses that packets are sent to of which the container is looked up."""


class RedirectsFrom(NamedTuple):
    """Where the ports from one on are sent, up to the next that is listed."""

    port: int
    told: Redirects


class FiltersFrom(NamedTuple):
    """What stops packets to the ports from one on, up to the next that is listed."""

    port: int
    told: Filters


class RouteTo(NamedTuple):
    """The way to one destination."""

    address: str
    interface: int
    """Index of the interface that the socket is tied to; 0 for none."""
    route: Reading[Route | NoRoute]
    entrance: int | None
    """Index of the interface that has the address, where it is this host's."""


class Traces(NamedTuple):
    """How one descriptor of a process came to be."""

    pid: int
    fd: int
    lineage: Reading[Lineage]


class Surroundings(NamedTuple):
    """All that was found around the sockets of one network namespace."""

    rules: BindRules
    """For the user who looked."""
    loopback_down: bool
    routes: tuple[RouteTo, ...]
    redirects: Reading[tuple[RedirectsFrom, ...]]
    """Of TCP, for this host's addresses; ascending by port, from 0 on."""
    redirects_anywhere: Reading[tuple[RedirectsFrom, ...]]
    """Of TCP, for any address."""
    redirects_udp: Reading[tuple[RedirectsFrom, ...]]
    """Of UDP, for this host's addresses."""
    filters_out: Reading[tuple[FiltersFrom, ...]]
    """Of what leaves this host."""
    filters_here: Reading[tuple[FiltersFrom, ...]]
    """Of what stays on this host."""
    standings: Mapping[int, Reading[Standing]]
    """By pid; without ancestors and without the members of its unit, which `kin` has."""
    kin: tuple[Kin, ...]
    """Those processes, their ancestors, and the other members of their units."""
    traces: tuple[Traces, ...]
    groups: Mapping[int, str]
    """Paths of the control groups of listeners that systemd holds, by id."""


def take_surroundings(
    sockets: Sequence[Connection | Listener], udp: Sequence[UdpSocket] = ()
) -> Surroundings:
    """Look around these sockets, whose owners are known.

    Raises:
        KernelReadError: The kernel answered in a way we do not understand.
    """
    rules = read_bind_rules()
    here, anywhere = rules.addresses, None
    holders = _holders([*sockets, *udp])
    standings, kin = _standings(holders, [row for row in sockets if isinstance(row, Listener)])
    return Surroundings(
        rules=rules,
        loopback_down=is_loopback_down(),
        routes=_routes(sockets, here),
        redirects=_redirects(TCP, here),
        redirects_anywhere=_redirects(TCP, anywhere),
        redirects_udp=_redirects(UDP, here),
        filters_out=_filters(local=False),
        filters_here=_filters(local=True),
        standings=standings,
        kin=kin,
        traces=_traces(sockets),
        groups=_groups(sockets),
    )


# Rules are asked for every port at which one of them begins or ceases to apply, so for all ports.


def for_every_port(ask: Callable[[int], tuple[T, Iterable[int]]]) -> Reading[list[tuple[int, T]]]:
    """Return what is answered from each port on, ascending from 0; Missing where it takes too long.

    Args:
        ask: Gives the answer for a port, and ports between which it would have been the same.
    """
    deadline = time.thread_time() + _SECONDS
    answers: dict[int, T] = {}
    waiting = [0]
    while waiting:
        port = waiting.pop()
        if port in answers:
            continue
        if time.thread_time() > deadline or len(answers) > _MOST_SPANS:
            return Missing("they name too many ports to be recorded")
        answers[port], borders = ask(port)
        waiting += [border for border in borders if 0 < border <= 0xFFFF and border not in answers]
    kept: list[tuple[int, T]] = []
    for port, answer in sorted(answers.items(), key=lambda pair: pair[0]):
        if not kept or kept[-1][1] != answer:
            kept.append((port, answer))
    return kept


def _redirects(protocol: int, local: LocalAddresses | None) -> Reading[tuple[RedirectsFrom, ...]]:
    def ask(port: int) -> tuple[Redirects, Iterable[int]]:
        wanted = Wanted(port, protocol, local)
        found, not_looked = find_redirects(wanted)
        return Redirects(tuple(found), not_looked), wanted.borders

    answers = for_every_port(ask)
    if isinstance(answers, Missing):
        return answers
    goals = dict.fromkeys(one.to.address for _, told in answers for one in told.found if one.to.address)
    boxes = {address: find_container_at(address) for address in list(goals)[:_CONTAINERS]}

    def with_container(one: Redirect) -> Redirect:
        box = boxes.get(one.to.address or "")
        return one if isinstance(box, Missing) else one._replace(container=box)

    return tuple(
        RedirectsFrom(port, told._replace(found=tuple(map(with_container, told.found))))
        for port, told in answers
    )


def _filters(*, local: bool) -> Reading[tuple[FiltersFrom, ...]]:
    def ask(port: int) -> tuple[Filters, Iterable[int]]:
        wanted = Wanted(port, TCP, None)
        return find_filters(wanted, local=local), wanted.borders

    answers = for_every_port(ask)
    return answers if isinstance(answers, Missing) else tuple(FiltersFrom(*each) for each in answers)


# Routes to where the sockets lead, and to this host itself.


def _routes(sockets: Iterable[Connection | Listener], here: LocalAddresses) -> tuple[RouteTo, ...]:
    peers = Counter(
        (row.remote.address, row.device, row.remote.port)
        for row in sockets
        if isinstance(row, Connection) and row.remote.port
    )
    wanted: dict[tuple[str, int], int] = {(address, 0): 1 for address in _own_addresses(here)}
    for (address, device, port), _ in peers.most_common():
        if len(wanted) >= _MOST_ROUTES:
            break
        wanted.setdefault((plain_address(address), device if address.startswith("fe8") else 0), port)
    return tuple(_route_to(address, device, port) for (address, device), port in wanted.items())


def _own_addresses(here: LocalAddresses) -> list[str]:
    own = ["127.0.0.1", "::1"]
    if not isinstance(here.ipv4, Missing):
        own += [socket.inet_ntoa(one.network.to_bytes(4, "big")) for one in here.ipv4 if one.length == 32]
    if not isinstance(here.ipv6, Missing):
        own += [one.address for one in here.ipv6 if not one.address.startswith("fe8")]
    return list(dict.fromkeys(own))[:_MOST_HERE]


def _route_to(address: str, device: int, port: int) -> RouteTo:
    family = 6 if ":" in address else 4
    route = find_route(family, address, port, None, device)
    local = isinstance(route, Route) and route.kind == "local"
    return RouteTo(address, device, route, interface_of(family, address) if local else None)


# Processes: those that hold the sockets, and what is around them.


def _holders(rows: Iterable[Connection | Listener | UdpSocket]) -> list[int]:
    """The pids that hold sockets, those with listeners first, then those that hold most."""
    number: Counter[int] = Counter()
    for row in rows:
        for holder in row.owner.holders if isinstance(row.owner, Held) else ():
            number[holder.pid] += 1_000_000 if isinstance(row, Listener) else 1
    return [pid for pid, _ in number.most_common(_MOST_PROCESSES)]


def _standings(
    pids: Sequence[int], listeners: Iterable[Listener]
) -> tuple[dict[int, Reading[Standing]], tuple[Kin, ...]]:
    ports = {row.inode: row.local.port for row in listeners}
    found = read_standings(pids, ports)
    above = {kin.pid: None for one in found.values() if isinstance(one, Standing) for kin in one.ancestors}
    found |= read_standings([pid for pid in above if pid not in found][:_MOST_PROCESSES], ports)
    kin: dict[int, Kin] = {}
    told = [one for one in found.values() if isinstance(one, Standing)]
    for one in told:
        kin |= {each.pid: each for each in (one.kin, *one.ancestors)}
    kept: dict[int, Reading[Standing]] = {}
    for pid, standing in found.items():
        if not isinstance(standing, Standing):
            kept[pid] = standing
            continue
        members = standing.unit_members
        if not isinstance(members, Missing):
            new = {each.pid: each for each in members if each.pid not in kin}
            if len(kin) + len(new) > _MOST_KIN:
                members = Missing("the processes of its unit are too many to be recorded")
            else:
                kin |= new
                members = ()
        kept[pid] = standing._replace(ancestors=(), unit_members=members)
    return kept, tuple(kin.values())


def _traces(sockets: Iterable[Connection | Listener]) -> tuple[Traces, ...]:
    """Those of listeners first, which tell most."""
    held = sorted(
        (
            (not isinstance(row, Listener), holder.fd, holder.pid)
            for row in sockets
            if isinstance(row.owner, Held)
            for holder in row.owner.holders
        ),
    )
    wanted = list(dict.fromkeys((pid, fd) for _, fd, pid in held))[:_MOST_LINEAGES]
    return tuple(Traces(pid, fd, read_lineage(pid, fd)) for pid, fd in wanted)


def _groups(sockets: Iterable[Connection | Listener]) -> Mapping[int, str]:
    ids = {
        row.cgroup
        for row in sockets
        if isinstance(row, Listener) and isinstance(row.cgroup, int) and isinstance(row.owner, Held)
        if any(holder.name in ("systemd", "init") for holder in row.owner.holders)
    }
    return {number: clean(path) for number, path in find_cgroup_paths(ids).items()}


# Put together again.


def standing_again(pid: int, around: Surroundings, listeners: Mapping[int, int]) -> Reading[Standing] | None:
    """Return what stands about a process with its ancestors and its unit; None where it was not looked at."""
    standing = around.standings.get(pid)
    if standing is None or isinstance(standing, Missing):
        return standing
    known = {each.pid: each for each in around.kin}
    ancestors: list[Kin] = []
    kin = standing.kin
    while (parent := known.get(kin.parent)) is not None and parent.pid not in {k.pid for k in ancestors}:
        ancestors.append(parent)
        kin = parent
    place, members = standing.place, standing.unit_members
    path = None if isinstance(place, Missing) else place.unit_path
    if not isinstance(members, Missing) and path:
        of_unit = (each for each in around.kin if each.unit_path == path)
        members = tuple(sorted(of_unit, key=lambda each: (each.started, each.pid)))
    asked = set(listeners.values())
    return standing._replace(
        ancestors=tuple(ancestors),
        unit_members=members,
        listens_on=tuple(port for port in standing.listens_on if port in asked),
    )
