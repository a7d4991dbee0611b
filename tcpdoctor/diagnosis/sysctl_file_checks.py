"""What is wrong with files of settings as files: what cannot be read, and lines that mean nothing."""

import re
from collections.abc import Iterator

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.sysctl_checks import fault
from tcpdoctor.diagnosis.sysctl_look import Fault, Look
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sysctl_files import Reader, SettingsFile
from tcpdoctor.kernel.sysctl_lines import Line
from tcpdoctor.kernel.text import clean

_MARK = b"\xef\xbb\xbf"
_SHOWN = 60
_INTERFACES = re.compile(r"net/(?:ipv4|ipv6|mpls)/(?:conf|neigh)/")


def check_files(look: Look) -> Iterator[Fault]:
    """Look at each file: can it be read, and is every line of it read by both readers?"""
    for file in look.files:
        if isinstance(file.content, Missing):
            yield from _unreadable(file, file.content.reason)
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


def _unreadable(file: SettingsFile, reason: str) -> Iterator[Fault]:
    hidden = f" It hides {_and(file.hides)}." if file.hides else ""
    if reason == "it is a link to nothing":
        yield fault(
            "link-to-nothing",
            (file.path, None),
            f"The link leads nowhere.{hidden}",
            "Remove it; to hide a file on purpose, link to /dev/null.",
            severity=Severity.WARNING if file.hides else None,
        )
    elif not reason.startswith("permission denied"):
        yield fault(
            "no-readable-file",
            (file.path, None),
            f"Nothing is read from it: {reason}.{hidden}",
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
                f"{_quoted(line.key)} is no setting: it has no '='. Both readers skip the line.",
                "Write KEY = VALUE; begin a comment with #; begin an exclusion with -.",
            )
        elif line.is_glob and line.value is None:
            yield _pattern_excludes(path, line)
        elif line.is_glob and look.is_here and not look.matches.get(line.path):
            yield _matches_nothing(path, line, line.path)


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
