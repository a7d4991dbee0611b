"""docs/catalogue.md is whole: every symptom is decided, all that it names exists, every rule is in it."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tcpdoctor.answers.rules import load_rules
from tcpdoctor.cli.app import COMMANDS
from tcpdoctor.diagnosis.occupants import CAUSES
from tcpdoctor.diagnosis.settings_rules import checks_of
from tcpdoctor.diagnosis.sysctl_checks import CHECKS
from tcpdoctor.knowledge.error_pages import find_error
from tcpdoctor.knowledge.option_pages import find_option
from tcpdoctor.knowledge.state_pages import find_state
from tcpdoctor.knowledge.sysctl_pages import find_sysctl

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "catalogue.md"
FAMILIES = {
    "BIND": 15, "EPH": 8, "TW": 7, "CW": 9, "FW2": 4, "FW1": 2, "ORPH": 4, "LSN": 10, "SYN": 4, "KA": 6,
    "RTX": 4, "MEM": 5, "CT": 3, "NET": 1, "FD": 1, "CFG": 3, "NS": 1, "PERM": 1,
}  # fmt: skip
"""How many symptoms of each kind were collected."""


class Row(NamedTuple):
    id: str
    symptom: str
    kind: str
    where: str

    @property
    def names(self) -> list[str]:
        return re.findall(r"`([^`]+)`", self.where)


def read_rows() -> list[Row]:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return [Row(*row) for row in cells if re.fullmatch(r"[A-Z0-9]+-\d{3}", row[0])]


ROWS = read_rows()
BY_KIND = {kind: [row for row in ROWS if row.kind == kind] for kind in sorted({row.kind for row in ROWS})}


def of_kind(kind: str) -> list[Row]:
    return BY_KIND.get(kind, [])


def shipped_rules() -> set[str]:
    return {rule.id for rule in load_rules([]).rules}


def test_every_symptom_has_one_row():
    wanted = [f"{family}-{number:03}" for family, count in FAMILIES.items() for number in range(1, count + 1)]
    assert sorted(row.id for row in ROWS) == sorted(wanted)
    assert len(ROWS) == 88


def test_nothing_is_left_open():
    assert [row.id for row in ROWS if "open" in (row.kind, row.where)] == []
    assert set(BY_KIND) <= {"rule", "explain", "page", "sysctl lint", "command", "rejected"}
    assert [row.id for row in ROWS if len(row.symptom) < 15 or not row.where] == []


def test_every_rule_that_is_named_exists_and_every_rule_that_exists_is_named():
    named = {name for row in of_kind("rule") for name in row.names}
    further = set(re.findall(r"^- `([a-z0-9-]+)`:", TABLE.read_text(encoding="utf-8"), re.MULTILINE))
    assert (named | further) - shipped_rules() == set()
    assert shipped_rules() - named - further == set()
    assert named & further == set()


def test_every_row_of_a_kind_with_names_has_one():
    assert [row.id for row in ROWS if row.kind != "rejected" and not row.names] == []


def assert_in_manual(option: str) -> None:
    manual = (ROOT / "man" / "tcpdoctor.1").read_text(encoding="utf-8")
    assert re.search(rf"^\.It (?:Fl \w , )?Fl Fl {option.removeprefix('--')}\b", manual, re.MULTILINE), option


EXPLAIN = re.compile(r"`(--[a-z]+)`(?: `([a-z0-9-]+)`)?$")


@pytest.mark.parametrize("row", of_kind("explain"), ids=lambda row: row.id)
def test_every_answer_of_explain_exists(row: Row):
    found = EXPLAIN.match(row.where)
    assert found is not None, row.where
    option, cause = found.groups()
    assert_in_manual(option)
    assert option != "--port" or cause is None or cause in CAUSES
    assert option == "--port" or cause is None


FIND = {"--sysctl": find_sysctl, "--state": find_state, "--option": find_option, "--error": find_error}


@pytest.mark.parametrize("row", of_kind("page"), ids=lambda row: row.id)
def test_every_page_exists(row: Row):
    for name in row.names:
        option, _, page = name.partition(" ")
        assert FIND[option](page).name, name


@pytest.mark.parametrize("row", of_kind("sysctl lint"), ids=lambda row: row.id)
def test_every_check_of_sysctl_lint_exists(row: Row):
    assert set(row.names) <= set(CHECKS) | set(checks_of(load_rules([]).rules))


@pytest.mark.parametrize("row", of_kind("rejected"), ids=lambda row: row.id)
def test_every_refusal_is_in_the_list_with_a_reason(row: Row):
    lines = (ROOT / "REJECTED.md").read_text(encoding="utf-8").splitlines()
    entries = {line.split(" | ")[0].lstrip("| "): line.split(" | ")[1] for line in lines if " | " in line}
    assert len(entries[row.where]) > 40


@pytest.mark.parametrize("row", of_kind("command"), ids=lambda row: row.id)
def test_every_command_and_its_option_exist(row: Row):
    for name in row.names:
        command, _, option = name.partition(" ")
        assert command in COMMANDS
        assert_in_manual(option)
