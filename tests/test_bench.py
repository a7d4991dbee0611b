"""The benchmark runs, and makes the sockets that it says."""

import importlib.util
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpdoctor.kernel.sockets import count_states
from tcpdoctor.kernel.states import TcpState
from tests.live.crowd import wait_until

BENCH = Path(__file__).parents[1] / "bench"


def load(name):
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bench_sockets = load("sockets")


@given(
    st.integers(0, 1_000_000),
    st.dictionaries(st.sampled_from(bench_sockets.KINDS), st.integers(1, 9), min_size=1),
)
def test_a_plan_makes_about_as_many_sockets_as_asked_for(total, mix):
    works = bench_sockets.plan(total, mix)
    made = sum(work.connections * (1 if work.kind == "time_wait" else 2) for work in works)
    assert abs(made - total) <= 3  # rounding of each share, and an odd one
    assert all(2 * work.connections < bench_sockets.DESCRIPTORS for work in works)


def count_a_crowd():
    with bench_sockets.crowd(600, {"established": 3, "time_wait": 2, "close_wait": 1}):
        # the peer may take 40 ms to acknowledge a FIN
        wait_until(lambda: count_states().by_state[TcpState.FIN_WAIT_1] == 0)
        return count_states().by_state


def test_a_crowd_has_the_states_that_were_asked_for(in_namespace):
    assert +Counter(in_namespace(count_a_crowd)) == {
        TcpState.ESTABLISHED: 300,
        TcpState.TIME_WAIT: 200,
        TcpState.CLOSE_WAIT: 50,
        TcpState.FIN_WAIT_2: 50,
        TcpState.LISTEN: 3,
    }


@pytest.mark.usefixtures("in_namespace")
def test_results_are_a_table_and_a_plot(tmp_path):
    options = ("--sockets", "100", "300", "--rounds", "1", "--only", "count_states()", "floor (C)")
    command = [sys.executable, BENCH / "run.py", *options, "--results", tmp_path / "small"]
    subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    table = (tmp_path / "small.md").read_text()
    assert table.count("| count_states() |") == 2
    assert "300 sockets (1 established)" in table
    root = ElementTree.parse(tmp_path / "small.svg").getroot()  # noqa: S314 - our own
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"count_states()", "sockets", "1,000"} <= set(texts)


@pytest.mark.usefixtures("in_namespace")
def test_a_small_benchmark_prints_its_table():
    command = [
        sys.executable,
        BENCH / "run.py",
        "--sockets",
        "100",
        "--rounds",
        "1",
        "--only",
        "count_states()",
    ]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    heading, columns, row = text.splitlines()
    assert heading.startswith("100 sockets (1 established), 1 rounds")
    assert columns.split() == ["empty", "full", "/", "floor", "beyond", "start", "/", "ss", "peak", "MiB"]
    assert row.startswith("count_states()")


def test_an_unknown_mix_is_a_usage_error():
    command = [sys.executable, BENCH / "run.py", "--mix", "closed"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 2
    assert "unknown kind 'closed'" in answer.stderr


@pytest.mark.usefixtures("in_namespace")
def test_what_watch_takes_of_a_core_is_measured_on_a_screen_of_its_own():
    options = ("--sockets", "100", "--seconds", "2", "--interval", "0.5")
    command = [sys.executable, BENCH / "watching.py", *options]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    measured = re.fullmatch(
        r"100 sockets \(1 established\), every 0.5 s for 2 s: ([0-9.]+) % of a core, ([0-9]+) MiB\n", text
    )
    assert measured, text
    assert float(measured[1]) > 0
    assert int(measured[2]) > 0
