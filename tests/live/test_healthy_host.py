"""What is well is not complained about."""

from .checks import check, lines_of
from .traffic import coming_and_going, healthy_traffic


def quiet():
    return check()


def test_a_namespace_with_the_defaults_of_the_kernel_yields_no_finding_at_all(in_namespace):
    report = in_namespace(quiet)
    assert (report["findings"], report["status"], report["exit_code"]) == ([], "ok", 0)
    assert report["summary"]["checked"] >= 18
    assert all("initial network namespace" in item["reason"] for item in report["unchecked"])


def busy():
    with healthy_traffic(401, kept=23, pooled=7):
        report = check()
        return report, lines_of("ss -Htn state time-wait"), lines_of("ss -Htn state close-wait")


def test_a_busy_healthy_host_yields_nothing_above_info(in_namespace):
    report, time_wait, close_wait = in_namespace(busy)
    assert (time_wait, close_wait) == (401, 7)
    assert [finding for finding in report["findings"] if finding["severity"] != "info"] == []
    assert (report["status"], report["exit_code"]) == ("ok", 0)


def connections_come_and_go():
    with coming_and_going(7):
        return [check("--window", window) for window in ("1", "0.1", "0")]


def test_connections_that_come_and_go_meanwhile_are_no_finding_at_any_window(in_namespace):
    for report in in_namespace(connections_come_and_go):
        assert [finding for finding in report["findings"] if finding["severity"] != "info"] == []
        assert report["states"]["time_wait"] > 23
    assert report["exit_code"] == 0
