"""`check` as one JSON object, schema tcpdoctor.check/1: keys and their order are frozen."""

import math
from collections.abc import Mapping

from tcpdoctor.answers import check as conclusions
from tcpdoctor.answers.check import Check, Checks, loud_findings
from tcpdoctor.answers.states import state_readings
from tcpdoctor.diagnosis.finding import Diagnosis, Finding, Fix, JsonValue, Severity
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Snapshot, SysctlValue
from tcpdoctor.report.host import missing_states, snapshot_host_json, states_json, utc

SCHEMA = "tcpdoctor.check/1"


def check_json(check: Check, findings: tuple[Finding, ...] | None = None) -> dict[str, JsonValue]:
    """Return the object of that schema.

    `findings` instead of all of them where the user wants only some (`--quiet`); status, exit code and
    summary still speak of all. Quantities are numbers, finite, in the unit that the key or ``unit`` names;
    what is not known is null.
    """
    diagnosis, snapshot = check.diagnosis, check.samples.after
    readings = state_readings(snapshot.census)
    shown = diagnosis.findings if findings is None else findings
    return {
        "schema": SCHEMA,
        "tool": {"name": "tcpdoctor", "version": check.version},
        "host": snapshot_host_json(snapshot),
        "taken_at": utc(snapshot.taken_at),
        "window_s": float(check.window),
        "status": conclusions.status(check),
        "exit_code": conclusions.exit_code(check),
        "summary": _summary(diagnosis),
        "states": states_json(readings),
        "missing": {**missing_states(readings), **_missing(snapshot)},
        "sysctls": {name: _sysctl(value) for name, value in sorted(snapshot.sysctls.items())},
        "findings": [finding_json(finding) for finding in shown],
        "unchecked": [{"rule": rule.rule, "reason": rule.reason} for rule in diagnosis.unchecked],
        "untold": [
            {"rule": each.rule, "severity": each.severity.key, "number": each.number}
            for each in diagnosis.untold
        ],
    }


def checks_json(checks: Checks, *, quiet: bool = False) -> dict[str, JsonValue]:
    """Return the checks of many network namespaces as one object of schema tcpdoctor.checks/1."""
    return {
        "schema": "tcpdoctor.checks/1",
        "checks": [check_json(check, loud_findings(check) if quiet else None) for check in checks.checks],
        "failed": [
            {
                "namespace": str(one.place.namespace),
                "namespace_name": one.place.name,
                "reason": one.reason,
            }
            for one in checks.unseen
        ],
        "hidden_processes": checks.hidden,
    }


def finding_json(finding: Finding) -> dict[str, JsonValue]:
    """Return one finding, with the keys that tcpdoctor(1) lists."""
    return {
        "rule": finding.rule,
        "severity": finding.severity.key,
        "scope": finding.scope.value,
        "subject": _subject(finding),
        "fingerprint": finding.fingerprint,
        "title": finding.title,
        "summary": finding.summary,
        "explanation": finding.explanation,
        "impact": finding.impact,
        "evidence": [
            {"fact": item.fact, "value": finite(item.value), "unit": item.unit, "source": item.source}
            for item in finding.evidence
        ],
        "fixes": [_fix(fix) for fix in finding.fixes],
        "wrong_fixes": [{"title": wrong.title, "why": wrong.why} for wrong in finding.wrong_fixes],
        "references": [{"claim": item.claim, "source": item.source} for item in finding.references],
        "normal_when": list(finding.normal_when),
        "headline": finding.headline,
    }


def finite(value: JsonValue) -> JsonValue:
    """Return `value` with null for what JSON has no number for: infinity and NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [finite(item) for item in value]
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return value


def _summary(diagnosis: Diagnosis) -> dict[str, JsonValue]:
    return {
        **{severity.key: conclusions.count_of(diagnosis, severity) for severity in Severity},
        "checked": conclusions.checked(diagnosis),
        "unchecked": len(conclusions.unchecked_rules(diagnosis)),
    }


def _missing(snapshot: Snapshot) -> dict[str, JsonValue]:
    """Return why something is null, or a count may be too low (``states``), by its place in the object."""
    missing: dict[str, JsonValue] = {}
    if not isinstance(snapshot.census, Missing) and isinstance(snapshot.census.complete, Missing):
        missing["states"] = snapshot.census.complete.reason
    for name, value in sorted(snapshot.sysctls.items()):
        if isinstance(value, Missing):
            missing[f"sysctls.{name}"] = value.reason
    return missing


def _sysctl(value: SysctlValue | Missing) -> JsonValue:
    if isinstance(value, Missing):
        return None
    if isinstance(value, tuple):
        return [list(item) if isinstance(item, tuple) else item for item in value]
    return value


def _subject(finding: Finding) -> dict[str, JsonValue]:
    whereabouts = finding.whereabouts
    return {
        "label": finding.label,
        **_identity(finding.identity),
        "process": whereabouts.process,
        "unit": whereabouts.unit,
        "container": whereabouts.container,
        "ports": list(whereabouts.ports),
    }


def _identity(identity: Mapping[str, int | str | None]) -> dict[str, JsonValue]:
    return {key: value for key, value in identity.items() if key != "label"}


def _fix(fix: Fix) -> dict[str, JsonValue]:
    sysctl: JsonValue = None
    if fix.sysctl is not None:
        sysctl = {
            "name": fix.sysctl.name,
            "current": finite(fix.sysctl.current),
            "value": finite(fix.sysctl.value),
            "persist": fix.sysctl.persist,
        }
    return {
        "kind": fix.kind,
        "title": fix.title,
        "do": fix.do,
        "risk": fix.risk,
        "verify": fix.verify,
        "undo": fix.undo,
        "sysctl": sysctl,
        "prose": fix.prose,
        "commands": list(fix.commands),
        "verify_commands": list(fix.verify_commands),
        "undo_commands": list(fix.undo_commands),
    }
