"""What each setting is in the end, of several files that set it: as a reader of files applies them.

Both readers collect all files first and write afterwards, in the order of the lines; a glob writes to what it
stands for except to what some line names exactly, wherever that line is. They differ in what they keep:

- systemd-sysctl keeps one line for each key, the last; if the kernel refuses its value, nothing is written.
  An exclusion (``-key``) takes the place of an assignment of the same key, and the other way round.
- procps writes every line in turn, so a value that the kernel takes stays where a later one is refused. An
  exclusion only keeps globs away.

Source: systemd 252, src/sysctl/sysctl.c (parse_file, apply_all); procps 4.0.2, src/sysctl.c
(write_setting_list, settinglist_findpath).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from tcpdoctor.kernel.sysctl_files import Reader
from tcpdoctor.kernel.sysctl_lines import Line

Accepts = Callable[[str, str], bool]
"""Whether the kernel takes a value for a place below /proc/sys."""


class Placed(NamedTuple):
    """A line, and the file that it is in."""

    file: str
    line: Line


class Write(NamedTuple):
    """One value that a reader writes."""

    path: str
    """The place below /proc/sys, in one form."""
    value: str
    by: Placed


def writes(
    lines: Iterable[Placed], reader: Reader, matches: Mapping[str, Sequence[str]]
) -> dict[str, list[Write]]:
    """Return what a reader writes to each place below /proc/sys, in order; the last comes last.

    Args:
        lines: All lines of all its files, in its order.
        reader: Whose rules count.
        matches: For each glob, the places that it stands for.
    """
    kept = _one_each(lines) if reader is Reader.SYSTEMD else tuple(lines)
    named = {placed.line.path for placed in kept}
    done: dict[str, list[Write]] = {}
    for placed in kept:
        line = placed.line
        if line.path is None or line.value is None or line.refused:
            continue
        places = [line.target]
        if line.is_glob:
            places = [place for place in matches.get(line.path, ()) if place not in named]
        for place in places:
            done.setdefault(place, []).append(Write(place, line.value, placed))
    return done


def winner(all_writes: Sequence[Write], accepts: Accepts) -> Write | None:
    """Return the write whose value stays; None where the kernel refuses every one."""
    return next((write for write in reversed(all_writes) if accepts(write.path, write.value)), None)


def winners(done: Mapping[str, Sequence[Write]], accepts: Accepts) -> dict[str, Write]:
    """Return for each place the write whose value stays; places where all are refused are left out."""
    found = {path: winner(all_writes, accepts) for path, all_writes in done.items()}
    return {path: write for path, write in found.items() if write is not None}


def _one_each(lines: Iterable[Placed]) -> tuple[Placed, ...]:
    """systemd-sysctl's table: the last line of each key, but an equal one does not move to the end."""
    table: dict[str, Placed] = {}
    for placed in lines:
        line = placed.line
        if line.path is None:
            continue
        before = table.get(line.path)
        if before is not None and before.line.value == line.value:
            continue
        table.pop(line.path, None)
        table[line.path] = placed
    return tuple(table.values())
