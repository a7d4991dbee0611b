"""Defaults that follow from the size of the machine."""

import pytest

from tcpdoctor.facts.sysctl_value import computed_defaults, fewest_sockets, is_computed_default, least_default
from tcpdoctor.kernel.reading import Missing

GIB = 1 << 30


@pytest.mark.parametrize(
    ("memory", "sockets"),
    [(GIB, 4096), (GIB - 1, 2048), (4 * GIB, 16384), (24 * GIB, 65536), (1024 * GIB, 262144), (0, 0)],
)
def test_the_least_default_of_a_machine_follows_from_its_memory(memory, sockets):
    assert fewest_sockets(memory) == sockets


OF_6_14 = {"net.ipv4.tcp_tw_reuse_delay": 1000}
OF_6_18 = {**OF_6_14, "net.ipv4.tcp_ecn_option": 2}
PAGES = 6_171_021  # 24 GiB, of which the kernel counted 6,141,872 at boot


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("net.ipv4.tcp_mem", (287898, 383867, 575796), True),  # seen on 6.18
        ("net.ipv4.tcp_mem", (287898, 383867, 575797), False),
        ("net.ipv4.tcp_mem", (25600, 51200, 102400), False),
        ("net.ipv4.tcp_mem", (192843, 257124, 385686), False),  # the shape of it, for a smaller machine
        ("net.ipv4.udp_mem", (575799, 767734, 1151598), True),
        ("net.ipv4.tcp_rmem", (4096, 131072, 33554432), True),
        ("net.ipv4.tcp_rmem", (4096, 131072, 6291456), True),
        ("net.ipv4.tcp_rmem", (4096, 87380, 6291456), False),
        ("net.ipv4.tcp_rmem", (4096, 131072, 16777216), False),
        ("net.ipv4.tcp_wmem", (4096, 16384, 4194304), True),
        ("net.ipv4.tcp_wmem", (4096, 65536, 4194304), False),
        ("fs.file-max", 2466170, True),
        ("fs.file-max", 9223372036854775807, False),
        ("fs.file-max", 65535, False),
        ("net.core.rmem_max", 212992, None),
    ],
)
def test_what_the_kernel_computes_from_memory_is_known_again(name, value, expected):
    assert is_computed_default(name, value, {}, PAGES, 4096) is expected
    assert is_computed_default(name, value, {}, Missing("not known"), 4096) is None


def test_since_6_18_a_smaller_one_of_before_is_no_default():
    old, new = (4096, 131072, 6 << 20), (4096, 131072, 32 << 20)
    assert [is_computed_default("net.ipv4.tcp_rmem", each, OF_6_18, PAGES, 4096) for each in (old, new)] == [
        False,
        True,
    ]
    assert is_computed_default("net.ipv4.tcp_rmem", old, OF_6_14, PAGES, 4096) is True
    assert computed_defaults(OF_6_18)["net.core.rmem_max"] == ("4194304",)
    assert computed_defaults(OF_6_18)["net.ipv4.tcp_limit_output_bytes"] == ("4194304",)
    assert computed_defaults(OF_6_18)["net.ipv4.tcp_challenge_ack_limit"] == ("2147483647",)
    assert not computed_defaults(OF_6_14).keys() & {"net.core.rmem_max", "net.ipv4.tcp_limit_output_bytes"}


def test_on_a_small_machine_buffers_end_with_its_memory():
    assert is_computed_default("net.ipv4.tcp_rmem", (4096, 131072, 3932160), {}, 126_976, 4096) is True
    assert is_computed_default("net.ipv4.tcp_rmem", (4096, 131072, 6291456), {}, 126_976, 4096) is False
    assert is_computed_default("net.ipv4.tcp_wmem", (4096, 16384, 65536), {}, 1024, 4096) is True


@pytest.mark.parametrize(
    ("name", "sysctls", "least"),
    [
        ("net.core.somaxconn", {}, 4096),
        ("net.core.rmem_max", {}, 163840),
        ("net.core.rmem_max", OF_6_14, 163840),
        ("net.core.rmem_max", OF_6_18, 4194304),
        ("net.ipv4.tcp_rmem", {}, (4096, 131072, 6291456)),
        ("net.ipv4.tcp_rmem", OF_6_14, (4096, 131072, 6291456)),
        ("net.ipv4.tcp_rmem", OF_6_18, (4096, 131072, 33554432)),
        ("net.ipv4.tcp_max_orphans", {"net.ipv4.tcp_ehash_entries": -262144}, 131072),
        ("net.ipv4.tcp_mem", {}, (144633, 192844, 289266)),
        ("fs.file-max", {}, 1234204),
        ("net.netfilter.nf_conntrack_max", {}, 262144),
    ],
)
def test_the_least_default_is_never_above_what_the_kernel_has(name, sysctls, least):
    assert least_default(name, sysctls, PAGES, 4096) == least


def test_where_memory_is_not_known_only_what_does_not_hang_on_it_is():
    unknown = Missing("not known")
    assert least_default("net.ipv4.tcp_mem", {}, unknown, 4096) == unknown
    assert least_default("net.ipv4.tcp_rmem", {}, unknown, 4096) == (4096, 131072, 131072)
    assert isinstance(least_default("net.netfilter.nf_conntrack_max", {}, 100_000, 4096), Missing)
