"""How facts that are not exact, hidden or many are written."""

import json

from tcpdoctor.answers.facts import OfAges, facts_answer, told_value
from tcpdoctor.answers.finding import Bounds
from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.value import Ages, Growth, Range
from tcpdoctor.facts.vocabulary import find_fact, own_facts
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Destination, DestinationUse, Samples
from tcpdoctor.report.document import as_json
from tcpdoctor.report.page import page_text
from tcpdoctor.report.rules_text import facts_page
from tcpdoctor.report.style import PLAIN
from tests.facts.samples import CONNECTION, HIDDEN, NGINX, census, held_by, once, several, snapshot, twice
from tests.schemas import described

INFINITE = float("inf")
HALF_HIDDEN = once(
    snapshot(
        [
            *several(23, CONNECTION._replace(owner=held_by(811, 6))),
            *several(17, CONNECTION._replace(owner=HIDDEN), 50),
        ],
        processes={811: NGINX},
    )
)


def listing(samples: Samples, scope: Scope, *beginnings: str):
    wanted = [fact for fact in own_facts(scope) if fact.name.startswith(beginnings or ("",))]
    return facts_answer(samples, {scope: wanted})


def words(samples: Samples, scope: Scope, *beginnings: str) -> str:
    return " ".join(page_text(facts_page(listing(samples, scope, *beginnings), PLAIN), PLAIN).split())


def rows(samples: Samples, scope: Scope, *beginnings: str):
    document = as_json(listing(samples, scope, *beginnings))
    assert described(json.dumps(document, allow_nan=False)) == document
    return document["facts"]


def test_values_as_json():
    assert told_value(7) == 7
    assert told_value(0.25) == 0.25
    assert told_value(120.0) == 120
    assert told_value("nginx") == "nginx"
    assert told_value(Missing("why")) is None
    assert told_value(Growth(12, 1.0)) == 12
    assert told_value(Range(3, 9, "why")) == Bounds(3, 9)
    assert told_value(Range(3, INFINITE, "why")) == Bounds(3, None)
    assert told_value(Ages((5.0, 600.0), (5.0, 600.0), None)) == OfAges(2, 600)
    assert told_value(Ages((), (INFINITE,), "why")) == OfAges(Bounds(0, 1), Bounds(0, None))


def test_a_range_gives_its_reason_in_json_and_text():
    first, hidden = rows(HALF_HIDDEN, Scope.PROCESS, "close_wait.owned")[:3:2]
    assert first["value"] == {"at_least": 23, "at_most": 40}
    assert first["missing"] == HIDDEN.reason
    assert first["subject"] == {"label": "nginx (811)", "pid": 811, "name": "nginx"}
    assert hidden["subject"]["hidden"] is True
    text = words(HALF_HIDDEN, Scope.PROCESS, "close_wait.owned")
    assert f"between 23 and 40 ({HIDDEN.reason})" in text
    assert f"at most 17 ({HIDDEN.reason})" in text


def test_ages_say_how_many_and_how_old():
    text = words(HALF_HIDDEN, Scope.PROCESS, "close_wait.owned_ages")
    assert f"between 23 and 40, the oldest between 10 min and 12 min ({HIDDEN.reason}" in text


def test_a_meaning_is_written_once_per_scope():
    fact = find_fact("close_wait.owned")
    assert fact is not None
    assert words(HALF_HIDDEN, Scope.PROCESS, "close_wait.owned").count(fact.meaning) == 1


def test_a_scope_without_subjects_says_so_and_still_explains_its_facts():
    text = words(once(snapshot()), Scope.LISTENER)
    assert "no socket listens here" in text
    assert "accept_queue.limit" in text
    for row in rows(once(snapshot()), Scope.LISTENER):
        assert (row["subject"], row["value"], row["missing"]) == (None, None, "no socket listens here")


def test_a_scope_that_could_not_be_read_says_why():
    blind = once(snapshot(listeners=Missing("no netlink here")))
    assert "no netlink here" in words(blind, Scope.LISTENER)
    assert {row["missing"] for row in rows(blind, Scope.LISTENER)} == {"no netlink here"}


def test_only_the_first_subjects_are_printed_and_all_are_in_json():
    many = {Destination("10.0.0.1", f"10.0.1.{n}", 443): DestinationUse(1, 0) for n in range(23)}
    samples = once(snapshot(census=census(by_destination=many)))
    assert "... and 3 destinations more; --format json lists all" in words(samples, Scope.DESTINATION)
    assert len(rows(samples, Scope.DESTINATION, "ports.used")) == 23


def test_growth_is_written_with_its_time():
    counters = [snapshot(counters={"Tcp.OutSegs": number}) for number in (40, 63)]
    samples = twice(counters[0], counters[1], 2.0)
    assert "Tcp.OutSegs 23 in 2 s" in words(samples, Scope.HOST, "Tcp.OutSegs")
    (row,) = rows(samples, Scope.HOST, "Tcp.OutSegs")
    assert (row["value"], row["over_s"]) == (23, 2.0)


def test_what_the_vocabulary_does_not_know_is_named():
    samples = once(snapshot(counters={"TcpExt.Novelty": 1}))
    assert "TcpExt.Novelty" in words(samples, Scope.HOST, "kernel")
    assert as_json(listing(samples, Scope.HOST))["not_described"] == ["TcpExt.Novelty"]


def test_the_namespace_is_named_where_it_has_a_name():
    named = once(snapshot(namespace_name="blue"))
    assert "network namespace 4026531840 (blue), one sample" in words(named, Scope.HOST, "kernel")
