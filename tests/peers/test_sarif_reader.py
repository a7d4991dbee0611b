"""What we print as SARIF is read by Microsoft's sarif-tools, with the same numbers, files and lines."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import tcpdoctor

FILE = """net.ipv4.tcp_tw_recycle = 1
net.ipv4.tcp_retries2 = 3 # few
net.ipv4.tcp_sack 0
net.ipv4.tcp_sack = 0
"""


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Path:
    """The program `sarif` of PyPI's sarif-tools, in an environment of its own."""
    folder = tmp_path_factory.mktemp("sarif")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=240)
    install = [folder / "bin" / "pip", "install", "-q", "--disable-pip-version-check", "sarif-tools"]
    subprocess.run(install, check=True, timeout=240, capture_output=True)
    return folder / "bin" / "sarif"


def rows(reader: Path, text: str, folder: Path) -> list[dict[str, str]]:
    source, target = folder / "in.sarif", folder / "out.csv"
    source.write_text(text, encoding="utf-8")
    subprocess.run([reader, "csv", "--output", target, source], check=True, timeout=60, capture_output=True)
    with target.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_each_remark_of_sysctl_lint_has_its_place(reader, tmp_path):
    path = tmp_path / "60-x.conf"
    path.write_text(FILE)
    faults = json.loads(tcpdoctor("sysctl", "lint", path, "--format", "json").stdout)["faults"]
    read = rows(reader, tcpdoctor("sysctl", "lint", path, "--format", "sarif").stdout, tmp_path)
    levels = {"info": "note", "warning": "warning"}
    # a remark on a whole file stands at its first line
    expected = sorted(
        (levels[fault["severity"]], str(fault["line"] or 1), fault["check"]) for fault in faults
    )
    assert len(expected) > 4
    assert sorted((row["Severity"], row["Line"], row["Code"]) for row in read) == expected
    assert all(row["Location"].endswith("60-x.conf") for row in read)


def test_each_complaint_of_rules_lint_has_its_file(reader, tmp_path):
    (tmp_path / "close").mkdir()
    (tmp_path / "close" / "x.toml").write_text("id = 3\n")
    (row,) = rows(reader, tcpdoctor("rules", "lint", tmp_path, "--format", "sarif").stdout, tmp_path)
    assert (row["Severity"], row["Code"]) == ("warning", "unreadable")
    assert row["Location"].endswith("close/x.toml")
