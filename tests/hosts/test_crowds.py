"""A host where very many are sick: each format tells the worst and counts the rest, and none is megabytes."""

import pytest

from tcpdoctor.answers.check import Check, measures_of
from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.evaluate import diagnose
from tcpdoctor.kernel.snapshot import Destination, DestinationUse, Endpoint
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.report.check_formats import render
from tcpdoctor.report.style import PLAIN
from tests.facts.samples import (
    CONNECTION,
    LISTENER,
    NGINX,
    SYSCTLS,
    census,
    details,
    held_by,
    once,
    several,
    snapshot,
)

PROCESSES, SOCKETS = 151, 113
LISTENERS = 5_003
DESTINATIONS = 2_003
"""A census knows 4,096 at most; it counts the others of 200,000 together."""


@pytest.fixture(scope="module")
def crowded():
    """Processes that leak and wait, full listeners, and destinations to which no port is left."""
    rows = []
    for first, state in ((1000, TcpState.CLOSE_WAIT), (5000, TcpState.FIN_WAIT_2)):
        for number in range(PROCESSES):
            like = CONNECTION._replace(state=state, owner=held_by(first + number, 10))
            rows += several(SOCKETS, like, 1 + len(rows))
    full = tuple(
        LISTENER._replace(local=Endpoint("10.0.0.1", 1024 + n), cookie=n + 1, inode=n + 1, accept_queue=129)
        for n in range(LISTENERS)
    )
    used = {
        Destination("10.0.0.9", f"10.1.{n // 256}.{n % 256}", 5432): DestinationUse(99, 0)
        for n in range(DESTINATIONS)
    }
    pids = [first + number for first in (1000, 5000) for number in range(PROCESSES)]
    processes = {pid: NGINX._replace(pid=pid) for pid in pids}
    after = snapshot(
        detail=details(rows),
        listeners=full,
        census=census(by_state={TcpState.CLOSE_WAIT: len(rows) // 2}, by_destination=used, unlisted=99),
        sysctls={**SYSCTLS, "net.ipv4.ip_local_port_range": (40_000, 40_099)},
        processes={**processes, 811: NGINX},
    )
    library = load_rules()
    samples = once(after)
    return Check(diagnose(library.rules, samples), samples, window=0.0, rules=library.rules, version="1")


def test_the_worst_of_each_rule_are_told_and_the_rest_is_counted(crowded):
    told = {finding.rule for finding in crowded.diagnosis.findings}
    untold = {each.rule: each.number for each in crowded.diagnosis.untold}
    for rule, number in (
        ("close-wait-leak", PROCESSES),
        ("accept-queue-full", LISTENERS),
        ("ephemeral-ports-nearly-exhausted", DESTINATIONS),
    ):
        assert rule in told
        assert untold[rule] + sum(one.rule == rule for one in crowded.diagnosis.findings) == number
    assert len(crowded.diagnosis.findings) <= 200


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        ("text", 3_000),
        ("nagios", 40_000),
        ("prometheus", 100_000),
        ("junit", 200_000),
        ("markdown", 200_000),
        ("html", 400_000),
        ("json", 1_000_000),
        ("jsonl", 1_000_000),
    ],
)
def test_no_format_is_megabytes(crowded, kind, most):
    assert len(render(crowded, kind, PLAIN, form="short")) < most


def test_each_rule_is_measured_once_however_many_are_sick(crowded):
    rules = [measure.rule for measure in measures_of(crowded)]
    assert len(rules) == len(set(rules))
