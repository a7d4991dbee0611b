"""Connections that end in this namespace while they are traced."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tcpdoctor.answers.ended import EndedConnection, TraceSummary
from tcpdoctor.answers.trace import Trace, TraceQuestion
from tcpdoctor.lab.namespace import ChildFailedError, NamespaceRefusedError, in_private_namespace

LONGEST = 60.0
"""Seconds that a busy machine may take."""


def sees_events() -> bool:
    """Whether tracepoints may be opened here."""
    with Trace(TraceQuestion()) as trace:
        return trace.sees_events


def why_not() -> str:
    """Why events cannot be seen here; empty where they can."""
    try:
        return "" if in_private_namespace(sees_events) else "perf_event_open(2) is not allowed here"
    except (NamespaceRefusedError, ChildFailedError) as error:
        return str(error)


REFUSED = why_not()
needs_events = pytest.mark.skipif(bool(REFUSED), reason=REFUSED)


def endings_of(
    work: Callable[[], object],
    number: int,
    question: TraceQuestion | None = None,
    told: Callable[[int], object] = int,
) -> tuple[list[EndedConnection], TraceSummary]:
    """What a trace tells while `work` is done, until `number` connections ended; `told` hears how many."""
    with Trace(question or TraceQuestion()) as trace:
        work()
        until = time.monotonic() + LONGEST

        def is_enough() -> bool:
            told(trace.connections)
            return trace.connections >= number or time.monotonic() > until

        *ended, summary = trace.follow(is_enough)
    assert isinstance(summary, TraceSummary)
    return [each for each in ended if isinstance(each, EndedConnection)], summary


def delivered_endings_of(
    work: Callable[[], object], number: int, question: TraceQuestion | None = None
) -> tuple[list[EndedConnection], TraceSummary]:
    """The same of work that can be done again, where the kernel delivered every event of it.

    perf drops what interrupts do on a task that it believes to be inside an event, for ever where a task was
    left so, as the idle task of one processor: each try is on another one, where its timers then run.
    """
    allowed = sorted(os.sched_getaffinity(0))
    try:
        for number_of_try in range(8):
            os.sched_setaffinity(0, {allowed[number_of_try % len(allowed)]})
            ended, summary = endings_of(work, number, question)
            if "undelivered" not in summary.missing:
                break
    finally:
        os.sched_setaffinity(0, allowed)
    return ended, summary


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
