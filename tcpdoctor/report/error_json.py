"""`explain --error` as one JSON object, schema tcpdoctor.error/1."""

import math

from tcpdoctor.answers.error import ErrorAnswer, Here
from tcpdoctor.diagnosis.finding import JsonValue
from tcpdoctor.facts.deadlines import Life, show_life
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.host import host_json, utc

SCHEMA = "tcpdoctor.error/1"


def error_json(answer: ErrorAnswer) -> dict[str, JsonValue]:
    """Return what the text says in named fields; unknown is null, with its reason in ``missing``."""
    page, who = answer.page, answer.who
    return {
        "schema": SCHEMA,
        "error": page.name,
        "number": page.number,
        "text": page.text,
        "host": host_json(who.host, who.kernel, who.namespace, who.namespace_name),
        "taken_at": utc(answer.taken_at),
        "means": page.means,
        "calls": [{"call": call.call, "why": list(call.why)} for call in page.calls],
        "here": [_here(one) for one in answer.here],
        "ask": list(page.ask),
        "mistaken_for": [{"claim": wrong.claim, "truth": wrong.truth} for wrong in page.mistaken],
        "remedy": list(page.remedy),
        "see_also": list(page.see),
    }


def _here(here: Here) -> dict[str, JsonValue]:
    told: dict[str, JsonValue] = {"says": here.says, "source": list(here.source), "missing": None}
    match here.value:
        case Missing(reason):
            return {**told, "value": None, "unit": None, "missing": reason}
        case Life(low, high):
            ends: JsonValue = None
            if not math.isinf(low):
                ends = {"low_s": round(low, 3), "high_s": None if math.isinf(high) else round(high, 3)}
            return {**told, "value": ends, "unit": "second", "text": show_life(here.value)}
        case tuple() as several:
            parts: list[JsonValue] = [list(part) if isinstance(part, tuple) else part for part in several]
            return {**told, "value": parts, "unit": None}
        case value:
            return {**told, "value": value, "unit": None}
