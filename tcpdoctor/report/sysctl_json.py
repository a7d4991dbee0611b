"""`explain --sysctl` as one JSON object, schema tcpdoctor.sysctl/1."""

import math

from tcpdoctor.answers.sysctl import SysctlAnswer, in_words, is_default, printed
from tcpdoctor.diagnosis.finding import JsonValue
from tcpdoctor.facts.deadlines import Life, show_life
from tcpdoctor.facts.state_deadlines import Deadline
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import SysctlValue
from tcpdoctor.report.host import host_json, utc
from tcpdoctor.report.sysctl_list_json import source_json

SCHEMA = "tcpdoctor.sysctl/1"


def sysctl_json(answer: SysctlAnswer) -> dict[str, JsonValue]:
    """Return what the text says in named fields; unknown is null, with its reason in ``missing``."""
    page, who = answer.page, answer.who
    return {
        "schema": SCHEMA,
        "sysctl": page.name,
        "file": f"/proc/sys/{page.name.replace('.', '/')}",
        "host": host_json(who.host, who.kernel, who.namespace, who.namespace_name),
        "taken_at": utc(answer.taken_at),
        "exists": answer.exists,
        "writable": answer.writable,
        "value": None if isinstance(answer.value, Missing) else _value(answer.value),
        "printed": printed(answer),
        "in_words": in_words(answer),
        "is_default": is_default(answer),
        "missing": {"value": answer.value.reason} if isinstance(answer.value, Missing) else {},
        "unit": page.unit,
        "meaning": page.meaning,
        "governs": page.governs,
        "does_not": page.does_not,
        "beware": page.beware,
        "default": page.default,
        "default_is": page.default_is,
        "accepts": None if answer.bounds is None else {"low": answer.bounds[0], "high": answer.bounds[1]},
        "accepts_is": page.limits_are,
        "values": dict(page.values),
        "scope": page.scope,
        "since": page.since,
        "removed": page.removed,
        "instead": page.instead,
        "deadlines": [_deadline(keys, deadline) for keys, deadline in answer.deadlines],
        "assumed_rto_s": round(answer.rto, 6),
        "see_also": list(page.see),
        "findings": [
            {"rule": one.rule, "severity": one.severity.key, "summary": one.summary}
            for one in answer.warnings
        ],
        "rules": list(answer.rules),
        "set_by": source_json(answer.origin.by),
        "not_set_by": source_json(answer.origin.later),
    }


def _deadline(keys: tuple[str, ...], deadline: Deadline) -> dict[str, JsonValue]:
    return {
        "states": list(keys),
        "case": deadline.case,
        **_life_json(deadline),
        "sysctls": list(deadline.sysctls),
    }


def _life_json(deadline: Deadline) -> dict[str, JsonValue]:
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


def _value(value: SysctlValue) -> JsonValue:
    if isinstance(value, tuple):
        return [list(part) if isinstance(part, tuple) else part for part in value]
    return value
