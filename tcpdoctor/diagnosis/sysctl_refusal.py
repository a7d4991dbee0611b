"""Whether the kernel takes a value for a setting, and if not, why."""

from collections.abc import Mapping

from tcpdoctor.diagnosis.sysctl_known import UNKNOWN, Known
from tcpdoctor.facts.sysctl_value import port_ranges, printed_numbers, written_numbers
from tcpdoctor.kernel.reading import Missing, Reading

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
        return None if len(value.split()) == 1 else "it wants one name"
    size = _size(known, held)
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


def _size(known: Known, held: Reading[str]) -> int | None:
    """How many numbers a setting holds; None where it holds something else."""
    if known.size is not None:
        return known.size
    if known.unit == "text" or isinstance(held, Missing):
        return None
    numbers = printed_numbers(held)
    return None if numbers is None else len(numbers)


def accepts_by(known: Mapping[str, Known], held: Mapping[str, Reading[str]], path: str, value: str) -> bool:
    """Whether the kernel takes a value, as far as that can be told."""
    nothing = Missing("not looked at")
    return refusal(path, value, known.get(path, UNKNOWN), held.get(path, nothing)) is None
