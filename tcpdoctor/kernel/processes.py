"""Processes as /proc/PID tells of them: name, limits, descriptors, unit."""

import os
from collections.abc import Mapping
from typing import NamedTuple

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.descriptors import size_counts_descriptors
from tcpdoctor.kernel.procfile import is_absent, read_kernel_file
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Process
from tcpdoctor.kernel.text import clean, decode

RUN_AS_ROOT = "run as root, or with CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE"
RUN_AS_HOSTS_ROOT = "run as root of the host with CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE"
_COMMAND_BYTES = 4096
_COMMAND_CHARACTERS = 512
_PF_KTHREAD = 0x00200000  # include/linux/sched.h
_ENDED = ("Z", "X")


class Task(NamedTuple):
    """What a number under /proc stands for."""

    process: int
    """The process that it belongs to: itself, unless it is the number of a thread."""
    zombie: bool
    """It has ended, with all its threads, and its parent has not noticed."""
    kernel: bool
    """A thread of the kernel: it has no program and no descriptors."""


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
    except (ValueError, IndexError):
        raise KernelReadError(f"{source}: expected a whole number in field 22") from None


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
            if soft.isdigit():
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
        return len(os.listdir(path))
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
        if os.geteuid() != 0:
            return f"process {pid} hides {what} from uid {os.geteuid()}; {RUN_AS_ROOT}"
        return f"process {pid} hides {what} even from root here; {RUN_AS_HOSTS_ROOT}"
    return f"{what} (process {pid}): {error.strerror or error}"
