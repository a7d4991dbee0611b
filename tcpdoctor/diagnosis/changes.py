"""What appeared and what went between two runs, by fingerprint.

A finding that is not found again has gone only where its rule was answered: a rule that could not be answered
leaves open whether it is still there, and one that was not in force was not asked. Both are kept. So is
one of a rule that fired for more subjects than are told: it may be among the others.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from tcpdoctor.diagnosis.finding import Diagnosis, Finding, Severity
from tcpdoctor.kernel.last_run import Told

MOST_TOLD = 10_000
"""Findings that are kept for the next run."""


class Changed(NamedTuple):
    """A finding whose severity is another one than before."""

    finding: Finding
    before: str


class Unanswered(NamedTuple):
    """A finding of which it can no longer be told whether it is there."""

    told: Told
    reason: str


class Changes(NamedTuple):
    """What one run has to say to whoever knows what the run before said."""

    since: float | None
    """When the run before looked, in seconds since 1970; None where there was none."""
    appeared: tuple[Finding, ...] = ()
    changed: tuple[Changed, ...] = ()
    gone: tuple[Told, ...] = ()
    unanswered: tuple[Unanswered, ...] = ()

    def any(self) -> bool:
        """Whether there is anything to say."""
        return bool(self.appeared or self.changed or self.gone or self.unanswered)

    def at_least(self, severity: Severity | None) -> "Changes":
        """Leave out what is below a severity, now and before; everything for None."""
        if severity is None:
            return Changes(self.since)
        return Changes(
            self.since,
            tuple(finding for finding in self.appeared if finding.severity >= severity),
            tuple(c for c in self.changed if max(c.finding.severity, _level(c.before)) >= severity),
            tuple(told for told in self.gone if _level(told.severity) >= severity),
            tuple(item for item in self.unanswered if _level(item.told.severity) >= severity),
        )


def compare(
    before: Iterable[Told], since: float | None, diagnosis: Diagnosis, in_force: Collection[str]
) -> Changes:
    """Compare a diagnosis with what earlier runs told.

    Args:
        before: What the run before left.
        since: When it looked.
        diagnosis: Of this run.
        in_force: The ids of the rules that were asked.
    """
    known = {told.fingerprint: told for told in before}
    current = {finding.fingerprint for finding in diagnosis.findings}
    unchecked = {rule.rule: rule.reason for rule in diagnosis.unchecked}
    asked = frozenset(in_force) - {untold.rule for untold in diagnosis.untold}
    absent = [told for told in known.values() if told.fingerprint not in current and told.rule in asked]
    return Changes(
        since,
        tuple(finding for finding in diagnosis.findings if finding.fingerprint not in known),
        tuple(_changed(diagnosis.findings, known)),
        tuple(told for told in absent if told.rule not in unchecked),
        tuple(
            Unanswered(told, unchecked[told.rule])
            for told in absent
            if told.rule in unchecked and not told.unanswered
        ),
    )


def told_after(
    before: Iterable[Told], diagnosis: Diagnosis, changes: Changes, now: float
) -> tuple[Told, ...]:
    """Return what the next run has to know: what is found, and what may still be there."""
    known = {told.fingerprint: told for told in before}
    current = [_told(finding, known.get(finding.fingerprint), now) for finding in diagnosis.findings]
    dropped = {told.fingerprint for told in (*changes.gone, *current)}
    lost = {item.told.fingerprint for item in changes.unanswered}
    rest = [
        told._replace(unanswered=told.unanswered or told.fingerprint in lost)
        for told in known.values()
        if told.fingerprint not in dropped
    ]
    return tuple([*current, *rest][:MOST_TOLD])


def _changed(findings: Iterable[Finding], known: Mapping[str, Told]) -> Iterable[Changed]:
    for finding in findings:
        told = known.get(finding.fingerprint)
        if told is not None and told.severity != finding.severity.key:
            yield Changed(finding, told.severity)


def _told(finding: Finding, before: Told | None, now: float) -> Told:
    return Told(
        finding.fingerprint,
        finding.rule,
        finding.severity.key,
        finding.label,
        finding.title,
        now if before is None else before.since,
    )


def _level(key: str) -> Severity:
    """Return the severity of this name; that of a file that says something else counts as the worst."""
    return next((severity for severity in Severity if severity.key == key), Severity.CRITICAL)
