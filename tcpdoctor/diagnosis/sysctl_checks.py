"""The checks of `sysctl lint`: each has a name that stays, a severity at most, and what it rests on."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.sysctl_look import Fault, Known, Look, Write
from tcpdoctor.facts.sysctl_value import Numbers, port_ranges, printed_numbers, read_numbers, written_numbers
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.sysctl_files import dotted
from tcpdoctor.kernel.text import blank_split, clean, name_a_few

_IP = "Linux Documentation/networking/ip-sysctl.rst"
_SYSCTL_D = "sysctl.d(5)"
_SYSTEMD = "systemd 252, src/sysctl/sysctl.c"
_PROCPS = "procps 4.0.2, src/sysctl.c"
_PARSE = "Linux kernel/sysctl.c, proc_get_long() and do_proc_dointvec()"


class Check(NamedTuple):
    """What one check looks for."""

    name: str
    severity: Severity
    """The worst that it gives; some places are milder."""
    title: str
    sources: tuple[str, ...]
    """Documents, headers and functions; ``own`` where the threshold is this program's."""


def _info(name: str, title: str, *sources: str) -> Check:
    return Check(name, Severity.INFO, title, sources)


def _warning(name: str, title: str, *sources: str) -> Check:
    return Check(name, Severity.WARNING, title, sources)


_FILES = (
    _warning("not-an-assignment", "A line is neither a comment nor a setting", _SYSCTL_D, _SYSTEMD, _PROCPS),
    _warning("no-readable-file", "A name in the folder is no file that can be read", _SYSTEMD, _PROCPS),
    _info("link-to-nothing", "A link leads nowhere, and hides files of its name", _SYSTEMD, _PROCPS),
    _info("hidden-file", "A file's name begins with a dot, and only procps reads it", _SYSTEMD, _PROCPS),
    _info("file-not-read", "A file's name does not end in .conf, so nobody reads it", _SYSCTL_D),
    _warning("sysctl-conf-not-read", "systemd-sysctl does not read /etc/sysctl.conf", _SYSCTL_D, _SYSTEMD),
    _warning("line-too-long", "systemd-sysctl stops at a line of more than 1 MiB", _SYSTEMD),
    _warning("stray-line-end", "A carriage return or NUL ends a line for systemd only", _SYSTEMD, _PROCPS),
    _warning("byte-order-mark", "A byte order mark is taken as part of the first key", _SYSTEMD, _PROCPS),
    _info("not-utf-8", "A setting holds bytes that are no UTF-8", _SYSCTL_D),
    _info("file-name-is-pattern", "procps takes a file's name for a pattern", _PROCPS),
)

_ORDER = (
    _warning("readers-disagree", "systemd-sysctl and procps end with different values", _SYSTEMD, _PROCPS),
    _warning("set-twice", "One key is set more than once", _SYSCTL_D),
    _warning(
        "reset-by-later-line",
        "A later line resets the setting",
        "Linux net/ipv4/devinet.c, inet_forward_change(); net/ipv6/addrconf.c",
    ),
    _info("pattern-matches-nothing", "A pattern stands for no setting of this kernel", _SYSCTL_D),
    _warning(
        "pattern-excludes-nothing", "An exclusion is a pattern, which most readers ignore", _SYSTEMD, _PROCPS
    ),
)

_KEYS = (
    _warning("key-outside-proc-sys", "A key leads out of /proc/sys", _SYSTEMD, _PROCPS),
    _warning("key-removed", "The kernel no longer has this setting", _IP),
    _warning("key-never-existed", "No kernel of kernel.org ever had this setting", _IP),
    _warning("key-unknown", "This kernel does not have this setting", _IP),
    _info("key-too-new", "The setting came with a later kernel than this one", _IP),
    _info("key-of-initial-namespace", "Only the initial network namespace has this setting", _IP),
    _info("key-needs-module", "The setting appears when a module is loaded", _SYSCTL_D),
    _info("key-of-absent-interface", "The setting is of an interface that is not there", _SYSCTL_D),
    _warning("key-read-only", "The setting cannot be written here", _IP),
    _info("key-has-no-effect", "The kernel takes any value and does nothing with it", _IP),
    _warning("value-refused", "The kernel refuses the value", _PARSE, _IP),
    _info("value-acts-as-another", "A number stands for nothing, and acts as another", _IP),
    _warning("value-harmful", "A value does what nobody can have meant", _IP),
    _warning("wrong-count", "A value has more numbers than its setting, or fewer", _PARSE),
    _warning("trailing-comment", "A comment behind a value is part of the value", _SYSCTL_D, _PARSE),
    _info("differs-from-running", "The running value is not what the files say", _SYSCTL_D),
)

_VALUES = (
    _warning(
        "congestion-control-unknown",
        "Neither the kernel nor a module of kernel.org has this congestion control",
        "Linux net/ipv4/tcp_cong.c, tcp_ca_find_autoload()",
    ),
    _warning(
        "qdisc-unknown",
        "No kernel has this queueing discipline",
        "Linux net/sched/sch_api.c, qdisc_set_default()",
    ),
    _warning("read-as-octal", "A number begins with 0, and the kernel reads it to the base 8", _PARSE),
    _warning("range-holds-listener", "The ephemeral range holds ports that programs listen on", _IP),
    _info(
        "range-same-parity", "Both ends of the ephemeral range are even, or odd", f"{_IP}: different parity"
    ),
    _info(
        "range-holds-node-ports",
        "The ephemeral range overlaps Kubernetes' node ports",
        "kubernetes/kops issue 6342",
    ),
)

CHECKS = {check.name: check for check in (*_FILES, *_ORDER, *_KEYS, *_VALUES)}
"""Every check that no rule can express, by its name, in the order of the documentation; those of single
values are rules (`settings_rules`)."""


def fault(
    check: str,
    place: tuple[str, int | None],
    what: str,
    do: str,
    *,
    key: str | None = None,
    severity: Severity | None = None,
) -> Fault:
    """Return a fault of a check, as severe as the check unless it is said to be milder."""
    known = CHECKS[check]
    return Fault(check, severity or known.severity, place[0], place[1], key, what, do, known.sources)


# Whether the kernel takes a value for a setting, and if not, why.


PORT_RANGE = "net/ipv4/ip_local_port_range"
_ONE_NAME = frozenset({"net/ipv4/tcp_congestion_control", "net/core/default_qdisc"})
FIRST_UNPRIVILEGED = "net/ipv4/ip_unprivileged_port_start"


def refusal(path: str, value: str, known: Known, held: Reading[str]) -> str | None:
    """Return why the kernel refuses a value; None where it takes it, or where that cannot be told.

    Args:
        path: Below /proc/sys.
        value: As written, without blanks around it.
        known: What is known of the setting.
        held: What it holds here: as many numbers as it holds are read. `Missing` where it is not there.
    """
    if known.unit == "ports":
        return None if port_ranges(value) is not None else "it wants ports and ranges, as in 8080,9000-9010"
    if path in _ONE_NAME:
        return None if len(blank_split(value)) == 1 and value.isprintable() else "it wants one name"
    size = size_of(known, held)
    if size is None:
        return None
    numbers = written_numbers(value, size)
    if numbers is None:
        return "it wants a whole number" if size == 1 else f"it wants {size} whole numbers"
    if path == PORT_RANGE and len(numbers) == 2 and numbers[0] > numbers[1]:
        return "the range ends before it begins"
    if known.bounds is not None:
        low, high = known.bounds
        outside = [number for number in numbers if not low <= number <= high]
        if outside:
            return f"{outside[0]} is outside what it takes, {low} to {high}"
    elif any(abs(number) > 2**64 for number in numbers):
        return "the number is too large"
    return None


_WHOLE = frozenset({PORT_RANGE, "net/ipv4/ping_group_range"})
"""Settings of several numbers that take all or none (they are read into a copy first)."""


def stays(path: str, value: str, known: Known, held: Reading[str]) -> str:
    """Say what a setting holds after a write that the kernel refused.

    Of several numbers those before the refused one are stored all the same.

    Source: Linux kernel/sysctl.c, do_proc_dointvec() and do_proc_doulongvec_minmax().
    """
    size = size_of(known, held) or 1
    numbers: list[int] = []
    for number in read_numbers(value, size).numbers:
        if known.bounds is not None and not known.bounds[0] <= number <= known.bounds[1]:
            break
        numbers.append(number)
    if size == 1 or path in _WHOLE or not numbers:
        return "The setting stays as it was."
    become = "number becomes" if len(numbers) == 1 else "numbers become"
    stored = " ".join(map(str, numbers))
    return f"What stands before it is stored all the same: its first {become} {stored}."


def size_of(known: Known, held: Reading[str]) -> int | None:
    """How many numbers a setting holds; None where it holds something else."""
    if known.size is not None:
        return known.size
    if known.unit == "text" or isinstance(held, Missing):
        return None
    numbers = printed_numbers(held)
    return None if numbers is None else len(numbers)


_CONTROL = "net/ipv4/tcp_congestion_control"
_ALLOWED = "net/ipv4/tcp_allowed_congestion_control"
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
        if write.path == _ALLOWED and names:
            absent = [word for word in blank_split(write.value) if word not in names]
            if absent:
                yield _not_allowed(write, absent[0], names)
        if write.path == _CONTROL and names and write.value not in {*names, *_CONTROLS}:
            if len(blank_split(write.value)) != 1:
                continue
            yield _control(write, names)


def _not_allowed(write: Write, name: str, loaded: list[str]) -> Fault:
    """Unlike the one that is chosen, those that are allowed are not loaded by naming them.

    Source: Linux net/ipv4/tcp_cong.c, tcp_set_allowed_congestion_control().
    """
    shown = clean(name, 40)
    return _fault_at(
        write,
        "congestion-control-unknown",
        f"tcp_allowed_congestion_control names {shown}, which is not loaded (there is {', '.join(loaded)}): "
        "the kernel refuses the whole line, and loads none for it.",
        f"Correct the name, or have the module loaded before: tcp_{shown} in /etc/modules-load.d.",
    )


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
