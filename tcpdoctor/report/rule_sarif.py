"""`rules lint` as SARIF."""

from collections.abc import Sequence

from tcpdoctor.diagnosis.finding import JsonValue, Severity
from tcpdoctor.diagnosis.lint import Complaint
from tcpdoctor.report.sarif import SarifResult, SarifRule, sarif


def rule_sarif(complaints: Sequence[Complaint]) -> dict[str, JsonValue]:
    """Return every complaint as a result; the checks that complained are its rules."""
    names = sorted({complaint.name for complaint in complaints})
    return sarif(
        {name: SarifRule(name, Severity.WARNING, name.replace("-", " ").capitalize()) for name in names},
        [
            SarifResult(complaint.name, Severity.WARNING, complaint.what, complaint.source, None)
            for complaint in complaints
        ],
    )
