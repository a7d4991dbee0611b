"""`--netns`: the same questions, asked from inside other network namespaces."""

import json
import os
import subprocess
import sys
import uuid
from xml.etree import ElementTree

import pytest

from tests.cli.command import complaint, tcpdoctor

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may enter other network namespaces")

SERVE = """
import socket, time
server = socket.create_server(("127.0.0.1", 8080), backlog=23)
held = []
for _ in range(17):
    held.append(socket.create_connection(server.getsockname()))
    held.append(server.accept()[0])
print("ready", flush=True)
time.sleep(120)
"""


@pytest.fixture(scope="module")
def blue():
    """A named namespace in which a process has 17 connections to itself, and SYN cookies are off."""
    name = f"blue-{uuid.uuid4().hex[:8]}"
    enter = ["ip", "netns", "exec", name]
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run([*enter, "ip", "link", "set", "lo", "up"], check=True)
        subprocess.run([*enter, "sysctl", "-qw", "net.ipv4.tcp_syncookies=0"], check=True)
        server = subprocess.Popen([*enter, sys.executable, "-c", SERVE], stdout=subprocess.PIPE)
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield name, server.pid
        server.kill()
        server.communicate()
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def answer(*arguments: object) -> dict:
    done = tcpdoctor(*arguments, "--format", "json")
    assert done.returncode in (0, 1, 2), done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("by", ["name", "pid", "path"])
def test_states_are_counted_inside(blue, by):
    name, pid = blue
    where = {"name": name, "pid": str(pid), "path": f"/proc/{pid}/ns/net"}[by]
    told = answer("states", "--netns", where)
    assert (told["states"]["established"], told["states"]["listen"]) == (34, 1)
    assert told["host"]["namespace"] == str(os.stat(f"/run/netns/{name}").st_ino)
    assert told["host"]["namespace_name"] == name


def test_every_reading_command_looks_from_inside(blue):
    name, pid = blue
    sockets = answer("sockets", "--netns", name, "--state", "established")["sockets"]
    assert len(sockets) == 34
    assert {row["owner"]["pid"] for row in sockets} == {pid}
    (fact,) = answer("facts", "sysctl.net.ipv4.tcp_syncookies", "--window", "0", "--netns", name)["facts"]
    assert fact["value"] == 0
    port = answer("explain", "--port", "8080", "--netns", name)
    assert (port["bind"]["cause"], port["listeners"][0]["owner"]["pid"]) == ("listener", pid)
    report = answer("check", "--window", "0", "--netns", name)
    assert "syncookies-off" in {finding["rule"] for finding in report["findings"]}


def test_all_of_them_answer_in_one_document_and_the_worst_sets_the_exit_code(blue):
    name, _ = blue
    done = tcpdoctor(
        "check", "--window", "0", "--only", "syncookies-off", "--netns", "all", "--format", "json"
    )
    told = json.loads(done.stdout)
    assert (told["schema"], done.returncode) == ("tcpdoctor.checks/1", 1)
    by_name = {check["host"]["namespace_name"]: check for check in told["checks"]}
    assert [finding["rule"] for finding in by_name[name]["findings"]] == ["syncookies-off"]
    own = str(os.stat("/proc/self/ns/net").st_ino)
    assert own in {check["host"]["namespace"] for check in told["checks"]}


def test_the_windows_of_all_namespaces_run_at_the_same_time(blue):
    told = answer("check", "--netns", "all", "--only", "syncookies-off")
    assert all(1.0 <= check["window_s"] < 2.0 for check in told["checks"])


def test_as_text_each_namespace_has_its_heading_and_the_sick_one_comes_first(blue):
    name, _ = blue
    text = tcpdoctor("check", "--window", "0", "--only", "syncookies-off", "--netns=all").stdout
    headings = [line for line in text.splitlines() if line.startswith("=== ")]
    assert len(headings) >= 2
    assert name in headings[0]
    assert all(len(line) <= 80 for line in text.splitlines())


def test_the_joined_answer_can_be_written_to_a_file(blue, tmp_path):
    target = tmp_path / "states.json"
    done = tcpdoctor("states", "--netns", "all", "--format", "json", "--output", target)
    assert done.stdout == ""
    told = json.loads(target.read_text())
    assert told["schema"] == "tcpdoctor.namespaces/1"
    assert len(told["answers"]) >= 2


@pytest.mark.parametrize("wanted", ["nowhere", "999999999", "/etc/hostname"])
def test_what_cannot_be_entered_is_one_line(wanted):
    assert "--netns" in complaint(tcpdoctor("states", "--netns", wanted))


def test_an_ordinary_user_is_told_what_it_takes(blue):
    name, _ = blue
    command = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        sys.executable,
        "-m",
        "tcpdoctor",
    ]
    done = subprocess.run(
        [*command, "states", "--netns", name], capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 3
    assert "run as root" in done.stderr


ONE_RULE = ("check", "--window", "0", "--only", "syncookies-off", "--netns", "all", "--format")


def test_as_prometheus_metrics_each_metric_is_told_once_and_has_all_namespaces(blue):
    lines = tcpdoctor(*ONE_RULE, "prometheus").stdout.splitlines()
    types = [line for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    samples = [line for line in lines if not line.startswith("#")]
    assert len(samples) == len(set(samples))
    assert any('rule="syncookies-off"' in line and f'namespace="{blue[0]}"' in line for line in samples)
    assert sum(line.startswith("tcpdoctor_rules{") for line in samples) >= 2


def test_as_junit_each_namespace_is_a_suite(blue):
    text = tcpdoctor(*ONE_RULE, "junit").stdout
    suites = list(ElementTree.fromstring(text))  # noqa: S314 - our own output
    (mine,) = [suite for suite in suites if blue[0] in suite.get("name", "")]
    assert (mine.get("tests"), mine.get("failures")) == ("1", "1")
    assert len(suites) >= 2


def test_as_a_plugin_the_first_line_counts_namespaces_and_values_carry_their_name(blue):
    first, *rest = tcpdoctor(*ONE_RULE, "nagios").stdout.splitlines()
    assert first.startswith("TCPDOCTOR WARNING - 1 of ")
    assert blue[0] in first
    assert f"'{blue[0]}/established'=34;;;0" in rest[-1]
    assert all("|" not in line for line in (first, *rest[:-1]))


@pytest.mark.parametrize("options", [("--format", "html"), ("--timeout", "5")])
def test_what_cannot_be_said_of_several_namespaces_is_refused(options):
    assert "--netns all" in complaint(tcpdoctor("check", "--netns", "all", *options))
