"""The rules about settings, in a namespace of their own: harmful values are found, defaults are not."""

import errno
import socket

import pytest

from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.settings_rules import settings_triggers
from tcpdoctor.lab.catalogue import LAB
from tcpdoctor.lab.config import SCENARIOS
from tcpdoctor.lab.namespace import write_sysctl

from .checks import check, findings, severities, the_finding

BETWEEN, SHORT = "fin-timeout-between-61-and-89", "fin-timeout-short"
REUSE = "tw-reuse-without-timestamps"


def with_fin_timeout(value):
    write_sysctl("net.ipv4.tcp_fin_timeout", value)
    report = check("--window", "0")
    return severities(report, BETWEEN), severities(report, SHORT), report


@pytest.mark.parametrize(
    ("value", "between", "short"),
    [
        (0, [], ["warning"]),
        (14, [], ["warning"]),
        (15, [], []),
        (60, [], []),
        (61, ["warning"], []),
        (89, ["warning"], []),
        (90, [], []),
        (120, [], []),
    ],
)
def test_fin_timeout(in_namespace, value, between, short):
    assert in_namespace(with_fin_timeout, value)[:2] == (between, short)


def test_the_text_says_how_long_orphans_really_live(in_namespace):
    *_, report = in_namespace(with_fin_timeout, 65)
    (finding,) = findings(report, BETWEEN)
    assert "after 10 s" in finding["summary"]


def cured_by_its_fix(rule):
    """The story's own cure may be another value: here the proposed one is written."""
    story = LAB[rule].play()
    next(story)
    finding = the_finding(check("--window", "0"), rule)
    for setting in (fix["sysctl"] for fix in finding["fixes"] if fix["sysctl"]):
        value = setting["value"]
        write_sysctl(setting["name"], " ".join(map(str, value)) if isinstance(value, list) else value)
    return findings(check("--window", "0"), rule)


@pytest.mark.parametrize(
    ("rule", "name", "value"),
    [
        ("syn-retries-low", "net.ipv4.tcp_synack_retries", "1"),
        ("syn-retries-low", "net.ipv4.tcp_syn_retries", "1"),
        ("timeouts-look-like-milliseconds", "net.ipv4.tcp_keepalive_intvl", "30000"),
        ("timeouts-look-like-milliseconds", "net.ipv4.tcp_fin_timeout", "60000"),
        ("tcp-buffers-tiny", "net.ipv4.tcp_wmem", "4096 16384 8192"),
        ("tcp-buffers-tiny", "net.ipv4.tcp_rmem", "4 87 6144"),
        ("tcp-buffers-lowered", "net.ipv4.tcp_wmem", "4096 16384 1048576"),
        ("buffer-order", "net.ipv4.tcp_rmem", "4096 131072 98304"),
    ],
)
def test_of_several_settings_the_one_to_blame_is_set_and_no_other(in_namespace, rule, name, value):
    """The first command is the one that is typed: it must not set what is well to what it is."""

    def cured():
        write_sysctl(name, value)
        finding = the_finding(check("--window", "0"), rule)
        (setting,) = (fix["sysctl"] for fix in finding["fixes"] if fix["sysctl"])
        new = setting["value"]
        write_sysctl(setting["name"], " ".join(map(str, new)) if isinstance(new, list) else new)
        return setting["name"], findings(check("--window", "0"), rule)

    assert in_namespace(cured) == (name, [])


SINGLE = [scenario.name for scenario in SCENARIOS]


def test_every_rule_on_settings_of_a_namespace_has_a_story():
    about = {rule.id for rule in load_rules().rules if settings_triggers(rule) and rule.family == "config"}
    without = {rule.id for rule in load_rules().rules if rule.no_scenario}
    assert about - without <= set(SINGLE)
    assert len(about - without) >= 21


@pytest.mark.parametrize("rule", SINGLE)
def test_the_sysctl_that_a_fix_proposes_ends_the_finding(in_namespace, rule):
    assert in_namespace(cured_by_its_fix, rule) == []


def with_short_time_and_no_probes():
    """Two idle connections with keepalive where no probe is ever sent: what ends the one whose time comes."""
    write_sysctl("net.ipv4.tcp_keepalive_probes", 0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        client, other = (socket.create_connection(server.getsockname()) for _ in range(2))
        accepted = [server.accept()[0] for _ in range(2)]
        with client, other, accepted[0], accepted[1]:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            found = severities(check("--window", "0"), "keepalive-probes-zero")
            client.settimeout(30)
            try:
                client.recv(1)
            except OSError as error:
                return found, error.errno
    return found, None


def test_without_probes_a_healthy_idle_connection_is_ended(in_namespace):
    assert in_namespace(with_short_time_and_no_probes) == (["critical"], errno.ETIMEDOUT)


def with_reuse(reuse, timestamps):
    write_sysctl("net.ipv4.tcp_tw_reuse", reuse)
    write_sysctl("net.ipv4.tcp_timestamps", timestamps)
    return severities(check("--window", "0"), REUSE)


@pytest.mark.parametrize(
    ("reuse", "timestamps", "expected"),
    [(1, 0, ["warning"]), (1, 1, []), (2, 0, []), (0, 0, []), (1, 2, [])],
)
def test_tw_reuse_without_timestamps(in_namespace, reuse, timestamps, expected):
    assert in_namespace(with_reuse, reuse, timestamps) == expected
