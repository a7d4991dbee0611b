"""What counters since the namespace began prove: bounds, and never more."""

from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.recorded import as_earlier
from tcpdoctor.kernel.snapshot import Destination, DestinationUse
from tests.facts.samples import census, facts, once, snapshot, twice

OWN = {"TcpExt.TCPAbortOnData": 3, "TcpExt.TCPAbortOnClose": 5, "TcpExt.TCPAbortOnTimeout": 7}


def test_resets_of_connections_begun_here_are_what_is_left_when_all_others_are_taken_off():
    counted = {**OWN, "Tcp.EstabResets": 71, "Tcp.PassiveOpens": 13, "Tcp.ActiveOpens": 97}
    found = facts(once(snapshot(counters=counted)))
    assert found["lifetime.connects"] == 97
    assert found["lifetime.connects_reset"] == 71 - 13 - 3 - 5 - 7


def test_a_server_all_of_whose_clients_reset_proves_nothing():
    counted = {**OWN, "Tcp.EstabResets": 89, "Tcp.PassiveOpens": 89, "Tcp.ActiveOpens": 0}
    assert facts(once(snapshot(counters=counted)))["lifetime.connects_reset"] == 0


def test_resets_that_a_program_asked_for_are_taken_off():
    found = facts(once(snapshot(counters={**OWN, "Tcp.OutRsts": 53})))
    assert found["lifetime.resets_unasked"] == 53 - 3 - 5 - 7


def test_packets_of_both_protocols_are_forwarded_and_ipv6_may_be_off():
    both = {"Ip.ForwDatagrams": 11, "Ip6.OutForwDatagrams": 31}
    assert facts(once(snapshot(counters=both)))["lifetime.packets_forwarded"] == 42
    assert facts(once(snapshot(counters={"Ip.ForwDatagrams": 11})))["lifetime.packets_forwarded"] == 11


def test_what_is_not_counted_is_not_zero():
    found = facts(once(snapshot(counters={"Tcp.EstabResets": 71, "Tcp.OutRsts": 53})))
    for name in ("connects", "connects_reset", "resets_unasked", "invalid_packets", "packets_forwarded"):
        assert isinstance(found[f"lifetime.{name}"], Missing)


def towards(**uses):
    found = {Destination("192.0.2.2", name[1:].replace("_", "."), 8443): use for name, use in uses.items()}
    return snapshot(census=census()._replace(by_destination=found))


def test_destinations_that_lost_connections_are_named_and_time_wait_is_no_connection():
    before = towards(
        _198_51_100_3=DestinationUse(31, 2),
        _198_51_100_5=DestinationUse(7, 0),
        _198_51_100_7=DestinationUse(13, 0),
    )
    after = towards(_198_51_100_3=DestinationUse(31, 13), _198_51_100_7=DestinationUse(17, 0))
    text = facts(twice(as_earlier(before), after))["lifetime.fewer_towards"]
    assert text == "198.51.100.3:8443 (11) and 198.51.100.5:8443 (7)"


def test_one_look_does_not_know_where_connections_went():
    now = towards(_198_51_100_3=DestinationUse(31, 2))
    assert isinstance(facts(once(now))["lifetime.fewer_towards"], Missing)
    bare = now._replace(census=Missing("it was not counted"))
    assert isinstance(facts(twice(bare, now))["lifetime.fewer_towards"], Missing)


def test_the_file_keeps_the_destinations_with_most_connections_and_says_how_many_others_may_have():
    many = {Destination("192.0.2.2", f"198.51.100.{n}", 8443): DestinationUse(500 - n, 0) for n in range(300)}
    kept = as_earlier(snapshot(census=census()._replace(by_destination=many))).census
    assert len(kept.by_destination) == 256
    assert kept.unlisted == 500 - 256
    assert isinstance(as_earlier(snapshot(census=Missing("hidden"))).census, Missing)
