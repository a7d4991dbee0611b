"""Facts of the host."""

import math

import pytest

from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.value import Range
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Destination, Endpoint, NotHeld, Translation, Translations
from tcpdoctor.kernel.states import TcpState, Timer
from tests.facts.samples import (
    CONNECTION,
    HIDDEN,
    LISTENER,
    census,
    details,
    facts,
    once,
    several,
    snapshot,
    subjects,
)

ORPHAN = CONNECTION._replace(
    state=TcpState.FIN_WAIT_2, inode=0, owner=NotHeld(), timer=Timer.TIME_WAIT, info=Missing("a minisocket")
)


def with_sysctls(**changes):
    names = {name.replace("__", "."): value for name, value in changes.items()}
    return facts(once(snapshot(sysctls=names)))


def test_there_is_one_host():
    (subject,) = subjects(once(snapshot()), Scope.HOST)
    assert (subject.label, dict(subject.identity)) == ("web1", {"name": "web1"})


@pytest.mark.parametrize(
    ("name", "raw", "fact", "value"),
    [
        ("net.ipv4.tcp_fin_timeout", 60, "net.ipv4.tcp_fin_timeout", 60),
        ("net.ipv4.tcp_tw_reuse_delay", 1000, "net.ipv4.tcp_tw_reuse_delay", 1.0),
        ("net.ipv4.tcp_rto_min_us", 200000, "net.ipv4.tcp_rto_min_us", 0.2),
        ("net.ipv4.tcp_comp_sack_delay_ns", 1000000, "net.ipv4.tcp_comp_sack_delay_ns", 0.001),
        ("net.ipv4.tcp_pacing_ss_ratio", 200, "net.ipv4.tcp_pacing_ss_ratio", 2.0),
        ("net.ipv4.tcp_mem", (1, 2, 3), "net.ipv4.tcp_mem.pressure", 2),
        ("net.ipv4.tcp_rmem", (4096, 131072, 6291456), "net.ipv4.tcp_rmem.max", 6291456),
        ("net.ipv4.ip_local_port_range", (32768, 60999), "net.ipv4.ip_local_port_range.low", 32768),
        ("net.ipv4.ip_local_port_range", (32768, 60999), "net.ipv4.ip_local_port_range.high", 60999),
        ("net.ipv4.ip_local_reserved_ports", ((8080, 8080), (9000, 9010)),
         "net.ipv4.ip_local_reserved_ports", "8080,9000-9010"),
        ("net.ipv4.ip_local_reserved_ports", (), "net.ipv4.ip_local_reserved_ports", "none"),
        ("net.ipv4.tcp_congestion_control", "cubic", "net.ipv4.tcp_congestion_control", "cubic"),
    ],
)  # fmt: skip
def test_a_setting_has_the_unit_of_its_fact(name, raw, fact, value):
    assert facts(once(snapshot(sysctls={name: raw})))[f"sysctl.{fact}"] == value


def test_a_setting_that_cannot_be_read_keeps_the_kernels_reason():
    reason = Missing("net.ipv4.tcp_mem exists in the initial network namespace only")
    assert (
        facts(once(snapshot(sysctls={"net.ipv4.tcp_mem": reason})))["sysctl.net.ipv4.tcp_mem.max"] is reason
    )


def test_a_setting_that_this_kernel_lacks_is_missing():
    assert isinstance(facts(once(snapshot()))["sysctl.net.ipv4.tcp_plb_enabled"], Missing)


@pytest.mark.parametrize("raw", [7, (1, 2), "text", ((1, 2), (3, 4), (5, 6))])
def test_a_setting_of_another_form_is_missing_and_no_guess(raw):
    assert isinstance(with_sysctls(net__ipv4__tcp_mem=raw)["sysctl.net.ipv4.tcp_mem.max"], Missing)


@pytest.mark.parametrize("raw", [(1, 2), "text", ()])
def test_a_number_of_another_form_is_missing(raw):
    value = with_sysctls(net__ipv4__tcp_fin_timeout=raw)["sysctl.net.ipv4.tcp_fin_timeout"]
    assert isinstance(value, Missing)


@pytest.mark.parametrize(
    ("reserved", "usable"),
    [
        ((), 28232),
        (((8080, 8080),), 28232),
        (((32768, 32768), (60999, 60999)), 28230),
        (((32000, 32768), (60999, 65535)), 28230),
        (((1, 65535),), 0),
    ],
)
def test_usable_ports_are_the_range_with_both_ends_less_the_reserved_inside_it(reserved, usable):
    found = with_sysctls(
        net__ipv4__ip_local_port_range=(32768, 60999), net__ipv4__ip_local_reserved_ports=reserved
    )
    assert found["ports.usable"] == usable
    assert found["ports.reserved"] == 28232 - usable


@pytest.mark.parametrize("lost", ["net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports"])
def test_usable_ports_are_missing_with_either_setting(lost):
    sysctls = {"net.ipv4.ip_local_port_range": (1, 9), "net.ipv4.ip_local_reserved_ports": ()}
    found = facts(once(snapshot(sysctls=sysctls | {lost: Missing("gone")})))
    assert found["ports.usable"] == found["ports.reserved"] == Missing("gone")


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("net.ipv4.ip_local_port_range", 7),
        ("net.ipv4.ip_local_port_range", (1, 2, 3)),
        ("net.ipv4.ip_local_port_range", (60999, 32768)),
        ("net.ipv4.ip_local_port_range", (1, 4_000_000_000)),
        ("net.ipv4.ip_local_reserved_ports", (1, 2)),
        ("net.ipv4.ip_local_reserved_ports", "text"),
    ],
)
def test_usable_ports_are_missing_where_a_setting_has_another_form(name, raw):
    sysctls = {"net.ipv4.ip_local_port_range": (1, 9), "net.ipv4.ip_local_reserved_ports": ()}
    assert isinstance(facts(once(snapshot(sysctls=sysctls | {name: raw})))["ports.usable"], Missing)


def test_sockstat_values_are_passed_on_and_absent_ones_missing():
    found = facts(once(snapshot(sockstat={"TCP.orphan": 5, "TCP.mem": 12})))
    assert (found["sockstat.TCP.orphan"], found["sockstat.TCP.mem"]) == (5, 12)
    assert isinstance(found["sockstat.TCP6.inuse"], Missing)
    lost = Missing("/proc/net/sockstat: permission denied")
    assert facts(once(snapshot(sockstat=lost)))["sockstat.TCP.tw"] is lost


def test_states_without_sockets_are_zero_and_bound_ones_may_be_unknown():
    old = Missing("this kernel does not list bound sockets")
    found = facts(once(snapshot(census=census(by_state={TcpState.LISTEN: 4}, bound=old))))
    assert (found["sockets.listen"], found["sockets.closing"]) == (4, 0)
    assert found["sockets.bound"] is old
    assert facts(once(snapshot(census=census(bound=3))))["sockets.bound"] == 3


def test_counts_of_an_incomplete_census_are_lower_bounds():
    short = census(by_state={TcpState.CLOSE_WAIT: 7}, complete=Missing("the listing was cut short"))
    assert facts(once(snapshot(census=short)))["sockets.close_wait"] == Range(
        7, math.inf, "the listing was cut short"
    )


def test_counts_are_missing_without_a_census():
    lost = Missing("no way to list sockets")
    assert facts(once(snapshot(census=lost)))["sockets.listen"] is lost


def test_orphans_are_the_fin_wait_2_sockets_that_no_file_refers_to():
    owned = CONNECTION._replace(state=TcpState.FIN_WAIT_2, owner=HIDDEN, cookie=99)
    in_kernel = owned._replace(owner=NotHeld(), cookie=98)
    found = facts(once(snapshot([*several(23, ORPHAN), owned, in_kernel])))
    assert found["fin_wait_2.orphaned"] == 23
    assert found["fin_wait_2.orphan_peers"] == "10.0.0.7 (23)"


def test_a_sample_of_orphans_proves_at_least_those_in_it():
    rows = details(several(23, ORPHAN), FIN_WAIT_2=50023)
    value = facts(once(snapshot(detail=rows)))["fin_wait_2.orphaned"]
    assert value == Range(23, 50023, "only 23 of 50,023 sockets in FIN_WAIT_2 were looked at")


def test_facts_of_single_sockets_are_missing_without_them():
    lost = Missing("sock_diag is not there")
    found = facts(once(snapshot(detail=lost)))
    assert found["fin_wait_2.orphaned"] is lost
    assert found["fin_wait_1.lasting"] is lost
    assert isinstance(facts(once(snapshot(detail={})))["fin_wait_2.orphan_peers"], Missing)
    assert isinstance(facts(once(snapshot(detail={})))["fin_wait_1.lasting_send_queue"], Missing)


def test_peers_are_named_with_the_port_where_they_are_servers():
    out = ORPHAN._replace(local=ORPHAN.local._replace(port=40000))
    many = [row._replace(remote=row.remote._replace(address="10.0.0.7", port=443)) for row in several(8, out)]
    few = [row._replace(remote=row.remote._replace(address="::ffff:10.0.0.9", port=80)) for row in many[:3]]
    value = facts(once(snapshot([*many, *few])))["fin_wait_2.orphan_peers"]
    assert value == "10.0.0.7:443 (8) and 10.0.0.9:80 (3)"


def test_peers_with_a_port_each_are_clients_and_named_by_address():
    loopback = ORPHAN._replace(local=ORPHAN.local._replace(port=40000))
    assert facts(once(snapshot(several(5, loopback))))["fin_wait_2.orphan_peers"] == "10.0.0.7 (5)"


def test_only_the_first_peers_are_named():
    rows = [
        row._replace(remote=row.remote._replace(address=f"10.1.0.{place}"))
        for place, row in enumerate(several(17, ORPHAN))
    ]
    value = facts(once(snapshot(rows)))["fin_wait_2.orphan_peers"]
    assert value == "10.1.0.0 (1), 10.1.0.1 (1), 10.1.0.10 (1) and 14 more"


def test_of_source_nat_the_destination_with_most_ports_is_told():
    fullest = Translation("tcp", Destination("192.0.2.1", "198.51.100.7", 443), 9, 40000, 40009)
    found = facts(once(snapshot(translations=Translations(fullest))))
    assert [found[f"snat.{name}"] for name in ("ports_used", "ports_span", "ports")] == [9, 10, "40000-40009"]
    assert (found["snat.source"], found["snat.destination"]) == ("192.0.2.1", "198.51.100.7:443 (tcp)")
    none = facts(once(snapshot(translations=Translations(None))))
    assert (none["snat.ports_used"], none["snat.destination"]) == (0, "none")
    unread = facts(once(snapshot(translations=Missing("it takes root"))))
    assert unread["snat.ports_used"] == Missing("it takes root")


def test_connections_that_a_reset_has_cut_off_lately_are_told():
    found = facts(once(snapshot(translations=Translations(None, 13))))
    assert found["conntrack.cut_lately"] == 13
    unread = facts(once(snapshot(translations=Missing("it takes root"))))
    assert unread["conntrack.cut_lately"] == Missing("it takes root")


def test_sockets_stuck_at_a_full_queue_of_this_host_are_told_with_the_listener():
    stuck = CONNECTION._replace(
        state=TcpState.FIN_WAIT_1, retransmits=4, timer=Timer.RETRANSMIT, inode=0, owner=NotHeld()
    )
    here = stuck._replace(local=Endpoint("127.0.0.1", 50001), remote=Endpoint("127.0.0.1", 8080), cookie=7)
    elsewhere = stuck._replace(remote=Endpoint("10.0.0.9", 8080), cookie=8)
    full = LISTENER._replace(accept_queue=129, accept_limit=128)
    found = facts(once(snapshot([here, elsewhere], listeners=(full,))))
    assert (found["fin_wait_1.lasting"], found["fin_wait_1.at_full_queues"]) == (2, 1)
    assert found["fin_wait_1.full_queues"] == "0.0.0.0:8080"
    room = facts(once(snapshot([here], listeners=(LISTENER._replace(accept_queue=128),))))
    assert (room["fin_wait_1.at_full_queues"], room["fin_wait_1.full_queues"]) == (0, "none")
    unknown = facts(once(snapshot([here], listeners=Missing("no netlink"))))
    assert unknown["fin_wait_1.at_full_queues"] == Missing("no netlink")
