"""`explain --pid` as one JSON object: tcpdoctor.process/1, or tcpdoctor.processes/1 of several."""

import math
from collections.abc import Sequence

from tcpdoctor.answers.finding import told_finding
from tcpdoctor.answers.process import DeadGroup, Holdings, ProcessAnswer, StateGroup
from tcpdoctor.answers.record import utc
from tcpdoctor.diagnosis.finding import JsonValue
from tcpdoctor.facts.socketset import Age
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.report.document import as_json
from tcpdoctor.report.host import host_json
from tcpdoctor.report.sockets_json import option_json, socket_json

_HELD = ("states", "other_sockets", "peers", "options", "sockets", "dead_sockets")


def processes_json(answers: Sequence[ProcessAnswer]) -> dict[str, JsonValue]:
    """Return what was found of each process; one that was asked by its number stands alone."""
    if len(answers) == 1:
        return process_json(answers[0])
    return {"schema": "tcpdoctor.processes/1", "processes": [process_json(answer) for answer in answers]}


def process_json(answer: ProcessAnswer) -> dict[str, JsonValue]:
    """Return the same content as the text; what is not known is null, with the reason in ``missing``."""
    host = answer.host
    missing: dict[str, JsonValue] = dict(answer.missing)
    told: dict[str, JsonValue] = {
        "schema": "tcpdoctor.process/1",
        "host": host_json(host.host, host.kernel, host.namespace, host.namespace_name),
        "taken_at": utc(answer.taken_at),
        "process": _process(answer, missing),
    }
    if isinstance(answer.holdings, Missing):
        missing |= dict.fromkeys(_HELD, answer.holdings.reason)
        told |= dict.fromkeys(_HELD)
    else:
        told |= _held(answer.holdings, missing)
    diagnosis = answer.diagnosis
    if isinstance(diagnosis, Missing):
        missing |= {"findings": diagnosis.reason, "unchecked": diagnosis.reason}
        told |= {"findings": None, "unchecked": None}
    else:
        told["findings"] = [as_json(told_finding(finding)) for finding in diagnosis.findings]
        told["unchecked"] = [{"rule": rule.rule, "reason": rule.reason} for rule in diagnosis.unchecked]
    return {**told, "missing": missing, "stop": None if answer.stop is None else as_json(answer.stop)}


def _held(holdings: Holdings, missing: dict[str, JsonValue]) -> dict[str, JsonValue]:
    for reason, number in holdings.unasked:
        missing["options"] = f"{number} sockets: {reason}"
    return {
        "states": {group.state.key: _state(group) for group in holdings.states},
        "other_sockets": holdings.other_sockets,
        "peers": [
            {"peer": group.peer, "sockets": group.sockets, "connecting": group.connecting}
            for group in holdings.peers
        ],
        "options": [
            {
                "sockets": group.sockets,
                "listening": group.listening,
                "options": {name: option_json(value) for name, value in group.options},
            }
            for group in holdings.options
        ],
        "sockets": [socket_json(entry, options=True) for entry in holdings.entries],
        "dead_sockets": _dead(holdings.dead, missing),
    }


def _dead(dead: Reading[DeadGroup | None], missing: dict[str, JsonValue]) -> JsonValue:
    match dead:
        case Missing(reason):
            missing["dead_sockets"] = reason
            return None
        case None:
            return {"sockets": 0, "every": 1, "longest_silent_s": None, "peers": None}
        case DeadGroup(number, every, silent, peers):
            return {"sockets": number, "every": every, "longest_silent_s": round(silent, 3), "peers": peers}
    raise TypeError(dead)


def _process(answer: ProcessAnswer, missing: dict[str, JsonValue]) -> dict[str, JsonValue]:
    process = answer.process
    told: dict[str, JsonValue] = {"pid": process.pid, "name": process.name, "uid": process.uid}
    readings: dict[str, Reading[int] | Reading[str] | Reading[str | None]] = {
        "parent": process.parent,
        "executable": process.executable,
        "command": process.command,
        "unit": process.unit,
        "container": process.container,
        "descriptors": process.descriptors,
        "descriptor_limit": process.descriptor_limit,
        "namespace": answer.namespace,
    }
    for name, reading in readings.items():
        if isinstance(reading, Missing):
            missing[f"process.{name}"] = reading.reason
        told[name] = None if isinstance(reading, Missing) else reading
    told["kind"] = "zombie" if answer.task.zombie else "kernel" if answer.task.kernel else "process"
    told["thread"] = answer.asked if answer.asked != process.pid else None
    return told


def _state(group: StateGroup) -> dict[str, JsonValue]:
    return {
        "sockets": group.number,
        "oldest": age_json(group.oldest),
        "most_idle_s": group.idle,
        "unanswered": group.waits.unanswered,
        "unacknowledged_bytes": group.waits.unacknowledged_bytes,
        "unread_bytes": group.waits.unread_bytes,
        "unanswered_s": group.waits.unanswered_for,
    }


def age_json(age: Age | None) -> JsonValue:
    """Return the bounds of an age in seconds; null where there is none."""
    if age is None:
        return None
    return {
        "at_least_s": round(age.low, 3),
        "at_most_s": None if math.isinf(age.high) else round(age.high, 3),
    }
