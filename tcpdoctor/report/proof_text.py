"""`lab prove` for people: one line a rule, and below it what fell short."""

from tcpdoctor.answers.proof import Part, ProofAnswer, ToldScenario
from tcpdoctor.report.host import plural
from tcpdoctor.report.style import Style
from tcpdoctor.report.table import Column, table


def proof_text(proof: ProofAnswer, style: Style) -> str:
    """Return the table and the verdict."""
    rows = [row for proven in proof.scenarios for row in _rows(proven)]
    lines = table(_COLUMNS, rows, style)
    for proven in proof.scenarios:
        if not proven.holds:
            lines += ["", f"{style.severity('critical', 'FALLS SHORT')}  {proven.name}"]
            lines += [style.wrap(said, "    ", "  - ") for said in proven.falls_short]
    if proof.without_scenario:
        lines += ["", style.bold("Rules without a scenario")]
        lines += [style.wrap(f"{rule.rule}: {rule.reason}", "    ", "  ") for rule in proof.without_scenario]
    return "\n".join([*lines, "", style.wrap(_verdict(proof))])


_COLUMNS = (
    *(Column("RULE OR SCENARIO", least=20), Column("BROKEN"), Column("FIX APPLIED")),
    Column("SECONDS", right=True, goes=1),
)


def _rows(proven: ToldScenario) -> list[tuple[str, str, str, str]]:
    """One line where the scenario is the proof of one rule; else its rules are listed below it."""
    seconds = f"{proven.duration_s:.1f}"
    if proven.rules == (proven.name,) and not _is_asked(proven):
        return [(proven.name, _fired(proven.broken, proven.name), _fired(proven.fixed, proven.name), seconds)]
    asked = [
        tuple(part for part in parts if part.what not in proven.rules)
        for parts in (proven.broken, proven.fixed)
    ]
    rows = [(proven.name, _told(asked[0]), _told(asked[1]), seconds)]
    rows += [
        (f"- {rule}", _fired(proven.broken, rule), _fired(proven.fixed, rule), "") for rule in proven.rules
    ]
    return rows


def _is_asked(proven: ToldScenario) -> bool:
    return any(part.what not in proven.rules for part in (*proven.broken, *proven.fixed))


def _fired(parts: tuple[Part, ...], rule: str) -> str:
    of_rule = [part for part in parts if part.what == rule]
    if not of_rule:
        return "-"
    worst = next((part for part in of_rule if not part.holds), of_rule[-1])
    seen = str(worst.seen) if len(str(worst.seen)) <= 8 else "unknown"
    if not worst.holds:
        return f"{seen} (!)"
    return seen if seen == "clear" else f"fired: {seen}"


def _told(parts: tuple[Part, ...]) -> str:
    if not parts:
        return ""
    right = sum(part.holds for part in parts)
    return f"as told {right}/{len(parts)}" + ("" if right == len(parts) else " (!)")


def _verdict(proof: ProofAnswer) -> str:
    total = len(proof.scenarios)
    right = sum(proven.holds for proven in proof.scenarios)
    went = (
        "The scenario went as it"
        if right == total == 1
        else f"{right} of {plural(total, 'scenario')} went as they"
    )
    return f"{went} should on Linux {proof.kernel}, {proof.taken_at}, in {proof.duration_s:.0f} s."
