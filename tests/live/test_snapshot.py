"""A snapshot of an ill namespace leads to the findings of the live check, wherever it is judged."""

import json
import os
import shutil
import socket
import sys
from pathlib import Path
from subprocess import PIPE, Popen, run

import pytest

from tcpdoctor.answers.snapshot import take_recording
from tcpdoctor.lab.closing import close_wait
from tcpdoctor.recordings.anonymise import anonymised
from tcpdoctor.recordings.recording import pack_snapshot, unpack_snapshot
from tests.cli.command import environment
from tests.cli.forked import run_forked

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
    *("taken_at", "recording", "age", "oldest", "free_at", "timer", "retransmits", "missing", "namespace"),
    *("findings", "unchecked", "other_sockets"),
)
"""What hangs on the moment, and on when the two looks were; sockets of other protocols are not recorded."""
UNRECORDED = {
    "programs": ([], None),
    "not_looked": (
        None,
        "what of eBPF, of IPsec, and of rules for what is sent decides is in no recording",
    ),
}
"""What no recording has: the answer of the host, and that of its recording."""
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
        assert run_forked(["snapshot", "--raw", "-o", path], environment()).returncode == 0
        answers = []
        for question in QUESTIONS:
            words = [*question, "--json"]
            for name, value in here.items():
                words = [word.replace(name, value) for word in words]
            pair = [run_forked([*words, *more], environment()) for more in ((), ("--from", path))]
            answers.append([json.loads(each.stdout) for each in pair])
    return answers


def test_questions_are_answered_of_a_recording_as_of_the_host(in_namespace, tmp_path):
    for live, recorded in in_namespace(asked_twice, str(tmp_path / "case.json")):
        assert recorded["recording"]["kind"] == "snapshot"
        for key, both in UNRECORDED.items():
            if key in live:
                assert (live.pop(key), recorded.pop(key)) == both
        asks_nobody = json.loads(
            json.dumps(live).replace("; --probe asks", "")
        )  # a recording cannot be asked
        assert steady(recorded) == steady(asks_nobody)


RULES = """
table ip {0}tbl {{
    chain {0}chain {{ tcp dport 8080 dnat to 198.51.100.77:80; }}
    chain {0}drops {{ ip daddr 203.0.113.99 drop; }}
    chain in {{ type nat hook prerouting priority -100; jump {0}chain; }}
    chain out {{ type filter hook output priority 0; tcp dport 9 jump {0}drops; }}
}}
"""
SERVER = """
import socket
server = socket.create_server(("198.51.100.78", 8080))
print("up", flush=True)
server.accept()
"""


def recorded_with_planted_names(secret):
    """What a host holds whose every name is planted, and the bytes of its recording, names kept or not."""
    for words in (
        ("link", "add", f"{secret}0", "type", "veth", "peer", "name", "veth77"),
        ("link", "set", "veth77", "up"),
        ("addr", "add", "198.51.100.78/24", "dev", f"{secret}0"),
        ("addr", "add", "2001:db8:77::1/64", "dev", f"{secret}0", "nodad"),
        ("link", "set", f"{secret}0", "up", "alias", f"{secret} alias"),
        ("route", "add", "203.0.113.0/24", "via", "198.51.100.1"),
    ):
        run(["ip", *words], check=True, timeout=60)
    run(["nft", "-f", "-"], input=RULES.format(secret), text=True, check=True, timeout=60)
    variables = {"SUPERVISOR_SERVER_URL": f"unix:///srv/{secret}.sock", "SUPERVISOR_PROCESS_NAME": secret}
    command = [sys.executable, "-c", SERVER, f"--token={secret}", f"/srv/{secret}/app.py", "198.51.100.79"]
    with Popen(command, stdout=PIPE, env={**os.environ, **variables}) as server, socket.socket() as client:
        assert server.stdout.readline() == b"up\n"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, f"{secret}0".encode())
        client.setblocking(False)
        client.connect_ex(("203.0.113.9", 443))
        recording = take_recording(0)
        server.kill()
    raw = pack_snapshot(recording, gzipped=False)
    hidden = [pack_snapshot(anonymised(recording, b"key", names=names), gzipped=False) for names in (0, 1)]
    return raw, hidden


@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed")
def test_nothing_tells_whose_host_it_is(in_namespace):
    raw, hidden = in_namespace(recorded_with_planted_names, "acmecorp")
    planted = ("acmecorp", "198.51.100.", "203.0.113.", "2001:db8:77:", os.uname().nodename)
    assert [word for word in planted if word.encode() not in raw] == []
    for data in hidden:
        assert [word for word in planted if word.encode() in data] == []
        again = unpack_snapshot(data, "x")
        assert [one.told.found[0].names_port for one in again.around.redirects if one.told.found] == [True]
