"""What connection tracking counts in this network namespace: /proc/net/stat/nf_conntrack, or netlink.

A kernel without CONFIG_NF_CONNTRACK_PROCFS, such as Ubuntu's, has no such file. Netlink tells the same, but
to open it loads modules, and with them perhaps the tracking of every packet: to look must not switch it on.
So it is asked only where its module is loaded already.
"""

import os
import socket
import struct
from collections.abc import Iterator, Mapping

from tcpdoctor.errors import KernelReadError

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
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as sock:
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
