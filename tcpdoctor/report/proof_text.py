"""`lab prove` for people: one line a rule, and below it what fell short; and `lab list`."""

from tcpdoctor.answers.proof import ListedScenario, Part, ProofAnswer, ScenarioList, ToldScenario
from tcpdoctor.report.host import plural
from tcpdoctor.report.page import Block, Entries, Inset, Item, Items, Prose, Section, Table, Verdict
from tcpdoctor.report.style import Style
from tcpdoctor.report.table import Column


def proof_page(proof: ProofAnswer, _style: Style) -> list[Block]:
    """Return the table and the verdict."""
    rows = tuple(row for proven in proof.scenarios for row in _rows(proven))
    without = tuple(Item(f"{rule.rule}: {rule.reason}") for rule in proof.without_scenario)
    return [
        Table(_COLUMNS, rows),
        *(_shortfall(proven) for proven in proof.scenarios if not proven.holds),
        *([Section("Rules without a scenario", (Entries(without, deeper=2),))] if without else []),
        Section("", (Prose(_verdict(proof)),)),
    ]


def _shortfall(proven: ToldScenario) -> Section:
    said = Inset((Items(tuple(map(Item, proven.falls_short))),), 2)
    return Section("", (Verdict("FALLS SHORT", proven.name, "critical"), said))


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


# The scenarios of the lab, listed.


_LIST = (Column("SCENARIO"), Column("TITLE", below=True), Column("PROVES", below=True))


def lab_list_page(answer: ScenarioList, _style: Style) -> list[Block]:
    """Each scenario with its title, and what it proves where its name does not tell."""
    rows = tuple(
        (entry.name, entry.title, "" if entry.rules == (entry.name,) else _proof_of(entry))
        for entry in answer.scenarios
    )
    end = f"{len(answer.scenarios)} scenarios. One of them: tcpdoctor lab run NAME"
    return [Table(_LIST, rows), Section("", (Prose(end),))]


def _proof_of(entry: ListedScenario) -> str:
    if not entry.rules:
        return "proves what this program answers, by what the kernel does"
    return f"proves rule{'s' if len(entry.rules) > 1 else ''} {', '.join(entry.rules)}"
