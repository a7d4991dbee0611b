"""Under the journal each line begins with the priority of the finding that it belongs to."""

from tcpdoctor.report.check_text import check_text
from tcpdoctor.report.journal import with_priorities
from tcpdoctor.report.style import PLAIN

from .examples import CRITICAL, FINDING, check


def priorities(text):
    return [(line[1], line[3:]) for line in with_priorities(text).splitlines()]


def test_what_is_indented_belongs_to_the_finding_above_it():
    text = "CRITICAL  a\n  one\n\n    two\nINFO  b\n  three\nSockets: 3.\n"
    assert priorities(text) == [
        ("2", "CRITICAL  a"),
        ("2", "  one"),
        ("2", "    two"),
        ("6", "INFO  b"),
        ("6", "  three"),
        ("6", "Sockets: 3."),
    ]


def test_what_went_is_a_notice_and_what_is_perhaps_still_there_a_warning():
    assert priorities("GONE  nginx (811)\n  It") == [("5", "GONE  nginx (811)"), ("5", "  It")]
    assert priorities("WARNING, perhaps still there: x")[0][0] == "4"
    assert priorities("UNKNOWN: host: too little")[0][0] == "4"
    assert priorities("OK: host: nothing wrong was found")[0][0] == "6"


def test_every_line_of_a_report_has_one_and_nothing_is_lost_but_empty_lines():
    text = check_text(check(CRITICAL, FINDING), PLAIN)
    lines = priorities(text)
    assert [line for _, line in lines] == [line for line in text.splitlines() if line.strip()]
    headings = [(priority, line) for priority, line in lines if line.split()[0] in ("CRITICAL", "WARNING")]
    assert [priority for priority, _ in headings] == ["2", "4"]
    assert {priority for priority, _ in lines} == set("246")


def test_nothing_to_say_stays_nothing():
    assert with_priorities("") == ""
