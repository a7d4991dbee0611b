"""What every test may use."""

import functools
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tcpdoctor.lab.namespace import NamespaceRefusedError, in_private_namespace


def _is_allowed() -> str | None:
    try:
        in_private_namespace(int)
    except NamespaceRefusedError as error:
        return str(error)
    return None


@functools.cache
def _refusal() -> str | None:
    return _is_allowed()


@pytest.fixture
def in_namespace() -> Callable[..., Any]:
    """Run a function in a private network namespace, or skip the test with the reason."""
    reason = _refusal()
    if reason is not None:
        pytest.skip(reason)
    return in_private_namespace


def pytest_configure() -> None:
    """A shell ignores SIGINT for what it starts in the background; our commands must not inherit it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI every test with a live kernel or a real peer has to run: one that skips itself fails the run."""
    if not os.environ.get("CI") or hasattr(session.config, "workerinput"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = [
        report.nodeid
        for report in reporter.stats.get("skipped", ())
        if report.nodeid.startswith(("tests/live/", "tests/peers/"))
    ]
    if skipped:
        reporter.write_line(f"live tests or tests with peers were skipped: {', '.join(skipped)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
