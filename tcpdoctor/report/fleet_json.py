"""A merged report as one JSON object, schema tcpdoctor.fleet/1: keys and their order are frozen."""

from collections.abc import Iterator

from tcpdoctor.diagnosis.finding import JsonValue
from tcpdoctor.diagnosis.fleet_report import FleetReport, Group, Host, Remedy, exit_code, status_of
from tcpdoctor.report.fleet import FleetAnswer
from tcpdoctor.report.host import utc

SCHEMA = "tcpdoctor.fleet/1"


def fleet_json_lines(answer: FleetAnswer) -> Iterator[str]:
    """Give the object as text, a line for each host and finding: there is never more of it in memory."""
    import json

    report = answer.report
    head = json.dumps(_head(answer), indent=1, allow_nan=False)[1:-2]
    yield f"{{{head}"
    rows: dict[str, Iterator[dict[str, JsonValue]]] = {
        "findings": (_group(group, answer.most_hosts) for group in report.groups),
        "hosts": (_host(host, report) for host in report.hosts),
        "unread": ({"source": one.source, "reason": one.reason} for one in report.unread),
        "repeated": (dict(one._asdict()) for one in report.repeated),
    }
    for key, objects in rows.items():
        yield f',\n "{key}": ['
        between = "\n  "
        for one in objects:
            yield between + json.dumps(one, allow_nan=False)
            between = ",\n  "
        yield "\n ]" if between.startswith(",") else "]"
    for key, names in (("silent", report.silent), ("unexpected", report.unexpected)):
        yield f',\n "{key}": {json.dumps(names)}'
    yield "\n}\n"


def _head(answer: FleetAnswer) -> dict[str, JsonValue]:
    report = answer.report
    return {
        "schema": SCHEMA,
        "tool": {"name": "tcpdoctor", "version": answer.version},
        "made_at": utc(report.made_at),
        "status": status_of(report),
        "exit_code": exit_code(report, answer.fail_on),
        "summary": {
            "hosts": len(report.hosts),
            **report.statuses,
            "expected": report.expected,
            "findings": len(report.groups),
            "unread": len(report.unread) + report.more_unread,
            "repeated": len(report.repeated) + report.more_repeated,
        },
    }


def _group(group: Group, most: int) -> dict[str, JsonValue]:
    told = group.told
    return {
        "rule": told.rule,
        "severity": told.severity.key,
        "title": told.title,
        "hosts_total": group.hosts_total,
        "findings_total": group.findings,
        "hosts": list(group.hosts[:most]),
        "example": None
        if group.example is None
        else {"host": group.example, "subject": told.label, "summary": told.summary},
        "explanation": told.explanation,
        "impact": told.impact,
        "fixes": [_fix(remedy) for remedy in told.remedies],
        "wrong_fixes": [{"title": title, "why": why} for title, why in told.wrong],
    }


def _fix(remedy: Remedy) -> dict[str, JsonValue]:
    setting = remedy.setting
    return {
        "kind": remedy.kind,
        "title": remedy.title,
        "do": remedy.do,
        "risk": remedy.risk,
        "verify": remedy.verify,
        "undo": remedy.undo,
        "sysctl": None if setting is None else {"name": setting.name, "persist": setting.persist},
        "prose": remedy.prose,
        "commands": list(remedy.commands),
        "verify_commands": list(remedy.verify_commands),
        "undo_commands": list(remedy.undo_commands),
    }


def _host(host: Host, report: FleetReport) -> dict[str, JsonValue]:
    return {
        "name": host.name,
        "status": host.status,
        "reasons": list(host.reasons),
        "taken_at": None if host.taken_at is None else utc(host.taken_at),
        "stale": host.stale,
        "namespaces": host.namespaces,
        "unanswered": host.unanswered,
        "findings": [
            {
                "rule": report.groups[place].told.rule,
                "severity": report.groups[place].told.severity.key,
                "subjects": number,
            }
            for place, number in host.findings
        ],
        "findings_not_told": host.untold,
        "sources": list(host.sources),
    }
