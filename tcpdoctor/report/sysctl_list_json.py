"""`sysctl show` as one JSON object, schema tcpdoctor.sysctls/1."""

from tcpdoctor.answers.settings import SettingsList, Shown, defaults, in_words, is_default, printed
from tcpdoctor.diagnosis.finding import JsonValue
from tcpdoctor.diagnosis.sysctl_look import Source
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import SysctlValue
from tcpdoctor.report.host import host_json, utc

SCHEMA = "tcpdoctor.sysctls/1"


def sysctl_list_json(found: SettingsList) -> dict[str, JsonValue]:
    """Return what the text says in named fields; unknown is null, with its reason in ``missing``."""
    who = found.who
    return {
        "schema": SCHEMA,
        "host": host_json(who.host, who.kernel, who.namespace, who.namespace_name),
        "taken_at": utc(found.taken_at),
        "only_changed": found.only_changed,
        "sysctls": [_row(row, found) for row in found.rows],
        "not_compared": list(found.not_compared),
        "unseen": list(found.unseen),
    }


def _row(row: Shown, found: SettingsList) -> JsonValue:
    page, known = row.page, defaults(row)
    return {
        "sysctl": page.name,
        "exists": row.exists,
        "value": None if isinstance(row.value, Missing) else _value(row.value),
        "printed": printed(row),
        "in_words": in_words(row, found.page_size),
        "missing": {"value": row.value.reason} if isinstance(row.value, Missing) else {},
        "default": known[0] if len(known) == 1 else None,
        "default_is": page.default_is,
        "is_default": is_default(row),
        "unit": page.unit,
        "scope": page.scope or None,
        "meaning": page.meaning,
        "since": page.since,
        "removed": page.removed,
        "instead": page.instead,
        "set_by": source_json(row.origin.by),
        "not_set_by": source_json(row.origin.later),
    }


def source_json(source: Source | None) -> JsonValue:
    """Return what set a value in named fields; null where nothing that can be seen did."""
    if source is None:
        return None
    return {
        "kind": source.kind,
        "file": source.file,
        "line": source.line,
        "value": source.value,
        "profile": source.profile,
    }


def _value(value: SysctlValue) -> JsonValue:
    if isinstance(value, tuple):
        return [list(part) if isinstance(part, tuple) else part for part in value]
    return value
