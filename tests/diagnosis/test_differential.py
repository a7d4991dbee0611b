"""The language against Python itself, and ranges against every value in them."""

import ast
import math
from random import Random
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from tcpdoctor.diagnosis.closure import UNITS, compile_condition
from tcpdoctor.diagnosis.expression import parse_condition
from tcpdoctor.facts.value import Ages, Growth, Range
from tcpdoctor.kernel.reading import Missing
from tests.diagnosis.examples import CONTEXT, FACTS, LIMIT_VALUES
from tests.diagnosis.expressions import CONDITIONS

GAUGES = [fact.name for fact in FACTS if fact.kind == "gauge"]
COUNTERS = [fact.name for fact in FACTS if fact.kind == "counter"]
EACH = 7
SEEDS = st.integers(0, 2**32 - 1).map(lambda first: range(first, first + EACH))
"""Facts are drawn by lot from one number: a choice of hypothesis for each value took longer than all else.

Each condition is asked of as many facts as that.
"""


class Lot:
    """Draws values of which many are alike, and many at the ends of what they may be."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self._again = [self._number() for _ in range(3)]

    def _number(self) -> float:
        which = self.chance.randrange(4)
        if which == 0:
            return self.chance.choice((0.25, 60.0, 3600.5))
        if which == 1:
            return self.chance.choice((0, 0, 0, 0, 1, 2, 999, 1000, *map(int, LIMIT_VALUES.values())))
        return self.chance.randint(0, 1000)

    def number(self) -> float:
        return self.chance.choice(self._again) if self.chance.random() < 0.3 else self._number()

    def growth(self) -> Growth:
        delta = self.chance.choice((0, 1, 1000, self.chance.randint(0, 1000), self.chance.randint(0, 1000)))
        return Growth(delta, self.chance.choice((0.5, 1.0, 10.0)))

    def ages(self) -> tuple[float, ...]:
        return tuple(sorted(float(self.number()) for _ in range(self.chance.randint(0, 8))))


def exact_facts(seed):
    """A value for every fact, all of them exact."""
    lot = Lot(seed)
    facts = {name: lot.number() for name in GAUGES} | {name: lot.growth() for name in COUNTERS}
    ages = lot.ages()
    return {**facts, "leak.ages": Ages(ages, ages, None)}


def evaluate_with_python(tree, facts):
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
    return _kleene(tree.body, names | calls)


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
        return eval(_compiled(node), names)  # noqa: S307 - our own text
    except ZeroDivisionError:
        return None


def _compiled(node):
    if not hasattr(node, "compiled"):
        node.compiled = compile(ast.Expression(node), "test", "eval")
    return node.compiled


@settings(max_examples=600, deadline=None)
@given(CONDITIONS, SEEDS)
def test_exact_facts_give_what_python_gives(text, seeds):
    decide = compile_condition(parse_condition(text, "test", CONTEXT), LIMIT_VALUES)
    tree = ast.parse(text, mode="eval")
    for facts in map(exact_facts, seeds):
        pythons = evaluate_with_python(tree, facts)
        assert decide(facts) == (Missing("a division by zero") if pythons is None else pythons)


def rough_facts(seed):
    """Facts of which some are ranges, and exact facts that lie in them."""
    lot, rough, exact = Lot(seed), {}, {}
    for name in GAUGES:
        low, value, high = sorted(lot.number() for _ in range(3))
        exact[name] = value
        ways = (value, value, Range(low, high, "r"), Range(low, math.inf, "r"), Missing("m"))
        rough[name] = lot.chance.choice(ways)
    for name in COUNTERS:
        exact[name] = rough[name] = lot.growth()
    exact["leak.ages"], rough["leak.ages"] = rough_ages(lot)
    return rough, exact


def rough_ages(lot):
    """Ages known as ranges, of sockets of which some only may belong; and what they really are."""
    lows, highs, real = [], [], []
    for _ in range(lot.chance.randint(0, 6)):
        low, value, high = sorted(lot.number() for _ in range(3))
        belongs_for_sure = lot.chance.random() < 0.5
        highs.append(float(lot.chance.choice((high, math.inf))))
        if belongs_for_sure:
            lows.append(float(low))
        if belongs_for_sure or lot.chance.random() < 0.5:
            real.append(float(value))
    real = tuple(sorted(real))
    return Ages(real, real, None), Ages(tuple(sorted(lows)), tuple(sorted(highs)), "hidden")


@settings(max_examples=600, deadline=None)
@given(CONDITIONS, SEEDS)
def test_an_answer_about_ranges_holds_for_every_value_in_them(text, seeds):
    decide = compile_condition(parse_condition(text, "test", CONTEXT), LIMIT_VALUES)
    for rough, exact in map(rough_facts, seeds):
        answer = decide(rough)
        if not isinstance(answer, Missing):
            assert decide(exact) is answer
