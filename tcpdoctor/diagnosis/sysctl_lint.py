"""Files of settings against what their readers, this kernel and its traffic make of them."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import inf
from typing import NamedTuple

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.settings_rules import check_rules
from tcpdoctor.diagnosis.sysctl_checks import (
    check_controls,
    check_octal,
    check_ports,
    check_qdiscs,
    fault,
    refusal,
)
from tcpdoctor.diagnosis.sysctl_key_checks import DRIFT, check_drift, check_keys
from tcpdoctor.diagnosis.sysctl_look import ALIASES, Fault, Look, Write
from tcpdoctor.facts.sysctl_value import is_same, written_numbers
from tcpdoctor.kernel.reading import Missing, Refused
from tcpdoctor.kernel.sysctl_files import Dangling, Line, Reader, SettingsFile, dotted
from tcpdoctor.kernel.text import clean

# What is wrong with files of settings as files: what cannot be read, and lines that mean nothing.


_MARK = b"\xef\xbb\xbf"
_SHOWN = 60
_INTERFACES = re.compile(r"net/(?:ipv4|ipv6|mpls)/(?:conf|neigh)/")


def check_files(look: Look) -> Iterator[Fault]:
    """Look at each file: can it be read, and is every line of it read by both readers?"""
    for file in look.files:
        if isinstance(file.content, Missing):
            yield from _unreadable(file, file.content)
            continue
        yield from _bytes(file.path, file.content)
        for reader in Reader:
            lines = look.lines[reader].get(file.path)
            if lines is not None and lines.ends_at is not None:
                yield fault(
                    "line-too-long",
                    (file.path, lines.ends_at),
                    "The line is longer than 1 MiB: systemd-sysctl reads nothing from here on.",
                    "Break or remove the line.",
                )
        if file.name.startswith(".") and look.last_path:
            yield fault(
                "hidden-file",
                (file.path, None),
                "The name begins with a dot: procps reads the file, systemd-sysctl does not.",
                "Rename it, or move it out of the folder.",
            )
        if any(char in file.name for char in "*?[{") and look.last_path:
            yield fault(
                "file-name-is-pattern",
                (file.path, None),
                "procps takes the name for a pattern and may read other files in its place, or twice.",
                "Rename the file: letters, digits, dashes and dots.",
            )
    yield from _lines(look)


def check_folders(look: Look) -> Iterator[Fault]:
    """Look at what lies in the folders and is not read."""
    for skipped in look.skipped:
        if not skipped.name.upper().startswith("README") and not skipped.name.startswith("."):
            yield fault(
                "file-not-read",
                (skipped.path, None),
                "Only names that end in .conf are read; this one is not.",
                "Rename it if it is meant to act, or remove it.",
            )
    if look.unread_last:
        yield fault(
            "sysctl-conf-not-read",
            (look.last_path, None),
            "It holds settings, and no file of /etc/sysctl.d links to it: systemd-sysctl does not read "
            "it at boot, "
            "while `sysctl --system` and `sysctl -p` do.",
            "Move its lines to a file such as /etc/sysctl.d/60-local.conf.",
        )


def _unreadable(file: SettingsFile, why: Missing) -> Iterator[Fault]:
    hidden = f" It hides {_and(file.hides)}." if file.hides else ""
    if isinstance(why, Dangling):
        yield fault(
            "link-to-nothing",
            (file.path, None),
            f"The link leads nowhere.{hidden}",
            "Remove it; to hide a file on purpose, link to /dev/null.",
            severity=Severity.WARNING if file.hides else None,
        )
    elif not isinstance(why, Refused):
        yield fault(
            "no-readable-file",
            (file.path, None),
            f"Nothing is read from it: {why.reason}.{hidden}",
            "Remove it, or put a file of settings in its place.",
        )


def _is_marked(content: bytes) -> bool:
    return content.startswith(_MARK)


def _bytes(path: str, content: bytes) -> Iterator[Fault]:
    if _is_marked(content):
        yield fault(
            "byte-order-mark",
            (path, 1),
            "The file begins with a byte order mark, which both readers take for a part of the first line.",
            "Save it as UTF-8 without a byte order mark.",
        )
    for number, raw in enumerate(content.split(b"\n"), start=1):
        text = raw.removesuffix(b"\r")
        if text.lstrip(b" \t").startswith((b"#", b";")) and b"\0" not in text and b"\r" not in text:
            continue
        if b"\0" in text or b"\r" in text:
            yield fault(
                "stray-line-end",
                (path, number),
                "A carriage return or NUL stands inside the line: systemd-sysctl begins another line "
                "there, procps "
                "does not.",
                "Save the file with plain line ends.",
            )
        try:
            text.decode("utf-8")
        except UnicodeDecodeError:
            yield fault(
                "not-utf-8",
                (path, number),
                "The line holds bytes that are no UTF-8.",
                "Save the file as UTF-8.",
            )


def _lines(look: Look) -> Iterator[Fault]:
    marked = {
        file.path for file in look.files if isinstance(file.content, bytes) and _is_marked(file.content)
    }
    for path, line in look.every_line():
        if line.number == 1 and path in marked:
            continue  # told as byte-order-mark
        if line.path is None:
            yield fault(
                "not-an-assignment",
                (path, line.number),
                f"{_quoted(line.key)} is no setting: {_lacking(line.key)}. Both readers skip the line.",
                "Write KEY = VALUE; begin a comment with #; begin an exclusion with -.",
            )
        elif line.is_glob and line.value is None:
            yield _pattern_excludes(path, line)
        elif line.is_glob and look.is_here and not line.leads_out and not look.matches.get(line.path):
            yield _matches_nothing(path, line, line.path)


def _lacking(text: str) -> str:
    if text.startswith("//"):
        return "// begins no comment (# and ; do)"
    return "nothing stands before the '='" if "=" in text else "it has no '='"


def _matches_nothing(path: str, line: Line, pattern: str) -> Fault:
    return fault(
        "pattern-matches-nothing",
        (path, line.number),
        f"{_quoted(line.key)} stands for no setting of this kernel or network namespace.",
        "Nothing, if such interfaces come later: udev has systemd-sysctl apply the line then "
        "(99-systemd.rules)."
        if _INTERFACES.match(pattern)
        else "Correct it, or remove the line.",
        key=line.key,
    )


def _pattern_excludes(path: str, line: Line) -> Fault:
    return fault(
        "pattern-excludes-nothing",
        (path, line.number),
        f"The exclusion {_quoted('-' + line.key)} is a pattern: systemd-sysctl 252 and procps up to "
        "4.0.4 take it "
        "literally, so it excludes nothing.",
        "Name each setting that is to be left alone, without * ? [.",
        key=line.key,
    )


def _quoted(text: str) -> str:
    return f"'{clean(text, _SHOWN)}'"


def _and(paths: tuple[str, ...]) -> str:
    return " and ".join(clean(path, 200) for path in paths)


# What is wrong with files of settings taken together: readers that part ways, lines that others undo.


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
    yield from _resets(look)


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


def _settings_in_order(look: Look) -> Iterator[tuple[str, str, Line]]:
    """What lines set that count and are no patterns, each with its file, in the order they are read in."""
    order = {file.path: number for number, file in enumerate(look.files)}
    for path, line in sorted(look.every_line(), key=lambda item: (order[item[0]], item[1].number)):
        if line.path is not None and line.value is not None and not line.is_glob and _counts(look, line):
            yield ALIASES.get(line.target, line.target), path, line


def _set_twice(look: Look) -> Iterator[Fault]:
    """A key that several lines name: what was set earlier has no effect."""
    seen: dict[str, tuple[str, Line]] = {}
    for variable, path, line in _settings_in_order(look):
        before = seen.get(variable)
        seen[variable] = (path, line)
        if before is None or (before[0], before[1].number) == (path, line.number):
            continue
        fault_ = _twice(before, path, line)
        if fault_ is not None:
            yield fault_


_FORWARD4 = "net/ipv4/conf/all/forwarding"
_RESETS: Mapping[str, re.Pattern[str]] = {
    _FORWARD4: re.compile(r"net/ipv4/conf/(?!all/)[^/]+/forwarding"),
    "net/ipv6/conf/all/forwarding": re.compile(r"net/ipv6/conf/(?!all/)[^/]+/forwarding"),
    "net/ipv6/conf/all/disable_ipv6": re.compile(r"net/ipv6/conf/(?!all/)[^/]+/disable_ipv6"),
}
"""What a write to a setting of all interfaces sets as well: the default's, and each interface's."""
_REDIRECTS4 = "net/ipv4/conf/all/accept_redirects"


def _resets(look: Look) -> Iterator[Fault]:
    """Lines that a later one undoes although it names another setting."""
    earlier: dict[str, tuple[str, Line]] = {}
    for variable, path, line in _settings_in_order(look):
        # few lines reset others, and there may be very many lines
        for target in [each for each in earlier if each != variable] if variable in _RESETS else ():
            becomes = _reset_to(variable, line.value or "", target)
            if becomes is not None and not is_same(earlier[target][1].value or "", becomes):
                yield _reset(earlier.pop(target), path, line, becomes)
        earlier[variable] = (path, line)


def _reset_to(variable: str, value: str, target: str) -> str | None:
    """What a write to one setting makes of another; None where it leaves it alone."""
    numbers = written_numbers(value, 1)
    if numbers is None:
        return None
    if variable == _FORWARD4 and target == _REDIRECTS4:
        return "0" if numbers[0] else "1"
    pattern = _RESETS.get(variable)
    return str(numbers[0]) if pattern is not None and pattern.fullmatch(target) else None


def _reset(before: tuple[str, Line], path: str, line: Line, becomes: str) -> Fault:
    file, earlier = before
    key = dotted(earlier.target)
    return fault(
        "reset-by-later-line",
        (file, earlier.number),
        f"{key} = {clean(earlier.value or '', _SHOWN)} does not last: {_place(path, line)} sets "
        f"{dotted(line.target)}, and where that changes it the kernel sets {key} to {becomes}.",
        "Move it behind that line, or into a file whose name comes later.",
        key=key,
    )


def _counts(look: Look, line: Line) -> bool:
    """Whether a line can undo another: not where its key is gone or its value is refused, told by itself."""
    known = look.known_of(line.target)
    held = look.held.get(line.target)
    value = Missing("not looked at") if held is None else held.value
    return known.removed is None and refusal(line.target, line.value or "", known, value) is None


def _same_value(one: str, other: str) -> bool:
    """Whether two texts set the same: ``3`` and ``0x3`` do."""
    return len(one.split()) == len(other.split()) and (is_same(one, other) or is_same(other, one))


def _twice(before: tuple[str, Line], path: str, line: Line) -> Fault | None:
    file, earlier = before
    key = dotted(line.target)
    other = "" if earlier.target == line.target else f" (under its other name, {dotted(earlier.target)})"
    by_vendor = [bool(_VENDOR.search(each)) for each in (file, path)]
    if _same_value(earlier.value or "", line.value or ""):
        if file != path and any(by_vendor):
            return None  # a distribution's files repeat each other, and an administrator's insist on a value
        return fault(
            "set-twice",
            (path, line.number),
            f"{key} is set to the same value at {_place(file, earlier)}{other} already.",
            "Keep one of the lines.",
            key=key,
            severity=Severity.INFO,
        )
    if file != path and by_vendor[0]:
        return None  # an administrator's file that corrects the vendor's is what the folders are for
    return _undone(before, path, line, by_vendor=by_vendor[1] and file != path)


def _undone(before: tuple[str, Line], path: str, line: Line, *, by_vendor: bool) -> Fault:
    file, earlier = before
    key = dotted(earlier.target)
    other = "" if earlier.target == line.target else f", the same variable as {dotted(line.target)},"
    if by_vendor:
        name = clean(path.rpartition("/")[2], 100)
        do = f"Files count in the order of their names: give this one a name after {name}."
    else:
        do = "Remove the line that is not meant."
    is_meant = by_vendor and line.target.startswith("net/")
    return fault(
        "set-twice",
        (file, earlier.number),
        f"{key} = {clean(earlier.value or '', _SHOWN)} has no effect: {_place(path, line)} sets it{other} to "
        f"{clean(line.value or '', _SHOWN)} later.",
        do,
        key=key,
        severity=None if file == path or is_meant else Severity.INFO,
    )


def _place(file: str, line: Line) -> str:
    return f"{clean(file, 200)} line {line.number}"


class Unchecked(NamedTuple):
    """Something that could not be looked at."""

    what: str
    """A file, or a check."""
    reason: str


class Linted(NamedTuple):
    """What came out."""

    faults: tuple[Fault, ...]
    """By file in the order in which they are read, then by line; the worst of a line first."""
    unchecked: tuple[Unchecked, ...]


def lint_settings(look: Look, names: Collection[str]) -> Linted:
    """Run every check.

    Args:
        look: What was read.
        names: Dotted names that a misspelt one may have meant.
    """
    found = [
        *check_files(look),
        *check_folders(look),
        *check_order(look),
        *check_keys(look, names),
        *check_drift(look),
        *check_rules(look),
        *check_controls(look),
        *check_qdiscs(look),
        *check_octal(look),
        *check_ports(look),
    ]
    order = {file.path: number for number, file in enumerate(look.files)}
    distinct = dict.fromkeys(_without_contradiction(found))

    def place(fault: Fault) -> tuple[int, str, float, int]:
        line = fault.line or (inf if fault.check == DRIFT else 0)  # of a file as a whole: first, or a sum
        return order.get(fault.file, len(order)), fault.file, line, -fault.severity

    return Linted(tuple(sorted(distinct, key=place)), tuple(_unchecked(look)))


_SAID_ALREADY = frozenset(
    {"key-has-no-effect", "key-read-only", "key-outside-proc-sys", "not-an-assignment", "value-refused"}
)
"""Of a line with one of these it goes without saying that the kernel has something else."""


def _without_contradiction(found: Sequence[Fault]) -> Iterator[Fault]:
    """Nobody is told to apply a line that has not passed every check."""
    others: dict[tuple[str, int | None], set[str]] = {}
    for one in found:
        if one.check != DRIFT:
            others.setdefault((one.file, one.line), set()).add(one.check)
    for one in found:
        wrong = others.get((one.file, one.line), set())
        if one.check != DRIFT or one.line is None or not wrong:
            yield one
        elif not wrong & _SAID_ALREADY:
            yield one._replace(do="Do not apply it as it is: see the other remark on this line.")


def _unchecked(look: Look) -> list[Unchecked]:
    found = [
        Unchecked(file.path, file.content.reason) for file in look.files if isinstance(file.content, Refused)
    ]
    if not look.is_here:
        found.append(Unchecked("running values", "the files are another system's"))
    elif isinstance(look.listeners, Missing):
        found.append(Unchecked("range-holds-listener", look.listeners.reason))
    return found


def worst(linted: Linted) -> Severity | None:
    """The severity of the worst fault; None where there is none."""
    return max((fault.severity for fault in linted.faults), default=None)
