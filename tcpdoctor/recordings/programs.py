"""Processes of a sosreport, as ``ps`` printed them: it has nothing of /proc/PID."""

import calendar
import re
import time

from tcpdoctor.kernel.cgroups import parse_cgroup
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Process
from tcpdoctor.kernel.text import clean, decode, is_whole
from tcpdoctor.recordings.archive import Files
from tcpdoctor.recordings.assembled import Circumstances
from tcpdoctor.recordings.circumstances import utc_offset

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
