"""What the tests rely on: that a run ends, and says which test did not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
COMES_BACK = """
import os
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range(7))
def test_a_child_comes_back(number):
    child = os.fork()
    if child == 0 and number != 5:
        os._exit(0)
    assert child, "in the child"
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_a_child_that_comes_back_fails_its_test_and_the_run_ends(tmp_path):
    (tmp_path / "test_it.py").write_text(COMES_BACK)
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_runtest_makereport\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "1",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        tmp_path,
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [*command, tmp_path],
        cwd=CHECKOUT,
        env=environment,  # Hypothesis is not to be compiled again each time
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "1 failed, 6 passed" in done.stdout
    assert "test_it.py::test_a_child_comes_back[5]: a child came back instead of ending" in done.stderr
    assert "AssertionError: in the child" in done.stderr


def test_what_skips_inside_a_namespace_skips_the_test(in_namespace):
    with pytest.raises(pytest.skip.Exception, match="no control groups here"):
        in_namespace(pytest.skip, "no control groups here")
