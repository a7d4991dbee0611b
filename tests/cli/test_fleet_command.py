"""`tcpdoctor fleet` as users run it: files, folders and pipes; exit codes; memory that stays flat."""

import json
import os
import subprocess
import sys
import time
from datetime import datetime, timezone

import pytest

from tests.answers.fleet_reports import finding, report
from tests.cli.command import COMMAND, complaint, environment, tcpdoctor


def now(seconds_ago=0.0):
    return datetime.fromtimestamp(time.time() - seconds_ago, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def write(folder, name, *findings, **changes):
    path = folder / f"{name}.json"
    path.write_text(json.dumps(report(name, *findings, **{"taken_at": now(), **changes}), indent=1))
    return path


def merged(*arguments, code):
    answer = tcpdoctor("fleet", *arguments, "--format", "json")
    assert (answer.returncode, answer.stderr) == (code, "")
    return json.loads(answer.stdout)


def test_what_check_prints_is_read(in_namespace, tmp_path):
    answer = in_namespace(tcpdoctor, "check", "--window", "0", "--format", "json", "--fail-on", "never")
    host = json.loads(answer.stdout)
    (tmp_path / "here.json").write_text(answer.stdout)
    told = merged(tmp_path / "here.json", "--fail-on", "never", code=0)
    assert told["hosts"][0]["name"] == host["host"]["name"]
    assert told["hosts"][0]["unanswered"] == len({one["rule"] for one in host["unchecked"]})


def test_files_folders_and_lines_together(tmp_path):
    (tmp_path / "hosts").mkdir()
    write(tmp_path / "hosts", "web1")
    one = write(tmp_path, "web2", finding("a"))
    lines = "".join(json.dumps(report(name, taken_at=now())) + "\n" for name in ("web3", "web4"))
    answer = tcpdoctor("fleet", tmp_path / "hosts", one, "-", "--format", "json", input=lines)
    assert [host["name"] for host in json.loads(answer.stdout)["hosts"]] == ["web2", "web1", "web3", "web4"]
    assert answer.returncode == 1


def test_reports_behind_each_other_are_read_from_standard_input(tmp_path):
    texts = [write(tmp_path, f"web{n}").read_text() for n in range(5)]
    answer = tcpdoctor("fleet", "-", "--format", "json", input="".join(texts))
    assert [host["name"] for host in json.loads(answer.stdout)["hosts"]] == [f"web{n}" for n in range(5)]
    assert answer.returncode == 0


def test_a_host_is_a_line_of_its_own(tmp_path):
    write(tmp_path, "web1")
    write(tmp_path, "web2", finding("a"))
    answer = tcpdoctor("fleet", tmp_path, "--format", "jsonl")
    hosts = [json.loads(line) for line in answer.stdout.splitlines()]
    assert hosts == json.loads(tcpdoctor("fleet", tmp_path, "--format", "json").stdout)["hosts"]
    assert (len(hosts), answer.returncode) == (2, 1)


def test_quiet_prints_what_is_at_or_above_fail_on_and_else_nothing(tmp_path):
    write(tmp_path, "web1", finding("a", "warning"))
    write(tmp_path, "web2", finding("b", "critical"))
    loud = tcpdoctor("fleet", tmp_path, "-q", "--fail-on", "critical")
    assert (loud.returncode, " on 1 of 2 hosts: web2" in loud.stdout) == (2, True)
    assert " on 1 of 2 hosts: web1" not in loud.stdout
    (tmp_path / "web2.json").unlink()
    assert tcpdoctor("fleet", tmp_path, "-q").returncode == 1
    quiet = tcpdoctor("fleet", tmp_path, "-q", "--fail-on", "critical")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    assert "--format text" in complaint(tcpdoctor("fleet", tmp_path, "-q", "--json"))


def test_the_short_form_ends_with_the_worst_host_and_the_long_one_tells_all(tmp_path):
    write(tmp_path, "web1")
    write(tmp_path, "web2", finding("a"))
    short, long = (tcpdoctor("fleet", tmp_path, *options).stdout for options in ((), ("--long",)))
    assert short.splitlines()[-1] == long.splitlines()[-1] == "WARNING: web2: a"
    assert "What does not help" in long
    assert "What does not help" not in short


@pytest.mark.parametrize(
    ("severity", "options", "code"),
    [
        ("critical", (), 2),
        ("warning", (), 1),
        ("warning", ("--fail-on", "critical"), 0),
        ("critical", ("--fail-on", "never"), 0),
        ("info", (), 0),
    ],
)
def test_exit_codes_are_those_of_check(tmp_path, severity, options, code):
    assert tcpdoctor("fleet", write(tmp_path, "web1", finding("a", severity)), *options).returncode == code


def test_a_file_that_is_not_there_is_told_and_the_others_count(tmp_path):
    told = merged(write(tmp_path, "web1"), tmp_path / "web2.json", code=3)
    assert told["unread"] == [{"source": f"{tmp_path}/web2.json", "reason": "no such file or directory"}]
    assert told["summary"]["ok"] == 1


def test_expected_hosts_are_named_one_on_each_line(tmp_path):
    expected = tmp_path / "expected"
    expected.write_text("# ours\nweb1  # the first\n\n web2\n")
    told = merged(write(tmp_path, "web1"), "--expect", expected, code=3)
    assert (told["silent"], told["summary"]["expected"]) == (["web2"], 2)


def test_age_is_judged_by_this_hosts_clock(tmp_path):
    path = write(tmp_path, "web1", taken_at=now(7200))
    assert merged(path, code=0)["hosts"][0]["stale"] is False
    assert merged(path, "--max-age", "3600", code=3)["hosts"][0]["reasons"] == ["its report is 2 h old"]
    assert merged(write(tmp_path, "web1", taken_at=now(10**8)), "--max-age", "0", code=0)["status"] == "ok"


def test_hosts_are_named_by_their_files_where_wanted(tmp_path):
    path = write(tmp_path, "web1")
    path.rename(tmp_path / "inventory-name.json")
    told = merged(tmp_path, "--names", "file", code=0)
    assert [host["name"] for host in told["hosts"]] == ["inventory-name"]


@pytest.mark.parametrize("kind", ["text", "json", "markdown", "html"])
def test_every_format_goes_into_a_file(tmp_path, kind):
    path = write(tmp_path, "web1", finding("a"))
    answer = tcpdoctor("fleet", path, "--format", kind, "--output", tmp_path / "out")
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, "", "")
    assert "web1" in (tmp_path / "out").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "missing argument"),
        (("x.json", "--max-age", "-1"), "--max-age"),
        (("x.json", "--max-age", "nan"), "--max-age"),
        (("x.json", "--hosts", "0"), "--hosts"),
        (("x.json", "--expect", "/nowhere"), "/nowhere: no such file or directory"),
        (("x.json", "--expect", os.devnull), "a device, where a regular file is expected"),
        (("x.json", "--output", "/nowhere/out"), "there is no folder"),
    ],
)
def test_wrong_usage_is_one_line(options, words):
    assert words in complaint(tcpdoctor("fleet", *options))


def test_a_list_of_no_hosts_is_a_mistake(tmp_path):
    (tmp_path / "expected").write_text("# none\n")
    assert "names no host" in complaint(tcpdoctor("fleet", "x.json", "--expect", tmp_path / "expected"))


def test_a_range_of_hosts_is_no_host(tmp_path):
    (tmp_path / "expected").write_text("web1\nweb[2:9]\n")
    answer = tcpdoctor("fleet", "x.json", "--expect", tmp_path / "expected")
    assert "web[2:9] is a range" in complaint(answer)


@pytest.mark.parametrize("kind", ["text", "json", "markdown", "html"])
def test_a_reader_who_goes_away_is_no_error(tmp_path, kind):
    lines = [json.dumps(report(f"web{n}", finding("a"), taken_at=now())) for n in range(3000)]
    (tmp_path / "all.jsonl").write_text("\n".join(lines))
    program = '"$@" | head -c 10'
    answer = subprocess.run(
        ["sh", "-c", program, "sh", *COMMAND, "fleet", str(tmp_path), "--format", kind],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        timeout=120,
    )
    assert (answer.stderr, len(answer.stdout)) == ("", 10)


def test_hostile_files_are_a_line_each_and_the_rest_counts(tmp_path):
    write(tmp_path, "well")
    hostile = {
        "deep": "[" * 100_000,
        "empty": "",
        "cut": '{"schema": "tcpdoctor.check/1", "ho',
        "numbers": "9" * 10_000,
        "bytes": "\x00\x01\x02",
        "wrong": json.dumps(report("wrong", finding("a", fixes={"a": 1}))),
        "steering": json.dumps(report("steer\x1b[31m\u202eing", findings=[7])),
    }
    for name, text in hostile.items():
        (tmp_path / f"{name}.json").write_text(text)
    answer = tcpdoctor("fleet", tmp_path)
    assert (answer.returncode, answer.stderr) == (3, "")
    assert answer.stdout.startswith("UNKNOWN: 3 hosts: 2 unknown, 1 ok; 5 documents are no report\n")
    for name in ("deep", "empty", "cut", "numbers", "bytes"):
        assert f"{name}.json:" in answer.stdout
    assert all(char.isprintable() or char == "\n" for char in answer.stdout)


def test_a_long_path_stays_whole_so_that_it_can_be_copied(tmp_path):
    folder = tmp_path / "of a fleet" / ("long-" * 20)
    folder.mkdir(parents=True)
    write(folder, "well")
    (folder / "empty.json").write_text("")
    answer = tcpdoctor("fleet", folder)
    (line,) = [line for line in answer.stdout.splitlines() if "empty.json" in line]
    assert line == f"  - {folder}/empty.json:"


def peak_kib(*arguments):
    """The most memory that one run needed."""
    program = (
        "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:]).returncode; "
        "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, *COMMAND, *map(str, arguments), "--output", os.devnull],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
        timeout=120,
    )
    code, peak = map(int, answer.stdout.split())
    assert code == 1, answer
    return peak


@pytest.mark.parametrize(
    ("kind", "most"), [("text", 4096), ("json", 4096), ("markdown", 4096), ("html", 8192)]
)
def test_memory_hardly_grows_with_the_hosts(tmp_path, kind, most):
    few, many = tmp_path / "few.jsonl", tmp_path / "many.jsonl"
    for path, number in ((few, 2_500), (many, 10_000)):
        with path.open("w") as file:
            for n in range(number):
                one = finding("a", explanation="word " * 700)  # longer than what is read at once
                file.write(json.dumps(report(f"web{n}.example.org", one, taken_at=now())) + "\n")
    grown = peak_kib("fleet", many, "--format", kind) - peak_kib("fleet", few, "--format", kind)
    assert grown < most


def test_memory_does_not_grow_with_what_the_hosts_say(tmp_path):
    long = "word " * 2000
    lines = [
        json.dumps(report(f"web{n}", finding("a", explanation=long, evidence=[long]), taken_at=now()))
        for n in range(2000)
    ]
    few, many = tmp_path / "few.jsonl", tmp_path / "many.jsonl"
    few.write_text("\n".join(lines[:500]))  # longer than what is read at once
    many.write_text("\n".join(lines))
    assert many.stat().st_size > 40_000_000
    assert peak_kib("fleet", many) - peak_kib("fleet", few) < 8 * 1024
