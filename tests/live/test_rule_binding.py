"""The rules of bound ports and of the ephemeral range, compared with ss and with what bind() itself says."""

import functools
import socket
from contextlib import ExitStack

import pytest

from tcpdoctor.lab.binding import bound_to_any, try_bind, try_connect
from tcpdoctor.lab.catalogue import LAB
from tcpdoctor.lab.close_wait import half_closed_pairs
from tcpdoctor.lab.closing import time_wait
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.pairs import listen

from .checks import check, evidence, findings, lines_of, severities, the_finding
from .scenes import scenes_of

server_time_wait = functools.partial(time_wait, at_server=True)

BOUND, NARROW, RESERVED = (
    "ephemeral-ports-bound",
    "ephemeral-range-narrow",
    "ephemeral-range-mostly-reserved",
)
REUSE, PROXY = "tw-reuse-for-a-server", "proxy-waits-for-one-side"


# --- ephemeral-ports-bound ---


def bound_ports(count):
    write_sysctl("net.ipv4.ip_local_port_range", "40000 40103")
    with bound_to_any(count), ExitStack() as stack:
        listen(stack, port=7000)
        return check("--window", "0"), try_bind(0), try_connect(7000)


@pytest.mark.parametrize(
    ("count", "expected", "bind", "connect"),
    [(79, [], "ok", "ok"), (89, ["warning"], "ok", "ok"), (104, ["critical"], "EADDRINUSE", "EADDRNOTAVAIL")],
)
def test_bound_ports_are_measured_against_the_usable_ones(in_namespace, count, expected, bind, connect):
    report, bound_says, connect_says = in_namespace(bound_ports, count)
    assert severities(report, BOUND) == expected
    assert (bound_says, connect_says) == (bind, connect)
    for finding in findings(report, BOUND):
        assert (evidence(finding, "ports.bound"), evidence(finding, "ports.usable")) == (count, 104)
        assert "python" in finding["summary"] or "pytest" in finding["summary"]


def many_bound():
    with bound_to_any(701):
        return severities(check("--window", "0"), BOUND)


def test_seven_hundred_bound_sockets_are_nothing_beside_the_default_range(in_namespace):
    assert in_namespace(many_bound) == []


def cured_by_the_range():
    write_sysctl("net.ipv4.ip_local_port_range", "40000 40103")
    with bound_to_any(97):
        sick = the_finding(check("--window", "0"), BOUND)
        low, high = next(fix["sysctl"]["value"] for fix in sick["fixes"] if fix["sysctl"])
        write_sysctl("net.ipv4.ip_local_port_range", f"{low} {high}")
        return severities(check("--window", "0"), BOUND), try_bind(0)


def test_the_range_that_the_fix_proposes_ends_it(in_namespace):
    assert in_namespace(cured_by_the_range) == ([], "ok")


# --- the range ---


def with_range(ports, reserved):
    write_sysctl("net.ipv4.ip_local_port_range", ports)
    write_sysctl("net.ipv4.ip_local_reserved_ports", reserved)
    report = check("--window", "0")
    return severities(report, NARROW), severities(report, RESERVED)


@pytest.mark.parametrize(
    ("ports", "reserved", "narrow", "mostly_reserved"),
    [
        ("32768 60999", "\n", [], []),
        ("1024 65535", "\n", [], []),
        ("40000 49999", "\n", [], []),
        ("40000 49998", "\n", ["info"], []),
        ("40000 40998", "\n", ["warning"], []),
        ("32768 60999", "8080,50000-50100", [], []),
        ("32768 60999", "33000-60000", [], ["warning"]),
        ("40000 40009", "40000-40009", ["warning"], ["warning"]),
        ("32768 60999", "1024-32767", [], []),
    ],
)
def test_range_and_reserved_ports(in_namespace, ports, reserved, narrow, mostly_reserved):
    assert in_namespace(with_range, ports, reserved) == (narrow, mostly_reserved)


def cured_range(rule, reserved):
    write_sysctl("net.ipv4.ip_local_port_range", "40000 40103")
    write_sysctl("net.ipv4.ip_local_reserved_ports", reserved)
    sick = the_finding(check("--window", "0"), rule)
    low, high = next(fix["sysctl"]["value"] for fix in sick["fixes"] if fix["sysctl"])
    write_sysctl("net.ipv4.ip_local_port_range", f"{low} {high}")
    return severities(check("--window", "0"), rule)


@pytest.mark.parametrize(("rule", "reserved"), [(NARROW, "\n"), (RESERVED, "40000-40095")])
def test_the_sysctl_of_their_fix_ends_them(in_namespace, rule, reserved):
    assert in_namespace(cured_range, rule, reserved) == []


def refused(name, value):
    try:
        write_sysctl(name, value)
    except OSError as error:
        return error.strerror
    return None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("net.ipv4.ip_local_port_range", "1000 60999"),
        ("net.ipv4.ip_unprivileged_port_start", "32769"),
    ],
)
def test_the_kernel_lets_the_range_begin_below_no_privileged_port(in_namespace, name, value):
    assert in_namespace(refused, name, value) == "Invalid argument"


# --- a port in a client's hands ---


def taken():
    return [(seen.report["bind"]["cause"], seen.report["bind"]["attempts"][1]["bind"])
            for seen in scenes_of(LAB["listener-port-taken-by-client"])]  # fmt: skip


def test_a_server_whose_port_a_client_was_given_is_told_so(in_namespace):
    assert in_namespace(taken) == [("outgoing-connection", "EADDRINUSE"), ("listener", "EADDRINUSE")]


# --- TIME_WAIT of servers ---


def time_wait_of(maker, reuse):
    write_sysctl("net.ipv4.tcp_tw_reuse", reuse)
    with maker(151) as server:
        port = server.getsockname()[1]
        report = check("--window", "0", limits={REUSE: {"min_sockets": 100}})
        return report, lines_of(f"ss -Htan state time-wait sport = :{port}")


@pytest.mark.parametrize(
    ("maker", "reuse", "inbound", "expected"),
    [
        (server_time_wait, 1, 151, ["info"]),
        (server_time_wait, 2, 151, []),
        (time_wait, 1, 0, []),
    ],
)
def test_tw_reuse_is_remarked_on_only_where_time_wait_is_the_servers(
    in_namespace, maker, reuse, inbound, expected
):
    report, counted = in_namespace(time_wait_of, maker, reuse)
    assert (severities(report, REUSE), counted) == (expected, inbound)
    for finding in findings(report, REUSE):
        assert evidence(finding, "time_wait.at_listeners") == inbound
    assert report["exit_code"] == 0


def harmless():
    with server_time_wait(2003):
        return [finding["rule"] for finding in check("--window", "0")["findings"]]


def test_two_thousand_time_wait_of_a_server_are_no_finding_at_all(in_namespace):
    assert set(in_namespace(harmless)) <= {"listener-port-in-ephemeral-range"}


# --- proxies ---

OLD_AT_ONCE = {PROXY: {"min_age": 0.5}}


def pairs(count):
    with half_closed_pairs(count):
        report = check(limits=OLD_AT_ONCE)
        counted = lines_of("ss -Htn state close-wait"), lines_of("ss -Htn state fin-wait-2")
        young = severities(check("--window", "0.1"), PROXY)
        return report, counted, young


@pytest.mark.parametrize(("count", "expected"), [(29, 2), (17, 0)])
def test_pairs_of_which_one_side_has_ended_are_found_at_the_proxy(in_namespace, count, expected):
    report, counted, young = in_namespace(pairs, count)
    assert counted == (2 * count, 2 * count)  # half of each belong to the ends behind the proxy
    assert young == []
    found = findings(report, PROXY)
    assert len(found) == expected  # the program that plays both ends holds as many halves itself
    for finding in found:
        assert (evidence(finding, "close_wait.owned"), evidence(finding, "fin_wait_2.owned")) == (
            count,
            count,
        )


def its_commands():
    with half_closed_pairs(29) as proxied:
        proxied.peers.send("end")
        for back in proxied.backs:
            back.settimeout(10)
            assert back.recv(1) == b""
        return severities(check(limits=OLD_AT_ONCE), PROXY)


def test_once_the_far_end_finishes_it_is_over(in_namespace):
    assert in_namespace(its_commands) == []


def one_sided():
    """A server that leaks: as many CLOSE_WAIT, and no other half."""
    with ExitStack() as stack:
        server = listen(stack)
        for _ in range(61):
            client = socket.create_connection(server.getsockname(), timeout=10)
            stack.enter_context(server.accept()[0])
            client.close()
        return severities(check(limits=OLD_AT_ONCE), PROXY)


def test_a_leak_on_one_side_is_no_proxy(in_namespace):
    assert in_namespace(one_sided) == []
