"""What the kernel prints of its addresses, verbatim, and what bind() makes of it."""

import pytest

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.addresses import (
    LocalAddresses,
    parse_interface_addresses,
    parse_local_table,
    read_local_addresses,
)
from tcpdoctor.kernel.reading import Missing

FIB_TRIE = """\
Id 100:
  |-- 0.0.0.0
     /0 host LOCAL
Main:
  |-- 10.9.0.0
     /24 link UNICAST
Local:
  +-- 0.0.0.0/1 2 0 2
     +-- 10.0.0.0/9 2 0 2
        +-- 10.9.0.0/24 2 0 2
           |-- 10.9.0.1
              /32 host LOCAL
           |-- 10.9.0.255
              /32 link BROADCAST
        |-- 10.77.0.0
           /16 host LOCAL
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
"""

IF_INET6 = """\
fe80000000000000849e41fffefe2ce5 03 40 20 c0       v0
20010db8000000000000000000000009 03 40 00 82       v0
00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000003 03 40 00 c8       v0
20010db8000000000000000000000004 03 40 00 c4       v0
"""


def local(address: str) -> object:
    return LocalAddresses(parse_local_table(FIB_TRIE.splitlines(keepends=True)), ()).has_ipv4(address)


@pytest.mark.parametrize("address", ["10.9.0.1", "10.9.0.255", "10.77.200.3", "127.5.5.5", "127.0.0.1"])
def test_a_route_of_the_local_table_makes_an_address_local(address):
    assert local(address) is True


@pytest.mark.parametrize("address", ["10.9.0.7", "10.9.0.0", "8.8.8.8", "10.78.0.1"])
def test_routes_of_other_tables_make_no_address_local(address):
    assert local(address) is False


def test_what_cannot_be_read_is_neither_local_nor_foreign():
    assert LocalAddresses(Missing("hidden"), ()).has_ipv4("10.0.0.1") == Missing("hidden")


def test_a_prefix_without_its_leaf_is_refused():
    with pytest.raises(KernelReadError, match="fib_trie"):
        parse_local_table(["Local:\n", "     /32 host LOCAL\n"])


def test_tentative_and_duplicate_addresses_are_told_from_usable_ones():
    found = {a.address: a for a in parse_interface_addresses(IF_INET6.splitlines(keepends=True))}
    assert [a for a, row in found.items() if row.tentative] == ["fe80::849e:41ff:fefe:2ce5", "2001:db8::3"]
    assert [a for a, row in found.items() if row.duplicate] == ["2001:db8::3"]
    assert found["::1"][1:4] == (1, "lo", 128)


def test_an_optimistic_address_can_be_bound_although_it_is_tentative():
    found = {a.address: a for a in parse_interface_addresses(IF_INET6.splitlines(keepends=True))}
    assert not found["2001:db8::4"].tentative


def test_a_line_with_other_columns_is_refused_with_its_number():
    with pytest.raises(KernelReadError, match="line 2"):
        parse_interface_addresses(["00000000000000000000000000000001 01 80 10 80 lo\n", "nonsense\n"])


def test_a_kernel_without_ipv6_has_no_ipv6_address_and_one_without_the_table_says_so(tmp_path):
    found = read_local_addresses(tmp_path)
    assert found.ipv6 == ()
    assert isinstance(found.ipv4, Missing)
    assert "fib_trie" in found.ipv4.reason
