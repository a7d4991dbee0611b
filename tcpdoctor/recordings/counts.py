"""How many sockets are in each state: ``netstat -ant | awk '{print $6}' | sort | uniq -c`` and its kin.

The number stands before the word or (``awk '{++n[$1]} END ...'``) behind it. Words of the headings are
counted along by such a line, ``Foreign`` and ``established)`` of netstat and ``State`` of ss: they show that
nothing was taken out before.
"""

import re
from collections.abc import Sequence

from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState
from tcpdoctor.recordings.netstat import STATES
from tcpdoctor.recordings.pasted import ASK_FOR_SS, Pasted, not_understood
from tcpdoctor.recordings.prompt import Command

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
