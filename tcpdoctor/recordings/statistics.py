"""``netstat -s``: the kernel's counters in words, those of net-tools in English.

What net-tools has no words for it prints by the kernel's name, in any language. It leaves out most
counters that are 0, so one that is absent here is not known.
"""

import re
from collections.abc import Mapping

from tcpdoctor.kernel.reading import Missing, Reading

FOREIGN = "netstat -s is in another language than English; ask for: nstat -az"

_SECTIONS = "Ip|Icmp|IcmpMsg|Tcp|Udp|UdpLite|TcpExt|IpExt|MPTcpExt|Sctp|Ip6|Icmp6|Udp6|UdpLite6"
_SECTION = re.compile(rf"({_SECTIONS}):\s*$")
_NAMED = re.compile(r"\s+([A-Za-z]\w+): (\d{1,20})\s*$")
_NUMBER = re.compile(r"\d{1,20}")
_NO_COUNTERS = Missing("the recording has no counters")


def is_section(line: str) -> bool:
    """Whether a line begins a section of ``netstat -s``."""
    return bool(_SECTION.match(line))


def read_statistics(text: str) -> Reading[Mapping[str, int]]:
    """Read what ``netstat -s`` counted, by the kernel's names.

    Missing where there is nothing of it, or (`FOREIGN`) its words are not English.
    """
    found: dict[str, int] = {}
    section, understood, odd = "", 0, 0
    for line in text.split("\n"):
        if match := _SECTION.match(line):
            section = match[1]
        elif section and line[:1].isspace() and line.strip():
            known = _counter(line, section)
            if known is None:
                odd += section in _PHRASES and bool(_NUMBER.search(line))
            else:
                found.update([known])
                understood += not _NAMED.match(line)
        elif line.strip():
            section = ""
    if odd > understood:
        return Missing(FOREIGN)
    return found or _NO_COUNTERS


def _counter(line: str, section: str) -> tuple[str, int] | None:
    """The counter behind a line of a section; None for one that is not known."""
    if match := _NAMED.match(line):
        name = match[1].removeprefix(section) if section.endswith("6") else match[1]
        return f"{section}.{name}", int(match[2])
    number = _NUMBER.search(line)
    if number is None:
        return None
    words = " ".join(f"{line[: number.start()]}#{line[number.end() :]}".split()).rstrip(".")
    found = _PHRASES.get(section, {}).get(words)
    return (f"{section}.{found}", int(number[0])) if found else None


_PHRASES: Mapping[str, Mapping[str, str]] = {
    "Tcp": {
        "# active connection openings": "ActiveOpens",
        "# active connections openings": "ActiveOpens",
        "# passive connection openings": "PassiveOpens",
        "# failed connection attempts": "AttemptFails",
        "# connection resets received": "EstabResets",
        "# connections established": "CurrEstab",
        "# segments received": "InSegs",
        "# segments sent out": "OutSegs",
        "# segments send out": "OutSegs",
        "# segments retransmitted": "RetransSegs",
        "# segments retransmited": "RetransSegs",
        "# bad segments received": "InErrs",
        "# resets sent": "OutRsts",
    },
    "TcpExt": {
        "# delayed acks further delayed because of locked socket": "DelayedACKLocked",
        "Quick ack mode was activated # times": "DelayedACKLost",
        "# delayed acks sent": "DelayedACKs",
        "# resets received for embryonic SYN_RECV sockets": "EmbryonicRsts",
        "# SYNs to LISTEN sockets dropped": "ListenDrops",
        "# SYNs to LISTEN sockets ignored": "ListenDrops",
        "# times the listen queue of a socket overflowed": "ListenOverflows",
        "# ICMP packets dropped because socket was locked": "LockDroppedIcmps",
        "# packets dropped from out-of-order queue because of socket buffer overrun": "OfoPruned",
        "# ICMP packets dropped because they were out-of-window": "OutOfWindowIcmps",
        "# active connections rejected because of time stamp": "PAWSActive",
        "# packets rejected in established connections because of timestamp": "PAWSEstab",
        "# packets rejects in established connections because of timestamp": "PAWSEstab",
        "# packets pruned from receive queue because of socket buffer overrun": "PruneCalled",
        "# packets pruned from receive queue": "RcvPruned",
        "# invalid SYN cookies received": "SyncookiesFailed",
        "# SYN cookies received": "SyncookiesRecv",
        "# SYN cookies sent": "SyncookiesSent",
        "# times unable to send RST due to no memory": "TCPAbortFailed",
        "# connections reset due to early user close": "TCPAbortOnClose",
        "# connections reset due to unexpected data": "TCPAbortOnData",
        "# connections aborted after user close in linger timeout": "TCPAbortOnLinger",
        "# connections aborted due to memory pressure": "TCPAbortOnMemory",
        "# connections aborted due to timeout": "TCPAbortOnTimeout",
        "# DSACKs for out of order packets received": "TCPDSACKOfoRecv",
        "# DSACKs sent for out of order packets": "TCPDSACKOfoSent",
        "# DSACKs sent for old packets": "TCPDSACKOldSent",
        "# DSACKs received": "TCPDSACKRecv",
        "# congestion windows recovered without slow start by DSACK": "TCPDSACKUndo",
        "# fast retransmits": "TCPFastRetrans",
        "# forward retransmits": "TCPForwardRetrans",
        "# congestion windows fully recovered without slow start": "TCPFullUndo",
        "# predicted acknowledgments": "TCPHPAcks",
        "# packet headers predicted": "TCPHPHits",
        "# timeouts in loss state": "TCPLossFailures",
        "# congestion windows recovered without slow start after partial ack": "TCPLossUndo",
        "TCP ran low on memory # times": "TCPMemoryPressures",
        "# congestion windows partially recovered using Hoe heuristic": "TCPPartialUndo",
        "# acknowledgments not containing data payload received": "TCPPureAcks",
        "# acknowledgments not containing data received": "TCPPureAcks",
        "# packets collapsed in receive queue due to low socket buffer": "TCPRcvCollapsed",
        "# timeouts after reno fast retransmit": "TCPRenoFailures",
        "# classic Reno fast retransmits failed": "TCPRenoRecoveryFail",
        "# times recovered from packet loss due to fast retransmit": "TCPRenoRecovery",
        "Detected reordering # times using reno fast retransmit": "TCPRenoReorder",
        "# timeouts after SACK recovery": "TCPSackFailures",
        "# SACK retransmits failed": "TCPSackRecoveryFail",
        "# times recovered from packet loss by selective acknowledgements": "TCPSackRecovery",
        "# bad SACK blocks received": "TCPSACKReneging",
        "Detected reordering # times using SACK": "TCPSACKReorder",
        "# retransmits in slow start": "TCPSlowStartRetrans",
        "# other TCP timeouts": "TCPTimeouts",
        "Detected reordering # times using time stamp": "TCPTSReorder",
        "# TCP sockets finished time wait in fast timer": "TW",
        "# TCP sockets finished time wait in slow timer": "TWKilled",
        "# time wait sockets recycled by time stamp": "TWRecycled",
    },
}
"""What net-tools prints by section, the number as ``#``, and the counter's name; some in two spellings, of
which the other is that of its releases before 2.0."""
