"""Whole files: what is shipped by others has no warning, and every mistake of a file is told at its line."""

from pathlib import Path

import pytest

from tcpdoctor.answers.settings_files import look_at_tree, nearby_names
from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.sysctl_lint import lint_settings
from tests.diagnosis.settings_looks import faults

CORPUS = Path(__file__).parent / "corpus"
MISTAKEN = sorted((CORPUS / "mistaken").glob("*.conf"))
SHIPPED = sorted((CORPUS / "shipped").glob("*.conf"))
MARK = "#= "
"""Begins a comment that names the checks of the line behind it."""


def expected(text: str) -> dict[int, set[str]]:
    lines = text.splitlines()
    return {
        number + 1: set(line.removeprefix(MARK).split())
        for number, line in enumerate(lines, start=1)
        if line.startswith(MARK)
    }


@pytest.mark.parametrize("path", MISTAKEN, ids=lambda path: path.stem)
def test_each_mistake_is_told_at_its_line_and_nothing_else_is(path):
    text = path.read_text(encoding="utf-8")
    told: dict[int, set[str]] = {}
    for fault in faults(text):
        if fault.check != "differs-from-running":
            told.setdefault(fault.line, set()).add(fault.check)
    assert told == expected(text)


@pytest.mark.parametrize("path", MISTAKEN, ids=lambda path: path.stem)
def test_no_line_with_a_mistake_is_advised_to_be_applied(path):
    text = path.read_text(encoding="utf-8")
    wrong = expected(text)
    advised = [fault.line for fault in faults(text) if fault.do.startswith("Apply it")]
    assert [line for line in advised if line in wrong] == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_others_ship_has_no_warning(path, tmp_path):
    folder = tmp_path / "etc/sysctl.d"
    folder.mkdir(parents=True)
    (folder / path.name).write_bytes(path.read_bytes())
    look = look_at_tree(str(tmp_path))
    loud = [
        fault for fault in lint_settings(look, nearby_names(look)).faults if fault.severity > Severity.INFO
    ]
    assert loud == []


def test_the_corpus_is_there():
    assert len(SHIPPED) >= 10
    assert sum(len(expected(path.read_text(encoding="utf-8"))) for path in MISTAKEN) >= 43
