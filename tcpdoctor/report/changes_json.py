"""What appeared and what went since the run before: `check --only-changes` as JSON."""

from tcpdoctor.answers.check import Check
from tcpdoctor.diagnosis.changes import Changes
from tcpdoctor.diagnosis.finding import JsonValue
from tcpdoctor.kernel.last_run import Told
from tcpdoctor.report.check_json import check_json
from tcpdoctor.report.host import utc


def changes_json(check: Check, changes: Changes) -> dict[str, JsonValue]:
    """Return the object of tcpdoctor.check/1 with what changed only, and ``changes`` beside it.

    ``findings`` are those that appeared or have another severity; status, exit code and summary speak
    of all that is there.
    """
    findings = (*changes.appeared, *(item.finding for item in changes.changed))
    return {
        **check_json(check, findings),
        "changes": {
            "since": None if changes.since is None else utc(changes.since),
            "appeared": [finding.fingerprint for finding in changes.appeared],
            "changed": [
                {"fingerprint": item.finding.fingerprint, "severity_before": item.before}
                for item in changes.changed
            ],
            "gone": [_told_json(told) for told in changes.gone],
            "unanswered": [{**_told_json(item.told), "reason": item.reason} for item in changes.unanswered],
        },
    }


def _told_json(told: Told) -> dict[str, JsonValue]:
    return {
        "rule": told.rule,
        "severity": told.severity,
        "label": told.label,
        "title": told.title,
        "fingerprint": told.fingerprint,
        "since": utc(told.since),
    }
