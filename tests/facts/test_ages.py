"""How old a socket's state is, within what the kernel tells."""

import math

import pytest

from tcpdoctor.facts.connection import Earlier, age_of
from tcpdoctor.facts.socketset import SocketSet
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.states import TcpState, Timer
from tests.facts.samples import CONNECTION, INFO, details, once, snapshot, twice

CLOSE_WAIT = CONNECTION
FIN_WAIT_2 = CONNECTION._replace(state=TcpState.FIN_WAIT_2)
SYN_SENT = CONNECTION._replace(state=TcpState.SYN_SENT, timer=Timer.RETRANSMIT)
ALONE = Earlier(once(snapshot()))


def times(connection, **changes):
    return connection._replace(info=INFO._replace(**changes))


def test_close_wait_began_between_the_last_data_and_the_last_ack():
    age = age_of(times(CLOSE_WAIT, last_ack_recv=3.0, last_data_recv=5.0, last_data_sent=0.1), ALONE)
    assert (age.low, age.high) == pytest.approx((3.0, 5.0), abs=0.02)


def test_fin_wait_2_began_after_our_last_data_whatever_the_peer_still_sends():
    age = age_of(times(FIN_WAIT_2, last_ack_recv=0.01, last_data_recv=0.01, last_data_sent=600.0), ALONE)
    assert (age.low, age.high) == pytest.approx((0.01, 600.0), abs=0.02)


def test_bounds_that_cross_by_a_clock_tick_are_put_in_order():
    age = age_of(times(CLOSE_WAIT, last_ack_recv=3.004, last_data_recv=3.0), ALONE)
    assert age.low == 3.0
    assert age.high >= 3.004


def test_without_tcp_info_nothing_bounds_an_age():
    age = age_of(CLOSE_WAIT._replace(info=Missing("/proc/net/tcp does not tell")), ALONE)
    assert age == (0.0, math.inf, "/proc/net/tcp does not tell", 0.0, None, 0.0)


def test_time_wait_has_run_for_what_its_timer_has_used_of_a_minute():
    socket = CONNECTION._replace(
        state=TcpState.TIME_WAIT, timer=Timer.TIME_WAIT, expires=41.3, info=Missing("a minisocket")
    )
    age = age_of(socket, ALONE)
    assert (age.low, age.high) == pytest.approx((18.7, 18.7), abs=0.02)
    assert age_of(socket._replace(expires=60.4), ALONE).low == 0


def test_other_states_have_no_age():
    age = age_of(CONNECTION._replace(state=TcpState.LAST_ACK), ALONE)
    assert (age.low, age.high) == (0.0, math.inf)


@pytest.mark.parametrize(
    ("retransmits", "backoff", "rto", "expires", "low"),
    [
        (0, 0, 1.0, 0.4, 0.6),  # the first second
        (2, 0, 1.0, 0.5, 2.5),  # constant intervals, tcp_syn_linear_timeouts
        (5, 1, 2.0, 1.5, 5.5),  # four constant ones, then one doubling
        (3, 3, 8.0, 8.0, 7.0),  # 1 + 2 + 4, tcp_syn_linear_timeouts = 0
        (6, 6, 64.0, 63.0, 64.0),
    ],
)
def test_syn_sent_is_as_old_as_its_timeouts_together(retransmits, backoff, rto, expires, low):
    socket = times(SYN_SENT, rto=rto, backoff=backoff)._replace(retransmits=retransmits, expires=expires)
    age = age_of(socket, ALONE)
    assert age.low == pytest.approx(low)
    assert age.low <= age.high <= low * 1.25 + rto * 0.25 + 1.1


def test_a_doubling_cut_short_by_the_largest_timeout_widens_the_upper_bound():
    """With tcp_rto_max_ms = 4000: 1 + 2 + 4 + 4 + 4 = 15 s, of which 4/2^4 would make 3.75 s."""
    socket = times(SYN_SENT, rto=4.0, backoff=5)._replace(retransmits=5, expires=4.0)
    age = age_of(socket, ALONE)
    assert age.low <= 15.0 <= age.high


def test_syn_sent_without_its_timer_has_no_bound():
    age = age_of(SYN_SENT._replace(timer=Timer.NONE), ALONE)
    assert (age.low, age.high) == (0.0, math.inf)


def test_a_socket_seen_before_is_at_least_as_old_as_the_time_between():
    chatty = times(CLOSE_WAIT, last_ack_recv=0.1, last_data_recv=900.0)
    age = age_of(chatty, Earlier(twice(snapshot([chatty]), snapshot([chatty]), 120.0)))
    assert age.low == pytest.approx(120.1, abs=0.3)
    assert age.low <= 120.1
    assert age.high == pytest.approx(900.0, abs=0.1)


def test_the_first_look_counts_for_its_upper_bound_as_well():
    then = times(CLOSE_WAIT, last_ack_recv=1.0, last_data_recv=2.0)
    now = times(CLOSE_WAIT, last_ack_recv=0.1, last_data_recv=900.0)
    age = age_of(now, Earlier(twice(snapshot([then]), snapshot([now]), 10.0)))
    assert 10.7 <= age.low <= 11.0
    assert 12.0 <= age.high <= 13.1


def test_a_socket_that_was_not_there_before_is_younger():
    idle = times(CLOSE_WAIT, last_ack_recv=0.5, last_data_recv=900.0)
    age = age_of(idle, Earlier(twice(snapshot(), snapshot([idle]), 1.0)))
    assert (age.low, age.high) == (0.5, 2.0)


def test_a_first_sample_of_many_tells_nothing_of_the_others():
    idle = times(CLOSE_WAIT, last_ack_recv=0.5, last_data_recv=900.0)
    before = snapshot(detail=details([idle._replace(cookie=5)], CLOSE_WAIT=40000))
    age = age_of(idle, Earlier(twice(before, snapshot([idle]))))
    assert (age.low, age.high) == pytest.approx((0.5, 900.0), abs=0.02)


def test_a_socket_of_unknown_age_that_was_there_before_has_a_lower_bound():
    blind = CLOSE_WAIT._replace(info=Missing("/proc/net/tcp does not tell"), cookie=0)
    age = age_of(blind, Earlier(twice(snapshot([blind]), snapshot([blind]), 5.0)))
    assert 4.7 <= age.low <= 5.0
    assert age.high == math.inf


def test_a_short_time_between_makes_no_negative_age():
    blind = CLOSE_WAIT._replace(info=Missing("/proc/net/tcp does not tell"))
    assert age_of(blind, Earlier(twice(snapshot([blind]), snapshot([blind]), 0.1))).low == 0


@pytest.mark.parametrize("socket", [CLOSE_WAIT, FIN_WAIT_2])
def test_behind_keepalive_probes_an_age_is_as_long_as_no_data_went_either_way(socket):
    probed = times(socket, last_ack_recv=11.0, last_data_recv=100.0, last_data_sent=90.0)
    age = age_of(probed._replace(timer=Timer.KEEPALIVE), ALONE)
    assert (age.low, age.quiet) == (11.0, 90.0)
    assert age_of(probed, ALONE).quiet == 0


def test_a_connection_that_may_have_ended_just_now_is_not_quiet_yet():
    probed = times(CLOSE_WAIT, last_ack_recv=2.9, last_data_recv=100.0)._replace(timer=Timer.KEEPALIVE)
    assert age_of(probed, ALONE).quiet == 0
    assert age_of(probed, Earlier(twice(snapshot(), snapshot([probed]), 20.0))).quiet == 0


def test_a_probe_just_now_does_not_hide_an_end_of_file_that_was_read():
    probed = times(CLOSE_WAIT, last_ack_recv=0.1, last_data_recv=100.0, last_data_sent=90.0)
    probed = probed._replace(timer=Timer.KEEPALIVE, receive_queue=0)
    assert age_of(probed, ALONE).quiet == 0
    assert age_of(probed, Earlier(twice(snapshot([probed]), snapshot([probed]), 1.0))).quiet == 90
    unread = probed._replace(receive_queue=1)
    assert age_of(unread, Earlier(twice(snapshot([unread]), snapshot([unread]), 1.0))).quiet == 0


def kept_alive(socket, timer, *, since_ack=0.7, rtt=0.0002, quiet=100.0):
    """A socket whose peer was heard a moment ago, with so much left of its keepalive timer."""
    told = times(socket, last_ack_recv=since_ack, last_data_recv=quiet, last_data_sent=quiet, rtt=rtt)
    return told._replace(timer=Timer.KEEPALIVE, expires=timer, receive_queue=1)


def quiet_of(*sockets):
    return SocketSet(sockets).ages(ALONE).quiet


@pytest.mark.parametrize("socket", [CLOSE_WAIT, FIN_WAIT_2])
@pytest.mark.parametrize(
    ("timer", "rtt"),
    [(14.3, 0.0002), (14.296, 0.0002), (14.304, 0.0002), (5.3, 0.0002), (14.2, 0.1), (14.25, 0.1)],
)
def test_a_timer_that_was_set_to_whole_seconds_with_the_last_ack_shows_a_probe(socket, timer, rtt):
    assert quiet_of(*[kept_alive(socket, timer, rtt=rtt)] * 7) == (100.0,) * 7


@pytest.mark.parametrize("timer", [14.25, 14.35, 13.8, 0.1, 0.35, 0.45])
def test_a_fin_comes_at_any_moment_of_the_keepalive_timer(timer):
    assert quiet_of(kept_alive(CLOSE_WAIT, timer, since_ack=0.69)) == ()


def test_where_probes_follow_each_other_closely_one_came_after_a_fin_as_well():
    assert quiet_of(kept_alive(CLOSE_WAIT, 4.3), kept_alive(CLOSE_WAIT, 0.3)) == ()


def test_where_probes_follow_each_other_closely_nobody_can_tell_and_nobody_is_called_young():
    close_by = [kept_alive(CLOSE_WAIT, timer) for timer in (0.3, 1.3, 4.3)]
    found = SocketSet((*close_by, kept_alive(CLOSE_WAIT, 0.45))).ages(ALONE)
    assert found.quiet == ()
    assert [age for age in found.hidden if age == 100.0] == [100.0] * 3
    assert SocketSet((kept_alive(CLOSE_WAIT, 14.3), kept_alive(CLOSE_WAIT, 0.45))).ages(ALONE).hidden == ()


def test_a_timer_that_no_probe_can_have_set_yet_shows_none():
    assert quiet_of(kept_alive(CLOSE_WAIT, 7139.3)) == ()
    assert quiet_of(kept_alive(CLOSE_WAIT, 99.3)) == (100.0,)
    assert quiet_of(kept_alive(CLOSE_WAIT, 100.3)) == ()


def test_connections_that_ended_at_once_show_probes_by_chance_only():
    ended = [kept_alive(CLOSE_WAIT, 10 + number / 97) for number in range(97)]
    assert quiet_of(*ended) == ()
    probed = [kept_alive(CLOSE_WAIT, 14.3, since_ack=0.7) for _ in range(25 * 97)]
    assert len([age for age in quiet_of(*ended, *probed) if age == 100.0]) >= len(probed)
    assert quiet_of(*ended, *probed[:97]) == ()


def test_other_states_and_sockets_without_tcp_info_are_never_quiet():
    alive = CONNECTION._replace(timer=Timer.KEEPALIVE)
    assert age_of(alive._replace(state=TcpState.LAST_ACK), ALONE).quiet == 0
    blind = alive._replace(info=Missing("/proc/net/tcp does not tell"))
    assert age_of(blind, Earlier(twice(snapshot([blind]), snapshot([blind]), 50.0))).quiet == 0


def test_a_socket_is_at_least_as_old_as_an_earlier_run_first_saw_it():
    probed = times(CLOSE_WAIT, last_ack_recv=0.1, last_data_recv=900.0)
    before = snapshot([probed], first_seen={probed.cookie: 880.0})
    age = age_of(probed, Earlier(twice(before, snapshot([probed]), 5.0)))
    assert (age.low, age.high) == pytest.approx((124.75, 900.01))
    unseen = age_of(probed._replace(cookie=77), Earlier(twice(before, snapshot([probed]), 5.0)))
    assert unseen.low < 5


def test_a_socket_that_was_seen_for_longer_than_anything_bounds_is_that_old():
    blind = CLOSE_WAIT._replace(info=INFO._replace(last_ack_recv=0.1, last_data_recv=0.2))
    before = snapshot([blind], first_seen={blind.cookie: 880.0})
    age = age_of(blind, Earlier(twice(before, snapshot([blind]), 5.0)))
    assert age.low == age.high == pytest.approx(124.75)
