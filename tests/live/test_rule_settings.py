"""The rules about settings, in a namespace of their own: harmful values are found, defaults are not."""

import pytest

from tcpdoctor.lab.catalogue import LAB
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
    setting = next(fix["sysctl"] for fix in finding["fixes"] if fix["sysctl"])
    write_sysctl(setting["name"], setting["value"])
    return findings(check("--window", "0"), rule)


@pytest.mark.parametrize("rule", [BETWEEN, SHORT, REUSE])
def test_the_sysctl_that_a_fix_proposes_ends_the_finding(in_namespace, rule):
    assert in_namespace(cured_by_its_fix, rule) == []


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
