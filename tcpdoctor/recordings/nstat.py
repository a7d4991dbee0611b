"""Counters as programs print them: ``nstat -az``, ``conntrack -S``, and ``netstat -s`` in English.

Names come out as the kernel's, with their group: ``TcpExt.ListenOverflows``. A counter that is not printed
is absent and never 0: ``netstat -s`` leaves out most that are 0, a ``grep`` all that it does not find.
"""

import re
from collections.abc import Mapping

from tcpdoctor.kernel.counters import COUNTED
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.recordings.pasted import Pasted, not_understood
from tcpdoctor.recordings.statistics import FOREIGN, is_section, read_statistics

_GROUPS = ("UdpLite6", "UdpLite", "MPTcpExt", "TcpExt", "IpExt", "IcmpMsg", "Icmp6", "Icmp", "Ip6", "Ip")
_MORE_GROUPS = ("Udp6", "Udp", "Tcp")
_RATE = r"\d{1,20}(?:\.\d{1,20})?"
_NSTAT = re.compile(rf"({'|'.join(_GROUPS + _MORE_GROUPS)})(\w+)[ \t]+(\d{{1,20}})[ \t]+({_RATE})[ \t]*\r?$")
_NSTAT_BEGIN = re.compile(r"#(?:kernel|[\d.]+ sampling_interval=\d+ time_const=\d+)\s*$")
_JSON = re.compile(r'\{"kernel":\{([^{}]*)\}\}')
_MEMBER = re.compile(r'"(\w{1,60})":\s*(\d{1,20})(?:,|$)')
_TRACKED = re.compile(r"cpu=\d+[ \t]+[a-z_]+=\d")

_NO_COUNTERS = Missing("the recording has no counters")
_DELTAS = "nstat printed what was counted since its last run, which is no total; ask for: nstat -az"
UNSURE = "nstat without -a counts from its last run on: these counts are the least there can have been"


def is_nstat_line(line: str) -> bool:
    """Whether a line is one that ``nstat`` prints."""
    return bool(_NSTAT.match(line) or _NSTAT_BEGIN.match(line))


def is_conntrack_line(line: str) -> bool:
    """Whether a line is one of ``conntrack -S``."""
    return bool(_TRACKED.match(line))


def spelt_out(text: str) -> str:
    """Return a text in which what ``nstat -j`` printed stands as ``nstat`` prints it."""
    if '{"kernel":{' not in text:
        return text
    return _JSON.sub(
        lambda found: "#kernel\n" + _MEMBER.sub(lambda one: f"{one[1]} {one[2]} 0.0\n", found[1]), text
    )


def is_counters_text(text: str) -> bool:
    """Whether a text begins with counters that `read_counters_text` reads."""
    lines = text[:65536].splitlines()[:20]
    return any(is_nstat_line(line) or is_conntrack_line(line) or is_section(line) for line in lines)


def read_counters_text(text: str) -> Pasted:
    """Read ``nstat``, ``netstat -s`` or ``conntrack -S``, whichever the text is; several add up to one."""
    totals, notes = _nstat(text)
    statistics = read_statistics(text)
    found = dict(totals) if not isinstance(totals, Missing) else {}
    if not isinstance(statistics, Missing):
        found = {**statistics, **found}
    found.update(_conntrack(text))
    notes = (*notes, *not_understood(_unread(text)))
    if found:
        return Pasted(form="nstat", counters=found, notes=notes)
    foreign = isinstance(statistics, Missing) and statistics.reason == FOREIGN
    return Pasted(form="nstat", counters=statistics if foreign else totals, notes=notes)


def _unread(text: str) -> list[str]:
    """The lines that are of none of these programs."""
    found = []
    section = False
    for line in text.split("\n"):
        if is_section(line):
            section = True
        elif section and line[:1].isspace():
            continue  # which words are known is told by what is missing
        elif line.strip() and not is_nstat_line(line) and not is_conntrack_line(line):
            section = False
            found.append(line)
    return found


def _nstat(text: str) -> tuple[Reading[Mapping[str, int]], tuple[str, ...]]:
    """Totals that nstat printed. It prints zeros only where it was told to, by ``-z``."""
    found: dict[str, int] = {}
    rated = zeros = False
    for line in text.split("\n"):
        if match := _NSTAT.match(line):
            found[f"{match[1]}.{match[2]}"] = int(match[3])
            rated = rated or float(match[4]) > 0
            zeros = zeros or match[3] == "0"
    if not found:
        return _NO_COUNTERS, ()
    if rated or any(number >> 63 for number in found.values()):
        return Missing(_DELTAS), (_DELTAS,)
    return found, () if zeros else (UNSURE,)


def _conntrack(text: str) -> Mapping[str, int]:
    """The sums over all CPUs; of what a line that was cut does not show there is none."""
    sums: dict[str, int] = {}
    cut: list[set[str]] = []
    for line in text.split("\n"):
        if not _TRACKED.match(line):
            continue
        told = set()
        words = [word.partition("=") for word in line.split()]
        for name, _, number in words:
            if (name in COUNTED or name == "clash_resolve") and number.isdecimal() and len(number) <= 20:
                key = f"nf_conntrack.{'clashres' if name == 'clash_resolve' else name}"
                sums[key] = sums.get(key, 0) + int(number)
                told.add(key)
        if not words[-1][2]:
            cut.append(told)
    return {key: number for key, number in sums.items() if all(key in told for told in cut)}
