"""`explain --pid` for people: a process's TCP on one screen."""

from collections.abc import Iterable

from tcpdoctor.facts.dimension import SECOND, show
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Listener
from tcpdoctor.report.host import plural
from tcpdoctor.report.process import (
    OptionGroup,
    ProcessReport,
    option_groups,
    peers,
    state_groups,
    unasked,
)
from tcpdoctor.report.sockets_text import age_words, option_words, queue_words
from tcpdoctor.report.style import Style

_SHOWN = 5
_ONLY_WITH_KEEPALIVE = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")


def process_text(report: ProcessReport, style: Style) -> str:
    """Return who the process is, its sockets by state and age, listeners, peers, options and findings."""
    parts = [
        style.bold(style.wrap(_headline(report))),
        _identity(report, style),
        _states(report, style),
        _listeners(report, style),
        _peers(report, style),
        _options(report, style),
        _findings(report, style),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _headline(report: ProcessReport) -> str:
    process = report.process
    used, limit = process.descriptors, process.descriptor_limit
    descriptors = "its descriptors are hidden from us"
    if not isinstance(used, Missing):
        of = "an unknown number" if isinstance(limit, Missing) else f"{limit:,}"
        share = (
            f" ({used * 100 // limit} %)"
            if not isinstance(limit, Missing) and 0 < limit <= used * 100
            else ""
        )
        descriptors = f"{used:,} of {of} descriptors in use{share}"
    return (
        f"{process.name} (pid {process.pid}, uid {process.uid}): "
        f"{plural(len(report.entries), 'TCP socket')}; {descriptors}."
    )


def _identity(report: ProcessReport, style: Style) -> str:
    process = report.process
    rows = [
        ("command", _known(process.command) or "none: a kernel thread"),
        ("program", _known(process.executable)),
        ("unit", _known(process.unit) or "in none"),
        ("container", _known(process.container) or "in none"),
    ]
    lines = [style.wrap(text, " " * 13, f"  {name:<11}") for name, text in rows]
    if not isinstance(report.namespace, Missing) and report.namespace != report.host.namespace:
        lines.append(
            style.wrap(
                f"It lives in another network namespace ({report.namespace}); its sockets there are not "
                f"listed. To see them: nsenter -t {process.pid} -n tcpdoctor explain --pid {process.pid}",
                "  ",
            )
        )
    if report.other_sockets:
        sockets = plural(report.other_sockets, "socket")
        lines.append(style.wrap(f"It holds {sockets} more, of other protocols or network namespaces.", "  "))
    return "\n".join(lines)


def _known(reading: Reading[str | None]) -> str:
    return f"unknown: {reading.reason}" if isinstance(reading, Missing) else reading or ""


def _states(report: ProcessReport, style: Style) -> str:
    lines = []
    for group in state_groups(report.entries):
        age = "" if group.oldest is None else f"the oldest {age_words(group.oldest)}"
        if group.idle is not None:
            age = f"the most idle without data for {show(group.idle, SECOND)}"
        lines.append(style.wrap(age, " " * 25, f"  {group.state.name:<14}{group.number:>7}  ").rstrip())
    return "\n".join([style.bold("Sockets by state"), *lines]) if lines else ""


def _listeners(report: ProcessReport, style: Style) -> str:
    rows = [entry.seen.row for entry in report.entries]
    lines = [
        style.wrap(f"{row.local}: {', '.join(queue_words(row))}", "    ", "  ")
        for row in rows
        if isinstance(row, Listener)
    ]
    return "\n".join([style.bold("Listens on"), *_few(lines, "listeners")]) if lines else ""


def _peers(report: ProcessReport, style: Style) -> str:
    lines = [f"  {peer}: {number}" for peer, number in peers(report.entries)]
    return "\n".join([style.bold("Connected"), *_few(lines, "peers")]) if lines else ""


def _options(report: ProcessReport, style: Style) -> str:
    lines = [
        style.wrap(_option_words(group), "    ", f"  {_whose(group)}: ")
        for group in option_groups(report.entries)
    ]
    lines = _few(lines, "combinations")
    lines += [
        style.wrap(f"unknown of {plural(number, 'socket')}: {reason}", "    ", "  ")
        for reason, number in unasked(report.entries)
    ]
    return "\n".join([style.bold("Socket options that matter"), *lines]) if lines else ""


def _whose(group: OptionGroup) -> str:
    return plural(group.sockets, "listener" if group.listening else "connection")


def _option_words(group: OptionGroup) -> str:
    values = dict(group.options)
    silent = () if values.get("SO_KEEPALIVE") else _ONLY_WITH_KEEPALIVE
    return " ".join(option_words(name, value) for name, value in group.options if name not in silent)


def _findings(report: ProcessReport, style: Style) -> str:
    lines = []
    for finding in report.diagnosis.findings:
        word = finding.severity.key.upper()
        text = style.wrap(f"{word} {finding.summary}", "      ", "  ")
        lines.append(text.replace(word, style.severity(finding.severity.key, word), 1))
        lines.append(f"      tcpdoctor explain --rule {finding.rule}")
    unchecked = [rule.rule for rule in report.diagnosis.unchecked if rule.applies]
    if unchecked:
        lines.append(style.wrap(f"Not answered: {', '.join(unchecked)}; tcpdoctor check says why.", "  "))
    title = (
        "What tcpdoctor check finds" if report.diagnosis.findings else "tcpdoctor check finds nothing here"
    )
    return "\n".join([style.bold(title), *lines])


def _few(lines: Iterable[str], what: str) -> list[str]:
    every = list(lines)
    more = [f"  and {len(every) - _SHOWN} more {what}"] if len(every) > _SHOWN else []
    return every[:_SHOWN] + more
