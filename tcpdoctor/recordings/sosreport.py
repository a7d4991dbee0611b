"""A sosreport, as a folder or an archive, as one recording.

A real one often has no output of ``ss``: sos runs it only where all the modules that it asks are loaded. So
the tables of /proc/net and ``netstat -W -neopa`` are enough. sos replaces in names what is no letter, digit,
``-``, ``.`` or ``/`` by ``_``, and ``/`` by ``.``; /proc/net is a link to the folder of its own process.

Besides sockets it says when it was taken, of which host and kernel, how much memory that has; its processes,
as ``ps`` printed them, for it has nothing of /proc/PID; and the files that set the host's settings at boot.
"""

import calendar
import os
import re
import time
from collections.abc import Iterable, Sequence

from tcpdoctor.errors import QuestionError, SnapshotError
from tcpdoctor.kernel.cgroups import parse_cgroup
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Held, Holder, Process
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
from tcpdoctor.kernel.text import clean, decode, is_whole, name_a_few
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.recordings.archive import Files, Kept, read_archive, read_folder
from tcpdoctor.recordings.assembled import Circumstances, assemble
from tcpdoctor.recordings.forms import read_forms, read_settings_text
from tcpdoctor.recordings.lsof import inodes_held
from tcpdoctor.recordings.nstat import read_counters_text
from tcpdoctor.recordings.pasted import Pasted, PastedSocket
from tcpdoctor.recordings.procfiles import read_proc_text
from tcpdoctor.recordings.recording import Recording

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


AT_TOP = frozenset(
    {
        *(
            "bin",
            "boot",
            "dev",
            "etc",
            "home",
            "lib",
            "lib64",
            "opt",
            "proc",
            "root",
            "run",
            "sbin",
            "snap",
            "srv",
        ),
        *("sys", "tmp", "usr", "var", "sos_commands", "sos_logs", "sos_reports", "sos_strings"),
        *("date", "hostname", "netstat", "uname", "uptime"),
    }
)
"""What lies at the top of a sosreport; an archive of one has a folder around it, as a rule."""

_PROC_TABLES = ("tcp", "tcp6", "udp", "udp6")
_PROC_NUMBERS = ("netstat", "snmp", "snmp6", "sockstat", "sockstat6", "softnet_stat", "stat/nf_conntrack")
_NO_IPV6_TABLE = "  sl  local_address remote_address st\n"
_COMMANDS = "ss_|lsof|netstat_|nstat_|conntrack_|sysctl_-a|ps_a|date|hostname|uname|uptime"
_SETTINGS = re.compile(r"etc/sysctl\.(?:conf|d/.+)|(?:(?:usr/)?(?:local/)?lib|run)/sysctl\.d/.+")
_WANTED = re.compile(
    rf"proc/(?:[\w-]+/)?net/(?:{'|'.join(_PROC_TABLES + _PROC_NUMBERS)}|if_inet6)"
    r"|proc/(?:stat|meminfo|zoneinfo)|etc/hostname|date|hostname|uname|uptime"
    rf"|sos_commands/[\w.-]+/(?:namespaces/[^/]+/)?(?:ip_netns_exec_[^/]+|(?:{_COMMANDS})[^/]*)"
    rf"|{_SETTINGS.pattern}"
)
_ENTERED = re.compile(
    r"proc|proc/(?:self|thread-self|\d+)|proc/(?:[\w-]+/)?net|proc/(?:[\w-]+/)?net/stat"
    r"|sos_commands|sos_commands/[\w.-]+|sos_commands/networking/namespaces(?:/[^/]+)?"
    r"|etc|run|usr|lib|usr/lib|usr/local|usr/local/lib|(?:etc|run|lib|usr/lib|usr/local/lib)/sysctl\.d"
)
_IN_NAMESPACE = re.compile(r"ip_netns_exec_(.+?)_((?:ss|netstat|nstat|conntrack)_-.*)")
_AFTER_INTERNET = "Active UNIX domain sockets"
"""``netstat`` without a protocol prints this behind the last of the sockets that are wanted."""
_NOT_ENDED = Missing("netstat did not print all of its output")
_NOT_ONE = "no sosreport: it has neither sos_commands nor proc/net"


def open_sosreport(path: str, shown: str, netns: str | None = None) -> Recording:
    """Return what a sosreport says, by `tcpdoctor.recordings.assembled.assemble`.

    Args:
        path: Its folder, or an archive, which is read without trust and never unpacked.
        shown: Names it in errors.
        netns: One of the network namespaces that it has besides the host's, by name.

    Raises:
        SnapshotError: It is none, or cannot be read; one line.
        QuestionError: It has no network namespace of that name.
    """
    if not os.path.isdir(path):
        found = recording_of(read_archive(path, shown, is_wanted, AT_TOP), shown, netns, trust_times=True)
        return _dated(found, path)
    path = _only_report_in(path)
    found = recording_of(read_folder(path, shown, is_wanted, _is_entered), shown, netns, trust_times=False)
    return _dated(found, path)


def recording_of(files: Files, shown: str, netns: str | None, *, trust_times: bool) -> Recording:
    """Return what the files of a sosreport say; it was taken at 0 where none says when.

    Args:
        files: What `is_wanted` of it.
        shown: As `open_sosreport`.
        netns: As `open_sosreport`.
        trust_times: As `tcpdoctor.recordings.sosreport.read_circumstances`.

    Raises:
        SnapshotError: As `open_sosreport`.
        QuestionError: As `open_sosreport`.
    """
    if not any(name.startswith(("sos_commands/", "proc/")) for name in files.kept):
        raise SnapshotError(f"{shown}: {_NOT_ONE}")
    report = _Report(files, shown)
    forms = _of_namespace(report, netns) if netns is not None else _of_host(report)
    if not forms:
        raise SnapshotError(
            f"{shown}: a sosreport without /proc/net, netstat and ss: run sos with -o networking"
        )
    told = read_circumstances(files, shown, trust_times=trust_times)
    if netns is not None:
        told = told._replace(initial_namespace=False, namespace_name=netns)
    programs = read_programs(files, shown, told)
    holders = _holders(report)
    forms = [_with_programs(_with_holders(form, holders), programs) for form in forms]
    found = assemble(forms, told._replace(processes=_held_by(forms, programs)))
    source = found.source._replace(kind="sosreport", files=(shown,))
    if isinstance(found.udp, Missing) and netns is None and report.text("proc/net/udp"):
        found = found._replace(udp=())  # a report has all the tables, and this one is empty
    return found._replace(source=source, settings=settings_tree(files))


def _dated(found: Recording, path: str) -> Recording:
    """The recording with the time of its file where it does not say when it was taken."""
    look = found.samples.after
    if look.taken_at:
        return found
    look = look._replace(taken_at=os.stat(path).st_mtime)
    return found._replace(
        source=found.source._replace(dated=False), samples=found.samples._replace(after=look)
    )


def namespaces_in(files: Files) -> tuple[str, ...]:
    """Return the names of the network namespaces that a report has besides the host's, sorted."""
    return tuple(sorted({found[0] for name in files.kept if (found := _place_of(name)) and found[0]}))


def is_wanted(name: str) -> bool:
    """Whether a file of a report, by its name from the top, is one that is read."""
    return bool(_WANTED.fullmatch(name))


def _is_entered(name: str) -> bool:
    return bool(_ENTERED.fullmatch(name))


def _only_report_in(path: str) -> str:
    """The folder itself, or the one report that was unpacked into it."""
    if os.path.isdir(f"{path}/sos_commands") or os.path.isdir(f"{path}/proc"):
        return path
    try:
        inside = [entry.path for entry in os.scandir(path) if os.path.isdir(f"{entry.path}/sos_commands")]
    except OSError:
        return path
    return inside[0] if len(inside) == 1 else path


def _place_of(name: str) -> tuple[str, str] | None:
    """The network namespace ("" for the host's) and the command of a file below sos_commands."""
    _, _, rest = name.partition("sos_commands/")
    bare = rest.rpartition("/")[2]
    if found := _IN_NAMESPACE.fullmatch(bare):
        return found[1], found[2]
    if "/namespaces/" in rest:
        return rest.partition("/namespaces/")[2].partition("/")[0], bare
    return ("", bare) if rest else None


class _Report(NamedTuple):
    """A report whose files are read one by one; what is no text that is understood says nothing."""

    files: Files
    shown: str

    def text(self, name: str) -> str:
        kept = self.files.find(name, self.shown)
        return "" if kept is None else decode(kept.data)

    def commands(self, namespace: str, program: str) -> list[tuple[str, str]]:
        """Return each command of a program that was run in a network namespace, and what it printed."""
        found = []
        for name in sorted(self.files.kept):
            place = _place_of(name)
            if place and place[0] == namespace and place[1].startswith(f"{program}_"):
                found.append((place[1].replace("_", " "), decode(self.files.kept[name].data)))
        return found


def _of_host(report: _Report) -> list[Pasted]:
    forms = _listings(report, "")
    forms += _proc(report, tables=not any(form.every_socket is True for form in forms))
    if all(isinstance(form.counters, Missing) for form in forms):
        forms += _counters(report, "")
    elif not any(
        "nf_conntrack.drop" in form.counters for form in forms if not isinstance(form.counters, Missing)
    ):
        forms += [read_counters_text(text) for _, text in report.commands("", "conntrack")]
    forms += [
        read_settings_text(text) for command, text in report.commands("", "sysctl") if command == "sysctl -a"
    ]
    return _telling(forms)


def _of_namespace(report: _Report, netns: str) -> list[Pasted]:
    """What was printed inside; of the settings only those of the whole machine hold there too."""
    known = namespaces_in(report.files)
    if netns not in known:
        there = f"it has {name_a_few(known, 7)}" if known else "it has the host's only"
        raise QuestionError(f"{report.shown}: no network namespace {clean(netns, 60)} in it; {there}")
    forms = [*_listings(report, netns), *_counters(report, netns)]
    for command, text in report.commands("", "sysctl"):
        if command == "sysctl -a":
            whole = read_settings_text(text).sysctls
            machine = (
                {} if isinstance(whole, Missing) else {k: v for k, v in whole.items() if k.startswith("fs.")}
            )
            forms.append(Pasted(form="sysctl", sysctls=machine or Missing("the recording has no settings")))
    return _telling(forms)


def _telling(forms: Iterable[Pasted]) -> list[Pasted]:
    """Without those that say nothing at all."""
    return [form for form in forms if not all(isinstance(part, Missing) for part in form[1:-1])]


def _listings(report: _Report, namespace: str) -> list[Pasted]:
    """``ss``, and ``netstat`` where that is not whole; of several the one that was asked for most."""
    found: list[Pasted] = []
    for program in ("ss", "netstat"):
        listings = [
            one for one in report.commands(namespace, program) if not re.search(r" -(?:s|\w*g\w*)$", one[0])
        ]
        for command, text in sorted(listings, key=lambda one: -len(one[0]))[:1]:
            try:
                forms = read_forms(f"$ {command}\n{text}", report.shown)
            except SnapshotError:
                continue  # such as "ss: command not found"
            if program == "netstat" and _AFTER_INTERNET not in text:
                forms = [form._replace(every_socket=_NOT_ENDED) for form in forms]
            found += forms
        if any(form.every_socket is True for form in found):
            break
    return found


def _counters(report: _Report, namespace: str) -> list[Pasted]:
    """The first that there is of ``nstat`` and ``netstat -s``, and ``conntrack -S``."""
    texts = [text for _, text in report.commands(namespace, "nstat")]
    texts += [text for command, text in report.commands(namespace, "netstat") if command == "netstat -s"]
    forms = [read_counters_text(text) for text in texts]
    whole = next((form for form in forms if not isinstance(form.counters, Missing)), None)
    tracked = [read_counters_text(text) for _, text in report.commands(namespace, "conntrack")]
    return [*([whole] if whole else []), *tracked]


def _proc(report: _Report, *, tables: bool) -> list[Pasted]:
    """The files of /proc/net, those that list sockets if wanted.

    Where tcp6 is absent a report was cut, or there is no IPv6: then it has no settings of it either.
    """
    names = (*(_PROC_TABLES if tables else ()), *_PROC_NUMBERS)
    texts = {name: report.text(f"proc/net/{name}") for name in names}
    if texts.get("tcp") and not texts["tcp6"] and not texts["snmp6"] and _has_no_ipv6(report):
        texts["tcp6"] = _NO_IPV6_TABLE
    if tables and _is_big_endian(report):
        texts |= dict.fromkeys(_PROC_TABLES, "")
    return [read_proc_text("".join(texts.values()))] if any(texts.values()) else []


def _has_no_ipv6(report: _Report) -> bool:
    settings = "".join(text for command, text in report.commands("", "sysctl") if command == "sysctl -a")
    return "net.ipv4." in settings and "net.ipv6." not in settings


def _is_big_endian(report: _Report) -> bool:
    """Whether the kernel wrote addresses in /proc/net in another order than this host would."""
    return bool(re.search(r"\b(?:s390x?|ppc64|ppc|sparc64|mips)\b", report.text("uname")))


def _holders(report: _Report) -> dict[int, tuple[Holder, ...]]:
    """Who holds which socket, by inode, of the first ``lsof`` that tells any.

    It looks at the whole machine, so that it is right for every network namespace.
    """
    for name in sorted(report.files.kept):
        if name.rpartition("/")[2].startswith("lsof") and (found := inodes_held(report.text(name))):
            return found
    return {}


def _with_holders(form: Pasted, holders: dict[int, tuple[Holder, ...]]) -> Pasted:
    """A listing with the holders that only ``lsof`` names: netstat has one of several, /proc/net none."""
    if isinstance(form.sockets, Missing) or not holders:
        return form
    return form._replace(sockets=tuple(_with_holder(one, holders) for one in form.sockets))


def _with_holder(socket: PastedSocket, holders: dict[int, tuple[Holder, ...]]) -> PastedSocket:
    found = holders.get(socket.inode) if isinstance(socket.inode, int) and socket.inode > 0 else None
    if found is None:
        return socket
    if isinstance(socket.owner, Held):
        by_pid = {holder.pid: holder for holder in (*socket.owner.holders, *found)}
        found = tuple(by_pid[pid] for pid in sorted(by_pid))
    return socket._replace(owner=Held(found))


def _with_programs(form: Pasted, programs: dict[int, Process]) -> Pasted:
    """A listing whose processes are named as the kernel names them, and belong to whom ``ps`` says."""
    if isinstance(form.sockets, Missing) or not programs:
        return form
    return form._replace(sockets=tuple(_with_program(one, programs) for one in form.sockets))


def _with_program(socket: PastedSocket, programs: dict[int, Process]) -> PastedSocket:
    if not isinstance(socket.owner, Held):
        return socket
    holders = tuple(
        one._replace(name=programs[one.pid].name, uid=programs[one.pid].uid) if one.pid in programs else one
        for one in socket.owner.holders
    )
    return socket._replace(owner=socket.owner._replace(holders=holders))


def _held_by(forms: Sequence[Pasted], programs: dict[int, Process]) -> dict[int, Process]:
    """Those of the processes that hold a socket."""
    pids = {
        holder.pid
        for form in forms
        if not isinstance(form.sockets, Missing)
        for socket in form.sockets
        if isinstance(socket.owner, Held)
        for holder in socket.owner.holders
    }
    return {pid: programs[pid] for pid in sorted(pids & programs.keys())}
