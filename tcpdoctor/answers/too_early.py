"""Leaks that nothing but their age keeps from being findings: whether they are any cannot be told yet."""

import math
from collections.abc import Iterator

from tcpdoctor.answers.check import Check, unchecked_rules
from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.closure import compile_number
from tcpdoctor.diagnosis.measure import first_limit
from tcpdoctor.diagnosis.rule import Rule, measured
from tcpdoctor.diagnosis.tree import Limit, Older
from tcpdoctor.facts.host import HostFacts, subjects_of
from tcpdoctor.facts.value import Range
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.named_tuples import NamedTuple

FEW = 100
"""Sockets: with fewer in a state of the whole host nobody asks a process's rule; as its own limit."""
_STATES = (TcpState.CLOSE_WAIT, TcpState.FIN_WAIT_2)


class TooEarly(NamedTuple):
    """So many sockets of one process that they are a finding once they are old enough."""

    number: int
    """Of the process that has the most; where it is not known who holds them, of the host."""
    state: TcpState
    least: int
    """How many of one process have to be old enough."""
    seconds: float
    """How old that is."""
    rule: str


def too_early(check: Check) -> list[TooEarly]:
    """Return the leaks that only their age hides, of the rules that were answered and found nothing.

    A host without a hundred sockets in such a state is not asked again.
    """
    census = check.samples.after.census
    if isinstance(census, Missing) or all(census.by_state.get(state, 0) < FEW for state in _STATES):
        return []
    said = unchecked_rules(check.diagnosis) | {finding.rule for finding in check.diagnosis.findings}
    rules = check.rules or load_rules().rules
    return [
        early
        for rule in rules
        if rule.id not in said and {"close", "leak"} <= set(rule.tags)
        for early in _of_rule(rule, check)
    ]


def _of_rule(rule: Rule, check: Check) -> Iterator[TooEarly]:
    tree = measured(rule).tree if rule.measure is not None else None
    limit = first_limit(rule)
    subjects = subjects_of(check.samples, rule.scope, HostFacts(check.samples))
    if not isinstance(tree, Older) or not isinstance(tree.seconds, Limit) or limit is None:
        return
    count = compile_number(tree, {**rule.limit_values, tree.seconds.name: 0.0})
    most = 0.0
    for subject in () if isinstance(subjects, Missing) else subjects:
        number = count(subject.facts)
        if isinstance(number, Range):
            number = number.high if math.isfinite(number.high) else number.low
        most = most if isinstance(number, Missing) else max(most, number)
    if most >= limit:
        state = TcpState[tree.fact.name.partition(".")[0].upper()]
        yield TooEarly(int(most), state, int(limit), rule.limit_values[tree.seconds.name], rule.id)
