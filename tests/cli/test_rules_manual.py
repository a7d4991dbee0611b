"""The manual of rule files is complete, and its example is a rule."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from tcpdoctor.diagnosis.body import FORMS, Expected
from tcpdoctor.diagnosis.closure import LIMIT_UNITS, UNITS
from tcpdoctor.diagnosis.expression import CALLS
from tcpdoctor.diagnosis.lint import LONGEST_TITLE, lint_rule
from tcpdoctor.diagnosis.rule import FIRES, KEYS, Status, parse_rule, read_body
from tcpdoctor.facts.subject import Scope

PAGE = (Path(__file__).parents[2] / "man" / "tcpdoctor-rules.5").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "word",
    [
        *KEYS,
        *FIRES,
        *get_args(Status),
        *get_args(Expected),
        *CALLS,
        *UNITS,
        *LIMIT_UNITS,
        *(scope.value for scope in Scope),
        *(f":{form}" for form in FORMS),
        *("summary", "explanation", "impact", "normal_when", "kind", "title", "do", "risk", "verify", "undo"),
        *(
            "name",
            "value",
            "applies_to",
            "add",
            "why",
            "claim",
            "source",
            "given",
            "summary_upper",
            "quiet",
            "expect",
            "default",
            "unit",
        ),
        *("reason", "at_least", "at_most", "delta", "seconds", "rate", "count", "each", "hidden", "missing:"),
        *("enabled", "severity", str(LONGEST_TITLE)),
    ],
)
def test_every_word_of_the_format_is_in_the_manual(word):
    assert re.search(rf"(?<![a-z]){re.escape(word)}(?![a-z])", PAGE), word


def test_the_example_is_a_rule_without_complaint():
    example = PAGE.split("A complete rule:\n.Bd -literal -offset indent\n")[1].split(".Ed")[0]
    rule = parse_rule(example, "rules/connect/many-syn-sent.toml", "connect")
    assert list(lint_rule(rule, read_body(rule), "many-syn-sent")) == []


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_the_manual_is_clean_mdoc():
    page = Path(__file__).parents[2] / "man" / "tcpdoctor-rules.5"
    check = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", page],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert check.stdout == ""
