"""`explain --pid` for people: a process's TCP on one screen."""

from collections.abc import Iterable, Mapping

from tcpdoctor.answers.process import OptionGroup, ProcessReport, option_groups, peers, state_groups, unasked
from tcpdoctor.facts.dimension import SECOND, show
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Listener
from tcpdoctor.kernel.sockopts import OptionValue
from tcpdoctor.report.host import plural
from tcpdoctor.report.sockets_text import age_words, option_words, queue_words
from tcpdoctor.report.style import Style

_SHOWN, _SHOWN_OPTIONS = 5, 8
_COMMAND = 200
"""Characters of the command line that are shown; --format json has more."""
_USUAL: Mapping[str, OptionValue] = {
    "SO_REUSEPORT": False,
    "TCP_LINGER2": 60,
    "TCP_DEFER_ACCEPT": 0,
    "IP_BIND_ADDRESS_NO_PORT": False,
}
"""Values that nobody set; others are worth a word."""
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
    who = f"{process.name} (pid {process.pid}, uid {process.uid})"
    if report.task.zombie:
        parent = "" if isinstance(process.parent, Missing) else f" (pid {process.parent})"
        return f"{who} has ended and holds nothing; its parent{parent} has not noticed yet."
    if report.task.kernel:
        return f"{who} is a thread of the kernel: it has no descriptors, and so no sockets."
    number = sum(report.by_state.values())
    sockets = f"{number:,} TCP {'socket' if number == 1 else 'sockets'}"
    if report.elsewhere:
        sockets += " in this network namespace, its own is another"
    return f"{who}: {sockets}; {_descriptors(report)}."


def _descriptors(report: ProcessReport) -> str:
    used, limit = report.process.descriptors, report.process.descriptor_limit
    if isinstance(used, Missing):
        return "its descriptors are hidden from us"
    if isinstance(limit, Missing):
        return f"{used:,} descriptors in use, of how many is unknown"
    share = f" ({used * 100 // limit} %)" if 0 < limit <= used * 100 else ""
    return f"{used:,} of {limit:,} descriptors in use{share}"


def _identity(report: ProcessReport, style: Style) -> str:
    process = report.process
    rows = [
        ("unit", _known(process.unit) or "none"),
        ("container", _known(process.container) or "none"),
    ]
    if not report.task.zombie and not report.task.kernel:
        rows = [("command", _short(_known(process.command))), ("program", _known(process.executable)), *rows]
    lines = [style.wrap(text, " " * 13, f"  {name:<11}") for name, text in rows]
    if report.asked != process.pid:
        lines.append(f"  {report.asked} is one of its threads.")
    if report.elsewhere:
        lines.append(
            style.wrap(
                f"It lives in another network namespace ({report.namespace}); its sockets there are not "
                f"listed. To see them: tcpdoctor explain --pid {process.pid} --netns {process.pid}",
                "  ",
            )
        )
    if report.other_sockets:
        sockets = plural(report.other_sockets, "socket")
        kinds = "of other protocols or network namespaces, or TCP and in no state (not bound, or reset)"
        lines.append(style.wrap(f"It holds {sockets} more: {kinds}.", "  ", "  "))
    return "\n".join(lines)


def _short(command: str) -> str:
    return command if len(command) <= _COMMAND else command[: _COMMAND - 1] + "…"


def _known(reading: Reading[str | None]) -> str:
    return f"unknown: {reading.reason}" if isinstance(reading, Missing) else reading or ""


def _states(report: ProcessReport, style: Style) -> str:
    lines = []
    for group in state_groups(report.entries, report.by_state):
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
    lines = _few(lines, "combinations", _SHOWN_OPTIONS)
    lines += [
        style.wrap(f"unknown of {plural(number, 'socket')}: {reason}", "    ", "  ")
        for reason, number in unasked(report.entries)
    ]
    return "\n".join([style.bold("Socket options that matter"), *lines]) if lines else ""


def _whose(group: OptionGroup) -> str:
    one = "listener" if group.listening else "connection"
    return f"{group.sockets:,} {one if group.sockets == 1 else one + 's'}"


def _option_words(group: OptionGroup) -> str:
    """Name the options; those that are at their default and rarely anything else are left out."""
    values = dict(group.options)
    silent = set() if values.get("SO_KEEPALIVE") else set(_ONLY_WITH_KEEPALIVE)
    silent |= {name for name, usual in _USUAL.items() if values.get(name) == usual}
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
        "What tcpdoctor check finds"
        if report.diagnosis.findings
        else "No finding of tcpdoctor check names it"
    )
    return "\n".join([style.bold(title), *lines])


def _few(lines: Iterable[str], what: str, shown: int = _SHOWN) -> list[str]:
    """Show one line more than that rather than say that there is one more."""
    every = list(lines)
    if len(every) <= shown + 1:
        return every
    return [*every[:shown], f"  and {len(every) - shown} more {what}"]
