"""What conditions answer for a subject's facts."""

import math

import pytest

from tcpdoctor.diagnosis.closure import NOT_READ, Observation, compile_condition, compile_number
from tcpdoctor.diagnosis.expression import parse_condition, parse_quantity
from tcpdoctor.facts.value import Ages, Growth, Range
from tcpdoctor.kernel.reading import Missing
from tests.diagnosis.examples import CONTEXT, LIMIT_VALUES, VOCABULARY

HIDDEN = Missing("owners are hidden")
SOME = Range(3, math.inf, "owners are hidden")


def ask(text, note=None, **facts):
    named = {name.replace("__", "."): value for name, value in facts.items()}
    return compile_condition(parse_condition(text, "test", CONTEXT), LIMIT_VALUES, note)(named)


def compute(text, **facts):
    named = {name.replace("__", "."): value for name, value in facts.items()}
    return compile_number(parse_quantity(text, "test", CONTEXT).tree, LIMIT_VALUES)(named)


def test_a_whole_number_and_a_fraction_are_numbers_alike():
    assert ask("leak.owned >= 3", leak__owned=3) is True
    assert ask("leak.owned >= 3", leak__owned=2.9) is False


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("leak.owned + 1", 8.0),
        ("leak.owned - 1", 6.0),
        ("leak.owned * 2", 14.0),
        ("leak.owned / 2", 3.5),
        ("-leak.owned", -7.0),
        ("min(leak.owned, 2)", 2.0),
        ("max(leak.owned, 2)", 7.0),
        ("limit.share", 0.8),
        ("2 * minute", 120.0),
        ("3 * MiB", 3 * 1024.0**2),
    ],
)
def test_arithmetic(text, number):
    assert compute(text, leak__owned=7) == number


def test_a_fact_that_is_not_there_is_missing_and_not_zero():
    assert ask("leak.owned >= 0") == NOT_READ
    assert compute("rate(Tcp.Out)") == NOT_READ
    assert compute("older(leak.ages, 3 * second)") == NOT_READ


def test_a_missing_fact_makes_the_condition_unknown_with_its_reason():
    assert ask("leak.owned >= 0", leak__owned=HIDDEN) == HIDDEN


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("1 > 2 and leak.owned > 3", False),
        ("leak.owned > 3 and 1 > 2", False),
        ("1 < 2 and leak.owned > 3", HIDDEN),
        ("leak.owned > 3 and 1 < 2", HIDDEN),
        ("1 < 2 or leak.owned > 3", True),
        ("leak.owned > 3 or 1 < 2", True),
        ("1 > 2 or leak.owned > 3", HIDDEN),
        ("leak.owned > 3 or 1 > 2", HIDDEN),
        ("not leak.owned > 3", HIDDEN),
        ("not 1 > 2", True),
    ],
)
def test_kleene(text, answer):
    assert ask(text, leak__owned=HIDDEN) == answer


def test_several_reasons_are_told_in_order():
    answer = ask(
        "leak.owned > 3 or queue.age > 3 * second", leak__owned=HIDDEN, queue__age=Missing("no file")
    )
    assert answer == Missing("owners are hidden; no file")


def test_a_lower_bound_fires_and_never_clears():
    assert ask("leak.owned >= 3", leak__owned=SOME) is True
    assert ask("leak.owned >= 4", leak__owned=SOME) == HIDDEN
    assert ask("leak.owned < 3", leak__owned=SOME) is False


def test_growth_is_a_rate_or_a_difference():
    growth = Growth(10, 4.0)
    assert compute("rate(Tcp.Out)", Tcp__Out=growth) == 2.5
    assert compute("delta(Tcp.Out)", Tcp__Out=growth) == 10.0
    assert compute("rate(Tcp.Out)", Tcp__Out=Missing("needs two samples")) == Missing("needs two samples")


def test_a_ratio_of_rates_without_traffic_is_unknown_and_the_floor_settles_it():
    quiet = {"Tcp__Out": Growth(0, 1.0), "Tcp__Again": Growth(0, 1.0)}
    ratio = "rate(Tcp.Again) / rate(Tcp.Out) > 1 * percent"
    assert ask(ratio, **quiet) == Missing("a division by zero")
    assert ask(f"rate(Tcp.Out) >= 100 * per_second and {ratio}", **quiet) is False


AGES = Ages((1.0, 60.0, 60.0, 300.0), (1.0, 60.0, 60.0, 300.0), None)
ROUGH = Ages((1.0, 60.0), (70.0, 90.0, math.inf), "owners are hidden")


@pytest.mark.parametrize(
    ("ages", "text", "count"),
    [
        (AGES, "older(leak.ages, 60 * second)", 3.0),
        (AGES, "older(leak.ages, 61 * second)", 1.0),
        (AGES, "older(leak.ages, 0 * second)", 4.0),
        (AGES, "older(leak.ages, 1 * day)", 0.0),
        (Ages((), (), None), "older(leak.ages, 0 * second)", 0.0),
        (ROUGH, "older(leak.ages, limit.min_age)", Range(1, 3, "owners are hidden")),
        (ROUGH, "older(leak.ages, 1 * second)", Range(2, 3, "owners are hidden")),
        (ROUGH, "older(leak.ages, 80 * second)", Range(0, 2, "owners are hidden")),
    ],
)
def test_older_counts_sockets_and_not_the_oldest(ages, text, count):
    assert compute(text, leak__ages=ages) == count


def test_older_than_what_is_only_roughly_known():
    age = Range(10, 100, "no clock")
    assert compute("older(leak.ages, queue.age)", leak__ages=AGES, queue__age=age) == Range(1, 3, "no clock")
    assert compute("older(leak.ages, queue.age)", leak__ages=AGES, queue__age=HIDDEN) == HIDDEN


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("leak.owned > 3", {"leak__owned": "three"}),
        ("rate(Tcp.Out) > 3 * per_second", {"Tcp__Out": 3}),
        ("older(leak.ages, 3 * second) > 3", {"leak__ages": 3}),
    ],
)
def test_facts_that_break_their_promise_are_no_answer(text, facts):
    with pytest.raises(TypeError, match="which is no"):
        ask(text, **facts)


def test_evidence_is_what_evaluation_read_in_order():
    seen = []
    text = "older(leak.ages, limit.min_age) >= 1 and rate(Tcp.Out) > 1 * per_second and leak.owned > 3"
    assert ask(text, seen.append, leak__ages=AGES, Tcp__Out=Growth(10, 4.0), leak__owned=5) is True
    find = VOCABULARY.find_fact
    assert seen == [
        Observation(find("leak.ages"), "older", 3.0, 60.0),
        Observation(find("Tcp.Out"), "rate", 2.5),
        Observation(find("leak.owned"), None, 5.0),
    ]


def test_what_or_did_not_need_is_no_evidence():
    seen = []
    assert ask("leak.owned > 3 or sockets.open > 3", seen.append, leak__owned=5, sockets__open=9) is True
    assert [observation.fact.name for observation in seen] == ["leak.owned"]


PROBED = Ages((1.0, 15.0, 15.0), (70.0, 90.0, math.inf), "bounds", (1.0, 60.0, 100.0))


@pytest.mark.parametrize(
    ("ages", "count"), [(PROBED, 2.0), (AGES, 3.0), (HIDDEN, HIDDEN), (Ages((), (math.inf,), "hidden"), 0.0)]
)
def test_in_a_warning_by_upper_ends_older_counts_how_long_sockets_were_quiet(ages, count):
    seen = []
    tree = parse_condition("older(leak.ages, limit.min_age) >= 2", "here", CONTEXT)
    decide = compile_condition(tree, LIMIT_VALUES, seen.append, at_most=True)
    answer = decide({"leak.ages": ages})
    assert answer == (HIDDEN if count == HIDDEN else count >= 2)
    assert seen == [Observation(VOCABULARY.find_fact("leak.ages"), "perhaps_older", count, 60.0)]


def test_probes_that_hide_when_a_connection_ended_leave_it_open():
    tree = parse_condition("older(leak.ages, limit.min_age) >= 2", "here", CONTEXT)
    decide = compile_condition(tree, LIMIT_VALUES, at_most=True)
    hidden = Ages((1.0, 2.0), (70.0, 90.0), "bounds", (), (70.0, 90.0))
    answer = decide({"leak.ages": hidden})
    assert isinstance(answer, Missing)
    assert "--window 5" in answer.reason
    assert decide({"leak.ages": hidden._replace(hidden=(2.0, 90.0))}) is False


def test_what_is_beside_older_is_judged_as_ever_in_a_warning_by_upper_ends():
    text = "not (min(older(leak.ages, 60 * second), -leak.owned + 9) < 2 or leak.owned / 2 > 4)"
    decide = compile_condition(parse_condition(text, "here", CONTEXT), LIMIT_VALUES, at_most=True)
    assert decide({"leak.ages": PROBED, "leak.owned": 7}) is True
