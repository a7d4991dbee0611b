"""What `lab prove` found out on this kernel."""

from typing import NamedTuple


class Part(NamedTuple):
    """One expectation of a scene."""

    what: str
    """A rule, or a path in an answer of `explain`."""
    wanted: str
    seen: str
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


class Proof(NamedTuple):
    """All scenarios that were played, and the rules that have none."""

    kernel: str
    taken_at: float
    """Seconds since 1970."""
    seconds: float
    scenarios: tuple[Proven, ...]
    without: tuple[Unproven, ...]


def falls_short(proof: Proof) -> bool:
    """Whether anything did not go as it should."""
    return not all(proven.holds for proven in proof.scenarios)


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
