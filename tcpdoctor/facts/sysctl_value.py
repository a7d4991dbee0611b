"""What a text written to a setting makes of it, as the kernel parses it.

Numbers: blanks separate them, ``0x`` begins a hexadecimal and ``0`` an octal one, at most one minus sign
stands before. As many as the setting has are read; what follows them after a blank is ignored, so a comment
behind a number does no harm by luck, and directly behind it (``60#``) makes the write fail. Fewer than the
setting has leave the rest as it was. Blanks are those of ASCII; a no-break space is no part of a number. A
number of 21 characters or more is refused whatever it says. Lists of ports take no blanks at all.

Source: kernel/sysctl.c (proc_get_long, do_proc_dointvec, proc_do_large_bitmap, TMPBUFLEN); asked of the
kernel by tests/live/test_sysctl_files.py.
"""

import re
from collections.abc import Mapping
from typing import TypeAlias

from tcpdoctor.facts.value import BYTE, SECOND, show_number
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import PortRanges, SysctlValue
from tcpdoctor.kernel.text import blank_split
from tcpdoctor.named_tuples import NamedTuple

Numbers: TypeAlias = tuple[int, ...]

_NUMBER = r"-?(?:0[xX][0-9a-fA-F]+|[0-9]+)"
_PORT = r"(?:0[xX][0-9a-fA-F]+|[0-9]+)"
_PORTS = rf"{_PORT}(?:-{_PORT})?(?:,{_PORT}(?:-{_PORT})?)*,?"
"""Compiled where they are used: most looks use none, and both take a millisecond."""
_BLANKS = " \t\n"
_SKIPPED = " \t\n\v\f\r\udca0"
"""What the kernel skips before a number: isspace() of lib/ctype.c, which knows the byte 0xA0 as well."""
_LONGEST = 20
"""Characters of a number, its sign included; longer ones are refused unread."""


class ReadNumbers(NamedTuple):
    """What the kernel reads of a text."""

    numbers: Numbers
    """Those before the end, or before the first word that is no number."""
    stray: str | None
    """The word that is no number, where reading ended; None where all was read."""
    rest: str
    """What was not looked at, because the setting has no more numbers."""


def read_numbers(text: str, most: int) -> ReadNumbers:
    """Read a text as a write to a setting of `most` numbers is read."""
    numbers: list[int] = []
    place = 0
    while len(numbers) < most:
        while place < len(text) and text[place] in _SKIPPED:
            place += 1
        if place == len(text):
            break
        word = re.compile(r"[^ \t\n]*").match(text, place)
        found = "" if word is None else word[0]
        number = _number(found) if re.fullmatch(_NUMBER, found) else None
        if number is None:
            return ReadNumbers(tuple(numbers), found, "")
        numbers.append(number)
        place += len(found)
    return ReadNumbers(tuple(numbers), None, text[place:].strip(_SKIPPED))


def written_numbers(text: str, most: int) -> Numbers | None:
    """Return the numbers that a write sets, `most` of them at most; None where the kernel refuses it."""
    found = read_numbers(text, most)
    return None if found.stray is not None else found.numbers or None


def _number(word: str) -> int | None:
    if len(word) > _LONGEST:
        return None
    digits = word.removeprefix("-")
    sign = -1 if word != digits else 1
    if digits[:2] in ("0x", "0X"):
        return sign * int(digits[2:], 16)
    if digits.startswith("0") and len(digits) > 1:
        return sign * int(digits, 8) if re.fullmatch("[0-7]+", digits) else None
    return sign * int(digits)


def printed_numbers(text: str) -> Numbers | None:
    """Return the numbers of a value as the kernel prints it; None for a text that holds anything else."""
    words = blank_split(text)
    return (
        tuple(map(int, words))
        if words and all(re.fullmatch(r"-?[0-9]{1,30}", word) for word in words)
        else None
    )


def port_ranges(text: str) -> tuple[tuple[int, int], ...] | None:
    """Return the ranges of a list of ports, both ends included; None where the kernel refuses it.

    An empty text is the empty list; one comma at the end does no harm.
    """
    text = text.strip(_BLANKS)
    if not text:
        return ()
    if not re.fullmatch(_PORTS, text):
        return None
    ranges = []
    for part in text.removesuffix(",").split(","):
        low, _, high = part.partition("-")
        first, last = _number(low), _number(high or low)
        if first is None or last is None or not first <= last <= 65535:
            return None
        ranges.append((first, last))
    return merged(ranges)


def merged(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return ranges in order, with those that overlap or touch joined, as the kernel prints them."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return tuple(joined)


def is_same(written: str, running: str) -> bool:
    """Whether a setting that holds `running` is what writing `written` would have made of it.

    Numbers are compared as numbers, lists of ports as sets, everything else word by word.
    """
    if blank_split(written) == blank_split(running):
        return True
    numbers = printed_numbers(running)
    if numbers is not None:
        wanted = written_numbers(written, len(numbers))
        if wanted is not None:
            return numbers[: len(wanted)] == wanted
    if re.fullmatch(r"[0-9,-]*", running):
        ports = port_ranges(written)
        return ports is not None and ports == port_ranges(running)
    return False


# Defaults that the kernel computes, where they can be computed again: from the table of connections.
#
# Since Linux 6.1 net.ipv4.tcp_ehash_entries tells the size of that table, negative in a namespace that
# shares the initial one's. What is computed from the memory that was free at boot (tcp_mem, tcp_rmem,
# tcp_wmem, fs.file-max) cannot be computed again and is left out.
#
# Source: Linux net/ipv4/tcp.c (tcp_init: sysctl_tcp_max_orphans), net/ipv4/tcp_ipv4.c (tcp_set_hashinfo:
# tw_buckets, sysctl_max_syn_backlog), net/netfilter/nf_conntrack_core.c (nf_conntrack_init_start).


EHASH = "net.ipv4.tcp_ehash_entries"
BUCKETS = "net.netfilter.nf_conntrack_buckets"
_MARK_OF_6_18 = "net.ipv4.tcp_ecn_option"
"""It came with the same kernel as the larger limits of net.core, and later than the larger tcp_rmem."""
NEEDED = (EHASH, BUCKETS, _MARK_OF_6_18)


def computed_defaults(sysctls: Mapping[str, Reading[SysctlValue]]) -> Mapping[str, tuple[str, ...]]:
    """Return the defaults that follow from others, by dotted name; several where kernels differ.

    Args:
        sysctls: Values of `NEEDED`; what follows from an absent one is left out.
    """
    found: dict[str, tuple[str, ...]] = {}
    entries = sysctls.get(EHASH)
    if isinstance(entries, int) and entries != 0:
        size = abs(entries)
        found["net.ipv4.tcp_max_orphans"] = (str(size // 2),)
        found["net.ipv4.tcp_max_tw_buckets"] = (str(size // 2),)
        found["net.ipv4.tcp_max_syn_backlog"] = (str(max(128, size // 128)),)
    buckets = sysctls.get(BUCKETS)
    if isinstance(buckets, int):
        found["net.netfilter.nf_conntrack_max"] = (str(buckets), str(4 * buckets))
    if _is_since_6_18(sysctls):
        found["net.core.rmem_max"] = found["net.core.wmem_max"] = (str(_LIMIT),)
        found["net.ipv4.tcp_limit_output_bytes"] = (str(_LIMIT),)
        found["net.ipv4.tcp_challenge_ack_limit"] = (str(_NO_LIMIT),)
    return found


def _is_since_6_18(sysctls: Mapping[str, Reading[SysctlValue]]) -> bool:
    return not isinstance(sysctls.get(_MARK_OF_6_18, Missing("not there")), Missing)


def is_computed_default(
    name: str,
    value: SysctlValue,
    sysctls: Mapping[str, Reading[SysctlValue]],
    memory: Reading[int],
    page_size: int,
) -> bool | None:
    """Whether a value is what the kernel computes from memory at boot; None where that cannot be told.

    The kernel counts what was free then, which is less than the memory there is: its shape is exact, and its
    size within a fifth.

    Args:
        name: Of the sysctl, dotted.
        value: As it was read.
        sysctls: Values of `NEEDED`.
        memory: Pages of the machine.
        page_size: Bytes of one.

    Source: Linux net/ipv4/tcp.c (tcp_init, tcp_init_mem), net/ipv4/udp.c (udp_init), fs/file_table.c
    (files_maxfiles_init).
    """
    if isinstance(memory, Missing):
        return None
    if name in _SHARES:
        return _is_three_four_six(value, memory // _SHARES[name])
    if name in _BUFFERS:
        first, least, most = _BUFFERS[name]
        most = most[-1:] if _is_since_6_18(sysctls) else most
        return _is_grown_buffer(value, first, least, most, memory * page_size // 128, page_size)
    if name == "fs.file-max" and isinstance(value, int):
        return _is_about(value, memory * page_size // 10240)
    return None


_SHARES = {"net.ipv4.tcp_mem": 16, "net.ipv4.udp_mem": 8}
"""Of memory: where pressure begins."""
_BUFFERS = {
    "net.ipv4.tcp_rmem": (131072, 131072, (6 << 20, 32 << 20)),
    "net.ipv4.tcp_wmem": (16384, 65536, (4 << 20,)),
}
"""What a buffer has at first, the least that its most is, and the most that it can be, by kernel."""


def _is_about(number: int, computed: int) -> bool:
    return computed * 4 // 5 <= number <= computed


def _is_three_four_six(value: SysctlValue, pressure: int) -> bool | None:
    match value:
        case (int(low), int(middle), int(high)):
            return (low, high) == (middle // 4 * 3, middle // 4 * 6) and _is_about(middle, pressure)
    return None


def _is_grown_buffer(
    value: SysctlValue, first: int, least: int, most: tuple[int, ...], share: int, page_size: int
) -> bool | None:
    match value:
        case (int(low), int(middle), int(high)):
            if low not in (4096, page_size) or middle != first:
                return False
            return high in (*(each for each in most if each <= share), least) or _is_about(high, share)
    return None


def least_default(
    name: str, sysctls: Mapping[str, Reading[SysctlValue]], memory: Reading[int], page_size: int
) -> Reading[SysctlValue]:
    """Return the least that a kernel takes by itself for a setting that people lower by mistake.

    What the kernel computes from memory is computed from half of this machine's, because it counts less than
    there is, and because memory may have been added since. Where kernels differ and nothing here tells which
    this is, it is the smallest of Linux 5.10 to 6.18.

    Args:
        name: One of `LOWERED`.
        sysctls: Values of this kernel.
        memory: Pages of the machine.
        page_size: Bytes of one.

    Source: Linux net/ipv4/tcp.c (tcp_init, tcp_init_mem), fs/file_table.c (files_maxfiles_init),
    net/netfilter/nf_conntrack_core.c (nf_conntrack_init_start), net/core/sock.c, include/linux/socket.h.
    """
    if name in _FIXED:
        return _FIXED[name]
    size = memory if isinstance(memory, Missing) else memory * page_size
    recent = _is_since_6_18(sysctls)
    if name in ("net.core.rmem_max", "net.core.wmem_max"):
        return _LIMIT if recent else _OLD_LIMIT
    if name in _TABLES:
        return _half_of_the_table(sysctls, size)
    if name == "net.ipv4.tcp_rmem":
        return 4096, 131072, _grown(32 << 20 if recent else 6 << 20, size, 131072)
    if name == "net.ipv4.tcp_wmem":
        return 4096, 16384, _grown(4 << 20, size, 65536)
    return memory if isinstance(memory, Missing) else _of_memory(name, memory, memory * page_size)


LOWERED = (
    "net.core.somaxconn",
    "net.core.rmem_max",
    "net.core.wmem_max",
    "net.core.optmem_max",
    "net.core.netdev_max_backlog",
    "net.ipv4.tcp_limit_output_bytes",
    "net.ipv4.neigh.default.gc_thresh3",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_max_tw_buckets",
    "net.netfilter.nf_conntrack_max",
    "fs.nr_open",
)
"""Settings whose least default is a fact: numbers of old guides that were a raise once are below it today."""

_FIXED: Mapping[str, int] = {
    "net.core.somaxconn": 4096,
    "net.core.optmem_max": 20480,
    "net.core.netdev_max_backlog": 1000,
    "net.ipv4.tcp_limit_output_bytes": 1 << 20,
    "net.ipv4.neigh.default.gc_thresh3": 1024,
    "fs.nr_open": 1 << 20,
}
_LIMIT = 4 << 20
_OLD_LIMIT = 163840
"""Before 6.18, the least of what the size of a small packet gives (212992 on most machines)."""
_TABLES = frozenset({"net.ipv4.tcp_max_orphans", "net.ipv4.tcp_max_tw_buckets"})
_OF_4_GIB = 16384
"""Orphans and minisockets that a kernel with 4 GiB allows by default."""


def _half_of_the_table(sysctls: Mapping[str, Reading[SysctlValue]], size: Reading[int]) -> int:
    entries = sysctls.get(EHASH)
    if isinstance(entries, int) and entries != 0:
        return abs(entries) // 2
    return _OF_4_GIB if isinstance(size, Missing) else fewest_sockets(size)


def _grown(most: int, size: Reading[int], least: int) -> int:
    """The most that a buffer grows to: 1/128 of memory, within limits; where that is not known, the least."""
    return least if isinstance(size, Missing) else max(least, min(most, size // 256))


def _of_memory(name: str, pages: int, size: int) -> Reading[SysctlValue]:
    if name == "net.ipv4.tcp_mem":
        pressure = max(pages // 32, 128)
        return pressure // 4 * 3, pressure, pressure // 4 * 6
    if name == "fs.file-max":
        return max(size // 10240 // 2, 8192)
    gibibytes = size / (1 << 30)
    if gibibytes > 1.2:
        return 262144 if gibibytes > 4.5 else 65536
    return Missing(f"the kernel's default of {name} is not known for so little memory")


_BYTES_EACH = 1 << 17
_LARGEST_TABLE = 1 << 19


def fewest_sockets(memory: int) -> int:
    """Return the least default that tcp_max_orphans and tcp_max_tw_buckets can have with this memory.

    For kernels before 6.1, which do not tell the size of their table: it has one bucket for each 128 KiB,
    rounded up to a power of two, and half of its buckets are the default. The kernel counts a little less
    memory than there is, so the power of two below is taken.

    Args:
        memory: Bytes.

    Source: Linux mm/mm_init.c (alloc_large_system_hash), net/ipv4/tcp.c (tcp_init).
    """
    buckets = max(1, memory // _BYTES_EACH)
    return min(1 << (buckets.bit_length() - 1), _LARGEST_TABLE) // 2


# A sysctl's value as a person says it: ``2 h``, ``4.0 MiB``, ``28,232 ports``.


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
    words = [_show_in_unit(unit, number, page_size) for number in numbers if isinstance(number, int)]
    known = [word for word in words if word is not None]
    return ", ".join(known) if known and len(known) == len(numbers) else None


def value_as_printed(value: object) -> str:
    """Return a setting's value, or JSON's form of one, as the kernel prints it, with single spaces.

    ``60``, ``4096 131072 33554432``, ``8080,9000-9010``.
    """
    if not isinstance(value, tuple | list):
        return str(value)
    if value and isinstance(value[0], tuple):
        ranges = [part for part in value if isinstance(part, tuple)]
        return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in ranges)
    return " ".join(str(part) for part in value)


def _show_in_unit(unit: str, number: int, page_size: int) -> str | None:
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
