"""Rule, configuration and recorded files: read with limits on size and ownership, written whole.

The checks are made on descriptors and not on names, so nothing can be exchanged between the check and
the reading.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tcpdoctor.errors import ConfigError, TcpdoctorError
from tcpdoctor.kernel.text import clean

if TYPE_CHECKING:  # which takes 4 ms to import
    from pathlib import Path
    from typing import BinaryIO

# Opening a path as root so that no other user has a say in what is found there.
#
# The path is walked from / one name at a time, on descriptors: each folder, link and file on the way is
# looked at after it was opened, so nothing can be exchanged in between.


OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS = 40
"""As many as the kernel follows in one path (MAXSYMLINKS)."""


class UntrustedPathError(Exception):
    """Another user decides what is at a path; the text says where and what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"refused as root: {what}; {remedy}")
        self.what = what


def open_trusted(path: str) -> int:
    """Return an O_PATH descriptor of what is at `path`, which nobody but root can change or exchange.

    A folder that others may write is accepted where its sticky bit keeps them from exchanging root's
    entries, as in /tmp; the entry then has to be root's, as everything has to be.

    Raises:
        UntrustedPathError: A file, link or folder on the way belongs to, or can be written by, another user.
        OSError: As open(2).
    """
    trusted = _trusted_uids()
    waiting = _names(path if path.startswith("/") else f"{os.getcwd()}/{path}")
    place, place_name, links = _open_root(), "", 0
    try:
        while waiting:
            name = waiting.pop()
            entry = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            status = os.fstat(entry)
            shown = f"{place_name}/{name}"
            try:
                _check(status, shown, trusted)
                if stat.S_ISLNK(status.st_mode):
                    links += 1
                    target = os.readlink("", dir_fd=entry)
                    if links > _MOST_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                    waiting += _names(target)
                    if target.startswith("/"):
                        os.close(place)
                        place, place_name = _open_root(), ""
                    continue
                place, place_name, entry = entry, shown, place
            finally:
                os.close(entry)
    except BaseException:  # whatever ends it, the descriptor does not stay open
        os.close(place)
        raise
    return place


def _names(path: str) -> list[str]:
    """Return the names of a path, the first one last."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _open_root() -> int:
    return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _check(status: os.stat_result, shown: str, trusted: frozenset[int]) -> None:
    mode = stat.S_IMODE(status.st_mode)
    remedy = f"chown root and chmod go-w {shown}"
    _check_owner(status, shown, trusted)
    if stat.S_ISLNK(status.st_mode) or not mode & OTHERS_WRITE:
        return
    if stat.S_ISDIR(status.st_mode) and mode & stat.S_ISVTX:
        return
    raise UntrustedPathError(f"others can write {shown} (mode {mode:04o})", remedy)


def _check_owner(status: os.stat_result, shown: str, trusted: frozenset[int]) -> None:
    if status.st_uid not in trusted:
        mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
        remedy = f"chown root and chmod go-w {shown}"
        raise UntrustedPathError(f"{shown} ({mode}) belongs to uid {status.st_uid}", remedy)


def _trusted_uids() -> frozenset[int]:
    """Return root, and inside a user namespace the uid that stands for all users outside of it.

    Files of the host's root look there as if they were of the overflow uid (user_namespaces(7)). It counts
    only where no user of the namespace has that number.
    """
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            mapped = [
                range(int(first), int(first) + int(length)) for first, _, length in map(str.split, file)
            ]
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
            overflow = int(file.read())
    except (OSError, ValueError):  # /proc or /proc/sys is covered here: then only root counts
        return frozenset({0})
    return frozenset({0} if any(overflow in uids for uids in mapped) else {0, overflow})


LARGEST_FILE = 1 << 20
"""Bytes of a rule or configuration file: far above any real one."""
_MOST_FILES = 10_000
_DEEPEST = 40
"""Folders in one another, far more than any sane tree has."""


def read_text_file(
    path: str | os.PathLike[str],
    *,
    limit_bytes: int = LARGEST_FILE,
    trusted_owner: bool = True,
    error: type[TcpdoctorError] = ConfigError,
) -> str:
    """Read a regular file of UTF-8 text; as `read_file`.

    Raises:
        TcpdoctorError: As `error`, one line: the file, what is wrong with it, what to do.
    """
    raw = read_file(path, limit_bytes=limit_bytes, trusted_owner=trusted_owner, error=error)
    try:
        return raw.decode("utf-8-sig")  # editors of other systems begin a file with a byte order mark
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        raise error(f"{_shown(path)} line {line}: not UTF-8 text; save it as UTF-8") from None


def read_file(
    path: str | os.PathLike[str],
    *,
    limit_bytes: int,
    trusted_owner: bool = True,
    error: type[TcpdoctorError] = ConfigError,
) -> bytes:
    """Read a regular file.

    Args:
        path: The file. Devices, pipes and folders are refused, without being opened.
        limit_bytes: A longer file is refused.
        trusted_owner: As root, refuse a file that another user can write, or that lies in a folder where
            another user can put something else in its place. Nothing is refused as an ordinary user.
        error: What to raise.

    Raises:
        TcpdoctorError: As `error`, one line: the file, what is wrong with it, what to do.
    """
    shown = _shown(path)
    with _raising(error, shown), _opened(path, trusted_owner=trusted_owner) as handle:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise error(f"{shown}: {_kind(os.fstat(handle).st_mode)}, where a regular file is expected")
        if is_of_proc(os.fstat(handle)):
            raise error(f"{shown}: a file of /proc, where a regular file is expected")
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        descriptor = os.open(f"/proc/self/fd/{handle}", flags)
        try:
            raw = _read_at_once(descriptor, limit_bytes + 1)
        finally:
            os.close(descriptor)
    if len(raw) > limit_bytes:
        raise error(f"{shown}: longer than {limit_bytes} bytes; is it the right file?")
    return raw


def is_of_proc(status: os.stat_result) -> bool:
    """Whether a file is one of /proc: some of those wait when they are read, for ever, and some act."""
    try:
        return status.st_dev == os.stat("/proc").st_dev
    except OSError:
        return False


def _read_at_once(descriptor: int, most: int) -> bytes:
    """Read a file that was opened with O_NONBLOCK, at most so many bytes.

    Raises:
        BlockingIOError: It looks like a file and would have to be waited for, such as tracefs's trace_pipe.
    """
    parts: list[bytes] = []
    while most > 0 and (part := os.read(descriptor, min(most, 1 << 20))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


def read_most(stream: "BinaryIO", most: int, begun: bytes = b"") -> bytes:
    """Read a stream to its end, at most so many bytes with those that were `begun`.

    A stream that is asked for them at once takes memory for all of them, however short it is.
    """
    parts, left = [begun], most - len(begun)
    while left > 0 and (part := stream.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def list_files(
    folder: str | os.PathLike[str],
    suffix: str,
    *,
    trusted_owner: bool = True,
    error: type[TcpdoctorError] = ConfigError,
    deepest: int = _DEEPEST,
) -> "tuple[Path, ...]":
    """Return the files below a folder whose names end in `suffix`, in order of their paths.

    Names that begin with a dot are left out, folders that are links are not entered.

    Raises:
        TcpdoctorError: As `error`: the folder cannot be listed, is no folder, or (as root, with
            `trusted_owner`) another user can write it; or there are more than 10,000 files, or more than
            `deepest` folders in one another.
    """
    shown = _shown(folder)
    if deepest < 0:
        raise error(f"{shown}: more than {_DEEPEST} folders deep; is it the right folder?")
    with _raising(error, shown), _opened(folder, trusted_owner=trusted_owner) as handle:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            raise error(f"{shown}: {_kind(os.fstat(handle).st_mode)}, where a folder is expected")
        with os.scandir(f"/proc/self/fd/{handle}") as entries:
            seen = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    from pathlib import Path

    found: list[Path] = []
    for name, is_folder in seen:
        if name.startswith("."):
            continue
        path = Path(folder, name)
        if is_folder:
            found += list_files(path, suffix, trusted_owner=trusted_owner, error=error, deepest=deepest - 1)
        elif name.endswith(suffix):
            found.append(path)
        if len(found) > _MOST_FILES:
            raise error(f"{shown}: more than {_MOST_FILES} files; is it the right folder?")
    return tuple(found)


def write_beside(
    path: str | os.PathLike[str], text: str | Iterable[str], error: type[TcpdoctorError] = ConfigError
) -> None:
    """Replace a file's content at once: readers see the old text or the whole of the new one.

    The text goes into a temporary file beside it, which is then renamed. An existing file keeps its
    permissions, a new one gets 0666 less the umask; none is ever set-user-ID. Signals wait until the
    temporary file is gone. A device or pipe (``/dev/stdout``) is written directly. Text in parts is never in
    memory as a whole.

    As root the folder, and every folder and link on the way to it, has to be root's: who else could write
    there would choose what is written over. The work is done on the open folder, not on its name.

    Raises:
        TcpdoctorError: As `error`, one line; the file is as it was.
    """
    data = (part.encode("utf-8", "replace") for part in ([text] if isinstance(text, str) else text))
    with _raising(error, _shown(path)):
        _write_to(os.fspath(path), data)


def write_private(
    path: str | os.PathLike[str], data: bytes, error: type[TcpdoctorError] = ConfigError
) -> None:
    """Replace a file's content as `write_beside` does; only its owner may read it then (0600).

    Raises:
        TcpdoctorError: As `error`, one line; the file is as it was.
    """
    name = os.fspath(path)
    with _raising(error, _shown(path)):
        folder = _open_folder(name)
        try:
            before = _status(os.path.basename(name), folder)
            if before is not None and not stat.S_ISREG(before.st_mode):
                _write_through(name, before, (data,))
                return
            replace_file(os.path.basename(name), data, 0o600, folder)
        finally:
            os.close(folder)


def refuse_untrusted_output(path: str | os.PathLike[str], error: type[TcpdoctorError]) -> None:
    """Say before a long look that `write_beside` would refuse as root.

    Raises:
        TcpdoctorError: As `error`, one line: whose folder it is, and what to do.
    """
    with _raising(error, _shown(path)):
        if not _is_own_descriptor(os.fspath(path)):
            os.close(_open_folder(os.fspath(path)))


def _write_to(name: str, data: Iterable[bytes]) -> None:
    folder = _open_folder(name)
    try:
        before = _status(os.path.basename(name), folder)
        if before is not None and not stat.S_ISREG(before.st_mode):
            _write_through(name, before, data)
            return
        replace_file(os.path.basename(name), data, _kept_mode(before), folder)
    finally:
        os.close(folder)


def _write_through(name: str, before: os.stat_result, data: Iterable[bytes]) -> None:
    """Write to what a link names, or to a device or pipe."""
    if os.geteuid() == 0 and not _is_own_descriptor(name):
        _check_owner(before, name, _trusted_uids())
        if stat.S_ISLNK(before.st_mode):
            # A link of root's may lead through one of somebody else's.
            with _opened(os.path.dirname(os.path.realpath(name)), trusted_owner=True):
                pass
    target = _open_existing(name)
    try:
        behind = _name_of_regular(target)
        if not behind:
            _write_parts(target, data)
            return
    finally:
        os.close(target)
    _write_to(behind, data)


def _open_folder(name: str) -> int:
    """Return a descriptor of the folder that a file is to be in; as root, only of one that is root's."""
    parent = os.path.dirname(name) or "."
    if os.geteuid() != 0 or _is_own_descriptor(name):
        return os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_trusted(parent)
    except UntrustedPathError as error:
        remedy = "write into a folder of root's, such as /var/lib/tcpdoctor, and link to the file from there"
        raise UntrustedPathError(error.what, remedy) from None


def _is_own_descriptor(name: str) -> bool:
    """Whether a name is that of a descriptor of ours: the shell, or who started us, has opened it."""
    return name in ("/dev/stdout", "/dev/stderr") or name.startswith(("/dev/fd/", "/proc/self/fd/"))


def _kept_mode(before: os.stat_result | None) -> int | None:
    """Return the permissions that a file keeps: none of a file that was somebody else's."""
    if before is None or before.st_uid != os.geteuid():
        return None
    return before.st_mode & 0o777


def _status(name: str, folder: int | None = None) -> os.stat_result | None:
    """Return what is there itself, a link not followed; None for nothing and for a link to nothing."""
    try:
        status = os.lstat(name, dir_fd=folder)
        if stat.S_ISLNK(status.st_mode):
            with suppress(PermissionError):  # fs.protected_symlinks: the link is there, and somebody else's
                os.stat(name, dir_fd=folder)
        return status
    except FileNotFoundError:
        return None


def _open_existing(name: str) -> int:
    """Open for writing without changing anything; the kernel's own rules on links in /tmp apply."""
    target = os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    os.set_blocking(target, True)
    return target


def _name_of_regular(target: int) -> str:
    """Return the name behind links of an open regular file; "" for a device, a pipe or a file without one."""
    if not stat.S_ISREG(os.fstat(target).st_mode):
        return ""
    name = os.readlink(f"/proc/self/fd/{target}")
    status = _status(name)
    return name if status is not None and os.path.samestat(status, os.fstat(target)) else ""


def replace_file(
    name: str, data: bytes | Iterable[bytes], mode: int | None, folder: int | None = None
) -> None:
    """Write a file beside the one of this name, and rename it to that: readers see the old or the new one.

    Signals wait until it is done. None for `mode`: 0666 less the umask. `folder` is a descriptor of where
    `name` is, or None where the name says it.

    Raises:
        OSError: It could not be written; nothing is left of it.
    """
    import signal  # with its enumerations 1 ms, and only needed to write a file

    held_back = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGALRM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held_back)
    parts = [data] if isinstance(data, bytes) else data
    try:
        nameless = _open_nameless(os.path.dirname(name) or ".", folder)
        if nameless is None:
            _write_and_rename(name, parts, mode, folder)
        else:
            _write_and_link(nameless, name, parts, mode, folder)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _open_nameless(parent: str, folder: int | None) -> int | None:
    """Open a new file without a name, which is gone when we are; None where the folder or /proc cannot."""
    umask = os.umask(0o077)
    os.umask(umask)
    try:
        # Before Linux 5.19 some file systems forget the umask of such a file (ac6800e279a2).
        target = os.open(parent, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o666 & ~umask, dir_fd=folder)
    except OSError:  # what is wrong with the folder itself, opening a file with a name says
        return None
    if os.path.exists(f"/proc/self/fd/{target}"):
        return target
    os.close(target)
    return None


def _write_and_link(
    target: int, name: str, parts: Iterable[bytes], mode: int | None, folder: int | None
) -> None:
    """Name the file once it is whole: SIGKILL leaves nothing but between the last two calls."""
    try:
        if mode is not None:
            os.fchmod(target, mode)
        _write_parts(target, parts)
        os.fsync(target)
        try:
            _link(target, name, folder)
        except FileExistsError:
            _link(target, beside := _name_beside(name), folder)
            _rename(beside, name, folder)
    finally:
        os.close(target)


def _link(target: int, name: str, folder: int | None) -> None:
    # The first name is absolute, but without a descriptor Python would link the link in /proc itself.
    os.link(f"/proc/self/fd/{target}", name, src_dir_fd=target, dst_dir_fd=folder)


def _write_and_rename(name: str, parts: Iterable[bytes], mode: int | None, folder: int | None) -> None:
    beside = _name_beside(name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    target = os.open(beside, flags, 0o666, dir_fd=folder)
    try:
        if mode is not None:
            os.fchmod(target, mode)
        _write_parts(target, parts)
        os.fsync(target)
    except BaseException:  # whatever ends it, nothing half-written stays
        os.unlink(beside, dir_fd=folder)
        raise
    finally:
        os.close(target)
    _rename(beside, name, folder)


def _name_beside(name: str) -> str:
    return os.path.join(os.path.dirname(name), f".tcpdoctor-{os.getpid()}-{os.urandom(4).hex()}.tmp")


def _rename(beside: str, name: str, folder: int | None) -> None:
    try:
        os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(beside, dir_fd=folder)
        raise


def _write_parts(target: int, parts: Iterable[bytes]) -> None:
    with open(target, "wb", buffering=1 << 16, closefd=False) as file:
        for part in parts:
            file.write(part)


@contextmanager
def _opened(path: str | os.PathLike[str], *, trusted_owner: bool) -> Iterator[int]:
    """Give an O_PATH descriptor: opening it changes nothing, whatever it is, and never blocks."""
    if trusted_owner and os.geteuid() == 0:
        handle = open_trusted(os.fspath(path))
    else:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _raising(error: type[TcpdoctorError], shown: str) -> Iterator[None]:
    try:
        yield
    except UntrustedPathError as problem:
        raise error(f"{shown}: {clean(str(problem), 400)}") from None
    except OSError as problem:
        what = (problem.strerror or str(problem)).lower()
        if problem.errno == errno.EAGAIN:
            what = "it would have to be waited for; give a regular file"
        elif problem.errno in (errno.EACCES, errno.EPERM):
            what += "; run as its owner, or as root" if os.geteuid() else ", even for root here"
        elif str(problem.filename).startswith("/proc/self/"):
            what = f"cannot be read without /proc, and {problem.filename} gives: {what}"
        raise error(f"{shown}: {what}") from problem
    except ValueError:
        raise error(f"{shown}: this cannot be a file name") from None


def _shown(path: str | os.PathLike[str]) -> str:
    return clean(os.fspath(path), 300)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFREG: "a file",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")
