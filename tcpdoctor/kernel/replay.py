# ruff: noqa: D102 - what a method promises stands at the function of its name
"""What the kernel would have said of the sockets, settings and processes of a recording.

`Replay` has a method for each function that `tcpdoctor.kernel.namespaces.replayed` marks, of the same name;
what it promises stands there. Owners are filled in at once, and what the recording does not hold is Missing.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from fnmatch import fnmatchcase
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

from tcpdoctor.kernel.addresses import LocalAddresses
from tcpdoctor.kernel.bind_rules import BindRules
from tcpdoctor.kernel.cgroups import Place
from tcpdoctor.kernel.connect_evidence import NoRoute, PortUse, PortUser, Route
from tcpdoctor.kernel.groups import NO_PEER, Group, Groups, owner_key
from tcpdoctor.kernel.namespaces import Identity
from tcpdoctor.kernel.owners import EveryHolder
from tcpdoctor.kernel.processes import Lineage, Task
from tcpdoctor.kernel.programs import Guarded
from tcpdoctor.kernel.reading import NOT_RECORDED, Missing, Reading, joined
from tcpdoctor.kernel.redirects import NO_FILTERS, Filters, Redirects
from tcpdoctor.kernel.snapshot import (
    Census,
    Connection,
    DeadSockets,
    Detail,
    Endpoint,
    Held,
    Holder,
    Listener,
    Owner,
    Process,
    Samples,
    Snapshot,
    SysctlValue,
    UdpSocket,
)
from tcpdoctor.kernel.sockets import DETAIL_BOUND, EVERY_SOCKET, SocketFilter, StateCounts
from tcpdoctor.kernel.sockopts import Descriptor, OptionValue, SocketOptions
from tcpdoctor.kernel.standing import Standing
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.kernel.surroundings import (
    FiltersFrom,
    RedirectsFrom,
    RouteTo,
    Surroundings,
    standing_again,
)
from tcpdoctor.kernel.survey import Seen
from tcpdoctor.kernel.sysctl import Held as HeldSetting
from tcpdoctor.kernel.sysctl import is_secret
from tcpdoctor.kernel.sysctl_files import Tree
from tcpdoctor.kernel.text import is_whole
from tcpdoctor.kernel.unlisted import Unlisted

_NO_RULES: Reading[tuple[RedirectsFrom, ...]] = Missing(
    "they are not in the recording; record with: tcpdoctor snapshot"
)
_NO_ADDRESSES = Missing("the addresses of the host are not in the recording; record with: tcpdoctor snapshot")
_NO_BOUND = Missing(
    "bound sockets are not in the recording: no printed listing has them, and no kernel before 6.8 lists them"
)
_NO_PROGRAMS = Missing("programs of eBPF are in no recording")
_ABSENT = "is not in the recording"
_PORTS_COUNTED = 16_384
"""So many ports and states are counted at most; of more the rarest count as port 0."""
_MANY, _NEAR = 10_000, 1.1
"""Counts and sockets were not taken in one moment: of few, or nearly as many, none was left out."""


class Replay:
    """A recording that is asked instead of this host."""

    def __init__(
        self,
        samples: Samples,
        sockets: Reading[Sequence[Seen]],
        udp: Reading[tuple[UdpSocket, ...]],
        processes: Mapping[int, Process],
        interfaces: Mapping[str, int],
        settings: Reading[Tree],
        around: Reading[Surroundings] = NOT_RECORDED,
    ) -> None:
        self._samples = samples
        self._sockets = sockets
        self._udp = udp
        self._processes = processes
        self._interfaces = interfaces
        self._settings = settings
        self._around = around

    @property
    def _look(self) -> Snapshot:
        return self._samples.after

    def _seen(self) -> Iterator[Connection | Listener]:
        """The TCP sockets; none where they are not recorded one by one."""
        return iter(()) if isinstance(self._sockets, Missing) else (one.row for one in self._sockets)

    # Where and when, and what the machine is.

    def moment(self) -> float:
        return self._look.taken_at

    def booted_at(self) -> float:
        return self._look.taken_at - self._look.clock

    def asking_uid(self) -> int:
        return self._look.euid

    def bytes_of_page(self) -> int:
        return self._look.page_size

    def pages_of_memory(self) -> Reading[int]:
        return self._look.memory

    def read_identity(self) -> Identity:
        look = self._look
        return Identity(
            look.host, look.kernel, look.namespace, look.namespace_name, look.initial_namespace, look.euid
        )

    def take_samples(self, _window: float, **_how: object) -> Samples:
        return self._samples

    def take_snapshot(self, **_how: object) -> Snapshot:
        return self._look

    def add_owners(self, look: Snapshot, *_which: object, **_how: object) -> Snapshot:
        return look

    # Settings.

    def read_own_tree(self) -> Reading[Tree]:
        return self._settings

    def read_sysctl(self, name: str, _root: str = "") -> Reading[SysctlValue]:
        if is_secret(name):
            return Missing(f"{name} is a secret key, which is never read")
        return self._look.sysctls.get(
            name.replace("/", "."), Missing(f"{name} {_ABSENT}; ask for: sysctl -a")
        )

    def sysctl_names(self, _root: str = "") -> tuple[str, ...]:
        return tuple(sorted(self._look.sysctls))

    def is_setting(self, path: str) -> bool:
        value = self._look.sysctls.get(path.replace("/", "."))
        return value is not None and not isinstance(value, Missing)

    def is_folder(self, path: str) -> bool:
        return any(name.startswith(path.replace("/", ".") + ".") for name in self._look.sysctls)

    def may_be_written(self, _path: str) -> bool | None:
        return None

    def matching(self, pattern: str, _root: str = "") -> tuple[str, ...]:
        places = (name.replace(".", "/") for name in sorted(self._look.sysctls))
        return tuple(place for place in places if fnmatchcase(place, pattern))

    def look_at(self, path: str, _root: str = "") -> HeldSetting:
        value = self.read_sysctl(path)
        told = value if isinstance(value, Missing) else _printed(value)
        return HeldSetting(exists=self.is_setting(path), writable=False, value=told)

    # Sockets.

    def read_listeners(
        self, *, local_port: int | None = None, only: SocketFilter = EVERY_SOCKET, **_how: object
    ) -> Reading[tuple[Listener, ...]]:
        rows: Iterable[Connection | Listener] = self._seen()
        if isinstance(self._sockets, Missing):
            if isinstance(self._look.listeners, Missing):
                return self._look.listeners
            rows = self._look.listeners
        found = tuple(
            row
            for row in rows
            if isinstance(row, Listener) and local_port in (None, 0, row.local.port) and only.accepts(row)
        )
        census = self._look.census
        if not found and isinstance(census, Census) and isinstance(census.complete, Missing):
            return census.complete  # a part of a listing that shows none does not say that there is none
        return found

    def find_signers(self, _port: int) -> Mapping[int, tuple[str, ...]]:
        return {}  # keys are not recorded

    def why_signers_hidden(self, _port: int) -> str:
        return ""

    def find_programs(self, _call: str, _family: int) -> tuple[str, ...]:
        return ()  # nor are programs of eBPF

    def find_ipsec(self, _source: str | None, _destination: str, _port: int) -> str:
        return ""  # nor are policies of IPsec

    def looks_up_sockets(self) -> bool:
        return False

    def find_arrival_programs(self, _groups: Iterable[int]) -> tuple[str, ...]:
        return ()

    def find_guarded_groups(self) -> Reading[tuple[Guarded, ...]]:
        return _NO_PROGRAMS

    def why_programs_unread(self) -> str:
        return ""  # `why_rules_unread` tells

    def sign_of_programs(self, _call: str, *_folders: Any) -> str:
        return ""

    def sign_of_rules(self) -> str:
        return ""

    def sign_of_ipsec(self) -> str:
        return ""

    def why_rules_unread(self) -> str:
        return "what of eBPF, of IPsec, and of rules for what is sent decides is in no recording"

    def read_connections(
        self,
        states: Iterable[TcpState],
        *,
        local_port: int | None = None,
        remote_port: int | None = None,
        only: SocketFilter = EVERY_SOCKET,
        bound: int | Mapping[TcpState, int] = DETAIL_BOUND,
        **_how: object,
    ) -> Reading[Mapping[TcpState, Detail]]:
        if isinstance(self._sockets, Missing):
            return self._sockets
        wanted, readings = frozenset(states), self._readings()
        found: dict[TcpState, list[Connection]] = {
            state: [] for state in wanted if not isinstance(readings.get(state, NOT_RECORDED), Missing)
        }
        for row in self._seen():
            if isinstance(row, Listener) or row.state not in wanted:
                continue
            if local_port not in (None, 0, row.local.port) or remote_port not in (None, 0, row.remote.port):
                continue
            if only.accepts(row):
                found.setdefault(row.state, []).append(row)
        others = bool(remote_port) or only != EVERY_SOCKET
        details = {}
        for state, rows in found.items():
            number = None if others else self._counted(state, local_port or 0)
            reason = self._why_sampled.get(state, "") if number is None else ""
            most = bound if isinstance(bound, int) else bound.get(state, DETAIL_BOUND)
            kept = tuple(rows[:: -(-len(rows) // most) or 1])
            details[state] = Detail(kept, max(len(rows), number or 0), reason)
        return details

    def _counted(self, state: TcpState, port: int) -> int | None:
        """How many sockets the census counted in a state, on a port; None where it does not tell."""
        census = self._look.census
        if isinstance(census, Missing):
            return None
        if not port:
            number = self._readings().get(state)
            return number if isinstance(number, int) else None
        if census.complete is not True or len(census.by_port) >= _PORTS_COUNTED:
            return census.by_port.get((state, port))
        chosen = self._look.sysctls.get("net.ipv4.ip_local_port_range")
        low, high = chosen if isinstance(chosen, tuple) and len(chosen) == 2 else (1, 0xFFFF)
        told = (state, port) in census.by_port or (TcpState.LISTEN, port) in census.by_port
        inside = isinstance(low, int) and isinstance(high, int) and low <= port <= high
        return census.by_port.get((state, port), 0) if told or not inside else None

    @cached_property
    def _why_sampled(self) -> Mapping[TcpState, str]:
        """Of which states not all sockets were recorded one by one, and how many."""
        kept = Counter(row.state for row in self._seen())
        found = {}
        for state, number in self._readings().items():
            if isinstance(number, int) and number > _NEAR * kept[state] and sum(kept.values()) >= _MANY:
                found[state] = (
                    f"of {number:,} sockets in {state.name} {kept[state]:,} were recorded one by one"
                )
        return found

    def _readings(self) -> Mapping[TcpState, Reading[int]]:
        counts = self.count_states()
        return {} if isinstance(counts, Missing) else counts.readings()

    def why_not_listed(self, state: TcpState) -> Missing:
        counts = self.count_states()
        if isinstance(counts, Missing):
            return counts
        told = counts.readings()[state]
        return told if isinstance(told, Missing) else NOT_RECORDED

    def count_states(self, **_how: object) -> Reading[StateCounts]:
        census = self._look.census
        if isinstance(census, Missing):
            return census
        return StateCounts(census.by_state, census.bound, census.source, census.complete)

    def take_census(self, *_where: object, **_how: object) -> Reading[Census]:
        return self._look.census

    def count_by_peer(self) -> Reading[Groups]:
        return self._grouped(_peer_of)

    def count_by_process(self, **_how: object) -> Reading[Groups]:
        return self._grouped(lambda row: owner_key(row.owner))

    def count_holders(self, states: Iterable[TcpState], **_how: object) -> Reading[tuple[Group, ...]]:
        groups: dict[str, Counter[TcpState]] = {}
        for row in self._seen():
            if isinstance(row, Connection) and row.state in states and not isinstance(row.owner, Missing):
                groups.setdefault(owner_key(row.owner), Counter())[row.state] += 1
        return tuple(Group(name, numbers) for name, numbers in groups.items())

    def _grouped(self, key: Callable[[Connection | Listener], str]) -> Reading[Groups]:
        counts = self.count_states()
        if isinstance(self._sockets, Missing):
            return self._sockets
        if isinstance(counts, Missing):
            return counts
        groups: dict[str, Counter[TcpState]] = {}
        for row in self._seen():
            groups.setdefault(key(row), Counter())[row.state] += 1
        ordered = sorted(groups.items(), key=lambda item: (-item[1].total(), item[0]))
        return Groups(counts, tuple(Group(name, states) for name, states in ordered))

    def read_udp_sockets(self, *, local_port: int = 0, **_how: object) -> Reading[tuple[UdpSocket, ...]]:
        if isinstance(self._udp, Missing):
            return self._udp
        return tuple(row for row in self._udp if local_port in (0, row.local.port))

    def find_owners(self, wanted: Mapping[int, int], **_how: object) -> Mapping[int, Owner]:
        found: dict[int, Owner] = dict.fromkeys(wanted, NOT_RECORDED)
        for row in self._every_socket():
            if row.inode in found:
                found[row.inode] = row.owner
        return found

    def find_every_holder(self, wanted: Mapping[int, int], **_how: object) -> EveryHolder:
        return EveryHolder(self.find_owners(wanted))

    def _every_socket(self) -> Iterator[Connection | Listener | UdpSocket]:
        yield from self._seen()
        yield from () if isinstance(self._udp, Missing) else self._udp

    def find_unlisted(self, **_how: object) -> Unlisted:
        return Unlisted((), (), _NO_BOUND)

    def read_options(
        self, descriptors: Iterable[Descriptor], names: Iterable[str] | None = None
    ) -> dict[Descriptor, Reading[SocketOptions]]:
        seen = () if isinstance(self._sockets, Missing) else self._sockets
        known = {one.row.inode: one.options for one in seen}
        chosen = None if names is None else frozenset(names)
        return {each: _chosen(known.get(each.inode, NOT_RECORDED), chosen) for each in descriptors}

    def read_fresh_option(self, *_option: object, **_how: object) -> Reading[OptionValue]:
        return Missing("a recording has no new sockets to ask")

    # Processes.

    def read_process(self, pid: int, _root: str = "") -> Reading[Process]:
        known = self._processes.get(pid) or self._look.processes.get(pid)
        if known is None and not self._processes and not self._look.processes:
            return Missing("the recording names no process; ask for: ss -tanoempi, as root")
        return known or Missing(f"process {pid} {_ABSENT}")

    def read_task(self, number: int, _root: str = "") -> Reading[Task]:
        found = self.read_process(number)
        return found if isinstance(found, Missing) else Task(found.pid, zombie=False, kernel=False)

    def list_programs(self, _root: str = "") -> list[tuple[int, str]]:
        known = {**self._look.processes, **self._processes}
        return [(pid, one.name) for pid, one in sorted(known.items())]

    def held_by(self, pid: int) -> Reading[Mapping[int, Owner]]:
        known = self.read_process(pid)
        if isinstance(known, Missing):
            return known
        held: dict[int, Owner] = {}
        for row in self._seen():
            holders = row.owner.holders if isinstance(row.owner, Held) else ()
            for holder in holders:
                if holder.pid == pid:
                    held[row.inode] = Held((Holder(pid, known.name, holder.fd, known.uid),))
        return held

    def find_share(self, pid: int, inodes: Set[int]) -> Holder | None:
        held = self.held_by(pid)
        shared = () if isinstance(held, Missing) else [held[inode] for inode in held if inode in inodes]
        return next((one.holders[0] for one in shared if isinstance(one, Held)), None)

    def why_elsewhere(self, _pid: int) -> str | None:
        return None

    def ask_process(self, pid: int, _root: str = "") -> Reading[DeadSockets]:
        dead = self._look.dead
        if isinstance(dead, Missing):
            return dead
        found = dead.by_pid.get(pid)
        return found or (dead.complete if isinstance(dead.complete, Missing) else DeadSockets((), 0, 1))

    def read_lineage(self, pid: int, fd: int, **_how: object) -> Reading[Lineage]:
        if isinstance(self._around, Missing):
            return self._around
        return self._traces.get((pid, fd), NOT_RECORDED)

    @cached_property
    def _traces(self) -> Mapping[tuple[int, int], Reading[Lineage]]:
        around = self._around
        traces = () if isinstance(around, Missing) else around.traces
        return {(one.pid, one.fd): one.lineage for one in traces}

    def read_place(self, pid: int, _root: str = "") -> Reading[Place]:
        standing = self.read_standings([pid])[pid]
        return standing if isinstance(standing, Missing) else standing.place

    def find_cgroup_paths(self, ids: Collection[int], _mount: str | None = None) -> Mapping[int, str]:
        groups = {} if isinstance(self._around, Missing) else self._around.groups
        return {number: path for number, path in groups.items() if number in ids}

    def read_standings(
        self, pids: Iterable[int], listeners: Mapping[int, int] = MappingProxyType({}), _root: str = ""
    ) -> dict[int, Reading[Standing]]:
        around = self._around
        if isinstance(around, Missing):
            return dict.fromkeys(
                pids,
                Missing(
                    "what keeps a process running is not in the recording; record with: tcpdoctor snapshot"
                ),
            )
        found = {pid: standing_again(pid, around, listeners) for pid in pids}
        absent = Missing("what keeps this process running is not in the recording")
        return {pid: absent if standing is None else standing for pid, standing in found.items()}

    def read_children(self, pid: int, _root: str = "") -> dict[int, str]:
        around = self._around
        kin = () if isinstance(around, Missing) else around.kin
        return {one.pid: one.name for one in kin if one.parent == pid}

    # What decides about ports, and the way there.

    def read_vrfs(self) -> Reading[Mapping[int, int]]:
        return Missing("which interfaces are of a VRF is not in the recording")

    def read_bind_rules(self, uid: int | None = None) -> BindRules:
        if not isinstance(self._around, Missing):
            rules = self._around.rules
            return rules if uid in (None, self._look.euid) else rules._replace(privileged=uid == 0)
        start = self.read_sysctl("net.ipv4.ip_unprivileged_port_start")
        return BindRules(
            addresses=self.read_local_addresses(),
            nonlocal_ipv4=self._switch("net.ipv4.ip_nonlocal_bind"),
            nonlocal_ipv6=self._switch("net.ipv6.ip_nonlocal_bind"),
            bindv6only=self._switch("net.ipv6.bindv6only"),
            unprivileged_from=start if isinstance(start, int | Missing) else NOT_RECORDED,
            privileged=not uid,
            keeps_reuseaddr=True,
        )

    def _switch(self, name: str) -> Reading[bool]:
        value = self.read_sysctl(name)
        return value if isinstance(value, Missing) else bool(value)

    def privilege_of(self, uid: int) -> Reading[bool]:
        return uid == 0

    def find_user(self, text: str) -> Reading[int]:
        if is_whole(text):
            return int(text)
        return 0 if text == "root" else Missing("names of users are not in the recording")

    def read_local_addresses(self, *_where: Any) -> LocalAddresses:
        if isinstance(self._around, Missing):
            return LocalAddresses(_NO_ADDRESSES, _NO_ADDRESSES)
        return self._around.rules.addresses

    def is_loopback_down(self) -> bool:
        return not isinstance(self._around, Missing) and self._around.loopback_down

    def interface_indexes(self, *_where: Any) -> dict[str, int]:
        return dict(self._interfaces)

    def interface_of(self, _family: int, address: str) -> int | None:
        found = self._routes.get((address, 0))
        return None if found is None else found.entrance

    def read_redirects(
        self, port: int, protocol: str = "tcp", local: LocalAddresses | None = None
    ) -> Redirects:
        around, spans = self._around, _NO_RULES
        if not isinstance(around, Missing):
            spans = around.redirects_anywhere if local is None else around.redirects
            spans = around.redirects_udp if protocol == "udp" else spans
        if isinstance(spans, Missing):
            return Redirects((), (f"the rules of nft and iptables: {spans.reason}",))
        return _span_of(port, spans).told if spans else Redirects((), ())

    def read_sent_redirects(self, port: int, destination: str, *, stays: bool) -> Redirects:
        if not stays:
            return Redirects((), ())  # why_rules_unread() says that they are not recorded
        every = self.read_redirects(port)
        return every._replace(found=tuple(one for one in every.found if one.is_for(destination)))

    def read_filters(self, port: int, *, local: bool) -> Filters:
        if isinstance(self._around, Missing):
            return Filters((), (), "the rules of nft and iptables are not in the recording")
        spans = self._around.filters_here if local else self._around.filters_out
        if isinstance(spans, Missing):
            return Filters((), (), f"the rules of nft and iptables: {spans.reason}")
        return _span_of(port, spans).told if spans else NO_FILTERS

    @cached_property
    def _routes(self) -> Mapping[tuple[str, int], RouteTo]:
        around = self._around
        routes = () if isinstance(around, Missing) else around.routes
        return {(one.address, one.interface): one for one in routes}

    def find_route(
        self,
        _family: int,
        destination: str,
        port: int,
        source: str | None,
        interface: int = 0,
        **_as: object,
    ) -> Reading[Route | NoRoute]:
        """As recorded; else the address that most of the sockets came from that went there."""
        known = self._routes.get((destination, interface)) or self._routes.get((destination, 0))
        if known is not None:
            route = known.route
            return route._replace(source=source) if source and isinstance(route, Route) else route
        there = Endpoint(destination, port)
        used = Counter(
            row.local.plain().address
            for row in self._seen()
            if isinstance(row, Connection) and row.remote.plain() == there
        )
        loopback = destination == "::1" or destination.startswith("127.")
        here = loopback or destination in {row.local.plain().address for row in self._seen()}
        own = "127.0.0.1" if destination.startswith("127.") else destination  # as in the table "local"
        chosen = source or next(iter(dict(used.most_common(1))), own if here else None)
        if chosen is None:
            return Missing(
                "routes are not in the recording, and none of its sockets goes there; record with: tcpdoctor "
                "snapshot"
            )
        return Route(chosen, None, None, "local" if here else "unicast")

    def read_port_use(self, low: int, high: int, **_how: object) -> Reading[PortUse]:
        counts = self.count_states()
        if isinstance(self._sockets, Missing):
            return self._sockets
        users: dict[int, set[PortUser]] = {}
        for row in self._seen():
            if not low <= row.local.port <= high or (isinstance(row, Connection) and row.request):
                continue
            explicit = isinstance(row, Listener) or row.state is TcpState.BOUND
            users.setdefault(row.local.port, set()).add(PortUser(row.family, row.local.address, explicit))
        complete: Reading[bool] = counts if isinstance(counts, Missing) else counts.complete
        if self._why_sampled and complete is True:
            complete = Missing(joined(self._why_sampled.values()))
        if complete is True and not isinstance(counts, Missing) and isinstance(counts.bound, Missing):
            complete = counts.bound
        return PortUse({port: frozenset(found) for port, found in users.items()}, complete)


def _printed(value: SysctlValue) -> str:
    """A value as the kernel prints it, blanks instead of tabs."""
    if not isinstance(value, tuple):
        return str(value)
    if any(isinstance(part, tuple) for part in value):
        spans = [part for part in value if isinstance(part, tuple)]
        return ",".join(f"{low}-{high}" if low < high else str(low) for low, high in spans)
    return " ".join(map(str, value))


_Span = TypeVar("_Span", RedirectsFrom, FiltersFrom)


def _span_of(port: int, spans: Sequence[_Span]) -> _Span:
    """The answer for a port, of those from each port on; a recording that begins above it has the first."""
    return spans[max(0, bisect_right(spans, port, key=lambda one: one.port) - 1)]


def _peer_of(row: Connection | Listener) -> str:
    return row.remote.plain().address if isinstance(row, Connection) and row.remote.port else NO_PEER


def _chosen(told: Reading[SocketOptions], names: Collection[str] | None) -> Reading[SocketOptions]:
    if names is None or isinstance(told, Missing):
        return told
    return {name: value for name, value in told.items() if name in names}
