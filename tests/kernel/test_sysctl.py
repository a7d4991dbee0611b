"""Settings by name: their types, and every way in which one may be missing."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpdoctor.errors import KernelReadError
from tcpdoctor.kernel.reading import Missing, Refused
from tcpdoctor.kernel.sysctl import (
    MACHINE_WIDE,
    WANTED,
    parse_sysctl,
    read_sysctl,
    read_sysctls,
    sysctl_names,
)

VERBATIM = {
    "net.ipv4.tcp_fin_timeout": ("60\n", 60),
    "net.ipv4.tcp_ehash_entries": ("-16384\n", -16384),
    "net.ipv4.tcp_rmem": ("4096\t131072\t33554432\n", (4096, 131072, 33554432)),
    "net.ipv4.tcp_mem": ("287898\t383867\t575796\n", (287898, 383867, 575796)),
    "net.ipv4.ip_local_port_range": ("32768\t60999\n", (32768, 60999)),
    "net.ipv4.ip_local_reserved_ports": ("\n", ()),
    "net.ipv4.tcp_congestion_control": ("bbr\n", "bbr"),
    "net.ipv4.tcp_available_congestion_control": ("reno bbr cubic\n", "reno bbr cubic"),
    "net.ipv4.tcp_available_ulp": ("\n", ""),
    "fs.file-max": ("9223372036854775807\n", 9223372036854775807),
    "fs.file-nr": ("716\t0\t2466170\n", (716, 0, 2466170)),
}


@pytest.mark.parametrize(("name", "text", "value"), [(n, t, v) for n, (t, v) in VERBATIM.items()])
def test_the_name_decides_the_type(name, text, value):
    assert parse_sysctl(name, text, "recorded") == value


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("8080\n", ((8080, 8080),)),
        ("8080,9000-9010\n", ((8080, 8080), (9000, 9010))),
        ("0-65535\n", ((0, 65535),)),
    ],
)
def test_reserved_ports_are_ranges(text, ranges):
    assert parse_sysctl("net.ipv4.ip_local_reserved_ports", text, "recorded") == ranges


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("net.ipv4.tcp_fin_timeout", "sixty\n", "one whole number"),
        ("net.ipv4.tcp_fin_timeout", "\n", "one whole number"),
        ("net.ipv4.tcp_fin_timeout", "60 61\n", "one whole number"),
        ("net.ipv4.tcp_fin_timeout", "6_0\n", "one whole number"),
        ("net.ipv4.tcp_fin_timeout", "٦٠\n", "one whole number"),
        ("net.ipv4.ip_local_port_range", "32768\n", "two whole numbers"),
        ("net.ipv4.tcp_rmem", "4096\t131072\n", "three whole numbers"),
        ("net.ipv4.ip_local_reserved_ports", "1-2-3\n", "ranges of ports"),
        ("net.ipv4.ip_local_reserved_ports", "9-8\n", "ranges of ports"),
        ("net.ipv4.ip_local_reserved_ports", "70000\n", "ranges of ports"),
        ("net.ipv4.ip_local_reserved_ports", "8080,\n", "ranges of ports"),
        ("net.ipv4.ip_local_reserved_ports", "http\n", "ranges of ports"),
    ],
)
def test_other_content_than_the_name_says_is_refused_with_the_file(name, text, expected):
    with pytest.raises(KernelReadError, match=rf"^/proc/sys/x: expected {expected}"):
        parse_sysctl(name, text, "/proc/sys/x")


@pytest.mark.parametrize(
    ("text", "value"),
    [("7\n", 7), ("1\t2\n", (1, 2)), ("1 2 3 4\n", (1, 2, 3, 4)), ("auto\n", "auto"), ("\n", "")],
)
def test_a_setting_we_do_not_know_is_typed_by_what_it_holds(text, value):
    assert parse_sysctl("net.ipv4.tcp_of_a_vendor", text, "recorded") == value


@given(st.integers(-(2**63), 2**64))
def test_a_number_is_never_text(number):
    assert parse_sysctl("net.ipv4.tcp_fin_timeout", f"{number}\n", "recorded") == number
    assert parse_sysctl("net.ipv4.tcp_of_a_vendor", f"{number}\n", "recorded") == number


@given(st.sets(st.integers(1, 65535)))
def test_ranges_hold_every_reserved_port_once(ports):
    text = ",".join(map(str, sorted(ports)))
    ranges = parse_sysctl("net.ipv4.ip_local_reserved_ports", text + "\n", "recorded")
    assert {port for low, high in ranges for port in range(low, high + 1)} == ports


def recorded_tree(tmp_path, **settings):
    for name, text in settings.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(tmp_path)


def test_every_tcp_setting_of_this_kernel_is_read(tmp_path):
    root = recorded_tree(tmp_path, net__ipv4__tcp_of_a_vendor="3\n", net__ipv4__icmp_ratelimit="1\n")
    assert "net.ipv4.tcp_of_a_vendor" in sysctl_names(root)
    assert "net.ipv4.icmp_ratelimit" not in sysctl_names(root)
    assert read_sysctls(root=root)["net.ipv4.tcp_of_a_vendor"] == 3


def test_what_rules_need_is_missing_where_the_kernel_lacks_it(tmp_path):
    values = read_sysctls(root=str(tmp_path))
    assert set(values) == set(WANTED)
    assert all(isinstance(value, Missing) and name in value.reason for name, value in values.items())


@pytest.mark.parametrize(
    "name", ["net.ipv4.tcp_mem", "net.ipv4.tcp_max_orphans", "net.core.netdev_max_backlog"]
)
def test_settings_of_the_machine_say_so_in_a_child_namespace(tmp_path, name):
    assert name in MACHINE_WIDE
    root = recorded_tree(tmp_path, net__ipv4__tcp_fin_timeout="60\n", net__core__somaxconn="4096\n")
    assert read_sysctl(name, root) == Missing(f"{name} exists in the initial network namespace only")


def test_buffer_limits_are_of_the_machine_where_an_older_kernel_hides_them(tmp_path):
    root = recorded_tree(tmp_path, net__ipv4__tcp_fin_timeout="60\n", net__core__somaxconn="4096\n")
    assert read_sysctl("net.core.somaxconn", root) == 4096
    reason = "net.core.rmem_max exists in the initial network namespace only"
    assert read_sysctl("net.core.rmem_max", root) == Missing(reason)


def test_a_setting_this_kernel_lacks_is_missing_also_in_the_initial_namespace(tmp_path):
    root = recorded_tree(tmp_path, net__ipv4__tcp_mem="1\t2\t3\n", net__ipv4__tcp_fin_timeout="60\n")
    answer = read_sysctl("net.ipv4.tcp_max_orphans", root)
    assert answer == Missing("net.ipv4.tcp_max_orphans: this kernel or network namespace does not have it")


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("net.ipv4.tcp_mem", "net/ipv4"),
        ("net.ipv6.bindv6only", "net/ipv4"),
        ("net.netfilter.nf_conntrack_count", "net/ipv4"),
        ("net.core.netdev_max_backlog", "net/core"),
        ("fs.file-max", "fs"),
    ],
)
def test_what_is_masked_is_said_to_be_hidden_and_nothing_else(tmp_path, name, hidden):
    answer = read_sysctl(name, str(tmp_path))
    assert isinstance(answer, Refused)
    assert f"{tmp_path}/{hidden} is hidden here" in answer.reason


def test_a_file_that_is_covered_by_an_empty_one_is_hidden_and_no_broken_contract(tmp_path):
    root = recorded_tree(tmp_path, net__ipv4__tcp_mem="", net__ipv4__ip_local_reserved_ports="\n")
    answer = read_sysctl("net.ipv4.tcp_mem", root)
    assert isinstance(answer, Refused)
    assert "something covers it" in answer.reason
    assert read_sysctl("net.ipv4.ip_local_reserved_ports", root) == ()


def test_without_ipv6_the_reason_says_so(tmp_path):
    root = recorded_tree(tmp_path, net__ipv4__tcp_fin_timeout="60\n")
    assert read_sysctl("net.ipv6.bindv6only", root) == Missing(
        "net.ipv6.bindv6only: IPv6 is not there in this kernel"
    )


def test_a_key_is_never_read(tmp_path):
    root = recorded_tree(tmp_path, net__ipv4__tcp_fastopen_key="00000000-00000000-00000000-00000001\n")
    answer = read_sysctl("net.ipv4.tcp_fastopen_key", root)
    assert isinstance(answer, Missing)
    assert "secret" in answer.reason


def test_without_connection_tracking_its_settings_say_so(tmp_path):
    root = recorded_tree(tmp_path, net__ipv4__tcp_fin_timeout="60\n")
    answer = read_sysctl("net.netfilter.nf_conntrack_max", root)
    assert answer == Missing(
        "net.netfilter.nf_conntrack_max: connections are not tracked here, nf_conntrack is not loaded"
    )
    recorded_tree(tmp_path, net__netfilter__nf_conntrack_count="0\n")
    answer = read_sysctl("net.netfilter.nf_conntrack_max", root)
    assert isinstance(answer, Missing)
    assert "does not have it" in answer.reason


def test_a_group_of_settings_is_no_setting(tmp_path):
    root = recorded_tree(tmp_path, net__ipv4__tcp_fin_timeout="60\n")
    assert read_sysctl("net.ipv4", root) == Missing("net.ipv4 is a group of settings and no single one")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_setting_hidden_from_us_says_what_would_do(tmp_path):
    root = recorded_tree(tmp_path, net__ipv4__tcp_fin_timeout="60\n")
    (tmp_path / "net/ipv4/tcp_fin_timeout").chmod(0)
    answer = read_sysctl("net.ipv4.tcp_fin_timeout", root)
    assert isinstance(answer, Missing)
    assert "run as root" in answer.reason


@pytest.mark.parametrize("name", ["net/ipv4/conf/eth0.1/rp_filter", "net.ipv4.conf.eth0/1.rp_filter"])
def test_dots_in_an_interface_name_are_written_as_sysctl_does(tmp_path, name):
    path = tmp_path / "net/ipv4/conf/eth0.1/rp_filter"
    path.parent.mkdir(parents=True)
    path.write_text("2\n")
    assert read_sysctl(name, str(tmp_path)) == 2


@pytest.mark.parametrize(
    "name", ["net/../../secret", "..", "", "/", "net//ipv4", "../secret", "a\0b", "net..ipv4"]
)
def test_no_name_leads_out_of_proc_sys(tmp_path, name):
    (tmp_path / "secret").write_text("1\n")
    (tmp_path / "sys").mkdir()
    assert isinstance(read_sysctl(name, str(tmp_path / "sys")), Missing)
