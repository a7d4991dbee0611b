"""What is read of other kernels' runs: a test that fails counts however its machine ended."""

from typing import Any

import pytest

from tests.kernels.knowledge import QUESTIONS
from tests.kernels.machines import SUITES, Outcome, Patience, moved
from tests.kernels.page import PAGE, differences, page, read_page
from tests.kernels.verdict import MATRICES_PASSED, ONCE_MORE, counted, failures, is_good, last_words, report

MATRICES = f"""\
KNOWS {{"kernel": "5.10.0-32-cloud-amd64", "answers": {{"a thing": true, "another": false}}}}
tests/live/test_a.py::test_one[0] PASSED                                 [ 33%]
tests/live/test_a.py::test_one[a b-1] PASSED                             [ 66%]
tests/live/test_a.py::test_two SKIPPED (this kernel lacks veth)          [100%]
SKIPPED [1] tests/conftest.py:57: this kernel lacks veth
========================= 2 passed, 1 skipped in 9.13s =========================
{MATRICES_PASSED}
"""
FAILED = "tests/live/test_b.py::test_three FAILED                          [ 50%]\n"
RETRIED = f"{ONCE_MORE}\ntests/live/test_b.py::test_three PASSED             [100%]\n"
SIDE_BY_SIDE = """\
[gw0] [ 50%] PASSED tests/live/test_a.py::test_one[0]
tests/live/test_a.py::test_two
[gw1] [100%] FAILED tests/live/test_a.py::test_two
"""
BAD_SKIP = "SKIPPED [1] tests/live/test_a.py:9: no time today\n"


def outcome(output: str, code: int | None = 0) -> Outcome:
    return Outcome("5.10", code, output, 61.0)


def test_each_test_counts_once_with_its_last_word():
    assert last_words(SIDE_BY_SIDE) == {
        "tests/live/test_a.py::test_one[0]": "PASSED",
        "tests/live/test_a.py::test_two": "FAILED",
    }
    assert counted(MATRICES + FAILED + RETRIED, "PASSED") == 3
    assert failures(outcome(MATRICES + FAILED + RETRIED)) == []


@pytest.mark.parametrize(
    ("output", "code", "good", "good_where_possible"),
    [
        (MATRICES, 0, True, True),
        (MATRICES, 1, False, False),
        (MATRICES + BAD_SKIP, 0, False, False),
        (MATRICES, None, True, True),
        (MATRICES + FAILED, None, False, False),
        (MATRICES + FAILED + RETRIED, None, True, True),
        (MATRICES + SIDE_BY_SIDE, None, False, False),
        (MATRICES.partition(MATRICES_PASSED)[0], None, False, True),
        (FAILED, None, False, False),
        ("", None, False, True),
    ],
    ids=[
        "all passed", "exit 1", "skipped for our reason", "ended after the matrices", "ended after a failure",
        "ended after it passed once more", "failed beside others", "matrices did not end",
        "failed in the matrices", "never began",
    ],
)  # fmt: skip
def test_a_machine_that_was_ended_is_judged_by_what_it_said(output, code, good, good_where_possible):
    assert is_good(outcome(output, code)) is good
    assert is_good(outcome(output, code), where_possible=True) is good_where_possible


def test_what_was_not_reached_is_said_with_the_number_of_tests_that_ran():
    told = report(outcome(MATRICES, None), whole=False, good=True)
    assert told.startswith(
        "=== Linux 5.10: ended before its last test, 61 s, 2 tests passed, 1 skipped\nSKIPPED [1] tests/"
    )
    told = report(outcome("", None), whole=False, good=True)
    assert told == "=== Linux 5.10: the matrices did not end, 61 s, 0 tests passed, 0 skipped\n"


def test_a_failure_is_shown_whole_and_named():
    told = report(outcome(MATRICES + FAILED, 1), whole=False, good=False)
    assert MATRICES + FAILED in told
    assert told.endswith("\nfailed: tests/live/test_b.py::test_three\n")


def test_a_machine_is_not_ended_before_its_matrices_are_done():
    patience = Patience(60, MATRICES_PASSED, 120)
    assert not patience.is_over(59, MATRICES)
    assert not patience.is_over(119, "")
    assert patience.is_over(61, MATRICES)
    assert patience.is_over(121, "")


def test_the_page_asks_all_there_is_to_ask_of_each_kernel():
    held = read_page(PAGE.read_text(encoding="ascii"))
    assert list(held) == list(SUITES)
    assert all(list(answers) == list(QUESTIONS) for answers in held.values())


def test_the_page_says_what_the_kernels_said():
    made = page([outcome(MATRICES)])
    assert read_page(made) == {"5.10": {"a thing": True, "another": False}}
    assert "Asked of: 5.10.0-32-cloud-amd64 (Debian).\n" in made


def test_a_kernel_that_answers_otherwise_than_the_page_is_named():
    text, *_ = QUESTIONS
    held = read_page(PAGE.read_text(encoding="ascii"))["5.10"][text]
    said = MATRICES.replace("a thing", text).replace("true", str(not held).lower())
    assert f"docs/kernels.md is wrong about Linux 5.10: {text}" in differences([outcome(said)])


def test_what_was_compiled_here_says_that_it_comes_from_there():
    code = compile("def outer():\n    def inner(): raise KeyError\n    inner()\n", "/here/x.py", "exec")
    defined: dict[str, Any] = {}
    exec(moved(code, "/there/x.py"), defined)  # noqa: S102 - what is written above
    with pytest.raises(KeyError) as raised:
        defined["outer"]()
    assert [entry.frame.code.path for entry in raised.traceback[1:]] == ["/there/x.py"] * 2
