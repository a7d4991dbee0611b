"""A merged report for people: the verdict, the worst hosts, what is not known, each kind of finding once.

The short form has two or three lines a finding, and the worst host again last; text in full and Markdown have
all that the hosts said.
"""

from collections.abc import Iterable
from itertools import islice

from tcpdoctor.answers.fleet import FleetAnswer, FleetExample, FleetFinding, FleetHost, sick_hosts
from tcpdoctor.answers.host_report import STATUSES, FleetFix
from tcpdoctor.kernel.text import name_a_few
from tcpdoctor.report.check_short import MOST_SHOWN, remedy_lines
from tcpdoctor.report.finding_page import instruction, keeping
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import Block, Command, Headline, Item, Items, More, Prose, Section, page_text
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
    return f"For example {_example_place(seen)}: {seen.summary}"


def _example_place(seen: FleetExample) -> str:
    """Which host, network namespace and subject it was; a command is to be typed there."""
    named = (seen.host, seen.namespace and f"netns {seen.namespace}", seen.subject)
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
        words = f"{_example_place(seen)}: {seen.headline}"
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
