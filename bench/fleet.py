"""What `tcpdoctor fleet` costs: time and peak memory for a thousand and for ten thousand reports of hosts.

    .venv/bin/python bench/fleet.py [HOSTS ...]

Every tenth host is critical and every tenth has warnings; a report is about ten kilobytes long. Then every
host has twenty findings.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

FORMATS = ("text", "json", "markdown", "html")


def main() -> None:
    """Print one line for each number of hosts and each format."""
    with tempfile.TemporaryDirectory() as folder:
        for number in [int(word) for word in sys.argv[1:]] or [1_000, 10_000]:
            for all_sick in (False, True):
                reports = Path(folder, str(number))
                size = write_reports(reports, number, all_sick=all_sick)
                print(f"{number} reports, {size / 1e6:.0f} MB{', all sick' if all_sick else ''}")
                for kind in FORMATS:
                    print(f"  {kind:<8}  {measured(reports, kind)}")
                shutil.rmtree(reports)


def write_reports(folder: Path, number: int, *, all_sick: bool) -> int:
    """Write the reports of so many hosts; return their bytes."""
    command = [sys.executable, "-m", "tcpdoctor", "check", "--window", "0", "--format", "json"]
    here = json.loads(subprocess.run(command, capture_output=True, check=False).stdout)
    folder.mkdir()
    size = 0
    for place in range(number):
        sick = {0: "critical", 1: "warning"}.get(place % 10, "warning" if all_sick else None)
        report = here | {
            "host": here["host"] | {"name": f"host{place:05}.example.org"},
            "taken_at": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "status": sick or "ok",
            "findings": [finding(rule, sick) for rule in range(20 if all_sick else 5)] if sick else [],
        }
        size += (folder / f"host{place:05}.json").write_text(json.dumps(report, indent=1))
    return size


def finding(rule: int, severity: str) -> dict[str, Any]:
    """Return a finding as long as real ones are."""
    words = "words of a finding " * 20
    fix = {"kind": "code", "title": "Mend it", "do": words, "risk": words, "verify": "ss -s", "undo": None}
    return {
        "rule": f"rule-{rule}",
        "severity": severity,
        "subject": {"label": "nginx (811)"},
        "title": f"What rule {rule} finds",
        "summary": words,
        "explanation": words,
        "impact": words,
        "fixes": [fix | {"sysctl": None}] * 2,
        "wrong_fixes": [{"title": "Pray", "why": words}],
    }


def measured(folder: Path, kind: str) -> str:
    """Return time and peak memory of one run."""
    command = [sys.executable, "-m", "tcpdoctor", "fleet", str(folder), "--format", kind]
    start = time.monotonic()
    with subprocess.Popen([*command, "--output", os.devnull]) as run:
        _, _, usage = os.wait4(run.pid, 0)
        run.returncode = 0
    seconds = usage.ru_utime + usage.ru_stime
    wall = time.monotonic() - start
    return f"{wall:5.2f} s, {seconds:5.2f} s CPU, {usage.ru_maxrss / 1024:5.1f} MiB at the most"


if __name__ == "__main__":
    main()
