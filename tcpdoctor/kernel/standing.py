"""What keeps a process running: its ancestors, its unit and container, and who else is in that unit.

Evidence for the question who may be stopped, and how (diagnosis/holders.py). Nothing is asked of
systemd or of a container runtime: all of it stands in /proc.
"""

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Literal, TypeAlias

from tcpdoctor.kernel.carriers import MOST_PROCESSES, every_pid, find_ports_inside, find_served
from tcpdoctor.kernel.cgroups import Container, Place, read_place
from tcpdoctor.kernel.namespaces import replayed
from tcpdoctor.kernel.processes import parse_start_time, read_name, read_status
from tcpdoctor.kernel.reading import Missing, Reading, boottime, read_kernel_file, why_unreadable
from tcpdoctor.kernel.text import clean, decode
from tcpdoctor.named_tuples import NamedTuple

Halt: TypeAlias = Literal["stopped", "traced", "frozen", "waiting"]
"""By SIGSTOP or a terminal, by a debugger, by its control group, for the kernel to end what it asked for."""

_ARGUMENT_BYTES = 16_384
_ARGUMENTS, _ARGUMENT = 256, 512
_GENERATIONS = 32
_MOST_DESCRIPTORS = 2_000
_MOST_BELOW = 1_000
_NEAR = 3

KEEPERS_VARIABLES = (
    "SUPERVISOR_PROCESS_NAME",
    "SUPERVISOR_GROUP_NAME",
    "SUPERVISOR_SERVER_URL",
    "pm_id",
    "PM2_HOME",
    "name",
    "NOMAD_ALLOC_ID",
    "MONIT_SERVICE",
)
"""What supervisord, PM2, Nomad and monit tell their programs. Nothing else of an environment is kept."""


class Kin(NamedTuple):
    """A process as far as its place among others goes."""

    pid: int
    name: str
    """Its comm, cleaned."""
    parent: int
    started: float
    """Seconds of CLOCK_BOOTTIME."""
    arguments: tuple[str, ...] = ()
    """Its command line; empty where it is hidden or there is none. A program may rewrite its own."""
    uid: int = 0
    unit_path: str | None = None


class Standing(NamedTuple):
    """Where a process stands, and what would happen to others if it were stopped."""

    kin: Kin
    since: float
    """When it started, in seconds since 1970."""
    place: Reading[Place]
    ancestors: tuple[Kin, ...] = ()
    """Its parent first, as far as they are visible, at most `_GENERATIONS`."""
    own_pids: bool = True
    """Whether it is in the PID namespace that /proc shows; False: in a container's, or a sandbox's."""
    innermost_pid: int = 0
    """Its pid in its own PID namespace; the same number where `own_pids`."""
    same_container: bool = False
    """We look from inside the container that it is in: what stands around it is hidden from us too."""
    unit_members: Reading[tuple[Kin, ...]] = Missing("the other processes of its unit were not looked for")
    """All processes of its unit, the earliest first."""
    variables: Mapping[str, str] = MappingProxyType({})
    """Of its environment, those of `KEEPERS_VARIABLES` that are there and may be read."""
    listens_on: tuple[int, ...] = ()
    """Ports of this network namespace that it listens on, ascending, as far as they were asked for."""
    halted: Halt | None = None
    """Why it runs no instruction, where something keeps it from it."""
    serves: Reading[Container | None] = None
    """The container that it carries a port or a network to, by what its command line or its child has of it:
    an address (docker-proxy), or a network namespace (pasta, slirp4netns, rootlessport)."""
    served_ports: tuple[int, ...] = ()
    """Ports that this container listens on, ascending; empty where it is hidden or there are none."""
    below: tuple[int, ...] = ()
    """Processes that it began, and that these began, at most `_MOST_BELOW`; empty where that is hidden."""
    below_parents: tuple[int, ...] = ()
    """Of each of `below` the process that began it."""
    siblings: int = 0
    """Other processes that its parent began; 0 where the kernel does not list children."""
    loop: Kin | None = None
    """The shell above it whose script runs it in a loop."""
    ignores_term: bool = False
    """It ignores SIGTERM, or is process 1 of its PID namespace and does not handle it (pid_namespaces(7))."""
    dies_of_term: bool = False
    """SIGTERM ends it before it can do anything: it has no handler, so it ends none of its workers itself."""
    tracer: Kin | None = None
    """The debugger that is attached to it."""
    ours: bool = False
    """We descend from it, or run in its unit: what ends it may end whoever asks."""


@replayed
def read_standings(
    pids: Iterable[int], listeners: Mapping[int, int] = MappingProxyType({}), root: str = "/proc"
) -> dict[int, Reading[Standing]]:
    """Look at processes; each is `Missing` where it is gone or hides even its state.

    Args:
        pids: The processes.
        listeners: Port by inode of the listeners among which theirs are looked for.
        root: Where /proc is.

    Raises:
        KernelReadError: A file has another form than expected.
    """
    reader = _Reader(root, listeners)
    return {pid: reader.standing(pid) for pid in dict.fromkeys(pids)}


class _Reader:
    """Reads processes, each once."""

    def __init__(self, root: str, listeners: Mapping[int, int]) -> None:
        self._root, self._listeners = root, listeners
        self._kin: dict[int, Reading[Kin]] = {}
        self._places: dict[int, Reading[Place]] = {}
        self._members: dict[str, Reading[tuple[Kin, ...]]] = {}
        self._groups: dict[int, bytes] | None = None
        self._children: dict[int, int] = {}

    def standing(self, pid: int) -> Reading[Standing]:
        kin = self.kin(pid)
        if isinstance(kin, Missing):
            return kin
        place = self.place(pid)
        lines = _status_lines(pid, self._root)
        numbers = [int(number) for number in lines.get("NSpid", "").split()] or [pid]
        unit_path = None if isinstance(place, Missing) else place.unit_path
        serves = find_served(pid, kin.name, kin.arguments, self._root)
        begun = read_begun(pid, self._root)
        return Standing(
            kin=kin,
            since=time.time() - (boottime() - kin.started),
            place=place,
            ancestors=self._ancestors(kin),
            own_pids=len(numbers) == 1,
            innermost_pid=numbers[-1],
            same_container=self._shares_container(place),
            unit_members=self._members_of(unit_path) if unit_path else (),
            variables=_read_variables(pid, self._root),
            listens_on=self._ports_of(pid),
            halted=read_halt(pid, self._root),
            serves=serves,
            served_ports=find_ports_inside(serves, self._root) if isinstance(serves, Container) else (),
            below=tuple(begun),
            below_parents=tuple(begun.values()),
            siblings=self._siblings_of(kin),
            loop=self._loop_above(kin),
            ignores_term=_ignores_term(lines, first_of_its=len(numbers) > 1 and numbers[-1] == 1),
            dies_of_term=bool(lines) and not any(_term_is_in(lines, mask) for mask in ("SigIgn", "SigCgt")),
            tracer=self._tracer(lines),
            ours=self._has_us(pid, unit_path),
        )

    def kin(self, pid: int) -> Reading[Kin]:
        if pid not in self._kin:
            self._kin[pid] = self._read_kin(pid)
        return self._kin[pid]

    def place(self, pid: int) -> Reading[Place]:
        if pid not in self._places:
            self._places[pid] = read_place(pid, self._root)
        return self._places[pid]

    def _read_kin(self, pid: int) -> Reading[Kin]:
        base = f"{self._root}/{pid}"
        try:
            status = read_status(pid, self._root)
            started = parse_start_time(decode(read_kernel_file(f"{base}/stat")), f"{base}/stat")
            name = read_name(pid, self._root)
        except OSError as error:
            return Missing(why_unreadable(error))
        place = self.place(pid)
        return Kin(
            pid=pid,
            name=name,
            parent=status["PPid"],
            started=started,
            arguments=_read_arguments(f"{base}/cmdline"),
            uid=status["Uid"],
            unit_path=None if isinstance(place, Missing) else place.unit_path,
        )

    def _ancestors(self, kin: Kin) -> tuple[Kin, ...]:
        found: list[Kin] = []
        while kin.parent and len(found) < _GENERATIONS:
            parent = self.kin(kin.parent)
            if isinstance(parent, Missing):
                break
            found.append(parent)
            kin = parent
        return tuple(found)

    def _ports_of(self, pid: int) -> tuple[int, ...]:
        """Look through its first descriptors: servers open their listeners before they accept."""
        ports = set()
        with contextlib.suppress(OSError):  # it ended, or is another's
            if self._listeners:
                table = f"{self._root}/{pid}/fd"
                for descriptor in islice(os.scandir(table), _MOST_DESCRIPTORS):
                    link = os.readlink(f"{table}/{descriptor.name}")
                    if link.startswith("socket:[") and int(link[8:-1]) in self._listeners:
                        ports.add(self._listeners[int(link[8:-1])])
        return tuple(sorted(ports))

    def _siblings_of(self, kin: Kin) -> int:
        if kin.parent <= 1:
            return 0
        if kin.parent not in self._children:
            self._children[kin.parent] = _count_children(kin.parent, self._root)
        return max(0, self._children[kin.parent] - 1)

    def _loop_above(self, kin: Kin) -> Kin | None:
        """Return the shell that runs it in a loop: its parent, but for what only passes signals on."""
        words = [word.partition(" ")[0] for word in (kin.name, *kin.arguments[:3])]
        names = {os.path.basename(word) for word in words if not word.startswith("-")} - {""}
        for parent in self._ancestors(kin)[:_NEAR]:
            if _SHELLS.fullmatch(os.path.basename(parent.arguments[0]) if parent.arguments else parent.name):
                script = _script_of(parent, self._root)
                if script and any(runs_in_loop(script, name) for name in names):
                    return parent
            elif parent.name not in _PASS_ON:
                break
        return None

    def _tracer(self, lines: Mapping[str, str]) -> Kin | None:
        pid = int(lines.get("TracerPid", "0"))
        found = self.kin(pid) if pid else None
        return found if isinstance(found, Kin) else None

    def _has_us(self, pid: int, unit_path: str | None) -> bool:
        ours = self.kin(os.getpid())
        if isinstance(ours, Missing):
            return False
        return pid in [kin.pid for kin in self._ancestors(ours)] or (
            unit_path is not None and ours.unit_path == unit_path
        )

    def _shares_container(self, place: Reading[Place]) -> bool:
        if isinstance(place, Missing) or not place.containers:
            return False
        ours = self.place(os.getpid())
        return not isinstance(ours, Missing) and ours.containers[: len(place.containers)] == place.containers

    def _members_of(self, unit_path: str) -> Reading[tuple[Kin, ...]]:
        if unit_path not in self._members:
            self._members[unit_path] = self._find_members(unit_path)
        return self._members[unit_path]

    def _find_members(self, unit_path: str) -> Reading[tuple[Kin, ...]]:
        groups = self._every_group()
        if isinstance(groups, Missing):
            return groups
        needle = os.fsencode(unit_path)
        found = []
        for pid in (pid for pid, group in groups.items() if needle in group):
            kin = self.kin(pid)
            if not isinstance(kin, Missing) and kin.unit_path == unit_path:
                found.append(kin)
        return tuple(sorted(found, key=lambda kin: (kin.started, kin.pid)))

    def _every_group(self) -> Reading[dict[int, bytes]]:
        """Return the control groups of all processes, read once: 20 microseconds each."""
        if self._groups is None:
            pids = every_pid(self._root)
            if len(pids) > MOST_PROCESSES:
                return Missing(f"there are more than {MOST_PROCESSES} processes to look through")
            self._groups = {}
            for pid in pids:
                with contextlib.suppress(OSError):  # it ended
                    self._groups[pid] = read_kernel_file(f"{self._root}/{pid}/cgroup")
        return self._groups


def _read_arguments(path: str) -> tuple[str, ...]:
    """Return argv, each argument cleaned; a program that wrote a title over it gives one argument."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            raw = os.read(descriptor, _ARGUMENT_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        return ()
    parts = raw.rstrip(b"\0 ").split(b"\0")[:_ARGUMENTS]
    return tuple(clean(decode(part), _ARGUMENT) for part in parts) if raw.strip(b"\0 ") else ()


def read_halt(pid: int, root: str = "/proc") -> Halt | None:
    """Return why a process stands still; None where it does not, or nobody may know.

    T and t of /proc/PID/stat (proc(5)); D only where it is so at two looks between which it did not run:
    every read of a disk is D for a moment, and who reads many is mostly seen so. A frozen one sleeps in the
    kernel's freezer, which compilers may put into get_signal() and which only its owner and root may see.
    """
    try:
        state = _state_letter(pid, root)
        if state in (b"T", b"t"):
            return "stopped" if state == b"T" else "traced"
        with contextlib.suppress(PermissionError):  # another's
            if read_kernel_file(f"{root}/{pid}/wchan").startswith(_FREEZER):
                return "frozen"
        if state == b"D":
            ran = _switches(pid, root)
            time.sleep(_MOMENT)
            still = _state_letter(pid, root) == b"D" and _switches(pid, root) == ran
            return "waiting" if still else None
    except OSError:  # it ended
        return None
    return None


_FREEZER = (b"do_freezer_trap", b"get_signal", b"__refrigerator")
_MOMENT = 0.1
"""Seconds: longer than a disk takes."""


def _state_letter(pid: int, root: str) -> bytes:
    return read_kernel_file(f"{root}/{pid}/stat").rpartition(b")")[2][1:2]


def _switches(pid: int, root: str) -> tuple[str | None, str | None]:
    """How often it gave up a processor, and lost one."""
    lines = _status_lines(pid, root)
    return lines.get("voluntary_ctxt_switches"), lines.get("nonvoluntary_ctxt_switches")


def _status_lines(pid: int, root: str) -> dict[str, str]:
    """Return /proc/PID/status by its lines' names; empty where the process has ended.

    A process's name cannot fake a line: the kernel escapes newlines in ``Name:``.
    """
    try:
        text = decode(read_kernel_file(f"{root}/{pid}/status"))
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


_TERM = 1 << 14
"""SIGTERM's bit in the masks of /proc/PID/status."""


def _ignores_term(lines: Mapping[str, str], *, first_of_its: bool) -> bool:
    return _term_is_in(lines, "SigIgn") or (first_of_its and not _term_is_in(lines, "SigCgt"))


def _term_is_in(lines: Mapping[str, str], mask: str) -> bool:
    return bool(int(lines.get(mask, "0"), 16) & _TERM)


@replayed
def read_children(pid: int, root: str = "/proc") -> dict[int, str]:
    """Return the names of the processes that a process began, or took over from one that ended, by pid."""
    found: dict[int, str] = {}
    with contextlib.suppress(OSError):  # it ended
        for task in os.listdir(f"{root}/{pid}/task"):
            for child in map(int, read_kernel_file(f"{root}/{pid}/task/{task}/children").split()):
                with contextlib.suppress(OSError):
                    found[child] = read_name(child, root)
    return found


def _count_children(pid: int, root: str) -> int:
    number = 0
    with contextlib.suppress(OSError):  # it ended
        for task in os.listdir(f"{root}/{pid}/task"):
            number += len(read_kernel_file(f"{root}/{pid}/task/{task}/children").split())
    return number


def read_begun(pid: int, root: str = "/proc") -> dict[int, int]:
    """Return the pids of what a process began and of what these began, nearest first, each with its parent's.

    Empty where the kernel does not list children (CONFIG_PROC_CHILDREN), or it has none.
    """
    found, begun = [pid], dict[int, int]()
    for each in found:
        with contextlib.suppress(OSError):  # it ended
            for task in os.listdir(f"{root}/{each}/task"):
                text = read_kernel_file(f"{root}/{each}/task/{task}/children")
                begun |= {int(number): each for number in text.split()}
                found += [int(number) for number in text.split()]
        if len(found) > _MOST_BELOW:
            break
    return dict(islice(begun.items(), _MOST_BELOW))


_SHELLS = re.compile(r"-?(?:ba|da|z|k|mk|a|fi)?sh|busybox")
_PASS_ON = frozenset(
    ("sudo", "su", "runuser", "env", "nice", "timeout", "setsid", "tini", "dumb-init", "strace")
)
"""Programs that run one other and wait for it: a loop may stand above them."""
_SCRIPT_DESCRIPTORS = (255, 10, 11)
"""Where bash, and where dash, ksh and busybox keep the script that they read."""
_SCRIPT_BYTES = 1 << 18
_LOOP = r"(?:^|[\s;&|({])(?:while|until|for\s*\(\(\s*;\s*;\s*\)\))[\s;](.*?)(?:[\s;]done\b|$)"
_VARIABLE_COMMAND = r"\s*\"?\$[\w@*{]"
_HERE_DOCUMENT = re.compile(r"(?<!<)<<-?[ \t]*['\"\\]?(?P<end>\w+)")
_BETWEEN_COMMANDS = r"[;&|\n!]|(?<!\S)(?:do|then|else|if|elif)(?!\S)"
_LOOKS_ONLY = re.compile(
    r"\s*(?:pgrep|pidof|ps|kill|pkill|killall|grep|nc|curl|wget|ss|lsof|fuser|test|\[{1,2}|echo|printf|logger"
    r"|cat|tail|ls|rm|cp|chown|chmod|mkdir|sleep|wait|systemctl|service)(?!\S)"
)
"""A command that begins no program, whatever it names: `while pgrep nginx; do ...; done` waits for it."""


def runs_in_loop(script: str, program: str) -> bool:
    """Whether a shell's script runs a program in a loop that has no end of its own: ``while``, ``until``.

    Args:
        script: Its text.
        program: A name by which the script may call it; a variable may stand for it as well.
    """
    text = re.sub(r"(?m)(?:^|(?<=\s))#.*$", "", _without_documents(script))
    named = re.compile(rf"(?<![\w.-]){re.escape(program)}(?!\w)")
    return any(
        re.match(_VARIABLE_COMMAND, command) or (named.search(command) and not _LOOKS_ONLY.match(command))
        for span in re.findall(_LOOP, text, re.DOTALL)
        if not re.match(r"\s*(?:\w*=\S*\s+)?read(?!\S)", span)  # it ends with what it reads
        for command in re.split(_BETWEEN_COMMANDS, span)
    )


def _without_documents(script: str) -> str:
    """Leave out what a script gives to programs, or writes: a loop in it is not the shell's.

    In the time that one pass takes, whatever it is: where each would be searched for its end, a script of
    another user could take minutes.
    """
    lines = script.split("\n")
    last = {line.lstrip("\t").rstrip(): number for number, line in enumerate(lines)}
    kept, end = list[str](), ""
    for number, line in enumerate(lines):
        if not end:
            kept.append(line)
            begun = _HERE_DOCUMENT.search(line)
            if begun and last.get(begun["end"], 0) > number:  # else it is a shift, or has no end
                end = begun["end"]
        elif line.lstrip("\t").rstrip() == end:
            end = ""
    return "\n".join(kept)


def _script_of(shell: Kin, root: str) -> str:
    """Return what a shell was given to run, its text or its file's; empty for one that people type in."""
    words = shell.arguments[2 if shell.arguments[:1] and shell.arguments[0].endswith("busybox") else 1 :]
    for number, word in enumerate(words):
        if not word.startswith("-"):
            break
        if re.fullmatch("-[a-z]*c", word):
            return " ".join(words[number + 1 : number + 2])
    for descriptor in _SCRIPT_DESCRIPTORS:
        path = f"{root}/{shell.pid}/fd/{descriptor}"
        with contextlib.suppress(OSError):  # it has none there, or is another's
            if stat.S_ISREG(os.stat(path).st_mode):
                with open(path, "rb") as file:
                    return decode(file.read(_SCRIPT_BYTES))
    return ""


def _read_variables(pid: int, root: str) -> dict[str, str]:
    """Return the variables of supervisors; none where the environment is hidden."""
    try:
        raw = read_kernel_file(f"{root}/{pid}/environ")
    except OSError:
        return {}
    pairs = (entry.partition("=") for entry in decode(raw).split("\0"))
    return {key: clean(value) for key, _, value in pairs if key in KEEPERS_VARIABLES}
