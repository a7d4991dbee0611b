"""Values that do harm, or not what they were meant to do. Only what stays in the end is judged."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.sysctl_checks import FIRST_UNPRIVILEGED, PORT_RANGE, fault
from tcpdoctor.diagnosis.sysctl_look import Fault, Look, Write
from tcpdoctor.facts.sysctl_value import Numbers, port_ranges, written_numbers
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sysctl_files import dotted
from tcpdoctor.kernel.text import clean

_IP = "net/ipv4/"
_OF_1_GIB = 4096
"""Orphans and minisockets that a kernel on a machine with 1 GiB allows by default."""
_OF_4_GIB = 16384
_FEWEST_RETRIES = 8
"""About 100 s at 200 ms, the least that RFC 1122 4.2.3.5 allows (ip-sysctl.rst, tcp_retries2)."""
_SHORTEST_FIN_TIMEOUT = 15
_CONTROLS = frozenset({
    "bbr", "bic", "cdg", "cubic", "dctcp", "dctcp-reno", "highspeed", "htcp", "hybla", "illinois", "lp", "nv",
    "reno", "scalable", "vegas", "veno", "westwood", "yeah",
})  # fmt: skip
"""Congestion controls of kernel.org (net/ipv4/tcp_*.c), which are loaded when a line asks for them."""


class _Case(NamedTuple):
    """One harmful value: where, when, what to say."""

    check: str
    path: str
    when: Callable[[Numbers], bool]
    what: str
    do: str
    severity: Severity | None = None


_CASES = (
    _Case(
        "timestamps-off", "tcp_timestamps", lambda n: n[0] == 0,
        "Without timestamps tcp_tw_reuse never acts, old segments of fast connections are not recognised "
        "(PAWS), and "
        "connections made from SYN cookies lose window scaling and SACK. They show no clock: the offset "
        "is random.",
        "Remove the line; the default is 1.",
    ),
    _Case(
        "syncookies-off", "tcp_syncookies", lambda n: n[0] == 0,
        "When a listener's queue of half-open connections is full, SYNs are dropped: a small flood locks "
        "clients out.",
        "Remove the line; the default is 1.",
    ),
    _Case(
        "syncookies-always", "tcp_syncookies", lambda n: n[0] > 1,
        "2 answers every SYN with a cookie, also when nothing is full: it is for tests.",
        "Set 1, the default.",
    ),
    _Case(
        "abort-on-overflow", "tcp_abort_on_overflow", lambda n: n[0] != 0,
        "A client whose last handshake segment meets a full accept queue is reset, where it would have "
        "got in a "
        "moment later. SYNs are dropped as before.",
        "Remove the line; make the program accept faster, or raise its backlog.",
    ),
    _Case(
        "window-scaling-off", "tcp_window_scaling", lambda n: n[0] == 0,
        "Windows end at 64 KiB: at a round trip of 50 ms a connection carries 1.3 MB/s at most.",
        "Remove the line; the default is 1.",
    ),
    _Case(
        "sack-off", "tcp_sack", lambda n: n[0] == 0,
        "Each round trip repairs one loss only, and neither RACK nor the tail loss probe works.",
        "Remove the line; the kernels of 2019 and later have the SACK panic (CVE-2019-11477) mended.",
    ),
    _Case(
        "fin-timeout-between-61-and-89", "tcp_fin_timeout", lambda n: 60 < n[0] < 90,
        "Above 60 the kernel keeps a FIN_WAIT_2 orphan for 2 x (value - 60) seconds: 61 to 89 last "
        "shorter than 60.",
        "Remove the line (60), or set 60 + half of what is wanted, from 90 on.",
    ),
    _Case(
        "fin-timeout-short", "tcp_fin_timeout", lambda n: n[0] < _SHORTEST_FIN_TIMEOUT,
        "Orphans in FIN_WAIT_2 are given up so early that slow peers get a reset for their last data. "
        "TIME_WAIT "
        "stays 60 s.",
        "Remove the line; the default is 60.",
    ),
    _Case(
        "fin-timeout-changed", "tcp_fin_timeout", lambda n: _SHORTEST_FIN_TIMEOUT <= n[0] < 60 or n[0] >= 90,
        "It changes how long FIN_WAIT_2 orphans stay, and neither TIME_WAIT (60 s, a constant) nor a "
        "FIN_WAIT_2 that "
        "a process holds.",
        "Keep it only if FIN_WAIT_2 orphans were the trouble.",
    ),
    _Case(
        "orphan-retries-low", "tcp_orphan_retries", lambda n: n[0] in (1, 2),
        "Closed sockets with unacknowledged data are given up after 1.7 or 3.4 s at a near peer's timeout: "
        "slow or lossy "
        "clients lose the end of the answer.",
        "Remove the line; 0 stands for 8.",
    ),
    _Case(
        "retries2-low", "tcp_retries2", lambda n: n[0] < _FEWEST_RETRIES,
        "Connections with unacknowledged data die before 100 s, the least that RFC 1122 allows: a short "
        "outage of "
        "the network ends them all.",
        "Set 8 or more, and TCP_USER_TIMEOUT in programs that must notice a dead peer sooner.",
    ),
    _Case(
        "keepalive-never", "tcp_keepalive_time", lambda n: n[0] < 0,
        "A negative time means that no probe is ever sent.", "Set a positive number of seconds.",
    ),
    _Case(
        "keepalive-never", "tcp_keepalive_intvl", lambda n: n[0] < 0,
        "A negative time means that the second probe is never sent and nothing ends the connection.",
        "Set a positive number of seconds.",
    ),
    _Case(
        "notsent-lowat-zero", "tcp_notsent_lowat", lambda n: n[0] == 0,
        "No socket without TCP_NOTSENT_LOWAT is ever writable: poll() waits for ever.",
        "Set a number of bytes (131072), or remove the line.",
    ),
    _Case(
        "buffer-order", "tcp_rmem", lambda n: list(n) != sorted(n),
        "The three sizes (least, at first, most) do not rise; the kernel does not check it.",
        "Put them in order.",
    ),
    _Case(
        "buffer-order", "tcp_wmem", lambda n: list(n) != sorted(n),
        "The three sizes (least, at first, most) do not rise; the kernel does not check it.",
        "Put them in order.",
    ),
)  # fmt: skip


def check_values(look: Look) -> Iterator[Fault]:
    """Look at every value that stays."""
    cases: dict[str, list[_Case]] = {}
    for case in _CASES:
        cases.setdefault(_IP + case.path, []).append(case)
    for write in look.settings():
        for case in cases.get(write.path, ()):
            numbers = numbers_of(look, write.path, write.value)
            if numbers and case.when(numbers):
                yield _at(write, case.check, f"{_said(write)}: {case.what}", case.do, case.severity)
        yield from _lowered(look, write)
        yield from _no_such_control(look, write)
        yield from _together(look, write)


_LOWERED: Mapping[str, tuple[str, str]] = {
    _IP + "tcp_max_orphans": (
        "max-orphans-lowered",
        (
            "closing sockets above it are reset, and clients lose the end of their answers. The kernel "
            "counts stuck "
            "orphans two or four times."
        ),
    ),
    _IP + "tcp_max_tw_buckets": (
        "max-tw-buckets-lowered",
        (
            "above it TIME_WAIT is skipped: old segments may reach a new connection, and a late FIN is "
            "answered with "
            "a reset. A TIME_WAIT costs 256 bytes, neither a descriptor nor (for a server) a port."
        ),
    ),
}


def _lowered(look: Look, write: Write) -> Iterator[Fault]:
    if write.path not in _LOWERED:
        return
    check, why = _LOWERED[write.path]
    numbers = numbers_of(look, write.path, write.value)
    if not numbers:
        return
    default = look.defaults.get(write.path)
    severity = None
    if default is not None:
        least, whose = int(default), "this kernel's default"
    elif look.usual_sockets is not None:
        least, whose = look.usual_sockets, "what a kernel with this memory takes by default, at least"
    else:
        least, whose = _OF_4_GIB, "what a kernel with 4 GiB of memory takes by default"
        severity = Severity.INFO if numbers[0] >= _OF_1_GIB else None
    if 0 <= numbers[0] < least:
        what = f"{_said(write)} is below {whose}, {least}: {why}"
        yield _at(write, check, what, "Remove the line, or raise it.", severity)


def _no_such_control(look: Look, write: Write) -> Iterator[Fault]:
    available = look.held.get(_IP + "tcp_available_congestion_control")
    if write.path != _IP + "tcp_congestion_control" or available is None:
        return
    names = () if isinstance(available.value, Missing) else available.value.split()
    if names and write.value not in {*names, *_CONTROLS} and len(write.value.split()) == 1:
        yield _at(
            write,
            "congestion-control-unknown",
            f"{_said(write)}: neither loaded (there is {', '.join(names)}) nor a module of kernel.org. Where "
            "there is no such module the kernel refuses the line.",
            f"Correct the name, or see whether there is a module: modinfo tcp_{clean(write.value, 40)}.",
        )


def _together(look: Look, write: Write) -> Iterator[Fault]:
    """What depends on a second setting, or on the machine."""
    numbers = numbers_of(look, write.path, write.value)
    if not numbers:
        return
    if (
        write.path == _IP + "tcp_tw_reuse"
        and numbers[0] == 1
        and _other(look, "net/ipv4/tcp_timestamps") == (0,)
    ):
        yield _at(
            write,
            "tw-reuse-without-timestamps",
            "tcp_tw_reuse needs timestamps on both ends, and tcp_timestamps is 0: it does nothing.",
            "Set net.ipv4.tcp_timestamps = 1, or remove the line.",
        )
    limit = _other(look, "net/core/somaxconn")
    if write.path == _IP + "tcp_max_syn_backlog" and limit and numbers[0] > limit[0]:
        yield _at(
            write,
            "syn-backlog-above-somaxconn",
            f"Each listener's half-open connections are bounded by net.core.somaxconn ({limit[0]}) and "
            "its own backlog "
            f"first: {numbers[0]} is never reached.",
            "Raise net.core.somaxconn and the program's backlog, or remove the line.",
        )
    yield from _in_bytes(look, write, numbers)


def _in_bytes(look: Look, write: Write, numbers: Numbers) -> Iterator[Fault]:
    pages = look.memory_pages
    if write.path == _IP + "tcp_mem" and pages is not None and numbers[-1] > pages:
        yield _at(
            write,
            "tcp-mem-in-bytes",
            f"tcp_mem counts pages, and {numbers[-1]} pages are more than this machine has ({pages}): "
            "TCP may use all "
            "memory.",
            "Divide by the size of a page, 4096 bytes on most machines, or remove the line.",
        )


def numbers_of(look: Look, path: str, value: str) -> Numbers | None:
    """The numbers that a value sets; None where it is none, or too few."""
    size = look.known_of(path).size or 1
    numbers = written_numbers(value, size)
    return numbers if numbers is not None and len(numbers) == size else None


def _other(look: Look, path: str) -> Numbers | None:
    value = look.will_be(path)
    return None if value is None else numbers_of(look, path, value)


def _said(write: Write) -> str:
    return f"{dotted(write.path).rpartition('.')[2]} = {clean(' '.join(write.value.split()), 100)}"


def _at(write: Write, check: str, what: str, do: str, severity: Severity | None = None) -> Fault:
    place = (write.by.file, write.by.line.number)
    return fault(check, place, what, do, key=dotted(write.path), severity=severity)


# What is wrong with the range of ports that outgoing connections get, and with what is kept out of it.


RESERVED = "net/ipv4/ip_local_reserved_ports"
_FEWEST = 10_000
"""Ports: about a third of the default's 28,232; own."""
_LEAST_SHARE = 0.2
"""Of the range that may be left after what is reserved; own."""
_NODE_PORTS = (30000, 32767)
"""What Kubernetes gives to services of type NodePort (--service-node-port-range)."""
_SHOWN = 6

Ranges = tuple[tuple[int, int], ...]


def check_ports(look: Look) -> Iterator[Fault]:
    """Look at the range and the reserved ports that stay in the end."""
    for write in look.settings():
        if write.path == PORT_RANGE:
            ends = numbers_of(look, PORT_RANGE, write.value)
            if ends is not None and ends[0] <= ends[1]:
                yield from _range(look, write, (ends[0], ends[1]))
        elif write.path == RESERVED:
            ends = numbers_of(look, PORT_RANGE, look.will_be(PORT_RANGE) or "")
            reserved = port_ranges(write.value)
            if ends is not None and reserved:
                yield from _eaten(write, (ends[0], ends[1]), reserved)
        elif write.path == FIRST_UNPRIVILEGED:
            ends = numbers_of(look, PORT_RANGE, look.will_be(PORT_RANGE) or "")
            first = numbers_of(look, FIRST_UNPRIVILEGED, write.value)
            if ends is not None and first is not None and ends[0] < first[0]:
                yield _fault_at(
                    write,
                    "value-refused",
                    f"The kernel refuses a first unprivileged port inside {dotted(PORT_RANGE)}, which "
                    f"begins at {ends[0]}.",
                    "Choose one at or below it, or begin the range higher in a line before.",
                )


def _range(look: Look, write: Write, ends: tuple[int, int]) -> Iterator[Fault]:
    low, high = ends
    reserved = port_ranges(look.will_be(RESERVED) or "") or ()
    first = numbers_of(look, FIRST_UNPRIVILEGED, look.will_be(FIRST_UNPRIVILEGED) or "")
    if first is not None and low < first[0]:
        yield _fault_at(
            write,
            "value-refused",
            f"The kernel refuses a range that begins below {dotted(FIRST_UNPRIVILEGED)}, {first[0]}.",
            "Begin it there or above, or lower that setting in a line before.",
        )
        return
    yield from _shape(write, ends)
    yield from _swallowed(look, write, ends, reserved)
    if low <= _NODE_PORTS[1] and high >= _NODE_PORTS[0] and not _covered(_NODE_PORTS, reserved):
        yield _fault_at(
            write,
            "range-holds-node-ports",
            "It overlaps 30000 to 32767, which Kubernetes gives to services of type NodePort.",
            "On a node of Kubernetes begin at 32768, or reserve 30000-32767. Elsewhere it does not matter.",
        )


def _shape(write: Write, ends: tuple[int, int]) -> Iterator[Fault]:
    low, high = ends
    size = high - low + 1
    if size < _FEWEST:
        yield _fault_at(
            write,
            "range-narrow",
            f"{size} ports: so many connections can go to one address and port of a peer, TIME_WAIT "
            "included.",
            "Widen it; the default is 32768 60999.",
        )
    if low % 2 == high % 2 and size > 1:
        yield _fault_at(
            write,
            "range-same-parity",
            f"Both ends are {'even' if low % 2 == 0 else 'odd'}: connect() prefers the parity of the "
            "first, bind() "
            "to port 0 the other, which has one port fewer; the kernel logs it.",
            f"Choose an odd and an even end, such as {low} {high - 1}.",
        )


def _swallowed(look: Look, write: Write, ends: tuple[int, int], reserved: Ranges) -> Iterator[Fault]:
    if isinstance(look.listeners, Missing) or not look.is_here:
        return
    inside = sorted(
        {
            (listening.port, listening.local)
            for listening in look.listeners
            if ends[0] <= listening.port <= ends[1]
            and not _covered((listening.port, listening.port), reserved)
        }
    )
    if not inside:
        return
    ports = sorted({port for port, _ in inside})
    more = f" and {len(ports) - _SHOWN} more" if len(ports) > _SHOWN else ""
    yield _fault_at(
        write,
        "range-holds-listener",
        f"Programs listen on {', '.join(map(str, ports[:_SHOWN]))}{more} inside it: while one restarts, "
        "an outgoing "
        "connection may take its port, and bind() answers EADDRINUSE.",
        f"Begin the range above them, or set {dotted(RESERVED)} = {','.join(map(str, ports))} (a write "
        "replaces the "
        "whole list).",
    )


def _eaten(write: Write, ends: tuple[int, int], reserved: Ranges) -> Iterator[Fault]:
    size = ends[1] - ends[0] + 1
    taken = sum(max(0, min(high, ends[1]) - max(low, ends[0]) + 1) for low, high in reserved)
    if size - taken < size * _LEAST_SHARE:
        yield _fault_at(
            write,
            "reserved-eats-range",
            f"{taken} of the {size} ports of the ephemeral range are reserved; {size - taken} are left.",
            "Reserve only ports that a server of this host binds.",
        )


def _covered(ports: tuple[int, int], ranges: Ranges) -> bool:
    return any(low <= ports[0] and ports[1] <= high for low, high in ranges)


def _fault_at(write: Write, check: str, what: str, do: str) -> Fault:
    return fault(check, (write.by.file, write.by.line.number), what, do, key=dotted(write.path))
