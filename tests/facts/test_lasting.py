"""Sockets in a passing state are stuck only with proof."""

import pytest

from tcpdoctor.facts.value import Range
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import NotHeld
from tcpdoctor.kernel.states import TcpState, Timer
from tests.facts.samples import CONNECTION, INFO, details, facts, once, several, snapshot, twice

FIN_WAIT_1 = CONNECTION._replace(
    state=TcpState.FIN_WAIT_1, inode=0, owner=NotHeld(), timer=Timer.RETRANSMIT, send_queue=1001
)
KEYS = {
    TcpState.FIN_WAIT_1: "fin_wait_1.lasting",
    TcpState.LAST_ACK: "last_ack.lasting",
    TcpState.CLOSING: "closing.lasting",
}


@pytest.mark.parametrize("state", list(KEYS))
def test_a_socket_seen_twice_without_progress_is_stuck(state):
    rows = several(7, FIN_WAIT_1._replace(state=state))
    assert facts(twice(snapshot(rows), snapshot(rows)))[KEYS[state]] == 7


def test_peers_and_send_queue_are_those_of_the_stuck():
    rows = several(7, FIN_WAIT_1)
    fresh = several(3, FIN_WAIT_1._replace(remote=FIN_WAIT_1.remote._replace(address="10.9.9.9")), first=50)
    found = facts(twice(snapshot(rows), snapshot([*rows, *fresh])))
    assert found["fin_wait_1.lasting"] == 7
    assert found["fin_wait_1.lasting_peers"] == "10.0.0.7 (7)"
    assert found["fin_wait_1.lasting_send_queue"] == 7000


def test_a_socket_that_was_not_there_before_is_not_stuck():
    samples = twice(snapshot(), snapshot(several(500, FIN_WAIT_1)))
    assert facts(samples)["fin_wait_1.lasting"] == 0
    assert facts(samples)["fin_wait_1.lasting_peers"] == "none"
    assert facts(samples)["fin_wait_1.lasting_send_queue"] == 0


def test_a_socket_that_still_drains_is_not_stuck():
    before = several(7, FIN_WAIT_1._replace(send_queue=900001))
    assert facts(twice(snapshot(before), snapshot(several(7, FIN_WAIT_1))))["fin_wait_1.lasting"] == 0


def test_another_socket_between_the_same_ends_is_not_the_same():
    before = [FIN_WAIT_1._replace(cookie=5)]
    assert facts(twice(snapshot(before), snapshot([FIN_WAIT_1])))["fin_wait_1.lasting"] == 0


def test_without_cookies_the_ends_tell_the_same_socket():
    rows = [row._replace(cookie=0) for row in several(7, FIN_WAIT_1)]
    assert facts(twice(snapshot(rows), snapshot(rows)))["fin_wait_1.lasting"] == 7


def test_the_same_socket_in_another_state_before_is_not_stuck():
    before = [FIN_WAIT_1._replace(state=TcpState.CLOSING)]
    assert facts(twice(snapshot(before), snapshot([FIN_WAIT_1])))["fin_wait_1.lasting"] == 0


def test_a_single_look_leaves_it_open():
    value = facts(once(snapshot(several(7, FIN_WAIT_1))))
    assert value["fin_wait_1.lasting"] == Range(0, 7, "needs two samples")
    assert value["fin_wait_1.lasting_send_queue"] == Range(0, 7000, "needs two samples")
    assert value["fin_wait_1.lasting_peers"] == Missing("needs two samples")


def test_a_single_look_at_none_is_an_answer():
    assert facts(once(snapshot()))["last_ack.lasting"] == 0
    assert facts(once(snapshot()))["last_ack.lasting_peers"] == "none"


def test_looks_too_close_together_leave_it_open():
    rows = several(7, FIN_WAIT_1)
    value = facts(twice(snapshot(rows), snapshot(rows), 0.3))["fin_wait_1.lasting"]
    assert value == Range(0, 7, "needs two samples that are a second apart")


def test_three_retransmissions_are_proof_by_themselves():
    rows = [
        *several(5, FIN_WAIT_1._replace(retransmits=3)),
        *several(2, FIN_WAIT_1._replace(retransmits=2), 10),
    ]
    assert facts(once(snapshot(rows)))["fin_wait_1.lasting"] == Range(5, 7, "needs two samples")


PROBED = FIN_WAIT_1._replace(
    timer=Timer.PROBE, expires=1.2, info=INFO._replace(rto=0.2, backoff=3, last_data_sent=4.0)
)


def test_a_peer_that_answers_and_does_not_read_is_told_apart():
    rows = several(5, PROBED)
    value = facts(twice(snapshot(rows), snapshot(rows)))
    assert value["fin_wait_1.lasting"] == 0
    ages = value["fin_wait_1.closed_window_ages"]
    assert ages.at_least == pytest.approx((1.8,) * 5)
    assert ages.at_most == pytest.approx((4.01,) * 5)
    assert value["fin_wait_1.closed_window_send_queue"] == 5 * (PROBED.send_queue - 1)
    assert value["fin_wait_1.closed_window_peers"].endswith("(5)")


def test_probes_without_an_answer_are_silence():
    silent = several(5, PROBED._replace(retransmits=3))
    value = facts(once(snapshot(silent)))
    assert value["fin_wait_1.lasting"] == 5
    assert value["fin_wait_1.closed_window_ages"].at_most == ()


def test_without_tcp_info_a_closed_window_has_no_known_age():
    value = facts(once(snapshot([PROBED._replace(info=Missing("no tcp_info here"))])))
    assert value["fin_wait_1.lasting"] == 0
    assert value["fin_wait_1.closed_window_ages"].at_least == (0.0,)


def test_a_sample_of_many_leaves_the_rest_open():
    rows = several(7, FIN_WAIT_1)
    samples = twice(snapshot(rows), snapshot(detail=details(rows, FIN_WAIT_1=107)))
    reason = "only 7 of 107 sockets in FIN_WAIT_1 were looked at"
    assert facts(samples)["fin_wait_1.lasting"] == Range(7, 107, reason)
    assert facts(samples)["fin_wait_1.lasting_send_queue"] == Range(7000, float("inf"), reason)


def test_a_first_sample_of_many_proves_no_absence():
    before = snapshot(detail=details(several(7, FIN_WAIT_1), FIN_WAIT_1=107))
    samples = twice(before, snapshot(several(9, FIN_WAIT_1)))
    reason = "only 7 of 107 sockets in FIN_WAIT_1 were looked at"
    assert facts(samples)["fin_wait_1.lasting"] == Range(7, 9, reason)


def test_a_first_look_that_could_not_read_sockets_gives_its_reason():
    lost = Missing("sock_diag is not there")
    samples = twice(snapshot(detail=lost), snapshot([FIN_WAIT_1]))
    assert facts(samples)["fin_wait_1.lasting"] == Range(0, 1, lost.reason)
    samples = twice(snapshot(detail={}), snapshot([FIN_WAIT_1]))
    assert facts(samples)["fin_wait_1.lasting"] == Range(
        0, 1, "sockets in FIN_WAIT_1 were not read one by one"
    )
