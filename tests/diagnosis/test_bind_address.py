"""What bind() checks before it looks for sockets, and how the user's address is read."""

import pytest

from tcpdoctor.diagnosis.port import (
    Target,
    effective_v6only,
    find_obstacle,
    parse_target,
    wanted_device,
)
from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.addresses import InterfaceAddress, LocalAddresses, LocalPrefix
from tcpdoctor.kernel.bind_rules import BindRules
from tcpdoctor.kernel.reading import Missing

HERE = LocalAddresses(
    ipv4=(LocalPrefix(0x7F000000, 8, False), LocalPrefix(0x0A090001, 32, False)),
    ipv6=(
        InterfaceAddress("::1", 1, "lo", 128, False, False),
        InterfaceAddress("fe80::5", 3, "eth0", 64, False, False),
        InterfaceAddress("2001:db8::7", 3, "eth0", 64, True, False),
        InterfaceAddress("2001:db8::8", 3, "eth0", 64, True, True),
    ),
)
RULES = BindRules(HERE, False, False, False, 1024, False)


def obstacle(address: str, port: int = 8080, scope: int = 0, **changes) -> str | None:
    target = Target(6 if ":" in address else 4, address, scope, port)
    found = find_obstacle(target, RULES._replace(**changes))
    assert not isinstance(found, Missing)
    return None if found is None else f"{found.errno} {found.cause}"


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "127.9.9.9", "10.9.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "::ffff:10.9.0.1"],
)
def test_addresses_that_bind_takes(address):
    assert obstacle(address) is None


@pytest.mark.parametrize(
    "address", ["10.9.0.2", "2001:db8::6", "2001:db8::7", "2001:db8::8", "::ffff:8.8.8.8"]
)
def test_addresses_of_others_and_tentative_ones(address):
    assert obstacle(address) == "EADDRNOTAVAIL address-not-local"


def test_why_a_tentative_address_cannot_be_bound_is_told():
    for address, word in (("2001:db8::7", "tentative"), ("2001:db8::8", "another host has it")):
        found = find_obstacle(Target(6, address, 0, 80), RULES._replace(privileged=True))
        assert found is not None
        assert not isinstance(found, Missing)
        assert word in found.why


def test_nonlocal_bind_is_per_family_and_a_mapped_address_goes_by_that_of_ipv4():
    assert obstacle("8.8.8.8", nonlocal_ipv4=True) is None
    assert obstacle("8.8.8.8", nonlocal_ipv6=True) == "EADDRNOTAVAIL address-not-local"
    assert obstacle("2001:db8::6", nonlocal_ipv6=True) is None
    assert obstacle("::ffff:8.8.8.8", nonlocal_ipv4=True) is None


def test_a_link_local_address_needs_its_interface():
    assert obstacle("fe80::5") == "EINVAL address-not-local"
    assert obstacle("fe80::5", scope=3) is None
    assert obstacle("fe80::5", scope=4) == "EADDRNOTAVAIL address-not-local"
    assert wanted_device(Target(6, "fe80::5", 3, 80)) == 3
    assert wanted_device(Target(6, "2001:db8::7", 3, 80)) == 0


def test_ipv6_multicast_is_refused_and_ipv4_multicast_is_not():
    assert obstacle("ff02::1") == "EINVAL None"
    assert obstacle("239.1.2.3") is None


def test_privilege_starts_where_the_sysctl_says():
    assert obstacle("127.0.0.1", 1023) == "EACCES privileged-port"
    assert obstacle("127.0.0.1", 1024) is None
    assert obstacle("127.0.0.1", 80, unprivileged_from=80) is None
    assert obstacle("127.0.0.1", 80, privileged=True) is None


def test_ipv4_looks_at_the_address_first_and_ipv6_at_the_privilege():
    assert obstacle("8.8.8.8", 80) == "EADDRNOTAVAIL address-not-local"
    assert obstacle("2001:db8::6", 80) == "EACCES privileged-port"
    assert obstacle("::ffff:8.8.8.8", 80) == "EACCES privileged-port"
    assert obstacle("ff02::1", 80) == "EINVAL None"


def test_a_mapped_address_is_no_use_to_a_v6only_socket():
    assert obstacle("::ffff:127.0.0.1", bindv6only=True) == "EINVAL None"


def test_what_cannot_be_read_is_missing_and_not_a_guess():
    hidden = RULES._replace(addresses=LocalAddresses(Missing("no"), Missing("no")))
    assert find_obstacle(Target(4, "10.9.0.1", 0, 8080), hidden) == Missing("no")
    assert find_obstacle(Target(4, "0.0.0.0", 0, 8080), hidden) is None
    assert find_obstacle(Target(4, "0.0.0.0", 0, 80), RULES._replace(privileged=Missing("m"))) == Missing("m")


@pytest.mark.parametrize(
    ("address", "sysctl", "expected"),
    [
        ("::", False, False),
        ("::", True, True),
        ("::1", False, True),
        ("::ffff:127.0.0.1", False, False),
        ("0.0.0.0", True, False),
    ],
)
def test_bind_itself_makes_a_specific_address_v6only(address, sysctl, expected):
    assert effective_v6only(Target(6 if ":" in address else 4, address, 0, 80), sysctl) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, (4, "0.0.0.0", 0)),
        ("*", (4, "0.0.0.0", 0)),
        ("127.0.0.1", (4, "127.0.0.1", 0)),
        ("[::1]", (6, "::1", 0)),
        ("2001:DB8:0:0::5", (6, "2001:db8::5", 0)),
        ("fe80::5%eth0", (6, "fe80::5", 3)),
        ("fe80::5%7", (6, "fe80::5", 7)),
    ],
)
def test_the_address_that_the_user_typed(text, expected):
    assert parse_target(text, 80, {"lo": 1, "eth0": 3}) == Target(*expected, 80)


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("nix", 80),
        ("", 80),
        ("1.2.3", 80),
        ("1.2.3.4.5", 80),
        ("::g", 80),
        ("fe80::5%wlan9", 80),
        ("10.0.0.1%eth0", 80),
        ("\0", 80),
        (None, 0),
        (None, 65536),
        (None, -1),
    ],
)
def test_what_is_no_address_or_port_is_one_line(text, port):
    with pytest.raises(QuestionError) as refused:
        parse_target(text, port, {"lo": 1})
    assert "\n" not in str(refused.value)
