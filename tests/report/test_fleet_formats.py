"""A merged report in every format: the same content, safe whatever the hosts sent."""

import json
import re
from html.parser import HTMLParser

import pytest

from tcpdoctor.answers.fleet import Fleet
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.text import clean
from tcpdoctor.report.document import as_json, json_lines
from tcpdoctor.report.fleet import fleet_html, fleet_markdown, fleet_short, fleet_text
from tcpdoctor.report.style import PLAIN
from tests.answers.fleet_reports import NOW, document, finding, report
from tests.schemas import described

HOSTILE = "<script>alert(1)</script> [x](javascript:y) |`*_ \" ' & \u202e"


def fleet_json_text(answer):
    return "".join(json_lines(answer))


FORMATS = {
    "text": lambda answer: fleet_text(answer, 20, PLAIN),
    "short": lambda answer: fleet_short(answer, 20, PLAIN),
    "json": fleet_json_text,
    "markdown": lambda answer: fleet_markdown(answer, 20),
    "html": lambda answer: fleet_html(answer, 20),
}
EVERY_FORMAT = pytest.mark.parametrize("render", FORMATS.values(), ids=FORMATS)


def answer(*values, most=1000, expected=None):
    fleet = Fleet()
    for value in values:
        fleet.add(value if hasattr(value, "source") else document(value))
    return fleet.conclude(NOW, max_age=86_400, expected=expected, most_named=most, version="0.1.0")


@pytest.fixture
def mixed():
    """One of everything."""
    return answer(
        report("web1", finding("a", "critical", summary="Seen here."), finding("b")),
        report("web2", finding("b"), finding("b")),
        report("well"),
        document(Missing("it is empty"), "x"),
        document(report("web2", finding("b"), taken_at="2026-11-18T12:00:00Z"), source="old.json"),
        report("stale", taken_at="2026-11-01T12:00:00Z"),
        expected=["web1", "web2", "well", "lost"],
    )


@EVERY_FORMAT
def test_every_format_tells_everything_once(mixed, render):
    text = render(mixed)
    for word in (
        "web1",
        "web2",
        "lost",
        "it sent no report",
        "x.json",
        "it is empty",
        "old.json",
        "17 d old",
    ):
        assert word in text
    assert text.count("Seen here.") == (render is not FORMATS["short"])


@EVERY_FORMAT
def test_every_format_stands_an_empty_fleet(render):
    assert "0" in render(answer())


@EVERY_FORMAT
def test_nothing_that_a_host_sent_steers_a_reader(render):
    one = finding(
        HOSTILE, title=HOSTILE, summary=HOSTILE, explanation=HOSTILE, wrong_fixes=[{"title": HOSTILE}]
    )
    text = render(answer(report(HOSTILE, one), document(Missing(clean(HOSTILE)), clean(HOSTILE))))
    assert "\u202e" not in text.replace("\\u202e", "")
    if render is FORMATS["html"]:
        assert "<script" not in text
    if render is FORMATS["markdown"]:
        outside_code = re.sub(r"(`+)[^`].*?[^`]\1(?!`)", "", text)
        assert "<script>" not in outside_code.replace("\\<script\\>", "")
        assert "[x](" not in outside_code.replace("\\[x\\](", "")


def test_text_is_eighty_columns_wide(mixed):
    name = "a-host-with-a-name-that-is-longer-than-any-column.example.org"
    wide = answer(report(name, *(finding(f"rule-number-{n}") for n in range(9))))
    for one in (mixed, wide):
        for render in (fleet_text, fleet_short):
            assert max(map(len, render(one, 20, PLAIN).splitlines())) <= 80


def test_text_begins_with_the_verdict_and_the_worst_host(mixed):
    lines = fleet_text(mixed, 20, PLAIN).splitlines()
    assert lines[0].startswith("CRITICAL: 5 hosts: 1 critical, 1 warning, 2 unknown, 1 ok; 1 document is no")
    rows = lines[
        next(n for n, line in enumerate(lines) if line.split() == ["STATUS", "HOST", "FINDINGS"]) + 1 :
    ]
    assert [row.split() for row in rows[:2]] == [
        ["CRITICAL", "web1", "a,", "b"],
        ["WARNING", "web2", "b", "(2)"],
    ]


def test_many_hosts_are_named_up_to_a_bound_and_then_counted():
    reports = [report(f"web{n}", finding("a")) for n in range(10)]
    many = answer(*reports)
    text = fleet_text(many, 3, PLAIN)
    assert "web0, web1, web2 and 7 more" in text
    assert "and 7 hosts more with findings" in text
    (told,) = json.loads(fleet_json_text(answer(*reports, most=3)))["findings"]
    assert (told["hosts_total"], told["hosts"]) == (10, ["web0", "web1", "web2"])
    assert "web9" in fleet_html(many, 3)  # folded, and there


def test_a_host_with_countless_findings_takes_a_few_lines():
    worst = answer(report("web1", *(finding(f"rule-{n:03}") for n in range(40))))
    text = fleet_text(worst, 20, PLAIN)
    head = text[: text.index("WARNING  on 1 of 1 host")]
    assert " findings more" in head
    assert len(head.splitlines()) < 12
    assert "and 28 findings more" in fleet_html(worst, 20)


def test_advice_of_one_host_is_not_taken_for_that_of_all():
    words = "In the words of web1: processes, ports and values differ on other hosts."
    one, two = report("web1", finding("a")), report("web2", finding("a"))
    assert words not in fleet_text(answer(one), 20, PLAIN)
    for name in ("text", "markdown", "html"):
        assert words in FORMATS[name](answer(one, two))


def test_json_is_what_its_schema_says(mixed):
    told = described(fleet_json_text(mixed))
    assert told["summary"] == {
        "hosts": 5,
        "critical": 1,
        "warning": 1,
        "unknown": 2,
        "ok": 1,
        "expected": 4,
        "findings": 2,
        "unread": 1,
        "repeated": 1,
        "sick": 2,
        "doubted": 2,
        "oldest": "2026-11-01T12:00:00Z",
        "newest": "2026-11-18T12:20:00Z",
    }
    assert (told["status"], told["exit_code"]) == ("critical", 2)
    assert [host["name"] for host in told["hosts"]] == ["web1", "web2", "lost", "stale", "well"]
    described(fleet_json_text(answer()))


class Balance(HTMLParser):
    """Fails where a tag is closed that is not open, and knows what a page asks the network for."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "link", "br", "input"):
            self.open.append(tag)
        self.fetched += [
            value for key, value in attrs if key in ("src", "href") and not value.startswith(("#", "data:"))
        ]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_nobody(mixed):
    page = Balance()
    page.feed(fleet_html(mixed, 20))
    assert (page.open, page.fetched) == ([], [])


def test_lines_of_the_json_are_the_json(mixed):
    assert json.loads(fleet_json_text(mixed)) == as_json(mixed)


def test_the_short_form_says_what_to_type_on_which_host():
    fix = finding()["fixes"][0] | {"commands": ["gdb -p 811 -batch"], "prose": "Look."}
    one = report("web1", finding("a", "critical", fixes=[fix], headline="accept queue 6 of 5 on :9443"))
    lines = fleet_short(answer(one, report("web2", finding("a", "critical"))), 20, PLAIN).splitlines()
    place = lines.index(" CRITICAL on 2 of 2 hosts: web1, web2")
    assert lines[place + 1 : place + 3] == [
        "          web1, nginx (811): accept queue 6 of 5 on :9443",
        "          -> gdb -p 811 -batch" + " " * 49 + "a",
    ]
    assert lines[-1] == "CRITICAL: web1: a"


def test_five_findings_on_many_hosts_fit_a_screen():
    rules = [finding(f"rule-{n}", "critical" if n < 2 else "warning") for n in range(5)]
    text = fleet_short(answer(*(report(f"web{n}", *rules) for n in range(40))), 5, PLAIN)
    assert len(text.splitlines()) <= 34


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(mixed, width):
    style = PLAIN._replace(width=min(width, 100), columns=width)
    for render in (fleet_text, fleet_short):
        assert max(map(len, render(mixed, 20, style).splitlines())) <= width


def test_each_choice_of_the_page_has_its_button_and_hides_something(mixed):
    page = fleet_html(mixed, 20)
    chosen = set(re.findall(r'for="(only-\w+)"', page))
    assert chosen == set(re.findall(r'id="(only-\w+)"', page)) == {"only-all", "only-0", "only-1"}
    assert {f"only-{number}" for number in re.findall(r"#only-(\d):checked~.hosts", page)} == {
        "only-0",
        "only-1",
    }


def test_what_a_host_counted_and_did_not_tell_is_counted():
    untold = [
        {"rule": "a", "severity": "warning", "number": 41},
        {"rule": "b", "severity": "info", "number": 2},
    ]
    (host,) = answer(report("web1", finding("a"), untold=untold)).hosts
    assert (host.findings[0].subjects, host.findings_not_told) == (42, 2)


@EVERY_FORMAT
def test_a_finding_of_another_namespace_names_it_for_its_commands_are_to_be_typed_there(render):
    inside = {"name": "web1", "kernel": "6.1", "namespace": "4026532177", "namespace_name": "blue"}
    text = render(answer(report("web1", finding("a", summary="Seen here.", headline="so many"), host=inside)))
    assert "blue" in text
    if render is FORMATS["short"]:
        assert "\n          netns blue, nginx (811): so many\n" in text
    elif render is not fleet_json_text:
        assert "web1, netns blue: Seen here." in re.sub(r"<[^>]*>|\\", "", text)


def test_of_one_host_the_short_form_names_it_once_and_a_listener_by_its_server():
    listener = finding(
        "a",
        scope="listener",
        subject={"label": "0.0.0.0:9443", "process": "payments"},
        headline="6 of 5 wait",
    )
    here = finding("b", subject={"label": "web1"}, headline="tcp_syncookies 0: a flood locks out")
    lines = fleet_short(answer(report("web1", listener, here)), 20, PLAIN).splitlines()
    place = lines.index(" WARNING  on 1 of 1 host: web1")
    assert lines[place + 1] == "          payments: 6 of 5 wait"
    assert lines[place + 4] == "          tcp_syncookies 0: a flood locks out"
