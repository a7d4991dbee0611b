"""Writing kernel settings, for `tcpdoctor fix` alone: what runs, and the lines of one file for the next boot.

This is the only place where this program changes a setting that runs. A line of the file that says
something else of the same setting makes room for ours, and comes back when that goes; all other lines stay
as they are.
"""

import errno
import os
from collections.abc import Iterable, Mapping

from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.sysctl import PROC_SYS, look_at, walk_to
from tcpdoctor.kernel.sysctl_files import Reader, read_lines
from tcpdoctor.named_tuples import NamedTuple


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
