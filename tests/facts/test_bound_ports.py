"""Ports that are bound, who holds them, and what the range has."""

from tcpdoctor.facts.value import Range
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint
from tcpdoctor.kernel.states import TcpState
from tests.facts.samples import (
    CONNECTION,
    HIDDEN,
    LISTENER,
    SYSCTLS,
    census,
    details,
    facts,
    held_by,
    once,
    snapshot,
    twice,
)

BOUND = CONNECTION._replace(state=TcpState.BOUND, remote=Endpoint("0.0.0.0", 0), owner=held_by(811, 7))


def at(port, like=BOUND):
    return like._replace(local=like.local._replace(port=port))


def host(connections=(), **changes):
    return facts(once(snapshot(connections, **changes)))


def test_listeners_and_bound_sockets_inside_the_range_are_counted_by_port():
    listener = LISTENER._replace(local=Endpoint("0.0.0.0", 40000))
    found = host(
        [at(40001), at(40001), at(32768), at(60999), at(60999 + 1), at(8080)],
        listeners=(listener, LISTENER),
    )
    assert found["ports.bound"] == 4
    assert found["ports.bound_owners"] == "nginx (811): 5"
    assert found["ports.in_range"] == 28232


def test_connect_has_the_usable_ports_without_a_socket_that_bind_placed():
    listener = LISTENER._replace(local=Endpoint("0.0.0.0", 40000))
    rows = [at(40001), at(40001), at(8080)]
    assert host(rows, listeners=(listener, LISTENER))["ports.connectable"] == 28232 - 2
    part = host(detail=details([at(40001)], BOUND=100), listeners=(listener,))["ports.connectable"]
    assert (part.low, part.high) == (28232 - 2 - 99, 28232 - 2)


def test_where_bound_sockets_are_not_listed_connect_has_what_listeners_leave():
    old = {state: rows for state, rows in details([]).items() if state is not TcpState.BOUND}
    listener = LISTENER._replace(local=Endpoint("0.0.0.0", 40000))
    assert host(detail=old, listeners=(listener,))["ports.connectable"] == 28232 - 1
    assert host(listeners=Missing("refused"))["ports.connectable"] == Missing("refused")


def test_reserved_ports_are_nobodys_to_lose():
    sysctls = {**SYSCTLS, "net.ipv4.ip_local_reserved_ports": ((40000, 40001),)}
    found = host([at(40001), at(40002)], sysctls=sysctls)
    assert (found["ports.bound"], found["ports.usable"], found["ports.in_range"]) == (1, 28230, 28232)


def test_holders_that_are_hidden_or_gone_are_said_to_be():
    found = host([at(40001, BOUND._replace(owner=HIDDEN))])
    assert found["ports.bound_owners"] == "processes that cannot be seen: 1"
    assert host()["ports.bound_owners"] == "none"


def test_of_a_sample_only_a_range_is_known():
    found = host(detail=details([at(40001), at(40003)], BOUND=100))
    number = found["ports.bound"]
    assert isinstance(number, Range)
    assert (number.low, number.high) == (2, 100)


def test_before_linux_6_8_they_are_missing():
    detail = {state: rows for state, rows in details([]).items() if state is not TcpState.BOUND}
    assert isinstance(host(detail=detail)["ports.bound"], Missing)


def test_without_the_range_they_are_missing():
    assert isinstance(host(sysctls={})["ports.bound"], Missing)
    assert isinstance(host(sysctls={})["ports.in_range"], Missing)


def test_time_wait_of_servers_is_told_from_that_of_clients():
    by_port = {
        (TcpState.LISTEN, 443): 1,
        (TcpState.LISTEN, 40000): 2,
        (TcpState.TIME_WAIT, 443): 71,
        (TcpState.TIME_WAIT, 40000): 5,
        (TcpState.TIME_WAIT, 0): 900,
        (TcpState.TIME_WAIT, 22): 3,
    }
    assert host(census=census(by_port=by_port))["time_wait.at_listeners"] == 76
    assert isinstance(host(census=Missing("not counted"))["time_wait.at_listeners"], Missing)


def test_open_files_of_the_machine():
    found = host(sysctls={"fs.file-nr": (669, 0, 2466170)})
    assert (found["files.open"], found["files.limit"]) == (669, 2466170)
    assert found["sysctl.fs.file-nr.open"] == 669
    assert isinstance(host()["files.open"], Missing)


def test_the_table_of_tracked_connections():
    names = {"net.netfilter.nf_conntrack_count": 13, "net.netfilter.nf_conntrack_max": 262144}
    found = host(sysctls=names)
    assert (found["conntrack.entries"], found["conntrack.limit"]) == (13, 262144)


def test_where_nothing_is_tracked_the_counters_say_why():
    why = Missing("net.netfilter.nf_conntrack_count: nf_conntrack is not loaded")
    before, after = snapshot(), snapshot(sysctls={"net.netfilter.nf_conntrack_count": why})
    assert facts(twice(before, after))["nf_conntrack.drop"] == why


def test_a_kernel_that_tracks_and_shows_no_counters_is_told_apart():
    before, after = snapshot(), snapshot(sysctls={"net.netfilter.nf_conntrack_count": 3})
    found = facts(twice(before, after))["nf_conntrack.drop"]
    assert isinstance(found, Missing)
    assert "conntrack -S" in found.reason
