"""Facts of half-open connections by listener."""

import pytest

from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.value import Range
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint, NotHeld
from tcpdoctor.kernel.states import TcpState, Timer
from tests.facts.samples import CONNECTION, LISTENER, SYSCTLS, details, facts, once, snapshot, subjects, twice

REQUEST = CONNECTION._replace(
    state=TcpState.SYN_RECV, inode=0, owner=NotHeld(), timer=Timer.RETRANSMIT, info=Missing("a stub")
)
COOKIES = SYSCTLS | {"net.ipv4.tcp_syncookies": 1, "net.ipv4.tcp_max_syn_backlog": 64}
BUSY = LISTENER._replace(accept_limit=128)


def requests(number, **changes):
    return [REQUEST._replace(cookie=n + 1, **changes) for n in range(number)]


def look(rows, listeners=(BUSY,), sysctls=COOKIES, **totals):
    return snapshot(listeners=listeners, sysctls=sysctls, detail=details(rows, **totals))


def test_a_request_belongs_to_the_listener_on_its_address_and_else_to_the_wildcard():
    own = BUSY._replace(local=Endpoint("10.0.0.1", 8080), cookie=2)
    elsewhere = requests(3, local=Endpoint("10.0.0.2", 8080))
    first, second = subjects(once(look(requests(5) + elsewhere, (BUSY, own))), Scope.LISTENER)
    assert (first.facts["syn_queue.length"], second.facts["syn_queue.length"]) == (3, 5)


def test_what_lasts_is_the_smaller_of_two_looks():
    found = facts(twice(look(requests(7)), look(requests(23))), Scope.LISTENER)
    names = ("length", "length_before", "least")
    assert [found[f"syn_queue.{name}"] for name in names] == [23, 7, 7]


def test_with_one_look_there_is_no_number_before():
    found = facts(once(look(requests(5))), Scope.LISTENER)
    assert found["syn_queue.length_before"] == Missing("needs two samples")
    assert found["syn_queue.least"] == 5


def test_a_repeated_syn_ack_shows_that_nothing_came_back():
    rows = [*requests(5), *requests(3, retransmits=2, remote=Endpoint("10.0.0.8", 1))]
    found = facts(once(look(rows)), Scope.LISTENER)
    assert (found["syn_queue.length"], found["syn_queue.repeated"]) == (8, 3)
    assert found["syn_queue.peers"] == "10.0.0.7 (5) and 10.0.0.8 (3)"


def test_listeners_that_share_an_address_share_what_cannot_be_told_apart():
    twins = (BUSY, BUSY._replace(cookie=901))
    for subject in subjects(once(look(requests(5), twins)), Scope.LISTENER):
        length = subject.facts["syn_queue.length"]
        assert isinstance(length, Range)
        assert (length.low, length.high) == (0, 5)
        assert "SO_REUSEPORT" in length.reason


def test_those_that_were_not_looked_at_may_belong_here():
    length = facts(once(look(requests(5), SYN_RECV=9000)), Scope.LISTENER)["syn_queue.length"]
    assert length == Range(5, 9000, "only 5 of 9,000 sockets in SYN_RECV were looked at")


@pytest.mark.parametrize(("cookies", "limit"), [(1, 128), (2, 128), (0, 48)])
def test_the_limit_is_the_backlog_and_without_cookies_three_quarters_of_the_sysctl(cookies, limit):
    sysctls = COOKIES | {"net.ipv4.tcp_syncookies": cookies}
    assert facts(once(look([], sysctls=sysctls)), Scope.LISTENER)["syn_queue.limit"] == limit


def test_a_limit_that_is_not_told_is_missing():
    unknown = Missing("/proc/net/tcp does not show it")
    listener = BUSY._replace(accept_limit=unknown)
    assert facts(once(look([], (listener,))), Scope.LISTENER)["syn_queue.limit"] == unknown
    untold = look([], sysctls=SYSCTLS | {"net.ipv4.tcp_syncookies": Missing("hidden")})
    assert facts(once(untold), Scope.LISTENER)["syn_queue.limit"] == Missing("hidden")
