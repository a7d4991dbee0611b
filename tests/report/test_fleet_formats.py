"""A merged report in every format: the same content, safe whatever the hosts sent."""

import json
import re
from html.parser import HTMLParser

import pytest

from tcpdoctor.diagnosis.fleet import Fleet
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.text import clean
from tcpdoctor.report.fleet import FleetAnswer
from tcpdoctor.report.fleet_html import fleet_html
from tcpdoctor.report.fleet_json import fleet_json_lines
from tcpdoctor.report.fleet_markdown import fleet_markdown
from tcpdoctor.report.fleet_text import fleet_text
from tcpdoctor.report.style import PLAIN
from tests.diagnosis.fleet_reports import NOW, document, finding, report
from tests.schemas import described

HOSTILE = "<script>alert(1)</script> [x](javascript:y) |`*_ \" ' & \u202e"


def fleet_json_text(answer):
    return "".join(fleet_json_lines(answer))


FORMATS = {
    "text": lambda answer: fleet_text(answer, PLAIN),
    "json": fleet_json_text,
    "markdown": fleet_markdown,
    "html": fleet_html,
}
EVERY_FORMAT = pytest.mark.parametrize("render", FORMATS.values(), ids=FORMATS)


def answer(*values, most=20, expected=None):
    fleet = Fleet()
    for value in values:
        fleet.add(value if hasattr(value, "source") else document(value))
    merged = fleet.conclude(NOW, max_age=86_400, expected=expected)
    return FleetAnswer(merged, most_hosts=most, version="0.1.0")


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
    assert text.count("Seen here.") == 1


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
    if render is fleet_html:
        assert "<script" not in text
    if render is fleet_markdown:
        outside_code = re.sub(r"(`+)[^`].*?[^`]\1(?!`)", "", text)
        assert "<script>" not in outside_code.replace("\\<script\\>", "")
        assert "[x](" not in outside_code.replace("\\[x\\](", "")


def test_text_is_eighty_columns_wide(mixed):
    name = "a-host-with-a-name-that-is-longer-than-any-column.example.org"
    wide = answer(report(name, *(finding(f"rule-number-{n}") for n in range(9))))
    for one in (mixed, wide):
        assert max(map(len, fleet_text(one, PLAIN).splitlines())) <= 80


def test_text_begins_with_the_verdict_and_the_worst_host(mixed):
    lines = fleet_text(mixed, PLAIN).splitlines()
    assert lines[0].startswith("CRITICAL: 5 hosts: 1 critical, 1 warning, 2 unknown, 1 ok; 1 document is no")
    rows = lines[lines.index("Hosts, the worst first") + 1 :]
    assert [row.split() for row in rows[:2]] == [
        ["CRITICAL", "web1", "a,", "b"],
        ["WARNING", "web2", "b", "(2)"],
    ]


def test_many_hosts_are_named_up_to_a_bound_and_then_counted():
    many = answer(*(report(f"web{n}", finding("a")) for n in range(10)), most=3)
    text = fleet_text(many, PLAIN)
    assert "web0, web1, web2 and 7 more" in text
    assert "... and 7 hosts more with findings" in text
    (told,) = json.loads(fleet_json_text(many))["findings"]
    assert (told["hosts_total"], told["hosts"]) == (10, ["web0", "web1", "web2"])
    assert "web9" in fleet_html(many)  # folded, and there


def test_a_host_with_countless_findings_takes_a_few_lines():
    worst = answer(report("web1", *(finding(f"rule-{n:03}") for n in range(40))))
    text = fleet_text(worst, PLAIN)
    head = text[: text.index("WARNING  on 1 of 1 host")]
    assert "rule-011, and 28 findings more" in " ".join(head.split())
    assert len(head.splitlines()) < 12
    assert "and 28 findings more" in fleet_html(worst)


def test_advice_of_one_host_is_not_taken_for_that_of_all():
    words = "In the words of web1: processes, ports and values differ on other hosts."
    one, two = report("web1", finding("a")), report("web2", finding("a"))
    assert words not in fleet_text(answer(one), PLAIN)
    for render in (lambda both: fleet_text(both, PLAIN), fleet_markdown, fleet_html):
        assert words in render(answer(one, two))


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
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)
        self.fetched += [
            value for key, value in attrs if key in ("src", "href") and not value.startswith(("#", "data:"))
        ]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_nobody(mixed):
    page = Balance()
    page.feed(fleet_html(mixed))
    assert (page.open, page.fetched) == ([], [])
