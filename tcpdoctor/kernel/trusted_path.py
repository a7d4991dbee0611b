"""Opening a path as root so that no other user has a say in what is found there.

The path is walked from / one name at a time, on descriptors: each folder, link and file on the way is
looked at after it was opened, so nothing can be exchanged in between.
"""

import errno
import os
import stat

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS = 40
"""As many as the kernel follows in one path (MAXSYMLINKS)."""


class UntrustedPathError(Exception):
    """Another user decides what is at a path; the text says where and what to do."""


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
    except BaseException:
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
    if status.st_uid not in trusted:
        raise UntrustedPathError(
            f"refused as root: {shown} (mode {mode:04o}) belongs to uid {status.st_uid}; {remedy}"
        )
    if stat.S_ISLNK(status.st_mode) or not mode & _OTHERS_WRITE:
        return
    if stat.S_ISDIR(status.st_mode) and mode & stat.S_ISVTX:
        return
    raise UntrustedPathError(f"refused as root: others can write {shown} (mode {mode:04o}); {remedy}")


def _trusted_uids() -> frozenset[int]:
    """Return root, and inside a user namespace the uid that stands for all users outside of it.

    Files of the host's root look there as if they were of the overflow uid (user_namespaces(7)). It counts
    only where no user of the namespace has that number.
    """
    with open("/proc/self/uid_map", encoding="ascii") as file:
        mapped = [range(int(first), int(first) + int(length)) for first, _, length in map(str.split, file)]
    try:
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
            overflow = int(file.read())
    except FileNotFoundError:  # /proc/sys is covered here: then only root counts
        return frozenset({0})
    return frozenset({0} if any(overflow in uids for uids in mapped) else {0, overflow})
