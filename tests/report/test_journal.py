"""Under the journal each line begins with the priority of what it tells."""

import pytest

from tcpdoctor.diagnosis.changes import Changed, Changes, Unanswered
from tcpdoctor.diagnosis.finding import Unchecked
from tcpdoctor.kernel.recorded import Told
from tcpdoctor.report.check_formats import render
from tcpdoctor.report.journal import changes_text, entries
from tcpdoctor.report.style import PLAIN

from .examples import CRITICAL, FINDING, SNAPSHOT, check

JOURNAL = PLAIN._replace(journal=True)
INFO = FINDING._replace(rule="tw-many", severity=FINDING.severity.INFO, label="here")


def priorities(text):
    lines = [line for line in text.splitlines() if line]
    assert all(line[0] == "<" and line[2] == ">" for line in lines)
    return [(line[1], line[3:]) for line in lines]


@pytest.mark.parametrize("form", ["short", "long", "unanswered"])
@pytest.mark.parametrize("findings", [(), (FINDING,), (CRITICAL, FINDING), (CRITICAL, FINDING, INFO)])
def test_every_line_of_a_report_has_one_and_nothing_is_lost_but_empty_lines(form, findings):
    answer = check(*findings)
    told = priorities(render(answer, "journal", PLAIN, form=form))
    text = render(answer, "text", PLAIN, form=form)
    assert [line for _, line in told] == [line for line in text.splitlines() if line.strip()]


def test_an_entry_names_the_server_of_a_listener_and_its_subject_is_the_listener():
    full = FINDING._replace(label="127.0.0.1:9443", whom="payments (27687)", headline="accept queue 6 of 5")
    (told,) = entries((full,), None)
    assert told.fields["MESSAGE"] == "WARNING: payments (27687): accept queue 6 of 5"
    assert told.fields["TCPDOCTOR_SUBJECT"] == "127.0.0.1:9443"


@pytest.mark.parametrize("form", ["short", "long"])
def test_the_lines_of_a_finding_have_its_own_and_what_stands_around_it_has_none_of_it(form):
    lines = priorities(render(check(CRITICAL, FINDING, INFO), "journal", PLAIN, form=form))
    begins = {"CRITICAL": "2", "WARNING": "4", "INFO": "6"}
    headings = [(line.split()[0].rstrip(":"), priority) for priority, line in lines]
    headings = [(word, priority) for word, priority in headings if word in begins]
    assert len(headings) == 5  # the verdict, each finding, and the worst again
    assert all(priority == begins[word] for word, priority in headings)
    assert [priority for priority, line in lines if "Each in full" in line or "Checked" in line] == ["6"]
    of_the_warning = next(place for place, (_, line) in enumerate(lines) if line.split()[0] == "WARNING")
    assert lines[of_the_warning + 1][0] == "4"


def test_what_is_not_known_is_a_warning_and_what_is_well_is_no_matter():
    hidden = Unchecked("close-wait-leak", "socket owners are hidden", applies=True)
    blind = check(unchecked=[hidden], rules=1)
    priority, verdict = priorities(render(blind, "journal", PLAIN, form="long"))[0]
    assert (priority, verdict.partition(":")[0]) == ("4", "UNKNOWN")
    assert priorities(render(check(), "journal", PLAIN, form="long"))[0][0] == "6"


def test_what_went_is_a_notice_and_what_is_perhaps_still_there_as_bad_as_it_was():
    gone = Told("3f2a", "x", "critical", "nginx (811)", "It was", 0.0)
    changes = Changes(0.0, (CRITICAL,), (Changed(FINDING, "info"),), (gone,), (Unanswered(gone, "no root"),))
    text = changes_text(changes, SNAPSHOT, JOURNAL, long=True)
    told = priorities(text)
    plain = changes_text(changes, SNAPSHOT, PLAIN, long=True)
    assert [line for _, line in told] == [line for line in plain.splitlines() if line.strip()]
    found = {line.split()[0].rstrip(","): priority for priority, line in told if not line.startswith("  ")}
    assert found["GONE"] == "5"
    assert ("2", "CRITICAL, perhaps still there: nginx (811)") in told
    assert ("4", "  It was info before.") in told
    assert told[0][0] == "6"


def test_nothing_to_say_stays_nothing():
    assert JOURNAL.told("critical", "") == ""
    assert changes_text(Changes(None), SNAPSHOT, JOURNAL) == ""
