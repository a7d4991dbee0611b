"""The manifests are valid, and the plugin says what node-problem-detector reads."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.peers.test_packages import (
    inside,
    release,  # noqa: F401 - a fixture
    root_of,
    run,
)

CHECKOUT = Path(__file__).resolve().parents[2]
HERE = CHECKOUT / "integrations" / "kubernetes"
VALIDATE = CHECKOUT / ".venv-tools" / "bin" / "kubernetes-validate"

pytestmark = pytest.mark.peers


@pytest.mark.skipif(not VALIDATE.exists(), reason="no kubernetes-validate here: run .ci/install-peers")
@pytest.mark.parametrize("version", ["1.28", "1.33"])
def test_the_manifest_is_valid(version):
    command = [VALIDATE, "--strict", "-k", version, HERE / "daemonset.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
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
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (code, line + "\n", "")
    assert len(done.stdout.encode()) <= 81


def test_the_configuration_is_what_the_detector_reads():
    found = json.loads((HERE / "node-problem-detector.json").read_text())
    assert found["plugin"] == "custom"
    assert found["pluginConfig"]["max_output_length"] == 80
    assert {rule["condition"] for rule in found["rules"]} == {kind["type"] for kind in found["conditions"]}


def steps_of(text):
    """The instructions of a Containerfile, each with its words; lines that go on are joined."""
    joined = text.replace("\\\n", " ")
    lines = [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [line.split(maxsplit=1) for line in lines]


@pytest.mark.skipif(os.geteuid() != 0, reason="roots of Debian are made and entered by root")
def test_the_steps_of_the_image_make_a_root_that_looks(release, tmp_path):  # noqa: F811
    root = tmp_path / "root"
    root.mkdir()
    steps = steps_of((HERE / "Containerfile").read_text())
    starts = {}
    for instruction, words in steps:
        if instruction == "FROM":
            run("tar", "-C", root, "-xf", root_of(words.rpartition(":")[2].removesuffix("-slim")))
        elif instruction == "COPY":
            mode, source, target = ["--chmod=0644", *words.split()][-3:]
            (found,) = release.parent.glob(source)
            shutil.copy(found, root / target.lstrip("/"))
            (root / target.lstrip("/")).chmod(int(mode.partition("=")[2], 8))
        elif instruction == "RUN":
            inside(root, words)
        else:
            starts[instruction] = json.loads(words)
    assert [instruction for instruction, _ in steps] == ["FROM", "COPY", "RUN", "COPY", "ENTRYPOINT", "CMD"]
    asked = shlex.join([*starts["ENTRYPOINT"], *starts["CMD"], "--window", "0", "--fail-on", "never"])
    assert re.match(r"(OK|INFO|WARNING|CRITICAL|UNKNOWN)\b", inside(root, asked))
    plugin = inside(root, '/usr/lib/tcpdoctor/node-problem-detector; [ "$?" -le 1 ]')
    assert re.fullmatch(r"TCPDOCTOR (OK|WARNING|CRITICAL) - [ -~]+\n", plugin)
    assert not list((root / "var/lib/apt/lists").glob("*Packages*"))
