"""In no scenario of the lab do two findings tell of the same sockets and advise against each other."""

import re
from collections.abc import Iterator
from itertools import combinations

import pytest

from tcpdoctor.lab.catalogue import LAB
from tcpdoctor.lab.scenario import Broken, Ended, Looked, Refused, Scene, Stage

from .checks import Finding, Report, check

BESIDE = {
    frozenset(pair): why
    for *pair, why in (
        ("close-wait-leak", "close-wait-near-descriptor-limit", "the same cure; the second says how soon"),
        ("accept-queue-full", "accept-queue-too-short", "a queue that is full, and was too short in bursts"),
        ("ephemeral-ports-bound", "ephemeral-range-narrow", "few ports to choose from, and who has them"),
        (
            "ephemeral-range-mostly-reserved",
            "ephemeral-range-narrow",
            "both are so: widen it, and trim the list",
        ),
        (
            "conntrack-table-nearly-full",
            "conntrack-table-overflows",
            "the same cure; the second says what is lost",
        ),
    )
}
"""Pairs that may stand beside each other for one subject though they read the same facts, and why."""


def groups(finding: Finding) -> set[str]:
    """What sockets or table a finding is about: the first words of the facts that its condition read."""
    names = {item["fact"].rpartition("(")[2].split(",")[0].rstrip(")") for item in finding["evidence"]}
    return {name.split(".")[0] for name in names} - {"process", "sysctl", "sockets", "Tcp", "TcpExt", "Ip"}


def subject(finding: Finding) -> tuple[str, str]:
    return finding["scope"], finding["subject"]["label"]


def quarrels(report: Report) -> Iterator[str]:
    for one, other in combinations(report["findings"], 2):
        pair = frozenset((one["rule"], other["rule"]))
        if subject(one) == subject(other) and groups(one) & groups(other) and pair not in BESIDE:
            yield f"{sorted(pair)} both tell {subject(one)} of {sorted(groups(one) & groups(other))}"
        for advises, warns in ((one, other), (other, one)):
            changed = {fix["sysctl"]["name"].rpartition(".")[2] for fix in advises["fixes"] if fix["sysctl"]}
            against = {
                name for name in changed for wrong in warns["wrong_fixes"] if _raises(name, wrong["title"])
            }
            if against and subject(one) == subject(other):
                yield f"{advises['rule']} changes {sorted(against)}, and {warns['rule']} warns of that"


def _raises(name: str, title: str) -> bool:
    """Whether a title warns of raising a setting at all, and not of doing nothing else."""
    return (
        name in title
        and title.split()[0] in ("Raise", "Widen")
        and not re.search(r"\balone\b|\band (do|leave)\b", title)
    )


class Looker:
    """Looks at the sick scenes of a story with all rules, from inside its namespace."""

    def __init__(self) -> None:
        self.limits: dict[str, dict[str, float]] = {}

    def __call__(self, scene: Scene) -> list[str]:
        if not isinstance(scene, Broken):
            return []
        self.limits |= {rule: dict(values) for rule, values in scene.limits.items()}
        return list(quarrels(check("--window", str(scene.window), limits=self.limits)))


@pytest.mark.slow
@pytest.mark.parametrize("name", LAB)
def test_no_two_findings_of_a_scenario_contradict_each_other(in_namespace, name):
    scenes = 0
    with Stage(LAB[name], Looker()) as stage:
        while not isinstance(message := stage.receive(), Ended):
            assert not isinstance(message, Refused), message.reason
            if isinstance(message, Looked):
                scenes += 1
                assert message.result == [], message.scene
                stage.go()
    assert message.problem is None
    assert scenes
