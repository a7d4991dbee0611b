"""`facts` for machines: one object per fact and subject."""

import math

from tcpdoctor.answers.facts import FactList, why_empty
from tcpdoctor.diagnosis.finding import JsonValue
from tcpdoctor.facts.dimension import unit_name
from tcpdoctor.facts.fact import Fact
from tcpdoctor.facts.subject import Subject
from tcpdoctor.facts.value import Ages, Growth, Range, Value
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.host import snapshot_host_json, utc

SCHEMA = "tcpdoctor.facts/1"


def facts_json(listing: FactList) -> dict[str, JsonValue]:
    """Return the object of that schema.

    A number that is only known within bounds is ``{"at_least", "at_most"}`` (null: no bound), with the
    reason under ``missing``. A counter's value is its growth, in the time that ``over_s`` says. A
    set of ages is ``{"sockets", "oldest"}``. A fact without any subject here has ``"subject": null``.
    """
    before, after = listing.samples
    rows: list[JsonValue] = []
    for section in listing.sections:
        reason = why_empty(section)
        if reason is not None or isinstance(section.subjects, Missing):
            rows += [_row(fact, None, Missing(reason or "")) for fact in section.facts]
            continue
        rows += [
            _row(fact, subject, subject.facts[fact.name])
            for subject in section.subjects
            for fact in section.facts
        ]
    return {
        "schema": SCHEMA,
        "host": snapshot_host_json(after),
        "taken_at": utc(after.taken_at),
        "window_s": 0.0 if before is None else round(after.clock - before.clock, 3),
        "facts": rows,
        "not_described": [*listing.unknown],
    }


def _row(fact: Fact, subject: Subject | None, value: Value) -> dict[str, JsonValue]:
    row: dict[str, JsonValue] = {
        "fact": fact.name,
        "scope": fact.scope.value,
        "subject": None if subject is None else _subject(subject),
        "value": value_json(value),
        "missing": _reason(value),
        "unit": unit_name(fact.dimension),
        "kind": fact.kind,
        "source": fact.source,
        "meaning": fact.meaning,
    }
    if isinstance(value, Growth):
        row["over_s"] = round(value.seconds, 3)
    return row


def _subject(subject: Subject) -> dict[str, JsonValue]:
    described: dict[str, JsonValue] = {"label": subject.label}
    described |= subject.identity
    return described | {"hidden": True} if subject.hidden else described


def value_json(value: Value) -> JsonValue:
    """A value as JSON: infinite ends and what is missing are null."""
    match value:
        case Missing():
            return None
        case Range():
            return _between(value.low, value.high)
        case Growth():
            return _number(value.delta)
        case Ages():
            return {
                "sockets": _between(len(value.at_least), len(value.at_most)),
                "oldest": _between(max(value.at_least, default=0), max(value.at_most, default=0)),
            }
        case str():
            return value
        case _:
            return _number(value)


def _between(low: float, high: float) -> JsonValue:
    return _number(low) if low == high else {"at_least": _number(low), "at_most": _number(high)}


def _number(value: float) -> JsonValue:
    if math.isinf(value):
        return None
    return int(value) if value == int(value) else round(value, 6)


def _reason(value: Value) -> str | None:
    return value.reason if isinstance(value, Missing | Range | Ages) else None
