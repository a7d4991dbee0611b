"""Facts of the host, or rather of one network namespace, that have no name in the kernel: computed here."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from tcpdoctor.facts.connection import Earlier, closed_window_age, on_this_host, partly
from tcpdoctor.facts.deadlines import RTO_MAX_SECONDS, RTO_MIN_SECONDS, modelled_timeout
from tcpdoctor.facts.established import Living, ages_of, as_set
from tcpdoctor.facts.ports import (
    BOUND_SOURCE,
    Roles,
    connectable_ports,
    number_bound,
    owners_bound,
    ports_in_range,
    reserved_in_range,
    state_count,
    usable_ports,
)
from tcpdoctor.facts.rates import packets
from tcpdoctor.facts.socketset import NONE, SocketSet, enumerate_some, lasting, waits_for_a_window
from tcpdoctor.facts.subject import Scope, Teller, Told, functions_of, lift
from tcpdoctor.facts.sysctl_value import least_default
from tcpdoctor.facts.value import BYTE, COUNT, PAGE, SECOND, Dimension, Range, Value
from tcpdoctor.kernel.kept_rows import without_file
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


class Looks:
    """A look at a namespace, or two, with what several facts are computed from, each at most once."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

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


def _longest_retransmission(sysctls: Mapping[str, Reading[SysctlValue]]) -> Value:
    retries = sysctls.get("net.ipv4.tcp_retries2", Missing("tcp_retries2 was not read"))
    if not isinstance(retries, int):
        return retries if isinstance(retries, Missing) else Missing("tcp_retries2 is no number")
    most = sysctls.get("net.ipv4.tcp_rto_max_ms")  # older kernels have the constant
    return modelled_timeout(
        retries, RTO_MIN_SECONDS, most / 1000 if isinstance(most, int) else RTO_MAX_SECONDS
    )


def scale_of(sysctl: str) -> float:
    """How many units of the file one unit of a setting's fact is: 1000 where the file has milliseconds."""
    from tcpdoctor.facts.sysctl_facts import SYSCTL_FACTS

    return _SCALES.get(SYSCTL_FACTS[sysctl][0], 1) if sysctl in SYSCTL_FACTS else 1


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
    least = _in_units_of_facts(name, sysctl, _default_of(sysctl, snapshot))
    if isinstance(snapshot.memory, Missing) and part == "max" and sysctl in _MOST_OF_BUFFERS:
        return Range(least, _MOST_OF_BUFFERS[sysctl], snapshot.memory.reason) if type(least) is int else least
    return least


_MOST_OF_BUFFERS = {"net.ipv4.tcp_rmem": 6 << 20, "net.ipv4.tcp_wmem": 4 << 20}
"""Where the defaults end on a machine with much memory, at least; with little they end earlier."""


def _default_of(sysctl: str, snapshot: Snapshot) -> Reading[SysctlValue]:
    return least_default(sysctl, snapshot.sysctls, snapshot.memory, snapshot.page_size)


def _in_units_of_facts(name: str, sysctl: str, value: Reading[SysctlValue]) -> Value:
    from tcpdoctor.facts.sysctl_facts import PARTS, SYSCTL_FACTS

    if isinstance(value, Missing):
        return value
    unit = SYSCTL_FACTS[sysctl][0]
    if sysctl != name:
        part = name.rpartition(".")[2]
        return number_of(value, list(PARTS[sysctl]).index(part), len(PARTS[sysctl]), sysctl)
    if unit in ("text", "ports"):
        return _as_text(value)
    if not isinstance(value, int):
        return Missing(f"{sysctl} is no single number")
    scale = _SCALES.get(unit)
    return value if scale is None else value / scale


def _as_text(value: SysctlValue) -> str:
    """Names as they are; ranges of ports as the kernel writes them: ``8080,9000-9010``."""
    if not isinstance(value, tuple):
        return str(value) or NONE
    words = [str(part) if isinstance(part, int) else _range_text(*part) for part in value]
    return ",".join(words) or NONE


def _range_text(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"


def number_of(value: SysctlValue, place: int, places: int, sysctl: str) -> Value:
    """One number of a setting that holds several."""
    if isinstance(value, tuple) and len(value) == places:
        number = value[place]
        if isinstance(number, int):
            return number
    return Missing(f"{sysctl} does not hold {places} numbers")


def _orphans(host: Looks) -> Reading[SocketSet]:
    """FIN_WAIT_2 sockets that no file refers to.

    Those that a file refers to but no process holds are used inside the kernel and are no orphans.
    """
    detail = host.sockets(TcpState.FIN_WAIT_2)
    if isinstance(detail, Missing):
        return detail
    unseen = detail.total - len(detail.connections)
    orphans = without_file(detail.connections)
    return SocketSet(orphans, unseen=unseen, reason=partly(detail, TcpState.FIN_WAIT_2) if unseen else "")


def _closed_windows(host: Looks) -> Reading[SocketSet]:
    """The sockets in FIN_WAIT_1 whose peers are there and have closed their windows."""
    detail = host.sockets(TcpState.FIN_WAIT_1)
    return detail if isinstance(detail, Missing) else as_set(detail).where(waits_for_a_window)


def _at_full_queues(host: Looks) -> Reading[SocketSet]:
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


def _full_queues(host: Looks) -> Value:
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


def _stuck(state: TcpState) -> Callable[[Looks], Reading[SocketSet]]:
    return lambda host: host.stuck(state)


def _number(sockets: SocketSet, _: Looks) -> Value:
    return sockets.number()


def _peers(sockets: SocketSet, host: Looks) -> Value:
    return sockets.peers(host.roles.is_client_port)


def _send_queue(sockets: SocketSet, _: Looks) -> Value:
    """Bytes; a FIN occupies one place in the queue and is none."""
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
    return numbers if isinstance(numbers, Missing) else number_of(numbers, place, 3, "fs.file-nr")


def _translation(host: Looks, read: Callable[[Translation], Value], none: Value) -> Value:
    """What source NAT says of the destination with most ports in use."""
    found = host.samples.after.translations
    if isinstance(found, Missing):
        return found
    return none if found.fullest is None else read(found.fullest)


_LASTS = (
    "an earlier look at least 0.9 s ago found it with the same bytes still to be acknowledged, or it has "
    "retransmitted, or probed a closed window without answer, three times"
)

_of_host = Teller[Looks](Scope.HOST)

_REMARKS = {"fin_wait_2": ", owned ones and orphans together", "syn_recv": ", half-open connections"}
_SS_NAMES = {"listen": "listening"}


def _of_state(state: TcpState) -> Told[Looks]:
    key = state.key
    meaning = f"TCP sockets in {key.upper()} in this network namespace{_REMARKS.get(key, '')}."
    source = f"ss -Htan state {_SS_NAMES.get(key, key.replace('_', '-'))} | wc -l"
    if state is TcpState.BOUND:
        meaning, source = "Sockets bound to a port that neither listen nor are connected.", BOUND_SOURCE
    return _of_host.gauge(
        f"sockets.{key}", COUNT, meaning, source, lambda host: _counted(state, host.samples.after.census)
    )


def _counted(state: TcpState, census: Reading[Census]) -> Value:
    if isinstance(census, Missing):
        return census
    bound = 0 if isinstance(census.bound, Missing) else census.bound
    number = bound if state is TcpState.BOUND else census.by_state.get(state, 0)
    return state_count(census, state, number)


def _of_sockstat(name: str, dimension: Dimension, meaning: str) -> Told[Looks]:
    file = "/proc/net/sockstat6" if name.startswith("TCP6") else "/proc/net/sockstat"
    absent = Missing(f"no line of /proc/net/sockstat and sockstat6 that can be read tells {name}")
    return _of_host.gauge(
        f"sockstat.{name}",
        dimension,
        meaning,
        file,
        lift(lambda host: host.samples.after.sockstat, lambda numbers, _: numbers.get(name, absent)),
    )


FACTS: Sequence[Told[Looks]] = (
    _of_host.gauge(
        "kernel.page_size",
        BYTE,
        "Size of a memory page, the unit of net.ipv4.tcp_mem and of sockstat's mem.",
        "getconf PAGESIZE",
        lambda host: host.samples.after.page_size,
    ),
    _of_host.gauge(
        "kernel.memory",
        PAGE,
        "Memory of the machine in pages; what net.ipv4.tcp_mem is compared with.",
        "/proc/meminfo (MemTotal), divided by the size of a page",
        lambda host: host.samples.after.memory,
    ),
    _of_host.gauge(
        "files.default_limit",
        COUNT,
        "The least that a kernel takes for fs.file-max by itself, with this machine's memory.",
        "/proc/meminfo (MemTotal in kB), a tenth of it",
        lambda host: default_value("fs.file-max", host.samples.after),
    ),
    _of_host.gauge(
        "retransmission.longest",
        SECOND,
        "How long data of an owned connection is sent again without an answer, on a near path: tcp_retries2 "
        "doubling waits from 200 ms, none above tcp_rto_max_ms.",
        "/proc/sys/net/ipv4/tcp_retries2, /proc/sys/net/ipv4/tcp_rto_max_ms",
        lambda host: _longest_retransmission(host.samples.after.sysctls),
    ),
    _of_host.counter(
        "softnet.processed",
        "Packets that the CPUs of the whole machine took up, of all protocols and namespaces.",
        "/proc/net/softnet_stat (first column, hexadecimal, a line for each CPU)",
        lambda host: packets(host.samples, "processed"),
    ),
    _of_host.counter(
        "softnet.dropped",
        "Packets that the whole machine dropped because net.core.netdev_max_backlog waited for a CPU.",
        "/proc/net/softnet_stat (second column, hexadecimal, a line for each CPU)",
        lambda host: packets(host.samples, "dropped"),
    ),
    _of_host.counter(
        "softnet.squeezed",
        "Times that a CPU stopped receiving with packets left over; they are taken up a moment later.",
        "/proc/net/softnet_stat (third column, hexadecimal, a line for each CPU)",
        lambda host: packets(host.samples, "squeezed"),
    ),
    _of_host.gauge(
        "ports.usable",
        COUNT,
        "Ephemeral ports that connect() and bind(0) choose from: ip_local_port_range less the reserved.",
        "/proc/sys/net/ipv4/ip_local_port_range, /proc/sys/net/ipv4/ip_local_reserved_ports",
        lambda host: usable_ports(host.samples.after),
    ),
    _of_host.gauge(
        "ports.reserved",
        COUNT,
        "Ports inside net.ipv4.ip_local_port_range that net.ipv4.ip_local_reserved_ports takes out of it.",
        "/proc/sys/net/ipv4/ip_local_reserved_ports",
        lambda host: reserved_in_range(host.samples.after),
    ),
    _of_host.gauge(
        "ports.in_range",
        COUNT,
        "Ports of net.ipv4.ip_local_port_range, both ends included, reserved ones as well.",
        "/proc/sys/net/ipv4/ip_local_port_range",
        lambda host: ports_in_range(host.samples.after),
    ),
    _of_host.gauge(
        "ports.bound",
        COUNT,
        "Ephemeral ports with a socket that is bound and not connected, listening or not: connect() and "
        "bind() to port 0 skip them.",
        "ss -tln; ss -tanB of iproute2 6.8 and later (ports inside the range)",
        lambda host: number_bound(host.samples.after),
    ),
    _of_host.gauge(
        "ports.connectable",
        COUNT,
        "Ephemeral ports that connect() chooses from: the usable ones without a listener, nor a socket "
        "that is merely bound where the kernel lists these (Linux 6.8).",
        "/proc/sys/net/ipv4/ip_local_port_range, ip_local_reserved_ports; ss -tln; ss -tanB",
        lambda host: connectable_ports(host.samples.after),
    ),
    _of_host.text(
        "ports.bound_owners",
        "Processes that hold these sockets, those with most first.",
        "ss -tlnp; ss -tanBp of iproute2 6.8 and later",
        lambda host: owners_bound(host.samples.after),
    ),
    _of_host.gauge(
        "time_wait.at_listeners",
        COUNT,
        "Sockets in TIME_WAIT on ports that somebody listens on: connections that were accepted here and "
        "closed here first.",
        "ss -tan state time-wait; ss -tln (the same local port)",
        lambda host: _time_wait_at_listeners(host.samples.after.census),
    ),
    _of_host.gauge(
        "conntrack.entries",
        COUNT,
        "Connections that this network namespace tracks, of TCP and others, ended ones included for a while.",
        "/proc/sys/net/netfilter/nf_conntrack_count (conntrack -C)",
        lambda host: sysctl_value("net.netfilter.nf_conntrack_count", host.samples.after),
    ),
    _of_host.gauge(
        "conntrack.limit",
        COUNT,
        "Connections that each network namespace may track; 0 sets no limit.",
        "/proc/sys/net/netfilter/nf_conntrack_max",
        lambda host: sysctl_value("net.netfilter.nf_conntrack_max", host.samples.after),
    ),
    _of_host.gauge(
        "conntrack.cut_lately",
        COUNT,
        "Tracked connections that were established and that a reset ended within the last seconds. Read "
        "where counters look like resets by packets called invalid, or where insertions fail.",
        "/proc/net/nf_conntrack (CLOSE and [ASSURED]; conntrack -L -p tcp --state CLOSE)",
        lift(lambda host: host.samples.after.translations, lambda found, _: found.cut),
    ),
    _of_host.gauge(
        "snat.ports_used",
        COUNT,
        "Ports that source NAT has given to connections from one address of its own to one destination: "
        "of the destination with most. Read only where insertions into the table fail.",
        "/proc/net/nf_conntrack (the second src, sport, dst and dport of each entry)",
        lambda host: _translation(host, lambda found: found.used, 0),
    ),
    _of_host.gauge(
        "snat.ports_span",
        COUNT,
        "Ports from the lowest to the highest of these: as many as are used, where none between is free.",
        "/proc/net/nf_conntrack (the second dport of each entry)",
        lambda host: _translation(host, lambda found: found.highest - found.lowest + 1, 0),
    ),
    _of_host.text(
        "snat.ports",
        "The lowest and the highest of these ports.",
        "/proc/net/nf_conntrack (the second dport of each entry)",
        lambda host: _translation(host, lambda found: f"{found.lowest}-{found.highest}", NONE),
    ),
    _of_host.text(
        "snat.source",
        "The address of the NAT that these ports belong to.",
        "/proc/net/nf_conntrack (the second dst of each entry)",
        lambda host: _translation(host, lambda found: found.towards.source, NONE),
    ),
    _of_host.text(
        "snat.destination",
        "The destination with most of these ports, and the protocol.",
        "/proc/net/nf_conntrack (the second src and sport of each entry)",
        lambda host: _translation(
            host,
            lambda found: f"{Endpoint(found.towards.address, found.towards.port)} ({found.protocol})",
            NONE,
        ),
    ),
    _of_host.gauge(
        "files.open",
        COUNT,
        "Open files of the whole machine, sockets among them, also when read inside a namespace.",
        "/proc/sys/fs/file-nr (first number)",
        lambda host: _open_files(0, host.samples.after),
    ),
    _of_host.gauge(
        "files.limit",
        COUNT,
        "Open files that the machine may have.",
        "/proc/sys/fs/file-max",
        lambda host: _open_files(2, host.samples.after),
    ),
    _of_host.gauge(
        "fin_wait_2.orphaned",
        COUNT,
        "Sockets in FIN_WAIT_2 that no file refers to; the kernel ends them after net.ipv4.tcp_fin_timeout.",
        "ss -tane state fin-wait-2 (rows with ino:0)",
        lift(_orphans, _number),
    ),
    _of_host.text(
        "fin_wait_2.orphan_peers",
        "Peers of the orphaned FIN_WAIT_2 sockets, those with most first.",
        "ss -tane state fin-wait-2 (rows with ino:0)",
        lift(_orphans, _peers),
    ),
    _of_host.gauge(
        "fin_wait_1.lasting",
        COUNT,
        f"Sockets in FIN_WAIT_1 that are stuck: {_LASTS}.",
        "ss -tano state fin-wait-1 (timer, Send-Q)",
        lift(_stuck(TcpState.FIN_WAIT_1), _number),
    ),
    _of_host.text(
        "fin_wait_1.lasting_peers",
        "Peers of the sockets stuck in FIN_WAIT_1, those with most first.",
        "ss -tano state fin-wait-1 (timer, Send-Q)",
        lift(_stuck(TcpState.FIN_WAIT_1), _peers),
    ),
    _of_host.gauge(
        "fin_wait_1.lasting_send_queue",
        BYTE,
        "Bytes that the sockets stuck in FIN_WAIT_1 still hold for their peers.",
        "ss -tano state fin-wait-1 (Send-Q)",
        lift(_stuck(TcpState.FIN_WAIT_1), _send_queue),
    ),
    _of_host.ages(
        "fin_wait_1.closed_window_ages",
        "How long each socket in FIN_WAIT_1 whose peer answers has found the peer's window closed.",
        "ss -tnoi state fin-wait-1 (timer:(persist,..), rto, backoff, lastsnd)",
        lift(_closed_windows, lambda sockets, _: ages_of(sockets, closed_window_age)),
    ),
    _of_host.text(
        "fin_wait_1.closed_window_peers",
        "Peers that keep the windows of sockets in FIN_WAIT_1 closed, those with most first.",
        "ss -tno state fin-wait-1 (timer:(persist,..))",
        lift(_closed_windows, _peers),
    ),
    _of_host.gauge(
        "fin_wait_1.closed_window_send_queue",
        BYTE,
        "Bytes that sockets in FIN_WAIT_1 hold for peers that keep their windows closed.",
        "ss -tno state fin-wait-1 (timer:(persist,..), Send-Q)",
        lift(_closed_windows, _send_queue),
    ),
    _of_host.gauge(
        "fin_wait_1.at_full_queues",
        COUNT,
        "Of the sockets stuck in FIN_WAIT_1, those whose peer is a listener here with a full accept queue.",
        "ss -tano state fin-wait-1; ss -tln (Recv-Q above Send-Q, the same port)",
        lift(_at_full_queues, _number),
    ),
    _of_host.text(
        "fin_wait_1.full_queues", "These listeners.", "ss -tln (Recv-Q above Send-Q)", _full_queues
    ),
    _of_host.gauge(
        "last_ack.lasting",
        COUNT,
        f"Sockets in LAST_ACK that are stuck: {_LASTS}.",
        "ss -tano state last-ack (timer, Send-Q)",
        lift(_stuck(TcpState.LAST_ACK), _number),
    ),
    _of_host.text(
        "last_ack.lasting_peers",
        "Peers of the sockets stuck in LAST_ACK, those with most first.",
        "ss -tano state last-ack (timer, Send-Q)",
        lift(_stuck(TcpState.LAST_ACK), _peers),
    ),
    _of_host.gauge(
        "closing.lasting",
        COUNT,
        f"Sockets in CLOSING that are stuck: {_LASTS}.",
        "ss -tano state closing (timer, Send-Q)",
        lift(_stuck(TcpState.CLOSING), _number),
    ),
    *map(_of_state, COUNTED_STATES),
    _of_sockstat(
        "TCP.inuse",
        COUNT,
        "IPv4 sockets of this namespace that listen or are connected, TIME_WAIT not included.",
    ),
    _of_sockstat(
        "TCP6.inuse",
        COUNT,
        "IPv6 sockets of this namespace that listen or are connected, TIME_WAIT not included.",
    ),
    _of_sockstat(
        "TCP.orphan",
        COUNT,
        "TCP sockets that no file refers to and that are not yet minisockets, of the whole machine, even "
        "when read inside a network namespace.",
    ),
    _of_sockstat("TCP.tw", COUNT, "Minisockets in this namespace: TIME_WAIT, and orphans' FIN_WAIT_2."),
    _of_sockstat(
        "TCP.alloc",
        COUNT,
        "TCP sockets allocated, of the whole machine, even when read inside a network namespace.",
    ),
    _of_sockstat(
        "TCP.mem",
        PAGE,
        "Memory that TCP's buffers hold, of the whole machine, even when read inside a network namespace.",
    ),
)
FUNCTIONS = functions_of(FACTS)
