"""`sysctl lint` for people, by file and line, and as SARIF."""

from collections.abc import Sequence

from tcpdoctor.answers.settings_lint import LintFault, SettingsLint
from tcpdoctor.diagnosis.finding import JsonValue, Severity
from tcpdoctor.diagnosis.sysctl_checks import Check
from tcpdoctor.kernel.text import clean
from tcpdoctor.report.host import plural
from tcpdoctor.report.sarif import SarifResult, SarifRule, sarif
from tcpdoctor.report.style import Style

_MARGIN = "  "


def sysctl_lint_text(answer: SettingsLint, style: Style) -> str:
    """Return every fault under its file, then what was looked at."""
    lines = _by_file(answer.faults, style)
    if answer.unchecked:
        lines += ["", style.bold("Not looked at")] if lines else [style.bold("Not looked at")]
        lines += [
            style.wrap(f"{clean(each.what, 300)}: {each.reason}", _MARGIN * 2, _MARGIN)
            for each in answer.unchecked
        ]
    return "\n".join([*lines, *([""] if lines else []), style.wrap(_total(answer))]) + "\n"


def loud_lint_text(answer: SettingsLint, style: Style, fail_on: Severity | None = None) -> str:
    """Return the faults at or above `fail_on`, nothing else; empty where there are none."""
    loud = [fault for fault in answer.faults if fail_on and Severity[fault.severity.upper()] >= fail_on]
    return "\n".join(_by_file(loud, style))


def _by_file(faults: Sequence[LintFault], style: Style) -> list[str]:
    lines: list[str] = []
    file = None
    for fault in faults:
        if fault.file != file:
            lines += [""] if lines else []
            lines.append(style.bold(clean(fault.file, 300)))
            file = fault.file
        lines += _fault_lines(fault, style)
    return lines


def _fault_lines(fault: LintFault, style: Style) -> list[str]:
    where = f"line {fault.line}: " if fault.line is not None else ""
    return [
        f"{_MARGIN}{where}{style.severity(fault.severity)}: {fault.check}",
        style.wrap(fault.what, _MARGIN * 2),
        style.wrap(f"-> {fault.do}", _MARGIN * 2 + "   ", _MARGIN * 2),
    ]


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
