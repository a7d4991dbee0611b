"""The counters of this network namespace: /proc/net/snmp, snmp6, netstat and stat/nf_conntrack.

Names are the kernel's, prefixed with their group: ``TcpExt.ListenOverflows`` is what ``nstat -az``
prints as ``TcpExtListenOverflows``. All count since the namespace was made.
"""

import os
from collections.abc import Mapping

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.conntrack import ask_conntrack, parse_conntrack_stat
from tcpdoctor.kernel.procfile import is_absent, read_kernel_file, why_unreadable
from tcpdoctor.kernel.reading import Missing, Reading

THREAD_NET = "/proc/thread-self/net"
"""/proc/net is that of the process's first thread, which need not be in the namespace that the calling
thread entered with setns(2); this is the calling thread's own (proc(5))."""

_SIX_GROUPS = ("Icmp6", "UdpLite6", "Udp6", "Ip6")


def read_counters(root: str = THREAD_NET) -> Reading[Mapping[str, int]]:
    """Read every counter of snmp, netstat and snmp6, and those of connection tracking.

    Args:
        root: Folder of the files; tests point it at recorded ones.

    Returns:
        Counts by name. A counter that this kernel lacks is absent, never 0; all of snmp6 is absent
        where IPv6 is off, all of nf_conntrack where it is not loaded. `Missing` if snmp or netstat
        cannot be read.

    Raises:
        KernelReadError: A file has another form than expected.
    """
    counters: dict[str, int] = {}
    for name in ("snmp", "netstat"):
        path = os.path.join(root, name)
        try:
            text = read_kernel_file(path).decode("ascii", "replace")
        except OSError as error:
            return Missing(why_unreadable(error))
        counters |= parse_paired_lines(text, path)
    for name, parse in (("snmp6", parse_named_lines), ("stat/nf_conntrack", parse_conntrack_stat)):
        path = os.path.join(root, name)
        try:
            text = read_kernel_file(path).decode("ascii", "replace")
        except OSError as error:
            if not is_absent(error):
                return Missing(why_unreadable(error))
            continue
        counters |= parse(text, path)
    if root == THREAD_NET and "nf_conntrack.drop" not in counters:
        counters |= ask_conntrack()
    return counters


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
                f"{source} line {number + 2}: expected {len(names)} values of {group!r}, "
                f"found {len(values)} of {values_group!r}"
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
