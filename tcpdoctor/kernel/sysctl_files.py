"""Which files of settings systemd-sysctl and procps `sysctl --system` read, in which order.

Both take the files of five folders whose names end in ``.conf``, sorted by the bytes of their names; of one
name in several folders only the first folder's is read, whatever that file is: a link to /dev/null or to
nothing hides the others as well. They differ in two things: procps reads /etc/sysctl.conf in the end, and
names that begin with a dot.

Source: systemd 252, src/sysctl/sysctl.c and src/basic/conf-files.c (files_add, hidden_or_backup_file);
procps 4.0.2, src/sysctl.c (PreloadSystem); sysctl.d(5).
"""

import os
import stat
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.text import clean
from tcpdoctor.kernel.tree_path import resolve

FOLDERS = ("etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d")
"""The first that has a file of some name gives it. /lib is /usr/lib on most hosts, and then counts once."""

LAST_OF_PROCPS = "etc/sysctl.conf"

LARGEST = 4 << 20
"""Bytes of a file that are read: far above any real one."""

_MOST_FILES = 10_000


class Reader(Enum):
    """Who reads files of settings at boot."""

    SYSTEMD = "systemd-sysctl"
    PROCPS = "sysctl --system"


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


def read_given(paths: Iterable[str]) -> tuple[SettingsFile, ...]:
    """Read files that the user named, in that order.

    Raises:
        QuestionError: One cannot be read: which, why, and what to do.
    """
    files = []
    for path in paths:
        file = _read([path], os.path.basename(path), "/")
        if isinstance(file.content, Missing):
            raise QuestionError(f"{clean(path, 300)}: {file.content.reason}; give a file of settings")
        files.append(file)
    return tuple(files)


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
            descriptor = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
            with os.fdopen(descriptor, "rb") as file:
                raw = file.read(LARGEST + 1)
        finally:
            os.close(handle)
    except FileNotFoundError:
        return Missing("it is a link to nothing" if os.path.islink(path) else "no such file")
    except OSError as error:
        return Missing(_why(error))
    except ValueError:
        return Missing("this cannot be a file name")
    if len(raw) > LARGEST:
        return Missing(f"it is longer than {LARGEST >> 20} MiB")
    return raw


_KINDS = {
    stat.S_IFDIR: "it is a folder, and no file",
    stat.S_IFIFO: "it is a pipe, and no file",
    stat.S_IFSOCK: "it is a socket, and no file",
}


def _why(error: OSError) -> str:
    if isinstance(error, PermissionError) and os.geteuid() != 0:
        return "permission denied; run as root to read it"
    return (error.strerror or str(error)).lower()
