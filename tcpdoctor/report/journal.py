"""What systemd's journal reads: one entry a finding, or text whose lines begin with their priority.

Entries are in the journal's native protocol (systemd.journal-fields(7), JOURNAL_NATIVE_PROTOCOL): fields as
``NAME=value`` lines, a value with a line break as its length in 64 bits, little-endian, and its bytes.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tcpdoctor.diagnosis.changes import Changes
from tcpdoctor.diagnosis.finding import Finding, Severity

MESSAGE_ID = "9f2b6d1c7a3e4f58b0c4d2e1a6f73b95"
"""Of every entry about a finding: ``journalctl MESSAGE_ID=...``; it never changes."""

_PRIORITIES = {"CRITICAL": 2, "WARNING": 4, "UNKNOWN": 4, "GONE": 5}
"""By the word that a finding, or the whole answer, begins with; syslog's numbers (syslog(3))."""
_OTHER = 6
"""Info: the rest."""


def with_priorities(text: str) -> str:
    """Put before each line the priority of the finding that it belongs to.

    A line that is not indented begins something and tells the priority; indented and empty lines below
    belong to it. Empty lines are left out: the journal would drop them.
    """
    lines = []
    priority = _OTHER
    for line in text.splitlines():
        if line and not line[0].isspace():
            word = line.split(maxsplit=1)[0].rstrip(":,")
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


def blind_entry(host: str, rules: int, where: str | None = None) -> JournalEntry:
    """Return the entry of a run that could not tell whether the host is well."""
    lead = f"{host}: {where}" if where else host
    text = f"UNKNOWN: {lead}: too little could be checked: {rules} rules could not be answered"
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
