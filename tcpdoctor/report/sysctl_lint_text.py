"""`sysctl lint` for people: by file, by line, the worst first."""

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.sysctl_lint import Linted
from tcpdoctor.diagnosis.sysctl_look import Fault
from tcpdoctor.kernel.text import clean
from tcpdoctor.report.host import plural
from tcpdoctor.report.style import Style

_MARGIN = "  "


def sysctl_lint_text(linted: Linted, files: int, style: Style) -> str:
    """Return every fault under its file, then what was looked at.

    Args:
        linted: What came out.
        files: How many files were looked at.
        style: How wide, and whether in colour.
    """
    lines: list[str] = []
    file = None
    for fault in linted.faults:
        if fault.file != file:
            lines += [""] if lines else []
            lines.append(style.bold(clean(fault.file, 300)))
            file = fault.file
        lines += _fault(fault, style)
    if linted.unchecked:
        lines += ["", style.bold("Not looked at")] if lines else [style.bold("Not looked at")]
        lines += [
            style.wrap(f"{clean(each.what, 300)}: {each.reason}", _MARGIN * 2, _MARGIN)
            for each in linted.unchecked
        ]
    return "\n".join([*lines, *([""] if lines else []), style.wrap(_total(linted, files))]) + "\n"


def _fault(fault: Fault, style: Style) -> list[str]:
    where = f"line {fault.line}: " if fault.line is not None else ""
    head = f"{_MARGIN}{where}{fault.severity.key}: {fault.check}"
    painted = head.replace(fault.severity.key, style.severity(fault.severity.key), 1)
    return [
        painted,
        style.wrap(fault.what, _MARGIN * 2),
        style.wrap(f"-> {fault.do}", _MARGIN * 2 + "   ", _MARGIN * 2),
    ]


def _total(linted: Linted, files: int) -> str:
    counts = [
        f"{number} {severity.key}"
        for severity in reversed(Severity)
        if (number := sum(fault.severity is severity for fault in linted.faults))
    ]
    if not files and not linted.faults:
        return (
            "There is no file of settings: neither in sysctl.d of /etc, /run or /usr, nor /etc/sysctl.conf."
        )
    looked = plural(files, "file")
    if not counts:
        return f"{looked}, nothing to correct."
    return f"{looked}, {plural(len(linted.faults), 'remark')} ({', '.join(counts)})."
