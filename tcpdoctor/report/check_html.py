"""`check` as one HTML file: no script, nothing from the network, light and dark, for screen and paper."""

from collections.abc import Sequence

from tcpdoctor.answers.check import (
    Check,
    Checks,
    checked,
    count_of,
    list_rows,
    loud_findings,
    status,
    unchecked_rules,
    untold_by_rule,
    verdict_of_all,
)
from tcpdoctor.answers.states import state_readings
from tcpdoctor.diagnosis.finding import Finding, Severity
from tcpdoctor.report.check_html_drawings import (
    CHARTED,
    ages_section,
    machine_svg,
    ports_section,
    processes_section,
    states_section,
)
from tcpdoctor.report.check_text import namespace_words, verdict_sentence, verdicts_counted
from tcpdoctor.report.finding_page import (
    Alike,
    FindingPage,
    grouped,
    more_words,
    pages_of,
    sources,
    unanswered_by_reason,
)
from tcpdoctor.report.host import plural, samples_words, source_words, utc
from tcpdoctor.report.page_html import html_page, page_html, pill, section, text
from tcpdoctor.report.style import PLAIN


def check_html(check: Check, only: Sequence[Finding] | None = None) -> str:
    """Return the page; with `only` these findings and the verdict, without what else was looked at."""
    findings = check.diagnosis.findings if only is None else tuple(only)
    groups = grouped(findings, untold_by_rule(check.diagnosis) if only is None else None)
    readings = state_readings(check.samples.after.census)
    body = [
        _hero(check, groups),
        states_section(check.samples, readings) if only is None else "",
        *(_pictures(check) if only is None else ()),
        *(_article(alike, check, folded=number > 0) for number, alike in enumerate(groups)),
        _plan(check) if only is None else "",
        _unanswered(check) if only is None else "",
    ]
    verdict = status(check).upper()
    title = f"{verdict}: {check.samples.after.host} - tcpdoctor"
    return html_page(title, "".join(body) + _footer(check))


def _part(check: Check, name: str, only: Sequence[Finding] | None = None, *, opened: bool = False) -> str:
    """Return one of many checks as a part of a page, without pictures; `name` sets its links apart.

    Its findings are folded; `opened`, the worst one is not.
    """
    findings = check.diagnosis.findings if only is None else tuple(only)
    groups = grouped(findings, untold_by_rule(check.diagnosis) if only is None else None)
    articles = (
        _article(alike, check, folded=number > 0 or not opened, within=name)
        for number, alike in enumerate(groups)
    )
    rest = _plan(check) + _unanswered(check) if only is None else ""
    return _hero(check, groups, name) + "".join(articles) + rest


def _hero(check: Check, groups: Sequence[Alike], within: str = "") -> str:
    snapshot, verdict = check.samples.after, status(check)
    looked = samples_words(check.window)
    said = verdict_sentence(check.diagnosis, verdict)
    rows = "".join(
        f"<li>{pill(alike.shown[0].severity)}"
        f'<a href="#{_anchor(alike.shown[0], within)}">{text(alike.shown[0].title)} '
        f'<span class="whom">{text(_whom(alike))}</span></a></li>'
        for alike in groups
    )
    place = f' id="{within}"' if within else ""
    name = f"<h2>{text(check.place.label)}</h2>" if check.place else f"<h1>{text(snapshot.host)}</h1>"
    read = "" if check.source is None else f'<p class="meta">{text(source_words(check.source))}</p>'
    contents = f'<ul class="toc" aria-label="Findings">{rows}</ul>' if rows else ""
    return (
        f'<header class="hero is-{verdict}"{place}><div class="line">'
        f'<span class="pill">{verdict.upper()}</span>{name}</div>'
        f'<p class="said">{text(said[:1].upper() + said[1:])}.</p>'
        f'<p class="meta">{utc(snapshot.taken_at)}, {looked}, Linux {text(snapshot.kernel)}, '
        f"network namespace {text(namespace_words(check))}</p>{read}{_tiles(check)}{contents}</header>\n"
    )


def _whom(alike: Alike) -> str:
    others = len(alike.shown) - 1 + alike.more
    return alike.shown[0].label + (f" and {others} more" if others else "")


def _anchor(finding: Finding, within: str = "") -> str:
    """Return the name by which a finding is linked to, `within` one of many checks on a page."""
    return f"{within or 'rule'}-{text(finding.rule)}"


def _article(alike: Alike, check: Check, *, folded: bool, within: str = "") -> str:
    """Return what one rule found: the worst subject first, then the others with what differs, then why.

    Folded, all but the heading is there once it is asked for.
    """
    first, *others = pages_of(alike, PLAIN._replace(netns=check.netns))
    head, *rest = first.act
    also = "".join(map(_also, others))
    if alike.more:
        also += f'<p class="also">{text(more_words(alike))}</p>'
    body = page_html(rest) + also + page_html((*first.know, *sources(alike.shown[0])))
    kind = f'class="finding is-{alike.shown[0].severity.key}" id="{_anchor(alike.shown[0], within)}"'
    if folded:
        return f"<details {kind}><summary>{page_html([head])}</summary>{body}</details>\n"
    return f"<article {kind}>{page_html([head])}{body}</article>\n"


def _also(page: FindingPage) -> str:
    return f'<div class="also">{page_html((*page.act, *page.know))}</div>'


def _tiles(check: Check) -> str:
    diagnosis = check.diagnosis
    tiles = []
    for severity in reversed(Severity):
        number = count_of(diagnosis, severity)
        tiles.append((severity.key, str(number), f"is-{severity.key}" if number else "none"))
    tiles.append(("rules checked", str(checked(diagnosis)), "plain"))
    skipped = len(unchecked_rules(diagnosis))
    tiles.append(("without full answer", str(skipped), "is-unknown" if skipped else "none"))
    items = "".join(
        f'<li class="{kind}"><b>{number}</b><span>{name}</span></li>' for name, number, kind in tiles
    )
    return f'<ul class="tiles">{items}</ul>'


def _pictures(check: Check) -> list[str]:
    samples = check.samples
    readings = state_readings(samples.after.census)
    ages = "".join(ages_section(samples, state, note) for state, note in CHARTED)
    note = "Each box is a state, with its sockets here and what they wait for. Marked states have a finding."
    return [
        section("The TCP state machine, here and now", machine_svg(readings, check.diagnosis.findings), note),
        f'<div class="pair">{ages}</div>',
        ports_section(samples),
        processes_section(samples),
    ]


def _plan(check: Check) -> str:
    """Return the settings that can be changed together, folded; nothing where there are none."""
    if not check.plan:
        return ""
    from tcpdoctor.report.plan_text import change_blocks  # most hosts have no plan

    style = PLAIN._replace(netns=check.netns)
    blocks = [block for change in check.plan for block in change_blocks(change)]
    said = f"{plural(len(check.plan), 'setting')} at once, undone by itself: {style.asks('tcpdoctor fix')}"
    return (
        f'<details class="finding" id="plan"><summary>{text(said)}</summary>{page_html(blocks)}</details>\n'
    )


def _unanswered(check: Check) -> str:
    diagnosis = check.diagnosis
    reasons = unanswered_by_reason(diagnosis.unchecked)
    title = f"{checked(diagnosis)} of {plural(diagnosis.rules, 'rule')} checked"
    if not reasons:
        return section(title, '<p class="empty">Every rule was answered.</p>')
    rows = "".join(
        f"<tr><td>{text(reason)}</td><td><code>{text(', '.join(rules))}</code></td></tr>"
        for reason, rules in reasons.items()
    )
    head = '<thead><tr><th scope="col">No full answer because</th><th scope="col">Rules</th></tr></thead>'
    return section(title, f"<table>{head}<tbody>{rows}</tbody></table>")


def _footer(check: Check) -> str:
    """Return the end of the page."""
    about = f"tcpdoctor {check.version}. Counts are of one network namespace, at one moment."
    return f"<footer>{text(about)}</footer>\n"


def checks_html(checks: Checks, *, quiet: bool = False) -> str:
    """Return a page of many network namespaces: their list, the worst first, then each without pictures."""
    verdict = verdict_of_all(checks)
    names = {check.place.label: f"ns{number}" for number, check in enumerate(checks.checks) if check.place}
    items = "".join(
        f'<li><span class="pill is-{row.verdict}">{row.verdict.upper()}</span>'
        + (f'<a href="#{names[row.label]}">' if row.label in names else "<span>")
        + f'{text(row.label)} <span class="whom">{text(row.worst)}</span>'
        + ("</a></li>" if row.label in names else "</span></li>")
        for row in list_rows(checks)
    )
    host = checks.checks[0].samples.after.host if checks.checks else ""
    said = verdicts_counted(checks)
    head = (
        f'<header class="hero is-{verdict}"><div class="line"><span class="pill">{verdict.upper()}</span>'
        f'<h1>{text(host)}</h1></div><p class="said">{text(said)}.</p>'
        f'<ul class="toc" aria-label="Network namespaces">{items}</ul></header>\n'
    )
    parts = [
        _part(check, f"ns{number}", loud_findings(check) if quiet else None, opened=number == 0)
        for number, check in enumerate(checks.checks)
    ]
    footer = _footer(checks.checks[0]) if checks.checks else ""
    return html_page(f"{verdict.upper()}: {host} - tcpdoctor", head + "".join(parts) + footer)
