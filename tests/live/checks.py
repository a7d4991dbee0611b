"""Runs the command as a user does, inside the namespace of the calling test."""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.cli.command import tcpdoctor

Report = dict[str, Any]
Finding = dict[str, Any]


def check(*options: str, limits: dict[str, dict[str, float]] | None = None) -> Report:
    """One `tcpdoctor check`, with some limits of some rules changed; its JSON."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.toml"
        config.write_text(_as_config(limits or {}), encoding="ascii")
        done = tcpdoctor("check", "--format", "json", *options, "--config", config)
    assert done.stderr == ""
    report: Report = json.loads(done.stdout)
    assert done.returncode == report["exit_code"]
    return report


def findings(report: Report, rule: str) -> list[Finding]:
    return [finding for finding in report["findings"] if finding["rule"] == rule]


def only_finding(report: Report, rule: str) -> Finding:
    found = findings(report, rule)
    assert len(found) == 1, found
    return found[0]


def the_finding(report: Report, rule: str) -> Finding:
    """The only finding of this rule, while the disease lasts: its commands can be typed as they are."""
    finding = only_finding(report, rule)
    for fix in finding["fixes"]:
        for command in [*fix["commands"], *fix["verify_commands"]]:
            assert_runs(command)
    return finding


def severities(report: Report, rule: str) -> list[str]:
    return [finding["severity"] for finding in findings(report, rule)]


def reason_unchecked(report: Report, rule: str) -> str | None:
    return next((item["reason"] for item in report["unchecked"] if item["rule"] == rule), None)


def evidence(finding: Finding, fact: str) -> Any:
    return next(item["value"] for item in finding["evidence"] if item["fact"] == fact)


def lines_of(command: str) -> int:
    """How many lines a shell command prints: the second opinion of `ss`."""
    return len(_shell(command).stdout.splitlines())


def output_of(command: str) -> str:
    """What a shell command prints."""
    return _shell(command).stdout


def assert_runs(command: str) -> None:
    """The command is one that this machine's shell and tools understand."""
    if command.startswith(("tcpdoctor", "tcpdump", "gdb", "nft", "prlimit", "sysctl -w")):
        return  # the program under test, tools that need not be here, and what changes something
    done = _shell(command.replace("sleep 10", "sleep 0"))
    assert done.stderr == "", command


def _shell(command: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"LC_ALL": "C"}
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=False, timeout=30, env=environment
    )


def _as_config(limits: dict[str, dict[str, float]]) -> str:
    lines = []
    for rule, values in limits.items():
        lines.append(f"[rules.{rule}.limits]")
        lines += [f"{name} = {value}" for name, value in values.items()]
    return "\n".join(lines) + "\n"
