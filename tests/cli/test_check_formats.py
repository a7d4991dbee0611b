"""The formats of `check` on the command line: what goes where, and what does not go together."""

import json
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

from tests.cli.command import COMMAND, complaint, tcpdoctor

ALL = ("text", "json", "jsonl", "nagios", "prometheus", "junit", "markdown", "html")
BEGINNINGS = {
    "text": "OK  ",
    "json": "{",
    "jsonl": '{"schema": "tcpdoctor.check/1", ',
    "nagios": "TCPDOCTOR OK - ",
    "prometheus": "# HELP tcpdoctor_",
    "junit": "<?xml ",
    "markdown": "# OK: ",
    "html": "<!DOCTYPE html>",
}


def on_a_quiet_host(*runs):
    return [tcpdoctor("check", "--window", "0", *run) for run in runs]


def test_each_format_says_ok_of_a_quiet_host(in_namespace):
    answers = in_namespace(on_a_quiet_host, *[("--format", kind) for kind in ALL])
    for answer, kind in zip(answers, ALL, strict=True):
        assert (answer.returncode, answer.stderr) == (0, ""), kind
        assert answer.stdout.startswith(BEGINNINGS[kind])
        assert answer.stdout.endswith("\n")


def test_a_host_is_one_line_and_lines_are_read_by_fleet(in_namespace, tmp_path):
    one, whole = in_namespace(on_a_quiet_host, ("--format", "jsonl"), ("--format", "json"))
    assert len(one.stdout.splitlines()) == 1
    assert json.loads(one.stdout).keys() == json.loads(whole.stdout).keys()
    merged = tcpdoctor("fleet", "-", "--format", "json", input=one.stdout + whole.stdout)
    assert json.loads(merged.stdout)["summary"]["hosts"] == 1


def test_quiet_says_nothing_of_a_quiet_host_in_any_format_for_people(in_namespace):
    kinds = ("text", "json", "jsonl", "markdown", "html")
    for answer in in_namespace(on_a_quiet_host, *[("--quiet", "--format", kind) for kind in kinds]):
        assert (answer.returncode, answer.stdout) == (0, "")


@pytest.mark.parametrize("kind", ["nagios", "prometheus", "junit"])
def test_quiet_is_refused_where_the_reader_needs_every_rule(kind):
    answer = tcpdoctor("check", "--quiet", "--format", kind)
    assert "--quiet" in (answer.stdout if kind == "nagios" else complaint(answer))
    assert answer.returncode == 3


def test_a_plugin_that_cannot_look_says_so_where_nagios_reads(tmp_path):
    answer = tcpdoctor("check", "--format", "nagios", "--config", tmp_path / "nowhere.toml")
    assert (answer.returncode, answer.stderr) == (3, "")
    assert answer.stdout.startswith("TCPDOCTOR UNKNOWN - ")
    assert "nowhere.toml" in answer.stdout
    assert len(answer.stdout.splitlines()) == 1


MISTAKES = (
    *(
        "--nope",
        "nope",
        "8080",
        "--window",
        "--window x",
        "-w -1",
        "-t x",
        "-t 0",
        "-t 0.5 -w 2",
        "--only nope",
    ),
    *(
        "--skip nope",
        "--config /nowhere",
        "--rules /nowhere",
        "--fail-on nope",
        "--color nope",
        "--netns nope",
    ),
    *("--netns 999999999", "--netns=", "--since-last /nowhere/x", "--only-changes", "--after 0", "--after 2"),
    *("-q", "--json", "--format json", "--prometheus-destinations -1", "--window 1e99", "-h2", "two words"),
    *("--netns all --since-last x", "--output /nowhere/x", "--timeout"),
)
SPELLINGS = (
    "check -f nagios",
    "check -fnagios",
    "check -f=nagios",
    "check --fromat nagios",
    "check --format NAGIOS",
)
MISPLACED = ("chekc --format nagios", "--format nagios check", "--format=nagios", "states --format nagios")


@pytest.mark.parametrize(
    "words", [*(f"check --format=nagios {words}" for words in MISTAKES), *SPELLINGS, *MISPLACED]
)
def test_a_mistake_in_a_plugins_command_line_is_unknown_where_it_is_read(words):
    answer = tcpdoctor(*words.split())
    assert (answer.returncode, answer.stderr) == (3, "")
    assert answer.stdout.startswith("TCPDOCTOR UNKNOWN - ")
    assert len(answer.stdout.splitlines()) == 1


def test_a_question_about_a_process_called_nagios_is_none_of_a_plugin():
    assert "--nope" in complaint(tcpdoctor("sockets", "--name", "nagios", "--nope"))


def test_a_plugin_that_cannot_write_its_file_says_so_too(tmp_path):
    answer = tcpdoctor("check", "--format", "nagios", "--output", tmp_path / "nowhere" / "file")
    assert answer.returncode == 3
    assert answer.stdout.startswith("TCPDOCTOR UNKNOWN - ")


@pytest.mark.parametrize("kind", ["junit", "html"])
def test_what_declares_its_encoding_keeps_to_it_in_any_locale(in_namespace, kind, tmp_path):
    folder = tmp_path / "local"
    folder.mkdir()
    (folder / "odd.toml").write_text(RULE, encoding="utf-8")
    run = ("--rules", folder, "--only", "odd", "--format", kind)
    answer = in_namespace(tcpdoctor, "check", "--window", "0", *run, env={"PYTHONIOENCODING": "latin-1"})
    assert answer.returncode == 1, answer.stderr
    assert answer.stdout.isascii()
    assert "&#8364;" in answer.stdout
    if kind == "junit":
        ElementTree.fromstring(answer.stdout)  # noqa: S314 - our own


RULE = """\
id = "odd"
title = "Host costs 5 \u20ac"
status = "stable"
since = "0.1"
scope = "host"
tags = ["x"]
[fires]
warning = "ports.usable >= 1"
[prose]
summary = "It costs 5 \u20ac."
explanation = "It does."
impact = "None."
normal_when = ["in tests"]
[[fix]]
kind = "operational"
title = "Ignore it"
do = "Nothing."
risk = "None."
verify = "true"
[[reference]]
claim = "it has"
source = "ip-sysctl.rst"
"""


def test_a_plugin_that_cannot_write_its_line_says_so_elsewhere():
    with open("/dev/full", "w") as full:
        command = [*COMMAND, "check", "--window", "0", "--format", "nagios"]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=120
        )
    assert done.returncode == 3
    assert "No space left on device" in done.stderr
