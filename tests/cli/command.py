"""The real command, run as users run it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tests.schemas import described

COMMAND = (sys.executable, "-m", "tcpdoctor")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our own environment without what steers colour, plus `extra`."""
    steering = {"NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "TCPDOCTOR_TRACEBACK"}
    return {name: value for name, value in os.environ.items() if name not in steering} | dict(extra or {})


def tcpdoctor(
    *arguments: object, env: Mapping[str, str] | None = None, **options: Any
) -> "subprocess.CompletedProcess[str]":
    """Run it to its end and return what it printed; JSON is what its schema says."""
    answer = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        env=environment(env),
        timeout=60,
        check=False,
        **options,
    )
    if "json" in arguments and answer.stdout.startswith("{"):
        described(answer.stdout)
    return answer


def complaint(answer: "subprocess.CompletedProcess[str]") -> str:
    """The one line of a run that could not look: exit 3, nothing on stdout."""
    assert answer.returncode == 3, answer
    assert answer.stdout == ""
    (line,) = answer.stderr.splitlines()
    assert line.startswith("tcpdoctor")
    assert "Traceback" not in line
    return line
