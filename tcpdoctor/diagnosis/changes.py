"""What appeared and what went between two runs, by fingerprint.

A finding that is not found again has gone only where its rule was answered: a rule that could not be answered
leaves open whether it is still there, and one that was not in force was not asked. Both are kept. So is
one of a rule that fired for more subjects than are told: it may be among the others.

What flaps is held back: it is told once so many runs behind each other have found it so.
"""

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from tcpdoctor.diagnosis.finding import Diagnosis, Finding, Severity
from tcpdoctor.kernel.recorded import Told

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
    held: Mapping[str, tuple[str, int]] = MappingProxyType({})
    """By fingerprint what is not told yet, and how many runs have found it so: `Told.held`, `Told.runs`."""

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
    before: Iterable[Told],
    since: float | None,
    diagnosis: Diagnosis,
    in_force: Collection[str],
    after: int = 1,
) -> Changes:
    """Compare a diagnosis with what earlier runs told.

    Args:
        before: What the run before left.
        since: When it looked.
        diagnosis: Of this run.
        in_force: The ids of the rules that were asked.
        after: Runs behind each other, this one included, that have to find a change before it is told.
    """
    known = {told.fingerprint: told for told in before}
    found = {finding.fingerprint: finding for finding in diagnosis.findings}
    unchecked = {rule.rule: rule.reason for rule in diagnosis.unchecked}
    asked = frozenset(in_force) - {untold.rule for untold in diagnosis.untold}
    news = {
        fingerprint: _news(known.get(fingerprint), found.get(fingerprint), asked, unchecked)
        for fingerprint in {**known, **found}
    }
    due, held = _due_and_held(news, known, after)
    return Changes(
        since,
        tuple(finding for finding in diagnosis.findings if due.get(finding.fingerprint) == _NEW),
        tuple(
            Changed(finding, known[finding.fingerprint].severity)
            for finding in diagnosis.findings
            if due.get(finding.fingerprint, _NEW) != _NEW
        ),
        tuple(told for told in known.values() if due.get(told.fingerprint) == _GONE),
        tuple(
            Unanswered(told, unchecked[told.rule])
            for told in known.values()
            if due.get(told.fingerprint) == _UNANSWERED
        ),
        held,
    )


def _due_and_held(
    news: Mapping[str, str], known: Mapping[str, Told], after: int
) -> tuple[dict[str, str], dict[str, tuple[str, int]]]:
    """What is told in this run, and what is not yet, by fingerprint."""
    due: dict[str, str] = {}
    held: dict[str, tuple[str, int]] = {}
    for fingerprint, word in news.items():
        told = known.get(fingerprint)
        runs = told.runs if told is not None and told.held == word else 0
        if word == _KEPT and told is not None:
            held[fingerprint] = told.held, told.runs
        elif word and runs + 1 >= after:
            due[fingerprint] = word
        elif word:
            held[fingerprint] = word, runs + 1
    return due, held


_NEW, _GONE, _UNANSWERED = "new", "gone", "unanswered"
_KEPT = "kept"
"""Nothing can be told of it, and what was counted of it stays."""


def _news(
    told: Told | None, finding: Finding | None, asked: Collection[str], unchecked: Mapping[str, str]
) -> str:
    """Say how a finding differs from what was told of it; empty where it does not."""
    if finding is not None:
        if told is None or told.held == _NEW:
            return _NEW
        return finding.severity.key if finding.severity.key != told.severity else ""
    if told is None or told.rule not in asked:
        return _KEPT
    if told.rule in unchecked:
        return _KEPT if told.unanswered or told.held == _NEW else _UNANSWERED
    return "" if told.held == _NEW else _GONE


def told_after(
    before: Iterable[Told], diagnosis: Diagnosis, changes: Changes, now: float
) -> tuple[Told, ...]:
    """Return what the next run has to know: what is found, what may still be there, what is held back."""
    known = {told.fingerprint: told for told in before}
    current = [_told(finding, known.get(finding.fingerprint), now, changes) for finding in diagnosis.findings]
    dropped = {told.fingerprint for told in (*changes.gone, *current)}
    lost = {item.told.fingerprint for item in changes.unanswered}
    rest = []
    for told in known.values():
        held, runs = changes.held.get(told.fingerprint, ("", 0))
        if told.fingerprint not in dropped and (held or told.held != _NEW):
            unanswered = told.unanswered or told.fingerprint in lost
            rest.append(told._replace(unanswered=unanswered, held=held, runs=runs))
    return tuple([*current, *rest][:MOST_TOLD])


def _told(finding: Finding, before: Told | None, now: float, changes: Changes) -> Told:
    held, runs = changes.held.get(finding.fingerprint, ("", 0))
    severity = finding.severity.key
    return Told(
        finding.fingerprint,
        finding.rule,
        before.severity if before is not None and held not in ("", _NEW) else severity,
        finding.label,
        finding.title,
        now if before is None else before.since,
        held=held,
        runs=runs,
    )


def _level(key: str) -> Severity:
    """Return the severity of this name; that of a file that says something else counts as the worst."""
    return next((severity for severity in Severity if severity.key == key), Severity.CRITICAL)
