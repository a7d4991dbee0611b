"""What systemd's journal reads: one entry a finding, or text whose lines begin with their priority.

Entries are in the journal's native protocol (systemd.journal-fields(7), JOURNAL_NATIVE_PROTOCOL): fields as
``NAME=value`` lines, a value with a line break as its length in 64 bits, little-endian, and its bytes.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tcpdoctor.answers.record import utc
from tcpdoctor.diagnosis.changes import Changes
from tcpdoctor.diagnosis.finding import Finding, Severity
from tcpdoctor.kernel.recorded import Told
from tcpdoctor.kernel.snapshot import Snapshot
from tcpdoctor.report.check_short import finding_lines
from tcpdoctor.report.finding_page import finding_page, grouped, more_words, pages_of
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import Block, Entries, Inset, Item, Prose, Section, page_text
from tcpdoctor.report.style import Style

MESSAGE_ID = "9f2b6d1c7a3e4f58b0c4d2e1a6f73b95"
"""Of every entry about a finding: ``journalctl MESSAGE_ID=...``; it never changes."""

_PRIORITIES = {"CRITICAL": 2, "WARNING": 4, "UNKNOWN": 4, "GONE": 5}
"""By the word that a finding, or the whole answer, begins with; syslog's numbers (syslog(3))."""
_OTHER = 6
"""Info: the rest."""
_BEGIN = {*_PRIORITIES, "INFO"}


def with_priorities(text: str) -> str:
    """Put before each line the priority of the finding that it belongs to.

    A line that is not indented, or begins with a severity, begins something and tells the priority; indented
    and empty lines below belong to it. Empty lines are left out: the journal would drop them.
    """
    lines = []
    priority = _OTHER
    for line in text.splitlines():
        word = line.split(maxsplit=1)[0].rstrip(":,") if line.strip() else ""
        if word and (not line[0].isspace() or (word in _BEGIN and line[1:2] == word[0])):
            priority = _PRIORITIES.get(word, _OTHER)
        if line.strip():
            lines.append(f"<{priority}>{line}\n")
    return "".join(lines)


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
            f"{finding.severity.key.upper()}: {lead}{finding.label}: {finding.headline or finding.title}",
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
    first = style.wrap(_headline(changes, where), "  ", "")
    new = page_text(_new_in_full(changes, style), style) if long else _new_in_short(changes, style)
    rest = page_text(_gone_or_unknown(changes), style)
    return "\n\n".join(part for part in (first, new, rest) if part) + "\n"


def _new_in_short(changes: Changes, style: Style) -> str:
    lines = [line for finding in changes.appeared[:_MOST_NEW] for line in finding_lines(finding, style)]
    for item in changes.changed[:_MOST_NEW]:
        lines += [*finding_lines(item.finding, style), style.wrap(f"It was {item.before} before.", "   ")]
    if not lines:
        return ""
    more = sum(max(0, len(each) - _MOST_NEW) for each in (changes.appeared, changes.changed))
    lines += [f" and {more:,} more: --long"] if more else []
    full = f"Each in full: {style.asks('tcpdoctor check RULE')}"
    return "\n".join([*lines, "", style.wrap(full, "  ", " ")])


_MOST_NEW = 10


def _new_in_full(changes: Changes, style: Style) -> list[Block]:
    blocks: list[Block] = []
    for alike in grouped(changes.appeared):
        blocks += [_inset(*page.act, *page.know) for page in pages_of(alike, style)]
        blocks += [Prose(more_words(alike), apart=True)] if alike.more else []
    for item in changes.changed:
        page = finding_page(item.finding, style=style)
        was = Prose(f"It was {item.before} before.", apart=True)
        blocks.append(_inset(*page.act, *page.know, was))
    return blocks


def _gone_or_unknown(changes: Changes) -> list[Block]:
    blocks: list[Block] = [*map(_gone, changes.gone)]
    for open_one in changes.unanswered:
        told = open_one.told
        lead = f"{told.severity.upper()}, perhaps still there: {told.label}"
        known = f"{told.title} (since {utc(told.since)}). It could not be checked: {open_one.reason}"
        blocks.append(_change_entry(lead, known))
    return blocks


def _inset(*blocks: Block) -> Section:
    return Section("", (Inset(blocks, 2),))


def _change_entry(lead: str, text: str) -> Section:
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
    return _change_entry(f"GONE  {told.label}", text)
