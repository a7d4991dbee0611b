"""The table of tracked connections, read for one question: has source NAT a port left for a destination?

A source translation gives each connection a port of the NAT's own address, and two connections to one
destination cannot have the same. Where all are taken, the packet of a new connection is dropped, and
counted in the same places as one that merely met another at the same instant. Only the table tells them
apart. It is read where such losses grow, and only then: a million entries take seconds, so the time is
bounded.
"""

import re
import time
from collections.abc import Iterable

from tcpdoctor.kernel.counters import THREAD_NET
from tcpdoctor.kernel.procfile import is_absent, why_unreadable
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Destination, Translation, Translations

TABLE = f"{THREAD_NET}/nf_conntrack"
_ENTRY = re.compile(
    r"(tcp|udp|sctp|dccp|udplite) .*?\bsrc=(\S+) dst=\S+ sport=(\d+) dport=\d+ "
    r".*?\bsrc=(\S+) dst=(\S+) sport=(\d+) dport=(\d+) "
)
"""Both directions of an entry: who began it, and how the answers come back."""
_LINES_BETWEEN_CLOCKS = 1024


def read_translations(seconds: float, path: str = TABLE) -> Reading[Translations]:
    """Read the table, for at most so many seconds of CPU time.

    Missing where it takes root, where this kernel has no such file (CONFIG_NF_CONNTRACK_PROCFS), or where
    the time is over before its end: the destination with most ports may not have been seen.
    """
    deadline = time.thread_time() + seconds
    try:
        with open(path, encoding="ascii", errors="replace") as table:
            found = _by_destination(table, deadline)
    except OSError as error:
        if is_absent(error):
            return Missing("this kernel has no /proc/net/nf_conntrack; `conntrack -L` lists the table")
        return Missing(why_unreadable(error))
    if isinstance(found, Missing):
        return found
    fullest = max(found.items(), key=lambda item: len(item[1]), default=None)
    if fullest is None:
        return Translations(None)
    (protocol, towards), ports = fullest
    return Translations(Translation(protocol, towards, len(ports), min(ports), max(ports)))


def _by_destination(
    lines: Iterable[str], deadline: float
) -> Reading[dict[tuple[str, Destination], set[int]]]:
    found: dict[tuple[str, Destination], set[int]] = {}
    for number, line in enumerate(lines, start=1):
        if not number % _LINES_BETWEEN_CLOCKS and time.thread_time() >= deadline:
            return Missing(f"the table of tracked connections is too long: {number:,} entries were read")
        entry = _ENTRY.search(line)
        if entry is None:
            continue
        protocol, client, client_port, server, source, server_port, port = entry.groups()
        if (source, port) != (client, client_port):
            towards = Destination(source, server, int(server_port))
            found.setdefault((protocol, towards), set()).add(int(port))
    return found
