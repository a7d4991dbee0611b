"""`explain --state` as one JSON object, schema tcpdoctor.state/1."""

import math

from tcpdoctor.answers.state import StateAnswer
from tcpdoctor.diagnosis.finding import JsonValue
from tcpdoctor.facts.deadlines import Life, show_life
from tcpdoctor.facts.state_deadlines import Deadline
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.host import host_json, utc

SCHEMA = "tcpdoctor.state/1"
_OF_OWNERS = ("held", "not_held", "owner_unknown", "sample_of", "processes", "local_ports")


def state_json(answer: StateAnswer) -> dict[str, JsonValue]:
    """Return what the text says in named fields; unknown is null, with its reason in ``missing``."""
    page, who = answer.page, answer.who
    return {
        "schema": SCHEMA,
        "state": page.key,
        "name": page.name,
        "rfc_name": None if page.key == "bound" else page.rfc,
        "host": host_json(who.host, who.kernel, who.namespace, who.namespace_name),
        "taken_at": utc(answer.taken_at),
        "sockets": None if isinstance(answer.number, Missing) else answer.number,
        **_whose(answer),
        "missing": _missing(answer),
        "means": page.means,
        "enter": list(page.enter),
        "leave": list(page.leave),
        "ends": {"owned": page.owned, "orphan": page.orphan},
        "deadlines": [deadline_json(deadline, answer) for deadline in answer.deadlines],
        "assumed_rto_s": round(answer.rto, 6),
        "costs": page.costs,
        "mistaken_for": [{"claim": wrong.claim, "truth": wrong.truth} for wrong in page.mistaken],
        "look": list(page.look),
        "diagram": list(answer.picture.splitlines()),
    }


def deadline_json(deadline: Deadline, answer: StateAnswer) -> dict[str, JsonValue]:
    """Return one deadline; ``never`` has no seconds."""
    return {"case": deadline.case, **life_json(deadline), "sysctls": _values(deadline, answer)}


def life_json(deadline: Deadline) -> dict[str, JsonValue]:
    """Return the range of a deadline: null for never (``ends`` false) and for unknown (``ends`` null)."""
    life = deadline.life
    remark: JsonValue = deadline.remark or None
    if isinstance(life, Missing):
        return {"ends": None, "low_s": None, "high_s": None, "text": life.reason, "remark": remark}
    return {
        "ends": not math.isinf(life.low),
        "low_s": _seconds(life, 0),
        "high_s": _seconds(life, 1),
        "text": show_life(life),
        "remark": remark,
    }


def _seconds(life: Life, end: int) -> JsonValue:
    return None if math.isinf(life[end]) else round(life[end], 3)


def _values(deadline: Deadline, answer: StateAnswer) -> dict[str, JsonValue]:
    values: dict[str, JsonValue] = {}
    for name in deadline.sysctls:
        value = answer.sysctls[name]
        values[name] = value if isinstance(value, int) else None
    return values


def _whose(answer: StateAnswer) -> dict[str, JsonValue]:
    whose = answer.whose
    if isinstance(whose, Missing):
        return dict.fromkeys(_OF_OWNERS, None)
    return {
        "held": whose.held,
        "not_held": whose.not_held,
        "owner_unknown": whose.unknown,
        "sample_of": whose.looked_at,
        "processes": [
            {"pid": process.pid, "name": process.name, "sockets": process.sockets}
            for process in whose.processes
        ],
        "local_ports": [{"port": count.port or None, "sockets": count.sockets} for count in whose.ports],
    }


def _missing(answer: StateAnswer) -> dict[str, JsonValue]:
    missing: dict[str, JsonValue] = {}
    if isinstance(answer.number, Missing):
        missing["sockets"] = answer.number.reason
    if isinstance(answer.complete, Missing):
        missing["complete"] = answer.complete.reason
    if isinstance(answer.whose, Missing):
        missing |= dict.fromkeys(_OF_OWNERS, answer.whose.reason)
    elif answer.whose.reason is not None:
        missing["owner_unknown"] = answer.whose.reason
    return missing
