"""A merged report for people: the verdict, the worst hosts, what is not known, each kind of finding once."""

from collections.abc import Sequence

from tcpdoctor.diagnosis.fleet_report import FleetReport, Group, Host, status_of, unknown_hosts
from tcpdoctor.report.check_blocks import Block, blocks_of
from tcpdoctor.report.fleet import (
    FleetAnswer,
    circumstances,
    example,
    found_words,
    named,
    remarks,
    remedy_blocks,
    spread,
    verdict_words,
    whose_words,
)
from tcpdoctor.report.host import plural
from tcpdoctor.report.style import Style

_WIDEST_NAME = 32


def fleet_text(answer: FleetAnswer, style: Style) -> str:
    """Return the whole answer."""
    report, most = answer.report, answer.most_hosts
    parts = [_header(report, style), *_hosts(report, most, style), *_unknown(report, most, style)]
    parts += [_group(group, report, most, style) for group in report.groups]
    rest = remarks(report, most)
    if rest:
        parts.append("\n".join([style.bold("Notes"), *(style.wrap(one, "    ", "  - ") for one in rest)]))
    return "\n\n".join(parts) + "\n"


def _header(report: FleetReport, style: Style) -> str:
    verdict = status_of(report)
    word = verdict.upper()
    found = style.wrap(f"{word}: {verdict_words(report)}")
    return style.severity(verdict, word) + found[len(word) :] + "\n" + style.wrap(circumstances(report))


def _hosts(report: FleetReport, most: int, style: Style) -> list[str]:
    """Return the hosts with findings, the worst first."""
    sick = [host for host in report.hosts if host.findings or host.untold]
    if not sick:
        return []
    width = min(_WIDEST_NAME, max(len(host.name) for host in sick[:most]))
    lines = [
        style.bold("Hosts, the worst first"),
        *(_row(host, report, width, style) for host in sick[:most]),
    ]
    if len(sick) > most:
        lines.append(f"  ... and {plural(len(sick) - most, 'host')} more with findings; --hosts names more")
    return ["\n".join(lines)]


def _row(host: Host, report: FleetReport, width: int, style: Style) -> str:
    lead = f"  {host.status.upper():<8}  {host.name:<{width}}  "
    if len(host.name) > width:
        lead = f"  {host.status.upper():<8}  {host.name}\n{' ' * (width + 14)}"
    shown, _, start = lead.rpartition("\n")
    row = style.wrap(found_words(host, report.groups), " " * (width + 14), start)
    word = host.status.upper()
    return (shown + "\n" + row if shown else row).replace(word, style.severity(host.status, word), 1)


def _unknown(report: FleetReport, most: int, style: Style) -> list[str]:
    reasons = list(unknown_hosts(report))
    if not reasons:
        return []
    number = sum(1 for host in report.hosts if host.reasons)
    lines = [style.severity("unknown", f"Not known of {plural(number, 'host')}")]
    for reason, hosts in reasons[:most]:
        lines.append(style.wrap(f"{named(hosts, most)}: {reason}", "    ", "  - "))
    if len(reasons) > most:
        lines.append(f"  ... and {len(reasons) - most} reasons more; --format json names them")
    return ["\n".join(lines)]


def _group(group: Group, report: FleetReport, most: int, style: Style) -> str:
    told = group.told
    heading = style.wrap(f"{told.severity.key.upper()}  {spread(group, report)}", "    ", "")
    lines = [
        style.severity(told.severity.key, heading),
        style.bold(style.wrap(told.title, "  ")),
        style.wrap(named(group.hosts, most), "    "),
    ]
    seen = example(group)
    if seen:
        lines += [style.wrap(seen, "  ")]
    if told.explanation:
        lines += ["", _labelled("Why", told.explanation, style)]
    if told.remedies:
        lines += ["", style.bold("  What to do")]
        lines += [style.wrap(whose, "    ") for whose in (whose_words(group),) if whose]
    for number, remedy in enumerate(told.remedies, 1):
        lead = f"    {number}. "
        lines.append(style.wrap(f"{remedy.title} [{remedy.kind}]", " " * len(lead), lead))
        lines += _blocks(remedy_blocks(remedy), " " * len(lead), style)
    if told.wrong:
        lines += ["", style.bold("  What does not help")]
        lines += [style.wrap(f"{title}: {why}", "      ", "    - ") for title, why in told.wrong]
    lines += ["", style.dim(style.wrap(f"More: tcpdoctor explain --rule {told.rule}", "  "))]
    return "\n".join(lines)


def _labelled(label: str, text: str, style: Style) -> str:
    first, *others = blocks_of(text) or [Block("")]
    lead = style.wrap(f"{label}: {first.text}", "  ").replace(f"{label}:", style.bold(f"{label}:"), 1)
    return "\n".join([lead, *_blocks(others, "  ", style)])


def _blocks(blocks: Sequence[Block], indent: str, style: Style) -> list[str]:
    lines = []
    for block in blocks:
        label = f"{block.label}: " if block.label else ""
        if not block.is_command:
            lines.append(style.wrap(label + block.text, indent))
        elif label and "\n" not in block.text and len(indent + label + block.text) <= style.width:
            lines.append(indent + label + block.text)
        else:
            lines += [indent + label.rstrip()] if label else []
            lines.append(style.command(block.text, indent + "  "))
    return lines
