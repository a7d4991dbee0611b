"""The scenarios of the lab, listed."""

from collections.abc import Sequence
from typing import NamedTuple

from tcpdoctor.diagnosis.finding import JsonValue
from tcpdoctor.report.style import Style
from tcpdoctor.report.table import Column, table


class Listed(NamedTuple):
    """One scenario."""

    name: str
    title: str
    rules: tuple[str, ...]
    """The rules that it proves; none where it proves an answer of `explain`."""


def lab_list_json(entries: Sequence[Listed]) -> dict[str, JsonValue]:
    """``tcpdoctor.lab/1``: name, title and rules of every scenario."""
    return {
        "schema": "tcpdoctor.lab/1",
        "scenarios": [
            {"name": entry.name, "title": entry.title, "rules": list[JsonValue](entry.rules)}
            for entry in entries
        ],
    }


_COLUMNS = (Column("SCENARIO"), Column("TITLE", below=True), Column("PROVES", below=True))


def lab_list_text(entries: Sequence[Listed], style: Style) -> str:
    """Each scenario with its title, and what it proves where its name does not tell."""
    rows = [
        [entry.name, entry.title, "" if entry.rules == (entry.name,) else _proof_of(entry)]
        for entry in entries
    ]
    end = f"{len(entries)} scenarios. One of them: tcpdoctor lab run NAME"
    return "\n".join([*table(_COLUMNS, rows, style), "", end])


def _proof_of(entry: Listed) -> str:
    if not entry.rules:
        return "proves what this program answers, by what the kernel does"
    return f"proves rule{'s' if len(entry.rules) > 1 else ''} {', '.join(entry.rules)}"
