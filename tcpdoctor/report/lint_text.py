"""What lints say: `sysctl lint` for people, by file and line, and the remarks of any lint as SARIF 2.1.0.

Source: OASIS Static Analysis Results Interchange Format (SARIF) Version 2.1.0; for what GitHub reads of it,
docs.github.com "SARIF support for code scanning".
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from tcpdoctor import __version__
from tcpdoctor.diagnosis.finding import JsonValue, Severity
from tcpdoctor.kernel.text import clean
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import Block, Entries, Inset, Item, Prose, Section, Title
from tcpdoctor.report.style import Style

if TYPE_CHECKING:  # a lint of rules knows nothing of files of settings
    from tcpdoctor.answers.settings_files import LintFault, SettingsLint
    from tcpdoctor.diagnosis.sysctl_checks import Check

_SHOWN, _SHOWN_UNCHECKED = 100, 50
"""Remarks, and what was not looked at; more are not read by people."""


def settings_lint_page(answer: "SettingsLint", _style: Style) -> list[Block]:
    """Return every fault under its file, then what was looked at."""
    unchecked = [
        Item(f"{clean(each.what, 300)}: {each.reason}") for each in answer.unchecked[:_SHOWN_UNCHECKED]
    ]
    more = len(answer.unchecked) - len(unchecked)
    if more:
        unchecked.append(Item(f"and {more:,} more; --format json lists all"))
    return [
        *_by_file(answer.faults),
        *([Section("Not looked at", (Entries(tuple(unchecked), deeper=2),))] if unchecked else []),
        Section("", (Prose(_total(answer)),)),
    ]


def loud_lint_page(
    answer: "SettingsLint", _style: Style, *, fail_on: Severity | None = None
) -> list[Section]:
    """Return the faults at or above `fail_on`, nothing else; nothing where there are none."""
    return _by_file(
        [fault for fault in answer.faults if fail_on and Severity[fault.severity.upper()] >= fail_on]
    )


def _by_file(faults: "Sequence[LintFault]") -> list[Section]:
    """Of very many the worst, in the order of the files; and how many more there are."""
    shown = _worst(faults)
    sections = [
        Section("", (Title(clean(file, 300), whole=True), Inset(tuple(map(_fault, of_file)), 2)))
        for file, of_file in groupby(shown, lambda fault: fault.file)
    ]
    if len(shown) < len(faults):
        rest: Counter[str] = Counter(fault.severity for fault in faults)
        rest.subtract(fault.severity for fault in shown)
        counts = _counted(*(rest[severity.key] for severity in Severity))
        more = f"and {len(faults) - len(shown):,} more ({counts}); --format json lists all"
        sections.append(Section("", (Prose(more),)))
    return sections


def _worst(faults: "Sequence[LintFault]") -> "Sequence[LintFault]":
    """Those that are shown: the most severe, and of those the first of each check before any second."""
    if len(faults) <= _SHOWN:
        return faults
    seen: Counter[str] = Counter()
    order = []
    for place, fault in enumerate(faults):
        order.append((-Severity[fault.severity.upper()], seen[fault.check], place))
        seen[fault.check] += 1
    return [faults[place] for place in sorted(place for _, _, place in sorted(order)[:_SHOWN])]


def _fault(fault: "LintFault") -> Item:
    where = f"line {fault.line}" if fault.line is not None else ""
    do = Entries((Item(f"-> {fault.do}"),), deeper=3)
    return Item(fault.check, where, blocks=(Inset((Prose(fault.what), do), 2),), severity=fault.severity)


def _total(answer: "SettingsLint") -> str:
    counts = _counted(*answer.summary)
    if not answer.files and not answer.faults:
        return (
            "There is no file of settings: neither in sysctl.d of /etc, /run or /usr, nor /etc/sysctl.conf."
        )
    looked = plural(len(answer.files), "file")
    if not counts:
        return f"{looked}, nothing to correct."
    remarks = f"{len(answer.faults):,} {'remark' if len(answer.faults) == 1 else 'remarks'}"
    return f"{looked}, {remarks} ({counts})."


def _counted(info: int, warning: int, critical: int) -> str:
    counts = ((critical, "critical"), (warning, "warning"), (info, "info"))
    return ", ".join(f"{number:,} {word}" for number, word in counts if number)


def sysctl_lint_sarif(
    answer: "SettingsLint", checks: "Sequence[Check]", where: str | None = None
) -> dict[str, JsonValue]:
    """Return every fault as a result, with all checks as rules; `where` tells runs apart."""
    results = [
        SarifResult(
            fault.check,
            Severity[fault.severity.upper()],
            f"{fault.what} {fault.do}",
            fault.file,
            fault.line,
        )
        for fault in answer.faults
    ]
    return sarif(
        {check.name: SarifRule(*check) for check in checks},
        results,
        [f"Not looked at: {each.what}: {each.reason}" for each in answer.unchecked],
        where,
    )


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
