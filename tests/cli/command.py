"""The real command, run as users run it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tests.cli.forked import run_forked
from tests.schemas import described

COMMAND = (sys.executable, "-m", "tcpdoctor")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our own environment without what steers colour, plus `extra`."""
    steering = {"NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "TCPDOCTOR_TRACEBACK"}
    return {name: value for name, value in os.environ.items() if name not in steering} | dict(extra or {})


_READ_AT_START = {"LANG", "LC_ALL", "LC_CTYPE"}
"""With Python's own: what only a process that starts reads from its environment."""


def run_process(
    *arguments: object, env: Mapping[str, str] | None = None, **options: Any
) -> "subprocess.CompletedProcess[str]":
    """Run it to its end as a process of its own; `options` are those of `subprocess.run`."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        env=environment(env),
        timeout=60,
        check=False,
        **options,
    )


def tcpdoctor(
    *arguments: object, env: Mapping[str, str] | None = None, **options: Any
) -> "subprocess.CompletedProcess[str]":
    """Run it to its end and return what it printed; JSON is what its schema says.

    Without `options` or variables that a process reads when it starts, it is run without Python's start.
    """
    if options.keys() <= {"cwd"} and not any(_is_read_at_start(name) for name in env or ()):
        answer = run_forked([*map(str, arguments)], environment(env), options.get("cwd"))
    else:
        answer = run_process(*arguments, env=env, **options)
    if "json" in arguments and answer.stdout.startswith("{"):
        described(answer.stdout)
    return answer


def _is_read_at_start(name: str) -> bool:
    return name in _READ_AT_START or name.startswith("PYTHON")


def output_of(*command: object, **environment: str) -> str:
    """What another command prints; it has to end with 0."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=os.environ | environment,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def complaint(answer: "subprocess.CompletedProcess[str]") -> str:
    """The one line of a run that could not look: exit 3, nothing on stdout."""
    assert answer.returncode == 3, answer
    assert answer.stdout == ""
    (line,) = answer.stderr.splitlines()
    assert line.startswith("tcpdoctor")
    assert "Traceback" not in line
    return line
