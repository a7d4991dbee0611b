"""The formats of `check`, read by the programs that they are for."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import junitparser
from prometheus_client.parser import text_string_to_metric_families

from tcpdoctor.lab.closing import close_wait
from tests.cli.command import tcpdoctor

SICK = 137
CONFIG = "[rules.close-wait-leak.limits]\nmin_age = 0\n"
COMMAND = f"{sys.executable} -m tcpdoctor"
EXPORTER = 19100


def beside_a_leak(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command beside a process with too many sockets in CLOSE_WAIT."""
    (folder / "config.toml").write_text(CONFIG)
    with close_wait(SICK):
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def checked(folder: Path, kind: str, *options: str) -> "subprocess.CompletedProcess[str]":
    (folder / "config.toml").write_text(CONFIG)
    with close_wait(SICK):
        return tcpdoctor(
            *("check", "--window", "0.2", "--config", folder / "config.toml", "--format", kind, *options)
        )


class TestNagios:
    def test_negate_reads_the_line_and_turns_the_state(self, in_namespace, need, tmp_path):
        negate = need("negate", "monitoring-plugins-basic")
        plugin = f"{COMMAND} check --window 0 --config {tmp_path}/config.toml --format nagios"
        answer = in_namespace(
            beside_a_leak, tmp_path, negate, "-w", "OK", "-s", "/bin/sh", "-c", f"exec {plugin}"
        )
        assert answer.returncode == 0, answer
        assert answer.stdout.startswith("TCPDOCTOR OK - ")
        assert f"'close_wait'={SICK};;;0" in answer.stdout.splitlines()[0]

    def test_negate_sees_that_it_could_not_look(self, need, tmp_path):
        negate = need("negate", "monitoring-plugins-basic")
        plugin = [sys.executable, "-m", "tcpdoctor", "check", "--format", "nagios"]
        answer = subprocess.run(
            [negate, "-u", "CRITICAL", "-s", *plugin, "--config", str(tmp_path / "nowhere")],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert answer.returncode == 2
        assert answer.stdout.startswith("TCPDOCTOR CRITICAL - ")
        assert "nowhere" in answer.stdout


class TestPrometheus:
    def test_promtool_has_nothing_to_complain_about(self, in_namespace, need, tmp_path):
        promtool = need("promtool", "prometheus")
        text = in_namespace(checked, tmp_path, "prometheus").stdout
        answer = subprocess.run(
            [promtool, "check", "metrics"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")

    def test_node_exporter_serves_every_sample(self, in_namespace, need, tmp_path):
        exporter = need("prometheus-node-exporter", "prometheus-node-exporter")
        written, served = in_namespace(collected, exporter, tmp_path)
        mine = samples_of(written)
        assert len(mine) > 40
        theirs = samples_of(served)
        assert {key: theirs.get(key) for key in mine} == mine
        assert theirs[("node_textfile_scrape_error", ())] == 0
        assert mine[finding("close-wait-leak", "warning", mine)] == 1

    def test_a_reader_never_sees_half_a_file(self, in_namespace, tmp_path):
        target = tmp_path / "tcpdoctor.prom"
        target.write_text("old 1\n")
        before = target.stat().st_ino
        in_namespace(checked, tmp_path, "prometheus", "--output", str(target))
        assert target.stat().st_ino != before
        assert [name for name in os.listdir(tmp_path) if name.startswith((".", "tcpdoctor"))] == [target.name]


def collected(exporter: str, folder: Path) -> tuple[str, str]:
    """What `check` writes into the collector's folder, and what node_exporter serves of it."""
    textfiles = folder / "textfiles"
    textfiles.mkdir()
    checked(folder, "prometheus", "--output", str(textfiles / "tcpdoctor.prom"))
    command = [
        exporter,
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={textfiles}",
        f"--web.listen-address=127.0.0.1:{EXPORTER}",
        "--log.level=error",
    ]
    url = f"http://127.0.0.1:{EXPORTER}/metrics"
    with running(command, EXPORTER), urllib.request.urlopen(url, timeout=10) as answer:
        served = answer.read().decode()
    return (textfiles / "tcpdoctor.prom").read_text(), served


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    """A server, from when it answers at its port on."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: answers(port))
        yield
    finally:
        server.kill()
        server.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it does not answer"
        time.sleep(0.05)


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples_of(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def finding(rule: str, severity: str, samples: Samples) -> tuple[str, tuple[tuple[str, str], ...]]:
    wanted = {("rule", rule), ("severity", severity)}
    return next(key for key in samples if wanted <= set(key[1]))


def test_junit_is_read_by_a_standard_parser(in_namespace, tmp_path):
    answer = in_namespace(checked, tmp_path, "junit")
    assert answer.returncode == 1
    ElementTree.fromstring(answer.stdout.encode())  # noqa: S314 - our own
    suites = junitparser.JUnitXml.fromstring(answer.stdout.encode())
    (suite,) = suites
    cases = {case.name: case for case in suite}
    assert suite.tests == len(cases) > 20
    (failure,) = cases["close-wait-leak"].result
    assert isinstance(failure, junitparser.Failure)
    assert f"holds {SICK} sockets" in failure.message
    assert suite.failures == 1
    skipped = [case for case in suite if case.is_skipped]
    assert suite.skipped == len(skipped) > 0
    assert all(case.result[0].message for case in skipped)
