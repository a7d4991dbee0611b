"""The deadlines that no sysctl shortens: TIME_WAIT, and what lasts about as long."""

import functools

import pytest

from tcpdoctor.facts.deadlines import fin_wait_2_orphan_life, orphan_retry_life, time_wait_life
from tests.live import lifetimes
from tests.live.lifetimes import Case, measure
from tests.live.test_deadlines import TICK, fin_wait_2, orphan, wrong

CASES = [
    *[
        Case(
            f"TIME_WAIT with tcp_fin_timeout={seconds}",
            lifetimes.time_wait,
            lambda _: time_wait_life(TICK),
            {"tcp_fin_timeout": seconds},
        )
        for seconds in (3, 60, 120)
    ],
    fin_wait_2(30),
    fin_wait_2(60),
    fin_wait_2(75),
    fin_wait_2(90),
    orphan(7),
    Case(
        "TCP_LINGER2 above its maximum of 120",
        functools.partial(lifetimes.orphan_fin_wait_2, 1000),
        lambda rto: fin_wait_2_orphan_life(3, 1000, rto, TICK),
        {"tcp_fin_timeout": 3},
    ),
]
PATIENCE_SECONDS = 66


@pytest.mark.slow
def test_time_wait_is_a_constant_and_the_long_ones_are_as_computed(in_namespace):
    """TCP_LINGER2 of 120 would take 2 x 60 s: it only has to outlive the others."""
    cases, linger = CASES[:-1], CASES[-1]
    found = in_namespace(measure, CASES, PATIENCE_SECONDS)
    assert wrong(cases, found[:-1]) == {}
    assert found[-1].seconds == float("inf")
    assert linger.expected(0.2).low == 120


def test_the_default_of_eight_retries_lasts_over_a_hundred_seconds():
    life = orphan_retry_life(0, tick=TICK)
    assert life == orphan_retry_life(8, tick=TICK)
    assert 100 < life.low < life.high < 116
