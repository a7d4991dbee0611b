"""A sysctl's value as a person says it: ``2 h``, ``4.0 MiB``, ``28,232 ports``."""

from tcpdoctor.facts.dimension import BYTE, SECOND, show_number
from tcpdoctor.kernel.snapshot import PortRanges, SysctlValue

_SECONDS = {"second": 1.0, "millisecond": 1e-3, "microsecond": 1e-6, "nanosecond": 1e-9}
_NO_LIMIT = 2**31 - 1


def value_in_words(name: str, unit: str, value: SysctlValue, page_size: int) -> str | None:
    """Say what a value amounts to; None where the number says it already.

    Args:
        name: Full name of the sysctl.
        unit: Its unit as `facts.sysctl_facts` has it.
        value: As it was read.
        page_size: Bytes of a page, for tcp_mem.
    """
    if name == "net.ipv4.ip_local_port_range":
        return _width(value)
    if unit == "ports":
        return _counted(_ports(value)) if _ports(value) else None
    numbers = (value,) if isinstance(value, int) else value
    if not isinstance(numbers, tuple):
        return None
    words = [_number(unit, number, page_size) for number in numbers if isinstance(number, int)]
    known = [word for word in words if word is not None]
    return ", ".join(known) if known and len(known) == len(numbers) else None


def value_as_printed(value: SysctlValue) -> str:
    """Return the value as the kernel prints it, with single spaces: ``4096 131072 33554432``."""
    if not isinstance(value, tuple):
        return str(value)
    if value and isinstance(value[0], tuple):
        ranges = [part for part in value if isinstance(part, tuple)]
        return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in ranges)
    return " ".join(str(part) for part in value)


def _number(unit: str, number: int, page_size: int) -> str | None:
    if unit in _SECONDS:
        return show_number(number * _SECONDS[unit], SECOND)
    if unit == "percent":
        return f"{number} %"
    if unit in ("byte", "page"):
        if number >= _NO_LIMIT:
            return None
        return show_number(number * (page_size if unit == "page" else 1), BYTE)
    return None


def _width(value: SysctlValue) -> str | None:
    match value:
        case (int(low), int(high)):
            return _counted(high - low + 1)
    return None


def _counted(ports: int) -> str:
    return f"{ports:,} port{'' if ports == 1 else 's'}"


def _ports(value: SysctlValue) -> int:
    ranges: PortRanges = ()
    if isinstance(value, tuple):
        ranges = tuple(part for part in value if isinstance(part, tuple))
    return sum(high - low + 1 for low, high in ranges)
