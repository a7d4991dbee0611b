"""When a sosreport was taken, of which host and kernel, and how much memory that has."""

import calendar
import re

from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.text import clean, decode
from tcpdoctor.recordings.archive import Files, Kept
from tcpdoctor.recordings.assembled import Circumstances

_DATE = re.compile(
    r"\w{3} (?:(\w{3}) +(\d{1,2})|(\d{1,2}) (\w{3}) (\d{4})) (\d\d):(\d\d):(\d\d)"
    r"(?: ([AP]M))? (\S+)(?: (\d{4}))?\s*$"
)
"""``Mon Nov 30 00:02:41 UTC 2026`` and ``Mon 30 Nov 2026 12:02:41 AM UTC``."""
_MONTHS = {name: number for number, name in enumerate(calendar.month_abbr) if name}
_UTC = frozenset({"UTC", "GMT", "Z", "Universal"})
_LISTINGS = ("proc/net/tcp", "netstat")
_SLACK = 3600.0
"""Seconds that a report may take from its first command to its last, at most."""
_PAGE_SIZES = (4096, 16384, 65536)
_NO_MEMORY = Missing("the recording does not tell the machine's memory; record with: tcpdoctor snapshot")


def read_circumstances(files: Files, shown: str, *, trust_times: bool) -> Circumstances:
    """Return what a report says of its host besides its sockets.

    Args:
        files: The report.
        shown: Its name in errors.
        trust_times: Whether times of files are those of the host, as in an archive; a copy of a folder has
            its own.
    """

    def text(name: str) -> str:
        kept = files.find(name, shown)
        return "" if kept is None else decode(kept.data).strip()

    uname = text("uname").split()
    page_size = _page_size(text("proc/meminfo"), text("proc/zoneinfo"))
    taken_at = _taken_at(files, shown, trust_times=trust_times)
    started = re.search(r"^btime (\d{1,12})$", text("proc/stat"), re.MULTILINE)
    host = text("hostname") or text("etc/hostname") or (uname[1] if len(uname) > 1 else "unknown")
    sysctls = text("sos_commands/kernel/sysctl_-a")
    return Circumstances(
        taken_at=taken_at,
        clock=max(0.0, taken_at - int(started[1])) if started and taken_at else 0.0,
        host=clean(host.split("\n")[0], 64),
        kernel=clean(uname[2], 64) if len(uname) > 2 else "unknown",
        initial_namespace=_is_initial(sysctls),
        page_size=page_size,
        memory=_memory(text("proc/meminfo"), page_size),
    )


def utc_offset(files: Files, shown: str) -> Reading[float]:
    """Return how far local time was ahead of UTC, in seconds; Missing where that is not told."""
    local, utc = (_read_date(files.find(name, shown)) for name in ("date", "sos_commands/date/date_--utc"))
    if local is not None and local[1] in _UTC:
        return 0.0
    if local is None or utc is None:
        return Missing("the report does not tell its time zone")
    return round((local[0] - utc[0]) / 900) * 900.0


def _taken_at(files: Files, shown: str, *, trust_times: bool) -> float:
    """Seconds since 1970 when the sockets were listed; 0 where nothing tells."""
    listed = [kept.written for name in _LISTINGS if (kept := files.find(name, shown)) is not None]
    dates = [_read_date(files.find(name, shown)) for name in ("sos_commands/date/date_--utc", "date")]
    utc = next((date[0] for date in dates if date is not None and date[1] in _UTC), None)
    if utc is None:
        return listed[0] if listed and trust_times else 0.0
    near = [written for written in listed if abs(written - utc) < _SLACK]
    return near[0] if near else utc


def _read_date(kept: Kept | None) -> tuple[float, str] | None:
    """What ``date`` printed, in seconds since 1970 as if it were UTC, and its zone."""
    found = _DATE.match(decode(kept.data[:200]).strip()) if kept is not None else None
    if found is None or (found[1] or found[4]) not in _MONTHS or not (found[5] or found[11]):
        return None
    hour = int(found[6]) if not found[9] else int(found[6]) % 12 + 12 * (found[9] == "PM")
    year, month, day = int(found[5] or found[11]), _MONTHS[found[1] or found[4]], int(found[2] or found[3])
    try:
        return float(calendar.timegm((year, month, day, hour, int(found[7]), int(found[8])))), found[10]
    except (ValueError, OverflowError):
        return None


def _is_initial(sysctls: str) -> Reading[bool]:
    """net.ipv4.tcp_mem is shown in the initial network namespace only."""
    if not sysctls:
        return Missing("the recording does not tell whether it is of the whole host")
    return re.search(r"^net\.ipv4\.tcp_mem = ", sysctls, re.MULTILINE) is not None


def _page_size(meminfo: str, zoneinfo: str) -> int:
    """Bytes: memory divided by the pages that the zones manage; 4096 where that is not told."""
    total = re.search(r"^MemTotal: +(\d{1,15}) kB", meminfo, re.MULTILINE)
    pages = sum(int(number) for number in re.findall(r"^ +managed +(\d{1,15})$", zoneinfo, re.MULTILINE))
    if total is None or not pages:
        return _PAGE_SIZES[0]
    return min(_PAGE_SIZES, key=lambda size: abs(size - int(total[1]) * 1024 / pages))


def _memory(meminfo: str, page_size: int) -> Reading[int]:
    total = re.search(r"^MemTotal: +(\d{1,15}) kB", meminfo, re.MULTILINE)
    return int(total[1]) * 1024 // page_size if total else _NO_MEMORY
