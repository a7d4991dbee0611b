"""What is wrong with files of settings taken together: readers that part ways, lines that others undo."""

import re
from collections.abc import Iterator

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.sysctl_checks import fault
from tcpdoctor.diagnosis.sysctl_look import Fault, Look
from tcpdoctor.diagnosis.sysctl_order import Write
from tcpdoctor.diagnosis.sysctl_refusal import refusal
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sysctl_files import Reader
from tcpdoctor.kernel.sysctl_lines import Line, dotted
from tcpdoctor.kernel.text import clean

_SHOWN = 60
_VENDOR = re.compile(r"(?:^|(?<!/local)/)lib/sysctl\.d/[^/]*$")


def check_order(look: Look) -> Iterator[Fault]:
    """Look at keys that are set more than once, and where the two readers end with different values."""
    excluded = {line.target for _, line in look.every_line() if line.path is not None and line.value is None}
    paths = dict.fromkeys([*look.last[Reader.SYSTEMD], *look.last[Reader.PROCPS]])
    for path in paths:
        systemd, procps = (look.last[reader].get(path) for reader in Reader)
        if systemd is not None and procps is not None and systemd.value.split() == procps.value.split():
            continue
        if look.unread_last and procps is not None and procps.by.file == look.last_path:
            continue  # told once, as sysctl-conf-not-read
        yield from _disagreement(path, systemd, procps, is_excluded=path in excluded)
    yield from _set_twice(look)


def _disagreement(
    path: str, systemd: Write | None, procps: Write | None, *, is_excluded: bool
) -> Iterator[Fault]:
    where = procps or systemd
    if where is None:
        return
    told = [
        f"{reader.value} ends with "
        + (
            "nothing set"
            if write is None
            else f"{write.value or 'an empty value'} ({_place(write.by.file, write.by.line)})"
        )
        for reader, write in ((Reader.SYSTEMD, systemd), (Reader.PROCPS, procps))
    ]
    why = f" An exclusion (-{dotted(path)}) undoes an earlier line for systemd-sysctl only." * is_excluded
    yield fault(
        "readers-disagree",
        (where.by.file, where.by.line.number),
        f"{dotted(path)}: {told[0]}, {told[1]}.{why}",
        "Keep one line for the key, written so that both read it alike.",
        key=dotted(path),
        severity=Severity.INFO if is_excluded and not path.startswith("net/ipv4/tcp_") else None,
    )


def _set_twice(look: Look) -> Iterator[Fault]:
    """A key that several lines name: what was set earlier has no effect."""
    seen: dict[str, tuple[str, Line]] = {}
    order = {file.path: number for number, file in enumerate(look.files)}
    for path, line in sorted(look.every_line(), key=lambda item: (order[item[0]], item[1].number)):
        if line.path is None or line.value is None or line.is_glob or not _counts(look, line):
            continue
        before = seen.get(line.target)
        seen[line.target] = (path, line)
        if before is None or (before[0], before[1].number) == (path, line.number):
            continue
        fault_ = _twice(before, path, line)
        if fault_ is not None:
            yield fault_


def _counts(look: Look, line: Line) -> bool:
    """Whether a line can undo another: not where its key is gone or its value is refused, told by itself."""
    known = look.known_of(line.target)
    held = look.held.get(line.target)
    value = Missing("not looked at") if held is None else held.value
    return known.removed is None and refusal(line.target, line.value or "", known, value) is None


def _twice(before: tuple[str, Line], path: str, line: Line) -> Fault | None:
    file, earlier = before
    key = dotted(line.target)
    by_vendor = [bool(_VENDOR.search(each)) for each in (file, path)]
    if (earlier.value or "").split() == (line.value or "").split():
        if file != path and any(by_vendor):
            return None  # a distribution's files repeat each other, and an administrator's insist on a value
        return fault(
            "set-twice",
            (path, line.number),
            f"{key} is set to the same value at {_place(file, earlier)} already.",
            "Keep one of the lines.",
            key=key,
            severity=Severity.INFO,
        )
    if file != path and by_vendor[0]:
        return None  # an administrator's file that corrects the vendor's is what the folders are for
    return _undone(before, path, line, by_vendor=by_vendor[1] and file != path)


def _undone(before: tuple[str, Line], path: str, line: Line, *, by_vendor: bool) -> Fault:
    file, earlier = before
    key = dotted(line.target)
    if by_vendor:
        name = clean(path.rpartition("/")[2], 100)
        do = f"Files count in the order of their names: give this one a name after {name}."
    else:
        do = "Remove the line that is not meant."
    is_meant = by_vendor and line.target.startswith("net/")
    return fault(
        "set-twice",
        (file, earlier.number),
        f"{key} = {clean(earlier.value or '', _SHOWN)} has no effect: {_place(path, line)} sets it to "
        f"{clean(line.value or '', _SHOWN)} later.",
        do,
        key=key,
        severity=None if file == path or is_meant else Severity.INFO,
    )


def _place(file: str, line: Line) -> str:
    return f"{clean(file, 200)} line {line.number}"
