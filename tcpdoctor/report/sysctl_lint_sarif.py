"""`sysctl lint` as SARIF."""

from collections.abc import Mapping

from tcpdoctor.diagnosis.finding import JsonValue
from tcpdoctor.diagnosis.sysctl_checks import CHECKS, Check
from tcpdoctor.diagnosis.sysctl_lint import Linted
from tcpdoctor.report.sarif import SarifResult, SarifRule, sarif


def sysctl_lint_sarif(linted: Linted, rules: Mapping[str, Check]) -> dict[str, JsonValue]:
    """Return every fault as a result, with all checks as rules."""
    return sarif(
        {check.name: SarifRule(*check) for check in (*CHECKS.values(), *rules.values())},
        [
            SarifResult(fault.check, fault.severity, f"{fault.what} {fault.do}", fault.file, fault.line)
            for fault in linted.faults
        ],
        [f"Not looked at: {each.what}: {each.reason}" for each in linted.unchecked],
    )
