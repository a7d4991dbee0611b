"""What is wrong with the range of ports that outgoing connections get, and with what is kept out of it."""

from collections.abc import Iterator

from tcpdoctor.diagnosis.sysctl_checks import fault
from tcpdoctor.diagnosis.sysctl_look import Fault, Look
from tcpdoctor.diagnosis.sysctl_order import Write
from tcpdoctor.diagnosis.sysctl_refusal import FIRST_UNPRIVILEGED, PORT_RANGE
from tcpdoctor.diagnosis.sysctl_value_checks import numbers_of
from tcpdoctor.facts.sysctl_value import port_ranges
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sysctl_lines import dotted

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
                yield _at(
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
        yield _at(
            write,
            "value-refused",
            f"The kernel refuses a range that begins below {dotted(FIRST_UNPRIVILEGED)}, {first[0]}.",
            "Begin it there or above, or lower that setting in a line before.",
        )
        return
    yield from _shape(write, ends)
    yield from _swallowed(look, write, ends, reserved)
    if low <= _NODE_PORTS[1] and high >= _NODE_PORTS[0] and not _covered(_NODE_PORTS, reserved):
        yield _at(
            write,
            "range-holds-node-ports",
            "It overlaps 30000 to 32767, which Kubernetes gives to services of type NodePort.",
            "On a node of Kubernetes begin at 32768, or reserve 30000-32767. Elsewhere it does not matter.",
        )


def _shape(write: Write, ends: tuple[int, int]) -> Iterator[Fault]:
    low, high = ends
    size = high - low + 1
    if size < _FEWEST:
        yield _at(
            write,
            "range-narrow",
            f"{size} ports: so many connections can go to one address and port of a peer, TIME_WAIT "
            "included.",
            "Widen it; the default is 32768 60999.",
        )
    if low % 2 == high % 2 and size > 1:
        yield _at(
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
    yield _at(
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
        yield _at(
            write,
            "reserved-eats-range",
            f"{taken} of the {size} ports of the ephemeral range are reserved; {size - taken} are left.",
            "Reserve only ports that a server of this host binds.",
        )


def _covered(ports: tuple[int, int], ranges: Ranges) -> bool:
    return any(low <= ports[0] and ports[1] <= high for low, high in ranges)


def _at(write: Write, check: str, what: str, do: str) -> Fault:
    return fault(check, (write.by.file, write.by.line.number), what, do, key=dotted(write.path))
