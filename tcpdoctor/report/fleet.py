"""A fleet as text, Markdown and HTML: what is wrong, on how many hosts, what to do, and what was not seen.

The short form has two or three lines a finding, and the worst host again last; text in full and Markdown have
all that the hosts said. The HTML page has no script and nothing from the network; it narrows itself to a rule
by radio buttons, and to a host by the target of a link; both are rules of style sheets.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

from tcpdoctor.answers.fleet import FleetAnswer, FleetExample, FleetFinding, FleetHost, sick_hosts
from tcpdoctor.answers.host_report import STATUSES, FleetFix
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.kernel.text import name_a_few
from tcpdoctor.report.check_short import MOST_SHOWN, remedy_lines
from tcpdoctor.report.finding_page import instruction, keeping
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import Block, Command, Headline, Item, Items, More, Prose, Section, page_text
from tcpdoctor.report.page_html import bar, html_page, page_html, pill, section, text
from tcpdoctor.report.page_markdown import code, escaped, page_markdown
from tcpdoctor.report.style import NO_BREAK, Style
from tcpdoctor.report.table import Column, table

MOST_RULES = 12
"""That are named of one host, where hosts stand in a row each."""
_INDENT = " " * 10
"""What stands below a status."""
_STATUS = 8
_COLUMNS = (Column("STATUS", severe=True), Column("HOST"), Column("FINDINGS", below=True))
_MOST_NAMED = 4
"""Hosts that are named in a finding's first line."""


# what every format says in the same words


def verdict_words(answer: FleetAnswer) -> str:
    """Return ``40 hosts: 1 critical, 3 unknown, 36 ok; 2 documents are no report``."""
    summary = answer.summary
    numbers = {"critical": summary.critical, "warning": summary.warning}
    numbers |= {"unknown": summary.unknown, "ok": summary.ok}
    counts = [f"{number} {status}" for status, number in numbers.items() if number]
    words = plural(summary.hosts, "host")
    if counts:
        words += f": {', '.join(counts)}"
    if summary.unread:
        words += f"; {plural(summary.unread, 'document is', 'documents are')} no report"
    return words


def circumstances(answer: FleetAnswer) -> str:
    """Return when it was made, of reports of which time, and how many hosts were expected."""
    summary, words = answer.summary, answer.made_at
    if summary.oldest is not None and summary.newest is not None:
        first, last = summary.oldest, summary.newest
        words += f", from reports of {first}" if first == last else f", from reports of {first} to {last}"
    if summary.expected is None:
        return f"{words}; a host that sent nothing is missed only with --expect"
    return f"{words}; {plural(summary.expected, 'host was', 'hosts were')} expected"


def spread(finding: FleetFinding, answer: FleetAnswer) -> str:
    """Return on how many hosts a finding is, and how often where that is more."""
    words = f"on {finding.hosts_total} of {plural(answer.summary.hosts, 'host')}"
    often = finding.findings_total
    return words if often == finding.hosts_total else f"{words}, {often} times"


def example_words(finding: FleetFinding) -> str:
    """Return what was seen on one of the hosts."""
    seen = finding.example
    if seen is None or not seen.summary:
        return ""
    return f"For example {_words(seen.host, _space(seen))}: {seen.summary}"


def _space(seen: FleetExample) -> str:
    """The network namespace that it was seen in, where that has a name; a command is to be typed there."""
    return f"netns {seen.namespace}" if seen.namespace else ""


def _words(*named: str) -> str:
    return ", ".join(dict.fromkeys(word for word in named if word))


def whose_words(finding: FleetFinding) -> str:
    """Say that advice names processes, ports and values of one host; empty where there is only that one."""
    if finding.example is not None and finding.hosts_total == 1:
        return ""
    whose = "one host" if finding.example is None else finding.example.host
    return f"In the words of {whose}: processes, ports and values differ on other hosts."


def found_words(host: FleetHost, most: int = MOST_RULES) -> str:
    """Return a host's findings by rule, the worst first: ``close-wait-leak (3), syncookies-off``."""
    words = [
        one.rule if one.subjects == 1 else f"{one.rule} ({one.subjects})" for one in host.findings[:most]
    ]
    more = sum(one.subjects for one in host.findings[most:]) + host.findings_not_told
    if more:
        words.append(f"and {plural(more, 'finding')} more")
    return ", ".join(words)


def advice(finding: FleetFinding) -> list[Section]:
    """Return what to do, in the words of one host, and what does not help."""
    whose = whose_words(finding)
    fixes = tuple(Item("", fix.title, fix.kind, tuple(_fix_blocks(fix))) for fix in finding.fixes)
    wrong = tuple(Item(one.why, one.title) for one in finding.wrong_fixes)
    steps = Items(fixes, numbered=True)
    do: tuple[Block, ...] = (Prose(whose, faint=True), steps) if whose else (steps,)
    return [
        *([Section("What to do", do)] if fixes else []),
        *([Section("What does not help", (Items(wrong),))] if wrong else []),
    ]


def _fix_blocks(fix: FleetFix) -> list[Block]:
    blocks: list[Block] = [Prose(fix.prose)] if fix.prose else []
    blocks += [Command(fix.commands)] if fix.commands else []
    if fix.sysctl is not None and fix.sysctl.persist:
        blocks += keeping(fix.sysctl.name, fix.sysctl.persist)
    blocks += [Prose(fix.risk, "Risk")] if fix.risk else []
    blocks += instruction("Verify", fix.verify, fix.verify_commands)
    return blocks + instruction("Undo", fix.undo or "", fix.undo_commands)


def remarks(answer: FleetAnswer, most: int) -> list[str]:
    """Return what else has to be said: documents that are no reports, repeated and unexpected ones."""
    summary = answer.summary
    words = [f"{one.source}: {one.reason}" for one in answer.unread[:most]]
    if summary.unread > most:
        more = plural(summary.unread - most, "document")
        words.append(f"and {more} more that are no reports; --format json names them")
    words += [
        f"{one.host}: the newest of its reports counts, {one.counted}, and not {one.left_out}; if these are "
        "two hosts of one name, --names file tells them apart"
        for one in answer.repeated[:most]
    ]
    if summary.repeated > most:
        words.append(f"and {plural(summary.repeated - most, 'older report')} more that do not count")
    if answer.unexpected:
        words.append(f"not among the expected hosts: {name_a_few(answer.unexpected, most)}")
    return words


# text


def fleet_text(answer: FleetAnswer, most: int, style: Style) -> str:
    """Return all of the answer; of many hosts that are alike the first `most` are named."""
    parts = [_header(answer, style), *_hosts(answer, most, style), *_unknown(answer, most, style)]
    parts += [_finding(finding, answer, most, style) for finding in answer.findings]
    parts += _notes(answer, most, style)
    return "\n\n".join([*parts, *_worst(answer, style)]) + "\n"


def fleet_short(answer: FleetAnswer, most: int, style: Style) -> str:
    """Return the short form: the list of hosts, and of each finding what to type and on how many it is."""
    parts = [_header(answer, style), *_hosts(answer, most, style), *_unknown(answer, most, style)]
    shown = answer.findings[:MOST_SHOWN]
    parts += (
        ["\n".join(line for one in shown for line in _finding_lines(one, answer, style))] if shown else []
    )
    more = answer.findings[MOST_SHOWN:]
    if more:
        parts.append(style.wrap(f"and {plural(len(more), 'kind')} of finding more: --long", "  ", " "))
    parts += _notes(answer, most, style)
    end = []
    if answer.findings:
        end = [
            style.wrap(" Each in full: --long   a page: --format html   RULE: tcpdoctor explain RULE", " ")
        ]
    end += _worst(answer, style)
    return "\n\n".join([*parts, *(["\n".join(end)] if end else [])]) + "\n"


def _header(answer: FleetAnswer, style: Style) -> str:
    verdict = answer.status
    found = style.wrap(f"{style.severity(verdict, verdict.upper())}: {verdict_words(answer)}")
    return found + "\n" + style.wrap(circumstances(answer))


def _hosts(answer: FleetAnswer, most: int, style: Style) -> list[str]:
    """Return the hosts with findings, the worst first, in a table where it fits."""
    sick = [*islice(sick_hosts(answer), most)]
    if not sick:
        return []
    room = style.room - len(_INDENT) - 2 - max(len(host.name) for host in sick) - 2
    rows = [(host.status.upper(), host.name, _found_in(host, room)) for host in sick]
    lines = table(_COLUMNS, rows, style, " ")
    more = answer.summary.sick - len(sick)
    if more:
        lines.append(
            style.wrap(f"and {plural(more, 'host')} more with findings; --hosts names more", "  ", " ")
        )
    return ["\n".join(lines)]


def _found_in(host: FleetHost, room: int) -> str:
    """Return as many of a host's findings as have room, one at least."""
    for most in range(min(len(host.findings), MOST_RULES), 1, -1):
        if len(words := found_words(host, most)) <= room:
            return words
    return found_words(host, 1)


def _unknown(answer: FleetAnswer, most: int, style: Style) -> list[str]:
    if not answer.unknown:
        return []
    lines = [style.severity("unknown", f"Not known of {plural(answer.summary.doubted, 'host')}")]
    for one in answer.unknown[:most]:
        text = f"{name_a_few(one.hosts, most, one.hosts_total)}: {one.reason}"
        lines.append(style.wrap(text, "    ", "  - "))
    if len(answer.unknown) > most:
        more = f"  ... and {len(answer.unknown) - most} reasons more; --format json names them"
        lines.append(style.wrap(more, "    "))
    return ["\n".join(lines)]


def _finding_lines(finding: FleetFinding, answer: FleetAnswer, style: Style) -> list[str]:
    """Return on how many hosts a finding is, what was seen on one of them, and what to type there."""
    key = finding.severity.key
    whose = f"{spread(finding, answer)}: {name_a_few(finding.hosts, _MOST_NAMED, finding.hosts_total)}"
    first = style.wrap(whose, _INDENT, f" {key.upper():<{_STATUS}} ")
    lines = [first.replace(key.upper(), style.severity(key, key.upper()), 1)]
    seen = finding.example
    words = finding.title
    if seen is not None and seen.headline:
        host = "" if finding.hosts_total == 1 else seen.host  # the line above has named it
        subject = "" if seen.whom == seen.host else seen.whom
        place = _words(host, _space(seen), subject)
        words = f"{place}: {seen.headline}" if place else seen.headline
    lines.append(style.wrap(words, _INDENT))
    typed = next((fix.commands[0] for fix in finding.fixes if fix.commands), None)
    title = finding.fixes[0].title if finding.fixes else f"tcpdoctor explain {finding.rule}"
    return [*lines, *remedy_lines(typed, title, finding.rule, _INDENT, style)]


def _notes(answer: FleetAnswer, most: int, style: Style) -> list[str]:
    """Return what else has to be said; paths stay whole, however long, because they are copied."""
    rest = remarks(answer, most)
    if not rest:
        return []
    paths = {one.source for one in answer.unread[:most]}
    paths |= {path for one in answer.repeated[:most] for path in (one.counted, one.left_out)}
    lines = [style.bold("Notes")]
    for words in rest:
        unbroken = words
        for path in paths:
            unbroken = unbroken.replace(path, path.replace(" ", NO_BREAK))
        lines.append(style.wrap(unbroken, "    ", "  - ", whole=True))
    return ["\n".join(lines)]


def _finding(finding: FleetFinding, answer: FleetAnswer, most: int, style: Style) -> str:
    seen = example_words(finding)
    names = style.wrap(name_a_few(finding.hosts, most, finding.hosts_total), "    ")
    heading = Headline(finding.severity.key, spread(finding, answer), finding.title)
    blocks: list[Block] = [Prose(seen)] if seen else []
    blocks += [*advice(finding), *why(finding), More(f"tcpdoctor explain --rule {finding.rule}")]
    return "\n".join([page_text([heading], style, "  "), names, page_text(blocks, style, "  ")])


def why(finding: FleetFinding) -> list[Section]:
    """Return why it is a finding and what it costs."""
    return [
        Section(label, (Prose(text),), run_in=True)
        for label, text in (("Why", finding.explanation), ("Cost", finding.impact))
        if text
    ]


def _worst(answer: FleetAnswer, style: Style) -> list[str]:
    """Repeat the worst host where there is more than one: the last line stays in view."""
    worst = next(iter(answer.hosts), None)
    if worst is None or len(answer.hosts) == 1 or STATUSES.index(worst.status) == 0:
        return []
    said = found_words(worst, 3) or "; ".join(worst.reasons[:1])
    line = style.wrap(f"{worst.status.upper()}: {worst.name}: {said}", "  ", "")
    return [line.replace(worst.status.upper(), style.severity(worst.status, worst.status.upper()), 1)]


# Markdown, for tickets and chats


def fleet_markdown(answer: FleetAnswer, most: int) -> str:
    """Return all of the answer as Markdown; of many hosts that are alike the first `most` are named."""
    parts = [
        f"# {answer.status.upper()}: {escaped(verdict_words(answer))}",
        escaped(circumstances(answer)),
        *_hosts_markdown(answer, most),
        *_unknown_markdown(answer, most),
    ]
    for finding in answer.findings:
        parts += _finding_markdown(finding, answer, most)
    rest = remarks(answer, most)
    if rest:
        parts += ["## Notes", "\n".join(f"- {escaped(one)}" for one in rest)]
    return "\n\n".join(parts) + "\n"


def _hosts_markdown(answer: FleetAnswer, most: int) -> Iterable[str]:
    sick = [*islice(sick_hosts(answer), most)]
    if not sick:
        return
    rows = [
        f"| {host.status.upper()} | {code(host.name, in_table=True)} | {escaped(found_words(host))} |"
        for host in sick
    ]
    yield "## Hosts, the worst first"
    yield "\n".join(["| Status | Host | Findings |", "| --- | --- | --- |", *rows])
    if more := answer.summary.sick - len(sick):
        yield f"... and {plural(more, 'host')} more with findings."


def _unknown_markdown(answer: FleetAnswer, most: int) -> Iterable[str]:
    if not answer.unknown:
        return
    lines = [
        f"- {escaped(name_a_few(one.hosts, most, one.hosts_total))}: {escaped(one.reason)}"
        for one in answer.unknown[:most]
    ]
    if len(answer.unknown) > most:
        lines.append(f"- ... and {len(answer.unknown) - most} reasons more")
    yield f"## Not known of {plural(answer.summary.doubted, 'host')}"
    yield "\n".join(lines)


def _finding_markdown(finding: FleetFinding, answer: FleetAnswer, most: int) -> Iterable[str]:
    names = name_a_few(finding.hosts, most, finding.hosts_total)
    yield f"## {finding.severity.key.upper()}: {escaped(finding.title)}"
    yield f"{spread(finding, answer).capitalize()}: {escaped(names)}"
    if seen := example_words(finding):
        yield escaped(seen)
    more = More(f"tcpdoctor explain --rule {finding.rule}")
    yield page_markdown([*advice(finding), *why(finding), more])


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
        *_hosts_html(answer, sick, numbers, sets),
        *_unknown_html(answer, most),
        *(_article(number, one, answer, most) for number, one in enumerate(answer.findings)),
        *_notes_html(answer),
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


def _hosts_html(
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


def _unknown_html(answer: FleetAnswer, most: int) -> Iterable[str]:
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


def _notes_html(answer: FleetAnswer) -> Iterable[str]:
    rest = remarks(answer, _MOST_SEPARATE)
    if rest:
        yield section("Notes", f"<ul>{''.join(f'<li>{text(one)}</li>' for one in rest)}</ul>", "", "rest")


def _healthy(answer: FleetAnswer) -> Iterable[str]:
    well = [host.name for host in answer.hosts if host.status == "ok" and not host.findings]
    if well:
        folded = _folded(f"{plural(len(well), 'host')} without findings", well[:_MOST_FOLDED], len(well))
        yield f'<section class="card rest">{folded}</section>\n'
