"""Plays a scenario of the lab for a test: looks at every scene with the real commands."""

import json
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

from tcpdoctor.lab.scenario import Asked, Between, Broken, Cured, Scenario, Scene
from tests.cli.command import tcpdoctor

from .checks import Finding, Report, check, lines_of, reason_unchecked, severities, the_finding

_RANK = {"info": 0, "warning": 1, "critical": 2}


class Seen(NamedTuple):
    """A scene that was looked at."""

    scene: Scene
    report: Report
    """What `check` said (Broken, Cured), or the answer to the question (Asked)."""


def play(scenario: Scenario) -> list[Seen]:
    """Play a scenario in the namespace of the caller, and see that every scene is what it says it is.

    Run it through the fixture: ``in_namespace(play, LAB["close-wait-leak"])``.
    """
    return list(scenes_of(scenario))


def scenes_of(scenario: Scenario) -> Iterator[Seen]:
    """The same scene by scene, while the sockets are in it: a test may look for itself in between."""
    limits: dict[str, dict[str, float]] = {}
    broken: list[str] = []
    story = scenario.play()
    try:
        for scene in story:
            if isinstance(scene, Broken):
                limits |= {rule: dict(values) for rule, values in scene.limits.items()}
                broken += [rule for rule in scene.fires if rule not in broken]
                report = _look(broken, scene.window, limits)
                for rule, least in scene.fires.items():
                    worst = max((_RANK[key] for key in severities(report, rule)), default=-1)
                    assert worst >= _RANK[least], f"{rule} should be {least}: {report}"
                yield Seen(scene, report)
            elif isinstance(scene, Cured):
                report = _look(broken, scene.window, limits)
                for rule in broken:
                    assert severities(report, rule) == [], f"{rule} should be clear: {report}"
                    assert reason_unchecked(report, rule) is None
                yield Seen(scene, report)
            elif isinstance(scene, Asked):
                yield Seen(scene, _ask(scene))
    finally:
        story.close()


def _look(rules: list[str], window: float, limits: dict[str, dict[str, float]]) -> Report:
    return check("--window", str(window), "--only", ",".join(rules), limits=limits)


def _ask(scene: Asked) -> Any:
    done = tcpdoctor(*shlex.split(scene.question), "--format", "json")
    assert done.stderr == ""
    answer = json.loads(done.stdout)
    for path, expected in scene.answer.items():
        value = _at(answer, path)
        if isinstance(expected, Between):
            assert expected.low <= value <= expected.high, (path, value, expected)
        else:
            assert value == expected, (path, value, expected)
    return answer


def _at(answer: Any, path: str) -> Any:
    for key in path.split("."):
        answer = answer[int(key)] if isinstance(answer, list) else answer[key]
    return answer


class Disease(NamedTuple):
    """The disease of a scenario as `check` sees it."""

    finding: Finding
    """With the limits of the scene; every command in it was typed and understood."""
    shipped: Report
    """With the limits as shipped."""
    counted: int
    """Lines that another program prints."""


def disease_of(scenario: Scenario, rule: str, counting: str = "true") -> Disease:
    """Play a scenario to its end, and look more closely while the rule fires.

    `counting` is a shell command whose lines are counted meanwhile: the second opinion of `ss`.
    """
    found = [
        Disease(the_finding(seen.report, rule), check(), lines_of(counting))
        for seen in scenes_of(scenario)
        if isinstance(seen.scene, Broken) and rule in seen.scene.fires
    ]
    (disease,) = found
    return disease
