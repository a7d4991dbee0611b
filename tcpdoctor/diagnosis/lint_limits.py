"""Whether each limit of a rule decides anything: evaluated just below and just above, on the rule's tests."""

from collections.abc import Iterator

from tcpdoctor.diagnosis.body import Body, RuleTest, SysctlChange
from tcpdoctor.diagnosis.closure import compile_condition
from tcpdoctor.diagnosis.prose import Blank
from tcpdoctor.diagnosis.rule import Rule, Trigger
from tcpdoctor.diagnosis.tree import Limit, Node, walk
from tcpdoctor.diagnosis.trial import facts_given, rule_under_test
from tcpdoctor.diagnosis.values import Truth

_LARGEST = 1e18
_STEPS = 200
"""Halvings until two floating-point neighbours are left: 64 bits and some to spare."""


def limit_complaints(rule: Rule, body: Body) -> Iterator[tuple[str, str]]:
    """Yield (name, what) for each limit that does nothing, or that no test shows to do something."""
    for name in rule.limits:
        triggers = [trigger for trigger in rule.fires if name in _limits_in(trigger.tree)]
        if not triggers and not _tells(body, name):
            yield "limit-not-used", f"limits.{name} is used nowhere; take it out"
        for trigger in triggers:
            if not any(_decides(rule, trigger, name, test) for test in body.tests):
                what = f"limits.{name} just below and just above what the tests give changes no answer of"
                level = trigger.severity.key
                yield "limit-without-effect", f"{what} fires.{level}; add a test in which it decides"


def _limits_in(node: Node) -> set[str]:
    return {part.name for part in walk(node) if isinstance(part, Limit)}


def _tells(body: Body, name: str) -> bool:
    from tcpdoctor.diagnosis.lint import templates_of

    trees: list[Node] = [
        part.quantity.tree
        for template in templates_of(body)
        for part in template.parts
        if isinstance(part, Blank)
    ]
    for fix in body.fixes:
        trees += _value_trees(fix.sysctl)
    return any(name in _limits_in(tree) for tree in trees)


def _value_trees(change: SysctlChange | None) -> list[Node]:
    if change is None:
        return []
    return list(change.value)


def _decides(rule: Rule, trigger: Trigger, name: str, test: RuleTest) -> bool:
    """Whether there is a value of the limit just below which the condition answers otherwise than just above.

    The limit is moved across the test's facts, which is the same as moving the facts across the limit and
    works for every condition. The place where the answer changes is found by halving.
    """
    limits = rule_under_test(rule, test).limit_values
    facts = facts_given(test)

    def at(value: float) -> Truth:
        return compile_condition(trigger.tree, {**limits, name: value})(facts)

    low, high = 0.0, _LARGEST
    below, above = at(low), at(high)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if at(middle) == below:
            low = middle
        else:
            high = middle
    return {below, at(high)} == {True, False} and above == at(high)
