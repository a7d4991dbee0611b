"""Which files of settings systemd-sysctl and procps `sysctl --system` read, in which order.

Both take the files of five folders whose names end in ``.conf``, sorted by the bytes of their names; of one
name in several folders only the first folder's is read, whatever that file is: a link to /dev/null or to
nothing hides the others as well. They differ in two things: procps reads /etc/sysctl.conf in the end, and
names that begin with a dot.

Source: systemd 252, src/sysctl/sysctl.c and src/basic/conf-files.c (files_add, hidden_or_backup_file);
procps 4.0.2, src/sysctl.c (PreloadSystem); sysctl.d(5).
"""

import os
import posixpath
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.namespaces import replayed
from tcpdoctor.kernel.reading import Missing, Reading, Refused, read_kernel_file
from tcpdoctor.kernel.sysctl import slashed
from tcpdoctor.kernel.text import clean, decode

# Where a path leads below a root, links included, as a program in a chroot there would see it.


_MOST_LINKS = 40
"""As the kernel's own limit, MAXSYMLINKS in include/linux/namei.h."""


def resolve(path: str, root: str = "/") -> str:
    """Return the place that `path` leads to, never outside `root`; as far as it goes where it ends nowhere.

    Args:
        path: Begins with `root`.
        root: Absolute links start here again, and ``..`` does not lead out of it.
    """
    if root in ("", "/"):
        return os.path.realpath(path)
    top = os.path.realpath(root)
    rest = [part for part in os.path.relpath(path, root).split("/") if part not in ("", ".")]
    here: list[str] = []
    links = 0
    while rest:
        part = rest.pop(0)
        if part == "..":
            here = here[:-1]
            continue
        place = os.path.join(top, *here, part)
        if not os.path.islink(place) or links >= _MOST_LINKS:
            here.append(part)
            continue
        links += 1
        target = os.readlink(place)
        if target.startswith("/"):
            here = []
        rest = [name for name in target.split("/") if name not in ("", ".")] + rest
    return os.path.join(top, *here)


FOLDERS = ("etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d")
"""The first that has a file of some name gives it. /lib is /usr/lib on most hosts, and then counts once."""

LAST_OF_PROCPS = "etc/sysctl.conf"

LARGEST = 4 << 20
"""Bytes of a file that are read: far above any real one."""

MOST_LINES = 20_000
"""Lines of a file that are read: each costs a look at the kernel, and real files have some hundred."""

_MOST_FILES = 10_000


class Reader(Enum):
    """Who reads files of settings at boot."""

    SYSTEMD = "systemd-sysctl"
    PROCPS = "sysctl --system"


@dataclass(frozen=True, slots=True)
class Dangling(Missing):
    """A link that leads nowhere; it hides files of its name all the same."""

    reason: str = "it is a link to nothing"


class SettingsFile(NamedTuple):
    """One file in the list of a reader."""

    path: str
    """Where it is, below the root that was asked for; bytes that are no UTF-8 are surrogates."""
    name: str
    """Its name, by which both readers sort."""
    content: Reading[bytes]
    """All of it; nothing for a mask. `Missing` says why a reader gets nothing from it, or why we do not."""
    mask: bool = False
    """Whether it is a link to /dev/null."""
    hides: tuple[str, ...] = ()
    """Files of the same name in later folders, which nobody reads."""


class Skipped(NamedTuple):
    """A file in one of the folders that no reader reads because of its name."""

    path: str
    name: str


class Tree(NamedTuple):
    """What a host or a tree of files has for the readers."""

    files: tuple[SettingsFile, ...]
    """Those of the folders, in the order of their names."""
    last: SettingsFile | None
    """/etc/sysctl.conf where it is a regular file; None where there is none."""
    skipped: tuple[Skipped, ...]
    unread: tuple[tuple[str, str], ...]
    """Folders that could not be listed, each with the reason."""

    def of(self, reader: Reader) -> tuple[SettingsFile, ...]:
        """Return the files that one reader reads, in its order."""
        if reader is Reader.SYSTEMD:
            return tuple(file for file in self.files if not file.name.startswith("."))
        return self.files if self.last is None else (*self.files, self.last)

    def links_last(self) -> bool:
        """Whether one of the folders' files is /etc/sysctl.conf under another name, as Debian has it."""
        last = self.last
        return last is not None and any(
            resolve(file.path, _root_of(last.path)) == last.path for file in self.of(Reader.SYSTEMD)
        )


def read_tree(root: str = "/") -> Tree:
    """Read all files of settings below a root.

    Raises:
        QuestionError: The root is no folder, or holds more than 10,000 files.
    """
    if not os.path.isdir(root):
        raise QuestionError(f"{clean(root, 300)}: no such folder; give the root of a system's files")
    found: dict[str, list[str]] = {}
    skipped: list[Skipped] = []
    unread: list[tuple[str, str]] = []
    for folder in _folders(root):
        try:
            names = os.listdir(resolve(folder, root))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            unread.append((folder, _why(error)))
            continue
        if len(names) + len(found) > _MOST_FILES:
            raise QuestionError(f"{clean(folder, 300)}: more than {_MOST_FILES} files; is it the right root?")
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".conf"):
                found.setdefault(name, []).append(path)
            else:
                skipped.append(Skipped(path, name))
    files = tuple(_read(found[name], name, root) for name in sorted(found, key=os.fsencode))
    last = _read([os.path.join(root, LAST_OF_PROCPS)], "sysctl.conf", root)
    is_there = not isinstance(last.content, Missing) or os.path.isfile(resolve(last.path, root))
    return Tree(files, last if is_there else None, tuple(skipped), tuple(unread))


@replayed
def read_own_tree() -> Reading[Tree]:
    """Read all files of settings of the host that is asked; Missing where a recording has none of them."""
    return read_tree()


STANDARD_INPUT = "-"


def read_given(paths: Iterable[str]) -> tuple[SettingsFile, ...]:
    """Read files that the user named, in that order.

    ``-`` is standard input; of a folder its files are read whose names end in ``.conf``, by name, as the
    readers do.

    Raises:
        QuestionError: One cannot be read: which, why, and what to do.
    """
    files = []
    for path in _without_folders(paths):
        if path == STANDARD_INPUT:
            files.append(_standard_input())
            continue
        file = _read([path], os.path.basename(path), "/")
        if isinstance(file.content, Missing):
            raise QuestionError(f"{clean(path, 300)}: {file.content.reason}; give a file of settings")
        files.append(file)
    return tuple(files)


def _without_folders(paths: Iterable[str]) -> list[str]:
    """Put the files of a folder in its place."""
    found: list[str] = []
    for path in paths:
        if path == STANDARD_INPUT or not os.path.isdir(path):
            found.append(path)
            continue
        try:
            names = os.listdir(path)
        except OSError as error:
            raise QuestionError(f"{clean(path, 300)}: {_why(error)}; give a folder of settings") from None
        own = sorted((name for name in names if name.endswith(".conf")), key=os.fsencode)
        if not own or len(own) > _MOST_FILES:
            what = f"more than {_MOST_FILES} files" if own else "no file of this folder ends in .conf"
            raise QuestionError(f"{clean(path, 300)}: {what}; give files or a folder of settings")
        found += [os.path.join(path, name) for name in own]
    if found.count(STANDARD_INPUT) > 1:
        raise QuestionError("- is standard input, which can be read once; give it once")
    return found


def _standard_input() -> SettingsFile:
    parts, left = [], LARGEST + 1
    try:
        while left > 0 and (part := os.read(0, min(left, 1 << 16))):
            parts.append(part)
            left -= len(part)
    except OSError as error:
        raise QuestionError(f"-: standard input: {_why(error)}; give a file of settings") from None
    if left <= 0:
        raise QuestionError(f"-: standard input is longer than {LARGEST >> 20} MiB; give a file of settings")
    return SettingsFile(STANDARD_INPUT, STANDARD_INPUT, b"".join(parts))


def _folders(root: str) -> Sequence[str]:
    """The folders below a root; one that is another under a second name is left out, as systemd does."""
    folders: dict[str, str] = {}
    for folder in FOLDERS:
        path = os.path.join(root, folder)
        folders.setdefault(resolve(path, root), path)
    return tuple(folders.values())


def _root_of(last: str) -> str:
    return last.removesuffix(LAST_OF_PROCPS) or "/"


def _read(paths: Sequence[str], name: str, root: str) -> SettingsFile:
    path = paths[0]
    target = resolve(path, root)
    mask = os.path.islink(path) and target == os.path.join(root, "dev/null")
    content = b"" if mask else _content(path, target)
    return SettingsFile(path, name, content, mask, tuple(paths[1:]))


def _content(path: str, target: str) -> Reading[bytes]:
    """What a file holds; a pipe or device is never opened for reading, so nothing blocks."""
    try:
        handle = os.open(target, os.O_PATH | os.O_CLOEXEC)
        try:
            mode = os.fstat(handle).st_mode
            if not stat.S_ISREG(mode):
                return Missing(_KINDS.get(stat.S_IFMT(mode), "it is a device, and no file"))
            raw = _bytes_of(handle)
        finally:
            os.close(handle)
    except FileNotFoundError:
        return Dangling() if os.path.islink(path) else Missing("no such file")
    except PermissionError as error:
        return Refused(_why(error))
    except BlockingIOError:
        return Missing("it would have to be waited for, and is no file of settings")
    except OSError as error:
        return Missing(_why(error))
    except ValueError:
        return Missing("this cannot be a file name")
    if len(raw) > LARGEST:
        return Missing(f"it is longer than {LARGEST >> 20} MiB")
    if raw.count(b"\n") > MOST_LINES:
        return Missing(f"it has more than {MOST_LINES} lines")
    return raw


def _bytes_of(handle: int) -> bytes:
    """All of a regular file, up to one byte more than is taken; files of the kernel that would block do not.

    Raises:
        OSError: As open(2) or read(2) answered.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    descriptor = os.open(f"/proc/self/fd/{handle}", flags)
    try:
        parts, left = [], LARGEST + 1
        while left > 0 and (part := os.read(descriptor, min(left, 1 << 16))):
            parts.append(part)
            left -= len(part)
    finally:
        os.close(descriptor)
    return b"".join(parts)


_KINDS = {
    stat.S_IFDIR: "it is a folder, and no file",
    stat.S_IFIFO: "it is a pipe, and no file",
    stat.S_IFSOCK: "it is a socket, and no file",
}


def _why(error: OSError) -> str:
    if isinstance(error, PermissionError) and os.geteuid() != 0:
        return "permission denied; run as root to read it"
    return (error.strerror or str(error)).lower()


# The lines of a file of settings, as systemd-sysctl and as procps understand them.
#
# The two agree on nearly everything, and where they do not a setting works on one host and not on the next:
#
# ===================== ============================== ====================================== a line
# systemd-sysctl procps ===================== ==============================
# ====================================== ends at \n, \r or NUL \n; what follows a NUL is not seen longer
# than 1 MiB ends the reading of the file is read ``- key = 1`` the blank is dropped the blank is part of
# the key ``--key = 1`` a key that begins with a dash both dashes are dropped ``net..ipv4.x = 1`` separators
# are joined the same place, but no glob's exception ``a/../b = 1`` refused followed =====================
# ============================== ======================================
#
# Source: systemd 252, src/sysctl/sysctl.c (parse_file), src/basic/fileio.c (read_line_full),
# src/basic/sysctl-util.c (sysctl_normalize, sysctl_write); procps 4.0.2, src/sysctl.c (parse_setting_line,
# setting_new, slashdot).


LONGEST_LINE = 1 << 20
"""Bytes that systemd-sysctl takes for one line (LONG_LINE_MAX)."""

_BLANKS = " \t\n\r"
_SPACES = " \t\n\v\f\r"
_GLOB = frozenset("*?[")


class Line(NamedTuple):
    """One line that means something, or that was meant to."""

    number: int
    """As an editor counts, from 1."""
    key: str
    """As it is written, without the dash of an exception."""
    path: str | None
    """Its place below /proc/sys as this reader spells it, ``net/ipv4/tcp_sack``; None for a line that is no
    setting."""
    value: str | None = None
    """What is written there; None for an exclusion."""
    lenient: bool = False
    """Whether a failure is to be ignored: ``-key = value``."""
    refused: bool = False
    """Whether this reader does not follow the path (``..``, or outside /proc/sys)."""

    @property
    def is_glob(self) -> bool:
        """Whether it stands for several settings."""
        return self.path is not None and not _GLOB.isdisjoint(self.path)

    @property
    def target(self) -> str:
        """The place below /proc/sys that is written, in one form; ``../x`` where it leads out."""
        return posixpath.normpath(self.path or "").lstrip("/")

    @property
    def leads_out(self) -> bool:
        """Whether it leads out of /proc/sys, so that neither reader writes there and nobody may look."""
        return leads_out(self.path or "")


class Lines(NamedTuple):
    """A file as one reader understands it."""

    lines: tuple[Line, ...]
    ends_at: int | None = None
    """The line that is too long for this reader, where its reading ended; None where it read all."""


def read_lines(content: bytes, reader: Reader) -> Lines:
    """Return the settings, exclusions and mistakes of a file; comments and empty lines are left out."""
    return _for_systemd(content) if reader is Reader.SYSTEMD else _for_procps(content)


_END = re.compile(rb"(?:\n\r?|\r\n?)\0?|\0")


def _for_systemd(content: bytes) -> Lines:
    lines: list[Line] = []
    start, number = 0, 1
    while start < len(content):
        end = _END.search(content, start)
        stop, after = (end.start(), end.end()) if end else (len(content), len(content))
        if stop - start >= LONGEST_LINE:
            return Lines(tuple(lines), number)
        line = _systemd_line(decode(content[start:stop]).strip(_BLANKS), number)
        if line is not None:
            lines.append(line)
        number += content.count(b"\n", start, after)
        start = after
    return Lines(tuple(lines))


def _systemd_line(text: str, number: int) -> Line | None:
    if not text or text[0] in "#;":
        return None
    key, equals, value = text.partition("=")
    dash = key.startswith("-")
    if not equals and not dash:
        return Line(number, text, None)
    key = key.removeprefix("-").strip(_BLANKS)
    if not key:
        return Line(number, text, None)
    path = re.sub(r"/+", "/", slashed(key))
    path = "/".join(part for part in path.split("/") if part != ".").strip("/")
    refused = ".." in path.split("/")
    return Line(number, key, path, value.strip(_BLANKS) if equals else None, dash and bool(equals), refused)


def _for_procps(content: bytes) -> Lines:
    lines = []
    for number, raw in enumerate(content.split(b"\n"), start=1):
        line = _procps_line(decode(raw.partition(b"\0")[0]).lstrip(_SPACES), number)
        if line is not None:
            lines.append(line)
    return Lines(tuple(lines))


def _procps_line(text: str, number: int) -> Line | None:
    if len(text.encode("utf-8", "surrogateescape")) < 2 or text[0] in "#;":
        return None
    key, equals, value = text.partition("=")
    dash = key.startswith("-")
    if not equals and not dash:
        return Line(number, text.rstrip(_SPACES), None)
    key = key.removeprefix("-").rstrip(_SPACES)
    if not key:
        return Line(number, text.rstrip(_SPACES), None)
    path = slashed(key.removeprefix("-"))
    refused = not posixpath.normpath("/proc/sys/" + path).startswith("/proc/sys/")
    return Line(number, key, path, value.strip(_SPACES) if equals else None, dash and bool(equals), refused)


def leads_out(path: str) -> bool:
    """Whether a place below /proc/sys lies outside of it: ``net/../../../etc/shadow``."""
    return posixpath.normpath(f"./{path}").partition("/")[0] == ".."


def dotted(path: str) -> str:
    """Return the name that sysctl(8) prints for a place below /proc/sys: dots between, slashes for dots."""
    return path.translate({46: "/", 47: "."})


# Settings on the kernel's command line: ``sysctl.net.ipv4.tcp_sack=0``, since Linux 5.8.


_PREFIXES = ("sysctl.", "sysctl/")


def read_boot_settings(path: str = "/proc/cmdline") -> Mapping[str, str]:
    """Return the values by place below /proc/sys; nothing where the command line cannot be read.

    Source: Linux fs/proc/proc_sysctl.c, process_sysctl_arg(): every dot becomes a slash.
    """
    try:
        words = decode(read_kernel_file(path)).split()
    except OSError:
        return {}
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key.startswith(_PREFIXES):
            found[clean(key[7:].replace(".", "/"))] = clean(value)
    return found
