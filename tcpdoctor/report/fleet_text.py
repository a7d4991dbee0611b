"""A merged report for people: the verdict, the worst hosts, what is not known, each kind of finding once."""

from collections.abc import Sequence
from itertools import islice

from tcpdoctor.diagnosis.fleet_report import FleetReport, Group, Host, sick_hosts, status_of
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
from tcpdoctor.report.style import NO_BREAK, Style

_WIDEST_NAME = 32


def fleet_text(answer: FleetAnswer, style: Style) -> str:
    """Return the whole answer."""
    report, most = answer.report, answer.most_hosts
    parts = [_header(report, style), *_hosts(report, most, style), *_unknown(report, most, style)]
    parts += [_group(group, report, most, style) for group in report.groups]
    return "\n\n".join([*parts, *_notes(report, most, style)]) + "\n"


def _header(report: FleetReport, style: Style) -> str:
    verdict = status_of(report)
    word = verdict.upper()
    found = style.wrap(f"{word}: {verdict_words(report)}")
    return style.severity(verdict, word) + found[len(word) :] + "\n" + style.wrap(circumstances(report))


def _hosts(report: FleetReport, most: int, style: Style) -> list[str]:
    """Return the hosts with findings, the worst first."""
    sick = [*islice(sick_hosts(report), most)]
    if not sick:
        return []
    width = min(_WIDEST_NAME, max(len(host.name) for host in sick))
    lines = [
        style.bold("Hosts, the worst first"),
        *(_row(host, report, width, style) for host in sick),
    ]
    more = report.sick - len(sick)
    if more:
        lines.append(f"  ... and {plural(more, 'host')} more with findings; --hosts names more")
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
    if not report.unknown:
        return []
    lines = [style.severity("unknown", f"Not known of {plural(report.doubted, 'host')}")]
    for reason, hosts, total in report.unknown[:most]:
        lines.append(style.wrap(f"{named(hosts, most, total)}: {reason}", "    ", "  - "))
    if len(report.unknown) > most:
        lines.append(f"  ... and {len(report.unknown) - most} reasons more; --format json names them")
    return ["\n".join(lines)]


def _notes(report: FleetReport, most: int, style: Style) -> list[str]:
    """Return what else has to be said; paths stay whole, however long, because they are copied."""
    rest = remarks(report, most)
    if not rest:
        return []
    paths = {one.source for one in report.unread[:most]}
    paths |= {path for one in report.repeated[:most] for path in (one.counted, one.left_out)}
    lines = [style.bold("Notes")]
    for words in rest:
        unbroken = words
        for path in paths:
            unbroken = unbroken.replace(path, path.replace(" ", NO_BREAK))
        lines.append(style.wrap(unbroken, "    ", "  - ", whole=True))
    return ["\n".join(lines)]


def _group(group: Group, report: FleetReport, most: int, style: Style) -> str:
    told = group.told
    heading = style.wrap(f"{told.severity.key.upper()}  {spread(group, report)}", "    ", "")
    lines = [
        style.severity(told.severity.key, heading),
        style.bold(style.wrap(told.title, "  ")),
        style.wrap(named(group.hosts, most, group.hosts_total), "    "),
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
