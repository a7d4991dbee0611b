"""The manifests are valid, and the plugin says what node-problem-detector reads."""

import json
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
HERE = CHECKOUT / "integrations" / "kubernetes"
VALIDATE = CHECKOUT / ".venv-tools" / "bin" / "kubernetes-validate"

pytestmark = pytest.mark.peers


@pytest.mark.skipif(not VALIDATE.exists(), reason="no kubernetes-validate here: run .ci/install-peers")
@pytest.mark.parametrize("version", ["1.28", "1.33"])
def test_the_manifest_is_valid(version):
    command = [VALIDATE, "--strict", "-k", version, HERE / "daemonset.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("said", "ended", "code", "line"),
    [
        ("TCPDOCTOR OK - no findings | 'a'=1", 0, 0, "TCPDOCTOR OK - no findings"),
        ("TCPDOCTOR WARNING - x\\nmore", 1, 1, "TCPDOCTOR WARNING - x"),
        ("TCPDOCTOR CRITICAL - " + "y" * 100, 2, 1, "TCPDOCTOR CRITICAL - " + "y" * 59),
        ("TCPDOCTOR UNKNOWN - why", 3, 2, "TCPDOCTOR UNKNOWN - why"),
        ("", 3, 2, "TCPDOCTOR UNKNOWN - it gave no answer"),
        ("", 137, 2, "TCPDOCTOR UNKNOWN - it gave no answer"),
        ("TCPDOCTOR WARNING - " + "x" * 59 + "\\303\\251", 1, 1, "TCPDOCTOR WARNING - " + "x" * 59),
    ],
)
def test_the_plugin_maps_codes_and_prints_one_short_line(tmp_path, said, ended, code, line):
    command = tmp_path / "tcpdoctor"
    command.write_text(f"#!/bin/sh\nprintf '{said.replace(chr(39), '')}'\nexit {ended}\n")
    command.chmod(0o755)
    done = subprocess.run(
        [HERE / "node-problem-detector"], env={"TCPDOCTOR": str(command), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (code, line + "\n", "")
    assert len(done.stdout.encode()) <= 81


def test_the_configuration_is_what_the_detector_reads():
    found = json.loads((HERE / "node-problem-detector.json").read_text())
    assert found["plugin"] == "custom"
    assert found["pluginConfig"]["max_output_length"] == 80
    assert {rule["condition"] for rule in found["rules"]} == {kind["type"] for kind in found["conditions"]}
