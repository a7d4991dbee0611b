"""A merged report for people: the verdict, the worst hosts, what is not known, each kind of finding once."""

from itertools import islice

from tcpdoctor.diagnosis.fleet_report import FleetReport, Group, Host, sick_hosts, status_of
from tcpdoctor.report.fleet import (
    FleetAnswer,
    circumstances,
    example,
    found_words,
    group_advice,
    named,
    remarks,
    spread,
    verdict_words,
)
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import Block, Headline, More, Prose, Section, page_text
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
    found = style.wrap(f"{style.severity(verdict, verdict.upper())}: {verdict_words(report)}")
    return found + "\n" + style.wrap(circumstances(report))


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
    status = style.severity(host.status, f"{host.status.upper():<8}")
    words, indent = found_words(host, report.groups), " " * (width + 14)
    if len(host.name) > width:
        return f"  {status}  {host.name}\n{style.wrap(words, indent)}"
    return style.wrap(words, indent, f"  {status}  {host.name:<{width}}  ")


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
    told, seen = group.told, example(group)
    names = style.wrap(named(group.hosts, most, group.hosts_total), "    ")
    head = page_text([Headline(told.severity.key, spread(group, report), told.title)], style, "  ")
    blocks: list[Block] = [Prose(seen)] if seen else []
    blocks += group_advice(group)
    blocks += [Section("Why", (Prose(told.explanation),), run_in=True)] if told.explanation else []
    blocks.append(More(f"tcpdoctor explain --rule {told.rule}"))
    return "\n".join([head, names, page_text(blocks, style, "  ")])
