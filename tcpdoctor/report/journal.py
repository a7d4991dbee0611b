"""What systemd's journal reads, one entry a finding; and what changed since the run before, for people.

Entries are in the journal's native protocol (systemd.journal-fields(7), JOURNAL_NATIVE_PROTOCOL): fields as
``NAME=value`` lines, a value with a line break as its length in 64 bits, little-endian, and its bytes.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tcpdoctor.answers.record import utc
from tcpdoctor.diagnosis.changes import Changes
from tcpdoctor.diagnosis.finding import Finding, Severity
from tcpdoctor.kernel.snapshot import Snapshot
from tcpdoctor.report.check_short import finding_lines
from tcpdoctor.report.check_text import finding_texts
from tcpdoctor.report.finding_page import finding_page
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import Entries, Item, Prose, page_text
from tcpdoctor.report.style import Style

MESSAGE_ID = "9f2b6d1c7a3e4f58b0c4d2e1a6f73b95"
"""Of every entry about a finding: ``journalctl MESSAGE_ID=...``; it never changes."""

_LEVELS = {"critical": 2, "warning": 4, "info": 6}
_NOTICE = 5


class JournalEntry(NamedTuple):
    """One entry of the journal."""

    fields: Mapping[str, str]

    def datagram(self) -> bytes:
        """Return it as the journal's socket takes it."""
        parts = []
        for name, value in self.fields.items():
            data = value.encode("utf-8", "backslashreplace")
            if b"\n" in data:
                parts.append(name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n")
            else:
                parts.append(name.encode() + b"=" + data + b"\n")
        return b"".join(parts)


def entries(
    findings: tuple[Finding, ...], changes: Changes | None, where: str | None = None
) -> Iterator[JournalEntry]:
    """Return one entry for each finding, the worst first, and for each that is gone.

    Args:
        findings: Those to be told.
        changes: Since the run before; None where none is remembered: then nothing is said of it.
        where: Name of the network namespace, where several are looked at.
    """
    lead = f"{where}: " if where else ""
    appeared = None if changes is None else {finding.fingerprint for finding in changes.appeared}
    for finding in findings:
        state = None if appeared is None else "new" if finding.fingerprint in appeared else "still"
        yield _entry(
            f"{finding.severity.key.upper()}: {lead}{finding.whom or finding.label}: "
            f"{finding.headline or finding.title}",
            _LEVELS[finding.severity.key],
            finding.rule,
            finding.label,
            finding.fingerprint,
            state,
            finding.summary,
            where,
        )
    for told in () if changes is None else changes.gone:
        words = f"GONE: {told.label}: {told.title}"
        yield _entry(words, _NOTICE, told.rule, told.label, told.fingerprint, "gone", "")


def blind_entry(
    host: str, rules: int, where: str | None = None, why: str = "too little could be checked"
) -> JournalEntry:
    """Return the entry of a run that could not tell whether the host is well; `why` is the reason."""
    lead = f"{host}: {where}" if where else host
    text = f"UNKNOWN: {lead}: {why}: {rules} rules could not be answered"
    fields = {"MESSAGE": text, "MESSAGE_ID": MESSAGE_ID, "PRIORITY": "4", "SYSLOG_IDENTIFIER": "tcpdoctor"}
    return JournalEntry(fields | ({"TCPDOCTOR_NAMESPACE": where} if where else {}))


def changed_findings(changes: Changes, least: Severity | None) -> tuple[Finding, ...]:
    """Return what `--only-changes` tells: what appeared, and what has another severity than before."""
    told = (*changes.appeared, *(item.finding for item in changes.changed))
    return tuple(finding for finding in told if least is None or finding.severity >= least)


def _entry(
    message: str,
    priority: int,
    rule: str,
    subject: str,
    fingerprint: str,
    state: str | None,
    details: str,
    where: str | None = None,
) -> JournalEntry:
    fields = {
        "MESSAGE": message,
        "MESSAGE_ID": MESSAGE_ID,
        "PRIORITY": str(priority),
        "SYSLOG_IDENTIFIER": "tcpdoctor",
        "TCPDOCTOR_RULE": rule,
        "TCPDOCTOR_SUBJECT": subject,
        "TCPDOCTOR_FINGERPRINT": fingerprint,
    }
    if state is not None:
        fields["TCPDOCTOR_STATE"] = state
    if where is not None:
        fields["TCPDOCTOR_NAMESPACE"] = where
    if details:
        fields["TCPDOCTOR_SUMMARY"] = details
    return JournalEntry(fields)


def changes_text(changes: Changes, where: Snapshot, style: Style, *, long: bool = False) -> str:
    """Return the changes of one host for people, the worst first, with `long` in full; nothing for none."""
    if not changes.any():
        return ""
    first = style.told("", style.wrap(_headline(changes, where), "  ", ""))
    new = _new_in_full(changes, style) if long else [_new_in_short(changes, style)]
    return "\n\n".join(part for part in (first, *new, *_gone_or_unknown(changes, style)) if part) + "\n"


def _new_in_short(changes: Changes, style: Style) -> str:
    lines = [line for finding in changes.appeared[:_MOST_NEW] for line in finding_lines(finding, style)]
    for item in changes.changed[:_MOST_NEW]:
        was = style.wrap(f"It was {item.before} before.", "   ")
        lines += [*finding_lines(item.finding, style), style.told(item.finding.severity.key, was)]
    if not lines:
        return ""
    more = sum(max(0, len(each) - _MOST_NEW) for each in (changes.appeared, changes.changed))
    lines += [style.told("", f" and {more:,} more: --long")] if more else []
    full = f"Each in full: {style.asks('tcpdoctor check RULE')}"
    return "\n".join([*lines, "", style.told("", style.wrap(full, "  ", " "))])


_MOST_NEW = 10


def _new_in_full(changes: Changes, style: Style) -> list[str]:
    texts = finding_texts(changes.appeared, style)
    for item in changes.changed:
        page = finding_page(item.finding, style=style)
        was = Prose(f"It was {item.before} before.", apart=True)
        text = page_text((*page.act, *page.know, was), style, "  ")
        texts.append(style.told(item.finding.severity.key, text))
    return texts


def _gone_or_unknown(changes: Changes, style: Style) -> list[str]:
    texts = []
    for told in changes.gone:
        known = f"{told.title} ({told.severity}, since {utc(told.since)}; {told.rule})"
        texts.append(style.told("gone", _entry_text(f"GONE  {told.label}", known, style)))
    for open_one in changes.unanswered:
        told = open_one.told
        lead = f"{told.severity.upper()}, perhaps still there: {told.label}"
        known = f"{told.title} (since {utc(told.since)}). It could not be checked: {open_one.reason}"
        texts.append(style.told(told.severity, _entry_text(lead, known, style)))
    return texts


def _entry_text(lead: str, text: str, style: Style) -> str:
    return page_text([Entries((Item(lead, blocks=(Prose(text),)),))], style)


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
