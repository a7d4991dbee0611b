"""A few looks while processes, connections and namespaces come and go; `make churn` takes a hundred."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a PID namespace of its own"),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed"),
]


def test_some_runs_leave_nothing_behind(tmp_path):
    apart = os.environ | {"TMPDIR": str(tmp_path)}  # other tests leave their own for a while
    runs = (sys.executable, "-m", "tests.many_runs", "--runs", "101")
    done = subprocess.run(
        runs, capture_output=True, text=True, check=False, cwd=CHECKOUT, timeout=600, env=apart
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "101 runs of 13 commands left 0 traces" in done.stdout


@pytest.mark.parametrize(
    "command", ["sockets", "explain", "check", "states", "all", "recorded", "fix", "trace"]
)
def test_no_owner_is_wrong_and_no_number_negative_while_everything_moves(command):
    churn = (sys.executable, "-m", "tests.churn", "--runs", "3", command)
    done = subprocess.run(churn, capture_output=True, text=True, check=False, cwd=CHECKOUT, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{command}: 3 runs" in done.stdout
