"""Real servers of Debian under real load, looked at live: healthy, so nothing above info."""

import gzip
import json
import os

import pytest

from tcpdoctor.answers.rule_checks import recorded_hosts
from tcpdoctor.kernel.recorded import pack_samples
from tests.cli.command import tcpdoctor
from tests.hosts.record import FOLDER
from tests.hosts.servers import HOSTS, PROGRAMS, busy, program


def report(host):
    """What `check` says while the load goes on."""
    with busy(host):
        done = tcpdoctor("check", "--format", "json")
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("host", sorted(HOSTS))
def test_the_recordings_hold_everything_that_a_look_holds(host):
    """Where this fails, a field was added since: python -m tests.hosts.record."""
    recorded = json.loads(gzip.decompress((FOLDER / f"{host}.json.gz").read_bytes()))["layout"]
    assert recorded == json.loads(gzip.decompress(pack_samples(recorded_hosts()[host])))["layout"]


@pytest.mark.parametrize("host", sorted(set(HOSTS) - {"defaults"}))
def test_a_server_under_load_yields_nothing_above_info(host, in_namespace, need):
    for name, package in PROGRAMS[host].items():
        try:
            program(name)
        except FileNotFoundError:
            need(name, package)
    if host == "postgresql" and os.geteuid() != 0:
        pytest.skip("PostgreSQL refuses uid 0, and here there is no other: run as root")
    answer, stderr = in_namespace(report, host)
    assert [finding for finding in answer["findings"] if finding["severity"] != "info"] == []
    assert (answer["status"], answer["exit_code"], stderr) == ("ok", 0, "")
    assert answer["states"]["established"] >= 23
    assert answer["states"]["time_wait"] > 50
    assert "needs two samples" not in {item["reason"] for item in answer["unchecked"]}
