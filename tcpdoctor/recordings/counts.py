"""How many sockets there are: in each state, as a shell counts them, and the totals of ``ss -s``.

Of ``netstat -ant | awk '{print $6}' | sort | uniq -c`` and its kin the number stands before the word or
(``awk '{++n[$1]} END ...'``) behind it. Words of the headings are counted along by such a line, ``Foreign``
and ``established)`` of netstat and ``State`` of ss: they show that nothing was taken out before.
"""

import re
from collections.abc import Sequence

from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState
from tcpdoctor.recordings.netstat import STATES
from tcpdoctor.recordings.pasted import ASK_FOR_SS, Pasted, not_understood
from tcpdoctor.recordings.tidied import Command

_HEADINGS = ("Foreign", "Adresse", "Address", "established)", "servers)", "State", "Recv-Q", "stehende")
_WORD = "|".join(sorted((*map(re.escape, (*STATES, *_HEADINGS)),), key=len, reverse=True))
_SPELT = r"(?:FIN-WAIT-[12]|TIME-WAIT|CLOSE-WAIT|SYN-SENT|SYN-RECV|LAST-ACK|UNCONN)"
COUNT_LINE = re.compile(rf"\s*(?:(\d{{1,9}})\s+({_WORD}|{_SPELT})|({_WORD}|{_SPELT})[\s:=]+(\d{{1,9}}))\s*$")
"""A count and a state, in either order."""
_ANY = re.compile(r"\s*(?:\d{1,9}\s+\S{1,60}|\S{1,60}\s+\d{1,9}|\d{1,9})\s*$")


def read_counts(lines: Sequence[str], command: Command | None = None) -> Pasted:  # noqa: ARG001
    """Read counts by state; a state that is not among them is not known, where not all were counted."""
    counts: dict[TcpState, int] = {}
    headings, leftover = False, []
    for line in lines:
        if (match := COUNT_LINE.match(line)) is None:
            if line.strip() and not _ANY.match(line):
                leftover.append(line)
            continue
        word, number = match[2] or match[3], int(match[1] or match[4])
        state = STATES.get(word.upper().replace("-", "_"))
        if state is None or state is TcpState.CLOSE:
            headings = True
        else:
            counts[state] = counts.get(state, 0) + number
    return Pasted(
        "counts",
        counts=_all_states(counts) if headings and TcpState.LISTEN in counts else counts,
        every_socket=_whole(counts, headings=headings),
        notes=not_understood(leftover),
    )


def _all_states(counts: dict[TcpState, int]) -> dict[TcpState, int]:
    return {state: counts.get(state, 0) for state in COUNTED_STATES if state is not TcpState.BOUND}


def _whole(counts: dict[TcpState, int], *, headings: bool) -> Reading[bool]:
    if not headings:
        return Missing(f"the counts may be of a part: no words of the headings are among them; {ASK_FOR_SS}")
    if TcpState.LISTEN not in counts:
        return Missing(f"listeners were not counted, so it is a part of the states; {ASK_FOR_SS}")
    return True


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
    """Read ``ss -s``: what it took from sockstat by the names there, and ``Tcp.CurrEstab``.

    Its ``estab`` is CurrEstab, which counts CLOSE_WAIT too; its ``timewait`` counts the mini-sockets of
    FIN_WAIT_2; its ``closed`` is a difference between sockets of the whole machine and those of one network
    namespace. So none of them is a count by state.
    """
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
