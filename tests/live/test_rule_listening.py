"""The rules of listening: a server that does not accept is found, one that does is not."""

import pytest

from tcpdoctor.lab.listening import accept_all, accept_queue, accept_queue_overflowing
from tcpdoctor.lab.namespace import write_sysctl

from .checks import check, evidence, findings, lines_of, severities, the_finding

FULL = "accept-queue-full"
OVERFLOWS = "accept-queue-overflows"


def queue_of(length, backlog, options):
    with accept_queue(length, backlog=backlog) as server:
        sick = check(*options)
        accept_all(server, quiet=0.3)
        return sick, check(*options)


@pytest.mark.parametrize(
    ("length", "backlog", "options", "expected"),
    [
        (24, 23, (), ["critical"]),
        (24, 23, ("--window", "0"), ["warning"]),
        (23, 23, (), ["warning"]),
        (19, 23, (), ["warning"]),
        (18, 23, (), []),
        (6, 5, (), ["critical"]),
        (6, 5, ("--window", "0"), ["warning"]),
        (5, 5, (), []),
        (2, 1, (), ["critical"]),
        (1, 0, (), ["critical"]),
        (15, 15, (), []),
        (13, 16, (), ["warning"]),
        (12, 16, (), []),
    ],
)
def test_an_accept_queue_is_judged_by_its_own_limit(in_namespace, length, backlog, options, expected):
    sick, cured = in_namespace(queue_of, length, backlog, options)
    assert severities(sick, FULL) == expected
    assert severities(cured, FULL) == []
    for finding in findings(sick, FULL):
        assert finding["scope"] == "listener"
        assert f"The accept queue holds {length} and" in finding["summary"]


def overflowing():
    with accept_queue_overflowing(23, backlog=31) as server:
        report = check("--window", "1.5")
        sick = [the_finding(report, rule) for rule in (FULL, OVERFLOWS)]
        cookies = lines_of("ss -Htn state syn-sent")
        accepted = len(accept_all(server, quiet=4.5))
        return sick, cookies, accepted, check()


def test_clients_that_are_dropped_at_a_full_queue_are_counted(in_namespace):
    (full, overflows), waiting, accepted, cured = in_namespace(overflowing)
    assert (full["severity"], overflows["severity"]) == ("critical", "critical")
    assert waiting == 23
    assert evidence(overflows, "rate(TcpExt.ListenOverflows)") >= 5
    assert accepted == 32 + 23
    assert findings(cured, OVERFLOWS) == findings(cured, FULL) == []


def cookies_off():
    write_sysctl("net.ipv4.tcp_syncookies", 0)
    sick = check("--window", "0")
    finding = the_finding(sick, "syncookies-off")
    setting = next(fix["sysctl"] for fix in finding["fixes"] if fix["sysctl"])
    write_sysctl(setting["name"], setting["value"])
    return finding, setting, check("--window", "0")


def test_syncookies_that_are_off_are_found_and_the_fix_cures_it(in_namespace):
    finding, setting, cured = in_namespace(cookies_off)
    assert (finding["severity"], setting["current"], setting["value"]) == ("warning", 0, 1)
    assert findings(cured, "syncookies-off") == []
