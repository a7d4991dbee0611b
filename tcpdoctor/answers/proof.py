"""The answers to `lab list` and `lab prove`: the scenarios, and what they showed on this kernel."""

from typing import Annotated, Literal, NamedTuple

from tcpdoctor.answers.record import Is, Seconds, Time, utc
from tcpdoctor.kernel.reading import JsonValue


class ListedScenario(NamedTuple):
    """One scenario."""

    name: str
    title: str
    rules: Annotated[
        tuple[str, ...], Is("The rules that it proves; none where it proves an answer of explain.")
    ]


class ScenarioList(NamedTuple):
    """What `tcpdoctor lab list --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.lab/1"]
    scenarios: tuple[ListedScenario, ...]


class Part(NamedTuple):
    """One expectation of a scene."""

    what: Annotated[str, Is("A rule, or a path in an answer of explain.")]
    wanted: JsonValue
    seen: JsonValue
    holds: bool


class Proven(NamedTuple):
    """One scenario that was played."""

    name: str
    rules: tuple[str, ...]
    broken: tuple[Part, ...]
    """What was expected while it was broken."""
    cured: tuple[Part, ...]
    """And after the fix."""
    problem: str | None
    """Why it could not be told to its end."""
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether all went as it should: every rule that it proves fired, and was clear in the end."""
        fired = {part.what for part in self.broken}
        cleared = {part.what for part in self.cured}
        parts = (*self.broken, *self.cured)
        whole = all(rule in fired and rule in cleared for rule in self.rules)
        return self.problem is None and whole and bool(parts) and all(part.holds for part in parts)


class Unproven(NamedTuple):
    """A rule without a scenario."""

    rule: str
    reason: str


class ToldScenario(NamedTuple):
    """What one scenario showed."""

    name: str
    rules: tuple[str, ...]
    holds: Annotated[bool, Is("Every rule that it proves fired, and was clear in the end.")]
    broken: Annotated[tuple[Part, ...], Is("What was expected while it was broken.")]
    fixed: Annotated[tuple[Part, ...], Is("And after the fix.")]
    falls_short: Annotated[tuple[str, ...], Is("What did not go as it should, in sentences.")]
    duration_s: Seconds


class ProofAnswer(NamedTuple):
    """What `tcpdoctor lab prove --format json` prints, and the text says."""

    schema: Literal["tcpdoctor.proof/1"]
    kernel: str
    taken_at: Time
    duration_s: Seconds
    holds: bool
    scenarios: tuple[ToldScenario, ...]
    without_scenario: tuple[Unproven, ...]


def proof_answer(
    kernel: str,
    taken_at: float,
    seconds: float,
    scenarios: tuple[Proven, ...],
    without: tuple[Unproven, ...],
) -> ProofAnswer:
    """Return what the scenarios showed that were played, and the rules that have none.

    Args:
        kernel: Its release.
        taken_at: When it began, in seconds since 1970.
        seconds: How long it took.
        scenarios: In the order in which they are told.
        without: Rules that no scenario proves.
    """
    return ProofAnswer(
        schema="tcpdoctor.proof/1",
        kernel=kernel,
        taken_at=utc(taken_at),
        duration_s=round(seconds, 3),
        holds=all(proven.holds for proven in scenarios),
        scenarios=tuple(map(_told, scenarios)),
        without_scenario=without,
    )


def _told(proven: Proven) -> ToldScenario:
    short = () if proven.holds else tuple(missing_parts(proven))
    return ToldScenario(
        proven.name,
        proven.rules,
        proven.holds,
        proven.broken,
        proven.cured,
        short,
        round(proven.seconds, 3),
    )


def missing_parts(proven: Proven) -> list[str]:
    """What did not go as it should, one sentence each."""
    said = [] if proven.problem is None else [proven.problem]
    for when, parts in (("broken", proven.broken), ("fixed", proven.cured)):
        said += [
            f"{when}: {part.what} should be {part.wanted}, and is {part.seen}"
            for part in parts
            if not part.holds
        ]
        if proven.problem is None:
            told = {part.what for part in parts}
            said += [f"{when}: {rule} was not looked at" for rule in proven.rules if rule not in told]
    return said or ["it expects nothing"]
