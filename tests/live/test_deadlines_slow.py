"""The deadlines that no sysctl shortens: TIME_WAIT, and what lasts about as long."""

import pytest

from tcpdoctor.facts.deadlines import orphan_retry_life, time_wait_life
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
]
PATIENCE_SECONDS = 66


@pytest.mark.slow
def test_time_wait_is_a_constant_and_the_long_ones_are_as_computed(in_namespace):
    assert wrong(CASES, in_namespace(measure, CASES, PATIENCE_SECONDS)) == {}


def test_the_default_of_eight_retries_lasts_over_a_hundred_seconds():
    life = orphan_retry_life(0, tick=TICK)
    assert life == orphan_retry_life(8, tick=TICK)
    assert 100 < life.low < life.high < 116
