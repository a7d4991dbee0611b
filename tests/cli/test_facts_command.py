"""`tcpdoctor facts`, run as users run it."""

import json
import subprocess
import sys

import pytest

from tcpdoctor.facts.subject import Scope
from tcpdoctor.facts.vocabulary import own_facts

from .command import complaint, tcpdoctor

KEYS = {
    "fact",
    "scope",
    "subject",
    "value",
    "missing",
    "unit",
    "kind",
    "source",
    "meaning",
    "in_words",
    "certain",
}
UNITS = {"count", "second", "byte", "page", "per_second", "ratio", "text"}


def as_json(*options: object):
    answer = tcpdoctor("facts", "--format", "json", *options)
    assert (answer.returncode, answer.stderr) == (0, "")
    return json.loads(answer.stdout)


def test_every_fact_of_every_scope_is_listed():
    found = as_json("--window", 0)
    assert found["schema"] == "tcpdoctor.facts/1"
    assert set(found["host"]) == {"name", "kernel", "namespace", "namespace_name"}
    assert found["window_s"] == 0
    for scope in Scope:
        listed = {row["fact"] for row in found["facts"] if row["scope"] == scope.value}
        assert listed == {fact.name for fact in own_facts(scope)}


def test_each_row_has_a_value_or_the_reason_why_not():
    for row in as_json("--window", 0)["facts"]:
        assert set(row) - {"over_s"} == KEYS
        assert row["unit"] in UNITS
        assert row["source"]
        assert row["meaning"].endswith(".")
        if row["value"] is None:
            assert row["missing"], row
        if row["subject"] is None:
            assert row["value"] is None


def test_counters_need_two_samples_and_then_are_their_growth():
    name = "TcpExt.ListenOverflows"
    (row,) = as_json("--window", 0, name)["facts"]
    assert (row["value"], row["missing"], row["kind"]) == (None, "needs two samples", "counter")
    found = as_json("--window", 0.2, name)
    (row,) = found["facts"]
    assert isinstance(row["value"], int)
    assert row["missing"] is None
    assert 0.2 <= row["over_s"] < 5
    assert found["window_s"] == row["over_s"]


def test_one_scope_only():
    assert {row["scope"] for row in as_json("--window", 0, "--scope", "port")["facts"]} == {"port"}


def test_names_choose_by_their_beginning():
    found = as_json("--window", 0, "sysctl.net.ipv4.tcp_mem", "kernel.")
    assert {row["fact"] for row in found["facts"]} == {
        "kernel.memory",
        "kernel.page_size",
        "sysctl.net.ipv4.tcp_mem.min",
        "sysctl.net.ipv4.tcp_mem.pressure",
        "sysctl.net.ipv4.tcp_mem.max",
    }


def test_values_are_those_of_the_kernel():
    (row,) = as_json("--window", 0, "sysctl.net.ipv4.tcp_fin_timeout")["facts"]
    with open("/proc/sys/net/ipv4/tcp_fin_timeout", encoding="ascii") as file:
        assert row["value"] == int(file.read())
    assert (row["unit"], row["source"]) == ("second", "/proc/sys/net/ipv4/tcp_fin_timeout")


def test_the_text_has_every_fact_with_meaning_unit_and_source_in_80_columns():
    answer = tcpdoctor("facts", "--window", 0)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert max(map(len, answer.stdout.splitlines())) <= 80
    words = " ".join(answer.stdout.split())
    for scope in Scope:
        for fact in own_facts(scope):
            assert fact.name in words
            assert " ".join(fact.meaning.split()) in words
    assert "unknown: needs two samples" in words
    assert "[second; /proc/sys/net/ipv4/tcp_fin_timeout]" in words


def test_no_colour_in_a_pipe_and_some_on_demand():
    assert "\x1b" not in tcpdoctor("facts", "--window", 0, "kernel").stdout
    assert "\x1b[1m" in tcpdoctor("facts", "--window", 0, "--color", "always", "kernel").stdout


def test_an_output_file_holds_the_answer(tmp_path):
    file = tmp_path / "facts.json"
    answer = tcpdoctor("facts", "--window", 0, "--format", "json", "--output", file, "kernel")
    assert (answer.returncode, answer.stdout) == (0, "")
    assert json.loads(file.read_text())["facts"][0]["fact"] == "kernel.page_size"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--scope", "hosts"], "--scope"),
        (["--window", "-1"], "--window"),
        (["--window", "nan"], "--window"),
        (["--window", "1e9"], "--window"),
        (["--format", "xml"], "--format"),
        (["TcpExt.ListenOverflow_"], "TcpExt.ListenOverflows"),
        (["--scope", "port", "close_wait.owned"], "scope port"),
        (["zzzz"], "tcpdoctor facts"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_3(arguments, hint):
    assert hint in complaint(tcpdoctor("facts", *arguments))


def test_a_closed_pipe_ends_it_quietly():
    script = f"{{ {sys.executable} -m tcpdoctor facts --window 0; echo code $? >&2; }} | head -n 1"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.endswith("facts that rules may use\n")
    assert done.stderr == "code 0\n"


def test_names_are_one_a_line_and_nothing_is_looked_at():
    names = tcpdoctor("facts", "--names", "--scope", "process", "close_wait").stdout.splitlines()
    assert "close_wait.owned" in names
    assert len(names) == len(set(names))
    assert all(name.startswith("close_wait") and " " not in name for name in names)
    assert "close_wait.not_accepted" not in names, "that is of listeners"


def test_names_are_no_json():
    assert "--names" in complaint(tcpdoctor("facts", "--names", "--json"))
