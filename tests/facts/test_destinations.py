"""Facts of destinations, and of local ports."""

import math

import pytest

from tcpdoctor.facts.host import subjects_of
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.value import Range
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Destination, DestinationUse, Endpoint, NotHeld
from tcpdoctor.kernel.states import TcpState, Timer
from tests.facts.samples import (
    CONNECTION,
    HIDDEN,
    INFO,
    SYSCTLS,
    census,
    details,
    facts,
    held_by,
    once,
    several,
    snapshot,
    subjects,
    twice,
)

DATABASE = Destination("10.0.0.1", "10.0.0.5", 5432)
ATTEMPT = CONNECTION._replace(
    state=TcpState.SYN_SENT,
    local=Endpoint("10.0.0.1", 40000),
    remote=Endpoint("10.0.0.5", 5432),
    timer=Timer.RETRANSMIT,
    expires=0.5,
    send_queue=1,
    info=INFO._replace(rto=1.0),
    owner=held_by(812, 7, "curl"),
)


def attempts(number, like=ATTEMPT, first=1):
    return [row._replace(remote=like.remote) for row in several(number, like, first)]


BUSY = DestinationUse(27100, 24000)


def towards(use=BUSY, connections=(), **changes):
    counted = census(by_destination={DATABASE: use}, **changes)
    return facts(once(snapshot(connections, census=counted)), Scope.DESTINATION)


def test_a_destination_is_a_source_a_peer_and_a_port():
    counted = census(by_destination={DATABASE: DestinationUse(3, 1)})
    (subject,) = subjects(once(snapshot(census=counted)), Scope.DESTINATION)
    assert subject.label == "10.0.0.5:5432 from 10.0.0.1"
    assert dict(subject.identity) == {"source": "10.0.0.1", "address": "10.0.0.5", "port": 5432}
    assert subject.facts["destination.address"] == "10.0.0.5"
    assert subject.facts["destination.port"] == 5432
    assert subject.facts["destination.source"] == "10.0.0.1"


def test_ports_in_use_and_those_in_time_wait():
    found = towards()
    assert (found["ports.used"], found["ports.time_wait"]) == (27100, 24000)
    assert found["ports.usable"] == 28232, "facts of the host are visible"


def test_time_wait_blocks_only_where_connect_cannot_take_it_over():
    assert towards()["ports.blocked"] == 27100, "tcp_tw_reuse = 2 is for loopback only"
    counted = census(by_destination={DATABASE: DestinationUse(27100, 24000)})
    free = snapshot(census=counted, sysctls=SYSCTLS | {"net.ipv4.tcp_tw_reuse": 1})
    found = facts(once(free), Scope.DESTINATION)
    assert found["ports.blocked"] == 3100
    assert "tcp_tw_reuse is 1" in found["ports.time_wait_reuse"]
    blind = snapshot(census=counted, sysctls={"net.ipv4.tcp_tw_reuse": Missing("gone")})
    found = facts(once(blind), Scope.DESTINATION)
    assert found["ports.blocked"] == found["ports.time_wait_reuse"] == Missing("gone")


def test_a_pruned_table_of_destinations_makes_ranges():
    found = towards(DestinationUse(1000, 400, 50))
    assert (found["ports.used"].low, found["ports.used"].high) == (1000, 1050)
    assert (found["ports.time_wait"].low, found["ports.time_wait"].high) == (400, 450)


def test_an_incomplete_census_gives_lower_bounds():
    assert towards(complete=Missing("cut short"))["ports.used"] == Range(27100, math.inf, "cut short")


def test_destinations_of_unanswered_attempts_are_subjects_as_well():
    (subject,) = subjects(once(snapshot(attempts(3))), Scope.DESTINATION)
    assert subject.label == "10.0.0.5:5432 from 10.0.0.1"
    assert subject.facts["ports.used"] == 0
    (pruned,) = subjects(once(snapshot(attempts(3), census=census(unlisted=12))), Scope.DESTINATION)
    assert (pruned.facts["ports.used"].low, pruned.facts["ports.used"].high) == (0, 12)


def test_ipv4_addresses_of_ipv6_sockets_are_the_same_destination():
    mapped = ATTEMPT._replace(
        family=6, local=Endpoint("::ffff:10.0.0.1", 1), remote=Endpoint("::ffff:10.0.0.5", 5432)
    )
    found = subjects(once(snapshot([*attempts(3), *attempts(2, mapped, 20)])), Scope.DESTINATION)
    assert [subject.label for subject in found] == ["10.0.0.5:5432 from 10.0.0.1"]


def test_attempts_seen_twice_are_unanswered():
    rows = attempts(5)
    fresh = attempts(3, first=30)
    found = facts(twice(snapshot(rows), snapshot([*rows, *fresh])), Scope.DESTINATION)
    assert found["syn_sent.lasting"] == 5
    assert len(found["syn_sent.lasting_ages"].at_least) == 5
    assert found["syn_sent.oldest_age"].low >= 1.0 - 0.25


def test_attempts_seen_once_may_be_unanswered():
    found = facts(once(snapshot(attempts(5))), Scope.DESTINATION)
    assert found["syn_sent.lasting"] == Range(0, 5, "needs two samples")
    ages = found["syn_sent.lasting_ages"]
    assert (ages.at_least, len(ages.at_most)) == ((), 5)


def test_attempts_with_three_retransmissions_are_unanswered():
    found = facts(once(snapshot(attempts(5, ATTEMPT._replace(retransmits=3)))), Scope.DESTINATION)
    assert found["syn_sent.lasting"] == 5
    assert found["syn_sent.lasting_ages"].at_least == pytest.approx((3.5,) * 5)


def test_a_destination_without_attempts_has_none():
    found = towards()
    assert found["syn_sent.lasting"] == 0
    assert found["syn_sent.oldest_age"] == 0
    assert found["destination.owners"] == "none"


def test_attempts_that_were_not_looked_at_may_go_anywhere():
    counted = census(by_destination={DATABASE: DestinationUse(3, 0)})
    rows = details(attempts(5), SYN_SENT=30005)
    found = facts(once(snapshot(detail=rows, census=counted)), Scope.DESTINATION)
    assert found["syn_sent.lasting"].high == 30005
    assert found["syn_sent.oldest_age"].high == math.inf


def test_owners_are_those_of_the_attempts():
    rows = [
        *attempts(5),
        *attempts(2, ATTEMPT._replace(owner=NotHeld()), 20),
        *attempts(1, ATTEMPT._replace(owner=HIDDEN), 30),
    ]
    assert facts(once(snapshot(rows)), Scope.DESTINATION)["destination.owners"] == (
        "curl (812): 5, no process: 2 and processes that cannot be seen: 1"
    )
    hidden = attempts(2, ATTEMPT._replace(owner=HIDDEN))
    assert facts(once(snapshot(hidden)), Scope.DESTINATION)["destination.owners"] is HIDDEN


def test_either_source_alone_still_gives_subjects():
    lost = Missing("no netlink")
    counted = census(by_destination={DATABASE: DestinationUse(3, 1)})
    found = facts(once(snapshot(census=counted, detail=lost)), Scope.DESTINATION)
    assert found["ports.used"] == 3
    for name in ("syn_sent.lasting", "syn_sent.lasting_ages", "syn_sent.oldest_age", "destination.owners"):
        assert found[name] is lost
    found = facts(once(snapshot(attempts(3), census=lost)), Scope.DESTINATION)
    assert found["ports.used"] is lost
    assert found["ports.blocked"] is lost
    assert subjects_of(once(snapshot(census=lost, detail=lost)), Scope.DESTINATION) is lost
    found = facts(once(snapshot(census=counted, detail={})), Scope.DESTINATION)
    assert isinstance(found["syn_sent.lasting"], Missing)


# local ports


def test_each_local_port_in_use_is_a_subject_and_the_ephemeral_ones_together_are_none():
    by_port = {
        (TcpState.LISTEN, 8080): 1,
        (TcpState.CLOSE_WAIT, 8080): 23,
        (TcpState.ESTABLISHED, 0): 900,
        (TcpState.TIME_WAIT, 443): 7,
        (TcpState.BOUND, 9000): 2,
    }
    found = subjects(once(snapshot(census=census(by_port=by_port, bound=2))), Scope.PORT)
    assert [subject.label for subject in found] == ["443", "8080", "9000"]
    assert dict(found[1].identity) == {"port": 8080}
    assert found[1].facts["port.number"] == 8080
    assert found[1].facts["port.close_wait"] == 23
    assert found[1].facts["port.time_wait"] == 0
    assert found[2].facts["port.bound"] == 2


def test_ports_without_a_census_leave_no_subject_to_ask():
    lost = Missing("no netlink")
    assert subjects_of(once(snapshot(census=lost)), Scope.PORT) is lost


def test_bound_sockets_of_an_old_kernel_are_unknown_at_every_port():
    old = Missing("this kernel does not list bound sockets")
    counted = census(by_port={(TcpState.LISTEN, 80): 1}, bound=old)
    assert facts(once(snapshot(census=counted)), Scope.PORT)["port.bound"] is old
