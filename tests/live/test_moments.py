"""Commands that are ended by signals at moments spread over all they take; tests.moments takes more."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.moments import COMMANDS

CHECKOUT = Path(__file__).resolve().parents[2]


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a PID namespace of its own"),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed"),
]


@pytest.mark.parametrize("name", COMMANDS)
def test_whenever_a_command_is_ended_nothing_is_left_of_it(name):
    done = subprocess.run(
        [sys.executable, "-m", "tests.moments", "--moments", "7", name],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{name}: 21 moments, 0 faults" in done.stdout
