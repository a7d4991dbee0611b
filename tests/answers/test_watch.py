"""What watch makes of one look after the other: rows that end, what moved, and what is not known."""

import pytest

from tcpdoctor.answers.check import Check
from tcpdoctor.answers.watch import STAYS, Course, Sight
from tcpdoctor.diagnosis.finding import Diagnosis
from tcpdoctor.facts.destinations import Left
from tcpdoctor.kernel.kept_rows import Handle
from tcpdoctor.kernel.pulse import NOT_YET, Pulse
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint, Held, Holder, Listener, NotHeld, Samples
from tcpdoctor.kernel.states import TcpState
from tests.report.examples import CENSUS, FINDING, SNAPSHOT

HIDDEN = Missing("only root may know")


def listener(port, cookie, *, queue=0, limit=5, drops=0):
    end = Endpoint("127.0.0.1", port)
    return Listener(4, end, 0, cookie, cookie, 0, queue, limit, drops, Missing("no cgroup"), False, NotHeld())


def pulse(clock, *, close_wait=0, listeners=(), counters=None):
    handles = [Handle(cookie, cookie, 0) for cookie in range(1, close_wait + 1)]
    return Pulse(
        SNAPSHOT.taken_at + clock,
        clock,
        counters or {},
        {},
        tuple(listeners),
        CENSUS._replace(by_state=CENSUS.by_state | {TcpState.CLOSE_WAIT: close_wait}),
        {TcpState.CLOSE_WAIT: handles, TcpState.FIN_WAIT_2: []},
    )


def check(*findings):
    return Check(Diagnosis(findings, (), 100), Samples(None, SNAPSHOT), window=1.0)


def held_by(pid):
    owner = Held((Holder(pid, "orders-api", 6, 0),))
    return lambda _handle: owner


ORDERS_API = held_by(811)


def sight(seen, *, checked=None, owner_of=ORDERS_API, left=()):
    return Sight(seen, checked, owner_of, {}, left, {})


def texts(watch):
    return [event.text for event in watch.events]


def test_growth_of_a_process_is_told_from_the_third_look_on():
    course = Course(2.0)
    shown = [
        course.add(sight(pulse(2.0 * number, close_wait=23 + 7 * number), checked=check()))
        for number in range(3)
    ]
    assert [watch.owners[0].close_wait for watch in shown] == [23, 30, 37]
    assert isinstance(shown[1].owners[0].per_minute, Missing)
    assert shown[2].owners[0].per_minute == pytest.approx(210)
    assert shown[2].owners[0].label == "orders-api (811)"


def test_a_row_that_ended_stays_for_a_minute_and_is_forgotten_then():
    course = Course(2.0)
    course.add(sight(pulse(0.0, close_wait=23), checked=check()))
    ended = course.add(sight(pulse(2.0)))
    assert [(row.pid, row.ended) for row in ended.owners] == [(811, 2.0)]
    assert course.add(sight(pulse(1.0 + STAYS))).owners[0].ended == 2.0
    assert course.add(sight(pulse(2.0 + STAYS))).owners == ()


def test_a_row_that_comes_back_has_not_ended():
    course = Course(2.0)
    for number in (23, 0, 7):
        watch = course.add(sight(pulse(2.0 * number, close_wait=number), checked=check()))
    assert [(row.close_wait, row.ended) for row in watch.owners] == [(7, None)]


def test_sockets_whose_owner_is_not_known_are_a_row_with_the_reason():
    watch = Course(2.0).add(sight(pulse(0.0, close_wait=5), checked=check(), owner_of=lambda _: HIDDEN))
    (row,) = watch.owners
    assert (row.label, row.pid, row.close_wait, row.descriptors) == ("owner not known", None, 5, HIDDEN)


def test_sockets_that_have_just_appeared_wait_for_the_next_look():
    watch = Course(2.0).add(sight(pulse(0.0, close_wait=5), checked=check(), owner_of=lambda _: NOT_YET))
    assert watch.owners == ()


def test_what_cannot_be_listed_is_said_and_is_no_empty_table():
    seen = pulse(0.0)._replace(held=HIDDEN, listeners=HIDDEN, census=HIDDEN)
    watch = Course(2.0).add(sight(seen, checked=check(), left=HIDDEN))
    assert watch.unknown == dict.fromkeys(("owners", "destinations", "listeners"), "only root may know")
    assert {row.now for row in watch.states} == {HIDDEN}


def test_a_finding_that_was_there_from_the_beginning_is_not_new():
    course = Course(2.0)
    first = course.add(sight(pulse(0.0), checked=check(FINDING)))
    assert [row.new for row in first.findings] == [False]
    assert texts(first) == []


def test_a_finding_that_comes_is_new_for_ten_seconds_and_told_when_it_goes():
    course = Course(2.0)
    course.add(sight(pulse(0.0), checked=check()))
    came = course.add(sight(pulse(2.0), checked=check(FINDING)))
    assert [row.new for row in came.findings] == [True]
    assert texts(came) == ["fin-wait-2-held-open began (nginx (811))"]
    assert [row.new for row in course.add(sight(pulse(11.0))).findings] == [True]
    assert [row.new for row in course.add(sight(pulse(12.0))).findings] == [False]
    gone = course.add(sight(pulse(14.0), checked=check()))
    assert [row.ended for row in gone.findings] == [14.0]
    assert texts(gone)[-1] == "fin-wait-2-held-open ended (nginx (811))"
    assert course.add(sight(pulse(14.0 + STAYS), checked=check())).findings == ()


def test_between_looks_of_the_rules_findings_stay():
    course = Course(2.0)
    course.add(sight(pulse(0.0), checked=check(FINDING)))
    assert [row.ended for row in course.add(sight(pulse(2.0))).findings] == [None]


def test_listeners_that_began_ended_and_moved_are_told_by_their_owner():
    course = Course(2.0)
    before = [listener(80, 1), listener(443, 2), listener(9000, 3)]
    course.add(sight(pulse(0.0, listeners=before), checked=check()))
    seen = [listener(80, 11), listener(443, 12), listener(8080, 13)]
    watch = course.add(sight(pulse(2.0, listeners=seen)))
    assert texts(watch) == [
        "orders-api (811): listener 127.0.0.1:8080 began",
        "listener 127.0.0.1:9000 ended",
        "orders-api (811): 2 listeners opened anew",
    ]
    assert [row.ended for row in watch.listeners if row.port == 9000] == [2.0]


def test_drops_are_a_rate_and_the_longest_queue_stays():
    course = Course(2.0)
    course.add(sight(pulse(0.0, listeners=[listener(80, 1, queue=6, drops=100)]), checked=check()))
    (row,) = course.add(sight(pulse(2.0, listeners=[listener(80, 1, queue=1, drops=124)]))).listeners
    assert (row.drops, row.queue, row.most, row.full) == (12.0, 1, 6, False)


def test_listeners_that_share_an_address_are_one_row():
    seen = [listener(80, 1, queue=2), listener(80, 2, queue=6)]
    (row,) = Course(2.0).add(sight(pulse(0.0, listeners=seen), checked=check())).listeners
    assert (row.sockets, row.queue, row.limit, row.full) == (2, 8, 10, True)


def test_a_destination_below_a_tenth_of_its_ports_is_told_once():
    def left(number):
        return [Left("10.0.0.9", "10.0.0.5:5432", 28_232 - number, 28_232, number)]

    course = Course(2.0)
    course.add(sight(pulse(0.0), checked=check(), left=left(5_000)))
    for clock, number in ((2.0, 2_000), (4.0, 1_000), (6.0, 3_000), (8.0, 9_000)):
        watch = course.add(sight(pulse(clock), left=left(number)))
    assert texts(watch) == [
        "10.0.0.5:5432 from 10.0.0.9: below 10 % of its ports left",
        "10.0.0.5:5432 from 10.0.0.9: ports enough again",
    ]
    soon = course.add(sight(pulse(10.0), left=left(8_000)))
    assert soon.destinations[0].left == 8_000


def test_the_time_until_no_port_is_left():
    course = Course(2.0)
    for number in range(3):
        left = [Left("10.0.0.9", "10.0.0.5:5432", 100 * number, 1_000, 1_000 - 100 * number)]
        watch = course.add(sight(pulse(2.0 * number), checked=check(), left=left))
    assert watch.destinations[0].until_none == pytest.approx(16.0)  # 800 at 50 a second


def test_rates_need_two_looks_and_a_counter_that_went_back_is_no_rate():
    course = Course(2.0)
    counters = {"Tcp.PassiveOpens": 100, "Tcp.OutRsts": 50, "Tcp.OutSegs": 1000, "Tcp.RetransSegs": 10}
    first = course.add(sight(pulse(0.0, counters=counters), checked=check()))
    assert isinstance(first.rates.opened_in, Missing)
    later = {"Tcp.PassiveOpens": 124, "Tcp.OutRsts": 20, "Tcp.OutSegs": 1090, "Tcp.RetransSegs": 20}
    rates = course.add(sight(pulse(2.0, counters=later))).rates
    assert (rates.opened_in, rates.retransmitted) == (12.0, 0.1)
    assert isinstance(rates.resets_out, Missing)
    assert isinstance(rates.overflows, Missing)
