"""A merged report as one HTML file: no script, nothing from the network, light and dark."""

from collections.abc import Iterable, Sequence
from itertools import islice

from tcpdoctor.diagnosis.fleet_report import FleetReport, Group, Host, sick_hosts, status_of
from tcpdoctor.report.fleet import (
    MOST_RULES,
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
from tcpdoctor.report.host import plural, utc
from tcpdoctor.report.page import More, Prose, Section
from tcpdoctor.report.page_html import bar, html_page, page_html, section, text

_MOST_SEPARATE = 1000
"""Rows of a table that a browser still scrolls through with ease."""
_MOST_FOLDED = 10_000
"""Names in a paragraph that can be unfolded, for a reader who looks for one."""


def fleet_html(answer: FleetAnswer) -> str:
    """Return the page."""
    report, most = answer.report, answer.most_hosts
    body = [
        _hero(report),
        *_hosts(report),
        *_unknown(report, most),
        *(_article(number, group, report, most) for number, group in enumerate(report.groups)),
        *_notes(report),
        *_healthy(report),
        f"<footer>tcpdoctor {text(answer.version)}. Findings are told once, as one host did.</footer>\n",
    ]
    title = f"{status_of(report).upper()}: {verdict_words(report)} - tcpdoctor"
    return html_page(title, "".join(body))


def _hero(report: FleetReport) -> str:
    verdict = status_of(report)
    rows = "".join(
        f'<li><span class="pill is-{group.told.severity.key}">{group.told.severity.key.upper()}</span>'
        f'<a href="#finding-{number}">{text(group.told.title)} '
        f'<span class="whom">{text(spread(group, report))}</span></a></li>'
        for number, group in enumerate(report.groups)
    )
    contents = f'<ul class="toc" aria-label="Findings">{rows}</ul>' if rows else ""
    return (
        f'<header class="hero is-{verdict}"><div class="line"><span class="pill">{verdict.upper()}</span>'
        f"<h1>{plural(len(report.hosts), 'host')}</h1></div>"
        f'<p class="said">{text(verdict_words(report))}.</p><p class="meta">{text(circumstances(report))}</p>'
        f"{_bar(report)}{_tiles(report)}{contents}</header>\n"
    )


def _bar(report: FleetReport) -> str:
    total = len(report.hosts)
    if not total:
        return ""
    shares = [(f"c-{status}", number / total) for status, number in report.statuses.items()]
    return bar(shares, verdict_words(report))


def _tiles(report: FleetReport) -> str:
    items = "".join(
        f'<li class="{f"is-{status}" if number else "none"}"><b>{number}</b><span>{status}</span></li>'
        for status, number in report.statuses.items()
    )
    return f'<ul class="tiles">{items}</ul>'


def _hosts(report: FleetReport) -> Iterable[str]:
    """Give the table of hosts with findings, the worst first."""
    if not report.sick:
        return
    sick = sick_hosts(report)
    rows = "".join(_row(host, report) for host in islice(sick, _MOST_SEPARATE))
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Status", "Host", "Findings", "Looked at"))
    rest = report.sick - _MOST_SEPARATE
    names = [host.name for host in islice(sick, _MOST_FOLDED)]
    more = _folded(f"{plural(rest, 'host')} more", names, rest) if rest > 0 else ""
    table = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    yield section("Hosts, the worst first", table + more)


def _row(host: Host, report: FleetReport) -> str:
    linked = [
        f'<a href="#finding-{place}">{text(report.groups[place].told.rule)}</a>'
        + (f" ({number})" if number > 1 else "")
        for place, number in host.findings
    ]
    if host.untold or len(linked) > MOST_RULES:
        linked = [text(found_words(host, report.groups))]
    when = "" if host.taken_at is None else utc(host.taken_at)
    return (
        f'<tr><td><span class="pill is-{host.status}">{host.status.upper()}</span></td>'
        f"<td><b>{text(host.name)}</b></td><td>{', '.join(linked)}</td><td class='kind'>{when}</td></tr>"
    )


def _unknown(report: FleetReport, most: int) -> Iterable[str]:
    if not report.unknown:
        return
    rows = "".join(
        f"<tr><td>{_names(one.hosts, one.hosts_total, most)}</td><td>{text(one.reason)}</td></tr>"
        for one in report.unknown[:_MOST_SEPARATE]
    )
    if len(report.unknown) > _MOST_SEPARATE:
        rows += f"<tr><td></td><td>... and {len(report.unknown) - _MOST_SEPARATE} reasons more</td></tr>"
    head = '<thead><tr><th scope="col">Hosts</th><th scope="col">Because</th></tr></thead>'
    note = "Nothing here says that these hosts are well."
    yield section(
        f"Not known of {plural(report.doubted, 'host')}", f"<table>{head}<tbody>{rows}</tbody></table>", note
    )


def _article(number: int, group: Group, report: FleetReport, most: int) -> str:
    told = group.told
    severity = told.severity.key
    seen = example(group)
    parts = [
        f'<article class="finding is-{severity}" id="finding-{number}">',
        f'<span class="pill">{severity.upper()}</span> ',
        f'<span class="whom">{text(spread(group, report))}</span><h2>{text(told.title)}</h2>',
        _names(group.hosts, group.hosts_total, most),
        f'<p class="summary">{text(seen)}</p>' if seen else "",
    ]
    why = [
        Section(label, (Prose(words),))
        for label, words in (("Why", told.explanation), ("Cost", told.impact))
        if words
    ]
    more = More(f"tcpdoctor explain --rule {told.rule}")
    return "".join([*parts, page_html([*group_advice(group), *why, more]), "</article>\n"])


def _names(hosts: Sequence[str], total: int, most: int) -> str:
    if total <= most:
        return f"<p><b>{text(', '.join(hosts))}</b></p>"
    return _folded(named(hosts, most, total), hosts, total)


def _folded(summary: str, names: Sequence[str], total: int) -> str:
    shown = named(names, len(names), total)
    return f"<details><summary>{text(summary)}</summary><p>{text(shown)}</p></details>"


def _notes(report: FleetReport) -> Iterable[str]:
    rest = remarks(report, _MOST_SEPARATE)
    if rest:
        yield section("Notes", f"<ul>{''.join(f'<li>{text(one)}</li>' for one in rest)}</ul>")


def _healthy(report: FleetReport) -> Iterable[str]:
    number, well = 0, []
    for host in report.hosts:
        if host.status == "ok" and not host.findings:
            number += 1
            well += [host.name] if number <= _MOST_FOLDED else []
    if well:
        folded = _folded(f"{plural(number, 'host')} without findings", well, number)
        yield f'<section class="card">{folded}</section>\n'
