"""The line of `watch --plain`."""

import re

from hypothesis import given

from tcpdoctor.report.watch_page import plain_line
from tests.report.watch_records import BUSY, FOUND, UNKNOWN, watches


def test_a_busy_host():
    assert plain_line(BUSY) == (
        "12:02:10 estab=9214 tw=18120/+912 cw=412/+37 fw2=131 syn=3 findings=1 worst=fin-wait-2-held-open"
    )


def test_a_healthy_host_has_no_worst():
    well = BUSY._replace(findings=(), verdict=BUSY.verdict._replace(status="ok", counts=(0, 0, 0)))
    assert plain_line(well).endswith(" findings=0 worst=-")


def test_a_finding_that_ended_counts_no_more():
    verdict = BUSY.verdict._replace(status="ok", counts=(0, 0, 0))
    ended = BUSY._replace(findings=(FOUND._replace(ended=4000.0),), verdict=verdict)
    assert plain_line(ended).endswith(" findings=0 worst=-")


def test_what_is_not_known_is_no_number():
    states = tuple(row._replace(now=UNKNOWN, per_minute=UNKNOWN) for row in BUSY.states)
    blind = BUSY.verdict._replace(status="unknown", counts=(0, 0, 0))
    assert plain_line(BUSY._replace(states=states, findings=(), verdict=blind)) == (
        "12:02:10 estab=? tw=?/? cw=?/? fw2=? syn=? findings=? worst=?"
    )


@given(watches)
def test_any_record_is_one_line_of_the_same_columns(watch):
    line = plain_line(watch)
    names = re.findall(r"(\w+)=\S*", line)
    assert names == ["estab", "tw", "cw", "fw2", "syn", "findings", "worst"]
    assert line.isprintable()
