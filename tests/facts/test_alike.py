"""Subjects that are alike: those of one kind differ in no fact that a condition can read."""

import random

import pytest

from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.evaluate import diagnose_subjects
from tcpdoctor.facts import destinations, listeners
from tcpdoctor.facts.host import HostFacts, subjects_of
from tcpdoctor.facts.subject import TEXT, Scope
from tcpdoctor.facts.value import Ages
from tests.facts.samples import many_destinations, many_listeners

CROWDS = {
    Scope.LISTENER: (many_listeners, listeners.FACTS, {"listener.port"}),
    Scope.DESTINATION: (many_destinations, destinations.FACTS, {"destination.port"}),
}
EVERY_CROWD = pytest.mark.parametrize("scope", CROWDS)


def told_of(value):
    return repr(value._replace(at_most=tuple(value.at_most)) if isinstance(value, Ages) else value)


@EVERY_CROWD
@pytest.mark.parametrize("seed", range(31))
def test_those_of_one_kind_differ_in_no_number_but_their_port(scope, seed):
    make, told, apart = CROWDS[scope]
    crowd = subjects_of(make(random.Random(seed)), scope)
    numbers = {fact.name for fact, _ in told if fact.kind != TEXT}
    assert numbers > crowd.apart == apart
    for alike in crowd.alike.values():
        for name in numbers - crowd.apart:
            assert len({told_of(crowd[number].facts[name]) for number in alike}) == 1, name
    assert max(map(len, crowd.alike.values())) > 1
    assert sorted(number for alike in crowd.alike.values() for number in alike) == list(range(len(crowd)))


@EVERY_CROWD
@pytest.mark.parametrize("seed", range(17))
def test_a_crowd_is_judged_as_its_subjects_are_one_by_one(scope, seed):
    samples = CROWDS[scope][0](random.Random(seed))
    rules = [rule for rule in load_rules().rules if rule.scope is scope]
    crowd = subjects_of(samples, scope, HostFacts(samples))
    together, alone = (
        diagnose_subjects(rules, samples.after, {scope: subjects}.__getitem__)
        for subjects in (crowd, list(crowd))
    )
    assert together == alone
    assert together.unchecked or together.findings
