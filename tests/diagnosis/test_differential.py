"""The language against Python itself, and ranges against every value in them."""

import ast
import math
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from tcpdoctor.diagnosis.closure import compile_condition
from tcpdoctor.diagnosis.expression import parse_condition
from tcpdoctor.diagnosis.tree import UNITS
from tcpdoctor.facts.value import Ages, Growth, Range
from tcpdoctor.kernel.reading import Missing
from tests.diagnosis.examples import CONTEXT, FACTS, LIMIT_VALUES
from tests.diagnosis.expressions import CONDITIONS

GAUGES = [fact.name for fact in FACTS if fact.kind == "gauge"]
COUNTERS = [fact.name for fact in FACTS if fact.kind == "counter"]
NUMBERS = st.one_of(st.integers(0, 1000), st.sampled_from([0.25, 60.0, 3600.5]))
GROWTHS = st.builds(Growth, st.integers(0, 1000), st.sampled_from([0.5, 1.0, 10.0]))
AGES = st.lists(NUMBERS.map(float), max_size=8).map(sorted).map(tuple)


@st.composite
def exact_facts(draw):
    """A value for every fact, all of them exact."""
    facts = {name: draw(NUMBERS) for name in GAUGES} | {name: draw(GROWTHS) for name in COUNTERS}
    ages = draw(AGES)
    return {**facts, "leak.ages": Ages(ages, ages, None)}


def evaluate_with_python(text, facts):
    """What Python says: dotted names are attributes, the calls of the language are functions."""
    limits = SimpleNamespace(**LIMIT_VALUES)
    names = {unit: size for unit, (size, _) in UNITS.items()} | {"limit": limits}
    for name, value in facts.items():
        first, *middle, last = name.split(".")
        holder = names.setdefault(first, SimpleNamespace())
        for part in middle:
            holder.__dict__.setdefault(part, SimpleNamespace())
            holder = getattr(holder, part)
        setattr(holder, last, value)
    calls = {
        "rate": lambda growth: growth.delta / growth.seconds,
        "delta": lambda growth: growth.delta,
        "older": lambda ages, seconds: sum(age >= seconds for age in ages.at_least),
    }
    return _kleene(ast.parse(text, mode="eval").body, names | calls)


def _kleene(node, names):
    """Python evaluates every comparison; only what `and`, `or`, `not` make of "unknown" is ours."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _kleene(node.operand, names)
        return None if inner is None else not inner
    if isinstance(node, ast.BoolOp):
        answers = [_kleene(item, names) for item in node.values]
        settled = isinstance(node.op, ast.Or)
        if settled in answers:
            return settled
        return None if None in answers else not settled
    try:
        return eval(compile(ast.Expression(node), "test", "eval"), names)  # noqa: S307 - our own text
    except ZeroDivisionError:
        return None


@settings(max_examples=600, deadline=None)
@given(CONDITIONS, exact_facts())
def test_exact_facts_give_what_python_gives(text, facts):
    ours = compile_condition(parse_condition(text, "test", CONTEXT), LIMIT_VALUES)(facts)
    pythons = evaluate_with_python(text, facts)
    assert ours == (Missing("a division by zero") if pythons is None else pythons)


@st.composite
def rough_facts(draw):
    """Facts of which some are ranges, and exact facts that lie in them."""
    rough, exact = {}, {}
    for name in GAUGES:
        low, value, high = sorted(draw(st.tuples(NUMBERS, NUMBERS, NUMBERS)))
        way = draw(st.integers(0, 4))
        exact[name] = value
        rough[name] = (value, value, Range(low, high, "r"), Range(low, math.inf, "r"), Missing("m"))[way]
    for name in COUNTERS:
        exact[name] = rough[name] = draw(GROWTHS)
    exact["leak.ages"], rough["leak.ages"] = draw(rough_ages())
    return rough, exact


@st.composite
def rough_ages(draw):
    """Ages known as ranges, of sockets of which some only may belong; and what they really are."""
    lows, highs, real = [], [], []
    for low, value, high in draw(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS).map(sorted), max_size=6)):
        upper = draw(st.sampled_from([high, math.inf]))
        belongs_for_sure = draw(st.booleans())
        highs.append(float(upper))
        if belongs_for_sure:
            lows.append(float(low))
        if belongs_for_sure or draw(st.booleans()):
            real.append(float(value))
    real = tuple(sorted(real))
    return Ages(real, real, None), Ages(tuple(sorted(lows)), tuple(sorted(highs)), "hidden")


@settings(max_examples=600, deadline=None)
@given(CONDITIONS, rough_facts())
def test_an_answer_about_ranges_holds_for_every_value_in_them(text, facts):
    rough, exact = facts
    decide = compile_condition(parse_condition(text, "test", CONTEXT), LIMIT_VALUES)
    answer = decide(rough)
    if not isinstance(answer, Missing):
        assert decide(exact) is answer
