"""A snapshot of an ill namespace leads to the findings of the live check, wherever it is judged."""

import json
import os
import sys
from pathlib import Path
from subprocess import run

from tcpdoctor.lab.closing import close_wait

from .checks import check

YOUNG = {"close-wait-leak": {"min_age": 0.5}}
HOLD = 300
"""Seconds until a keepalive probe: with probes the peers hold their ends, so that no FIN_WAIT_2 runs out."""
COMMAND = [sys.executable, "-m", "tcpdoctor"]


def told(report):
    """The finding that does not hang on how fast this machine is."""
    found = [one for one in report["findings"] if one["rule"] == "close-wait-leak"]
    return [(one["rule"], one["severity"], one["subject"], one["evidence"][0]["value"]) for one in found]


def recorded_and_judged(folder, *options):
    """What a live check says of an ill namespace, and what one of its recording says, and that file."""
    path = Path(folder) / "case.json.gz"
    with close_wait(113, read_end=37, keepalive=HOLD):
        live = check(limits=YOUNG)
        run([*COMMAND, "snapshot", "-o", str(path), *options], check=True, capture_output=True, timeout=60)
        holder = os.getpid()
    return live, check("--from", str(path), limits=YOUNG), path, holder


def test_a_recording_is_judged_as_the_host_was(in_namespace, tmp_path):
    live, again, path, holder = in_namespace(recorded_and_judged, tmp_path)
    assert told(again) == told(live)
    ((_, severity, subject, number),) = told(again)
    assert (severity, subject["pid"], number) == ("warning", holder, 113)
    assert again["states"] == live["states"]
    assert again["source"]["kind"] == "snapshot"
    assert again["source"]["looks"] == 2
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_raw_tells_the_host_and_what_is_not_does_not(in_namespace, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "not").mkdir()
    _, raw, _, _ = in_namespace(recorded_and_judged, tmp_path / "raw", "--raw")
    live, disguised, _, _ = in_namespace(recorded_and_judged, tmp_path / "not", "--anonymise-names")
    assert raw["host"]["name"] == live["host"]["name"]
    assert disguised["host"]["name"] != live["host"]["name"]
    ((_, _, subject, number),) = told(disguised)
    assert subject["name"].startswith("process-")
    assert number == 113


def look_on_standard_output():
    taken = run([*COMMAND, "snapshot", "--window", "0"], capture_output=True, check=True, timeout=60)
    command = [*COMMAND, "check", "--from", "-", "--json"]
    judged = run(command, input=taken.stdout, capture_output=True, check=False, timeout=60)
    return json.loads(taken.stdout), json.loads(judged.stdout)


def test_on_standard_output_it_can_be_piped_into_another_program(in_namespace):
    document, report = in_namespace(look_on_standard_output)
    assert document["schema"] == "tcpdoctor.snapshot/1"
    assert report["source"]["files"] == ["standard input"]
    assert report["source"]["looks"] == 1


VARYING = (
    *("taken_at", "recording", "age", "oldest", "free_at", "timer", "retransmits", "place", "stop", "advice"),
    *("doubts", "missing", "redirects", "route", "namespace"),
)
"""What hangs on the moment, and what keeps a process running, which a recording does not hold."""
QUESTIONS = (
    ("states",),
    ("states", "--by", "process"),
    ("sockets",),
    ("explain", "close-wait"),
    ("explain", "--port", "PORT"),
    ("explain", "--pid", "PID"),
    ("explain", "--connect", "127.0.0.1:PORT"),
)


def steady(value):
    """An answer without what varies; lists in an order that hangs on nothing."""
    if isinstance(value, dict):
        kept = {key: each for key, each in value.items() if key not in VARYING and not key.endswith("_s")}
        return {key: steady(each) for key, each in kept.items()}
    return sorted(map(steady, value), key=json.dumps) if isinstance(value, list) else value


def asked_twice(path):
    """What each question is answered on an ill host, and of its recording."""
    with close_wait(23, read_end=7, keepalive=HOLD) as sockets:
        here = {"PORT": str(sockets[0].getsockname()[1]), "PID": str(os.getpid())}
        run([*COMMAND, "snapshot", "--raw", "-o", path], check=True, capture_output=True, timeout=60)
        answers = []
        for question in QUESTIONS:
            words = [*question, "--json"]
            for name, value in here.items():
                words = [word.replace(name, value) for word in words]
            pair = [
                json.loads(run([*COMMAND, *words, *more], capture_output=True, check=True, timeout=60).stdout)
                for more in ((), ("--from", path))
            ]
            answers.append(pair)
    return answers


def test_questions_are_answered_of_a_recording_as_of_the_host(in_namespace, tmp_path):
    for live, recorded in in_namespace(asked_twice, str(tmp_path / "case.json")):
        assert recorded["recording"]["kind"] == "snapshot"
        assert steady(recorded) == steady(live)
