"""The answer to `sysctl lint`: files of settings, looked at and judged."""

import time
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from tcpdoctor.answers.record import Count, Host, Is, Time, host_of, utc
from tcpdoctor.answers.settings_files import look_at_files, look_at_tree, nearby_names
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.settings_rules import checks_of
from tcpdoctor.diagnosis.sysctl_checks import CHECKS, Check
from tcpdoctor.diagnosis.sysctl_lint import Linted, lint_settings, worst
from tcpdoctor.diagnosis.sysctl_look import Fault, Look
from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.namespaces import Identity, read_identity
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sysctl_files import SettingsFile
from tcpdoctor.kernel.text import clean

_LONGEST = 4096


class FaultCounts(NamedTuple):
    """How many faults there are of each severity."""

    info: Count
    warning: Count
    critical: Count


class LintedFile(NamedTuple):
    """One file that was looked at."""

    path: str
    read: bool
    missing: Annotated[str | None, Is("Why nothing was read from it.")]
    mask: Annotated[bool, Is("Whether it is a link to /dev/null, which hides files of its name.")]
    hides: Annotated[tuple[str, ...], Is("Files of the same name in later folders, which nobody reads.")]


class LintFault(NamedTuple):
    """One thing that is wrong, or worth knowing, at one place."""

    check: str
    severity: Literal["info", "warning", "critical"]
    file: str
    line: Annotated[int | None, Is("Null where the file as a whole is meant.", minimum=0)]
    sysctl: str | None
    what: str
    do: str
    sources: Annotated[tuple[str, ...], Is("What the check rests on.")]


class NotLinted(NamedTuple):
    """Something that could not be looked at."""

    what: str
    reason: str


class SettingsLint(NamedTuple):
    """Everything that `sysctl lint` says."""

    schema: Literal["tcpdoctor.sysctl-lint/1"]
    host: Host
    taken_at: Time
    exit_code: Literal[0, 1, 2, 3]
    summary: FaultCounts
    files: tuple[LintedFile, ...]
    faults: tuple[LintFault, ...]
    unchecked: tuple[NotLinted, ...]


def lint_these(
    files: Sequence[str], root: str | None, fail_on: Severity | None
) -> tuple[SettingsLint, tuple[Check, ...]]:
    """Judge these files, or those of a system; with every check that there is.

    Args:
        files: That the user named; none for those of a system.
        root: Of the system; None for this one.
        fail_on: The least severity that changes the exit code; None for none.

    Raises:
        QuestionError: A file or the root cannot be read, or both were given.
    """
    if files and root is not None:
        raise QuestionError(
            "--root takes no files: it looks at those of a whole system; leave one of the two out"
        )
    look = look_at_files(files) if files else look_at_tree(root or "/")
    linted = lint_settings(look, nearby_names(look))
    answer = settings_lint(linted, look, read_identity(), time.time(), fail_on)
    return answer, (*CHECKS.values(), *checks_of(look.rules).values())


def settings_lint(
    linted: Linted, look: Look, who: Identity, taken_at: float, fail_on: Severity | None
) -> SettingsLint:
    """Return the finished answer; names of files and settings are safe to show."""
    counts = [sum(fault.severity is severity for fault in linted.faults) for severity in Severity]
    return SettingsLint(
        schema="tcpdoctor.sysctl-lint/1",
        host=host_of(who),
        taken_at=utc(taken_at),
        exit_code=_exit_code(linted, fail_on),
        summary=FaultCounts(*counts),
        files=tuple(map(_linted_file, look.files)),
        faults=tuple(map(_lint_fault, linted.faults)),
        unchecked=tuple(NotLinted(clean(each.what, _LONGEST), each.reason) for each in linted.unchecked),
    )


def _exit_code(linted: Linted, fail_on: Severity | None) -> Literal[0, 1, 2]:
    """The codes of the monitoring plugins, as those of `check`."""
    found = worst(linted)
    if fail_on is None or found is None or found < max(fail_on, Severity.WARNING):
        return 0
    return 2 if found is Severity.CRITICAL else 1


def _linted_file(file: SettingsFile) -> LintedFile:
    return LintedFile(
        path=clean(file.path, _LONGEST),
        read=not isinstance(file.content, Missing),
        missing=file.content.reason if isinstance(file.content, Missing) else None,
        mask=file.mask,
        hides=tuple(clean(path, _LONGEST) for path in file.hides),
    )


_KEYS: dict[Severity, Literal["info", "warning", "critical"]] = {
    Severity.INFO: "info",
    Severity.WARNING: "warning",
    Severity.CRITICAL: "critical",
}


def _lint_fault(fault: Fault) -> LintFault:
    return LintFault(
        check=fault.check,
        severity=_KEYS[fault.severity],
        file=clean(fault.file, _LONGEST),
        line=fault.line,
        sysctl=None if fault.key is None else clean(fault.key, _LONGEST),
        what=fault.what,
        do=fault.do,
        sources=fault.sources,
    )
