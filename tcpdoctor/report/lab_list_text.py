"""The scenarios of the lab, listed."""

from tcpdoctor.answers.proof import ListedScenario, ScenarioList
from tcpdoctor.report.style import Style
from tcpdoctor.report.table import Column, table

_COLUMNS = (Column("SCENARIO"), Column("TITLE", below=True), Column("PROVES", below=True))


def lab_list_text(answer: ScenarioList, style: Style) -> str:
    """Each scenario with its title, and what it proves where its name does not tell."""
    rows = [
        [entry.name, entry.title, "" if entry.rules == (entry.name,) else _proof_of(entry)]
        for entry in answer.scenarios
    ]
    end = f"{len(answer.scenarios)} scenarios. One of them: tcpdoctor lab run NAME"
    return "\n".join([*table(_COLUMNS, rows, style), "", style.wrap(end)])


def _proof_of(entry: ListedScenario) -> str:
    if not entry.rules:
        return "proves what this program answers, by what the kernel does"
    return f"proves rule{'s' if len(entry.rules) > 1 else ''} {', '.join(entry.rules)}"
