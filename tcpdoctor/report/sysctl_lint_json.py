"""`sysctl lint` as one JSON object, schema tcpdoctor.sysctl-lint/1."""

from collections.abc import Sequence

from tcpdoctor.diagnosis.finding import JsonValue, Severity
from tcpdoctor.diagnosis.sysctl_lint import Linted
from tcpdoctor.kernel.namespaces import Identity
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sysctl_files import SettingsFile
from tcpdoctor.kernel.text import clean
from tcpdoctor.report.host import host_json, utc

SCHEMA = "tcpdoctor.sysctl-lint/1"


def sysctl_lint_json(
    linted: Linted, files: Sequence[SettingsFile], who: Identity, taken_at: float, exit_code: int
) -> dict[str, JsonValue]:
    """Return what the text says in named fields, and what each check rests on."""
    return {
        "schema": SCHEMA,
        "host": host_json(who.host, who.kernel, who.namespace, who.namespace_name),
        "taken_at": utc(taken_at),
        "exit_code": exit_code,
        "summary": {
            severity.key: sum(fault.severity is severity for fault in linted.faults) for severity in Severity
        },
        "files": [
            {
                "path": clean(file.path, 4096),
                "read": not isinstance(file.content, Missing),
                "missing": file.content.reason if isinstance(file.content, Missing) else None,
                "mask": file.mask,
                "hides": [clean(path, 4096) for path in file.hides],
            }
            for file in files
        ],
        "faults": [
            {
                "check": fault.check,
                "severity": fault.severity.key,
                "file": clean(fault.file, 4096),
                "line": fault.line,
                "sysctl": None if fault.key is None else clean(fault.key, 4096),
                "what": fault.what,
                "do": fault.do,
                "sources": list(fault.sources),
            }
            for fault in linted.faults
        ],
        "unchecked": [{"what": clean(each.what, 4096), "reason": each.reason} for each in linted.unchecked],
    }
