"""A merged report as Markdown, for tickets and chats."""

from itertools import islice

from tcpdoctor.diagnosis.fleet_report import FleetReport, Group, sick_hosts, status_of
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
from tcpdoctor.report.page import More, Prose, Section
from tcpdoctor.report.page_markdown import code, escaped, page_markdown


def fleet_markdown(answer: FleetAnswer) -> str:
    """Return the document."""
    report, most = answer.report, answer.most_hosts
    parts = [
        f"# {status_of(report).upper()}: {escaped(verdict_words(report))}",
        escaped(circumstances(report)),
        *_hosts(report, most),
        *_unknown(report, most),
    ]
    for group in report.groups:
        parts += _group(group, report, most)
    rest = remarks(report, most)
    if rest:
        parts += ["## Notes", "\n".join(f"- {escaped(one)}" for one in rest)]
    return "\n\n".join(parts) + "\n"


def _hosts(report: FleetReport, most: int) -> list[str]:
    sick = [*islice(sick_hosts(report), most)]
    if not sick:
        return []
    rows = [
        f"| {host.status.upper()} | {code(host.name, in_table=True)} | "
        f"{escaped(found_words(host, report.groups))} |"
        for host in sick
    ]
    table = "\n".join(["| Status | Host | Findings |", "| --- | --- | --- |", *rows])
    more = report.sick - len(sick)
    note = [f"... and {plural(more, 'host')} more with findings."] if more else []
    return ["## Hosts, the worst first", table, *note]


def _unknown(report: FleetReport, most: int) -> list[str]:
    if not report.unknown:
        return []
    lines = [
        f"- {escaped(named(hosts, most, total))}: {escaped(reason)}"
        for reason, hosts, total in report.unknown[:most]
    ]
    if len(report.unknown) > most:
        lines.append(f"- ... and {len(report.unknown) - most} reasons more")
    return [f"## Not known of {plural(report.doubted, 'host')}", "\n".join(lines)]


def _group(group: Group, report: FleetReport, most: int) -> list[str]:
    told = group.told
    parts = [
        f"## {told.severity.key.upper()}: {escaped(told.title)}",
        f"{spread(group, report).capitalize()}: {escaped(named(group.hosts, most, group.hosts_total))}",
    ]
    seen = example(group)
    parts += [escaped(seen)] if seen else []
    why = [
        Section(label, (Prose(text),), run_in=True)
        for label, text in (("Why", told.explanation), ("Cost", told.impact))
        if text
    ]
    return [
        *parts,
        page_markdown([*group_advice(group), *why, More(f"tcpdoctor explain --rule {told.rule}")]),
    ]
