"""The kernel's arithmetic, against what was measured on Linux 6.18 with HZ=250."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpdoctor.facts.deadlines import (
    AT_ONCE,
    NEVER,
    Life,
    base_rto,
    effective_orphan_retries,
    fin_wait_2_orphan_life,
    keepalive_life,
    lan_rto,
    modelled_timeout,
    orphan_retry_life,
    orphan_time_left,
    owned_retry_life,
    show_life,
    syn_recv_life,
    syn_sent_life,
    time_wait_life,
    timer,
    zero_window_orphan_life,
)

POLLING = 0.1

TICKS = st.sampled_from([0.001, 1 / 300, 0.004, 0.01])
RTOS = st.floats(0.2, 5.0)


def around(life: Life, seconds: float) -> bool:
    return life.low <= seconds <= life.high + POLLING


@pytest.mark.parametrize(
    ("retries", "measured"), [(1, 1.72), (2, 3.34), (3, 6.78), (4, 6.71), (5, 13.55), (6, 26.6), (0, 106)]
)
def test_an_orphan_lives_as_long_as_was_measured(retries, measured):
    assert around(orphan_retry_life(retries, 0.204), measured)


@pytest.mark.parametrize(
    ("seconds", "measured"), [(3, 3.2), (61, 2.15), (65, 10.4), (90, 62.3), (120, 123.4)]
)
def test_an_orphan_in_fin_wait_2_lives_as_long_as_was_measured(seconds, measured):
    assert around(fin_wait_2_orphan_life(seconds), measured)


@pytest.mark.parametrize(
    ("retries", "linear", "measured"), [(1, 4, 3.2), (2, 4, 7.1), (2, 0, 7.4), (6, 4, 131.0), (6, 0, 127.0)]
)
def test_connect_gives_up_after_what_was_measured(retries, linear, measured):
    assert around(syn_sent_life(retries, linear), measured)


def test_the_default_of_owned_connections_is_the_documented_924_s_and_the_next_retransmission():
    assert modelled_timeout(15, 0.2, 120.0) == pytest.approx(924.6)
    life = owned_retry_life(15)
    assert 924.6 <= life.low < life.high < 960


def test_zero_orphan_retries_mean_eight():
    assert effective_orphan_retries(0) == 8
    assert orphan_retry_life(0) == orphan_retry_life(8)
    assert show_life(orphan_retry_life(0)) == "100 to 110 s"


def test_zero_orphan_retries_end_at_the_first_wait_of_the_maximum():
    """Once the wait has reached tcp_rto_max_ms the kernel takes 0 as it stands."""
    assert around(orphan_retry_life(0, 0.204, 2.0), 5.37)
    assert orphan_retry_life(8, 0.204, 2.0).low > 10


def test_above_sixty_tcp_fin_timeout_counts_twice_what_is_above():
    assert fin_wait_2_orphan_life(61).high < fin_wait_2_orphan_life(60).low
    assert fin_wait_2_orphan_life(89).low == 58
    assert fin_wait_2_orphan_life(91).low == 62


@pytest.mark.parametrize("seconds", [0, -1, -8589934])
def test_a_tcp_fin_timeout_of_nothing_is_three_and_a_half_retransmission_timeouts(seconds):
    assert fin_wait_2_orphan_life(seconds, rto=0.204).low == pytest.approx(0.714)
    assert fin_wait_2_orphan_life(seconds, rto=2.0).low == 7.0


def test_time_wait_is_sixty_seconds():
    assert time_wait_life().low == 60
    assert around(time_wait_life(), 61.7)


def test_keepalive_is_the_time_and_then_all_probes():
    assert keepalive_life(7200, 75, 9).low == 7875
    assert around(keepalive_life(2, 1, 3), 5.1)


def test_half_open_connections_are_forgotten_after_63_s_by_default():
    assert syn_recv_life(5).low == 63
    assert syn_recv_life(0).low == 1


def test_an_orphan_whose_peer_answers_with_a_shut_window_waits_for_the_longest_wait():
    assert around(zero_window_orphan_life(0, 15, 0.204, 2.0), 5.06)
    assert zero_window_orphan_life(0, 15).low == pytest.approx(0.204 * 1023 + 120)


def test_a_small_tcp_retries2_keeps_such_an_orphan_for_ever():
    assert zero_window_orphan_life(0, 3) == NEVER


def test_the_rto_of_a_lan_is_the_minimum_and_a_tick():
    assert lan_rto() == pytest.approx(0.204)
    assert lan_rto(tick=0.001) == pytest.approx(0.201)
    assert lan_rto(tick=0.01) == pytest.approx(0.21)
    assert lan_rto(0.05) == pytest.approx(0.052)


def test_doublings_are_taken_back_and_a_capped_rto_is_at_least_the_minimum():
    assert base_rto(1.632, 3) == pytest.approx(0.204)
    assert base_rto(120.0, 13) == 0.2


@pytest.mark.parametrize(("seconds", "grain"), [(0.1, 0.004), (0.5, 0.032), (3.0, 0.256), (60.0, 2.048)])
def test_a_timer_is_late_by_its_bucket_of_the_timer_wheel(seconds, grain):
    life = timer(seconds, 0.004)
    assert life.low == seconds
    assert life.high - life.low == pytest.approx(grain + 0.004)


@pytest.mark.parametrize(
    ("life", "text"),
    [
        (Life(104.244, 109.456), "100 to 110 s"),
        (Life(60.0, 60.0), "60 s"),
        (Life(1.428, 1.72), "1.4 to 1.8 s"),
        (Life(2.0, 2.036), "2 to 2.1 s"),
        (Life(928.7, 948.3), "15 to 16 min"),
        (Life(7875, 8025), "131 to 134 min"),
        (Life(0.0, 0.004), "0 to 0.1 s"),
        (Life(3.0, math.inf), "3 s or longer"),
        (NEVER, "never"),
        (AT_ONCE, "at once"),
    ],
)
def test_a_life_prints_as_people_read_it(life, text):
    assert str(life) == show_life(life) == text


@given(st.floats(0.001, 100_000), st.floats(0, 50))
def test_what_is_printed_holds(low, more):
    """The numbers that are printed enclose the range."""
    text = show_life(Life(low, low + more))
    words = text.split()
    unit = {"s": 1, "min": 60}[words[-1]]
    assert float(words[0]) * unit <= low + 1e-6
    assert float(words[-2]) * unit >= low + more - 1e-6


@given(st.integers(0, 255), RTOS, st.floats(1, 120), TICKS)
def test_a_life_never_ends_before_it_began(retries, rto, rto_max, tick):
    for life in (
        orphan_retry_life(retries, rto, rto_max, tick=tick),
        owned_retry_life(retries, rto, rto_max, tick=tick),
        syn_recv_life(retries, tick),
        zero_window_orphan_life(retries, 15, rto, rto_max, tick=tick),
    ):
        assert 0 < life.low <= life.high


@given(st.integers(1, 126), st.integers(0, 127), st.floats(1, 120))
def test_more_syn_retries_never_give_up_earlier(retries, linear, rto_max):
    fewer, more = (syn_sent_life(number, linear, rto_max) for number in (retries, retries + 1))
    assert fewer.low <= more.low
    assert fewer.high <= more.high


@given(st.integers(1, 30), RTOS, TICKS)
def test_more_retries_never_end_a_socket_earlier(retries, rto, tick):
    fewer, more = (orphan_retry_life(number, rto, tick=tick) for number in (retries, retries + 1))
    assert fewer.low <= more.low
    assert fewer.high <= more.high


@given(st.integers(1, 8), st.integers(1, 7), st.floats(0, 1), RTOS)
def test_what_is_left_shrinks_with_time_and_is_never_over_before_the_timer_fires(
    retries, backoff, part, base
):
    rto = base * 2**backoff
    left = orphan_time_left(retries, rto, backoff, part * rto)
    assert part * rto <= left.low <= left.high
    later = orphan_time_left(retries, rto, backoff, part * rto / 2)
    assert later.high <= left.high + 1e-9


def test_a_fresh_socket_has_its_whole_life_left():
    whole = orphan_retry_life(8, 0.204)
    left = orphan_time_left(8, 0.204, 0, 0.204)
    assert left.low == pytest.approx(whole.low)
    assert left.high == pytest.approx(whole.high, abs=0.1)
