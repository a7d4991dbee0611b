"""The counters of this network namespace: /proc/net/snmp, snmp6, netstat and stat/nf_conntrack.

Names are the kernel's, prefixed with their group: ``TcpExt.ListenOverflows`` is what ``nstat -az``
prints as ``TcpExtListenOverflows``. All count since the namespace was made.
"""

import _socket as socket  # what is around it takes 3 ms to import, and is not needed
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.reading import (
    THREAD_NET,
    Missing,
    Reading,
    is_absent,
    joined,
    read_kernel_file,
    why_unreadable,
)
from tcpdoctor.named_tuples import NamedTuple

# What connection tracking counts in this network namespace: /proc/net/stat/nf_conntrack, or netlink.
#
# A kernel without CONFIG_NF_CONNTRACK_PROCFS, such as Ubuntu's, has no such file. Netlink tells the same,
# but to open it loads modules, and with them perhaps the tracking of every packet: to look must not switch
# it on. So it is asked only where its module is loaded already.


COUNTED = ("drop", "early_drop", "insert_failed", "invalid", "clashres")
"""The columns that are counters of events and mean the same in every kernel that has them.

``insert``, ``new``, ``found``, ``ignore`` and ``delete`` are no longer counted by current kernels,
``chainlength`` has changed its meaning, and ``entries`` is the table's size in every line.
"""


def parse_conntrack_stat(text: str, source: str) -> Mapping[str, int]:
    """Add up the lines of all CPUs: ``{"nf_conntrack.drop": 0, "nf_conntrack.insert_failed": 3, ...}``.

    Names come from the first line, so that a kernel with other columns is read as well.

    Raises:
        KernelReadError: A line has another number of columns than the first, or one is no hexadecimal
            number; with `source` and the line.
    """
    header, *lines = text.splitlines() or [""]
    names = header.split()
    wanted = [(f"nf_conntrack.{name}", names.index(name)) for name in COUNTED if name in names]
    sums = dict.fromkeys([name for name, _ in wanted], 0)
    for number, line in enumerate(lines, start=2):
        columns = line.split()
        if len(columns) != len(names):
            raise KernelReadError(
                f"{source} line {number}: expected {len(names)} columns, found {len(columns)}"
            )
        try:
            for name, place in wanted:
                sums[name] += int(columns[place], 16)
        except ValueError:
            raise KernelReadError(f"{source} line {number}: expected only hexadecimal numbers") from None
    return sums


_NETLINK_NETFILTER = 12
_GET_STATS_CPU = 1 << 8 | 4  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET_STATS_CPU
_REQUEST_DUMP = 0x1 | 0x300
_ERROR, _DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE
_ATTRIBUTES = {4: "invalid", 9: "insert_failed", 10: "drop", 11: "early_drop", 14: "clashres"}
"""enum ctattr_stats_cpu of include/uapi/linux/netfilter/nfnetlink_conntrack.h, with the file's names."""
_LONGEST_ANSWER = 1 << 18


def ask_conntrack(modules: str = "/sys/module") -> Mapping[str, int]:
    """Ask by netlink for what `parse_conntrack_stat` reads; nothing where that is not there, or refused.

    It takes CAP_NET_ADMIN over the namespace. Where nf_conntrack_netlink is not loaded, or is part of a
    kernel that does not list it, no socket is opened.

    Args:
        modules: Folder of the modules that are loaded.
    """
    if not os.path.isdir(f"{modules}/nf_conntrack_netlink"):
        return {}
    sums: dict[str, int] = {}
    try:
        with closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)) as sock:
            sock.settimeout(1.0)
            sock.send(struct.pack("=IHHIIBBH", 20, _GET_STATS_CPU, _REQUEST_DUMP, 1, 0, 0, 0, 0))
            while True:
                for kind, body in _messages(sock.recv(_LONGEST_ANSWER)):
                    if kind in (_ERROR, _DONE):
                        return sums
                    for name, number in _numbers(body):
                        sums[name] = sums.get(name, 0) + number
    except OSError:
        return {}  # no privilege, or no answer: the counters are then absent, and that is said


def _messages(answer: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 16 <= len(answer):
        length, kind = struct.unpack_from("=IH", answer, offset)
        if length < 16:
            return
        yield kind, answer[offset + 20 : offset + length]  # past the headers of netlink and nfnetlink
        offset += length + -length % 4


def _numbers(body: bytes) -> Iterator[tuple[str, int]]:
    offset = 0
    while offset + 8 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        if length < 4:
            return
        if kind in _ATTRIBUTES and length == 8:
            yield f"nf_conntrack.{_ATTRIBUTES[kind]}", struct.unpack_from(">I", body, offset + 4)[0]
        offset += length + -length % 4


_SIX_GROUPS = ("Icmp6", "UdpLite6", "Udp6", "Ip6")


class Counted(NamedTuple):
    """The counters of one look, and why some are not among them."""

    counters: Reading[Mapping[str, int]]
    """By name. A counter that this kernel lacks is absent, never 0. Missing where no file could be read."""
    unread: Mapping[str, str]
    """Why a whole group (``TcpExt``) was not read though the kernel has it: its file is odd, or refused."""


def read_counters(root: str = THREAD_NET) -> Counted:
    """Read every counter of snmp, netstat and snmp6, and those of connection tracking.

    One file that cannot be read, or has another form than expected, costs its own counters only.

    Args:
        root: Folder of the files; tests point it at recorded ones.

    Returns:
        What could be read. All of snmp6 is absent where IPv6 is off, all of nf_conntrack where it is not
        loaded.
    """
    counters: dict[str, int] = {}
    unread: dict[str, str] = {}
    for name, parse, groups in _FILES:
        path = os.path.join(root, name)
        try:
            counters |= parse(read_kernel_file(path).decode("ascii", "replace"), path)
        except KernelReadError as error:
            unread |= dict.fromkeys(groups, str(error))
        except OSError as error:
            if name in _IN_EVERY_KERNEL or not is_absent(error):
                unread |= dict.fromkeys(groups, why_unreadable(error))
    if root == THREAD_NET and "nf_conntrack.drop" not in counters:
        counters |= ask_conntrack()
    if not counters:
        return Counted(Missing(joined(unread.values()) or f"{root} has no counters"), unread)
    return Counted(counters, unread)


def parse_paired_lines(text: str, source: str) -> dict[str, int]:
    """Parse a line of names over a line of values into ``{"TcpExt.ListenOverflows": 12}``.

    Raises:
        KernelReadError: A names line has no values line of the same group and length, or a value is
            no number; with `source` and the line.
    """
    counters: dict[str, int] = {}
    lines = text.splitlines()
    for number in range(0, len(lines), 2):
        group, *names = lines[number].split() or [""]
        values_group, *values = lines[number + 1].split() or [""] if number + 1 < len(lines) else [""]
        if group != values_group or not group.endswith(":") or len(names) != len(values):
            raise KernelReadError(
                f"{source} line {number + 2}: expected {len(names)} values of {group[:80]!r}, "
                f"found {len(values)} of {values_group[:80]!r}"
            )
        try:
            numbers = list(map(int, values))
        except ValueError:
            raise KernelReadError(f"{source} line {number + 2}: expected only whole numbers") from None
        prefix = group[:-1] + "."
        counters.update(zip([prefix + name for name in names], numbers, strict=True))
    return counters


def parse_named_lines(text: str, source: str) -> dict[str, int]:
    """Parse lines such as ``Ip6InReceives 12`` into ``{"Ip6.InReceives": 12}``.

    Raises:
        KernelReadError: A line is no name and number; with `source` and the line.
    """
    counters: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            name, value = line.split()
            counters[_grouped(name)] = int(value)
        except ValueError:
            raise KernelReadError(f"{source} line {number}: expected a name and a whole number") from None
    return counters


def _grouped(name: str) -> str:
    for group in _SIX_GROUPS:
        if name.startswith(group):
            return f"{group}.{name[len(group) :]}"
    return name


_FILES: tuple[tuple[str, Callable[[str, str], Mapping[str, int]], tuple[str, ...]], ...] = (
    ("snmp", parse_paired_lines, ("Ip", "Icmp", "IcmpMsg", "Tcp", "Udp", "UdpLite")),
    ("netstat", parse_paired_lines, ("TcpExt", "IpExt", "MPTcpExt")),
    ("snmp6", parse_named_lines, _SIX_GROUPS),
    ("stat/nf_conntrack", parse_conntrack_stat, ("nf_conntrack",)),
)
"""Each file, how it is read, and the groups of counters that it holds."""

_IN_EVERY_KERNEL = ("snmp", "netstat")


# How many sockets there are and what they hold: /proc/net/sockstat and sockstat6.


def read_sockstat(root: str = THREAD_NET) -> Reading[Mapping[str, int]]:
    """Read ``{"TCP.inuse": 5, "TCP.orphan": 0, "TCP.mem": 1, "TCP6.inuse": 2, ...}``.

    ``TCP.inuse`` and ``TCP.tw`` are this namespace's; ``TCP.orphan``, ``TCP.alloc`` and ``TCP.mem``
    (in pages) are the machine's. ``tw`` includes orphans' FIN_WAIT_2 that became minisockets, ``orphan``
    leaves them out.

    Args:
        root: Folder of the two files; tests point it at recorded ones.

    Returns:
        Numbers by group and name; those of sockstat6 are absent where IPv6 is off, or the file is odd or
        refused. `Missing` if sockstat cannot be read or has another form than expected.
    """
    path = os.path.join(root, "sockstat")
    try:
        numbers = parse_sockstat(read_kernel_file(path).decode("ascii", "replace"), path)
    except KernelReadError as error:
        return Missing(str(error))
    except OSError as error:
        return Missing(why_unreadable(error))
    path = os.path.join(root, "sockstat6")
    try:
        return numbers | parse_sockstat(read_kernel_file(path).decode("ascii", "replace"), path)
    except (KernelReadError, OSError):
        return numbers


FEWEST_UNLISTED = 64
"""Descriptors of a process, and unlisted sockets of the machine, below which there is no leak."""


def may_hold_dead_sockets(sockstat: Reading[Mapping[str, int]]) -> bool:
    """Whether so many TCP sockets may be in no table of this namespace that it is worth a look.

    ``alloc`` counts TCP sockets of the whole machine, ``used`` sockets of every kind in this namespace,
    ``inuse`` TCP sockets in the tables of this namespace. Neither difference is less than the number of
    those that are over, so a "no" is certain.
    """
    if isinstance(sockstat, Missing):
        return True
    listed = sockstat.get("TCP.inuse", 0) + sockstat.get("TCP6.inuse", 0)
    most = [sockstat[name] - listed for name in ("TCP.alloc", "sockets.used") if name in sockstat]
    return min(most, default=FEWEST_UNLISTED) >= FEWEST_UNLISTED


def parse_sockstat(text: str, source: str) -> dict[str, int]:
    """Parse lines such as ``TCP: inuse 5 orphan 0 tw 0 alloc 7 mem 1``.

    Raises:
        KernelReadError: A line is no group with pairs of name and number; with `source` and the line.
    """
    numbers: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        group, *pairs = line.split() or [""]
        try:
            values = list(map(int, pairs[1::2]))
            names = [f"{group[:-1]}.{name}" for name in pairs[::2]]
            numbers.update(zip(names, values, strict=True))
        except ValueError:
            values = []
        if not group.endswith(":") or not values:
            raise KernelReadError(
                f"{source} line {number}: expected a group and pairs of a name and a whole number"
            )
    return numbers


# What each CPU did with packets that came in: /proc/net/softnet_stat.
#
# One line per CPU that is online, numbers in hexadecimal of 32 bits that wrap around, all of them of the
# whole machine, whatever namespace they are read in (net/core/net-procfs.c, softnet_seq_show()). The
# columns are
#
# 0. packets that the CPU took up, 1. packets dropped because net.core.netdev_max_backlog already waited for
# it, 2. times that it stopped with packets left over, because net.core.netdev_budget or its time was used
# up,
#
# then five that are 0 since Linux 2.6 and one more since 4.x; 9 wake-ups by another CPU (RPS), 10 packets
# that the flow limit dropped (these are in column 1 as well), 11 packets that wait. Column 12 is the CPU's
# number, since Linux 5.10; before, the lines of CPUs that are offline are left out and nothing says which
# are here.


_CPU = 12
_FEWEST = 3
OWN_RESETS = ("TcpExt.TCPAbortOnData", "TcpExt.TCPAbortOnClose", "TcpExt.TCPAbortOnTimeout")
"""Connections that programs or timers of this host reset."""

WRAP = 1 << 32
"""The counters begin again at 0 here: `unsigned int` and `atomic_t` in struct softnet_data."""


class CpuPackets(NamedTuple):
    """Packets of one CPU since boot, modulo `WRAP`."""

    cpu: int
    """Its number; its place in the file before Linux 5.10."""
    processed: int
    dropped: int
    squeezed: int
    """Times that it stopped with packets left over; they are taken up a moment later and nothing is lost."""


def read_softnet(root: str = THREAD_NET) -> Reading[tuple[CpuPackets, ...]]:
    """Read what every CPU did, in the order of the file.

    Args:
        root: Folder of the file; tests point it at a recorded one.

    Returns:
        One record per CPU that is online, never empty. `Missing` if the file cannot be read or has another
        form than expected.
    """
    path = os.path.join(root, "softnet_stat")
    try:
        return parse_softnet(read_kernel_file(path).decode("ascii", "replace"), path)
    except KernelReadError as error:
        return Missing(str(error))
    except OSError as error:
        return Missing(why_unreadable(error))


def parse_softnet(text: str, source: str) -> tuple[CpuPackets, ...]:
    """Parse lines such as ``00c76364 000002f6 0000000d 00000000 ...``.

    Raises:
        KernelReadError: There is no line, or one is not made of at least three hexadecimal numbers.
    """
    lines = [line.split() for line in text.splitlines()]
    if not lines:
        raise KernelReadError(f"{source}: expected a line for each CPU, found none")
    return tuple(_cpu(words, place, source) for place, words in enumerate(lines))


def _cpu(words: list[str], place: int, source: str) -> CpuPackets:
    try:
        numbers = [int(word, 16) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) < _FEWEST:
        raise KernelReadError(f"{source} line {place + 1}: expected at least three hexadecimal numbers")
    cpu = numbers[_CPU] if len(numbers) > _CPU else place
    return CpuPackets(cpu, *numbers[:_FEWEST])
