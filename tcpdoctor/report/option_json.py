"""`explain --option` as one JSON object, schema tcpdoctor.option/1."""

from tcpdoctor.answers.option import OptionAnswer, Sets, who_sets
from tcpdoctor.diagnosis.finding import JsonValue
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import SysctlValue
from tcpdoctor.kernel.sockopts import OptionValue
from tcpdoctor.knowledge.option_pages import Runtime, Value
from tcpdoctor.report.host import host_json, utc

SCHEMA = "tcpdoctor.option/1"


def option_answer_json(answer: OptionAnswer) -> dict[str, JsonValue]:
    """Return what the text says in named fields; unknown is null, with its reason in ``missing``."""
    page, who = answer.page, answer.who
    missing: dict[str, JsonValue] = {}
    return {
        "schema": SCHEMA,
        "option": page.name,
        "level": page.level,
        "number": page.number,
        "type": page.c_type,
        "unit": page.unit or ("switch" if page.kind == "switch" else None),
        "host": host_json(who.host, who.kernel, who.namespace, who.namespace_name),
        "taken_at": utc(answer.taken_at),
        "does": page.does,
        "value_of_a_new_socket": _known("value_of_a_new_socket", answer.fresh, missing),
        "default": page.default,
        "accepts": None if page.limits is None else {"low": page.limits[0], "high": page.limits[1]},
        "otherwise": page.outside,
        "accepts_is": page.accepts,
        "sysctls": {name: _sysctl(name, value, missing) for name, value in answer.sysctls.items()},
        "set_when": page.set_when,
        "inherited_by_accepted": page.inherited,
        "inherited_is": page.inherited_is,
        "since": page.since,
        "beware": page.beware,
        "mistaken_for": [{"claim": wrong.claim, "truth": wrong.truth} for wrong in page.mistaken],
        "code": dict(page.code),
        "listeners": _listeners(answer, missing),
        "set_by": {sets.socket: _sets(sets) for sets in who_sets(page.name, answer.runtimes)},
        "set_by_is": page.runtimes,
        "see_also": list(page.see),
        "missing": missing,
    }


def _listeners(answer: OptionAnswer, missing: dict[str, JsonValue]) -> JsonValue:
    if isinstance(answer.listeners, Missing):
        missing["listeners"] = answer.listeners.reason
        return None
    rows: list[JsonValue] = []
    for listener in answer.listeners:
        why: dict[str, JsonValue] = {}
        value = _known("value", listener.value, why)
        rows.append({"local": listener.local, "owner": listener.owner, "value": value, "missing": why})
    return rows


def _known(name: str, value: Reading[OptionValue], missing: dict[str, JsonValue]) -> JsonValue:
    if isinstance(value, Missing):
        missing[name] = value.reason
        return None
    return {**value._asdict()} if isinstance(value, tuple) else value


def _sysctl(name: str, value: Reading[SysctlValue], missing: dict[str, JsonValue]) -> JsonValue:
    if isinstance(value, Missing):
        missing[f"sysctls.{name}"] = value.reason
        return None
    if isinstance(value, tuple):
        return [list(part) if isinstance(part, tuple) else part for part in value]
    return value


def _sets(sets: Sets) -> JsonValue:
    return [
        *[_runtime(runtime, sets=True, value=value) for runtime, value in sets.seen],
        *[_runtime(runtime, sets=False, value=None) for runtime in sets.plain],
    ]


def _runtime(runtime: Runtime, *, sets: bool, value: Value | None) -> JsonValue:
    return {
        "name": runtime.name,
        "software": runtime.software,
        "seen_with": runtime.version,
        "sets": sets,
        "value": value,
        "note": runtime.note,
    }
