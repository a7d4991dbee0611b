"""The proof as people and machines read it."""

from tcpdoctor.answers.proof import Part, Proven, Unproven, missing_parts, proof_answer
from tcpdoctor.report.document import as_json
from tcpdoctor.report.page import page_text
from tcpdoctor.report.proof_text import proof_page
from tcpdoctor.report.style import PLAIN
from tests.schemas import assert_described

LEAK, STUCK = "close-wait-leak", "last-ack-stuck"
FIRED = Part(LEAK, "warning", "warning", holds=True)
CLEAR = Part(LEAK, "clear", "clear", holds=True)
WELL = Proven(LEAK, (LEAK,), (FIRED,), (CLEAR,), None, 2.25)
SILENT = WELL._replace(broken=(Part(LEAK, "warning", "clear", holds=False),))
FORESEEN = Proven(
    "restart",
    (),
    (
        Part("bind.cause", "time-wait", "time-wait", holds=True),
        Part("bind.probed", "true", "false", holds=False),
    ),
    (),
    None,
    0.5,
)
BROKE = Proven(STUCK, (STUCK,), (), (), "not within 10 s: 23 x LAST_ACK", 10.0)
UNSEEN = "could not be checked: socket owners are hidden"


def proof(*scenarios, without=()):
    return proof_answer("6.18.44", 1795176000.0, 12.3, scenarios, without)


def test_a_line_says_what_fired_and_that_it_is_clear():
    lines = page_text(proof_page(proof(WELL), PLAIN), PLAIN).splitlines()
    assert lines == [
        "RULE OR SCENARIO  BROKEN          FIX APPLIED  SECONDS",
        "close-wait-leak   fired: warning  clear            2.2",
        "",
        "The scenario went as it should on Linux 6.18.44, 2026-11-20T12:00:00Z, in 12 s.",
    ]
    assert proof(WELL).holds


def test_what_fell_short_is_said_below_the_table():
    text = page_text(proof_page(proof(WELL, SILENT, FORESEEN, BROKE), PLAIN), PLAIN)
    assert "clear (!)" in text
    assert (
        "FALLS SHORT  close-wait-leak\n  - broken: close-wait-leak should be warning, and is clear\n" in text
    )
    assert "as told 1/2 (!)" in text
    assert "  - broken: bind.probed should be true, and is false\n" in text
    assert "  - not within 10 s: 23 x LAST_ACK\n" in text
    assert "1 of 4 scenarios went as they should" in text
    assert not proof(WELL, SILENT).holds


def test_a_scenario_that_proves_other_rules_lists_them_below_its_name():
    both = WELL._replace(name="both-ends", rules=(LEAK,))
    lines = page_text(proof_page(proof(both), PLAIN), PLAIN).splitlines()
    assert [line.split() for line in lines[1:3]] == [
        ["both-ends", "2.2"],
        ["-", LEAK, "fired:", "warning", "clear"],
    ]


def test_a_rule_that_could_not_be_answered_is_neither_fired_nor_clear():
    unknown = WELL._replace(cured=(Part(LEAK, "clear", UNSEEN, holds=False),))
    assert not unknown.holds
    text = page_text(proof_page(proof(unknown), PLAIN), PLAIN)
    assert "unknown (!)" in text
    assert missing_parts(unknown) == [f"fixed: {LEAK} should be clear, and is {UNSEEN}"]


def test_a_rule_that_was_not_looked_at_falls_short():
    assert missing_parts(WELL._replace(cured=())) == [f"fixed: {LEAK} was not looked at"]
    assert not WELL._replace(broken=(), cured=(), rules=()).holds


def test_rules_without_a_scenario_are_told_with_their_reason():
    text = page_text(
        proof_page(proof(WELL, without=(Unproven("orphans-near-limit", "the whole machine's"),)), PLAIN),
        PLAIN,
    )
    assert "Rules without a scenario\n  orphans-near-limit: the whole machine's\n" in text


def test_the_json_says_the_same():
    document = as_json(proof(WELL, SILENT, without=(Unproven("orphans-near-limit", "why"),)))
    assert_described(document)
    assert (document["holds"], document["duration_s"]) == (False, 12.3)
    assert [scenario["holds"] for scenario in document["scenarios"]] == [True, False]
    assert document["scenarios"][1]["falls_short"] == missing_parts(SILENT)
    assert document["without_scenario"] == [{"rule": "orphans-near-limit", "reason": "why"}]
