"""The table of tracked connections, read for two questions.

Has source NAT a port left for a destination?
A source translation gives each connection a port of the NAT's own address, and two connections to one
destination cannot have the same. Where all are taken, the packet of a new connection is dropped, and
counted in the same places as one that merely met another at the same instant. Only the table tells them
apart.

And how many connections has a reset cut off within the last seconds? Where tracking's and TCP's counters look
like resets by packets called invalid, they do not tell when that was; entries of such connections stay for
some seconds.

It is read where such losses grow or such counters match, and only then: a million entries take seconds, so
the time is bounded.
"""

import os
import re
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tcpdoctor.kernel.reading import THREAD_NET, Missing, Reading, is_absent, why_unreadable
from tcpdoctor.kernel.snapshot import Destination, Translation, Translations

TABLE = f"{THREAD_NET}/nf_conntrack"
_ENTRY = re.compile(
    r"(tcp|udp|sctp|dccp|udplite) .*?\bsrc=(\S+) dst=\S+ sport=(\d+) dport=\d+ "
    r".*?\bsrc=(\S+) dst=(\S+) sport=(\d+) dport=(\d+) "
)
"""Both directions of an entry: who began it, and how the answers come back."""
_ENTRIES_BETWEEN_CLOCKS = 1024


def read_translations(
    seconds: float, path: str = TABLE, modules: str = "/sys/module"
) -> Reading[Translations]:
    """Read the table, for at most so many seconds of CPU time.

    A kernel without CONFIG_NF_CONNTRACK_PROCFS, such as Ubuntu's, has no such file. There it is asked for
    by netlink, where that module is loaded: to look must not load one.

    Args:
        seconds: Budget of CPU time.
        path: The file.
        modules: Folder of the modules that are loaded.

    Missing where it takes privilege, where neither way is there, or where the time is over before its end:
    the destination with most ports may not have been seen.
    """
    deadline = time.thread_time() + seconds
    try:
        with open(path, encoding="ascii", errors="replace") as table:
            found = _gather(_entries_of(table), deadline)
    except OSError as error:
        if not is_absent(error):
            return Missing(why_unreadable(error))
        if not os.path.isdir(f"{modules}/nf_conntrack_netlink"):
            return Missing("this kernel has no /proc/net/nf_conntrack; `conntrack -L` lists the table")
        try:
            found = _gather(_asked_for(), deadline)
        except OSError as refusal:
            return Missing(why_unreadable(refusal))
    if isinstance(found, Missing):
        return found
    by_destination, cut = found
    fullest = max(by_destination.items(), key=lambda item: len(item[1]), default=None)
    if fullest is None:
        return Translations(None, cut)
    (protocol, towards), ports = fullest
    return Translations(Translation(protocol, towards, len(ports), min(ports), max(ports)), cut)


class _Entry(NamedTuple):
    """What one entry says: who began it, and where the answers go."""

    protocol: str
    client: str
    client_port: int
    towards: Destination
    port: int
    cut: bool
    """A connection of TCP that was established and that a reset ended."""


def _gather(
    entries: Iterable[_Entry | None], deadline: float
) -> Reading[tuple[dict[tuple[str, Destination], set[int]], int]]:
    """Return the ports of source NAT by destination, and how many connections a reset has ended."""
    found: dict[tuple[str, Destination], set[int]] = {}
    cut = 0
    for number, entry in enumerate(entries, start=1):
        if not number % _ENTRIES_BETWEEN_CLOCKS and time.thread_time() >= deadline:
            return Missing(f"the table of tracked connections is too long: {number:,} entries were read")
        if entry is None:
            continue
        cut += entry.cut
        if (entry.towards.source, entry.port) != (entry.client, entry.client_port):
            found.setdefault((entry.protocol, entry.towards), set()).add(entry.port)
    return found, cut


def _entries_of(lines: Iterable[str]) -> Iterator[_Entry | None]:
    """The entries of the file; None for one of a protocol without ports."""
    for line in lines:
        entry = _ENTRY.search(line)
        if entry is None:
            yield None
            continue
        protocol, client, client_port, server, source, server_port, port = entry.groups()
        towards = Destination(source, server, int(server_port))
        cut = " CLOSE src=" in line and "[ASSURED]" in line
        yield _Entry(protocol, client, int(client_port), towards, int(port), cut)


# The same by netlink: include/uapi/linux/netfilter/nfnetlink_conntrack.h.

_NETLINK_NETFILTER = 12
_GET = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
_REQUEST_DUMP = 0x1 | 0x300
_ERROR, _DONE = 2, 3
_ORIGINAL, _REPLY = 1, 2  # CTA_TUPLE_ORIG, CTA_TUPLE_REPLY
_ADDRESSES, _PROTOCOL = 1, 2  # CTA_TUPLE_IP, CTA_TUPLE_PROTO
_NUMBER, _SOURCE_PORT, _PORT = 1, 2, 3  # CTA_PROTO_NUM, _SRC_PORT, _DST_PORT
_STATUS, _PROTOCOL_STATE = 3, 4  # CTA_STATUS, CTA_PROTOINFO
_TCP, _TCP_STATE, _CLOSE = 1, 1, 8  # CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE, TCP_CONNTRACK_CLOSE
_ASSURED = 1 << 2  # IPS_ASSURED
_PROTOCOLS = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp", 136: "udplite"}
_TYPE = 0x3FFF


def _asked_for() -> Iterator[_Entry | None]:
    """The entries that netlink lists.

    Raises:
        OSError: It takes CAP_NET_ADMIN, or there is no answer within a second.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as sock:
        sock.settimeout(1.0)
        sock.send(struct.pack("=IHHIIBBH", 20, _GET, _REQUEST_DUMP, 1, 0, 0, 0, 0))
        while True:
            answer = sock.recv(1 << 18)
            at = 0
            while at + 16 <= len(answer):
                length, kind = struct.unpack_from("=IH", answer, at)
                if kind == _DONE or length < 16:
                    return
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", answer, at + 16)[0]
                    raise OSError(number, os.strerror(number))
                yield _entry_in(answer[at + 20 : at + length])
                at += length + -length % 4


def _entry_in(body: bytes) -> _Entry | None:
    tuples = _attributes(body)
    ends = [_ends_in(tuples.get(kind, b"")) for kind in (_ORIGINAL, _REPLY)]
    first, answers = ends
    if first is None or answers is None:
        return None
    protocol, client, client_port, _, _ = first
    _, server, server_port, source, port = answers
    towards = Destination(source, server, server_port)
    return _Entry(protocol, client, client_port, towards, port, protocol == "tcp" and _is_cut(tuples))


def _is_cut(entry: dict[int, bytes]) -> bool:
    about = _attributes(_attributes(entry.get(_PROTOCOL_STATE, b"")).get(_TCP, b""))
    status = int.from_bytes(entry.get(_STATUS, b""), "big")
    return about.get(_TCP_STATE, b"\0")[0] == _CLOSE and bool(status & _ASSURED)


def _ends_in(body: bytes) -> tuple[str, str, int, str, int] | None:
    """Protocol, source, its port, destination, its port; None for a protocol without ports."""
    parts = _attributes(body)
    addresses = [*_attributes(parts.get(_ADDRESSES, b"")).values()]
    numbers = _attributes(parts.get(_PROTOCOL, b""))
    protocol = _PROTOCOLS.get((numbers.get(_NUMBER) or b"\0")[0])
    if protocol is None or len(addresses) != 2 or _SOURCE_PORT not in numbers or _PORT not in numbers:
        return None
    family = socket.AF_INET if len(addresses[0]) == 4 else socket.AF_INET6
    source, destination = (socket.inet_ntop(family, address) for address in addresses)
    ports = [int.from_bytes(numbers[kind][:2], "big") for kind in (_SOURCE_PORT, _PORT)]
    return protocol, source, ports[0], destination, ports[1]


def _attributes(body: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, at)
        if length < 4:
            break
        found[kind & _TYPE] = body[at + 4 : at + length]
        at += length + -length % 4
    return found
