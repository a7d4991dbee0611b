"""`sysctl lint` for people, by file and line, and as SARIF."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from tcpdoctor.answers.settings_lint import LintFault, SettingsLint
from tcpdoctor.diagnosis.finding import JsonValue, Severity
from tcpdoctor.diagnosis.sysctl_checks import Check
from tcpdoctor.kernel.text import clean
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import Block, Entries, Inset, Item, Prose, Section, Title
from tcpdoctor.report.sarif import SarifResult, SarifRule, sarif
from tcpdoctor.report.style import Style


def settings_lint_page(answer: SettingsLint, _style: Style) -> list[Block]:
    """Return every fault under its file, then what was looked at."""
    unchecked = tuple(Item(f"{clean(each.what, 300)}: {each.reason}") for each in answer.unchecked)
    return [
        *_by_file(answer.faults),
        *([Section("Not looked at", (Entries(unchecked, deeper=2),))] if unchecked else []),
        Section("", (Prose(_total(answer)),)),
    ]


def loud_lint_page(answer: SettingsLint, _style: Style, *, fail_on: Severity | None = None) -> list[Section]:
    """Return the faults at or above `fail_on`, nothing else; nothing where there are none."""
    return _by_file(
        fault for fault in answer.faults if fail_on and Severity[fault.severity.upper()] >= fail_on
    )


def _by_file(faults: Iterable[LintFault]) -> list[Section]:
    return [
        Section("", (Title(clean(file, 300), whole=True), Inset(tuple(map(_fault, of_file)), 2)))
        for file, of_file in groupby(faults, lambda fault: fault.file)
    ]


def _fault(fault: LintFault) -> Item:
    where = f"line {fault.line}" if fault.line is not None else ""
    do = Entries((Item(f"-> {fault.do}"),), deeper=3)
    return Item(fault.check, where, blocks=(Inset((Prose(fault.what), do), 2),), severity=fault.severity)


def _total(answer: SettingsLint) -> str:
    info, warning, critical = answer.summary
    counts = [
        f"{number} {word}"
        for number, word in ((critical, "critical"), (warning, "warning"), (info, "info"))
        if number
    ]
    if not answer.files and not answer.faults:
        return (
            "There is no file of settings: neither in sysctl.d of /etc, /run or /usr, nor /etc/sysctl.conf."
        )
    looked = plural(len(answer.files), "file")
    if not counts:
        return f"{looked}, nothing to correct."
    return f"{looked}, {plural(len(answer.faults), 'remark')} ({', '.join(counts)})."


def sysctl_lint_sarif(
    answer: SettingsLint, checks: Sequence[Check], where: str | None = None
) -> dict[str, JsonValue]:
    """Return every fault as a result, with all checks as rules; `where` tells runs apart."""
    results = [
        SarifResult(
            fault.check,
            Severity[fault.severity.upper()],
            f"{fault.what} {fault.do}",
            fault.file,
            fault.line,
        )
        for fault in answer.faults
    ]
    return sarif(
        {check.name: SarifRule(*check) for check in checks},
        results,
        [f"Not looked at: {each.what}: {each.reason}" for each in answer.unchecked],
        where,
    )
