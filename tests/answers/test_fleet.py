"""Many reports become one: the worst first, alike told once, and silence is never health."""

import json

import pytest

from tcpdoctor.answers import fleet as fleet_module
from tcpdoctor.answers.fleet import Fleet
from tcpdoctor.answers.host_report import looks_of
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.kernel.reading import Missing
from tests.answers.fleet_reports import NOW, document, finding, report

DAY = 86_400.0


def merge(*documents, by_file=False, max_age=DAY, expected=None, fail_on=Severity.WARNING):
    fleet = Fleet(name_by_file=by_file)
    for one in documents:
        fleet.add(one if hasattr(one, "source") else document(one))
    return fleet.conclude(NOW, max_age=max_age, expected=expected, fail_on=fail_on)


def hosts(merged):
    return {host.name: host for host in merged.hosts}


def failure(name="web1", **changes):
    schema = {"schema": "tcpdoctor.failure/1", "host": {"name": name}, "taken_at": "2026-11-18T12:25:00Z"}
    return schema | {"reason": "cannot be reached"} | changes


# the worst first, alike once


def test_hosts_are_ordered_by_status_then_by_their_worst_findings_then_by_name():
    merged = merge(
        report("ok"),
        report("one", finding("a", "critical")),
        report("two", finding("a", "critical"), finding("b", "critical")),
        report("many", *(finding(f"w{n}") for n in range(9))),
        report("blind", status="unknown"),
        report("also-ok"),
    )
    assert [host.name for host in merged.hosts] == ["two", "one", "many", "blind", "also-ok", "ok"]


def test_the_same_finding_is_told_once_and_its_severities_apart():
    merged = merge(
        report("web1", finding("a"), finding("b")),
        report("web2", finding("a"), finding("a")),
        report("web3", finding("a", "critical")),
    )
    told = [(group.rule, group.severity.key, group.hosts, group.findings_total) for group in merged.findings]
    assert told == [
        ("a", "critical", ("web3",), 1),
        ("a", "warning", ("web1", "web2"), 3),
        ("b", "warning", ("web1",), 1),
    ]
    assert [one.rule for one in hosts(merged)["web1"].findings] == ["a", "b"]


def test_severities_count_although_the_report_says_that_all_is_well():
    assert hosts(merge(report("web1", finding("a", "critical"), status="ok")))["web1"].status == "critical"


def test_a_status_counts_although_findings_were_left_out_of_the_report():
    assert hosts(merge(report("web1", status="critical")))["web1"].status == "critical"


def test_info_makes_no_host_sick():
    merged = merge(report("web1", finding("a", "info")))
    assert (merged.status, merged.exit_code) == ("ok", 0)


def test_kinds_of_findings_beyond_the_bound_are_counted(monkeypatch):
    monkeypatch.setattr(fleet_module, "MOST_GROUPS", 2)
    merged = merge(report("web1", *(finding(f"rule-{n}") for n in range(5))))
    assert (len(merged.findings), hosts(merged)["web1"].findings_not_told) == (2, 3)


# who is not known


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        (["ok"], 0),
        (["ok", "unknown"], 3),
        (["warning", "unknown"], 1),
        (["warning", "critical", "unknown"], 2),
    ],
)
def test_the_worst_decides_and_unknown_only_where_nothing_is_worse(statuses, code):
    merged = merge(*(report(status, status=status) for status in statuses))
    assert merged.exit_code == code


def test_what_does_not_fail_leaves_the_unknown_to_be_told():
    both = report("a", finding("a")), report("b", status="unknown")
    assert [merge(*both, fail_on=least).exit_code for least in (None, Severity.CRITICAL)] == [3, 3]
    assert merge(both[0], fail_on=Severity.CRITICAL).exit_code == 0


def test_nothing_at_all_is_no_health():
    assert merge().exit_code == 3


def test_a_failure_names_the_host_and_the_reason():
    merged = merge(report("web2"), failure())
    assert [tuple(one) for one in merged.unknown] == [("cannot be reached", ("web1",), 1)]
    assert merged.summary[1:5] == (0, 0, 1, 1)


def test_a_failure_after_a_report_leaves_what_was_found_and_adds_the_reason():
    merged = merge(failure(), report("web1", finding("a", "critical")))
    assert (hosts(merged)["web1"].status, hosts(merged)["web1"].reasons) == (
        "critical",
        ("cannot be reached",),
    )
    assert hosts(merge(failure(), report("web1")))["web1"].status == "unknown"


def test_a_failure_before_a_report_is_over_and_told():
    merged = merge(failure(taken_at="2026-11-18T11:00:00Z"), document(report("web1"), source="new.json"))
    assert hosts(merged)["web1"].status == "ok"
    assert [(one.counted, one.left_out) for one in merged.repeated] == [("new.json", "file.json")]


def test_a_host_that_sent_nothing_is_missed():
    merged = merge(report("web1"), expected=["web1", "WEB2"])
    assert (merged.silent, hosts(merged)["WEB2"].reasons) == (("WEB2",), ("it sent no report",))
    assert merged.exit_code == 3


def test_names_are_compared_as_host_names_are_and_others_are_noticed():
    merged = merge(report("Web1"), report("stray"), expected=["web1"])
    assert (merged.silent, merged.unexpected, len(merged.hosts)) == ((), ("stray",), 2)


def test_the_damaged_file_of_an_expected_host_is_told_as_its_own():
    merged = merge(document(Missing("it is empty"), "web2"), report("web1"), expected=["web1", "web2"])
    assert hosts(merged)["web2"].reasons == ("its report could not be read: it is empty",)
    assert merged.unread == ()


def test_a_damaged_file_of_nobody_is_told_by_its_place():
    merged = merge(document(Missing("it is empty"), "x"), report("web1"))
    assert [(one.source, one.reason) for one in merged.unread] == [("x.json", "it is empty")]
    assert (merged.status, merged.exit_code) == ("unknown", 3)


def test_a_second_and_damaged_file_of_a_host_is_not_lost():
    merged = merge(report("web1"), {"schema": "tcpdoctor.check/1", "host": {"name": "web1"}})
    assert hosts(merged)["web1"].reasons
    assert hosts(merged)["web1"].status == "unknown"


def test_endless_damage_is_counted_and_not_kept(monkeypatch):
    monkeypatch.setattr(fleet_module, "MOST_NOTES", 3)
    merged = merge(*(document(Missing("it is empty"), str(n)) for n in range(10)))
    assert (len(merged.unread), merged.summary.unread) == (3, 10)


# time


def test_an_old_report_shows_that_a_host_was_well_and_no_more():
    old = report("web1", taken_at="2026-11-15T12:20:00Z")
    assert hosts(merge(old))["web1"].reasons == ("its report is 3 d old",)
    assert hosts(merge(old))["web1"].status == "unknown"
    assert hosts(merge(old, max_age=None))["web1"].status == "ok"


def test_an_old_finding_stays_one():
    host = hosts(merge(report("web1", finding("a"), taken_at="2026-11-15T12:20:00Z")))["web1"]
    assert (host.status, host.stale) == ("warning", True)


def test_a_report_from_the_future_means_a_wrong_clock():
    host = hosts(merge(report("web1", taken_at="2026-11-18T15:26:40+00:00")))["web1"]
    assert host.reasons == ("its report is dated 3 h in the future: a clock is wrong",)


# several reports of one host


def test_the_newer_report_counts_whatever_the_order():
    older = document(report("web1", finding("a", "critical")), source="old.json")
    newer = document(report("web1", finding("b"), taken_at="2026-11-18T12:25:00Z"), source="new.json")
    for pair in ((older, newer), (newer, older)):
        merged = merge(*pair)
        assert [group.rule for group in merged.findings] == ["b"]
        assert [tuple(one) for one in merged.repeated] == [("web1", "new.json", "old.json")]


def test_words_of_a_report_that_does_not_count_are_nobodys_example():
    merged = merge(
        report("web1", finding("a", summary="old")),
        report("web2", finding("a")),
        report("web1", taken_at="2026-11-18T12:25:00Z"),
    )
    (group,) = merged.findings
    assert (group.hosts, group.example) == (("web2",), None)


def test_namespaces_of_one_host_are_one_host():
    other = {"name": "web1", "kernel": "6.1", "namespace": "77", "namespace_name": "blue"}
    merged = merge(report("web1"), report("web1", finding("a"), host=other))
    assert (len(merged.hosts), merged.hosts[0].namespaces, merged.hosts[0].status) == (1, 2, "warning")


def test_a_report_of_all_namespaces_overtakes_namespaces_that_are_gone():
    gone = {"name": "web1", "kernel": "6.1", "namespace": "77", "namespace_name": None}
    before = report("web1", finding("a"), host=gone, taken_at="2026-11-18T11:00:00Z")
    everything = {"schema": "tcpdoctor.checks/1", "checks": [report("web1")], "failed": []}
    merged = merge(before, everything)
    assert (merged.findings, merged.hosts[0].status) == ((), "ok")
    assert len(merged.repeated) == 1


def test_a_namespace_that_could_not_be_entered_is_told():
    failed = [{"namespace": "77", "namespace_name": None, "reason": "not permitted"}]
    merged = merge({"schema": "tcpdoctor.checks/1", "checks": [report("web1")], "failed": failed})
    assert merged.hosts[0].reasons == ("network namespace 77: not permitted",)


def test_two_machines_of_one_name_are_told_apart_by_their_files():
    first, second = document(report("localhost"), "a"), document(report("localhost", finding("x")), "b")
    assert len(merge(first, second).repeated) == 1
    merged = merge(first, second, by_file=True)
    assert ([host.name for host in merged.hosts], merged.repeated) == (["b", "a"], ())


# what is no report


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (7, "the report is '7', where an object is expected"),
        ("text", "the report is 'text'"),
        (None, "the report is missing"),
        ([], "it is a list of 0"),
        ({}, "it has no `schema`"),
        ({"schema": "tcpdoctor.check/2"}, "its schema is tcpdoctor.check/2, and this tcpdoctor reads"),
        ({"schema": "tcpdoctor.fleet/1"}, "it is a merged report"),
        ({"schema": ["x"]}, "it is not of `tcpdoctor check --format json`"),
        ({"schema": "tcpdoctor.states/1"}, "it is not of `tcpdoctor check --format json`"),
        ({"schema": "tcpdoctor.check/1"}, "host.name is missing"),
        (report(host=7), "host.name is missing"),
        (report(host={"name": ["x"]}), "host.name is missing"),
        (report(host={"name": "\x1b\x07"}), "host.name is missing"),
        (report(status="fine"), "status is 'fine', where one of ok, unknown, warning, critical is expected"),
        (report(findings=7), "findings is '7', where a list is expected"),
        (report(findings=[7]), "findings[0] is '7', where an object is expected"),
        (report("web1", finding(severity="bad")), "findings[0].severity is 'bad'"),
        (report("web1", finding(rule="")), "findings[0].rule is ''"),
        (report("web1", finding(title=7)), "title is '7', where text is expected"),
        (report("web1", finding(fixes=[7])), "fixes is '7', where an object is expected"),
        (report(unchecked=None), "unchecked is missing, where a list is expected"),
        (report(unchecked=[7]), "unchecked is '7'"),
        (report(taken_at="yesterday"), "taken_at is 'yesterday', where a time"),
        (report(taken_at=10**400), "taken_at is"),
        (report(taken_at=None), "taken_at is missing"),
        ({"schema": "tcpdoctor.checks/1", "checks": []}, "it holds no check of any namespace"),
        ({"schema": "tcpdoctor.checks/1", "checks": [7]}, "checks is '7'"),
    ],
)
def test_what_is_wrong_is_named_and_where(value, reason):
    (look,) = looks_of(value)
    assert (look.status, look.findings) == ("unknown", ())
    assert reason in look.reason
    assert len(look.reason) < 200


def test_the_host_is_named_where_that_much_can_be_read():
    (look,) = looks_of(report("web1", findings=7))
    assert look.host == "web1"


def test_a_list_of_reports_is_read_one_by_one():
    assert [look.host for look in looks_of([report("a"), 7, report("b")])] == ["a", None, "b"]


def test_text_of_others_is_cleaned_and_bounded():
    hostile = "a\x1b[31m\u202eb\0" + "x" * 100_000
    (look,) = looks_of(
        report(
            hostile, finding(hostile, title=hostile, summary=hostile, explanation=hostile * 3, label=hostile)
        )
    )
    (told,) = look.findings
    for text in (look.host, told.rule, told.title, told.summary, told.explanation):
        assert text.startswith("a[31mbx")
        assert len(text) <= 2400
    assert len(json.dumps(told)) < 20_000


def test_commands_keep_their_lines():
    (look,) = looks_of(report("web1", finding(explanation="Do:\n\n    first\n    second\n")))
    assert look.findings[0].explanation == "Do:\n\n    first\n    second"
