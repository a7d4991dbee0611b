"""Facts of the host: settings, counters, memory, states. Every scope can use them."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

from tcpdoctor.facts.established import (
    HOST_FUNCTIONS,
    Living,
    ages_of,
    as_set,
    closed_window_age,
    on_this_host,
)
from tcpdoctor.facts.portrange import (
    Roles,
    connectable_ports,
    number_bound,
    owners_bound,
    ports_in_range,
    reserved_in_range,
    usable_ports,
)
from tcpdoctor.facts.rates import counter, growth, packets
from tcpdoctor.facts.socketset import (
    NONE,
    Earlier,
    SocketSet,
    enumerate_some,
    lasting,
    partly,
    waits_for_a_window,
)
from tcpdoctor.facts.subject import Scope, Subject
from tcpdoctor.facts.sysctl_value import least_default
from tcpdoctor.facts.value import Growth, Range, Value
from tcpdoctor.facts.vocabulary import COUNTER, COUNTER_GROUPS, fact_names, find_fact
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import (
    Census,
    Detail,
    Endpoint,
    Listener,
    Samples,
    Snapshot,
    SysctlValue,
    Translation,
)
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState


class HostFacts(Mapping[str, Value]):
    """The host's facts by name, computed when they are asked for, each at most once."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self._known: dict[str, Value] = {}

    def __getitem__(self, name: str) -> Value:
        if name not in self._known:
            self._known[name] = self._compute(name)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(fact_names(Scope.HOST))

    def __len__(self) -> int:
        return len(fact_names(Scope.HOST))

    def __contains__(self, name: object) -> bool:
        fact = find_fact(name) if isinstance(name, str) else None
        return fact is not None and fact.scope is Scope.HOST

    def _compute(self, name: str) -> Value:
        function = FUNCTIONS.get(name)
        if function is not None:
            return function(self)
        of_living = HOST_FUNCTIONS.get(name)
        if of_living is not None:
            return of_living(self.living)
        if name not in self:
            raise KeyError(name)
        group, _, rest = name.partition(".")
        if group == "sysctl":
            return sysctl_value(rest, self.samples.after)
        if group == "default":
            return default_value(rest, self.samples.after)
        if group == "sockstat":
            return _sockstat_value(rest, self.samples.after)
        if group == "sockets":
            return _sockets_value(rest, self.samples.after.census)
        assert group in COUNTER_GROUPS  # noqa: S101 - the vocabulary has no other names
        return counter_value(name, self.samples)

    def unknown_names(self) -> Sequence[str]:
        """Counters and TCP settings of this kernel that the vocabulary does not know, sorted."""
        from tcpdoctor.facts.counter_facts import NOT_FACTS
        from tcpdoctor.facts.sysctl_facts import NOT_READ, SYSCTL_FACTS

        counters = self.samples.after.counters
        names = () if isinstance(counters, Missing) else counters
        strange = [
            name
            for name in names
            if name.partition(".")[0] in COUNTER_GROUPS
            and name not in NOT_FACTS
            and "Type" not in name  # messages by their number (InType3) have names as well
            and name not in self
        ]
        strange += [
            f"sysctl.{name}"
            for name in self.samples.after.sysctls
            if name.startswith("net.ipv4.tcp_") and name not in SYSCTL_FACTS and name not in NOT_READ
        ]
        return sorted(strange)

    @cached_property
    def earlier(self) -> Earlier:
        """The first sample's sockets."""
        return Earlier(self.samples)

    @cached_property
    def roles(self) -> Roles:
        """Who is client and who is server."""
        return Roles(self.samples.after)

    @cached_property
    def living(self) -> Living:
        """The established connections."""
        return Living.of(self.samples.after, self.roles)

    def sockets(self, state: TcpState) -> Reading[Detail]:
        """The sockets of one state, one by one."""
        detail = self.samples.after.detail
        if isinstance(detail, Missing):
            return detail
        return detail.get(state, Missing(f"sockets in {state.name} were not read one by one"))

    def stuck(self, state: TcpState) -> Reading[SocketSet]:
        """The sockets that last in a passing state."""
        return lasting(self.sockets(state), state, self.earlier)


def host_subjects(samples: Samples, host: Mapping[str, Value]) -> Sequence[Subject]:
    """The host, or rather the one network namespace that was looked at."""
    name = samples.after.host
    return [Subject(Scope.HOST, name, {"name": name}, host)]


def counter_value(name: str, samples: Samples) -> Value:
    """Growth of a counter between the samples; the number itself where the kernel's word is a gauge."""
    fact = find_fact(name)
    if fact is None or fact.kind != COUNTER:
        return counter(name, samples.after)
    grown = growth(name, samples)
    if isinstance(grown, Missing) or not fact.dimension or not fact.dimension.second:
        return grown
    return Growth(grown.delta / 1000, grown.seconds)  # TCPMemoryPressuresChrono counts milliseconds


def state_count(census: Census, state: TcpState, number: int) -> Value:
    """A number of the census; a lower bound where the census may lack sockets."""
    if state is TcpState.BOUND and isinstance(census.bound, Missing):
        return census.bound
    if isinstance(census.complete, Missing):
        return Range(number, math.inf, census.complete.reason)
    return number


_STATES = {state.key: state for state in COUNTED_STATES}


def _sockets_value(key: str, census: Reading[Census]) -> Value:
    if isinstance(census, Missing):
        return census
    state = _STATES[key]
    bound = 0 if isinstance(census.bound, Missing) else census.bound
    number = bound if state is TcpState.BOUND else census.by_state.get(state, 0)
    return state_count(census, state, number)


def _sockstat_value(name: str, snapshot: Snapshot) -> Value:
    if isinstance(snapshot.sockstat, Missing):
        return snapshot.sockstat
    return snapshot.sockstat.get(name, Missing(f"this kernel does not tell {name} in /proc/net/sockstat"))


_ABSENT = "this kernel or network namespace does not have it"
_SCALES = {"millisecond": 1e3, "microsecond": 1e6, "nanosecond": 1e9, "percent": 100}


def sysctl_value(name: str, snapshot: Snapshot) -> Value:
    """A setting in the unit of its fact: ``net.ipv4.tcp_fin_timeout``, ``net.ipv4.tcp_mem.max``."""
    from tcpdoctor.facts.sysctl_facts import PARTS

    whole, _, part = name.rpartition(".")
    sysctl = whole if part in PARTS.get(whole, ()) else name
    value = snapshot.sysctls.get(sysctl, Missing(f"{sysctl}: {_ABSENT}"))
    return _in_units_of_facts(name, sysctl, value)


def default_value(name: str, snapshot: Snapshot) -> Value:
    """The least default of a setting, in the unit of its fact: ``net.core.somaxconn``."""
    from tcpdoctor.facts.sysctl_facts import PARTS

    whole, _, part = name.rpartition(".")
    sysctl = whole if part in PARTS.get(whole, ()) else name
    return _in_units_of_facts(name, sysctl, _default_of(sysctl, snapshot))


def _default_of(sysctl: str, snapshot: Snapshot) -> Reading[SysctlValue]:
    return least_default(sysctl, snapshot.sysctls, snapshot.memory, snapshot.page_size)


def _in_units_of_facts(name: str, sysctl: str, value: Reading[SysctlValue]) -> Value:
    from tcpdoctor.facts.sysctl_facts import PARTS, SYSCTL_FACTS

    if isinstance(value, Missing):
        return value
    unit = SYSCTL_FACTS[sysctl][0]
    if sysctl != name:
        part = name.rpartition(".")[2]
        return _part(value, list(PARTS[sysctl]).index(part), len(PARTS[sysctl]), sysctl)
    if unit in ("text", "ports"):
        return _as_text(value)
    if not isinstance(value, int):
        return Missing(f"{sysctl} is no single number")
    scale = _SCALES.get(unit)
    return value if scale is None else value / scale


def _part(value: SysctlValue, place: int, places: int, sysctl: str) -> Value:
    if isinstance(value, tuple) and len(value) == places:
        number = value[place]
        if isinstance(number, int):
            return number
    return Missing(f"{sysctl} does not hold {places} numbers")


def _as_text(value: SysctlValue) -> str:
    """Names as they are; ranges of ports as the kernel writes them: ``8080,9000-9010``."""
    if not isinstance(value, tuple):
        return str(value) or NONE
    words = [str(part) if isinstance(part, int) else _range_text(*part) for part in value]
    return ",".join(words) or NONE


def _range_text(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"


def _orphans(host: HostFacts) -> Reading[SocketSet]:
    """FIN_WAIT_2 sockets that no file refers to.

    Those that a file refers to but no process holds are used inside the kernel and are no orphans.
    """
    detail = host.sockets(TcpState.FIN_WAIT_2)
    if isinstance(detail, Missing):
        return detail
    unseen = detail.total - len(detail.connections)
    orphans = [connection for connection in detail.connections if not connection.inode]
    return SocketSet(orphans, unseen=unseen, reason=partly(detail, TcpState.FIN_WAIT_2) if unseen else "")


def _closed_windows(host: HostFacts) -> Reading[SocketSet]:
    """The sockets in FIN_WAIT_1 whose peers are there and have closed their windows."""
    detail = host.sockets(TcpState.FIN_WAIT_1)
    return detail if isinstance(detail, Missing) else as_set(detail).where(waits_for_a_window)


def _closed_window_ages(host: HostFacts) -> Value:
    sockets = _closed_windows(host)
    return sockets if isinstance(sockets, Missing) else ages_of(sockets, closed_window_age)


def _at_full_queues(host: HostFacts) -> Reading[SocketSet]:
    """Of those stuck in FIN_WAIT_1 the ones whose peer is a listener of this host with a full accept queue.

    The client's end of a handshake is over before the server's: what the client sends then, and its FIN,
    is dropped for as long as the queue is full.
    """
    stuck, full = host.stuck(TcpState.FIN_WAIT_1), _full_listeners(host.samples.after)
    if isinstance(stuck, Missing):
        return stuck
    if isinstance(full, Missing):
        return full
    ports = {listener.local.port for listener in full}
    return stuck._replace(sure=[row for row in stuck.sure if row.remote.port in ports and on_this_host(row)])


def _full_listeners(snapshot: Snapshot) -> Reading[list[Listener]]:
    if isinstance(snapshot.listeners, Missing):
        return snapshot.listeners
    return [
        listener
        for listener in snapshot.listeners
        if not isinstance(listener.accept_limit, Missing) and listener.accept_queue > listener.accept_limit
    ]


def _full_queues(host: HostFacts) -> Value:
    """The listeners that these wait for: ``0.0.0.0:8443``."""
    stuck, full = _at_full_queues(host), _full_listeners(host.samples.after)
    if isinstance(stuck, Missing):
        return stuck
    if isinstance(full, Missing):
        return full
    ports = {row.remote.port for row in stuck.sure}
    named = sorted({str(listener.local) for listener in full if listener.local.port in ports})
    return enumerate_some(named[:_NAMED], len(named) - len(named[:_NAMED])) or NONE


_NAMED = 3


def _number(sockets: Reading[SocketSet]) -> Value:
    return sockets if isinstance(sockets, Missing) else sockets.number()


def _peers(sockets: Reading[SocketSet], host: HostFacts) -> Value:
    return sockets if isinstance(sockets, Missing) else sockets.peers(host.roles.is_client)


def _send_queue(sockets: Reading[SocketSet]) -> Value:
    """Bytes; a FIN occupies one place in the queue and is none."""
    if isinstance(sockets, Missing):
        return sockets
    return sockets.total(lambda connection: max(0, connection.send_queue - 1))


def _time_wait_at_listeners(census: Reading[Census]) -> Value:
    """Of ports that somebody listens on, the ones of the ephemeral range are counted one by one as well."""
    if isinstance(census, Missing):
        return census
    listening = {port for state, port in census.by_port if state is TcpState.LISTEN}
    number = sum(census.by_port.get((TcpState.TIME_WAIT, port), 0) for port in listening if port)
    return state_count(census, TcpState.TIME_WAIT, number)


def _open_files(place: int, snapshot: Snapshot) -> Value:
    numbers = snapshot.sysctls.get("fs.file-nr", Missing("fs.file-nr was not read"))
    return numbers if isinstance(numbers, Missing) else _part(numbers, place, 3, "fs.file-nr")


def _translation(host: HostFacts, read: Callable[[Translation], Value], none: Value) -> Value:
    """What source NAT says of the destination with most ports in use."""
    found = host.samples.after.translations
    if isinstance(found, Missing):
        return found
    return none if found.fullest is None else read(found.fullest)


FUNCTIONS: Mapping[str, Callable[[HostFacts], Value]] = {
    "kernel.page_size": lambda host: host.samples.after.page_size,
    "files.default_limit": lambda host: default_value("fs.file-max", host.samples.after),
    "kernel.memory": lambda host: host.samples.after.memory,
    "softnet.processed": lambda host: packets(host.samples, "processed"),
    "softnet.dropped": lambda host: packets(host.samples, "dropped"),
    "softnet.squeezed": lambda host: packets(host.samples, "squeezed"),
    "ports.in_range": lambda host: ports_in_range(host.samples.after),
    "ports.bound": lambda host: number_bound(host.samples.after),
    "ports.connectable": lambda host: connectable_ports(host.samples.after),
    "ports.bound_owners": lambda host: owners_bound(host.samples.after),
    "time_wait.at_listeners": lambda host: _time_wait_at_listeners(host.samples.after.census),
    "conntrack.entries": lambda host: host["sysctl.net.netfilter.nf_conntrack_count"],
    "conntrack.limit": lambda host: host["sysctl.net.netfilter.nf_conntrack_max"],
    "snat.ports_used": lambda host: _translation(host, lambda found: found.used, 0),
    "snat.ports_span": lambda host: _translation(host, lambda found: found.highest - found.lowest + 1, 0),
    "snat.ports": lambda host: _translation(host, lambda found: f"{found.lowest}-{found.highest}", NONE),
    "snat.source": lambda host: _translation(host, lambda found: found.towards.source, NONE),
    "snat.destination": lambda host: _translation(
        host, lambda found: f"{Endpoint(found.towards.address, found.towards.port)} ({found.protocol})", NONE
    ),
    "files.open": lambda host: _open_files(0, host.samples.after),
    "files.limit": lambda host: _open_files(2, host.samples.after),
    "ports.usable": lambda host: usable_ports(host.samples.after),
    "ports.reserved": lambda host: reserved_in_range(host.samples.after),
    "fin_wait_2.orphaned": lambda host: _number(_orphans(host)),
    "fin_wait_2.orphan_peers": lambda host: _peers(_orphans(host), host),
    "fin_wait_1.lasting": lambda host: _number(host.stuck(TcpState.FIN_WAIT_1)),
    "fin_wait_1.lasting_peers": lambda host: _peers(host.stuck(TcpState.FIN_WAIT_1), host),
    "fin_wait_1.lasting_send_queue": lambda host: _send_queue(host.stuck(TcpState.FIN_WAIT_1)),
    "fin_wait_1.closed_window_ages": _closed_window_ages,
    "fin_wait_1.closed_window_peers": lambda host: _peers(_closed_windows(host), host),
    "fin_wait_1.closed_window_send_queue": lambda host: _send_queue(_closed_windows(host)),
    "fin_wait_1.at_full_queues": lambda host: _number(_at_full_queues(host)),
    "fin_wait_1.full_queues": _full_queues,
    "last_ack.lasting": lambda host: _number(host.stuck(TcpState.LAST_ACK)),
    "last_ack.lasting_peers": lambda host: _peers(host.stuck(TcpState.LAST_ACK), host),
    "closing.lasting": lambda host: _number(host.stuck(TcpState.CLOSING)),
}
