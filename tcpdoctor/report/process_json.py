"""`explain --pid` as one JSON object, schema tcpdoctor.process/1."""

import math

from tcpdoctor.answers.process import ProcessReport, option_groups, peers, state_groups, unasked
from tcpdoctor.diagnosis.finding import JsonValue
from tcpdoctor.facts.socketset import Age
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.report.check_json import finding_json
from tcpdoctor.report.host import host_json, utc
from tcpdoctor.report.sockets_json import option_json, socket_json

SCHEMA = "tcpdoctor.process/1"


def process_json(report: ProcessReport) -> dict[str, JsonValue]:
    """Return the same content as the text; what is not known is null, with the reason in ``missing``."""
    host, diagnosis = report.host, report.diagnosis
    missing: dict[str, JsonValue] = dict(report.missing)
    for reason, number in unasked(report.entries):
        missing["options"] = f"{number} sockets: {reason}"
    return {
        "schema": SCHEMA,
        "host": host_json(host.host, host.kernel, host.namespace, host.namespace_name),
        "taken_at": utc(report.taken_at),
        "process": _process(report, missing),
        "states": _states(report),
        "other_sockets": report.other_sockets,
        "peers": [{"peer": peer, "sockets": number} for peer, number in peers(report.entries)],
        "options": [
            {
                "sockets": group.sockets,
                "listening": group.listening,
                "options": {name: option_json(value) for name, value in group.options},
            }
            for group in option_groups(report.entries)
        ],
        "sockets": [socket_json(entry, options=True) for entry in report.entries],
        "findings": [finding_json(finding) for finding in diagnosis.findings],
        "unchecked": [{"rule": rule.rule, "reason": rule.reason} for rule in diagnosis.unchecked],
        "missing": missing,
    }


def _process(report: ProcessReport, missing: dict[str, JsonValue]) -> dict[str, JsonValue]:
    process = report.process
    answer: dict[str, JsonValue] = {"pid": process.pid, "name": process.name, "uid": process.uid}
    readings: dict[str, Reading[int] | Reading[str] | Reading[str | None]] = {
        "parent": process.parent,
        "executable": process.executable,
        "command": process.command,
        "unit": process.unit,
        "container": process.container,
        "descriptors": process.descriptors,
        "descriptor_limit": process.descriptor_limit,
        "namespace": report.namespace,
    }
    for name, reading in readings.items():
        if isinstance(reading, Missing):
            missing[f"process.{name}"] = reading.reason
        answer[name] = None if isinstance(reading, Missing) else reading
    answer["kind"] = "zombie" if report.task.zombie else "kernel" if report.task.kernel else "process"
    answer["thread"] = report.asked if report.asked != process.pid else None
    return answer


def _states(report: ProcessReport) -> dict[str, JsonValue]:
    return {
        group.state.key: {
            "sockets": group.number,
            "oldest": age_json(group.oldest),
            "most_idle_s": group.idle,
        }
        for group in state_groups(report.entries, report.by_state)
    }


def age_json(age: Age | None) -> JsonValue:
    """Return the bounds of an age in seconds; null where there is none."""
    if age is None:
        return None
    return {
        "at_least_s": round(age.low, 3),
        "at_most_s": None if math.isinf(age.high) else round(age.high, 3),
    }
