"""What `tcpdoctor fix` writes: settings that run, lines for the next boot, and before them its journal.

This is the only place where this program changes a setting that runs. A line of the file for the next boot
that says something else of the same setting makes room for ours, and comes back when that goes; all other
lines stay as they are. The journal says what was there before, and is written before anything is changed:

    pending   settings are being changed, or are changed and nobody has confirmed: whoever comes undoes them
    keeping   confirmed: whoever comes writes the lines for the next boot
    kept      done; `fix --undo` takes it back at any time
    undone    all is as it was before
    failed    as undone; the kernel did not take a value

Every state is on the disk before what it stands for begins: the file, its folder after the rename. Who reads
and acts on a state holds the folder's lock meanwhile, so nobody acts on the state before.
"""

import errno
import fcntl
import json
import os
import re
import socket
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, get_args

from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.files import UntrustedPathError, open_trusted, replace_file
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.sysctl import PROC_SYS, look_at, slashed, walk_to
from tcpdoctor.kernel.sysctl_files import Reader, read_lines
from tcpdoctor.kernel.text import clean
from tcpdoctor.named_tuples import NamedTuple


def held_text(key: str) -> Reading[str]:
    """Return what a setting holds as the kernel prints it, one blank between its parts."""
    return look_at(slashed(key)).value


def write_setting(key: str, value: str) -> Missing | None:
    """Write a setting of the calling thread's network namespace; None where the kernel took it.

    Nothing outside of /proc/sys is ever opened. Of several numbers the kernel may have kept the first ones
    although it refused the rest: who writes has to read back.
    """
    try:
        folder, name = walk_to(slashed(key), PROC_SYS)
    except (OSError, ValueError) as error:
        return Missing(f"{key}: {_why(error)}")
    try:
        target = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            if os.fstat(target).st_dev != os.fstat(folder).st_dev:
                return Missing(f"{key}: another file system covers it here")
            _write_all(target, f"{value}\n".encode("ascii"))
        finally:
            os.close(target)
    except (OSError, ValueError) as error:
        return Missing(f"{key}: {_why(error)}")
    finally:
        os.close(folder)
    return None


def _write_all(target: int, content: bytes) -> None:
    """Write all of it: of a list of ports the kernel takes a page at once, and adds what follows."""
    while content:
        content = content[os.write(target, content) or len(content) :]


_REASONS = {
    errno.EROFS: "it is mounted read-only here, as in most containers; do it on the host",
    errno.EINVAL: "the kernel refuses this value",
    errno.ERANGE: "the kernel refuses this value",
    errno.ENOENT: "this kernel or network namespace does not have it",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
}


def _why(error: OSError | ValueError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return _REASONS.get(number or 0) or str(getattr(error, "strerror", None) or error).lower()


HEADER = "# Written by tcpdoctor fix; tcpdoctor fix --undo takes it out again."


class BootLine(NamedTuple):
    """A line of ours, and what stood in its place."""

    key: str
    """The setting, dotted."""
    text: str
    """``net.ipv4.tcp_fin_timeout = 60``."""
    replaced: tuple[str, ...] = ()
    """The lines about this setting that were there before."""


def boot_line(key: str, value: str) -> str:
    """Return the line that sets a value at boot."""
    return f"{key} = {value}"


def lines_replaced(content: bytes, key: str, text: str) -> tuple[str, ...]:
    """Return the lines of a file that say something of a setting, without the one that is `text`."""
    lines = _split(content)
    return tuple(lines[number] for number in _about(content, key) if lines[number].strip() != text)


def put_lines(content: bytes, ours: Iterable[BootLine]) -> bytes:
    """Return a file with these lines; the same again where they are there already."""
    for line in ours:
        lines = _split(content)
        places = _about(content, line.key)
        kept = [each for number, each in enumerate(lines) if number not in places]
        if places:
            kept.insert(places[0], line.text)
        else:
            kept += [line.text] if HEADER in kept else [HEADER, line.text]
        content = _joined(kept)
    return content


class Taken(NamedTuple):
    """A file without some lines."""

    content: bytes
    """Nothing where only the header was left."""
    changed: Mapping[str, str]
    """By setting, what a line of ours says by now that somebody has changed; it stays."""


def take_lines(content: bytes, ours: Iterable[BootLine], *, all_of_them: bool = True) -> Taken:
    """Take lines out, and put back what was there before them; a line that is gone already is no matter.

    Args:
        content: The file.
        ours: The lines to take out.
        all_of_them: Whether no other line of ours stays, so that the header goes as well.
    """
    changed: dict[str, str] = {}
    for line in ours:
        lines = _split(content)
        places = _about(content, line.key)
        found = [number for number in places if lines[number].strip() == line.text]
        if found:
            lines[found[0] : found[0] + 1] = line.replaced
            content = _joined(lines)
        elif others := [lines[number] for number in places if lines[number] not in line.replaced]:
            changed[line.key] = others[-1].strip()
    lines = [line for line in _split(content) if not all_of_them or line != HEADER]
    return Taken(_joined(lines) if any(map(str.strip, lines)) else b"", changed)


def _about(content: bytes, key: str) -> list[int]:
    """Where lines stand that set one setting by its name, from 0, as systemd-sysctl reads them."""
    place = key.replace(".", "/")
    return [
        line.number - 1
        for line in read_lines(content, Reader.SYSTEMD).lines
        if line.path is not None and not line.is_glob and line.target == place
    ]


def _split(content: bytes) -> list[str]:
    return content.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n") if content else []


def _joined(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


# The journal.


JOURNAL = "/var/lib/tcpdoctor/fix.json"
_SCHEMA = "tcpdoctor.fix-journal/1"
_LARGEST = 1 << 20

FixState: TypeAlias = Literal["pending", "keeping", "kept", "undone", "failed"]


class Changed(NamedTuple):
    """One setting that was changed."""

    key: str
    before: str
    """What it held, as the kernel prints it."""
    after: str
    """What was written."""
    line: BootLine | None
    """What sets it at boot; None where that was not wanted."""


class NotUndone(NamedTuple):
    """One thing that could not be undone."""

    why: str
    """In a sentence, with what it is about."""
    taken: str | None = None
    """The setting that somebody else has set since; None where it is for another reason."""


class FixJournal(NamedTuple):
    """What the journal says."""

    state: FixState
    run: str
    """Tells one `fix --apply` from another."""
    boot: str
    """The kernel's boot id."""
    namespace: int
    """Inode of the network namespace."""
    initial: bool
    """Whether that is the initial one, whose number may be another after the next start."""
    until: float
    """In seconds of CLOCK_BOOTTIME: when it is undone unless somebody has confirmed."""
    applier: tuple[int, str]
    """The process that applies it, and when that one started in ticks since boot."""
    file: str | None
    """Where the lines for the next boot go; None where nothing is to be there."""
    changes: tuple[Changed, ...]
    earlier: tuple[Changed, ...] = ()
    """What runs before this one have kept; it stays when this one is undone."""
    undoing: bool = False
    """Whether somebody has asked for it to be undone, so that lines for the next boot go as well."""
    said: tuple[NotUndone, ...] = ()
    """What could not be undone, and why."""
    cookie: int | None = None
    """Of the network namespace: no other of this boot has it, as its inode may; None where there is none."""


class JournalFolder(NamedTuple):
    """The folder of a journal, locked: nobody else reads or writes the journal meanwhile."""

    descriptor: int
    path: str
    """Of the journal."""

    @property
    def name(self) -> str:
        """Of the journal, in its folder."""
        return os.path.basename(self.path)


@contextmanager
def locked_journal(path: str, *, make: bool = False) -> Iterator[JournalFolder]:
    """Hold the lock of a journal's folder; with `make` the folder is made where there is none.

    Raises:
        QuestionError: There is no such folder, or others may exchange what is in it.
    """
    folder = open_durable_folder(os.path.dirname(path), make=make)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield JournalFolder(folder, path)
    finally:
        os.close(folder)  # which gives the lock back


def open_durable_folder(path: str, *, make: bool = False) -> int:
    """Open a folder that only root can change, for reading; with `make` make it first.

    Raises:
        QuestionError: There is none, or others may exchange what is in it.
    """
    try:
        if make and not os.path.isdir(path):
            os.mkdir(path, 0o755)
            _sync_folder(os.path.dirname(path))
        if os.geteuid() != 0:
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        handle = open_trusted(path)
        try:
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle)
        finally:
            os.close(handle)
    except UntrustedPathError as error:
        raise QuestionError(f"{clean(path, 300)}: {clean(str(error), 400)}") from None
    except OSError as error:
        raise QuestionError(f"{clean(path, 300)}: {(error.strerror or str(error)).lower()}") from None


def _sync_folder(path: str) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_own_file(folder: int, path: str) -> tuple[bytes, int] | None:
    """Return the content and mode of a regular file of ours in an open folder; None where there is none.

    A link is not followed, whatever it leads to.

    Raises:
        OSError: It cannot be read; ELOOP for a link.
        QuestionError: It is no regular file of ours alone.
    """
    try:
        name = os.path.basename(path)
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
            raise QuestionError(f"{clean(path, 300)}: it is no file of this user alone; move it away")
        return os.read(handle, _LARGEST), stat.S_IMODE(status.st_mode)
    finally:
        os.close(handle)


def replace_durably(folder: int, name: str, content: bytes, mode: int) -> None:
    """Write a file so that after a crash there is the old or the new one: file, rename, folder.

    Raises:
        OSError: It could not be written; the old one is there.
    """
    replace_file(name, content, mode, folder)
    os.fsync(folder)


def remove_durably(folder: int, name: str) -> None:
    """Remove a file so that it is gone after a crash as well; none is no matter.

    Raises:
        OSError: It could not be removed.
    """
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
    os.fsync(folder)


_BESIDE = re.compile(r"\.tcpdoctor-([0-9]+)-[0-9a-f]{8}\.tmp")


def sweep_folder(folder: int) -> None:
    """Remove what a write that was killed has left beside a file: never read, and nobody's any more."""
    for name in os.listdir(folder):
        found = _BESIDE.fullmatch(name)
        if found is not None and not _started(int(found[1])):
            remove_durably(folder, name)


def read_journal(folder: JournalFolder) -> FixJournal | None:
    """Return what the journal says; None where there is none.

    Raises:
        QuestionError: It cannot be read, or is no journal: nothing is known of what was there before.
    """
    try:
        found = read_own_file(folder.descriptor, folder.path)
        return None if found is None else _decoded(json.loads(found[0]))
    except OSError as error:
        raise QuestionError(f"{clean(folder.path, 300)}: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        remedy = "what was there before is not known; move it away"
        raise QuestionError(
            f"{clean(folder.path, 300)}: it is no journal of tcpdoctor fix; {remedy}"
        ) from None


def write_journal(folder: JournalFolder, journal: FixJournal) -> None:
    """Write the journal so that it is there after a crash.

    Raises:
        OSError: It could not be written; the old one is there.
    """
    text = json.dumps(_encoded(journal), indent=1) + "\n"
    replace_durably(folder.descriptor, folder.name, text.encode("ascii"), 0o600)


def close_journal(folder: JournalFolder, journal: FixJournal) -> None:
    """Write what has become of it, or where the disk is full remove it: there is nothing more to undo.

    Raises:
        OSError: Neither could be done.
    """
    try:
        write_journal(folder, journal)
    except OSError:
        if journal.changes:
            raise
        remove_durably(folder.descriptor, folder.name)


def _encoded(journal: FixJournal) -> dict[str, Any]:
    told = journal._asdict()
    for name in ("changes", "earlier"):
        told[name] = [
            {**each._asdict(), "line": None if each.line is None else each.line._asdict()}
            for each in told[name]
        ]
    told["said"] = [each.why for each in journal.said]
    return {"schema": _SCHEMA, **told, "taken": [each.taken for each in journal.said]}


def _decoded(told: Mapping[str, Any]) -> FixJournal:
    """Return a journal; KeyError, TypeError or ValueError for what is none."""
    if told["schema"] != _SCHEMA or told["state"] not in get_args(FixState):
        raise ValueError(told["schema"])
    pid, started = told["applier"]
    texts = (told["run"], told["boot"], started, *told["said"])
    taken = told.get("taken") or [None] * len(told["said"])
    texts = (*texts, *(key for key in taken if key is not None))
    numbers = (told["namespace"], pid)
    if not all(isinstance(text, str) for text in texts) or not all(type(each) is int for each in numbers):
        raise TypeError(told)
    if not isinstance(told["undoing"], bool) or not isinstance(told["initial"], bool):
        raise TypeError(told)
    if not isinstance(told["file"], str | None):
        raise TypeError(told)
    return FixJournal(
        told["state"],
        told["run"],
        told["boot"],
        told["namespace"],
        told["initial"],
        float(told["until"]),
        (pid, started),
        told["file"],
        tuple(map(_changed, told["changes"])),
        tuple(map(_changed, told["earlier"])),
        told["undoing"],
        tuple(map(NotUndone, told["said"], taken)),
        _cookie(told.get("cookie")),
    )


def _cookie(value: object) -> int | None:
    if value is not None and type(value) is not int:
        raise TypeError(value)
    return value


def _changed(told: Mapping[str, Any]) -> Changed:
    line = told["line"]
    own = (
        None
        if line is None
        else BootLine(_text(line["key"]), _text(line["text"]), tuple(map(_text, line["replaced"])))
    )
    return Changed(_text(told["key"]), _text(told["before"]), _text(told["after"]), own)


def _text(value: object) -> str:
    if not isinstance(value, str) or "\n" in value:
        raise TypeError(value)
    return value


# whose it is


def boot_id() -> str:
    """Return the kernel's name of this boot; a new one after every start."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


_SO_NETNS_COOKIE = 71


def namespace_cookie() -> int | None:
    """Return the number that no other network namespace of this boot gets; None before Linux 5.14.

    Inodes are given again as soon as a namespace is gone.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asked:
            return struct.unpack("=Q", asked.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))[0]  # type: ignore[no-any-return]
    except OSError:
        return None


def own_process() -> tuple[int, str]:
    """Return our process, and when it started."""
    return os.getpid(), _started(os.getpid())


def is_at_work(journal: FixJournal) -> bool:
    """Whether the process that applies it is still there."""
    pid, started = journal.applier
    return bool(started) and _started(pid) == started


def _started(pid: int) -> str:
    """When a process started, in ticks since boot; nothing for one that is gone (or only a zombie)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            words = file.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if words[0] in (b"Z", b"X") else words[19].decode("ascii")
