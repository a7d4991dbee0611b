"""Lines of one file of settings that are put in and taken out again; all other lines stay as they are.

A line that says something else of the same setting makes room, and comes back when ours goes.
"""

from collections.abc import Iterable, Mapping

from tcpdoctor.kernel.sysctl_files import Reader, read_lines
from tcpdoctor.named_tuples import NamedTuple

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
