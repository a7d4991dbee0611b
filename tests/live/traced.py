"""Connections that end in this namespace while they are traced."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tcpdoctor.answers.ended import EndedConnection, TraceSummary
from tcpdoctor.answers.trace import Trace, TraceQuestion
from tcpdoctor.lab.namespace import in_private_namespace

LONGEST = 60.0
"""Seconds that a busy machine may take."""


class NoEventsError(Exception):
    """This machine does not let us see events."""


def sees_events() -> bool:
    """Whether tracepoints may be opened here."""
    with Trace(TraceQuestion()) as trace:
        return trace.sees_events


needs_events = pytest.mark.skipif(
    not in_private_namespace(sees_events), reason="perf_event_open(2) is not allowed here: no CAP_PERFMON"
)


def endings_of(
    work: Callable[[], object], number: int, question: TraceQuestion | None = None
) -> tuple[list[EndedConnection], TraceSummary]:
    """What a trace tells while `work` is done, until so many connections have ended."""
    with Trace(question or TraceQuestion()) as trace:
        work()
        until = time.monotonic() + LONGEST
        *ended, summary = trace.follow(lambda: trace.connections >= number or time.monotonic() > until)
    assert isinstance(summary, TraceSummary)
    return [each for each in ended if isinstance(each, EndedConnection)], summary


@contextmanager
def comm(name: bytes) -> Iterator[None]:
    """Call this thread so for a while."""
    with open("/proc/thread-self/comm", "r+b", buffering=0) as file:
        before = file.read().rstrip(b"\n")
        file.write(name)
        try:
            yield
        finally:
            file.write(before)
