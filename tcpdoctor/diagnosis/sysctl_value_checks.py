"""Values that only code can judge: names of congestion controls, and the range of ephemeral ports."""

import re
from collections.abc import Iterator

from tcpdoctor.diagnosis.sysctl_checks import FIRST_UNPRIVILEGED, PORT_RANGE, fault
from tcpdoctor.diagnosis.sysctl_look import Fault, Look, Write
from tcpdoctor.facts.sysctl_value import Numbers, port_ranges, written_numbers
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sysctl_files import dotted
from tcpdoctor.kernel.text import blank_split, clean, name_a_few

_CONTROL = "net/ipv4/tcp_congestion_control"
_CONTROLS = frozenset({
    "bbr", "bic", "cdg", "cubic", "dctcp", "dctcp-reno", "highspeed", "htcp", "hybla", "illinois", "lp", "nv",
    "reno", "scalable", "vegas", "veno", "westwood", "yeah",
})  # fmt: skip
"""Congestion controls of kernel.org (net/ipv4/tcp_*.c), which are loaded when a line asks for them."""


def check_controls(look: Look) -> Iterator[Fault]:
    """Look for a congestion control that there is nowhere."""
    available = look.held.get("net/ipv4/tcp_available_congestion_control")
    if available is None or isinstance(available.value, Missing):
        return
    names = available.value.split()
    for write in look.settings():
        if write.path == _CONTROL and names and write.value not in {*names, *_CONTROLS}:
            if len(blank_split(write.value)) != 1:
                continue
            yield _control(write, names)


def _control(write: Write, names: list[str]) -> Fault:
    return fault(
        "congestion-control-unknown",
        (write.by.file, write.by.line.number),
        f"tcp_congestion_control = {clean(write.value, 100)}: neither loaded (there is {', '.join(names)}) "
        "nor a module of kernel.org. Where there is no such module the kernel refuses the line.",
        f"Correct the name, or see whether there is a module: modinfo tcp_{clean(write.value, 40)}.",
        key=dotted(write.path),
    )


_QDISCS = frozenset({
    "bfifo", "cake", "cbs", "choke", "codel", "drr", "dualpi2", "etf", "ets", "fq", "fq_codel", "fq_pie",
    "gred", "hfsc", "hhf", "htb", "mq", "mqprio", "multiq", "netem", "noqueue", "pfifo", "pfifo_fast",
    "pfifo_head_drop", "pie", "plug", "prio", "qfq", "red", "sfb", "sfq", "skbprio", "taprio", "tbf",
})  # fmt: skip
"""Queueing disciplines of kernel.org (net/sched/sch_*.c), which are loaded when a line asks for them."""


def check_qdiscs(look: Look) -> Iterator[Fault]:
    """Look for a queueing discipline that no kernel has; which are loaded is told nowhere."""
    for write in look.settings():
        if write.path == "net/core/default_qdisc" and len(blank_split(write.value)) == 1:
            name = clean(write.value, 40)
            if write.value not in _QDISCS:
                yield _fault_at(
                    write,
                    "qdisc-unknown",
                    f"default_qdisc = {name}: no queueing discipline of kernel.org. Where there is no such "
                    "module the kernel refuses the line.",
                    "Correct the name (fq, fq_codel, cake ...), or see whether there is a module: "
                    f"modinfo sch_{name}.",
                )


def check_octal(look: Look) -> Iterator[Fault]:
    """Look for numbers with a leading zero: the kernel reads them to the base 8."""
    for write in look.settings():
        size = look.known_of(write.path).size
        for word in blank_split(write.value) if size else ():
            if re.fullmatch("-?0[0-7]+", word) and int(word, 8) != int(word):
                yield _fault_at(
                    write,
                    "read-as-octal",
                    f"A number that begins with 0 is octal for the kernel: {word} is {int(word, 8)}.",
                    f"Write {int(word)} if that is meant.",
                )
                break


def numbers_of(look: Look, path: str, value: str) -> Numbers | None:
    """The numbers that a value sets; None where it is none, or too few."""
    size = look.known_of(path).size or 1
    numbers = written_numbers(value, size)
    return numbers if numbers is not None and len(numbers) == size else None


RESERVED = "net/ipv4/ip_local_reserved_ports"
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
    if low % 2 == high % 2 and high > low:
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
    yield _fault_at(
        write,
        "range-holds-listener",
        f"Programs listen on {name_a_few([*map(str, ports)], _SHOWN)} inside it: while one restarts, "
        "an outgoing "
        "connection may take its port, and bind() answers EADDRINUSE.",
        f"Begin the range above them, or set {dotted(RESERVED)} = {','.join(map(str, ports))} (a write "
        "replaces the "
        "whole list).",
    )


def _covered(ports: tuple[int, int], ranges: Ranges) -> bool:
    return any(low <= ports[0] and ports[1] <= high for low, high in ranges)


def _fault_at(write: Write, check: str, what: str, do: str) -> Fault:
    return fault(check, (write.by.file, write.by.line.number), what, do, key=dotted(write.path))
