"""Reports of hosts, as `check --format json` writes them, for tests of what is made of many."""

from typing import Any

from tcpdoctor.kernel.documents import Document

NOW = 1_795_004_800.0
"""2026-11-18T12:26:40Z."""
TAKEN = "2026-11-18T12:20:00Z"


def finding(rule: str = "close-wait-leak", severity: str = "warning", **changes: Any) -> dict[str, Any]:
    """One finding, with what a merged report takes from it."""
    return {
        "rule": rule,
        "severity": severity,
        "scope": "host",
        "subject": {"label": "nginx (811)"},
        "fingerprint": "0",
        "title": f"Title of {rule}",
        "summary": f"Summary of {rule}.",
        "explanation": "Because.\n\n    a command",
        "impact": "Much.",
        "evidence": [],
        "fixes": [
            {
                "kind": "sysctl",
                "title": "Set it",
                "do": "sysctl -w a=1",
                "risk": "none",
                "verify": "sysctl a",
                "undo": None,
                "sysctl": {"name": "a", "current": 0, "value": 1, "persist": "a = 1"},
            }
        ],
        "wrong_fixes": [{"title": "Pray", "why": "It does not help."}],
        "references": [],
        "normal_when": [],
    } | changes


def report(name: str = "web1", *findings: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The report of one host; its status is that of its worst finding."""
    severities = [one.get("severity") for one in findings]
    status = next((key for key in ("critical", "warning") if key in severities), "ok")
    return {
        "schema": "tcpdoctor.check/1",
        "host": {"name": name, "kernel": "6.1", "namespace": "4026531840", "namespace_name": None},
        "taken_at": TAKEN,
        "status": status,
        "exit_code": 0,
        "findings": list(findings),
        "unchecked": [],
    } | changes


def document(value: Any, name: str | None = "file", source: str = "") -> Document:
    """A report as it was read from a file."""
    return Document(source or f"{name}.json", name, value)
