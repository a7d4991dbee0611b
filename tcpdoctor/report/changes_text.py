"""What appeared and what went since the run before: `check --only-changes` for people."""

from tcpdoctor.diagnosis.changes import Changed, Changes
from tcpdoctor.kernel.last_run import Told
from tcpdoctor.kernel.snapshot import Snapshot
from tcpdoctor.report.check_text import finding_text, finding_texts
from tcpdoctor.report.host import plural, utc
from tcpdoctor.report.style import Style


def changes_text(changes: Changes, where: Snapshot, style: Style) -> str:
    """Return the changes of one host for people, the worst first; "" where there are none."""
    if not changes.any():
        return ""
    parts = [style.wrap(_headline(changes, where)), *finding_texts(changes.appeared, style)]
    parts += [_changed(item, style) for item in changes.changed]
    parts += [_gone(told, style) for told in changes.gone]
    for item in changes.unanswered:
        lead = f"{item.told.severity.upper()}, perhaps still there: {item.told.label}"
        known = f"{item.told.title} (since {utc(item.told.since)}). It could not be checked: {item.reason}"
        parts.append(f"{style.wrap(lead, '    ', '')}\n{style.wrap(known, '  ')}")
    return "\n\n".join(parts) + "\n"


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


def _changed(item: Changed, style: Style) -> str:
    was = style.wrap(f"It was {item.before} before.", "  ")
    return f"{finding_text(item.finding, style)}\n\n{was}"


def _gone(told: Told, style: Style) -> str:
    lead = style.wrap(f"GONE  {told.label}", "    ", "")
    text = f"{told.title} ({told.severity}, since {utc(told.since)}; {told.rule})"
    return f"{lead}\n{style.wrap(text, '  ')}"
