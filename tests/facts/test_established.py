"""Facts of connections in ESTABLISHED, from literal looks."""

import math
from typing import Any

import pytest

from tcpdoctor.facts.connection import is_lost_by_size
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.value import Ages, Range
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import (
    Connection,
    Destination,
    DestinationUse,
    Detail,
    Endpoint,
    Established,
    NotHeld,
    TcpBytes,
)
from tcpdoctor.kernel.sock_diag_rows import NOT_LOOKED_UP
from tcpdoctor.kernel.states import TcpState, Timer
from tests.facts.samples import (
    CONNECTION,
    HIDDEN,
    INFO,
    LISTENER,
    census,
    details,
    facts,
    held_by,
    once,
    several,
    snapshot,
    subjects,
)

NONE = Detail((), 0)
HEALTHY = Established(11, 3, 5, 0, NONE, NONE, NONE, NONE, NONE)
LIVING = CONNECTION._replace(
    state=TcpState.ESTABLISHED,
    receive_queue=0,
    inode=100,
    owner=held_by(811, 7),
    local=Endpoint("10.0.0.1", 8080),
)
OUTGOING = LIVING._replace(local=Endpoint("10.0.0.1", 40000), remote=Endpoint("10.0.0.9", 5432))
UNANSWERED = LIVING._replace(
    timer=Timer.RETRANSMIT,
    retransmits=4,
    expires=1.0,
    send_queue=100,
    info=INFO._replace(rto=3.2, backoff=4, last_ack_recv=50.0),
)
CLOSED = LIVING._replace(
    timer=Timer.PROBE,
    expires=0.4,
    send_queue=5000,
    info=INFO._replace(rto=0.2, backoff=2, last_data_sent=1.5),
)


def look(connections=(), **parts: Any):
    found = {name: Detail(tuple(rows), len(rows)) for name, rows in parts.items()}
    return once(
        snapshot(connections, listeners=(LISTENER,), census=census(established=HEALTHY._replace(**found)))
    )


def seen(**parts):
    return facts(look(**parts))


def test_sockets_are_counted_by_timer():
    names = ("no_timer", "retransmitting", "keepalive", "probing")
    assert [seen()[f"established.{name}"] for name in names] == [11, 3, 5, 0]


def test_without_a_census_nothing_is_known():
    found = facts(once(snapshot(census=Missing("sockets were not counted in this look"))))
    for name in ("established.keepalive", "unanswered.sockets", "zero_window.ages", "idle.unprobed_ages"):
        assert found[name] == Missing("sockets were not counted in this look")


def test_an_incomplete_listing_gives_a_lower_bound():
    partly = census(established=HEALTHY, complete=Missing("the tables changed"))
    assert facts(once(snapshot(census=partly)))["established.keepalive"] == Range(
        5, math.inf, "the tables changed"
    )


def test_what_the_timeouts_add_up_to_bounds_the_wait_from_below_and_the_last_ack_from_above():
    ages = seen(unanswered=[UNANSWERED])["unanswered.incoming_ages"]
    # 0.2 + 0.4 + 0.8 + 1.6 s have passed, and of 3.2 s all but the last second
    assert ages.at_least == (pytest.approx(3.0 + 2.2),)
    assert ages.at_most == (pytest.approx(50.01),)


def test_of_probes_without_answer_the_last_wait_still_runs():
    silent = CLOSED._replace(retransmits=3, info=CLOSED.info._replace(backoff=5, last_ack_recv=50.0))
    ages = seen(unanswered=[silent])["unanswered.incoming_ages"]
    # the third probe of the five was the first in vain: 1.6 s and 3.2 s have passed, and of 6.4 s all but 0.4
    assert ages.at_least == (pytest.approx(1.6 + 3.2 + 6.0),)
    assert ages.at_most == (pytest.approx(50.01),)
    untold = seen(unanswered=[silent._replace(info=Missing("/proc"))])["unanswered.incoming_ages"]
    assert untold.at_least == (pytest.approx(0.012),)


def test_without_tcp_info_the_smallest_timeouts_are_a_lower_bound():
    ages = seen(unanswered=[UNANSWERED._replace(info=Missing("/proc"))])["unanswered.incoming_ages"]
    assert ages == Ages((pytest.approx(0.06),), (math.inf,), "/proc")


def test_a_closed_window_is_as_old_as_its_probes_at_least_and_as_the_last_data_at_most():
    found = seen(closed_window=[CLOSED])
    assert found["zero_window.ages"].at_least == (pytest.approx(0.2 + 0.4 + 0.4),)
    assert found["zero_window.ages"].at_most == (pytest.approx(1.51),)
    assert found["zero_window.send_queue"] == 5000
    assert found["zero_window.owners"] == "nginx (811): 1"


def test_accepted_connections_and_those_to_a_server_are_told_apart():
    outgoing = [
        UNANSWERED._replace(local=Endpoint("10.0.0.1", 40000 + n), remote=OUTGOING.remote) for n in range(3)
    ]
    towards = Destination("10.0.0.1", "10.0.0.9", 5432)
    samples = look(unanswered=[UNANSWERED, *outgoing])
    after = samples.after
    samples = samples._replace(
        after=after._replace(census=after.census._replace(by_destination={towards: DestinationUse(3, 0)}))
    )
    assert facts(samples)["unanswered.sockets"] == 4
    assert len(facts(samples)["unanswered.incoming_ages"].at_least) == 1
    (subject,) = subjects(samples, Scope.DESTINATION)
    assert len(subject.facts["destination.unanswered_ages"].at_least) == 3
    assert subject.facts["destination.unanswered_owners"] == "nginx (811): 3"
    assert subject.facts["destination.unanswered_send_queue"] == 300
    assert subject.facts["destination.unanswered_oldest"].low == pytest.approx(5.2)


def test_what_leaves_from_ports_that_the_program_chose_was_not_accepted():
    chosen = [
        UNANSWERED._replace(local=Endpoint("10.0.0.1", 10000 + n), remote=OUTGOING.remote) for n in range(3)
    ]
    drained = [
        UNANSWERED._replace(local=Endpoint("10.0.0.1", 9090), remote=Endpoint("10.0.0.7", port))
        for port in (5, 6)
    ]
    samples = look(unanswered=[UNANSWERED, *chosen, *drained])
    assert len(facts(samples)["unanswered.incoming_ages"].at_least) == 3
    (subject,) = subjects(samples, Scope.DESTINATION)
    assert subject.label == "10.0.0.9:5432 from 10.0.0.1"
    assert len(subject.facts["destination.unanswered_ages"].at_least) == 3


def test_suspects_that_were_not_looked_at_may_be_of_any_age():
    some = Established(0, 700, 0, 0, Detail((UNANSWERED,), 700), NONE, NONE, NONE, NONE)
    ages = facts(once(snapshot(listeners=(LISTENER,), census=census(established=some))))[
        "unanswered.incoming_ages"
    ]
    assert (len(ages.at_least), len(ages.at_most), ages.at_most[-1]) == (1, 700, math.inf)
    assert "only 1 of 700 such sockets were looked at" in ages.reason


def test_the_deepest_backoff_is_that_of_what_was_repeated_most():
    twice_as_deep = UNANSWERED._replace(retransmits=8)
    assert seen(unanswered=[UNANSWERED, twice_as_deep])["unanswered.backoff"] == 8
    assert seen()["unanswered.backoff"] == 0
    partly = look_at_some([UNANSWERED], 700)["unanswered.backoff"]
    assert (partly.low, partly.high) == (4, math.inf)


def idle(seconds: float, **changes) -> Connection:
    info = INFO._replace(last_data_sent=seconds, last_data_recv=seconds + 1)
    return LIVING._replace(info=info, **changes)


def look_at_some(rows, total):
    found = HEALTHY._replace(unanswered=Detail(tuple(rows), total))
    return facts(once(snapshot(listeners=(LISTENER,), census=census(established=found))))


def test_a_sample_of_an_outage_tells_how_many_have_waited_at_least():
    young = UNANSWERED._replace(info=UNANSWERED.info._replace(last_ack_recv=0.5))
    ages = look_at_some([UNANSWERED] * 300 + [young] * 200, 10_000)["unanswered.incoming_ages"]
    # three fifths of 10,000, less three times 2.2 % of them
    assert sum(low > 5 for low in ages.at_least) == 5342
    assert 9_300 < len(ages.at_least) < 10_000
    assert list(ages.at_least) == sorted(ages.at_least)
    assert len(ages.at_most) == 10_000


def test_of_a_sample_never_fewer_are_told_than_were_seen():
    clients = [UNANSWERED._replace(local=Endpoint("10.0.0.1", 40000 + n)) for n in range(498)]
    ages = look_at_some([*clients, UNANSWERED, UNANSWERED], 501)["unanswered.incoming_ages"]
    assert len(ages.at_least) == 2


def test_idle_counts_what_no_timer_watches_and_leads_to_another_host():
    rows = [
        idle(9000),
        idle(50, owner=HIDDEN),
        idle(8000, timer=Timer.KEEPALIVE),
        idle(7000, remote=Endpoint("127.0.0.1", 50000)),
        idle(7000, remote=Endpoint("10.0.0.1", 50000)),
        idle(7000, remote=Endpoint("::ffff:10.0.0.1", 50000), family=6),
    ]
    found = seen(sample=rows)
    assert found["idle.unprobed_ages"] == Ages((50, 9000), (50, 9000), None)
    assert (found["idle.sampled"], found["idle.oldest_unprobed"]) == (6, 9000)
    assert found["idle.unprobed_owners"] == "nginx (811): 1 and processes that cannot be seen: 1"
    assert found["idle.unprobed_peers"] == "10.0.0.7 (2)"


def test_owners_that_were_not_looked_up_are_no_processes_that_hide():
    young = idle(50, owner=NOT_LOOKED_UP)
    assert seen(sample=[idle(9000), young])["idle.unprobed_owners"] == "nginx (811): 1"
    alone = seen(sample=[young])["idle.unprobed_owners"]
    assert alone == Missing("owners are looked up of connections that have been idle for an hour")


def test_where_idle_times_are_not_told_the_reason_is():
    untold = Missing(
        "netlink gave no answer (refused by a sandbox, or no tcp_diag), and /proc/net/tcp does not tell it"
    )
    assert seen(sample=[LIVING._replace(info=untold)])["idle.unprobed_ages"] == untold


def test_a_socket_connected_to_itself_is_named_with_its_owner():
    itself = OUTGOING._replace(remote=OUTGOING.local)
    found = seen(self_connected=[itself, itself._replace(owner=NotHeld())])
    assert found["self_connected.sockets"] == 2
    assert found["self_connected.endpoints"] == "10.0.0.1:40000"
    assert found["self_connected.ports"] == "40000"
    assert found["self_connected.owners"] == "nginx (811): 1 and no process: 1"


def test_long_queues_are_found_in_every_state_the_fattest_owner_first():
    rows = [LIVING._replace(receive_queue=2 << 20, owner=held_by(97, 3, "worker"))] * 2
    orphan = CONNECTION._replace(state=TcpState.FIN_WAIT_1, inode=0, receive_queue=0, send_queue=9 << 20)
    samples = look(large=rows)
    samples = samples._replace(
        after=samples.after._replace(detail=details([orphan, *several(3, CONNECTION)]))
    )
    found = facts(samples)
    assert (found["queues.large"], found["queues.large_bytes"]) == (3, 13 << 20)
    assert found["queues.large_owners"] == "no process: 1 with 9 MiB and worker (97): 2 with 4 MiB"


def test_where_nothing_is_wrong_texts_say_none():
    found = seen()
    for name in (
        "zero_window.owners",
        "self_connected.endpoints",
        "queues.large_owners",
        "idle.unprobed_owners",
    ):
        assert found[name] == "none"
    assert found["zero_window.oldest"] == found["idle.oldest_unprobed"] == 0


STUCK = CONNECTION._replace(
    state=TcpState.ESTABLISHED, timer=Timer.RETRANSMIT, retransmits=4, expires=1.0, send_queue=11591
)
STUCK_INFO = INFO._replace(rto=3.2, mss=1448, unacked=9, last_ack_recv=30.0, last_data_recv=30.0)
SMALL_ONLY = STUCK_INFO._replace(last_ack_recv=5.4, bytes=TcpBytes(201, 0, 11791, 5792))


@pytest.mark.parametrize(
    ("row", "by_size"),
    [
        (STUCK._replace(info=STUCK_INFO._replace(sacked=1)), True),  # it has the short one behind
        (STUCK._replace(info=STUCK_INFO._replace(last_ack_recv=0.5)), True),  # it answers something else
        (STUCK._replace(info=STUCK_INFO._replace(last_data_recv=0.5)), True),
        (STUCK._replace(info=STUCK_INFO), False),  # nothing comes from it any more
        (STUCK._replace(info=SMALL_ONLY), True),  # the head of a request passed, its body does not
        (STUCK._replace(info=SMALL_ONLY._replace(last_ack_recv=30.0)), False),  # it was idle, and died
        (STUCK._replace(info=SMALL_ONLY._replace(bytes=TcpBytes(9001, 0, 20593, 5792))), False),
        (STUCK._replace(info=SMALL_ONLY._replace(bytes=TcpBytes(1, 0, 11591, 5792))), False),
        (STUCK._replace(info=STUCK_INFO._replace(sacked=1), send_queue=1000), False),  # a short segment
        (STUCK._replace(info=STUCK_INFO._replace(sacked=1, notsent=11000)), False),
        (STUCK._replace(info=STUCK_INFO._replace(sacked=1), timer=Timer.PROBE), False),
        (STUCK._replace(info=STUCK_INFO._replace(sacked=1, mss=0)), False),
        (STUCK._replace(info=Missing("/proc/net/tcp")), False),
    ],
)
def test_full_segments_that_are_lost_are_told_from_a_peer_that_is_gone(row, by_size):
    assert is_lost_by_size(row) is by_size


def test_connections_that_lose_full_segments_are_no_dead_peers():
    rows = several(5, STUCK._replace(info=STUCK_INFO._replace(sacked=1), local=Endpoint("10.0.0.1", 443)))
    established = Established(0, 5, 0, 0, Detail(tuple(rows), 5), *[Detail((), 0)] * 4)
    found = facts(once(snapshot(census=census(established=established))))
    assert found["unanswered.by_size_ages"].at_least == pytest.approx((5.2,) * 5)
    assert found["unanswered.by_size_mss"] == 1448
    assert len(found["unanswered.incoming_ages"].at_least) == 0
    assert found["unanswered.sockets"] == 5


def test_without_tcp_info_nobody_knows_whether_full_segments_are_lost():
    rows = several(5, STUCK._replace(info=Missing("no tcp_info here"), local=Endpoint("10.0.0.1", 443)))
    established = Established(0, 5, 0, 0, Detail(tuple(rows), 5), *[Detail((), 0)] * 4)
    found = facts(once(snapshot(census=census(established=established))))
    assert found["unanswered.by_size_ages"] == Missing("no tcp_info here")
    assert found["unanswered.sockets"] == 5
