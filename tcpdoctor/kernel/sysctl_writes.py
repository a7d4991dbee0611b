"""Writing kernel settings: the only place where this program changes one, for `tcpdoctor fix` alone."""

import errno
import os

from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.sysctl import PROC_SYS, look_at, walk_to


def path_of_setting(key: str) -> str:
    """Return the place of a dotted name below /proc/sys, ``net/ipv4/tcp_sack``."""
    return key.translate({46: "/", 47: "."})


def held_text(key: str) -> Reading[str]:
    """Return what a setting holds as the kernel prints it, one blank between its parts."""
    return look_at(path_of_setting(key)).value


def write_setting(key: str, value: str, root: str = PROC_SYS) -> Missing | None:
    """Write a setting of the calling thread's network namespace; None where the kernel took it.

    Nothing outside of /proc/sys is ever opened. Of several numbers the kernel may have kept the first ones
    although it refused the rest: who writes has to read back.
    """
    try:
        folder, name = walk_to(path_of_setting(key), root)
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
