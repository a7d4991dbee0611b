"""A merged report as one HTML file: no script, nothing from the network, light and dark.

The page narrows itself to a rule by radio buttons, and to a host by the target of a link; both are rules of
its style sheet. Where a browser does not know one, the page stays whole.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

from tcpdoctor.answers.fleet import FleetAnswer, FleetFinding, FleetHost, sick_hosts
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.kernel.text import name_a_few
from tcpdoctor.report.fleet import (
    MOST_RULES,
    advice,
    circumstances,
    example_words,
    found_words,
    remarks,
    spread,
    verdict_words,
    why,
)
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import More
from tcpdoctor.report.page_html import bar, html_page, page_html, pill, section, text

_MOST_SEPARATE = 1000
"""Rows of a table that a browser still scrolls through with ease."""
_MOST_FOLDED = 10_000
"""Names in a paragraph that can be unfolded, for a reader who looks for one."""
_MOST_CHOICES = 40
"""Rules, and sets of findings of a host, that the page can be narrowed to."""

_CSS = """
.pick{position:absolute;width:1px;height:1px;opacity:0;margin:0;pointer-events:none}
.picks{display:flex;flex-wrap:wrap;gap:8px;margin:16px 0 0;padding:0;border:0}
.picks legend{color:var(--soft);font-size:.84rem;padding:0 0 6px}
.picks label,.only{display:inline-block;border:1px solid var(--line);border-radius:99px;padding:.2em .8em;
font-size:.86rem;cursor:pointer;background:var(--code);overflow-wrap:anywhere}
.only{margin:.4em 0}
.all{display:none}
.card{overflow-wrap:anywhere}.hosts .kind{min-width:9em;white-space:normal}
main:has(.host:target) .host:not(:target),main:has(.host:target) .rest{display:none}
main:has(.host:target) .all{display:inline-block}
@media (max-width:760px){.stack thead{display:none}.stack tr{display:block;border-top:1px solid var(--line);
padding:8px 0}.stack td{display:block;border:0;padding:2px 0;overflow-wrap:anywhere}
.hosts .stack td:first-child,.hosts .stack td:nth-child(2){display:inline-block;vertical-align:baseline;
margin-right:.6em}}
@media (min-width:761px){.hosts .stack td:last-child{white-space:nowrap}}
@media print{.picks,.only{display:none}}
"""


def fleet_html(answer: FleetAnswer, most: int) -> str:
    """Return the page; of many hosts that are alike the first `most` are named, the others unfold."""
    numbers = {(one.rule, one.severity): number for number, one in enumerate(answer.findings)}
    sick = [*islice(sick_hosts(answer), _MOST_SEPARATE)]
    sets = _sets(sick, numbers)
    body = [
        *_buttons(answer),
        _hero(answer),
        *_hosts(answer, sick, numbers, sets),
        *_unknown(answer, most),
        *(_article(number, one, answer, most) for number, one in enumerate(answer.findings)),
        *_notes(answer),
        *_healthy(answer),
        f"<footer>tcpdoctor {text(answer.tool.version)}. Findings are told once, as one host did.</footer>\n",
    ]
    title = f"{answer.status.upper()}: {verdict_words(answer)} - tcpdoctor"
    return html_page(title, "".join(body), _CSS + "".join(_narrowing(answer, sets)))


_Numbers: TypeAlias = Mapping[tuple[str, Severity], int]


def _sets(hosts: Iterable[FleetHost], numbers: _Numbers) -> dict[tuple[int, ...], int]:
    """Number the sets of findings that hosts have, those of the worst hosts first."""
    sets: dict[tuple[int, ...], int] = {}
    for host in hosts:
        if len(sets) < _MOST_CHOICES:
            sets.setdefault(_places(host, numbers), len(sets))
    return sets


def _places(host: FleetHost, numbers: _Numbers) -> tuple[int, ...]:
    return tuple(numbers[one.rule, one.severity] for one in host.findings)


def _narrowing(answer: FleetAnswer, sets: Mapping[tuple[int, ...], int]) -> Iterable[str]:
    """Give the rules that hide what was not asked for."""
    for number in range(min(len(answer.findings), _MOST_CHOICES)):
        chosen = f"#only-{number}:checked"
        yield (
            f"{chosen}~.hosts .host:not(.has-{number}),{chosen}~.finding:not(#finding-{number}),"
            f"{chosen}~.rest{{display:none}}\n"
            f"{chosen}~.hero [for=only-{number}]{{border-color:var(--accent);font-weight:700}}\n"
            f"#only-{number}:focus-visible~.hero [for=only-{number}]{{outline:2px solid var(--accent)}}\n"
        )
    for places, number in sets.items():
        others = "".join(f":not(#finding-{place})" for place in places)
        yield f"main:has(.set-{number}:target) .finding{others}{{display:none}}\n"


def _buttons(answer: FleetAnswer) -> Iterable[str]:
    if len(answer.findings) < 2:
        return
    yield '<input class="pick" type="radio" name="only" id="only-all" checked>'
    for number in range(min(len(answer.findings), _MOST_CHOICES)):
        yield f'<input class="pick" type="radio" name="only" id="only-{number}">'


def _choices(answer: FleetAnswer) -> str:
    """The labels of the radio buttons."""
    if len(answer.findings) < 2:
        return ""
    labels = "".join(
        f'<label for="only-{number}">{text(one.rule)} ({one.hosts_total})</label>'
        for number, one in enumerate(answer.findings[:_MOST_CHOICES])
    )
    everything = '<label for="only-all">all</label>'
    return f'<fieldset class="picks"><legend>Show one rule</legend>{everything}{labels}</fieldset>'


def _hero(answer: FleetAnswer) -> str:
    rows = "".join(
        f'<li>{pill(one.severity)}<a href="#finding-{number}">{text(one.title)} '
        f'<span class="whom">{text(spread(one, answer))}</span></a></li>'
        for number, one in enumerate(answer.findings)
    )
    contents = f'<ul class="toc" aria-label="Findings">{rows}</ul>' if rows else ""
    verdict = answer.status
    return (
        f'<header class="hero is-{verdict}"><div class="line"><span class="pill">{verdict.upper()}</span>'
        f"<h1>{plural(answer.summary.hosts, 'host')}</h1></div>"
        f'<p class="said">{text(verdict_words(answer))}.</p><p class="meta">{text(circumstances(answer))}</p>'
        f"{_bar(answer)}{_tiles(answer)}{contents}{_choices(answer)}</header>\n"
    )


def _statuses(answer: FleetAnswer) -> dict[str, int]:
    summary = answer.summary
    return {
        "critical": summary.critical,
        "warning": summary.warning,
        "unknown": summary.unknown,
        "ok": summary.ok,
    }


def _bar(answer: FleetAnswer) -> str:
    total = answer.summary.hosts
    if not total:
        return ""
    shares = [(f"c-{status}", number / total) for status, number in _statuses(answer).items()]
    return bar(shares, verdict_words(answer))


def _tiles(answer: FleetAnswer) -> str:
    items = "".join(
        f'<li class="{f"is-{status}" if number else "none"}"><b>{number}</b><span>{status}</span></li>'
        for status, number in _statuses(answer).items()
    )
    return f'<ul class="tiles">{items}</ul>'


def _hosts(
    answer: FleetAnswer,
    sick: Sequence[FleetHost],
    numbers: _Numbers,
    sets: Mapping[tuple[int, ...], int],
) -> Iterable[str]:
    """Give the table of hosts with findings, the worst first."""
    if not sick:
        return
    rows = "".join(_row(place, host, numbers, sets) for place, host in enumerate(sick))
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Status", "Host", "Findings", "Looked at"))
    rest = answer.summary.sick - _MOST_SEPARATE
    names = [host.name for host in islice(sick_hosts(answer), _MOST_FOLDED)] if rest > 0 else []
    more = f'<div class="rest">{_folded(plural(rest, "host") + " more", names, rest)}</div>' if names else ""
    table = f'<table class="stack"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    note = "A host's name shows it alone."
    everything = '<a class="only all" href="#hosts">all hosts</a>'
    yield (
        f'<section class="card hosts" id="hosts"><h2>Hosts, the worst first</h2><p class="note">{note}</p>'
        f"{everything}{table}{more}</section>\n"
    )


def _row(place: int, host: FleetHost, numbers: _Numbers, sets: Mapping[tuple[int, ...], int]) -> str:
    places = _places(host, numbers)
    linked = [
        f'<a href="#finding-{number}">{text(one.rule)}</a>'
        + (f" ({one.subjects})" if one.subjects > 1 else "")
        for number, one in zip(places, host.findings, strict=True)
    ]
    if host.findings_not_told or len(linked) > MOST_RULES:
        linked = [text(found_words(host))]
    kinds = [f"has-{number}" for number in places]
    if places in sets:
        kinds.append(f"set-{sets[places]}")
    return (
        f'<tr class="host {" ".join(kinds)}" id="host-{place}">'
        f'<td><span class="pill is-{host.status}">{host.status.upper()}</span></td>'
        f'<td><b><a href="#host-{place}">{text(host.name)}</a></b></td><td>{", ".join(linked)}</td>'
        f"<td class='kind'>{text(host.taken_at or '')}</td></tr>"
    )


def _unknown(answer: FleetAnswer, most: int) -> Iterable[str]:
    if not answer.unknown:
        return
    rows = "".join(
        f"<tr><td>{_names(one.hosts, one.hosts_total, most)}</td><td>{text(one.reason)}</td></tr>"
        for one in answer.unknown[:_MOST_SEPARATE]
    )
    if len(answer.unknown) > _MOST_SEPARATE:
        rows += f"<tr><td></td><td>... and {len(answer.unknown) - _MOST_SEPARATE} reasons more</td></tr>"
    head = '<thead><tr><th scope="col">Hosts</th><th scope="col">Because</th></tr></thead>'
    yield section(
        f"Not known of {plural(answer.summary.doubted, 'host')}",
        f'<table class="stack">{head}<tbody>{rows}</tbody></table>',
        "Nothing here says that these hosts are well.",
        "rest",
    )


def _article(number: int, finding: FleetFinding, answer: FleetAnswer, most: int) -> str:
    seen = example_words(finding)
    offered = len(answer.findings) > 1 and number < _MOST_CHOICES
    apart = [block._replace(run_in=False) for block in why(finding)]
    return "".join(
        [
            f'<article class="finding is-{finding.severity.key}" id="finding-{number}">',
            f'{pill(finding.severity)} <span class="whom">{text(spread(finding, answer))}</span>',
            f"<h2>{text(finding.title)}</h2>{_names(finding.hosts, finding.hosts_total, most)}",
            f'<label class="only" for="only-{number}">only {text(finding.rule)}</label>' if offered else "",
            f'<p class="summary">{text(seen)}</p>' if seen else "",
            page_html([*advice(finding), *apart, More(f"tcpdoctor explain --rule {finding.rule}")]),
            "</article>\n",
        ]
    )


def _names(hosts: Sequence[str], total: int, most: int) -> str:
    if total <= most:
        return f"<p><b>{text(', '.join(hosts))}</b></p>"
    return _folded(name_a_few(hosts, most, total), hosts, total)


def _folded(summary: str, names: Sequence[str], total: int) -> str:
    shown = name_a_few(names, len(names), total)
    return f"<details><summary>{text(summary)}</summary><p>{text(shown)}</p></details>"


def _notes(answer: FleetAnswer) -> Iterable[str]:
    rest = remarks(answer, _MOST_SEPARATE)
    if rest:
        yield section("Notes", f"<ul>{''.join(f'<li>{text(one)}</li>' for one in rest)}</ul>", "", "rest")


def _healthy(answer: FleetAnswer) -> Iterable[str]:
    well = [host.name for host in answer.hosts if host.status == "ok" and not host.findings]
    if well:
        folded = _folded(f"{plural(len(well), 'host')} without findings", well[:_MOST_FOLDED], len(well))
        yield f'<section class="card rest">{folded}</section>\n'
