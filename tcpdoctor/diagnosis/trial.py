"""A rule's own tests, run."""

from collections.abc import Iterator
from typing import NamedTuple

from tcpdoctor.diagnosis.body import NOT_GIVEN, Body, RuleTest
from tcpdoctor.diagnosis.closure import Facts, in_base_unit
from tcpdoctor.diagnosis.measure import judge, make_judge
from tcpdoctor.diagnosis.rule import Rule, Trigger
from tcpdoctor.facts.value import Value
from tcpdoctor.kernel.reading import Missing


class GivenFacts(dict[str, Value]):
    """The facts of a test; whatever it does not give is `Missing`."""

    def __missing__(self, name: str) -> Value:
        return NOT_GIVEN

    def get(self, name: str, default: object = None) -> Value:  # noqa: ARG002 - the signature is a mapping's
        """The fact, or that it was not given, whatever the default."""
        return self[name]


class Failure(NamedTuple):
    """A test whose rule answered something else."""

    test: RuleTest
    answer: str
    """``warning``, ``clear``, ``unknown: reason`` ..."""


def facts_given(test: RuleTest) -> Facts:
    """The facts that a test gives, as evaluation wants them."""
    return GivenFacts(test.given)


def rule_under_test(rule: Rule, test: RuleTest) -> Rule:
    """The rule with the limits that the test sets."""
    if not test.limits:
        return rule
    limits = dict(rule.limits)
    for name, given in test.limits.items():
        unit = limits[name].unit
        limits[name] = limits[name]._replace(given=given, value=in_base_unit(given, unit))
    return rule._replace(limits=limits)


def verdict_of(rule: Rule, test: RuleTest) -> Trigger | Missing | None:
    """What the rule says to the facts of a test."""
    return judge(make_judge(rule_under_test(rule, test)), facts_given(test))


def answer(rule: Rule, test: RuleTest) -> str:
    """What the rule says to the facts of a test: a severity, ``clear``, or ``unknown: reason``."""
    verdict = verdict_of(rule, test)
    return f"unknown: {verdict.reason}" if isinstance(verdict, Missing) else _word_of(verdict)


def _word_of(verdict: Trigger | Missing | None) -> str:
    """What a test expects that has this verdict."""
    if verdict is None:
        return "clear"
    return "unknown" if isinstance(verdict, Missing) else verdict.severity.key


def failures(rule: Rule, body: Body) -> Iterator[Failure]:
    """Run every test of a rule."""
    for test in body.tests:
        if _word_of(verdict_of(rule, test)) != test.expect:
            yield Failure(test, answer(rule, test))
