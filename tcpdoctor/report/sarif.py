"""Remarks on files as SARIF 2.1.0, which code hosts and editors read.

Source: OASIS Static Analysis Results Interchange Format (SARIF) Version 2.1.0; for what GitHub reads of it,
docs.github.com "SARIF support for code scanning".
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

from tcpdoctor import __version__
from tcpdoctor.diagnosis.finding import JsonValue, Severity

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

_LEVELS = {Severity.INFO: "note", Severity.WARNING: "warning", Severity.CRITICAL: "error"}


class SarifRule(NamedTuple):
    """One check."""

    name: str
    severity: Severity
    title: str
    sources: tuple[str, ...] = ()


class SarifResult(NamedTuple):
    """One remark."""

    rule: str
    severity: Severity
    text: str
    file: str
    line: int | None
    """None where the file as a whole is meant."""


def sarif(
    rules: Mapping[str, SarifRule],
    results: Iterable[SarifResult],
    unread: Iterable[str] = (),
    where: str | None = None,
) -> dict[str, JsonValue]:
    """Return one run of this program.

    Args:
        rules: Every check by name.
        results: Every remark; each names a check of `rules`.
        unread: What could not be looked at, in sentences.
        where: What tells this run from others of the same document.
    """
    order = {name: number for number, name in enumerate(rules)}
    about: dict[str, JsonValue] = {} if where is None else {"automationDetails": {"id": f"{where}/"}}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                **about,
                "tool": {
                    "driver": {
                        "name": "tcpdoctor",
                        "semanticVersion": __version__,
                        "rules": [_rule(rule) for rule in rules.values()],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "invocations": [
                    {
                        "executionSuccessful": True,
                        "toolExecutionNotifications": [
                            {"level": "note", "message": {"text": text}} for text in unread
                        ],
                    }
                ],
                "results": [_result(result, order[result.rule]) for result in results],
            }
        ],
    }


def joined_sarif(documents: Sequence[dict[str, JsonValue]]) -> dict[str, JsonValue]:
    """Return one document with the runs of all."""
    runs = [run for document in documents if isinstance(document["runs"], list) for run in document["runs"]]
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": runs}


def _rule(rule: SarifRule) -> JsonValue:
    found: dict[str, JsonValue] = {
        "id": rule.name,
        "shortDescription": {"text": f"{rule.title}."},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }
    if rule.sources:
        found["help"] = {"text": f"Sources: {'; '.join(rule.sources)}."}
    return found


def _result(result: SarifResult, place: int) -> JsonValue:
    where: dict[str, JsonValue] = {"artifactLocation": {"uri": _uri(result.file)}}
    if result.line is not None:
        where["region"] = {"startLine": result.line}
    return {
        "ruleId": result.rule,
        "ruleIndex": place,
        "level": _LEVELS[result.severity],
        "message": {"text": result.text},
        "locations": [{"physicalLocation": where}],
    }


def _uri(path: str) -> str:
    """Return a path as a URI: absolute with ``file://``, else relative."""
    escaped = quote(path.encode("utf-8", "surrogateescape"), safe="/")
    return f"file://{escaped}" if path.startswith("/") else escaped
