"""``ss -s``: totals that ss puts together from /proc/net/sockstat, sockstat6 and snmp.

Its ``estab`` is CurrEstab, which counts CLOSE_WAIT too; its ``timewait`` counts the mini-sockets of
FIN_WAIT_2; its ``closed`` is a difference between sockets of the whole machine and those of one network
namespace, and no number of sockets in a state. So none of them is a count by state here.
"""

import re
from collections.abc import Sequence

from tcpdoctor.kernel.reading import Missing
from tcpdoctor.recordings.pasted import Pasted, not_understood
from tcpdoctor.recordings.prompt import Command

SUMMARY_LINE = re.compile(
    r"\s*(?:Total: \d+|TCP:\s+\d+ \(estab \d+|Transport\s+Total\s+IP\s+IPv6"
    r"|(?:\*|RAW|UDP|TCP|INET|FRAG)\s+(?:\d+|-)\s+(?:\d+|-)\s+(?:\d+|-)\s*$)"
)
"""A line of ``ss -s``."""
_TCP = re.compile(
    r"\s*TCP:\s+(\d{1,12}) \(estab (\d{1,12}), closed -?\d+, orphaned (\d{1,12}),"
    r"(?: synrecv \d+,)? timewait (\d{1,12})(?:/\d+)?\)"
)
_FAMILIES = re.compile(r"\s*(TCP|UDP|RAW)\s+\d+\s+(\d{1,12})\s+(\d{1,12})\s*$")
_USED = re.compile(r"\s*Total: (\d{1,12})")


def read_summary(lines: Sequence[str], command: Command | None = None) -> Pasted:  # noqa: ARG001
    """Read ``ss -s``: what it took from sockstat by the names there, and ``Tcp.CurrEstab``."""
    sockstat: dict[str, int] = {}
    counters: dict[str, int] = {}
    leftover = []
    for line in lines:
        if match := _TCP.match(line):
            total, established, orphans, stubs = map(int, match.groups())
            sockstat.update({"TCP.orphan": orphans, "TCP.tw": stubs, "TCP.alloc": total - stubs})
            counters["Tcp.CurrEstab"] = established
        elif match := _FAMILIES.match(line):
            sockstat[f"{match[1]}.inuse"] = int(match[2])
            sockstat[f"{match[1]}6.inuse"] = int(match[3])
        elif match := _USED.match(line):
            sockstat["sockets.used"] = int(match[1])
        elif line.strip() and not SUMMARY_LINE.match(line):
            leftover.append(line)
    return Pasted(
        "ss",
        counters=counters or Missing("the recording has no counters"),
        sockstat=sockstat or Missing("the recording has no /proc/net/sockstat"),
        notes=not_understood(leftover),
    )
