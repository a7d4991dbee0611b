"""`check` as one HTML file: no script, nothing from the network, light and dark, for screen and paper."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tcpdoctor.answers.ages import AgeStep, Measured, StateAges
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
from tcpdoctor.answers.states import StateReadings, state_readings
from tcpdoctor.diagnosis.finding import Finding, Severity
from tcpdoctor.facts.subject import Scope
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Census, Held, Samples
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.report.check_text import (
    at_once_words,
    closing,
    opening,
    rules_checked,
    style_there,
    verdicts_counted,
)
from tcpdoctor.report.finding_page import (
    Alike,
    grouped,
    more_words,
    pages_of,
    sources,
)
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import Block, Prose, Table
from tcpdoctor.report.page_html import GROUPS, bar, html_page, name_of, page_html, pill, section, text
from tcpdoctor.report.style import PLAIN
from tcpdoctor.report.table import Column


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
    title = f"{verdict}: {check.title} - tcpdoctor"
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
    told = opening(check)
    rows = "".join(
        f"<li>{pill(alike.shown[0].severity)}"
        f'<a href="#{_anchor(alike.shown[0], within)}">{text(alike.shown[0].title)} '
        f'<span class="whom">{text(_whom(alike))}</span></a></li>'
        for alike in groups
    )
    place = f' id="{within}"' if within else ""
    name = f"<h2>{text(check.place.label)}</h2>" if check.place else f"<h1>{text(told.host)}</h1>"
    read = f'<p class="meta">{text(told.read)}</p>' if told.read else ""
    contents = f'<ul class="toc" aria-label="Findings">{rows}</ul>' if rows else ""
    return (
        f'<header class="hero is-{told.verdict}"{place}><div class="line">'
        f'<span class="pill">{told.verdict.upper()}</span>{name}</div>'
        f'<p class="said">{text(told.said[:1].upper() + told.said[1:])}.</p>'
        f'<p class="meta">{text(told.circumstances)}</p>{read}{_tiles(check)}{contents}</header>\n'
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
    first, *others = pages_of(alike, style_there(check, PLAIN))
    head, *rest = first.act
    also = "".join(f'<div class="also">{page_html((*page.act, *page.know))}</div>' for page in others)
    if alike.more:
        also += f'<p class="also">{text(more_words(alike))}</p>'
    body = page_html(rest) + also + page_html((*first.know, *sources(alike.shown[0])))
    kind = f'class="finding is-{alike.shown[0].severity.key}" id="{_anchor(alike.shown[0], within)}"'
    if folded:
        return f"<details {kind}><summary>{page_html([head])}</summary>{body}</details>\n"
    return f"<article {kind}>{page_html([head])}{body}</article>\n"


def _tiles(check: Check) -> str:
    diagnosis = check.diagnosis
    tiles: list[tuple[str, str, str]] = []
    for severity in reversed(Severity):
        number = count_of(diagnosis, severity)
        tiles.append((severity.key, str(number), f"is-{severity.key}" if number else "none"))
    tiles.append(("rules checked", str(checked(diagnosis)), "plain"))
    asked = {rule.rule for rule in diagnosis.unchecked if rule.applies}
    tiles.append(("without full answer", str(len(asked)), "is-unknown" if asked else "none"))
    if elsewhere := unchecked_rules(diagnosis) - asked:
        tiles.append(("do not apply here", str(len(elsewhere)), "none"))
    items = "".join(
        f'<li class="{kind}"><b>{number}</b><span>{name}</span></li>' for name, number, kind in tiles
    )
    return f'<ul class="tiles">{items}</ul>'


def _pictures(check: Check) -> list[str]:
    samples = check.samples
    readings = state_readings(samples.after.census)
    measured = check.measured or Measured()
    ages = "".join(
        ages_section(measured.ages[state], state, note) for state, note in CHARTED if state in measured.ages
    )
    note = "Each box is a state, with its sockets here and what they wait for. Marked states have a finding."
    return [
        section("The TCP state machine, here and now", machine_svg(readings, check.diagnosis.findings), note),
        f'<div class="pair">{ages}</div>',
        ports_section(samples.after.census, measured.usable_ports),
        processes_section(samples),
    ]


def _plan(check: Check) -> str:
    """Return the settings that can be changed together, a list and the rest folded; nothing without any."""
    if not check.plan:
        return ""
    from tcpdoctor.report.finding_page import change_blocks, change_lines  # most hosts have no plan

    style = style_there(check, PLAIN)
    lines = [block for change in check.plan for block in change_lines(change, lasts=not change.overridden)]
    blocks = [block for change in check.plan for block in change_blocks(change, style)]
    said = at_once_words(len(check.plan), style)
    return (
        f'<details class="finding" id="plan"><summary>{text(said)}</summary>{page_html(lines)}'
        f"<details><summary>How each was computed, what set it, how to verify and to undo it</summary>"
        f"{page_html(blocks)}</details></details>\n"
    )


def _unanswered(check: Check) -> str:
    told = closing(check)
    title = f"{rules_checked(check.diagnosis)} checked"
    unsure = f"<ul>{''.join(f'<li>{text(words)}</li>' for words in told.unsure)}</ul>" if told.unsure else ""
    if not told.unanswered:
        return section(title, f'{unsure}<p class="empty">Every rule was answered.</p>')
    rows = "".join(
        f"<tr><td>{text(reason)}</td><td><code>{text(', '.join(rules))}</code></td></tr>"
        for reason, rules in told.unanswered.items()
    )
    head = '<thead><tr><th scope="col">No full answer because</th><th scope="col">Rules</th></tr></thead>'
    return section(title, f"{unsure}<table>{head}<tbody>{rows}</tbody></table>")


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


_MOST_DESTINATIONS = 8


def states_section(samples: Samples, readings: StateReadings) -> str:
    """Return the bar of states with its legend."""
    known = {state: reading for state, reading in readings.items() if not isinstance(reading, Missing)}
    total = sum(known.values())
    words = ", ".join(f"{name_of(state)} {number:,}" for state, number in known.items() if number) or "none"
    parts = [(f"c-{GROUPS[state]}", number / total) for state, number in known.items() if total]
    rows = "".join(_legend_row(state, readings) for state in readings)
    census = samples.after.census
    note = f"{total:,} in all." if known else "They could not be counted."
    if isinstance(census, Missing):
        note = f"They could not be counted: {census.reason}."
    elif isinstance(census.complete, Missing):
        note = f"At least {total:,}: {census.complete.reason}."
    return section(
        "Sockets by state", bar(parts, f"Sockets: {words}") + f'<ul class="legend">{rows}</ul>', note
    )


def _legend_row(state: TcpState, readings: StateReadings) -> str:
    reading = readings[state]
    unknown = isinstance(reading, Missing)
    title = f' title="{text(reading.reason)}"' if isinstance(reading, Missing) else ""
    number = "not known" if unknown else f"{reading:,}"
    kind = ' class="zero"' if unknown or not reading else ""
    return (
        f'<li{kind}{title}><i class="dot c-{GROUPS[state]}"></i>{text(name_of(state))} <b>{number}</b></li>'
    )


def ages_section(ages: Reading[StateAges], state: TcpState, note: str) -> str:
    """Return how many sockets of a state have been there for how long, at least."""
    title = f"How long in {name_of(state)}"
    if isinstance(ages, Missing):
        return section(title, f'<p class="empty">Not known: {text(ages.reason)}.</p>', note)
    if not ages.known:
        return section(title, '<p class="empty">No socket is in this state.</p>', note)
    if ages.total > ages.known:
        note += f" A sample of {ages.known:,} of {ages.total:,}."
    return section(title, _age_table(ages, state), note)


def _age_table(ages: StateAges, state: TcpState) -> str:
    unknown = [AgeStep(_UNKNOWN, 0, ages.unknown)] if ages.unknown else []
    steps = [*ages.steps, *unknown]
    widest = max(step.sure + step.longer for step in steps)
    lines = "".join(_age_row(step, widest) for step in steps)
    remark = '<p class="note">Pale: so long at least; more the kernel does not tell.</p>'
    table = f'<table class="ages c-{GROUPS[state]}"><tbody>{lines}</tbody></table>'
    return table + (remark if any(step.longer for step in ages.steps) else "")


_UNKNOWN = "not known"


def _age_row(step: AgeStep, widest: int) -> str:
    parts = (("", step.sure), ("pale", step.longer))
    track = "".join(
        f'<i class="{kind}" style="width:{number / widest * 100:.1f}%"></i>'
        for kind, number in parts
        if number
    )
    number = step.sure + step.longer
    kind = "" if number else ' class="zero"'
    words = f"{number:,}{'+' if step.longer and step.label != _UNKNOWN else ''}"
    cells = (text(step.label), f"<div class='track'>{track}</div>", f"<b>{words}</b>")
    return f"<tr{kind}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


_MOST_PROCESSES = 12


def processes_section(samples: Samples) -> str:
    """Return which process holds how many sockets of each state whose owners were looked up."""
    title = "Processes by state"
    note = "Of the states whose owners were looked up. A process that is not here holds none of them."
    detail = samples.after.detail
    if isinstance(detail, Missing):
        return section(title, f'<p class="empty">Not known: {text(detail.reason)}.</p>', note)
    held: dict[str, dict[TcpState, int]] = {}
    hidden = 0
    for state, rows in detail.items():
        for row in rows.connections:
            if isinstance(row.owner, Held):
                first = row.owner.holders[0]
                counts = held.setdefault(f"{first.name} ({first.pid})", {})
                counts[state] = counts.get(state, 0) + 1
            hidden += isinstance(row.owner, Missing)
    if not held:
        said = "No verdict hung on whose sockets they are, so nobody was asked." if hidden else "None."
        return section(title, f'<p class="empty">{said}</p>', note)
    return section(title, _process_table(held), note)


def _process_table(held: Mapping[str, Mapping[TcpState, int]]) -> str:
    states = [state for state in TcpState if any(state in counts for counts in held.values())]
    names = sorted(held, key=lambda name: (-sum(held[name].values()), name))
    columns = (Column("Process"), *(Column(name_of(state), right=True) for state in states))
    rows = [
        (name, *(str(held[name].get(state, 0) or "") for state in states)) for name in names[:_MOST_PROCESSES]
    ]
    blocks: list[Block] = [Table(columns, tuple(rows))]
    if more := len(names[_MOST_PROCESSES:]):
        blocks.append(Prose(f"... and {plural(more, 'process', 'processes')} more.", faint=True))
    return page_html(blocks)


def ports_section(census: Reading[Census], usable: int | None) -> str:
    """Return how many of the ephemeral ports towards each of the busiest destinations are taken."""
    title = "Local ports used per destination"
    note = "Ports run out towards one destination at a time: each (source, address, port) has them all."
    if isinstance(census, Missing):
        return section(title, f'<p class="empty">Not known: {text(census.reason)}.</p>', note)
    if not census.by_destination:
        return section(title, '<p class="empty">No connection goes out from an ephemeral port.</p>', note)
    return section(title, _port_table(census, usable), note)


def _port_table(census: Census, usable: int | None) -> str:
    shown = list(census.by_destination.items())[:_MOST_DESTINATIONS]
    rows = []
    for destination, use in shown:
        ends = f"{destination.address} port {destination.port}"
        total = usable or max(use.total for _, use in shown)
        live = use.total - use.time_wait
        kinds = [("c-live", live / total), ("c-past", use.time_wait / total)]
        share = f"{use.total / usable:.1%}" if usable else "not known"
        label = f"{use.total:,} of {usable:,} ports" if usable else f"{use.total:,} ports"
        rows.append(
            f"<tr><td><code>{text(ends)}</code><br><span class='label'>from {text(destination.source)}</span>"
            f"</td><td>{bar(kinds, label, 'thin')}</td><td class='num'>{use.total:,}</td>"
            f"<td class='num'>{use.time_wait:,}</td><td class='num'>{share}</td></tr>"
        )
    more = len(census.by_destination) - len(shown)
    rest = f'<p class="note">... and {plural(more, "destination")} more.</p>' if more else ""
    head = _head(("Destination", ""), ("", ""), ("Used", "num"), ("In TIME_WAIT", "num"), ("Of all", "num"))
    return f'<table class="ports"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>{rest}'


def _head(*columns: tuple[str, str]) -> str:
    return "".join(f'<th scope="col" class="{kind}">{text(name)}</th>' for name, kind in columns)


CHARTED: Sequence[tuple[TcpState, str]] = (
    (TcpState.CLOSE_WAIT, "The peer has closed; only this host's program can end the state."),
    (
        TcpState.FIN_WAIT_2,
        "This host has closed; the peer has not. With no process left, the kernel ends it.",
    ),
)
"""States whose ages are shown, and what they mean."""


# TCP's states and the ways between them, with this host's numbers: a drawing in SVG.


_WAITS = {
    TcpState.BOUND: "a port, and nothing yet",
    TcpState.LISTEN: "waits for clients",
    TcpState.SYN_RECV: "waits for client's ACK",
    TcpState.SYN_SENT: "waits for an answer",
    TcpState.ESTABLISHED: "data both ways",
    TcpState.FIN_WAIT_1: "waits for its FIN's ACK",
    TcpState.CLOSE_WAIT: "waits for its program",
    TcpState.FIN_WAIT_2: "waits for the peer's FIN",
    TcpState.CLOSING: "both closed at once",
    TcpState.LAST_ACK: "waits for the last ACK",
    TcpState.TIME_WAIT: "60 s, then gone",
}
"""What a socket in each state waits for."""


class _Edge(NamedTuple):
    path: str
    x: int
    y: int
    words: str
    anchor: str = "middle"


class _Drawing(NamedTuple):
    kind: str
    width: int
    height: int
    box: tuple[int, int]
    """Width and height of one state's box."""
    lines: tuple[int, int, int]
    """How far below the top of a box its name, its count and what it waits for stand."""
    nodes: Mapping[TcpState, tuple[int, int]]
    """The middle of each box."""
    edges: Sequence[_Edge]
    gone: tuple[int, int]


_WIDE = _Drawing(
    "wide",
    *(860, 650, (184, 56), (24, 26, 43)),
    {
        TcpState.BOUND: (430, 50),
        TcpState.LISTEN: (130, 130),
        TcpState.SYN_RECV: (130, 245),
        TcpState.SYN_SENT: (730, 190),
        TcpState.ESTABLISHED: (430, 300),
        TcpState.FIN_WAIT_1: (190, 400),
        TcpState.CLOSE_WAIT: (700, 400),
        TcpState.FIN_WAIT_2: (130, 515),
        TcpState.CLOSING: (405, 478),
        TcpState.LAST_ACK: (700, 515),
        TcpState.TIME_WAIT: (300, 605),
    },
    (
        _Edge("M338 62 C250 70 165 70 143 98", 220, 68, "listen()"),
        _Edge("M522 62 C640 72 720 100 728 158", 652, 82, "connect()"),
        _Edge("M130 158 V213", 140, 190, "SYN arrives", "start"),
        _Edge("M222 250 C290 262 330 270 352 270", 268, 246, "ACK arrives", "start"),
        _Edge("M700 218 C660 262 590 285 526 293", 655, 272, "SYN+ACK arrives", "start"),
        _Edge("M360 328 C320 355 260 355 222 370", 262, 340, "we close first", "end"),
        _Edge("M500 328 C550 355 600 355 652 370", 600, 340, "the peer closes first", "start"),
        _Edge("M165 428 L140 485", 143, 462, "ACK arrives", "end"),
        _Edge("M282 415 C330 420 365 428 385 447", 350, 414, "FIN arrives", "start"),
        _Edge("M150 543 C165 570 180 588 205 596", 168, 584, "FIN arrives", "end"),
        _Edge("M390 506 C380 535 365 555 345 575", 385, 548, "ACK arrives", "start"),
        _Edge("M700 428 V483", 710, 462, "close()", "start"),
        _Edge("M700 543 C700 580 690 598 640 603", 702, 585, "ACK arrives", "start"),
        _Edge("M392 605 H598", 495, 598, "after 60 s"),
    ),
    (620, 605),
)

_NARROW = _Drawing(
    "narrow",
    *(340, 812, (158, 66), (19, 40, 57)),
    {
        TcpState.BOUND: (170, 36),
        TcpState.LISTEN: (80, 146),
        TcpState.SYN_SENT: (252, 194),
        TcpState.SYN_RECV: (80, 250),
        TcpState.ESTABLISHED: (170, 356),
        TcpState.FIN_WAIT_1: (80, 462),
        TcpState.CLOSE_WAIT: (252, 462),
        TcpState.FIN_WAIT_2: (80, 566),
        TcpState.LAST_ACK: (252, 566),
        TcpState.CLOSING: (252, 668),
        TcpState.TIME_WAIT: (80, 774),
    },
    (
        _Edge("M130 69 C122 86 100 90 90 111", 104, 92, "listen()", "end"),
        _Edge("M210 69 C222 110 240 120 246 159", 242, 112, "connect()", "start"),
        _Edge("M80 179 V215", 90, 202, "SYN arrives", "start"),
        _Edge("M80 283 C84 300 100 308 116 321", 86, 309, "ACK arrives", "end"),
        _Edge("M252 227 C250 280 235 300 224 321", 242, 290, "SYN+ACK arrives"),
        _Edge("M130 389 C122 404 100 408 90 427", 100, 411, "we close first", "end"),
        _Edge("M210 389 C218 404 240 408 250 427", 240, 411, "peer closes first", "start"),
        _Edge("M70 495 V531", 76, 518, "ACK arrives", "start"),
        _Edge("M140 495 C170 520 166 640 172 660", 166, 622, "FIN arrives"),
        _Edge("M252 495 V531", 262, 518, "close()", "start"),
        _Edge("M70 599 V739", 76, 690, "FIN arrives", "start"),
        _Edge("M210 701 C200 725 160 725 140 739", 188, 737, "ACK arrives", "start"),
        _Edge("M331 572 C344 590 340 750 268 770", 322, 728, "ACK arrives", "end"),
        _Edge("M159 774 H236", 196, 792, "after 60 s"),
    ),
    (252, 774),
)
"""Two columns, whose letters can be read on a telephone."""


def machine_svg(readings: StateReadings, findings: tuple[Finding, ...]) -> str:
    """Return the drawing, for wide screens and for narrow ones; states that a finding is about are marked."""
    sick = _sick_states(findings)
    drawn = "".join(_drawn(drawing, readings, sick) for drawing in (_WIDE, _NARROW))
    return f'<div class="scroll" tabindex="0" role="group" aria-label="State machine">{drawn}</div>'


def _drawn(drawing: _Drawing, readings: StateReadings, sick: Mapping[TcpState, Severity]) -> str:
    edges = "".join(
        f'<path class="edge" d="{edge.path}" marker-end="url(#arrow-{drawing.kind})"/>'
        f'<text class="say" x="{edge.x}" y="{edge.y}" text-anchor="{edge.anchor}">{text(edge.words)}</text>'
        for edge in drawing.edges
    )
    nodes = "".join(_node(drawing, state, readings[state], sick.get(state)) for state in drawing.nodes)
    words = "; ".join(f"{name_of(state)} {_count(readings[state])}" for state in drawing.nodes)
    title, (x, y) = f"machine-{drawing.kind}", drawing.gone
    return (
        f'<svg class="machine {drawing.kind}" viewBox="0 0 {drawing.width} {drawing.height}" role="img" '
        f'aria-labelledby="{title}"><title id="{title}">Sockets in each TCP state: {text(words)}</title>'
        f'<defs><marker id="arrow-{drawing.kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path class="head" d="M0 0 L8 4 L0 8 z"/></marker></defs>'
        f'{edges}<circle class="end" cx="{x}" cy="{y}" r="9"/>'
        f'<text class="why" x="{x}" y="{y + 27}" text-anchor="middle">gone</text>{nodes}</svg>'
    )


def _node(drawing: _Drawing, state: TcpState, reading: Reading[int], severity: Severity | None) -> str:
    (x, y), (width, height), (name, count, why) = drawing.nodes[state], drawing.box, drawing.lines
    left, top = x - width // 2, y - height // 2
    kinds = [f"c-{GROUPS[state]}", "idle" if reading == 0 else "full"]
    if severity is not None:
        kinds += ["sick", f"is-{severity.key}"]
    return (
        f'<g class="{" ".join(kinds)}">'
        f'<rect class="box" x="{left}" y="{top}" width="{width}" height="{height}" rx="10"/>'
        f'<rect class="stripe" x="{left + 9}" y="{top + 11}" width="4" height="{height - 22}" rx="2"/>'
        f'<text class="name" x="{left + 22}" y="{top + name}">{text(name_of(state))}</text>'
        f'<text class="why" x="{left + 22}" y="{top + why}">{text(_WAITS[state])}</text>'
        f'<text class="count" x="{left + width - 13}" y="{top + count}">{_count(reading)}</text></g>'
    )


def _count(reading: Reading[int]) -> str:
    return "?" if isinstance(reading, Missing) else f"{reading:,}"


def _sick_states(findings: tuple[Finding, ...]) -> Mapping[TcpState, Severity]:
    """Return the states that findings above info are about, as far as their evidence names them."""
    sick: dict[TcpState, Severity] = {}
    for finding in findings:
        names = [item.name.partition(".") for item in finding.evidence]
        for state in _WAITS:
            named = any(state.key == of or f"{what}_".startswith(f"{state.key}_") for of, _, what in names)
            listens = state is TcpState.LISTEN and finding.scope is Scope.LISTENER
            if (named or listens) and finding.severity > Severity.INFO:
                sick[state] = max(finding.severity, sick.get(state, Severity.INFO))
    return sick
