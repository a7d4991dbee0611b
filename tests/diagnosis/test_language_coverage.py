"""The language is small and judges hosts: its tests reach every branch of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LANGUAGE = ("expression", "closure", "judge")
FORMAT = ("table", "rule", "body", "library", "trial", "tell", "measure")
TESTS = (
    "closure",
    "evaluate",
    "expression",
    "given",
    "library",
    "lint",
    "measure",
    "prose",
    "rule",
    "tree",
    "values",
)
LONG = "hundreds or crowds or every_true_result or every_member"
"""Tests that take longest when each step is counted, and reach no branch that the others do not."""


@pytest.mark.first
def test_every_branch_of_the_language_and_of_the_format_is_tested(tmp_path):
    files = ",".join(f"tcpdoctor/diagnosis/{name}.py" for name in LANGUAGE + FORMAT)
    environment = os.environ | {"COVERAGE_FILE": str(tmp_path / "coverage")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # or Hypothesis would be compiled again each time

    def coverage(*arguments):
        command = [sys.executable, "-m", "coverage", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
        )

    tests = [f"tests/diagnosis/test_{name}.py" for name in TESTS]
    plain = ("-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-o", "addopts=", "-k", f"not ({LONG})")
    ran = coverage("run", "--branch", f"--include={files}", "-m", "pytest", *plain, *tests)
    assert ran.returncode == 0, ran.stdout
    report = coverage("report", "--show-missing", "--fail-under=100", "--precision=2")
    assert report.returncode == 0, report.stdout
