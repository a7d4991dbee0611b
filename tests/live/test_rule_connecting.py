"""The rules of connecting and of ports: disease found, cure not."""

import errno
import socket
from contextlib import ExitStack

import pytest

from tcpdoctor.lab.closing import time_wait
from tcpdoctor.lab.connecting import connections, unanswered
from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.packets import hear_again
from tcpdoctor.lab.pairs import connect_pair, listen, wait_until

from .checks import (
    check,
    evidence,
    findings,
    lines_of,
    only_finding,
    output_of,
    severities,
    the_finding,
)

EXHAUSTED = "ephemeral-ports-nearly-exhausted"
IN_RANGE = "listener-port-in-ephemeral-range"


def hundred_ports():
    """A range of 103 ports of which 3 are reserved, and servers outside it."""
    write_sysctl("net.ipv4.ip_local_port_range", "40000 40102")
    write_sysctl("net.ipv4.ip_local_reserved_ports", "40000-40002")


def ports_used(count):
    with ExitStack() as stack:
        server = listen(stack, port=7000)
        other = listen(stack, port=7001)
        hundred_ports()
        for _ in range(count):
            connect_pair(stack, server)
        for _ in range(41):
            connect_pair(stack, other)
        report = check()
        counted = lines_of("ss -Htn dst 127.0.0.1 dport = :7000")
        write_sysctl("net.ipv4.ip_local_port_range", "30000 40102")
        return report, counted, check()


@pytest.mark.parametrize(("count", "expected"), [(79, []), (83, ["warning"]), (97, ["critical"])])
def test_ports_used_towards_one_destination_are_measured_against_the_usable_ones(
    in_namespace, count, expected
):
    report, counted, cured = in_namespace(ports_used, count)
    assert counted == count
    assert severities(report, EXHAUSTED) == expected
    for finding in findings(report, EXHAUSTED):
        assert f"{count} of 100 ephemeral ports ({count} %)" in finding["summary"]
        assert (evidence(finding, "ports.connectable"), evidence(finding, "ports.blocked")) == (100, count)
    assert findings(cured, EXHAUSTED) == []


def ports_between_bound_ones(bound, connected):
    hundred_ports()
    with ExitStack() as stack:
        server = listen(stack, port=7000)
        for port in range(40003, 40003 + bound):
            holder = stack.enter_context(socket.socket())
            holder.bind(("127.0.0.1", port))
            if port % 2:
                holder.listen()
        for _ in range(connected):
            connect_pair(stack, server)
        report = check("--window", "0")
        refused = 0
        try:
            connect_pair(stack, server)
        except OSError as error:
            refused = error.errno
        return report, refused


@pytest.mark.parametrize(("connected", "expected"), [(37, []), (50, ["critical"])])
def test_ports_that_bind_took_are_not_left_for_connect(in_namespace, connected, expected):
    report, refused = in_namespace(ports_between_bound_ones, 50, connected)
    assert severities(report, EXHAUSTED) == expected
    assert refused == (errno.EADDRNOTAVAIL if expected else 0)
    for finding in findings(report, EXHAUSTED):
        assert "50 of 50 ephemeral ports" in finding["summary"]
        assert "100 are usable, and 50 of them" in finding["explanation"]


def ports_in_time_wait(reuse, timestamps):
    hundred_ports()
    write_sysctl("net.ipv4.tcp_tw_reuse", reuse)
    write_sysctl("net.ipv4.tcp_timestamps", timestamps)
    with time_wait(97) as server:
        write_sysctl("net.ipv4.tcp_timestamps", timestamps)
        report = check("--window", "1.2")
        try:
            with ExitStack() as stack:
                for _ in range(7):
                    connect_pair(stack, server)
                connects = True
        except OSError:
            connects = False
    return report, connects


@pytest.mark.parametrize(
    ("reuse", "timestamps", "severity", "words", "connects"),
    [
        (0, 1, "critical", "block their ports for 60 s (tcp_tw_reuse is 0)", False),
        (1, 1, "info", "take them over once 1 s old (tcp_tw_reuse is 1, if the peer", True),
        (2, 1, "info", "take them over once 1 s old (tcp_tw_reuse is 2, and this is loopback)", True),
        (2, 0, "critical", "block their ports for 60 s (tcp_timestamps is 0)", False),
    ],
)
def test_time_wait_is_critical_exactly_where_connect_fails(
    in_namespace, reuse, timestamps, severity, words, connects
):
    report, could_connect = in_namespace(ports_in_time_wait, reuse, timestamps)
    finding = only_finding(report, EXHAUSTED)
    assert (finding["severity"], could_connect) == (severity, connects)
    assert "97 of them are in TIME_WAIT" in finding["summary"]
    assert f"{0 if connects else 97} cannot be taken" in finding["summary"]
    assert words in finding["explanation"]


def ports_of_healthy_client():
    with connections(97):
        return check()


def test_a_hundred_connections_are_nothing_beside_the_default_range(in_namespace):
    assert findings(in_namespace(ports_of_healthy_client), EXHAUSTED) == []


# --- syn-sent-unanswered ---


def no_answer():
    with unanswered(23) as server:
        sick = the_finding(check(), "syn-sent-unanswered")
        counted = lines_of("ss -Htn state syn-sent")
        hear_again(server)
        wait_until(lambda: lines_of("ss -Htn state syn-sent") == 0, "SYN-ACKs", 10)
        return sick, counted, check()


def test_a_destination_that_does_not_answer_is_found_with_who_tries(in_namespace):
    sick, counted, cured = in_namespace(no_answer)
    assert (sick["severity"], sick["scope"], counted) == ("warning", "destination", 23)
    assert evidence(sick, "syn_sent.lasting") == 23
    assert "127.0.0.1" in sick["summary"]
    assert findings(cured, "syn-sent-unanswered") == []


def two_attempts():
    with unanswered(2):
        return check()


def test_two_unanswered_attempts_are_no_finding(in_namespace):
    assert findings(in_namespace(two_attempts), "syn-sent-unanswered") == []


# --- listener-port-in-ephemeral-range ---


def port_in_range():
    with socket.create_server(("127.0.0.1", 40001)), socket.create_server(("127.0.0.1", 8080)):
        before = check("--window", "0")
        sick = the_finding(before, IN_RANGE)
        setting = next(fix["sysctl"] for fix in sick["fixes"] if fix["sysctl"])
        write_sysctl("net.ipv4.ip_local_reserved_ports", setting["value"])
        return before, sick, check("--window", "0")


def test_a_server_in_the_ephemeral_range_is_worth_a_remark_until_its_port_is_reserved(in_namespace):
    before, sick, cured = in_namespace(port_in_range)
    assert (sick["severity"], sick["scope"]) == ("info", "listener")
    assert "127.0.0.1:40001" in sick["summary"]
    assert (before["status"], before["exit_code"]) == ("ok", 0)
    assert findings(cured, IN_RANGE) == []


def three_servers_in_range():
    """Run what the text says, once: it is not repeated for the second and third server."""
    with ExitStack() as stack:
        for port in (40001, 40011, 40021):
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        before = check("--window", "0")
        (command,) = findings(before, IN_RANGE)[-1]["fixes"][0]["commands"]
        assert output_of(command).startswith("net.ipv4.ip_local_reserved_ports")
        return len(findings(before, IN_RANGE)), findings(check("--window", "0"), IN_RANGE)


def test_one_command_reserves_the_ports_of_all_servers(in_namespace):
    assert in_namespace(three_servers_in_range) == (3, [])


def two_ports_in_range():
    write_sysctl("net.ipv4.ip_local_reserved_ports", "50000,50010-50020")
    with socket.create_server(("127.0.0.1", 40001)):
        sick = the_finding(check("--window", "0"), IN_RANGE)
    return next(fix["sysctl"]["value"] for fix in sick["fixes"] if fix["sysctl"])


def test_reserving_a_port_keeps_those_that_were_reserved(in_namespace):
    assert str(in_namespace(two_ports_in_range)).replace(" ", "") == "40001,50000,50010-50020"
