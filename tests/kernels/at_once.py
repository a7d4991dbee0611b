"""A plugin of pytest: why a test failed is told at once, for its machine may end before the summary."""

import sys
from textwrap import indent

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Print what a failure looks like, on lines that are not taken for a test's end."""
    if report.failed:
        sys.stdout.write(f"\nwhy: {report.nodeid}, {report.when}\n{indent(report.longreprtext, '    ')}\n")
