"""Processes as /proc/PID tells of them: name, limits, descriptors, unit."""

import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Set

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.namespaces import (
    CAP_SYS_PTRACE,
    effective_capabilities,
    in_first_user_namespace,
    replayed,
    sees_all_processes_of_machine,
)
from tcpdoctor.kernel.reading import Missing, Reading, is_absent, read_kernel_file, why_unreadable
from tcpdoctor.kernel.snapshot import Process
from tcpdoctor.kernel.text import clean, decode
from tcpdoctor.named_tuples import NamedTuple

# Tables of descriptors: what their size tells, and which threads have one of their own.


_KCMP_FILES = 2
_KCMP = {"x86_64": 312, "aarch64": 272, "riscv64": 272, "ppc64le": 354, "s390x": 343}
"""The number of kcmp(2) by machine, for 64-bit programs."""


def size_counts_descriptors() -> bool:
    """Whether the size of /proc/PID/fd is the number of descriptors, to be had without privilege.

    It is since Linux 6.2 (commit f1f1f2569901); before, it is 0 for every process, ours included,
    and we hold one at least: the one we ask with.
    """
    descriptor = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return os.fstat(descriptor).st_size > 0
    finally:
        os.close(descriptor)


def tables_of_threads(pid: int) -> list[str]:
    """Return the descriptor folders of a process's threads that do not share its first thread's table.

    A thread gets its own table with unshare(CLONE_FILES), and outlives in the process the first thread,
    whose table is then gone. Nearly all threads share one, which kcmp(2) tells in a microsecond; where
    the kernel lacks it, or does not let us ask, every thread's folder is returned.

    Raises:
        OSError: The process is gone, or hides its threads.
    """
    folder = f"/proc/{pid}/task"
    if os.stat(folder).st_nlink == 3:  # itself, its parent folder and one thread
        return []
    threads = [int(thread) for thread in os.listdir(folder) if thread != str(pid)]
    return [f"{folder}/{thread}/fd" for thread in threads if not _shares_table(pid, thread)]


def _shares_table(pid: int, thread: int) -> bool:
    kcmp = _load_kcmp()
    return kcmp is not None and kcmp(pid, thread) == 0


@functools.cache
def _load_kcmp() -> Callable[[int, int], int] | None:
    """Return a function that is 0 where two tasks share their table; None where we cannot ask."""
    number = _KCMP.get(os.uname().machine)
    if number is None or os.readlink("/proc/self") != str(os.getpid()):
        return None  # or /proc is of another PID namespace, whose numbers system calls do not take
    import ctypes  # 6 ms, and needed only where a socket was not found

    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    syscall = ctypes.CDLL(None).syscall
    syscall.restype = ctypes.c_long
    syscall.argtypes = [ctypes.c_long] * 6
    return lambda one, other: int(syscall(number, one, other, _KCMP_FILES, 0, 0))


_COMMAND_BYTES = 4096
_COMMAND_CHARACTERS = 512
_PF_KTHREAD = 0x00200000  # include/linux/sched.h
_ENDED = ("Z", "X")


def how_to_see() -> str:
    """Say what would show processes that are hidden from us; root is not told to be root."""
    if os.geteuid() != 0:
        return "run as root, or with CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE"
    return "run as root of the host with CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE"


# What hides processes from us, or their descriptors.


OUTSIDE = (
    "processes outside this PID namespace are not visible; run as root in the host's PID namespace, "
    "with CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE"
)


def hides_from_us(pids: frozenset[int] = frozenset()) -> str:
    """Say that these processes, or some, hide their descriptors, and what would lift that."""
    if is_proc_hiding():
        return _invisible()
    if os.geteuid() != 0:
        return f"other users' processes hide their descriptors from uid {os.geteuid()}; {how_to_see()}"
    whose = f"process {min(pids)} hides its" if len(pids) == 1 else "some processes hide their"
    return f"{whose} descriptors even from root here; {how_to_see()}"


def _invisible() -> str:
    return f"/proc is mounted with hidepid, so others' processes do not even appear; {how_to_see()}"


def whether_all_are_seen() -> Reading[bool]:
    """A process that /proc does not show may be in this network namespace all the same, as in a pod."""
    if not sees_all_processes_of_machine():
        return Missing(OUTSIDE)
    return Missing(_invisible()) if is_proc_hiding() else True


def is_proc_hiding() -> bool:
    """Whether /proc is mounted so that some processes do not even appear (hidepid=2 or 4, proc(5)).

    Under hidepid=1 they appear, and refuse what is asked of them.
    """
    if CAP_SYS_PTRACE in effective_capabilities() and in_first_user_namespace():
        return False
    mounts = read_kernel_file("/proc/thread-self/mountinfo").decode("utf-8", "replace")
    return any(
        line.split(" ")[4] == "/proc" and re.search(_HIDEPID, line.partition(" - ")[2])
        for line in mounts.splitlines()
    )


_HIDEPID = r"\bhidepid=(?:2|4|invisible|ptraceable)\b"


class Task(NamedTuple):
    """What a number under /proc stands for."""

    process: int
    """The process that it belongs to: itself, unless it is the number of a thread."""
    zombie: bool
    """It has ended, with all its threads, and its parent has not noticed."""
    kernel: bool
    """A thread of the kernel: it has no program and no descriptors."""


@replayed
def read_task(number: int, root: str = "/proc") -> Reading[Task]:
    """Say what a number is that people take for a process's; threads have a folder there too (proc(5)).

    Raises:
        KernelReadError: A file has another form than expected.
    """
    path = f"{root}/{number}/stat"
    try:
        status = decode(read_kernel_file(f"{root}/{number}/status"))
        fields = decode(read_kernel_file(path)).rpartition(")")[2].split()
    except OSError as error:
        return Missing(_why(error, number, "its state"))
    group = [line.removeprefix("Tgid:").strip() for line in status.splitlines() if line.startswith("Tgid:")]
    try:
        ended = fields[0] in _ENDED and int(fields[17]) <= 1  # its own threads
        return Task(int(group[0]), ended, bool(int(fields[6]) & _PF_KTHREAD))
    except (ValueError, IndexError):
        raise KernelReadError(f"{path}: expected flags and threads, and Tgid in status") from None


@replayed
def read_process(pid: int, root: str = "/proc") -> Reading[Process]:
    """Read what is known of one process.

    Args:
        pid: In the PID namespace that /proc shows.
        root: Where /proc is; tests point it at a recorded tree.

    Returns:
        The process, with `Missing` for each part that is hidden from us. `Missing` if no process of
        that number is there to be seen.

    Raises:
        KernelReadError: A file has another form than expected.
    """
    base = f"{root}/{pid}"
    try:
        status = read_status(pid, root)
        started = parse_start_time(decode(read_kernel_file(f"{base}/stat")), f"{base}/stat")
        name = read_name(pid, root)
    except OSError as error:
        return Missing(_why(error, pid, "its state"))
    from tcpdoctor.kernel.cgroups import read_membership  # its patterns take 1 ms, wanted for holders only

    unit, container = read_membership(pid, root)
    return Process(
        pid=pid,
        name=name,
        uid=status["Uid"],
        parent=status["PPid"],
        executable=_read_executable(pid, base),
        command=_read_command(pid, base),
        descriptors=count_descriptors(pid, root),
        descriptor_limit=read_descriptor_limit(pid, base),
        unit=unit,
        container=container,
        started=started,
    )


def read_name(pid: int, root: str = "/proc") -> str:
    """Return a process's comm, cleaned; ``?`` where nothing printable is left of it.

    Raises:
        OSError: The process is gone.
    """
    return clean(decode(read_kernel_file(f"{root}/{pid}/comm", 256).removesuffix(b"\n"))).strip() or "?"


_MOST_PROGRAMS = 4_000
"""Nobody waits longer for a list of names than it takes to read so many."""


@replayed
def list_programs(root: str = "/proc") -> list[tuple[int, str]]:
    """Return the processes that are to be seen and run a program, each with its comm, cleaned.

    The kernel's own threads are left out. Empty where /proc is not to be had; what has ended meanwhile, or
    is hidden, is not in it.
    """
    found = []
    try:
        numbers = [int(name) for name in os.listdir(root) if name.isdecimal()]
    except OSError:
        return []
    for pid in numbers[:_MOST_PROGRAMS]:
        try:
            before, _, after = read_kernel_file(f"{root}/{pid}/stat").rpartition(b")")
        except OSError:
            continue  # it has ended, or is hidden
        fields = after.split()
        if len(fields) > 6 and not int(fields[6]) & _PF_KTHREAD:
            found.append((pid, clean(decode(before.partition(b"(")[2])) or "?"))
    return found


def read_status(pid: int, root: str = "/proc") -> Mapping[str, int]:
    """Return a process's parent (``PPid``) and effective uid (``Uid``).

    The owner of /proc/PID is no substitute: it is root for a process that gave up root's uid and
    did not become dumpable again (proc(5)).

    Raises:
        OSError: The process is gone.
    """
    path = f"{root}/{pid}/status"
    return parse_status(decode(read_kernel_file(path)), path)


def parse_status(text: str, source: str) -> Mapping[str, int]:
    """Return ``PPid`` and the effective ``Uid`` of /proc/PID/status.

    A process's name cannot fake a line: the kernel escapes newlines in ``Name:``.

    Raises:
        KernelReadError: One of them is absent or no number.
    """
    lines = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    try:
        return {"PPid": int(lines["PPid"]), "Uid": int(lines["Uid"].split()[1])}
    except (KeyError, ValueError, IndexError):
        raise KernelReadError(f"{source}: expected the lines PPid and Uid with whole numbers") from None


def parse_start_time(text: str, source: str) -> float:
    """Return when the process started, in seconds of CLOCK_BOOTTIME, from /proc/PID/stat.

    Raises:
        KernelReadError: Field 22 is absent or no number.
    """
    after_name = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    try:
        return int(after_name[19]) / os.sysconf("SC_CLK_TCK")
    except (ValueError, IndexError, OverflowError):
        raise KernelReadError(f"{source}: expected a whole number in field 22") from None


_DIGITS = 20
"""Of the greatest number of 64 bits."""


def parse_descriptor_limit(text: str, source: str) -> int | None:
    """Return the soft limit ``Max open files`` of /proc/PID/limits; None for ``unlimited``.

    Raises:
        KernelReadError: The line is absent or has no number.
    """
    for line in text.splitlines():
        if line.startswith("Max open files"):
            soft = (line.removeprefix("Max open files").split() or [""])[0]
            if soft == "unlimited":
                return None
            if soft.isascii() and soft.isdigit() and len(soft) <= _DIGITS:
                return int(soft)
    raise KernelReadError(f'{source}: expected a line "Max open files" with a whole number')


def count_descriptors(pid: int, root: str = "/proc") -> Reading[int]:
    """Return how many descriptors a process has open.

    Where the size of /proc/PID/fd does not tell, they are listed, which takes privilege.
    """
    path = f"{root}/{pid}/fd"
    try:
        if size_counts_descriptors():
            return os.stat(path).st_size
        listed = len(os.listdir(path))
        return listed - 1 if pid == os.getpid() else listed  # listing our own takes one itself
    except OSError as error:
        return Missing(_why(error, pid, "its descriptors"))


def read_descriptors(pid: int, root: str = "/proc") -> Reading[Mapping[int, int]]:
    """Return the inodes of the sockets that a process holds, by descriptor.

    `Missing` if the process is gone or its descriptors are hidden from us.
    """
    found: dict[int, int] = {}
    try:
        folder = os.open(f"{root}/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        return Missing(_why(error, pid, "its descriptors"))
    try:
        for entry in os.listdir(folder):
            try:
                link = os.readlink(entry, dir_fd=folder)
            except OSError as error:
                if is_absent(error):
                    continue  # closed since it was listed
                return Missing(_why(error, pid, "its descriptors"))
            if link.startswith("socket:["):
                found[int(entry)] = int(link[8:-1])
    except OSError as error:
        return Missing(_why(error, pid, "its descriptors"))
    finally:
        os.close(folder)
    return found


_LOWEST = range(32)
"""Descriptors that are asked for by number, before a table is listed: listeners are opened first."""


def find_link(pid: int, wanted: Set[str], root: str = "/proc") -> int | None:
    """Return a descriptor of a process that links to one of these; None where none does.

    Raises:
        OSError: The process is gone, or its descriptors are hidden from us.
    """
    folder = os.open(f"{root}/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lowest = _find_among(map(str, _LOWEST), folder, wanted)
        return _find_among(os.listdir(folder), folder, wanted) if lowest is None else lowest
    finally:
        os.close(folder)


def _find_among(names: Iterable[str], folder: int, wanted: Set[str]) -> int | None:
    readlink = os.readlink
    for name in names:
        try:
            if readlink(name, dir_fd=folder) in wanted:
                return int(name)
        except FileNotFoundError:
            continue  # there is none, or it was closed since it was listed
    return None


def _read_executable(pid: int, base: str) -> Reading[str]:
    try:
        return clean(os.readlink(f"{base}/exe"), _COMMAND_CHARACTERS)
    except FileNotFoundError:
        return Missing(f"process {pid} has no executable file: it is ending, or part of the kernel")
    except OSError as error:
        return Missing(_why(error, pid, "its executable"))


def _read_command(pid: int, base: str) -> Reading[str]:
    try:
        descriptor = os.open(f"{base}/cmdline", os.O_RDONLY | os.O_CLOEXEC)
        try:
            raw = os.read(descriptor, _COMMAND_BYTES)
        finally:
            os.close(descriptor)
    except OSError as error:
        return Missing(_why(error, pid, "its command line"))
    command = clean(decode(raw.rstrip(b"\0").replace(b"\0", b" ")), _COMMAND_CHARACTERS)
    return command or Missing(f"process {pid} has no command line: it is ending, or part of the kernel")


def read_descriptor_limit(pid: int, base: str) -> Reading[int]:
    """Return a process's soft RLIMIT_NOFILE from its folder `base`; Missing where it is gone or unlimited.

    Raises:
        KernelReadError: /proc/PID/limits has another form than expected.
    """
    path = f"{base}/limits"
    try:
        text = decode(read_kernel_file(path))
    except OSError as error:
        return Missing(_why(error, pid, "its limits"))
    if not text:
        return Missing(f"process {pid} ended")  # proc_pid_limits() gives nothing for a task without signals
    limit = parse_descriptor_limit(text, path)
    return Missing(f"process {pid} has no limit of open files") if limit is None else limit


def _why(error: OSError, pid: int, what: str) -> str:
    if is_absent(error):
        return f"no process {pid} is there to be seen"
    if isinstance(error, PermissionError):
        whom = f"from uid {os.geteuid()}" if os.geteuid() else "even from root here"
        return f"process {pid} hides {what} {whom}; {how_to_see()}"
    return f"{what} (process {pid}): {error.strerror or error}"


# How a process may have come by a descriptor: made it, or inherited it from one that is gone.
#
# The kernel keeps no record of who made a socket. What it shows are the traces that inheritance leaves.


_THREADS = 64
"""Threads whose wait is looked at; a server waits in one of the first."""


class Lineage(NamedTuple):
    """Where a process stands among others, and what it holds a socket's descriptor for."""

    parent: int
    session: int
    """Session id: the pid of the process that began it."""
    group: int
    """Process group id."""
    parent_session: Reading[int]
    close_on_exec: bool
    """Whether the descriptor would be closed by exec: then no program before made it."""
    waits: Reading[tuple[str, ...]]
    """Kernel functions in which its threads sleep (/proc/PID/wchan), without duplicates."""


@replayed
def read_lineage(pid: int, fd: int, *, known: Lineage | None = None) -> Reading[Lineage]:
    """Read the traces; `Missing` where the process or descriptor is gone, or hidden from us.

    Args:
        pid: The process.
        fd: The descriptor.
        known: What was read a moment ago of another descriptor of the process.

    Raises:
        KernelReadError: A file has another form than expected.
        OSError: Reading failed in a way we do not know.
    """
    try:
        if known is not None:
            return known._replace(close_on_exec=bool(_descriptor_flags(pid, fd) & os.O_CLOEXEC))
        parent, group, session = _read_family(pid)
        flags = _descriptor_flags(pid, fd)
        return Lineage(
            parent=parent,
            session=session,
            group=group,
            parent_session=_session_of(parent),
            close_on_exec=bool(flags & os.O_CLOEXEC),
            waits=_read_waits(pid),
        )
    except (FileNotFoundError, ProcessLookupError, PermissionError) as error:
        return Missing(why_unreadable(error))


def _read_family(pid: int) -> tuple[int, int, int]:
    path = f"/proc/{pid}/stat"
    fields = read_kernel_file(path).rpartition(b")")[2].split()
    try:
        return int(fields[1]), int(fields[2]), int(fields[3])
    except (ValueError, IndexError):
        raise KernelReadError(f"{path}: expected whole numbers in fields 4 to 6") from None


def _session_of(pid: int) -> Reading[int]:
    if pid == 0:
        return Missing("it has no parent here")
    try:
        return _read_family(pid)[2]
    except OSError as error:
        return Missing(why_unreadable(error))


def _descriptor_flags(pid: int, fd: int) -> int:
    path = f"/proc/{pid}/fdinfo/{fd}"
    for line in read_kernel_file(path).splitlines():
        if line.startswith(b"flags:"):
            return int(line.split()[1], 8)
    raise KernelReadError(f"{path}: expected a line flags")


def _read_waits(pid: int) -> Reading[tuple[str, ...]]:
    """Names are "0" where a thread runs, or where the kernel hides them from us."""
    try:
        threads = sorted(os.listdir(f"/proc/{pid}/task"), key=int)[:_THREADS]
        names = []
        for thread in threads:
            try:
                names.append(read_kernel_file(f"/proc/{pid}/task/{thread}/wchan").decode("ascii", "replace"))
            except OSError as error:
                if not is_absent(error):
                    raise
        return tuple(dict.fromkeys(names))
    except OSError as error:
        return Missing(why_unreadable(error))
