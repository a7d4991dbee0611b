"""`check` as JUnit XML: one test case per rule, for CI systems that keep such reports.

A finding that changes the exit code is a failure; any other, and what the rule found, is the test case's
output. A rule that could not be answered is skipped, with the reason.
"""

import re
from collections.abc import Iterable, Sequence

from tcpdoctor.answers.check import Check, Checks, untold_by_rule
from tcpdoctor.answers.record import utc
from tcpdoctor.diagnosis.finding import Finding, Severity
from tcpdoctor.diagnosis.rule import Rule
from tcpdoctor.named_tuples import NamedTuple
from tcpdoctor.report.check_text import finding_texts
from tcpdoctor.report.style import PLAIN

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped."""
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"})
_SPACES = str.maketrans({"\t": "&#9;", "\n": "&#10;", "\r": "&#13;"})


class _Suite(NamedTuple):
    """One test suite."""

    xml: str
    tests: int
    failures: int
    errors: int
    skipped: int


def check_junit(check: Check) -> str:
    """Return the document, in ASCII. Counts, times and names are where the common readers look for them."""
    return _document([_suite(check, "tcpdoctor check")])


def checks_junit(checks: Checks) -> str:
    """Return a suite for each network namespace; one that could not be looked at has an error."""
    suites = [
        _suite(each, f"tcpdoctor check, {each.place.label if each.place else ''}") for each in checks.checks
    ]
    return _document(
        suites + [_failed_suite(f"tcpdoctor check, {one.place.label}", one.reason) for one in checks.unseen]
    )


def _document(suites: Sequence[_Suite]) -> str:
    totals = [sum(numbers) for numbers in zip(*(suite[1:] for suite in suites), strict=True)]
    xml = "".join(suite.xml for suite in suites)
    document = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites {_numbers(totals)}>\n{xml}</testsuites>\n'
    )
    return document.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _numbers(counts: Sequence[int]) -> str:
    names = ("tests", "failures", "errors", "skipped")
    return " ".join(f'{name}="{number}"' for name, number in zip(names, counts, strict=True))


def _suite(check: Check, called: str) -> _Suite:
    cases = [_case(rule, check) for rule in check.rules]
    failures = sum("<failure" in case for case in cases)
    skipped = sum("<skipped" in case for case in cases)
    counts = (len(cases), failures, 0, skipped)
    snapshot = check.samples.after
    suite = _attributes(
        name=called,
        timestamp=utc(snapshot.taken_at).removesuffix("Z"),
        hostname=snapshot.host,
        time=f"{check.duration or 0:.3f}",
    )
    about = {
        "kernel": snapshot.kernel,
        "namespace": str(snapshot.namespace),
        "tcpdoctor": check.version,
    }
    properties = "".join(f"  <property{_attributes(name=k, value=v)}/>\n" for k, v in about.items())
    xml = (
        f"<testsuite{suite} {_numbers(counts)}>\n"
        f" <properties>\n{properties} </properties>\n{''.join(cases)}</testsuite>\n"
    )
    return _Suite(xml, *counts)


def _failed_suite(called: str, reason: str) -> _Suite:
    counts = (1, 0, 1, 0)
    case = f" <testcase{_attributes(classname='tcpdoctor', name='check')}>\n"
    error = f"  <error{_attributes(message=reason)}/>\n </testcase>\n"
    return _Suite(
        f"<testsuite{_attributes(name=called)} {_numbers(counts)}>\n{case}{error}</testsuite>\n", *counts
    )


def _case(rule: Rule, check: Check) -> str:
    found = [finding for finding in check.diagnosis.findings if finding.rule == rule.id]
    reason = next((item.reason for item in check.diagnosis.unchecked if item.rule == rule.id), None)
    body = ""
    if any(_fails(finding, check) for finding in found):
        worst = max(finding.severity for finding in found)
        message = "; ".join(f"{finding.label}: {finding.summary}" for finding in found[:3])
        rest = max(0, len(found) - 3) + untold_by_rule(check.diagnosis).get(rule.id, 0)
        more = f"; and {rest} more" if rest else ""
        body = f"  <failure{_attributes(message=message + more, type=worst.key)}>{_told(found)}</failure>\n"
    elif not found and reason is not None:
        body = f"  <skipped{_attributes(message=reason)}/>\n"
    elif found:
        body = f"  <system-out>{_told(found)}</system-out>\n"
    if found and reason is not None:
        body += f"  <system-err>{text_node(f'not answered for all: {reason}')}</system-err>\n"
    name = _attributes(classname=f"tcpdoctor.{rule.family}", name=rule.id, time="0")
    return f" <testcase{name}>\n{body} </testcase>\n"


def _fails(finding: Finding, check: Check) -> bool:
    return check.fail_on is not None and finding.severity >= max(check.fail_on, Severity.WARNING)


def _told(findings: Iterable[Finding]) -> str:
    return text_node("\n\n".join(finding_texts(findings, PLAIN)))


def text_node(text: str) -> str:
    """Return text for between two tags."""
    return _legal(text).translate(_ENTITIES)


def _attributes(**values: str) -> str:
    return "".join(
        f' {name}="{_legal(value).translate(_ENTITIES).translate(_SPACES)}"' for name, value in values.items()
    )


def _legal(text: str) -> str:
    return _FORBIDDEN.sub(lambda match: ascii(match[0])[1:-1], text)
