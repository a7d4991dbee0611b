"""Facts of listeners: their queues, and whose queue a connection waits in."""

import pytest

from tcpdoctor.facts.host import subjects_of
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.value import Growth, Range
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint, Held, Holder, NotHeld
from tests.facts.samples import (
    CONNECTION,
    LISTENER,
    SYSCTLS,
    details,
    facts,
    held_by,
    once,
    several,
    snapshot,
    subjects,
    twice,
)

WAITING = CONNECTION._replace(inode=0, owner=NotHeld())


def at(address, port=8080, family=4, **changes):
    return LISTENER._replace(local=Endpoint(address, port), family=family, **changes)


def waiting_at(address, family=4, **changes):
    return WAITING._replace(local=Endpoint(address, 8080), family=family, **changes)


def queue(**changes):
    return facts(once(snapshot(listeners=(LISTENER._replace(**changes),))), Scope.LISTENER)


def never_accepted(listeners, connections):
    found = subjects(once(snapshot(connections, listeners=tuple(listeners))), Scope.LISTENER)
    return [subject.facts["close_wait.not_accepted"] for subject in found]


def test_a_listener_is_named_by_its_address_and_stays_the_same_over_restarts():
    (subject,) = subjects(once(snapshot(listeners=(LISTENER,))), Scope.LISTENER)
    assert subject.label == "0.0.0.0:8080"
    assert dict(subject.identity) == {"address": "0.0.0.0", "port": 8080}
    (other,) = subjects(once(snapshot(listeners=(at("::", family=6, device=3),))), Scope.LISTENER)
    assert other.label == "[::]:8080 on interface 3"
    assert other.identity["interface"] == 3


def test_listeners_that_share_an_address_are_told_apart():
    twins = (LISTENER, LISTENER._replace(cookie=901, owner=held_by(812, 6)))
    first, second = subjects(once(snapshot(listeners=twins)), Scope.LISTENER)
    assert (first.label, second.label) == ("0.0.0.0:8080 nginx (811)", "0.0.0.0:8080 nginx (812)")
    assert first.identity != second.identity


def test_owner_and_address():
    found = queue()
    assert found["listener.address"] == "0.0.0.0:8080"
    assert found["listener.port"] == 8080
    assert found["listener.owner"] == "nginx (811)"
    assert queue(owner=NotHeld())["listener.owner"] == "no process"
    assert queue(owner=Missing("run as root"))["listener.owner"] == Missing("run as root")
    two = Held((Holder(811, "nginx", 6, 33), Holder(812, "nginx", 6, 33)))
    assert queue(owner=two)["listener.owner"] == "nginx (811) and 1 more process"
    assert found["listener.pid"] == "811"
    assert queue(owner=Missing("run as root"))["listener.pid"] == Missing("run as root")
    assert isinstance(queue(owner=NotHeld())["listener.pid"], Missing)
    three = Held((*two.holders, Holder(813, "nginx", 6, 33)))
    assert queue(owner=three)["listener.owner"] == "nginx (811) and 2 more processes"
    assert queue(owner=three)["listener.pid"] == "812", "a master does not accept"
    heir = Held((Holder(811, "nginx", 6, 33), Holder(812, "sleep", 6, 33)))
    assert queue(owner=heir)["listener.pid"] == "811"


def test_the_queue_of_a_single_look():
    found = queue(accept_queue=5, accept_limit=4)
    assert (found["accept_queue.length"], found["accept_queue.limit"]) == (5, 4)
    assert found["accept_queue.least"] == 5
    assert found["accept_queue.length_before"] == Missing("needs two samples")
    assert found["accept_queue.drops"] == Missing("needs two samples")


def test_a_listener_is_found_again_by_its_cookie():
    before = snapshot(
        listeners=(
            LISTENER._replace(cookie=77, accept_queue=50, drops=1),
            LISTENER._replace(accept_queue=3, drops=10),
        )
    )
    after = snapshot(listeners=(LISTENER._replace(accept_queue=5, drops=33),))
    found = facts(twice(before, after, 2.0), Scope.LISTENER)
    assert found["accept_queue.length_before"] == 3
    assert found["accept_queue.least"] == 3
    assert found["accept_queue.drops"] == Growth(23, 2.0)


def test_without_cookies_its_address_and_device_tell():
    before = snapshot(listeners=(at("0.0.0.0", cookie=0, accept_queue=3), at("127.0.0.1", cookie=0)))
    after = snapshot(listeners=(at("0.0.0.0", cookie=0, accept_queue=5),))
    assert facts(twice(before, after), Scope.LISTENER)["accept_queue.length_before"] == 3


def test_a_restarted_listener_was_not_listening_before():
    before = snapshot(listeners=(LISTENER._replace(cookie=5, drops=900),))
    found = facts(twice(before, snapshot(listeners=(LISTENER,))), Scope.LISTENER)
    assert found["accept_queue.length_before"] == Missing("it was not listening at the first sample")
    assert found["accept_queue.drops"] == Missing("it was not listening at the first sample")
    assert found["accept_queue.least"] == 0


def test_drops_that_the_kernel_does_not_tell_are_missing():
    blind = snapshot(listeners=(LISTENER._replace(drops=Missing("/proc/net/tcp does not tell")),))
    value = facts(twice(blind, blind), Scope.LISTENER)["accept_queue.drops"]
    assert value == Missing("/proc/net/tcp does not tell")


def test_drops_that_went_backwards_are_missing():
    before, after = (snapshot(listeners=(LISTENER._replace(drops=n),)) for n in (9, 3))
    value = facts(twice(before, after), Scope.LISTENER)["accept_queue.drops"]
    assert isinstance(value, Missing)


def test_a_first_look_without_listeners_gives_its_reason():
    before = snapshot(listeners=Missing("no netlink"))
    found = facts(twice(before, snapshot(listeners=(LISTENER,))), Scope.LISTENER)
    assert found["accept_queue.length_before"] == Missing("no netlink")


def test_listeners_that_could_not_be_read_leave_no_subject_to_ask():
    lost = Missing("no netlink")
    assert subjects_of(once(snapshot(listeners=lost)), Scope.LISTENER) is lost


@pytest.mark.parametrize(
    ("port", "reserved", "ephemeral"),
    [
        (32767, (), 0),
        (32768, (), 1),
        (60999, (), 1),
        (61000, (), 0),
        (40000, ((39000, 41000),), 0),
        (40000, ((39000, 39999), (40001, 40001)), 1),
    ],
)
def test_a_port_is_ephemeral_inside_the_range_unless_reserved(port, reserved, ephemeral):
    sysctls = SYSCTLS | {"net.ipv4.ip_local_reserved_ports": reserved}
    found = facts(once(snapshot(listeners=(at("0.0.0.0", port),), sysctls=sysctls)), Scope.LISTENER)
    assert found["listener.port_is_ephemeral"] == ephemeral


def test_without_the_list_of_reserved_ports_only_ports_outside_the_range_are_certain():
    sysctls = SYSCTLS | {"net.ipv4.ip_local_reserved_ports": Missing("gone")}
    for port, value in ((80, 0), (40000, Missing("gone"))):
        found = facts(once(snapshot(listeners=(at("0.0.0.0", port),), sysctls=sysctls)), Scope.LISTENER)
        assert found["listener.port_is_ephemeral"] == value
    lost = {"net.ipv4.ip_local_port_range": Missing("lost")}
    found = facts(once(snapshot(listeners=(LISTENER,), sysctls=lost)), Scope.LISTENER)
    assert found["listener.port_is_ephemeral"] == Missing("lost")


# whose queue


def test_accepted_connections_wait_in_no_queue():
    accepted = CONNECTION._replace(owner=held_by(811, 9))
    assert never_accepted([LISTENER], [*several(23, WAITING), accepted]) == [23]


def test_an_exact_address_comes_before_the_wildcard():
    listeners = [at("0.0.0.0"), at("10.0.0.1", cookie=2)]
    rows = [*several(7, waiting_at("10.0.0.1")), *several(5, waiting_at("10.0.0.2"))]
    assert never_accepted(listeners, rows) == [5, 7]


def test_an_ipv6_socket_takes_ipv4_where_no_ipv4_socket_listens_and_the_kernel_says_which():
    listeners = [at("0.0.0.0"), at("::", family=6, cookie=2, v6only=False)]
    mapped = waiting_at("::ffff:10.0.0.1", family=6)
    assert never_accepted(listeners, [*several(7, mapped), *several(5, waiting_at("10.0.0.1"))]) == [5, 7]
    assert never_accepted([at("::", family=6)], several(7, mapped)) == [7]
    assert never_accepted([at("::ffff:0.0.0.0", family=6)], several(7, mapped)) == [7]
    assert never_accepted([at("::1", family=6)], several(7, mapped)) == [0]


def test_a_bound_device_comes_before_none():
    listeners = [LISTENER, LISTENER._replace(device=3, cookie=2)]
    rows = [*several(7, WAITING._replace(device=3)), *several(5, WAITING)]
    assert never_accepted(listeners, rows) == [5, 7]
    assert never_accepted([LISTENER], several(7, WAITING._replace(device=3))) == [7]


def test_another_port_is_another_listener():
    assert never_accepted([at("0.0.0.0", 8081)], several(7, WAITING)) == [0]


def test_listeners_that_share_an_address_bound_each_other_by_their_queues():
    stuck = LISTENER._replace(accept_queue=23)
    healthy = LISTENER._replace(cookie=2, accept_queue=0)
    first, second = never_accepted([stuck, healthy], several(23, WAITING))
    assert first == 23, "the other queue is empty, so all are in this one"
    assert second == 0
    both = [stuck._replace(accept_queue=20), healthy._replace(accept_queue=10)]
    first, second = never_accepted(both, several(23, WAITING))
    assert (first.low, first.high) == (13, 20)
    assert (second.low, second.high) == (3, 10)
    assert "SO_REUSEPORT" in second.reason


def test_ages_of_shared_queues_count_the_youngest_as_certain():
    both = (LISTENER._replace(accept_queue=20), LISTENER._replace(cookie=2, accept_queue=1))
    old = [row._replace(info=row.info._replace(last_ack_recv=90.0)) for row in several(3, WAITING)]
    found = subjects(once(snapshot([*several(1, WAITING, 50), *old], listeners=both)), Scope.LISTENER)
    first = found[0].facts["close_wait.not_accepted_ages"]
    assert first.at_least == (90.0, 90.0, 90.0)
    assert len(first.at_most) == 4
    second = found[1].facts["close_wait.not_accepted_ages"]
    assert second.at_least == ()
    assert len(second.at_most) == 1, "its queue holds one, and that may be any of the four"
    assert second.at_most[0] > 90
    assert "SO_REUSEPORT" in second.reason


def test_a_lone_listener_has_all_the_ages():
    samples = once(snapshot(several(23, WAITING), listeners=(LISTENER,)))
    ages = facts(samples, Scope.LISTENER)["close_wait.not_accepted_ages"]
    assert ages.at_least == (600.0,) * 23


def test_a_sample_of_many_leaves_the_rest_open():
    rows = details(several(23, WAITING), CLOSE_WAIT=1023)
    busy = LISTENER._replace(accept_queue=2000)
    found = facts(once(snapshot(detail=rows, listeners=(busy,))), Scope.LISTENER)
    reason = "only 23 of 1,023 sockets in CLOSE_WAIT were looked at"
    assert found["close_wait.not_accepted"] == Range(23, 1023, reason)
    assert len(found["close_wait.not_accepted_ages"].at_most) == 1023


def test_no_more_can_wait_than_the_queue_holds_however_many_were_not_looked_at():
    rows = details([], CLOSE_WAIT=50_000)
    found = facts(once(snapshot(detail=rows, listeners=(LISTENER._replace(accept_queue=7),))), Scope.LISTENER)
    assert found["close_wait.not_accepted"].high == 7
    assert len(found["close_wait.not_accepted_ages"].at_most) == 7
    empty = facts(once(snapshot(detail=rows, listeners=(LISTENER,))), Scope.LISTENER)
    assert empty["close_wait.not_accepted"] == 0


@pytest.mark.parametrize("detail", [Missing("no netlink"), {}])
def test_without_single_sockets_the_count_is_missing_and_the_queue_is_not(detail):
    found = facts(once(snapshot(detail=detail, listeners=(LISTENER,))), Scope.LISTENER)
    assert isinstance(found["close_wait.not_accepted"], Missing)
    assert isinstance(found["close_wait.not_accepted_ages"], Missing)
    assert found["accept_queue.length"] == 0
