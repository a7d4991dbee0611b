"""Events of tracepoints through perf_event_open(2): one ring of memory for each processor.

Everything hangs on descriptors: whatever ends this process, nothing of it is left in the kernel. Besides the
tracepoints the kernel is asked for the names of processes as they begin, rename themselves and end, so that
one that has ended by the time its events are read still has its name.
"""

import _thread
import ctypes
import errno
import fcntl
import mmap
import os
import select
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from operator import itemgetter
from typing import TypeAlias

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.processes import list_programs, read_name, read_task
from tcpdoctor.kernel.reading import Missing, Reading, Refused, read_kernel_file
from tcpdoctor.kernel.text import clean, decode
from tcpdoctor.kernel.tracepoints import Decoder, SocketEvent, Tracepoint
from tcpdoctor.named_tuples import NamedTuple

_SYSCALL = {"x86_64": 298, "aarch64": 241, "riscv64": 241}
"""The number of perf_event_open(2) by machine, for 64-bit programs."""
_TRACEPOINT = 2
_ATTRIBUTE = struct.Struct("=IIQQQQQI40xi")
"""type, size, config, sample_period, sample_type, read_format, flags, wakeup_watermark, clockid: 96 bytes."""
_TID, _TIME, _RAW = 1 << 1, 1 << 2, 1 << 10
_DISABLED, _COMM, _TASK, _WATERMARK = 1 << 0, 1 << 9, 1 << 13, 1 << 14
_WITH_TIME, _OWN_CLOCK = 1 << 18, 1 << 25
_CLOCK_MONOTONIC = 1
_CLOSE_ON_EXEC = 8
_ENABLE, _DISABLE, _SET_OUTPUT, _SET_FILTER = 0x2400, 0x2401, 0x2405, 0x40082406

_PR_SET_NAME, _PR_GET_NAME = 15, 16

_LOST, _COMM_RECORD, _EXIT, _FORK, _SAMPLE = 2, 3, 4, 7, 9
_HEAD, _TAIL = 1024 // 8, 1032 // 8
"""Where struct perf_event_mmap_page keeps data_head and data_tail, in words of eight bytes."""

MIB = 1 << 20
EACH, MOST = 16 * MIB, 256 * MIB
"""Bytes for each processor, and for all of them."""
_FEWEST_PAGES = 2
_HELD_BACK = 5_000_000
"""Nanoseconds: processors are read one after the other, and what is newer than that may have company."""
_BETWEEN = struct.Struct("=Q")
_HEADER, _WHO, _TASKS = struct.Struct("=IHH"), struct.Struct("=IIQ"), struct.Struct("=IIII")
_RAW_AT = 28
"""From the beginning of a sample to a tracepoint's bytes: header, pid, tid, time, size."""


class Named(NamedTuple):
    """A process has this name from now on: it was started, or calls itself so."""

    at: int
    pid: int
    name: str


class Forked(NamedTuple):
    """A process began as a copy of another."""

    at: int
    pid: int
    parent: int


class Exited(NamedTuple):
    """A process ended: its number may be another's from now on."""

    at: int
    pid: int


Event: TypeAlias = SocketEvent | Named | Forked | Exited


class Rings:
    """The rings of all processors that are online; `close` ends all."""

    def __init__(self, tracepoints: Iterable[Tracepoint], each: int) -> None:
        """Open and enable everything.

        Args:
            tracepoints: What is wanted.
            each: Bytes for each processor at most; halved for as long as so much may not be locked.

        Raises:
            OSError: The kernel, or a sandbox, does not allow it.
        """
        self.lost = 0
        """Events that found no room."""
        self.each = self.wanted = each
        """Bytes that each processor's ring really has, and that it should have."""
        self.processors = online_processors()
        self._descriptors: list[int] = []
        self._maps: list[mmap.mmap] = []
        self._late: list[Event] = []
        self._decoders: dict[int, Decoder] = {each.number: each.decode for each in tracepoints}
        self._fence = _thread.allocate_lock()
        self._poll = select.poll()
        try:
            self._open(list(tracepoints))
        except OSError:
            self.close()
            raise

    def _open(self, tracepoints: list[Tracepoint]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        first: list[int] = []
        for processor in self.processors:
            ours = []
            for number, tracepoint in enumerate(tracepoints):
                try:
                    ours.append(self._open_one(libc, tracepoint, processor, names=not number))
                except OSError as error:
                    if error.errno == errno.ENODEV and not ours:
                        break  # it went offline
                    raise
            first += ours[:1]
        self._map(first)
        at = 0
        for leader in first:
            for descriptor in self._descriptors[at + 1 : at + len(tracepoints)]:
                fcntl.ioctl(descriptor, _SET_OUTPUT, leader)
            at += len(tracepoints)
            self._poll.register(leader, select.POLLIN)
        for descriptor in self._descriptors:
            fcntl.ioctl(descriptor, _ENABLE, 0)

    def _open_one(self, libc: ctypes.CDLL, tracepoint: Tracepoint, processor: int, *, names: bool) -> int:
        flags = _DISABLED | _WATERMARK | _WITH_TIME | _OWN_CLOCK | ((_COMM | _TASK) if names else 0)
        wakeup = max(4096, self.each // 4)
        attribute = bytearray(
            _ATTRIBUTE.pack(
                *(_TRACEPOINT, _ATTRIBUTE.size, tracepoint.number, 1, _TID | _TIME | _RAW, 0),
                *(flags, wakeup, _CLOCK_MONOTONIC),
            )
        )
        pointer = (ctypes.c_char * len(attribute)).from_buffer(attribute)
        number = _SYSCALL[os.uname().machine]
        descriptor = int(libc.syscall(number, pointer, -1, processor, -1, ctypes.c_ulong(_CLOSE_ON_EXEC)))
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._descriptors.append(descriptor)
        if tracepoint.filter:
            text = ctypes.create_string_buffer(tracepoint.filter.encode("ascii"))
            if libc.ioctl(descriptor, ctypes.c_ulong(_SET_FILTER), text) < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return descriptor

    def _map(self, descriptors: list[int]) -> None:
        page = mmap.PAGESIZE
        pages = max(_FEWEST_PAGES, 1 << (max(1, self.each // page).bit_length() - 1))
        self.wanted = pages * page
        while True:
            try:
                for one in descriptors:
                    self._maps.append(mmap.mmap(one, page * (pages + 1)))
                break
            except OSError as error:
                self._unmap()
                if error.errno not in (errno.EPERM, errno.ENOMEM) or pages <= _FEWEST_PAGES:
                    raise
                pages //= 2
        self.each = pages * page

    def wait(self, seconds: float) -> None:
        """Wait so long, or until a ring is a quarter full."""
        self._poll.poll(max(0.0, seconds) * 1e3)

    def drain(self, until: int) -> list[Event]:
        """Return what happened, in its order; what is not surely all yet comes with the next call.

        Args:
            until: Now, in nanoseconds of CLOCK_MONOTONIC, read before the call; or the end of time, where
                nothing follows.
        """
        found = self._late
        for memory in self._maps:
            self._read(self._take(memory), found)
        found.sort(key=itemgetter(0))
        limit = until - _HELD_BACK
        place = len(found)
        while place and found[place - 1].at > limit:
            place -= 1
        self._late = found[place:]
        del found[place:]
        return found

    def _take(self, memory: mmap.mmap) -> bytes:
        page, size = mmap.PAGESIZE, len(memory) - mmap.PAGESIZE
        with memoryview(memory) as view, view[:page].cast("Q") as words:
            head, tail = words[_HEAD], words[_TAIL]
            if head == tail:
                return b""
            self._order()
            begin = tail % size
            length = head - tail
            data = memory[page + begin : page + min(begin + length, size)]
            if begin + length > size:
                data += memory[page : page + begin + length - size]
            self._order()
            words[_TAIL] = head
        return data

    def _order(self) -> None:
        """Let the processor finish the loads before it begins those after: a lock given back and taken."""
        for _ in range(2):
            with self._fence:
                pass

    def _read(self, data: bytes, found: list[Event]) -> None:
        decoders, at, end = self._decoders, 0, len(data)
        while at < end:
            kind, _, size = _HEADER.unpack_from(data, at)
            if kind == _SAMPLE:
                pid, thread, time = _WHO.unpack_from(data, at + 8)
                raw = at + _RAW_AT
                event = decoders[data[raw] | data[raw + 1] << 8](data, raw, time, pid, thread)
                if event is not None:
                    found.append(event)
            elif kind == _LOST:
                self.lost += _BETWEEN.unpack_from(data, at + 16)[0]
            else:
                told = _about_process(kind, data, at, size)
                if told is not None:
                    found.append(told)
            at += size

    def stop(self) -> None:
        """Let nothing more come, once each ring has told its losses: that takes one more event in it."""
        before = os.sched_getaffinity(0)
        libc, name = ctypes.CDLL(None), ctypes.create_string_buffer(16)
        libc.prctl(_PR_GET_NAME, name)
        for processor in self.processors:
            try:
                os.sched_setaffinity(0, {processor})
            except OSError:
                continue  # a cpuset keeps us from it, or it went offline
            libc.prctl(_PR_SET_NAME, name)
        with suppress(OSError):  # of its processors none may be left
            os.sched_setaffinity(0, before)
        for descriptor in self._descriptors:
            fcntl.ioctl(descriptor, _DISABLE, 0)

    def close(self) -> None:
        """Give everything back."""
        self._unmap()
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _unmap(self) -> None:
        while self._maps:
            self._maps.pop().close()


def _about_process(kind: int, data: bytes, at: int, size: int) -> Event | None:
    """A record about a process; None for one about a thread, or of another kind."""
    time = _BETWEEN.unpack_from(data, at + size - 8)[0]
    if kind == _COMM_RECORD:
        pid, thread = _TASKS.unpack_from(data, at + 8)[:2]
        raw = data[at + 16 : at + size - 16].partition(b"\0")[0]
        return Named(time, pid, clean(decode(raw)).strip() or "?") if pid == thread else None
    if kind in (_FORK, _EXIT):
        pid, parent, thread, _ = _TASKS.unpack_from(data, at + 8)
        if pid != thread:
            return None
        return Forked(time, pid, parent) if kind == _FORK else Exited(time, pid)
    return None


def open_rings(tracepoints: Mapping[str, Tracepoint], each: int | None = None) -> Reading[Rings]:
    """Open the rings of all processors.

    Args:
        tracepoints: What is wanted.
        each: Bytes for each processor; None: `EACH`, and not more than `MOST` in all.

    Returns:
        Missing with the reason where the kernel, a sandbox or this machine has no such thing.
    """
    if os.uname().machine not in _SYSCALL or ctypes.sizeof(ctypes.c_void_p) != 8:
        return Missing(f"perf_event_open(2) was never tried on {clean(os.uname().machine)}")
    processors = len(online_processors())
    try:
        return Rings(tracepoints.values(), each or min(EACH, MOST // max(1, processors)))
    except OSError as error:
        return Refused(f"perf_event_open(2): {_remedy(error)}")


def _remedy(error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        who = "run as root" if os.geteuid() else "run as root of the host, not of a container"
        return f"not allowed here; {who}, or with CAP_PERFMON"
    if error.errno == errno.ENOSYS:
        return "this kernel, or a sandbox, does not have it"
    if error.errno == errno.EMFILE:
        return "too many descriptors are open for this process's limit; raise it (ulimit -n)"
    return (error.strerror or str(error)).lower()


_ONLINE = "/sys/devices/system/cpu/online"


def online_processors() -> tuple[int, ...]:
    """Return the numbers of the processors that are online; there may be gaps."""
    try:
        return parse_processors(read_kernel_file(_ONLINE).decode("ascii", "replace"))
    except OSError:
        return tuple(range(os.cpu_count() or 1))


def parse_processors(text: str) -> tuple[int, ...]:
    """Return the numbers that ``0-3,6,8-9`` stands for."""
    found: list[int] = []
    for part in text.strip().split(","):
        low, _, high = part.partition("-")
        if low.isdecimal():
            found += range(int(low), int(high or low) + 1)
    return tuple(found)


class ProcessNames:
    """The names of the processes that run programs, kept up to date by what the kernel tells of them.

    A process that begins has its parent's name until it has one of its own; one that has ended has none, so
    that its number may pass to another.
    """

    def __init__(self, proc: str = "/proc") -> None:
        """Read who is there."""
        self._names: dict[int, str | None] = dict(list_programs(proc))
        self._proc = proc

    def learn(self, event: Named | Forked | Exited) -> None:
        """Take what happened next to a process."""
        if isinstance(event, Named):
            self._names[event.pid] = event.name
        elif isinstance(event, Forked):
            name = self._names.get(event.parent)
            if name is None:
                self._names.pop(event.pid, None)
            else:
                self._names[event.pid] = name
        else:
            self._names.pop(event.pid, None)

    def name(self, pid: int) -> str | None:
        """Return what a process is called; None for a thread of the kernel, and for who was never seen."""
        if pid not in self._names:
            self._names[pid] = self._read(pid)
        return self._names[pid]

    def _read(self, pid: int) -> str | None:
        try:
            task = read_task(pid, self._proc)
            return None if isinstance(task, Missing) or task.kernel else read_name(pid, self._proc)
        except (OSError, KernelReadError):
            return None  # it has ended meanwhile
