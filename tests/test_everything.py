"""The page of what was run last keeps what it said of the steps that are not run again."""

import re

from tests import everything
from tests.everything import PAGE, STEPS, Result, page, read_page


def test_what_the_page_said_of_other_steps_stays(tmp_path, monkeypatch):
    results = {
        step.what: Result(step.what, "passed", "7 passed; 2 skipped", "3 min", "2026-11-29 abcdef0123")
        for step in STEPS.values()
    }
    monkeypatch.setattr(everything, "PAGE", tmp_path / "tested.md")
    (tmp_path / "tested.md").write_text(page(results))
    assert read_page() == results


def test_a_step_that_has_not_been_run_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(everything, "PAGE", tmp_path / "tested.md")
    (tmp_path / "tested.md").write_text(page({}))
    assert read_page() == {
        step.what: Result(step.what, everything.NOT_RUN, "", "", "") for step in STEPS.values()
    }


def test_what_a_step_says_of_itself_is_found():
    said = {
        "tests": "======= 8412 passed, 1 skipped in 121.51s (0:02:01) =======",
        "churn": "sockets: 100 runs, 2202 owners right, 0 runs at fault, 304 s",
        "fuzz": "rule: 1000000 inputs, 0 faults, 900 s",
        "kernels": "=== Linux 5.10: exit 0, 153 s",
        "moments": "check: 201 moments, 0 faults; exit codes -15, -9, -2, 0, 130",
        "runs": "99 runs of 9 commands left 0 traces; 99 looks of one process made it 128 KiB larger",
    }
    told = {name: re.findall(STEPS[name].told, line, re.MULTILINE) for name, line in said.items()}
    assert told == {
        "tests": ["8412 passed, 1 skipped"],
        "churn": ["sockets: 100 runs, 2202 owners right, 0 runs at fault"],
        "fuzz": ["rule: 1000000 inputs, 0 faults"],
        "kernels": ["Linux 5.10: exit 0, 153 s"],
        "moments": [said["moments"]],
        "runs": [said["runs"]],
    }


def test_the_page_of_the_checkout_can_be_read():
    assert not PAGE.exists() or read_page()
