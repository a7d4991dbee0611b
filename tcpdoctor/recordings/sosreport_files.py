"""What a sosreport says besides its sockets.

When it was taken, of which host and kernel, how much memory that has; its processes, as ``ps`` printed them,
for it has nothing of /proc/PID; and the files that set the host's settings at boot.
"""

import calendar
import re
import time

from tcpdoctor.errors import SnapshotError
from tcpdoctor.kernel.cgroups import parse_cgroup
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Process
from tcpdoctor.kernel.sysctl_files import (
    FOLDERS,
    LARGEST,
    LAST_OF_PROCPS,
    MOST_LINES,
    Dangling,
    SettingsFile,
    Skipped,
    Tree,
)
from tcpdoctor.kernel.text import clean, decode, is_whole
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


_ARGUMENTS = "sos_commands/process/ps_axo_flags_state_uid_pid_ppid_"
_NAMES = "sos_commands/process/ps_axo_pid_ppid_user_group_lwp_nlwp_start_time_comm_cgroup"
_COMM = 15
"""Letters of a name; ``ps`` fills up with blanks."""
_NEXT_GROUP = re.compile(r",(?=\d+:[^/]*:/)")
_NOT_TOLD = Missing("the report does not tell it of a process; record with: tcpdoctor snapshot")


def read_programs(files: Files, shown: str, told: Circumstances) -> dict[int, Process]:
    """Return the processes by pid; without executable and descriptors, of which ``ps`` tells nothing.

    Args:
        files: The report.
        shown: Its name in errors.
        told: When it was taken, and since when the host had been up.
    """
    zone = utc_offset(files, shown)
    booted = told.taken_at - told.clock if told.clock else None
    names = _names(files)
    found: dict[int, Process] = {}
    for line in _lines(files, _ARGUMENTS):
        words = line.split(None, 19)
        if len(words) < 20 or not all(map(is_whole, words[2:5])):
            continue
        uid, pid, parent = map(int, words[2:5])
        name, (unit, container) = names.get(pid, (_program(words[19]), (_NOT_TOLD, _NOT_TOLD)))
        found[pid] = Process(
            pid, name, uid, parent, _NOT_TOLD, clean(words[19].strip(), 4096), _NOT_TOLD, _NOT_TOLD,
            unit, container, _started(" ".join(words[12:17]), zone, booted),
        )  # fmt: skip
    return found


def _lines(files: Files, beginning: str) -> list[str]:
    """What the first command printed whose name begins so, without its heading."""
    for name in sorted(files.kept):
        if name.startswith(beginning):
            return decode(files.kept[name].data).split("\n")[1:]
    return []


def _names(files: Files) -> dict[int, tuple[str, tuple[Reading[str | None], Reading[str | None]]]]:
    """Name, and unit and container, by pid."""
    found: dict[int, tuple[str, tuple[Reading[str | None], Reading[str | None]]]] = {}
    for line in _lines(files, _NAMES):
        words = line.split(None, 7)
        if len(words) < 8 or not is_whole(words[0]):
            continue
        name, group = words[7][:_COMM].rstrip(), words[7][_COMM:].strip()
        if group == "-" or ":/" not in group:
            found[int(words[0])] = clean(name), (_NOT_TOLD, _NOT_TOLD)
        else:
            found[int(words[0])] = clean(name), parse_cgroup(_NEXT_GROUP.sub("\n", group))
    return found


def _program(command: str) -> str:
    """The name that a command line suggests, where no other is told."""
    first = command.split(None, 1)[0] if command.split() else ""
    return clean(first.rpartition("/")[2][:_COMM])


def _started(text: str, zone: Reading[float], booted: float | None) -> Reading[float]:
    """When it began, in seconds since boot, from ``Mon Nov 30 00:02:41 2026`` of the host's clock."""
    if isinstance(zone, Missing) or booted is None:
        return _NOT_TOLD
    try:
        began = calendar.timegm(time.strptime(text, "%a %b %d %H:%M:%S %Y"))
    except (ValueError, OverflowError):
        return _NOT_TOLD
    return max(0.0, began - zone - booted)


_MASK = "dev/null"
_NONE = Missing("they are not in the recording")


def settings_tree(files: Files) -> Reading[Tree]:
    """Return what `tcpdoctor.kernel.sysctl_files.read_tree` finds on the host; Missing where there is none.

    Paths are those of the host. What lies in /run is in no report.
    """
    found: dict[str, list[str]] = {}
    skipped: list[Skipped] = []
    for folder in _folders(files):
        for name in _names_below(files, folder):
            if name.endswith(".conf"):
                found.setdefault(name, []).append(f"{folder}/{name}")
            else:
                skipped.append(Skipped(f"/{folder}/{name}", name))
    last = _file(files, [LAST_OF_PROCPS], "sysctl.conf")
    is_there = not isinstance(last.content, Missing)
    if not found and not is_there:
        return _NONE
    ordered = sorted(found, key=lambda name: name.encode("utf-8", "surrogateescape"))
    return Tree(
        tuple(_file(files, found[name], name) for name in ordered),
        last if is_there else None,
        tuple(skipped),
        (),
    )


def _folders(files: Files) -> list[str]:
    """The folders that are there; one that is another under a second name is left out."""
    folders: dict[str, str] = {}
    for folder in FOLDERS:
        try:
            folders.setdefault(files.place(folder), folder)
        except SnapshotError:
            continue
    return list(folders.values())


def _names_below(files: Files, folder: str) -> list[str]:
    inside = files.place(folder)
    names = (path.removeprefix(f"{inside}/") for path in files.below(inside))
    return [name for name in names if "/" not in name]


def _file(files: Files, paths: list[str], name: str) -> SettingsFile:
    mask = files.links.get(paths[0]) == _MASK
    content = b"" if mask else _content(files, paths[0])
    return SettingsFile(f"/{paths[0]}", name, content, mask, tuple(f"/{path}" for path in paths[1:]))


def _content(files: Files, path: str) -> Reading[bytes]:
    try:
        kept = files.find(path)
    except SnapshotError:
        return Missing("it is a link that leads out of the report")
    if kept is None:
        return Dangling() if path in files.links else Missing("no such file")
    if len(kept.data) > LARGEST or kept.data.count(b"\n") > MOST_LINES:
        return Missing("it is longer than any file of settings")
    return kept.data
