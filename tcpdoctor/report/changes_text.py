"""What appeared and what went since the run before: `check --only-changes` for people."""

from tcpdoctor.diagnosis.changes import Changes
from tcpdoctor.kernel.last_run import Told
from tcpdoctor.kernel.snapshot import Snapshot
from tcpdoctor.report.finding_page import finding_page, grouped, more_words, pages_of
from tcpdoctor.report.host import plural, utc
from tcpdoctor.report.page import Block, Entries, Inset, Item, Prose, Section
from tcpdoctor.report.style import Style


def changes_page(changes: Changes, where: Snapshot, style: Style) -> list[Block]:
    """Return the changes of one host for people, the worst first; nothing where there are none."""
    if not changes.any():
        return []
    blocks: list[Block] = [Prose(_headline(changes, where))]
    for alike in grouped(changes.appeared):
        blocks += [_inset(*page.act, *page.know) for page in pages_of(alike, style)]
        blocks += [Prose(more_words(alike), apart=True)] if alike.more else []
    for item in changes.changed:
        page = finding_page(item.finding, style=style)
        was = Prose(f"It was {item.before} before.", apart=True)
        blocks.append(_inset(*page.act, *page.know, was))
    blocks += map(_gone, changes.gone)
    for open_one in changes.unanswered:
        told = open_one.told
        lead = f"{told.severity.upper()}, perhaps still there: {told.label}"
        known = f"{told.title} (since {utc(told.since)}). It could not be checked: {open_one.reason}"
        blocks.append(_entry(lead, known))
    return blocks


def _inset(*blocks: Block) -> Section:
    return Section("", (Inset(blocks, 2),))


def _entry(lead: str, text: str) -> Section:
    return Section("", (Entries((Item(lead, blocks=(Prose(text),)),)),))


def _headline(changes: Changes, where: Snapshot) -> str:
    """Return the first line, of which a mail of cron has nothing above it: so it names the host."""
    numbers = [
        (len(changes.appeared), "appeared"),
        (len(changes.changed), "changed"),
        (len(changes.gone), "went"),
        (len(changes.unanswered), "cannot be told any more"),
    ]
    counted = [(number, verb) for number, verb in numbers if number]
    words = [f"{plural(counted[0][0], 'finding')} {counted[0][1]}"]
    words += [f"{number} {verb}" for number, verb in counted[1:]]
    since = "in the first look" if changes.since is None else f"since {utc(changes.since)}"
    place = where.host
    if where.initial_namespace is False or where.namespace_name:
        place += f", netns {where.namespace_name or where.namespace}"
    return f"{place}: {', '.join(words)} {since}"


def _gone(told: Told) -> Section:
    text = f"{told.title} ({told.severity}, since {utc(told.since)}; {told.rule})"
    return _entry(f"GONE  {told.label}", text)
